//! From which probability on an image is called positive: chosen on one split, applied to another.

use crate::confusion::Outcomes;
use crate::curve::RankedScores;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a threshold is chosen by. Where several thresholds are equally good, the highest is taken.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rule", rename_all = "snake_case")]
pub enum ThresholdRule {
    /// The largest sensitivity + specificity - 1 (W. J. Youden, Cancer 3, 1950, 32).
    Youden,
    /// The highest specificity among the thresholds whose sensitivity is at least this, 0 to 1.
    Sensitivity {
        /// The least sensitivity.
        at_least: f64,
    },
    /// The lowest expected cost of an image.
    Cost {
        /// What a missed positive image costs, 0 or more; only the ratio of the two costs matters.
        miss: f64,
        /// What a false alarm costs, 0 or more.
        false_alarm: f64,
        /// The share of positive images where the threshold will be used, 0 to 1; `None` for that of the split that it
        /// is chosen on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prevalence: Option<f64>,
    },
}

/// A threshold, and what it did on the images that it was chosen on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Threshold {
    /// What it was chosen by.
    #[serde(flatten)]
    pub rule: ThresholdRule,
    /// An image whose probability of the positive class is at least this is called positive. Halfway between two
    /// probabilities that occurred; more than 1 where none is to be called so.
    pub threshold: f64,
    /// Sensitivity there, 0 to 1; better than what new images will show.
    pub fitted_sensitivity: f64,
    /// Specificity there, 0 to 1.
    pub fitted_specificity: f64,
}

impl ThresholdRule {
    /// Chooses a threshold for the probabilities of a class.
    ///
    /// # Errors
    ///
    /// In words, why there is none: all images are positive, or none is.
    pub fn choose(self, ranked: &RankedScores) -> Result<Threshold, String> {
        let roc = ranked.roc().ok_or("the images are all of one side, so that there is nothing to choose by")?;
        let positives = ranked.totals().positives as f64;
        let share = positives / ranked.positive().len() as f64;
        // What is to be as large as possible; what must not be chosen has none.
        let merit = |sensitivity: f64, false_positive_rate: f64| match self {
            Self::Youden => Some(sensitivity - false_positive_rate),
            // Rates are ratios of counts; a rounding error must not cost an image.
            Self::Sensitivity { at_least } => (sensitivity >= at_least - 1e-12).then_some(-false_positive_rate),
            Self::Cost { miss, false_alarm, prevalence } => {
                let prevalence = prevalence.unwrap_or(share);
                let missed = miss * prevalence * (1.0 - sensitivity);
                Some(-missed - false_alarm * (1.0 - prevalence) * false_positive_rate)
            }
        };
        let mut best: Option<(f64, usize)> = None;
        for (index, point) in roc.iter().enumerate() {
            let merit = merit(point.true_positive_rate, point.false_positive_rate);
            // Better by more than rounding, so that equal ones keep the highest threshold.
            best = match (best, merit) {
                (Some((known, at)), Some(merit)) if merit <= known + 1e-12 => Some((known, at)),
                (known, None) => known,
                (_, Some(merit)) => Some((merit, index)),
            };
        }
        let (_, index) = best.ok_or("no threshold reaches the sensitivity that was asked for")?;
        let chosen = &roc[index];
        let next = roc.get(index + 1).map_or(0.0, |point| f64::from(point.threshold));
        let threshold = match index {
            // Above every probability that occurred, also above a 1.
            0 if next >= 1.0 => next.next_up(),
            0 => (1.0 + next) / 2.0,
            _ => (f64::from(chosen.threshold) + next) / 2.0,
        };
        Ok(Threshold {
            rule: self,
            threshold,
            fitted_sensitivity: chosen.true_positive_rate,
            fitted_specificity: 1.0 - chosen.false_positive_rate,
        })
    }
}

impl Threshold {
    /// Whether an image of this probability is called positive.
    pub fn calls(&self, probability: f32) -> bool {
        f64::from(probability) >= self.threshold
    }

