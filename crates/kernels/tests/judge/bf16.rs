//! Numbers as bf16 and back.

use roentgen_kernels::{Bf16, Element};

/// Rounded.
pub fn narrow(x: &[f32]) -> Vec<Bf16> {
    x.iter().map(|value| Bf16::from_f32(*value)).collect()
}

/// As they are.
pub fn wide(x: &[Bf16]) -> Vec<f32> {
    x.iter().map(|value| value.to_f32()).collect()
}

/// A buffer to be overwritten: what is left of it in a result is a NaN.
pub fn unwritten_bf16(length: usize) -> Vec<Bf16> {
    narrow(&vec![f32::NAN; length])
}
