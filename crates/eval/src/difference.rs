//! Which differences between models hold, and which are noise.

use crate::EvalError;
use crate::auroc::delong_test;
use crate::bootstrap::{RESAMPLES, bootstrap};
use crate::class_metric::ClassMetric;
use crate::confusion::Outcomes;
use crate::curve::RankedScores;
use crate::holm::holm;
use crate::interval::{CONFIDENCE, Interval};
use crate::mcnemar::{McNemar, mcnemar};
use crate::predictions::Predictions;
use rand::Rng;
use serde::Serialize;
use std::fmt;

/// A difference is said to hold where its corrected p value is below this.
pub const SIGNIFICANCE: f64 = 0.05;

/// What two models are compared by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ComparedMetric {
    /// Share of images that were called what they are.
    Accuracy,
    /// F1 of the positive class.
    F1,
    /// Area under the ROC curve of the positive class.
    Auroc,
}

impl ComparedMetric {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 3] = [Self::Accuracy, Self::F1, Self::Auroc];
}

/// The name that users read.
impl fmt::Display for ComparedMetric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Accuracy => "accuracy",
            Self::F1 => "F1",
            Self::Auroc => "AUROC",
        })
    }
}

/// How two models differ in a metric on the same images.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// What they are compared by.
    pub metric: ComparedMetric,
    /// Index of the first model.
    pub first: usize,
    /// Index of the second model, more than `first`.
    pub second: usize,
    /// The metric of the first and of the second model; `None` where undefined.
    pub values: [Option<f64>; 2],
    /// The second's value less the first's, with what is known of it; `None` where undefined.
    pub effect: Option<Effect>,
    /// How interval and p value come about.
    pub method: String,
    /// Why the difference is undefined; `None` where it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The size of a difference, and whether it could be chance.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Effect {
    /// The second model's value less the first's, -1 to 1.
    pub difference: f64,
    /// Lower bound of its 95 % interval, for this difference alone.
    pub low: f64,
    /// Upper bound.
    pub high: f64,
    /// Two-sided p value of no difference, for this difference alone.
    pub p: f64,
    /// The p value after Holm's correction over all differences of the table.
    pub corrected_p: f64,
}

impl Effect {
    /// Whether the difference holds: the corrected p value is below [`SIGNIFICANCE`].
    pub fn holds(&self) -> bool {
        self.corrected_p < SIGNIFICANCE
    }
}

/// McNemar's test for a pair of models. It takes one answer an image, so a model of several trainings stands for their
/// ensemble: the class of the largest mean probability.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PairedErrors {
    /// Index of the first model.
    pub first: usize,
    /// Index of the second model, more than `first`.
    pub second: usize,
    /// On how many images one alone is right; the p value stands for itself, uncorrected.
    #[serde(flatten)]
    pub mcnemar: McNemar,
}

/// All pairs of some models, compared on the same images.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Differences {
    /// The models' names, in the order of the indices.
    pub models: Vec<String>,
    /// How many trainings each model is, in the same order.
    pub trainings: Vec<usize>,
    /// The positive class.
    pub positive: String,
    /// How many images they were compared on.
    pub images: u64,
    /// Their patients, where all are known.
    pub patients: Option<u64>,
    /// Whether some patient has several images, so that patients and not images are taken as independent.
    pub by_patient: bool,
    /// McNemar's test of each pair, images taken as independent.
    pub errors: Vec<PairedErrors>,
    /// Each pair in each metric: the pairs in order, within a pair the metrics in order.
    pub differences: Vec<Difference>,
}

