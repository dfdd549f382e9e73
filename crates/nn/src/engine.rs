//! The seam between networks and what computes them.
//!
//! An engine compiles a network, a freeze plan and a few wishes into a program; a program runs any batch up to the size
//! it was compiled for, on the numbers of any [`ParameterStore`] of that network.

use crate::freeze::FreezePlan;
use crate::inspection::{MemoryPlan, StageReport};
use crate::network::{Network, Op, ValueId};
use crate::store::{Gradients, ParameterSet, ParameterStore};
use crate::workers::Workers;

/// Whether dropout draws and batch norms follow the freeze plan, or everything is as in evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Dropout is on, batch norms have the modes of the plan, backward gives the gradients of the trained parameters.
    Train,
    /// Dropout is off, batch norms use their running statistics. Backward gives gradient taps only.
    Evaluate,
}

/// Number format of activations, and of their products.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// IEEE 754 binary32.
    #[default]
    F32,
    /// Mixed precision: values and their gradients stored in bf16 (the upper half of binary32, rounded to nearest even),
    /// each rounded once, and products of bf16 where those are faster than the algorithms of binary32. Sums, statistics,
    /// weights and their gradients, linear layers, loss and optimizer are in binary32.
    Bf16,
}

impl Precision {
    /// Bytes of an element that is stored so.
    pub fn bytes(self) -> usize {
        match self {
            Precision::F32 => 4,
            Precision::Bf16 => 2,
        }
    }

    /// How each value of a network is stored, in the order of its values: in mixed precision in bf16 up to the
    /// flattening. From there on, where features are few, everything is binary32.
    pub fn of_values(self, network: &Network) -> Vec<Precision> {
        let mut stored: Vec<Precision> = Vec::with_capacity(network.values().len());
        for value in network.values() {
            let behind_head = value.inputs.iter().any(|input| stored[input.index()] == Precision::F32);
            let is_head = behind_head || matches!(value.op, Op::Flatten | Op::Linear { .. });
            stored.push(if is_head { Precision::F32 } else { self });
        }
        stored
    }
}

/// How products are computed: what of it the user decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arithmetic {
    /// Number format.
    pub precision: Precision,
    /// Whether convolutions are computed directly, without Winograd's algorithm.
    pub exact: bool,
}

/// What to compile.
#[derive(Clone, Debug)]
pub struct CompileRequest<'a> {
    /// The network.
    pub network: &'a Network,
    /// What is trained.
    pub plan: &'a FreezePlan,
    /// Training or evaluation.
    pub mode: Mode,
    /// The values that the caller hands in: the image, or a cut, the set of values behind which nothing is computed.
    pub entries: Vec<ValueId>,
    /// The values that must be computed: the logits, or the cut that a prefix ends in.
    pub outputs: Vec<ValueId>,
    /// Further values that the caller wants to read after forward. Each must lie between entries and outputs.
    pub taps: Vec<ValueId>,
    /// Values whose gradient the caller wants to read after backward.
    pub gradient_taps: Vec<ValueId>,
    /// The largest batch that the program will run.
    pub largest_batch: usize,
    /// How products are computed.
    pub arithmetic: Arithmetic,
    /// The most memory that the program may take for activations, gradients, packed weights and the kernels' scratch
    /// memory, in bytes.
    pub memory_limit_bytes: Option<usize>,
    /// Whether backward will continue earlier backward passes (`accumulate`): the engine then keeps what it needs to
    /// give the same bits as one large batch.
    pub micro_batches: bool,
    /// Whether the program will run once: the engine then does not lay weights out for passes to come. Changes no bit.
    pub single_pass: bool,
}

impl<'a> CompileRequest<'a> {
    /// From the image to the logits, with no taps and no memory bound, whole batches, and whatever algorithms are
    /// fastest.
    pub fn whole(network: &'a Network, plan: &'a FreezePlan, mode: Mode, largest_batch: usize) -> CompileRequest<'a> {
        CompileRequest {
            network,
            plan,
            mode,
            entries: vec![network.input()],
            outputs: vec![network.output()],
            taps: Vec::new(),
            gradient_taps: Vec::new(),
            largest_batch,
            arithmetic: Arithmetic::default(),
            memory_limit_bytes: None,
            micro_batches: false,
            single_pass: false,
        }
    }
}

/// Why a request cannot be compiled or a program not be run.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EngineError {
    /// The entries do not cut the network.
    #[error(
        "`{needed}` depends on the image, and the entries ({entries}) do not cut it off: add the values that it needs"
    )]
    NotACut {
        /// The value that is computed from what is not given.
        needed: String,
        /// The entries by name.
        entries: String,
    },
    /// A tap is not computed on the way from entries to outputs.
    #[error("`{name}` is not computed between the entries and the outputs, so it cannot be tapped")]
    TapOutside {
        /// The tap.
        name: String,
    },
    /// A gradient was asked for where backward cannot reach.
    #[error("`{name}` has no gradient: the outputs do not depend on it, or backward is not possible from this program")]
    NoGradient {
        /// The value.
        name: String,
    },
    /// The program would need more memory than it may take.
    #[error(
        "{architecture} at {image_size} px needs {needed_mib} MiB for a batch of {batch}, over the limit of {limit_mib} \
         MiB: {advice}"
    )]
    Memory {
        /// The architecture.
        architecture: String,
        /// Side of the image in pixels.
        image_size: usize,
        /// The batch.
        batch: usize,
        /// What it would take.
        needed_mib: usize,
        /// What it may take.
        limit_mib: usize,
        /// What to do.
        advice: String,
    },
    /// A batch norm in training mode that sees one value a channel: its variance is no variance.
    #[error(
        "`{name}` in training mode needs more than one value a channel: use larger batches or images (a last batch of one \
         image counts too), or keep it frozen"
    )]
    OneValuePerChannel {
        /// The batch norm.
        name: String,
    },
    /// A continued backward through a batch norm that looks at the batch.
    #[error(
        "`{name}` in training mode looks at the whole batch, so its gradients cannot be gathered over micro-batches"
    )]
    CutBatch {
        /// The batch norm.
        name: String,
    },
    /// A continued backward of a program that was not compiled for it.
    #[error("the program was not compiled to gather gradients over micro-batches: set `micro_batches` in the request")]
    NoMicroBatches,
    /// A call with a batch that the program was not compiled for.
    #[error("a batch of {found} images for a program compiled for 1 to {largest}")]
    Batch {
        /// The batch.
        found: usize,
        /// The largest allowed.
        largest: usize,
    },
    /// A slice of the wrong length.
    #[error("`{name}` has {found} elements; expected {expected}")]
    Length {
        /// What was handed in.
        name: String,
        /// Its length.
        found: usize,
        /// The length that batch and shape ask for.
        expected: usize,
    },
}

