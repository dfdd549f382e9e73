//! Kernels over bf16 compute in f32 and round once: to the bit, they give what the same kernel over f32 gives for the same
//! numbers, rounded. What that is, other tests ask the judge. (Direct convolutions, whose sums have another order, are in
//! `bf16_convolution.rs`.)

#[path = "judge/bf16.rs"]
mod bf16;
#[path = "judge/mod.rs"]
mod judge;
#[path = "judge/machines.rs"]
mod machines;

use bf16::{narrow, unwritten_bf16, wide};
use judge::{Images, blocked, noise, padded_channels, single};
use machines::{assert_same_bits, on_every_machine, unwritten};
use roentgen_kernels::{
    AveragePoolShape, Bf16, Compute, ConvFinish, ConvShape, Element, InputLayout, PoolShape, WinogradSums,
    WinogradWeights, padded,
};

/// Runs `kernel` on f32 and on bf16, on every machine. Its result may be of elements, which are rounded here.
fn check(what: &str, single: impl Fn(&Compute) -> Vec<f32>, half: impl Fn(&Compute) -> Vec<f32>) {
    let expected = on_every_machine(|compute| wide(&narrow(&single(compute))));
    for ((isa, found), (_, expected)) in on_every_machine(|compute| wide(&narrow(&half(compute)))).iter().zip(&expected)
    {
        assert_same_bits(&format!("{what} on {}", isa.name()), found, expected);
    }
}

/// Noise that bf16 holds exactly.
fn numbers(seed: u64, length: usize) -> Vec<f32> {
    wide(&narrow(&single(&noise(seed, length))))
}

fn blocked_numbers(seed: u64, images: Images) -> Vec<f32> {
    wide(&narrow(&blocked(images, &noise(seed, images.len()))))
}

fn to_f32<E: Element>(x: Vec<E>) -> Vec<f32> {
    x.into_iter().map(E::to_f32).collect()
}

fn from_f32<E: Element>(x: &[f32]) -> Vec<E> {
    x.iter().map(|value| E::from_f32(*value)).collect()
}

/// Calls a generic function with f32 and with bf16, and compares.
macro_rules! check_both {
    ($what:expr, $function:ident($($argument:expr),*)) => {
        check($what, |compute| $function::<f32>(compute, $($argument),*), |compute| $function::<Bf16>(compute, $($argument),*))
    };
}

fn elementwise<E: Element>(compute: &Compute, x: &[f32], other: &[f32]) -> Vec<f32> {
    let (x, other): (Vec<E>, Vec<E>) = (from_f32(x), from_f32(other));
    let mut all = x.clone();
    compute.relu(&mut all);
    let mut gradient = other.clone();
    compute.relu_backward(&all, &mut gradient);
    all.extend(gradient);
    for relu in [false, true] {
        let mut sum = from_f32(&vec![f32::NAN; x.len()]);
        compute.add(&x, &other, relu, &mut sum);
        all.extend(sum);
    }
    let mut sum = x.clone();
    compute.accumulate(&other, &mut sum);
    all.extend(sum);
    let mut product = x.clone();
    compute.multiply(&to_f32(other), &mut product);
    all.extend(product);
    to_f32(all)
}

#[test]
fn elementwise_kernels() {
    for length in [16, 7 * 16, 1003 * 16] {
        let (mut x, other) = (numbers(1, length), numbers(2, length));
        x[..4].copy_from_slice(&[f32::NAN, -0.0, f32::INFINITY, f32::NEG_INFINITY]);
        check_both!("element by element", elementwise(&x, &other));
    }
}

#[test]
fn conversions_round_and_keep_every_length() {
    for length in [0, 1, 15, 16, 17, 100, 1003] {
        let x = single(&noise(1, length));
        for (isa, found) in on_every_machine(|compute| {
            let mut numbers = unwritten_bf16(length);
            compute.convert(&x, &mut numbers);
            let mut back = unwritten(length);
            compute.convert(&numbers, &mut back);
            back
        }) {
            assert_same_bits(isa.name(), &found, &wide(&narrow(&x)));
        }
    }
}

fn layouts<E: Element>(compute: &Compute, images: Images, x: &[f32]) -> Vec<f32> {
    let (channels, batch, positions) = (images.channels, images.batch, images.positions());
    let mut there: Vec<E> = from_f32(&vec![f32::NAN; padded(channels) * positions * batch]);
    compute.planar_to_blocked(channels, batch, positions, x, &mut there);
    let mut back = unwritten(x.len());
    compute.blocked_to_planar(channels, batch, positions, &there, &mut back);
    let mut rows = unwritten(batch * padded(channels * positions));
    compute.flatten(channels, batch, positions, &there, &mut rows);
    let mut gradient = there.clone();
    compute.flatten_backward(channels, batch, positions, &rows, &mut gradient, true);
    back.extend(rows);
    back.extend(to_f32(gradient));
    back
}

