//! Passes over random data, timed round by round.

use crate::failure::Outcome;
use crate::progress::Count;
use roentgen_nn::loss::CrossEntropy;
use roentgen_nn::optimizer::{Optimizer, ParameterSettings, Rule};
use roentgen_nn::{
    Arithmetic, CompileRequest, Draws, Engine, FreezePlan, Gradients, Mode, Network, ParameterSet, ParameterStore,
    StageReport, initialise,
};
use std::time::Instant;

/// What is measured. Random weights and images: speed depends on shapes alone.
pub struct Subject<'a> {
    pub network: &'a Network,
    pub plan: &'a FreezePlan,
    pub batch_size: usize,
    pub arithmetic: Arithmetic,
    /// Timed repetitions.
    pub rounds: usize,
    pub memory_limit_bytes: Option<usize>,
}

/// A pass, measured.
pub struct Measured {
    /// One entry a round.
    pub seconds: Vec<f64>,
    /// The stages; their times are medians over the rounds.
    pub stages: Vec<StageReport>,
    /// The median of what a pass takes beside its stages: copies at the seam, the loss, the optimizer.
    pub rest_s: f64,
    /// Memory of the compiled program.
    pub plan_bytes: usize,
}

impl Subject<'_> {
    /// Times the forward pass in evaluation mode, or a training step: forward, loss, backward, and the optimizer.
    pub fn measure(&self, engine: &dyn Engine, mode: Mode) -> Outcome<Measured> {
        let (network, batch_size) = (self.network, self.batch_size);
        let mut request = CompileRequest::whole(network, self.plan, mode, batch_size);
        request.arithmetic = self.arithmetic;
        request.memory_limit_bytes = self.memory_limit_bytes;
        let mut program = engine.compile(&request)?;
        let mut store = ParameterStore::new(network);
        initialise(network, &mut store, 0, |_| true);
        let elements = network.value(network.input()).shape.elements();
        let images: Vec<f32> = (0..batch_size * elements).map(|i| ((i * 7919 % 1013) as f32 / 506.5) - 1.0).collect();
        let labels: Vec<usize> = (0..batch_size).map(|i| i % network.classes()).collect();
        let rows: Vec<usize> = (0..batch_size).collect();
        let (mut logits, mut losses) = (Vec::new(), Vec::new());
        let mut slope = vec![0.0; batch_size * network.classes()];
        let mut step = match mode {
            Mode::Train => Some(TrainingState::new(network, self.plan)),
            Mode::Evaluate => None,
        };
        let name = if step.is_some() { "training step" } else { "forward pass" };
        eprintln!("measuring the {name}");
        let progress = Count::new("measuring", "rounds", self.rounds + 1);
        let mut seconds = Vec::with_capacity(self.rounds);
        let mut stages = Vec::with_capacity(self.rounds);
        // The first round packs weights and touches memory for the first time.
        for round in 0..=self.rounds {
            let begun = Instant::now();
            let draws = Draws { seed: 0, epoch: round as u64, rows: &rows };
            program.forward(&mut store, ParameterSet::Live, &[&images], batch_size, draws)?;
            if let Some(TrainingState { gradients, optimizer }) = &mut step {
                program.read(network.output(), &mut logits)?;
                CrossEntropy::default().losses(&logits, &labels, batch_size as f64, &mut slope, &mut losses);
                program.backward(&store, ParameterSet::Live, &slope, gradients, false)?;
                optimizer.step(engine, &mut store, gradients, LEARNING_RATE);
            }
            if round > 0 {
                seconds.push(begun.elapsed().as_secs_f64());
                stages.push(program.stages());
            }
            progress.one_more();
        }
        drop(progress);
        let in_stages = |stages: &Vec<StageReport>| stages.iter().map(|s| s.forward_s + s.backward_s).sum::<f64>();
        let rest: Vec<f64> = seconds.iter().zip(&stages).map(|(whole, stages)| whole - in_stages(stages)).collect();
        Ok(Measured {
            rest_s: median(&rest),
            stages: with_median_times(&stages),
            seconds,
            plan_bytes: program.memory_bytes(),
        })
    }
}

/// Small: the weights may not grow without bound on data that means nothing, for infinities take another time.
const LEARNING_RATE: f32 = 1e-4;

/// What a training step needs beside the program.
struct TrainingState {
    gradients: Gradients,
    optimizer: Optimizer,
}

impl TrainingState {
    fn new(network: &Network, plan: &FreezePlan) -> TrainingState {
        let settings = ParameterSettings { learning_rate_factor: 1.0, weight_decay: 0.0 };
        let rule = Rule::Sgd { momentum: 0.9, nesterov: false };
        TrainingState {
            gradients: Gradients::new(network, plan),
            optimizer: Optimizer::new(network, plan, rule, |_| settings),
        }
    }
}

/// The stages with the median of each time over the rounds.
fn with_median_times(rounds: &[Vec<StageReport>]) -> Vec<StageReport> {
    let time = |index: usize, of: fn(&StageReport) -> f64| {
        median(&rounds.iter().map(|stages| of(&stages[index])).collect::<Vec<_>>())
    };
    let first = rounds.first().map(Vec::as_slice).unwrap_or_default();
    first
        .iter()
        .enumerate()
        .map(|(index, stage)| StageReport {
            forward_s: time(index, |stage| stage.forward_s),
            backward_s: time(index, |stage| stage.backward_s),
            ..stage.clone()
        })
        .collect()
}

/// The middle one, or the mean of the two in the middle.
///
/// # Panics
/// Where there are none.
pub fn median(times: &[f64]) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (below, above) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
    f64::midpoint(below, above)
}

/// The most memory that this process has held; `None` where the system does not say.
pub fn peak_resident_bytes() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: usize = line.split_whitespace().nth(1)?.parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_even_and_odd_counts() {
        assert_eq!(median(&[3.0]), 3.0);
        assert_eq!(median(&[3.0, 1.0]), 2.0);
        assert_eq!(median(&[5.0, 1.0, 2.0]), 2.0);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_peak_grows_with_what_is_held() {
        let before = peak_resident_bytes().unwrap();
        let held = vec![1u8; before + (64 << 20)];
        assert!(peak_resident_bytes().unwrap() > before + (32 << 20));
        assert_eq!(std::hint::black_box(held)[before], 1);
    }
}
