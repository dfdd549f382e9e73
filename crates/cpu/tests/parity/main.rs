//! Parity with PyTorch: logits, gradients, losses of training runs, batch norm statistics, and explanations.
//!
//! The expected numbers are PyTorch's in float64, written by `reference/parity_fixtures.py`. Both sides fill networks
//! and images from one generator. Every test collects all differences before it fails.

mod fixture;
mod generator;

use fixture::{
    CrossEntropyExamples, HeatMap, Logits, Optimiser, ParameterGradients, RelativeTo, Setting, Tolerance, Training,
};
use roentgen_cpu::CpuEngine;
use roentgen_nn::loss::CrossEntropy;
use roentgen_nn::network::TensorKind;
use roentgen_nn::optimizer::{Optimizer, ParameterSettings, Rule};
use roentgen_nn::{
    CompileRequest, Draws, Engine, FreezePlan, FrozenBatchNorm, Gradients, Head, Mode, Network, ParameterSet,
    ParameterStore, Program, architecture,
};

/// Relative to the largest logit of the batch.
const LOGIT_TOLERANCE: f64 = 1e-4;
/// Relative to the loss, or to 0.01 where it is smaller.
const LOSS_TOLERANCE: f64 = 1e-3;
const GRADIENT_TOLERANCE: Tolerance = Tolerance { whole: 1e-3, element: 1e-3, relative_to: RelativeTo::Layer };
const VALUE_TOLERANCE: Tolerance = Tolerance { whole: 1e-4, element: 1e-4, relative_to: RelativeTo::Tensor };
const STATISTICS_TOLERANCE: Tolerance = Tolerance { whole: 1e-3, element: 1e-3, relative_to: RelativeTo::Tensor };
/// Of what ten steps changed. `reference/parity_fixtures.py` says why single elements may be further off.
const CHANGE_TOLERANCE: Tolerance = Tolerance { whole: 2e-2, element: 1e-1, relative_to: RelativeTo::Layer };

fn engine() -> CpuEngine {
    CpuEngine::new(2).expect("two threads")
}

fn network(setting: &Setting) -> Network {
    let head = if setting.stock_head {
        Head::Stock { classes: 1000 }
    } else {
        Head::Replaced { hidden: 380, dropout: 0.0, classes: 2 }
    };
    architecture::build(&setting.arch, setting.image_size, head).expect("fixtures name known architectures")
}

fn plan(network: &Network, unfreeze: &str, frozen_batch_norm: &str) -> FreezePlan {
    let frozen = match frozen_batch_norm {
        "eval" => FrozenBatchNorm::Stored,
        "train" => FrozenBatchNorm::Batch,
        other => panic!("frozen batch norms in mode `{other}`, expected `eval` or `train`"),
    };
    let selectors: Vec<&str> = unfreeze.split(',').collect();
    FreezePlan::resolve(network, &selectors, frozen).expect("fixtures name known modules")
}

fn forward(program: &mut dyn Program, store: &mut ParameterStore, key: &str, setting: &Setting) {
    let images = generator::images(key, setting.batch_size, setting.image_size);
    let rows: Vec<usize> = (0..setting.batch_size).collect();
    let draws = Draws { seed: 0, epoch: 1, rows: &rows };
    program.forward(store, ParameterSet::Live, &[&images], setting.batch_size, draws).expect("a batch that fits");
}

/// How much further than with direct convolutions ten training steps with Winograd's may stray: each step multiplies
/// the difference of the last, and batch norms over a few values most of all.
const TEN_STEP_SLACK: f64 = 5.0;

