//! The mean of a metric over the classes, each class counting the same.

use crate::class_metric::ClassMetric;
use crate::confusion::ConfusionMatrix;
use crate::estimate::Estimate;
use crate::mover::{Term, weighted_sum_interval};
use serde::{Deserialize, Serialize};

/// How the interval of a macro average comes about.
const METHOD: &str = "MOVER, 95 % (Zou and Donner 2008), over the classes' intervals; correlations between classes by \
                      the multinomial delta method with 1/2 added to each cell";

/// The mean over all classes of each metric; undefined as soon as one class has it undefined, because a mean over the
/// others would answer another question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MacroAverage {
    /// Mean precision.
    pub precision: Estimate,
    /// Mean sensitivity, also called balanced accuracy.
    pub sensitivity: Estimate,
    /// Mean specificity.
    pub specificity: Estimate,
    /// Mean of the classes' F1 (not the F1 of mean precision and mean sensitivity).
    pub f1: Estimate,
}

impl MacroAverage {
    /// The mean of `metric`.
    pub fn get(&self, metric: ClassMetric) -> &Estimate {
        match metric {
            ClassMetric::Precision => &self.precision,
            ClassMetric::Sensitivity => &self.sensitivity,
            ClassMetric::Specificity => &self.specificity,
            ClassMetric::F1 => &self.f1,
        }
    }

    pub(crate) fn get_mut(&mut self, metric: ClassMetric) -> &mut Estimate {
        match metric {
            ClassMetric::Precision => &mut self.precision,
            ClassMetric::Sensitivity => &mut self.sensitivity,
            ClassMetric::Specificity => &mut self.specificity,
            ClassMetric::F1 => &mut self.f1,
        }
    }
}

/// The mean of `estimates`, which are `metric` of each class of `matrix`.
pub(crate) fn average(matrix: &ConfusionMatrix, metric: ClassMetric, estimates: &[Estimate]) -> Estimate {
    let weight = 1.0 / estimates.len() as f64;
    let mut terms = Vec::with_capacity(estimates.len());
    let mut missing = Vec::new();
    for (name, estimate) in matrix.classes().iter().zip(estimates) {
        match (estimate.value, estimate.interval()) {
            (Some(value), Some(interval)) => terms.push(Term { weight, value, interval }),
            _ => missing.push(format!("`{name}`")),
        }
    }
    if !missing.is_empty() {
        return Estimate::undefined(format!("no value for {}", missing.join(", ")), METHOD);
    }
    let influence = influences(matrix, metric);
    let mut interval = weighted_sum_interval(&terms, |i, j| correlation(&influence[i], &influence[j]));
    let value = terms.iter().map(|term| term.value).sum::<f64>() / terms.len() as f64;
    // The mean of bounds in 0 to 1 is in 0 to 1, but for rounding.
    interval.low = interval.low.clamp(0.0, value);
    interval.high = interval.high.clamp(value, 1.0);
    Estimate::defined(value, interval, METHOD)
}

/// For each class, the influence of one image in each cell on the class's metric, times the square root of the cell's
/// count, so that the product of two classes' vectors is their covariance.
///
/// A metric is a ratio A/B of sums over images; the delta method gives one image the influence (a - A/B b) / B, where
/// a and b are what it adds to A and B. Half a count in each cell keeps this finite where a class makes no error. That
/// sensitivities share no row, and precisions no column, comes out as a correlation of exactly 0.
fn influences(matrix: &ConfusionMatrix, metric: ClassMetric) -> Vec<Vec<f64>> {
    let classes = matrix.classes().len();
    let cells: Vec<(usize, usize, f64)> = (0..classes)
        .flat_map(|actual| (0..classes).map(move |predicted| (actual, predicted)))
        .map(|(actual, predicted)| (actual, predicted, matrix.counts()[actual][predicted] as f64 + 0.5))
        .collect();
    let of_class = |class: usize| {
        let (mut numerator, mut denominator) = (0.0, 0.0);
        for &(actual, predicted, count) in &cells {
            let (a, b) = metric.contribution(class, actual, predicted);
            numerator += count * a;
            denominator += count * b;
        }
        let ratio = numerator / denominator;
        let influence = |&(actual, predicted, count): &(usize, usize, f64)| {
            let (a, b) = metric.contribution(class, actual, predicted);
            (a - ratio * b) / denominator * count.sqrt()
        };
        cells.iter().map(influence).collect()
    };
    (0..classes).map(of_class).collect()
}

fn correlation(first: &[f64], second: &[f64]) -> f64 {
    let product = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
    product(first, second) / (product(first, first) * product(second, second)).sqrt()
}
