//! The forward pass and the data gradient: the loops around transforms and products.
//!
//! With weights that were transformed before, threads share out groups of neighbouring tiles (where these are few, also
//! groups of output channels). A thread transforms the inputs of two groups of tiles at a time; then, for each group of
//! output channels, it forms the products of all 36 points and transforms them back at once, while they are in its
//! second-level cache.
//!
//! With weights as they are, they are transformed first; but for layers of many channels and few tiles, whose
//! transformed weights would be the largest thing to go through memory: all inputs are transformed first; then threads
//! share out groups of output channels, and transform the weights of a group right before its products.
//!
//! Each product is one chain over the input channels, so that neither the way nor the threads change a bit.
//!
//! The file is long because both ways, and the scratch memory that is planned for them, rest on the same cut into
//! groups: parted, each half would have to repeat it.

use std::ops::Range;

use super::kernel::{Product, Touch, WinogradKernel};
use super::tiling::{Place, Tiling};
use super::weights::{Direction, Group, gather};
use super::{EDGE_LEN, POINT_GAP, POINTS, TAPS_LEN, TILE};
use crate::compute::{Scratch, Shared};
use crate::threads::{DisjointMut, share};
use crate::vector::with_vector;
use crate::{Compute, ConvFinish, ConvShape, Element, LANES, ScratchNeed, blocks, padded};

/// Groups of tiles whose inputs a thread holds transformed at a time: the weights of a point are read once for all of
/// them.
const GROUPS_AT_ONCE: usize = 2;

/// The same, where weights are transformed on the way and threads share channels.
const GROUPS_AT_ONCE_ON_THE_WAY: usize = 5;

/// Most tiles for which weights are transformed on the way: every thread goes through all of them.
const MOST_TILES_ON_THE_WAY: usize = 256;

/// Floats of transformed inputs that threads share at a time: what a third-level cache holds beside everything else.
const SHARED_BUDGET: usize = 5 << 19;

/// The widest product of any instruction set.
const MOST_COLUMNS: usize = 14;

/// Bytes of an output beyond which it is written past the caches: it would have left them before anyone reads it.
const STREAMED_BYTES: usize = 40 << 20;

/// The weights of a pass.
#[derive(Clone, Copy, Debug)]
pub enum WinogradWeights<'a> {
    /// Transformed before, on the same instruction set: by [`Compute::winograd_pack`] for a forward pass, by
    /// [`Compute::winograd_pack_transposed`] for a data gradient.
    Packed(&'a [f32]),
    /// `[out_channels, in_channels, 3, 3]`, to be transformed in this call: the same bits, for weights that change from
    /// call to call. The memory for it is shared by all calls.
    Plain(&'a [f32]),
}

impl WinogradWeights<'_> {
    fn check(&self, shape: &ConvShape) {
        match self {
            WinogradWeights::Packed(packed) => {
                assert_eq!(packed.len(), shape.winograd_packed_len(), "transformed weights of {shape:?}");
            }
            WinogradWeights::Plain(oihw) => assert_eq!(oihw.len(), shape.weights_len(), "weights of {shape:?}"),
        }
    }
}

/// What happens to a sum on its way to the target.
#[derive(Clone, Copy)]
enum Finish<'a, E> {
    Forward { affine: [&'a [f32]; 3], normalises: bool, addend: Option<&'a [E]>, relu: bool },
    Gradient { accumulate: bool, activation: Option<&'a [E]> },
}

/// `target[image, block, position] = finish(sum over (channel, tap) of source[.., position + tap] * weights)`.
struct Pass<'a, E> {
    tiling: Tiling,
    source: &'a [E],
    source_blocks: usize,
    target_blocks: usize,
    weights: WinogradWeights<'a>,
    shape: &'a ConvShape,
    direction: Direction,
    finish: Finish<'a, E>,
    /// Tiles of a group.
    columns: usize,
    stream: bool,
}

