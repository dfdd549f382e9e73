//! Each evaluated split: its metrics with their intervals, its confusion matrix, its images, and what they say.

use crate::ReportError;
use crate::curves::CaptionedPicture;
use crate::numerals::{counted, four_decimals, listed, percent, thousands};
use crate::page::Figure;
use crate::plots::{Matrix, Picture};
use crate::probabilities::{self, Table};
use crate::sheet::{ClassImages, file_name_part, read_sheets};
use roentgen_eval::{ClassMetric, Estimate, Metrics};
use roentgen_run::{RunDirectory, RunError};
use serde::Serialize;

/// A metric as a cell of a table: its value and, where it is defined, its interval.
#[derive(Debug, Serialize)]
pub(crate) struct Cell {
    pub(crate) value: String,
    pub(crate) interval: Option<String>,
}

/// The four metrics of one class, or of their mean.
#[derive(Debug, Serialize)]
struct ScoreRow {
    name: String,
    positive: bool,
    images: Option<String>,
    cells: Vec<Cell>,
}

/// How the intervals of some metrics were computed.
#[derive(Debug, Serialize)]
struct Method {
    metrics: String,
    method: String,
}

/// One evaluated split as the page shows it.
#[derive(Debug, Serialize)]
pub(crate) struct Evaluation {
    pub(crate) split: String,
    /// The main results in one sentence.
    pub(crate) headline: String,
    positive: String,
    size: String,
    accuracy: Cell,
    mean_loss: Option<String>,
    column_names: Vec<&'static str>,
    scores: Vec<ScoreRow>,
    /// Which metrics are undefined, and why.
    undefined: Vec<String>,
    methods: Vec<Method>,
    notes: Vec<String>,
    pub(crate) statements: Vec<String>,
    /// Inline SVG: counts, then shares.
    matrices: Vec<String>,
    /// Curves and reliability, each with its caption.
    figures: Vec<Figure>,
    /// What the probabilities are worth, in tables.
    tables: Vec<Table>,
    images: Option<Vec<ClassImages>>,
    /// Whether some of them lie beside their heat maps.
    heat_maps: bool,
}

/// Reads every `metrics-<split>.json` of the run, test first, writes the pictures of their confusion matrices and
/// curves into `plots/`, and adds the images that `roentgen evaluate` left there.
///
/// # Errors
/// Where a file cannot be read or written, or is not of its form.
pub(crate) fn evaluations(run: &RunDirectory) -> Result<Vec<Evaluation>, ReportError> {
    let mut evaluations = Vec::new();
    for split in evaluated_splits(run)? {
        let metrics = read_metrics(run, &split)?;
        let mut matrices = Vec::new();
        for (kind, name) in [(Matrix::Counts, "counts"), (Matrix::RowShares, "shares")] {
            let file_name = format!("confusion-{}-{name}.svg", file_name_part(&split));
            let picture: Picture = kind.draw(&metrics.confusion_matrix, file_name)?;
            picture.write(run)?;
            matrices.push(picture.inline);
        }
        let mut figures = Vec::new();
        for CaptionedPicture { picture, caption } in probabilities::pictures(run, &split, &metrics)? {
            picture.write(run)?;
            figures.push(Figure { svg: picture.inline, caption });
        }
        let images = read_sheets(run, &split)?.map(|sheets| sheets.classes);
        evaluations.push(Evaluation::new(split, &metrics, matrices, figures, images));
    }
    Ok(evaluations)
}

/// What a run was evaluated on: the names of its `metrics-<name>.json`, test first, then validation, train, and other
/// data by name.
///
/// # Errors
/// Where the folder cannot be read.
pub fn evaluated_splits(run: &RunDirectory) -> Result<Vec<String>, ReportError> {
    let unreadable = |source| ReportError::Folder { path: run.path().to_owned(), source };
    let mut splits = Vec::new();
    for entry in std::fs::read_dir(run.path()).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        // A name that is not UTF-8 was not written by `roentgen evaluate`.
        let split = name.to_str().and_then(|name| name.strip_prefix("metrics-")?.strip_suffix(".json"));
        splits.extend(split.map(str::to_owned));
    }
    let rank = |split: &str| ["test", "validation", "train"].iter().position(|&known| known == split).unwrap_or(3);
    splits.sort_by(|a, b| rank(a).cmp(&rank(b)).then_with(|| a.cmp(b)));
    Ok(splits)
}

/// Reads `metrics-<split>.json`.
///
/// # Errors
/// Where it cannot be read, or is not of its form.
pub fn read_metrics(run: &RunDirectory, split: &str) -> Result<Metrics, RunError> {
    let path = run.metrics_file(split);
    let text =
        std::fs::read_to_string(&path).map_err(|source| RunError::Io { path: path.clone(), action: "read", source })?;
    serde_json::from_str(&text).map_err(|error| RunError::Malformed {
        path,
        found: error.to_string(),
        expected: "metrics as `roentgen evaluate` writes them".into(),
    })
}

