//! Element by element: ReLU, addition, masks. The slices are whole blocks of lanes, of any layout.

use crate::layout::{check_len, lanes, lanes_mut, load, store};
use crate::vector::{Vector, dispatch};
use crate::{Compute, Element, LANES};

impl Compute {
    /// `x = max(x, 0)`; NaN stays NaN.
    ///
    /// # Panics
    /// Where `x` is not made of whole blocks of 16.
    pub fn relu<E: Element>(&self, x: &mut [E]) {
        self.parallel_elements(x, LANES, |_, x| relu(self.isa(), x));
    }

    /// The gradient of a ReLU, in place, from the ReLU's *output*: `dy` becomes 0 where `y <= 0` and stays elsewhere.
    /// Where `y` is NaN it stays, as in PyTorch.
    ///
    /// # Panics
    /// Where the lengths differ or are not whole blocks of 16.
    pub fn relu_backward<E: Element>(&self, y: &[E], dy: &mut [E]) {
        check_len("y", y.len(), dy.len());
        self.parallel_elements(dy, LANES, |first, dy| relu_backward(self.isa(), &y[first..][..dy.len()], dy));
    }

    /// `y = a + b`, or `max(a + b, 0)` where `relu` is set: the same bits as [`Compute::relu`] afterwards.
    ///
    /// # Panics
    /// Where the lengths differ or are not whole blocks of 16.
    pub fn add<E: Element>(&self, a: &[E], b: &[E], relu: bool, y: &mut [E]) {
        check_len("a", a.len(), y.len());
        check_len("b", b.len(), y.len());
        self.parallel_elements(y, LANES, |first, y| {
            let range = first..first + y.len();
            add(self.isa(), &a[range.clone()], &b[range], relu, y);
        });
    }

    /// `dst += src`.
    ///
    /// # Panics
    /// Where the lengths differ or are not whole blocks of 16.
    pub fn accumulate<E: Element>(&self, src: &[E], dst: &mut [E]) {
        check_len("src", src.len(), dst.len());
        self.parallel_elements(dst, LANES, |first, dst| accumulate(self.isa(), &src[first..][..dst.len()], dst));
    }

    /// `x *= mask`: a dropout, whose mask holds 0 and 1 / (1 - probability), forwards and backwards.
    ///
    /// # Panics
    /// Where the lengths differ or are not whole blocks of 16.
    pub fn multiply<E: Element>(&self, mask: &[f32], x: &mut [E]) {
        check_len("mask", mask.len(), x.len());
        self.parallel_elements(x, LANES, |first, x| multiply(self.isa(), &mask[first..][..x.len()], x));
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
unsafe fn relu_kernel<V: Vector, E: Element>(x: &mut [E]) {
    // SAFETY: the wrapper checked the instruction set.
    let floor: V = unsafe { relu_floor(true) };
    for x in lanes_mut(x) {
        // SAFETY: as above.
        let value = unsafe { load(x) };
        store(floor.max(value), x);
    }
}

#[inline(always)]
unsafe fn relu_backward_kernel<V: Vector, E: Element>(y: &[E], dy: &mut [E]) {
    // SAFETY: the wrapper checked the instruction set.
    let zero = unsafe { V::zero() };
    for (y, dy) in lanes(y).iter().zip(lanes_mut(dy)) {
        // SAFETY: as above.
        let (output, gradient): (V, V) = unsafe { (load(y), load(dy)) };
        store(gradient.pass_relu(output, zero), dy);
    }
}

#[inline(always)]
unsafe fn add_kernel<V: Vector, E: Element>(a: &[E], b: &[E], relu: bool, y: &mut [E]) {
    // SAFETY: the wrapper checked the instruction set.
    let floor: V = unsafe { relu_floor(relu) };
    for ((a, b), y) in lanes(a).iter().zip(lanes(b)).zip(lanes_mut(y)) {
        // SAFETY: as above.
        let (a, b): (V, V) = unsafe { (load(a), load(b)) };
        store(floor.max(a.add(b)), y);
    }
}

#[inline(always)]
unsafe fn accumulate_kernel<V: Vector, E: Element>(src: &[E], dst: &mut [E]) {
    for (src, dst) in lanes(src).iter().zip(lanes_mut(dst)) {
        // SAFETY: the wrapper checked the instruction set.
        let (value, sum): (V, V) = unsafe { (load(src), load(dst)) };
        store(sum.add(value), dst);
    }
}

#[inline(always)]
unsafe fn multiply_kernel<V: Vector, E: Element>(mask: &[f32], x: &mut [E]) {
    for (mask, x) in lanes(mask).iter().zip(lanes_mut(x)) {
        // SAFETY: the wrapper checked the instruction set.
        let (factor, value): (V, V) = unsafe { (load(mask), load(x)) };
        store(value.mul(factor), x);
    }
}

dispatch! { fn relu<E>(x: &mut [E]) = relu_kernel }
dispatch! { fn relu_backward<E>(y: &[E], dy: &mut [E]) = relu_backward_kernel }
dispatch! { fn add<E>(a: &[E], b: &[E], relu: bool, y: &mut [E]) = add_kernel }
dispatch! { fn accumulate<E>(src: &[E], dst: &mut [E]) = accumulate_kernel }
dispatch! { fn multiply<E>(mask: &[f32], x: &mut [E]) = multiply_kernel }
