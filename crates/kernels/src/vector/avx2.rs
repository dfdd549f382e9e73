//! Eight lanes in an AVX2 register, and sixteen in two.

use std::arch::x86_64::*;

use super::{Register, Vector};
use crate::{Bf16, LANES};

/// Eight lanes.
#[derive(Clone, Copy)]
pub struct Avx2Register(__m256);

impl Avx2Register {
    /// As [`super::Avx512Vector`]'s.
    #[inline(always)]
    fn nearest_bf16(self) -> __m256i {
        // SAFETY: `self` proves the instruction set.
        unsafe {
            let bits = _mm256_castps_si256(self.0);
            let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
            let nearest = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
            let is_nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(self.0, self.0));
            let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x40_0000));
            _mm256_blendv_epi8(nearest, quiet, is_nan)
        }
    }
}

impl Register for Avx2Register {
    const WIDTH: usize = 8;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: the caller vouches for AVX2.
        Self(unsafe { _mm256_set1_ps(value) })
    }

    #[inline(always)]
    unsafe fn load_f32(source: *const f32) -> Self {
        // SAFETY: the caller vouches for AVX2 and for 8 readable floats.
        Self(unsafe { _mm256_loadu_ps(source) })
    }

    #[inline(always)]
    unsafe fn store_f32(self, target: *mut f32) {
        // SAFETY: the caller vouches for 8 writable floats; `self` proves the instruction set.
        unsafe { _mm256_storeu_ps(target, self.0) }
    }

    #[inline(always)]
    unsafe fn load_bf16(source: *const Bf16) -> Self {
        // SAFETY: the caller vouches for AVX2 and for 8 readable numbers.
        unsafe {
            let words = _mm256_cvtepu16_epi32(_mm_loadu_si128(source.cast()));
            Self(_mm256_castsi256_ps(_mm256_slli_epi32::<16>(words)))
        }
    }

    #[inline(always)]
    unsafe fn store_bf16(self, target: *mut Bf16) {
        // SAFETY: the caller vouches for 8 writable numbers; `self` proves the instruction set.
        unsafe {
            let words = _mm256_srli_epi32::<16>(self.nearest_bf16());
            // Halves are packed each on its own: the second one's numbers are the third quarter.
            let packed = _mm256_permute4x64_epi64::<0b00_00_10_00>(_mm256_packus_epi32(words, words));
            _mm_storeu_si128(target.cast(), _mm256_castsi256_si128(packed));
        }
    }

    #[inline(always)]
    unsafe fn stream_f32(self, target: *mut f32) {
        // SAFETY: the caller vouches for 8 writable, aligned floats; `self` proves the instruction set.
        unsafe { _mm256_stream_ps(target, self.0) }
    }

    #[inline(always)]
    unsafe fn fence() {
        // SAFETY: every x86-64 processor has SSE.
        unsafe { _mm_sfence() };
    }

    #[inline(always)]
    fn round_bf16(self) -> Self {
        // SAFETY: `self` proves the instruction set.
        unsafe {
            let upper = _mm256_and_si256(self.nearest_bf16(), _mm256_set1_epi32(0xffff_0000_u32 as i32));
            Self(_mm256_castsi256_ps(upper))
        }
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
    fn div(self, other: Self) -> Self {
        // SAFETY: `self` proves the instruction set.
        Self(unsafe { _mm256_div_ps(self.0, other.0) })
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

/// Sixteen lanes: 0 to 7 and 8 to 15.
#[derive(Clone, Copy)]
pub struct Avx2Vector(Avx2Register, Avx2Register);

impl Vector for Avx2Vector {}

impl Register for Avx2Vector {
    const WIDTH: usize = LANES;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: the caller vouches for AVX2.
        let half = unsafe { Avx2Register::splat(value) };
        Self(half, half)
    }

    #[inline(always)]
    unsafe fn load_f32(source: *const f32) -> Self {
        // SAFETY: the caller vouches for AVX2 and for 16 readable floats.
        unsafe { Self(Avx2Register::load_f32(source), Avx2Register::load_f32(source.add(8))) }
    }

    #[inline(always)]
    unsafe fn store_f32(self, target: *mut f32) {
        // SAFETY: the caller vouches for 16 writable floats.
        unsafe {
            self.0.store_f32(target);
            self.1.store_f32(target.add(8));
        }
    }

    #[inline(always)]
    unsafe fn load_bf16(source: *const Bf16) -> Self {
        // SAFETY: the caller vouches for AVX2 and for 16 readable numbers.
        unsafe { Self(Avx2Register::load_bf16(source), Avx2Register::load_bf16(source.add(8))) }
    }

    #[inline(always)]
    unsafe fn store_bf16(self, target: *mut Bf16) {
        // SAFETY: the caller vouches for 16 writable numbers.
        unsafe {
            self.0.store_bf16(target);
            self.1.store_bf16(target.add(8));
        }
    }

    #[inline(always)]
    fn round_bf16(self) -> Self {
        Self(self.0.round_bf16(), self.1.round_bf16())
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(self.0.add(other.0), self.1.add(other.1))
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self(self.0.sub(other.0), self.1.sub(other.1))
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        Self(self.0.mul(other.0), self.1.mul(other.1))
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        Self(self.0.div(other.0), self.1.div(other.1))
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        Self(self.0.mul_add(factor.0, addend.0), self.1.mul_add(factor.1, addend.1))
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        Self(self.0.max(other.0), self.1.max(other.1))
    }

    #[inline(always)]
    fn where_greater(self, other: Self, then: Self, otherwise: Self) -> Self {
        let first = self.0.where_greater(other.0, then.0, otherwise.0);
        Self(first, self.1.where_greater(other.1, then.1, otherwise.1))
    }

    #[inline(always)]
    fn where_equal(self, other: Self, then: Self, otherwise: Self) -> Self {
        let first = self.0.where_equal(other.0, then.0, otherwise.0);
        Self(first, self.1.where_equal(other.1, then.1, otherwise.1))
    }
}
