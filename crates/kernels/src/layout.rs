//! Between layouts: plain `[N, C, H, W]`, blocked `[N, ceil(C / 16), H, W, 16]`, and rows of features.
//!
//! Most of these kernels only move values, so that they are the same on every instruction set and need none.

use crate::vector::{Vector, dispatch};
use crate::{Compute, Element, LANES, blocks, padded};

/// The values of one position in one block of channels.
pub(crate) type Lanes<E = f32> = [E; LANES];

/// Positions that are moved together: 64 rows of 16 floats are 4 KiB, so that the strided side stays in the first
/// cache.
const TILE: usize = 64;

/// The number of elements of a blocked activation.
pub(crate) fn blocked_len(channels: usize, batch: usize, positions: usize) -> usize {
    batch * padded(channels) * positions
}

/// Panics where the slice called `what` has not the length that the shape gives it.
#[track_caller]
pub(crate) fn check_len(what: &str, found: usize, expected: usize) {
    assert!(found == expected, "`{what}` has {found} elements, its shape has {expected}");
}

/// A slice of whole lanes, position by position.
#[inline(always)]
pub(crate) fn lanes<E>(x: &[E]) -> &[Lanes<E>] {
    let (lanes, rest) = x.as_chunks();
    debug_assert!(rest.is_empty());
    lanes
}

/// As [`lanes`], to be written.
#[inline(always)]
pub(crate) fn lanes_mut<E>(x: &mut [E]) -> &mut [Lanes<E>] {
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
pub(crate) unsafe fn load<V: Vector, E: Element>(lanes: &Lanes<E>) -> V {
    // SAFETY: an array of 16 numbers; the caller vouches for the instruction set.
    unsafe { V::load(lanes.as_ptr()) }
}

/// Writes the vector to the lanes.
#[inline(always)]
pub(crate) fn store<V: Vector, E: Element>(vector: V, lanes: &mut Lanes<E>) {
    // SAFETY: an array of 16 numbers.
    unsafe { vector.store(lanes.as_mut_ptr()) }
}

impl Compute {
    /// Copies elements of one kind to another, each rounded to it.
    ///
    /// # Panics
    /// Where the lengths differ.
    pub fn convert<S: Element, T: Element>(&self, src: &[S], dst: &mut [T]) {
        check_len("src", src.len(), dst.len());
        self.parallel_elements(dst, 1, |first, part| convert(self.isa(), &src[first..][..part.len()], part));
    }

    /// Turns plain `[batch, channels, positions]` into blocked `[batch, blocks, positions, 16]`, tails zero.
    ///
    /// # Panics
    /// Where a slice has another length than its shape.
    pub fn planar_to_blocked<E: Element>(
        &self,
        channels: usize,
        batch: usize,
        positions: usize,
        src: &[f32],
        dst: &mut [E],
    ) {
        check_len("src", src.len(), batch * channels * positions);
        check_len("dst", dst.len(), blocked_len(channels, batch, positions));
        self.parallel_chunks(dst, (positions * LANES).max(1), |first, part, _| {
            for (i, target) in part.chunks_exact_mut(positions * LANES).enumerate() {
                let (image, block) = ((first + i) / blocks(channels), (first + i) % blocks(channels));
                let source = &src[image * channels * positions..][..channels * positions];
                gather_block::<E, false>(channels, positions, block, source, target);
            }
        });
    }

    /// The inverse of [`Compute::planar_to_blocked`].
    ///
    /// # Panics
    /// Where a slice has another length than its shape.
    pub fn blocked_to_planar<E: Element>(
        &self,
        channels: usize,
        batch: usize,
        positions: usize,
        src: &[E],
        dst: &mut [f32],
    ) {
        check_len("src", src.len(), blocked_len(channels, batch, positions));
        check_len("dst", dst.len(), batch * channels * positions);
        self.scatter_images(channels, positions, src, channels * positions, dst);
    }

    /// Turns a blocked activation into rows of features `[batch, padded(channels * positions)]` for a linear layer, in
    /// torchvision's order: feature `c * positions + h * W + w` is channel `c` at `(h, w)`. The rows' tails are zero.
    ///
    /// # Panics
    /// Where a slice has another length than its shape.
    pub fn flatten<E: Element>(&self, channels: usize, batch: usize, positions: usize, src: &[E], dst: &mut [f32]) {
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
    pub fn flatten_backward<E: Element>(
        &self,
        channels: usize,
        batch: usize,
        positions: usize,
        dy: &[f32],
        dx: &mut [E],
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
                    gather_block::<E, true>(channels, positions, block, source, target);
                } else {
                    gather_block::<E, false>(channels, positions, block, source, target);
                }
            }
        });
    }

    /// Writes each image of `src` as a plain `[channels, positions]` into its row of `dst`; what is left of the row
    /// becomes zero.
    fn scatter_images<E: Element>(&self, channels: usize, positions: usize, src: &[E], row: usize, dst: &mut [f32]) {
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

dispatch! {
/// [`Compute::convert`] on one thread.
pub(crate) fn convert<S, T>(src: &[S], dst: &mut [T]) = convert_kernel }

#[inline(always)]
unsafe fn convert_kernel<V: Vector, S: Element, T: Element>(src: &[S], dst: &mut [T]) {
    let ((src, src_tail), (dst, dst_tail)) = (src.as_chunks(), dst.as_chunks_mut());
    for (src, dst) in src.iter().zip(dst) {
        // SAFETY: the wrapper checked the instruction set.
        let values: V = unsafe { load(src) };
        store(values, dst);
    }
    for (src, dst) in src_tail.iter().zip(dst_tail) {
        *dst = T::from_f32(src.to_f32());
    }
}

/// Fills (or adds to) one block of an image from its plain `[channels, positions]`.
fn gather_block<E: Element, const ACCUMULATE: bool>(
    channels: usize,
    positions: usize,
    block: usize,
    planar: &[f32],
    target: &mut [E],
) {
    let present = (channels - block * LANES).min(LANES);
    let target = lanes_mut(target);
    for start in (0..positions).step_by(TILE) {
        let tile = start..(start + TILE).min(positions);
        for lane in 0..present {
            let source = &planar[(block * LANES + lane) * positions..][tile.clone()];
            for (target, &value) in target[tile.clone()].iter_mut().zip(source) {
                let value = if ACCUMULATE { target[lane].to_f32() + value } else { value };
                target[lane] = E::from_f32(value);
            }
        }
        if !ACCUMULATE {
            target[tile].iter_mut().for_each(|target| target[present..].fill(E::default()));
        }
    }
}

/// Writes one block of an image to its places in the plain `[channels, positions]`.
fn scatter_block<E: Element>(channels: usize, positions: usize, block: usize, image: &[E], planar: &mut [f32]) {
    let source = &lanes(image)[block * positions..][..positions];
    let present = (channels - block * LANES).min(LANES);
    for start in (0..positions).step_by(TILE) {
        let tile = start..(start + TILE).min(positions);
        for lane in 0..present {
            let target = &mut planar[(block * LANES + lane) * positions..][tile.clone()];
            for (target, source) in target.iter_mut().zip(&source[tile.clone()]) {
                *target = source[lane].to_f32();
            }
        }
    }
}
