//! The engine seam: entries, taps, gradient taps, several programs on one store, smaller batches, and the promise about
//! bits.

use roentgen_cpu::{CpuEngine, Isa};
use roentgen_nn::loss::CrossEntropy;
use roentgen_nn::{
    Arithmetic, CompileRequest, Draws, Engine, EngineError, FreezePlan, FrozenBatchNorm, Gradients, Head, Mode,
    Network, ParameterSet, ParameterStore, Precision, Program, architecture, initialise,
};

const LIVE: ParameterSet = ParameterSet::Live;
const SIZE: usize = 32;

fn network(name: &str, dropout: f32) -> Network {
    architecture::build(name, SIZE, Head::Replaced { hidden: 20, dropout, classes: 3 }).unwrap()
}

/// A store whose batch norm statistics are not the defaults.
fn store(network: &Network) -> ParameterStore {
    let mut store = ParameterStore::new(network);
    initialise(network, &mut store, 7, |_| true);
    for index in 0..network.tensors().len() {
        let name = network.tensors()[index].name.clone();
        for (i, value) in store.tensor_mut(index).iter_mut().enumerate() {
            let wave = ((i * 37 % 101) as f32 / 101.0) - 0.5;
            if name.ends_with("running_mean") {
                *value = 0.2 * wave;
            } else if name.ends_with("running_var") {
                *value = 1.0 + wave;
            }
        }
    }
    store
}

fn images(count: usize) -> Vec<f32> {
    (0..count * 3 * SIZE * SIZE).map(|i| ((i * 7919 % 1013) as f32 / 506.5) - 1.0).collect()
}

fn rows(count: usize) -> Vec<usize> {
    (100..100 + count).collect()
}

fn draws(rows: &[usize]) -> Draws<'_> {
    Draws { seed: 3, epoch: 1, rows }
}

/// Both formats of memory.
fn precisions() -> [Arithmetic; 2] {
    [Precision::F32, Precision::Bf16].map(|precision| Arithmetic { precision, exact: false })
}

fn engine(threads: usize) -> CpuEngine {
    CpuEngine::new(threads).unwrap()
}

fn run(
    program: &mut dyn Program,
    store: &mut ParameterStore,
    network: &Network,
    images: &[f32],
    count: usize,
) -> Vec<f32> {
    program.forward(store, LIVE, &[images], count, draws(&rows(count))).unwrap();
    let mut logits = Vec::new();
    program.read(network.output(), &mut logits).unwrap();
    logits
}

#[test]
fn a_heat_map_reads_activation_and_gradient_of_a_frozen_layer() {
    let network = network("resnet18", 0.5);
    let plan = FreezePlan::frozen(&network);
    let layer = network.module_output("layer4").unwrap();
    let mut request = CompileRequest::whole(&network, &plan, Mode::Evaluate, 2);
    request.taps = vec![layer];
    request.gradient_taps = vec![layer];
    let mut program = engine(2).compile(&request).unwrap();
    let mut store = store(&network);
    let base = run(&mut *program, &mut store, &network, &images(2), 2);
    let mut activation = Vec::new();
    program.read(layer, &mut activation).unwrap();
    assert_eq!(activation.len(), 2 * 512);
    let mut nothing = Gradients::new(&network, &plan);
    program.backward(&store, LIVE, &[1.0, 0.0, 0.0, 1.0, 0.0, 0.0], &mut nothing, false).unwrap();
    let mut gradient = Vec::new();
    program.read_gradient(layer, &mut gradient).unwrap();
    assert!(nothing.flat().is_empty());

    // The head alone, entered at the tapped layer, gives the same logits and the same slope.
    let mut head = CompileRequest::whole(&network, &plan, Mode::Evaluate, 2);
    head.entries = vec![layer];
    let mut head = engine(1).compile(&head).unwrap();
    assert_eq!(run(&mut *head, &mut store, &network, &activation, 2), base);
    for index in [0, 3, 700, 1000] {
        let mut moved = activation.clone();
        moved[index] += 0.05;
        let up = run(&mut *head, &mut store, &network, &moved, 2);
        moved[index] -= 0.1;
        let down = run(&mut *head, &mut store, &network, &moved, 2);
        let image = index / 512;
        let slope = (up[image * 3] - down[image * 3]) / 0.1;
        assert!((slope - gradient[index]).abs() < 1e-3 + 0.02 * slope.abs(), "{index}: {slope} {}", gradient[index]);
    }
}

