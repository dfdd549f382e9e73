//! What the scores of a class are worth at every threshold at once: the ROC and the precision-recall curve.

use crate::EvalError;

/// The images of a split by descending score of one class, each of which is either of this class (positive) or not.
///
/// One sort serves both curves, their areas, and the areas of every resample. Equal scores are one step of a curve: no
/// threshold tells them apart.
#[derive(Debug, Clone, PartialEq)]
pub struct RankedScores {
    /// Images by descending score.
    order: Vec<usize>,
    /// Steps of equal score, descending.
    steps: Vec<Step>,
    /// By image.
    positive: Vec<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Step {
    score: f32,
    /// Where the step's images end in the order.
    end: usize,
}

/// How many images have a score of at least some threshold: those called positive there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Called {
    pub(crate) positives: u64,
    pub(crate) negatives: u64,
}

/// A point of the ROC curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RocPoint {
    /// Images with a score of at least this are called positive; infinite at the curve's beginning, where none is.
    pub threshold: f32,
    /// Share of the negative images that are called positive, 0 to 1: one minus specificity.
    pub false_positive_rate: f64,
    /// Share of the positive images that are called positive, 0 to 1: sensitivity.
    pub true_positive_rate: f64,
}

/// A point of the precision-recall curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PrecisionRecallPoint {
    /// Images with a score of at least this are called positive.
    pub threshold: f32,
    /// Share of the positive images that are called positive, 0 to 1: sensitivity.
    pub recall: f64,
    /// Share of the images called positive that are, 0 to 1.
    pub precision: f64,
}

impl RankedScores {
    /// Sorts images by `scores`, any finite numbers, in O(n log n); `positive` says which are of the class. `[N]` each.
    ///
    /// # Errors
    ///
    /// No images, slices of different length, a score that is not finite.
    pub fn new(scores: &[f32], positive: &[bool]) -> Result<Self, EvalError> {
        if scores.is_empty() {
            return Err(EvalError::NoSamples);
        }
        if scores.len() != positive.len() {
            return Err(EvalError::Length { what: "scores", found: scores.len(), expected: positive.len() });
        }
        if let Some(sample) = scores.iter().position(|score| !score.is_finite()) {
            return Err(EvalError::ScoreNotFinite { sample, found: scores[sample] });
        }
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|&first, &second| scores[second].total_cmp(&scores[first]));
        let mut steps: Vec<Step> = Vec::new();
        for (index, &sample) in order.iter().enumerate() {
            let (score, end) = (scores[sample], index + 1);
            match steps.last_mut() {
                // By value, so that -0 ties with 0.
                Some(step) if step.score == score => step.end = end,
                _ => steps.push(Step { score, end }),
            }
        }
        Ok(Self { order, steps, positive: positive.to_vec() })
    }

    /// By image, whether it is of the class.
    pub fn positive(&self) -> &[bool] {
        &self.positive
    }

    /// How many images are positive and how many negative.
    pub(crate) fn totals(&self) -> Called {
        let positives = self.positive.iter().filter(|&&positive| positive).count() as u64;
        Called { positives, negatives: self.positive.len() as u64 - positives }
    }

    /// For each step its score, its images, and how many images are called positive there, image `i` counting
    /// `weight(i)` times.
    pub(crate) fn steps(&self, weight: impl Fn(usize) -> u64) -> impl Iterator<Item = (f32, &[usize], Called)> {
        let (mut begin, mut called) = (0, Called::default());
        self.steps.iter().map(move |step| {
            let samples = &self.order[begin..step.end];
            begin = step.end;
            for &sample in samples {
                match self.positive[sample] {
                    true => called.positives += weight(sample),
                    false => called.negatives += weight(sample),
                }
            }
            (step.score, samples, called)
        })
    }

    /// The ROC curve, from (0, 0) to (1, 1), a point for each step; `None` where all images are positive or none is.
    pub fn roc(&self) -> Option<Vec<RocPoint>> {
        let totals = self.totals();
        let point = |threshold, called: Called| RocPoint {
            threshold,
            false_positive_rate: called.negatives as f64 / totals.negatives as f64,
            true_positive_rate: called.positives as f64 / totals.positives as f64,
        };
        let steps = self.steps(|_| 1).map(|(score, _, called)| point(score, called));
        (totals.positives > 0 && totals.negatives > 0)
            .then(|| std::iter::once(point(f32::INFINITY, Called::default())).chain(steps).collect())
    }

    /// The precision-recall curve by descending threshold, a point for each step; `None` where no image is positive.
    pub fn precision_recall(&self) -> Option<Vec<PrecisionRecallPoint>> {
        let totals = self.totals();
        let point = |(threshold, _, called): (f32, _, Called)| PrecisionRecallPoint {
            threshold,
            recall: called.positives as f64 / totals.positives as f64,
            precision: called.positives as f64 / (called.positives + called.negatives) as f64,
        };
        (totals.positives > 0).then(|| self.steps(|_| 1).map(point).collect())
    }

    /// The area under the ROC curve, image `i` counting `weight(i)` times: the share of pairs of a positive and a
    /// negative image in which the positive has the larger score, equal scores counting half (Mann and Whitney's
    /// statistic). `None` where all that counts is positive or nothing is.
    pub fn auroc(&self, weight: impl Fn(usize) -> u64) -> Option<f64> {
        let (mut before, mut twice_right) = (Called::default(), 0_u128);
        for (_, _, called) in self.steps(weight) {
            let negatives = called.negatives - before.negatives;
            twice_right += u128::from(negatives) * u128::from(called.positives + before.positives);
            before = called;
        }
        let pairs = u128::from(before.positives) * u128::from(before.negatives);
        (pairs > 0).then(|| twice_right as f64 / (2 * pairs) as f64)
    }

    /// The area under the precision-recall curve, image `i` counting `weight(i)` times, as average precision: the sum
    /// over the steps of precision times the gain in recall, without interpolation between points (scikit-learn's
    /// `average_precision_score`). Scores that tell nothing give the share of positives. `None` where nothing that
    /// counts is positive.
    pub fn average_precision(&self, weight: impl Fn(usize) -> u64) -> Option<f64> {
        let (mut before, mut sum) = (0, 0.0);
        for (_, _, called) in self.steps(weight) {
            let gained = called.positives - before;
            if gained > 0 {
                sum += gained as f64 * called.positives as f64 / (called.positives + called.negatives) as f64;
            }
            before = called.positives;
        }
        (before > 0).then(|| sum / before as f64)
    }
}
