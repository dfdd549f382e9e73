//! After the first, a training step allocates nothing: forward, loss, backward and optimizer. A file, and so a process,
//! of its own: the allocator counts for all threads.

use roentgen_cpu::{CpuEngine, Isa};
use roentgen_nn::loss::CrossEntropy;
use roentgen_nn::optimizer::{Optimizer, ParameterSettings, Rule};
use roentgen_nn::{
    Arithmetic, CompileRequest, Draws, Engine, FreezePlan, FrozenBatchNorm, Gradients, Head, Mode, ParameterSet,
    ParameterStore, Precision, architecture, initialise,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const BATCH: usize = 4;

/// Allocations of the first step, and of three more.
fn allocations(name: &str, unfreeze: &str, arithmetic: Arithmetic, isa: Isa) -> (usize, usize) {
    let head = Head::Replaced { hidden: 20, dropout: 0.5, classes: 2 };
    let network = architecture::build(name, 64, head).unwrap();
    let plan = FreezePlan::resolve(&network, &[unfreeze, "head"], FrozenBatchNorm::Stored).unwrap();
    let engine = CpuEngine::with_isa(2, isa).unwrap();
    let mut store = ParameterStore::new(&network);
    initialise(&network, &mut store, 0, |_| true);
    store.start_average();
    let request = CompileRequest { arithmetic, ..CompileRequest::whole(&network, &plan, Mode::Train, BATCH) };
    let mut program = engine.compile(&request).unwrap();
    let mut gradients = Gradients::new(&network, &plan);
    let settings = ParameterSettings { learning_rate_factor: 1.0, weight_decay: 1e-4 };
    let mut optimizer = Optimizer::new(&network, &plan, Rule::Sgd { momentum: 0.9, nesterov: false }, |_| settings);
    let images = vec![0.3; BATCH * 3 * 64 * 64];
    let (labels, rows) = ([0, 1, 1, 0], [5, 6, 7, 8]);
    let (mut logits, mut losses, mut slope) = (Vec::new(), Vec::new(), vec![0.0; 2 * BATCH]);
    let mut step = |epoch: u64| {
        let draws = Draws { seed: 1, epoch, rows: &rows };
        program.forward(&mut store, ParameterSet::Live, &[&images], BATCH, draws).unwrap();
        program.read(network.output(), &mut logits).unwrap();
        CrossEntropy::default().losses(&logits, &labels, BATCH as f64, &mut slope, &mut losses);
        program.backward(&store, ParameterSet::Live, &slope, &mut gradients, false).unwrap();
        gradients.clip_norm(&engine, 1.0);
        optimizer.step(&engine, &mut store, &gradients, 1e-4);
        store.average(&engine, &plan, 0.9);
    };
    let first = Region::new(ALLOCATOR);
    step(1);
    let first = first.change();
    let later = Region::new(ALLOCATOR);
    (2..5).for_each(&mut step);
    let later = later.change();
    (first.allocations + first.reallocations, later.allocations + later.reallocations)
}

#[test]
fn only_the_first_step_allocates() {
    let bf16 = Arithmetic { precision: Precision::Bf16, exact: false };
    let exact = Arithmetic { precision: Precision::F32, exact: true };
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available() && *isa != Isa::Scalar) {
        for (name, unfreeze) in [("resnet18", "all"), ("resnet18", "layer4"), ("vgg11_bn", "all")] {
            for arithmetic in [Arithmetic::default(), bf16, exact] {
                let (first, later) = allocations(name, unfreeze, arithmetic, isa);
                assert!(first > 0, "the first step allocates scratch memory, or nothing was counted");
                assert_eq!(later, 0, "{name}, {unfreeze}, {arithmetic:?}, {}: allocations later on", isa.name());
            }
        }
    }
}
