//! The vocabulary on disk: configuration, run directory, tables, and the key of every random draw.
//!
//! A run directory is all that evaluation, reports and later commands read; this crate says what lies in it and how
//! each file is written so that a crash leaves either the old or the new one. It knows no network, no image and no
//! metric.

pub mod card;
pub mod config;
pub mod directory;
pub mod draw;
pub mod environment;
mod error;
pub mod experiment;
pub mod experiment_directory;
pub mod history;
pub mod predictions;

pub use config::Config;
pub use directory::RunDirectory;
pub use error::RunError;
pub use experiment::Experiment;
pub use experiment_directory::ExperimentDirectory;

/// Version of the run directory's formats that this build writes. Older ones keep opening; a newer one is refused.
pub const FORMAT_VERSION: u32 = 1;
