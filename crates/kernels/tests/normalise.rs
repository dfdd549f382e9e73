//! Batch norm against the judge: values, gradients, bits.

#[path = "judge/mod.rs"]
mod judge;
#[path = "judge/machines.rs"]
mod machines;

use judge::*;
use machines::*;
use roentgen_kernels::{Compute, padded};

const EPSILON: f64 = 1e-5;

/// A layer in the middle of training: input, parameters, running statistics, gradient of the output.
struct Case {
    images: Images,
    x: Vec<f64>,
    gamma: Vec<f64>,
    beta: Vec<f64>,
    running_mean: Vec<f64>,
    running_variance: Vec<f64>,
    dy: Vec<f64>,
}

impl Case {
    fn new(images: Images) -> Self {
        let channels = images.channels;
        Self {
            images,
            x: noise(1, images.len()),
            gamma: noise(2, channels),
            beta: noise(3, channels),
            running_mean: noise(4, channels),
            running_variance: noise(5, channels).iter().map(|v| v + 1.5).collect(),
            dy: noise(6, images.len()),
        }
    }

    fn all() -> impl Iterator<Item = Case> {
        // Of two values alone, normalised to -1 and 1 whatever they are, the gradient is nothing but rounding.
        let sizes = [(1, [7, 5]), (3, [1, 1]), (2, [5, 3]), (3, [9, 8])];
        [1, 3, 16, 20, 33].into_iter().flat_map(move |channels| {
            sizes.map(|(batch, [height, width])| Case::new(Images::new(batch, channels, height, width)))
        })
    }

    fn statistics(&self, compute: &Compute) -> (Vec<f32>, Vec<f32>) {
        let Images { batch, channels, .. } = self.images;
        let (mut mean, mut variance) = (unwritten(padded(channels)), unwritten(padded(channels)));
        let x = blocked(self.images, &self.x);
        compute.batch_norm_statistics(channels, batch, self.images.positions(), &x, &mut mean, &mut variance);
        (mean, variance)
    }

    /// `gamma / sqrt(variance + epsilon)` as an engine would compute it.
    fn scale(&self, variance: &[f32]) -> Vec<f32> {
        padded_channels(&self.gamma).iter().zip(inverse_deviation(variance)).map(|(g, d)| g * d).collect()
    }

    fn apply(&self, compute: &Compute, mean: &[f32], variance: &[f32]) -> Vec<f32> {
        let Images { batch, channels, .. } = self.images;
        let x = blocked(self.images, &self.x);
        let mut y = unwritten(x.len());
        let (scale, shift) = (self.scale(variance), padded_channels(&self.beta));
        let positions = self.images.positions();
        compute.batch_norm_apply(channels, batch, positions, &x, mean, &scale, &shift, None, false, &mut y);
        y
    }

    /// The gradients of gamma and beta, one after the other.
    fn reduce(&self, compute: &Compute, mean: &[f32], variance: &[f32]) -> Vec<f32> {
        let Images { batch, channels, .. } = self.images;
        let (mut d_gamma, mut d_beta) = (unwritten(padded(channels)), unwritten(padded(channels)));
        compute.batch_norm_reduce(
            channels,
            batch,
            self.images.positions(),
            &blocked(self.images, &self.x),
            &blocked(self.images, &self.dy),
            mean,
            &inverse_deviation(variance),
            &mut d_gamma,
            &mut d_beta,
            false,
        );
        [d_gamma, d_beta].concat()
    }

    /// All that training computes: output, then the gradients of input, gamma and beta.
    fn train(&self, compute: &Compute) -> Vec<f32> {
        let Images { batch, channels, .. } = self.images;
        let (mean, variance) = self.statistics(compute);
        let y = self.apply(compute, &mean, &variance);
        let parameters = self.reduce(compute, &mean, &variance);
        let (d_gamma, d_beta) = parameters.split_at(padded(channels));
        let (gamma, inverse) = (padded_channels(&self.gamma), inverse_deviation(&variance));
        let (x, mut dx) = (blocked(self.images, &self.x), blocked(self.images, &self.dy));
        let positions = self.images.positions();
        compute.batch_norm_data_gradient_training(
            channels, batch, positions, &x, &mean, &inverse, &gamma, d_gamma, d_beta, &mut dx,
        );
        [y, dx, parameters].concat()
    }

