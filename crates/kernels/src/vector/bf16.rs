//! bf16: the upper half of an f32, rounded to nearest even; and products of pairs of them.
//!
//! Two bf16 that are multiplied and added together lie in one 32-bit word, the first in the lower half. Slices of words
//! are `[f32]`, of which nobody looks at the values: so all buffers stay of one kind.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

use super::Vector;
#[cfg(target_arch = "x86_64")]
use super::{Avx512Vector, Register};
use crate::LANES;

/// How a micro-kernel multiplies: what is in a lane of its operands.
pub(crate) trait Product<V> {
    /// `sum + value * weight`, lane by lane.
    fn multiply_add(value: V, weight: V, sum: V) -> V;
}

/// A lane is an f32.
pub(crate) struct Single;

impl<V: Vector> Product<V> for Single {
    #[inline(always)]
    fn multiply_add(value: V, weight: V, sum: V) -> V {
        value.mul_add(weight, sum)
    }
}

/// A lane is a pair of bf16, whose two products are both added. On AVX-512 with BF16.
#[cfg(target_arch = "x86_64")]
pub(crate) struct Avx512Bf16;

#[cfg(target_arch = "x86_64")]
impl Product<Avx512Vector> for Avx512Bf16 {
    #[inline(always)]
    fn multiply_add(value: Avx512Vector, weight: Avx512Vector, sum: Avx512Vector) -> Avx512Vector {
        // SAFETY: the vectors prove AVX-512F; whoever chose these products checked the extension for bf16. The two
        // types of 512 bits differ in name only.
        unsafe {
            let [value, weight] = [value, weight].map(|v| std::mem::transmute::<__m512, __m512bh>(v.register()));
            Avx512Vector::from_register(_mm512_dpbf16_ps(sum.register(), value, weight))
        }
    }
}

/// `value` rounded to bf16, to nearest even: the upper 16 bits. NaN stays NaN.
pub(crate) fn round(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        return (bits >> 16) as u16 | 0x40;
    }
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

/// `value` rounded to bf16 and back.
pub(crate) fn rounded(value: f32) -> f32 {
    f32::from_bits(u32::from(round(value)) << 16)
}

/// Two values, rounded, in one word.
pub(crate) fn pair(first: f32, second: f32) -> f32 {
    f32::from_bits(u32::from(round(first)) | u32::from(round(second)) << 16)
}

/// Rounds positions of 16 channels, `stride` floats apart, to 8 words each: channels 0 and 1, 2 and 3, and so on.
///
/// # Safety
/// The processor has AVX-512 with BW and BF16.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(crate) unsafe fn pair_channels(source: &[f32], stride: usize, words: &mut [f32]) {
    for (index, words) in words.as_chunks_mut::<{ LANES / 2 }>().0.iter_mut().enumerate() {
        let position = &source[index * stride..][..LANES];
        // SAFETY: 16 floats can be read and 8 words written, of any alignment.
        unsafe {
            let rounded = _mm512_cvtneps_pbh(_mm512_loadu_ps(position.as_ptr()));
            _mm256_storeu_ps(words.as_mut_ptr(), std::mem::transmute::<__m256bh, __m256>(rounded));
        }
    }
}

/// Rounds two runs of positions of 16 channels, each `stride` floats apart, to 16 words a position: channel by channel
/// the first run's and the second run's. `None` is a run of zeros.
///
/// # Safety
/// As [`pair_channels`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(crate) unsafe fn pair_runs(first: Option<&[f32]>, second: Option<&[f32]>, stride: usize, words: &mut [f32]) {
    let mut order = [0u16; 2 * LANES];
    for (index, place) in order.iter_mut().enumerate() {
        // Of 32 values, the first run's 16 lie in the lower half.
        *place = (index / 2 + index % 2 * LANES) as u16;
    }
    // SAFETY: 32 numbers of 16 bits can be read.
    let order = unsafe { _mm512_loadu_si512(order.as_ptr().cast()) };
    for (index, words) in words.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
        let position = |run: Option<&[f32]>| match run {
            // SAFETY: 16 floats can be read: the slice ends behind them.
            Some(run) => unsafe {
                <Avx512Vector as Register>::load(run[index * stride..][..LANES].as_ptr()).register()
            },
            None => _mm512_setzero_ps(),
        };
        // SAFETY: the two types of 512 bits differ in name only; 16 words can be written.
        unsafe {
            let rounded = _mm512_cvtne2ps_pbh(position(second), position(first));
            let rounded = std::mem::transmute::<__m512bh, __m512i>(rounded);
            _mm512_storeu_si512(words.as_mut_ptr().cast(), _mm512_permutexvar_epi16(order, rounded));
        }
    }
}

