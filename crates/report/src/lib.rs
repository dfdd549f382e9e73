//! Plots, contact sheets and the report pages of runs and experiments.
//!
//! Everything here is made from files of the run directory: `config.toml`, `environment.json`, `history.csv`,
//! `steps.csv`, each `metrics-<split>.json`, and for the curves `predictions-<split>.csv`. The exceptions are
//! [`write_sheets`] and [`audit`]: whoever evaluates a model or audits a data set has the images decoded, and hands
//! them over, so that this crate needs neither the data folder nor a decoder. It never sees a tensor or a network.
//! [`HeatPicture`] draws what whoever explains a model hands over.

pub mod audit;
mod card;
mod contact_sheet;
mod curves;
mod error;
mod experiment;
mod heat_map;
mod lettering;
mod numerals;
mod page;
mod plots;
mod png;
mod probabilities;
mod range_test;
mod recipe;
mod removal;
mod scores;
mod search;
mod settings;
mod sheet;
mod templates;
mod trend;

pub use card::{ModelCard, write_card};
pub use error::ReportError;
pub use experiment::{FoldSpread, Results, RowResult, predictions, write_experiment_report};
pub use heat_map::HeatPicture;
pub use page::write_report;
pub use range_test::write_range_test;
pub use removal::write_removal_curves;
pub use scores::{evaluated_splits, read_metrics};
pub use search::{CandidateResult, SearchResults};
pub use sheet::{Pixels, Sheet, Tile, file_name_part, write_sheets};
