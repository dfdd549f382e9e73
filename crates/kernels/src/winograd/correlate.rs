//! The forward pass and the data gradient: the loops around transforms and products.
//!
//! Threads share out groups of neighbouring tiles (where these are few, also groups of output channels). A thread
//! transforms the inputs of two groups of tiles at a time; then, for each group of output channels, it forms the products
//! of all 36 points and transforms them back at once, while they are in its second-level cache. Each product is one chain
//! over the input channels, so that neither the grouping nor the threads change a bit.

use std::ops::Range;

use super::kernel::{Product, Touch, WinogradKernel};
use super::tiling::{Place, Tiling};
use super::weights::Group;
use super::{EXTENT, POINTS, TILE};
use crate::compute::Scratch;
use crate::threads::{DisjointMut, share};
use crate::vector::with_vector;
use crate::{Compute, ConvFinish, ConvShape, LANES, blocks, padded};

/// Groups of tiles whose inputs a thread holds transformed at a time: the weights of a point are read once for all of them.
const GROUPS_AT_ONCE: usize = 2;

/// Floats between the points of a group beyond their own: 64 bytes, since points a multiple of 4 KiB apart would fall on
/// the same lines of the first-level cache.
const POINT_GAP: usize = 16;

/// The widest product of any instruction set.
const MOST_COLUMNS: usize = 14;

/// Floats of an output beyond which it is written past the caches: it would have left them before anyone reads it.
const STREAMED_LEN: usize = 10 << 20;

/// What happens to a sum on its way to the target.
#[derive(Clone, Copy)]
enum Finish<'a> {
    Forward { affine: [&'a [f32]; 3], addend: Option<&'a [f32]>, relu: bool },
    Gradient { accumulate: bool, activation: Option<&'a [f32]> },
}

/// `target[image, block, position] = finish(sum over (channel, tap) of source[.., position + tap] * weights)`.
struct Pass<'a> {
    tiling: Tiling,
    source: &'a [f32],
    source_blocks: usize,
    target_blocks: usize,
    weights: &'a [f32],
    finish: Finish<'a>,
    /// Tiles of a group.
    columns: usize,
    stream: bool,
}

impl Compute {
    /// `y = finish(x * weights)`, as [`Compute::conv_forward`], by Winograd's algorithm.
    ///
    /// - `x`: `batch` images, blocked, [`ConvShape::input_len`] floats each
    /// - `packed`: weights from [`Compute::winograd_pack`] on the same instruction set
    /// - `y`: `batch` images, blocked, [`ConvShape::output_len`] floats each; overwritten
    ///
    /// # Panics
    /// Where a length does not fit, or the shape does not suit ([`ConvShape::suits_winograd`]).
    pub fn winograd_forward(
        &self,
        shape: &ConvShape,
        batch: usize,
        x: &[f32],
        packed: &[f32],
        finish: &ConvFinish,
        y: &mut [f32],
    ) {
        assert!(shape.suits_winograd(), "not for Winograd's algorithm: {shape:?}");
        assert_eq!(x.len(), batch * shape.input_len(), "input of {batch} x {shape:?}");
        assert_eq!(packed.len(), shape.winograd_packed_len(), "transformed weights of {shape:?}");
        assert_eq!(y.len(), batch * shape.output_len(), "output of {batch} x {shape:?}");
        finish.check(shape, batch);
        let channels = padded(shape.out_channels);
        self.with_shared_scratch(|scratch| {
            // A bias alone is a normalisation by 0 and 1: the same bits as an addition.
            let (zeros, ones) = scratch.floats(2 * channels).split_at_mut(channels);
            zeros.fill(0.0);
            ones.fill(1.0);
            let affine = match finish.normalise {
                Some([mean, scale, shift]) => [mean, scale, shift],
                None => [&*zeros, &*ones, finish.bias.unwrap_or(zeros)],
            };
            let pass = Pass {
                tiling: Tiling {
                    images: batch,
                    source_height: shape.in_height,
                    source_width: shape.in_width,
                    target_height: shape.out_height(),
                    target_width: shape.out_width(),
                    padding: shape.padding,
                },
                source: x,
                source_blocks: blocks(shape.in_channels),
                target_blocks: blocks(shape.out_channels),
                weights: packed,
                finish: Finish::Forward { affine, addend: finish.residual, relu: finish.relu },
                columns: 0,
                stream: streams(y) && finish.residual.is_none(),
            };
            with_vector!(self.isa(), V => self.winograd_pass::<V>(pass, y));
        });
    }

