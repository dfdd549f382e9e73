//! The `roentgen` command: fine-tunes, evaluates and reports chest X-ray classifiers.

mod arguments;
mod audit;
mod bench;
mod card;
mod compare;
mod completions;
mod data;
mod demo;
mod display;
mod download;
mod evaluate;
mod experiment;
mod explain;
mod export;
mod failure;
mod image_cache;
mod import;
mod interrupt;
mod layers;
mod leaks;
mod lr_find;
mod predict;
mod progress;
mod recipe;
mod resolve;
mod scoring;
mod search;
mod serve;
mod start;
mod train;
mod weights;
mod wording;

use arguments::{Arguments, Command};
use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.command {
        Command::Audit(arguments) => audit::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Train(arguments) => train::run(&arguments),
        Command::Experiment(arguments) => experiment::run(&arguments),
        Command::Search(arguments) => search::run(&arguments),
        Command::Evaluate(arguments) => evaluate::run(&arguments),
        Command::Compare(arguments) => compare::run(&arguments),
        Command::Report(arguments) => evaluate::report(&arguments),
        Command::Card(arguments) => card::run(&arguments),
        Command::Predict(arguments) => predict::run(&arguments),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Export(arguments) => export::run(&arguments),
        Command::Import(arguments) => import::run(&arguments),
        Command::Layers(arguments) => layers::run(&arguments),
        Command::Weights(arguments) => weights::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Completions(arguments) => completions::completions(&arguments),
        Command::Man(arguments) => completions::man(&arguments),
        Command::Data(arguments) => data::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
