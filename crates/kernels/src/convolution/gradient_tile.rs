//! The micro-kernel of weight gradients: a tile of weights that stay in registers while positions stream by.
//!
//! A tile is some neighbouring input lanes of one tap times one or two blocks of 16 output channels. For each position
//! the output's gradient is loaded, each input lane broadcast, and their products added. Each weight is one chain over
//! the positions in order, rows first, which goes on from call to call in the memory of the gradient.

use super::tile::Row;
#[cfg(target_arch = "x86_64")]
use crate::vector::{Avx2Vector, Avx512Bf16, Avx512Vector};
use crate::vector::{Product, ScalarVector, Single, Vector};

/// What a tile of weight gradients is computed from.
pub(super) struct GradientTile<'a> {
    /// First position of each row: `source` counts from the pointer of that name, `target` from `output_gradient`.
    pub(super) rows: &'a [Row],
    /// Positions in each row.
    pub(super) columns: usize,
    /// Input lane 0 of the tile at the position 0, tap included.
    pub(super) source: *const f32,
    pub(super) output_gradient: *const f32,
    /// From one output block to the next in the output's gradient.
    pub(super) output_gradient_block_stride: usize,
    /// The gradient of input lane 0 and output block 0.
    pub(super) target: *mut f32,
    /// From one input lane to the next in the target.
    pub(super) target_lane_stride: usize,
    /// From one output block to the next in the target.
    pub(super) target_block_stride: usize,
    /// Whether to go on from what the target holds; else from 0.
    pub(super) accumulate: bool,
}

/// Vectors and products with the tiles that fill their registers.
pub(super) trait GradientVector {
    /// Input lanes of the largest tile: a divisor of 16.
    const LANES_AT_ONCE: usize;
    /// Output blocks of the largest tile.
    const BLOCKS: usize;

    /// Computes a tile of `tile_lanes` input lanes (in a blocked source, always `LANES_AT_ONCE`) and `blocks` output
    /// blocks. `lanes` is 16 for a blocked source and 1 for a planar one.
    ///
    /// # Safety The processor has the instruction set. All that the tile points at, for that many lanes, rows, columns
    /// and blocks, can be read, and the target also written, by this thread alone.
    unsafe fn gradient_tile(lanes: usize, tile_lanes: usize, blocks: usize, tile: &GradientTile);
}

#[inline(always)]
unsafe fn compute<V: Vector, P: Product<V>, const LANE_COUNT: usize, const TILE_LANES: usize, const BLOCKS: usize>(
    tile: &GradientTile,
) {
    // SAFETY: the caller vouches for everything that the tile points at, and for the instruction set. The loops stay
    // within the tile's rows, columns, lanes and blocks.
    unsafe {
        let mut sums = [[V::zero(); BLOCKS]; TILE_LANES];
        if tile.accumulate {
            for i in 0..TILE_LANES {
                for b in 0..BLOCKS {
                    sums[i][b] = V::load(tile.target.add(i * tile.target_lane_stride + b * tile.target_block_stride));
                }
            }
        }
        for row in tile.rows {
            let source = tile.source.add(row.source);
            let output_gradient = tile.output_gradient.add(row.target);
            for column in 0..tile.columns {
                let source = source.add(column * LANE_COUNT);
                let mut gradient = [V::zero(); BLOCKS];
                for b in 0..BLOCKS {
                    gradient[b] = V::load(output_gradient.add(b * tile.output_gradient_block_stride + column * 16));
                }
                for i in 0..TILE_LANES {
                    let value = V::splat(*source.add(i));
                    for b in 0..BLOCKS {
                        sums[i][b] = P::multiply_add(value, gradient[b], sums[i][b]);
                    }
                }
            }
        }
        for i in 0..TILE_LANES {
            for b in 0..BLOCKS {
                sums[i][b].store(tile.target.add(i * tile.target_lane_stride + b * tile.target_block_stride));
            }
        }
    }
}

/// Implements [`GradientVector`]: each listed tile becomes a function of its own, compiled for the instruction set.
macro_rules! gradient_tiles {
    (
        $set:ident: $product:ident of $vector:ident, features($($feature:literal)?), lanes at once $at_once:literal, blocks $blocks:literal,
        $($lanes:literal lanes, $block:literal blocks: $($tile_lanes:literal)+;)+
    ) => {
        impl GradientVector for $set {
            const LANES_AT_ONCE: usize = $at_once;
            const BLOCKS: usize = $blocks;

            unsafe fn gradient_tile(lanes: usize, tile_lanes: usize, blocks: usize, tile: &GradientTile) {
                $(#[target_feature(enable = $feature)])?
                unsafe fn compiled<const LANE_COUNT: usize, const TILE_LANES: usize, const BLOCKS: usize>(tile: &GradientTile) {
                    // SAFETY: compiled for the vector's instruction set; the caller vouches for the rest.
                    unsafe { compute::<$vector, $product, LANE_COUNT, TILE_LANES, BLOCKS>(tile) }
                }
                match (lanes, tile_lanes, blocks) {
                    // SAFETY: the caller vouches for the instruction set and the memory.
                    $($(($lanes, $tile_lanes, $block) => unsafe { compiled::<$lanes, $tile_lanes, $block>(tile) },)+)+
                    other => unreachable!("no gradient tile of (lanes, tile lanes, blocks) {other:?}"),
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
gradient_tiles! {
    Avx512Vector: Single of Avx512Vector, features("avx512f"), lanes at once 8, blocks 2,
    16 lanes, 2 blocks: 8;
    16 lanes, 1 blocks: 8;
    1 lanes, 2 blocks: 1 2 3 4 5 6 7 8;
    1 lanes, 1 blocks: 1 2 3 4 5 6 7 8;
}

#[cfg(target_arch = "x86_64")]
gradient_tiles! {
    Avx512Bf16: Avx512Bf16 of Avx512Vector, features("avx512f,avx512bw,avx512bf16"), lanes at once 8, blocks 2,
    16 lanes, 2 blocks: 8;
    16 lanes, 1 blocks: 8;
    1 lanes, 2 blocks: 1 2 3 4 5 6 7 8;
    1 lanes, 1 blocks: 1 2 3 4 5 6 7 8;
}

#[cfg(target_arch = "x86_64")]
gradient_tiles! {
    Avx2Vector: Single of Avx2Vector, features("avx2,fma"), lanes at once 4, blocks 1,
    16 lanes, 1 blocks: 4;
    1 lanes, 1 blocks: 1 2 3 4;
}

gradient_tiles! {
    ScalarVector: Single of ScalarVector, features(), lanes at once 2, blocks 1,
    16 lanes, 1 blocks: 2;
    1 lanes, 1 blocks: 1 2;
}
