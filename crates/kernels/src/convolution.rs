//! Convolutions: forward, and the gradients for input, weights and bias.
//!
//! Direct ones, of f32 and of bf16: `window` brings every kernel, stride and padding to one form, `tile` and
//! `gradient_tile` hold the micro-kernels, `correlate` and `weight_gradient` the loops around them.
//!
//! Products of bf16 are summed in f32. Where the processor multiplies pairs of bf16, panels and packed weights hold
//! pairs: of channels (of a planar input, of neighbouring columns) for forward passes and data gradients, of rows for
//! weight gradients. Elsewhere the same products are made in f32, and summed in another order.

mod bias_gradient;
pub(crate) mod correlate;
mod finish;
mod forward;
mod gradient_tile;
mod shape;
mod tile;
pub(crate) mod weight_gradient;
mod weights;
pub(crate) mod window;

pub use finish::ConvFinish;
pub use shape::{ConvShape, InputLayout};
