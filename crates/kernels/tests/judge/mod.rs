//! The judge of the fast kernels: slow, obvious versions of every operation, in `f64`, on plain `[N, C, H, W]` data.
//!
//! What an operation means is PyTorch's meaning of it (2.x). Nothing here is shared with the kernels under test; the
//! gradients are themselves checked by finite differences in `tests/judge.rs`. Tests of other crates include this file
//! by `#[path = ".../kernels/tests/judge/mod.rs"] mod judge;`.

// Each test binary that includes this file uses a part of it.
#![allow(dead_code)]

/// The shape `[batch, channels, height, width]` of a plain activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Images {
    pub batch: usize,
    pub channels: usize,
    pub height: usize,
    pub width: usize,
}

impl Images {
    pub fn new(batch: usize, channels: usize, height: usize, width: usize) -> Self {
        Self { batch, channels, height, width }
    }

    /// The number of values of one channel of one image.
    pub fn positions(&self) -> usize {
        self.height * self.width
    }

    /// The number of values of the whole batch.
    pub fn len(&self) -> usize {
        self.batch * self.channels * self.positions()
    }

    /// Where the value of image `n`, channel `c`, row `h`, column `w` lies.
    pub fn at(&self, n: usize, c: usize, h: usize, w: usize) -> usize {
        ((n * self.channels + c) * self.height + h) * self.width + w
    }

    /// The channel that the value at `index` belongs to.
    pub fn channel_of(&self, index: usize) -> usize {
        index / self.positions() % self.channels
    }

    /// The same images with another number of channels and another size.
    pub fn with(&self, channels: usize, [height, width]: [usize; 2]) -> Self {
        Self { batch: self.batch, channels, height, width }
    }
}

/// The sliding window of a convolution or a pool, `[vertical, horizontal]` each.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub padding: [usize; 2],
}

impl Window {
    /// The same kernel, stride and padding in both directions.
    pub fn square(kernel: usize, stride: usize, padding: usize) -> Self {
        Self { kernel: [kernel; 2], stride: [stride; 2], padding: [padding; 2] }
    }

    /// Height and width of what comes out: `floor((in + 2 * padding - kernel) / stride) + 1`.
    pub fn out(&self, images: Images) -> [usize; 2] {
        let size = [images.height, images.width];
        [0, 1].map(|d| (size[d] + 2 * self.padding[d] - self.kernel[d]) / self.stride[d] + 1)
    }

    /// The input row (`d = 0`) or column (`d = 1`) under kernel place `k` at output place `o`, unless it is padding.
    fn input(&self, images: Images, d: usize, o: usize, k: usize) -> Option<usize> {
        (o * self.stride[d] + k).checked_sub(self.padding[d]).filter(|&i| i < [images.height, images.width][d])
    }
}

/// The gradients of an operation with parameters.
pub struct Gradients {
    /// Of the operation's input.
    pub data: Vec<f64>,
    /// Of the weight of a convolution or linear layer, or of gamma, the scale of a batch norm.
    pub weight: Vec<f64>,
    /// Of the bias of a convolution or linear layer, or of beta, the shift of a batch norm.
    pub bias: Vec<f64>,
}

/// Visits every product of a convolution as (index into the output, into the input, into the weight).
fn each_product(images: Images, out_channels: usize, window: Window, mut visit: impl FnMut(usize, usize, usize)) {
    let out = images.with(out_channels, window.out(images));
    let [kernel_height, kernel_width] = window.kernel;
    let filters = Images::new(out_channels, images.channels, kernel_height, kernel_width);
    for n in 0..images.batch {
        for o in 0..out_channels {
            for (i, j) in pairs(out.height, out.width) {
                for c in 0..images.channels {
                    for (kh, kw) in pairs(kernel_height, kernel_width) {
                        if let (Some(h), Some(w)) = (window.input(images, 0, i, kh), window.input(images, 1, j, kw)) {
                            visit(out.at(n, o, i, j), images.at(n, c, h, w), filters.at(o, c, kh, kw));
                        }
                    }
                }
            }
        }
    }
}

/// All `(row, column)` below the given height and width, in scan order.
fn pairs(height: usize, width: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..height).flat_map(move |i| (0..width).map(move |j| (i, j)))
}

/// Convolution (cross-correlation, zero padding). `weight` is `[out_channels, C, kernel height, kernel width]`.
pub fn conv2d(
    images: Images,
    out_channels: usize,
    window: Window,
    x: &[f64],
    weight: &[f64],
    bias: Option<&[f64]>,
) -> Vec<f64> {
    let out = images.with(out_channels, window.out(images));
    let mut y: Vec<f64> = (0..out.len()).map(|i| bias.map_or(0.0, |bias| bias[out.channel_of(i)])).collect();
    each_product(images, out_channels, window, |yi, xi, wi| y[yi] += x[xi] * weight[wi]);
    y
}

