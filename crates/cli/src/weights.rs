//! `roentgen weights`

use crate::failure::Outcome;
use crate::{download, start};
use clap::{Args, Subcommand};
use roentgen_nn::architecture;
use roentgen_nn::weights::{StateDict, Values, official_file};
use std::io::Write;
use std::path::PathBuf;

/// `roentgen weights`
#[derive(Debug, Args)]
pub struct Weights {
    /// What to do.
    #[command(subcommand)]
    command: WeightsCommand,
}

/// What to do with weights.
#[derive(Debug, Subcommand)]
enum WeightsCommand {
    /// List torchvision's files, and which of them are here
    List,
    /// Download torchvision's file of an architecture
    Fetch {
        /// Architecture
        arch: String,
    },
    /// List the tensors of a weight file
    Inspect {
        /// .pth or .safetensors
        file: PathBuf,
    },
}

/// Runs the command.
pub fn run(arguments: &Weights) -> Outcome {
    let mut out = std::io::stdout().lock();
    match &arguments.command {
        WeightsCommand::List => {
            let folder = download::cache_folder()?;
            for name in architecture::names() {
                let Some(file) = official_file(name) else { continue };
                let state = if folder.join(file.name).is_file() { "here" } else { "not fetched" };
                writeln!(out, "{name:10}  {:26}  {state}", file.name)?;
            }
            writeln!(out, "\nfolder: {}", folder.display())?;
        }
        WeightsCommand::Fetch { arch } => writeln!(out, "{}", start::fetch(arch)?.display())?,
        WeightsCommand::Inspect { file } => {
            let state = StateDict::open(file)?;
            let width = state.tensors.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
            let mut numbers = 0;
            for (name, tensor) in &state.tensors {
                numbers += tensor.values.len();
                let shape = tensor.shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
                match &tensor.values {
                    Values::F32(values) => {
                        let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / values.len().max(1) as f64;
                        let square = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>();
                        let norm = square.sqrt();
                        writeln!(out, "{name:width$}  {shape:>15}  f32  mean {mean:>12.6}  norm {norm:>12.6}")?;
                    }
                    Values::I64(values) => {
                        let first = values.first().map(i64::to_string).unwrap_or_default();
                        writeln!(out, "{name:width$}  {shape:>15}  i64  {first}")?;
                    }
                }
            }
            writeln!(out, "\n{} tensors, {numbers} numbers", state.tensors.len())?;
        }
    }
    Ok(())
}
