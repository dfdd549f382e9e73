//! Winograd's algorithm against the judge in f64, on every instruction set that the processor has; what it does on the
//! way against the passes that it saves, to the bit; and what is promised about bits.

#[path = "judge/mod.rs"]
mod judge;
#[path = "judge/machines.rs"]
mod machines;

use judge::{Images, Window};
use machines::{assert_same_bits, on_every_machine, unwritten};
use roentgen_kernels::{
    AlignedBuffer, Compute, ConvFinish, ConvShape, InputLayout, LANES, WinogradSums, WinogradWeights, blocks,
};

/// Of the largest output, for f32 sums against f64 ones.
const TOLERANCE: f64 = 1e-5;

fn shape(in_channels: usize, out_channels: usize, [in_height, in_width]: [usize; 2], padding: usize) -> ConvShape {
    ConvShape {
        in_channels,
        out_channels,
        kernel: 3,
        stride: 1,
        padding,
        in_height,
        in_width,
        input: InputLayout::Blocked,
    }
}

/// Every remainder of channels by 16 and 32, of sizes by 4, of tiles by every group width; maps smaller than a tile and
/// than the kernel; maps without an inner tile, with one, with many; all paddings.
fn shapes() -> Vec<ConvShape> {
    let mut shapes = vec![
        shape(1, 1, [1, 1], 1),
        shape(5, 3, [2, 1], 1),
        shape(3, 17, [3, 3], 0),
        shape(16, 16, [4, 4], 1),
        shape(33, 20, [7, 7], 1),
        shape(20, 33, [5, 9], 2),
        shape(16, 48, [9, 16], 0),
        shape(64, 64, [14, 14], 1),
        shape(48, 80, [13, 28], 1),
        shape(96, 16, [30, 7], 1),
        shape(16, 112, [22, 26], 2),
    ];
    // Many channels and few tiles: weights are transformed on the way.
    shapes.extend([shape(256, 256, [8, 8], 1), shape(250, 270, [7, 5], 1)]);
    shapes.extend((1..=24).map(|width| shape(16, 32, [3, width], 1)));
    shapes
}

/// Planes as the judge and as PyTorch have them, and the same values blocked.
struct Tensor {
    judged: Vec<f64>,
    planar: Vec<f32>,
    blocked: Vec<f32>,
}

impl Tensor {
    fn noise(images: Images, seed: u64) -> Tensor {
        // Rounded to f32, so that kernels and judge see the same values.
        let planar = judge::single(&judge::noise(seed, images.len()));
        let judged: Vec<f64> = planar.iter().map(|value| f64::from(*value)).collect();
        Tensor { blocked: judge::blocked(images, &judged), judged, planar }
    }
}

struct Case {
    shape: ConvShape,
    batch: usize,
    x: Tensor,
    dy: Tensor,
    weights: Tensor,
    bias: Vec<f32>,
}

impl Case {
    fn new(shape: ConvShape, batch: usize) -> Case {
        Case {
            x: Tensor::noise(inputs(&shape, batch), 1),
            dy: Tensor::noise(outputs(&shape, batch), 2),
            weights: Tensor::noise(Images::new(shape.out_channels, shape.in_channels, 3, 3), 3),
            bias: judge::padded_channels(&judge::noise(4, shape.out_channels)),
            shape,
            batch,
        }
    }

    fn forward(&self, compute: &Compute, finish: &ConvFinish) -> Vec<f32> {
        let mut packed = unwritten(self.shape.winograd_packed_len());
        compute.winograd_pack(&self.shape, &self.weights.planar, &mut packed);
        let mut y = unwritten(self.dy.blocked.len());
        let packed = WinogradWeights::Packed(&packed);
        compute.winograd_forward(&self.shape, self.batch, &self.x.blocked, packed, finish, &mut y);
        let mut on_the_way = unwritten(y.len());
        let plain = WinogradWeights::Plain(&self.weights.planar);
        compute.winograd_forward(&self.shape, self.batch, &self.x.blocked, plain, finish, &mut on_the_way);
        assert_same_bits("with weights transformed on the way", &on_the_way, &y);
        y
    }

