//! What the runs of an experiment came to, gathered from their folders.

use crate::ReportError;
use crate::numerals::{listed, thousands};
use roentgen_eval::{
    Clusters, ConfusionMatrix, Differences, EvalError, Predictions, RankedScores, RepeatedMetrics, default_positive,
    differences,
};
use roentgen_run::draw::{ChaCha8Rng, Purpose, stream};
use roentgen_run::environment::Environment;
use roentgen_run::experiment::{PlannedRun, Published};
use roentgen_run::history::{EpochRecord, read_table};
use roentgen_run::predictions::{Prediction, PredictionTable};
use roentgen_run::{Experiment, ExperimentDirectory, RunDirectory, RunError};
use serde::Serialize;
use std::collections::BTreeSet;

/// An experiment with what its finished rows came to.
#[derive(Debug, Serialize)]
pub struct Results {
    /// Version of this form.
    pub format_version: u32,
    /// What the experiment is called.
    pub title: String,
    /// How it departs from what it repeats.
    pub deviations: Vec<String>,
    /// The split that was evaluated.
    pub split: String,
    /// Folds of the cross-validation whose held-out images that split is, taken together.
    pub folds: Option<usize>,
    /// Class names in the order of the indices.
    pub classes: Vec<String>,
    /// The positive class.
    pub positive: Option<String>,
    /// The rows in the order of the file.
    pub rows: Vec<RowResult>,
    /// How the finished rows differ, where there are two at least that can be compared.
    pub differences: Option<Differences>,
    /// Why finished rows cannot be compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub differences_undefined: Option<String>,
    /// The differences that hold in words, and how many do not.
    pub statements: Vec<String>,
}

/// One row and its trainings.
#[derive(Debug, Serialize)]
pub struct RowResult {
    /// Its name.
    pub name: String,
    /// How tables call it.
    pub title: String,
    /// Architecture.
    pub architecture: String,
    /// What was trained.
    pub unfreeze: Vec<String>,
    /// Trained parameters; `None` where no training has begun.
    pub trainable_parameters: Option<usize>,
    /// Parameters in all.
    pub parameters: Option<usize>,
    /// Wall time of an epoch, mean over epochs and trainings. Of rows that train in step each has its own steps and an
    /// equal share of what they have in common.
    pub seconds_per_epoch: Option<f64>,
    /// Folders of its trainings in `runs/`.
    pub trainings: Vec<String>,
    /// Trainings that are not finished and evaluated.
    pub missing: Vec<String>,
    /// Why trainings among the missing failed, each with its folder.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<String>,
    /// Why the row has no metrics though its trainings are finished.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undefined: Option<String>,
    /// The metrics; `None` while a training is missing.
    pub metrics: Option<RepeatedMetrics>,
    /// Mean and standard deviation over the folds of a cross-validation.
    pub folds: Option<FoldSpread>,
    /// Counts over all trainings: rows actual, columns predicted.
    pub confusion_matrix: Option<Vec<Vec<u64>>>,
    /// What somebody else reported.
    pub published: Option<Published>,
    /// Mean history of its trainings, for the curves.
    #[serde(skip)]
    pub history: Vec<EpochRecord>,
    /// What its trainings answered, one a seed; none while one is missing.
    #[serde(skip)]
    pub(crate) answers: Vec<Predictions>,
}

/// How metrics vary over the folds of a cross-validation, each fold by itself.
#[derive(Debug, Serialize)]
pub struct FoldSpread {
    /// Accuracy: mean and standard deviation.
    pub accuracy: (f64, f64),
    /// Area under the ROC curve of the positive class; `None` where a fold lacks a class.
    pub auroc: Option<(f64, f64)>,
}

