//! What an engine says of a program: its stages with their work and times, and its plan of memory.

use crate::network::FeatureShape;

/// A stage of a compiled program, what one pass over the data does, and how long it took.
#[derive(Clone, Debug, PartialEq)]
pub struct StageReport {
    /// Name of the value that the stage makes.
    pub name: String,
    /// What it does, with all that is fused: `convolution + relu`, `batch norm + add + relu`.
    pub kind: String,
    /// The output for one image.
    pub output: FeatureShape,
    /// Floating-point operations of the forward pass over one image: two for each multiply-add of a linear layer, or of
    /// a convolution computed directly, however it is really computed. 0 for other stages.
    pub forward_operations: u64,
    /// The same, of the gradients that the backward pass computes: as many for the input's as for the weight's.
    pub backward_operations: u64,
    /// Seconds that the stage took in the last forward pass; 0 before the first.
    pub forward_s: f64,
    /// Seconds that the stage took in the last backward pass; 0 before the first, and where backward does not come by.
    pub backward_s: f64,
}

/// Where everything of a program lies, and when.
#[derive(Clone, Debug, PartialEq)]
pub struct MemoryPlan {
    /// What happens, in order: `forward conv1`, ..., `backward conv1`, and last the reading of the results. Steps
    /// without work are among them.
    pub steps: Vec<String>,
    /// The buffers of the arena.
    pub buffers: Vec<PlannedBuffer>,
    /// Bytes of the arena that the buffers share.
    pub arena_bytes: usize,
    /// Bytes of packed weights, their transposed copies and their gradients, which share nothing.
    pub packed_bytes: usize,
    /// Bytes of scratch memory of the kernels: transformed weights and inputs, sums. All programs of an engine share it,
    /// one after the other.
    pub scratch_bytes: usize,
}

/// A part of the arena with one content for a while.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedBuffer {
    /// What it holds.
    pub holds: BufferContent,
    /// Names of the values that it belongs to, in the order in which they come to use it; several where gradients are
    /// worked out in place.
    pub owners: Vec<String>,
    /// Bytes of the largest batch.
    pub bytes: usize,
    /// Where it begins in the arena, in bytes.
    pub offset_bytes: usize,
    /// The step, by its place in [`MemoryPlan::steps`], that first writes it.
    pub first: usize,
    /// The step that last reads it.
    pub last: usize,
}

/// What a buffer of the arena is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BufferContent {
    /// A value of the network.
    Value,
    /// The gradient of values.
    Gradient,
    /// The random mask of a dropout.
    Mask,
    /// A gradient kept because the caller wants to read it.
    KeptGradient,
}

impl MemoryPlan {
    /// Bytes that the program takes: arena and packed weights, which are allocated when it is compiled, and scratch
    /// memory, which grows in its first passes.
    pub fn peak_bytes(&self) -> usize {
        self.arena_bytes + self.packed_bytes + self.scratch_bytes
    }

    /// Bytes that it would take if no two buffers shared a place.
    pub fn unshared_bytes(&self) -> usize {
        self.buffers.iter().map(|buffer| buffer.bytes).sum::<usize>() + self.packed_bytes + self.scratch_bytes
    }

    /// Bytes of the buffers that hold something during a step: no arena can be smaller than the largest of these.
    pub fn living_bytes(&self, step: usize) -> usize {
        let living = self.buffers.iter().filter(|buffer| buffer.first <= step && step <= buffer.last);
        living.map(|buffer| buffer.bytes).sum()
    }
}
