//! The weight gradient: at each of the 36 points a sum over tiles of transformed inputs times transformed gradients,
//! brought back to 3 x 3 at the end.
//!
//! Threads share out pairs of (input block, group of output blocks), as many parts along each as keep the transforms
//! that more than one thread does rare. Each sum is one chain over the tiles in order, whatever the threads and the
//! number of tiles at a time, and goes on from call to call in memory that the caller keeps.

use std::ops::Range;

use super::kernel::{TileSum, WinogradKernel};
use super::tiling::{Place, Tiling};
use super::weights::Group;
use super::{EDGE_LEN, POINT_GAP, POINTS, TAPS, TAPS_LEN};
use crate::compute::Scratch;
use crate::threads::{DisjointMut, share};
use crate::vector::with_vector;
use crate::{Compute, ConvShape, Element, LANES, ScratchNeed, blocks};

/// Floats of sums that rest in the second-level cache beside everything else.
const RESTING_SUMS: usize = 96 * 1024;

/// Most tiles at a time where the sums rest in that cache: few, so that their transforms rest there too.
const TILES_AT_REST: usize = 28;

/// Most tiles at a time where the sums come from further away: many, to be worth their way.
const TILES_ON_THE_WAY: usize = 112;

/// Input blocks whose sums are worked on side by side: their transforms lie one after the other at each point, which
/// makes long runs through memory, and the gradients are read for all of them from the first-level cache.
const BLOCKS_AT_ONCE: usize = 4;

/// Sums that go on from an earlier batch, or are to be gone on from.
pub struct WinogradSums<'a> {
    /// [`ConvShape::winograd_sums_len`] floats.
    pub sums: &'a mut [f32],
    /// Whether to add to what they hold.
    pub accumulate: bool,
}

struct Gradient<'a, E> {
    shape: &'a ConvShape,
    tiling: Tiling,
    x: &'a [E],
    dy: &'a [E],
    in_blocks: usize,
    out_blocks: usize,
    /// Kept sums, and whether to add to them.
    kept: Option<(DisjointMut<'a>, bool)>,
}

impl Compute {
    /// The gradient for the weights, from the input and the gradient for the output, by Winograd's algorithm.
    ///
    /// - `x`: `batch` images, blocked, [`ConvShape::input_len`] elements each
    /// - `dy`: `batch` images, blocked, [`ConvShape::output_len`] elements each
    /// - `sums`: where the gradient of a batch is gathered from smaller ones, the sums that go on from one to the next
    /// - `dw`: `[out_channels, in_channels, 3, 3]`; overwritten
    ///
    /// # Panics
    /// Where a length does not fit, or the shape does not suit ([`ConvShape::suits_winograd`]).
    pub fn winograd_weight_gradient<E: Element>(
        &self,
        shape: &ConvShape,
        batch: usize,
        x: &[E],
        dy: &[E],
        sums: Option<WinogradSums>,
        dw: &mut [f32],
    ) {
        assert!(shape.suits_winograd(), "not for Winograd's algorithm: {shape:?}");
        assert_eq!(x.len(), batch * shape.input_len(), "input of {batch} x {shape:?}");
        assert_eq!(dy.len(), batch * shape.output_len(), "output gradient of {batch} x {shape:?}");
        assert_eq!(dw.len(), shape.weights_len(), "weight gradient of {shape:?}");
        let kept = sums.map(|kept| {
            assert_eq!(kept.sums.len(), shape.winograd_sums_len(), "sums of {shape:?}");
            (DisjointMut::new(kept.sums), kept.accumulate)
        });
        let gradient = Gradient {
            shape,
            tiling: Tiling::forward(shape, batch),
            x,
            dy,
            in_blocks: blocks(shape.in_channels),
            out_blocks: blocks(shape.out_channels),
            kept,
        };
        with_vector!(self.isa(), V => self.winograd_weight_gradient_with::<V, E>(&gradient, dw));
    }

    pub(super) fn winograd_weight_gradient_scratch<K: WinogradKernel>(
        &self,
        shape: &ConvShape,
        batch: usize,
        kept: bool,
    ) -> ScratchNeed {
        let (in_blocks, out_blocks) = (blocks(shape.in_channels), blocks(shape.out_channels));
        let groups = Group::count::<K>(out_blocks);
        let (in_parts, group_parts) = parts(in_blocks, groups, self.threads());
        // The largest part.
        let (ins, groups) = (in_blocks.div_ceil(in_parts), groups.div_ceil(group_parts));
        let outs = (groups * K::GROUP_LANES / LANES).min(out_blocks);
        let tiles = Tiling::forward(shape, batch).count();
        ScratchNeed::of_threads(Lengths::new::<K>(tiles, ins, groups, outs, kept).all())
    }

