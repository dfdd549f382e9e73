//! The learning rate as a pure function of the step: nothing of it is state, so nothing of it is in a checkpoint.

use roentgen_run::config::{OneCycle, Schedule, TrainingSettings};
use roentgen_run::history::as_written;
use std::f64::consts::PI;

/// What an optimizer step is taken with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepRates {
    /// The learning rate, before the factors of parameter groups.
    pub learning_rate: f32,
    /// SGD's momentum or AdamW's beta 1, where the schedule moves it.
    pub momentum: Option<f32>,
}

/// The schedule of a run: settings, and the length that they are spread over.
///
/// The values are those of PyTorch's schedulers: `ConstantLR`, `StepLR` once an epoch, `CosineAnnealingLR` and
/// `OneCycleLR` once a step. A warm-up of W steps multiplies step i, from 0, by `(i + 1) / W`, as
/// `LinearLR(start_factor=1/W, total_iters=W-1)` does; the cosine begins behind it (`SequentialLR`), the steps are
/// counted from the start of the run.
#[derive(Clone, Copy, Debug)]
pub struct LearningRate {
    base: f64,
    schedule: Schedule,
    warmup_steps: u64,
    steps_in_epoch: u64,
    steps_total: u64,
}

impl LearningRate {
    /// The schedule of settings that were checked ([`crate::Setup::check`]), over a number of steps.
    pub fn new(training: &TrainingSettings, steps_in_epoch: usize, steps_total: u64) -> LearningRate {
        LearningRate {
            base: as_written(training.learning_rate),
            schedule: training.schedule,
            warmup_steps: (as_written(training.warmup_epochs) * steps_in_epoch as f64).round() as u64,
            steps_in_epoch: steps_in_epoch as u64,
            steps_total,
        }
    }

    /// What step `step`, from 0, is taken with.
    pub fn at(&self, step: u64) -> StepRates {
        if let Schedule::OneCycle(cycle) = self.schedule {
            return self.one_cycle(cycle, step);
        }
        let warmup = if step < self.warmup_steps { (step + 1) as f64 / self.warmup_steps as f64 } else { 1.0 };
        let rate = match self.schedule {
            Schedule::Step { every_epochs, factor } => {
                self.base * as_written(factor).powf((step / self.steps_in_epoch / every_epochs as u64) as f64)
            }
            Schedule::Cosine { minimal_rate } if step >= self.warmup_steps => {
                let share = (step - self.warmup_steps) as f64 / (self.steps_total - self.warmup_steps).max(1) as f64;
                let low = as_written(minimal_rate);
                annealed(self.base, low, share)
            }
            _ => self.base,
        };
        StepRates { learning_rate: (warmup * rate) as f32, momentum: None }
    }

    fn one_cycle(&self, cycle: OneCycle, step: u64) -> StepRates {
        let first = self.base / as_written(cycle.div_factor);
        let last = first / as_written(cycle.final_div_factor);
        let (low, high) = (as_written(cycle.base_momentum), as_written(cycle.max_momentum));
        // torch keeps the first phase's end as a real number, and compares steps with it.
        let top = as_written(cycle.pct_start) * self.steps_total as f64 - 1.0;
        let (step, end) = (step as f64, self.steps_total as f64 - 1.0);
        let (rate, momentum) = if step <= top {
            let share = share(step, 0.0, top);
            (annealed(first, self.base, share), annealed(high, low, share))
        } else {
            let share = share(step, top, end);
            (annealed(self.base, last, share), annealed(low, high, share))
        };
        StepRates { learning_rate: rate as f32, momentum: Some(momentum as f32) }
    }
}

/// How far `step` has come from `start` to `end`, in `[0, 1]`. A phase of one step, where torch divides by zero, is at
/// its end.
fn share(step: f64, start: f64, end: f64) -> f64 {
    if end > start { (step - start) / (end - start) } else { 1.0 }
}

/// From one value to another along half a cosine.
fn annealed(from: f64, to: f64, share: f64) -> f64 {
    to + (from - to) / 2.0 * (1.0 + (PI * share).cos())
}
