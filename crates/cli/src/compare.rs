//! `roentgen compare`

use crate::arguments::Compare;
use crate::failure::{Failure, Outcome};
use crate::scoring::{positive_class, predictions, resampling};
use crate::search;
use roentgen_eval::{Differences, Metrics, differences, format_comparison};
use roentgen_run::RunDirectory;
use roentgen_run::predictions::{Prediction, PredictionTable};
use serde::Serialize;
use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};

/// What `--json` prints.
#[derive(Serialize)]
struct Comparison<'a> {
    split: &'a str,
    /// The metrics of each run, in the order of the call.
    metrics: &'a [Metrics],
    #[serde(flatten)]
    differences: &'a Differences,
    statements: Vec<String>,
}

/// Runs the command.
pub fn run(arguments: &Compare) -> Outcome {
    let runs = [&arguments.first, &arguments.second].map(RunDirectory::open);
    let [first, second] = runs;
    let (first, second) = (first?, second?);
    if first.path().canonicalize().ok() == second.path().canonicalize().ok() {
        let path = first.path().display();
        return Err(Failure::call(format!("{path}: both are the same run; name two different ones")));
    }
    let split = &arguments.split;
    let (first_file, first_table) = read_table(&first, split)?;
    let (second_file, second_table) = read_table(&second, split)?;
    let second_table = in_order_of(&first_table, &first_file, &second_table, &second_file)?;

    let (first_config, second_config) = (first.config()?, second.config()?);
    let named = arguments.positive.as_deref();
    let [positive, of_second] = [&first_config, &second_config]
        .map(|config| positive_class(&first_table.classes, named.or(config.data.positive.as_deref())));
    let (positive, of_second) = (positive?, of_second?);
    if positive != of_second {
        let classes = [positive, of_second].map(|class| first_table.classes[class].as_str());
        let message =
            format!("the runs have different positive classes, {}: give --positive CLASS", classes.join(" and "));
        return Err(Failure::call(message));
    }

    let generator = resampling(first_config.training.seed);
    let answers = [predictions(&first_table, &first_file)?, predictions(&second_table, &second_file)?];
    let metrics =
        [Metrics::evaluate(&answers[0], positive, &generator)?, Metrics::evaluate(&answers[1], positive, &generator)?];
    let names = [&arguments.first, &arguments.second].map(|path| path.display().to_string());
    let models = [0, 1].map(|index| (names[index].as_str(), std::slice::from_ref(&answers[index])));
    let differences = differences(&models, positive, &generator)?;
    let mut out = std::io::stdout().lock();
    if arguments.json {
        let statements = differences.statements();
        let comparison = Comparison { split, metrics: &metrics, differences: &differences, statements };
        serde_json::to_writer_pretty(&mut out, &comparison).map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else {
        write!(out, "split {split}, {}", format_comparison(&metrics, &differences))?;
    }
    Ok(())
}

fn read_table(run: &RunDirectory, split: &str) -> Outcome<(PathBuf, PredictionTable)> {
    let file = run.predictions_file(split);
    if !file.is_file() {
        if split == "test" {
            search::refuse_sealed(run)?;
        }
        let path = run.path().display();
        return Err(Failure::call(format!(
            "{path}: no predictions for `{split}`; make them with roentgen evaluate {path} --split {split}"
        )));
    }
    let table = PredictionTable::read(&file)?;
    Ok((file, table))
}

/// The rows of `other` in the order of those of `table`; both must be of the same images, labels and patients.
fn in_order_of(
    table: &PredictionTable,
    file: &Path,
    other: &PredictionTable,
    other_file: &Path,
) -> Outcome<PredictionTable> {
    let differ = |what: String| {
        let files = format!("{} and {}", file.display(), other_file.display());
        Err(Failure::work(format!("{files} cannot be compared: {what}; evaluate both runs on the same data")))
    };
    if table.classes != other.classes {
        return differ(format!("the classes are {} and {}", table.classes.join(", "), other.classes.join(", ")));
    }
    let mut by_path: HashMap<&str, &Prediction> = HashMap::new();
    for (rows, file) in [(&table.rows, file), (&other.rows, other_file)] {
        by_path.clear();
        if let Some(twice) = rows.iter().find(|row| by_path.insert(&row.path, row).is_some()) {
            return Err(Failure::work(format!("{}: {} stands there twice; expected once", file.display(), twice.path)));
        }
    }
    let mut rows = Vec::with_capacity(table.rows.len());
    let name = |label: Option<usize>| label.map_or("unknown", |label| &table.classes[label]);
    for row in &table.rows {
        let Some(counterpart) = by_path.remove(row.path.as_str()) else {
            return differ(format!("{} is in the first alone", row.path));
        };
        if row.label != counterpart.label {
            let labels = format!("{} and {}", name(row.label), name(counterpart.label));
            return differ(format!("the labels of {} are {labels}", row.path));
        }
        if row.patient_id != counterpart.patient_id {
            return differ(format!("the patients of {} are not the same", row.path));
        }
        rows.push(counterpart.clone());
    }
    // In the table's order, so that the first one is always the same.
    match other.rows.iter().find(|row| by_path.contains_key(row.path.as_str())) {
        Some(row) => differ(format!("{} is in the second alone", row.path)),
        None => Ok(PredictionTable { classes: other.classes.clone(), rows }),
    }
}
