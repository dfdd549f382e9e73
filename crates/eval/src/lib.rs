//! What a table of predictions is worth: metrics with their intervals, in numbers and in words.
//!
//! Slices in, numbers out. The crate knows no model, no image and no file; who reads or writes one adds its name to
//! an error. Four rules hold throughout:
//!
//! - A metric never comes alone: an [`Estimate`] carries its interval and the name of the method. (The one exception,
//!   [`Calibration::expected_calibration_error`], says why.)
//! - The randomness of a bootstrap is passed in, a generator for each resample: the same ones give the same bits.
//! - Undefined is a value of its own with a reason, never 0, 0.5 or NaN.
//! - Classes are indices `0..K` in the order of the class names, and what depends on one class names it.
//!
//! ```
//! use roentgen_eval::{ConfusionMatrix, Metrics, default_positive, format_table};
//!
//! let classes = vec!["infected".to_string(), "normal".to_string()];
//! let positive = default_positive(&classes)?;
//! let matrix = ConfusionMatrix::from_counts(classes, vec![vec![515, 100], vec![10, 875]])?;
//! let metrics = Metrics::from_matrix(matrix, positive, None)?;
//! assert_eq!(format!("{:.5}", metrics.accuracy.value.unwrap()), "0.92667");
//! println!("{}", format_table(&metrics));
//! # Ok::<(), roentgen_eval::EvalError>(())
//! ```

mod auroc;
mod bootstrap;
mod calibration;
mod class_metric;
mod cluster;
mod comparison;
mod confusion;
mod curve;
mod decision;
mod difference;
mod difference_statements;
mod error;
mod estimate;
mod evaluation;
mod group;
mod holm;
mod interval;
mod macro_average;
mod mcnemar;
mod metrics;
mod metrics_document;
mod mover;
mod notes;
mod positive;
mod predictions;
mod ranking;
mod repeated;
mod statements;
mod table;
mod temperature;
mod threshold;
mod wording;

pub use auroc::{AurocDifference, auroc, delong_test};
pub use bootstrap::{Distribution, RESAMPLES, bootstrap};
pub use calibration::{BINS, Calibration, ReliabilityBin, brier_scores};
pub use class_metric::ClassMetric;
pub use cluster::Clusters;
pub use comparison::format_comparison;
pub use confusion::{ConfusionMatrix, Outcomes};
pub use curve::{PrecisionRecallPoint, RankedScores, RocPoint};
pub use decision::AppliedThreshold;
pub use difference::{ComparedMetric, Difference, Differences, Effect, PairedErrors, SIGNIFICANCE, differences};
pub use error::EvalError;
pub use estimate::Estimate;
pub use evaluation::ProbabilityMetrics;
pub use group::{Group, GroupTable};
pub use holm::holm;
pub use interval::{CONFIDENCE, Interval, Scale, wilson};
pub use macro_average::MacroAverage;
pub use mcnemar::{McNemar, mcnemar};
pub use metrics::Metrics;
pub use metrics_document::FORMAT_VERSION;
pub use mover::{Term, weighted_sum_interval};
pub use notes::SMALL_CLASS;
pub use positive::default_positive;
pub use predictions::Predictions;
pub use ranking::{ClassRanking, best_and_worst};
pub use repeated::{Repeated, RepeatedMetrics};
pub use statements::{WIDE_INTERVAL, statements};
pub use table::format_table;
pub use temperature::{ProbabilityQuality, TemperatureScaling, at_temperature, fit_temperature};
pub use threshold::{Threshold, ThresholdRule};
pub use wording::p_value;
