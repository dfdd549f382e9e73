//! Mixed precision against f32: logits, gradients, and the losses of ten steps.

use roentgen_cpu::CpuEngine;
use roentgen_nn::loss::CrossEntropy;
use roentgen_nn::optimizer::{Optimizer, ParameterSettings, Rule};
use roentgen_nn::{
    Arithmetic, CompileRequest, Draws, Engine, FreezePlan, FrozenBatchNorm, Gradients, Head, Mode, Network,
    ParameterSet, ParameterStore, Precision, TensorKind, architecture, initialise,
};

const BATCH: usize = 8;
const SIZE: usize = 112;
const LIVE: ParameterSet = ParameterSet::Live;

fn network() -> Network {
    architecture::build("resnet18", SIZE, Head::Replaced { hidden: 20, dropout: 0.0, classes: 2 }).unwrap()
}

fn store(network: &Network) -> ParameterStore {
    let mut store = ParameterStore::new(network);
    initialise(network, &mut store, 3, |_| true);
    store
}

/// Two kinds of images, which a network can tell apart: waves of different lengths, with noise.
fn images() -> (Vec<f32>, Vec<usize>) {
    let labels: Vec<usize> = (0..BATCH).map(|i| i % 2).collect();
    let mut images = Vec::with_capacity(BATCH * 3 * SIZE * SIZE);
    for (image, label) in labels.iter().enumerate() {
        for at in 0..3 * SIZE * SIZE {
            let column = (at % SIZE) as f32;
            let noise = ((at * 7919 + image * 104_729) % 1013) as f32 / 1013.0 - 0.5;
            images.push((column * if *label == 0 { 0.2 } else { 0.35 }).sin() + noise);
        }
    }
    (images, labels)
}

/// The least cosine between a gradient and that of f32.
///
/// Rounded activations put some values to the other side of a ReLU, whose part of the gradient then appears or is gone:
/// a share s of them turns the gradient by about the root of s, layer by layer. PyTorch 2.15 under `torch.autocast` in
/// bf16 has 0.87 to 0.89 at its worst tensor, near the image, and 0.99 at the last convolution of this network with these
/// images, from random starts of its own (`reference/mixed_precision_gradients.py`).
const LEAST_COSINE: f64 = 0.84;
/// The same, for the linear layers, which are computed in f32.
const LEAST_COSINE_OF_HEAD: f64 = 0.98;

/// Kinds of mixed precision.
fn arithmetics() -> [(&'static str, Arithmetic); 2] {
    let mixed = Arithmetic { precision: Precision::Bf16, exact: false };
    // Without Winograd's algorithm every convolution has bf16 products.
    [("mixed", mixed), ("mixed, all convolutions in bf16", Arithmetic { exact: true, ..mixed })]
}

/// Losses of ten steps, and the gradients of the first, in the order of the trained tensors.
fn train(engine: &CpuEngine, network: &Network, arithmetic: Arithmetic) -> (Vec<f64>, Vec<Vec<f32>>) {
    let plan = FreezePlan::resolve(network, &["all"], FrozenBatchNorm::Stored).unwrap();
    let request = CompileRequest { arithmetic, ..CompileRequest::whole(network, &plan, Mode::Train, BATCH) };
    let mut program = engine.compile(&request).unwrap();
    let mut store = store(network);
    let mut gradients = Gradients::new(network, &plan);
    let settings = ParameterSettings { learning_rate_factor: 1.0, weight_decay: 0.0 };
    let mut optimizer = Optimizer::new(network, &plan, Rule::Sgd { momentum: 0.9, nesterov: false }, |_| settings);
    let (images, labels) = images();
    let rows: Vec<usize> = (0..BATCH).collect();
    let (mut means, mut first) = (Vec::new(), Vec::new());
    for step in 0..10 {
        let draws = Draws { seed: 1, epoch: step, rows: &rows };
        program.forward(&mut store, LIVE, &[&images], BATCH, draws).unwrap();
        let (mut logits, mut losses, mut slope) = (Vec::new(), Vec::new(), vec![0.0; 2 * BATCH]);
        program.read(network.output(), &mut logits).unwrap();
        CrossEntropy::default().losses(&logits, &labels, BATCH as f64, &mut slope, &mut losses);
        means.push(losses.iter().sum::<f64>() / BATCH as f64);
        program.backward(&store, LIVE, &slope, &mut gradients, false).unwrap();
        if step == 0 {
            first = plan.trainable_tensors().map(|tensor| gradients.tensor(tensor).unwrap().to_vec()).collect();
        }
        optimizer.step(engine, &mut store, &gradients, 2e-4);
    }
    (means, first)
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[test]
fn logits_are_within_three_per_cent() {
    let network = network();
    let plan = FreezePlan::frozen(&network);
    let (images, _) = images();
    let rows: Vec<usize> = (0..BATCH).collect();
    let engine = CpuEngine::new(2).unwrap();
    let logits = |arithmetic| {
        let request = CompileRequest { arithmetic, ..CompileRequest::whole(&network, &plan, Mode::Evaluate, BATCH) };
        let mut program = engine.compile(&request).unwrap();
        let draws = Draws { seed: 1, epoch: 1, rows: &rows };
        program.forward(&mut store(&network), LIVE, &[&images], BATCH, draws).unwrap();
        let mut logits = Vec::new();
        program.read(network.output(), &mut logits).unwrap();
        logits
    };
    let expected = logits(Arithmetic::default());
    let largest = expected.iter().fold(0f32, |largest, logit| largest.max(logit.abs()));
    for (name, arithmetic) in arithmetics() {
        let found = logits(arithmetic);
        let error = found.iter().zip(&expected).fold(0f32, |error, (f, e)| error.max((f - e).abs()));
        assert!(error <= 0.03 * largest, "{name} on {}: {error} of {largest}", engine.description());
        assert!(error > 0.0, "{name} on {}: nothing was rounded", engine.description());
    }
}

#[test]
fn gradients_point_the_same_way_and_losses_fall_alike() {
    let network = network();
    let plan = FreezePlan::resolve(&network, &["all"], FrozenBatchNorm::Stored).unwrap();
    let engine = CpuEngine::new(2).unwrap();
    let (expected_losses, expected_gradients) = train(&engine, &network, Arithmetic::default());
    assert!(expected_losses[9] < 0.9 * expected_losses[0], "training lowers the loss: {expected_losses:?}");
    for (name, arithmetic) in arithmetics() {
        let what = format!("{name} on {}", engine.description());
        let (losses, gradients) = train(&engine, &network, arithmetic);
        for (step, (found, expected)) in losses.iter().zip(&expected_losses).enumerate() {
            assert!((found - expected).abs() <= 0.02 * expected, "{what}: loss {step} is {found}, not {expected}");
        }
        for (tensor, (found, expected)) in plan.trainable_tensors().zip(gradients.iter().zip(&expected_gradients)) {
            let spec = &network.tensors()[tensor];
            assert_ne!(spec.kind, TensorKind::Counter);
            let cosine = cosine(found, expected);
            let least = if spec.name.starts_with("fc") { LEAST_COSINE_OF_HEAD } else { LEAST_COSINE };
            assert!(cosine >= least, "{what}: gradient of {}: cosine {cosine}", spec.name);
        }
    }
}