/// The gradients of [`conv2d`] where `dy` is the gradient of its output.
pub fn conv2d_backward(
    images: Images,
    out_channels: usize,
    window: Window,
    x: &[f64],
    weight: &[f64],
    dy: &[f64],
) -> Gradients {
    let out = images.with(out_channels, window.out(images));
    let mut gradients =
        Gradients { data: vec![0.0; x.len()], weight: vec![0.0; weight.len()], bias: vec![0.0; out_channels] };
    each_product(images, out_channels, window, |yi, xi, wi| {
        gradients.data[xi] += dy[yi] * weight[wi];
        gradients.weight[wi] += dy[yi] * x[xi];
    });
    for (i, d) in dy.iter().enumerate() {
        gradients.bias[out.channel_of(i)] += d;
    }
    gradients
}

/// `y = x weight^T + bias` for `x` `[batch, in_features]` and `weight` `[out_features, in_features]`.
pub fn linear(batch: usize, x: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
    let in_features = x.len() / batch;
    let row = |n: usize, o: usize| -> f64 {
        (0..in_features).map(|i| x[n * in_features + i] * weight[o * in_features + i]).sum::<f64>() + bias[o]
    };
    pairs(batch, bias.len()).map(|(n, o)| row(n, o)).collect()
}

/// The gradients of [`linear`].
pub fn linear_backward(batch: usize, x: &[f64], weight: &[f64], dy: &[f64]) -> Gradients {
    let (in_features, out_features) = (x.len() / batch, dy.len() / batch);
    let mut gradients =
        Gradients { data: vec![0.0; x.len()], weight: vec![0.0; weight.len()], bias: vec![0.0; out_features] };
    for (n, o) in pairs(batch, out_features) {
        let d = dy[n * out_features + o];
        gradients.bias[o] += d;
        for i in 0..in_features {
            gradients.data[n * in_features + i] += d * weight[o * in_features + i];
            gradients.weight[o * in_features + i] += d * x[n * in_features + i];
        }
    }
    gradients
}

/// Mean and biased variance of each channel over batch and positions.
pub fn channel_statistics(images: Images, x: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let count = (images.batch * images.positions()) as f64;
    let (mut mean, mut variance) = (vec![0.0; images.channels], vec![0.0; images.channels]);
    for (i, v) in x.iter().enumerate() {
        mean[images.channel_of(i)] += v / count;
    }
    for (i, v) in x.iter().enumerate() {
        variance[images.channel_of(i)] += (v - mean[images.channel_of(i)]).powi(2) / count;
    }
    (mean, variance)
}

/// Batch norm in training mode: normalises by the batch's mean and biased variance, and moves the running statistics
/// by `momentum` (PyTorch: 0.1) towards the batch's mean and *unbiased* variance.
pub fn batch_norm_training(
    images: Images,
    x: &[f64],
    gamma: &[f64],
    beta: &[f64],
    epsilon: f64,
    momentum: f64,
    running_mean: &mut [f64],
    running_variance: &mut [f64],
) -> Vec<f64> {
    let (mean, variance) = channel_statistics(images, x);
    let count = (images.batch * images.positions()) as f64;
    for c in 0..images.channels {
        let unbiased = variance[c] * count / (count - 1.0);
        running_mean[c] += momentum * (mean[c] - running_mean[c]);
        running_variance[c] += momentum * (unbiased - running_variance[c]);
    }
    batch_norm_evaluation(images, x, gamma, beta, &mean, &variance, epsilon)
}

/// The gradients of [`batch_norm_training`], the statistics being functions of `x`.
pub fn batch_norm_training_backward(images: Images, x: &[f64], gamma: &[f64], epsilon: f64, dy: &[f64]) -> Gradients {
    let (mean, variance) = channel_statistics(images, x);
    let mut gradients = batch_norm_evaluation_backward(images, x, gamma, &mean, &variance, epsilon, dy);
    let count = (images.batch * images.positions()) as f64;
    for (i, d) in gradients.data.iter_mut().enumerate() {
        let c = images.channel_of(i);
        let inverse_deviation = 1.0 / (variance[c] + epsilon).sqrt();
        let normalised = (x[i] - mean[c]) * inverse_deviation;
        *d -= gamma[c] * inverse_deviation * (gradients.bias[c] + normalised * gradients.weight[c]) / count;
    }
    gradients
}

