//! What a program will do and where everything lies, decided before anything is allocated.

mod gradients;
mod lifetimes;

use crate::algorithm::Algorithm;
use crate::memory::{Lifetime, place};
use crate::scratch;
use crate::stage::{Kind, Schedule, Stage};
use gradients::{Reach, decide_gradient_writes, decide_relu_passes};
use lifetimes::{gradient_lifetimes, value_lifetime};
use roentgen_kernels::{Compute, ConvShape, InputLayout, Isa, LinearShape, Region, padded};
use roentgen_nn::{BatchNormMode, CompileRequest, EngineError, FreezePlan, Mode, Network, Op, Precision, ValueId};

/// How a value lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// `[N, C, H, W]`: the image, when only convolutions read it.
    Planar,
    /// `[N, ceil(C / 16), H, W, 16]`.
    Blocked,
}

/// A convolution or linear layer: what is packed for it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum WeightShape {
    Convolution(ConvShape, Algorithm),
    Linear(LinearShape),
}

/// The tensors of a layer in the network's list, by index.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LayerTensors {
    pub(crate) weight: usize,
    pub(crate) bias: Option<usize>,
    pub(crate) running_mean: usize,
    pub(crate) running_var: usize,
    pub(crate) batches: usize,
}

/// A stage with all that is decided about it.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) stage: Stage,
    /// Of the first input, and of the output but for a flattening's.
    pub(crate) format: Precision,
    pub(crate) tensors: LayerTensors,
    /// For convolutions and linear layers.
    pub(crate) weights: Option<WeightShape>,
    /// Whether the weights are taken as they are, since they change with every step, or are used once; nothing is packed
    /// then.
    pub(crate) plain_weights: bool,
    /// For batch norms.
    pub(crate) batch_norm: Option<BatchNormMode>,
    /// The tensors of the batch norm that normalises the stage's values, be it the stage itself or one behind a
    /// convolution.
    pub(crate) normalise: Option<LayerTensors>,
    /// Whether the gradient of the layer's weight, and of its bias, is computed.
    pub(crate) trains_weight: bool,
    pub(crate) trains_bias: bool,
    /// For each input: whether its gradient is computed, and whether it is added to what other stages found.
    pub(crate) input_gradients: Vec<Option<GradientWrite>>,
    /// Whether the gradient for the first input is taken through the ReLU that made that input.
    pub(crate) passes_relu: bool,
    /// Whether who writes the output's gradient takes it through this stage's ReLU.
    pub(crate) relu_passed: bool,
    /// Whether backward visits this stage.
    pub(crate) backward: bool,
    /// Whether the weight gradient goes on from micro-batch to micro-batch.
    pub(crate) micro_batches: bool,
    /// Where a dropout keeps its mask.
    pub(crate) mask: Option<Region>,
}

/// How a stage delivers the gradient of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GradientWrite {
    /// The first to write it.
    Set,
    /// Another stage wrote before.
    Accumulate,
    /// It works in the memory of its own output's gradient.
    InPlace,
}

/// A value's place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) region: Region,
    pub(crate) layout: Layout,
    /// Bytes for one image.
    pub(crate) per_image: usize,
}

/// A compiled request.
pub(crate) struct Plan {
    pub(crate) steps: Vec<Step>,
    pub(crate) entries: Vec<ValueId>,
    /// For each value of the network, where it lies (by its storage).
    places: Vec<Option<Place>>,
    /// For each value, where its gradient lies.
    gradients: Vec<Option<Region>>,
    /// For each gradient tap, in the request's order: the value with storage, and where its gradient is kept.
    pub(crate) gradient_taps: Vec<(ValueId, ValueId, Region)>,
    /// Outputs and taps that the caller may read.
    pub(crate) readable: Vec<ValueId>,
    pub(crate) outputs: Vec<ValueId>,
    storage: Vec<ValueId>,
    formats: Vec<Precision>,
    /// Everything that lies in the arena.
    pub(crate) buffers: Vec<Buffer>,
    pub(crate) arena_bytes: usize,
    /// Of the kernels, which all programs of an engine share.
    pub(crate) scratch_bytes: usize,
    pub(crate) largest_batch: usize,
    /// Whether backward may continue earlier ones.
    pub(crate) micro_batches: bool,
}

