//! The micro-kernel of forward passes and data gradients: a tile of outputs that stay in registers while everything
//! they are made of streams by.
//!
//! A tile is some neighbouring columns (of one row, or of two or four short ones) times one or two blocks of 16 output
//! channels: 14 x 2 registers on AVX-512, of which the other four hold two weights and a broadcast input. Each output
//! is one chain of multiply-adds in the order (source block, tap, lane), whatever the tile it is in. That order is what
//! makes an image's bits independent of its company.

use super::window::Tap;
use crate::Element;
#[cfg(target_arch = "x86_64")]
use crate::vector::{Avx2Vector, Avx512Bf16, Avx512Vector};
use crate::vector::{Product, ScalarVector, Single, Vector};

/// What an output starts from.
#[derive(Clone, Copy)]
pub(super) enum Initial {
    /// 0.
    Zero,
    /// A value for each output channel: 16 floats at the pointer for each block of the tile.
    Bias(*const f32),
    /// What lies where the sums go.
    Sums,
}

/// A row of a tile: where its first column is, from [`Tile::source`], [`Tile::sums`] and [`Touch::target`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Row {
    pub(super) source: usize,
    pub(super) sums: usize,
    pub(super) target: usize,
}

/// What a tile is computed from.
pub(super) struct Tile<'a> {
    pub(super) taps: &'a [Tap],
    pub(super) source: *const f32,
    /// How many source blocks to sum over.
    pub(super) source_blocks: usize,
    pub(super) source_block_stride: usize,
    /// Weights of the first source block and the first target block.
    pub(super) weights: *const f32,
    /// From one source block to the next in the weights.
    pub(super) weight_source_stride: usize,
    /// From one target block to the next in the weights.
    pub(super) weight_target_stride: usize,
    /// Where the sums go, and rest between one call and the next: the target itself where it is of f32.
    pub(super) sums: *mut f32,
    pub(super) sums_column_stride: usize,
    pub(super) sums_block_stride: usize,
    pub(super) initial: Initial,
}

/// The last touch to a sum on its way to the target: `(sum - mean) * scale + shift + addend`, then a ReLU, or 0 where
/// the activation is not above 0. Null pointers leave a part out.
#[derive(Clone, Copy)]
pub(super) struct Touch<E> {
    pub(super) target: *mut E,
    pub(super) target_column_stride: usize,
    pub(super) target_block_stride: usize,
    /// Means, scales and shifts: 16 floats each for each block of the tile.
    pub(super) normalise: [*const f32; 3],
    /// Laid out as the target, from the tile's first element on.
    pub(super) addend: *const E,
    /// Whether the sum is a value of the network before something is added: it then is rounded as every such value.
    pub(super) rounds: bool,
    /// The activation whose ReLU a gradient passes; laid out as the target.
    pub(super) activation: *const E,
    /// Whether negative sums are stored as 0.
    pub(super) relu: bool,
}

impl<E: Element> Touch<E> {
    /// Whether anything is done to sums that lie in the target, or are still to be brought there.
    pub(super) fn is_needed(&self) -> bool {
        let changes = !self.normalise[0].is_null() || !self.addend.is_null() || !self.activation.is_null() || self.relu;
        changes || !E::IS_F32
    }

    /// # Safety
    /// The processor has the instruction set; what is not null can be read at `block` and at `offset`.
    #[inline(always)]
    unsafe fn apply<V: Vector>(&self, mut sum: V, block: usize, offset: usize) -> V {
        // SAFETY: the caller vouches for it.
        unsafe {
            let [mean, scale, shift] = self.normalise;
            if !mean.is_null() {
                let at = block * 16;
                sum = sum.rounded::<E>().sub(V::load(mean.add(at)));
                sum = sum.mul_add(V::load(scale.add(at)), V::load(shift.add(at)));
            }
            if !self.addend.is_null() {
                if self.rounds {
                    sum = sum.rounded::<E>();
                }
                sum = sum.add(V::load(self.addend.add(offset)));
            }
            if self.relu {
                sum = V::zero().max(sum);
            }
            if !self.activation.is_null() {
                sum = sum.pass_relu(V::load(self.activation.add(offset)), V::zero());
            }
            sum
        }
    }
}

/// Vectors and products with the tiles that fill their registers.
pub(super) trait TileVector {
    /// Columns of the widest tile.
    const COLUMNS: usize;
    /// Output blocks of the highest one.
    const BLOCKS: usize;

    /// Computes a tile of `columns` x `rows.len()` positions and `blocks` output blocks. Tiles exist for one row of up
    /// to `COLUMNS` columns, two rows of half as many, and four of a quarter, rounded down.
    ///
    /// # Safety
    /// The processor has the instruction set. All that the tile, `rows` and the taps point at, for that many columns,
    /// rows and blocks, can be read, and the sums also written, by this thread alone.
    unsafe fn tile(lanes: usize, columns: usize, blocks: usize, rows: &[Row], tile: &Tile);