impl Results {
    /// Gathers what is there.
    ///
    /// # Errors
    /// Where a file is there and cannot be read.
    pub fn gather(directory: &ExperimentDirectory) -> Result<Results, ReportError> {
        let experiment = Experiment::read(&directory.experiment_file())?;
        let runs = experiment.runs();
        let split = "test";
        let mut results = Results {
            format_version: roentgen_run::FORMAT_VERSION,
            title: experiment.title.clone(),
            deviations: experiment.deviations.clone(),
            split: split.into(),
            folds: experiment.folds,
            classes: Vec::new(),
            positive: None,
            rows: Vec::new(),
            differences: None,
            differences_undefined: None,
            statements: Vec::new(),
        };
        let seed = experiment.seeds[0];
        let generator = |resample: u64| -> ChaCha8Rng { stream(seed, Purpose::Bootstrap, 0, resample) };
        for index in 0..experiment.rows.len() {
            let of_row: Vec<&PlannedRun> = runs.iter().filter(|run| run.row == index).collect();
            let row = results.row(directory, &experiment, index, &of_row, &generator)?;
            results.rows.push(row);
        }
        results.deviations.extend(other_data(directory, &experiment, &runs)?);
        let finished: Vec<(&str, &[Predictions])> = (results.rows.iter())
            .filter(|row| !row.answers.is_empty())
            .map(|row| (row.title.as_str(), row.answers.as_slice()))
            .collect();
        if let (true, Some(positive)) = (finished.len() > 1, results.positive_index()) {
            match differences(&finished, positive, &generator) {
                Ok(found) => {
                    results.statements = found.statements_that_hold();
                    results.differences = Some(found);
                }
                Err(reason) => {
                    results.statements = vec![format!("Which differences hold is undefined: {reason}.")];
                    results.differences_undefined = Some(reason.to_string());
                }
            }
        }
        Ok(results)
    }

    /// What the figures are of, as the beginning of a sentence.
    pub(crate) fn basis(&self) -> String {
        match self.folds {
            Some(folds) => format!(
                "On the out-of-fold predictions of {folds} folds, pooled: every image is answered for by the training that \
                 held it out"
            ),
            None => format!("On the {} split", self.split),
        }
    }

    /// Index of the positive class.
    pub fn positive_index(&self) -> Option<usize> {
        self.classes.iter().position(|class| Some(class) == self.positive.as_ref())
    }

    fn row(
        &mut self,
        directory: &ExperimentDirectory,
        experiment: &Experiment,
        index: usize,
        runs: &[&PlannedRun],
        generator: &impl Fn(u64) -> ChaCha8Rng,
    ) -> Result<RowResult, ReportError> {
        let (row, config) = (&experiment.rows[index], experiment.config_of(index));
        let mut result = RowResult {
            name: row.name.clone(),
            title: row.title.clone(),
            architecture: config.network.architecture.clone(),
            unfreeze: config.freeze.unfreeze.clone(),
            trainable_parameters: None,
            parameters: None,
            seconds_per_epoch: None,
            trainings: runs.iter().map(|run| run.folder.clone()).collect(),
            missing: Vec::new(),
            failures: Vec::new(),
            undefined: None,
            metrics: None,
            folds: None,
            confusion_matrix: None,
            published: row.published.clone(),
            history: Vec::new(),
            answers: Vec::new(),
        };
        let mut histories: Vec<Vec<EpochRecord>> = Vec::new();
        let mut tables: Vec<(u64, PredictionTable)> = Vec::new();
        for planned in runs {
            let run = directory.run(&planned.folder);
            if run.environment_file().is_file() {
                let environment = Environment::read(&run.environment_file())?;
                result.trainable_parameters = Some(environment.trainable_parameters);
                result.parameters = Some(environment.parameters);
            }
            if run.history_file().is_file() {
                histories.push(read_table(&run.history_file())?);
            }
            let predictions = run.predictions_file(&self.split);
            if run.model_file().is_file() && predictions.is_file() {
                tables.push((planned.config.training.seed, PredictionTable::read(&predictions)?));
            } else {
                result.missing.push(planned.folder.clone());
                let reason = failure(&run)?;
                result.failures.extend(reason.map(|reason| format!("{}: {reason}", planned.folder)));
            }
        }
        let epochs: Vec<&EpochRecord> = histories.iter().flatten().collect();
        result.seconds_per_epoch =
            (!epochs.is_empty()).then(|| epochs.iter().map(|epoch| epoch.seconds).sum::<f64>() / epochs.len() as f64);
        result.history = mean_history(&histories);
        if !result.missing.is_empty() {
            return Ok(result);
        }
        if self.classes.is_empty() {
            self.classes.clone_from(&tables[0].1.classes);
            let named = experiment.base.data.positive.clone();
            self.positive = match named {
                Some(named) => Some(named),
                None => default_positive(&self.classes).ok().map(|class| self.classes[class].clone()),
            };
        }
        result.undefined = match self.positive_index() {
            Some(positive) => {
                self.evaluate(&mut result, experiment, &tables, positive, generator).err().map(|e| e.to_string())
            }
            None => Some(format!("no positive class among {}", listed(&self.classes))),
        };
        Ok(result)
    }

