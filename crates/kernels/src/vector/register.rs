//! One register of f32 lanes, of whatever width the instruction set has: for kernels that hold many values at once,
//! where sixteen lanes that fill two registers would not fit.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

#[cfg(target_arch = "x86_64")]
use super::Avx512Vector;
use super::{ScalarVector, Vector};

/// `WIDTH` f32 lanes. As with [`Vector`], a value is the proof that the processor has the instruction set.
pub(crate) trait Register: Copy {
    /// Lanes: a divisor of 16.
    const WIDTH: usize;

    /// All lanes `value`.
    ///
    /// # Safety
    /// The processor has the instruction set.
    unsafe fn splat(value: f32) -> Self;

    /// `WIDTH` floats from `source`, of any alignment.
    ///
    /// # Safety
    /// The processor has the instruction set, and the floats can be read.
    unsafe fn load(source: *const f32) -> Self;

    /// Writes the lanes to `target`, of any alignment.
    ///
    /// # Safety
    /// The floats can be written.
    unsafe fn store(self, target: *mut f32);

    /// Writes the lanes to `target` past the caches, where the processor can do that.
    ///
    /// # Safety The floats can be written, and `target` is aligned to the register's size. Other threads see the values
    /// once this one has called [`Register::fence`].
    unsafe fn stream(self, target: *mut f32);

    /// Ends a run of [`Register::stream`].
    ///
    /// # Safety
    /// The processor has the instruction set.
    unsafe fn fence();

    /// `self + other`.
    fn add(self, other: Self) -> Self;
    /// `self - other`.
    fn sub(self, other: Self) -> Self;
    /// `self * other`.
    fn mul(self, other: Self) -> Self;
    /// `self * factor + addend`, rounded once where the set has fused multiply-add.
    fn mul_add(self, factor: Self, addend: Self) -> Self;
    /// As [`Vector::max`].
    fn max(self, other: Self) -> Self;
    /// As [`Vector::where_greater`].
    fn where_greater(self, other: Self, then: Self, otherwise: Self) -> Self;
    /// As [`Vector::where_equal`].
    fn where_equal(self, other: Self, then: Self, otherwise: Self) -> Self;

    /// As [`Vector::pass_relu`].
    #[inline(always)]
    fn pass_relu(self, activation: Self, zero: Self) -> Self {
        zero.where_greater(activation, zero, activation.where_equal(zero, zero, self))
    }
}

/// Implements [`Register`] for a [`Vector`] that is one register (or none).
macro_rules! sixteen_lanes {
    ($vector:ty, stream($value:ident, $target:ident) $stream:block, fence $fence:block) => {
        impl Register for $vector {
            const WIDTH: usize = crate::LANES;

            #[inline(always)]
            unsafe fn splat(value: f32) -> Self {
                // SAFETY: the caller vouches for the instruction set.
                unsafe { <Self as Vector>::splat(value) }
            }

            #[inline(always)]
            unsafe fn load(source: *const f32) -> Self {
                // SAFETY: the caller vouches for the instruction set and the memory.
                unsafe { <Self as Vector>::load(source) }
            }

            #[inline(always)]
            unsafe fn store(self, target: *mut f32) {
                // SAFETY: the caller vouches for the memory.
                unsafe { Vector::store(self, target) }
            }

            #[inline(always)]
            unsafe fn stream(self, $target: *mut f32) {
                let $value = self;
                $stream
            }

            #[inline(always)]
            unsafe fn fence() {
                $fence
            }

            #[inline(always)]
            fn add(self, other: Self) -> Self {
                Vector::add(self, other)
            }

            #[inline(always)]
            fn sub(self, other: Self) -> Self {
                Vector::sub(self, other)
            }

            #[inline(always)]
            fn mul(self, other: Self) -> Self {
                Vector::mul(self, other)
            }

            #[inline(always)]
            fn mul_add(self, factor: Self, addend: Self) -> Self {
                Vector::mul_add(self, factor, addend)
            }

            #[inline(always)]
            fn max(self, other: Self) -> Self {
                Vector::max(self, other)
            }

            #[inline(always)]
            fn where_greater(self, other: Self, then: Self, otherwise: Self) -> Self {
                Vector::where_greater(self, other, then, otherwise)
            }

            #[inline(always)]
            fn where_equal(self, other: Self, then: Self, otherwise: Self) -> Self {
                Vector::where_equal(self, other, then, otherwise)
            }
        }
    };
}

sixteen_lanes! {
    ScalarVector,
    stream(value, target) {
        // SAFETY: the caller vouches for the memory.
        unsafe { Vector::store(value, target) }
    },
    fence {}
}

#[cfg(target_arch = "x86_64")]
sixteen_lanes! {
    Avx512Vector,
    stream(value, target) {
        // SAFETY: the caller vouches for the memory and its alignment; the value proves the instruction set.
        unsafe { _mm512_stream_ps(target, value.register()) }
    },
    fence {
        // SAFETY: every x86-64 processor has SSE.
        unsafe { _mm_sfence() }
    }
}

/// Eight lanes of AVX2.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(crate) struct Avx2Register(__m256);

#[cfg(target_arch = "x86_64")]
impl Register for Avx2Register {
    const WIDTH: usize = 8;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: the caller vouches for AVX2.
        Self(unsafe { _mm256_set1_ps(value) })
    }

    #[inline(always)]
    unsafe fn load(source: *const f32) -> Self {
        // SAFETY: the caller vouches for AVX2 and for 8 readable floats.
        Self(unsafe { _mm256_loadu_ps(source) })
    }

    #[inline(always)]
    unsafe fn store(self, target: *mut f32) {
        // SAFETY: the caller vouches for 8 writable floats; `self` proves the instruction set.
        unsafe { _mm256_storeu_ps(target, self.0) }
    }

    #[inline(always)]
    unsafe fn stream(self, target: *mut f32) {
        // SAFETY: the caller vouches for 8 writable, aligned floats; `self` proves the instruction set.
        unsafe { _mm256_stream_ps(target, self.0) }
    }

    #[inline(always)]
    unsafe fn fence() {
        // SAFETY: every x86-64 processor has SSE.
        unsafe { _mm_sfence() };
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: `self` proves the instruction set.
        Self(unsafe { _mm256_add_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        // SAFETY: `self` proves the instruction set.
        Self(unsafe { _mm256_sub_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // SAFETY: `self` proves the instruction set.
        Self(unsafe { _mm256_mul_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        // SAFETY: `self` proves the instruction set.
        Self(unsafe { _mm256_fmadd_ps(self.0, factor.0, addend.0) })
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        // SAFETY: `self` proves the instruction set.
        Self(unsafe { _mm256_max_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn where_greater(self, other: Self, then: Self, otherwise: Self) -> Self {
        // SAFETY: `self` proves the instruction set.
        Self(unsafe { _mm256_blendv_ps(otherwise.0, then.0, _mm256_cmp_ps::<_CMP_GT_OQ>(self.0, other.0)) })
    }

    #[inline(always)]
    fn where_equal(self, other: Self, then: Self, otherwise: Self) -> Self {
        // SAFETY: `self` proves the instruction set.
        Self(unsafe { _mm256_blendv_ps(otherwise.0, then.0, _mm256_cmp_ps::<_CMP_EQ_OQ>(self.0, other.0)) })
    }
}
