//! The `roentgen` command: fine-tunes, evaluates and reports chest X-ray classifiers.

mod arguments;
mod bench;
mod compare;
mod data;
mod demo;
mod download;
mod evaluate;
mod experiment;
mod failure;
mod interrupt;
mod layers;
mod lr_find;
mod predict;
mod progress;
mod recipe;
mod resolve;
mod scoring;
mod search;
mod start;
mod train;
mod weights;

use arguments::{Arguments, Command};
use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.command {
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Train(arguments) => train::run(&arguments),
        Command::Experiment(arguments) => experiment::run(&arguments),
        Command::Search(arguments) => search::run(&arguments),
        Command::Evaluate(arguments) => evaluate::run(&arguments),
        Command::Compare(arguments) => compare::run(&arguments),
        Command::Report(arguments) => evaluate::report(&arguments),
        Command::Predict(arguments) => predict::run(&arguments),
        Command::Layers(arguments) => layers::run(&arguments),
        Command::Weights(arguments) => weights::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Data(arguments) => data::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
