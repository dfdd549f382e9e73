//! From a network to stages: which values are computed, and which operations run as one.
//!
//! A stage is what one pass over the data does: a convolution with its bias and ReLU, or a batch norm with the residual
//! addition and the ReLU behind it, or (where the batch norm need not wait for the whole batch) all of these. Fused or
//! not, each element goes through the same f32 operations and the same roundings in the same order, so a tap, which keeps
//! operations apart, changes no bit.

use roentgen_nn::{BatchNormMode, CompileRequest, EngineError, Mode, Network, Op, Precision, ValueId};

/// What a stage does to its inputs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    /// Convolution `layer` with its bias. Where `normalise` names a batch norm, which goes by its running statistics
    /// and is not trained, that follows, and with two inputs the second is added behind it.
    Convolution {
        layer: ValueId,
        normalise: Option<ValueId>,
    },
    /// Batch norm `layer`; with two inputs, the second is added behind it.
    BatchNorm {
        layer: ValueId,
    },
    /// Linear `layer` with its bias.
    Linear {
        layer: ValueId,
    },
    /// Sum of two values.
    Add,
    /// Nothing but the ReLU.
    Relu,
    MaxPool {
        kernel: usize,
        stride: usize,
        padding: usize,
    },
    AveragePool,
    Flatten,
    /// A random mask, drawn for `layer`.
    Dropout {
        layer: ValueId,
        probability: f32,
    },
}

/// One pass over the data. Inputs and output are values that have storage.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Stage {
    pub(crate) kind: Kind,
    pub(crate) inputs: Vec<ValueId>,
    pub(crate) output: ValueId,
    /// Whether a ReLU ends it.
    pub(crate) relu: bool,
}

/// The stages of a request, in order, and which values share storage.
pub(crate) struct Schedule {
    pub(crate) stages: Vec<Stage>,
    /// For each value, the value whose storage it has: itself, or what an operation without effect (dropout in
    /// evaluation, flattening a vector) passes on.
    storage: Vec<ValueId>,
}

impl Schedule {
    pub(crate) fn new(request: &CompileRequest<'_>) -> Result<Schedule, EngineError> {
        let computed = computed(request)?;
        let network = request.network;
        let mut storage: Vec<ValueId> = network.ids().collect();
        for id in network.ids().filter(|id| computed[id.index()]) {
            if passes_on(request, id) {
                storage[id.index()] = storage[network.value(id).inputs[0].index()];
            }
        }
        let mut stages = fuse(request, &computed, &storage);
        stages.sort_by_key(|stage| stage.output);
        Ok(Schedule { stages, storage })
    }

    /// The value that holds what `id` names.
    pub(crate) fn storage(&self, id: ValueId) -> ValueId {
        self.storage[id.index()]
    }
}

/// Whether an operation hands its input on unchanged.
fn passes_on(request: &CompileRequest<'_>, id: ValueId) -> bool {
    let value = request.network.value(id);
    match value.op {
        Op::Dropout { probability } => request.mode == Mode::Evaluate || probability == 0.0,
        // In mixed precision a flattening brings features to f32.
        Op::Flatten => {
            request.arithmetic.precision == Precision::F32
                && request.network.value(value.inputs[0]).shape == value.shape
        }
        _ => false,
    }
}

/// Marks what has to be computed: everything between the entries and what the caller wants to read.
fn computed(request: &CompileRequest<'_>) -> Result<Vec<bool>, EngineError> {
    let network = request.network;
    let mut computed = vec![false; network.values().len()];
    let wanted = request.outputs.iter().chain(&request.taps).chain(&request.gradient_taps);
    let mut open: Vec<ValueId> = wanted.copied().collect();
    while let Some(id) = open.pop() {
        if computed[id.index()] || request.entries.contains(&id) {
            continue;
        }
        if id == network.input() {
            let entries: Vec<&str> = request.entries.iter().map(|e| network.value(*e).name.as_str()).collect();
            let user = needs_the_image(request);
            return Err(EngineError::NotACut { needed: user, entries: entries.join(", ") });
        }
        computed[id.index()] = true;
        open.extend(&network.value(id).inputs);
    }
    Ok(computed)
}

