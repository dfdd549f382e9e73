//! From tables of predictions to metrics.

use crate::arguments::Thresholds;
use crate::failure::{Failure, Outcome};
use roentgen_eval::{
    AppliedThreshold, GroupTable, Metrics, Predictions, RankedScores, TemperatureScaling, ThresholdRule,
    default_positive, fit_temperature,
};
use roentgen_run::draw::{ChaCha8Rng, Purpose, stream};
use roentgen_run::predictions::PredictionTable;
use std::path::Path;

/// The generators of a bootstrap's resamples.
pub fn resampling(seed: u64) -> impl Fn(u64) -> ChaCha8Rng {
    move |resample| stream(seed, Purpose::Bootstrap, 0, resample)
}

/// A table's rows, checked, with their patients.
pub fn predictions(table: &PredictionTable, file: &Path) -> Outcome<Predictions> {
    let unlabelled = table.rows.iter().filter(|row| row.label.is_none()).count();
    if table.rows.is_empty() {
        return Err(Failure::work(format!("{}: the table has no rows; evaluation needs images", file.display())));
    }
    if unlabelled > 0 {
        return Err(Failure::work(format!(
            "{}: {unlabelled} of {} images have no label; evaluation needs the actual class of each",
            file.display(),
            table.rows.len()
        )));
    }
    let checked = roentgen_report::predictions(table);
    checked.map_err(|error| Failure::Work(anyhow::Error::new(error).context(file.display().to_string())))
}

/// Index of the positive class: the one named, or by convention.
pub fn positive_class(classes: &[String], named: Option<&str>) -> Outcome<usize> {
    match named {
        Some(name) => classes.iter().position(|class| class == name).ok_or_else(|| {
            Failure::call(format!("--positive {name}: no such class; the classes are {}", classes.join(", ")))
        }),
        None => default_positive(classes).map_err(|error| Failure::Call(error.into())),
    }
}

/// What thresholds are to be chosen by: Youden's index, a sensitivity, and where costs are given these.
pub fn threshold_rules(arguments: &Thresholds) -> Outcome<Vec<ThresholdRule>> {
    let refuse = |option: &str, value: f64, expected: &str| {
        Err(Failure::call(format!("--{option} {value}: expected {expected}")))
    };
    let at_least = arguments.at_sensitivity;
    if !(at_least > 0.0 && at_least <= 1.0) {
        return refuse("at-sensitivity", at_least, "a number above 0, up to 1");
    }
    let mut rules = vec![ThresholdRule::Youden, ThresholdRule::Sensitivity { at_least }];
    let (miss, false_alarm) = (arguments.cost_miss, arguments.cost_false_alarm);
    for (option, cost) in [("cost-miss", miss), ("cost-false-alarm", false_alarm)] {
        if let Some(cost) = cost.filter(|cost| !(*cost > 0.0 && cost.is_finite())) {
            return refuse(option, cost, "a number above 0");
        }
    }
    if let Some(prevalence) = arguments.prevalence.filter(|p| !(*p > 0.0 && *p < 1.0)) {
        return refuse("prevalence", prevalence, "a number between 0 and 1");
    }
    if arguments.prevalence.is_some() && miss.is_none() && false_alarm.is_none() {
        return Err(Failure::call("--prevalence weighs costs: give --cost-miss or --cost-false-alarm too"));
    }
    if miss.is_some() || false_alarm.is_some() {
        rules.push(ThresholdRule::Cost {
            miss: miss.unwrap_or(1.0),
            false_alarm: false_alarm.unwrap_or(1.0),
            prevalence: arguments.prevalence,
        });
    }
    Ok(rules)
}

/// Fits temperature and thresholds on validation predictions and applies them to `predictions`, whose `metrics` these
/// are. What cannot be fitted is noted.
pub fn apply_validation(
    metrics: &mut Metrics,
    predictions: &Predictions,
    validation: &Predictions,
    rules: &[ThresholdRule],
    generator: &impl Fn(u64) -> ChaCha8Rng,
) -> Outcome {
    const SPLIT: &str = "validation";
    let positive = metrics.positive;
    match fit_temperature(validation) {
        Ok(temperature) => {
            let scaling = TemperatureScaling::apply(predictions, temperature, SPLIT, validation.samples())?;
            metrics.temperature = Some(scaling);
        }
        Err(reason) => metrics.notes.push(format!("No temperature was fitted on the {SPLIT} images: {reason}.")),
    }
    let ranked = RankedScores::new(&validation.scores(positive), &validation.is_of(positive))?;
    for rule in rules {
        match rule.choose(&ranked) {
            Ok(threshold) => metrics.thresholds.push(AppliedThreshold::apply(
                threshold,
                SPLIT,
                validation.samples(),
                predictions,
                positive,
                generator,
            )?),
            Err(reason) => {
                metrics.notes.push(format!("No threshold by {rule} was chosen on the {SPLIT} images: {reason}."));
            }
        }
    }
    if predictions == validation {
        metrics.notes.push(
            "Temperature and thresholds were fitted on these very images: here they do better than on new ones.".into(),
        );
    }
    Ok(())
}

/// Adds metrics by group, where some image has a name and there are two groups at least.
pub fn add_groups(
    metrics: &mut Metrics,
    by: &str,
    names: &[Option<String>],
    predictions: &Predictions,
    generator: &impl Fn(u64) -> ChaCha8Rng,
) -> Outcome {
    if names.iter().any(Option::is_some) {
        metrics.groups.extend(GroupTable::new(by, names, predictions, metrics.positive, generator)?);
    }
    Ok(())
}
