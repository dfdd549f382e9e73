//! Temperature scaling: one number, fitted on validation images, that makes probabilities honest.

use crate::EvalError;
use crate::calibration::{Calibration, brier_scores};
use crate::predictions::Predictions;
use serde::{Deserialize, Serialize};

/// Most steps of the search; each at least halves the bracket or is Newton's.
const STEPS: usize = 200;

/// The temperature T for which `softmax(logits / T)` has the lowest mean cross-entropy on `predictions`, more than 0:
/// above 1 the model was over-confident, below 1 it was too cautious (Guo et al., ICML 2017).
///
/// Logits are not needed: the logarithms of the probabilities differ from them by one number an image, which softmax
/// does not see. A probability of 0 counts as the smallest normal f32. The cross-entropy is convex in 1/T; its
/// derivative's root is found by Newton's method within a bracket that is halved where Newton leaves it.
///
/// # Errors
///
/// In words, why there is none: no answer has its largest probability elsewhere than at the actual class, so that every
/// lower temperature would be better; or the probabilities tell nothing, so that every higher one would.
pub fn fit_temperature(predictions: &Predictions) -> Result<f64, String> {
    let rows = log_probabilities(predictions);
    let labels = predictions.labels();
    let below_largest = |(row, &label): (&Vec<f64>, &usize)| row.iter().any(|&value| value > row[label]);
    if !rows.iter().zip(labels).any(below_largest) {
        return Err("no image was called wrong, so that nothing bounds how confident the model may be".into());
    }
    // Derivatives of the sum of cross-entropies by 1/T.
    let derivatives = |inverse: f64| {
        let (mut first, mut second) = (0.0, 0.0);
        for (row, &label) in rows.iter().zip(labels) {
            let shares = softmax_scaled(row, inverse);
            let mean: f64 = shares.iter().zip(row).map(|(share, value)| share * value).sum();
            first += mean - row[label];
            second += shares.iter().zip(row).map(|(share, value)| share * (value - mean).powi(2)).sum::<f64>();
        }
        (first, second)
    };
    if derivatives(0.0).0 >= 0.0 {
        return Err("the probabilities are no better than equal ones, at any temperature".into());
    }
    // The derivative at infinity is positive, since some image was called wrong: a bound is found by doubling.
    let mut low = 0.0;
    let mut high = 1.0;
    while derivatives(high).0 < 0.0 {
        low = high;
        high *= 2.0;
    }
    let mut inverse = (low + high) / 2.0;
    for _ in 0..STEPS {
        let (first, second) = derivatives(inverse);
        if first < 0.0 {
            low = inverse
        } else {
            high = inverse
        }
        let newton = inverse - first / second;
        let next = if newton > low && newton < high { newton } else { (low + high) / 2.0 };
        if (next - inverse).abs() <= 1e-12 * inverse {
            break;
        }
        inverse = next;
    }
    Ok(1.0 / inverse)
}

/// The same predictions with probabilities at a `temperature`, more than 0; losses follow where there are any. Which
/// class is the most probable does not change.
///
/// # Errors
///
/// None that predictions can give rise to; what is checked is checked again.
pub fn at_temperature(predictions: &Predictions, temperature: f64) -> Result<Predictions, EvalError> {
    let rows = log_probabilities(predictions);
    let scaled: Vec<Vec<f64>> = rows.iter().map(|row| softmax_scaled(row, 1.0 / temperature)).collect();
    let probabilities = scaled.iter().flatten().map(|&p| p as f32).collect();
    let (classes, labels) = (predictions.classes().to_vec(), predictions.labels().to_vec());
    let result = Predictions::new(classes, labels, predictions.predicted().to_vec(), probabilities)?
        .with_clusters(predictions.clusters().clone())?;
    match predictions.losses() {
        None => Ok(result),
        Some(_) => result.with_losses(cross_entropies(&rows, predictions.labels(), 1.0 / temperature)),
    }
}

/// What temperature scaling does to a split's probabilities.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TemperatureScaling {
    /// The temperature, more than 0.
    pub temperature: f64,
    /// The split that it was fitted on.
    pub fitted_on: String,
    /// How many images that split has.
    pub fitted_images: u64,
    /// The evaluated split's probabilities as they are.
    pub before: ProbabilityQuality,
    /// The same at the temperature.
    pub after: ProbabilityQuality,
}

/// Three measures of the probabilities of a split.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ProbabilityQuality {
    /// Mean cross-entropy of the actual class in nats, from the probabilities.
    pub mean_cross_entropy: f64,
    /// Mean Brier score, 0 to 1 ([`brier_scores`]).
    pub brier: f64,
    /// Expected calibration error, 0 to 1 ([`Calibration::expected_calibration_error`]).
    pub expected_calibration_error: f64,
}

impl TemperatureScaling {
    /// Applies a temperature that was fitted on `fitted_images` images of the split `fitted_on`.
    ///
    /// # Errors
    ///
    /// As [`at_temperature`].
    pub fn apply(
        predictions: &Predictions,
        temperature: f64,
        fitted_on: &str,
        fitted_images: usize,
    ) -> Result<Self, EvalError> {
        let scaled = at_temperature(predictions, temperature)?;
        Ok(Self {
            temperature,
            fitted_on: fitted_on.to_owned(),
            fitted_images: fitted_images as u64,
            before: ProbabilityQuality::of(predictions),
            after: ProbabilityQuality::of(&scaled),
        })
    }
}

impl ProbabilityQuality {
    fn of(predictions: &Predictions) -> Self {
        let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len() as f64;
        let losses = cross_entropies(&log_probabilities(predictions), predictions.labels(), 1.0);
        Self {
            mean_cross_entropy: mean(losses.into_iter().map(f64::from).collect()),
            brier: mean(brier_scores(predictions)),
            expected_calibration_error: Calibration::of(predictions).expected_calibration_error,
        }
    }
}

/// `[N][K]`.
fn log_probabilities(predictions: &Predictions) -> Vec<Vec<f64>> {
    let logarithm = |&p: &f32| f64::from(p.max(f32::MIN_POSITIVE)).ln();
    let rows = predictions.probabilities().chunks_exact(predictions.classes().len());
    rows.map(|row| row.iter().map(logarithm).collect()).collect()
}

/// `softmax(inverse * row)`.
fn softmax_scaled(row: &[f64], inverse: f64) -> Vec<f64> {
    let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = row.iter().map(|value| (inverse * (value - largest)).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

/// `-ln softmax(inverse * row)[label]` of each image.
fn cross_entropies(rows: &[Vec<f64>], labels: &[usize], inverse: f64) -> Vec<f32> {
    let loss = |(row, &label): (&Vec<f64>, &usize)| {
        let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = row.iter().map(|value| (inverse * (value - largest)).exp()).sum();
        (sum.ln() - inverse * (row[label] - largest)) as f32
    };
    rows.iter().zip(labels).map(loss).collect()
}