    /// Gives the sums of a tile their last touch.
    ///
    /// # Safety
    /// As [`TileVector::tile`], for what the touch points at; it writes the target.
    unsafe fn touch<E: Element>(columns: usize, blocks: usize, rows: &[Row], tile: &Tile, touch: &Touch<E>);
}

/// How many rows of `columns` columns one tile of a vector takes.
pub(super) fn rows_per_tile<V: TileVector>(columns: usize) -> usize {
    match columns {
        0 => 1,
        _ if columns * 4 <= V::COLUMNS => 4,
        _ if columns * 2 <= V::COLUMNS => 2,
        _ => 1,
    }
}

#[inline(always)]
unsafe fn compute<
    V: Vector,
    P: Product<V>,
    const LANE_COUNT: usize,
    const BLOCKS: usize,
    const ROWS: usize,
    const COLUMNS: usize,
>(
    rows: &[Row],
    tile: &Tile,
) {
    // SAFETY: the caller vouches for everything that the tile points at, and for the instruction set. The loops stay
    // within the tile's blocks, taps, lanes, rows and columns.
    unsafe {
        let mut sums = [[[V::zero(); BLOCKS]; COLUMNS]; ROWS];
        for r in 0..ROWS {
            for c in 0..COLUMNS {
                for b in 0..BLOCKS {
                    match tile.initial {
                        Initial::Zero => {}
                        Initial::Bias(bias) => sums[r][c][b] = V::load(bias.add(b * 16)),
                        Initial::Sums => {
                            let offset = rows[r].sums + c * tile.sums_column_stride + b * tile.sums_block_stride;
                            sums[r][c][b] = V::load(tile.sums.add(offset));
                        }
                    }
                }
            }
        }
        for block in 0..tile.source_blocks {
            let source = tile.source.add(block * tile.source_block_stride);
            let weights = tile.weights.add(block * tile.weight_source_stride);
            for tap in tile.taps {
                let weights = weights.add(tap.weight);
                let mut sources = [source; ROWS];
                for r in 0..ROWS {
                    sources[r] = source.add(rows[r].source + tap.source);
                }
                for lane in 0..LANE_COUNT {
                    let mut weight = [V::zero(); BLOCKS];
                    for b in 0..BLOCKS {
                        weight[b] = V::load(weights.add(b * tile.weight_target_stride + lane * 16));
                    }
                    for r in 0..ROWS {
                        for c in 0..COLUMNS {
                            let value = V::splat(sources[r].add(c * LANE_COUNT + lane).read_unaligned());
                            for b in 0..BLOCKS {
                                sums[r][c][b] = P::multiply_add(value, weight[b], sums[r][c][b]);
                            }
                        }
                    }
                }
            }
        }
        for r in 0..ROWS {
            for c in 0..COLUMNS {
                for b in 0..BLOCKS {
                    let offset = rows[r].sums + c * tile.sums_column_stride + b * tile.sums_block_stride;
                    sums[r][c][b].store(tile.sums.add(offset));
                }
            }
        }
    }
}

/// Gives the sums of a tile, which are still in the first-level cache, their last touch. Apart from [`compute`], whose
/// registers it must not disturb.
#[inline(always)]
unsafe fn touch<V: Vector, E: Element>(columns: usize, blocks: usize, rows: &[Row], tile: &Tile, touch: &Touch<E>) {
    for row in rows {
        for column in 0..columns {
            for block in 0..blocks {
                let sum = row.sums + column * tile.sums_column_stride + block * tile.sums_block_stride;
                let offset = row.target + column * touch.target_column_stride + block * touch.target_block_stride;
                // SAFETY: the caller vouches for everything that tile and touch point at, and for the instruction set.
                unsafe {
                    let sum = V::load(tile.sums.add(sum));
                    touch.apply(sum, block, offset).store(touch.target.add(offset));
                }
            }
        }
    }
}