#[test]
fn two_programs_work_on_one_store() {
    let network = network("resnet18", 0.0);
    let plan = FreezePlan::resolve(&network, &["layer4", "head"], FrozenBatchNorm::Stored).unwrap();
    let engine = engine(2);
    let mut training = engine.compile(&CompileRequest::whole(&network, &plan, Mode::Train, 4)).unwrap();
    let mut evaluation = engine.compile(&CompileRequest::whole(&network, &plan, Mode::Evaluate, 4)).unwrap();
    let mut store = store(&network);
    let before = run(&mut *evaluation, &mut store, &network, &images(4), 4);
    let logits = run(&mut *training, &mut store, &network, &images(4), 4);
    let mut gradients = Gradients::new(&network, &plan);
    let mut slope = vec![0.0; logits.len()];
    CrossEntropy::default().losses(&logits, &[0, 1, 2, 0], 4.0, &mut slope, &mut Vec::new());
    training.backward(&store, LIVE, &slope, &mut gradients, false).unwrap();
    for tensor in plan.trainable_tensors() {
        let gradient = gradients.tensor(tensor).unwrap();
        for (value, g) in store.tensor_mut(tensor).iter_mut().zip(gradient) {
            *value -= 0.1 * g;
        }
    }
    let after = run(&mut *evaluation, &mut store, &network, &images(4), 4);
    assert_ne!(before, after, "evaluation sees what training has changed");
    let fresh = engine.compile(&CompileRequest::whole(&network, &plan, Mode::Evaluate, 4));
    assert_eq!(after, run(&mut *fresh.unwrap(), &mut store, &network, &images(4), 4), "and nothing stale");
}

#[test]
fn a_cut_inside_a_block_has_two_values_and_changes_no_bit() {
    let network = network("resnet18", 0.0);
    let plan = FreezePlan::frozen(&network);
    let engine = engine(2);
    let cut = ["layer4.0", "layer4.1.relu"].map(|name| network.module_output(name).unwrap()).to_vec();
    for arithmetic in precisions() {
        let request = CompileRequest { arithmetic, ..CompileRequest::whole(&network, &plan, Mode::Evaluate, 3) };
        let mut prefix = engine.compile(&CompileRequest { outputs: cut.clone(), ..request.clone() }).unwrap();
        let mut suffix = engine.compile(&CompileRequest { entries: cut.clone(), ..request.clone() }).unwrap();
        let mut whole = engine.compile(&request).unwrap();
        let mut store = store(&network);
        prefix.forward(&mut store, LIVE, &[&images(3)], 3, draws(&rows(3))).unwrap();
        let values: Vec<Vec<f32>> = cut
            .iter()
            .map(|id| {
                let mut value = Vec::new();
                prefix.read(*id, &mut value).unwrap();
                value
            })
            .collect();
        suffix.forward(&mut store, LIVE, &[&values[0], &values[1]], 3, draws(&rows(3))).unwrap();
        let mut logits = Vec::new();
        suffix.read(network.output(), &mut logits).unwrap();
        assert_eq!(logits, run(&mut *whole, &mut store, &network, &images(3), 3));
    }
}

#[test]
fn an_image_has_the_same_bits_in_any_batch_with_any_number_of_threads() {
    for name in ["resnet18", "vgg11_bn"] {
        let network = network(name, 0.5);
        let plan = FreezePlan::resolve(&network, &["head"], FrozenBatchNorm::Stored).unwrap();
        let modes = precisions().into_iter().flat_map(|a| [(a, Mode::Evaluate), (a, Mode::Train)]);
        for (arithmetic, mode) in modes {
            let request = CompileRequest { arithmetic, ..CompileRequest::whole(&network, &plan, mode, 5) };
            let mut store = store(&network);
            let all = run(&mut *engine(1).compile(&request).unwrap(), &mut store, &network, &images(5), 5);
            // Weights that are not laid out for passes to come change nothing.
            let mut once = engine(2).compile(&CompileRequest { single_pass: true, ..request.clone() }).unwrap();
            assert_eq!(run(&mut *once, &mut store, &network, &images(5), 5), all, "{name} {arithmetic:?} once");
            for threads in [2, 3] {
                let mut program = engine(threads).compile(&request).unwrap();
                assert_eq!(run(&mut *program, &mut store, &network, &images(5), 5), all, "{name} {threads} threads");
                // The last batch of an epoch is smaller: its images stand elsewhere in it.
                let images = images(5);
                let per_image = images.len() / 5;
                program.forward(&mut store, LIVE, &[&images[3 * per_image..]], 2, draws(&rows(5)[3..])).unwrap();
                let mut logits = Vec::new();
                program.read(network.output(), &mut logits).unwrap();
                assert_eq!(logits, all[3 * 3..], "{name} {arithmetic:?} {mode:?}");
            }
        }
    }
}

