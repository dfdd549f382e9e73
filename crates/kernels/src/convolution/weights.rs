//! Weights between PyTorch's layout and the one in which the kernels stream them.
//!
//! Packed: `[ceil(O / 16), ceil(C / 16), kernel, kernel, 16 c, 16 o]`, zeros beyond the channel counts. For a planar
//! input it is `[ceil(O / 16), C, kernel, kernel, 16 o]`. Transposed, for the data gradient, input and output channels
//! swap: `[ceil(C / 16), ceil(O / 16), kernel, kernel, 16 o, 16 c]`.

use super::ConvShape;
use crate::{Compute, LANES, blocks};

impl Compute {
    /// Packs weights `[out_channels, in_channels, kernel, kernel]` for [`Compute::conv_forward`].
    ///
    /// # Panics
    /// Where `oihw` has not [`ConvShape::weights_len`] or `packed` not [`ConvShape::packed_len`] floats.
    pub fn pack_weights(&self, shape: &ConvShape, oihw: &[f32], packed: &mut [f32]) {
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
            }
        });
    }

    /// Packs weights `[out_channels, in_channels, kernel, kernel]` for [`Compute::conv_data_gradient`].
    ///
    /// # Panics
    /// Where `oihw` has not [`ConvShape::weights_len`] or `packed` not [`ConvShape::packed_transposed_len`] floats.
    pub fn pack_weights_transposed(&self, shape: &ConvShape, oihw: &[f32], packed: &mut [f32]) {
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
