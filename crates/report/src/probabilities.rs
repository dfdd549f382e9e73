//! What the probabilities of a split are worth: curves, calibration, thresholds, and the parts of the split.

use crate::ReportError;
use crate::curves::CaptionedPicture;
use crate::numerals::{counted, four_decimals, thousands};
use crate::plots::{Point, UnitSquare};
use crate::scores::{Cell, cell};
use crate::sheet::file_name_part;
use roentgen_eval::{
    AppliedThreshold, Estimate, Group, GroupTable, Metrics, ProbabilityMetrics, ProbabilityQuality, RankedScores,
    ReliabilityBin,
};
use roentgen_run::RunDirectory;
use roentgen_run::predictions::PredictionTable;
use serde::Serialize;

/// A table with a head in its first column.
#[derive(Debug, Serialize)]
pub(crate) struct Table {
    caption: String,
    columns: Vec<String>,
    rows: Vec<TableRow>,
}

#[derive(Debug, Serialize)]
struct TableRow {
    name: String,
    cells: Vec<Cell>,
}

/// The pictures: ROC and precision-recall curve of the positive class where the split's predictions are still there,
/// and reliability. Empty for metrics without probabilities.
///
/// # Errors
/// Where the table of predictions cannot be read or is not of its form, or a template is wrong.
pub(crate) fn pictures(
    run: &RunDirectory,
    split: &str,
    metrics: &Metrics,
) -> Result<Vec<CaptionedPicture>, ReportError> {
    let Some(probabilities) = &metrics.probabilities else { return Ok(Vec::new()) };
    let mut pictures = Vec::new();
    if let Some(ranked) = ranked(run, split, metrics)? {
        let file_name = |kind: &str| format!("{kind}-{}.svg", file_name_part(split));
        pictures.extend(roc(&ranked, metrics, probabilities, file_name("roc"))?);
        pictures.extend(precision_recall(&ranked, metrics, probabilities, file_name("precision-recall"))?);
    }
    pictures.push(reliability(probabilities, format!("reliability-{}.svg", file_name_part(split)))?);
    Ok(pictures)
}

/// The images of the split by their probability of the positive class.
fn ranked(run: &RunDirectory, split: &str, metrics: &Metrics) -> Result<Option<RankedScores>, ReportError> {
    let file = run.predictions_file(split);
    if !file.is_file() {
        return Ok(None);
    }
    let table = PredictionTable::read(&file)?;
    let Some(class) = table.classes.iter().position(|class| class == metrics.positive_name()) else { return Ok(None) };
    let labelled = || table.rows.iter().filter_map(|row| Some((row.label?, row.probabilities[class])));
    let scores: Vec<f32> = labelled().map(|(_, score)| score).collect();
    let positive: Vec<bool> = labelled().map(|(label, _)| label == class).collect();
    // The one thing left to be wrong is a table without labels.
    Ok(RankedScores::new(&scores, &positive).ok())
}

fn roc(
    ranked: &RankedScores,
    metrics: &Metrics,
    probabilities: &ProbabilityMetrics,
    file_name: String,
) -> Result<Option<CaptionedPicture>, ReportError> {
    let Some(points) = ranked.roc() else { return Ok(None) };
    let (positive, area) = (metrics.positive_name(), &probabilities.auroc[metrics.positive]);
    let chart = UnitSquare {
        title: "ROC curve",
        horizontal_label: "false positive rate (1 - specificity)",
        vertical_label: "true positive rate (sensitivity)",
        reference: [(0.0, 0.0), (1.0, 1.0)],
        curve: points.iter().map(|point| (point.false_positive_rate, point.true_positive_rate)).collect(),
        points: Vec::new(),
        description: format!("ROC curve of {positive}: area {area}."),
    };
    let caption = format!("Every threshold on the probability of {positive}. Area {area}; dashed: chance.");
    Ok(Some(CaptionedPicture { picture: chart.draw(file_name)?, caption }))
}

fn precision_recall(
    ranked: &RankedScores,
    metrics: &Metrics,
    probabilities: &ProbabilityMetrics,
    file_name: String,
) -> Result<Option<CaptionedPicture>, ReportError> {
    let Some(points) = ranked.precision_recall() else { return Ok(None) };
    let (positive, area) = (metrics.positive_name(), &probabilities.auprc[metrics.positive]);
    let share = metrics.confusion_matrix.actual(metrics.positive) as f64 / metrics.samples() as f64;
    let chart = UnitSquare {
        title: "Precision and recall",
        horizontal_label: "recall (sensitivity)",
        vertical_label: "precision",
        reference: [(0.0, share), (1.0, share)],
        curve: points.iter().map(|point| (point.recall, point.precision)).collect(),
        points: Vec::new(),
        description: format!("Precision-recall curve of {positive}: average precision {area}."),
    };
    let caption =
        format!("Average precision {area}; dashed: the share of {positive} in the split, which chance gives.");
    Ok(Some(CaptionedPicture { picture: chart.draw(file_name)?, caption }))
}