#[test]
fn micro_batches_give_the_gradients_of_the_batch_to_the_bit() {
    let cases = [("vgg11", vec!["features.6", "head"]), ("resnet18", vec!["head"])];
    for ((name, selectors), arithmetic) in cases.iter().flat_map(|case| precisions().map(|a| (case, a))) {
        let network = network(name, 0.5);
        let plan = FreezePlan::resolve(&network, selectors, FrozenBatchNorm::Stored).unwrap();
        let mut store = store(&network);
        let images = images(5);
        let per_image = images.len() / 5;
        let labels = [0, 1, 2, 2, 1];
        let mut gradients_with = |micro: usize, threads: usize| {
            let mut request = CompileRequest::whole(&network, &plan, Mode::Train, micro);
            request.micro_batches = micro < 5;
            request.arithmetic = arithmetic;
            let mut program = engine(threads).compile(&request).unwrap();
            let mut gradients = Gradients::new(&network, &plan);
            for start in (0..5).step_by(micro) {
                let end = (start + micro).min(5);
                let part = &images[start * per_image..end * per_image];
                program.forward(&mut store, LIVE, &[part], end - start, draws(&rows(5)[start..end])).unwrap();
                let mut logits = Vec::new();
                program.read(network.output(), &mut logits).unwrap();
                let mut slope = vec![0.0; logits.len()];
                CrossEntropy::default().losses(&logits, &labels[start..end], 5.0, &mut slope, &mut Vec::new());
                program.backward(&store, LIVE, &slope, &mut gradients, start > 0).unwrap();
            }
            gradients.flat().to_vec()
        };
        let whole = gradients_with(5, 2);
        assert!(whole.iter().any(|g| *g != 0.0) && whole.iter().all(|g| g.is_finite()));
        for micro in [1, 2, 3] {
            assert!(gradients_with(micro, 1) == whole, "{name}, {arithmetic:?}: micro-batches of {micro}");
        }
    }
}

/// What is fused goes through the same operations and roundings as what is not: who reads a value changes nothing.
#[test]
fn taps_change_no_bit_of_logits_and_gradients() {
    let network = network("resnet18", 0.5);
    let plan = FreezePlan::resolve(&network, &["layer2.0.conv1", "layer4.1.bn2"], FrozenBatchNorm::Stored).unwrap();
    let inner = ["layer1.0.bn2", "layer2.0.conv1", "layer2.0.downsample.0", "layer3.1.bn1", "layer4.0.bn2", "avgpool"];
    let inner = inner.map(|name| network.module_output(name).unwrap());
    for arithmetic in precisions() {
        let request = CompileRequest { arithmetic, ..CompileRequest::whole(&network, &plan, Mode::Train, 3) };
        let result_with = |request: &CompileRequest<'_>| {
            let mut program = engine(2).compile(request).unwrap();
            let mut store = store(&network);
            let mut result = run(&mut *program, &mut store, &network, &images(3), 3);
            let mut gradients = Gradients::new(&network, &plan);
            let slope: Vec<f32> = (0..9).map(|i| 0.1 * (i as f32 - 4.0)).collect();
            program.backward(&store, LIVE, &slope, &mut gradients, false).unwrap();
            result.extend(gradients.flat());
            (result, program.stages().len())
        };
        let (expected, stages) = result_with(&request);
        let taps = result_with(&CompileRequest { taps: inner.to_vec(), ..request.clone() });
        let gradient_taps = result_with(&CompileRequest { gradient_taps: inner[1..].to_vec(), ..request.clone() });
        for (found, more_stages) in [taps, gradient_taps] {
            assert!(more_stages > stages, "the taps keep operations apart");
            assert!(found == expected, "{arithmetic:?}");
        }
    }
}

#[test]
fn a_frozen_batch_norm_keeps_its_statistics_and_a_trained_one_moves() {
    let network = network("resnet18", 0.0);
    let plan = FreezePlan::resolve(&network, &["layer4", "head"], FrozenBatchNorm::Stored).unwrap();
    let mut program = engine(2).compile(&CompileRequest::whole(&network, &plan, Mode::Train, 4)).unwrap();
    let mut store = store(&network);
    let values = |store: &ParameterStore, name: &str| store.tensor(LIVE, store.index_of(name).unwrap()).to_vec();
    let names =
        ["bn1.running_mean", "layer3.1.bn2.running_var", "layer4.0.bn1.running_mean", "layer4.1.bn2.running_var"];
    let before = names.map(|name| values(&store, name));
    run(&mut *program, &mut store, &network, &images(4), 4);
    let after = names.map(|name| values(&store, name));
    assert_eq!(before[..2], after[..2]);
    assert!(before[2] != after[2] && before[3] != after[3]);
    assert_eq!(store.counter(store.index_of("layer4.0.bn1.num_batches_tracked").unwrap()), 1);
    assert_eq!(store.counter(store.index_of("bn1.num_batches_tracked").unwrap()), 0);
}