impl Compute {
    /// `y = finish(x * weights)`, as [`Compute::conv_forward`], by Winograd's algorithm.
    ///
    /// - `x`: `batch` images, blocked, [`ConvShape::input_len`] elements each
    /// - `y`: `batch` images, blocked, [`ConvShape::output_len`] elements each; overwritten
    ///
    /// # Panics
    /// Where a length does not fit, or the shape does not suit ([`ConvShape::suits_winograd`]).
    pub fn winograd_forward<E: Element>(
        &self,
        shape: &ConvShape,
        batch: usize,
        x: &[E],
        weights: WinogradWeights,
        finish: &ConvFinish<E>,
        y: &mut [E],
    ) {
        assert!(shape.suits_winograd(), "not for Winograd's algorithm: {shape:?}");
        assert_eq!(x.len(), batch * shape.input_len(), "input of {batch} x {shape:?}");
        weights.check(shape);
        assert_eq!(y.len(), batch * shape.output_len(), "output of {batch} x {shape:?}");
        finish.check(shape, batch);
        let channels = padded(shape.out_channels);
        self.with_shared_scratch(Shared::Vectors, |scratch| {
            // A bias alone is a normalisation by 0 and 1: the same bits as an addition.
            let (zeros, ones) = scratch.floats(2 * channels).split_at_mut(channels);
            zeros.fill(0.0);
            ones.fill(1.0);
            let affine = match finish.normalise {
                Some([mean, scale, shift]) => [mean, scale, shift],
                None => [&*zeros, &*ones, finish.bias.unwrap_or(zeros)],
            };
            let pass = Pass {
                tiling: Tiling::forward(shape, batch),
                source: x,
                source_blocks: blocks(shape.in_channels),
                target_blocks: blocks(shape.out_channels),
                weights,
                shape,
                direction: Direction::Forward,
                finish: Finish::Forward {
                    affine,
                    normalises: finish.normalise.is_some(),
                    addend: finish.residual,
                    relu: finish.relu,
                },
                columns: 0,
                stream: streams(y) && finish.residual.is_none(),
            };
            with_vector!(self.isa(), V => self.winograd_pass::<V, E>(pass, y));
        });
    }

    /// The gradient for the input, as [`Compute::conv_data_gradient`], by Winograd's algorithm.
    ///
    /// - `dy`: `batch` images, blocked, [`ConvShape::output_len`] elements each
    /// - `activation`: where the input is the output of a ReLU, that output (laid out as `dx`): the gradient then is
    ///   the one for the ReLU's input
    /// - `dx`: `batch` images, blocked, [`ConvShape::input_len`] elements each; overwritten, or added to where
    ///   `accumulate` is set (before the ReLU)
    ///
    /// # Panics
    /// As [`Compute::winograd_forward`].
    pub fn winograd_data_gradient<E: Element>(
        &self,
        shape: &ConvShape,
        batch: usize,
        dy: &[E],
        weights: WinogradWeights,
        activation: Option<&[E]>,
        dx: &mut [E],
        accumulate: bool,
    ) {
        assert!(shape.suits_winograd(), "not for Winograd's algorithm: {shape:?}");
        assert_eq!(dy.len(), batch * shape.output_len(), "output gradient of {batch} x {shape:?}");
        weights.check(shape);
        assert_eq!(dx.len(), batch * shape.input_len(), "input gradient of {batch} x {shape:?}");
        if let Some(activation) = activation {
            assert_eq!(activation.len(), dx.len(), "activation of {batch} x {shape:?}");
        }
        let pass = Pass {
            tiling: Tiling::backward(shape, batch),
            source: dy,
            source_blocks: blocks(shape.out_channels),
            target_blocks: blocks(shape.in_channels),
            weights,
            shape,
            direction: Direction::Backward,
            finish: Finish::Gradient { accumulate, activation },
            columns: 0,
            stream: streams(dx) && !accumulate,
        };
        with_vector!(self.isa(), V => self.winograd_pass::<V, E>(pass, dx));
    }