/// Name of the output or tap that leads back to the image past the entries.
fn needs_the_image(request: &CompileRequest<'_>) -> String {
    let network = request.network;
    let mut reaches: Vec<bool> = vec![false; network.values().len()];
    for id in network.ids() {
        let from_image = id == network.input() || network.value(id).inputs.iter().any(|i| reaches[i.index()]);
        reaches[id.index()] = from_image && !request.entries.contains(&id);
    }
    let wanted = request.outputs.iter().chain(&request.taps).chain(&request.gradient_taps);
    wanted.filter(|id| reaches[id.index()]).map(|id| network.value(*id).name.clone()).next().unwrap_or_default()
}

fn fuse(request: &CompileRequest<'_>, computed: &[bool], storage: &[ValueId]) -> Vec<Stage> {
    let network = request.network;
    let mut consumers: Vec<Vec<ValueId>> = vec![Vec::new(); network.values().len()];
    for id in network.ids().filter(|id| computed[id.index()]) {
        for input in &network.value(id).inputs {
            consumers[input.index()].push(id);
        }
    }
    let read_by_caller =
        |id: ValueId| [&request.outputs, &request.taps, &request.gradient_taps].iter().any(|ids| ids.contains(&id));
    // What alone follows a value that nobody else looks at.
    let next = |id: ValueId| match consumers[id.index()][..] {
        [consumer] if !read_by_caller(id) => Some(consumer),
        _ => None,
    };
    let is_relu = |id: ValueId| network.value(id).op == Op::Relu;
    let mut fused = vec![false; network.values().len()];
    let mut stages = Vec::new();
    for id in network.ids().filter(|id| computed[id.index()]) {
        if fused[id.index()] || passes_on(request, id) {
            continue;
        }
        let value = network.value(id);
        let mut inputs: Vec<ValueId> = value.inputs.clone();
        let mut output = id;
        let kind = match value.op {
            Op::Input => unreachable!("the image is an entry or not computed"),
            Op::Conv2d { bias, .. } => {
                let normalise = next(id).filter(|&c| !bias && is_settled(request, c));
                if let Some(batch_norm) = normalise {
                    fused[batch_norm.index()] = true;
                    output = batch_norm;
                    if let Some(add) = next(output).filter(|&c| is_add_behind(network, c, output, &inputs)) {
                        inputs.push(network.value(add).inputs[1]);
                        output = add;
                    }
                }
                Kind::Convolution { layer: id, normalise }
            }
            Op::Linear { .. } => Kind::Linear { layer: id },
            Op::BatchNorm2d { .. } => {
                if let Some(add) = next(id).filter(|&c| is_add_behind(network, c, id, &inputs)) {
                    inputs.push(network.value(add).inputs[1]);
                    output = add;
                }
                Kind::BatchNorm { layer: id }
            }
            Op::Add => Kind::Add,
            Op::Relu => Kind::Relu,
            Op::MaxPool2d { kernel, stride, padding } => Kind::MaxPool { kernel, stride, padding },
            Op::AdaptiveAvgPool2d { .. } => Kind::AveragePool,
            Op::Flatten => Kind::Flatten,
            Op::Dropout { probability } => Kind::Dropout { layer: id, probability },
        };
        let takes_relu =
            matches!(kind, Kind::Convolution { .. } | Kind::Linear { .. } | Kind::BatchNorm { .. } | Kind::Add);
        if let Some(relu) = next(output).filter(|&c| takes_relu && is_relu(c)) {
            fused[output.index()] = true;
            output = relu;
        }
        fused[output.index()] = true;
        let inputs = inputs.iter().map(|input| storage[input.index()]).collect();
        let relu = kind == Kind::Relu || output != id && is_relu(output);
        stages.push(Stage { kind, inputs, output, relu });
    }
    stages
}

/// Whether a value is that of a batch norm whose scale and shift are known before the pass and stay as they are:
/// backward then never looks at its input.
fn is_settled(request: &CompileRequest<'_>, id: ValueId) -> bool {
    let network = request.network;
    if !matches!(network.value(id).op, Op::BatchNorm2d { .. }) {
        return false;
    }
    let trained = |part| network.tensor_of(id, part).is_some_and(|tensor| request.plan.trainable(tensor));
    match request.mode {
        Mode::Evaluate => true,
        Mode::Train => {
            request.plan.batch_norm(id) == Some(BatchNormMode::Stored) && !trained("weight") && !trained("bias")
        }
    }
}

