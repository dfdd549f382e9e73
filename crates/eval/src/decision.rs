//! A threshold that was chosen on one split, applied to another.

use crate::EvalError;
use crate::class_metric::ClassMetric;
use crate::confusion::Outcomes;
use crate::estimate::Estimate;
use crate::metrics::Metrics;
use crate::predictions::Predictions;
use crate::threshold::Threshold;
use rand::Rng;
use serde::{Deserialize, Serialize};

/// The class name that stands for all but the positive one.
const OTHERS: &str = "(another class)";

/// What a threshold on the positive class's probability does on images that it was not chosen on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AppliedThreshold {
    /// The threshold.
    #[serde(flatten)]
    pub threshold: Threshold,
    /// The split that it was chosen on.
    pub fitted_on: String,
    /// How many images that split has.
    pub fitted_images: u64,
    /// The four counts of the positive class against all others.
    pub outcomes: Outcomes,
    /// Share of images on the right side of the threshold.
    pub accuracy: Estimate,
    /// [`ClassMetric::Precision`] of the positive class.
    pub precision: Estimate,
    /// [`ClassMetric::Sensitivity`] of the positive class.
    pub sensitivity: Estimate,
    /// [`ClassMetric::Specificity`] of the positive class.
    pub specificity: Estimate,
    /// [`ClassMetric::F1`] of the positive class.
    pub f1: Estimate,
    /// Expected cost of an image, in the units of the rule, where it is by cost and both sides have images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<f64>,
}

impl AppliedThreshold {
    /// Applies `threshold`, chosen on `fitted_images` images of the split `fitted_on`, to the probabilities of the
    /// class `positive`. Intervals and `generator` are as in [`Metrics::evaluate`].
    ///
    /// # Errors
    ///
    /// `positive` is no class; no class may be called `(another class)`.
    pub fn apply<R: Rng>(
        threshold: Threshold,
        fitted_on: &str,
        fitted_images: usize,
        predictions: &Predictions,
        positive: usize,
        generator: &impl Fn(u64) -> R,
    ) -> Result<Self, EvalError> {
        let classes = predictions.classes().len();
        if positive >= classes {
            return Err(EvalError::PositiveOutOfRange { found: positive, classes });
        }
        let scores = predictions.scores(positive);
        let sided = Predictions::new(
            vec![predictions.classes()[positive].clone(), OTHERS.to_owned()],
            predictions.labels().iter().map(|&label| usize::from(label != positive)).collect(),
            scores.iter().map(|&score| usize::from(!threshold.calls(score))).collect(),
            scores.iter().flat_map(|&score| [score, (1.0 - score).max(0.0)]).collect(),
        )?
        .with_clusters(predictions.clusters().clone())?;
        let metrics = Metrics::of_decisions(&sided, 0, generator)?;
        let outcomes = metrics.confusion_matrix.outcomes(0);
        let of_positive = |metric: ClassMetric| metrics.of_classes(metric)[0].clone();
        Ok(Self {
            threshold,
            fitted_on: fitted_on.to_owned(),
            fitted_images: fitted_images as u64,
            outcomes,
            accuracy: metrics.accuracy.clone(),
            precision: of_positive(ClassMetric::Precision),
            sensitivity: of_positive(ClassMetric::Sensitivity),
            specificity: of_positive(ClassMetric::Specificity),
            f1: of_positive(ClassMetric::F1),
            cost: threshold.cost(outcomes),
        })
    }

    /// Its estimates with their names.
    pub(crate) fn estimates(&self) -> [(&'static str, &Estimate); 5] {
        [
            ("accuracy", &self.accuracy),
            ("precision", &self.precision),
            ("sensitivity", &self.sensitivity),
            ("specificity", &self.specificity),
            ("F1", &self.f1),
        ]
    }
}
