//! Confidence intervals of one number in 0 to 1.

use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

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
    score_bounds(proportion, n, z_of(confidence))
}

/// How an interval is made of a value in 0 to 1 and its standard error, each way with Student's quantile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// For shares and other ratios of counts: Wilson's interval over the *effective sample size*, the number of coin
    /// tosses that would have this standard error (E. L. Korn and B. I. Graubard, Survey Methodology 24, 1998, 193;
    /// compared with others by N. Dean and M. Pagano, Journal of Survey Statistics and Methodology 3, 2015, 484).
    Score,
    /// For what comes from probabilities, areas and losses: plus and minus so many standard errors on the logit scale,
    /// which keeps the interval within 0 to 1 and makes it longer towards the middle (M. Qin and L. Hotilovac,
    /// Statistical Methods in Medical Research 17, 2008, 207).
    Logit,
}

impl Scale {
    /// The interval of `value` with this standard error, which rests on so many independent `units`.
    ///
    /// `None` where a standard error tells nothing: it is 0, the value is at an end of the scale, or there are fewer than
    /// two units.
    pub(crate) fn interval(self, value: f64, standard_error: f64, units: usize, confidence: f64) -> Option<Interval> {
        let defined = standard_error > 0.0 && value > 0.0 && value < 1.0;
        let quantile = defined.then(|| t_of(confidence, units)).flatten()?;
        let variance_of_one = value * (1.0 - value);
        Some(match self {
            Self::Score => score_bounds(value, variance_of_one / standard_error.powi(2), quantile),
            Self::Logit => {
                let logit = (value / (1.0 - value)).ln();
                let half_width = quantile * standard_error / variance_of_one;
                let back = |logit: f64| 1.0 / (1.0 + (-logit).exp());
                // The logit and back may be off by a rounding error.
                Interval { low: back(logit - half_width).min(value), high: back(logit + half_width).max(value) }
            }
        })
    }

    /// As [`crate::Estimate::method`] says it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Score => "Wilson score on the effective sample size",
            Self::Logit => "Student's t on the logit scale",
        }
    }
}

/// Where the score equation of Wilson's interval holds with this quantile.
fn score_bounds(proportion: f64, n: f64, quantile: f64) -> Interval {
    let square = quantile * quantile;
    let shrinkage = 1.0 + square / n;
    let centre = (proportion + square / (2.0 * n)) / shrinkage;
    let half_width = quantile / shrinkage * (proportion * (1.0 - proportion) / n + square / (4.0 * n * n)).sqrt();
    // At the ends the two terms cancel exactly in the formula but not in floating point.
    let low = if proportion == 0.0 { 0.0 } else { (centre - half_width).max(0.0) };
    let high = if proportion == 1.0 { 1.0 } else { (centre + half_width).min(1.0) };
    Interval { low, high }
}

/// The z between whose minus and plus a standard normal value falls with this probability: 1.96 for 0.95.
pub(crate) fn z_of(confidence: f64) -> f64 {
    Normal::standard().inverse_cdf(0.5 + confidence / 2.0)
}

/// As [`z_of`], of Student's distribution: for a mean of so many units, whose variance is estimated from the same.
/// `None` of fewer than two.
pub(crate) fn t_of(confidence: f64, units: usize) -> Option<f64> {
    Some(student(units)?.inverse_cdf(0.5 + confidence / 2.0))
}

/// The probability that a mean of so many units, over its estimated standard error, is at least as far from 0 as `t`
/// where what it estimates is 0. `None` of fewer than two.
pub(crate) fn two_sided_p(t: f64, units: usize) -> Option<f64> {
    Some((2.0 * student(units)?.sf(t.abs())).min(1.0))
}

fn student(units: usize) -> Option<StudentsT> {
    let freedom = units.checked_sub(1).filter(|&freedom| freedom > 0)? as f64;
    Some(StudentsT::new(0.0, 1.0, freedom).expect("positive degrees of freedom"))
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
    fn the_effective_size_of_independent_images_is_their_number() {
        // Over very many units Student's quantile is the normal one, and n coin tosses are n coin tosses.
        let (value, n, units) = (0.9_f64, 178.0, 1_000_000);
        let standard_error = (value * (1.0 - value) / n).sqrt();
        let (found, expected) =
            (Scale::Score.interval(value, standard_error, units, 0.95).unwrap(), wilson_of_share(value, n, 0.95));
        assert!((found.low - expected.low).abs() < 1e-5 && (found.high - expected.high).abs() < 1e-5, "{found:?}");
        assert!(Scale::Score.interval(value, standard_error, 8, 0.95).unwrap().width() > found.width());
        for (value, standard_error, units) in [(0.9, 0.0, 10), (1.0, 0.1, 10), (0.0, 0.1, 10), (0.9, 0.1, 1)] {
            for scale in [Scale::Score, Scale::Logit] {
                assert_eq!(scale.interval(value, standard_error, units, 0.95), None);
            }
        }
    }

    #[test]
    fn student_s_quantiles_and_tails_as_tabled() {
        assert!((t_of(0.95, 8).unwrap() - 2.364_624).abs() < 1e-6);
        assert!((two_sided_p(-2.364_624, 8).unwrap() - 0.05).abs() < 1e-6);
        assert_eq!((t_of(0.95, 1), two_sided_p(1.0, 0)), (None, None));
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
