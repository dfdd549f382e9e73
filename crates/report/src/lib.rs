//! Plots, contact sheets and the report page of a run.
//!
//! Everything here is made from files of the run directory: `config.toml`, `environment.json`, `history.csv`,
//! `steps.csv` and each `metrics-<split>.json`. The one exception is [`write_sheets`]: whoever evaluates a model has
//! the images decoded, and hands them over as [`Tile`]s, so that this crate needs neither the data folder nor a
//! decoder. It never sees a tensor or a network.

mod contact_sheet;
mod curves;
mod error;
mod lettering;
mod numerals;
mod page;
mod plots;
mod range_test;
mod recipe;
mod scores;
mod settings;
mod sheet;
mod templates;
mod trend;

pub use error::ReportError;
pub use page::write_report;
pub use range_test::write_range_test;
pub use sheet::{Pixels, Sheet, Tile, write_sheets};
