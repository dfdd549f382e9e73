//! Batch norm, cut into the passes that an engine fuses and orders as it likes.
//!
//! Training: [`Compute::batch_norm_statistics`], then [`Compute::batch_norm_apply`] with
//! `scale = gamma / sqrt(variance + epsilon)` and `shift = beta`; backwards [`Compute::batch_norm_reduce`], then
//! [`Compute::batch_norm_data_gradient_training`]. Evaluation: the same `batch_norm_apply` with the running statistics;
//! backwards `batch_norm_reduce` where gamma or beta is trained, and [`Compute::scale_channels`].
//!
//! Sums run in `f64`, where a product of two `f32` is exact: a mean a thousand deviations from zero costs no digits,
//! and no shift has to be guessed. Each image and block of channels has a sum of its own; those are put together in the
//! order of the images, whatever the threads did.

use crate::compute::Shared;
use crate::elementwise::relu_floor;
use crate::layout::{Lanes, block_of, blocked_len, check_len, lanes, lanes_mut, load, store};
use crate::vector::{Vector, dispatch};
use crate::{Compute, Element, LANES, blocks, padded};

/// Floats that hold the two `f64` sums of one image and block: `f64` because these sums are put together by
/// subtraction.
pub(crate) const MOMENTS: usize = 4 * LANES;

/// Floats that hold the two gradients of one image and block.
const GRADIENTS: usize = 2 * LANES;

impl Compute {
    /// Mean and *biased* variance of each channel over the batch: what a batch norm in training mode normalises by.
    ///
    /// `x` is blocked `[batch, blocks, positions, 16]`; `mean` and `variance` have `padded(channels)` values. PyTorch
    /// moves its running variance by the unbiased one, `variance * n / (n - 1)` with `n = batch * positions`.
    ///
    /// # Panics
    /// Where a slice has another length than its shape, or there is no value to average.
    pub fn batch_norm_statistics<E: Element>(
        &self,
        channels: usize,
        batch: usize,
        positions: usize,
        x: &[E],
        mean: &mut [f32],
        variance: &mut [f32],
    ) {
        check_len("x", x.len(), blocked_len(channels, batch, positions));
        check_len("mean", mean.len(), padded(channels));
        check_len("variance", variance.len(), padded(channels));
        assert!(batch * positions > 0, "no values to average: batch {batch}, {positions} positions");
        let (blocks, block_len) = (blocks(channels), positions * LANES);
        self.with_shared_scratch(Shared::Vectors, |scratch| {
            let partials = scratch.floats(batch * blocks * MOMENTS);
            self.parallel_chunks(partials, MOMENTS, |first, part, _| {
                for (i, partial) in part.chunks_exact_mut(MOMENTS).enumerate() {
                    moments(self.isa(), &x[(first + i) * block_len..][..block_len], doubles(partial));
                }
            });
            for block in 0..blocks {
                let (mut sums, mut squares) = ([0.0; LANES], [0.0; LANES]);
                for image in 0..batch {
                    let partial = doubles(&mut partials[(image * blocks + block) * MOMENTS..][..MOMENTS]);
                    for lane in 0..LANES {
                        sums[lane] += partial[lane];
                        squares[lane] += partial[LANES + lane];
                    }
                }
                let count = (batch * positions) as f64;
                for lane in 0..LANES {
                    let exact_mean = sums[lane] / count;
                    let exact_variance = squares[lane] / count - exact_mean * exact_mean;
                    mean[block * LANES + lane] = exact_mean as f32;
                    // A constant channel may come out a rounding below zero. `f64::max` would turn NaN into zero.
                    variance[block * LANES + lane] = if exact_variance < 0.0 { 0.0 } else { exact_variance as f32 };
                }
            }
        });
    }