    fn winograd_pass<K: WinogradKernel, E: Element>(&self, pass: Pass<E>, target: &mut [E]) {
        let target = DisjointMut::new(target);
        match pass.weights {
            WinogradWeights::Packed(packed) => self.winograd_pass_packed::<K, E>(pass, packed, target),
            WinogradWeights::Plain(oihw)
                if transforms_on_the_way(&pass.tiling, pass.source_blocks * pass.target_blocks) =>
            {
                self.winograd_pass_on_the_way::<K, E>(pass, oihw, target);
            }
            WinogradWeights::Plain(oihw) => self.with_shared_scratch(Shared::Weights, |scratch| {
                let packed = scratch.floats(pass.shape.winograd_packed_len());
                self.winograd_pack_with::<K>(pass.shape, oihw, packed, pass.direction);
                self.winograd_pass_packed::<K, E>(pass, packed, target);
            }),
        }
    }

    fn winograd_pass_packed<K: WinogradKernel, E: Element>(
        &self,
        mut pass: Pass<E>,
        packed: &[f32],
        target: DisjointMut<E>,
    ) {
        let tiles = pass.tiling.count();
        let groups = Group::count::<K>(pass.target_blocks);
        let grid = Grid::new::<K>(tiles, groups, self.threads());
        pass.columns = grid.columns;
        let tile_groups = tiles.div_ceil(grid.columns);
        if grid.group_parts == 1 {
            return self.parallel_pieces(tile_groups, GROUPS_AT_ONCE, |tile_groups, scratch| {
                run_packed::<K, E>(&pass, packed, tile_groups, 0..groups, target, scratch);
            });
        }
        self.parallel(grid.tile_parts * grid.group_parts, |parts, scratch| {
            for part in parts {
                let (tile_part, group_part) = (part / grid.group_parts, part % grid.group_parts);
                let tile_groups = share(tile_groups, tile_part, grid.tile_parts);
                let groups = share(groups, group_part, grid.group_parts);
                run_packed::<K, E>(&pass, packed, tile_groups, groups, target, scratch);
            }
        });
    }

    fn winograd_pass_on_the_way<K: WinogradKernel, E: Element>(
        &self,
        mut pass: Pass<E>,
        oihw: &[f32],
        target: DisjointMut<E>,
    ) {
        let (columns, at_once) = OnTheWay::cut::<K>(&pass.tiling, pass.source_blocks);
        pass.columns = columns;
        let sizes = Sizes::new::<K>(columns, pass.source_blocks);
        let tile_groups = pass.tiling.count().div_ceil(columns);
        for start in (0..tile_groups).step_by(at_once) {
            let now = start..(start + at_once).min(tile_groups);
            self.plain_tiles::<K, E>(&pass, oihw, &sizes, now, target);
        }
    }

    /// Computes some groups of tiles: transforms their inputs, then goes through the groups of target blocks.
    fn plain_tiles<K: WinogradKernel, E: Element>(
        &self,
        pass: &Pass<E>,
        oihw: &[f32],
        sizes: &Sizes,
        tile_groups: Range<usize>,
        target: DisjointMut<E>,
    ) {
        self.with_shared_scratch(Shared::Inputs, |scratch| {
            let transformed = scratch.floats(tile_groups.len() * sizes.group_len);
            self.parallel_chunks(transformed, sizes.group_len, |first, transformed, scratch| {
                let edge = scratch.floats(EDGE_LEN);
                let mut places = [Place::default(); MOST_COLUMNS];
                for (index, transformed) in transformed.chunks_exact_mut(sizes.group_len).enumerate() {
                    let places = places_of(pass, tile_groups.start + first + index, &mut places);
                    transform::<K, E>(pass, sizes, places, transformed, edge);
                }
            });
            let groups = Group::count::<K>(pass.target_blocks);
            self.parallel_pieces(groups, 1, |groups, scratch| {
                for group in groups {
                    run_plain::<K, E>(pass, oihw, sizes, transformed, tile_groups.clone(), group, target, scratch);
                }
            });
        });
    }
}

