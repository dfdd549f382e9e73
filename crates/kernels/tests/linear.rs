//! The kernels of fully connected layers against a naive product in f64, and what is promised about their bits.

use roentgen_kernels::{Compute, Isa, LinearShape, padded};

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

/// Rows of `features` noise values, each padded with zeros.
fn rows(batch: usize, features: usize, seed: u64) -> Vec<f32> {
    let mut rows = noise(batch * padded(features), seed);
    for row in rows.chunks_exact_mut(padded(features)) {
        row[features..].fill(0.0);
    }
    rows
}

/// `expected(row, feature)` for every feature, and zeros behind.
fn assert_rows(found: &[f32], features: usize, expected: impl Fn(usize, usize) -> f64, what: &str) {
    let all: Vec<Vec<f64>> = (0..found.len() / padded(features))
        .map(|row| (0..features).map(|feature| expected(row, feature)).collect())
        .collect();
    let largest = all.iter().flatten().fold(0.0, |largest: f64, value| largest.max(value.abs()));
    for (row, (found, expected)) in found.chunks_exact(padded(features)).zip(&all).enumerate() {
        for (feature, (&found, &expected)) in found.iter().zip(expected).enumerate() {
            let close = (found as f64 - expected).abs() <= 1e-5 * largest;
            assert!(close, "{what}: [{row}, {feature}] is {found}, expected {expected}");
        }
        assert!(found[features..].iter().all(|value| value.to_bits() == 0), "{what}: tail of row {row}");
    }
}

fn assert_same_bits(a: &[f32], b: &[f32], what: &str) {
    assert_eq!(a.len(), b.len(), "{what}");
    assert_eq!(a.iter().zip(b).position(|(a, b)| a.to_bits() != b.to_bits()), None, "{what}: first difference");
}

fn isas() -> impl Iterator<Item = Isa> {
    Isa::ALL.into_iter().filter(|isa| isa.is_available())
}

/// A layer, a batch, and all that its kernels make of them.
struct Layer {
    shape: LinearShape,
    x: Vec<f32>,
    dy: Vec<f32>,
    weights: Vec<f32>,
    bias: Vec<f32>,
}

impl Layer {
    fn new(in_features: usize, out_features: usize, batch: usize) -> Layer {
        Layer {
            shape: LinearShape { in_features, out_features },
            x: rows(batch, in_features, 1),
            dy: rows(batch, out_features, 2),
            weights: noise(in_features * out_features, 3),
            bias: rows(1, out_features, 4),
        }
    }

    fn forward(&self, compute: &Compute, images: std::ops::Range<usize>, relu: bool) -> Vec<f32> {
        let mut packed = vec![f32::NAN; self.shape.packed_len()];
        compute.linear_pack(&self.shape, &self.weights, &mut packed);
        let x = &self.x[images.start * self.shape.input_len()..images.end * self.shape.input_len()];
        let mut y = vec![f32::NAN; images.len() * self.shape.output_len()];
        compute.linear_forward(&self.shape, images.len(), x, &packed, Some(&self.bias), relu, &mut y);
        y
    }

    fn data_gradient(&self, compute: &Compute, images: std::ops::Range<usize>, rounds: usize) -> Vec<f32> {
        let mut packed = vec![f32::NAN; self.shape.packed_len()];
        compute.linear_pack_transposed(&self.shape, &self.weights, &mut packed);
        let dy = &self.dy[images.start * self.shape.output_len()..images.end * self.shape.output_len()];
        let mut dx = vec![f32::NAN; images.len() * self.shape.input_len()];
        for round in 0..rounds {
            compute.linear_data_gradient(&self.shape, images.len(), dy, &packed, &mut dx, round > 0);
        }
        dx
    }

    /// Over the batch cut at `cuts`.
    fn weight_gradient(&self, compute: &Compute, cuts: &[usize]) -> Vec<f32> {
        let mut dw = vec![f32::NAN; self.shape.packed_len()];
        for (round, cut) in cuts.windows(2).enumerate() {
            let x = &self.x[cut[0] * self.shape.input_len()..cut[1] * self.shape.input_len()];
            let dy = &self.dy[cut[0] * self.shape.output_len()..cut[1] * self.shape.output_len()];
            compute.linear_weight_gradient(&self.shape, cut[1] - cut[0], x, dy, &mut dw, round > 0);
        }
        dw
    }
}

