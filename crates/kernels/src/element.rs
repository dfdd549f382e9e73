//! What activations are made of in memory: f32, or bf16, the upper half of an f32.

use std::fmt::Debug;

use crate::vector::Register;

/// bf16: sign, eight bits of exponent and seven of fraction, the upper half of an f32. Two are equal where their bits
/// are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Bf16(u16);

impl Bf16 {
    /// The number with these bits.
    pub const fn from_bits(bits: u16) -> Bf16 {
        Bf16(bits)
    }

    /// Its bits.
    pub fn to_bits(self) -> u16 {
        self.0
    }
}

/// A number as it lies in memory: `f32` or [`Bf16`]. Kernels compute in f32 and round once, to nearest even, what they
/// store. Nothing else can implement this.
pub trait Element: Stored {
    /// The nearest number, the even one of two; NaN stays NaN.
    fn from_f32(value: f32) -> Self;

    /// The number itself: every one is an f32.
    fn to_f32(self) -> f32;
}

/// How numbers of a kind come to registers and back. Outside this crate it has no name.
pub trait Stored: Copy + Default + Debug + PartialEq + Send + Sync + 'static {
    /// Whether it holds every f32: sums may rest in it.
    const IS_F32: bool;

    /// As many numbers as the register has lanes, from `source`, of any alignment.
    ///
    /// # Safety
    /// The processor has the register's instruction set, and the numbers can be read.
    unsafe fn load<R: Register>(source: *const Self) -> R;

    /// Writes the lanes, rounded, to `target`, of any alignment.
    ///
    /// # Safety
    /// The numbers can be written.
    unsafe fn store<R: Register>(value: R, target: *mut Self);

    /// As [`Stored::store`], past the caches where the processor can do that.
    ///
    /// # Safety
    /// As [`Register::stream`].
    unsafe fn stream<R: Register>(value: R, target: *mut Self);

    /// The lanes as they would come back from memory.
    fn round<R: Register>(value: R) -> R;

    /// The numbers by their kind.
    fn slice(numbers: &[Self]) -> Slice<'_>;

    /// The numbers where they are f32.
    fn floats_mut(numbers: &mut [Self]) -> Option<&mut [f32]>;
}

/// Numbers of one kind or the other.
pub enum Slice<'a> {
    /// f32.
    F32(&'a [f32]),
    /// bf16.
    Bf16(&'a [Bf16]),
}

impl Element for f32 {
    #[inline(always)]
    fn from_f32(value: f32) -> f32 {
        value
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }
}

impl Stored for f32 {
    const IS_F32: bool = true;

    #[inline(always)]
    unsafe fn load<R: Register>(source: *const f32) -> R {
        // SAFETY: the caller vouches for it.
        unsafe { R::load_f32(source) }
    }

    #[inline(always)]
    unsafe fn store<R: Register>(value: R, target: *mut f32) {
        // SAFETY: the caller vouches for it.
        unsafe { value.store_f32(target) }
    }

    #[inline(always)]
    unsafe fn stream<R: Register>(value: R, target: *mut f32) {
        // SAFETY: the caller vouches for it.
        unsafe { value.stream_f32(target) }
    }

    #[inline(always)]
    fn round<R: Register>(value: R) -> R {
        value
    }

    #[inline(always)]
    fn slice(numbers: &[f32]) -> Slice<'_> {
        Slice::F32(numbers)
    }

    #[inline(always)]
    fn floats_mut(numbers: &mut [f32]) -> Option<&mut [f32]> {
        Some(numbers)
    }
}

impl Element for Bf16 {
    #[inline(always)]
    fn from_f32(value: f32) -> Bf16 {
        let bits = value.to_bits();
        let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
        // A NaN whose upper half has no fraction would become infinity.
        Bf16((if value.is_nan() { bits | 0x40_0000 } else { nearest } >> 16) as u16)
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        f32::from_bits(u32::from(self.0) << 16)
    }
}

impl Stored for Bf16 {
    const IS_F32: bool = false;

    #[inline(always)]
    unsafe fn load<R: Register>(source: *const Bf16) -> R {
        // SAFETY: the caller vouches for it.
        unsafe { R::load_bf16(source) }
    }

    #[inline(always)]
    unsafe fn store<R: Register>(value: R, target: *mut Bf16) {
        // SAFETY: the caller vouches for it.
        unsafe { value.store_bf16(target) }
    }

    #[inline(always)]
    unsafe fn stream<R: Register>(value: R, target: *mut Bf16) {
        // SAFETY: the caller vouches for it.
        unsafe { value.stream_bf16(target) }
    }

    #[inline(always)]
    fn round<R: Register>(value: R) -> R {
        value.round_bf16()
    }

    #[inline(always)]
    fn slice(numbers: &[Bf16]) -> Slice<'_> {
        Slice::Bf16(numbers)
    }

    #[inline(always)]
    fn floats_mut(_: &mut [Bf16]) -> Option<&mut [f32]> {
        None
    }
}

/// Two numbers that are multiplied together, in one word of 32 bits: the first in the lower half. Slices of words are
/// `[f32]`, of which nobody looks at the values, so that all buffers stay of one kind.
#[inline(always)]
pub(crate) fn pair(first: Bf16, second: Bf16) -> f32 {
    f32::from_bits(u32::from(first.0) | u32::from(second.0) << 16)
}

/// Words as twice as many numbers: the lower half of each first on the processors that multiply pairs.
pub(crate) fn halves(words: &mut [f32]) -> &mut [Bf16] {
    // SAFETY: all bits are valid numbers of either kind, the length is the same in bytes, and the alignment less.
    unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), 2 * words.len()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_to_nearest_even_and_keeps_what_is_special() {
        let rounded = |value| Bf16::from_f32(value).to_f32();
        for (value, expected) in [
            (1.0, 1.0),
            (-0.0, -0.0),
            (f32::INFINITY, f32::INFINITY),
            (f32::MAX, f32::INFINITY),
            // Eight bits of fraction: 1 + 1/256 lies between 1 and 1 + 1/128, the even one is 1.
            (1.0 + 1.0 / 256.0, 1.0),
            (1.0 + 3.0 / 256.0, 1.0 + 4.0 / 256.0),
            (1.0 + 1.0 / 256.0 + 1.0 / 65536.0, 1.0 + 1.0 / 128.0),
            // Denormals, which some instructions would flush to zero.
            (f32::from_bits(0x0001_0000), f32::from_bits(0x0001_0000)),
            (f32::from_bits(0x0001_8000), f32::from_bits(0x0002_0000)),
        ] {
            assert_eq!(rounded(value).to_bits(), f32::to_bits(expected), "{value}");
        }
        for nan in [f32::NAN, -f32::NAN, f32::from_bits(0x7f80_0001), f32::from_bits(0xffff_ffff)] {
            assert!(rounded(nan).is_nan(), "{:x}", nan.to_bits());
        }
    }

    #[test]
    fn the_first_of_a_pair_lies_in_the_lower_half() {
        let mut words = [pair(Bf16::from_f32(1.5), Bf16::from_f32(-2.0))];
        let bits = words[0].to_bits();
        assert_eq!((bits & 0xffff, bits >> 16), (0x3fc0, 0xc000));
        assert_eq!(*halves(&mut words), [Bf16(0x3fc0), Bf16(0xc000)]);
    }
}
