//! Between layouts: plain `[N, C, H, W]`, blocked `[N, ceil(C / 16), H, W, 16]`, and rows of features.
//!
//! These kernels only move values, so that they are the same on every instruction set and need none.

use crate::vector::Vector;
use crate::{Compute, LANES, blocks, padded};

/// The values of one position in one block of channels.
pub(crate) type Lanes = [f32; LANES];

/// Positions that are moved together: 64 rows of 16 floats are 4 KiB, so that the strided side stays in the first
/// cache.
const TILE: usize = 64;

/// The number of floats of a blocked activation.
pub(crate) fn blocked_len(channels: usize, batch: usize, positions: usize) -> usize {
    batch * padded(channels) * positions
}

/// Panics where the slice called `what` has not the length that the shape gives it.
#[track_caller]
pub(crate) fn check_len(what: &str, found: usize, expected: usize) {
    assert!(found == expected, "`{what}` has {found} floats, its shape has {expected}");
}

/// A slice of whole lanes, position by position.
#[inline(always)]
pub(crate) fn lanes(x: &[f32]) -> &[Lanes] {
    let (lanes, rest) = x.as_chunks();
    debug_assert!(rest.is_empty());
    lanes
}

/// As [`lanes`], to be written.
#[inline(always)]
pub(crate) fn lanes_mut(x: &mut [f32]) -> &mut [Lanes] {
    let (lanes, rest) = x.as_chunks_mut();
    debug_assert!(rest.is_empty());
    lanes
}

/// The lanes of block `index` of a per-channel vector.
#[inline(always)]
pub(crate) fn block_of(vector: &[f32], index: usize) -> &Lanes {
    &lanes(vector)[index]
}

/// The lanes as a vector.
///
/// # Safety
/// The processor has the vector's instruction set, for which the caller is compiled.
#[inline(always)]
pub(crate) unsafe fn load<V: Vector>(lanes: &Lanes) -> V {
    // SAFETY: an array of 16 floats; the caller vouches for the instruction set.
    unsafe { V::load(lanes.as_ptr()) }
}

/// Writes the vector to the lanes.
#[inline(always)]
pub(crate) fn store<V: Vector>(vector: V, lanes: &mut Lanes) {
    // SAFETY: an array of 16 floats.
    unsafe { vector.store(lanes.as_mut_ptr()) }
}

impl Compute {
    /// Turns plain `[batch, channels, positions]` into blocked `[batch, blocks, positions, 16]`, tails zero.
    ///
    /// # Panics
    /// Where a slice has another length than its shape.
    pub fn planar_to_blocked(&self, channels: usize, batch: usize, positions: usize, src: &[f32], dst: &mut [f32]) {
        check_len("src", src.len(), batch * channels * positions);
        check_len("dst", dst.len(), blocked_len(channels, batch, positions));
        self.parallel_chunks(dst, (positions * LANES).max(1), |first, part, _| {
            for (i, target) in part.chunks_exact_mut(positions * LANES).enumerate() {
                let (image, block) = ((first + i) / blocks(channels), (first + i) % blocks(channels));
                let source = &src[image * channels * positions..][..channels * positions];
                gather_block::<false>(channels, positions, block, source, target);
            }
        });
    }

    /// The inverse of [`Compute::planar_to_blocked`].
    ///
    /// # Panics
    /// Where a slice has another length than its shape.
    pub fn blocked_to_planar(&self, channels: usize, batch: usize, positions: usize, src: &[f32], dst: &mut [f32]) {
        check_len("src", src.len(), blocked_len(channels, batch, positions));
        check_len("dst", dst.len(), batch * channels * positions);
        self.scatter_images(channels, positions, src, channels * positions, dst);
    }

    /// Turns a blocked activation into rows of features `[batch, padded(channels * positions)]` for a linear layer, in
    /// torchvision's order: feature `c * positions + h * W + w` is channel `c` at `(h, w)`. The rows' tails are zero.
    ///
    /// # Panics
    /// Where a slice has another length than its shape.
    pub fn flatten(&self, channels: usize, batch: usize, positions: usize, src: &[f32], dst: &mut [f32]) {
        let row = padded(channels * positions);
        check_len("src", src.len(), blocked_len(channels, batch, positions));
        check_len("dst", dst.len(), batch * row);
        self.scatter_images(channels, positions, src, row, dst);
    }

    /// The gradient of [`Compute::flatten`]: `dx` (blocked) becomes what `dy` (rows of features) holds, or has it added
    /// where `accumulate` is set.
    ///
    /// # Panics
    /// Where a slice has another length than its shape.
    pub fn flatten_backward(
        &self,
        channels: usize,
        batch: usize,
        positions: usize,
        dy: &[f32],
        dx: &mut [f32],
        accumulate: bool,
    ) {
        let row = padded(channels * positions);
        check_len("dy", dy.len(), batch * row);
        check_len("dx", dx.len(), blocked_len(channels, batch, positions));
        self.parallel_chunks(dx, (positions * LANES).max(1), |first, part, _| {
            for (i, target) in part.chunks_exact_mut(positions * LANES).enumerate() {
                let (image, block) = ((first + i) / blocks(channels), (first + i) % blocks(channels));
                let source = &dy[image * row..][..channels * positions];
                if accumulate {
                    gather_block::<true>(channels, positions, block, source, target);
                } else {
                    gather_block::<false>(channels, positions, block, source, target);
                }
            }
        });
    }

    /// Writes each image of `src` as a plain `[channels, positions]` into its row of `dst`; what is left of the row
    /// becomes zero.
    fn scatter_images(&self, channels: usize, positions: usize, src: &[f32], row: usize, dst: &mut [f32]) {
        let image_len = padded(channels) * positions;
        self.parallel_chunks(dst, row.max(1), |first, part, _| {
            for (i, target) in part.chunks_exact_mut(row).enumerate() {
                let image = &src[(first + i) * image_len..][..image_len];
                let (values, tail) = target.split_at_mut(channels * positions);
                for block in 0..blocks(channels) {
                    scatter_block(channels, positions, block, image, values);
                }
                tail.fill(0.0);
            }
        });
    }
}

/// Fills (or adds to) one block of an image from its plain `[channels, positions]`.
fn gather_block<const ACCUMULATE: bool>(
    channels: usize,
    positions: usize,
    block: usize,
    planar: &[f32],
    target: &mut [f32],
) {
    let present = (channels - block * LANES).min(LANES);
    let target = lanes_mut(target);
    for start in (0..positions).step_by(TILE) {
        let tile = start..(start + TILE).min(positions);
        for lane in 0..present {
            let source = &planar[(block * LANES + lane) * positions..][tile.clone()];
            for (target, &value) in target[tile.clone()].iter_mut().zip(source) {
                target[lane] = if ACCUMULATE { target[lane] + value } else { value };
            }
        }
        if !ACCUMULATE {
            target[tile].iter_mut().for_each(|target| target[present..].fill(0.0));
        }
    }
}

/// Writes one block of an image to its places in the plain `[channels, positions]`.
fn scatter_block(channels: usize, positions: usize, block: usize, image: &[f32], planar: &mut [f32]) {
    let source = &lanes(image)[block * positions..][..positions];
    let present = (channels - block * LANES).min(LANES);
    for start in (0..positions).step_by(TILE) {
        let tile = start..(start + TILE).min(positions);
        for lane in 0..present {
            let target = &mut planar[(block * LANES + lane) * positions..][tile.clone()];
            for (target, source) in target.iter_mut().zip(&source[tile.clone()]) {
                *target = source[lane];
            }
        }
    }
}
