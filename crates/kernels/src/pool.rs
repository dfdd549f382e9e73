//! Max pool and adaptive average pool, forwards and backwards. One image and block of channels is one thread's work, so
//! that overlapping windows add up in scan order.

use std::ops::Range;

use crate::compute::Scratch;
use crate::layout::{Lanes, blocked_len, check_len, convert, lanes, lanes_mut, load, store};
use crate::vector::{Vector, dispatch};
use crate::{Compute, Element, Isa, LANES};

/// A max pool with a square window, as torchvision's networks have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PoolShape {
    /// Channels, in and out.
    pub channels: usize,
    /// Height and width of the window, at least 1.
    pub kernel: usize,
    /// The distance of neighbouring windows, at least 1.
    pub stride: usize,
    /// Rows and columns of minus infinity on each side; at most half of `kernel`, so that each window meets the image.
    pub padding: usize,
    /// Rows of the input.
    pub in_height: usize,
    /// Columns of the input.
    pub in_width: usize,
}

impl PoolShape {
    /// Rows of the output: `floor((in_height + 2 * padding - kernel) / stride) + 1`.
    ///
    /// # Panics
    /// Where the window exceeds the padded input.
    pub fn out_height(&self) -> usize {
        self.out_size(self.in_height)
    }

    /// Columns of the output.
    ///
    /// # Panics
    /// Where the window exceeds the padded input.
    pub fn out_width(&self) -> usize {
        self.out_size(self.in_width)
    }

    fn out_size(&self, in_size: usize) -> usize {
        let PoolShape { kernel, stride, padding, .. } = *self;
        assert!(kernel > 0 && stride > 0 && 2 * padding <= kernel, "no max pool is like this: {self:?}");
        assert!(in_size > 0 && in_size + 2 * padding >= kernel, "the window exceeds the padded input: {self:?}");
        (in_size + 2 * padding - kernel) / stride + 1
    }

    /// The input rows (or columns, by `in_size`) under the window of output row (column) `out`. Never empty.
    #[inline(always)]
    fn window(&self, out: usize, in_size: usize) -> Range<usize> {
        let start = out * self.stride;
        start.saturating_sub(self.padding)..(start + self.kernel - self.padding).min(in_size)
    }

    fn in_positions(&self) -> usize {
        self.in_height * self.in_width
    }

    fn out_positions(&self) -> usize {
        self.out_height() * self.out_width()
    }
}

/// An adaptive average pool: whatever the input's size, the output's is given. Output row `i` is the mean over the
/// input rows `floor(i * in / out) .. ceil((i + 1) * in / out)`, columns alike; the output may be larger than the
/// input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AveragePoolShape {
    /// Channels, in and out.
    pub channels: usize,
    /// Rows of the input, at least 1.
    pub in_height: usize,
    /// Columns of the input, at least 1.
    pub in_width: usize,
    /// Rows of the output, at least 1.
    pub out_height: usize,
    /// Columns of the output, at least 1.
    pub out_width: usize,
}

impl AveragePoolShape {
    fn check(&self) {
        let sizes = [self.in_height, self.in_width, self.out_height, self.out_width];
        assert!(!sizes.contains(&0), "an average pool has no size of zero: {self:?}");
    }

    fn in_positions(&self) -> usize {
        self.in_height * self.in_width
    }

    fn out_positions(&self) -> usize {
        self.out_height * self.out_width
    }

    /// The input rows and columns that are averaged at output place `(i, j)`.
    #[inline(always)]
    fn window(&self, i: usize, j: usize) -> (Range<usize>, Range<usize>) {
        (span(i, self.in_height, self.out_height), span(j, self.in_width, self.out_width))
    }
}

#[inline(always)]
fn span(i: usize, in_size: usize, out_size: usize) -> Range<usize> {
    i * in_size / out_size..((i + 1) * in_size).div_ceil(out_size)
}

impl Compute {
    /// Max pool of blocked `x` `[batch, blocks, in_height, in_width, 16]` into `y`, `[.., out_height, out_width, 16]`.
    /// As in PyTorch NaN wins over every number.
    ///
    /// # Panics
    /// Where a slice has another length than its shape, or the shape is impossible.
    pub fn max_pool_forward<E: Element>(&self, shape: &PoolShape, batch: usize, x: &[E], y: &mut [E]) {
        let (in_len, out_len) = (shape.in_positions() * LANES, shape.out_positions() * LANES);
        check_len("x", x.len(), blocked_len(shape.channels, batch, shape.in_positions()));
        check_len("y", y.len(), blocked_len(shape.channels, batch, shape.out_positions()));
        self.parallel_chunks(y, out_len, |first, part, _| {
            for (i, y) in part.chunks_exact_mut(out_len).enumerate() {
                max_pool(self.isa(), shape, &x[(first + i) * in_len..][..in_len], y);
            }
        });
    }

