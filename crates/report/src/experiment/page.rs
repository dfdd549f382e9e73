//! The page.

use super::advice::advice;
use super::comparison::DifferenceRow;
use super::results::{FoldSpread, Results, RowResult};
use crate::numerals::{four_decimals, listed, thousands};
use crate::plots::{LineChart, Matrix, Picture, Role, Scale, Series};
use crate::settings::leak_notice;
use crate::{ReportError, templates};
use roentgen_eval::{ConfusionMatrix, Repeated};
use roentgen_run::directory::write_atomically;
use roentgen_run::environment::Environment;
use roentgen_run::history::EpochRecord;
use roentgen_run::{Experiment, ExperimentDirectory};
use serde::Serialize;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;

#[derive(Serialize)]
struct PageContext<'a> {
    title: &'a str,
    basis: String,
    /// The classes in the order of the matrices.
    class_order: String,
    positive: Option<&'a str>,
    notices: Vec<String>,
    deviations: &'a [String],
    metric_names: Vec<String>,
    tables: Vec<TableContext<'a>>,
    curves: Vec<String>,
    matrices: Vec<MatrixContext<'a>>,
    statements: &'a [String],
    mcnemar_heads: [&'static str; 2],
    differences: Vec<DifferenceRow>,
    advice: Vec<String>,
    several_seeds: bool,
    experiment: String,
}

#[derive(Serialize)]
struct TableContext<'a> {
    architecture: &'a str,
    has_published: bool,
    rows: Vec<RowContext<'a>>,
}

#[derive(Serialize)]
struct RowContext<'a> {
    title: &'a str,
    /// The first training's folder, where it has a report.
    link: Option<String>,
    others: Vec<(String, String)>,
    why_empty: String,
    cells: Vec<CellContext>,
    matrix: Option<MatrixCells>,
    trained: Option<String>,
    seconds: Option<String>,
    folds: Option<String>,
    published: Option<PublishedContext>,
}

#[derive(Serialize)]
struct PublishedContext {
    figures: String,
    matrix: MatrixCells,
}

/// A small picture of a confusion matrix: rows actual, columns predicted.
#[derive(Serialize)]
struct MatrixCells(Vec<Vec<MatrixCell>>);

#[derive(Serialize)]
struct MatrixCell {
    images: String,
    right: bool,
    /// Share of the row's images, in percent.
    shade: String,
}

impl MatrixCells {
    fn new(counts: &[Vec<u64>]) -> Self {
        let of_row = |(actual, row): (usize, &Vec<u64>)| {
            let sum = row.iter().sum::<u64>().max(1) as f64;
            let cell = |(predicted, &images): (usize, &u64)| MatrixCell {
                images: thousands(images as usize),
                right: actual == predicted,
                shade: format!("{:.0}", 100.0 * images as f64 / sum),
            };
            row.iter().enumerate().map(cell).collect()
        };
        Self(counts.iter().enumerate().map(of_row).collect())
    }
}

#[derive(Serialize)]
struct CellContext {
    value: String,
    deviation: Option<String>,
    interval: Option<String>,
}

#[derive(Serialize)]
struct MatrixContext<'a> {
    title: &'a str,
    svg: String,
}

/// Writes `report.html`, `table.md`, `table.csv`, `differences.csv`, `results.json` and every picture of an experiment from
/// what its folder holds; rows that are not finished, failed, or cannot be evaluated are said to be so. Returns the page's
/// path.
///
/// # Errors
/// Where a file is there and cannot be read, or the system refuses to write.
pub fn write_experiment_report(directory: &ExperimentDirectory) -> Result<PathBuf, ReportError> {
    let experiment = Experiment::read(&directory.experiment_file())?;
    let results = Results::gather(directory)?;
    let curves = curves(&results)?;
    let matrices = matrices(&results)?;
    for picture in curves.iter().chain(matrices.iter().map(|(_, picture)| picture)) {
        picture.write_into(&directory.plots_folder())?;
    }
    let write = |path: &std::path::Path, text: &str| write_atomically(path, |file| file.write_all(text.as_bytes()));
    write(&directory.table_file("csv"), &results.to_csv())?;
    write(&directory.table_file("md"), &results.to_markdown())?;
    write(&directory.differences_file(), &results.differences_to_csv())?;
    write_atomically(&directory.results_file(), |file| {
        serde_json::to_writer_pretty(&mut *file, &results)?;
        writeln!(file)
    })?;
    let context = PageContext {
        title: &results.title,
        basis: results.basis(),
        class_order: listed(&results.classes),
        positive: results.positive.as_deref(),
        notices: notices(directory, &results)?,
        deviations: &results.deviations,
        metric_names: results.metric_names(),
        tables: tables(directory, &results),
        curves: curves.into_iter().map(|picture| picture.inline).collect(),
        matrices: matrices
            .into_iter()
            .map(|(row, picture)| MatrixContext { title: &row.title, svg: picture.inline })
            .collect(),
        statements: &results.statements,
        mcnemar_heads: results.mcnemar_heads(),
        differences: results.difference_rows(),
        advice: advice(&results, &experiment),
        several_seeds: experiment.seeds.len() > 1,
        experiment: experiment.to_toml(),
    };
    let page = templates::render(templates::EXPERIMENT, context)?;
    let path = directory.report_file();
    write(&path, &page)?;
    Ok(path)
}

