//! The names most like one that does not exist, for error messages.

/// Up to four of the candidates, most similar first, joined by commas.
pub(crate) fn names<'a>(wanted: &str, candidates: impl Iterator<Item = &'a str>) -> String {
    let mut scored: Vec<(f64, &str)> = candidates.map(|c| (strsim::jaro_winkler(wanted, c), c)).collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    scored.dedup_by_key(|(_, name)| *name);
    scored.iter().take(4).map(|(_, name)| *name).collect::<Vec<_>>().join(", ")
}
