//! Words that messages have in common.

use std::collections::BTreeSet;

/// Names for a message, at most so many of them.
pub(crate) fn listed(names: &BTreeSet<String>, most: usize) -> String {
    if names.is_empty() {
        return "nothing".to_owned();
    }
    let mut shown: Vec<String> = names.iter().take(most).map(|name| format!("`{name}`")).collect();
    if names.len() > most {
        shown.push(format!("and {} more", names.len() - most));
    }
    shown.join(", ")
}

/// `1 image` or `2 images`, with what is said of one and of several.
pub(crate) fn counted(count: usize, one: &str, several: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { several })
}
