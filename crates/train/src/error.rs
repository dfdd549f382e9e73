use roentgen_data::DataError;
use roentgen_infer::{InferError, ModelError};
use roentgen_nn::weights::WeightsError;
use roentgen_nn::{EngineError, FreezeError, GroupError, NetworkError};
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
    /// Learning rates of parts of the network.
    #[error(transparent)]
    Group(#[from] GroupError),
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
    /// The positive class is none of the data's.
    #[error("the positive class is `{found}`; expected one of the data's classes: {classes}")]
    UnknownPositive {
        /// The name asked for.
        found: String,
        /// The data's classes.
        classes: String,
    },
    /// A loss or a weight is NaN or infinite.
    #[error(
        "{quantity} step {step} (epoch {epoch}) is {value}: training has diverged. {kept} Lower the learning rate (it is \
         {learning_rate:?}) and start again"
    )]
    NotFinite {
        /// What is not finite, with a preposition to the step: "the loss of".
        quantity: String,
        /// The optimizer step, from 1.
        step: u64,
        /// The epoch, from 1.
        epoch: usize,
        /// What it was.
        value: f64,
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