    /// `y = (x - mean) * scale + shift`, plus `residual` where given, and `max(.., 0)` of that where `relu` is set.
    ///
    /// `x`, `residual` and `y` are blocked `[batch, blocks, positions, 16]`; the others have `padded(channels)` values.
    /// The bits are those of this call without residual and ReLU, then [`Compute::add`], then [`Compute::relu`].
    ///
    /// # Panics
    /// Where a slice has another length than its shape.
    pub fn batch_norm_apply<E: Element>(
        &self,
        channels: usize,
        batch: usize,
        positions: usize,
        x: &[E],
        mean: &[f32],
        scale: &[f32],
        shift: &[f32],
        residual: Option<&[E]>,
        relu: bool,
        y: &mut [E],
    ) {
        check_len("x", x.len(), blocked_len(channels, batch, positions));
        check_len("mean", mean.len(), padded(channels));
        check_len("scale", scale.len(), padded(channels));
        check_len("shift", shift.len(), padded(channels));
        if let Some(residual) = residual {
            check_len("residual", residual.len(), x.len());
        }
        check_len("y", y.len(), x.len());
        self.parallel_blocks(channels, positions, y, |block, at, y| {
            let [mean, scale, shift] = [mean, scale, shift].map(|vector| block_of(vector, block));
            let residual = residual.map(|residual| &residual[at..][..y.len()]);
            apply(self.isa(), &x[at..][..y.len()], mean, scale, shift, residual, relu, y);
        });
    }

    /// The gradients of gamma, `d_scale = sum(dy * (x - mean) * inverse_deviation)`, and beta, `d_shift = sum(dy)`,
    /// over batch and positions. Where `accumulate` is set they are added to what the two hold.
    ///
    /// `x` and `dy` are blocked `[batch, blocks, positions, 16]`; the others have `padded(channels)` values. Each
    /// image's sum is rounded to `f32` and added in the order of the images, so that a batch cut into smaller ones,
    /// each but the first accumulating, gives the same bits as the whole.
    ///
    /// # Panics
    /// Where a slice has another length than its shape.
    pub fn batch_norm_reduce<E: Element>(
        &self,
        channels: usize,
        batch: usize,
        positions: usize,
        x: &[E],
        dy: &[E],
        mean: &[f32],
        inverse_deviation: &[f32],
        d_scale: &mut [f32],
        d_shift: &mut [f32],
        accumulate: bool,
    ) {
        check_len("x", x.len(), blocked_len(channels, batch, positions));
        check_len("dy", dy.len(), x.len());
        check_len("mean", mean.len(), padded(channels));
        check_len("inverse_deviation", inverse_deviation.len(), padded(channels));
        check_len("d_scale", d_scale.len(), padded(channels));
        check_len("d_shift", d_shift.len(), padded(channels));
        let (blocks, block_len) = (blocks(channels), positions * LANES);
        if !accumulate {
            d_scale.fill(0.0);
            d_shift.fill(0.0);
        }
        self.with_shared_scratch(Shared::Vectors, |scratch| {
            let partials = scratch.floats(batch * blocks * GRADIENTS);
            self.parallel_chunks(partials, GRADIENTS, |first, part, _| {
                for (i, partial) in part.chunks_exact_mut(GRADIENTS).enumerate() {
                    let (block, at) = ((first + i) % blocks, (first + i) * block_len);
                    let [mean, deviation] = [mean, inverse_deviation].map(|vector| block_of(vector, block));
                    reduce(self.isa(), &x[at..][..block_len], &dy[at..][..block_len], mean, deviation, partial);
                }
            });
            for (index, partial) in partials.chunks_exact(GRADIENTS).enumerate() {
                let block = index % blocks * LANES;
                for lane in 0..LANES {
                    d_scale[block + lane] += partial[lane];
                    d_shift[block + lane] += partial[LANES + lane];
                }
            }
        });
    }

