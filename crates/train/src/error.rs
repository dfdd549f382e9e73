use roentgen_data::DataError;
use roentgen_infer::{InferError, ModelError};
use roentgen_nn::weights::WeightsError;
use roentgen_nn::{EngineError, FreezeError, NetworkError};
use roentgen_run::RunError;
use std::path::PathBuf;

/// Why training stopped or could not begin.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The images.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The run directory.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The start weights or the model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The architecture.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The freeze plan.
    #[error(transparent)]
    Freeze(#[from] FreezeError),
    /// A setting that no training can have.
    #[error("{setting} is {found}; expected {expected}")]
    Setting {
        /// The setting.
        setting: &'static str,
        /// Its value.
        found: String,
        /// What it may be.
        expected: &'static str,
    },
    /// The loss is NaN or infinite.
    #[error(
        "the loss of step {step} (epoch {epoch}) is {loss}: training has diverged. {kept} Lower the learning rate (it is \
         {learning_rate}) and start again"
    )]
    NotFinite {
        /// The optimizer step, from 1.
        step: u64,
        /// The epoch, from 1.
        epoch: usize,
        /// What the loss was.
        loss: f64,
        /// The learning rate.
        learning_rate: f32,
        /// What was kept, as a sentence.
        kept: String,
    },
    /// A checkpoint that does not fit the run.
    #[error("{}: {found}; expected {expected}", file.display())]
    Checkpoint {
        /// The checkpoint.
        file: PathBuf,
        /// What stands in it.
        found: String,
        /// What the run needs.
        expected: String,
    },
}

impl From<InferError> for TrainError {
    fn from(error: InferError) -> TrainError {
        match error {
            InferError::Data(error) => TrainError::Data(error),
            InferError::Engine(error) => TrainError::Engine(error),
        }
    }
}

impl From<WeightsError> for TrainError {
    fn from(error: WeightsError) -> TrainError {
        TrainError::Model(ModelError::Weights(error))
    }
}
