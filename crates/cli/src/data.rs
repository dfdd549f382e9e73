//! `roentgen data`: what is done with data sets before anything is trained on them.

mod preview;

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
    /// Write a sheet of augmented samples: what training sees
    Preview(preview::Preview),
}

/// Runs the command.
pub fn run(arguments: &Data) -> Outcome {
    match &arguments.command {
        Command::Preview(arguments) => preview::run(arguments),
    }
}