    /// The gradient of the input of a batch norm in training mode, in place: `dy` becomes
    /// `gamma * inverse_deviation * (dy - d_beta / n - (x - mean) * inverse_deviation * d_gamma / n)` with
    /// `n = batch * positions`, where `d_gamma` and `d_beta` are this batch's own sums (no accumulated ones).
    ///
    /// `x` and `dy` are blocked `[batch, blocks, positions, 16]`; the others have `padded(channels)` values.
    ///
    /// # Panics
    /// Where a slice has another length than its shape.
    pub fn batch_norm_data_gradient_training<E: Element>(
        &self,
        channels: usize,
        batch: usize,
        positions: usize,
        x: &[E],
        mean: &[f32],
        inverse_deviation: &[f32],
        gamma: &[f32],
        d_gamma: &[f32],
        d_beta: &[f32],
        dy: &mut [E],
    ) {
        check_len("x", x.len(), blocked_len(channels, batch, positions));
        check_len("mean", mean.len(), padded(channels));
        check_len("inverse_deviation", inverse_deviation.len(), padded(channels));
        check_len("gamma", gamma.len(), padded(channels));
        check_len("d_gamma", d_gamma.len(), padded(channels));
        check_len("d_beta", d_beta.len(), padded(channels));
        check_len("dy", dy.len(), x.len());
        let count = (batch * positions) as f32;
        self.parallel_blocks(channels, positions, dy, |block, at, dy| {
            let vectors = [mean, inverse_deviation, gamma, d_gamma, d_beta].map(|vector| block_of(vector, block));
            data_gradient(self.isa(), &x[at..][..dy.len()], vectors, count, dy);
        });
    }

    /// The gradient of the input of a batch norm in evaluation mode, in place: `dy` times its channel's `scale`
    /// (`gamma * inverse_deviation`, `padded(channels)` values). `dy` is blocked `[batch, blocks, positions, 16]`.
    ///
    /// # Panics
    /// Where a slice has another length than its shape.
    pub fn scale_channels<E: Element>(
        &self,
        channels: usize,
        batch: usize,
        positions: usize,
        scale: &[f32],
        dy: &mut [E],
    ) {
        check_len("scale", scale.len(), padded(channels));
        check_len("dy", dy.len(), blocked_len(channels, batch, positions));
        self.parallel_blocks(channels, positions, dy, |block, _, dy| {
            scale_block(self.isa(), block_of(scale, block), dy);
        });
    }

    /// Calls `body(block of channels, where it starts, the block's part of target)` for each image and block.
    fn parallel_blocks<E: Element>(
        &self,
        channels: usize,
        positions: usize,
        target: &mut [E],
        body: impl Fn(usize, usize, &mut [E]) + Sync,
    ) {
        let block_len = positions * LANES;
        self.parallel_chunks(target, block_len.max(1), |first, part, _| {
            for (i, block) in part.chunks_exact_mut(block_len).enumerate() {
                body((first + i) % blocks(channels), (first + i) * block_len, block);
            }
        });
    }
}

/// Scratch floats, aligned to 64 bytes, as half as many doubles.
fn doubles(floats: &mut [f32]) -> &mut [f64] {
    // SAFETY: all bits are a valid f64.
    let (before, doubles, after) = unsafe { floats.align_to_mut() };
    assert!(before.is_empty() && after.is_empty(), "scratch memory is aligned");
    doubles
}

/// Writes the sums of `x` and of `x * x`, 16 lanes each. The vector only brings the instruction set it is compiled for:
/// the compiler makes vectors of doubles out of the loop.
#[inline(always)]
unsafe fn moments_kernel<V: Vector, E: Element>(x: &[E], partial: &mut [f64]) {
    let (mut sums, mut squares) = ([0.0; LANES], [0.0; LANES]);
    for x in lanes(x) {
        for lane in 0..LANES {
            let value = f64::from(x[lane].to_f32());
            sums[lane] += value;
            squares[lane] += value * value;
        }
    }
    partial[..LANES].copy_from_slice(&sums);
    partial[LANES..].copy_from_slice(&squares);
}