/// Rounds values and their right neighbours to words: word i holds `source[i * step]` and the value behind it. `step`
/// is 1 or 2.
///
/// # Safety
/// As [`pair_channels`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(crate) unsafe fn pair_neighbours(source: &[f32], step: usize, words: &mut [f32]) {
    assert!(step == 1 || step == 2, "neighbours at a step of {step}");
    let (chunk, last) = (if step == 2 { LANES / 2 } else { LANES }, words.len());
    let whole = last / chunk * chunk;
    for (index, words) in words[..whole].chunks_exact_mut(chunk).enumerate() {
        let source = &source[index * chunk * step..][..chunk * step + 2 - step];
        // SAFETY: the processor has the instruction set.
        unsafe {
            if step == 2 {
                // Neighbours are pairs already.
                pair_channels(source, LANES, words);
            } else {
                pair_runs(Some(source), Some(&source[1..]), LANES, words);
            }
        }
    }
    for (index, word) in words.iter_mut().enumerate().skip(whole) {
        *word = pair(source[index * step], source[index * step + 1]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_to_nearest_even_and_keeps_what_is_special() {
        for (value, expected) in [
            (1.0, 1.0),
            (-0.0, -0.0),
            (f32::INFINITY, f32::INFINITY),
            (f32::MAX, f32::INFINITY),
            // Eight bits of fraction: 1 + 1/256 lies between 1 and 1 + 1/128, the even one is 1.
            (1.0 + 1.0 / 256.0, 1.0),
            (1.0 + 3.0 / 256.0, 1.0 + 4.0 / 256.0),
            (1.0 + 1.0 / 256.0 + 1.0 / 65536.0, 1.0 + 1.0 / 128.0),
        ] {
            assert_eq!(rounded(value).to_bits(), f32::to_bits(expected), "{value}");
        }
        assert!(rounded(f32::NAN).is_nan());
        let word = pair(1.5, -2.0).to_bits();
        assert_eq!((word & 0xffff, word >> 16), (0x3fc0, 0xc000));
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn the_processor_rounds_as_we_do() {
        if !crate::Isa::Avx512Bf16.is_available() {
            return;
        }
        let source: Vec<f32> = (0..5 * 2 * LANES).map(|i| ((i * 7919 % 1013) as f32 - 500.0) / 377.0).collect();
        let mut words = vec![0.0; 5 * LANES / 2];
        // SAFETY: the processor has the instruction set.
        unsafe { pair_channels(&source, 2 * LANES, &mut words) };
        for (i, word) in words.iter().enumerate() {
            let at = i / (LANES / 2) * 2 * LANES + i % (LANES / 2) * 2;
            assert_eq!(word.to_bits(), pair(source[at], source[at + 1]).to_bits());
        }
        let mut words = vec![0.0; 5 * LANES];
        // SAFETY: as above.
        unsafe { pair_runs(Some(&source), Some(&source[LANES..]), 2 * LANES, &mut words) };
        for (i, word) in words.iter().enumerate() {
            let at = i / LANES * 2 * LANES + i % LANES;
            assert_eq!(word.to_bits(), pair(source[at], source[at + LANES]).to_bits());
        }
        // SAFETY: as above.
        unsafe { pair_runs(None, Some(&source), LANES, &mut words) };
        assert!(words.iter().zip(&source).all(|(word, value)| word.to_bits() == pair(0.0, *value).to_bits()));
    }
}
