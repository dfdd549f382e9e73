//! Words that messages have in common.

/// `1 image` or `2 images`, with what is said of one and of several.
pub fn counted(count: usize, one: &str, several: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { several })
}
