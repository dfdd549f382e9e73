//! The report of an experiment: tables that compare its rows, their curves and matrices, which differences hold.

mod advice;
mod comparison;
mod page;
mod results;
mod tables;

pub use page::write_experiment_report;
pub use results::{FoldSpread, Results, RowResult, predictions};
