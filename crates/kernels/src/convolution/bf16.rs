//! Convolutions whose products are of bf16, rounded to nearest even, with sums in f32.
//!
//! Inputs, outputs and gradients stay f32 in memory and are rounded on the way. Where the processor multiplies pairs of
//! bf16, the panels hold pairs: of channels (of a planar input, of neighbouring columns) for forward passes and data
//! gradients, of rows for weight gradients. Elsewhere rounded values are multiplied as f32: the same products, summed
//! in another order.

use super::window::Panels;
use super::{ConvFinish, ConvShape, InputLayout};
use crate::compute::Shared;
use crate::vector::{pair, rounded};
use crate::{Compute, Isa, LANES};

impl ConvShape {
    /// Whether the `_bf16` kernels compute this convolution and its weight gradient: those of blocked inputs, and those
    /// of planar inputs whose stride is 1 or 2. The data gradient for a planar input is computed in f32 all the same.
    pub fn suits_bf16(&self) -> bool {
        self.input == InputLayout::Blocked || self.kernel > 1 && self.stride <= 2
    }
}

impl Compute {
    /// Packs weights `[out_channels, in_channels, kernel, kernel]`, rounded, for [`Compute::conv_forward_bf16`].
    ///
    /// # Panics
    /// As [`Compute::pack_weights`], and where the shape does not suit ([`ConvShape::suits_bf16`]).
    pub fn pack_weights_bf16(&self, shape: &ConvShape, oihw: &[f32], packed: &mut [f32]) {
        assert!(shape.suits_bf16(), "not for bf16: {shape:?}");
        self.pack_weights(shape, oihw, packed);
        let chunk_len = shape.taps() * shape.in_lanes() * LANES;
        match shape.input {
            InputLayout::Blocked => self.round_chunks(packed, chunk_len, pair_channels),
            InputLayout::Planar => self.round_chunks(packed, chunk_len, |chunk| pair_taps(shape.kernel, chunk)),
        }
    }

    /// Packs weights `[out_channels, in_channels, kernel, kernel]`, rounded, for [`Compute::conv_data_gradient_bf16`].
    ///
    /// # Panics
    /// As [`Compute::pack_weights_transposed`], and where the shape does not suit ([`ConvShape::suits_bf16`]).
    pub fn pack_weights_transposed_bf16(&self, shape: &ConvShape, oihw: &[f32], packed: &mut [f32]) {
        assert!(shape.suits_bf16(), "not for bf16: {shape:?}");
        self.pack_weights_transposed(shape, oihw, packed);
        if shape.input == InputLayout::Blocked {
            self.round_chunks(packed, shape.taps() * LANES * LANES, pair_channels);
        }
    }

    /// As [`Compute::conv_forward`], with products of bf16 and weights from [`Compute::pack_weights_bf16`] on the same
    /// instruction set.
    ///
    /// # Panics
    /// As [`Compute::conv_forward`], and where the shape does not suit ([`ConvShape::suits_bf16`]).
    pub fn conv_forward_bf16(
        &self,
        shape: &ConvShape,
        batch: usize,
        x: &[f32],
        packed: &[f32],
        finish: &ConvFinish,
        y: &mut [f32],
    ) {
        assert!(shape.suits_bf16(), "not for bf16: {shape:?}");
        if !self.multiplies_pairs() {
            return self.with_rounded([x, &[]], |[x, _]| self.conv_forward(shape, batch, x, packed, finish, y));
        }
        let panels = match shape.input {
            InputLayout::Blocked => Panels::ChannelPairs,
            InputLayout::Planar => Panels::TapPairs,
        };
        self.forward_from(panels, shape, batch, x, packed, finish, y);
    }

