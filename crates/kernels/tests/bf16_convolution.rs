//! Direct convolutions of bf16 against the judge in f64 on rounded inputs, on every instruction set that the processor
//! has; and what is promised about bits.

#[path = "judge/bf16.rs"]
mod bf16;
#[path = "judge/mod.rs"]
mod judge;
#[path = "judge/machines.rs"]
mod machines;

use bf16::{narrow, unwritten_bf16, wide};
use judge::{Images, Window};
use machines::{assert_same_bits, on_every_machine, unwritten};
use roentgen_kernels::{Bf16, Compute, ConvFinish, ConvShape, InputLayout, padded};

/// Of the largest output: the inputs are rounded, so only the sums err.
const TOLERANCE: f64 = 1e-5;

/// Panics unless every value is the expected one, rounded: eight bits hold a number to a part in 256 of itself.
#[track_caller]
fn assert_rounded(what: &str, found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len(), "{what}: length");
    let scale = expected.iter().fold(1e-3, |m: f64, v| m.max(v.abs()));
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        let same = (f - e).abs() <= e.abs() / 256.0 + TOLERANCE * scale;
        assert!(same, "{what}: value {i} is {f}, expected {e} rounded, of at most {scale}");
    }
}

fn shape(channels: [usize; 2], kernel: usize, stride: usize, padding: usize, size: [usize; 2]) -> ConvShape {
    ConvShape {
        in_channels: channels[0],
        out_channels: channels[1],
        kernel,
        stride,
        padding,
        in_height: size[0],
        in_width: size[1],
        input: InputLayout::Blocked,
    }
}

fn planar(shape: ConvShape) -> ConvShape {
    ConvShape { input: InputLayout::Planar, ..shape }
}

fn shapes() -> Vec<ConvShape> {
    let mut shapes = vec![
        shape([16, 33], 3, 1, 1, [9, 11]),
        shape([20, 5], 3, 2, 1, [9, 12]),
        shape([64, 48], 3, 2, 1, [8, 8]),
        shape([20, 33], 1, 1, 0, [5, 7]),
        shape([33, 20], 1, 2, 0, [9, 8]),
        shape([3, 20], 7, 2, 3, [14, 9]),
        shape([1, 1], 1, 1, 0, [1, 1]),
        shape([5, 17], 3, 2, 1, [2, 1]),
        shape([5, 16], 2, 3, 0, [9, 10]),
        shape([16, 5], 3, 2, 0, [8, 6]),
        shape([4, 6], 2, 2, 3, [4, 5]),
        shape([96, 16], 3, 1, 1, [40, 33]),
        shape([160, 17], 3, 2, 1, [37, 41]),
    ];
    let of_images = [
        shape([3, 64], 7, 2, 3, [23, 30]),
        shape([3, 33], 3, 1, 1, [12, 13]),
        shape([2, 17], 5, 2, 0, [9, 40]),
        shape([1, 16], 2, 1, 1, [5, 3]),
        shape([1, 3], 19, 1, 9, [20, 3]),
        shape([3, 20], 7, 2, 3, [70, 75]),
    ];
    shapes.extend(of_images.map(planar));
    shapes.extend((1..=40).map(|width| planar(shape([1, 16], 3, 1 + width % 2, 1, [4, width]))));
    shapes.extend((1..=17).map(|size| shape([17, 32], 3, 2, 1, [size, 18 - size])));
    shapes
}

/// bf16 by its definition: the nearest number with eight bits, the even one where two are as near.
fn rounded(value: f64) -> f64 {
    if value == 0.0 {
        return value;
    }
    let unit = 2f64.powi(value.abs().log2().floor() as i32 - 7);
    (value / unit).round_ties_even() * unit
}

struct Case {
    shape: ConvShape,
    batch: usize,
    x: Vec<f64>,
    dy: Vec<f64>,
    weights: Vec<f64>,
}

impl Case {
    fn new(shape: ConvShape, batch: usize) -> Case {
        Case {
            x: judge::noise(1, inputs(&shape, batch).len()),
            dy: judge::noise(2, outputs(&shape, batch).len()),
            weights: judge::noise(3, shape.weights_len()),
            shape,
            batch,
        }
    }

