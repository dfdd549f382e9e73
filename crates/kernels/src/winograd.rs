//! Winograd's algorithm for 3 x 3 convolutions of stride 1: F(4 x 4, 3 x 3), forward and both gradients, in f32.
//!
//! A tile of 4 x 4 outputs is made of 36 products instead of 144 (Lavin and Gray, "Fast algorithms for convolutional
//! neural networks", 2016): the 6 x 6 inputs behind it and the 3 x 3 weights are transformed to 36 points each,
//! multiplied point by point (summed over channels, these products are 36 matrix products), and transformed back. The
//! interpolation points are 0, +-5/8, +-3/2 and infinity, whose transforms err two to five times less in f32 than the
//! usual 0, +-1, +-2, infinity. The data gradient is the same pass with the kernel turned around; the weight gradient
//! sums the products over tiles instead of channels.
//!
//! `transform` has the transforms of one tile, `kernel` the compiled pieces of each instruction set, `tiling` knows
//! where tiles lie, and `weights`, `correlate` and `weight_gradient` hold the loops.

mod correlate;
mod kernel;
mod tiling;
mod transform;
mod weight_gradient;
mod weights;

pub use correlate::WinogradWeights;
pub use weight_gradient::WinogradSums;

use crate::{ConvShape, InputLayout, LANES, blocks};

/// Outputs of a tile along each axis.
const TILE: usize = 4;
/// Inputs behind a tile, and points of its transform, along each axis.
const EXTENT: usize = 6;
/// Points of a transform.
const POINTS: usize = EXTENT * EXTENT;
/// Positions of the kernel.
const TAPS: usize = 9;
/// Floats of the inputs behind a tile, where they are copied.
const EDGE_LEN: usize = EXTENT * EXTENT * LANES;
/// Floats of the weights of a pair of blocks.
const TAPS_LEN: usize = TAPS * LANES * LANES;
/// Floats between points beyond their own: 64 bytes, since points a multiple of 4 KiB apart would fall on the same lines
/// of the first-level cache.
const POINT_GAP: usize = 16;

/// The product of the sizes, which must not wrap around to a length that short slices have.
fn length(sizes: [usize; 4]) -> usize {
    sizes.into_iter().try_fold(1usize, usize::checked_mul).expect("a tensor that no memory could hold")
}

impl ConvShape {
    /// Whether the `winograd_` kernels compute this convolution: 3 x 3, stride 1, at most 2 rows of padding, blocked
    /// input.
    pub fn suits_winograd(&self) -> bool {
        self.kernel == 3 && self.stride == 1 && self.padding <= 2 && self.input == InputLayout::Blocked
    }

    /// Floats of the weights as [`Compute::winograd_pack`](crate::Compute::winograd_pack) and
    /// [`Compute::winograd_pack_transposed`](crate::Compute::winograd_pack_transposed) transform them.
    pub fn winograd_packed_len(&self) -> usize {
        length([POINTS, blocks(self.out_channels) * LANES, blocks(self.in_channels), LANES])
    }

    /// Floats of the sums that a weight gradient continues from batch to batch.
    pub fn winograd_sums_len(&self) -> usize {
        self.winograd_packed_len()
    }
}
