//! From a run or a weight file to predictions. Below training and the command line, which only call it.

mod ahead;
mod compiled;
pub mod explain;
mod export;
mod model;
mod predict;
mod prefix;
mod together;

pub use export::write_onnx;
pub use model::{
    METADATA_KEY, Model, ModelDescription, ModelError, ModelFile, Preprocessing, start_weights, write_model,
};
pub use predict::{FilePrediction, InferError, Predictor, RowLogits, arithmetic};
pub use prefix::{OtherPrefix, SharedPrefix};
pub use together::Together;