    fn x_in_layout(&self) -> Vec<Bf16> {
        narrow(&match self.shape.input {
            InputLayout::Blocked => judge::blocked(inputs(&self.shape, self.batch), &self.x),
            InputLayout::Planar => judge::single(&self.x),
        })
    }

    fn dy_blocked(&self) -> Vec<Bf16> {
        narrow(&judge::blocked(outputs(&self.shape, self.batch), &self.dy))
    }

    fn forward(&self, compute: &Compute, finish: &ConvFinish<Bf16>) -> Vec<Bf16> {
        let mut packed = unwritten(self.shape.packed_len());
        compute.pack_weights::<Bf16>(&self.shape, &judge::single(&self.weights), &mut packed);
        let mut y = unwritten_bf16(self.batch * self.shape.output_len());
        compute.conv_forward(&self.shape, self.batch, &self.x_in_layout(), &packed, finish, &mut y);
        y
    }

    fn data_gradient(&self, compute: &Compute, activation: Option<&[Bf16]>, mut dx: Vec<Bf16>, add: bool) -> Vec<Bf16> {
        let mut packed = unwritten(self.shape.packed_transposed_len());
        compute.pack_weights_transposed::<Bf16>(&self.shape, &judge::single(&self.weights), &mut packed);
        compute.conv_data_gradient(&self.shape, self.batch, &self.dy_blocked(), &packed, activation, &mut dx, add);
        dx
    }

    /// The packed gradient of some images, going on from `sums` where that is given.
    fn weight_gradient(&self, compute: &Compute, images: std::ops::Range<usize>, sums: Option<Vec<f32>>) -> Vec<f32> {
        let x = self.x_in_layout();
        let dy = self.dy_blocked();
        let (x_len, dy_len) = (self.shape.input_len(), self.shape.output_len());
        let x = &x[images.start * x_len..images.end * x_len];
        let dy = &dy[images.start * dy_len..images.end * dy_len];
        let accumulate = sums.is_some();
        let mut packed = sums.unwrap_or_else(|| unwritten(self.shape.packed_gradient_len()));
        compute.conv_weight_gradient(&self.shape, images.len(), x, dy, &mut packed, accumulate);
        packed
    }
}

fn inputs(shape: &ConvShape, batch: usize) -> Images {
    Images::new(batch, shape.in_channels, shape.in_height, shape.in_width)
}

fn outputs(shape: &ConvShape, batch: usize) -> Images {
    Images::new(batch, shape.out_channels, shape.out_height(), shape.out_width())
}

#[test]
fn all_three_passes_agree_with_the_judge_on_rounded_inputs() {
    for shape in shapes() {
        for batch in [1, 3] {
            let case = Case::new(shape, batch);
            let window = Window::square(shape.kernel, shape.stride, shape.padding);
            let (images, outs) = (inputs(&shape, batch), outputs(&shape, batch));
            let round = |values: &[f64]| values.iter().map(|value| rounded(*value)).collect::<Vec<_>>();
            let (x, weights, dy) = (round(&case.x), round(&case.weights), round(&case.dy));
            let y = judge::conv2d(images, shape.out_channels, window, &x, &weights, None);
            let gradients = judge::conv2d_backward(images, shape.out_channels, window, &x, &weights, &dy);
            for (isa, found) in on_every_machine(|compute| wide(&case.forward(compute, &ConvFinish::default()))) {
                let what = format!("forward of {batch} x {shape:?} on {}", isa.name());
                assert_rounded(&what, &judge::planar(outs, &found), &y);
            }
            let data_gradient = |compute: &Compute| {
                let dx = unwritten_bf16(batch * shape.data_gradient_len());
                wide(&case.data_gradient(compute, None, dx, false))
            };
            for (isa, found) in on_every_machine(data_gradient) {
                let what = format!("data gradient of {batch} x {shape:?} on {}", isa.name());
                assert_rounded(&what, &judge::planar(images, &found), &gradients.data);
            }
            let weight_gradient = |compute: &Compute| {
                let packed = case.weight_gradient(compute, 0..batch, None);
                let mut found = unwritten(shape.weights_len());
                compute.unpack_weight_gradient(&shape, &packed, &mut found);
                found
            };
            for (isa, found) in on_every_machine(weight_gradient) {
                let what = format!("weight gradient of {batch} x {shape:?} on {}", isa.name());
                let found: Vec<f64> = found.iter().map(|value| f64::from(*value)).collect();
                judge::assert_close(&what, &found, &gradients.weight, TOLERANCE);
            }
        }
    }
}

