//! The metrics that one class has against all others.

use crate::confusion::{ConfusionMatrix, Outcomes};
use crate::estimate::Estimate;
use crate::interval::{CONFIDENCE, Interval, wilson};
use std::fmt;

/// A ratio of counts that is computed for each class against all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClassMetric {
    /// TP / (TP + FP): how often the class is right when it is said. Also called positive predictive value; depends on
    /// how frequent the class is in the split.
    Precision,
    /// TP / (TP + FN): how many images of the class are found. Also called recall.
    Sensitivity,
    /// TN / (TN + FP): how many images of other classes are not called this one.
    Specificity,
    /// 2 TP / (2 TP + FP + FN): the harmonic mean of precision and sensitivity.
    F1,
}

/// How the interval of F1 comes about.
const F1_METHOD: &str = "Wilson score, 95 %, of the Jaccard proportion J = TP/(TP+FP+FN), which is binomial given the \
                         union; transformed by F1 = 2J/(1+J)";

impl ClassMetric {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 4] = [Self::Precision, Self::Sensitivity, Self::Specificity, Self::F1];

    /// The name that users read.
    pub fn name(self) -> &'static str {
        match self {
            Self::Precision => "precision",
            Self::Sensitivity => "sensitivity",
            Self::Specificity => "specificity",
            Self::F1 => "F1",
        }
    }

    /// The metric of `class` with its interval.
    ///
    /// F1 is undefined for a class without images, as its sensitivity is: the formula would give 0 for the first
    /// false alarm, whatever the model can do (scikit-learn does give 0 there). Present but never said, a class has F1
    /// 0, which is earned.
    pub(crate) fn estimate(self, matrix: &ConfusionMatrix, class: usize) -> Estimate {
        let outcomes = matrix.outcomes(class);
        let name = &matrix.classes()[class];
        let no_image = || format!("no image of `{name}`");
        match self {
            Self::Precision => Estimate::proportion(
                outcomes.true_positive,
                matrix.predicted(class),
                format!("`{name}` never predicted"),
            ),
            Self::Sensitivity => Estimate::proportion(outcomes.true_positive, matrix.actual(class), no_image()),
            Self::Specificity => Estimate::proportion(
                outcomes.true_negative,
                outcomes.true_negative + outcomes.false_positive,
                format!("no image of another class than `{name}`"),
            ),
            Self::F1 if matrix.actual(class) == 0 => Estimate::undefined(no_image(), F1_METHOD),
            Self::F1 => {
                let union = outcomes.true_positive + outcomes.false_positive + outcomes.false_negative;
                let interval = wilson(outcomes.true_positive, union, CONFIDENCE)
                    .expect("the class has images, and all of them are in the union");
                let value = self.value(outcomes).expect("the class has images");
                Estimate::defined(value, f1_of_jaccard(interval), F1_METHOD)
            }
        }
    }

    /// The metric of a class with these outcomes, undefined where [`ClassMetric::estimate`] has it so.
    pub(crate) fn value(self, outcomes: Outcomes) -> Option<f64> {
        let Outcomes { true_positive, false_negative, false_positive, true_negative } = outcomes;
        let actual = true_positive + false_negative;
        let (part, whole) = match self {
            Self::Precision => (true_positive, true_positive + false_positive),
            Self::Sensitivity => (true_positive, actual),
            Self::Specificity => (true_negative, true_negative + false_positive),
            Self::F1 if actual == 0 => (0, 0),
            Self::F1 => (2 * true_positive, actual + true_positive + false_positive),
        };
        (whole > 0).then(|| part as f64 / whole as f64)
    }

    /// What one image of class `actual`, called `predicted`, adds to the numerator and to the denominator of this
    /// metric of `class`.
    pub(crate) fn contribution(self, class: usize, actual: usize, predicted: usize) -> (f64, f64) {
        let is_class = f64::from(u8::from(actual == class));
        let is_called = f64::from(u8::from(predicted == class));
        match self {
            Self::Precision => (is_class * is_called, is_called),
            Self::Sensitivity => (is_class * is_called, is_class),
            Self::Specificity => ((1.0 - is_class) * (1.0 - is_called), 1.0 - is_class),
            Self::F1 => (2.0 * is_class * is_called, is_class + is_called),
        }
    }
}

/// F1 = 2J/(1+J) rises with J, so that bounds of the one are bounds of the other.
pub(crate) fn f1_of_jaccard(interval: Interval) -> Interval {
    let f1 = |jaccard: f64| 2.0 * jaccard / (1.0 + jaccard);
    Interval { low: f1(interval.low), high: f1(interval.high) }
}

impl fmt::Display for ClassMetric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
