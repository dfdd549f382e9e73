//! Sixteen lanes in one AVX-512 register.

use std::arch::x86_64::*;

use super::{Product, Register, Vector};
use crate::{Bf16, LANES};

/// Sixteen lanes in one register.
#[derive(Clone, Copy)]
pub struct Avx512Vector(__m512);

impl Avx512Vector {
    /// The lanes as bf16 in the upper halves of words; what the lower halves hold means nothing.
    #[inline(always)]
    fn nearest_bf16(self) -> __m512i {
        // SAFETY: `self` proves the instruction set.
        unsafe {
            let bits = _mm512_castps_si512(self.0);
            let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let nearest = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
            let is_nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(self.0, self.0);
            _mm512_mask_or_epi32(nearest, is_nan, bits, _mm512_set1_epi32(0x40_0000))
        }
    }
}

impl Vector for Avx512Vector {}

impl Register for Avx512Vector {
    const WIDTH: usize = LANES;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: the caller vouches for AVX-512F.
        Self(unsafe { _mm512_set1_ps(value) })
    }

    #[inline(always)]
    unsafe fn load_f32(source: *const f32) -> Self {
        // SAFETY: the caller vouches for AVX-512F and for 16 readable floats.
        Self(unsafe { _mm512_loadu_ps(source) })
    }

    #[inline(always)]
    unsafe fn store_f32(self, target: *mut f32) {
        // SAFETY: the caller vouches for 16 writable floats; `self` proves the instruction set.
        unsafe { _mm512_storeu_ps(target, self.0) }
    }

    #[inline(always)]
    unsafe fn load_bf16(source: *const Bf16) -> Self {
        // SAFETY: the caller vouches for AVX-512F and for 16 readable numbers.
        unsafe {
            let words = _mm512_cvtepu16_epi32(_mm256_loadu_si256(source.cast()));
            Self(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(words)))
        }
    }

    #[inline(always)]
    unsafe fn store_bf16(self, target: *mut Bf16) {
        // SAFETY: the caller vouches for 16 writable numbers; `self` proves the instruction set.
        unsafe {
            let numbers = _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(self.nearest_bf16()));
            _mm256_storeu_si256(target.cast(), numbers);
        }
    }

    #[inline(always)]
    unsafe fn stream_f32(self, target: *mut f32) {
        // SAFETY: the caller vouches for the memory and its alignment; `self` proves the instruction set.
        unsafe { _mm512_stream_ps(target, self.0) }
    }

    #[inline(always)]
    unsafe fn stream_bf16(self, target: *mut Bf16) {
        // SAFETY: as above.
        unsafe {
            let numbers = _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(self.nearest_bf16()));
            _mm256_stream_si256(target.cast(), numbers);
        }
    }

    #[inline(always)]
    unsafe fn fence() {
        // SAFETY: every x86-64 processor has SSE.
        unsafe { _mm_sfence() }
    }

    #[inline(always)]
    fn round_bf16(self) -> Self {
        // SAFETY: `self` proves the instruction set.
        unsafe {
            let upper = _mm512_and_si512(self.nearest_bf16(), _mm512_set1_epi32(0xffff_0000_u32 as i32));
            Self(_mm512_castsi512_ps(upper))
        }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: `self` proves the instruction set.
        Self(unsafe { _mm512_add_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        // SAFETY: `self` proves the instruction set.
        Self(unsafe { _mm512_sub_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // SAFETY: `self` proves the instruction set.
        Self(unsafe { _mm512_mul_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        // SAFETY: `self` proves the instruction set.
        Self(unsafe { _mm512_div_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        // SAFETY: `self` proves the instruction set.
        Self(unsafe { _mm512_fmadd_ps(self.0, factor.0, addend.0) })
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        // SAFETY: `self` proves the instruction set.
        Self(unsafe { _mm512_max_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn where_greater(self, other: Self, then: Self, otherwise: Self) -> Self {
        // SAFETY: `self` proves the instruction set.
        Self(unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(self.0, other.0), otherwise.0, then.0) })
    }

    #[inline(always)]
    fn where_equal(self, other: Self, then: Self, otherwise: Self) -> Self {
        // SAFETY: `self` proves the instruction set.
        Self(unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_EQ_OQ>(self.0, other.0), otherwise.0, then.0) })
    }
}

/// A lane is a pair of bf16, whose two products are both added. On AVX-512 with BF16.
pub(crate) struct Avx512Bf16;

impl Product<Avx512Vector> for Avx512Bf16 {
    #[inline(always)]
    fn multiply_add(value: Avx512Vector, weight: Avx512Vector, sum: Avx512Vector) -> Avx512Vector {
        // SAFETY: the vectors prove AVX-512F; whoever chose these products checked the extension for bf16. The two
        // types of 512 bits differ in name only.
        unsafe {
            let [value, weight] = [value, weight].map(|v| std::mem::transmute::<__m512, __m512bh>(v.0));
            Avx512Vector(_mm512_dpbf16_ps(sum.0, value, weight))
        }
    }
}
