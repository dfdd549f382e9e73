//! Metrics as the text that `roentgen evaluate` prints.

use crate::class_metric::ClassMetric;
use crate::decision::AppliedThreshold;
use crate::estimate::Estimate;
use crate::evaluation::ProbabilityMetrics;
use crate::group::GroupTable;
use crate::metrics::Metrics;
use crate::temperature::TemperatureScaling;
use crate::wording::{Align, align_columns, counted};

/// The confusion matrix, accuracy, the metrics of each class and their macro averages, then as far as they were
/// computed calibration, thresholds and groups, and last the notes, as plain text of aligned lines with a newline at
/// the end. What is undefined reads `undefined (reason)`, or in groups is left out.
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
    if let Some(probabilities) = &metrics.probabilities {
        lines.push(String::new());
        lines.extend(calibration_lines(probabilities, metrics.temperature.as_ref()));
    }
    lines.extend(threshold_lines(&metrics.thresholds, metrics.positive_name()));
    for table in &metrics.groups {
        lines.push(String::new());
        lines.extend(group_lines(table, metrics.positive_name()));
    }
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
    format!("accuracy {} on {size}", metrics.accuracy)
}

/// One line for each class and metric: intervals of four metrics side by side would not fit a terminal.
fn class_rows(metrics: &Metrics) -> Vec<String> {
    let mut rows = vec![["class", "images", "metric", "value  (95 % interval)"].map(String::from).to_vec()];
    for (class, name) in metrics.classes().iter().enumerate() {
        let title = if class == metrics.positive { format!("{name} (positive)") } else { name.clone() };
        let images = metrics.confusion_matrix.actual(class).to_string();
        let mut named: Vec<(&str, &Estimate)> =
            ClassMetric::ALL.iter().map(|&metric| (metric.name(), &metrics.of_classes(metric)[class])).collect();
        if let Some(probabilities) = &metrics.probabilities {
            named.push(("AUROC", &probabilities.auroc[class]));
            named.push(("AUPRC", &probabilities.auprc[class]));
        }
        rows.extend(titled(title, images, &named));
    }
    let means = ClassMetric::ALL.map(|metric| (metric.name(), metrics.macro_average.get(metric)));
    rows.extend(titled("macro average".into(), String::new(), &means));
    align_columns(&rows, &[Align::Left, Align::Right, Align::Left, Align::Left])
}

fn titled(title: String, images: String, named: &[(&str, &Estimate)]) -> Vec<Vec<String>> {
    let row = |(index, (name, estimate)): (usize, &(&str, &Estimate))| {
        let (title, images) = if index == 0 { (title.clone(), images.clone()) } else { Default::default() };
        vec![title, images, (*name).to_owned(), estimate.to_string()]
    };
    named.iter().enumerate().map(row).collect()
}

fn calibration_lines(probabilities: &ProbabilityMetrics, temperature: Option<&TemperatureScaling>) -> Vec<String> {
    let calibration = &probabilities.calibration;
    let mut lines = vec![
        "calibration".to_owned(),
        format!("Brier score                 {}", probabilities.brier),
        format!(
            "expected calibration error  {:.4}, where a calibrated model would show {:.4} by chance",
            calibration.expected_calibration_error, calibration.expected_by_chance
        ),
        format!(
            "mean confidence             {:.4}, of which {:.4} was right",
            calibration.mean_confidence, calibration.accuracy
        ),
    ];
    if let Some(scaling) = temperature {
        let (before, after) = (scaling.before, scaling.after);
        lines.push(format!(
            "temperature                 {:.4}, fitted on {} of {}; here it takes",
            scaling.temperature,
            counted(scaling.fitted_images, "image"),
            scaling.fitted_on,
        ));
        for (name, before, after) in [
            ("mean loss", before.mean_cross_entropy, after.mean_cross_entropy),
            ("Brier score", before.brier, after.brier),
            ("calibration error", before.expected_calibration_error, after.expected_calibration_error),
        ] {
            lines.push(format!("  {name:<26}{before:.4} to {after:.4}"));
        }
    }
    lines
}

fn threshold_lines(thresholds: &[AppliedThreshold], positive: &str) -> Vec<String> {
    let Some(first) = thresholds.first() else { return Vec::new() };
    let fitted = format!("{} of {}", counted(first.fitted_images, "image"), first.fitted_on);
    let mut lines =
        vec![String::new(), format!("thresholds on the probability of {positive}, chosen on {fitted}, applied here")];
    let mut rows = vec![
        ["chosen by", "threshold", "misses", "false alarms", "metric", "value  (95 % interval)"]
            .map(String::from)
            .to_vec(),
    ];
    for applied in thresholds {
        for (index, (name, estimate)) in applied.estimates().into_iter().enumerate() {
            let outcomes = applied.outcomes;
            let title = match index {
                0 => [
                    applied.threshold.rule.to_string(),
                    format!("{:.4}", applied.threshold.threshold),
                    outcomes.false_negative.to_string(),
                    outcomes.false_positive.to_string(),
                ],
                _ => Default::default(),
            };
            rows.push([title.to_vec(), vec![name.to_owned(), estimate.to_string()]].concat());
        }
        if let Some(cost) = applied.cost {
            rows.push(["", "", "", "", "cost an image", &format!("{cost:.4}")].map(String::from).to_vec());
        }
    }
    lines.extend(align_columns(
        &rows,
        &[Align::Left, Align::Right, Align::Right, Align::Right, Align::Left, Align::Left],
    ));
    lines
}

fn group_lines(table: &GroupTable, positive: &str) -> Vec<String> {
    let mut rows = vec![[&table.by, "images", positive, "metric", "value  (95 % interval)"].map(String::from).to_vec()];
    for group in &table.groups {
        // A group often has images of one side only: what that leaves undefined would be half of the table.
        let defined = group.estimates().into_iter().filter(|(_, estimate)| estimate.value.is_some());
        for (index, (name, estimate)) in defined.enumerate() {
            let title = match index {
                0 => [group.name.clone(), group.images.to_string(), group.positives.to_string()],
                _ => Default::default(),
            };
            rows.push([title.to_vec(), vec![name.to_owned(), estimate.to_string()]].concat());
        }
    }
    align_columns(&rows, &[Align::Left, Align::Right, Align::Right, Align::Left, Align::Left])
}