/// Implements [`TileVector`]: each listed tile becomes a function of its own, compiled for the instruction set, since
/// one function with all of them would leave the compiler no registers to plan with.
macro_rules! tiles {
    (
        $set:ident: $product:ident of $vector:ident, features($($feature:literal)?), columns $columns:literal, blocks $blocks:literal,
        $($lanes:literal lanes, $block:literal blocks, $rows:literal rows: $($column:literal)+;)+
    ) => {
        impl TileVector for $set {
            const COLUMNS: usize = $columns;
            const BLOCKS: usize = $blocks;

            unsafe fn tile(lanes: usize, columns: usize, blocks: usize, rows: &[Row], tile: &Tile) {
                $(#[target_feature(enable = $feature)])?
                unsafe fn compiled<const LANE_COUNT: usize, const BLOCKS: usize, const ROWS: usize, const COLUMNS: usize>(
                    rows: &[Row],
                    tile: &Tile,
                ) {
                    // SAFETY: compiled for the vector's instruction set; the caller vouches for the rest.
                    unsafe { compute::<$vector, $product, LANE_COUNT, BLOCKS, ROWS, COLUMNS>(rows, tile) }
                }
                match (lanes, blocks, rows.len(), columns) {
                    // SAFETY: the caller vouches for the instruction set and the memory.
                    $($(($lanes, $block, $rows, $column) => unsafe { compiled::<$lanes, $block, $rows, $column>(rows, tile) },)+)+
                    other => unreachable!("no tile of (lanes, blocks, rows, columns) {other:?}"),
                }
            }

            unsafe fn touch<E: Element>(columns: usize, blocks: usize, rows: &[Row], tile: &Tile, arguments: &Touch<E>) {
                $(#[target_feature(enable = $feature)])?
                unsafe fn compiled<E: Element>(
                    columns: usize, blocks: usize, rows: &[Row], tile: &Tile, arguments: &Touch<E>,
                ) {
                    // SAFETY: as above.
                    unsafe { touch::<$vector, E>(columns, blocks, rows, tile, arguments) }
                }
                // SAFETY: as above.
                unsafe { compiled::<E>(columns, blocks, rows, tile, arguments) }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
tiles! {
    Avx512Vector: Single of Avx512Vector, features("avx512f"), columns 14, blocks 2,
    16 lanes, 2 blocks, 1 rows: 1 2 3 4 5 6 7 8 9 10 11 12 13 14;
    16 lanes, 1 blocks, 1 rows: 1 2 3 4 5 6 7 8 9 10 11 12 13 14;
    16 lanes, 2 blocks, 2 rows: 1 2 3 4 5 6 7;
    16 lanes, 1 blocks, 2 rows: 1 2 3 4 5 6 7;
    16 lanes, 2 blocks, 4 rows: 1 2 3;
    16 lanes, 1 blocks, 4 rows: 1 2 3;
    1 lanes, 2 blocks, 1 rows: 1 2 3 4 5 6 7 8 9 10 11 12 13 14;
    1 lanes, 1 blocks, 1 rows: 1 2 3 4 5 6 7 8 9 10 11 12 13 14;
    1 lanes, 2 blocks, 2 rows: 1 2 3 4 5 6 7;
    1 lanes, 1 blocks, 2 rows: 1 2 3 4 5 6 7;
    1 lanes, 2 blocks, 4 rows: 1 2 3;
    1 lanes, 1 blocks, 4 rows: 1 2 3;
}

#[cfg(target_arch = "x86_64")]
tiles! {
    Avx512Bf16: Avx512Bf16 of Avx512Vector, features("avx512f,avx512bw,avx512bf16"), columns 14, blocks 2,
    8 lanes, 2 blocks, 1 rows: 1 2 3 4 5 6 7 8 9 10 11 12 13 14;
    8 lanes, 1 blocks, 1 rows: 1 2 3 4 5 6 7 8 9 10 11 12 13 14;
    8 lanes, 2 blocks, 2 rows: 1 2 3 4 5 6 7;
    8 lanes, 1 blocks, 2 rows: 1 2 3 4 5 6 7;
    8 lanes, 2 blocks, 4 rows: 1 2 3;
    8 lanes, 1 blocks, 4 rows: 1 2 3;
    1 lanes, 2 blocks, 1 rows: 1 2 3 4 5 6 7 8 9 10 11 12 13 14;
    1 lanes, 1 blocks, 1 rows: 1 2 3 4 5 6 7 8 9 10 11 12 13 14;
    1 lanes, 2 blocks, 2 rows: 1 2 3 4 5 6 7;
    1 lanes, 1 blocks, 2 rows: 1 2 3 4 5 6 7;
    1 lanes, 2 blocks, 4 rows: 1 2 3;
    1 lanes, 1 blocks, 4 rows: 1 2 3;
}

#[cfg(target_arch = "x86_64")]
tiles! {
    Avx2Vector: Single of Avx2Vector, features("avx2,fma"), columns 6, blocks 1,
    16 lanes, 1 blocks, 1 rows: 1 2 3 4 5 6;
    16 lanes, 1 blocks, 2 rows: 1 2 3;
    16 lanes, 1 blocks, 4 rows: 1;
    1 lanes, 1 blocks, 1 rows: 1 2 3 4 5 6;
    1 lanes, 1 blocks, 2 rows: 1 2 3;
    1 lanes, 1 blocks, 4 rows: 1;
}

tiles! {
    ScalarVector: Single of ScalarVector, features(), columns 2, blocks 1,
    16 lanes, 1 blocks, 1 rows: 1 2;
    16 lanes, 1 blocks, 2 rows: 1;
    1 lanes, 1 blocks, 1 rows: 1 2;
    1 lanes, 1 blocks, 2 rows: 1;
}