/// Whether weights are better transformed group by group: they are too many to stay in a cache from a transformation of
/// all to their use, and tiles are few.
fn transforms_on_the_way(tiling: &Tiling, pairs_of_blocks: usize) -> bool {
    pairs_of_blocks * LANES * LANES >= 256 * 256 && tiling.count() <= MOST_TILES_ON_THE_WAY
}

/// Whether a target is written past the caches, which needs whole registers at aligned places.
fn streams<E: Element>(target: &[E]) -> bool {
    size_of_val(target) >= STREAMED_BYTES && target.as_ptr().addr().is_multiple_of(LANES * size_of::<E>())
}

/// How the work is cut: the widest loop of the products, and parts for threads.
struct Grid {
    columns: usize,
    tile_parts: usize,
    group_parts: usize,
}

impl Grid {
    /// Threads share tiles; only where there are fewer groups of tiles than threads do they share channels too. The
    /// number of columns is the one with which the thread that has most to do has least, a group costing about as much
    /// as its columns and one more.
    fn new<K: WinogradKernel>(tiles: usize, groups: usize, threads: usize) -> Grid {
        let narrowest = K::COLUMNS.div_ceil(2).min(tiles.max(1));
        let cost = |columns: &usize| tiles.div_ceil(*columns).div_ceil(threads) * (columns + 1);
        let columns = (narrowest..=K::COLUMNS).rev().min_by_key(cost).unwrap_or(K::COLUMNS);
        let tile_groups = tiles.div_ceil(columns);
        let tile_parts = threads.min(tile_groups);
        Grid { columns, tile_parts, group_parts: (threads / tile_parts.max(1)).clamp(1, groups) }
    }
}

/// Lengths and distances in the buffers of a pass.
struct Sizes {
    /// From one source block to the next in transformed inputs.
    source_stride: usize,
    /// From one point to the next in transformed inputs.
    point_stride: usize,
    /// Transformed inputs of a group of tiles.
    group_len: usize,
    /// From one point to the next in products.
    product_stride: usize,
    /// Products of a group of tiles and a group of target blocks.
    product_len: usize,
}

impl Sizes {
    fn new<K: WinogradKernel>(columns: usize, source_blocks: usize) -> Sizes {
        let source_stride = columns * LANES;
        let point_stride = source_blocks * source_stride + POINT_GAP;
        let product_stride = columns * K::GROUP_LANES;
        Sizes {
            source_stride,
            point_stride,
            group_len: POINTS * point_stride,
            product_stride,
            product_len: POINTS * product_stride,
        }
    }

    /// Floats that a thread takes with transformed weights.
    fn packed_len(&self) -> usize {
        GROUPS_AT_ONCE * (self.group_len + self.product_len) + EDGE_LEN
    }
}

/// How the work is cut where weights are transformed on the way, and what a thread takes for a group of target blocks.
struct OnTheWay {
    weights_len: usize,
    products_len: usize,
}

impl OnTheWay {
    /// Tiles of a group, and groups of tiles at a time.
    fn cut<K: WinogradKernel>(tiling: &Tiling, source_blocks: usize) -> (usize, usize) {
        // Every thread goes through all tiles: nothing is gained by groups that the threads share evenly.
        let columns = Grid::new::<K>(tiling.count(), 1, 1).columns;
        let tile_groups = tiling.count().div_ceil(columns);
        let most_at_once = (SHARED_BUDGET / Sizes::new::<K>(columns, source_blocks).group_len).max(1);
        (columns, tile_groups.div_ceil(tile_groups.div_ceil(most_at_once).max(1)).max(1))
    }

    fn new<K: WinogradKernel>(sizes: &Sizes, group: &Group) -> OnTheWay {
        OnTheWay {
            weights_len: POINTS * (group.point_stride + POINT_GAP),
            products_len: GROUPS_AT_ONCE_ON_THE_WAY * sizes.product_len,
        }
    }