    /// Fills in the metrics of a row whose trainings are all finished, or says why it has none.
    fn evaluate(
        &self,
        row: &mut RowResult,
        experiment: &Experiment,
        tables: &[(u64, PredictionTable)],
        positive: usize,
        generator: &impl Fn(u64) -> ChaCha8Rng,
    ) -> Result<(), EvalError> {
        if let Some((_, other)) = tables.iter().find(|(_, table)| table.classes != self.classes) {
            let what = format!("classes: {} against {}", self.classes.join(", "), other.classes.join(", "));
            let first = self.rows.iter().find(|first| first.metrics.is_some()).unwrap_or(row);
            let (first, second) = (first.title.clone(), row.title.clone());
            return Err(EvalError::ModelsDiffer { first, second, what });
        }
        let mut trainings = Vec::new();
        for seed in &experiment.seeds {
            let of_seed: Vec<&PredictionTable> =
                tables.iter().filter(|(known, _)| known == seed).map(|(_, table)| table).collect();
            trainings.push(pooled(&of_seed)?);
        }
        row.metrics = Some(RepeatedMetrics::evaluate(&trainings, positive, generator)?);
        row.confusion_matrix = Some(summed(&trainings)?);
        if experiment.folds.is_some() {
            row.folds = Some(fold_spread(tables, positive)?);
        }
        row.answers = trainings;
        Ok(())
    }
}

/// Why a training failed, one line, where it left that.
fn failure(run: &RunDirectory) -> Result<Option<String>, ReportError> {
    let path = run.path().join("failure.txt");
    if !path.is_file() {
        return Ok(None);
    }
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(source) => Err(RunError::Io { path, action: "read", source }.into()),
    }
}

/// A sentence on the data, where figures published for a row rest on another number of test images.
fn other_data(
    directory: &ExperimentDirectory,
    experiment: &Experiment,
    runs: &[PlannedRun],
) -> Result<Option<String>, ReportError> {
    let published = experiment.rows.iter().filter_map(|row| row.published.as_ref());
    let published: BTreeSet<u64> =
        published.map(|published| published.confusion_matrix.iter().flatten().sum()).collect();
    let begun = runs.iter().map(|run| directory.run(&run.folder).environment_file()).find(|file| file.is_file());
    let (Some(file), false) = (begun, published.is_empty()) else { return Ok(None) };
    let images = Environment::read(&file)?.images;
    let count = |split: &str| images.get(split).map_or(0, |of_classes| of_classes.values().sum::<usize>());
    let [train, validation, test] = ["train", "validation", "test"].map(count);
    if experiment.folds.is_none() && published.iter().all(|&images| images == test as u64) {
        return Ok(None);
    }
    let published: Vec<String> = published.into_iter().map(|images| thousands(images as usize)).collect();
    let here = match experiment.folds {
        Some(folds) => format!("{} images, each tested once in {folds} folds", thousands(train + validation + test)),
        None => format!(
            "{} images for training, {} for validation and {} for testing",
            thousands(train),
            thousands(validation),
            thousands(test)
        ),
    };
    Ok(Some(format!(
        "The data is other data: {here}; the published figures are of {} test images.",
        listed(&published)
    )))
}

