//! Metrics of a model that was trained several times.

use crate::EvalError;
use crate::auroc::auroc;
use crate::bootstrap::{RESAMPLES, bootstrap};
use crate::class_metric::ClassMetric;
use crate::curve::RankedScores;
use crate::estimate::Estimate;
use crate::evaluation::{resampled, units_of, wilson_of_f1, wilson_over_units};
use crate::interval::{Interval, Scale};
use crate::metrics::Metrics;
use crate::predictions::Predictions;
use rand::Rng;
use serde::Serialize;

/// One metric over several trainings.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Repeated {
    /// The mean over the trainings, with the interval of that mean: it covers the chance in which patients the split has.
    #[serde(flatten)]
    pub estimate: Estimate,
    /// The standard deviation over the trainings (with n - 1), which covers the chance in the training itself; `None` for
    /// fewer than two, or where one is undefined.
    pub deviation: Option<f64>,
    /// The metric of each training; `None` where undefined.
    pub values: Vec<Option<f64>>,
}

/// The metrics by which rows of a table are compared, over several trainings on the same data.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RepeatedMetrics {
    /// Share of images that were called what they are.
    pub accuracy: Repeated,
    /// F1 of each class, `[K]`.
    pub f1: Vec<Repeated>,
    /// Sensitivity for the positive class.
    pub sensitivity: Repeated,
    /// Specificity for the positive class.
    pub specificity: Repeated,
    /// Area under the ROC curve of the positive class.
    pub auroc: Repeated,
    /// Area under the precision-recall curve of the positive class.
    pub auprc: Repeated,
}

impl RepeatedMetrics {
    /// Evaluates trainings on the same images in the same order, at least one. A single one has the intervals of
    /// [`Metrics::evaluate`]; the standard error of the mean of several is bootstrapped, by patient where patients are
    /// known, every training with the same resamples, but for areas under ROC curves: their mean has DeLong's interval. `generator(i)` is the randomness of resample i; see [`crate::bootstrap`].
    ///
    /// # Errors
    ///
    /// No training, trainings on other images, `positive` is no class.
    pub fn evaluate<R: Rng>(
        trainings: &[Predictions],
        positive: usize,
        generator: &impl Fn(u64) -> R,
    ) -> Result<Self, EvalError> {
        let each = trainings
            .iter()
            .map(|predictions| Metrics::evaluate(predictions, positive, generator))
            .collect::<Result<Vec<_>, _>>()?;
        let [first, others @ ..] = trainings else { return Err(EvalError::TooFewModels { found: 0 }) };
        if others.iter().any(|other| other.labels() != first.labels() || other.clusters() != first.clusters()) {
            let what = "images".to_owned();
            return Err(EvalError::ModelsDiffer { first: "the first".into(), second: "another training".into(), what });
        }
        // By place in `statistics`: accuracy, F1 of the classes, sensitivity, specificity, the two areas.
        let classes = first.classes().len();
        let estimates: Vec<Vec<&Estimate>> = each.iter().map(|metrics| estimates(metrics)).collect();
        let mut repeated = if others.is_empty() {
            let alone = |estimate: &&Estimate| Repeated {
                estimate: (*estimate).clone(),
                deviation: None,
                values: vec![estimate.value],
            };
            estimates[0].iter().map(alone).collect()
        } else {
            means(trainings, &estimates, positive, generator)?
        }
        .into_iter();
        let mut next = || repeated.next().expect("as many as `estimates` gives");
        Ok(Self {
            accuracy: next(),
            f1: (0..classes).map(|_| next()).collect(),
            sensitivity: next(),
            specificity: next(),
            auroc: next(),
            auprc: next(),
        })
    }
}

/// The estimates of one training, in the order of [`statistics`].
fn estimates(metrics: &Metrics) -> Vec<&Estimate> {
    let positive = metrics.positive;
    let probabilities = metrics.probabilities.as_ref().expect("`Metrics::evaluate` gives them");
    let mut estimates = vec![&metrics.accuracy];
    estimates.extend(&metrics.f1);
    estimates.extend([&metrics.sensitivity[positive], &metrics.specificity[positive]]);
    estimates.extend([&probabilities.auroc[positive], &probabilities.auprc[positive]]);
    estimates
}

