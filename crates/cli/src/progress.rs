//! Progress on stderr: a bar where a person watches, a line an epoch everywhere.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use roentgen_run::history::EpochRecord;
use roentgen_train::{Event, Observer};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Where no bar can be seen, an epoch says so often where it stands.
const LINE_INTERVAL: Duration = Duration::from_secs(60);

/// Watches training.
pub struct TrainingProgress {
    bar: ProgressBar,
    stop: Arc<AtomicBool>,
    last_line: Instant,
}

impl TrainingProgress {
    /// Ends training in order once `stop` is set.
    pub fn new(stop: Arc<AtomicBool>) -> TrainingProgress {
        TrainingProgress { bar: ProgressBar::hidden(), stop, last_line: Instant::now() }
    }

    /// Shows where training stands: in the bar, or as a line now and then where there is none.
    fn status(&mut self, text: String) {
        if self.bar.is_hidden() && self.last_line.elapsed() >= LINE_INTERVAL {
            self.line(&text);
        }
        self.bar.set_message(text);
    }

    fn line(&mut self, text: &str) {
        self.last_line = Instant::now();
        if self.bar.is_hidden() {
            eprintln!("{text}");
        } else {
            self.bar.println(text);
        }
    }
}

impl Observer for TrainingProgress {
    fn event(&mut self, _run: usize, event: Event<'_>) {
        match event {
            Event::Started { steps_done, steps_total, micro_batch } => {
                if let Some(images) = micro_batch {
                    eprintln!("batches are computed {images} images at a time to keep the memory limit");
                }
                if steps_done > 0 {
                    eprintln!("going on after step {steps_done} of {steps_total}");
                }
                self.bar = bar(steps_total, "{msg} {wide_bar} {eta_precise} left");
                self.bar.set_position(steps_done);
                self.bar.reset_eta();
            }
            Event::Reopened { removed } => {
                let names: Vec<_> = removed.iter().filter_map(|path| path.file_name()?.to_str()).collect();
                eprintln!("the run goes on; removed what belongs to its shorter form: {}", names.join(", "));
            }
            Event::Step { epoch, step, in_epoch: (done, all), mean_loss, accuracy, images_per_s, .. } => {
                self.status(format!(
                    "epoch {epoch}, step {done}/{all}: loss {mean_loss:.4}, accuracy {accuracy:.3}, {images_per_s:.1} images/s"
                ));
                self.bar.set_position(step);
            }
            Event::Unfrozen { epoch, plan } => {
                self.line(&format!("from epoch {epoch} on {} are trained", plan.selectors().join(", ")));
            }
            Event::RangeStep { step, steps, learning_rate, loss } => {
                self.status(format!("step {step}/{steps}: learning rate {learning_rate:.1e}, loss {loss:.4}"));
                self.bar.set_position(step as u64);
            }
            Event::Validation { done, total } => self.status(format!("validation: {done}/{total} images")),
            Event::Epoch { record, epochs, waiting } => self.line(&epoch_line(record, epochs, waiting)),
            other => {
                if let Some(text) = notice(&other) {
                    self.line(&text);
                }
            }
        }
    }

    fn stop_requested(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// What a reader of the log keeps of an epoch.
pub fn epoch_line(record: &EpochRecord, epochs: usize, waiting: f64) -> String {
    let validation = match (record.valid_loss, record.valid_accuracy) {
        (Some(loss), Some(accuracy)) => format!("loss {loss:.4}, accuracy {accuracy:.4}"),
        _ => "none".into(),
    };
    let mut line = format!(
        "epoch {}/{epochs}: train loss {:.4}, accuracy {:.4}; validation {validation}; {:.1} s, {:.1} images/s",
        record.epoch, record.train_loss, record.train_accuracy, record.seconds, record.images_per_s
    );
    if waiting > 0.05 {
        line += &format!(", {:.0} % of it waiting for images", 100.0 * waiting);
    }
    if let Some(note) = &record.note {
        line += &format!("\n{note}");
    }
    line
}

/// What is said of values on disk; nothing of other events.
pub fn notice(event: &Event<'_>) -> Option<String> {
    match event {
        Event::ValuesKept { folder, bytes } => Some(format!(
            "values behind the frozen part are computed once and kept in {} ({:.1} MiB; --cache-limit bounds it)",
            folder.display(),
            *bytes as f64 / f64::from(1 << 20)
        )),
        Event::ValuesOverLimit { bytes } => Some(format!(
            "note: the training images' values behind the frozen part would take {:.1} MiB, more than --cache-limit: they are \
             computed anew each epoch",
            *bytes as f64 / f64::from(1 << 20)
        )),
        Event::ValuesReplaced { path } => {
            Some(format!("{}: of other weights, data or settings; computed again", path.display()))
        }
        Event::ValuesGivenUp { path, reason } => Some(format!(
            "warning: {}: {reason}; goes on without, and computes the frozen part each epoch",
            path.display()
        )),
        _ => None,
    }
}

/// A bar on stderr; hidden where stderr is no terminal.
pub fn bar(length: u64, template: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("━╸ "));
    }
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}

/// How far a long list of images has come: a bar where a person watches, a line a minute elsewhere.
pub struct ImageProgress {
    bar: ProgressBar,
    all: usize,
    /// When this process began, with how many done before.
    begun: (Instant, usize),
    last_line: Instant,
}

impl ImageProgress {
    /// Of `all` images, `done` were done before.
    pub fn new(all: usize, done: usize) -> ImageProgress {
        let bar = bar(all as u64, "{wide_bar} {pos}/{len} images, {per_sec}, {eta_precise} left");
        bar.set_position(done as u64);
        bar.reset_eta();
        ImageProgress { bar, all, begun: (Instant::now(), done), last_line: Instant::now() }
    }

    /// So many are done now.
    pub fn done(&mut self, done: usize) {
        self.bar.set_position(done as u64);
        if self.bar.is_hidden() && self.last_line.elapsed() >= LINE_INTERVAL {
            self.last_line = Instant::now();
            let (begun, before) = self.begun;
            let rate = (done - before) as f64 / begun.elapsed().as_secs_f64();
            let minutes = (self.all - done) as f64 / rate / 60.0;
            eprintln!("{done} of {} images, {rate:.1} images/s, {minutes:.0} minutes left", self.all);
        }
    }

    /// Removes the bar.
    pub fn finish(self) {
        self.bar.finish_and_clear();
    }
}