#[test]
fn every_trained_parameter_gets_a_gradient_and_training_lowers_the_loss() {
    for name in architecture::names() {
        let network = network(name, 0.0);
        let plan = FreezePlan::resolve(&network, &["all"], FrozenBatchNorm::Stored).unwrap();
        let mut program = engine(2).compile(&CompileRequest::whole(&network, &plan, Mode::Train, 4)).unwrap();
        let mut store = store(&network);
        let mut gradients = Gradients::new(&network, &plan);
        let labels = [0, 1, 2, 0];
        let mut losses = Vec::new();
        for _ in 0..2 {
            let logits = run(&mut *program, &mut store, &network, &images(4), 4);
            assert!(logits.iter().all(|z| z.is_finite()), "{name}");
            let mut slope = vec![0.0; logits.len()];
            let mut of_images = Vec::new();
            CrossEntropy::default().losses(&logits, &labels, 4.0, &mut slope, &mut of_images);
            let loss: f64 = of_images.iter().sum();
            losses.push(loss / 4.0);
            program.backward(&store, LIVE, &slope, &mut gradients, false).unwrap();
            let norm = gradients.flat().iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
            for tensor in plan.trainable_tensors() {
                let gradient = gradients.tensor(tensor).unwrap();
                let spec = &network.tensors()[tensor];
                assert!(gradient.iter().all(|g| g.is_finite()), "{name}: {}", spec.name);
                assert!(gradient.iter().any(|g| *g != 0.0), "{name}: no gradient reaches {}", spec.name);
                for (value, g) in store.tensor_mut(tensor).iter_mut().zip(gradient) {
                    *value -= (0.001 / norm as f32) * g;
                }
            }
        }
        assert!(losses[1] < losses[0], "{name}: {losses:?}");
    }
}

#[test]
fn small_and_large_images_give_the_logits_of_direct_convolutions() {
    for (size, count) in [(32, 3), (33, 1), (1000, 1)] {
        for name in ["resnet18", "vgg11"] {
            let head = Head::Replaced { hidden: 20, dropout: 0.0, classes: 3 };
            let network = architecture::build(name, size, head).unwrap();
            let plan = FreezePlan::frozen(&network);
            let mut store = store(&network);
            let images: Vec<f32> =
                (0..count * 3 * size * size).map(|i| ((i * 7919 % 1013) as f32 / 506.5) - 1.0).collect();
            let mut logits = |exact| {
                let mut request = CompileRequest::whole(&network, &plan, Mode::Evaluate, count);
                request.arithmetic.exact = exact;
                run(&mut *engine(2).compile(&request).unwrap(), &mut store, &network, &images, count)
            };
            let (found, expected) = (logits(false), logits(true));
            let largest = expected.iter().fold(0f32, |largest, logit| largest.max(logit.abs()));
            for (found, expected) in found.iter().zip(&expected) {
                assert!((found - expected).abs() <= 1e-4 * largest, "{name} at {size} px: {found}, {expected}");
            }
        }
    }
}