/// The values of one training, image `i` counting `weights[i]` times; areas under ROC curves, which need no resamples,
/// stand as undefined.
fn statistics(predictions: &Predictions, ranked: &RankedScores, positive: usize, weights: &[u32]) -> Vec<Option<f64>> {
    let matrix = predictions.confusion_matrix_of(weights);
    let mut values = vec![Some(matrix.correct() as f64 / matrix.samples() as f64)];
    values.extend((0..matrix.classes().len()).map(|class| ClassMetric::F1.value(matrix.outcomes(class))));
    let outcomes = matrix.outcomes(positive);
    values.extend([ClassMetric::Sensitivity.value(outcomes), ClassMetric::Specificity.value(outcomes)]);
    let weight = |sample: usize| u64::from(weights[sample]);
    values.extend([None, ranked.average_precision(weight)]);
    values
}

fn means<R: Rng>(
    trainings: &[Predictions],
    estimates: &[Vec<&Estimate>],
    positive: usize,
    generator: &impl Fn(u64) -> R,
) -> Result<Vec<Repeated>, EvalError> {
    let first = &trainings[0];
    let clusters = first.clusters();
    let ranked = (trainings.iter())
        .map(|predictions| RankedScores::new(&predictions.scores(positive), &predictions.is_of(positive)))
        .collect::<Result<Vec<_>, _>>()?;
    let mean = |values: Vec<Option<f64>>| -> Option<f64> {
        let count = values.len() as f64;
        values.into_iter().sum::<Option<f64>>().map(|sum| sum / count)
    };
    let distributions = bootstrap(clusters, RESAMPLES, generator, |weights| {
        let each: Vec<Vec<Option<f64>>> = (trainings.iter().zip(&ranked))
            .map(|(predictions, ranked)| statistics(predictions, ranked, positive, weights))
            .collect();
        (0..each[0].len()).map(|place| mean(each.iter().map(|values| values[place]).collect())).collect()
    });
    type Instead = fn(f64, usize) -> Interval;
    let (share, f1): (Instead, Instead) = (wilson_over_units, wilson_of_f1);
    let of = |metric, class| units_of(metric, class, trainings);
    let (sensitivity, specificity) = (of(ClassMetric::Sensitivity, positive), of(ClassMetric::Specificity, positive));
    let mut ways = vec![Some((clusters.count(), Scale::Score, share))];
    ways.extend((0..first.classes().len()).map(|class| Some((of(ClassMetric::F1, class), Scale::Score, f1))));
    ways.extend([sensitivity, specificity].map(|units| Some((units, Scale::Score, share))));
    // The area under the ROC curve needs no resamples.
    ways.extend([None, Some((sensitivity, Scale::Logit, share))]);
    let repeated = ways.into_iter().enumerate().map(|(place, way)| {
        let values: Vec<Option<f64>> = estimates.iter().map(|estimates| estimates[place].value).collect();
        let plain = match mean(values.clone()) {
            Some(value) => Estimate::defined(value, Interval { low: value, high: value }, String::new()),
            None => {
                let reason = estimates.iter().find_map(|estimates| estimates[place].reason.clone());
                Estimate::undefined(reason.unwrap_or_default(), String::new())
            }
        };
        let mut estimate = match way {
            Some((units, scale, instead)) => resampled(&plain, &distributions[place], scale, clusters, units, instead),
            None => auroc(&ranked, clusters, &first.classes()[positive]),
        };
        estimate.method += &format!(", of the mean over {} trainings", trainings.len());
        Repeated { estimate, deviation: deviation(&values), values }
    });
    Ok(repeated.collect())
}