/// Compares every model with every other, by accuracy, F1 and area under the ROC curve of the class `positive`.
///
/// `models` are two or more names with the predictions of one training or several, all for the same images in the same
/// order. A model of several trainings is compared by the mean of their metrics, as [`crate::RepeatedMetrics`] has it.
///
/// Standard errors of differences in accuracy and F1 are of a paired bootstrap by patient, the same resamples for all
/// trainings of all models; p values and intervals are Student's. Two single trainings on independent images have
/// McNemar's exact test for their accuracies instead. Areas have DeLong's test, by patient where need be. All p values
/// of the table are corrected together by Holm's method. `generator(i)` is the randomness of resample i; see
/// [`crate::bootstrap`].
///
/// What is tested is the chance in which images and patients the split holds. The chance in the training itself is in
/// the deviations of [`crate::Repeated`].
///
/// # Errors
///
/// Fewer than two models, a model without training, trainings that differ in classes, images or labels, `positive` is
/// no class.
pub fn differences<R: Rng>(
    models: &[(&str, &[Predictions])],
    positive: usize,
    generator: &impl Fn(u64) -> R,
) -> Result<Differences, EvalError> {
    let reference = check_models(models, positive)?;
    let clusters = reference.clusters();
    let pairs: Vec<(usize, usize)> =
        (0..models.len()).flat_map(|first| (first + 1..models.len()).map(move |second| (first, second))).collect();
    let decided: Vec<Vec<Decisions>> = (models.iter())
        .map(|(_, trainings)| trainings.iter().map(|training| Decisions::of(training, positive)).collect())
        .collect();
    let distributions = bootstrap(clusters, RESAMPLES, generator, |weights| {
        let scores: Vec<_> = decided.iter().map(|trainings| mean_scores(trainings, |i| weights[i])).collect();
        let difference =
            |place: usize, first: usize, second: usize| Some(scores[second][place]? - scores[first][place]?);
        pairs.iter().flat_map(|&(first, second)| [0, 1].map(|place| difference(place, first, second))).collect()
    });
    let scores: Vec<[Option<f64>; 2]> = decided.iter().map(|trainings| mean_scores(trainings, |_| 1)).collect();
    let rank = |training: &Predictions| RankedScores::new(&training.scores(positive), &training.is_of(positive));
    let ranked = (models.iter())
        .map(|(_, trainings)| trainings.iter().map(rank).collect::<Result<Vec<_>, _>>())
        .collect::<Result<Vec<_>, _>>()?;
    let ensembles = (models.iter())
        .map(|(_, trainings)| Ok(Decisions::of(&Predictions::mean(trainings)?, positive)))
        .collect::<Result<Vec<_>, EvalError>>()?;

    let unit = if clusters.hold_several() { "patient" } else { "image" };
    let resampling = format!("paired bootstrap by {unit}, {RESAMPLES} resamples, Student's t");
    let (mut errors, mut differences) = (Vec::new(), Vec::new());
    for (index, &(first, second)) in pairs.iter().enumerate() {
        let pair = |metric, values, effect: Result<Effect, String>, method: String| {
            let (effect, reason) = effect.map_or_else(|reason| (None, Some(reason)), |effect| (Some(effect), None));
            Difference { metric, first, second, values, effect, method, reason }
        };
        let mcnemar = ensembles[first].against(&ensembles[second]);
        errors.push(PairedErrors { first, second, mcnemar });
        let single = models[first].1.len() == 1 && models[second].1.len() == 1;
        for (place, metric) in [ComparedMetric::Accuracy, ComparedMetric::F1].into_iter().enumerate() {
            let values = [scores[first][place], scores[second][place]];
            let effect = (|| {
                let difference = values[1]? - values[0]?;
                let resampled = distributions[2 * index + place].difference(difference, clusters.count(), CONFIDENCE);
                let (Interval { low, high }, p) = resampled?;
                Some(Effect { difference, low, high, p, corrected_p: p })
            })();
            let exact = metric == ComparedMetric::Accuracy && single && !clusters.hold_several();
            let (effect, method) = match exact {
                true => (
                    effect.map(|effect| Effect { p: mcnemar.p, corrected_p: mcnemar.p, ..effect }),
                    format!("McNemar's exact test; interval: {resampling}"),
                ),
                false => (effect, resampling.clone()),
            };
            let undefined = || match values {
                [Some(_), Some(_)] => format!("all images are of one {unit}"),
                _ => format!("no image of `{}`", reference.classes()[positive]),
            };
            differences.push(pair(metric, values, effect.ok_or_else(undefined), method));
        }
        let values = [first, second].map(|model| mean(ranked[model].iter().map(|ranked| ranked.auroc(|_| 1))));
        let effect = delong_test(&ranked[first], &ranked[second], clusters).map(|test| {
            let Interval { low, high } = test.interval(CONFIDENCE);
            Effect { difference: test.difference, low, high, p: test.p, corrected_p: test.p }
        });
        let method = match clusters.hold_several() {
            true => "DeLong's test by patient (Obuchowski 1997), Student's t",
            false => "DeLong's test, Student's t",
        };
        differences.push(pair(ComparedMetric::Auroc, values, effect, method.to_owned()));
    }
    let p_values: Vec<f64> = differences.iter().filter_map(|difference| Some(difference.effect?.p)).collect();
    let effects = differences.iter_mut().filter_map(|difference| difference.effect.as_mut());
    for (effect, corrected_p) in effects.zip(holm(&p_values)) {
        effect.corrected_p = corrected_p;
    }
    Ok(Differences {
        models: models.iter().map(|(name, _)| (*name).to_owned()).collect(),
        trainings: models.iter().map(|(_, trainings)| trainings.len()).collect(),
        positive: reference.classes()[positive].clone(),
        images: reference.samples() as u64,
        patients: clusters.patients(),
        by_patient: clusters.hold_several(),
        errors,
        differences,
    })
}