/// Something that lies in the arena for a while.
pub(crate) struct Buffer {
    pub(crate) owner: Owner,
    pub(crate) life: Lifetime,
    pub(crate) region: Region,
}

impl Plan {
    pub(crate) fn place(&self, id: ValueId) -> Place {
        self.places[self.storage(id).index()].expect("every input and output of a stage has a place")
    }

    pub(crate) fn gradient(&self, id: ValueId) -> Option<Region> {
        self.gradients[self.storage(id).index()]
    }

    pub(crate) fn format(&self, id: ValueId) -> Precision {
        self.formats[id.index()]
    }

    pub(crate) fn storage(&self, id: ValueId) -> ValueId {
        self.storage[id.index()]
    }

    pub(crate) fn new(request: &CompileRequest<'_>, compute: &Compute) -> Result<Plan, EngineError> {
        let network = request.network;
        let schedule = Schedule::new(request)?;
        let stages = &schedule.stages;
        let storage: Vec<ValueId> = network.ids().map(|id| schedule.storage(id)).collect();
        let layouts = layouts(network, stages);
        let formats = request.arithmetic.precision.of_values(network);
        let reach = Reach::new(request, stages, &storage)?;
        let step = |stage: &Stage| {
            let input = stage.inputs[0].index();
            step(request, compute.isa(), stage, layouts[input], formats[input], &reach)
        };
        let mut steps: Vec<Step> = stages.iter().map(step).collect();
        decide_gradient_writes(&mut steps, &reach);
        decide_relu_passes(&mut steps, request, &storage);

        // Buffers: values, gradients, masks, kept gradients; forward of stage i is step i, its backward 2S - 1 - i.
        let count = steps.len();
        let backward_of = |index: usize| 2 * count - 1 - index;
        let end = 2 * count;
        let bytes = |id: ValueId, layout| elements(network, id, layout) * formats[id.index()].bytes();
        let mut lifetimes = Vec::new();
        let mut owners = Vec::new();
        for id in network.ids() {
            let storage_id = storage[id.index()];
            if storage_id != id {
                continue;
            }
            if let Some(life) = value_lifetime(request, &steps, &storage, id, backward_of, end) {
                let len = bytes(id, layouts[id.index()]) * request.largest_batch;
                lifetimes.push(Lifetime { len, ..life });
                owners.push(Owner::Value(id));
            }
        }
        for (group, life) in gradient_lifetimes(&steps, &reach, request, &storage, backward_of) {
            let len = group.iter().map(|id| bytes(*id, Layout::Blocked)).max().unwrap_or(0);
            lifetimes.push(Lifetime { len: len * request.largest_batch, ..life });
            owners.push(Owner::Gradient(group));
        }
        for (index, step) in steps.iter().enumerate() {
            if let Kind::Dropout { .. } = step.stage.kind {
                let elements = elements(network, step.stage.output, Layout::Blocked) * request.largest_batch;
                let len = elements * size_of::<f32>();
                let last = if step.backward { backward_of(index) } else { index };
                lifetimes.push(Lifetime { len, first: index, last });
                owners.push(Owner::Mask(index));
            }
        }
        for (position, tap) in request.gradient_taps.iter().enumerate() {
            let len = bytes(storage[tap.index()], Layout::Blocked) * request.largest_batch;
            lifetimes.push(Lifetime { len, first: count, last: end });
            owners.push(Owner::Tap(position));
        }

        let (regions, arena_bytes) = place(&lifetimes);
        let mut places = vec![None; network.values().len()];
        let mut gradients = vec![None; network.values().len()];
        let mut gradient_taps = Vec::new();
        for (owner, &region) in owners.iter().zip(&regions) {
            match owner {
                Owner::Value(id) => {
                    let id = *id;
                    let layout = layouts[id.index()];
                    places[id.index()] = Some(Place { region, layout, per_image: bytes(id, layout) });
                }
                Owner::Gradient(group) => {
                    for id in group {
                        gradients[id.index()] = Some(region);
                    }
                }
                Owner::Mask(index) => steps[*index].mask = Some(region),
                Owner::Tap(position) => {
                    let id = request.gradient_taps[*position];
                    gradient_taps.push((id, storage[id.index()], region));
                }
            }
        }
        let placed = owners.into_iter().zip(lifetimes).zip(regions);
        let buffers = placed.map(|((owner, life), region)| Buffer { owner, life, region }).collect();
        let scratch_bytes = scratch::bytes(&steps, network, request.largest_batch, compute);
        Ok(Plan {
            steps,
            entries: request.entries.clone(),
            places,
            gradients,
            gradient_taps,
            readable: request.outputs.iter().chain(&request.taps).copied().collect(),
            outputs: request.outputs.clone(),
            storage,
            formats,
            buffers,
            arena_bytes,
            scratch_bytes,
            largest_batch: request.largest_batch,
            micro_batches: request.micro_batches,
        })
    }

