//! Progress on stderr: a bar where a person watches, a line a minute elsewhere, a line an epoch everywhere.

use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use roentgen_run::history::EpochRecord;
use roentgen_train::{Event, Observer};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Where no bar can be seen, work says so often where it stands.
const LINE_INTERVAL: Duration = Duration::from_secs(60);

/// The bar of training.
const STEPS: &str = "{msg} {wide_bar} {eta_precise} left";

/// What a bar is drawn with: done, at work, to do.
const BAR: &str = "━╸ ";

/// Where long work stands: a bar where a person watches, a line a minute elsewhere.
pub struct Status {
    bar: ProgressBar,
    length: u64,
    position: u64,
    /// When this process began, at which position.
    begun: (Instant, u64),
    last_line: Instant,
}

impl Status {
    /// Of nothing yet.
    pub fn none() -> Status {
        Status::with_bar(ProgressBar::hidden(), 0)
    }

    /// Of `length` steps, shown as `template` says.
    pub fn new(length: u64, template: &str) -> Status {
        Status::with_bar(bar(length, template), length)
    }

    fn with_bar(bar: ProgressBar, length: u64) -> Status {
        Status { bar, length, position: 0, begun: (Instant::now(), 0), last_line: Instant::now() }
    }

    /// More is to be done than was known, `done` steps of it in an earlier process.
    pub fn add(&mut self, steps: u64, done: u64) {
        self.length += steps;
        self.position += done;
        self.bar.set_length(self.length);
        self.bar.set_position(self.position);
        self.bar.reset_eta();
        self.begun = (Instant::now(), self.position);
    }

    /// A step is done.
    pub fn step(&mut self) {
        self.set_position(self.position + 1);
    }

    /// So many steps are done.
    pub fn set_position(&mut self, position: u64) {
        self.position = position;
        self.bar.set_position(position);
    }

    /// What is being done.
    pub fn say(&mut self, text: String) {
        if self.bar.is_hidden() && self.last_line.elapsed() >= LINE_INTERVAL {
            self.line(&format!("{text}{}", self.left()));
        }
        self.bar.set_message(text);
    }

    /// A line that stays.
    pub fn line(&mut self, text: &str) {
        self.last_line = Instant::now();
        if self.bar.is_hidden() {
            eprintln!("{text}");
        } else {
            self.bar.println(text);
        }
    }

    /// Removes the bar.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }

    /// Words for the time left; nothing before a step was done.
    fn left(&self) -> String {
        let (begun, before) = self.begun;
        let (done, left) = (self.position.saturating_sub(before), self.length.saturating_sub(self.position));
        if done == 0 {
            return String::new();
        }
        let seconds = begun.elapsed().as_secs_f64() * left as f64 / done as f64;
        format!(", {} left", HumanDuration(Duration::from_secs_f64(seconds)))
    }
}

/// Watches training.
pub struct TrainingProgress {
    status: Status,
    stop: Arc<AtomicBool>,
}

impl TrainingProgress {
    /// Ends training in order once `stop` is set.
    pub fn new(stop: Arc<AtomicBool>) -> TrainingProgress {
        TrainingProgress { status: Status::none(), stop }
    }
}

impl Observer for TrainingProgress {
    fn event(&mut self, _run: usize, event: Event<'_>) {
        match event {
            Event::Started { steps_done, steps_total, micro_batch } => {
                if let Some(images) = micro_batch {
                    eprintln!("batches are computed in parts, {images} at a time, to keep the memory limit");
                }
                if steps_done > 0 {
                    eprintln!("going on after step {steps_done} of {steps_total}");
                }
                self.status = Status::new(0, STEPS);
                self.status.add(steps_total, steps_done);
            }
            Event::Reopened { removed } => {
                let names: Vec<_> = removed.iter().filter_map(|path| path.file_name()?.to_str()).collect();
                eprintln!("the run goes on; removed what belongs to its shorter form: {}", names.join(", "));
            }
            Event::Step { epoch, step, in_epoch: (done, all), mean_loss, accuracy, images_per_s, .. } => {
                self.status.set_position(step);
                self.status.say(format!(
                    "epoch {epoch}, step {done}/{all}: loss {mean_loss:.4}, accuracy {accuracy:.3}, {images_per_s:.1} images/s"
                ));
            }
            Event::Unfrozen { epoch, plan } => {
                self.status.line(&format!("from epoch {epoch} on {} are trained", plan.selectors().join(", ")));
            }
            Event::RangeStep { step, steps, learning_rate, loss } => {
                if step == 1 {
                    self.status = Status::new(steps as u64, STEPS);
                }
                self.status.set_position(step as u64);
                self.status.say(format!("step {step}/{steps}: learning rate {learning_rate:.1e}, loss {loss:.4}"));
            }
            Event::Validation { done, total } => self.status.say(format!("validation: {done}/{total} images")),
            Event::Epoch { record, epochs, waiting } => self.status.line(&epoch_line(record, epochs, waiting)),
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
fn bar(length: u64, template: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars(BAR));
    }
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}

/// How far work on many alike has come, such as images. Its threads may share it.
pub struct Count {
    what: &'static str,
    unit: &'static str,
    status: Mutex<Status>,
}

impl Count {
    /// `what` is done to `all` images: `looking at`.
    pub fn of_images(what: &'static str, all: usize) -> Count {
        Count::new(what, "images", all)
    }

    /// `what` is done to `all` of a unit.
    pub fn new(what: &'static str, unit: &'static str, all: usize) -> Count {
        let count = Count::of_unknown(what, unit);
        count.begin(all, 0);
        count
    }

    /// How many there are is not known yet, and may be none: says what is being done, and for how long.
    pub fn of_unknown(what: &'static str, unit: &'static str) -> Count {
        let spinner = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        spinner.set_style(ProgressStyle::with_template("{spinner} {msg} {elapsed}").expect("the template is fixed"));
        spinner.set_message(format!("{what} {unit}"));
        spinner.enable_steady_tick(Duration::from_millis(250));
        Count { what, unit, status: Mutex::new(Status::with_bar(spinner, 0)) }
    }

    /// `all` are to be done, `done` of them in an earlier process.
    pub fn begin(&self, all: usize, done: usize) {
        let Count { what, unit, status } = self;
        let mut status = lock(status);
        // Before another bar is drawn below it.
        status.clear();
        let mut bar = Status::new(0, &format!("{what} {{wide_bar}} {{pos}}/{{len}} {unit}, {{per_sec}}, {{eta}} left"));
        bar.add(all as u64, done as u64);
        *status = bar;
    }

    /// So many are done now; fewer than were said before is no news, as threads overtake each other.
    pub fn done(&self, done: usize) {
        let Count { what, unit, status } = self;
        let mut status = lock(status);
        if done as u64 > status.position {
            status.set_position(done as u64);
            let all = status.length;
            status.say(format!("{what} {unit}: {done} of {all}"));
        }
    }

    /// One more is done.
    pub fn one_more(&self) {
        let done = lock(&self.status).position + 1;
        self.done(done as usize);
    }

    /// As [`Count::done`], for what says with each how many there are: of other work, which follows the first, another number.
    pub fn done_of(&self, done: usize, all: usize) {
        let length = lock(&self.status).length;
        if length != all as u64 {
            self.begin(all, 0);
        }
        self.done(done);
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        lock(&self.status).clear();
    }
}

/// A status that a panicking thread left is as good as before.
fn lock(status: &Mutex<Status>) -> MutexGuard<'_, Status> {
    status.lock().unwrap_or_else(PoisonError::into_inner)
}
