//! Metrics as the text that `roentgen evaluate` prints.

use crate::class_metric::ClassMetric;
use crate::estimate::Estimate;
use crate::metrics::Metrics;
use crate::wording::{Align, align_columns, counted};

/// The confusion matrix, accuracy, the metrics of each class and their macro averages, and the notes, as plain text of
/// aligned lines with a newline at the end. What is undefined reads `undefined (reason)`.
pub fn format_table(metrics: &Metrics) -> String {
    let mut lines = vec!["confusion matrix (rows: actual, columns: predicted)".to_string()];
    lines.push(metrics.confusion_matrix.to_string());
    lines.push(String::new());
    lines.push(summary(metrics));
    if let Some(mean_loss) = metrics.mean_loss {
        lines.push(format!("mean loss {mean_loss:.4}"));
    }
    lines.push(String::new());
    lines.extend(class_rows(metrics));
    if !metrics.notes.is_empty() {
        lines.push(String::new());
        lines.push("notes".into());
        lines.extend(metrics.notes.iter().map(|note| format!("- {note}")));
    }
    lines.join("\n") + "\n"
}

fn summary(metrics: &Metrics) -> String {
    let mut size = counted(metrics.samples(), "image");
    if let Some(patients) = metrics.patients {
        size += &format!(" of {}", counted(patients, "patient"));
    }
    format!("accuracy {} on {size}", value_with_interval(&metrics.accuracy))
}

/// One line for each class and metric: intervals of four metrics side by side would not fit a terminal.
fn class_rows(metrics: &Metrics) -> Vec<String> {
    let mut rows = vec![["class", "images", "metric", "value  (95 % interval)"].map(String::from).to_vec()];
    for (class, name) in metrics.classes().iter().enumerate() {
        let title = if class == metrics.positive { format!("{name} (positive)") } else { name.clone() };
        let images = metrics.confusion_matrix.actual(class).to_string();
        rows.extend(group(title, images, |metric| &metrics.of_classes(metric)[class]));
    }
    rows.extend(group("macro average".into(), String::new(), |metric| metrics.macro_average.get(metric)));
    align_columns(&rows, &[Align::Left, Align::Right, Align::Left, Align::Left])
}

fn group<'a>(title: String, images: String, estimate: impl Fn(ClassMetric) -> &'a Estimate) -> Vec<Vec<String>> {
    let row = |(index, metric): (usize, ClassMetric)| {
        let (title, images) = if index == 0 { (title.clone(), images.clone()) } else { Default::default() };
        vec![title, images, metric.name().to_string(), value_with_interval(estimate(metric))]
    };
    ClassMetric::ALL.into_iter().enumerate().map(row).collect()
}

fn value_with_interval(estimate: &Estimate) -> String {
    match (estimate.value, estimate.interval()) {
        (Some(value), Some(interval)) => format!("{value:.4} ({:.4} to {:.4})", interval.low, interval.high),
        _ => format!("undefined ({})", estimate.reason.as_deref().unwrap_or("no reason recorded")),
    }
}