/// What the runs want to be read before any number, each sentence once.
fn notices(directory: &ExperimentDirectory, results: &Results) -> Result<Vec<String>, ReportError> {
    let mut seen = BTreeSet::new();
    let (mut leaks, mut notices) = (Vec::new(), Vec::new());
    for folder in results.rows.iter().flat_map(|row| &row.trainings) {
        let file = directory.run(folder).environment_file();
        if !file.is_file() {
            continue;
        }
        let environment = Environment::read(&file)?;
        leaks.extend(leak_notice(&environment).filter(|notice| seen.insert(notice.clone())));
        notices.extend(environment.warnings.into_iter().filter(|notice| seen.insert(notice.clone())));
    }
    leaks.append(&mut notices);
    Ok(leaks)
}

fn tables<'a>(directory: &ExperimentDirectory, results: &'a Results) -> Vec<TableContext<'a>> {
    let link =
        |folder: &String| directory.run(folder).report_file().is_file().then(|| format!("runs/{folder}/report.html"));
    let row = |row: &&'a RowResult| RowContext {
        title: &row.title,
        link: row.trainings.first().and_then(link),
        others: row.trainings.iter().skip(1).filter_map(|folder| Some((folder.clone(), link(folder)?))).collect(),
        why_empty: row.why_empty(),
        cells: row.metrics().unwrap_or_default().into_iter().map(cell).collect(),
        trained: row.trainable_parameters.map(thousands),
        seconds: row.seconds_per_epoch.map(|seconds| format!("{seconds:.1}")),
        folds: row.folds.as_ref().map(FoldSpread::in_words),
        matrix: row.confusion_matrix.as_deref().map(MatrixCells::new),
        published: row.published.as_ref().map(|published| PublishedContext {
            figures: format!("accuracy {}, F1 of {} {}", published.accuracy, published.f1_class, published.f1),
            matrix: MatrixCells::new(&published.confusion_matrix),
        }),
    };
    let table = |(architecture, rows): (&'a str, Vec<&'a RowResult>)| TableContext {
        architecture,
        has_published: rows.iter().any(|row| row.published.is_some()),
        rows: rows.iter().map(row).collect(),
    };
    results.by_architecture().into_iter().map(table).collect()
}

fn cell(metric: &Repeated) -> CellContext {
    let estimate = &metric.estimate;
    CellContext {
        value: estimate.value.map_or_else(|| "undefined".into(), |value| format!("{value:.4}")),
        deviation: metric.deviation.map(|deviation| format!("\u{b1} {deviation:.4}")),
        interval: estimate.interval().map(|interval| format!("{:.4} to {:.4}", interval.low, interval.high)),
    }
}

/// Loss and accuracy of all rows over the epochs.
fn curves(results: &Results) -> Result<Vec<Picture>, ReportError> {
    type Value = fn(&EpochRecord) -> Option<f64>;
    let quantities: [(&str, &str, &str, Scale, Value); 3] = [
        ("Validation loss", "cross-entropy per image (nats)", "validation-loss.svg", Scale::Loss, |row| row.valid_loss),
        ("Validation accuracy", "images classified right", "validation-accuracy.svg", Scale::Share, |row| {
            row.valid_accuracy
        }),
        ("Training loss", "loss per image, as trained on (nats)", "training-loss.svg", Scale::Loss, |row| {
            Some(row.train_loss)
        }),
    ];
    let mut pictures = Vec::new();
    for (title, vertical_label, file_name, scale, value) in quantities {
        let series: Vec<Series<'_>> = (results.rows.iter().enumerate())
            .map(|(number, row)| Series {
                label: &row.title,
                role: Role::Numbered(number),
                points: row.history.iter().filter_map(|epoch| Some((epoch.epoch as u64, value(epoch)?))).collect(),
            })
            .filter(|series| !series.points.is_empty())
            .collect();
        let ends = series.iter().map(|series| {
            let last = series.points.last().map_or(f64::NAN, |(_, value)| *value);
            format!("{} ends at {}", series.label, four_decimals(last))
        });
        let description = format!("{title} of {} rows: {}.", series.len(), ends.collect::<Vec<_>>().join("; "));
        let chart = LineChart { title, horizontal_label: "epoch", vertical_label, scale, series, description };
        pictures.extend(chart.draw(file_name)?);
    }
    Ok(pictures)
}

fn matrices(results: &Results) -> Result<Vec<(&RowResult, Picture)>, ReportError> {
    let mut pictures = Vec::new();
    for row in &results.rows {
        if let Some(counts) = &row.confusion_matrix {
            let matrix = ConfusionMatrix::from_counts(results.classes.clone(), counts.clone())?;
            pictures.push((row, Matrix::Counts.draw(&matrix, format!("confusion-{}.svg", row.name))?));
        }
    }
    Ok(pictures)
}
