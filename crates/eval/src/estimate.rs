//! One metric with its interval, or the reason why it has none.

use crate::interval::{CONFIDENCE, Interval, wilson};
use serde::{Deserialize, Serialize};
use std::fmt;

/// How [`Estimate::proportion`] gets its interval.
pub(crate) const WILSON: &str = "Wilson score, 95 %";

/// A metric in 0 to 1 with its 95 % confidence interval.
///
/// Either `value`, `low` and `high` are all there and finite with `low <= value <= high`, or none of them is and
/// `reason` says why the metric is undefined.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The point estimate; `None` where undefined.
    pub value: Option<f64>,
    /// Lower bound of the interval; `None` where undefined.
    pub low: Option<f64>,
    /// Upper bound of the interval; `None` where undefined.
    pub high: Option<f64>,
    /// How the interval is computed, with its confidence, in words.
    pub method: String,
    /// Why the metric is undefined; `None` where it is defined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// `0.9267 (0.9124 to 0.9388)`, or `undefined (reason)`.
impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.value, self.interval()) {
            (Some(value), Some(interval)) => write!(f, "{value:.4} ({:.4} to {:.4})", interval.low, interval.high),
            _ => write!(f, "undefined ({})", self.reason.as_deref().unwrap_or("no reason recorded")),
        }
    }
}

impl Estimate {
    /// A metric that has a value.
    pub fn defined(value: f64, interval: Interval, method: impl Into<String>) -> Self {
        let Interval { low, high } = interval;
        Self { value: Some(value), low: Some(low), high: Some(high), method: method.into(), reason: None }
    }

    /// A metric that has none, and why.
    pub fn undefined(reason: impl Into<String>, method: impl Into<String>) -> Self {
        Self { value: None, low: None, high: None, method: method.into(), reason: Some(reason.into()) }
    }

    /// `successes / trials` with Wilson's interval; undefined for `reason_if_no_trials` where `trials` is 0.
    pub(crate) fn proportion(successes: u64, trials: u64, reason_if_no_trials: impl Into<String>) -> Self {
        match wilson(successes, trials, CONFIDENCE) {
            Some(interval) => Self::defined(successes as f64 / trials as f64, interval, WILSON),
            None => Self::undefined(reason_if_no_trials, WILSON),
        }
    }

    /// The interval; `None` where undefined.
    pub fn interval(&self) -> Option<Interval> {
        Some(Interval { low: self.low?, high: self.high? })
    }

    /// Whether the fields agree with each other as the type promises.
    pub(crate) fn is_consistent(&self) -> bool {
        match (self.value, self.low, self.high, &self.reason) {
            (Some(value), Some(low), Some(high), None) => 0.0 <= low && low <= value && value <= high && high <= 1.0,
            (None, None, None, Some(_)) => true,
            _ => false,
        }
    }
}