    /// The gradient of [`Compute::max_pool_forward`] from its input `x` and output `y`: each window's `dy` goes to its
    /// first maximum in scan order, as in PyTorch, which is found again by comparing. `dx` is overwritten, or added to
    /// where `accumulate` is set. The `dy` of a window whose maximum is NaN goes nowhere.
    ///
    /// Where `passes_relu` is set, `x` is the output of a ReLU, and what is found is the gradient for the ReLU's input;
    /// what is added to must have passed the ReLU already.
    ///
    /// # Panics
    /// Where a slice has another length than its shape, or the shape is impossible.
    pub fn max_pool_backward<E: Element>(
        &self,
        shape: &PoolShape,
        batch: usize,
        x: &[E],
        y: &[E],
        dy: &[E],
        dx: &mut [E],
        accumulate: bool,
        passes_relu: bool,
    ) {
        let (in_len, out_len) = (shape.in_positions() * LANES, shape.out_positions() * LANES);
        check_len("x", x.len(), blocked_len(shape.channels, batch, shape.in_positions()));
        check_len("y", y.len(), blocked_len(shape.channels, batch, shape.out_positions()));
        check_len("dy", dy.len(), y.len());
        check_len("dx", dx.len(), x.len());
        self.parallel_chunks(dx, in_len.max(1), |first, part, scratch| {
            for (i, dx) in part.chunks_exact_mut(in_len).enumerate() {
                let (x, out) = (&x[(first + i) * in_len..][..in_len], (first + i) * out_len..(first + i + 1) * out_len);
                add_up(self.isa(), dx, accumulate, scratch, |sums| {
                    max_pool_backward(self.isa(), shape, x, &y[out.clone()], &dy[out], sums, passes_relu);
                });
            }
        });
    }

    /// Adaptive average pool of blocked `x` `[batch, blocks, in_height, in_width, 16]` into `y`,
    /// `[.., out_height, out_width, 16]`.
    ///
    /// # Panics
    /// Where a slice has another length than its shape, or a size is zero.
    pub fn average_pool_forward<E: Element>(&self, shape: &AveragePoolShape, batch: usize, x: &[E], y: &mut [E]) {
        shape.check();
        let (in_len, out_len) = (shape.in_positions() * LANES, shape.out_positions() * LANES);
        check_len("x", x.len(), blocked_len(shape.channels, batch, shape.in_positions()));
        check_len("y", y.len(), blocked_len(shape.channels, batch, shape.out_positions()));
        self.parallel_chunks(y, out_len, |first, part, _| {
            for (i, y) in part.chunks_exact_mut(out_len).enumerate() {
                average_pool(self.isa(), shape, &x[(first + i) * in_len..][..in_len], y);
            }
        });
    }

    /// The gradient of [`Compute::average_pool_forward`]; `dx` is overwritten, or added to where `accumulate` is set.
    ///
    /// # Panics
    /// Where a slice has another length than its shape, or a size is zero.
    pub fn average_pool_backward<E: Element>(
        &self,
        shape: &AveragePoolShape,
        batch: usize,
        dy: &[E],
        dx: &mut [E],
        accumulate: bool,
    ) {
        shape.check();
        let (in_len, out_len) = (shape.in_positions() * LANES, shape.out_positions() * LANES);
        check_len("dy", dy.len(), blocked_len(shape.channels, batch, shape.out_positions()));
        check_len("dx", dx.len(), blocked_len(shape.channels, batch, shape.in_positions()));
        self.parallel_chunks(dx, in_len, |first, part, scratch| {
            for (i, dx) in part.chunks_exact_mut(in_len).enumerate() {
                let dy = &dy[(first + i) * out_len..][..out_len];
                add_up(self.isa(), dx, accumulate, scratch, |sums| average_pool_backward(self.isa(), shape, dy, sums));
            }
        });
    }
}

/// Lets `add` add gradients to f32 sums that start from 0, or where `accumulate` is set from `dx`, and brings them to
/// `dx`, rounded once.
fn add_up<E: Element>(isa: Isa, dx: &mut [E], accumulate: bool, scratch: &mut Scratch, add: impl FnOnce(&mut [f32])) {
    if let Some(sums) = E::floats_mut(dx) {
        if !accumulate {
            sums.fill(0.0);
        }
        return add(sums);
    }
    let sums = scratch.floats(dx.len());
    if accumulate {
        convert(isa, dx, sums);
    } else {
        sums.fill(0.0);
    }
    add(sums);
    convert(isa, sums, dx);
}

