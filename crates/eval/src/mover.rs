//! Intervals of sums and differences of estimates, from the intervals of the parts.

use crate::interval::Interval;

/// One part of a weighted sum: `weight * value`, where `value` has an interval of its own.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Term {
    /// The factor; -1 for the part that is taken away in a difference.
    pub weight: f64,
    /// The point estimate.
    pub value: f64,
    /// Its interval.
    pub interval: Interval,
}

/// Interval of `sum(weight * value)` by MOVER, the "method of variance estimates recovery": each bound of a part says
/// how large its standard error is towards that side, and the errors are added as variances (G. Y. Zou and A. Donner,
/// Statistics in Medicine 27, 2008, 1693; with correlations G. Y. Zou, Psychological Methods 12, 2007, 399).
///
/// `correlation(i, j)` is the correlation of the estimates `i != j`, -1 to 1. For the difference of two independent
/// proportions with Wilson intervals this is method 10 of R. G. Newcombe, Statistics in Medicine 17, 1998, 873.
/// The confidence is that of the parts.
pub fn weighted_sum_interval(terms: &[Term], correlation: impl Fn(usize, usize) -> f64) -> Interval {
    let sum: f64 = terms.iter().map(|term| term.weight * term.value).sum();
    // The sum is least where a part with a positive weight is at its lower bound and one with a negative weight at
    // its upper bound; the deviation keeps the weight's sign, which turns the sign of a correlation.
    let towards_low = |term: &Term| {
        let bound = if term.weight >= 0.0 { term.interval.low } else { term.interval.high };
        term.weight * (term.value - bound).abs()
    };
    let towards_high = |term: &Term| {
        let bound = if term.weight >= 0.0 { term.interval.high } else { term.interval.low };
        term.weight * (term.value - bound).abs()
    };
    Interval {
        low: sum - length(terms, towards_low, &correlation),
        high: sum + length(terms, towards_high, &correlation),
    }
}

fn length(terms: &[Term], deviation: impl Fn(&Term) -> f64, correlation: &impl Fn(usize, usize) -> f64) -> f64 {
    let mut square = 0.0;
    for (i, first) in terms.iter().enumerate() {
        square += deviation(first).powi(2);
        for (j, second) in terms.iter().enumerate().skip(i + 1) {
            square += 2.0 * correlation(i, j) * deviation(first) * deviation(second);
        }
    }
    // Opposite deviations cancel to a rounding error, which may be negative.
    square.max(0.0).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interval::wilson;

    fn term(weight: f64, successes: u64, trials: u64) -> Term {
        Term { weight, value: successes as f64 / trials as f64, interval: wilson(successes, trials, 0.95).unwrap() }
    }

    #[test]
    fn difference_of_proportions_as_published() {
        // Newcombe 1998 (873), table II, method 10, as printed there.
        for (first, second, low, high) in
            [((56, 70), (48, 80), 0.0524, 0.3339), ((9, 10), (3, 10), 0.1705, 0.8090), ((10, 10), (0, 20), 0.6791, 1.0)]
        {
            let terms = [term(1.0, first.0, first.1), term(-1.0, second.0, second.1)];
            let interval = weighted_sum_interval(&terms, |_, _| 0.0);
            assert!((interval.low - low).abs() < 5.1e-5, "{first:?} {second:?}: {interval:?}");
            assert!((interval.high - high).abs() < 5.1e-5, "{first:?} {second:?}: {interval:?}");
        }
    }

    #[test]
    fn a_number_less_itself_is_known_exactly() {
        let terms = [term(1.0, 7, 30), term(-1.0, 7, 30)];
        // Bounds of the two sides are crossed, so that only a symmetric interval cancels fully.
        let symmetric =
            terms.map(|term| Term { interval: Interval { low: term.value - 0.1, high: term.value + 0.1 }, ..term });
        let interval = weighted_sum_interval(&symmetric, |_, _| 1.0);
        assert!(interval.width() < 1e-7, "{interval:?}");
        assert!(weighted_sum_interval(&symmetric, |_, _| 0.0).width() > 0.28);
    }

    #[test]
    fn full_correlation_averages_the_bounds() {
        let terms = [term(0.5, 7, 30), term(0.5, 20, 40)];
        let interval = weighted_sum_interval(&terms, |_, _| 1.0);
        assert!((interval.low - (terms[0].interval.low + terms[1].interval.low) / 2.0).abs() < 1e-12);
        assert!((interval.high - (terms[0].interval.high + terms[1].interval.high) / 2.0).abs() < 1e-12);
    }
}