    /// Compares what a machine computed (see [`Case::train`]) with the judge.
    #[track_caller]
    fn check(&self, what: &str, found: &[f32], y: &[f64], gradients: &Gradients, tolerance: f64) {
        let len = blocked(self.images, &self.x).len();
        let (channels, lanes) = (self.images.channels, padded(self.images.channels));
        let what = |part: &str| format!("{part}: {what}, {:?}", self.images);
        assert_close(&what("output"), &planar(self.images, &found[..len]), y, tolerance);
        assert_close(&what("dx"), &planar(self.images, &found[len..2 * len]), &gradients.data, tolerance);
        let per_channel = Images::new(1, channels, 1, 1);
        let (d_gamma, d_beta) = found[2 * len..].split_at(lanes);
        assert_close(&what("d_gamma"), &planar(per_channel, d_gamma), &gradients.weight, tolerance);
        assert_close(&what("d_beta"), &planar(per_channel, d_beta), &gradients.bias, tolerance);
    }
}

fn inverse_deviation(variance: &[f32]) -> Vec<f32> {
    variance.iter().map(|&v| (1.0 / (f64::from(v) + EPSILON).sqrt()) as f32).collect()
}

#[test]
fn statistics_meet_the_judge() {
    for case in Case::all() {
        let channels = Images::new(1, case.images.channels, 1, 1);
        let (mean, variance) = channel_statistics(case.images, &case.x);
        for (isa, found) in on_every_machine(|compute| {
            let (mean, variance) = case.statistics(compute);
            [mean, variance].concat()
        }) {
            let (found_mean, found_variance) = found.split_at(found.len() / 2);
            assert_close(&format!("mean, {isa:?}, {:?}", case.images), &planar(channels, found_mean), &mean, 1e-7);
            let what = format!("variance, {isa:?}, {:?}", case.images);
            assert_close(&what, &planar(channels, found_variance), &variance, 1e-7);
        }
    }
}

#[test]
fn statistics_survive_a_mean_of_a_thousand_deviations() {
    let images = Images::new(3, 20, 33, 31);
    let mut case = Case::new(images);
    for i in 0..images.len() {
        // The noise has a deviation of 0.577; the judge must see what f32 holds of it on such a level.
        let level = 577.0 * [1.0, -1.0, 3.0][images.channel_of(i) % 3];
        case.x[i] = f64::from((level + case.x[i]) as f32);
    }
    let channels = Images::new(1, images.channels, 1, 1);
    let (mean, variance) = channel_statistics(images, &case.x);
    for (isa, found) in on_every_machine(|compute| {
        let (mean, variance) = case.statistics(compute);
        [mean, variance].concat()
    }) {
        let (found_mean, found_variance) = found.split_at(found.len() / 2);
        assert_close(&format!("mean, {isa:?}"), &planar(channels, found_mean), &mean, 1e-7);
        assert_close(&format!("variance, {isa:?}"), &planar(channels, found_variance), &variance, 1e-6);
    }
}

#[test]
fn a_constant_channel_has_no_variance_and_nan_is_seen() {
    let images = Images::new(3, 3, 7, 7);
    let mut case = Case::new(images);
    for i in 0..images.len() {
        case.x[i] = if images.channel_of(i) == 1 { f64::from(1234.567_f32) } else { case.x[i] };
    }
    case.x[images.at(1, 2, 3, 3)] = f64::NAN;
    for (isa, found) in on_every_machine(|compute| {
        let (mean, variance) = case.statistics(compute);
        [mean, variance].concat()
    }) {
        let (mean, variance) = found.split_at(16);
        assert_eq!(mean[1], 1234.567, "{isa:?}");
        assert!((0.0..1e-6).contains(&variance[1]), "{isa:?}: {}", variance[1]);
        assert!(mean[2].is_nan() && variance[2].is_nan(), "{isa:?}: {} {}", mean[2], variance[2]);
        assert!(mean[0].is_finite() && variance[0].is_finite(), "{isa:?}");
    }
}

#[test]
fn training_meets_the_judge() {
    for case in Case::all() {
        let Case { images, x, gamma, beta, dy, .. } = &case;
        let (mut mean, mut variance) = (case.running_mean.clone(), case.running_variance.clone());
        let y = batch_norm_training(*images, x, gamma, beta, EPSILON, 0.1, &mut mean, &mut variance);
        let gradients = batch_norm_training_backward(*images, x, gamma, EPSILON, dy);
        for (isa, found) in on_every_machine(|compute| case.train(compute)) {
            case.check(isa.name(), &found, &y, &gradients, 2e-5);
        }
    }
}