/// A table's rows as evaluation takes them, with their patients.
///
/// # Errors
/// Where a row has no label, or the table contradicts itself.
pub fn predictions(table: &PredictionTable) -> Result<Predictions, EvalError> {
    pooled(&[table])
}

/// The rows of several tables as one, in the order of their paths: the folds of a cross-validation together hold each
/// image once.
fn pooled(tables: &[&PredictionTable]) -> Result<Predictions, EvalError> {
    let mut rows: Vec<&Prediction> = tables.iter().flat_map(|table| &table.rows).collect();
    if tables.len() > 1 {
        rows.sort_by(|a, b| a.path.cmp(&b.path));
    }
    let labels: Vec<usize> = rows.iter().filter_map(|row| row.label).collect();
    let predicted = rows.iter().map(|row| row.predicted).collect();
    let probabilities = rows.iter().flat_map(|row| row.probabilities.iter().copied()).collect();
    let patients: Vec<Option<&str>> = rows.iter().map(|row| row.patient_id.as_deref()).collect();
    let losses: Option<Vec<f32>> = rows.iter().map(|row| row.loss).collect();
    let predictions = Predictions::new(tables[0].classes.clone(), labels, predicted, probabilities)?
        .with_clusters(Clusters::of_patients(&patients))?;
    match losses {
        Some(losses) => predictions.with_losses(losses),
        None => Ok(predictions),
    }
}

fn summed(trainings: &[Predictions]) -> Result<Vec<Vec<u64>>, EvalError> {
    let classes = trainings[0].classes();
    let mut sum = vec![vec![0; classes.len()]; classes.len()];
    for training in trainings {
        let matrix = ConfusionMatrix::new(classes.to_vec(), training.labels(), training.predicted())?;
        for (sum, counts) in sum.iter_mut().flatten().zip(matrix.counts().iter().flatten()) {
            *sum += counts;
        }
    }
    Ok(sum)
}

fn fold_spread(tables: &[(u64, PredictionTable)], positive: usize) -> Result<FoldSpread, EvalError> {
    let (mut accuracies, mut areas) = (Vec::new(), Vec::new());
    for (_, table) in tables {
        let fold = predictions(table)?;
        let right = fold.labels().iter().zip(fold.predicted()).filter(|(label, predicted)| label == predicted).count();
        accuracies.push(right as f64 / fold.samples() as f64);
        areas.push(RankedScores::new(&fold.scores(positive), &fold.is_of(positive))?.auroc(|_| 1));
    }
    let areas: Option<Vec<f64>> = areas.into_iter().collect();
    Ok(FoldSpread { accuracy: mean_and_deviation(&accuracies), auroc: areas.map(|areas| mean_and_deviation(&areas)) })
}

fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    (mean, (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0).max(1.0)).sqrt())
}

/// Epoch by epoch the mean over the trainings that reached it.
fn mean_history(histories: &[Vec<EpochRecord>]) -> Vec<EpochRecord> {
    let epochs = histories.iter().map(Vec::len).max().unwrap_or(0);
    (0..epochs)
        .map(|epoch| {
            let rows: Vec<&EpochRecord> = histories.iter().filter_map(|history| history.get(epoch)).collect();
            let mean =
                |value: fn(&EpochRecord) -> f64| rows.iter().map(|row| value(row)).sum::<f64>() / rows.len() as f64;
            let mean_of_some = |value: fn(&EpochRecord) -> Option<f64>| {
                let values: Option<Vec<f64>> = rows.iter().map(|row| value(row)).collect();
                values.map(|values| values.iter().sum::<f64>() / values.len() as f64)
            };
            EpochRecord {
                epoch: rows[0].epoch,
                train_loss: mean(|row| row.train_loss),
                valid_loss: mean_of_some(|row| row.valid_loss),
                train_accuracy: mean(|row| row.train_accuracy),
                valid_accuracy: mean_of_some(|row| row.valid_accuracy),
                learning_rate: rows[0].learning_rate,
                seconds: mean(|row| row.seconds),
                images_per_s: mean(|row| row.images_per_s),
                note: None,
            }
        })
        .collect()
}
