//! Models that leave the house: one file that another program opens.

mod onnx;
mod protobuf;

use crate::model::{METADATA_KEY, Model, ModelError, Preprocessing};
use roentgen_run::directory::write_atomically;
use serde_json::json;
use std::path::Path;

/// The largest message that readers of protocol buffers accept, in bytes.
const LARGEST_FILE: usize = i32::MAX as usize;

/// Writes a model as ONNX, atomically: f32 weights under torchvision's names, input `input` of `[batch, 3, S, S]`, outputs
/// `logits` and `probabilities` of `[batch, classes]`. The bytes depend on the model and the metadata alone.
///
/// The file's metadata hold `classes` (a JSON list in the order of the logits), `preprocessing` (JSON: from an image
/// file to the input), `roentgen` (the model's [`crate::ModelDescription`] as JSON), and the pairs that are given.
///
/// # Errors
/// Where the system refuses, or the weights are more than such a file can hold.
pub fn write_onnx(path: &Path, model: &Model, metadata: &[(String, String)]) -> Result<(), ModelError> {
    let description = &model.description;
    let text = |value: serde_json::Value| value.to_string();
    let mut all = vec![
        ("classes".to_owned(), text(json!(description.classes))),
        ("preprocessing".to_owned(), text(preprocessing(&description.preprocessing))),
        (METADATA_KEY.to_owned(), text(json!(description))),
    ];
    all.extend_from_slice(metadata);
    let matrices = onnx::PoolingMatrices::new(&model.network);
    let message = onnx::model(&model.network, &model.store, &matrices, &all);
    if message.len() > LARGEST_FILE {
        return Err(ModelError::TooLargeForOnnx { file: path.to_owned(), bytes: message.len() });
    }
    Ok(write_atomically(path, |file| message.write(file))?)
}

/// All that somebody needs who writes the preprocessing again.
fn preprocessing(preprocessing: &Preprocessing) -> serde_json::Value {
    let Preprocessing { resize_short_side, crop, mean, standard_deviation } = preprocessing;
    json!({
        "colour": "RGB; a grey image is repeated over the three channels, 16 bits are divided by 257",
        "orientation": "as stored; EXIF is ignored",
        "resize_short_side": resize_short_side,
        "interpolation": "bilinear with antialiasing, as Pillow's",
        "centre_crop": crop,
        "divide_by": 255,
        "mean": mean,
        "standard_deviation": standard_deviation,
        "layout": "[batch, channel, row, column], f32: (pixel / divide_by - mean) / standard_deviation",
    })
}
