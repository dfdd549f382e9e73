//! Metrics of predictions: what probabilities and patients add to a confusion matrix.

use crate::EvalError;
use crate::auroc::auroc;
use crate::bootstrap::{Distribution, RESAMPLES, bootstrap};
use crate::calibration::{Calibration, brier_scores};
use crate::class_metric::{ClassMetric, f1_of_jaccard};
use crate::cluster::Clusters;
use crate::confusion::ConfusionMatrix;
use crate::curve::RankedScores;
use crate::estimate::Estimate;
use crate::interval::{CONFIDENCE, Interval, Scale, wilson_of_share};
use crate::macro_average::average;
use crate::metrics::Metrics;
use crate::notes;
use crate::predictions::Predictions;
use rand::Rng;
use serde::{Deserialize, Serialize};

/// What the probabilities of a split are worth, whatever threshold is put on them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbabilityMetrics {
    /// Area under the ROC curve of each class against all others, `[K]` (see [`RankedScores::auroc`]).
    pub auroc: Vec<Estimate>,
    /// Area under the precision-recall curve of each class, `[K]` (see [`RankedScores::average_precision`]).
    pub auprc: Vec<Estimate>,
    /// Mean Brier score, 0 to 1, 0 being best (see [`brier_scores`]).
    pub brier: Estimate,
    /// How well the confidence fits.
    pub calibration: Calibration,
}

impl Metrics {
    /// Evaluates predictions with all that they hold.
    ///
    /// Where some patients have several images, standard errors come from a bootstrap by patient over [`RESAMPLES`]
    /// resamples: patients are drawn anew, each with all images. Shares, F1 and their means then have Wilson's interval
    /// over the effective sample size (Korn and Graubard 1998); where images are independent, as far as is known,
    /// Wilson's own. Areas under ROC curves have DeLong's interval, by patient where need be. Average precision and Brier
    /// score are bootstrapped in either case, with intervals on the logit scale. `generator(i)` is the randomness of
    /// resample i; see [`crate::bootstrap`].
    ///
    /// How often these intervals hold the truth is simulated in `tests/coverage.rs`, by patient: 95 +- 1.5 times in 100 for
    /// 120 patients and areas under the ROC curve of 0.77 and 0.96; for an area of 0.99, where few images are called
    /// wrong, 95 +- 2.5.
    ///
    /// # Errors
    ///
    /// `positive` is no class.
    pub fn evaluate<R: Rng>(
        predictions: &Predictions,
        positive: usize,
        generator: &impl Fn(u64) -> R,
    ) -> Result<Self, EvalError> {
        let mut metrics = Self::of_decisions(predictions, positive, generator)?;
        metrics.probabilities = Some(probability_metrics(predictions, generator)?);
        Ok(metrics)
    }

    /// As [`Metrics::evaluate`], of the predicted classes alone.
    pub(crate) fn of_decisions<R: Rng>(
        predictions: &Predictions,
        positive: usize,
        generator: &impl Fn(u64) -> R,
    ) -> Result<Self, EvalError> {
        let (labels, predicted) = (predictions.labels(), predictions.predicted());
        let mut metrics = Self::compute(predictions.classes(), positive, labels, predicted, predictions.losses())?;
        let clusters = predictions.clusters();
        metrics.patients = clusters.patients();
        if clusters.hold_several() {
            metrics.resample_patients(predictions, generator);
            metrics.notes = notes::of_classes(&metrics.confusion_matrix, &metrics.sensitivity);
            metrics.notes.extend(notes::of_resampled_patients(predictions, clusters));
        }
        Ok(metrics)
    }

    /// Replaces every interval by one whose standard error is of a bootstrap by patient.
    fn resample_patients<R: Rng>(&mut self, predictions: &Predictions, generator: &impl Fn(u64) -> R) {
        let clusters = predictions.clusters();
        let classes = self.classes().len();
        let distributions = bootstrap(clusters, RESAMPLES, generator, |weights| {
            matrix_values(&predictions.confusion_matrix_of(weights))
        });
        let mut distributions = distributions.into_iter();
        let mut next = || distributions.next().expect("as many distributions as `matrix_values` gives values");
        self.accuracy = resampled(&self.accuracy, &next(), Scale::Score, clusters, clusters.count(), wilson_over_units);
        for metric in ClassMetric::ALL {
            let (mut estimates, mut units_of_classes) = (Vec::new(), Vec::new());
            for class in 0..classes {
                let units = units_of(metric, class, std::slice::from_ref(predictions));
                let instead = if metric == ClassMetric::F1 { wilson_of_f1 } else { wilson_over_units };
                estimates.push(resampled(
                    &self.of_classes(metric)[class],
                    &next(),
                    Scale::Score,
                    clusters,
                    units,
                    instead,
                ));
                units_of_classes.push(units);
            }
            let plain = average(&self.confusion_matrix, metric, &estimates);
            let units = units_of_classes.into_iter().min().unwrap_or(0);
            *self.macro_average.get_mut(metric) = resampled(&plain, &next(), Scale::Score, clusters, units, |_, _| {
                plain.interval().expect("only what is defined is asked for")
            });
            *self.of_classes_mut(metric) = estimates;
        }
    }
}

/// How many patients have images that `metric` of `class` is about: for F1 those of the class and those that some
/// training called so. The trainings are of the same images.
pub(crate) fn units_of(metric: ClassMetric, class: usize, trainings: &[Predictions]) -> usize {
    trainings[0].clusters().count_with(|sample| {
        trainings.iter().any(|predictions| {
            let (actual, predicted) = (predictions.labels()[sample], predictions.predicted()[sample]);
            metric.contribution(class, actual, predicted).1 > 0.0
        })
    })
}

