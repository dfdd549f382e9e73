//! The bootstrap: how statistics vary over samples drawn anew from the same patients (B. Efron and R. J. Tibshirani, An
//! Introduction to the Bootstrap, 1993; by clusters A. C. Davison and D. V. Hinkley, Bootstrap Methods, 1997, 3.8).

use crate::cluster::Clusters;
use crate::interval::{Interval, Scale, t_of, two_sided_p};
use rand::{Rng, RngExt};

/// How many resamples every standard error of this crate rests on: it is known to 1 in 60, intervals with it.
pub const RESAMPLES: usize = 2000;

/// The values that a statistic took over the resamples in which it is defined.
#[derive(Debug, Clone, PartialEq)]
pub struct Distribution {
    values: Vec<f64>,
}

/// Draws `resamples` times as many clusters as there are, with replacement, and gathers what `statistics` makes of each
/// draw.
///
/// Clusters are drawn whole, with all their images, so that what images of a patient have in common stays in the
/// variation. `statistics` is given how often each image was drawn, `[N]`, and returns the values of as many statistics
/// each time, `None` where one is undefined (a class that was not drawn). `generator(i)` is the source of randomness of
/// resample i alone, so that the result depends neither on the order of the resamples nor on what else is drawn.
///
/// # Panics
///
/// Where `statistics` returns another number of values than before.
pub fn bootstrap<R: Rng>(
    clusters: &Clusters,
    resamples: usize,
    generator: &impl Fn(u64) -> R,
    mut statistics: impl FnMut(&[u32]) -> Vec<Option<f64>>,
) -> Vec<Distribution> {
    let mut distributions: Vec<Distribution> = Vec::new();
    let mut drawn = vec![0; clusters.count()];
    let mut weights = vec![0; clusters.of_samples().len()];
    for resample in 0..resamples {
        let mut generator = generator(resample as u64);
        drawn.fill(0);
        for _ in 0..clusters.count() {
            drawn[generator.random_range(0..clusters.count())] += 1;
        }
        for (weight, &cluster) in weights.iter_mut().zip(clusters.of_samples()) {
            *weight = drawn[cluster];
        }
        let values = statistics(&weights);
        if resample == 0 {
            distributions = vec![Distribution { values: Vec::with_capacity(resamples) }; values.len()];
        }
        assert_eq!(values.len(), distributions.len(), "the number of statistics is fixed");
        for (distribution, value) in distributions.iter_mut().zip(values) {
            distribution.values.extend(value);
        }
    }
    distributions
}

impl Distribution {
    /// The interval of the statistic, whose value in 0 to 1 for the sample itself is `value`: of this `confidence`, made
    /// from [`Distribution::standard_error`] on `scale`. `None` where that is undefined or 0, or `value` is 0 or 1: such
    /// a sample does not say how sure it is.
    pub fn interval(&self, value: f64, scale: Scale, units: usize, confidence: f64) -> Option<Interval> {
        scale.interval(value, self.standard_error(units)?, units, confidence)
    }

    /// Of a difference, which is `value` for the sample itself: Student's interval of this `confidence`, and the two-sided
    /// p value of no difference. Where no resample differs from the sample, nothing else than `value` is possible, and
    /// the p value is 1. `None` where [`Distribution::standard_error`] is.
    pub fn difference(&self, value: f64, units: usize, confidence: f64) -> Option<(Interval, f64)> {
        let standard_error = self.standard_error(units)?;
        let half_width = t_of(confidence, units)? * standard_error;
        let p = if standard_error > 0.0 { two_sided_p(value / standard_error, units)? } else { 1.0 };
        Some((Interval { low: (value - half_width).max(-1.0), high: (value + half_width).min(1.0) }, p))
    }

    /// The standard error of the statistic: the standard deviation of its values, times the square root of n / (n - 1)
    /// for the n independent `units` that it rests on, since resamples of few vary too little (Efron and Tibshirani,
    /// 5.6). Exactly 0 where all values are the same; `None` of fewer than two units, or where the statistic was defined
    /// in fewer than two resamples.
    ///
    /// Intervals are made from this and not from percentiles, which near the ends of the scale leave out twice as many
    /// truths as they should.
    pub fn standard_error(&self, units: usize) -> Option<f64> {
        if units < 2 || self.values.len() < 2 {
            return None;
        }
        // The mean of equal numbers may be off by a rounding error, which is no variation.
        if self.values.iter().all(|value| *value == self.values[0]) {
            return Some(0.0);
        }
        let mean = self.values.iter().sum::<f64>() / self.values.len() as f64;
        let squares: f64 = self.values.iter().map(|value| (value - mean).powi(2)).sum();
        let variance = squares / (self.values.len() - 1) as f64;
        Some((variance * units as f64 / (units - 1) as f64).sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn the_standard_error_is_that_of_a_mean() {
        // Of eight numbers, the mean has the standard error s / sqrt(8), where s has the divisor 7.
        let numbers = [3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0];
        let clusters = Clusters::each_its_own(numbers.len());
        let distributions = bootstrap(&clusters, 40_000, &ChaCha8Rng::seed_from_u64, |weights| {
            let sum: f64 = numbers.iter().zip(weights).map(|(number, &weight)| number * f64::from(weight)).sum();
            vec![Some(sum / 8.0), Some(1.0 / 3.0), None]
        });
        let mean = numbers.iter().sum::<f64>() / 8.0;
        let variance = numbers.iter().map(|number| (number - mean).powi(2)).sum::<f64>() / 7.0;
        let found = distributions[0].standard_error(8).unwrap();
        assert!((found / (variance / 8.0).sqrt() - 1.0).abs() < 0.01, "{found}");
        assert_eq!(distributions[1].standard_error(8), Some(0.0));
        assert_eq!(distributions[2].standard_error(8), None);
        assert_eq!(distributions[0].standard_error(1), None);
        // Student's quantile for eight units, so far from 0 as the p value of 0.05 says.
        let (interval, p) = distributions[0].difference(2.364_624 * found, 8, 0.95).unwrap();
        assert!(interval.low.abs() < 1e-6 && (p - 0.05).abs() < 1e-6, "{interval:?}, {p}");
        assert_eq!(distributions[1].difference(0.0, 8, 0.95), Some((Interval { low: 0.0, high: 0.0 }, 1.0)));
    }

    #[test]
    fn clusters_are_drawn_whole_and_as_many_as_there_are() {
        let clusters = Clusters::of_patients(&[Some("a"), Some("b"), Some("a"), None]);
        let mut different = std::collections::HashSet::new();
        let distributions = bootstrap(&clusters, 50, &ChaCha8Rng::seed_from_u64, |weights| {
            assert_eq!(weights[0], weights[2]);
            assert_eq!(weights[0] + weights[1] + weights[3], 3);
            different.insert(weights.to_vec());
            vec![Some(f64::from(weights[0])), (weights[1] > 0).then_some(1.0)]
        });
        // Of the ten multisets of three clusters most come up.
        assert!(different.len() >= 8, "{different:?}");
        assert_eq!(distributions[0].values.len(), 50);
        assert!(distributions[1].values.len() < 50);
    }
}