    fn winograd_weight_gradient_with<K: WinogradKernel, E: Element>(&self, gradient: &Gradient<E>, dw: &mut [f32]) {
        let groups = Group::count::<K>(gradient.out_blocks);
        let (in_parts, group_parts) = parts(gradient.in_blocks, groups, self.threads());
        let dw = DisjointMut::new(dw);
        self.parallel(in_parts * group_parts, |parts, scratch| {
            for part in parts {
                let in_blocks = share(gradient.in_blocks, part / group_parts, in_parts);
                run::<K, E>(gradient, in_blocks, share(groups, part % group_parts, group_parts), dw, scratch);
            }
        });
    }
}

/// Into how many parts to cut input blocks and groups of output blocks for so many threads: nearly square ones, since a
/// part transforms what lies along both its sides.
fn parts(in_blocks: usize, groups: usize, threads: usize) -> (usize, usize) {
    let in_parts = (1..=threads.min(in_blocks))
        .rev()
        .find(|parts| parts * parts <= threads && threads.is_multiple_of(*parts))
        .unwrap_or(1);
    let group_parts = (threads / in_parts).clamp(1, groups);
    ((threads / group_parts).clamp(1, in_blocks), group_parts)
}

/// What a thread takes for its part.
struct Lengths {
    /// Tiles at a time.
    at_once: usize,
    /// Sums of one pair of input block and group: `[36, 16 input channels, lanes]`.
    pair_len: usize,
    /// From point to point in transformed inputs.
    x_stride: usize,
    /// From point to point in transformed gradients.
    dy_stride: usize,
    /// Sums that are not kept.
    own_sums: usize,
}

impl Lengths {
    fn new<K: WinogradKernel>(tiles: usize, in_blocks: usize, groups: usize, out_blocks: usize, kept: bool) -> Lengths {
        let pair_len = POINTS * LANES * K::GROUP_LANES;
        let pairs = in_blocks * groups;
        let most_at_once = if pairs * pair_len <= RESTING_SUMS { TILES_AT_REST } else { TILES_ON_THE_WAY };
        let at_once = tiles.div_ceil(tiles.div_ceil(most_at_once).max(1)).max(1);
        Lengths {
            at_once,
            pair_len,
            x_stride: in_blocks * at_once * LANES + POINT_GAP,
            dy_stride: out_blocks * at_once * LANES + POINT_GAP,
            // Where all tiles are taken at once, sums need no place beyond their own time.
            own_sums: match kept {
                true => 0,
                false if tiles <= at_once => BLOCKS_AT_ONCE * pair_len,
                false => pairs * pair_len,
            },
        }
    }

    fn all(&self) -> usize {
        POINTS * (self.x_stride + self.dy_stride) + self.own_sums + EDGE_LEN + TAPS_LEN
    }
}

fn run<K: WinogradKernel, E: Element>(
    gradient: &Gradient<E>,
    in_blocks: Range<usize>,
    groups: Range<usize>,
    dw: DisjointMut,
    scratch: &mut Scratch,
) {
    let tiling = &gradient.tiling;
    let tiles = tiling.count();
    let most = K::GROUP_LANES / LANES;
    let out_blocks = groups.start * most..(groups.end * most).min(gradient.out_blocks);
    let lens = Lengths::new::<K>(tiles, in_blocks.len(), groups.len(), out_blocks.len(), gradient.kept.is_some());
    let Lengths { at_once, pair_len, x_stride, dy_stride, .. } = lens;
    let single = tiles <= at_once;
    let (x, rest) = scratch.floats(lens.all()).split_at_mut(POINTS * x_stride);
    let (dy, rest) = rest.split_at_mut(POINTS * dy_stride);
    let (own_sums, rest) = rest.split_at_mut(lens.own_sums);
    let (edge, taps) = rest.split_at_mut(EDGE_LEN);
    let own_sums_start = own_sums.as_mut_ptr();

    let mut places = [Place::default(); TILES_ON_THE_WAY];
    for first in (0..tiles.max(1)).step_by(at_once) {
        let now = first..(first + at_once).min(tiles);
        let places = &mut places[..now.len()];
        for (place, tile) in places.iter_mut().zip(now.clone()) {
            *place = tiling.place(tile);
        }
        transform_inputs::<K, E>(gradient, in_blocks.clone(), places, (x, x_stride, at_once), edge);
        transform_gradients::<K, E>(gradient, out_blocks.clone(), places, (dy, dy_stride, at_once), edge);
        let last = now.end == tiles;
        let continues = first > 0 || gradient.kept.as_ref().is_some_and(|(_, accumulate)| *accumulate);
        for (group_index, group) in groups.clone().enumerate() {
            let group = Group::new::<K>(group, gradient.out_blocks, gradient.in_blocks);
            let lanes = group.lanes();
            let sums_of = |block_index: usize| -> *mut f32 {
                match &gradient.kept {
                    // Group by group as the weights, and within a group one pair after the other.
                    Some((kept, _)) => {
                        let in_block = in_blocks.start + block_index;
                        kept.as_mut_ptr().wrapping_add(group.start + in_block * POINTS * LANES * lanes)
                    }
                    None if single => own_sums_start.wrapping_add(block_index % BLOCKS_AT_ONCE * pair_len),
                    None => own_sums_start.wrapping_add((group_index * in_blocks.len() + block_index) * pair_len),
                }
            };
            for first_block in (0..in_blocks.len()).step_by(BLOCKS_AT_ONCE) {
                let block_indices = first_block..(first_block + BLOCKS_AT_ONCE).min(in_blocks.len());
                for point in 0..POINTS {
                    let gradient_at = point * dy_stride + (group.block - out_blocks.start) * at_once * LANES;
                    for block_index in block_indices.clone() {
                        let sum = TileSum {
                            source: x[point * x_stride + block_index * at_once * LANES..].as_ptr(),
                            gradient: dy[gradient_at..].as_ptr(),
                            gradient_second: if group.blocks > 1 { at_once * LANES } else { LANES / 2 },
                            tiles: now.len(),
                            target: sums_of(block_index).wrapping_add(point * LANES * lanes),
                            accumulate: continues,
                        };
                        // SAFETY: `Compute` runs on instruction sets that the processor has. Inputs and gradients of a
                        // block are `at_once` tiles of 16 channels; the sums of this pair lie in its own part of the
                        // memory.
                        unsafe { K::tile_sum(lanes, &sum) };
                    }
                }
                if last {
                    for (block_index, block) in block_indices.flat_map(|i| (0..group.blocks).map(move |b| (i, b))) {
                        let sums = sums_of(block_index).wrapping_add(block * LANES);
                        // SAFETY: as above; taps has room for 9 x 16 x 16 weights.
                        unsafe { K::weight_gradient(sums, lanes, taps.as_mut_ptr()) };
                        scatter(gradient.shape, in_blocks.start + block_index, group.block + block, taps, dw);
                    }
                }
            }
        }
    }
}