    fn len(&self) -> usize {
        self.weights_len + self.products_len + TAPS_LEN
    }
}

impl Compute {
    /// Of [`Compute::winograd_pack`] and [`Compute::winograd_forward`], and where asked for of the transposed packing and
    /// [`Compute::winograd_data_gradient`], and of [`Compute::winograd_weight_gradient`]. `plain` says that weights are
    /// [`WinogradWeights::Plain`], `kept` that sums are kept.
    pub fn winograd_scratch(
        &self,
        shape: &ConvShape,
        batch: usize,
        plain: bool,
        [data, weights]: [bool; 2],
        kept: bool,
    ) -> ScratchNeed {
        let (ins, outs) = (blocks(shape.in_channels), blocks(shape.out_channels));
        with_vector!(self.isa(), V => {
            let vectors = ScratchNeed::of_all(Shared::Vectors, 2 * padded(shape.out_channels));
            let forward = self.winograd_pass_scratch::<V>(shape, &Tiling::forward(shape, batch), [ins, outs], plain);
            let mut need = vectors.and(forward);
            if data {
                let tiling = Tiling::backward(shape, batch);
                need = need.and(self.winograd_pass_scratch::<V>(shape, &tiling, [outs, ins], plain));
            }
            if weights {
                need = need.and(self.winograd_weight_gradient_scratch::<V>(shape, batch, kept));
            }
            need
        })
    }

    fn winograd_pass_scratch<K: WinogradKernel>(
        &self,
        shape: &ConvShape,
        tiling: &Tiling,
        [source_blocks, target_blocks]: [usize; 2],
        plain: bool,
    ) -> ScratchNeed {
        if plain && transforms_on_the_way(tiling, source_blocks * target_blocks) {
            let (columns, at_once) = OnTheWay::cut::<K>(tiling, source_blocks);
            let sizes = Sizes::new::<K>(columns, source_blocks);
            let thread = OnTheWay::new::<K>(&sizes, &Group::new::<K>(0, target_blocks, source_blocks)).len();
            let transformed = ScratchNeed::of_all(Shared::Inputs, at_once * sizes.group_len);
            return ScratchNeed::of_threads(thread.max(EDGE_LEN)).and(transformed);
        }
        let grid = Grid::new::<K>(tiling.count(), Group::count::<K>(target_blocks), self.threads());
        let sizes = Sizes::new::<K>(grid.columns, source_blocks);
        let weights = if plain { shape.winograd_packed_len() } else { 0 };
        let thread = ScratchNeed::of_threads(sizes.packed_len().max(TAPS_LEN));
        thread.and(ScratchNeed::of_all(Shared::Weights, weights))
    }
}

/// The places of the tiles of a group, in the buffer handed in.
fn places_of<'a, E: Element>(pass: &Pass<E>, group: usize, places: &'a mut [Place; MOST_COLUMNS]) -> &'a [Place] {
    let tiles = group * pass.columns..((group + 1) * pass.columns).min(pass.tiling.count());
    let places = &mut places[..tiles.len()];
    for (place, tile) in places.iter_mut().zip(tiles) {
        *place = pass.tiling.place(tile);
    }
    places
}

/// Transforms the inputs of a group of tiles.
fn transform<K: WinogradKernel, E: Element>(
    pass: &Pass<E>,
    sizes: &Sizes,
    places: &[Place],
    transformed: &mut [f32],
    edge: &mut [f32],
) {
    let tiling = &pass.tiling;
    let image_len = pass.source_blocks * tiling.source_block_len();
    for block in 0..pass.source_blocks {
        for (column, place) in places.iter().enumerate() {
            let map = place.image * image_len + block * tiling.source_block_len();
            let map = &pass.source[map..][..tiling.source_block_len()];
            let (source, row_stride) = tiling.source_of::<K, E>(*place, map, edge);
            let at = block * sizes.source_stride + column * LANES;
            // SAFETY: `Compute` runs on instruction sets that the processor has. `source_of` gives 6 rows of 6
            // positions, and the 36 points of a block and column lie in the group's part of the buffer.
            unsafe { K::input(source, row_stride, transformed[at..].as_mut_ptr(), sizes.point_stride) };
        }
    }
}