/// Forward, loss and backward in training mode. Returns the mean loss.
fn loss_and_gradients(
    program: &mut dyn Program,
    store: &mut ParameterStore,
    network: &Network,
    (key, labels, setting): (&str, &[usize], &Setting),
    gradients: &mut Gradients,
) -> f64 {
    forward(program, store, key, setting);
    let mut logits = Vec::new();
    program.read(network.output(), &mut logits).expect("the logits are the output");
    let loss = CrossEntropy::default();
    let total = loss.total_weight(labels);
    let mut logit_gradient = vec![0.0; logits.len()];
    let mut losses = Vec::new();
    loss.losses(&logits, labels, total, &mut logit_gradient, &mut losses);
    program.backward(store, ParameterSet::Live, &logit_gradient, gradients, false).expect("a training program");
    losses.iter().sum::<f64>() / total
}

fn loss_difference(what: &str, found: f64, expected: f64, slack: f64) -> Option<String> {
    let allowed = slack * LOSS_TOLERANCE * expected.abs().max(0.01);
    let close = (found - expected).abs() <= allowed;
    (!close).then(|| format!("{what}: {found}, expected {expected}, allowed {allowed:e}"))
}

fn assert_none(differences: &[String]) {
    let shown: Vec<&str> = differences.iter().take(40).map(String::as_str).collect();
    assert!(differences.is_empty(), "{} differences from PyTorch:\n{}", differences.len(), shown.join("\n"));
}

/// Each fixture twice: with direct convolutions, and with what the table of algorithms says.
fn in_both_modes<T: Clone>(fixtures: Vec<(String, T)>) -> impl Iterator<Item = (String, T, bool)> {
    let named = |name: &str, exact| if exact { format!("{name}, exact") } else { name.to_owned() };
    fixtures
        .into_iter()
        .flat_map(move |(name, fixture)| [true, false].map(|exact| (named(&name, exact), fixture.clone(), exact)))
}

/// Prefixes differences with the fixture they belong to.
fn of(fixture: &str, differences: Vec<String>) -> Vec<String> {
    differences.into_iter().map(|difference| format!("{fixture}: {difference}")).collect()
}

#[test]
fn logits() {
    let engine = engine();
    let mut differences = Vec::new();
    for (name, fixture, exact) in in_both_modes(fixture::read_all::<Logits>("logits_")) {
        let network = network(&fixture.setting);
        let plan = FreezePlan::frozen(&network);
        let mut request = CompileRequest::whole(&network, &plan, Mode::Evaluate, fixture.setting.batch_size);
        request.arithmetic.exact = exact;
        let mut program = engine.compile(&request).expect("a network from image to logits");
        let mut store = generator::filled_store(&network);
        forward(program.as_mut(), &mut store, "images", &fixture.setting);
        let mut found = Vec::new();
        program.read(network.output(), &mut found).expect("the logits are the output");

        let stored = if fixture.setting.stock_head { &fixture.first_logits } else { &fixture.logits };
        assert_eq!(stored.len(), fixture.setting.batch_size, "{name}: one row an image");
        let scale = stored.iter().flatten().fold(0.0f64, |largest, logit| largest.max(logit.abs()));
        for (image, (row, expected)) in found.chunks_exact(network.classes()).zip(stored).enumerate() {
            for (class, (&found, &expected)) in row.iter().zip(expected).enumerate() {
                let close = (f64::from(found) - expected).abs() <= LOGIT_TOLERANCE * scale;
                if !close {
                    differences.push(format!("{name}: image {image}, class {class}: {found}, expected {expected}"));
                }
            }
        }
        let wrong = fixture::differences(&fixture.tensors, VALUE_TOLERANCE, |_| Some(found.clone()));
        differences.extend(of(&name, wrong));
    }
    assert_none(&differences);
}

