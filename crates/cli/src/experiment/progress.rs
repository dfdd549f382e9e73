//! Progress of many runs: one bar over all steps of a group, a line for each epoch of each run.

use crate::progress::{Status, epoch_line, notice};
use roentgen_train::{Event, Observer, Setup};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Watches the groups of an experiment.
pub struct GroupProgress {
    status: Status,
    stop: Arc<AtomicBool>,
    runs_total: usize,
    runs_done: usize,
    /// Of the group.
    names: Vec<String>,
}

impl GroupProgress {
    /// Progress over so many runs; `stop` ends training in order.
    pub fn new(runs_total: usize, stop: Arc<AtomicBool>) -> GroupProgress {
        GroupProgress { status: Status::none(), stop, runs_total, runs_done: 0, names: Vec::new() }
    }

    /// A run has ended, whichever way.
    pub fn run_done(&mut self) {
        self.runs_done += 1;
    }

    /// A group of runs begins.
    pub fn begin(&mut self, setups: &[Setup], names: Vec<String>) {
        let first = &setups[0];
        let what = match names.len() {
            1 => names[0].clone(),
            count => format!("{count} runs in step ({})", names.join(", ")),
        };
        eprintln!(
            "{} of {} runs done; {what}: {} at {} px on {} images ({} for validation)",
            self.runs_done,
            self.runs_total,
            first.network.architecture(),
            first.network.image_size(),
            first.train_rows.len(),
            first.validation_rows.len()
        );
        self.names = names;
        self.status = Status::new(0, "{msg} {wide_bar} {eta_precise} left for these runs");
    }

    /// The group has ended, whichever way.
    pub fn end(&mut self) {
        self.status.clear();
    }

    /// A run cannot go on.
    pub fn failed(&mut self, name: &str, reason: &str) {
        self.status.line(&format!("{name}: failed: {reason}"));
    }
}

impl Observer for GroupProgress {
    fn event(&mut self, run: usize, event: Event<'_>) {
        let name = &self.names[run];
        match event {
            Event::Started { steps_done, steps_total, micro_batch } => {
                if let Some(images) = micro_batch {
                    self.status.line(&format!(
                        "{name}: batches are computed in parts, {images} at a time, to keep the memory limit"
                    ));
                }
                if steps_done > 0 {
                    self.status.line(&format!("{name}: going on after step {steps_done} of {steps_total}"));
                }
                self.status.add(steps_total, steps_done);
            }
            Event::Step { epoch, in_epoch: (done, all), mean_loss, .. } => {
                self.status.step();
                self.status.say(format!("{name}: epoch {epoch}, step {done}/{all}: loss {mean_loss:.4}"));
            }
            Event::Validation { done, total } => self.status.say(format!("validation: {done}/{total} images")),
            Event::Epoch { record, epochs, waiting } => {
                self.status.line(&format!("{name}: {}", epoch_line(record, epochs, waiting)));
            }
            Event::Saved | Event::Failed { .. } | Event::Reopened { .. } => {}
            other => {
                if let Some(text) = notice(&other) {
                    self.status.line(&text);
                }
            }
        }
    }

    fn stop_requested(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
