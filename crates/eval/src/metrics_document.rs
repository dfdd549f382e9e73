//! The form that [`Metrics`] has on disk.

use crate::EvalError;
use crate::calibration::Calibration;
use crate::class_metric::ClassMetric;
use crate::confusion::ConfusionMatrix;
use crate::decision::AppliedThreshold;
use crate::estimate::Estimate;
use crate::evaluation::ProbabilityMetrics;
use crate::group::GroupTable;
use crate::macro_average::MacroAverage;
use crate::metrics::Metrics;
use crate::temperature::TemperatureScaling;
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

/// The version of the form that is written and read.
pub const FORMAT_VERSION: u32 = 1;

/// The fields of `metrics-<split>.json`, in its order. Fields that are not known are passed over, so that a later
/// program may add some within the version.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Document {
    format_version: u32,
    classes: Vec<String>,
    positive: String,
    samples: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    patients: Option<u64>,
    confusion_matrix: Vec<Vec<u64>>,
    accuracy: Estimate,
    precision: IndexMap<String, Estimate>,
    sensitivity: IndexMap<String, Estimate>,
    specificity: IndexMap<String, Estimate>,
    f1: IndexMap<String, Estimate>,
    #[serde(rename = "macro")]
    macro_average: MacroAverage,
    mean_loss: Option<f64>,
    /// From here to the thresholds: not there in what the first program wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    auroc: Option<IndexMap<String, Estimate>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    auprc: Option<IndexMap<String, Estimate>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    brier: Option<Estimate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    calibration: Option<Calibration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    temperature: Option<TemperatureScaling>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    thresholds: Vec<AppliedThreshold>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    groups: Vec<GroupTable>,
    notes: Vec<String>,
}

impl From<Metrics> for Document {
    fn from(metrics: Metrics) -> Self {
        let by_name =
            |estimates: &[Estimate]| metrics.classes().iter().cloned().zip(estimates.iter().cloned()).collect();
        Self {
            format_version: FORMAT_VERSION,
            classes: metrics.classes().to_vec(),
            positive: metrics.positive_name().to_string(),
            samples: metrics.samples(),
            patients: metrics.patients,
            confusion_matrix: metrics.confusion_matrix.counts().to_vec(),
            precision: by_name(&metrics.precision),
            sensitivity: by_name(&metrics.sensitivity),
            specificity: by_name(&metrics.specificity),
            f1: by_name(&metrics.f1),
            auroc: metrics.probabilities.as_ref().map(|probabilities| by_name(&probabilities.auroc)),
            auprc: metrics.probabilities.as_ref().map(|probabilities| by_name(&probabilities.auprc)),
            accuracy: metrics.accuracy,
            macro_average: metrics.macro_average,
            mean_loss: metrics.mean_loss,
            brier: metrics.probabilities.as_ref().map(|probabilities| probabilities.brier.clone()),
            calibration: metrics.probabilities.map(|probabilities| probabilities.calibration),
            temperature: metrics.temperature,
            thresholds: metrics.thresholds,
            groups: metrics.groups,
            notes: metrics.notes,
        }
    }
}

impl TryFrom<Document> for Metrics {
    type Error = EvalError;

    fn try_from(document: Document) -> Result<Self, EvalError> {
        if document.format_version != FORMAT_VERSION {
            return Err(EvalError::FormatVersion { found: document.format_version, supported: FORMAT_VERSION });
        }
        let confusion_matrix = ConfusionMatrix::from_counts(document.classes, document.confusion_matrix)?;
        let classes = confusion_matrix.classes();
        let Some(positive) = classes.iter().position(|name| *name == document.positive) else {
            return Err(inconsistent(format!("the positive class `{}` is none of the classes", document.positive)));
        };
        if document.samples != confusion_matrix.samples() {
            let counted = confusion_matrix.samples();
            return Err(inconsistent(format!("samples is {}, the matrix counts {counted}", document.samples)));
        }
        check("accuracy", &document.accuracy)?;
        for metric in ClassMetric::ALL {
            check(&format!("macro {metric}"), document.macro_average.get(metric))?;
        }
        for applied in &document.thresholds {
            for (name, estimate) in applied.estimates() {
                check(&format!("{name} at the threshold by {}", applied.threshold.rule), estimate)?;
            }
        }
        for table in &document.groups {
            for group in &table.groups {
                for (name, estimate) in group.estimates() {
                    check(&format!("{name} of the {} `{}`", table.by, group.name), estimate)?;
                }
            }
        }
        let probabilities = match (document.auroc, document.auprc, document.brier, document.calibration) {
            (Some(auroc), Some(auprc), Some(brier), Some(calibration)) => {
                check("brier", &brier)?;
                let auroc = in_class_order("auroc", auroc, classes)?;
                let auprc = in_class_order("auprc", auprc, classes)?;
                Some(ProbabilityMetrics { auroc, auprc, brier, calibration })
            }
            (None, None, None, None) => None,
            _ => {
                return Err(inconsistent(
                    "of auroc, auprc, brier and calibration some are there and some are not".into(),
                ));
            }
        };
        Ok(Self {
            precision: in_class_order("precision", document.precision, classes)?,
            sensitivity: in_class_order("sensitivity", document.sensitivity, classes)?,
            specificity: in_class_order("specificity", document.specificity, classes)?,
            f1: in_class_order("f1", document.f1, classes)?,
            positive,
            patients: document.patients,
            accuracy: document.accuracy,
            macro_average: document.macro_average,
            mean_loss: document.mean_loss,
            probabilities,
            temperature: document.temperature,
            thresholds: document.thresholds,
            groups: document.groups,
            notes: document.notes,
            confusion_matrix,
        })
    }
}

fn in_class_order(
    metric: &str,
    mut by_name: IndexMap<String, Estimate>,
    classes: &[String],
) -> Result<Vec<Estimate>, EvalError> {
    let mut estimates = Vec::with_capacity(classes.len());
    for name in classes {
        let Some(estimate) = by_name.swap_remove(name) else {
            return Err(inconsistent(format!("{metric} lacks the class `{name}`")));
        };
        check(&format!("{metric} of `{name}`"), &estimate)?;
        estimates.push(estimate);
    }
    match by_name.keys().next() {
        Some(name) => Err(inconsistent(format!("{metric} has a class `{name}` that is none of the classes"))),
        None => Ok(estimates),
    }
}

fn check(what: &str, estimate: &Estimate) -> Result<(), EvalError> {
    if estimate.is_consistent() {
        return Ok(());
    }
    Err(inconsistent(format!(
        "{what} is {:?} in {:?} to {:?} with reason {:?}, expected 0 <= low <= value <= high <= 1, or a reason alone",
        estimate.value, estimate.low, estimate.high, estimate.reason
    )))
}

fn inconsistent(what: String) -> EvalError {
    EvalError::Inconsistent { what }
}