#[test]
fn what_is_done_on_the_way_has_the_bits_of_the_separate_passes() {
    // Of so many channels that sums rest between chunks of them.
    let large = shape([272, 20], 3, 2, 1, [29, 31]);
    for shape in [shape([33, 20], 3, 2, 1, [9, 11]), shape([20, 33], 1, 2, 0, [9, 8]), large] {
        let (case, batch) = (Case::new(shape, 2), 2);
        let outs = outputs(&shape, batch);
        let vector = |seed| judge::padded_channels(&judge::noise(seed, shape.out_channels));
        let (mean, scale, shift) = (vector(5), vector(6), vector(7));
        let residual = narrow(&judge::blocked(outs, &judge::noise(8, outs.len())));
        let x = case.x_in_layout();
        on_every_machine(|compute| {
            let plain = case.forward(compute, &ConvFinish::default());
            let mut expected = unwritten_bf16(plain.len());
            let (channels, positions, added) = (shape.out_channels, outs.positions(), Some(&residual[..]));
            compute.batch_norm_apply(
                channels,
                batch,
                positions,
                &plain,
                &mean,
                &scale,
                &shift,
                added,
                true,
                &mut expected,
            );
            let normalise = Some([&mean[..], &scale, &shift]);
            let found = case.forward(compute, &ConvFinish { bias: None, normalise, residual: added, relu: true });
            assert_same_bits("normalised", &wide(&found), &wide(&expected));

            let mut expected = case.data_gradient(compute, None, x.clone(), true);
            compute.relu_backward(&x, &mut expected);
            let found = case.data_gradient(compute, Some(&x), x.clone(), true);
            assert_same_bits("added gradient through a ReLU", &wide(&found), &wide(&expected));
            wide(&found)
        });
    }
}

/// A gradient that meets another is added in f32, and their sum is rounded.
#[test]
fn what_is_added_to_is_not_rounded_in_between() {
    let shape = shape([16, 20], 3, 2, 1, [9, 11]);
    let (case, images) = (Case::new(shape, 1), inputs(&shape, 1));
    let window = Window::square(3, 2, 1);
    let round = |values: &[f64]| values.iter().map(|value| rounded(*value)).collect::<Vec<_>>();
    let gradients =
        judge::conv2d_backward(images, 20, window, &round(&case.x), &round(&case.weights), &round(&case.dy));
    let before = round(&judge::noise(9, images.len()));
    let expected: Vec<f64> = gradients.data.iter().zip(&before).map(|(a, b)| a + b).collect();
    let before = narrow(&judge::blocked(images, &before));
    for (isa, found) in on_every_machine(|compute| wide(&case.data_gradient(compute, None, before.clone(), true))) {
        assert_rounded(isa.name(), &judge::planar(images, &found), &expected);
    }
}

#[test]
fn a_batch_in_pieces_gives_the_weight_gradient_of_the_whole() {
    for shape in [shape([33, 48], 3, 2, 1, [15, 10]), shape([64, 32], 1, 2, 0, [30, 30])] {
        let whole = Case::new(shape, 5);
        on_every_machine(|compute| {
            let expected = whole.weight_gradient(compute, 0..5, None);
            for cuts in [vec![0, 2, 5], vec![0, 1, 2, 4, 5]] {
                let pieces = cuts.windows(2);
                let found = pieces.fold(None, |sums, cut| Some(whole.weight_gradient(compute, cut[0]..cut[1], sums)));
                assert_same_bits(&format!("{shape:?} cut at {cuts:?}"), &found.unwrap(), &expected);
            }
            expected
        });
    }
}

#[test]
fn tails_stay_zero_in_packed_gradients() {
    let shape = shape([20, 5], 3, 2, 1, [9, 12]);
    let case = Case::new(shape, 2);
    on_every_machine(|compute| {
        let packed = case.weight_gradient(compute, 0..2, None);
        for (i, value) in packed.iter().enumerate() {
            let (o, c) = (i % 16, i / (16 * 16 * 9) * 16 + i / 16 % 16);
            assert!(o < 5 && c < 20 || *value == 0.0, "{i} of {}: {value}", padded(20));
        }
        packed
    });
}
