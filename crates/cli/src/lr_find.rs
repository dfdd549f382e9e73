//! `roentgen train --lr-find`

use crate::failure::{Failure, Outcome};
use crate::interrupt;
use crate::progress::TrainingProgress;
use crate::start;
use crate::train::{Data, Ready};
use roentgen_run::history::write_table;
use roentgen_run::{Config, RunDirectory};
use roentgen_train::{range_test, valley};
use std::sync::atomic::Ordering;

/// Takes the steps of a range test from the run's start, and leaves its losses and their picture in the run's folder,
/// which is as ready for a run as before.
pub fn run(config: Config, run: &RunDirectory, allow_leaks: bool) -> Outcome {
    // `None` also where there is no folder yet.
    let _held = run.lock()?;
    let engine = start::engine(config.engine.threads)?;
    let data = Data::open(&config, allow_leaks, None, &engine)?;
    let Ready { mut setup, .. } = Ready::new(config, run.clone(), false, &data, &[], &engine)?;
    let stop = interrupt::flag();
    let steps = range_test(&mut setup, &engine, &mut TrainingProgress::new(stop.clone()))?;
    if stop.load(Ordering::Relaxed) {
        return Err(Failure::work(format!(
            "stopped after step {} of the range test; nothing was written",
            steps.len()
        )));
    }
    let (table, plot) = (run.range_test_file(), run.range_test_plot());
    write_table(&table, &["step", "learning_rate", "loss", "smoothed_loss"], &steps)?;
    let points: Vec<(f64, f64)> = steps.iter().map(|step| (step.learning_rate, step.smoothed_loss)).collect();
    let suggestion = valley(&steps);
    roentgen_report::write_range_test(&plot, &points, suggestion)?;
    eprintln!("wrote {} and {} ({} steps)", table.display(), plot.display(), steps.len());
    match suggestion {
        Some(rate) => println!("suggested learning rate: {rate:.1e} (fastai's valley)"),
        None => println!("no suggestion: the loss falls nowhere; look at the picture"),
    }
    Ok(())
}
