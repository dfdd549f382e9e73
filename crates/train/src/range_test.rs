//! The learning-rate range test (Smith, "Cyclical learning rates for training neural networks", WACV 2017), in fastai's
//! form: some steps at rates that grow exponentially, and a rate that the losses suggest. Nothing of it is kept.

use crate::feed::Feed;
use crate::step::Stepper;
use crate::{Event, Observer, Setup, StepRates, TrainError, micro_batch};
use roentgen_nn::{Engine, ParameterStore};
use serde::{Deserialize, Serialize};

/// The steps of a test, where the loss does not end it before.
pub const RANGE_TEST_STEPS: usize = 100;
/// The first rate, and the one that the last step would come to.
const RATES: (f64, f64) = (1e-7, 10.0);
/// Share of the past in the smoothed loss.
const SMOOTHING: f64 = 0.98;
/// The test ends where the smoothed loss is so many times the lowest.
const DIVERGED: f64 = 4.0;
/// What the suggestion leaves out: the first tenth, and the last five steps.
const LEFT_OUT: (usize, usize) = (RANGE_TEST_STEPS / 10, 5);

/// One step of the test.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RangeStep {
    /// From 1.
    pub step: usize,
    /// The rate that the step was taken with; groups of parameters keep their ratio to it.
    pub learning_rate: f64,
    /// Mean loss of the batch, before the update.
    pub loss: f64,
    /// The running mean of the losses, corrected for its start.
    pub smoothed_loss: f64,
}

/// Takes the steps, from the start weights on, and leaves the setup without weights: nothing is read from or written to
/// the run directory. Ends early where the loss diverges, or the observer asks for a stop.
///
/// # Errors
/// Where an image cannot be decoded, or memory does not suffice.
pub fn range_test(
    setup: &mut Setup,
    engine: &dyn Engine,
    observer: &mut dyn Observer,
) -> Result<Vec<RangeStep>, TrainError> {
    let empty = ParameterStore::new(&setup.network);
    let mut store = std::mem::replace(&mut setup.store, empty);
    let setup = &*setup;
    let image = [setup.network.input()];
    let at_once = micro_batch::sizes(&[(setup, &image)], engine, setup.memory_limit_bytes, 0)?[0];
    let mut stepper = Stepper::new(setup, engine, &setup.stages[0], &image, at_once)?;
    let mut feed = Feed::new(setup, engine, setup.train_transform(), None, &image, 1);
    let total = RANGE_TEST_STEPS as u64;
    observer.event(0, Event::Started { steps_done: 0, steps_total: total, micro_batch: stepper.micro_batch() });
    let mut steps: Vec<RangeStep> = Vec::new();
    let (mut mean, mut lowest) = (0.0, f64::INFINITY);
    for epoch in 1.. {
        feed.begin(setup.epoch_order(epoch), setup.config.training.batch_size, epoch as u64)?;
        while let Some(fed) = feed.next(&mut store, observer)? {
            let learning_rate = rate(steps.len());
            let sums = stepper.gradients_of(&mut store, &fed, epoch)?;
            let loss = sums.loss / sums.weight;
            if !loss.is_finite() {
                return Ok(steps);
            }
            mean = SMOOTHING * mean + (1.0 - SMOOTHING) * loss;
            let smoothed_loss = mean / (1.0 - SMOOTHING.powi(steps.len() as i32 + 1));
            steps.push(RangeStep { step: steps.len() + 1, learning_rate, loss, smoothed_loss });
            lowest = smoothed_loss.min(lowest);
            let rates = StepRates { learning_rate: learning_rate as f32, momentum: None };
            let diverged = smoothed_loss > DIVERGED * lowest || stepper.update(&mut store, rates).is_err();
            observer.event(0, Event::RangeStep { step: steps.len(), steps: RANGE_TEST_STEPS, learning_rate, loss });
            if diverged || steps.len() == RANGE_TEST_STEPS || observer.stop_requested() {
                return Ok(steps);
            }
        }
        feed.end();
    }
    Ok(steps)
}

/// The rate of step `index`, from 0.
fn rate(index: usize) -> f64 {
    RATES.0 * (RATES.1 / RATES.0).powf(index as f64 / RANGE_TEST_STEPS as f64)
}

/// The rate in the middle of the longest valley, fastai's `valley`: the longest falling subsequence of the smoothed
/// losses is taken for as many steps up to its last one, and the rate stands in the middle of these. The first tenth of
/// the test and its last five steps are left out. `None` where nothing falls, or too few steps are left.
pub fn valley(steps: &[RangeStep]) -> Option<f64> {
    let inner = steps.get(LEFT_OUT.0..steps.len().checked_sub(LEFT_OUT.1)?)?;
    // The longest falling subsequence that ends with each step.
    let mut lengths = vec![1usize; inner.len()];
    for end in 1..inner.len() {
        let falls = |before: &usize| inner[*before].smoothed_loss > inner[end].smoothed_loss;
        lengths[end] = 1 + (0..end).filter(falls).map(|before| lengths[before]).max().unwrap_or(0);
    }
    let longest = lengths.iter().copied().max().filter(|length| *length > 1)?;
    let end = lengths.iter().position(|length| *length == longest)?;
    // fastai places the point at a third and half a third of the way, each rounded down, from the step before the
    // first.
    let third = longest as f64 / 3.0;
    let index = (end + third as usize + (third / 2.0) as usize).saturating_sub(longest);
    Some(inner[index].learning_rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(losses: impl IntoIterator<Item = f64>) -> Vec<RangeStep> {
        let step = |(index, loss)| RangeStep { step: index + 1, learning_rate: rate(index), loss, smoothed_loss: loss };
        losses.into_iter().enumerate().map(step).collect()
    }

    #[test]
    fn rates_grow_evenly_from_the_first_to_the_last() {
        assert_eq!(rate(0), 1e-7);
        assert!((rate(50) / 1e-3 - 1.0).abs() < 1e-12 && (rate(100) / 10.0 - 1.0).abs() < 1e-12);
    }

    #[test]
    fn the_valley_is_where_fastai_has_it() {
        // Level for 40 steps, falling for 35, rising for 25: of the 85 steps that are looked at.
        let curve = |step: usize| match step {
            0..40 => 0.7,
            40..75 => 0.7 - 0.01 * (step - 39) as f64,
            _ => 0.35 + 0.1 * (step - 74) as f64,
        };
        let test = steps((0..100).map(curve));
        // 36 losses fall in turn, the last of the level ones included, up to index 64 of those looked at: 64 - 36 + 12
        // + 6.
        assert_eq!(valley(&test), Some(rate(10 + 46)));
        assert_eq!(valley(&steps((0..100).map(|step| step as f64))), None);
        assert_eq!(valley(&steps([0.7; 12])), None);
        assert_eq!(valley(&[]), None);
        // Falling throughout: the start lies before the first step that is looked at.
        assert_eq!(valley(&steps((0..100).map(|step| -(step as f64)))), Some(rate(10 + 41)));
    }
}
