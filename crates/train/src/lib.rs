//! Fitting a network to data, with checkpoints from which a run goes on to the same bits.

mod checkpoint;
mod error;
mod fit;
pub mod micro_batch;
mod progress;
mod setup;

pub use checkpoint::Checkpoint;
pub use error::TrainError;
pub use fit::{Outcome, fit};
pub use progress::{Event, Observer};
pub use setup::{Setup, class_weights, optimizer_rule};