#[test]
fn kernels_agree_with_a_naive_product() {
    for isa in isas() {
        let compute = Compute::with_isa(2, isa).unwrap();
        for (in_features, out_features) in [(1, 1), (3, 2), (16, 16), (20, 33), (512, 380), (1200, 5), (64, 2)] {
            for batch in [1, 2, 3, 13, 16, 29, 130] {
                let layer = Layer::new(in_features, out_features, batch);
                let what = |kernel: &str| format!("{kernel} of {batch} x {:?} on {}", layer.shape, isa.name());
                let (inputs, outputs) = (layer.shape.input_len(), layer.shape.output_len());
                let x = |n: usize, f: usize| layer.x[n * inputs + f] as f64;
                let dy = |n: usize, o: usize| layer.dy[n * outputs + o] as f64;
                let w = |o: usize, f: usize| layer.weights[o * in_features + f] as f64;

                let y = |n: usize, o: usize| {
                    (0..in_features).map(|f| x(n, f) * w(o, f)).sum::<f64>() + layer.bias[o] as f64
                };
                assert_rows(&layer.forward(&compute, 0..batch, false), out_features, y, &what("forward"));
                let relu = layer.forward(&compute, 0..batch, true);
                assert_rows(&relu, out_features, |n, o| y(n, o).max(0.0), &what("forward with ReLU"));

                let dx = |n: usize, f: usize| (0..out_features).map(|o| dy(n, o) * w(o, f)).sum::<f64>();
                let found = layer.data_gradient(&compute, 0..batch, 1);
                assert_rows(&found, in_features, dx, &what("data gradient"));
                let found = layer.data_gradient(&compute, 0..batch, 2);
                assert_rows(&found, in_features, |n, f| 2.0 * dx(n, f), &what("accumulated data gradient"));

                let mut found = vec![f32::NAN; layer.shape.weights_len()];
                let packed = layer.weight_gradient(&compute, &[0, batch]);
                compute.linear_unpack_gradient(&layer.shape, &packed, &mut found);
                let padded_rows: Vec<f32> = found
                    .chunks_exact(in_features)
                    .flat_map(|row| row.iter().copied().chain(std::iter::repeat_n(0.0, inputs - in_features)))
                    .collect();
                let dw = |o: usize, f: usize| (0..batch).map(|n| dy(n, o) * x(n, f)).sum::<f64>();
                assert_rows(&padded_rows, in_features, dw, &what("weight gradient"));
            }
        }
    }
}

#[test]
fn bits_depend_on_neither_threads_nor_batch() {
    const BATCH: usize = 31;
    for isa in isas() {
        let layer = Layer::new(1500, 100, BATCH);
        let one = Compute::with_isa(1, isa).unwrap();
        let y = layer.forward(&one, 0..BATCH, false);
        let dx = layer.data_gradient(&one, 0..BATCH, 1);
        let dw = layer.weight_gradient(&one, &[0, BATCH]);
        for threads in [2, 3, 5] {
            let compute = Compute::with_isa(threads, isa).unwrap();
            let what = format!("{threads} threads on {}", isa.name());
            for images in [0..BATCH, 0..1, 30..31, 3..19, 7..9] {
                let part = |values: &[f32]| {
                    let len = values.len() / BATCH;
                    values[images.start * len..images.end * len].to_vec()
                };
                assert_same_bits(&layer.forward(&compute, images.clone(), false), &part(&y), &what);
                assert_same_bits(&layer.data_gradient(&compute, images.clone(), 1), &part(&dx), &what);
            }
            for cuts in [&[0, BATCH][..], &[0, 1, BATCH], &[0, 8, 16, 16, 24, BATCH]] {
                assert_same_bits(&layer.weight_gradient(&compute, cuts), &dw, &what);
            }
        }
    }
}
