//! The picture of a learning-rate range test: the smoothed loss over rates that grow exponentially.

use crate::ReportError;
use crate::plots::{Axis, LineChart, Role, Scale, Series};
use std::path::Path;

/// Writes the picture: `points` are the learning rate and the smoothed loss of each step, the rates growing by one
/// factor from step to step, so that the steps are their logarithm. Without a finite loss there is nothing to draw, and
/// nothing is written.
///
/// # Errors
/// Where the system refuses.
pub fn write_range_test(path: &Path, points: &[(f64, f64)], suggestion: Option<f64>) -> Result<(), ReportError> {
    let numbered = || points.iter().enumerate().map(|(index, &(rate, loss))| (index as u64, rate, loss));
    let mut series = vec![Series {
        label: "smoothed loss",
        role: Role::Training,
        points: numbered().map(|(index, _, loss)| (index, loss)).collect(),
    }];
    let label = suggestion.map(|rate| format!("suggestion {rate:.1e}"));
    if let (Some(suggested), Some(label)) = (suggestion, &label) {
        let at = numbered().filter(|(_, rate, _)| *rate == suggested).map(|(index, _, loss)| (index, loss)).collect();
        series.push(Series { label, role: Role::Validation, points: at });
    }
    let said = label.as_ref().map_or_else(|| "no suggestion".to_owned(), String::clone);
    let chart = LineChart {
        title: "Learning-rate range test",
        horizontal_label: "learning rate",
        vertical_label: "loss of the batches, smoothed",
        scale: Scale::Loss,
        series,
        description: format!("Smoothed loss of {} steps over the learning rate: {said}.", points.len()),
    };
    let axis = |first: u64, last: u64| {
        // A mark at the first step of each second power of ten.
        let decade = |rate: f64| (rate.log10() + 1e-9).floor();
        let marks = numbered().filter(|(index, rate, _)| {
            let begins = *index == 0 || decade(*rate) > decade(points[*index as usize - 1].0);
            begins && decade(*rate).rem_euclid(2.0) == 1.0
        });
        let ticks = marks.map(|(index, rate, _)| (index as f64, format!("{:.0e}", 10f64.powf(decade(rate))))).collect();
        // A single step stands in the middle.
        let margin = if first == last { 0.5 } else { 0.0 };
        Axis { low: first as f64 - margin, high: last as f64 + margin, ticks }
    };
    match chart.draw_over("lr-find.svg", axis)? {
        Some(picture) => picture.write_as(path),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_marked_by_powers_of_ten_and_the_suggestion_by_a_point() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lr-find.svg");
        let points: Vec<(f64, f64)> = (0..100)
            .map(|step| (1e-7 * 1e8f64.powf(step as f64 / 100.0), 1.0 + (step as f64 / 50.0).powi(4)))
            .collect();
        write_range_test(&path, &points, Some(points[40].0)).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let document = roxmltree::Document::parse(&text).unwrap();
        for label in ["1e-7", "1e-5", "1e-3", "1e-1", "suggestion 1.6e-4"] {
            assert!(document.descendants().any(|node| node.text() == Some(label)), "{label} in {text}");
        }
        // One in the chart, and one for each entry of the legend.
        let without = folder.path().join("without.svg");
        write_range_test(&without, &points, None).unwrap();
        let markers = |text: &str| text.matches("<circle").count() + text.matches("<rect").count();
        assert!(markers(&text) > markers(&std::fs::read_to_string(&without).unwrap()));
        let nothing = folder.path().join("nothing.svg");
        write_range_test(&nothing, &[], None).unwrap();
        assert!(!nothing.exists());
    }
}
