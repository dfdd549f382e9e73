//! `roentgen bench`: how fast this machine trains and classifies, beside what its processor could do at best.

pub mod data;
mod measure;
mod table;

use crate::arguments::{Bench, PrecisionName};
use crate::failure::{Failure, Outcome};
use crate::{resolve, start};
use measure::{Measured, Subject, median, peak_resident_bytes};
use roentgen_nn::{Engine, FreezePlan, FrozenBatchNorm, Head, Mode, StageReport, architecture};
use roentgen_run::config::NetworkSettings;
use serde::Serialize;
use std::io::Write;

/// More than anyone measures, and few enough that no size overflows.
const LARGEST: usize = 1 << 16;

/// Everything measured: the object that `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    arch: String,
    precision: &'static str,
    batch_size: usize,
    /// Side of the input in pixels.
    image_size: usize,
    /// What the training step trains, as it was given.
    unfreeze: String,
    threads: usize,
    instruction_set: String,
    /// Whether convolutions were computed directly.
    exact: bool,
    /// The forward pass in evaluation mode.
    forward: Speed,
    /// Forward in training mode, loss, backward, and the optimizer.
    train_step: Speed,
    /// The most memory that the process held, in 10^6 bytes; `null` where the system does not say.
    peak_rss_mb: Option<f64>,
    /// What all threads reach together in f32 fused multiply-adds, in 10^9 operations a second.
    ceiling_gflops: f64,
    /// Stages of the training step.
    #[serde(skip_serializing_if = "Option::is_none")]
    layers: Option<Vec<Layer>>,
    /// Stages of the forward pass in evaluation mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    forward_layers: Option<Vec<Layer>>,
}

/// The speed of a pass.
#[derive(Debug, Serialize)]
struct Speed {
    /// Of the median round.
    images_per_s: f64,
    /// Of the fastest round.
    best_images_per_s: f64,
    /// 10^9 operations a second in the median round, convolutions counted as if computed directly.
    gflops: f64,
    /// Memory of the compiled program in bytes.
    plan_bytes: usize,
}

/// A stage; times are medians over the rounds.
#[derive(Debug, Serialize)]
struct Layer {
    name: String,
    kind: String,
    /// Shape for one image.
    output: String,
    /// 10^9 operations of a batch, forward and backward.
    gflop: f64,
    forward_ms: f64,
    backward_ms: f64,
    /// 10^9 operations a second; 0 where none are counted.
    gflops: f64,
    /// Of the time of the pass, all of whose shares, with what lies between the stages, add up to 1.
    share: f64,
}