/// The values of accuracy and, for each metric, of the classes and their mean.
fn matrix_values(matrix: &ConfusionMatrix) -> Vec<Option<f64>> {
    let classes = matrix.classes().len();
    let mut values = vec![Some(matrix.correct() as f64 / matrix.samples() as f64)];
    let outcomes: Vec<_> = (0..classes).map(|class| matrix.outcomes(class)).collect();
    for metric in ClassMetric::ALL {
        let of_classes: Vec<Option<f64>> = outcomes.iter().map(|&outcomes| metric.value(outcomes)).collect();
        let sum: Option<f64> = of_classes.iter().copied().sum();
        values.extend(of_classes);
        values.push(sum.map(|sum| sum / classes as f64));
    }
    values
}

fn probability_metrics<R: Rng>(
    predictions: &Predictions,
    generator: &impl Fn(u64) -> R,
) -> Result<ProbabilityMetrics, EvalError> {
    let clusters = predictions.clusters();
    let classes = predictions.classes().len();
    let ranked = (0..classes)
        .map(|class| RankedScores::new(&predictions.scores(class), &predictions.is_of(class)))
        .collect::<Result<Vec<_>, _>>()?;
    let brier_scores = brier_scores(predictions);
    let distributions = bootstrap(clusters, RESAMPLES, generator, |weights| {
        let weight = |sample: usize| u64::from(weights[sample]);
        let mut values = vec![Some(weighted_mean(&brier_scores, weights))];
        values.extend(ranked.iter().map(|ranked| ranked.average_precision(weight)));
        values
    });
    let mean = brier_scores.iter().sum::<f64>() / brier_scores.len() as f64;
    let plain = |value: f64| Estimate::defined(value, Interval { low: value, high: value }, String::new());
    let brier = match predictions.labels() == predictions.predicted() {
        false => {
            resampled(&plain(mean), &distributions[0], Scale::Logit, clusters, clusters.count(), wilson_over_units)
        }
        // What a wrong answer would cost is not in a sample that has none.
        true => without_variation(mean, clusters, clusters.count(), wilson_over_units),
    };
    let (mut auroc_of_classes, mut auprc_of_classes) = (Vec::new(), Vec::new());
    for (class, ranked) in ranked.iter().enumerate() {
        let name = &predictions.classes()[class];
        let positives = clusters.count_with(|sample| ranked.positive()[sample]);
        let auprc = match ranked.average_precision(|_| 1) {
            Some(value) => plain(value),
            None => Estimate::undefined(format!("no image of `{name}`"), String::new()),
        };
        // Boyd, Eng and Page (ECML 2013) find the binomial interval over the positives to be a fair one.
        let of_auprc = &distributions[1 + class];
        auprc_of_classes.push(resampled(&auprc, of_auprc, Scale::Logit, clusters, positives, wilson_over_units));
        auroc_of_classes.push(auroc(std::slice::from_ref(ranked), clusters, name));
    }
    Ok(ProbabilityMetrics {
        auroc: auroc_of_classes,
        auprc: auprc_of_classes,
        brier,
        calibration: Calibration::of(predictions),
    })
}

/// `plain` with the interval that `scale` makes of the standard error over its resamples, which rests on so many `units`.
/// Resamples that are all the same prove nothing: then with the interval that `instead` makes of value and units.
pub(crate) fn resampled(
    plain: &Estimate,
    distribution: &Distribution,
    scale: Scale,
    clusters: &Clusters,
    units: usize,
    instead: impl FnOnce(f64, usize) -> Interval,
) -> Estimate {
    let unit = if clusters.hold_several() { "patient" } else { "image" };
    let method = format!("{}, 95 %, standard error from a bootstrap by {unit}, {RESAMPLES} resamples", scale.name());
    let Some(value) = plain.value else {
        return Estimate::undefined(plain.reason.clone().unwrap_or_default(), method);
    };
    match distribution.interval(value, scale, units, CONFIDENCE) {
        Some(interval) => Estimate::defined(value, interval, method),
        None => without_variation(value, clusters, units, instead),
    }
}

/// `value` with the interval that `instead` makes of it and `units`.
fn without_variation(
    value: f64,
    clusters: &Clusters,
    units: usize,
    instead: impl FnOnce(f64, usize) -> Interval,
) -> Estimate {
    let unit = if clusters.hold_several() { "patient" } else { "image" };
    let method = format!("score interval, 95 %, each {unit} one trial, as the sample shows no variation");
    let Interval { low, high } = instead(value, units);
    Estimate::defined(value, Interval { low: low.min(value), high: high.max(value) }, method)
}

/// Wilson's interval of a share, each unit one trial.
pub(crate) fn wilson_over_units(share: f64, units: usize) -> Interval {
    wilson_of_share(share, units as f64, CONFIDENCE)
}

/// As [`ClassMetric::F1`] has it for independent images: by way of Jaccard's proportion.
pub(crate) fn wilson_of_f1(f1: f64, units: usize) -> Interval {
    f1_of_jaccard(wilson_over_units(f1 / (2.0 - f1), units))
}

fn weighted_mean(values: &[f64], weights: &[u32]) -> f64 {
    let (mut sum, mut total) = (0.0, 0.0);
    for (value, &weight) in values.iter().zip(weights) {
        sum += f64::from(weight) * value;
        total += f64::from(weight);
    }
    sum / total
}