#[test]
fn changes_of_layout() {
    for channels in [1, 16, 20] {
        let images = Images::new(2, channels, 13, 11);
        check_both!("layouts", layouts(images, &numbers(1, images.len())));
    }
}

/// Statistics, their use with and without what is added behind, and all gradients.
fn batch_norm<E: Element>(compute: &Compute, images: Images, x: &[f32], dy: &[f32]) -> Vec<f32> {
    let (channels, batch, positions) = (images.channels, images.batch, images.positions());
    let (x, dy): (Vec<E>, Vec<E>) = (from_f32(x), from_f32(dy));
    let vector = || unwritten(padded(channels));
    let (mut mean, mut variance) = (vector(), vector());
    compute.batch_norm_statistics(channels, batch, positions, &x, &mut mean, &mut variance);
    let deviation: Vec<f32> = variance.iter().map(|v| 1.0 / (v + 1e-5).sqrt()).collect();
    let (gamma, beta) = (padded_channels(&noise(3, channels)), padded_channels(&noise(4, channels)));
    let scale: Vec<f32> = gamma.iter().zip(&deviation).map(|(g, d)| g * d).collect();
    let mut y: Vec<E> = from_f32(&vec![f32::NAN; x.len()]);
    compute.batch_norm_apply(channels, batch, positions, &x, &mean, &scale, &beta, None, true, &mut y);
    let (mut d_gamma, mut d_beta) = (vector(), vector());
    compute.batch_norm_reduce(channels, batch, positions, &x, &dy, &mean, &deviation, &mut d_gamma, &mut d_beta, false);
    let mut dx = dy.clone();
    compute.batch_norm_data_gradient_training(
        channels, batch, positions, &x, &mean, &deviation, &gamma, &d_gamma, &d_beta, &mut dx,
    );
    let mut scaled = dy.clone();
    compute.scale_channels(channels, batch, positions, &scale, &mut scaled);
    let mut bias = vector();
    compute.bias_gradient(channels, batch, positions, &dy, &mut bias, false);
    [mean, variance, to_f32(y), d_gamma, d_beta, to_f32(dx), to_f32(scaled), bias].concat()
}

#[test]
fn batch_norms_and_bias_gradients() {
    for channels in [3, 16, 33] {
        let images = Images::new(3, channels, 9, 8);
        let (x, dy) = (blocked_numbers(1, images), blocked_numbers(2, images));
        check_both!("batch norm", batch_norm(images, &x, &dy));
    }
}

#[test]
fn a_normalised_sum_is_rounded_as_the_separate_passes_round() {
    let images = Images::new(2, 20, 5, 7);
    let (channels, batch, positions) = (images.channels, images.batch, images.positions());
    let (x, residual) = (narrow(&blocked_numbers(1, images)), narrow(&blocked_numbers(2, images)));
    let vector = |seed| padded_channels(&noise(seed, channels));
    let (mean, scale, shift) = (vector(3), vector(4), vector(5));
    on_every_machine(|compute| {
        let apply = |residual: Option<&[Bf16]>, relu| {
            let mut y = unwritten_bf16(x.len());
            compute.batch_norm_apply(channels, batch, positions, &x, &mean, &scale, &shift, residual, relu, &mut y);
            y
        };
        let mut expected = unwritten_bf16(x.len());
        compute.add(&apply(None, false), &residual, true, &mut expected);
        let found = wide(&apply(Some(&residual), true));
        assert_same_bits("normalised and added", &found, &wide(&expected));
        found
    });
}

fn pools<E: Element>(compute: &Compute, shape: &PoolShape, batch: usize, x: &[f32], dy: &[f32]) -> Vec<f32> {
    let (x, dy): (Vec<E>, Vec<E>) = (from_f32(x), from_f32(dy));
    let mut y: Vec<E> = from_f32(&vec![f32::NAN; dy.len()]);
    compute.max_pool_forward(shape, batch, &x, &mut y);
    let mut dx = x.clone();
    compute.max_pool_backward(shape, batch, &x, &y, &dy, &mut dx, false, true);
    let mut sum = x.clone();
    compute.max_pool_backward(shape, batch, &x, &y, &dy, &mut sum, true, false);
    let average = AveragePoolShape {
        channels: shape.channels,
        in_height: shape.in_height,
        in_width: shape.in_width,
        out_height: shape.out_height(),
        out_width: shape.out_width(),
    };
    let mut mean = y.clone();
    compute.average_pool_forward(&average, batch, &x, &mut mean);
    let mut shared = x.clone();
    compute.average_pool_backward(&average, batch, &dy, &mut shared, false);
    let mut added = x.clone();
    compute.average_pool_backward(&average, batch, &dy, &mut added, true);
    to_f32([y, dx, sum, mean, shared, added].concat())
}