fn transform_inputs<K: WinogradKernel, E: Element>(
    gradient: &Gradient<E>,
    in_blocks: Range<usize>,
    places: &[Place],
    (into, stride, at_once): (&mut [f32], usize, usize),
    edge: &mut [f32],
) {
    let tiling = &gradient.tiling;
    // Tiles inside blocks: neighbours write next to each other, on 36 pages of memory and not on 36 for each block.
    for (block_index, block) in in_blocks.enumerate() {
        for (index, &place) in places.iter().enumerate() {
            let map = (place.image * gradient.in_blocks + block) * tiling.source_block_len();
            let map = &gradient.x[map..][..tiling.source_block_len()];
            let (source, row_stride) = tiling.source_of::<K, E>(place, map, edge);
            let target = into[(block_index * at_once + index) * LANES..].as_mut_ptr();
            // SAFETY: `Compute` runs on instruction sets that the processor has; `source_of` gives 6 rows of 6
            // positions, and the points of a tile and block lie `stride` apart in `into`.
            unsafe { K::input(source, row_stride, target, stride) };
        }
    }
}

fn transform_gradients<K: WinogradKernel, E: Element>(
    gradient: &Gradient<E>,
    out_blocks: Range<usize>,
    places: &[Place],
    (into, stride, at_once): (&mut [f32], usize, usize),
    edge: &mut [f32],
) {
    let tiling = &gradient.tiling;
    for (block_index, block) in out_blocks.enumerate() {
        for (index, &place) in places.iter().enumerate() {
            let map = (place.image * gradient.out_blocks + block) * tiling.target_block_len();
            let map = &gradient.dy[map..][..tiling.target_block_len()];
            let (source, row_stride) = tiling.target_of::<K, E>(place, map, edge);
            let target = into[(block_index * at_once + index) * LANES..].as_mut_ptr();
            // SAFETY: as for inputs, with 4 rows of 4 positions.
            unsafe { K::gradient(source, row_stride, target, stride) };
        }
    }
}

/// Brings the gradients of a pair of blocks, `[9 taps, 16 input channels, 16 output channels]`, to their places.
fn scatter(shape: &ConvShape, in_block: usize, out_block: usize, taps: &[f32], dw: DisjointMut) {
    let outs = LANES.min(shape.out_channels - out_block * LANES);
    let ins = LANES.min(shape.in_channels - in_block * LANES);
    for o in 0..outs {
        let row = ((out_block * LANES + o) * shape.in_channels + in_block * LANES) * TAPS;
        // SAFETY: no other thread has this pair of blocks.
        let row = unsafe { dw.part(row..row + ins * TAPS) };
        for (c, weights) in row.as_chunks_mut::<TAPS>().0.iter_mut().enumerate() {
            for (tap, weight) in weights.iter_mut().enumerate() {
                *weight = taps[(tap * LANES + c) * LANES + o];
            }
        }
    }
}