/// Runs the command.
pub fn run(arguments: &Bench) -> Outcome {
    for (option, value) in [("--batch-size", arguments.batch_size), ("--rounds", arguments.rounds)] {
        if !(1..=LARGEST).contains(&value) {
            return Err(Failure::call(format!("{option} is {value}; expected from 1 to {LARGEST}")));
        }
    }
    if !arguments.data.data.is_empty() {
        return data::run(arguments);
    }
    let defaults = NetworkSettings::default();
    let head = Head::Replaced { hidden: defaults.hidden, dropout: defaults.dropout, classes: 2 };
    let network = architecture::build(&arguments.arch, arguments.image_size, head)?;
    let plan = FreezePlan::resolve(&network, &arguments.unfreeze, FrozenBatchNorm::Stored)?;
    let engine = start::engine(arguments.threads)?;
    let subject = Subject {
        network: &network,
        plan: &plan,
        batch_size: arguments.batch_size,
        arithmetic: resolve::arithmetic(arguments.precision, arguments.exact),
        rounds: arguments.rounds,
        memory_limit_bytes: start::available_memory_bytes(),
    };
    let train_step = subject.measure(&engine, Mode::Train)?;
    let forward = subject.measure(&engine, Mode::Evaluate)?;
    eprintln!("measuring what the processor can do");
    let ceiling_gflops = engine.ceiling_gflops();
    let layers = |measured: &Measured| arguments.layers.then(|| Layer::all(measured, arguments.batch_size));
    let report = Report {
        arch: arguments.arch.clone(),
        precision: match arguments.precision {
            PrecisionName::F32 => "f32",
            PrecisionName::Bf16 => "bf16",
        },
        batch_size: arguments.batch_size,
        image_size: arguments.image_size,
        unfreeze: arguments.unfreeze.join(","),
        threads: engine.threads(),
        instruction_set: engine.description(),
        exact: arguments.exact,
        forward: Speed::of(&forward, arguments.batch_size),
        train_step: Speed::of(&train_step, arguments.batch_size),
        peak_rss_mb: peak_resident_bytes().map(|bytes| bytes as f64 / 1e6),
        ceiling_gflops,
        layers: layers(&train_step),
        forward_layers: layers(&forward),
    };
    let mut out = std::io::stdout().lock();
    if arguments.json {
        serde_json::to_writer(&mut out, &report).map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else {
        write!(out, "{}", table::text(&report))?;
    }
    Ok(())
}

impl Speed {
    fn of(measured: &Measured, batch_size: usize) -> Speed {
        let images_per_s = batch_size as f64 / median(&measured.seconds);
        let best = measured.seconds.iter().copied().fold(f64::INFINITY, f64::min);
        let operations: u64 = measured.stages.iter().map(|s| s.forward_operations + s.backward_operations).sum();
        Speed {
            images_per_s,
            best_images_per_s: batch_size as f64 / best,
            gflops: operations as f64 * images_per_s / 1e9,
            plan_bytes: measured.plan_bytes,
        }
    }
}

impl Layer {
    fn all(measured: &Measured, batch_size: usize) -> Vec<Layer> {
        // A sum of medians, not the median round: each of its parts may be another round's.
        let stages_s: f64 = measured.stages.iter().map(|stage| stage.forward_s + stage.backward_s).sum();
        let whole_s = stages_s + measured.rest_s;
        measured.stages.iter().map(|stage| Layer::of(stage, batch_size, whole_s)).collect()
    }

    fn of(stage: &StageReport, batch_size: usize, whole_s: f64) -> Layer {
        let gflop = (stage.forward_operations + stage.backward_operations) as f64 * batch_size as f64 / 1e9;
        let seconds = stage.forward_s + stage.backward_s;
        Layer {
            name: stage.name.clone(),
            kind: stage.kind.clone(),
            output: stage.output.to_string(),
            gflop,
            forward_ms: 1e3 * stage.forward_s,
            backward_ms: 1e3 * stage.backward_s,
            gflops: if gflop > 0.0 { gflop / seconds } else { 0.0 },
            share: seconds / whole_s,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use roentgen_nn::FeatureShape;

    fn stage(name: &str, operations: [u64; 2], seconds: [f64; 2]) -> StageReport {
        StageReport {
            name: name.into(),
            kind: "convolution".into(),
            output: FeatureShape { channels: 3, height: 4, width: 5 },
            forward_operations: operations[0],
            backward_operations: operations[1],
            forward_s: seconds[0],
            backward_s: seconds[1],
        }
    }

    #[test]
    fn speeds_follow_from_times_and_work() {
        let stages = vec![stage("a", [1_000_000_000, 2_000_000_000], [0.1, 0.3]), stage("b", [0, 0], [0.05, 0.0])];
        let measured = Measured { seconds: vec![0.5, 2.0, 0.4], stages, rest_s: 0.05, plan_bytes: 7 };
        let speed = Speed::of(&measured, 8);
        assert_eq!((speed.images_per_s, speed.best_images_per_s, speed.plan_bytes), (16.0, 20.0, 7));
        assert_eq!(speed.gflops, 48.0);
        let layers = Layer::all(&measured, 8);
        assert_eq!((layers[0].gflop, layers[0].forward_ms, layers[0].backward_ms), (24.0, 100.0, 300.0));
        assert_eq!((layers[0].gflops, layers[0].share, layers[0].output.as_str()), (60.0, 0.8, "3x4x5"));
        assert_eq!((layers[1].gflops, layers[1].share), (0.0, 0.1));
    }
}
