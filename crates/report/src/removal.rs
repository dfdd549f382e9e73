//! The picture of a heat map's deletion and insertion curves.

use crate::ReportError;
use crate::plots::{Axis, LineChart, Role, Scale, Series};
use std::path::Path;

/// Writes the picture: the class's probability after each of equal steps in which a heat map's strongest pixels are taken
/// away or put in, both lists from no pixel to all of them, with the areas under them.
///
/// # Errors
/// Where the system refuses.
pub fn write_removal_curves(
    path: &Path,
    class: &str,
    (deletion, deletion_area): (&[f64], f64),
    (insertion, insertion_area): (&[f64], f64),
) -> Result<(), ReportError> {
    let labels = [format!("taken away, area {deletion_area:.3}"), format!("put in, area {insertion_area:.3}")];
    let curve =
        |label, role, values: &[f64]| Series { label, role, points: (0..).zip(values.iter().copied()).collect() };
    let chart = LineChart {
        title: "Deletion and insertion",
        horizontal_label: "share of the pixels",
        vertical_label: "probability",
        scale: Scale::Share,
        series: vec![curve(&labels[0], Role::Training, deletion), curve(&labels[1], Role::Validation, insertion)],
        description: format!(
            "Probability of {class} over the share of pixels. Taken away, the strongest first: {}, area \
             {deletion_area:.3}. Put into a blurred image: {}, area {insertion_area:.3}.",
            ends(deletion),
            ends(insertion)
        ),
    };
    let axis = |first: u64, last: u64| {
        let (low, high) = (first as f64, last as f64);
        let ticks = (0..=5).map(|fifth| (low + (high - low) * f64::from(fifth) / 5.0, format!("{} %", 20 * fifth)));
        Axis { low, high, ticks: ticks.collect() }
    };
    match chart.draw_over("curves.svg", axis)? {
        Some(picture) => picture.write_as(path),
        None => Ok(()),
    }
}

fn ends(values: &[f64]) -> String {
    let end = |value: Option<&f64>| value.map_or_else(|| "nothing".to_owned(), |value| format!("{value:.3}"));
    format!("from {} to {}", end(values.first()), end(values.last()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_curves_are_drawn_with_their_areas_over_shares() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("curves.svg");
        write_removal_curves(&path, "<infected>", (&[0.9, 0.5, 0.1], 0.5), (&[0.1, 0.8, 0.9], 0.65)).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let document = roxmltree::Document::parse(&text).unwrap();
        for label in ["0 %", "100 %", "taken away, area 0.500", "put in, area 0.650"] {
            assert!(document.descendants().any(|node| node.text() == Some(label)), "{label} in {text}");
        }
        let lines = document.descendants().filter(|node| node.has_tag_name("polyline"));
        assert_eq!(lines.filter(|node| node.attribute("class").is_some_and(|c| c.starts_with("curve"))).count(), 2);
        assert!(document.root_element().attribute("aria-label").unwrap().contains("from 0.900 to 0.100"));
    }
}