#[test]
fn parameter_gradients() {
    let engine = engine();
    let mut differences = Vec::new();
    for (name, fixture, exact) in in_both_modes(fixture::read_all::<ParameterGradients>("gradients_")) {
        let network = network(&fixture.setting);
        let plan = plan(&network, &fixture.unfreeze, &fixture.frozen_batch_norm);
        let mut request = CompileRequest::whole(&network, &plan, Mode::Train, fixture.setting.batch_size);
        request.arithmetic.exact = exact;
        let mut program = engine.compile(&request).expect("a network from image to logits");
        let mut store = generator::filled_store(&network);
        let mut gradients = Gradients::new(&network, &plan);
        let batch = (&fixture.images[..], &fixture.labels[..], &fixture.setting);
        let loss = loss_and_gradients(program.as_mut(), &mut store, &network, batch, &mut gradients);

        assert_eq!(plan.trainable_tensors().count(), fixture.tensors.len(), "{name}: the same parameters are trained");
        let mut wrong: Vec<String> = loss_difference("loss", loss, fixture.loss, 1.0).into_iter().collect();
        wrong.extend(fixture::differences(&fixture.tensors, GRADIENT_TOLERANCE, |tensor| {
            gradients.tensor(store.index_of(tensor)?).map(<[f32]>::to_vec)
        }));
        differences.extend(of(&name, wrong));
    }
    assert_none(&differences);
}

#[test]
fn gradients_of_values_on_a_frozen_network() {
    let engine = engine();
    let mut differences = Vec::new();
    for (name, fixture) in fixture::read_all::<HeatMap>("heat_map_") {
        let network = network(&fixture.setting);
        let plan = FreezePlan::frozen(&network);
        let value = |tap: &str| match tap {
            "images" => network.input(),
            module => network.module_output(module).expect("fixtures name known modules"),
        };
        let taps: Vec<_> = fixture.taps.iter().map(|tap| value(tap)).collect();
        let mut request = CompileRequest::whole(&network, &plan, Mode::Evaluate, fixture.setting.batch_size);
        request.taps = taps.clone();
        request.gradient_taps = taps;
        request.gradient_taps.push(network.input());
        let mut program = engine.compile(&request).expect("taps between image and logits");
        let mut store = generator::filled_store(&network);
        forward(program.as_mut(), &mut store, "images", &fixture.setting);
        let mut class_0 = vec![0.0; fixture.setting.batch_size * network.classes()];
        class_0.iter_mut().step_by(network.classes()).for_each(|gradient| *gradient = 1.0);
        let mut no_parameters = Gradients::new(&network, &plan);
        program
            .backward(&store, ParameterSet::Live, &class_0, &mut no_parameters, false)
            .expect("a program with gradient taps");

        assert_eq!(fixture.tensors.len(), 2 * fixture.taps.len() + 1, "{name}: the taps twice and the images");
        let wrong = fixture::differences(&fixture.tensors, VALUE_TOLERANCE, |tensor| {
            let (tap, what) = tensor.split_once('/')?;
            let mut found = Vec::new();
            match what {
                "activation" => program.read(value(tap), &mut found).ok()?,
                _ => program.read_gradient(value(tap), &mut found).ok()?,
            }
            Some(found)
        });
        differences.extend(of(&name, wrong));
    }
    assert_none(&differences);
}

#[test]
fn ten_training_steps_of_resnet18() {
    training("train_resnet18_");
}

#[test]
fn ten_training_steps_of_vgg16() {
    training("train_vgg16_");
}

#[test]
fn ten_training_steps_of_vgg11_bn() {
    training("train_vgg11_bn_");
}

fn training(prefix: &str) {
    let engine = engine();
    let mut differences = Vec::new();
    for (name, fixture, exact) in in_both_modes(fixture::read_all::<Training>(prefix)) {
        let slack = if exact { 1.0 } else { TEN_STEP_SLACK };
        differences.extend(of(&name, training_differences(&engine, &fixture, exact, slack)));
    }
    assert_none(&differences);
}

