//! The convolution kernels against a naive one in f64, on every instruction set that the processor has; and what is
//! promised about their bits, their tail lanes and the instruction set that really runs.

use roentgen_kernels::{Compute, ConvFinish, ConvShape, InputLayout, Isa, LANES, blocks, padded};

/// Of the largest output, for f32 sums against f64 ones.
const TOLERANCE: f64 = 1e-5;

// --- The judge: plain [N, C, H, W], f64, nothing clever. ---

/// Calls `visit(x index, weight index, y index)` for every product of a convolution.
fn for_each_product(shape: &ConvShape, batch: usize, mut visit: impl FnMut(usize, usize, usize)) {
    let ConvShape { in_channels, out_channels, kernel, stride, padding, in_height, in_width, .. } = *shape;
    let (out_height, out_width) = (shape.out_height(), shape.out_width());
    for n in 0..batch {
        for o in 0..out_channels {
            for c in 0..in_channels {
                for oy in 0..out_height {
                    for ox in 0..out_width {
                        for ky in 0..kernel {
                            for kx in 0..kernel {
                                let (iy, ix) = (oy * stride + ky, ox * stride + kx);
                                if (padding..in_height + padding).contains(&iy)
                                    && (padding..in_width + padding).contains(&ix)
                                {
                                    let row = (n * in_channels + c) * in_height + iy - padding;
                                    visit(
                                        row * in_width + ix - padding,
                                        ((o * in_channels + c) * kernel + ky) * kernel + kx,
                                        ((n * out_channels + o) * out_height + oy) * out_width + ox,
                                    );
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

// --- Data. ---

/// Values in [-1, 1), the same for the same seed (splitmix64).
fn noise(len: usize, seed: u64) -> Vec<f32> {
    (0..len as u64)
        .map(|i| {
            let mut z = (seed << 32).wrapping_add(i).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) >> 40) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

fn to_blocked(channels: usize, batch: usize, positions: usize, planar: &[f32]) -> Vec<f32> {
    let mut blocked = vec![0.0; batch * padded(channels) * positions];
    for n in 0..batch {
        for c in 0..channels {
            for p in 0..positions {
                blocked[((n * blocks(channels) + c / LANES) * positions + p) * LANES + c % LANES] =
                    planar[(n * channels + c) * positions + p];
            }
        }
    }
    blocked
}

/// Back to planes; every lane beyond the channels must be zero.
fn to_planar(channels: usize, batch: usize, positions: usize, blocked: &[f32]) -> Vec<f32> {
    let mut planar = vec![0.0; batch * channels * positions];
    for (i, &value) in blocked.iter().enumerate() {
        let (lane, p, block) = (i % LANES, i / LANES % positions, i / LANES / positions);
        let (n, c) = (block / blocks(channels), block % blocks(channels) * LANES + lane);
        if c < channels {
            planar[(n * channels + c) * positions + p] = value;
        } else {
            assert_eq!(value.to_bits(), 0, "lane {lane} of block {block} lies beyond {channels} channels");
        }
    }
    planar
}

/// The inputs of one case, and what the kernels made of them.
struct Case {
    shape: ConvShape,
    batch: usize,
    /// Planes.
    x: Vec<f32>,
    weights: Vec<f32>,
    bias: Vec<f32>,
    /// Planes.
    dy: Vec<f32>,
}

impl Case {
    fn new(shape: ConvShape, batch: usize) -> Case {
        let out_positions = shape.out_height() * shape.out_width();
        Case {
            shape,
            batch,
            x: noise(batch * shape.in_channels * shape.in_height * shape.in_width, 1),
            weights: noise(shape.weights_len(), 2),
            bias: noise(shape.out_channels, 3),
            dy: noise(batch * shape.out_channels * out_positions, 4),
        }
    }

    fn in_positions(&self) -> usize {
        self.shape.in_height * self.shape.in_width
    }

    fn out_positions(&self) -> usize {
        self.shape.out_height() * self.shape.out_width()
    }

    fn x_in_layout(&self) -> Vec<f32> {
        match self.shape.input {
            InputLayout::Blocked => to_blocked(self.shape.in_channels, self.batch, self.in_positions(), &self.x),
            InputLayout::Planar => self.x.clone(),
        }
    }

    fn dy_blocked(&self) -> Vec<f32> {
        to_blocked(self.shape.out_channels, self.batch, self.out_positions(), &self.dy)
    }

    fn bias_padded(&self) -> Vec<f32> {
        let mut bias = self.bias.clone();
        bias.resize(padded(self.shape.out_channels), 0.0);
        bias
    }

    fn forward(&self, compute: &Compute, with_bias: bool, relu: bool) -> Vec<f32> {
        let mut packed = vec![f32::NAN; self.shape.packed_len()];
        compute.pack_weights::<f32>(&self.shape, &self.weights, &mut packed);
        let bias = self.bias_padded();
        let mut y = vec![f32::NAN; self.batch * self.shape.output_len()];
        let bias = with_bias.then_some(&bias[..]);
        let finish = ConvFinish { bias, relu, ..ConvFinish::default() };
        compute.conv_forward(&self.shape, self.batch, &self.x_in_layout(), &packed, &finish, &mut y);
        y
    }

    fn data_gradient(&self, compute: &Compute, dx: &mut [f32], accumulate: bool) {
        let mut packed = vec![f32::NAN; self.shape.packed_transposed_len()];
        compute.pack_weights_transposed::<f32>(&self.shape, &self.weights, &mut packed);
        compute.conv_data_gradient(&self.shape, self.batch, &self.dy_blocked(), &packed, None, dx, accumulate);
    }

    fn weight_gradient(&self, compute: &Compute, packed: &mut [f32], accumulate: bool) {
        let (x, dy) = (self.x_in_layout(), self.dy_blocked());
        compute.conv_weight_gradient(&self.shape, self.batch, &x, &dy, packed, accumulate);
    }

    /// Every kernel against the judge, overwriting and accumulating.
    fn check<'a>(&self, computes: impl IntoIterator<Item = &'a Compute>) {
        let Case { shape, batch, .. } = self;
        let mut y = vec![0f64; self.dy.len()];
        let mut dx = vec![0f64; self.x.len()];
        let mut dw = vec![0f64; self.weights.len()];
        for_each_product(shape, *batch, |xi, wi, yi| {
            y[yi] += self.x[xi] as f64 * self.weights[wi] as f64;
            dx[xi] += self.dy[yi] as f64 * self.weights[wi] as f64;
            dw[wi] += self.x[xi] as f64 * self.dy[yi] as f64;
        });
        for compute in computes {
            self.check_on(compute, &y, &dx, &dw);
        }
    }

    fn check_on(&self, compute: &Compute, y: &[f64], dx: &[f64], dw: &[f64]) {
        let Case { shape, batch, .. } = self;
        let what = |kernel: &str| format!("{kernel} of {batch} x {shape:?} on {}", compute.isa().name());
        let twice = |values: &[f64]| values.iter().map(|value| value * 2.0).collect::<Vec<_>>();

        let plain = to_planar(shape.out_channels, *batch, self.out_positions(), &self.forward(compute, false, false));
        assert_close(&plain, y, &what("forward"));
        let bias = |i: usize| self.bias[i / self.out_positions() % shape.out_channels] as f64;
        let y: Vec<f64> = y.iter().enumerate().map(|(i, value)| (value + bias(i)).max(0.0)).collect();
        let fused = to_planar(shape.out_channels, *batch, self.out_positions(), &self.forward(compute, true, true));
        assert_close(&fused, &y, &what("forward with bias and ReLU"));

        let mut found = vec![f32::NAN; batch * shape.data_gradient_len()];
        self.data_gradient(compute, &mut found, false);
        assert_close(&to_planar(shape.in_channels, *batch, self.in_positions(), &found), dx, &what("data gradient"));
        self.data_gradient(compute, &mut found, true);
        assert_close(
            &to_planar(shape.in_channels, *batch, self.in_positions(), &found),
            &twice(dx),
            &what("accumulated data gradient"),
        );

        let mut packed = vec![f32::NAN; shape.packed_gradient_len()];
        let mut found = vec![f32::NAN; shape.weights_len()];
        self.weight_gradient(compute, &mut packed, false);
        compute.unpack_weight_gradient(shape, &packed, &mut found);
        assert_close(&found, dw, &what("weight gradient"));
        // What unpacking leaves out must be zero: the packed gradient has no other sum.
        let total = |values: &[f32]| values.iter().map(|&value| value.abs() as f64).sum::<f64>();
        assert!((total(&packed) - total(&found)).abs() <= 1e-9 * total(&found), "{}", what("tails of weight gradient"));
        self.weight_gradient(compute, &mut packed, true);
        compute.unpack_weight_gradient(shape, &packed, &mut found);
        assert_close(&found, &twice(dw), &what("accumulated weight gradient"));
    }
}

fn assert_close(found: &[f32], expected: &[f64], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
    for (i, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let error = (found as f64 - expected).abs();
        // Not `error > ..`: NaN must fail.
        assert!(error <= TOLERANCE * largest, "{what}: element {i} is {found}, expected {expected}");
    }
}

fn assert_same_bits(a: &[f32], b: &[f32], what: &str) {
    assert_eq!(a.len(), b.len(), "{what}");
    let difference = a.iter().zip(b).position(|(a, b)| a.to_bits() != b.to_bits());
    assert_eq!(difference, None, "{what}: first difference");
}

fn each_isa(threads: usize) -> impl Iterator<Item = Compute> {
    let available = Isa::ALL.into_iter().filter(|isa| isa.is_available());
    available.map(move |isa| {
        let compute = Compute::with_isa(threads, isa).unwrap();
        assert_eq!(compute.isa(), isa);
        compute
    })
}

fn square(
    channels: [usize; 2],
    kernel: usize,
    stride: usize,
    padding: usize,
    size: [usize; 2],
    input: InputLayout,
) -> ConvShape {
    let ([in_channels, out_channels], [in_height, in_width]) = (channels, size);
    ConvShape { in_channels, out_channels, kernel, stride, padding, in_height, in_width, input }
}

// --- Tests. ---

#[test]
fn kernels_agree_with_the_judge_for_many_shapes() {
    use InputLayout::{Blocked, Planar};
    let shapes = [
        // The kinds that the architectures have.
        square([16, 33], 3, 1, 1, [9, 11], Blocked),
        square([33, 64], 3, 1, 1, [7, 7], Blocked),
        square([20, 5], 3, 2, 1, [9, 12], Blocked),
        square([64, 48], 3, 2, 1, [8, 8], Blocked),
        square([20, 33], 1, 1, 0, [5, 7], Blocked),
        square([33, 20], 1, 2, 0, [9, 8], Blocked),
        square([3, 64], 7, 2, 3, [23, 30], Planar),
        square([3, 33], 3, 1, 1, [12, 13], Planar),
        square([3, 20], 7, 2, 3, [14, 9], Blocked),
        // The unusual ones: single channels and pixels, kernels larger than the map, gaps between windows, rows and
        // columns at the end that no window reaches, more padding than kernel.
        square([1, 1], 1, 1, 0, [1, 1], Blocked),
        square([5, 3], 3, 1, 1, [1, 1], Blocked),
        square([5, 17], 3, 2, 1, [2, 1], Blocked),
        square([16, 16], 5, 1, 2, [2, 3], Blocked),
        square([3, 16], 5, 3, 2, [11, 10], Planar),
        square([5, 16], 2, 3, 0, [9, 10], Blocked),
        square([16, 5], 3, 2, 0, [8, 6], Blocked),
        square([4, 6], 1, 1, 1, [3, 2], Blocked),
        square([4, 6], 2, 2, 3, [4, 5], Blocked),
        square([1, 16], 11, 4, 2, [19, 22], Planar),
        square([1, 3], 19, 1, 9, [20, 3], Planar),
        // Large enough for several bands, chunks and pieces of a row.
        square([96, 16], 3, 1, 1, [40, 33], Blocked),
        square([320, 16], 3, 1, 1, [4, 5], Blocked),
        square([160, 17], 3, 2, 1, [37, 41], Blocked),
    ];
    let computes: Vec<Compute> = each_isa(2).collect();
    for shape in shapes {
        for batch in [1, 2, 3] {
            Case::new(shape, batch).check(&computes);
        }
    }
}

#[test]
fn kernels_agree_with_the_judge_for_every_width() {
    let computes: Vec<Compute> = each_isa(1).collect();
    for width in 1..=30 {
        Case::new(square([16, 32], 3, 1, 1, [3, width], InputLayout::Blocked), 1).check(&computes);
        Case::new(square([17, 16], 3, 2, 1, [4, width], InputLayout::Blocked), 1).check(&computes);
        Case::new(square([3, 32], 3, 1, 1, [5, width], InputLayout::Planar), 1).check(&computes);
        Case::new(square([16, 40], 1, 1, 0, [1, width], InputLayout::Blocked), 1).check(&computes);
    }
}

#[test]
fn what_is_done_on_the_way_has_the_bits_of_the_separate_passes() {
    use InputLayout::{Blocked, Planar};
    let shapes = [
        square([33, 20], 3, 2, 1, [9, 11], Blocked),
        square([320, 48], 3, 1, 1, [7, 9], Blocked),
        square([3, 33], 7, 2, 3, [23, 30], Planar),
        square([40, 64], 1, 1, 0, [5, 7], Blocked),
        square([20, 33], 1, 2, 0, [9, 8], Blocked),
    ];
    for (shape, compute) in shapes.iter().flat_map(|shape| each_isa(2).map(move |compute| (shape, compute))) {
        let (batch, what) = (2, format!("{shape:?} on {}", compute.isa().name()));
        let case = Case::new(*shape, batch);
        let (channels, positions) = (shape.out_channels, case.out_positions());
        let vector = |seed| {
            let mut vector = noise(channels, seed);
            vector.resize(padded(channels), 0.0);
            vector
        };
        let (mean, scale, shift) = (vector(5), vector(6), vector(7));
        let residual = to_blocked(channels, batch, positions, &noise(batch * channels * positions, 8));
        let mut packed = vec![f32::NAN; shape.packed_len()];
        compute.pack_weights::<f32>(shape, &case.weights, &mut packed);
        let plain = case.forward(&compute, false, false);
        for (residual, relu) in [(None, false), (Some(&residual[..]), false), (Some(&residual), true)] {
            let mut expected = vec![f32::NAN; plain.len()];
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
            let finish = ConvFinish { bias: None, normalise: Some([&mean, &scale, &shift]), residual, relu };
            let mut found = vec![f32::NAN; plain.len()];
            compute.conv_forward(shape, batch, &case.x_in_layout(), &packed, &finish, &mut found);
            assert_same_bits(&found, &expected, &what);
        }

        let in_positions = case.in_positions();
        let activation = to_blocked(shape.in_channels, batch, in_positions, &case.x);
        let activation: Vec<f32> = activation.iter().map(|value| value.max(0.0)).collect();
        let mut transposed = vec![f32::NAN; shape.packed_transposed_len()];
        compute.pack_weights_transposed::<f32>(shape, &case.weights, &mut transposed);
        for accumulate in [false, true] {
            let mut expected = activation.clone();
            case.data_gradient(&compute, &mut expected, accumulate);
            compute.relu_backward(&activation, &mut expected);
            let mut found = activation.clone();
            let dy = case.dy_blocked();
            let passed = Some(&activation[..]);
            compute.conv_data_gradient(shape, batch, &dy, &transposed, passed, &mut found, accumulate);
            assert_same_bits(&found, &expected, &what);
        }
    }
}

/// Shapes whose work is cut differently by the number of threads, the batch and the caches.
fn shapes_for_bits() -> [ConvShape; 6] {
    use InputLayout::{Blocked, Planar};
    [
        square([64, 96], 3, 1, 1, [7, 7], Blocked),
        square([160, 80], 3, 2, 1, [29, 30], Blocked),
        square([320, 64], 3, 1, 1, [28, 30], Blocked),
        square([3, 64], 7, 2, 3, [40, 38], Planar),
        square([96, 160], 1, 1, 0, [9, 9], Blocked),
        square([32, 64], 1, 2, 0, [15, 14], Blocked),
    ]
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
        for shape in shapes_for_bits() {
            // Of many small images threads take over each other's.
            let many = if shape.in_height < 16 { 64 } else { 8 };
            for batch in [1, 3, many] {
                let case = Case::new(shape, batch);
                let results = |threads: usize| {
                    let compute = Compute::with_isa(threads, isa).unwrap();
                    let y = case.forward(&compute, true, false);
                    let mut dx = vec![f32::NAN; batch * shape.data_gradient_len()];
                    case.data_gradient(&compute, &mut dx, false);
                    let mut dw = vec![f32::NAN; shape.packed_gradient_len()];
                    case.weight_gradient(&compute, &mut dw, false);
                    let mut db = vec![f32::NAN; padded(shape.out_channels)];
                    let dy = case.dy_blocked();
                    compute.bias_gradient(shape.out_channels, batch, case.out_positions(), &dy, &mut db, false);
                    [y, dx, dw, db]
                };
                let one = results(1);
                for threads in [2, 3, 5] {
                    let what = format!("{batch} x {shape:?}, {threads} threads, {}", isa.name());
                    one.iter().zip(&results(threads)).for_each(|(a, b)| assert_same_bits(a, b, &what));
                }
            }
        }
    }
}

#[test]
fn bits_of_an_image_do_not_depend_on_its_batch() {
    const BATCH: usize = 5;
    for compute in each_isa(3) {
        for shape in shapes_for_bits() {
            let case = Case::new(shape, BATCH);
            let (x, dy) = (case.x_in_layout(), case.dy_blocked());
            let mut packed = vec![0.0; shape.packed_len()];
            compute.pack_weights::<f32>(&shape, &case.weights, &mut packed);
            let mut transposed = vec![0.0; shape.packed_transposed_len()];
            compute.pack_weights_transposed::<f32>(&shape, &case.weights, &mut transposed);
            let y = case.forward(&compute, false, true);
            let mut dx = vec![0.0; BATCH * shape.data_gradient_len()];
            case.data_gradient(&compute, &mut dx, false);
            for (first, count) in [(0, 1), (3, 1), (1, 2), (2, 3)] {
                let part = |values: &[f32]| {
                    let len = values.len() / BATCH;
                    values[first * len..][..count * len].to_vec()
                };
                let what = format!("images {first} and on, {count} of them, {shape:?}, {}", compute.isa().name());
                let mut part_y = vec![f32::NAN; count * shape.output_len()];
                let relu = ConvFinish { relu: true, ..ConvFinish::default() };
                compute.conv_forward(&shape, count, &part(&x), &packed, &relu, &mut part_y);
                assert_same_bits(&part_y, &part(&y), &what);
                let mut part_dx = vec![f32::NAN; count * shape.data_gradient_len()];
                compute.conv_data_gradient(&shape, count, &part(&dy), &transposed, None, &mut part_dx, false);
                assert_same_bits(&part_dx, &part(&dx), &what);
            }
        }
    }
}

#[test]
fn gradients_of_micro_batches_continue_each_other() {
    const BATCH: usize = 5;
    for compute in each_isa(2) {
        for shape in shapes_for_bits() {
            let case = Case::new(shape, BATCH);
            let (x, dy) = (case.x_in_layout(), case.dy_blocked());
            let positions = case.out_positions();
            let mut whole = vec![f32::NAN; shape.packed_gradient_len()];
            case.weight_gradient(&compute, &mut whole, false);
            let mut whole_db = vec![f32::NAN; padded(shape.out_channels)];
            compute.bias_gradient(shape.out_channels, BATCH, positions, &dy, &mut whole_db, false);
            let (mut dw, mut db) = (vec![f32::NAN; whole.len()], vec![f32::NAN; whole_db.len()]);
            for (first, count) in [(0, 2), (2, 0), (2, 1), (3, 2)] {
                let x = &x[first * shape.input_len()..][..count * shape.input_len()];
                let dy = &dy[first * shape.output_len()..][..count * shape.output_len()];
                compute.conv_weight_gradient(&shape, count, x, dy, &mut dw, first > 0);
                compute.bias_gradient(shape.out_channels, count, positions, dy, &mut db, first > 0);
            }
            assert_same_bits(&dw, &whole, &format!("weight gradient of {shape:?}"));
            assert_same_bits(&db, &whole_db, &format!("bias gradient of {shape:?}"));
        }
    }
}

#[test]
fn fused_instruction_sets_agree_bit_for_bit() {
    // Both round once per multiply-add and sum in the same order: that they agree shows that the order does not depend
    // on the width of a tile.
    if !(Isa::Avx2.is_available() && Isa::Avx512.is_available()) {
        return println!("skipped: this processor has not both avx2 and avx512");
    }
    for shape in shapes_for_bits() {
        let case = Case::new(shape, 2);
        let [a, b] = [Isa::Avx2, Isa::Avx512].map(|isa| {
            let compute = Compute::with_isa(2, isa).unwrap();
            let mut dx = vec![0.0; 2 * shape.data_gradient_len()];
            case.data_gradient(&compute, &mut dx, false);
            let mut dw = vec![0.0; shape.packed_gradient_len()];
            case.weight_gradient(&compute, &mut dw, false);
            [case.forward(&compute, true, true), dx, dw].concat()
        });
        assert_same_bits(&a, &b, &format!("{shape:?}"));
    }
}

#[test]
fn the_bias_gradient_sums_images_and_positions() {
    for compute in each_isa(2) {
        for (channels, batch, positions) in [(1, 1, 1), (3, 2, 5), (16, 1, 49), (33, 3, 7), (20, 2, 196)] {
            let dy = noise(batch * channels * positions, 7);
            let mut expected = vec![0f64; channels];
            for (i, &value) in dy.iter().enumerate() {
                expected[i / positions % channels] += value as f64;
            }
            let blocked = to_blocked(channels, batch, positions, &dy);
            let mut db = vec![f32::NAN; padded(channels)];
            for (round, accumulate) in [false, true].into_iter().enumerate() {
                compute.bias_gradient(channels, batch, positions, &blocked, &mut db, accumulate);
                let expected: Vec<f64> = expected.iter().map(|value| value * (round + 1) as f64).collect();
                assert_close(&to_planar(channels, 1, 1, &db), &expected, "bias gradient");
            }
        }
    }
}

#[test]
#[should_panic(expected = "larger than the padded input")]
fn a_kernel_beyond_the_padded_input_is_refused() {
    square([1, 1], 4, 1, 1, [1, 1], InputLayout::Blocked).out_height();
}

#[test]
#[should_panic(expected = "output of 1 x")]
fn a_slice_of_the_wrong_length_is_refused() {
    let shape = square([1, 1], 1, 1, 0, [2, 2], InputLayout::Blocked);
    let compute = Compute::with_isa(1, Isa::Scalar).unwrap();
    let (x, packed) = (vec![0.0; shape.input_len()], vec![0.0; shape.packed_len()]);
    let mut y = vec![0.0; shape.output_len() - 1];
    compute.conv_forward(&shape, 1, &x, &packed, &ConvFinish::default(), &mut y);
}

// --- The environment variable that forces an instruction set. It belongs to the process, hence child processes. ---

/// Set for a child: the name of the instruction set that must run, or `error` where starting must fail.
const EXPECTED: &str = "KERNELS_TEST_EXPECTED_ISA";

#[test]
fn child_of_the_forcing_test() {
    let Ok(expected) = std::env::var(EXPECTED) else { return };
    match Compute::new(1) {
        Ok(compute) => {
            assert_eq!(compute.isa().name(), expected);
            // The scalar set alone rounds products: 1 + e times 1 - e is 1 - e * e, which survives only fused.
            let shape = square([2, 1], 1, 1, 0, [1, 1], InputLayout::Blocked);
            let (x, weights) = ([-1.0, 1.0 + f32::EPSILON], [1.0, 1.0 - f32::EPSILON]);
            let mut packed = vec![0.0; shape.packed_len()];
            compute.pack_weights::<f32>(&shape, &weights, &mut packed);
            let mut y = vec![0.0; LANES];
            compute.conv_forward(&shape, 1, &to_blocked(2, 1, 1, &x), &packed, &ConvFinish::default(), &mut y);
            let fused = -f32::EPSILON * f32::EPSILON;
            assert_eq!(y[0], if expected == "scalar" { 0.0 } else { fused }, "another set than {expected} has run");
        }
        Err(error) => assert_eq!(expected, "error", "{error}"),
    }
}

#[test]
fn the_environment_forces_the_instruction_set() {
    let mut cases: Vec<(Option<&str>, &str)> =
        vec![(None, Isa::detect().name()), (Some("sse9"), "error"), (Some(""), "error")];
    for isa in Isa::ALL {
        cases.push((Some(isa.name()), if isa.is_available() { isa.name() } else { "error" }));
    }
    for (forced, expected) in cases {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "child_of_the_forcing_test"]).env(EXPECTED, expected).env_remove("ROENTGEN_ISA");
        if let Some(name) = forced {
            child.env("ROENTGEN_ISA", name);
        }
        let output = child.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{forced:?}, expected {expected}: {text}");
    }
}
