//! The bootstrap: how statistics vary over samples drawn anew from the same patients (B. Efron and R. J. Tibshirani, An
//! Introduction to the Bootstrap, 1993; by clusters A. C. Davison and D. V. Hinkley, Bootstrap Methods, 1997, 3.8).

use crate::cluster::Clusters;
use crate::interval::Interval;
use rand::{Rng, RngExt};
use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

/// How many resamples the intervals of [`crate::Metrics`] rest on.
pub const RESAMPLES: usize = 2000;

/// The values that a statistic took over the resamples in which it is defined, ascending.
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
    for distribution in &mut distributions {
        distribution.values.sort_unstable_by(f64::total_cmp);
    }
    distributions
}

impl Distribution {
    /// The percentile interval: between the quantiles that leave equal shares on both sides, a resample on each side
    /// taken for what lies beyond all of them (Davison and Hinkley, 5.2.1). `None` where the statistic was defined in
    /// no resample.
    ///
    /// `units` is on how many clusters the statistic rests. Resamples of few vary too little, and normal quantiles take
    /// them for many: the interval is expanded to quantiles with which that of a mean has the width of Student's (T. C.
    /// Hesterberg, The American Statistician 69, 2015, 371). From some hundred units on this changes little.
    pub fn percentile_interval(&self, confidence: f64, units: usize) -> Option<Interval> {
        let outside = match Expansion::of(units) {
            Some(expansion) => expansion.normal_tail((1.0 - confidence) / 2.0),
            None => 0.0,
        };
        Some(Interval { low: self.quantile(outside)?, high: self.quantile(1.0 - outside)? })
    }

    /// Whether all values are the same one, so that they say nothing about how sure it is.
    pub fn is_constant(&self) -> bool {
        self.values.first() == self.values.last()
    }

    /// Two-sided p value of the hypothesis that the statistic is 0: from twice the smaller share of resamples on one
    /// side of 0, those at 0 included, the sample itself counted as one more; expanded for the number of `units` as the
    /// interval is, so that both say the same. At most 1; `None` where the statistic was defined in no resample.
    pub fn p_value(&self, units: usize) -> Option<f64> {
        let at_most = self.values.partition_point(|&value| value <= 0.0);
        let at_least = self.values.len() - self.values.partition_point(|&value| value < 0.0);
        let share = (at_most.min(at_least) + 1) as f64 / (self.values.len() + 1) as f64;
        if self.values.is_empty() {
            return None;
        }
        Some(match Expansion::of(units) {
            Some(expansion) if share < 0.5 => 2.0 * expansion.student_tail(share),
            _ => 1.0,
        })
    }

    fn quantile(&self, share: f64) -> Option<f64> {
        let last = self.values.len().checked_sub(1)?;
        let place = (share * (self.values.len() + 1) as f64 - 1.0).clamp(0.0, last as f64);
        let below = self.values[place.floor() as usize];
        Some(below + (self.values[place.ceil() as usize] - below) * place.fract())
    }
}

/// How tail probabilities of resampled means, which are about normal, and Student's go together.
struct Expansion {
    /// `None` where the two are the same to four digits.
    student: Option<StudentsT>,
    /// How much less resampled means of so many units vary than means of samples are estimated to.
    shrinkage: f64,
}

impl Expansion {
    /// Units from which nothing is expanded.
    const MANY: usize = 10_000;

    /// `None` of fewer than two units, which tell nothing.
    fn of(units: usize) -> Option<Self> {
        let freedom = units.checked_sub(1).filter(|&freedom| freedom > 0)? as f64;
        let student = StudentsT::new(0.0, 1.0, freedom).expect("positive degrees of freedom");
        let shrinkage = (freedom / units as f64).sqrt();
        match units < Self::MANY {
            true => Some(Self { student: Some(student), shrinkage }),
            false => Some(Self { student: None, shrinkage: 1.0 }),
        }
    }

    /// Student's tail probability where the resampled means leave `tail`, less than a half.
    fn student_tail(&self, tail: f64) -> f64 {
        let z = Normal::standard().inverse_cdf(tail);
        self.student.as_ref().map_or(tail, |student| student.cdf(z * self.shrinkage))
    }

    /// What the resampled means must leave for Student's tail probability to be `tail`, less than a half: the inverse
    /// of [`Expansion::student_tail`], by bisection.
    fn normal_tail(&self, tail: f64) -> f64 {
        let (mut low, mut high) = (0.0, tail);
        if self.student.is_none() {
            return tail;
        }
        for _ in 0..60 {
            let middle = (low + high) / 2.0;
            if self.student_tail(middle) < tail { low = middle } else { high = middle }
        }
        high
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    const MANY: usize = Expansion::MANY;

    #[test]
    fn quantiles_are_interpolated_and_sides_counted() {
        let distribution = Distribution { values: (1..=39).map(f64::from).collect() };
        let interval = distribution.percentile_interval(0.95, MANY).unwrap();
        assert!((interval.low - 1.0).abs() < 1e-6 && (interval.high - 39.0).abs() < 1e-6, "{interval:?}");
        let interval = distribution.percentile_interval(0.75, MANY).unwrap();
        assert!((interval.low - 5.0).abs() < 1e-6 && (interval.high - 35.0).abs() < 1e-6, "{interval:?}");
        let shifted = Distribution { values: (1..=39).map(|value| f64::from(value) - 2.0).collect() };
        // -1 and 0 are at most 0, and the sample itself.
        assert!((shifted.p_value(MANY).unwrap() - 2.0 * 3.0 / 40.0).abs() < 1e-6);
        assert_eq!(Distribution { values: vec![0.0; 9] }.p_value(MANY), Some(1.0));
        assert_eq!(Distribution { values: vec![] }.p_value(MANY), None);
        assert_eq!(Distribution { values: vec![] }.percentile_interval(0.95, MANY), None);
    }

    #[test]
    fn few_units_widen_the_interval_to_student_s() {
        // Resampled means of n values vary by sqrt((n - 1) / n) of the standard error that Student's interval takes.
        let (units, error) = (8_usize, 1.0);
        let spread = error * (7.0_f64 / 8.0).sqrt();
        let quantile = |index: i32| spread * Normal::standard().inverse_cdf(f64::from(index) / 100_000.0);
        let distribution = Distribution { values: (1..100_000).map(quantile).collect() };
        let interval = distribution.percentile_interval(0.95, units).unwrap();
        // The 0.975 quantile of Student's t with 7 degrees of freedom.
        assert!((interval.high - 2.364_624).abs() < 1e-3 && (interval.low + 2.364_624).abs() < 1e-3, "{interval:?}");
        let shifted = |by: f64| Distribution { values: distribution.values.iter().map(|value| value + by).collect() };
        assert!((shifted(2.364_624).p_value(units).unwrap() - 0.05).abs() < 1e-3);
        assert_eq!(shifted(100.0).p_value(1), Some(1.0));
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
        assert!(
            distributions[1].values.len() < 50 && distributions[1].is_constant() && !distributions[0].is_constant()
        );
    }
}