fn reliability(probabilities: &ProbabilityMetrics, file_name: String) -> Result<CaptionedPicture, ReportError> {
    let calibration = &probabilities.calibration;
    let point = |bin: &ReliabilityBin| {
        Some(Point { at: bin.mean_confidence?, value: bin.accuracy?, low: bin.low?, high: bin.high? })
    };
    let (error, by_chance) =
        (four_decimals(calibration.expected_calibration_error), four_decimals(calibration.expected_by_chance));
    let chart = UnitSquare {
        title: "Reliability",
        horizontal_label: "confidence (probability of the answer)",
        vertical_label: "share of answers that were right",
        reference: [(0.0, 0.0), (1.0, 1.0)],
        curve: Vec::new(),
        points: calibration.bins.iter().filter_map(point).collect(),
        description: format!("Accuracy of the answers by their confidence: expected calibration error {error}."),
    };
    let caption = format!(
        "Answers in {} bins of confidence, with 95 % intervals of independent images; on the dashed line confidence is \
         what it says. Expected calibration error {error}, where a calibrated model would show {by_chance} by chance.",
        calibration.bins.len()
    );
    Ok(CaptionedPicture { picture: chart.draw(file_name)?, caption })
}

/// The tables: areas of each class, thresholds, temperature, and the groups. Empty for metrics without any.
pub(crate) fn tables(metrics: &Metrics) -> Vec<Table> {
    let mut tables = Vec::new();
    tables.extend(metrics.probabilities.as_ref().map(|probabilities| areas(metrics, probabilities)));
    tables.extend(thresholds(metrics));
    tables.extend(temperature(metrics));
    tables.extend(metrics.groups.iter().map(|table| groups(table, metrics.positive_name())));
    tables
}

fn areas(metrics: &Metrics, probabilities: &ProbabilityMetrics) -> Table {
    let of_class = |(class, name): (usize, &String)| TableRow {
        name: name.clone(),
        cells: vec![cell(&probabilities.auroc[class]), cell(&probabilities.auprc[class])],
    };
    Table {
        caption: format!("Areas under the curves, Brier score {}", probabilities.brier),
        columns: ["class", "AUROC", "AUPRC"].map(String::from).to_vec(),
        rows: metrics.classes().iter().enumerate().map(of_class).collect(),
    }
}

fn thresholds(metrics: &Metrics) -> Option<Table> {
    let first = metrics.thresholds.first()?;
    let row = |applied: &AppliedThreshold| TableRow {
        name: applied.threshold.rule.to_string(),
        cells: [
            number(four_decimals(applied.threshold.threshold)),
            number(thousands(applied.outcomes.false_negative as usize)),
            number(thousands(applied.outcomes.false_positive as usize)),
        ]
        .into_iter()
        .chain([&applied.sensitivity, &applied.specificity, &applied.precision, &applied.f1].map(cell))
        .collect(),
    };
    let columns = ["chosen by", "threshold", "misses", "false alarms", "sensitivity", "specificity", "precision", "F1"];
    Some(Table {
        caption: format!(
            "Thresholds on the probability of {}, chosen on {} of the {} split and applied here",
            metrics.positive_name(),
            counted(first.fitted_images as usize, "image"),
            first.fitted_on
        ),
        columns: columns.map(String::from).to_vec(),
        rows: metrics.thresholds.iter().map(row).collect(),
    })
}

fn temperature(metrics: &Metrics) -> Option<Table> {
    let scaling = metrics.temperature.as_ref()?;
    let row = |name: &str, quality: &ProbabilityQuality| TableRow {
        name: name.into(),
        cells: [quality.mean_cross_entropy, quality.brier, quality.expected_calibration_error]
            .map(|value| number(four_decimals(value)))
            .into(),
    };
    Some(Table {
        caption: format!(
            "Temperature {}, fitted on {} of the {} split and applied here",
            four_decimals(scaling.temperature),
            counted(scaling.fitted_images as usize, "image"),
            scaling.fitted_on
        ),
        columns: ["probabilities", "mean loss", "Brier score", "calibration error"].map(String::from).to_vec(),
        rows: vec![row("as they are", &scaling.before), row("at the temperature", &scaling.after)],
    })
}

fn groups(table: &GroupTable, positive: &str) -> Table {
    let row = |group: &Group| TableRow {
        name: group.name.clone(),
        cells: [number(thousands(group.images as usize)), number(thousands(group.positives as usize))]
            .into_iter()
            .chain([&group.accuracy, &group.sensitivity, &group.specificity, &group.auroc].map(defined_or_dash))
            .collect(),
    };
    let columns = [table.by.as_str(), "images", positive, "accuracy", "sensitivity", "specificity", "AUROC"];
    Table {
        caption: format!("By {}", table.by),
        columns: columns.map(String::from).to_vec(),
        rows: table.groups.iter().map(row).collect(),
    }
}

fn number(value: String) -> Cell {
    Cell { value, interval: None }
}

/// In a group of one class alone half of the metrics are undefined for that plain reason.
fn defined_or_dash(estimate: &Estimate) -> Cell {
    if estimate.value.is_some() { cell(estimate) } else { number("\u{2013}".into()) }
}
