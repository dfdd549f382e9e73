//! The portable vector: an array, which the compiler turns into whatever the target's baseline offers.

use super::{Register, Vector};
use crate::{Bf16, Element, LANES};

/// Sixteen lanes in an array. It multiplies and adds in two roundings: a fused operation would be a slow library call
/// where the baseline has none.
#[derive(Clone, Copy)]
pub struct ScalarVector([f32; LANES]);

impl ScalarVector {
    #[inline(always)]
    fn zip(self, other: Self, operation: impl Fn(f32, f32) -> f32) -> Self {
        let mut lanes = self.0;
        for i in 0..LANES {
            lanes[i] = operation(lanes[i], other.0[i]);
        }
        Self(lanes)
    }
}

impl Vector for ScalarVector {}

impl Register for ScalarVector {
    const WIDTH: usize = LANES;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; LANES])
    }

    #[inline(always)]
    unsafe fn load_f32(source: *const f32) -> Self {
        // SAFETY: the caller vouches for 16 readable floats; an array of them needs no more than their alignment.
        Self(unsafe { source.cast::<[f32; LANES]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn store_f32(self, target: *mut f32) {
        // SAFETY: the caller vouches for 16 writable floats.
        unsafe { target.cast::<[f32; LANES]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    unsafe fn load_bf16(source: *const Bf16) -> Self {
        // SAFETY: the caller vouches for 16 readable numbers.
        Self(unsafe { source.cast::<[Bf16; LANES]>().read_unaligned() }.map(Bf16::to_f32))
    }

    #[inline(always)]
    unsafe fn store_bf16(self, target: *mut Bf16) {
        // SAFETY: the caller vouches for 16 writable numbers.
        unsafe { target.cast::<[Bf16; LANES]>().write_unaligned(self.0.map(Bf16::from_f32)) }
    }

    #[inline(always)]
    fn round_bf16(self) -> Self {
        Self(self.0.map(|value| Bf16::from_f32(value).to_f32()))
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| a / b)
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        self.mul(factor).add(addend)
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn where_greater(self, other: Self, then: Self, otherwise: Self) -> Self {
        let mut lanes = otherwise.0;
        for i in 0..LANES {
            lanes[i] = if self.0[i] > other.0[i] { then.0[i] } else { lanes[i] };
        }
        Self(lanes)
    }

    #[inline(always)]
    fn where_equal(self, other: Self, then: Self, otherwise: Self) -> Self {
        let mut lanes = otherwise.0;
        for i in 0..LANES {
            lanes[i] = if self.0[i] == other.0[i] { then.0[i] } else { lanes[i] };
        }
        Self(lanes)
    }
}
