//! `roentgen data`: what is done with data sets before anything is trained on them.

mod import;
pub mod output;
mod preview;
mod split;

use crate::failure::Outcome;
use clap::{Args, Subcommand};

/// `roentgen data`
#[derive(Debug, Args)]
pub struct Data {
    /// What to do.
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a table of published data sets: classes by rules, everything left out counted, several merged into one
    Import(import::Import),
    /// Put images into training, validation and test, by whole patients, each class spread evenly
    Split(split::Split),
    /// Write a sheet of augmented samples: what training sees
    Preview(preview::Preview),
}

/// Runs the command.
pub fn run(arguments: &Data) -> Outcome {
    match &arguments.command {
        Command::Import(arguments) => import::run(arguments),
        Command::Split(arguments) => split::run(arguments),
        Command::Preview(arguments) => preview::run(arguments),
    }
}
