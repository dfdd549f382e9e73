//! Every metric of one split, computed from its confusion matrix.

use crate::EvalError;
use crate::class_metric::ClassMetric;
use crate::confusion::ConfusionMatrix;
use crate::decision::AppliedThreshold;
use crate::estimate::Estimate;
use crate::evaluation::ProbabilityMetrics;
use crate::group::GroupTable;
use crate::macro_average::{MacroAverage, average};
use crate::metrics_document::Document;
use crate::notes;
use crate::temperature::TemperatureScaling;
use serde::{Deserialize, Serialize};

/// What is known about a classifier from one split.
///
/// Serialised it is the content of `metrics-<split>.json`, in which class names stand in place of indices and the
/// format carries its version ([`crate::FORMAT_VERSION`]). Reading one back checks that it agrees with itself.
///
/// All intervals are of 95 % confidence and hold one class, one metric at a time. They cover the chance in which images
/// the split has, and nothing else; [`Estimate::method`] says whether images or patients are taken as independent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Document", into = "Document")]
pub struct Metrics {
    /// Counts of actual against predicted classes, with the class names.
    pub confusion_matrix: ConfusionMatrix,
    /// Index of the class that a "miss" and a "false alarm" are about.
    pub positive: usize,
    /// How many patients the images are of, where that is known; set by [`Metrics::with_patients`].
    pub patients: Option<u64>,
    /// Share of images that were called what they are.
    pub accuracy: Estimate,
    /// [`ClassMetric::Precision`] of each class, `[K]`.
    pub precision: Vec<Estimate>,
    /// [`ClassMetric::Sensitivity`] of each class, `[K]`.
    pub sensitivity: Vec<Estimate>,
    /// [`ClassMetric::Specificity`] of each class, `[K]`.
    pub specificity: Vec<Estimate>,
    /// [`ClassMetric::F1`] of each class, `[K]`.
    pub f1: Vec<Estimate>,
    /// Means over the classes.
    pub macro_average: MacroAverage,
    /// Mean of the samples' losses, each sample counting the same; `None` where no losses were given.
    pub mean_loss: Option<f64>,
    /// What the probabilities are worth; `None` where only predicted classes were evaluated.
    pub probabilities: Option<ProbabilityMetrics>,
    /// Temperature scaling fitted on another split, where that was asked for and possible.
    pub temperature: Option<TemperatureScaling>,
    /// Thresholds for the positive class, chosen on another split.
    pub thresholds: Vec<AppliedThreshold>,
    /// Metrics of parts of the split.
    pub groups: Vec<GroupTable>,
    /// What a reader of the numbers must know: classes without images, classes with few, images of the same patients.
    pub notes: Vec<String>,
}

impl Metrics {
    /// Evaluates predictions.
    ///
    /// `labels` (actual) and `predicted` are class indices in `0..classes.len()`, `[N]` each; `losses`, `[N]` where
    /// given, are the samples' losses; `positive` is the index of the positive class (see
    /// [`crate::default_positive`]). The order of the samples does not matter, but for the last bits of the mean loss.
    ///
    /// # Errors
    ///
    /// Fewer than two classes, empty or repeated names, no samples, slices of different length, an index that is no
    /// class, a loss that is not finite.
    pub fn compute(
        classes: &[String],
        positive: usize,
        labels: &[usize],
        predicted: &[usize],
        losses: Option<&[f32]>,
    ) -> Result<Self, EvalError> {
        let matrix = ConfusionMatrix::new(classes.to_vec(), labels, predicted)?;
        let mean_loss = losses.map(|losses| mean_loss(losses, labels.len())).transpose()?;
        Self::from_matrix(matrix, positive, mean_loss)
    }

    /// Evaluates a confusion matrix; `mean_loss` is passed through.
    ///
    /// # Errors
    ///
    /// `positive` is no class.
    pub fn from_matrix(matrix: ConfusionMatrix, positive: usize, mean_loss: Option<f64>) -> Result<Self, EvalError> {
        let classes = matrix.classes().len();
        if positive >= classes {
            return Err(EvalError::PositiveOutOfRange { found: positive, classes });
        }
        let of_classes = |metric: ClassMetric| -> Vec<Estimate> {
            (0..classes).map(|class| metric.estimate(&matrix, class)).collect()
        };
        let precision = of_classes(ClassMetric::Precision);
        let sensitivity = of_classes(ClassMetric::Sensitivity);
        let specificity = of_classes(ClassMetric::Specificity);
        let f1 = of_classes(ClassMetric::F1);
        let macro_average = MacroAverage {
            precision: average(&matrix, ClassMetric::Precision, &precision),
            sensitivity: average(&matrix, ClassMetric::Sensitivity, &sensitivity),
            specificity: average(&matrix, ClassMetric::Specificity, &specificity),
            f1: average(&matrix, ClassMetric::F1, &f1),
        };
        Ok(Self {
            positive,
            patients: None,
            accuracy: Estimate::proportion(matrix.correct(), matrix.samples(), "no images"),
            notes: notes::of_classes(&matrix, &sensitivity),
            precision,
            sensitivity,
            specificity,
            f1,
            macro_average,
            mean_loss,
            probabilities: None,
            temperature: None,
            thresholds: Vec::new(),
            groups: Vec::new(),
            confusion_matrix: matrix,
        })
    }

    /// Records how many patients the images are of, and notes it where patients have several images: the intervals
    /// then are too narrow.
    pub fn with_patients(mut self, patients: u64) -> Self {
        self.patients = Some(patients);
        self.notes.extend(notes::of_patients(self.samples(), patients));
        self
    }

    /// The class names, in the order of the indices.
    pub fn classes(&self) -> &[String] {
        self.confusion_matrix.classes()
    }

    /// The name of the positive class.
    pub fn positive_name(&self) -> &str {
        &self.classes()[self.positive]
    }

    /// How many images were evaluated.
    pub fn samples(&self) -> u64 {
        self.confusion_matrix.samples()
    }

    /// `metric` of each class, `[K]`.
    pub fn of_classes(&self, metric: ClassMetric) -> &[Estimate] {
        match metric {
            ClassMetric::Precision => &self.precision,
            ClassMetric::Sensitivity => &self.sensitivity,
            ClassMetric::Specificity => &self.specificity,
            ClassMetric::F1 => &self.f1,
        }
    }

    pub(crate) fn of_classes_mut(&mut self, metric: ClassMetric) -> &mut Vec<Estimate> {
        match metric {
            ClassMetric::Precision => &mut self.precision,
            ClassMetric::Sensitivity => &mut self.sensitivity,
            ClassMetric::Specificity => &mut self.specificity,
            ClassMetric::F1 => &mut self.f1,
        }
    }
}

fn mean_loss(losses: &[f32], samples: usize) -> Result<f64, EvalError> {
    if losses.len() != samples {
        return Err(EvalError::Length { what: "losses", found: losses.len(), expected: samples });
    }
    if let Some(sample) = losses.iter().position(|loss| !loss.is_finite()) {
        return Err(EvalError::LossNotFinite { sample, found: losses[sample] });
    }
    Ok(losses.iter().map(|&loss| f64::from(loss)).sum::<f64>() / samples as f64)
}