/// Accuracy and F1, each the mean over the trainings, image `i` counting `weight(i)` times.
fn mean_scores(trainings: &[Decisions], weight: impl Fn(usize) -> u32) -> [Option<f64>; 2] {
    let each: Vec<[Option<f64>; 2]> = trainings.iter().map(|decisions| decisions.scores(&weight)).collect();
    [0, 1].map(|place| mean(each.iter().map(|scores| scores[place])))
}

/// `None` where one is.
fn mean(values: impl ExactSizeIterator<Item = Option<f64>>) -> Option<f64> {
    let count = values.len() as f64;
    values.sum::<Option<f64>>().map(|sum| sum / count)
}

/// Checks that all trainings have answered for the same images; gives the first.
fn check_models<'a>(models: &[(&str, &'a [Predictions])], positive: usize) -> Result<&'a Predictions, EvalError> {
    let mut trainings = models.iter().flat_map(|(name, trainings)| trainings.iter().map(move |one| (*name, one)));
    let found = models.iter().filter(|(_, trainings)| !trainings.is_empty()).count();
    let Some((first, reference)) = trainings.next().filter(|_| found > 1 && found == models.len()) else {
        return Err(EvalError::TooFewModels { found });
    };
    let classes = reference.classes().len();
    if positive >= classes {
        return Err(EvalError::PositiveOutOfRange { found: positive, classes });
    }
    for (name, predictions) in trainings {
        let what = if predictions.classes() != reference.classes() {
            format!("classes: {} against {}", reference.classes().join(", "), predictions.classes().join(", "))
        } else if predictions.samples() != reference.samples() {
            format!("number of images: {} against {}", reference.samples(), predictions.samples())
        } else if let Some(sample) =
            (0..reference.samples()).find(|&i| reference.labels()[i] != predictions.labels()[i])
        {
            format!("label of sample {sample}")
        } else if predictions.clusters() != reference.clusters() {
            "patients of the images".to_owned()
        } else {
            continue;
        };
        return Err(EvalError::ModelsDiffer { first: first.to_owned(), second: name.to_owned(), what });
    }
    Ok(reference)
}

/// What a model decided about each image.
struct Decisions {
    /// Whether it was called what it is.
    right: Vec<bool>,
    /// Whether it is of the positive class, and whether it was called so.
    positive: Vec<(bool, bool)>,
}

impl Decisions {
    fn of(predictions: &Predictions, positive: usize) -> Self {
        let pairs = || predictions.labels().iter().zip(predictions.predicted());
        Self {
            right: pairs().map(|(label, predicted)| label == predicted).collect(),
            positive: pairs().map(|(&label, &predicted)| (label == positive, predicted == positive)).collect(),
        }
    }

    /// Accuracy and F1, image `i` counting `weight(i)` times.
    fn scores(&self, weight: impl Fn(usize) -> u32) -> [Option<f64>; 2] {
        let (mut right, mut total) = (0_u64, 0_u64);
        let mut counts = [0_u64; 4];
        for (sample, (&is_right, &(is, called))) in self.right.iter().zip(&self.positive).enumerate() {
            let weight = u64::from(weight(sample));
            total += weight;
            right += weight * u64::from(is_right);
            counts[2 * usize::from(is) + usize::from(called)] += weight;
        }
        let [true_negative, false_positive, false_negative, true_positive] = counts;
        let outcomes = Outcomes { true_positive, false_negative, false_positive, true_negative };
        [(total > 0).then(|| right as f64 / total as f64), ClassMetric::F1.value(outcomes)]
    }

    fn against(&self, second: &Self) -> McNemar {
        let alone = |one: &Self, other: &Self| {
            one.right.iter().zip(&other.right).filter(|&(&one, &other)| one && !other).count() as u64
        };
        mcnemar(alone(self, second), alone(second, self))
    }
}
