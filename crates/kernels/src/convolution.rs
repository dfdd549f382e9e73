//! Convolutions: forward, and the gradients for input, weights and bias.
//!
//! Direct ones, in f32 and with products of bf16: `window` brings every kernel, stride and padding to one form, `tile`
//! and `gradient_tile` hold the micro-kernels, `correlate` and `weight_gradient` the loops around them.

mod bf16;
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