/// Batch norm in evaluation mode: the given statistics are constants.
pub fn batch_norm_evaluation(
    images: Images,
    x: &[f64],
    gamma: &[f64],
    beta: &[f64],
    mean: &[f64],
    variance: &[f64],
    epsilon: f64,
) -> Vec<f64> {
    let normalise = |(i, v): (usize, &f64)| {
        let c = images.channel_of(i);
        (v - mean[c]) / (variance[c] + epsilon).sqrt() * gamma[c] + beta[c]
    };
    x.iter().enumerate().map(normalise).collect()
}

/// The gradients of [`batch_norm_evaluation`].
pub fn batch_norm_evaluation_backward(
    images: Images,
    x: &[f64],
    gamma: &[f64],
    mean: &[f64],
    variance: &[f64],
    epsilon: f64,
    dy: &[f64],
) -> Gradients {
    let mut gradients =
        Gradients { data: vec![0.0; x.len()], weight: vec![0.0; gamma.len()], bias: vec![0.0; gamma.len()] };
    for (i, d) in dy.iter().enumerate() {
        let c = images.channel_of(i);
        let inverse_deviation = 1.0 / (variance[c] + epsilon).sqrt();
        gradients.data[i] = d * gamma[c] * inverse_deviation;
        gradients.weight[c] += d * (x[i] - mean[c]) * inverse_deviation;
        gradients.bias[c] += d;
    }
    gradients
}

/// `max(x, 0)`; NaN stays NaN.
pub fn relu(x: &[f64]) -> Vec<f64> {
    x.iter().map(|&v| if v <= 0.0 { 0.0 } else { v }).collect()
}

/// The gradient of [`relu`] from its input or its output: nothing passes where it is not above zero.
pub fn relu_backward(x: &[f64], dy: &[f64]) -> Vec<f64> {
    x.iter().zip(dy).map(|(&v, &d)| if v <= 0.0 { 0.0 } else { d }).collect()
}

/// `a + b`; the gradient of both is that of the sum.
pub fn add(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

/// Where the maximum of each window lies in the input: the first in scan order, but a later NaN wins over everything.
fn max_pool_indices(images: Images, window: Window, x: &[f64]) -> Vec<usize> {
    let [out_height, out_width] = window.out(images);
    let mut indices = Vec::new();
    for (n, c) in pairs(images.batch, images.channels) {
        for (i, j) in pairs(out_height, out_width) {
            let mut best: Option<usize> = None;
            for (kh, kw) in pairs(window.kernel[0], window.kernel[1]) {
                if let (Some(h), Some(w)) = (window.input(images, 0, i, kh), window.input(images, 1, j, kw)) {
                    let at = images.at(n, c, h, w);
                    if best.is_none_or(|best| x[at] > x[best] || x[at].is_nan()) {
                        best = Some(at);
                    }
                }
            }
            indices.push(best.expect("padding is at most half of the kernel, so that every window meets the image"));
        }
    }
    indices
}

/// Max pool; padding counts as minus infinity, NaN wins over every number.
pub fn max_pool(images: Images, window: Window, x: &[f64]) -> Vec<f64> {
    max_pool_indices(images, window, x).into_iter().map(|at| x[at]).collect()
}

/// The gradient of [`max_pool`]: each window gives its gradient to its first maximum in scan order.
pub fn max_pool_backward(images: Images, window: Window, x: &[f64], dy: &[f64]) -> Vec<f64> {
    let mut dx = vec![0.0; x.len()];
    for (at, d) in max_pool_indices(images, window, x).into_iter().zip(dy) {
        dx[at] += d;
    }
    dx
}

/// Visits every term of an adaptive average pool as (index into the output, into the input, share of the input value).
fn each_share(images: Images, out_size: [usize; 2], mut visit: impl FnMut(usize, usize, f64)) {
    let out = images.with(images.channels, out_size);
    let span = |i: usize, size: usize, out: usize| i * size / out..((i + 1) * size).div_ceil(out);
    for (n, c) in pairs(images.batch, images.channels) {
        for (i, j) in pairs(out.height, out.width) {
            let (rows, columns) = (span(i, images.height, out.height), span(j, images.width, out.width));
            let share = 1.0 / (rows.len() * columns.len()) as f64;
            for h in rows {
                for w in columns.clone() {
                    visit(out.at(n, c, i, j), images.at(n, c, h, w), share);
                }
            }
        }
    }
}

/// Adaptive average pool: output place `i` is the mean over `floor(i * in / out) .. ceil((i + 1) * in / out)`.
pub fn adaptive_average_pool(images: Images, out_size: [usize; 2], x: &[f64]) -> Vec<f64> {
    let mut y = vec![0.0; images.with(images.channels, out_size).len()];
    each_share(images, out_size, |yi, xi, share| y[yi] += share * x[xi]);
    y
}

/// The gradient of [`adaptive_average_pool`].
pub fn adaptive_average_pool_backward(images: Images, out_size: [usize; 2], dy: &[f64]) -> Vec<f64> {
    let mut dx = vec![0.0; images.len()];
    each_share(images, out_size, |yi, xi, share| dx[xi] += share * dy[yi]);
    dx
}

/// Flattening `[N, C, H, W]` to `[N, C * H * W]`: on plain data the very same numbers.
pub fn flatten(x: &[f64]) -> Vec<f64> {
    x.to_vec()
}

/// Softmax cross-entropy of `logits` `[labels.len(), classes]`, PyTorch's mean: each sample counts with the weight of
/// its class, and the sum is divided by the sum of these weights. Gives the loss and the gradient of the logits.
pub fn cross_entropy(logits: &[f64], labels: &[usize], class_weights: Option<&[f64]>) -> (f64, Vec<f64>) {
    let classes = logits.len() / labels.len();
    let weight = |label: usize| class_weights.map_or(1.0, |weights| weights[label]);
    let total: f64 = labels.iter().map(|&label| weight(label)).sum();
    let (mut loss, mut gradient) = (0.0, Vec::new());
    for (row, &label) in logits.chunks(classes).zip(labels) {
        let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let log_sum = largest + row.iter().map(|v| (v - largest).exp()).sum::<f64>().ln();
        let share = weight(label) / total;
        loss += share * (log_sum - row[label]);
        gradient.extend((0..classes).map(|k| share * ((row[k] - log_sum).exp() - f64::from(u8::from(k == label)))));
    }
    (loss, gradient)
}

/// `length` values in [-1, 1) that `f32` holds exactly, the same for the same seed (SplitMix64).
pub fn noise(seed: u64, length: usize) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x2545_F491_4F6C_DD1D);
    let mut next = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as f64 / f64::from(1 << 23) - 1.0
    };
    (0..length).map(|_| next()).collect()
}