    /// The expected cost of an image of a split with these outcomes, in the rule's units and at its prevalence (the
    /// split's own where it names none); `None` for another rule, and where a class is absent.
    pub fn cost(&self, outcomes: Outcomes) -> Option<f64> {
        let ThresholdRule::Cost { miss, false_alarm, prevalence } = self.rule else { return None };
        let positives = (outcomes.true_positive + outcomes.false_negative) as f64;
        let negatives = (outcomes.true_negative + outcomes.false_positive) as f64;
        let prevalence = prevalence.unwrap_or(positives / (positives + negatives));
        let missed = miss * prevalence * outcomes.false_negative as f64 / positives;
        let alarmed = false_alarm * (1.0 - prevalence) * outcomes.false_positive as f64 / negatives;
        (positives > 0.0 && negatives > 0.0).then_some(missed + alarmed)
    }
}

/// `Youden`, `sensitivity >= 0.95`, `miss 10, false alarm 1`.
impl fmt::Display for ThresholdRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Youden => f.pad("Youden"),
            Self::Sensitivity { at_least } => f.pad(&format!("sensitivity >= {at_least}")),
            Self::Cost { miss, false_alarm, prevalence } => {
                let prevalence = prevalence.map_or_else(String::new, |p| format!(", prevalence {p}"));
                f.pad(&format!("miss {miss}, false alarm {false_alarm}{prevalence}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(rule: ThresholdRule, scores: &[f32], positive: &[bool]) -> Threshold {
        rule.choose(&RankedScores::new(scores, positive).unwrap()).unwrap()
    }

    const SCORES: [f32; 6] = [0.875, 0.75, 0.5, 0.5, 0.25, 0.125];
    const POSITIVE: [bool; 6] = [true, true, false, true, true, false];

    #[test]
    fn thresholds_lie_halfway_and_equal_ones_are_the_highest() {
        // Sensitivity less false alarms: 1/4, 1/2, 1/4 (the tie calls one of each), 1/2, 0.
        let youden = choose(ThresholdRule::Youden, &SCORES, &POSITIVE);
        assert_eq!((youden.threshold, youden.fitted_sensitivity, youden.fitted_specificity), (0.625, 0.5, 1.0));
        let all = choose(ThresholdRule::Sensitivity { at_least: 1.0 }, &SCORES, &POSITIVE);
        assert_eq!((all.threshold, all.fitted_sensitivity, all.fitted_specificity), (0.1875, 1.0, 0.5));
        assert!(all.calls(0.25) && !all.calls(0.125));
    }

    #[test]
    fn costs_move_the_threshold_to_either_end() {
        let cost = |miss, false_alarm, prevalence| {
            choose(ThresholdRule::Cost { miss, false_alarm, prevalence }, &SCORES, &POSITIVE)
        };
        let never = cost(1.0, 1000.0, Some(0.01));
        assert_eq!((never.fitted_sensitivity, never.fitted_specificity), (0.5, 1.0));
        assert_eq!(cost(0.0, 1.0, None).threshold, 0.9375);
        assert_eq!(cost(1.0, 0.0, None).fitted_sensitivity, 1.0);
        let outcomes = Outcomes { true_positive: 3, false_negative: 1, false_positive: 1, true_negative: 3 };
        assert_eq!(cost(10.0, 2.0, Some(0.5)).cost(outcomes), Some(10.0 * 0.5 * 0.25 + 2.0 * 0.5 * 0.25));
    }

    #[test]
    fn nothing_is_called_where_even_a_certain_answer_is_wrong() {
        let none =
            choose(ThresholdRule::Cost { miss: 1.0, false_alarm: 9.0, prevalence: None }, &[1.0, 0.0], &[false, true]);
        assert!(!none.calls(1.0) && none.threshold < 1.001);
        let one_side = RankedScores::new(&[0.5], &[true]).unwrap();
        assert!(ThresholdRule::Youden.choose(&one_side).is_err());
    }
}
