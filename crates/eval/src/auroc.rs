//! How sure an area under the ROC curve is, and whether two of them differ.

use crate::cluster::Clusters;
use crate::curve::RankedScores;
use crate::estimate::Estimate;
use crate::interval::{CONFIDENCE, Interval, Scale, t_of, two_sided_p, z_of};
use serde::Serialize;

/// How [`auroc`] gets its interval.
const DELONG: &str = "DeLong's variance, 95 %, on the logit scale, Student's quantile";
const DELONG_BY_PATIENT: &str =
    "DeLong's variance by patient (Obuchowski 1997), 95 %, on the logit scale, Student's quantile";
/// What stands in where DeLong's variance is 0 or unknown.
const NEWCOMBE: &str = "Newcombe's score method 5, 95 %, as the sample shows no variation";

/// Each image's share of the area under a ROC curve: for a positive image the share of negatives with a smaller score,
/// for a negative the share of positives with a larger one, equal scores counting half.
pub(crate) struct Placements {
    pub(crate) auroc: f64,
    /// By image.
    shares: Vec<f64>,
    positives: f64,
    negatives: f64,
}

impl Placements {
    /// In one pass over the sorted images, which gives what the midranks of X. Sun and W. Xu (IEEE Signal Processing
    /// Letters 21, 2014, 1389) give; `None` where all images are positive or none is.
    pub(crate) fn new(ranked: &RankedScores) -> Option<Self> {
        let auroc = ranked.auroc(|_| 1)?;
        let totals = ranked.totals();
        let (positives, negatives) = (totals.positives as f64, totals.negatives as f64);
        let mut shares = vec![0.0; ranked.positive().len()];
        let (mut positives_before, mut negatives_before) = (0, 0);
        for (_, samples, called) in ranked.steps(|_| 1) {
            let of_positive = 1.0 - (negatives_before + called.negatives) as f64 / 2.0 / negatives;
            let of_negative = (positives_before + called.positives) as f64 / 2.0 / positives;
            for &sample in samples {
                shares[sample] = if ranked.positive()[sample] { of_positive } else { of_negative };
            }
            (positives_before, negatives_before) = (called.positives, called.negatives);
        }
        Some(Self { auroc, shares, positives, negatives })
    }

    /// The means of these shares over several trainings on the same images, which are the shares of the mean of their
    /// areas: a mean of areas is a statistic of the same kind. `None` as [`Placements::new`].
    fn mean(trainings: &[RankedScores]) -> Option<Self> {
        let (first, others) = trainings.split_first()?;
        let mut sum = Self::new(first)?;
        for other in others {
            assert_eq!(first.positive(), other.positive(), "all trainings have answered for the same images");
            let other = Self::new(other)?;
            sum.auroc += other.auroc;
            sum.shares.iter_mut().zip(other.shares).for_each(|(sum, share)| *sum += share);
        }
        let count = trainings.len() as f64;
        sum.auroc /= count;
        sum.shares.iter_mut().for_each(|share| *share /= count);
        Some(sum)
    }

    /// Sums of the shares' deviations by cluster: of positive images, and of negative ones.
    fn deviations(&self, positive: &[bool], clusters: &Clusters) -> Vec<[f64; 2]> {
        let mut sums = vec![[0.0; 2]; clusters.count()];
        for (sample, &cluster) in clusters.of_samples().iter().enumerate() {
            sums[cluster][usize::from(!positive[sample])] += self.shares[sample] - self.auroc;
        }
        sums
    }
}

/// Covariance of two areas under ROC curves over the same images (E. R. DeLong, D. M. DeLong and D. L. Clarke-Pearson,
/// Biometrics 44, 1988, 837; for clusters of several images N. A. Obuchowski, Biometrics 53, 1997, 567, which is the
/// same where each image is its own cluster). The variance, where both are one.
///
/// `None` where fewer than two clusters hold a positive image, or a negative one.
pub(crate) fn covariance(
    first: &Placements,
    second: &Placements,
    positive: &[bool],
    clusters: &Clusters,
) -> Option<f64> {
    let (positives, negatives) = (first.positives, first.negatives);
    let with = sides(positive, clusters);
    // The n / (n - 1) of an unbiased variance.
    let unbiased = |count: usize| (count > 1).then(|| count as f64 / (count - 1) as f64);
    let factors = [unbiased(with[0])?, unbiased(with[1])?, unbiased(clusters.count())?];
    let mut sums = [0.0; 3];
    for (a, b) in first.deviations(positive, clusters).into_iter().zip(second.deviations(positive, clusters)) {
        sums[0] += a[0] * b[0];
        sums[1] += a[1] * b[1];
        sums[2] += a[0] * b[1] + a[1] * b[0];
    }
    Some(
        factors[0] * sums[0] / (positives * positives)
            + factors[1] * sums[1] / (negatives * negatives)
            + factors[2] * sums[2] / (positives * negatives),
    )
}