#[inline(always)]
unsafe fn max_pool_kernel<V: Vector, E: Element>(shape: &PoolShape, x: &[E], y: &mut [E]) {
    let (x, out_width) = (lanes(x), shape.out_width());
    for (i, y) in lanes_mut(y).chunks_exact_mut(out_width).enumerate() {
        let rows = shape.window(i, shape.in_height);
        for (j, y) in y.iter_mut().enumerate() {
            let columns = shape.window(j, shape.in_width);
            // SAFETY: the wrapper checked the instruction set.
            let mut largest: V = unsafe { load(&x[rows.start * shape.in_width + columns.start]) };
            for row in rows.clone() {
                for x in &x[row * shape.in_width..][columns.clone()] {
                    // SAFETY: as above.
                    let value: V = unsafe { load(x) };
                    let larger = value.where_greater(largest, value, largest);
                    // The comparison is false for a NaN on either side: one in `largest` stays, one in `value` would
                    // not.
                    largest = value.where_equal(value, larger, value);
                }
            }
            store(largest, y);
        }
    }
}

#[inline(always)]
unsafe fn max_pool_backward_kernel<V: Vector, E: Element>(
    shape: &PoolShape,
    x: &[E],
    y: &[E],
    dy: &[E],
    dx: &mut [f32],
    passes_relu: bool,
) {
    let (x, y, dy, dx) = (lanes(x), lanes(y), lanes(dy), lanes_mut(dx));
    // SAFETY: the wrapper checked the instruction set.
    let zero = unsafe { V::zero() };
    let out_width = shape.out_width();
    for i in 0..shape.out_height() {
        let rows = shape.window(i, shape.in_height);
        for j in 0..out_width {
            let columns = shape.window(j, shape.in_width);
            // SAFETY: as above.
            let (largest, mut gradient): (V, V) =
                unsafe { (load(&y[i * out_width + j]), load(&dy[i * out_width + j])) };
            if passes_relu {
                // The gradient goes to a value that equals the largest one.
                gradient = largest.where_greater(zero, gradient, zero);
            }
            for row in rows.clone() {
                let at = row * shape.in_width;
                for (x, dx) in x[at..][columns.clone()].iter().zip(&mut dx[at..][columns.clone()]) {
                    // SAFETY: as above.
                    let (value, sum): (V, V) = unsafe { (load(x), load(dx)) };
                    store(sum.add(value.where_equal(largest, gradient, zero)), dx);
                    // The first one takes it all.
                    gradient = value.where_equal(largest, zero, gradient);
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn average_pool_kernel<V: Vector, E: Element>(shape: &AveragePoolShape, x: &[E], y: &mut [E]) {
    let x = lanes(x);
    for (i, y) in lanes_mut(y).chunks_exact_mut(shape.out_width).enumerate() {
        for (j, y) in y.iter_mut().enumerate() {
            let (rows, columns) = shape.window(i, j);
            // SAFETY: the wrapper checked the instruction set.
            let (mut total, count): (V, V) = unsafe { (V::zero(), V::splat((rows.len() * columns.len()) as f32)) };
            for row in rows {
                // A sum of row sums rounds less than one long sum.
                // SAFETY: as above.
                let mut sum = unsafe { V::zero() };
                for x in &x[row * shape.in_width..][columns.clone()] {
                    // SAFETY: as above.
                    sum = sum.add(unsafe { load(x) });
                }
                total = total.add(sum);
            }
            store(total.div(count), y);
        }
    }
}

#[inline(always)]
unsafe fn average_pool_backward_kernel<V: Vector, E: Element>(shape: &AveragePoolShape, dy: &[E], dx: &mut [f32]) {
    let dx: &mut [Lanes] = lanes_mut(dx);
    for (i, dy) in lanes(dy).chunks_exact(shape.out_width).enumerate() {
        for (j, dy) in dy.iter().enumerate() {
            let (rows, columns) = shape.window(i, j);
            // SAFETY: the wrapper checked the instruction set.
            let (gradient, count): (V, V) = unsafe { (load(dy), V::splat((rows.len() * columns.len()) as f32)) };
            let share = gradient.div(count);
            for row in rows {
                for dx in &mut dx[row * shape.in_width..][columns.clone()] {
                    // SAFETY: as above.
                    let sum: V = unsafe { load(dx) };
                    store(sum.add(share), dx);
                }
            }
        }
    }
}

dispatch! { fn max_pool<E>(shape: &PoolShape, x: &[E], y: &mut [E]) = max_pool_kernel }
dispatch! {
    fn max_pool_backward<E>(
        shape: &PoolShape, x: &[E], y: &[E], dy: &[E], dx: &mut [f32], passes_relu: bool,
    ) = max_pool_backward_kernel
}
dispatch! { fn average_pool<E>(shape: &AveragePoolShape, x: &[E], y: &mut [E]) = average_pool_kernel }
dispatch! {
    fn average_pool_backward<E>(shape: &AveragePoolShape, dy: &[E], dx: &mut [f32]) = average_pool_backward_kernel
}