/// Computes the given groups of target blocks for the given groups of tiles.
fn run_packed<K: WinogradKernel, E: Element>(
    pass: &Pass<E>,
    packed: &[f32],
    tile_groups: Range<usize>,
    groups: Range<usize>,
    target: DisjointMut<E>,
    scratch: &mut Scratch,
) {
    let sizes = Sizes::new::<K>(pass.columns, pass.source_blocks);
    let buffer = scratch.floats(sizes.packed_len());
    let (transformed, rest) = buffer.split_at_mut(GROUPS_AT_ONCE * sizes.group_len);
    let (products, edge) = rest.split_at_mut(GROUPS_AT_ONCE * sizes.product_len);
    let mut places = [[Place::default(); MOST_COLUMNS]; GROUPS_AT_ONCE];
    for first in tile_groups.clone().step_by(GROUPS_AT_ONCE) {
        let count = GROUPS_AT_ONCE.min(tile_groups.end - first);
        let mut tiles: [&[Place]; GROUPS_AT_ONCE] = [&[]; GROUPS_AT_ONCE];
        for (index, (places, tiles)) in places.iter_mut().zip(&mut tiles).take(count).enumerate() {
            *tiles = places_of(pass, first + index, places);
            transform::<K, E>(pass, &sizes, tiles, &mut transformed[index * sizes.group_len..], edge);
        }
        for group in groups.clone() {
            let group = Group::new::<K>(group, pass.target_blocks, pass.source_blocks);
            let weights = &packed[group.start..][..POINTS * group.point_stride];
            multiply::<K, E>(pass, &sizes, &group, weights, &tiles[..count], transformed, products, target);
        }
    }
    if pass.stream {
        // SAFETY: `Compute` runs on instruction sets that the processor has.
        unsafe { K::fence() };
    }
}

/// Computes a group of target blocks for some groups of tiles, whose inputs are transformed.
fn run_plain<K: WinogradKernel, E: Element>(
    pass: &Pass<E>,
    oihw: &[f32],
    sizes: &Sizes,
    transformed: &[f32],
    tile_groups: Range<usize>,
    group: usize,
    target: DisjointMut<E>,
    scratch: &mut Scratch,
) {
    const AT_ONCE: usize = GROUPS_AT_ONCE_ON_THE_WAY;
    let mut group = Group::new::<K>(group, pass.target_blocks, pass.source_blocks);
    let lens = OnTheWay::new::<K>(sizes, &group);
    // As in the inputs, points a power of two apart would fall on the same cache lines.
    group.point_stride += POINT_GAP;
    let (weights, rest) = scratch.floats(lens.len()).split_at_mut(lens.weights_len);
    let (products, taps) = rest.split_at_mut(lens.products_len);
    for source_block in 0..pass.source_blocks {
        for block in 0..group.blocks {
            gather(pass.shape, oihw, pass.direction, source_block, group.block + block, taps);
            for channel in 0..LANES {
                let at = (source_block * LANES + channel) * group.lanes() + block * LANES;
                // SAFETY: `Compute` runs on instruction sets that the processor has. The taps are 9 times 16 source
                // channels of 16 lanes, and the 36 points lie in the weights of the group.
                unsafe {
                    let taps = taps[channel * LANES..].as_ptr();
                    K::weights(taps, LANES * LANES, weights[at..].as_mut_ptr(), group.point_stride);
                }
            }
        }
    }
    let mut places = [[Place::default(); MOST_COLUMNS]; AT_ONCE];
    for first in tile_groups.clone().step_by(AT_ONCE) {
        let count = AT_ONCE.min(tile_groups.end - first);
        let mut tiles: [&[Place]; AT_ONCE] = [&[]; AT_ONCE];
        for (index, (places, tiles)) in places.iter_mut().zip(&mut tiles).take(count).enumerate() {
            *tiles = places_of(pass, first + index, places);
        }
        let transformed = &transformed[(first - tile_groups.start) * sizes.group_len..];
        multiply::<K, E>(pass, sizes, &group, weights, &tiles[..count], transformed, products, target);
    }
    if pass.stream {
        // SAFETY: as above.
        unsafe { K::fence() };
    }
}