fn deviation(values: &[Option<f64>]) -> Option<f64> {
    let values = values.iter().copied().collect::<Option<Vec<f64>>>()?;
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    (values.len() > 1).then(|| (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0)).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Clusters;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    fn generator(resample: u64) -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(resample)
    }

    /// 120 images of 60 patients; a training differs from another by its noise.
    fn training(noise: u64) -> Predictions {
        let mut random = ChaCha8Rng::seed_from_u64(noise);
        let labels: Vec<usize> = (0..120).map(|sample| usize::from(sample % 4 < 2)).collect();
        let scores: Vec<f32> =
            labels.iter().map(|&label| (0.6 * random.random::<f32>() + 0.4 * label as f32).clamp(0.0, 1.0)).collect();
        let predicted = scores.iter().map(|&score| usize::from(score > 0.5)).collect();
        let probabilities = scores.iter().flat_map(|&score| [1.0 - score, score]).collect();
        let patients: Vec<Option<String>> = (0..120).map(|sample| Some(format!("p{}", sample / 2))).collect();
        Predictions::new(vec!["infected".into(), "normal".into()], labels, predicted, probabilities)
            .and_then(|predictions| predictions.with_clusters(Clusters::of_patients(&patients)))
            .unwrap()
    }

    #[test]
    fn one_training_has_the_estimates_of_its_metrics() {
        let predictions = training(1);
        let metrics = Metrics::evaluate(&predictions, 0, &generator).unwrap();
        let repeated = RepeatedMetrics::evaluate(std::slice::from_ref(&predictions), 0, &generator).unwrap();
        assert_eq!(repeated.accuracy.estimate, metrics.accuracy);
        assert_eq!(repeated.auroc.estimate, metrics.probabilities.unwrap().auroc[0]);
        assert_eq!((repeated.f1[1].deviation, repeated.f1[1].values.len()), (None, 1));
    }

    #[test]
    fn the_mean_of_the_same_training_twice_is_that_training() {
        let predictions = training(1);
        let twice = RepeatedMetrics::evaluate(&[predictions.clone(), predictions.clone()], 0, &generator).unwrap();
        let once = RepeatedMetrics::evaluate(&[predictions], 0, &generator).unwrap();
        let kinds = |metrics: &RepeatedMetrics| {
            let RepeatedMetrics { accuracy, f1, sensitivity, specificity, auroc, auprc } = metrics.clone();
            [vec![accuracy, sensitivity, specificity, auroc, auprc], f1].concat()
        };
        for (twice, once) in kinds(&twice).iter().zip(&kinds(&once)) {
            assert_eq!((twice.estimate.value, twice.deviation), (once.estimate.value, Some(0.0)));
            let (twice, once) = (twice.estimate.interval().unwrap(), once.estimate.interval().unwrap());
            assert!((twice.low - once.low).abs() < 1e-12 && (twice.high - once.high).abs() < 1e-12);
        }
    }

    #[test]
    fn several_trainings_have_mean_and_deviation() {
        let trainings = [training(1), training(2), training(3)];
        let repeated = RepeatedMetrics::evaluate(&trainings, 0, &generator).unwrap();
        let values: Vec<f64> = repeated.accuracy.values.iter().map(|value| value.unwrap()).collect();
        let mean = values.iter().sum::<f64>() / 3.0;
        assert!((repeated.accuracy.estimate.value.unwrap() - mean).abs() < 1e-15);
        let expected = (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / 2.0).sqrt();
        assert!((repeated.accuracy.deviation.unwrap() - expected).abs() < 1e-15);
        let interval = repeated.accuracy.estimate.interval().unwrap();
        assert!(interval.low < mean && mean < interval.high);
        // Averaging over trainings takes their noise out.
        let widest = trainings.iter().map(|predictions| {
            let metrics = Metrics::evaluate(predictions, 0, &generator).unwrap();
            metrics.accuracy.interval().unwrap().width()
        });
        assert!(interval.width() < widest.fold(0.0, f64::max));
    }

    #[test]
    fn other_images_and_none_are_refused() {
        let mut other = training(2);
        other = other.subset(&(0..100).collect::<Vec<_>>());
        assert!(RepeatedMetrics::evaluate(&[training(1), other], 0, &generator).is_err());
        assert!(RepeatedMetrics::evaluate(&[], 0, &generator).is_err());
    }
}
