//! Images per second of a bare training step and a bare forward pass on random data:
//! `cargo run --release -p roentgen-cpu --example step_speed -- resnet18 16 all` (architecture, batch, what to train).
//! Prints the median and the best of nine.

use roentgen_cpu::CpuEngine;
use roentgen_nn::loss::CrossEntropy;
use roentgen_nn::optimizer::{Optimizer, ParameterSettings, Rule};
use roentgen_nn::{
    CompileRequest, Draws, Engine, FreezePlan, FrozenBatchNorm, Gradients, Head, Mode, ParameterSet, ParameterStore,
    architecture, initialise,
};
use std::time::Instant;

const ROUNDS: usize = 9;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_else(|| "resnet18".into());
    let batch: usize = arguments.next().map_or(16, |text| text.parse().expect("the batch is a number"));
    let unfreeze = arguments.next().unwrap_or_else(|| "all".into());
    let head = Head::Replaced { hidden: 380, dropout: 0.5, classes: 2 };
    let network = architecture::build(&name, 224, head).expect("a known architecture");
    let selectors: Vec<&str> = unfreeze.split(',').collect();
    let plan = FreezePlan::resolve(&network, &selectors, FrozenBatchNorm::Stored).expect("known layers");
    let engine = CpuEngine::new(CpuEngine::available_threads()).expect("an instruction set that this processor has");
    let mut store = ParameterStore::new(&network);
    initialise(&network, &mut store, 0, |_| true);
    let images: Vec<f32> = (0..batch * 3 * 224 * 224).map(|i| ((i * 7919 % 1013) as f32 / 506.5) - 1.0).collect();
    let labels: Vec<usize> = (0..batch).map(|i| i % 2).collect();
    let rows: Vec<usize> = (0..batch).collect();
    let mut gradients = Gradients::new(&network, &plan);
    let settings = ParameterSettings { learning_rate_factor: 1.0, weight_decay: 0.0 };
    let mut optimizer = Optimizer::new(&network, &plan, Rule::Sgd { momentum: 0.9, nesterov: false }, |_| settings);
    for mode in [Mode::Train, Mode::Evaluate] {
        let request = CompileRequest::whole(&network, &plan, mode, batch);
        let mut program = engine.compile(&request).expect("memory suffices");
        let mut seconds = Vec::new();
        for round in 0..=ROUNDS {
            let begun = Instant::now();
            let draws = Draws { seed: 0, epoch: round as u64, rows: &rows };
            program.forward(&mut store, ParameterSet::Live, &[&images], batch, draws).expect("the shapes fit");
            if mode == Mode::Train {
                let mut logits = Vec::new();
                program.read(network.output(), &mut logits).expect("the logits are an output");
                let mut slope = vec![0.0; logits.len()];
                CrossEntropy::default().losses(&logits, &labels, batch as f64, &mut slope);
                program.backward(&store, ParameterSet::Live, &slope, &mut gradients, false).expect("the shapes fit");
                optimizer.step(&mut store, &gradients, 1e-4);
            }
            // The first round packs weights and touches memory.
            if round > 0 {
                seconds.push(begun.elapsed().as_secs_f64());
            }
        }
        seconds.sort_by(f64::total_cmp);
        println!(
            "{name}, batch {batch}, {}: {} {:.1} images/s (best {:.1}), {:.0} MiB",
            engine.description(),
            if mode == Mode::Train { format!("training step ({unfreeze})") } else { "forward".into() },
            batch as f64 / seconds[ROUNDS / 2],
            batch as f64 / seconds[0],
            program.memory_bytes() as f64 / f64::from(1 << 20),
        );
    }
}