fn training_differences(engine: &CpuEngine, fixture: &Training, exact: bool, slack: f64) -> Vec<String> {
    let network = network(&fixture.setting);
    let plan = plan(&network, &fixture.unfreeze, &fixture.frozen_batch_norm);
    let mut request = CompileRequest::whole(&network, &plan, Mode::Train, fixture.setting.batch_size);
    request.arithmetic.exact = exact;
    let mut program = engine.compile(&request).expect("a network from image to logits");
    let mut store = generator::filled_store(&network);
    let mut gradients = Gradients::new(&network, &plan);
    let (rule, learning_rate, weight_decay) = match fixture.optimiser {
        Optimiser::Sgd { lr, momentum, weight_decay, nesterov } => (Rule::Sgd { momentum, nesterov }, lr, weight_decay),
        Optimiser::AdamW { lr, betas: [beta1, beta2], eps, weight_decay } => {
            (Rule::AdamW { beta1, beta2, epsilon: eps }, lr, weight_decay)
        }
    };
    let settings = ParameterSettings { learning_rate_factor: 1.0, weight_decay };
    let mut optimizer = Optimizer::new(&network, &plan, rule, |_| settings);

    let mut differences = Vec::new();
    for (step, (labels, &expected)) in fixture.labels.iter().zip(&fixture.losses).enumerate() {
        let key = format!("images/{step}");
        let batch = (&key[..], &labels[..], &fixture.setting);
        let loss = loss_and_gradients(program.as_mut(), &mut store, &network, batch, &mut gradients);
        optimizer.step(engine, &mut store, &gradients, learning_rate);
        differences.extend(loss_difference(&format!("loss of step {}", step + 1), loss, expected, slack));
    }

    differences.extend(fixture::differences(&fixture.change, CHANGE_TOLERANCE.times(slack), |name| {
        let index = store.index_of(name)?;
        let before = generator::tensor(&network, &network.tensors()[index]);
        let after = store.tensor(ParameterSet::Live, index);
        Some(after.iter().zip(before).map(|(after, before)| after - before).collect())
    }));
    differences.extend(fixture::differences(&fixture.statistics, STATISTICS_TOLERANCE.times(slack), |name| {
        Some(store.tensor(ParameterSet::Live, store.index_of(name)?).to_vec())
    }));
    // Whatever PyTorch's run did not change must have kept its very bits.
    for (index, spec) in network.tensors().iter().enumerate() {
        let changed = fixture.change.contains_key(&spec.name) || fixture.statistics.contains_key(&spec.name);
        if spec.kind == TensorKind::Counter {
            let expected = fixture.num_batches_tracked.get(&spec.name).copied().unwrap_or(0);
            if store.counter(index) != expected {
                differences.push(format!("{}: {}, expected {expected}", spec.name, store.counter(index)));
            }
        } else if !changed && store.tensor(ParameterSet::Live, index) != generator::tensor(&network, spec) {
            differences.push(format!("{} is frozen, and has changed", spec.name));
        }
    }
    differences
}

#[test]
fn cross_entropy() {
    for (name, fixture) in fixture::read_all::<CrossEntropyExamples>("cross_entropy") {
        for (number, example) in fixture.examples.into_iter().enumerate() {
            let logits = example.logits.concat();
            let loss = CrossEntropy { class_weights: example.class_weights, ..CrossEntropy::default() };
            let total = loss.total_weight(&example.labels);
            let mut gradient = vec![0.0; logits.len()];
            let mut losses = Vec::new();
            loss.losses(&logits, &example.labels, total, &mut gradient, &mut losses);
            let mean = losses.iter().sum::<f64>() / total;
            // Nine digits are stored; the gradient is rounded to f32.
            let close = (mean - example.loss).abs() <= 1e-8 * example.loss.abs().max(0.01);
            assert!(close, "{name}, example {number}: loss {mean}, expected {}", example.loss);
            for (found, expected) in gradient.iter().zip(example.gradient.concat()) {
                let close = (f64::from(*found) - expected).abs() <= 1e-7 * expected.abs().max(1e-6);
                assert!(close, "{name}, example {number}: gradient {found}, expected {expected}");
            }
        }
    }
}