    fn data_gradient(&self, compute: &Compute, activation: Option<&[f32]>, dx: &mut [f32], accumulate: bool) {
        let mut packed = unwritten(self.shape.winograd_packed_len());
        compute.winograd_pack_transposed(&self.shape, &self.weights.planar, &mut packed);
        let mut on_the_way = dx.to_vec();
        for (weights, dx) in [
            (WinogradWeights::Plain(&self.weights.planar), &mut on_the_way[..]),
            (WinogradWeights::Packed(&packed), &mut *dx),
        ] {
            let dy = &self.dy.blocked;
            compute.winograd_data_gradient(&self.shape, self.batch, dy, weights, activation, dx, accumulate);
        }
        assert_same_bits("with weights transformed on the way", &on_the_way, dx);
    }

    fn weight_gradient(&self, compute: &Compute, sums: Option<WinogradSums>) -> Vec<f32> {
        let mut dw = unwritten(self.shape.weights_len());
        compute.winograd_weight_gradient(&self.shape, self.batch, &self.x.blocked, &self.dy.blocked, sums, &mut dw);
        dw
    }
}

fn doubles(values: &[f32]) -> Vec<f64> {
    values.iter().map(|value| f64::from(*value)).collect()
}

fn inputs(shape: &ConvShape, batch: usize) -> Images {
    Images::new(batch, shape.in_channels, shape.in_height, shape.in_width)
}

fn outputs(shape: &ConvShape, batch: usize) -> Images {
    Images::new(batch, shape.out_channels, shape.out_height(), shape.out_width())
}

#[test]
fn all_three_passes_agree_with_the_judge() {
    for shape in shapes() {
        for batch in [1, 3] {
            let case = Case::new(shape, batch);
            let window = Window::square(3, 1, shape.padding);
            let (images, outs) = (inputs(&shape, batch), outputs(&shape, batch));
            let (x, weights, dy) = (&case.x.judged, &case.weights.judged, &case.dy.judged);
            let y = judge::conv2d(images, shape.out_channels, window, x, weights, None);
            let gradients = judge::conv2d_backward(images, shape.out_channels, window, x, weights, dy);
            for (isa, found) in on_every_machine(|compute| case.forward(compute, &ConvFinish::default())) {
                let what = format!("forward of {batch} x {shape:?} on {}", isa.name());
                judge::assert_close(&what, &judge::planar(outs, &found), &y, TOLERANCE);
            }
            let data_gradient = |compute: &Compute| {
                let mut found = unwritten(case.x.blocked.len());
                case.data_gradient(compute, None, &mut found, false);
                found
            };
            for (isa, found) in on_every_machine(data_gradient) {
                let what = format!("data gradient of {batch} x {shape:?} on {}", isa.name());
                judge::assert_close(&what, &judge::planar(images, &found), &gradients.data, TOLERANCE);
            }
            for (isa, found) in on_every_machine(|compute| case.weight_gradient(compute, None)) {
                let what = format!("weight gradient of {batch} x {shape:?} on {}", isa.name());
                judge::assert_close(&what, &doubles(&found), &gradients.weight, TOLERANCE);
            }
        }
    }
}