/// What the random draws of one forward pass are a function of, beside the layer.
#[derive(Clone, Copy, Debug)]
pub struct Draws<'a> {
    /// Seed of the run.
    pub seed: u64,
    /// Epoch, from 1.
    pub epoch: u64,
    /// One row number of the manifest an image, so that a draw does not depend on the batch.
    pub rows: &'a [usize],
}

/// Compiles networks, and does on its threads what a training step does beside its programs.
pub trait Engine: Workers {
    /// Compiles.
    ///
    /// # Errors
    /// Where entries, outputs and taps do not fit together, or memory does not suffice; nothing is allocated then.
    fn compile(&self, request: &CompileRequest<'_>) -> Result<Box<dyn Program>, EngineError>;

    /// What the program would take, in bytes, without allocating it.
    ///
    /// # Errors
    /// As [`Engine::compile`], but for memory.
    fn memory_bytes(&self, request: &CompileRequest<'_>) -> Result<usize, EngineError>;

    /// Where the program would keep everything, and when; its peak is [`Engine::memory_bytes`].
    ///
    /// # Errors
    /// As [`Engine::compile`], but for memory.
    fn memory_plan(&self, request: &CompileRequest<'_>) -> Result<MemoryPlan, EngineError>;

    /// The most that this machine can do: 10^9 f32 operations a second in fused multiply-adds on all threads, two
    /// operations each, measured now. It takes about a second.
    fn ceiling_gflops(&self) -> f64;

    /// Instruction set or device, for reports.
    fn description(&self) -> String;

    /// What the last bits of results depend on beside data, settings and seed: instruction set and version of the
    /// engine's choice of algorithms.
    fn bits(&self) -> String;

    /// Threads in use.
    fn threads(&self) -> usize;
}

/// A compiled network. All tensors at this seam are plain row-major `[N, C, H, W]` or `[N, F]`.
pub trait Program {
    /// Computes outputs and taps for a batch. `entries` come in the order of the request. In training mode, batch norms
    /// in [`crate::BatchNormMode::Batch`] update the live running statistics of the store.
    ///
    /// # Errors
    /// For a batch outside `1..=largest`, or a slice of the wrong length.
    fn forward(
        &mut self,
        store: &mut ParameterStore,
        set: ParameterSet,
        entries: &[&[f32]],
        batch: usize,
        draws: Draws<'_>,
    ) -> Result<(), EngineError>;

    /// Reads an output or a tap of the last forward pass.
    ///
    /// # Errors
    /// Where the value is neither.
    fn read(&self, value: ValueId, into: &mut Vec<f32>) -> Result<(), EngineError>;

    /// Propagates a gradient of the only output back as deep as the deepest trained parameter or gradient tap, and
    /// writes the gradients of the trained parameters. Where `accumulate`, they are the sums over this and the backward
    /// passes of this program before it, back to the last that did not accumulate: so the micro-batches of a batch, in
    /// order, give the same bits as the batch.
    ///
    /// # Errors
    /// Where the program has several outputs, the slice has the wrong length, or `accumulate` meets a batch norm that
    /// looks at the whole batch.
    fn backward(
        &mut self,
        store: &ParameterStore,
        set: ParameterSet,
        output_gradient: &[f32],
        gradients: &mut Gradients,
        accumulate: bool,
    ) -> Result<(), EngineError>;

    /// Reads a gradient tap of the last backward pass.
    ///
    /// # Errors
    /// Where the value is no gradient tap.
    fn read_gradient(&self, value: ValueId, into: &mut Vec<f32>) -> Result<(), EngineError>;

    /// Memory of activations, gradients, packed weights and the kernels' scratch memory, in bytes.
    fn memory_bytes(&self) -> usize;

    /// The stages, in the order of forward, with the times of the last passes.
    fn stages(&self) -> Vec<StageReport>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architecture;
    use crate::network::Head;

    #[test]
    fn everything_before_the_flattening_is_bf16() {
        for name in architecture::names() {
            let head = Head::Replaced { hidden: 20, dropout: 0.5, classes: 2 };
            let network = architecture::build(name, 64, head).unwrap();
            assert!(Precision::F32.of_values(&network).iter().all(|stored| *stored == Precision::F32));
            let mixed = Precision::Bf16.of_values(&network);
            let first = mixed.iter().position(|stored| *stored == Precision::F32).unwrap();
            assert_eq!(network.values()[first].op, Op::Flatten, "{name}");
            assert!(mixed[first..].iter().all(|stored| *stored == Precision::F32), "{name}");
        }
    }
}