    /// Floats that packed weights, their transposed copies and their gradients take.
    pub(crate) fn packed_len(&self) -> usize {
        self.steps.iter().map(|step| step.packed_lens().iter().sum::<usize>()).sum()
    }

    /// Bytes of everything.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.arena_bytes + self.packed_len() * size_of::<f32>() + self.scratch_bytes
    }
}

impl Step {
    /// Whether backward computes the gradient of an input.
    pub(crate) fn needs_input_gradient(&self, input: usize) -> bool {
        self.input_gradients.get(input).is_some_and(Option::is_some)
    }

    /// Lengths of the packed weights, the transposed ones and the packed weight gradient, each 0 where not needed.
    pub(crate) fn packed_lens(&self) -> [usize; 3] {
        let Some(weights) = self.weights else { return [0; 3] };
        let (packed, transposed, gradient) = match weights {
            WeightShape::Convolution(s, Algorithm::Direct) => {
                (s.packed_len(), s.packed_transposed_len(), s.packed_gradient_len())
            }
            WeightShape::Convolution(s, Algorithm::Winograd) => {
                let sums = if self.micro_batches { s.winograd_sums_len() } else { 0 };
                let packed = if self.plain_weights { 0 } else { s.winograd_packed_len() };
                (packed, packed, sums)
            }
            WeightShape::Linear(s) => (s.packed_len(), s.packed_len(), s.packed_len()),
        };
        let transposed = if self.needs_input_gradient(0) { transposed } else { 0 };
        [packed, transposed, if self.trains_weight { gradient } else { 0 }]
    }
}

/// What a buffer is for.
pub(crate) enum Owner {
    Value(ValueId),
    /// The gradients of these values, one after the other.
    Gradient(Vec<ValueId>),
    /// The mask of the dropout in this step.
    Mask(usize),
    /// The gradient tap at this position of the request.
    Tap(usize),
}

/// Whether a stage's weight and bias are trained by this program.
fn trains(request: &CompileRequest<'_>, stage: &Stage) -> (bool, bool) {
    let Some(layer) = stage.layer().filter(|_| request.mode == Mode::Train) else { return (false, false) };
    let trainable = |part| request.network.tensor_of(layer, part).is_some_and(|t| request.plan.trainable(t));
    (trainable("weight"), trainable("bias"))
}

impl Stage {
    /// The value whose tensors the stage uses.
    pub(crate) fn layer(&self) -> Option<ValueId> {
        match self.kind {
            Kind::Convolution { layer, .. } | Kind::BatchNorm { layer } | Kind::Linear { layer } => Some(layer),
            _ => None,
        }
    }
}