#[test]
fn poolings_add_up_overlapping_windows_before_they_round() {
    for (kernel, stride, padding) in [(2, 2, 0), (3, 2, 1), (3, 1, 1)] {
        let images = Images::new(2, 20, 9, 7);
        let shape = PoolShape { channels: 20, kernel, stride, padding, in_height: 9, in_width: 7 };
        let outs = Images::new(2, 20, shape.out_height(), shape.out_width());
        let (x, dy) = (blocked_numbers(1, images), blocked_numbers(2, outs));
        check_both!("pooling", pools(&shape, 2, &x, &dy));
    }
}

fn winograd<E: Element>(compute: &Compute, shape: &ConvShape, batch: usize, x: &[f32], dy: &[f32]) -> Vec<f32> {
    let (x, dy): (Vec<E>, Vec<E>) = (from_f32(x), from_f32(dy));
    let weights = single(&noise(3, shape.weights_len()));
    let bias = padded_channels(&noise(4, shape.out_channels));
    let mut all = Vec::new();
    for (bias, relu) in [(None, false), (Some(&bias[..]), true)] {
        let mut y: Vec<E> = from_f32(&vec![f32::NAN; dy.len()]);
        let finish = ConvFinish { bias, relu, ..ConvFinish::default() };
        compute.winograd_forward(shape, batch, &x, WinogradWeights::Plain(&weights), &finish, &mut y);
        all.extend(y);
    }
    for (accumulate, activation) in [(false, None), (true, None), (false, Some(&x[..])), (true, Some(&x[..]))] {
        let (plain, mut dx) = (WinogradWeights::Plain(&weights), x.clone());
        compute.winograd_data_gradient(shape, batch, &dy, plain, activation, &mut dx, accumulate);
        all.extend(dx);
    }
    let mut all = to_f32(all);
    let (mut dw, mut sums) = (unwritten(shape.weights_len()), unwritten(shape.winograd_sums_len()));
    let kept = WinogradSums { sums: &mut sums, accumulate: false };
    compute.winograd_weight_gradient(shape, batch, &x, &dy, Some(kept), &mut dw);
    all.extend(dw);
    all
}

#[test]
fn convolutions_by_winograds_algorithm() {
    // Maps smaller than a tile, with and without an inner tile, many tiles; weights transformed on the way.
    for ([in_channels, out_channels], [in_height, in_width], padding) in [
        ([5, 3], [2, 1], 1),
        ([3, 17], [3, 3], 0),
        ([33, 20], [7, 7], 1),
        ([20, 33], [5, 9], 2),
        ([48, 80], [13, 28], 1),
        ([256, 256], [8, 8], 1),
    ] {
        let input = InputLayout::Blocked;
        let shape = ConvShape { in_channels, out_channels, kernel: 3, stride: 1, padding, in_height, in_width, input };
        let images = Images::new(2, in_channels, in_height, in_width);
        let outs = Images::new(2, out_channels, shape.out_height(), shape.out_width());
        let (x, dy) = (blocked_numbers(1, images), blocked_numbers(2, outs));
        check_both!(&format!("{shape:?}"), winograd(&shape, 2, &x, &dy));
    }
}

/// Fused, a value is rounded wherever a separate pass would store it.
#[test]
fn a_batch_norm_behind_winograds_algorithm_has_the_bits_of_the_separate_passes() {
    let input = InputLayout::Blocked;
    let shape = ConvShape {
        in_channels: 33,
        out_channels: 20,
        kernel: 3,
        stride: 1,
        padding: 1,
        in_height: 9,
        in_width: 11,
        input,
    };
    let (batch, images, outs) = (2, Images::new(2, 33, 9, 11), Images::new(2, 20, 9, 11));
    let (x, residual) = (narrow(&blocked_numbers(1, images)), narrow(&blocked_numbers(2, outs)));
    let weights = single(&noise(3, shape.weights_len()));
    let vector = |seed| padded_channels(&noise(seed, 20));
    let (mean, scale, shift) = (vector(3), vector(4), vector(5));
    on_every_machine(|compute| {
        let forward = |finish: &ConvFinish<Bf16>| {
            let mut y = unwritten_bf16(residual.len());
            compute.winograd_forward(&shape, batch, &x, WinogradWeights::Plain(&weights), finish, &mut y);
            y
        };
        let plain = forward(&ConvFinish::default());
        let mut expected = unwritten_bf16(plain.len());
        let added = Some(&residual[..]);
        compute.batch_norm_apply(20, batch, 99, &plain, &mean, &scale, &shift, added, true, &mut expected);
        let normalise = Some([&mean[..], &scale, &shift]);
        let found = wide(&forward(&ConvFinish { bias: None, normalise, residual: added, relu: true }));
        assert_same_bits("normalised and added", &found, &wide(&expected));
        found
    });
}
