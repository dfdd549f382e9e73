//! Lays one image over another and says how well they agree.

use super::likeness::{Field, Likeness};
use super::placement::Placement;

/// The part of an image that is compared; its rim is where rotation and cropping leave something else.
const RIM: f32 = 0.04;
/// What copies reach on the way, with room to spare: of 1,600 altered copies of radiographs 99 % reach 0.93 and 0.93.
const LEAST_COARSE: f32 = 0.85;
const LEAST_MIDDLE: f32 = 0.86;
/// Fewer samples in common, as a share of the image, say nothing.
const LEAST_COVERAGE: f32 = 0.5;

/// Two images, one laid over the other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Agreement {
    /// Where the second image lies in the first.
    pub(super) placement: Placement,
    /// Correlation where they overlap, `[-1, 1]`; negative where one is inverted.
    pub(super) correlation: f32,
}

/// Moves the second image from where it is thought to lie in the first to where both agree best, on finer and finer
/// fields; `None` as soon as they lie apart, or agree too little for copies.
pub(super) fn align(first: &Likeness, second: &Likeness, start: Placement) -> Option<Agreement> {
    let agreeing = |least: f32| move |agreement: &Agreement| agreement.correlation.abs() >= least;
    let coarse = refine(&first.coarse, &second.coarse, start, 1, 8).filter(agreeing(LEAST_COARSE))?;
    let middle = refine(&first.middle, &second.middle, coarse.placement, 2, 6).filter(agreeing(LEAST_MIDDLE))?;
    refine(&first.fine, &second.fine, middle.placement, 2, 5)
}

/// Gauss-Newton steps, over every so many samples, on the squared difference under one gain, which stands for contrast
/// and inversion (S. Baker and I. Matthews, International Journal of Computer Vision 56, 2004, 221: forward, additive).
/// Keeps the best.
fn refine(first: &Field, second: &Field, start: Placement, stride: usize, steps: usize) -> Option<Agreement> {
    let mut placement = start;
    let mut best: Option<Agreement> = None;
    for _ in 0..steps {
        let sums = Sums::over(first, second, placement, stride)?;
        let correlation = sums.correlation();
        if best.is_some_and(|best| correlation.abs() <= best.correlation.abs() + 1e-4) {
            break;
        }
        best = Some(Agreement { placement, correlation });
        let Some(change) = sums.step() else { break };
        placement.0.iter_mut().zip(change).for_each(|(parameter, change)| *parameter += change);
        // A copy is neither stretched out of shape nor shrunk to a spot.
        if !(0.4..2.5).contains(&placement.area().abs()) {
            break;
        }
    }
    best
}

/// Sums over the samples that both images have.
struct Sums {
    count: f32,
    first: f32,
    second: f32,
    first_squares: f32,
    second_squares: f32,
    products: f32,
    /// Of the products of derivatives, upper triangle of `[6, 6]`.
    curvature: [[f32; 6]; 6],
    /// Of the derivatives with the second image, and with the first.
    with_second: [f32; 6],
    with_first: [f32; 6],
}

impl Sums {
    fn over(first: &Field, second: &Field, placement: Placement, stride: usize) -> Option<Sums> {
        let side = second.side();
        let rim = (RIM * side as f32).round() as usize;
        let inside = 0.5 - RIM;
        let mut sums = Sums {
            count: 0.0,
            first: 0.0,
            second: 0.0,
            first_squares: 0.0,
            second_squares: 0.0,
            products: 0.0,
            curvature: [[0.0; 6]; 6],
            with_second: [0.0; 6],
            with_first: [0.0; 6],
        };
        for y in (rim..side - rim).step_by(stride) {
            let v = (y as f32 + 0.5) / side as f32 - 0.5;
            for x in (rim..side - rim).step_by(stride) {
                let u = (x as f32 + 0.5) / side as f32 - 0.5;
                let (first_u, first_v) = placement.of(u, v);
                if first_u.abs() > inside || first_v.abs() > inside {
                    continue;
                }
                let (value, by_u, by_v) = first.sample(first_u, first_v);
                let other = second.at(x, y);
                sums.count += 1.0;
                sums.first += value;
                sums.second += other;
                sums.first_squares += value * value;
                sums.second_squares += other * other;
                sums.products += value * other;
                let derivatives = [by_u * u, by_u * v, by_u, by_v * u, by_v * v, by_v];
                for row in 0..6 {
                    sums.with_second[row] += derivatives[row] * other;
                    sums.with_first[row] += derivatives[row] * value;
                    for column in row..6 {
                        sums.curvature[row][column] += derivatives[row] * derivatives[column];
                    }
                }
            }
        }
        (sums.count * (stride * stride) as f32 > LEAST_COVERAGE * (side * side) as f32).then_some(sums)
    }

    fn correlation(&self) -> f32 {
        let covariance = self.products - self.first * self.second / self.count;
        let first = self.first_squares - self.first * self.first / self.count;
        let second = self.second_squares - self.second * self.second / self.count;
        let product = first * second;
        // A flat image agrees with nothing.
        if product > 0.0 { covariance / product.sqrt() } else { 0.0 }
    }

    /// The change of the placement that the linearised difference asks for; `None` where the images do not fix it.
    fn step(&self) -> Option<[f32; 6]> {
        let gain = self.products / self.first_squares.max(f32::MIN_POSITIVE);
        // Minimises sum (second - gain (first + derivatives . change))^2.
        let mut matrix = [[0.0_f64; 7]; 6];
        for row in 0..6 {
            for column in 0..6 {
                matrix[row][column] = f64::from(self.curvature[row.min(column)][row.max(column)]);
            }
            matrix[row][row] *= 1.0001;
            matrix[row][6] = f64::from(self.with_second[row] / gain - self.with_first[row]);
        }
        solve(matrix)
    }
}

/// Gaussian elimination of a positive definite `[6, 6]` with its right side behind it.
fn solve(mut matrix: [[f64; 7]; 6]) -> Option<[f32; 6]> {
    for pivot in 0..6 {
        if matrix[pivot][pivot].is_nan() || matrix[pivot][pivot] <= 1e-9 {
            return None;
        }
        for row in 0..6 {
            if row != pivot {
                let factor = matrix[row][pivot] / matrix[pivot][pivot];
                for column in pivot..7 {
                    matrix[row][column] -= factor * matrix[pivot][column];
                }
            }
        }
    }
    let solution: [f32; 6] = std::array::from_fn(|row| (matrix[row][6] / matrix[row][row]) as f32);
    solution.iter().all(|value| value.is_finite()).then_some(solution)
}
