//! A model's answers over the images of a split, checked once.

use crate::EvalError;
use crate::cluster::Clusters;
use crate::confusion::{ConfusionMatrix, check_classes, check_indices};

/// How far above 1 rounding may carry a probability.
const ROUNDING: f32 = 1e-5;

/// What a model answered for the images of a split, and what they are.
///
/// Everything in it has been checked against everything else; images are indices `0..N` in the order given.
#[derive(Debug, Clone, PartialEq)]
pub struct Predictions {
    classes: Vec<String>,
    labels: Vec<usize>,
    predicted: Vec<usize>,
    probabilities: Vec<f32>,
    losses: Option<Vec<f32>>,
    clusters: Clusters,
}

impl Predictions {
    /// `labels` (actual) and `predicted` are class indices in `0..classes.len()`, `[N]`; `probabilities` is `[N, K]`,
    /// row by row, each in 0 to 1. Every image counts as independent, until [`Predictions::with_clusters`] says more.
    ///
    /// # Errors
    ///
    /// Fewer than two classes, empty or repeated names, no samples, slices of different length, an index that is no
    /// class, a probability that is none.
    pub fn new(
        classes: Vec<String>,
        labels: Vec<usize>,
        predicted: Vec<usize>,
        probabilities: Vec<f32>,
    ) -> Result<Self, EvalError> {
        check_classes(&classes)?;
        check_indices(&labels, &predicted, classes.len())?;
        check_probabilities(&probabilities, labels.len(), classes.len())?;
        let clusters = Clusters::each_its_own(labels.len());
        Ok(Self { classes, labels, predicted, probabilities, losses: None, clusters })
    }

    /// Adds the images' losses, `[N]`.
    ///
    /// # Errors
    ///
    /// Another number than of images, a loss that is not finite.
    pub fn with_losses(mut self, losses: Vec<f32>) -> Result<Self, EvalError> {
        check_length("losses", losses.len(), self.labels.len())?;
        if let Some(sample) = losses.iter().position(|loss| !loss.is_finite()) {
            return Err(EvalError::LossNotFinite { sample, found: losses[sample] });
        }
        self.losses = Some(losses);
        Ok(self)
    }

    /// Says which images belong together.
    ///
    /// # Errors
    ///
    /// Clusters of another number of images.
    pub fn with_clusters(mut self, clusters: Clusters) -> Result<Self, EvalError> {
        check_length("patients", clusters.of_samples().len(), self.labels.len())?;
        self.clusters = clusters;
        Ok(self)
    }

    /// The mean of the probabilities of several models on the same images, at least one: their ensemble. What it predicts
    /// is the class of the largest mean (the first of equal ones); it has no losses.
    ///
    /// # Errors
    ///
    /// No model, models on other images or of other classes.
    pub fn mean(models: &[Self]) -> Result<Self, EvalError> {
        let Some((first, others)) = models.split_first() else { return Err(EvalError::TooFewModels { found: 0 }) };
        let mut sums: Vec<f64> = first.probabilities.iter().map(|&p| f64::from(p)).collect();
        for other in others {
            if (&other.classes, &other.labels, &other.clusters) != (&first.classes, &first.labels, &first.clusters) {
                let (first, second, what) = ("the first".into(), "another model".into(), "images or classes".into());
                return Err(EvalError::ModelsDiffer { first, second, what });
            }
            sums.iter_mut().zip(&other.probabilities).for_each(|(sum, &p)| *sum += f64::from(p));
        }
        let probabilities: Vec<f32> = sums.iter().map(|sum| (sum / models.len() as f64) as f32).collect();
        let largest =
            |row: &[f32]| (0..row.len()).fold(0, |best, class| if row[class] > row[best] { class } else { best });
        let predicted = match others {
            [] => first.predicted.clone(),
            _ => probabilities.chunks_exact(first.classes.len()).map(largest).collect(),
        };
        Ok(Self { predicted, probabilities, losses: None, ..first.clone() })
    }

    /// The class names, in the order of the indices.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The actual classes, `[N]`.
    pub fn labels(&self) -> &[usize] {
        &self.labels
    }

    /// The predicted classes, `[N]`.
    pub fn predicted(&self) -> &[usize] {
        &self.predicted
    }

    /// The probabilities, `[N, K]`, row by row.
    pub fn probabilities(&self) -> &[f32] {
        &self.probabilities
    }

    /// The losses, `[N]`, where given.
    pub fn losses(&self) -> Option<&[f32]> {
        self.losses.as_deref()
    }

    /// Which images belong together.
    pub fn clusters(&self) -> &Clusters {
        &self.clusters
    }

    /// How many images there are; at least one.
    pub fn samples(&self) -> usize {
        self.labels.len()
    }

    /// The probabilities of `class`, `[N]`.
    pub fn scores(&self, class: usize) -> Vec<f32> {
        self.probabilities.iter().skip(class).step_by(self.classes.len()).copied().collect()
    }

    /// Whether each image is of `class`, `[N]`.
    pub fn is_of(&self, class: usize) -> Vec<bool> {
        self.labels.iter().map(|&label| label == class).collect()
    }

    /// The images `samples` alone, in that order; at least one.
    pub(crate) fn subset(&self, samples: &[usize]) -> Self {
        let classes = self.classes.len();
        Self {
            classes: self.classes.clone(),
            labels: samples.iter().map(|&sample| self.labels[sample]).collect(),
            predicted: samples.iter().map(|&sample| self.predicted[sample]).collect(),
            probabilities: (samples.iter())
                .flat_map(|&sample| &self.probabilities[sample * classes..][..classes])
                .copied()
                .collect(),
            losses: self.losses.as_ref().map(|losses| samples.iter().map(|&sample| losses[sample]).collect()),
            clusters: self.clusters.subset(samples),
        }
    }

    /// Their confusion matrix with each image counted as often as it was drawn, at least one of them.
    pub(crate) fn confusion_matrix_of(&self, drawn: &[u32]) -> ConfusionMatrix {
        let mut counts = vec![vec![0; self.classes.len()]; self.classes.len()];
        for ((&label, &predicted), &drawn) in self.labels.iter().zip(&self.predicted).zip(drawn) {
            counts[label][predicted] += u64::from(drawn);
        }
        ConfusionMatrix::from_counts(self.classes.clone(), counts).expect("the classes were checked when constructed")
    }
}

/// Checks that there is a probability of each class for each sample.
pub(crate) fn check_probabilities(probabilities: &[f32], samples: usize, classes: usize) -> Result<(), EvalError> {
    check_length("probabilities", probabilities.len(), samples * classes)?;
    // NaN is in no range.
    match probabilities.iter().position(|p| !(0.0..=1.0 + ROUNDING).contains(p)) {
        None => Ok(()),
        Some(index) => {
            let (sample, class) = (index / classes, index % classes);
            Err(EvalError::NotAProbability { sample, class, found: probabilities[index] })
        }
    }
}

fn check_length(what: &'static str, found: usize, expected: usize) -> Result<(), EvalError> {
    if found == expected { Ok(()) } else { Err(EvalError::Length { what, found, expected }) }
}
