//! Whether probabilities are what they say: of the answers given with 80 % confidence, are 80 % right?

use crate::interval::{CONFIDENCE, Interval, wilson};
use crate::predictions::Predictions;
use serde::{Deserialize, Serialize};

/// In how many bins of equal width the confidence is cut.
pub const BINS: usize = 15;

/// The answers whose confidence, the probability of the predicted class, lies in one bin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReliabilityBin {
    /// The bin's lower end, which is not in it (but 0 is in the first).
    pub above: f64,
    /// The bin's upper end, which is.
    pub up_to: f64,
    /// Images in it.
    pub images: u64,
    /// Their mean confidence; `None` where there are none.
    pub mean_confidence: Option<f64>,
    /// The share of them that was called right; `None` where there are none.
    pub accuracy: Option<f64>,
    /// Wilson's 95 % interval of the accuracy, images taken as independent; `None` where there are none.
    pub low: Option<f64>,
    /// Its upper bound.
    pub high: Option<f64>,
}

/// How well the confidence of the answers fits how often they are right.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// The mean over images of the distance between accuracy and mean confidence of their bin, 0 to 1 (C. Guo, G.
    /// Pleiss, Y. Sun and K. Q. Weinberger, ICML 2017). It has no interval: chance makes it larger and never smaller,
    /// and a bootstrap would do so twice. [`Calibration::expected_by_chance`] says what to compare it with.
    pub expected_calibration_error: f64,
    /// The error that a perfectly calibrated model of the same confidences would show on average on as many independent
    /// images, by the normal approximation in each bin.
    pub expected_by_chance: f64,
    /// Mean confidence of all answers.
    pub mean_confidence: f64,
    /// Share of the answers that are right.
    pub accuracy: f64,
    /// The bins by rising confidence, [`BINS`] of equal width; some may be empty.
    pub bins: Vec<ReliabilityBin>,
}

#[derive(Clone, Copy, Default)]
struct Sums {
    images: u64,
    right: u64,
    confidence: f64,
    variance: f64,
}

impl Calibration {
    /// Compares confidence, the probability of the predicted class, with what was right.
    pub fn of(predictions: &Predictions) -> Self {
        let classes = predictions.classes().len();
        let mut sums = [Sums::default(); BINS];
        for (sample, (&label, &predicted)) in predictions.labels().iter().zip(predictions.predicted()).enumerate() {
            let confidence = f64::from(predictions.probabilities()[sample * classes + predicted]).min(1.0);
            // A confidence on the border of two bins belongs to the lower one, as in Guo et al.
            let bin = ((confidence * BINS as f64).ceil() as usize).clamp(1, BINS) - 1;
            sums[bin].images += 1;
            sums[bin].right += u64::from(label == predicted);
            sums[bin].confidence += confidence;
            sums[bin].variance += confidence * (1.0 - confidence);
        }
        let images = predictions.samples() as f64;
        // The mean distance of a normal value from its mean is its standard deviation times this.
        let mean_distance = std::f64::consts::FRAC_2_PI.sqrt();
        let mean = |of_bin: &dyn Fn(&Sums) -> f64| sums.iter().map(of_bin).sum::<f64>() / images;
        Self {
            expected_calibration_error: mean(&|bin| (bin.right as f64 - bin.confidence).abs()),
            expected_by_chance: mean(&|bin| mean_distance * bin.variance.sqrt()),
            mean_confidence: mean(&|bin| bin.confidence),
            accuracy: mean(&|bin| bin.right as f64),
            bins: sums.iter().enumerate().map(|(index, sums)| sums.bin(index)).collect(),
        }
    }
}

impl Sums {
    fn bin(&self, index: usize) -> ReliabilityBin {
        let interval = wilson(self.right, self.images, CONFIDENCE);
        let mean = |sum: f64| (self.images > 0).then(|| sum / self.images as f64);
        ReliabilityBin {
            above: index as f64 / BINS as f64,
            up_to: (index + 1) as f64 / BINS as f64,
            images: self.images,
            mean_confidence: mean(self.confidence),
            accuracy: mean(self.right as f64),
            low: interval.map(|Interval { low, .. }| low),
            high: interval.map(|Interval { high, .. }| high),
        }
    }
}

/// The Brier score of each image, `[N]`, 0 to 1: half the squared distance of the probabilities from the truth, which
/// is `(p - y)^2` with two classes (G. W. Brier, Monthly Weather Review 78, 1950, whose own score is twice this;
/// scikit-learn's `brier_score_loss` with `scale_by_half=True`).
pub fn brier_scores(predictions: &Predictions) -> Vec<f64> {
    let rows = predictions.probabilities().chunks_exact(predictions.classes().len());
    let score = |(row, &label): (&[f32], &usize)| {
        let square = |(class, &p): (usize, &f32)| (f64::from(p) - f64::from(u8::from(class == label))).powi(2);
        row.iter().enumerate().map(square).sum::<f64>() / 2.0
    };
    rows.zip(predictions.labels()).map(score).collect()
}
