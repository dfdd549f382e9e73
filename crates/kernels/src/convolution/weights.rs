//! Weights between PyTorch's layout and the one in which the kernels stream them.
//!
//! Packed: `[ceil(O / 16), ceil(C / 16), kernel, kernel, 16 c, 16 o]`, zeros beyond the channel counts. For a planar
//! input it is `[ceil(O / 16), C, kernel, kernel, 16 o]`. Transposed, for the data gradient, input and output channels
//! swap: `[ceil(C / 16), ceil(O / 16), kernel, kernel, 16 o, 16 c]`.
//!
//! For activations of bf16 they are rounded, and paired as the panels are that they meet: each chunk, the weights of a
//! pair of blocks, then has its pairs at its front, and what is behind them stays unused.

use super::ConvShape;
use super::window::Panels;
use crate::element::pair;
use crate::{Bf16, Compute, Element, LANES, blocks};

impl Compute {
    /// Packs weights `[out_channels, in_channels, kernel, kernel]` for [`Compute::conv_forward`] of such elements on the
    /// same instruction set.
    ///
    /// # Panics
    /// Where `oihw` has not [`ConvShape::weights_len`] or `packed` not [`ConvShape::packed_len`] floats.
    pub fn pack_weights<E: Element>(&self, shape: &ConvShape, oihw: &[f32], packed: &mut [f32]) {
        assert_eq!(oihw.len(), shape.weights_len(), "weights of {shape:?}");
        assert_eq!(packed.len(), shape.packed_len(), "packed weights of {shape:?}");
        let (taps, lanes, in_blocks) = (shape.taps(), shape.in_lanes(), shape.in_blocks());
        self.parallel_chunks(packed, taps * lanes * LANES, |first, part, _| {
            for (i, chunk) in part.chunks_exact_mut(taps * lanes * LANES).enumerate() {
                let (out_block, in_block) = ((first + i) / in_blocks, (first + i) % in_blocks);
                // Channels beyond the last are the zeros that keep the tail lanes zero.
                chunk.fill(0.0);
                for o in 0..LANES.min(shape.out_channels - out_block * LANES) {
                    for c in 0..lanes.min(shape.in_channels - in_block * lanes) {
                        let row = (out_block * LANES + o) * shape.in_channels + in_block * lanes + c;
                        for (tap, &weight) in oihw[row * taps..][..taps].iter().enumerate() {
                            chunk[(tap * lanes + c) * LANES + o] = weight;
                        }
                    }
                }
                round_chunk::<E>(Panels::of_forward::<E>(self.isa(), shape), shape.kernel, chunk);
            }
        });
    }

    /// Packs weights `[out_channels, in_channels, kernel, kernel]` for [`Compute::conv_data_gradient`] of such elements
    /// on the same instruction set.
    ///
    /// # Panics
    /// Where `oihw` has not [`ConvShape::weights_len`] or `packed` not [`ConvShape::packed_transposed_len`] floats.
    pub fn pack_weights_transposed<E: Element>(&self, shape: &ConvShape, oihw: &[f32], packed: &mut [f32]) {
        assert_eq!(oihw.len(), shape.weights_len(), "weights of {shape:?}");
        assert_eq!(packed.len(), shape.packed_transposed_len(), "transposed packed weights of {shape:?}");
        let (taps, out_blocks) = (shape.taps(), blocks(shape.out_channels));
        let chunk_len = taps * LANES * LANES;
        // A thread has whole input blocks, and goes along the rows of the weights: they may be longer than a page.
        self.parallel_chunks(packed, out_blocks * chunk_len, |first, part, _| {
            let in_blocks = part.len() / (out_blocks * chunk_len);
            for (out_block, in_block) in (0..out_blocks).flat_map(|o| (0..in_blocks).map(move |i| (o, i))) {
                let chunk = &mut part[(in_block * out_blocks + out_block) * chunk_len..][..chunk_len];
                let ins = LANES.min(shape.in_channels - (first + in_block) * LANES);
                chunk.fill(0.0);
                for o in 0..LANES.min(shape.out_channels - out_block * LANES) {
                    let row = (out_block * LANES + o) * shape.in_channels + (first + in_block) * LANES;
                    let row = &oihw[row * taps..][..ins * taps];
                    if taps == 1 {
                        chunk[o * LANES..][..ins].copy_from_slice(row);
                        continue;
                    }
                    for (c, weights) in row.chunks_exact(taps).enumerate() {
                        for (tap, &weight) in weights.iter().enumerate() {
                            chunk[(tap * LANES + o) * LANES + c] = weight;
                        }
                    }
                }
                round_chunk::<E>(Panels::of_gradient::<E>(self.isa()), shape.kernel, chunk);
            }
        });
    }

    /// Brings the gradient that [`Compute::conv_weight_gradient`] made into the layout of the weights:
    /// `[out_channels, in_channels, kernel, kernel]`.
    ///
    /// # Panics
    /// Where `packed` has not [`ConvShape::packed_gradient_len`] or `oihw` not [`ConvShape::weights_len`] floats.
    pub fn unpack_weight_gradient(&self, shape: &ConvShape, packed: &[f32], oihw: &mut [f32]) {
        assert_eq!(packed.len(), shape.packed_gradient_len(), "packed weight gradient of {shape:?}");
        assert_eq!(oihw.len(), shape.weights_len(), "weight gradient of {shape:?}");
        let (taps, lanes, in_blocks) = (shape.taps(), shape.in_lanes(), shape.in_blocks());
        self.parallel_chunks(oihw, shape.in_channels * taps, |first, part, _| {
            for (i, row) in part.chunks_exact_mut(shape.in_channels * taps).enumerate() {
                let (out_block, o) = ((first + i) / LANES, (first + i) % LANES);
                for (c, weights) in row.chunks_exact_mut(taps).enumerate() {
                    let block = (out_block * in_blocks + c / lanes) * taps;
                    for (tap, weight) in weights.iter_mut().enumerate() {
                        *weight = packed[((block + tap) * lanes + c % lanes) * LANES + o];
                    }
                }
            }
        });
    }
}

/// Rounds a chunk to elements of a kind, in pairs where the panels hold pairs.
fn round_chunk<E: Element>(panels: Panels, kernel: usize, chunk: &mut [f32]) {
    match panels {
        Panels::Values if E::IS_F32 => {}
        Panels::Values => chunk.iter_mut().for_each(|weight| *weight = E::from_f32(*weight).to_f32()),
        Panels::ChannelPairs => pair_channels(chunk),
        Panels::TapPairs => pair_taps(kernel, chunk),
        Panels::RowPairs => unreachable!("rows are paired for weight gradients alone"),
    }
}

/// Brings a chunk `[taps, 16 source channels, 16]` to `[taps, 8 pairs of source channels, 16]` at its front. What is
/// written lies before everything that is still to be read.
fn pair_channels(chunk: &mut [f32]) {
    for index in 0..chunk.len() / (2 * LANES) {
        for lane in 0..LANES {
            let at = index * 2 * LANES + lane;
            chunk[index * LANES + lane] = pair(Bf16::from_f32(chunk[at]), Bf16::from_f32(chunk[at + LANES]));
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
            chunk[(row * pairs + index) * LANES + lane] = pair(Bf16::from_f32(chunk[first]), Bf16::from_f32(second));
        }
    }
}