#[test]
fn what_is_done_on_the_way_has_the_bits_of_the_separate_passes() {
    for shape in [shape(20, 33, [9, 14], 1), shape(16, 64, [7, 7], 1)] {
        let (case, batch) = (Case::new(shape, 2), 2);
        let outs = outputs(&shape, batch);
        let residual = Tensor::noise(outs, 5).blocked;
        let vector = |seed: u64, sign: f64| -> Vec<f32> {
            let values: Vec<f64> = judge::noise(seed, shape.out_channels).iter().map(|v| v * sign).collect();
            judge::padded_channels(&values)
        };
        let (mean, scale, shift) = (vector(6, 1.0), vector(7, -2.0), vector(8, 1.0));
        on_every_machine(|compute| {
            let plain = case.forward(compute, &ConvFinish::default());
            let normalise = Some([&mean[..], &scale, &shift]);
            for (residual, relu) in [(None, false), (None, true), (Some(&residual[..]), false), (Some(&residual), true)]
            {
                let mut expected = unwritten(plain.len());
                let (channels, positions) = (shape.out_channels, outs.positions());
                compute.batch_norm_apply(
                    channels,
                    batch,
                    positions,
                    &plain,
                    &mean,
                    &scale,
                    &shift,
                    residual,
                    relu,
                    &mut expected,
                );
                let found = case.forward(compute, &ConvFinish { bias: None, normalise, residual, relu });
                assert_same_bits("normalised", &found, &expected);

                let mut expected = plain.clone();
                for (i, value) in expected.iter_mut().enumerate() {
                    let block = i / LANES / positions % blocks(channels);
                    *value += case.bias[block * LANES + i % LANES];
                }
                if let Some(residual) = residual {
                    let sum = expected.clone();
                    compute.add(&sum, residual, false, &mut expected);
                }
                if relu {
                    compute.relu(&mut expected);
                }
                let bias = Some(&case.bias[..]);
                let found = case.forward(compute, &ConvFinish { bias, normalise: None, residual, relu });
                assert_same_bits("with bias", &found, &expected);
            }

            let activation: Vec<f32> = case.x.blocked.iter().map(|value| value.max(0.0)).collect();
            let mut alone = unwritten(case.x.blocked.len());
            case.data_gradient(compute, None, &mut alone, false);
            let mut masked = unwritten(alone.len());
            case.data_gradient(compute, Some(&activation), &mut masked, false);
            let mut expected = alone.clone();
            compute.relu_backward(&activation, &mut expected);
            assert_same_bits("gradient through a ReLU", &masked, &expected);

            let mut added = case.x.blocked.clone();
            case.data_gradient(compute, Some(&activation), &mut added, true);
            let mut expected = unwritten(alone.len());
            compute.add(&alone, &case.x.blocked, false, &mut expected);
            compute.relu_backward(&activation, &mut expected);
            assert_same_bits("added gradient through a ReLU", &added, &expected);
            plain
        });
    }
}

/// So many channels and tiles that the inputs are transformed in several rounds, and the sums of weight gradients wait
/// in memory between rounds of tiles.
#[test]
fn rounds_change_no_bit() {
    let shape = shape(512, 128, [48, 48], 1);
    let case = Case::new(shape, 1);
    on_every_machine(|compute| {
        let y = case.forward(compute, &ConvFinish::default());
        let mut dx = unwritten(case.x.blocked.len());
        case.data_gradient(compute, None, &mut dx, false);
        [y, dx, case.weight_gradient(compute, None)].concat()
    });
}

/// An output of this length, where it is aligned, is written past the caches; one that is not aligned never is.
#[test]
fn large_outputs_have_the_bits_of_those_that_stay_in_the_caches() {
    let shape = shape(3, 16, [1000, 1000], 1);
    let case = Case::new(shape, 1);
    let len = case.dy.blocked.len();
    let compute = Compute::new(2).unwrap();
    let mut packed = unwritten(shape.winograd_packed_len());
    compute.winograd_pack(&shape, &case.weights.planar, &mut packed);
    let (mut aligned, mut displaced) = (AlignedBuffer::new(len), AlignedBuffer::new(len + 1));
    for finish in [ConvFinish::default(), ConvFinish { bias: Some(&case.bias), relu: true, ..ConvFinish::default() }] {
        for target in [&mut aligned[..], &mut displaced[1..]] {
            target.fill(f32::NAN);
            let weights = WinogradWeights::Packed(&packed);
            compute.winograd_forward(&shape, 1, &case.x.blocked, weights, &finish, target);
        }
        assert_same_bits("forward", &aligned, &displaced[1..]);
    }
    // The same the other way around: 16 channels to 3 make a gradient for 16.
    let shape = ConvShape { in_channels: 16, out_channels: 3, ..shape };
    let case = Case::new(shape, 1);
    compute.winograd_pack_transposed(&shape, &case.weights.planar, &mut packed);
    for activation in [None, Some(&case.x.blocked[..])] {
        for target in [&mut aligned[..], &mut displaced[1..]] {
            target.fill(f32::NAN);
            let weights = WinogradWeights::Packed(&packed);
            let dy = &case.dy.blocked;
            compute.winograd_data_gradient(&shape, 1, dy, weights, activation, target, false);
        }
        assert_same_bits("data gradient", &aligned, &displaced[1..]);
    }
}

