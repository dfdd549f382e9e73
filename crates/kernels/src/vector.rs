//! Sixteen f32 lanes on each instruction set, and the macro that compiles a kernel once for each.
//!
//! A kernel is a generic `#[inline(always)] unsafe fn kernel<V: Vector>(..)`; [`dispatch!`] wraps it in one
//! `#[target_feature]` function per instruction set, into which it is inlined. Two habits keep that fast:
//! everything between wrapper and intrinsic is `#[inline(always)]`, and hot loops hold no closures (a closure does
//! not inherit the target feature, so what is in it may not be inlined).

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod scalar;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::{Avx2Register, Avx2Vector};
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::{Avx512Bf16, Avx512Vector};
pub(crate) use scalar::ScalarVector;

use crate::{Bf16, Element};

/// f32 lanes: as many as a register of the instruction set has, or sixteen.
///
/// A value is the proof that the processor has the instruction set: only the constructors (`zero`, `splat`, `load`)
/// are `unsafe`, and their first condition is always that the caller is inlined into a function compiled for the set
/// ([`dispatch!`] sees to it). What is done with a value is safe but for memory.
pub trait Register: Copy {
    /// Lanes: a divisor of 16.
    const WIDTH: usize;

    /// All lanes `value`.
    ///
    /// # Safety
    /// The processor has the instruction set.
    unsafe fn splat(value: f32) -> Self;

    /// All lanes 0.
    ///
    /// # Safety
    /// The processor has the instruction set.
    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the caller vouches for the instruction set.
        unsafe { Self::splat(0.0) }
    }

    /// `WIDTH` numbers from `source`, of any alignment.
    ///
    /// # Safety
    /// The processor has the instruction set, and the numbers can be read.
    #[inline(always)]
    unsafe fn load<E: Element>(source: *const E) -> Self {
        // SAFETY: the caller vouches for it.
        unsafe { E::load(source) }
    }

    /// Writes the lanes to `target`, of any alignment, rounded to what it holds.
    ///
    /// # Safety
    /// The numbers can be written.
    #[inline(always)]
    unsafe fn store<E: Element>(self, target: *mut E) {
        // SAFETY: the caller vouches for it.
        unsafe { E::store(self, target) }
    }

    /// As [`Register::store`], past the caches where the processor can do that.
    ///
    /// # Safety
    /// The numbers can be written, and `target` is aligned to their size in all. Other threads see them once this one
    /// has called [`Register::fence`].
    #[inline(always)]
    unsafe fn stream<E: Element>(self, target: *mut E) {
        // SAFETY: the caller vouches for it.
        unsafe { E::stream(self, target) }
    }

    /// What [`Register::store`] and [`Register::load`] would make of the lanes.
    #[inline(always)]
    fn rounded<E: Element>(self) -> Self {
        E::round(self)
    }

    /// [`Register::load`] of f32.
    ///
    /// # Safety
    /// As there.
    unsafe fn load_f32(source: *const f32) -> Self;
    /// [`Register::load`] of bf16.
    ///
    /// # Safety
    /// As there.
    unsafe fn load_bf16(source: *const Bf16) -> Self;
    /// [`Register::store`] of f32.
    ///
    /// # Safety
    /// As there.
    unsafe fn store_f32(self, target: *mut f32);
    /// [`Register::store`] of bf16.
    ///
    /// # Safety
    /// As there.
    unsafe fn store_bf16(self, target: *mut Bf16);
    /// [`Register::stream`] of f32.
    ///
    /// # Safety
    /// As there.
    #[inline(always)]
    unsafe fn stream_f32(self, target: *mut f32) {
        // SAFETY: the caller vouches for it.
        unsafe { self.store_f32(target) }
    }
    /// [`Register::stream`] of bf16.
    ///
    /// # Safety
    /// As there.
    #[inline(always)]
    unsafe fn stream_bf16(self, target: *mut Bf16) {
        // SAFETY: the caller vouches for it.
        unsafe { self.store_bf16(target) }
    }
    /// [`Register::rounded`] to bf16: to nearest even, NaN to NaN, and the same bits on every instruction set.
    fn round_bf16(self) -> Self;

    /// Ends a run of [`Register::stream`].
    ///
    /// # Safety
    /// The processor has the instruction set.
    #[inline(always)]
    unsafe fn fence() {}

    /// `self + other`.
    fn add(self, other: Self) -> Self;
    /// `self - other`.
    fn sub(self, other: Self) -> Self;
    /// `self * other`.
    fn mul(self, other: Self) -> Self;
    /// `self / other`.
    fn div(self, other: Self) -> Self;
    /// `self * factor + addend`: rounded once where the set has fused multiply-add, twice on the scalar one.
    fn mul_add(self, factor: Self, addend: Self) -> Self;
    /// The larger one; `other` where either is NaN or both are zeros (so `zero.max(x)` is a ReLU that keeps NaN).
    fn max(self, other: Self) -> Self;
    /// `then` where `self > other`, else (also where either is NaN) `otherwise`.
    fn where_greater(self, other: Self, then: Self, otherwise: Self) -> Self;
    /// `then` where `self == other`, else (also where either is NaN) `otherwise`.
    fn where_equal(self, other: Self, then: Self, otherwise: Self) -> Self;

    /// A gradient taken through a ReLU with this output: 0 where the output is not above 0. Where it is NaN the gradient
    /// stays, as in PyTorch. `zero` is a zero.
    #[inline(always)]
    fn pass_relu(self, activation: Self, zero: Self) -> Self {
        zero.where_greater(activation, zero, activation.where_equal(zero, zero, self))
    }
}