impl Evaluation {
    fn new(
        split: String,
        metrics: &Metrics,
        matrices: Vec<String>,
        figures: Vec<Figure>,
        images: Option<Vec<ClassImages>>,
    ) -> Evaluation {
        let classes = metrics.classes();
        let mut scores: Vec<ScoreRow> = (0..classes.len())
            .map(|class| ScoreRow {
                name: classes[class].clone(),
                positive: class == metrics.positive,
                images: Some(thousands(metrics.confusion_matrix.actual(class) as usize)),
                cells: ClassMetric::ALL.iter().map(|&metric| cell(&metrics.of_classes(metric)[class])).collect(),
            })
            .collect();
        scores.push(ScoreRow {
            name: "mean of the classes".into(),
            positive: false,
            images: None,
            cells: ClassMetric::ALL.iter().map(|&metric| cell(metrics.macro_average.get(metric))).collect(),
        });
        let mut size = counted(metrics.samples() as usize, "image");
        if let Some(patients) = metrics.patients {
            size += &format!(" of {}", counted(patients as usize, "patient"));
        }
        Evaluation {
            headline: headline(&split, metrics, &size),
            split,
            positive: metrics.positive_name().to_owned(),
            size,
            accuracy: cell(&metrics.accuracy),
            mean_loss: metrics.mean_loss.map(four_decimals),
            column_names: ClassMetric::ALL.iter().map(|metric| metric.name()).collect(),
            scores,
            undefined: undefined(metrics),
            methods: methods(metrics),
            notes: metrics.notes.clone(),
            statements: roentgen_eval::statements(metrics),
            matrices,
            figures,
            tables: probabilities::tables(metrics),
            heat_maps: images.iter().flatten().any(ClassImages::has_heat_maps),
            images,
        }
    }
}

pub(crate) fn cell(estimate: &Estimate) -> Cell {
    Cell {
        value: estimate.value.map_or_else(|| "undefined".into(), |value| format!("{value:.4}")),
        interval: estimate.interval().map(|interval| format!("{:.4} to {:.4}", interval.low, interval.high)),
    }
}

pub(crate) fn headline(split: &str, metrics: &Metrics, size: &str) -> String {
    let phrase = |name: String, estimate: &Estimate| match (estimate.value, estimate.interval()) {
        (Some(value), Some(interval)) => {
            format!("{name} {} ({} to {})", percent(value), percent(interval.low), percent(interval.high))
        }
        _ => format!("{name} undefined"),
    };
    let positive = metrics.positive_name();
    let phrases = [
        phrase("accuracy".into(), &metrics.accuracy),
        phrase(format!("sensitivity for {positive}"), &metrics.sensitivity[metrics.positive]),
        phrase(format!("specificity for {positive}"), &metrics.specificity[metrics.positive]),
    ];
    format!("On the {split} split ({size}): {}. In brackets: 95\u{a0}% intervals.", listed(&phrases))
}

/// Every estimate with what it is of: accuracy, the metrics of each class, their means.
fn all_estimates(metrics: &Metrics) -> Vec<(&'static str, String, &Estimate)> {
    let mut estimates = vec![("accuracy", "accuracy".to_owned(), &metrics.accuracy)];
    for metric in ClassMetric::ALL {
        for (name, estimate) in metrics.classes().iter().zip(metrics.of_classes(metric)) {
            estimates.push((metric.name(), format!("{metric} of {name}"), estimate));
        }
    }
    for metric in ClassMetric::ALL {
        estimates.push(("means of the classes", format!("mean {metric}"), metrics.macro_average.get(metric)));
    }
    if let Some(probabilities) = &metrics.probabilities {
        for (name, list) in [("AUROC", &probabilities.auroc), ("AUPRC", &probabilities.auprc)] {
            let classes = metrics.classes().iter().zip(list);
            estimates.extend(classes.map(|(class, estimate)| (name, format!("{name} of {class}"), estimate)));
        }
        estimates.push(("Brier score", "Brier score".to_owned(), &probabilities.brier));
    }
    estimates
}

fn undefined(metrics: &Metrics) -> Vec<String> {
    let reasons = all_estimates(metrics)
        .into_iter()
        .filter_map(|(_, what, estimate)| estimate.reason.as_ref().map(|reason| format!("{what}: {reason}")));
    reasons.collect()
}

fn methods(metrics: &Metrics) -> Vec<Method> {
    let mut grouped: Vec<(&str, Vec<&str>)> = Vec::new();
    for (family, _, estimate) in all_estimates(metrics) {
        match grouped.iter_mut().find(|(method, _)| *method == estimate.method) {
            Some((_, families)) if families.contains(&family) => {}
            Some((_, families)) => families.push(family),
            None => grouped.push((&estimate.method, vec![family])),
        }
    }
    let method =
        |(method, families): (&str, Vec<&str>)| Method { metrics: listed(&families), method: method.to_owned() };
    grouped.into_iter().map(method).collect()
}