    /// The gradient for the input, as [`Compute::conv_data_gradient`], by Winograd's algorithm.
    ///
    /// - `dy`: `batch` images, blocked, [`ConvShape::output_len`] floats each
    /// - `packed_transposed`: weights from [`Compute::winograd_pack_transposed`] on the same instruction set
    /// - `activation`: where the input is the output of a ReLU, that output (laid out as `dx`): the gradient then is the
    ///   one for the ReLU's input
    /// - `dx`: `batch` images, blocked, [`ConvShape::input_len`] floats each; overwritten, or added to where `accumulate`
    ///   is set (before the ReLU)
    ///
    /// # Panics
    /// As [`Compute::winograd_forward`].
    pub fn winograd_data_gradient(
        &self,
        shape: &ConvShape,
        batch: usize,
        dy: &[f32],
        packed_transposed: &[f32],
        activation: Option<&[f32]>,
        dx: &mut [f32],
        accumulate: bool,
    ) {
        assert!(shape.suits_winograd(), "not for Winograd's algorithm: {shape:?}");
        assert_eq!(dy.len(), batch * shape.output_len(), "output gradient of {batch} x {shape:?}");
        assert_eq!(packed_transposed.len(), shape.winograd_packed_len(), "transformed weights of {shape:?}");
        assert_eq!(dx.len(), batch * shape.input_len(), "input gradient of {batch} x {shape:?}");
        if let Some(activation) = activation {
            assert_eq!(activation.len(), dx.len(), "activation of {batch} x {shape:?}");
        }
        let pass = Pass {
            tiling: Tiling {
                images: batch,
                source_height: shape.out_height(),
                source_width: shape.out_width(),
                target_height: shape.in_height,
                target_width: shape.in_width,
                padding: 2 - shape.padding,
            },
            source: dy,
            source_blocks: blocks(shape.out_channels),
            target_blocks: blocks(shape.in_channels),
            weights: packed_transposed,
            finish: Finish::Gradient { accumulate, activation },
            columns: 0,
            stream: streams(dx) && !accumulate,
        };
        with_vector!(self.isa(), V => self.winograd_pass::<V>(pass, dx));
    }

    fn winograd_pass<K: WinogradKernel>(&self, mut pass: Pass, target: &mut [f32]) {
        let tiles = pass.tiling.count();
        let groups = Group::count::<K>(pass.target_blocks);
        let grid = Grid::new::<K>(tiles, groups, self.threads());
        pass.columns = grid.columns;
        let target = DisjointMut::new(target);
        self.parallel(grid.tile_parts * grid.group_parts, |parts, scratch| {
            for part in parts {
                let (tile_part, group_part) = (part / grid.group_parts, part % grid.group_parts);
                let tile_groups = share(tiles.div_ceil(grid.columns), tile_part, grid.tile_parts);
                run::<K>(&pass, tile_groups, share(groups, group_part, grid.group_parts), target, scratch);
            }
        });
    }
}

/// Whether a target is written past the caches, which needs whole registers at aligned places.
fn streams(target: &[f32]) -> bool {
    target.len() >= STREAMED_LEN && target.as_ptr().addr().is_multiple_of(LANES * size_of::<f32>())
}

/// How the work is cut: the widest loop of the products, and parts for threads.
struct Grid {
    columns: usize,
    tile_parts: usize,
    group_parts: usize,
}

impl Grid {
    /// Threads share tiles; only where there are fewer groups of tiles than threads do they share channels too. The
    /// number of columns is the one with which the thread that has most to do has least, a group costing about as much as
    /// its columns and one more.
    fn new<K: WinogradKernel>(tiles: usize, groups: usize, threads: usize) -> Grid {
        let narrowest = K::COLUMNS.div_ceil(2).min(tiles.max(1));
        let cost = |columns: &usize| tiles.div_ceil(*columns).div_ceil(threads) * (columns + 1);
        let columns = (narrowest..=K::COLUMNS).rev().min_by_key(cost).unwrap_or(K::COLUMNS);
        let tile_groups = tiles.div_ceil(columns);
        let tile_parts = threads.min(tile_groups);
        Grid { columns, tile_parts, group_parts: (threads / tile_parts.max(1)).clamp(1, groups) }
    }
}

