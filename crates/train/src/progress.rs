//! What training tells whoever watches.

use crate::TrainError;
use roentgen_nn::FreezePlan;
use roentgen_run::history::EpochRecord;
use std::path::{Path, PathBuf};

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// Training begins or goes on.
    Started {
        /// Optimizer steps that lie behind.
        steps_done: u64,
        /// Optimizer steps in all.
        steps_total: u64,
        /// Images in a micro-batch, where the batch is cut to keep a memory limit.
        micro_batch: Option<usize>,
    },
    /// A finished run is trained further: its model and what was computed from it are gone.
    Reopened {
        /// What was removed.
        removed: &'a [PathBuf],
    },
    /// More is trained from this epoch on.
    Unfrozen {
        /// From 1.
        epoch: usize,
        /// What is trained now.
        plan: &'a FreezePlan,
    },
    /// An optimizer step was taken.
    Step {
        /// From 1.
        epoch: usize,
        /// From 1, over all epochs.
        step: u64,
        /// Steps in the epoch that lie behind, this one included, and in all.
        in_epoch: (usize, usize),
        /// Mean loss of the batch.
        loss: f64,
        /// Mean loss of the epoch so far.
        mean_loss: f64,
        /// Accuracy of the epoch so far.
        accuracy: f64,
        /// Images per second in this epoch.
        images_per_s: f64,
    },
    /// A step of a range test was taken.
    RangeStep {
        /// From 1.
        step: usize,
        /// Steps in all, where the loss does not end the test before.
        steps: usize,
        /// The rate that it was taken with.
        learning_rate: f64,
        /// Mean loss of the batch.
        loss: f64,
    },
    /// Validation goes on.
    Validation {
        /// Images that lie behind.
        done: usize,
        /// Images in all.
        total: usize,
    },
    /// An epoch ended.
    Epoch {
        /// Its line in `history.csv`.
        record: &'a EpochRecord,
        /// Epochs in all.
        epochs: usize,
        /// Share of the epoch's time spent waiting for images, in `[0, 1]`.
        waiting: f64,
    },
    /// A checkpoint was written.
    Saved,
    /// Values behind the frozen prefix will be kept on disk, so that they are computed once.
    ValuesKept {
        /// Where.
        folder: &'a Path,
        /// What they will take, in bytes.
        bytes: u64,
    },
    /// The values that are trained on repeat, but would take more than the limit: they are computed anew each epoch.
    ValuesOverLimit {
        /// What they would take, in bytes.
        bytes: u64,
    },
    /// Values of other weights, data or settings were found there and replaced.
    ValuesReplaced {
        /// The file.
        path: &'a Path,
    },
    /// The values can no longer be kept, and are computed anew each epoch; nothing else changes.
    ValuesGivenUp {
        /// The file that could not be written.
        path: &'a Path,
        /// What the system said.
        reason: &'a str,
    },
    /// The run cannot go on; the others of its group do.
    Failed {
        /// Why.
        error: &'a TrainError,
    },
}

/// Whoever watches.
pub trait Observer {
    /// Called as things happen, on the training thread. `run` counts, from 0, the runs that train together; what
    /// concerns them all is told of the first.
    fn event(&mut self, run: usize, event: Event<'_>);

    /// Asked before each step; `true` saves a checkpoint and ends training early.
    fn stop_requested(&self) -> bool {
        false
    }
}