fn layouts(network: &Network, stages: &[Stage]) -> Vec<Layout> {
    let mut layouts = vec![Layout::Blocked; network.values().len()];
    let image = network.input();
    let mut readers = stages.iter().filter(|stage| stage.inputs.contains(&image)).peekable();
    if readers.peek().is_some() && readers.all(|stage| matches!(stage.kind, Kind::Convolution { .. })) {
        layouts[image.index()] = Layout::Planar;
    }
    layouts
}

/// Elements of a value for one image.
fn elements(network: &Network, id: ValueId, layout: Layout) -> usize {
    let shape = network.value(id).shape;
    match layout {
        Layout::Planar => shape.elements(),
        Layout::Blocked => padded(shape.channels) * shape.positions(),
    }
}

fn step(
    request: &CompileRequest<'_>,
    isa: Isa,
    stage: &Stage,
    input_layout: Layout,
    format: Precision,
    reach: &Reach,
) -> Step {
    let network = request.network;
    let mut tensors = LayerTensors::default();
    let mut weights = None;
    let mut batch_norm = None;
    let mut normalise = None;
    if let Kind::Convolution { normalise: Some(layer), .. } = stage.kind {
        normalise = Some(batch_norm_tensors(network, layer));
    }
    if let Some(layer) = stage.layer() {
        let tensor = |part| network.tensor_of(layer, part);
        tensors.weight = tensor("weight").expect("convolutions, linear layers and batch norms have a weight");
        tensors.bias = tensor("bias");
        let from = network.value(network.value(layer).inputs[0]).shape;
        match network.value(layer).op {
            Op::Conv2d { out_channels, kernel, stride, padding, .. } => {
                let shape = ConvShape {
                    in_channels: from.channels,
                    out_channels,
                    kernel,
                    stride,
                    padding,
                    in_height: from.height,
                    in_width: from.width,
                    input: match input_layout {
                        Layout::Planar => InputLayout::Planar,
                        Layout::Blocked => InputLayout::Blocked,
                    },
                };
                let algorithm = Algorithm::of(&shape, isa, request.arithmetic);
                weights = Some(WeightShape::Convolution(shape, algorithm));
            }
            Op::Linear { out_features } => {
                weights = Some(WeightShape::Linear(LinearShape { in_features: from.channels, out_features }));
            }
            Op::BatchNorm2d { .. } => {
                tensors = batch_norm_tensors(network, layer);
                normalise = Some(tensors);
                batch_norm = Some(batch_norm_mode(request.plan, request.mode, layer));
            }
            _ => unreachable!("only these operations have tensors"),
        }
    }
    let (trains_weight, trains_bias) = trains(request, stage);
    let backward = reach.has_gradient(stage.output);
    let is_winograd = matches!(weights, Some(WeightShape::Convolution(_, Algorithm::Winograd)));
    Step {
        stage: stage.clone(),
        format,
        tensors,
        weights,
        plain_weights: is_winograd && (trains_weight || request.single_pass),
        batch_norm,
        normalise,
        trains_weight: trains_weight && backward,
        trains_bias: trains_bias && backward,
        input_gradients: vec![None; stage.inputs.len()],
        passes_relu: false,
        relu_passed: false,
        backward,
        micro_batches: request.micro_batches,
        mask: None,
    }
}

fn batch_norm_tensors(network: &Network, layer: ValueId) -> LayerTensors {
    let tensor = |part| network.tensor_of(layer, part).expect("a batch norm has running statistics");
    LayerTensors {
        weight: tensor("weight"),
        bias: Some(tensor("bias")),
        running_mean: tensor("running_mean"),
        running_var: tensor("running_var"),
        batches: tensor("num_batches_tracked"),
    }
}

fn batch_norm_mode(plan: &FreezePlan, mode: Mode, layer: ValueId) -> BatchNormMode {
    match mode {
        Mode::Evaluate => BatchNormMode::Stored,
        Mode::Train => plan.batch_norm(layer).expect("the plan knows every batch norm"),
    }
}
