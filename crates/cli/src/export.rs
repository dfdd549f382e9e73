//! `roentgen export`

use crate::failure::{Failure, Outcome};
use crate::search;
use clap::{Args, ValueEnum};
use roentgen_eval::{AppliedThreshold, Metrics};
use roentgen_infer::{Model, write_model, write_onnx};
use roentgen_nn::ParameterSet;
use roentgen_report::{evaluated_splits, read_metrics};
use roentgen_run::RunDirectory;
use serde_json::json;
use std::io::Write;
use std::path::PathBuf;

/// `roentgen export`
#[derive(Debug, Args)]
pub struct Export {
    /// Run directory or model file
    pub run: PathBuf,
    /// What to write: onnx for any runtime of ONNX, safetensors for PyTorch under torchvision's names
    #[arg(long, value_name = "FORMAT", default_value = "onnx")]
    pub format: Format,
    /// File to write
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

/// Formats that other programs read.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum Format {
    /// Graph, f32 weights, preprocessing, classes and threshold in one file.
    Onnx,
    /// Weights under torchvision's names.
    Safetensors,
}

/// Runs the command, and prints the path of what it wrote.
pub fn run(arguments: &Export) -> Outcome {
    let Export { run, format, out } = arguments;
    search::refuse_sealed_model(run)?;
    let model = Model::open(run)?;
    let own = if run.is_dir() { RunDirectory::new(run).model_file() } else { run.clone() };
    let same = |a: std::io::Result<PathBuf>, b: std::io::Result<PathBuf>| a.is_ok_and(|a| b.is_ok_and(|b| a == b));
    if same(std::fs::canonicalize(&own), std::fs::canonicalize(out)) {
        return Err(Failure::call(format!("--out {}: that is the model itself: name another file", out.display())));
    }
    match format {
        Format::Onnx => write_onnx(out, &model, &decisions(run)?)?,
        Format::Safetensors => write_model(out, &model.description, &model.store, ParameterSet::Live)?,
    }
    writeln!(std::io::stdout(), "{}", out.display())?;
    Ok(())
}

/// Temperature and thresholds as evaluation fitted them, for the metadata; without an evaluation, none. Thresholds are of
/// probabilities without the temperature, which is for calibrated ones beside them.
fn decisions(run: &std::path::Path) -> Outcome<Vec<(String, String)>> {
    let Some(metrics) = first_metrics(run)? else {
        eprintln!("note: {} has not been evaluated: the file will hold no threshold", run.display());
        return Ok(Vec::new());
    };
    let threshold = |applied: &AppliedThreshold| {
        json!({
            "class": metrics.positive_name(),
            "probability": "softmax(logits), as the output `probabilities` has it: the temperature is not applied",
            "probability_at_least": applied.threshold.threshold,
            "chosen_by": applied.threshold.rule.to_string(),
            "fitted_on": applied.fitted_on,
            "images": applied.fitted_images,
        })
    };
    let mut pairs = Vec::new();
    if let Some(first) = metrics.thresholds.first() {
        pairs.push(("threshold".to_owned(), threshold(first).to_string()));
        let all: Vec<_> = metrics.thresholds.iter().map(threshold).collect();
        pairs.push(("thresholds".to_owned(), json!(all).to_string()));
    } else {
        eprintln!("note: {} was evaluated without validation images: the file will hold no threshold", run.display());
    }
    if let Some(scaling) = &metrics.temperature {
        pairs.push(("temperature".to_owned(), scaling.temperature.to_string()));
        let use_of_it =
            "softmax(logits / temperature) are calibrated probabilities; the thresholds are for softmax(logits)";
        pairs.push(("temperature_use".to_owned(), use_of_it.to_owned()));
    }
    Ok(pairs)
}

/// Metrics of the run's own test images, or of what else it was evaluated on: all have the thresholds of the same
/// validation images.
fn first_metrics(run: &std::path::Path) -> Outcome<Option<Metrics>> {
    if !run.is_dir() {
        return Ok(None);
    }
    let run = RunDirectory::open(run)?;
    match evaluated_splits(&run)?.first() {
        Some(split) => Ok(Some(read_metrics(&run, split)?)),
        None => Ok(None),
    }
}
