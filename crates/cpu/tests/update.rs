//! What a training step does beside its programs has the same bits whoever does it: clipping, update and average.

use roentgen_cpu::CpuEngine;
use roentgen_nn::optimizer::{Optimizer, ParameterSettings, Rule};
use roentgen_nn::{
    BLOCK, CallingThread, FreezePlan, FrozenBatchNorm, Gradients, Head, ParameterSet, ParameterStore, Workers,
    architecture, initialise,
};

/// The live and the averaged weights after three steps, and the norms of their gradients.
fn trained(workers: &dyn Workers, rule: Rule, clip_norm: f64) -> (Vec<f32>, Vec<u64>) {
    let head = Head::Replaced { hidden: 20, dropout: 0.5, classes: 3 };
    let network = architecture::build("resnet18", 32, head).unwrap();
    let plan = FreezePlan::resolve(&network, &["layer4", "head"], FrozenBatchNorm::Stored).unwrap();
    let mut store = ParameterStore::new(&network);
    initialise(&network, &mut store, 0, |_| true);
    store.start_average();
    let mut gradients = Gradients::new(&network, &plan);
    assert!(plan.trainable_tensors().any(|tensor| gradients.tensor(tensor).unwrap().len() > 8 * BLOCK));
    let settings = |name: &str| ParameterSettings {
        learning_rate_factor: if name.starts_with("fc") { 10.0 } else { 1.0 },
        weight_decay: 0.01,
    };
    let mut optimizer = Optimizer::new(&network, &plan, rule, settings);
    let mut norms = Vec::new();
    for step in 1..4u64 {
        for tensor in plan.trainable_tensors() {
            for (index, value) in gradients.tensor_mut(tensor).unwrap().iter_mut().enumerate() {
                let hash = (index as u64 + 1).wrapping_mul(step + tensor as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                *value = (hash >> 40) as f32 / (1 << 24) as f32 - 0.5;
            }
        }
        norms.push(gradients.clip_norm(workers, clip_norm).to_bits());
        optimizer.step(workers, &mut store, &gradients, 0.01);
        store.average(workers, &plan, 0.75);
    }
    let sets = [ParameterSet::Live, ParameterSet::Averaged];
    let tensors = sets.into_iter().flat_map(|set| plan.trainable_tensors().map(move |tensor| (set, tensor)));
    (tensors.flat_map(|(set, tensor)| store.tensor(set, tensor).to_vec()).collect(), norms)
}

#[test]
fn any_number_of_threads_gives_the_bits_of_one() {
    for rule in [
        Rule::Sgd { momentum: 0.0, nesterov: false },
        Rule::Sgd { momentum: 0.9, nesterov: true },
        Rule::AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 },
    ] {
        // The norm of so many numbers is some hundred: the first bound is never reached, the second always.
        for clip_norm in [1e6, 1.0] {
            let alone = trained(&CallingThread, rule, clip_norm);
            assert!(alone.0.iter().all(|value| value.is_finite()));
            for threads in [1, 2, 3] {
                let engine = CpuEngine::new(threads).unwrap();
                assert!(trained(&engine, rule, clip_norm) == alone, "{rule:?}, {threads} threads, {clip_norm}");
            }
        }
    }
}
