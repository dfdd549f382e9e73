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

/// Resamples for each test of a table. A bootstrap's p value is hardly ever below 2 / (resamples + 1); with so many,
/// the smallest possible one stays five times below [`SIGNIFICANCE`] when Holm's correction multiplies it by the tests.
const RESAMPLES_A_TEST: usize = 200;

/// No table has more resamples: what they take, in time and memory, grows with the square of its tests. Beyond 100 tests
/// a bootstrap's p value may then be too coarse to hold after the correction, and the differences that rest on exact tests
/// (accuracy of independent images, areas) decide.
const MOST_RESAMPLES: usize = 20_000;

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

/// McNemar's test for a pair of models.
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
/// `models` are two or more names with predictions for the same images, in the same order. Accuracy is tested by
/// McNemar's exact test where images are independent, and by a paired bootstrap by patient where patients have several;
/// F1 by a paired bootstrap; areas by DeLong's test, by patient where need be. Intervals of accuracy and F1 are paired
/// percentile bootstraps. All p values of the table are corrected together by Holm's method. `generator(i)` is the
/// randomness of resample i; see [`crate::bootstrap`].
///
/// # Errors
///
/// Fewer than two models, models that differ in classes, images or labels, `positive` is no class.
pub fn differences<R: Rng>(
    models: &[(&str, &Predictions)],
    positive: usize,
    generator: &impl Fn(u64) -> R,
) -> Result<Differences, EvalError> {
    check_models(models, positive)?;
    let (_, reference) = models[0];
    let clusters = reference.clusters();
    let pairs: Vec<(usize, usize)> =
        (0..models.len()).flat_map(|first| (first + 1..models.len()).map(move |second| (first, second))).collect();
    let resamples = (RESAMPLES_A_TEST * ComparedMetric::ALL.len() * pairs.len()).clamp(RESAMPLES, MOST_RESAMPLES);

    let decided: Vec<Decisions> = models.iter().map(|(_, predictions)| Decisions::of(predictions, positive)).collect();
    let distributions = bootstrap(clusters, resamples, generator, |weights| {
        let scores: Vec<_> = decided.iter().map(|decisions| decisions.scores(|sample| weights[sample])).collect();
        let difference = |first: Option<f64>, second: Option<f64>| Some(second? - first?);
        let of_pair = |&(first, second): &(usize, usize)| {
            let (a, b): (&[Option<f64>; 2], &[Option<f64>; 2]) = (&scores[first], &scores[second]);
            [difference(a[0], b[0]), difference(a[1], b[1])]
        };
        pairs.iter().flat_map(of_pair).collect()
    });
    let scores: Vec<[Option<f64>; 2]> = decided.iter().map(|decisions| decisions.scores(|_| 1)).collect();
    let ranked = (models.iter())
        .map(|(_, predictions)| RankedScores::new(&predictions.scores(positive), &predictions.is_of(positive)))
        .collect::<Result<Vec<_>, _>>()?;

    let unit = if clusters.hold_several() { "patient" } else { "image" };
    let resampling = format!("paired percentile bootstrap by {unit}, {resamples} resamples");
    let with_positive = clusters.count_with(|sample| reference.labels()[sample] == positive);
    let no_positive = || format!("no image of `{}`", reference.classes()[positive]);
    let (mut errors, mut differences) = (Vec::new(), Vec::new());
    for (index, &(first, second)) in pairs.iter().enumerate() {
        let pair = |metric, values, effect: Result<Effect, String>, method: String| {
            let (effect, reason) = effect.map_or_else(|reason| (None, Some(reason)), |effect| (Some(effect), None));
            Difference { metric, first, second, values, effect, method, reason }
        };
        let paired_errors = decided[first].against(&decided[second]);
        errors.push(PairedErrors { first, second, mcnemar: paired_errors });
        for (place, metric) in [ComparedMetric::Accuracy, ComparedMetric::F1].into_iter().enumerate() {
            let values = [scores[first][place], scores[second][place]];
            let distribution = &distributions[2 * index + place];
            let units = if metric == ComparedMetric::F1 { with_positive } else { clusters.count() };
            let exact = metric == ComparedMetric::Accuracy && !clusters.hold_several();
            let effect = (|| {
                let difference = values[1]? - values[0]?;
                let Interval { low, high } = distribution.percentile_interval(CONFIDENCE, units)?;
                let p = if exact { paired_errors.p } else { distribution.p_value(units)? };
                let (low, high) = (low.min(difference), high.max(difference));
                Some(Effect { difference, low, high, p, corrected_p: p })
            })();
            let method = match exact {
                true => format!("McNemar's exact test; interval: {resampling}"),
                false => resampling.clone(),
            };
            differences.push(pair(metric, values, effect.ok_or_else(no_positive), method));
        }
        let values = [&ranked[first], &ranked[second]].map(|ranked| ranked.auroc(|_| 1));
        let effect = delong_test(&ranked[first], &ranked[second], clusters).map(|test| {
            let Interval { low, high } = test.interval(CONFIDENCE);
            let (low, high) = (low.max(-1.0), high.min(1.0));
            Effect { difference: test.difference, low, high, p: test.p, corrected_p: test.p }
        });
        let method = match clusters.hold_several() {
            true => "DeLong's test by patient (Obuchowski 1997)",
            false => "DeLong's test",
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
        positive: reference.classes()[positive].clone(),
        images: reference.samples() as u64,
        patients: clusters.patients(),
        by_patient: clusters.hold_several(),
        errors,
        differences,
    })
}

fn check_models(models: &[(&str, &Predictions)], positive: usize) -> Result<(), EvalError> {
    let [(first, reference), others @ ..] = models else { return Err(EvalError::TooFewModels { found: 0 }) };
    if others.is_empty() {
        return Err(EvalError::TooFewModels { found: 1 });
    }
    let classes = reference.classes().len();
    if positive >= classes {
        return Err(EvalError::PositiveOutOfRange { found: positive, classes });
    }
    for (name, predictions) in others {
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
        return Err(EvalError::ModelsDiffer { first: (*first).to_owned(), second: (*name).to_owned(), what });
    }
    Ok(())
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