#[test]
fn evaluation_meets_the_judge() {
    for case in Case::all() {
        let Case { images, x, gamma, beta, dy, running_mean, running_variance } = &case;
        let y = batch_norm_evaluation(*images, x, gamma, beta, running_mean, running_variance, EPSILON);
        let gradients = batch_norm_evaluation_backward(*images, x, gamma, running_mean, running_variance, EPSILON, dy);
        let (mean, variance) = (padded_channels(running_mean), padded_channels(running_variance));
        for (isa, found) in on_every_machine(|compute| {
            let mut dx = blocked(*images, dy);
            let scale = case.scale(&variance);
            compute.scale_channels(images.channels, images.batch, images.positions(), &scale, &mut dx);
            let y = case.apply(compute, &mean, &variance);
            [y, dx, case.reduce(compute, &mean, &variance)].concat()
        }) {
            case.check(isa.name(), &found, &y, &gradients, 1e-6);
        }
    }
}

#[test]
fn fusion_changes_no_bit() {
    for mut case in Case::all() {
        let Images { batch, channels, .. } = case.images;
        case.x[0] = f64::NAN;
        let (x, residual) = (blocked(case.images, &case.x), blocked(case.images, &case.dy));
        let (mean, scale, shift) =
            (padded_channels(&case.running_mean), padded_channels(&case.gamma), padded_channels(&case.beta));
        for with_residual in [false, true] {
            for relu in [false, true] {
                on_every_machine(|compute| {
                    let apply = |residual: Option<&[f32]>, relu| {
                        let (positions, mut y) = (case.images.positions(), unwritten(x.len()));
                        compute.batch_norm_apply(
                            channels, batch, positions, &x, &mean, &scale, &shift, residual, relu, &mut y,
                        );
                        y
                    };
                    let fused = apply(with_residual.then_some(&residual), relu);
                    let mut steps = apply(None, false);
                    if with_residual {
                        let normalised = steps.clone();
                        compute.add(&normalised, &residual, false, &mut steps);
                    }
                    if relu {
                        compute.relu(&mut steps);
                    }
                    assert!(fused[0].is_nan(), "NaN passes");
                    assert_same_bits(&format!("residual {with_residual}, relu {relu}"), &fused, &steps);
                    planar(case.images, &fused);
                    fused
                });
            }
        }
    }
}

#[test]
fn micro_batches_give_the_bits_of_the_whole_batch() {
    let images = Images::new(5, 20, 7, 5);
    let case = Case::new(images);
    let (x, dy) = (blocked(images, &case.x), blocked(images, &case.dy));
    let (mean, variance) = (padded_channels(&case.running_mean), padded_channels(&case.running_variance));
    let inverse = inverse_deviation(&variance);
    let image_len = x.len() / images.batch;
    let in_parts = |compute: &Compute, parts: &[usize]| {
        let (mut d_gamma, mut d_beta) = (unwritten(padded(20)), unwritten(padded(20)));
        let mut outputs = Vec::new();
        let mut start = 0;
        for &part in parts {
            let range = start * image_len..(start + part) * image_len;
            let (x, dy, mut y, mut dx) =
                (&x[range.clone()], &dy[range.clone()], unwritten(range.len()), dy[range.clone()].to_vec());
            compute.batch_norm_apply(20, part, 35, x, &mean, &inverse, &mean, None, true, &mut y);
            compute.batch_norm_reduce(20, part, 35, x, dy, &mean, &inverse, &mut d_gamma, &mut d_beta, start > 0);
            compute.scale_channels(20, part, 35, &inverse, &mut dx);
            outputs.push((y, dx));
            start += part;
        }
        let (y, dx): (Vec<_>, Vec<_>) = outputs.into_iter().unzip();
        [y.concat(), dx.concat(), d_gamma, d_beta].concat()
    };
    let whole = on_every_machine(|compute| in_parts(compute, &[5]));
    for parts in [&[2, 3][..], &[1, 1, 1, 1, 1], &[4, 1]] {
        for ((isa, found), (_, whole)) in on_every_machine(|compute| in_parts(compute, parts)).iter().zip(&whole) {
            assert_same_bits(&format!("{isa:?}, {parts:?}"), found, whole);
        }
    }
}

#[test]
#[should_panic(expected = "`variance` has 3 elements, its shape has 16")]
fn an_unpadded_vector_is_refused() {
    let compute = Compute::new(1).expect("one thread");
    compute.batch_norm_statistics(3, 1, 1, &[0.0; 16], &mut [0.0; 16], &mut [0.0; 3]);
}
