//! What a program will do and where everything lies, decided before anything is allocated.

use crate::algorithm::Algorithm;
use crate::memory::{Lifetime, place};
use crate::stage::{Kind, Schedule, Stage};
use roentgen_kernels::{ConvShape, InputLayout, Isa, LinearShape, Region, padded};
use roentgen_nn::{BatchNormMode, CompileRequest, EngineError, FreezePlan, Mode, Network, Op, ValueId};

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
    pub(crate) tensors: LayerTensors,
    /// For convolutions and linear layers.
    pub(crate) weights: Option<WeightShape>,
    /// Whether the weights are taken as they are, since they change with every step; nothing is packed then.
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
    /// Floats for one image.
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
    /// Everything that lies in the arena.
    pub(crate) buffers: Vec<Buffer>,
    pub(crate) arena_len: usize,
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

    pub(crate) fn storage(&self, id: ValueId) -> ValueId {
        self.storage[id.index()]
    }

    pub(crate) fn new(request: &CompileRequest<'_>, isa: Isa) -> Result<Plan, EngineError> {
        let network = request.network;
        let schedule = Schedule::new(request)?;
        let stages = &schedule.stages;
        let storage: Vec<ValueId> = network.ids().map(|id| schedule.storage(id)).collect();
        let layouts = layouts(network, stages);
        let reach = Reach::new(request, stages, &storage)?;
        let mut steps: Vec<Step> =
            stages.iter().map(|stage| step(request, isa, stage, layouts[stage.inputs[0].index()], &reach)).collect();
        decide_gradient_writes(&mut steps, &reach);
        decide_relu_passes(&mut steps, request, &storage);

        // Buffers: values, gradients, masks, kept gradients; forward of stage i is step i, its backward 2S - 1 - i.
        let count = steps.len();
        let backward_of = |index: usize| 2 * count - 1 - index;
        let end = 2 * count;
        let mut lifetimes = Vec::new();
        let mut owners = Vec::new();
        for id in network.ids() {
            let storage_id = storage[id.index()];
            if storage_id != id {
                continue;
            }
            if let Some(life) = value_lifetime(request, &steps, &storage, id, backward_of, end) {
                let per_image = per_image(network, id, layouts[id.index()]);
                lifetimes.push(Lifetime { len: per_image * request.largest_batch, ..life });
                owners.push(Owner::Value(id));
            }
        }
        for (group, life) in gradient_lifetimes(&steps, &reach, request, &storage, backward_of) {
            let len = group.iter().map(|id| per_image(network, *id, Layout::Blocked)).max().unwrap_or(0);
            lifetimes.push(Lifetime { len: len * request.largest_batch, ..life });
            owners.push(Owner::Gradient(group));
        }
        for (index, step) in steps.iter().enumerate() {
            if let Kind::Dropout { .. } = step.stage.kind {
                let len = per_image(network, step.stage.output, Layout::Blocked) * request.largest_batch;
                let last = if step.backward { backward_of(index) } else { index };
                lifetimes.push(Lifetime { len, first: index, last });
                owners.push(Owner::Mask(index));
            }
        }
        for (position, tap) in request.gradient_taps.iter().enumerate() {
            let len = per_image(network, storage[tap.index()], Layout::Blocked) * request.largest_batch;
            lifetimes.push(Lifetime { len, first: count, last: end });
            owners.push(Owner::Tap(position));
        }

        let (regions, arena_len) = place(&lifetimes);
        let mut places = vec![None; network.values().len()];
        let mut gradients = vec![None; network.values().len()];
        let mut gradient_taps = Vec::new();
        for (owner, &region) in owners.iter().zip(&regions) {
            match owner {
                Owner::Value(id) => {
                    let id = *id;
                    let layout = layouts[id.index()];
                    places[id.index()] = Some(Place { region, layout, per_image: per_image(network, id, layout) });
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
        Ok(Plan {
            steps,
            entries: request.entries.clone(),
            places,
            gradients,
            gradient_taps,
            readable: request.outputs.iter().chain(&request.taps).copied().collect(),
            outputs: request.outputs.clone(),
            storage,
            buffers,
            arena_len,
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
        (self.arena_len + self.packed_len()) * size_of::<f32>()
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
            WeightShape::Convolution(s, Algorithm::Direct | Algorithm::Bf16) => {
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

/// Which stored values have a gradient: they depend on something trained or tapped, and the output depends on them.
struct Reach {
    gradient: Vec<bool>,
}

impl Reach {
    fn new(request: &CompileRequest<'_>, stages: &[Stage], storage: &[ValueId]) -> Result<Reach, EngineError> {
        let network = request.network;
        let mut from_below = vec![false; network.values().len()];
        for tap in &request.gradient_taps {
            from_below[storage[tap.index()].index()] = true;
        }
        for stage in stages {
            let (weight, bias) = trains(request, stage);
            let reached = weight || bias || stage.inputs.iter().any(|input| from_below[input.index()]);
            from_below[stage.output.index()] |= reached;
        }
        let mut from_above = vec![false; network.values().len()];
        if let [output] = request.outputs[..] {
            from_above[storage[output.index()].index()] = true;
        }
        for stage in stages.iter().rev() {
            if from_above[stage.output.index()] {
                stage.inputs.iter().for_each(|input| from_above[input.index()] = true);
            }
        }
        for tap in &request.gradient_taps {
            if !from_above[storage[tap.index()].index()] {
                return Err(EngineError::NoGradient { name: network.value(*tap).name.clone() });
            }
        }
        Ok(Reach { gradient: from_below.iter().zip(&from_above).map(|(a, b)| *a && *b).collect() })
    }

    fn has_gradient(&self, id: ValueId) -> bool {
        self.gradient[id.index()]
    }
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

fn per_image(network: &Network, id: ValueId, layout: Layout) -> usize {
    let shape = network.value(id).shape;
    match layout {
        Layout::Planar => shape.elements(),
        Layout::Blocked => padded(shape.channels) * shape.positions(),
    }
}

fn step(request: &CompileRequest<'_>, isa: Isa, stage: &Stage, input_layout: Layout, reach: &Reach) -> Step {
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
        tensors,
        weights,
        plain_weights: is_winograd && trains_weight,
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

/// Says, for each input of each stage that backward visits, how its gradient comes about.
fn decide_gradient_writes(steps: &mut [Step], reach: &Reach) {
    let readers = |id: ValueId, steps: &[Step]| -> usize {
        steps.iter().filter(|s| s.backward).map(|s| s.stage.inputs.iter().filter(|i| **i == id).count()).sum()
    };
    let mut written: Vec<ValueId> = Vec::new();
    for index in (0..steps.len()).rev() {
        if !steps[index].backward {
            continue;
        }
        let stage = steps[index].stage.clone();
        for (position, &input) in stage.inputs.iter().enumerate() {
            if !reach.has_gradient(input) {
                continue;
            }
            let elementwise = matches!(stage.kind, Kind::BatchNorm { .. } | Kind::Relu | Kind::Dropout { .. });
            steps[index].input_gradients[position] = Some(if written.contains(&input) {
                GradientWrite::Accumulate
            } else if elementwise && position == 0 && readers(input, steps) == 1 {
                GradientWrite::InPlace
            } else {
                GradientWrite::Set
            });
            written.push(input);
        }
    }
}

/// Lets a convolution that is the last to write the gradient for a ReLU's output, or a max pooling that is the only
/// one, take it through the ReLU at once. A gradient that the caller wants to see as it was before stays as it is.
fn decide_relu_passes(steps: &mut [Step], request: &CompileRequest<'_>, storage: &[ValueId]) {
    let tapped = |id: ValueId| request.gradient_taps.iter().any(|tap| storage[tap.index()] == id);
    for maker in 0..steps.len() {
        let Step { stage, backward, .. } = &steps[maker];
        let value = stage.output;
        if !(stage.relu && *backward) || tapped(value) {
            continue;
        }
        // Backward runs from the last stage to the first: the first reader writes last.
        let last_writer = steps.iter().position(|step| step.backward && step.stage.inputs.contains(&value));
        let Some(writer) = last_writer.map(|index| &mut steps[index]) else { continue };
        let able = match writer.stage.kind {
            Kind::Convolution { .. } => true,
            Kind::MaxPool { .. } => writer.input_gradients[0] == Some(GradientWrite::Set),
            _ => false,
        };
        if able && writer.stage.inputs[0] == value && writer.stage.inputs[1..].iter().all(|i| *i != value) {
            writer.passes_relu = true;
            steps[maker].relu_passed = true;
        }
    }
}

fn value_lifetime(
    request: &CompileRequest<'_>,
    steps: &[Step],
    storage: &[ValueId],
    id: ValueId,
    backward_of: impl Fn(usize) -> usize,
    end: usize,
) -> Option<Lifetime> {
    let is_entry = request.entries.contains(&id);
    let made = steps.iter().position(|step| step.stage.output == id);
    let first = if is_entry { 0 } else { made? };
    let mut last = first;
    for (index, step) in steps.iter().enumerate() {
        if step.stage.inputs.contains(&id) {
            last = last.max(index);
            if step.backward && step.reads_input_backward() && step.stage.inputs[0] == id {
                last = last.max(backward_of(index));
            }
        }
        if step.stage.output == id && step.backward && step.reads_output_backward() {
            last = last.max(backward_of(index));
        }
    }
    let read_by_caller = request.outputs.iter().chain(&request.taps).any(|read| storage[read.index()] == id);
    Some(Lifetime { len: 0, first, last: if read_by_caller { end } else { last } })
}

impl Step {
    /// Whether backward looks at the first input again.
    fn reads_input_backward(&self) -> bool {
        self.passes_relu
            || match self.stage.kind {
                Kind::Convolution { .. } | Kind::Linear { .. } => self.trains_weight,
                Kind::BatchNorm { .. } => {
                    self.trains_weight || self.trains_bias || self.batch_norm == Some(BatchNormMode::Batch)
                }
                Kind::MaxPool { .. } => true,
                _ => false,
            }
    }

    /// Whether backward looks at the output again.
    fn reads_output_backward(&self) -> bool {
        self.stage.relu && !self.relu_passed || matches!(self.stage.kind, Kind::MaxPool { .. })
    }
}

/// Groups of values whose gradients share memory, with the time from the first write to the last read.
fn gradient_lifetimes(
    steps: &[Step],
    reach: &Reach,
    request: &CompileRequest<'_>,
    storage: &[ValueId],
    backward_of: impl Fn(usize) -> usize,
) -> Vec<(Vec<ValueId>, Lifetime)> {
    let mut groups: Vec<(Vec<ValueId>, Lifetime)> = Vec::new();
    let mut extend = |member: ValueId, joins: Option<ValueId>, time: usize| {
        let known = groups.iter().position(|(ids, _)| ids.contains(&member) || joins.is_some_and(|j| ids.contains(&j)));
        match known {
            Some(index) => {
                let (ids, life) = &mut groups[index];
                if !ids.contains(&member) {
                    ids.push(member);
                }
                life.first = life.first.min(time);
                life.last = life.last.max(time);
            }
            None => groups.push((vec![member], Lifetime { len: 0, first: time, last: time })),
        }
    };
    if let [output] = request.outputs[..] {
        let output = storage[output.index()];
        if reach.has_gradient(output) {
            extend(output, None, steps.len());
        }
    }
    for (index, step) in steps.iter().enumerate().rev().filter(|(_, step)| step.backward) {
        let time = backward_of(index);
        extend(step.stage.output, None, time);
        for (input, write) in step.stage.inputs.iter().zip(&step.input_gradients) {
            match write {
                Some(GradientWrite::InPlace) => extend(*input, Some(step.stage.output), time),
                Some(_) => extend(*input, None, time),
                None => {}
            }
        }
    }
    // The gradient of an entry is read when all of backward is done.
    for tap in request.gradient_taps.iter().map(|tap| storage[tap.index()]) {
        if request.entries.contains(&tap) {
            extend(tap, None, 2 * steps.len());
        }
    }
    groups
}
