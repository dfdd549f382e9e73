//! How much scratch memory calls will ask for, so that who plans memory can count it in before anything is allocated.
//!
//! The kernels and these functions take every length from the same place.

use crate::compute::{GrowingBuffer, Shared};
use crate::{AveragePoolShape, Compute, ConvShape, Element, LANES, LinearShape, PoolShape, blocks};

/// Scratch memory that calls ask for. They use it one after the other, so that several need the larger of each part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScratchNeed {
    /// Floats of each thread.
    thread: usize,
    /// Floats of each kind that threads share.
    shared: [usize; Shared::COUNT],
}

impl ScratchNeed {
    /// Of each thread, in floats.
    pub(crate) fn of_threads(len: usize) -> ScratchNeed {
        ScratchNeed { thread: len, ..ScratchNeed::default() }
    }

    /// Of what threads share, in floats.
    pub(crate) fn of_all(kind: Shared, len: usize) -> ScratchNeed {
        let mut need = ScratchNeed::default();
        need.shared[kind as usize] = len;
        need
    }

    /// What both need, one after the other or one inside the other.
    #[must_use]
    pub fn and(self, other: ScratchNeed) -> ScratchNeed {
        ScratchNeed {
            thread: self.thread.max(other.thread),
            shared: std::array::from_fn(|kind| self.shared[kind].max(other.shared[kind])),
        }
    }
}

impl Compute {
    /// Bytes that these calls make this `Compute` hold, where nothing larger was called.
    pub fn scratch_bytes(&self, need: ScratchNeed) -> usize {
        let threads = self.threads() * GrowingBuffer::grown_len(need.thread);
        let shared: usize = need.shared.into_iter().map(GrowingBuffer::grown_len).sum();
        (threads + shared) * size_of::<f32>()
    }

    /// Of [`Compute::linear_forward`], [`Compute::linear_data_gradient`] and [`Compute::linear_weight_gradient`].
    pub fn linear_scratch(&self, shape: &LinearShape, batch: usize) -> ScratchNeed {
        ScratchNeed::of_all(Shared::Inputs, batch * (shape.input_len() + shape.output_len()))
    }

    /// Of [`Compute::max_pool_backward`].
    pub fn max_pool_scratch<E: Element>(&self, shape: &PoolShape) -> ScratchNeed {
        pooling::<E>(shape.in_height * shape.in_width)
    }

    /// Of [`Compute::average_pool_backward`].
    pub fn average_pool_scratch<E: Element>(&self, shape: &AveragePoolShape) -> ScratchNeed {
        pooling::<E>(shape.in_height * shape.in_width)
    }

    /// Of [`Compute::batch_norm_statistics`] and [`Compute::batch_norm_reduce`].
    pub fn batch_norm_scratch(&self, channels: usize, batch: usize) -> ScratchNeed {
        ScratchNeed::of_all(Shared::Vectors, batch * blocks(channels) * crate::normalise::MOMENTS)
    }

    /// Of [`Compute::conv_forward`], and where asked for of [`Compute::conv_data_gradient`] and
    /// [`Compute::conv_weight_gradient`].
    pub fn conv_scratch<E: Element>(&self, shape: &ConvShape, batch: usize, [data, weights]: [bool; 2]) -> ScratchNeed {
        let mut need = self.conv_forward_scratch::<E>(shape, batch);
        if data {
            need = need.and(self.conv_data_gradient_scratch::<E>(shape, batch));
        }
        if weights {
            need = need.and(self.conv_weight_gradient_scratch::<E>(shape));
        }
        need
    }
}

/// Sums of one block of one image, where they cannot rest in the gradient.
fn pooling<E: Element>(positions: usize) -> ScratchNeed {
    ScratchNeed::of_threads(if E::IS_F32 { 0 } else { positions * LANES })
}
