//! Fitting a network to data, with checkpoints from which a run goes on to the same bits.

mod arrangement;
mod check;
mod checkpoint;
mod error;
mod event_file;
mod feed;
mod fit;
mod learner;
mod micro_batch;
mod progress;
mod range_test;
mod schedule;
mod setup;
mod step;
mod unfreezing;
mod values_file;

pub use checkpoint::Checkpoint;
pub use error::TrainError;
pub use fit::{Outcome, Together, check_together, fit, fit_together};
pub use progress::{Event, Observer};
pub use range_test::{RANGE_TEST_STEPS, RangeStep, range_test, valley};
pub use schedule::{LearningRate, StepRates};
pub use setup::{Setup, augment, class_weights, optimizer_rule};
pub use unfreezing::Stage;