/// Sixteen lanes, in however many registers that takes.
pub trait Vector: Register {
    /// The lanes in order.
    #[cfg(test)]
    #[inline(always)]
    fn to_array(self) -> [f32; crate::LANES] {
        let mut lanes = [0.0; crate::LANES];
        // SAFETY: the array holds 16 floats.
        unsafe { self.store(lanes.as_mut_ptr()) };
        lanes
    }
}

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

/// Declares a function that runs a generic kernel on the given instruction set.
///
/// ```ignore
/// #[inline(always)]
/// unsafe fn scale_kernel<V: Vector>(factor: f32, x: &mut [f32]) { .. }
///
/// dispatch! {
///     /// Multiplies every element of `x` by `factor`.
///     pub(crate) fn scale(factor: f32, x: &mut [f32]) = scale_kernel;
/// }
/// // scale(compute.isa(), 2.0, x)
/// ```
///
/// Kinds of elements that the kernel is generic over, after the vector, stand in angle brackets behind its name.
///
/// The declared function takes an [`Isa`](crate::Isa) first and panics where the processor lacks it. That check is the
/// kernel's only condition when it is declared `fn`; a kernel with others (pointers) is declared `unsafe fn`.
macro_rules! dispatch {
    ($(#[$meta:meta])* $visibility:vis fn $name:ident $(<$($element:ident),+>)? ($($argument:ident : $type:ty),* $(,)?) = $kernel:ident $(;)?) => {
        $(#[$meta])*
        $visibility fn $name $(<$($element: $crate::Element),+>)? (isa: $crate::Isa, $($argument: $type),*) {
            // SAFETY: a kernel declared without `unsafe` needs the instruction set alone, which `bodies` checks.
            $crate::vector::dispatch!(bodies isa, [$($($element),+)?], ($($argument: $type),*) = $kernel)
        }
    };
    ($(#[$meta:meta])* $visibility:vis unsafe fn $name:ident $(<$($element:ident),+>)? ($($argument:ident : $type:ty),* $(,)?) = $kernel:ident $(;)?) => {
        $(#[$meta])*
        $visibility unsafe fn $name $(<$($element: $crate::Element),+>)? (isa: $crate::Isa, $($argument: $type),*) {
            // SAFETY: `bodies` checks the instruction set, the caller vouches for the rest.
            $crate::vector::dispatch!(bodies isa, [$($($element),+)?], ($($argument: $type),*) = $kernel)
        }
    };
    (bodies $isa:ident, [$($element:ident),*], ($($argument:ident : $type:ty),*) = $kernel:ident) => {{
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f")]
        unsafe fn avx512<$($element: $crate::Element),*>($($argument: $type),*) {
            // SAFETY: this function is compiled for the vector's instruction set; the caller vouches for the rest.
            unsafe { $kernel::<$crate::vector::Avx512Vector, $($element),*>($($argument),*) }
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma")]
        unsafe fn avx2<$($element: $crate::Element),*>($($argument: $type),*) {
            // SAFETY: as above.
            unsafe { $kernel::<$crate::vector::Avx2Vector, $($element),*>($($argument),*) }
        }
        assert!($isa.is_available(), "this processor lacks the instruction set {}", $isa.name());
        match $isa {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the processor has the set (asserted above); the caller vouches for the kernel's own conditions.
            $crate::Isa::Avx512 | $crate::Isa::Avx512Bf16 => unsafe { avx512::<$($element),*>($($argument),*) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            $crate::Isa::Avx2 => unsafe { avx2::<$($element),*>($($argument),*) },
            // SAFETY: the portable vector needs no instruction set.
            _ => unsafe { $kernel::<$crate::vector::ScalarVector, $($element),*>($($argument),*) },
        }
    }};
}
pub(crate) use dispatch;

/// Evaluates an expression with a type name bound to the vector of an instruction set, for code around kernels: it
/// chooses by the vector but is not compiled for its set. `with_vector!(isa, V => run::<V>(x))`
macro_rules! with_vector {
    ($isa:expr, $vector:ident => $expression:expr) => {
        match $isa {
            #[cfg(target_arch = "x86_64")]
            $crate::Isa::Avx512 | $crate::Isa::Avx512Bf16 => {
                type $vector = $crate::vector::Avx512Vector;
                $expression
            }
            #[cfg(target_arch = "x86_64")]
            $crate::Isa::Avx2 => {
                type $vector = $crate::vector::Avx2Vector;
                $expression
            }
            _ => {
                type $vector = $crate::vector::ScalarVector;
                $expression
            }
        }
    };
}
pub(crate) use with_vector;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Isa, LANES};

    #[repr(align(32))]
    struct Aligned([Bf16; LANES]);

    /// Every operation on every lane against plain f32, with NaN, infinities and signed zeros among the inputs.
    #[inline(always)]
    unsafe fn check_kernel<V: Vector>(fused: bool) {
        let specials = [
            0.0,
            -0.0,
            1.5,
            -2.25,
            f32::NAN,
            f32::INFINITY,
            f32::NEG_INFINITY,
            1e-30,
            3.0e20,
            -7.0,
            0.1,
            f32::MAX,
            f32::from_bits(0x7f80_0001),
            // Halfway between two bf16, above an even one and above an odd one; a denormal.
            1.0 + 1.0 / 256.0,
            1.0 + 3.0 / 256.0,
            f32::from_bits(0x0001_8000),
        ];
        let same = |a: f32, b: f32| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
        for shift in 0..specials.len() {
            let a: [f32; LANES] = std::array::from_fn(|i| specials[i % specials.len()]);
            let b: [f32; LANES] = std::array::from_fn(|i| specials[(i + shift) % specials.len()]);
            let c: [f32; LANES] = std::array::from_fn(|i| specials[(i + 2 * shift + 1) % specials.len()]);
            // SAFETY: the arrays hold 16 floats, and the wrapper checked the instruction set.
            let (va, vb, vc) = unsafe { (V::load(a.as_ptr()), V::load(b.as_ptr()), V::load(c.as_ptr())) };
            // SAFETY: as above.
            let (zero, two) = unsafe { (V::zero().to_array(), V::splat(2.0).to_array()) };
            let (mut narrow, mut streamed) = ([Bf16::default(); LANES], Aligned([Bf16::default(); LANES]));
            // SAFETY: as above, for arrays of 16 bf16, the second one aligned.
            let widened = unsafe {
                va.store(narrow.as_mut_ptr());
                va.stream(streamed.0.as_mut_ptr());
                V::fence();
                V::load(narrow.as_ptr()).to_array()
            };
            for i in 0..LANES {
                let (x, y, z) = (a[i], b[i], c[i]);
                let product = if fused { x.mul_add(y, z) } else { x * y + z };
                assert!(zero[i].to_bits() == 0 && two[i] == 2.0);
                let nearest = Bf16::from_f32(x);
                assert!(same(va.round_bf16().to_array()[i], nearest.to_f32()), "{x} as bf16");
                assert_eq!((narrow[i], streamed.0[i]), (nearest, nearest), "{x} as bf16");
                assert!(same(widened[i], nearest.to_f32()), "{nearest:?}");
                assert!(same(va.add(vb).to_array()[i], x + y), "{x} + {y}");
                assert!(same(va.sub(vb).to_array()[i], x - y), "{x} - {y}");
                assert!(same(va.mul(vb).to_array()[i], x * y), "{x} * {y}");
                assert!(same(va.div(vb).to_array()[i], x / y), "{x} / {y}");
                assert!(same(va.mul_add(vb, vc).to_array()[i], product), "{x} * {y} + {z}");
                assert!(same(va.max(vb).to_array()[i], if x > y { x } else { y }), "max {x} {y}");
                assert!(same(va.where_greater(vb, vc, va).to_array()[i], if x > y { z } else { x }), "{x} > {y}");
                assert!(same(va.where_equal(vb, vc, va).to_array()[i], if x == y { z } else { x }), "{x} == {y}");
            }
        }
    }

    dispatch! { fn check(fused: bool) = check_kernel }

    #[test]
    fn every_operation_agrees_with_plain_floats() {
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
            check(isa, isa != Isa::Scalar);
        }
    }
}