/// Whether `add` is a sum whose first summand, the main branch, is `main`, and whose second is another value and none
/// of those that the stage is `made_of`.
fn is_add_behind(network: &Network, add: ValueId, main: ValueId, made_of: &[ValueId]) -> bool {
    let value = network.value(add);
    // A summand that the main branch is made of would have two writers of its gradient in one stage.
    value.op == Op::Add && value.inputs[0] == main && value.inputs[1] != main && !made_of.contains(&value.inputs[1])
}

#[cfg(test)]
mod tests {
    use super::*;
    use roentgen_nn::{FreezePlan, FrozenBatchNorm, Head, architecture};

    fn network(name: &str) -> Network {
        architecture::build(name, 64, Head::Replaced { hidden: 380, dropout: 0.5, classes: 2 }).unwrap()
    }

    fn outputs(network: &Network, schedule: &Schedule) -> Vec<String> {
        schedule.stages.iter().map(|s| network.value(s.output).name.clone()).collect()
    }

    #[test]
    fn a_residual_block_in_evaluation_is_two_stages() {
        let network = network("resnet18");
        let plan = FreezePlan::frozen(&network);
        let schedule = Schedule::new(&CompileRequest::whole(&network, &plan, Mode::Evaluate, 1)).unwrap();
        let names = outputs(&network, &schedule);
        assert_eq!(names[..4], ["relu", "maxpool", "layer1.0.relu", "layer1.0"]);
        let block = &schedule.stages[3];
        assert!(block.relu && block.inputs.len() == 2);
        assert!(matches!(block.kind, Kind::Convolution { normalise: Some(_), .. }));
        // Twenty convolutions, two poolings, two linear layers.
        assert_eq!(names.len(), 20 + 2 + 2);
    }

    #[test]
    fn a_residual_block_that_waits_for_the_batch_is_four_stages() {
        let network = network("resnet18");
        let plan = FreezePlan::resolve(&network, &["all"], FrozenBatchNorm::Stored).unwrap();
        let schedule = Schedule::new(&CompileRequest::whole(&network, &plan, Mode::Train, 1)).unwrap();
        let names = outputs(&network, &schedule);
        assert_eq!(
            names[..7],
            ["conv1", "relu", "maxpool", "layer1.0.conv1", "layer1.0.relu", "layer1.0.conv2", "layer1.0"]
        );
        let block = &schedule.stages[6];
        assert!(block.relu && block.inputs.len() == 2 && matches!(block.kind, Kind::BatchNorm { .. }));
        // Twenty convolutions, a batch norm each, two poolings, two linear layers with a dropout between.
        assert_eq!(names.len(), 20 + 20 + 2 + 3);
    }

    #[test]
    fn a_tap_keeps_operations_apart() {
        let network = network("resnet18");
        let plan = FreezePlan::frozen(&network);
        let mut request = CompileRequest::whole(&network, &plan, Mode::Evaluate, 1);
        request.taps = vec![network.module_output("layer1.0.bn2").unwrap()];
        let names = outputs(&network, &Schedule::new(&request).unwrap());
        let at = names.iter().position(|n| n == "layer1.0.bn2").unwrap();
        assert_eq!(names[at + 1], "layer1.0");
    }

    #[test]
    fn a_cut_that_leaves_a_way_to_the_image_is_refused() {
        let network = network("resnet18");
        let plan = FreezePlan::frozen(&network);
        let mut request = CompileRequest::whole(&network, &plan, Mode::Evaluate, 1);
        request.entries = vec![network.module_output("layer4.1.conv1").unwrap()];
        let error = Schedule::new(&request).err().unwrap().to_string();
        assert!(error.contains("fc.3") && error.contains("layer4.1.conv1"), "{error}");
        request.entries.push(network.module_output("layer4.0").unwrap());
        assert_eq!(outputs(&network, &Schedule::new(&request).unwrap())[0], "layer4.1.relu");
    }
}