/// Backward goes through frozen layers, the head among them, whose inputs nobody keeps.
#[test]
fn any_part_can_be_trained_alone() {
    for (name, parts) in [
        ("resnet18", &["conv1", "layer1.1", "layer3", "layer4", "layer4.1.conv2", "bn1", "fc.0", "fc.3"][..]),
        ("vgg11", &["features.0", "features.8", "features.18", "classifier.0", "classifier.3"][..]),
        ("vgg11_bn", &["features.1", "features.11", "features.25"][..]),
    ] {
        let network = network(name, 0.5);
        let all = FreezePlan::resolve(&network, &["all"], FrozenBatchNorm::Stored).unwrap();
        let layer = network.module_output(if name == "resnet18" { "layer2" } else { "features.5" }).unwrap();
        for (part, tapped) in parts.iter().flat_map(|part| [(part, false), (part, true)]) {
            let plan = FreezePlan::resolve(&network, &[*part], FrozenBatchNorm::Stored).unwrap();
            // As everything trained, but for what is not this part's: the same gradients, to the bit.
            let gradients_of = |plan: &FreezePlan, arithmetic| {
                let mut request = CompileRequest::whole(&network, plan, Mode::Train, 3);
                request.arithmetic = arithmetic;
                if tapped {
                    request.gradient_taps = vec![layer];
                }
                let mut program = engine(2).compile(&request).unwrap();
                let mut store = store(&network);
                run(&mut *program, &mut store, &network, &images(3), 3);
                let mut gradients = Gradients::new(&network, plan);
                let slope: Vec<f32> = (0..9).map(|i| 0.1 * (i as f32 - 4.0)).collect();
                program.backward(&store, LIVE, &slope, &mut gradients, false).unwrap();
                gradients
            };
            for arithmetic in [Arithmetic::default(), Arithmetic { precision: Precision::Bf16, exact: false }] {
                let found = gradients_of(&plan, arithmetic);
                for tensor in plan.trainable_tensors() {
                    let gradient = found.tensor(tensor).unwrap();
                    assert!(gradient.iter().all(|value| value.is_finite()), "{name}, {part}");
                    assert!(gradient.iter().any(|value| *value != 0.0), "{name}, {part}: {tensor} has no gradient");
                }
                // Without batch norms, what else is trained changes nothing.
                if name == "vgg11" {
                    let expected = gradients_of(&all, arithmetic);
                    for tensor in plan.trainable_tensors() {
                        assert_eq!(found.tensor(tensor), expected.tensor(tensor), "{name}, {part}, {tensor}");
                    }
                }
            }
        }
    }
}

#[test]
fn calls_that_do_not_fit_are_errors() {
    let network = network("resnet18", 0.0);
    let plan = FreezePlan::resolve(&network, &["all"], FrozenBatchNorm::Stored).unwrap();
    let engine = engine(1);
    let mut program = engine.compile(&CompileRequest::whole(&network, &plan, Mode::Train, 2)).unwrap();
    let mut store = store(&network);
    let mut forward = |images: &[f32], batch| program.forward(&mut store, LIVE, &[images], batch, draws(&rows(batch)));
    assert!(matches!(forward(&images(3), 3), Err(EngineError::Batch { found: 3, largest: 2 })));
    assert!(matches!(forward(&images(1), 2), Err(EngineError::Length { .. })));
    // At 32 px the last maps are 1 x 1: a batch of one gives a batch norm one value a channel.
    assert!(matches!(forward(&images(1), 1), Err(EngineError::OneValuePerChannel { .. })));
    let mut slope = vec![0.1; 2 * 3];
    program.forward(&mut store, LIVE, &[&images(2)], 2, draws(&rows(2))).unwrap();
    let mut gradients = Gradients::new(&network, &plan);
    let unprepared = program.backward(&store, LIVE, &slope, &mut gradients, true);
    assert!(matches!(unprepared, Err(EngineError::NoMicroBatches)), "{unprepared:?}");
    let mut request = CompileRequest::whole(&network, &plan, Mode::Train, 2);
    request.micro_batches = true;
    let mut program = engine.compile(&request).unwrap();
    program.forward(&mut store, LIVE, &[&images(2)], 2, draws(&rows(2))).unwrap();
    let cut = program.backward(&store, LIVE, &slope, &mut gradients, true);
    assert!(matches!(cut, Err(EngineError::CutBatch { .. })), "{cut:?}");
    slope.pop();
    let short = program.backward(&store, LIVE, &slope, &mut gradients, false);
    assert!(matches!(short, Err(EngineError::Length { .. })), "{short:?}");
    let mut request = CompileRequest::whole(&network, &plan, Mode::Train, 64);
    request.memory_limit_bytes = Some(10 << 20);
    let error = engine.compile(&request).err().unwrap().to_string();
    assert!(error.contains("limit of 10 MiB") && error.contains("batch of 64"), "{error}");
    let mut logits = Vec::new();
    assert!(matches!(program.read(network.input(), &mut logits), Err(EngineError::TapOutside { .. })));
}

#[test]
fn instruction_sets_agree() {
    let network = network("resnet18", 0.0);
    let plan = FreezePlan::frozen(&network);
    let request = CompileRequest::whole(&network, &plan, Mode::Evaluate, 2);
    let mut store = store(&network);
    let mut logits = Vec::new();
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
        let engine = CpuEngine::with_isa(2, isa).unwrap();
        assert_eq!(engine.description(), isa.name());
        logits.push(run(&mut *engine.compile(&request).unwrap(), &mut store, &network, &images(2), 2));
    }
    let largest = logits[0].iter().fold(0f32, |a, b| a.max(b.abs()));
    for other in &logits[1..] {
        for (a, b) in logits[0].iter().zip(other) {
            assert!((a - b).abs() < 1e-4 * largest, "{a} {b}");
        }
    }
}