#[test]
fn an_image_of_a_thousand_pixels_agrees_with_direct_convolution() {
    let shape = shape(3, 16, [1000, 1000], 1);
    let case = Case::new(shape, 1);
    let len = case.dy.blocked.len();
    on_every_machine(|compute| {
        let mut packed = unwritten(shape.winograd_packed_len());
        compute.winograd_pack(&shape, &case.weights.planar, &mut packed);
        let mut found = AlignedBuffer::new(len);
        let weights = WinogradWeights::Packed(&packed);
        compute.winograd_forward(&shape, 1, &case.x.blocked, weights, &ConvFinish::default(), &mut found);
        let mut packed = unwritten(shape.packed_len());
        compute.pack_weights::<f32>(&shape, &case.weights.planar, &mut packed);
        let mut direct = AlignedBuffer::new(len);
        compute.conv_forward(&shape, 1, &case.x.blocked, &packed, &ConvFinish::default(), &mut direct);
        let what = format!("{shape:?} on {}", compute.isa().name());
        judge::assert_close(&what, &doubles(&found), &doubles(&direct), TOLERANCE);
        found.to_vec()
    });
}

#[test]
fn an_image_has_the_same_bits_in_any_company() {
    // Few tiles, of which each thread gets a share; and so many that threads take over each other's.
    for (shape, batch) in [(shape(33, 48, [14, 10], 1), 5), (shape(17, 16, [28, 26], 1), 26)] {
        let whole = Case::new(shape, batch);
        on_every_machine(|compute| {
            let y = whole.forward(compute, &ConvFinish::default());
            let mut dx = unwritten(whole.x.blocked.len());
            whole.data_gradient(compute, None, &mut dx, false);
            for image in (0..5).chain([batch - 1]) {
                let one = whole.images(image..image + 1);
                let len = shape.output_len();
                let alone = one.forward(compute, &ConvFinish::default());
                assert_same_bits("forward", &alone, &y[image * len..][..len]);
                let len = shape.input_len();
                let mut alone = unwritten(len);
                one.data_gradient(compute, None, &mut alone, false);
                assert_same_bits("data gradient", &alone, &dx[image * len..][..len]);
            }
            [y, dx].concat()
        });
    }
}

#[test]
fn a_batch_in_pieces_gives_the_weight_gradient_of_the_whole() {
    for shape in [shape(33, 48, [14, 10], 1), shape(64, 32, [30, 30], 1)] {
        let whole = Case::new(shape, 5);
        on_every_machine(|compute| {
            let expected = whole.weight_gradient(compute, None);
            for cuts in [vec![0, 5], vec![0, 2, 5], vec![0, 1, 2, 4, 5]] {
                let mut sums = unwritten(shape.winograd_sums_len());
                let mut found = Vec::new();
                for piece in cuts.windows(2) {
                    let sums = WinogradSums { sums: &mut sums, accumulate: piece[0] > 0 };
                    found = whole.images(piece[0]..piece[1]).weight_gradient(compute, Some(sums));
                }
                assert_same_bits(&format!("{shape:?} cut at {cuts:?}"), &found, &expected);
            }
            expected
        });
    }
}

impl Case {
    /// The same case with some of its images.
    fn images(&self, range: std::ops::Range<usize>) -> Case {
        let cut = |tensor: &Tensor, planar: usize, blocked: usize| Tensor {
            judged: tensor.judged[range.start * planar..range.end * planar].to_vec(),
            planar: tensor.planar[range.start * planar..range.end * planar].to_vec(),
            blocked: tensor.blocked[range.start * blocked..range.end * blocked].to_vec(),
        };
        let (x, dy) = (inputs(&self.shape, 1), outputs(&self.shape, 1));
        Case {
            shape: self.shape,
            batch: range.len(),
            x: cut(&self.x, x.len(), self.shape.input_len()),
            dy: cut(&self.dy, dy.len(), self.shape.output_len()),
            weights: Tensor::noise(Images::new(self.shape.out_channels, self.shape.in_channels, 3, 3), 3),
            bias: self.bias.clone(),
        }
    }
}
