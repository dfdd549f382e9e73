//! CPU compute on plain slices: the only crate of the project that may say `unsafe`.
//!
//! # Layout
//!
//! An activation of shape `[N, C, H, W]` lies *blocked*: `[N, ceil(C / 16), H, W, 16]`, of f32 or of [`Bf16`]. The lanes beyond the
//! channel count are zero in every buffer, and every kernel keeps them so (as long as all values are finite: a
//! convolution multiplies everything by its zero weights, which makes NaN of infinity). A vector with a value per
//! channel has [`padded`]`(C)` values, zeros last. A matrix of N rows with F features is the blocked layout with `H = W
//! = 1`: `[N, padded(F)]`. The layout is the same on every instruction set.
//!
//! # Bits
//!
//! On one instruction set, what a kernel computes for an image has the same bits in any batch, at any place in it and
//! with any number of threads. A sum over the images of a batch runs through them in order, so that a batch which is
//! cut into smaller ones, each continuing from the last one's sum, gives the same bits as the whole.
//!
//! # Panics
//!
//! Every kernel panics where the length of a slice does not fit the shapes it is called with.

mod arena;
mod buffer;
mod ceiling;
mod compute;
mod convolution;
mod element;
mod elementwise;
mod isa;
mod layout;
mod linear;
mod normalise;
mod pool;
mod scratch;
mod threads;
mod vector;
mod winograd;

pub use arena::{Arena, Region};
pub use buffer::AlignedBuffer;
pub use compute::{Compute, ComputeError};
pub use convolution::{ConvFinish, ConvShape, InputLayout};
pub use element::{Bf16, Element};
pub use isa::{ISA_VARIABLE, Isa};
pub use linear::LinearShape;
pub use pool::{AveragePoolShape, PoolShape};
pub use scratch::ScratchNeed;
pub use winograd::{WinogradSums, WinogradWeights};

/// The number of channels that lie side by side in the blocked layout.
pub const LANES: usize = 16;

/// The number of blocks of 16 lanes that hold `channels` channels.
pub fn blocks(channels: usize) -> usize {
    channels.div_ceil(LANES)
}

/// `channels` rounded up to whole blocks: the length of a vector with a value per channel.
pub fn padded(channels: usize) -> usize {
    blocks(channels) * LANES
}