    /// As [`Compute::conv_data_gradient`], with products of bf16 and weights from
    /// [`Compute::pack_weights_transposed_bf16`] on the same instruction set.
    ///
    /// # Panics
    /// As [`Compute::conv_data_gradient`], and where the shape does not suit ([`ConvShape::suits_bf16`]).
    pub fn conv_data_gradient_bf16(
        &self,
        shape: &ConvShape,
        batch: usize,
        dy: &[f32],
        packed_transposed: &[f32],
        activation: Option<&[f32]>,
        dx: &mut [f32],
        accumulate: bool,
    ) {
        assert!(shape.suits_bf16(), "not for bf16: {shape:?}");
        if shape.input == InputLayout::Planar {
            return self.conv_data_gradient(shape, batch, dy, packed_transposed, activation, dx, accumulate);
        }
        if !self.multiplies_pairs() {
            return self.with_rounded([dy, &[]], |[dy, _]| {
                self.conv_data_gradient(shape, batch, dy, packed_transposed, activation, dx, accumulate);
            });
        }
        let panels = Panels::ChannelPairs;
        self.data_gradient_from(panels, shape, batch, dy, packed_transposed, activation, dx, accumulate);
    }

    /// As [`Compute::conv_weight_gradient`], with products of bf16. The gradient itself is f32 in the same layout.
    ///
    /// # Panics
    /// As [`Compute::conv_weight_gradient`], and where the shape does not suit ([`ConvShape::suits_bf16`]).
    pub fn conv_weight_gradient_bf16(
        &self,
        shape: &ConvShape,
        batch: usize,
        x: &[f32],
        dy: &[f32],
        packed_dw: &mut [f32],
        accumulate: bool,
    ) {
        assert!(shape.suits_bf16(), "not for bf16: {shape:?}");
        if !self.multiplies_pairs() {
            return self.with_rounded([x, dy], |[x, dy]| {
                self.conv_weight_gradient(shape, batch, x, dy, packed_dw, accumulate);
            });
        }
        self.weight_gradient_from(Panels::RowPairs, shape, batch, x, dy, packed_dw, accumulate);
    }

    /// Whether the instruction set has products of bf16 pairs.
    fn multiplies_pairs(&self) -> bool {
        self.isa() == Isa::Avx512Bf16
    }

    /// Rounds packed weights in place. Where pairs are multiplied, `pair_up` brings each chunk, the weights of a pair
    /// of blocks, to pairs at its front; what is behind them stays unused.
    fn round_chunks(&self, packed: &mut [f32], chunk_len: usize, pair_up: impl Fn(&mut [f32]) + Sync) {
        let pairs = self.multiplies_pairs();
        self.parallel_chunks(packed, chunk_len, |_, part, _| {
            if pairs {
                part.chunks_exact_mut(chunk_len).for_each(&pair_up);
            } else {
                part.iter_mut().for_each(|weight| *weight = rounded(*weight));
            }
        });
    }

    /// Calls `body` with rounded copies.
    fn with_rounded(&self, slices: [&[f32]; 2], body: impl FnOnce([&[f32]; 2])) {
        self.with_shared_scratch(Shared::Inputs, |scratch| {
            let copies = scratch.floats(slices[0].len() + slices[1].len());
            let (first, second) = copies.split_at_mut(slices[0].len());
            for (copy, slice) in [&mut *first, &mut *second].into_iter().zip(slices) {
                self.parallel_chunks(copy, 1, |start, part, _| {
                    part.iter_mut().zip(&slice[start..]).for_each(|(copy, value)| *copy = rounded(*value));
                });
            }
            body([first, second]);
        });
    }
}

/// Brings a chunk `[taps, 16 source channels, 16]` to `[taps, 8 pairs of source channels, 16]` at its front. What is
/// written lies before everything that is still to be read.
fn pair_channels(chunk: &mut [f32]) {
    for index in 0..chunk.len() / (2 * LANES) {
        for lane in 0..LANES {
            let at = index * 2 * LANES + lane;
            chunk[index * LANES + lane] = pair(chunk[at], chunk[at + LANES]);
        }
    }
}

/// Brings a chunk `[rows, columns, 16]` of a planar input to `[rows, pairs of columns, 16]` at its front.
fn pair_taps(kernel: usize, chunk: &mut [f32]) {
    let pairs = kernel.div_ceil(2);
    for (row, index) in (0..kernel).flat_map(|row| (0..pairs).map(move |index| (row, index))) {
        for lane in 0..LANES {
            let first = (row * kernel + 2 * index) * LANES + lane;
            let second = if 2 * index + 1 < kernel { chunk[first + LANES] } else { 0.0 };
            chunk[(row * pairs + index) * LANES + lane] = pair(chunk[first], second);
        }
    }
}
