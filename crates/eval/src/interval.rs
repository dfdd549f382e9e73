//! Confidence intervals of one proportion.

use statrs::distribution::{ContinuousCDF, Normal};

/// The confidence of every interval that this crate computes by itself.
pub const CONFIDENCE: f64 = 0.95;

/// A two-sided confidence interval, `low <= high`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Lower bound.
    pub low: f64,
    /// Upper bound.
    pub high: f64,
}

impl Interval {
    /// The distance between the bounds.
    pub fn width(self) -> f64 {
        self.high - self.low
    }

    /// Whether `value` lies between the bounds, these included.
    pub fn contains(self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }
}

/// Wilson's score interval of a proportion, without continuity correction (E. B. Wilson, J. Am. Stat. Assoc. 22, 1927;
/// method 3 of R. G. Newcombe, Statistics in Medicine 17, 1998, 857).
///
/// Both bounds lie in 0 to 1; no successes give a lower bound of exactly 0, no failures an upper bound of exactly 1.
/// `None` where there is no interval: no trials, more successes than trials, or a `confidence` that is not strictly
/// between 0 and 1.
pub fn wilson(successes: u64, trials: u64, confidence: f64) -> Option<Interval> {
    if trials == 0 || successes > trials || !(confidence > 0.0 && confidence < 1.0) {
        return None;
    }
    Some(wilson_of_share(successes as f64 / trials as f64, trials as f64, confidence))
}

/// Wilson's interval of a share that rests on `n` independent units, which need not be whole successes: images of one
/// patient, half of them right, are half a success in one trial.
pub(crate) fn wilson_of_share(proportion: f64, n: f64, confidence: f64) -> Interval {
    let z = z_of(confidence);
    let shrinkage = 1.0 + z * z / n;
    let centre = (proportion + z * z / (2.0 * n)) / shrinkage;
    let half_width = z / shrinkage * (proportion * (1.0 - proportion) / n + z * z / (4.0 * n * n)).sqrt();
    // At the ends the two terms cancel exactly in the formula but not in floating point.
    let low = if proportion == 0.0 { 0.0 } else { (centre - half_width).max(0.0) };
    let high = if proportion == 1.0 { 1.0 } else { (centre + half_width).min(1.0) };
    Interval { low, high }
}

/// The z between whose minus and plus a standard normal value falls with this probability: 1.96 for 0.95.
pub(crate) fn z_of(confidence: f64) -> f64 {
    Normal::standard().inverse_cdf(0.5 + confidence / 2.0)
}

/// The probability that a standard normal value is at least as far from 0 as `z`.
pub(crate) fn two_sided_p(z: f64) -> f64 {
    (2.0 * Normal::standard().sf(z.abs())).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_intervals() {
        // Newcombe 1998, table I, method 3, as printed there.
        for (successes, trials, low, high) in
            [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)]
        {
            let interval = wilson(successes, trials, 0.95).unwrap();
            assert!((interval.low - low).abs() < 5.1e-5, "{successes}/{trials}: {interval:?}");
            assert!((interval.high - high).abs() < 5.1e-5, "{successes}/{trials}: {interval:?}");
        }
    }

    #[test]
    fn bounds_solve_the_score_equation() {
        // The bounds are the p where |successes / n - p| = z * sqrt(p (1 - p) / n): put them back in.
        let z = 1.959_963_984_540_054_f64;
        for trials in 1..60_u64 {
            for successes in 0..=trials {
                let interval = wilson(successes, trials, 0.95).unwrap();
                let proportion = successes as f64 / trials as f64;
                for bound in [interval.low, interval.high] {
                    let score = (proportion - bound).powi(2) - z * z * bound * (1.0 - bound) / trials as f64;
                    assert!(score.abs() < 1e-13, "{successes}/{trials} at {bound}: {score}");
                }
                assert!(interval.contains(proportion));
            }
        }
    }

    #[test]
    fn ends_are_exact() {
        for trials in [1, 2, 3, 7, 615, 1_000_003] {
            assert_eq!(wilson(0, trials, 0.95).unwrap().low, 0.0);
            assert_eq!(wilson(trials, trials, 0.95).unwrap().high, 1.0);
        }
    }

    #[test]
    fn no_interval_of_nothing() {
        assert_eq!(wilson(0, 0, 0.95), None);
        assert_eq!(wilson(3, 2, 0.95), None);
        for confidence in [0.0, 1.0, -0.5, 1.5, f64::NAN] {
            assert_eq!(wilson(1, 2, confidence), None);
        }
    }
}
