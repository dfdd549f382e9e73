//! Sixteen lanes in two AVX2 registers.

use std::arch::x86_64::*;

use super::Vector;

/// Sixteen lanes: 0 to 7 and 8 to 15.
#[derive(Clone, Copy)]
pub(crate) struct Avx2Vector(__m256, __m256);

impl Vector for Avx2Vector {
    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the caller vouches for AVX2.
        unsafe { Self(_mm256_setzero_ps(), _mm256_setzero_ps()) }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: the caller vouches for AVX2.
        let half = unsafe { _mm256_set1_ps(value) };
        Self(half, half)
    }

    #[inline(always)]
    unsafe fn load(source: *const f32) -> Self {
        // SAFETY: the caller vouches for AVX2 and for 16 readable floats.
        unsafe { Self(_mm256_loadu_ps(source), _mm256_loadu_ps(source.add(8))) }
    }

    #[inline(always)]
    unsafe fn store(self, target: *mut f32) {
        // SAFETY: the caller vouches for 16 writable floats; `self` proves the instruction set.
        unsafe {
            _mm256_storeu_ps(target, self.0);
            _mm256_storeu_ps(target.add(8), self.1);
        }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: `self` proves the instruction set.
        unsafe { Self(_mm256_add_ps(self.0, other.0), _mm256_add_ps(self.1, other.1)) }
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        // SAFETY: `self` proves the instruction set.
        unsafe { Self(_mm256_sub_ps(self.0, other.0), _mm256_sub_ps(self.1, other.1)) }
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // SAFETY: `self` proves the instruction set.
        unsafe { Self(_mm256_mul_ps(self.0, other.0), _mm256_mul_ps(self.1, other.1)) }
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        // SAFETY: `self` proves the instruction set.
        unsafe { Self(_mm256_div_ps(self.0, other.0), _mm256_div_ps(self.1, other.1)) }
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        // SAFETY: `self` proves the instruction set.
        unsafe { Self(_mm256_fmadd_ps(self.0, factor.0, addend.0), _mm256_fmadd_ps(self.1, factor.1, addend.1)) }
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        // SAFETY: `self` proves the instruction set.
        unsafe { Self(_mm256_max_ps(self.0, other.0), _mm256_max_ps(self.1, other.1)) }
    }

    #[inline(always)]
    fn where_greater(self, other: Self, then: Self, otherwise: Self) -> Self {
        // SAFETY: `self` proves the instruction set.
        unsafe {
            Self(
                _mm256_blendv_ps(otherwise.0, then.0, _mm256_cmp_ps::<_CMP_GT_OQ>(self.0, other.0)),
                _mm256_blendv_ps(otherwise.1, then.1, _mm256_cmp_ps::<_CMP_GT_OQ>(self.1, other.1)),
            )
        }
    }

    #[inline(always)]
    fn where_equal(self, other: Self, then: Self, otherwise: Self) -> Self {
        // SAFETY: `self` proves the instruction set.
        unsafe {
            Self(
                _mm256_blendv_ps(otherwise.0, then.0, _mm256_cmp_ps::<_CMP_EQ_OQ>(self.0, other.0)),
                _mm256_blendv_ps(otherwise.1, then.1, _mm256_cmp_ps::<_CMP_EQ_OQ>(self.1, other.1)),
            )
        }
    }
}
