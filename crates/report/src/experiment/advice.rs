//! What to try next: plain rules over the results.

use super::results::{Results, RowResult};
use crate::numerals::{listed, thousands};
use roentgen_eval::{ComparedMetric, Effect};
use roentgen_run::Experiment;

/// A validation loss that fell by more than this share in the last epoch had not settled.
const STILL_FALLING: f64 = 0.02;
/// Half the width of an accuracy's interval beyond which more test images come first.
const WIDE: f64 = 0.03;

/// Sentences, each an advice with its reason.
pub(crate) fn advice(results: &Results, experiment: &Experiment) -> Vec<String> {
    let mut advice = Vec::new();
    let unfinished: Vec<&str> =
        results.rows.iter().filter(|row| row.is_unfinished()).map(|row| row.title.as_str()).collect();
    if !unfinished.is_empty() {
        advice.push(format!("Finish {}: the same command goes on.", listed(&unfinished)));
    }
    let falling: Vec<&str> = results.rows.iter().filter(|row| still_falls(row)).map(|row| row.title.as_str()).collect();
    if !falling.is_empty() {
        advice.push(format!(
            "More epochs for {}: the validation loss still fell by more than {:.0}\u{a0}% in the last one.",
            listed(&falling),
            100.0 * STILL_FALLING
        ));
    }
    advice.extend(cheaper(results));
    if experiment.seeds.len() < 3 {
        advice.push(
            "Three seeds or more (`--seeds 0,1,2`): one training says nothing about the chance in training itself."
                .into(),
        );
    }
    if experiment.base.network.weights == "none" {
        advice.push(
            "Start from trained weights (`--weights imagenet`, or a run on related images): frozen layers with random \
             weights have learnt nothing."
                .into(),
        );
    }
    let widest = results
        .rows
        .iter()
        .filter_map(|row| row.metrics.as_ref()?.accuracy.estimate.interval())
        .fold(0.0f64, |widest, interval| widest.max((interval.high - interval.low) / 2.0));
    if widest > WIDE {
        advice.push(format!(
            "More test images, or cross-validation (`--folds 5`): accuracies are known to about {:.1} points either way, \
             and smaller differences cannot show.",
            100.0 * widest
        ));
    }
    advice
}

impl RowResult {
    /// Whether trainings are missing and none has failed: a row that fails would fail again.
    fn is_unfinished(&self) -> bool {
        !self.missing.is_empty() && self.failures.is_empty()
    }
}

fn still_falls(row: &RowResult) -> bool {
    let losses: Vec<f64> = row.history.iter().filter_map(|epoch| epoch.valid_loss).collect();
    matches!(losses.as_slice(), [.., before, last] if *last < (1.0 - STILL_FALLING) * before)
}

/// The row with the fewest trained parameters that no row is shown to beat.
fn cheaper(results: &Results) -> Option<String> {
    let differences = results.differences.as_ref()?;
    let finished: Vec<&RowResult> = results.rows.iter().filter(|row| !row.answers.is_empty()).collect();
    let is_beaten = |index: usize| {
        differences.differences.iter().any(|difference| {
            let sign = match (difference.first == index, difference.second == index) {
                (true, _) => 1.0,
                (_, true) => -1.0,
                _ => return false,
            };
            difference.metric != ComparedMetric::F1
                && difference.effect.as_ref().is_some_and(|effect| effect.holds() && sign * effect.difference > 0.0)
        })
    };
    let unbeaten = (0..finished.len()).filter(|index| !is_beaten(*index));
    let smallest = unbeaten.min_by_key(|index| finished[*index].trainable_parameters)?;
    let row = finished[smallest];
    let any_holds = differences.differences.iter().filter_map(|d| d.effect.as_ref()).any(Effect::holds);
    Some(format!(
        "{}: of the rows that none is shown to beat in accuracy or AUROC it trains the fewest parameters ({}){}.",
        row.title,
        thousands(row.trainable_parameters?),
        if any_holds { "" } else { "; no difference between rows holds at all" }
    ))
}