/// The area under the ROC curve of one class's scores with its 95 % interval, or the mean area of several trainings on
/// the same images; undefined where all images are of the class or none is, which `name` then calls by its name.
///
/// The interval is DeLong's, by cluster where clusters hold several images, on [`Scale::Logit`], with
/// Student's quantile for the number of clusters on the side with fewer. Where the sample shows no
/// variation, as when the classes are told apart without error, it is Newcombe's score interval instead.
///
/// # Panics
///
/// Where there is no training, or trainings are of different images.
pub fn auroc(trainings: &[RankedScores], clusters: &Clusters, name: &str) -> Estimate {
    let method = if clusters.hold_several() { DELONG_BY_PATIENT } else { DELONG };
    let Some(placements) = Placements::mean(trainings) else {
        let reason = match trainings[0].totals().positives {
            0 => format!("no image of `{name}`"),
            _ => format!("no image of another class than `{name}`"),
        };
        return Estimate::undefined(reason, method);
    };
    let positive = trainings[0].positive();
    let value = placements.auroc;
    let variance = covariance(&placements, &placements, positive, clusters).unwrap_or(0.0);
    let [positives, negatives] = sides(positive, clusters);
    match Scale::Logit.interval(value, variance.max(0.0).sqrt(), positives.min(negatives), CONFIDENCE) {
        Some(interval) => Estimate::defined(value, interval, method),
        None => Estimate::defined(value, newcombe(value, positives, negatives), NEWCOMBE),
    }
}

/// How many clusters hold a positive image, and how many a negative one.
fn sides(positive: &[bool], clusters: &Clusters) -> [usize; 2] {
    [true, false].map(|side| clusters.count_with(|sample| positive[sample] == side))
}

/// The 95 % interval of an area of `value` over so many independent positive and negative images: the areas from which
/// `value` lies no further than z standard errors, where the standard error is that of the candidate area (method 5 of
/// R. G. Newcombe, Statistics in Medicine 25, 2006, 559, after Hanley and McNeil).
pub(crate) fn newcombe(value: f64, positives: usize, negatives: usize) -> Interval {
    let (m, n) = (positives as f64, negatives as f64);
    let mean = (m + n) / 2.0 - 1.0;
    let variance = |area: f64| {
        area * (1.0 - area) * (1.0 + mean * (1.0 - area) / (2.0 - area) + mean * area / (1.0 + area)) / (m * n)
    };
    let z = z_of(CONFIDENCE);
    let excluded = |area: f64| (value - area).powi(2) > z * z * variance(area);
    // From an end of the scale, which is excluded or is `value` itself, to `value`, which is not.
    let bound = |end: f64| {
        let (mut outside, mut inside) = (end, value);
        for _ in 0..60 {
            let middle = (outside + inside) / 2.0;
            if excluded(middle) { outside = middle } else { inside = middle }
        }
        inside
    };
    Interval { low: bound(0.0), high: bound(1.0) }
}

/// The difference of two areas under ROC curves over the same images, and whether it could be chance.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AurocDifference {
    /// Area of the second less area of the first.
    pub difference: f64,
    /// Standard error of the difference.
    pub standard_error: f64,
    /// How many clusters there are; one less are Student's degrees of freedom.
    pub units: usize,
    /// Two-sided p value of no difference.
    pub p: f64,
}

impl AurocDifference {
    /// The interval of the difference, -1 to 1.
    pub fn interval(&self, confidence: f64) -> Interval {
        let quantile = t_of(confidence, self.units).expect("a variance is of two clusters on each side at least");
        let half_width = quantile * self.standard_error;
        Interval { low: (self.difference - half_width).max(-1.0), high: (self.difference + half_width).min(1.0) }
    }
}

/// DeLong's test: do two models' scores, for the same images and class, have different areas under their ROC curves? By
/// cluster (Obuchowski 1997) where clusters hold several images. A model is one training or several, whose areas are
/// then averaged.
///
/// Both papers take the difference over its standard error for normal, which is too sure of few clusters: here it is
/// Student's, with one degree of freedom less than there are clusters.
///
/// # Errors
///
/// In words, why the test is undefined: a class is absent or has images of one patient alone, or the scores of both
/// models show no variation.
///
/// # Panics
///
/// Where a model has no training, or some are of different images.
pub fn delong_test(
    first: &[RankedScores],
    second: &[RankedScores],
    clusters: &Clusters,
) -> Result<AurocDifference, String> {
    let positive = first[0].positive();
    assert_eq!(positive, second[0].positive(), "both models have answered for the same images");
    let one_class = || "the images are all of one side".to_owned();
    let (a, b) = (Placements::mean(first).ok_or_else(one_class)?, Placements::mean(second).ok_or_else(one_class)?);
    let single_patient = || "one side has images of a single patient only".to_owned();
    let covariance = |a, b| covariance(a, b, positive, clusters).ok_or_else(single_patient);
    let variance = covariance(&a, &a)? + covariance(&b, &b)? - 2.0 * covariance(&a, &b)?;
    let difference = b.auroc - a.auroc;
    // Equal models leave a rounding error, which may be negative.
    let standard_error = variance.max(0.0).sqrt();
    let negligible = standard_error < 1e-9;
    if negligible && difference != 0.0 {
        return Err("neither model's scores show any variation to judge the difference by".into());
    }
    let units = clusters.count();
    let p = match negligible {
        true => 1.0,
        false => two_sided_p(difference / standard_error, units).ok_or_else(single_patient)?,
    };
    Ok(AurocDifference { difference, standard_error, units, p })
}