/// Computes the given groups of target blocks for the given groups of tiles.
fn run<K: WinogradKernel>(
    pass: &Pass,
    tile_groups: Range<usize>,
    groups: Range<usize>,
    target: DisjointMut,
    scratch: &mut Scratch,
) {
    let Pass { tiling, source_blocks, columns, .. } = *pass;
    let tiles = tiling.count();
    let source_stride = columns * LANES;
    let point_stride = source_blocks * source_stride + POINT_GAP;
    let group_len = POINTS * point_stride;
    let product_stride = columns * K::GROUP_LANES;
    let product_len = POINTS * product_stride;
    let buffer = scratch.floats(GROUPS_AT_ONCE * (group_len + product_len) + (POINTS + TILE * TILE) * LANES);
    let (transformed, rest) = buffer.split_at_mut(GROUPS_AT_ONCE * group_len);
    let (products, rest) = rest.split_at_mut(GROUPS_AT_ONCE * product_len);
    let (edge, tile) = rest.split_at_mut(EXTENT * EXTENT * LANES);
    let image_len = source_blocks * tiling.source_block_len();
    let mut places = [[Place::default(); MOST_COLUMNS]; GROUPS_AT_ONCE];

    let mut first = tile_groups.start;
    while first < tile_groups.end {
        let count = GROUPS_AT_ONCE.min(tile_groups.end - first);
        let tiles_of = |index: usize| (first + index) * columns..((first + index + 1) * columns).min(tiles);
        for index in 0..count {
            let (tiles, transformed) = (tiles_of(index), &mut transformed[index * group_len..][..group_len]);
            for (place, tile) in places[index].iter_mut().zip(tiles.clone()) {
                *place = tiling.place(tile);
            }
            for block in 0..source_blocks {
                for (column, place) in places[index][..tiles.len()].iter().enumerate() {
                    let map = place.image * image_len + block * tiling.source_block_len();
                    let map = &pass.source[map..][..tiling.source_block_len()];
                    let (source, row_stride) = tiling.source_of(*place, map, edge);
                    let at = block * source_stride + column * LANES;
                    // SAFETY: `Compute` runs on instruction sets that the processor has. `source_of` gives 6 rows of 6
                    // positions, and the 36 points of a block and column lie in the group's part of the buffer.
                    unsafe { K::input(source, row_stride, transformed[at..].as_mut_ptr(), point_stride) };
                }
            }
        }
        for group in groups.clone() {
            let group = Group::new::<K>(group, pass.target_blocks, source_blocks);
            // The second register holds the group's second block, or the second half of its only one.
            let second = if group.blocks > 1 { columns * LANES } else { LANES / 2 };
            for point in 0..POINTS {
                let weights = &pass.weights[group.start + point * group.point_stride..][..group.point_stride];
                for index in 0..count {
                    let product = Product {
                        source: transformed[index * group_len + point * point_stride..].as_ptr(),
                        source_stride,
                        source_blocks,
                        weights: weights.as_ptr(),
                        target: products[index * product_len + point * product_stride..].as_mut_ptr(),
                        target_second: second,
                    };
                    // SAFETY: as above; the weights of a point are `source_blocks` times 16 channels of the group's
                    // lanes, the inputs `source_blocks` times `columns` tiles, and so is the room for the product.
                    unsafe { K::product(tiles_of(index).len(), group.lanes(), &product) };
                }
            }
            for index in 0..count {
                for (column, place) in places[index][..tiles_of(index).len()].iter().enumerate() {
                    for block in 0..group.blocks {
                        let product = index * product_len + block * columns * LANES + column * LANES;
                        // SAFETY: as above; `finish_tile` stays within the tile's part of the target, which no other
                        // thread has.
                        unsafe {
                            K::output(products[product..].as_ptr(), product_stride, tile.as_mut_ptr());
                            finish_tile::<K>(pass, *place, group.block + block, tile, target);
                        }
                    }
                }
            }
        }
        first += count;
    }
    if pass.stream {
        // SAFETY: as above.
        unsafe { K::fence() };
    }
}

/// Brings a tile of one block to its place.
///
/// # Safety
/// The processor has the kernel's instruction set, and no other thread touches this tile of the target.
unsafe fn finish_tile<K: WinogradKernel>(pass: &Pass, place: Place, block: usize, tile: &[f32], target: DisjointMut) {
    let tiling = &pass.tiling;
    let map = (place.image * pass.target_blocks + block) * tiling.target_block_len();
    let at = map + (place.row * tiling.target_width + place.column) * LANES;
    let (rows, columns) = (TILE.min(tiling.target_height - place.row), TILE.min(tiling.target_width - place.column));
    let start = target.as_mut_ptr().wrapping_add(at);
    let nothing = std::ptr::null();
    let mut touch = Touch {
        tile: tile.as_ptr(),
        target: start,
        row_stride: tiling.target_width * LANES,
        rows,
        columns,
        affine: [nothing; 3],
        relu: false,
        addend: nothing,
        activation: nothing,
        stream: pass.stream,
    };
    match pass.finish {
        Finish::Forward { affine, addend, relu } => {
            touch.affine = affine.map(|vector| vector[block * LANES..][..LANES].as_ptr());
            touch.addend = addend.map_or(nothing, |addend| addend[at..].as_ptr());
            touch.relu = relu;
        }
        Finish::Gradient { accumulate, activation } => {
            touch.addend = if accumulate { start } else { nothing };
            touch.activation = activation.map_or(nothing, |activation| activation[at..].as_ptr());
        }
    }
    // SAFETY: rows and columns are those that the map has from the tile's place on, in the target and in what is laid out
    // as the target; their lengths were asserted. The caller vouches for the rest.
    unsafe { K::touch(&touch) };
}
