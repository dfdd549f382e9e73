//! Fitting a network to data, with checkpoints from which a run goes on to the same bits.

mod arrangement;
mod checkpoint;
mod error;
mod feed;
mod fit;
mod learner;
mod micro_batch;
mod progress;
mod setup;
mod values_file;

pub use checkpoint::Checkpoint;
pub use error::TrainError;
pub use fit::{Outcome, Together, check_together, fit, fit_together};
pub use progress::{Event, Observer};
pub use setup::{Setup, class_weights, optimizer_rule};
