//! Weights as the products stream them.
//!
//! Transformed: `[groups of output channels, 36 points, padded input channels, lanes of the group]`. A group has as
//! many output channels as the products of the instruction set keep side by side; the last one may have fewer.

use super::kernel::WinogradKernel;
use super::{POINTS, TAPS, TAPS_LEN};
use crate::threads::DisjointMut;
use crate::vector::with_vector;
use crate::{Compute, ConvShape, LANES, blocks};

/// Where a group of target blocks lies in the transformed weights.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    /// Its first block.
    pub(super) block: usize,
    /// Its blocks: as many as a product takes, or what is left.
    pub(super) blocks: usize,
    /// Where its weights start.
    pub(super) start: usize,
    /// From one point to the next.
    pub(super) point_stride: usize,
}

impl Group {
    /// Group `index` of `target_blocks` output blocks, for `source_blocks` input blocks.
    pub(super) fn new<K: WinogradKernel>(index: usize, target_blocks: usize, source_blocks: usize) -> Group {
        let most = K::GROUP_LANES / LANES;
        let block = index * most;
        let blocks = most.min(target_blocks - block);
        Group {
            block,
            blocks,
            start: block * LANES * POINTS * source_blocks * LANES,
            point_stride: source_blocks * LANES * blocks * LANES,
        }
    }

    /// How many groups `target_blocks` blocks make.
    pub(super) fn count<K: WinogradKernel>(target_blocks: usize) -> usize {
        target_blocks.div_ceil(K::GROUP_LANES / LANES)
    }

    /// Lanes that lie side by side.
    pub(super) fn lanes(&self) -> usize {
        self.blocks * LANES
    }
}

/// What the source channels of a pass are.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Direction {
    /// The input's.
    Forward,
    /// The output's; the kernel is turned around.
    Backward,
}

impl Compute {
    /// Transforms weights `[out_channels, in_channels, 3, 3]` for [`Compute::winograd_forward`].
    ///
    /// # Panics Where `oihw` has not [`ConvShape::weights_len`] or `packed` not [`ConvShape::winograd_packed_len`]
    /// floats, or the shape does not suit ([`ConvShape::suits_winograd`]).
    pub fn winograd_pack(&self, shape: &ConvShape, oihw: &[f32], packed: &mut [f32]) {
        with_vector!(self.isa(), V => self.winograd_pack_with::<V>(shape, oihw, packed, Direction::Forward));
    }

    /// Transforms weights `[out_channels, in_channels, 3, 3]` for [`Compute::winograd_data_gradient`].
    ///
    /// # Panics
    /// As [`Compute::winograd_pack`].
    pub fn winograd_pack_transposed(&self, shape: &ConvShape, oihw: &[f32], packed: &mut [f32]) {
        with_vector!(self.isa(), V => self.winograd_pack_with::<V>(shape, oihw, packed, Direction::Backward));
    }

    pub(super) fn winograd_pack_with<K: WinogradKernel>(
        &self,
        shape: &ConvShape,
        oihw: &[f32],
        packed: &mut [f32],
        direction: Direction,
    ) {
        assert!(shape.suits_winograd(), "not for Winograd's algorithm: {shape:?}");
        assert_eq!(oihw.len(), shape.weights_len(), "weights of {shape:?}");
        assert_eq!(packed.len(), shape.winograd_packed_len(), "transformed weights of {shape:?}");
        let (sources, targets) = match direction {
            Direction::Forward => (shape.in_channels, shape.out_channels),
            Direction::Backward => (shape.out_channels, shape.in_channels),
        };
        let (source_blocks, target_blocks) = (blocks(sources), blocks(targets));
        let most = K::GROUP_LANES / LANES;
        let packed = DisjointMut::new(packed);
        self.parallel_pieces(target_blocks * source_blocks, 1, |tasks, scratch| {
            let taps = scratch.floats(TAPS_LEN);
            for task in tasks {
                let (target_block, source_block) = (task / source_blocks, task % source_blocks);
                gather(shape, oihw, direction, source_block, target_block, taps);
                let group = Group::new::<K>(target_block / most, target_blocks, source_blocks);
                let lane = target_block % most * LANES;
                for channel in 0..LANES {
                    let at = group.start + (source_block * LANES + channel) * group.lanes() + lane;
                    // SAFETY: `Compute` runs on instruction sets that the processor has. The taps are 9 times 16 source
                    // channels of 16 lanes; the 36 points lie in the packed weights, whose length is asserted, and no
                    // other task writes these lanes of these source channels.
                    unsafe {
                        let target = packed.as_mut_ptr().add(at);
                        K::weights(taps[channel * LANES..].as_ptr(), LANES * LANES, target, group.point_stride);
                    }
                }
            }
        });
    }
}

/// Copies the weights of a pair of blocks to `[9 taps, 16 source channels, 16 target channels]`, zeros beyond the
/// channels.
pub(super) fn gather(
    shape: &ConvShape,
    oihw: &[f32],
    direction: Direction,
    source_block: usize,
    target_block: usize,
    into: &mut [f32],
) {
    let (out_block, in_block) = match direction {
        Direction::Forward => (target_block, source_block),
        Direction::Backward => (source_block, target_block),
    };
    let outs = LANES.min(shape.out_channels - out_block * LANES);
    let ins = LANES.min(shape.in_channels - in_block * LANES);
    if outs < LANES || ins < LANES {
        into.fill(0.0);
    }
    for o in 0..outs {
        let row = ((out_block * LANES + o) * shape.in_channels + in_block * LANES) * TAPS;
        for (c, taps) in oihw[row..][..ins * TAPS].as_chunks::<TAPS>().0.iter().enumerate() {
            match direction {
                Direction::Forward => {
                    for (tap, &weight) in taps.iter().enumerate() {
                        into[(tap * LANES + c) * LANES + o] = weight;
                    }
                }
                Direction::Backward => {
                    for (tap, &weight) in taps.iter().enumerate() {
                        into[((TAPS - 1 - tap) * LANES + o) * LANES + c] = weight;
                    }
                }
            }
        }
    }
}