/// Plain data rounded to `f32`.
pub fn single(x: &[f64]) -> Vec<f32> {
    x.iter().map(|&v| v as f32).collect()
}

/// Plain `[N, C, positions]` data in the kernels' layout `[N, ceil(C / 16), positions, 16]`, tails zero.
pub fn blocked(images: Images, x: &[f64]) -> Vec<f32> {
    let blocks = images.channels.div_ceil(16);
    let mut out = vec![0.0; images.batch * blocks * images.positions() * 16];
    for n in 0..images.batch {
        for (c, p) in pairs(images.channels, images.positions()) {
            out[((n * blocks + c / 16) * images.positions() + p) * 16 + c % 16] =
                x[(n * images.channels + c) * images.positions() + p] as f32;
        }
    }
    out
}

/// The inverse of [`blocked`]. Panics where a lane beyond the channels is not zero: every kernel keeps those.
pub fn planar(images: Images, x: &[f32]) -> Vec<f64> {
    let blocks = images.channels.div_ceil(16);
    assert_eq!(x.len(), images.batch * blocks * images.positions() * 16, "length of the blocked buffer");
    let mut out = vec![0.0; images.len()];
    for (i, &v) in x.iter().enumerate() {
        let (n, p) = (i / 16 / images.positions() / blocks, i / 16 % images.positions());
        let c = i / 16 / images.positions() % blocks * 16 + i % 16;
        if c < images.channels {
            out[(n * images.channels + c) * images.positions() + p] = f64::from(v);
        } else {
            assert!(v == 0.0, "image {n}, position {p}: lane of absent channel {c} holds {v}");
        }
    }
    out
}

/// A vector of one value per channel as the kernels take it: `f32`, padded with zeros to a multiple of 16.
pub fn padded_channels(x: &[f64]) -> Vec<f32> {
    let mut out = single(x);
    out.resize(x.len().next_multiple_of(16), 0.0);
    out
}

/// Panics unless every value differs by at most `tolerance` times the largest expected magnitude (at least 1e-3), or is
/// NaN where NaN is expected.
#[track_caller]
pub fn assert_close(what: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}: length");
    let scale = expected.iter().filter(|v| v.is_finite()).fold(1e-3, |m: f64, v| m.max(v.abs()));
    for (i, (&f, &e)) in found.iter().zip(expected).enumerate() {
        let same = f == e || (f.is_nan() && e.is_nan()) || (f - e).abs() <= tolerance * scale;
        assert!(same, "{what}: value {i} is {f}, expected {e} within {tolerance:e} of {scale:e}");
    }
}