#[inline(always)]
unsafe fn apply_kernel<V: Vector, E: Element>(
    x: &[E],
    mean: &Lanes,
    scale: &Lanes,
    shift: &Lanes,
    residual: Option<&[E]>,
    relu: bool,
    y: &mut [E],
) {
    // SAFETY: the wrapper checked the instruction set.
    let (mean, scale, shift, floor): (V, V, V, V) = unsafe { (load(mean), load(scale), load(shift), relu_floor(relu)) };
    match residual {
        None => {
            for (x, y) in lanes(x).iter().zip(lanes_mut(y)) {
                // SAFETY: as above.
                let x: V = unsafe { load(x) };
                store(floor.max(x.sub(mean).mul_add(scale, shift)), y);
            }
        }
        Some(residual) => {
            for ((x, residual), y) in lanes(x).iter().zip(lanes(residual)).zip(lanes_mut(y)) {
                // SAFETY: as above.
                let (x, residual): (V, V) = unsafe { (load(x), load(residual)) };
                let normalised = x.sub(mean).mul_add(scale, shift).rounded::<E>();
                store(floor.max(normalised.add(residual)), y);
            }
        }
    }
}

/// Writes the gradients of gamma and beta of one block of one image, 16 lanes each; compiled as [`moments_kernel`] is.
#[inline(always)]
unsafe fn reduce_kernel<V: Vector, E: Element>(
    x: &[E],
    dy: &[E],
    mean: &Lanes,
    inverse_deviation: &Lanes,
    partial: &mut [f32],
) {
    let (mut products, mut sums) = ([0.0; LANES], [0.0; LANES]);
    for (x, dy) in lanes(x).iter().zip(lanes(dy)) {
        for lane in 0..LANES {
            let gradient = f64::from(dy[lane].to_f32());
            products[lane] += gradient * f64::from(x[lane].to_f32() - mean[lane]);
            sums[lane] += gradient;
        }
    }
    for lane in 0..LANES {
        partial[lane] = (products[lane] * f64::from(inverse_deviation[lane])) as f32;
        partial[LANES + lane] = sums[lane] as f32;
    }
}

#[inline(always)]
unsafe fn data_gradient_kernel<V: Vector, E: Element>(x: &[E], vectors: [&Lanes; 5], count: f32, dy: &mut [E]) {
    // SAFETY: the wrapper checked the instruction set.
    let ([mean, inverse_deviation, gamma, d_gamma, d_beta], count, zero): ([V; 5], V, V) =
        unsafe { (load_all(vectors), V::splat(count), V::zero()) };
    let scale = gamma.mul(inverse_deviation);
    let offset = d_beta.div(count);
    let slope = zero.sub(inverse_deviation.mul(d_gamma).div(count));
    for (x, dy) in lanes(x).iter().zip(lanes_mut(dy)) {
        // SAFETY: as above.
        let (x, gradient): (V, V) = unsafe { (load(x), load(dy)) };
        store(x.sub(mean).mul_add(slope, gradient.sub(offset)).mul(scale), dy);
    }
}

/// # Safety
/// The processor has the vector's instruction set, for which the caller is compiled.
#[inline(always)]
unsafe fn load_all<V: Vector>([a, b, c, d, e]: [&Lanes; 5]) -> [V; 5] {
    // SAFETY: the caller vouches for the instruction set.
    unsafe { [load(a), load(b), load(c), load(d), load(e)] }
}

#[inline(always)]
unsafe fn scale_kernel<V: Vector, E: Element>(scale: &Lanes, dy: &mut [E]) {
    // SAFETY: the wrapper checked the instruction set.
    let scale: V = unsafe { load(scale) };
    for dy in lanes_mut(dy) {
        // SAFETY: as above.
        let gradient: V = unsafe { load(dy) };
        store(gradient.mul(scale), dy);
    }
}

dispatch! { fn moments<E>(x: &[E], partial: &mut [f64]) = moments_kernel }
dispatch! {
    fn apply<E>(
        x: &[E], mean: &Lanes, scale: &Lanes, shift: &Lanes, residual: Option<&[E]>, relu: bool, y: &mut [E],
    ) = apply_kernel
}
dispatch! {
    fn reduce<E>(x: &[E], dy: &[E], mean: &Lanes, inverse_deviation: &Lanes, partial: &mut [f32]) = reduce_kernel
}
dispatch! { fn data_gradient<E>(x: &[E], vectors: [&Lanes; 5], count: f32, dy: &mut [E]) = data_gradient_kernel }
dispatch! { fn scale_block<E>(scale: &Lanes, dy: &mut [E]) = scale_kernel }