/// Multiplies the transformed inputs of some groups of tiles with the weights of a group of target blocks, and brings
/// the products back to their places.
fn multiply<K: WinogradKernel, E: Element>(
    pass: &Pass<E>,
    sizes: &Sizes,
    group: &Group,
    weights: &[f32],
    tiles: &[&[Place]],
    transformed: &[f32],
    products: &mut [f32],
    target: DisjointMut<E>,
) {
    // The second register holds the group's second block, or the second half of its only one.
    let second = if group.blocks > 1 { pass.columns * LANES } else { LANES / 2 };
    for point in 0..POINTS {
        let weights = &weights[point * group.point_stride..];
        for (index, tiles) in tiles.iter().enumerate() {
            let product = Product {
                source: transformed[index * sizes.group_len + point * sizes.point_stride..].as_ptr(),
                source_stride: sizes.source_stride,
                source_blocks: pass.source_blocks,
                weights: weights.as_ptr(),
                target: products[index * sizes.product_len + point * sizes.product_stride..].as_mut_ptr(),
                target_second: second,
            };
            // SAFETY: `Compute` runs on instruction sets that the processor has. The weights of a point are
            // `source_blocks` times 16 channels of the group's lanes, the inputs `source_blocks` times `columns` tiles,
            // and so is the room for the product.
            unsafe { K::product(tiles.len(), group.lanes(), &product) };
        }
    }
    let mut tile = AlignedTile([0.0; TILE * TILE * LANES]);
    for (index, places) in tiles.iter().enumerate() {
        for (column, place) in places.iter().enumerate() {
            for block in 0..group.blocks {
                let product = index * sizes.product_len + (block * pass.columns + column) * LANES;
                // SAFETY: as above; `finish_tile` stays within the tile's part of the target, which no other thread
                // has.
                unsafe {
                    K::output(products[product..].as_ptr(), sizes.product_stride, tile.0.as_mut_ptr());
                    finish_tile::<K, E>(pass, *place, group.block + block, &tile.0, target);
                }
            }
        }
    }
}

/// Outputs of a tile, `[4, 4, 16]`, each position on one cache line.
#[repr(align(64))]
struct AlignedTile([f32; TILE * TILE * LANES]);

/// Brings a tile of one block to its place.
///
/// # Safety
/// The processor has the kernel's instruction set, and no other thread touches this tile of the target.
unsafe fn finish_tile<K: WinogradKernel, E: Element>(
    pass: &Pass<E>,
    place: Place,
    block: usize,
    tile: &[f32],
    target: DisjointMut<E>,
) {
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
        affine: [std::ptr::null(); 3],
        normalises: false,
        relu: false,
        addend: nothing,
        activation: nothing,
        stream: pass.stream,
    };
    match pass.finish {
        Finish::Forward { affine, normalises, addend, relu } => {
            touch.normalises = normalises;
            touch.affine = affine.map(|vector| vector[block * LANES..][..LANES].as_ptr());
            touch.addend = addend.map_or(nothing, |addend| addend[at..].as_ptr());
            touch.relu = relu;
        }
        Finish::Gradient { accumulate, activation } => {
            touch.addend = if accumulate { start } else { nothing };
            touch.activation = activation.map_or(nothing, |activation| activation[at..].as_ptr());
        }
    }
    // SAFETY: rows and columns are those that the map has from the tile's place on, in the target and in what is laid
    // out as the target; their lengths were asserted. The caller vouches for the rest.
    unsafe { K::touch(&touch) };
}
