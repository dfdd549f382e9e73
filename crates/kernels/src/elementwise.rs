//! Element by element: ReLU, addition, masks. The slices are whole blocks of lanes, of any layout.

use crate::layout::{check_len, lanes, lanes_mut, load, store};
use crate::vector::{Vector, dispatch};
use crate::{Compute, LANES};

impl Compute {
    /// `x = max(x, 0)`; NaN stays NaN.
    ///
    /// # Panics
    /// Where `x` is not made of whole blocks of 16.
    pub fn relu(&self, x: &mut [f32]) {
        self.parallel_chunks(x, LANES, |_, x, _| relu(self.isa(), x));
    }

    /// The gradient of a ReLU, in place, from the ReLU's *output*: `dy` becomes 0 where `y <= 0` and stays elsewhere.
    /// Where `y` is NaN it stays, as in PyTorch.
    ///
    /// # Panics
    /// Where the lengths differ or are not whole blocks of 16.
    pub fn relu_backward(&self, y: &[f32], dy: &mut [f32]) {
        check_len("y", y.len(), dy.len());
        self.parallel_chunks(dy, LANES, |first, dy, _| {
            relu_backward(self.isa(), &y[first * LANES..][..dy.len()], dy);
        });
    }

    /// `y = a + b`, or `max(a + b, 0)` where `relu` is set: the same bits as [`Compute::relu`] afterwards.
    ///
    /// # Panics
    /// Where the lengths differ or are not whole blocks of 16.
    pub fn add(&self, a: &[f32], b: &[f32], relu: bool, y: &mut [f32]) {
        check_len("a", a.len(), y.len());
        check_len("b", b.len(), y.len());
        self.parallel_chunks(y, LANES, |first, y, _| {
            let range = first * LANES..first * LANES + y.len();
            add(self.isa(), &a[range.clone()], &b[range], relu, y);
        });
    }

    /// `dst += src`.
    ///
    /// # Panics
    /// Where the lengths differ or are not whole blocks of 16.
    pub fn accumulate(&self, src: &[f32], dst: &mut [f32]) {
        check_len("src", src.len(), dst.len());
        self.parallel_chunks(dst, LANES, |first, dst, _| {
            accumulate(self.isa(), &src[first * LANES..][..dst.len()], dst);
        });
    }

    /// `x *= mask`: a dropout, whose mask holds 0 and 1 / (1 - probability), forwards and backwards.
    ///
    /// # Panics
    /// Where the lengths differ or are not whole blocks of 16.
    pub fn multiply(&self, mask: &[f32], x: &mut [f32]) {
        check_len("mask", mask.len(), x.len());
        self.parallel_chunks(x, LANES, |first, x, _| multiply(self.isa(), &mask[first * LANES..][..x.len()], x));
    }
}

/// What `floor.max(value)` must start from for a ReLU, or for nothing at all: no value is below minus infinity, and the
/// maximum keeps NaN. One loop serves both, and both round alike.
///
/// # Safety
/// The processor has the vector's instruction set, for which the caller is compiled.
#[inline(always)]
pub(crate) unsafe fn relu_floor<V: Vector>(relu: bool) -> V {
    // SAFETY: the caller vouches for the instruction set.
    unsafe { V::splat(if relu { 0.0 } else { f32::NEG_INFINITY }) }
}

#[inline(always)]
unsafe fn relu_kernel<V: Vector>(x: &mut [f32]) {
    // SAFETY: the wrapper checked the instruction set.
    let floor: V = unsafe { relu_floor(true) };
    for x in lanes_mut(x) {
        // SAFETY: as above.
        let value = unsafe { load(x) };
        store(floor.max(value), x);
    }
}

#[inline(always)]
unsafe fn relu_backward_kernel<V: Vector>(y: &[f32], dy: &mut [f32]) {
    // SAFETY: the wrapper checked the instruction set.
    let zero = unsafe { V::zero() };
    for (y, dy) in lanes(y).iter().zip(lanes_mut(dy)) {
        // SAFETY: as above.
        let (output, gradient): (V, V) = unsafe { (load(y), load(dy)) };
        store(gradient.pass_relu(output, zero), dy);
    }
}

#[inline(always)]
unsafe fn add_kernel<V: Vector>(a: &[f32], b: &[f32], relu: bool, y: &mut [f32]) {
    // SAFETY: the wrapper checked the instruction set.
    let floor: V = unsafe { relu_floor(relu) };
    for ((a, b), y) in lanes(a).iter().zip(lanes(b)).zip(lanes_mut(y)) {
        // SAFETY: as above.
        let (a, b): (V, V) = unsafe { (load(a), load(b)) };
        store(floor.max(a.add(b)), y);
    }
}

#[inline(always)]
unsafe fn accumulate_kernel<V: Vector>(src: &[f32], dst: &mut [f32]) {
    for (src, dst) in lanes(src).iter().zip(lanes_mut(dst)) {
        // SAFETY: the wrapper checked the instruction set.
        let (value, sum): (V, V) = unsafe { (load(src), load(dst)) };
        store(sum.add(value), dst);
    }
}

#[inline(always)]
unsafe fn multiply_kernel<V: Vector>(mask: &[f32], x: &mut [f32]) {
    for (mask, x) in lanes(mask).iter().zip(lanes_mut(x)) {
        // SAFETY: the wrapper checked the instruction set.
        let (factor, value): (V, V) = unsafe { (load(mask), load(x)) };
        store(value.mul(factor), x);
    }
}

dispatch! { fn relu(x: &mut [f32]) = relu_kernel }
dispatch! { fn relu_backward(y: &[f32], dy: &mut [f32]) = relu_backward_kernel }
dispatch! { fn add(a: &[f32], b: &[f32], relu: bool, y: &mut [f32]) = add_kernel }
dispatch! { fn accumulate(src: &[f32], dst: &mut [f32]) = accumulate_kernel }
dispatch! { fn multiply(mask: &[f32], x: &mut [f32]) = multiply_kernel }
