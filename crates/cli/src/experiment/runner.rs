//! Training many runs: in groups that share batches and frozen prefix, as far as memory allows.

use super::progress::GroupProgress;
use crate::failure::{Failure, Outcome};
use crate::leaks::Decoded;
use crate::train::{Data, Ready};
use crate::{search, start};
use roentgen_cpu::CpuEngine;
use roentgen_run::directory::{RunState, write_atomically};
use roentgen_run::environment::Environment;
use roentgen_run::{Config, RunDirectory};
use roentgen_train::{Setup, check_together, fit_together};
use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// One run to train.
#[derive(Clone, Debug)]
pub struct Job {
    /// How progress and messages call it.
    pub name: String,
    /// Where it is written.
    pub run: RunDirectory,
    /// All its settings.
    pub config: Config,
}

impl Job {
    /// Whether it is trained as far as its settings ask. A run that was made longer had come so far before.
    fn is_finished(&self) -> bool {
        let (asked, there) = (self.config.training.epochs, self.run.config().map(|config| config.training.epochs));
        match self.run.state() {
            RunState::Finished => there.is_ok_and(|epochs| epochs >= asked),
            RunState::Resumable => there.is_ok_and(|epochs| epochs > asked),
            RunState::Absent | RunState::Started | RunState::Foreign => false,
        }
    }
}

/// How a job ended.
#[derive(Debug)]
pub enum Ended {
    /// Its model is written.
    Finished,
    /// It cannot go on, and why.
    Failed(String),
}

/// Trains jobs.
pub struct Runner {
    engine: CpuEngine,
    /// Where values behind frozen prefixes are kept.
    cache: PathBuf,
    allow_leaks: bool,
    /// Whether the runs are a search's: their test images are sealed, and they may be longer than is asked for.
    searches: bool,
    stop: Arc<AtomicBool>,
    /// By what decides it: folds of one data set are data sets of their own.
    data: BTreeMap<String, Rc<Data>>,
    /// What decoding their images has told, by folder.
    decoded: BTreeMap<String, Rc<Decoded>>,
}

impl Runner {
    /// A runner; `stop` ends it in order.
    pub fn new(threads: Option<usize>, cache: PathBuf, allow_leaks: bool, stop: Arc<AtomicBool>) -> Outcome<Runner> {
        let engine = start::engine(threads)?;
        Ok(Runner {
            engine,
            cache,
            allow_leaks,
            searches: false,
            stop,
            data: BTreeMap::new(),
            decoded: BTreeMap::new(),
        })
    }

    /// Trains for a search: the test images of every run are sealed, and a run that has survived a comparison is longer
    /// than that comparison asks for.
    pub fn for_search(self) -> Runner {
        Runner { searches: true, ..self }
    }

    /// Checks, before anything is trained, what can be known wrong: settings against data, start weights that are not
    /// there, and folders that hold runs of other settings.
    pub fn check(&mut self, jobs: &[Job]) -> Outcome {
        for job in jobs {
            self.data(&job.config).map_err(|failure| failure.about(&job.name))?;
            let data = self.data(&job.config)?;
            Setup::check(&job.config, &data.manifest).map_err(|error| Failure::from(error).about(&job.name))?;
            // What goes on has its weights in its checkpoint.
            if matches!(job.run.state(), RunState::Absent | RunState::Started) {
                start::check_weights(&job.config.network.weights).map_err(|failure| failure.about(&job.name))?;
            }
            refuse_other_settings(job, self.searches)?;
            refuse_other_data(job, &data)?;
        }
        Ok(())
    }

    fn data(&mut self, config: &Config) -> Outcome<Rc<Data>> {
        let data = &config.data;
        let key = format!("{} {:?} {:?}", data.root.display(), data.cross_validation, data.on_bad_image);
        if let Some(known) = self.data.get(&key) {
            return Ok(known.clone());
        }
        // Other folds of the same images are not decoded again: rows keep their numbers.
        let images = format!("{} {:?}", data.root.display(), data.on_bad_image);
        let known = self.decoded.get(&images).cloned();
        let opened = Rc::new(Data::open(config, self.allow_leaks, known, &self.engine)?);
        self.decoded.insert(images, opened.decoded.clone());
        self.data.insert(key, opened.clone());
        Ok(opened)
    }

    /// Trains the jobs that are not finished, and calls `finished` with the runs of a group as soon as their models are
    /// written, and with those that were finished before, as many as share their data at once. A job that fails, in this
    /// as in training, leaves the others alone; why stands in its run's `failure.txt` until it succeeds. `None` where a stop
    /// was asked for; everything is saved then, and the same call goes on.
    pub fn train(
        &mut self,
        jobs: &[Job],
        mut finished: impl FnMut(&[&RunDirectory]) -> Vec<Outcome>,
    ) -> Outcome<Option<Vec<(String, Ended)>>> {
        let mut ended: Vec<(String, Ended)> = Vec::new();
        let mut progress = GroupProgress::new(jobs.len(), self.stop.clone());
        let mut end = |group: Vec<(&Job, Result<(), String>)>, progress: &mut GroupProgress| -> Outcome {
            let trained: Vec<&RunDirectory> =
                group.iter().filter(|(_, trained)| trained.is_ok()).map(|(job, _)| &job.run).collect();
            let mut outcomes = finished(&trained).into_iter();
            for (job, trained) in group {
                let ending = match trained.map(|()| outcomes.next().expect("one outcome a run")) {
                    Ok(Err(Failure::ReaderGone)) => return Err(Failure::ReaderGone),
                    Ok(Ok(())) => Ended::Finished,
                    Ok(Err(failure)) => Ended::Failed(failure.to_string()),
                    Err(reason) => Ended::Failed(reason),
                };
                if let Ended::Failed(reason) = &ending {
                    progress.failed(&job.name, reason);
                }
                note(job, &ending)?;
                progress.run_done();
                ended.push((job.name.clone(), ending));
            }
            Ok(())
        };
        let (before, open): (Vec<&Job>, Vec<&Job>) = jobs.iter().partition(|job| job.is_finished());
        for (_, class) in classes(before) {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            end(class.into_iter().map(|job| (job, Ok(()))).collect(), &mut progress)?;
        }
        for (_, mut class) in classes(open) {
            while !class.is_empty() {
                let mut refused = Vec::new();
                let group = self.next_group(&mut class, &mut refused);
                end(refused.into_iter().map(|(job, failure)| (job, Err(failure))).collect(), &mut progress)?;
                let outcomes = self.train_group(group, &mut progress)?;
                let stopped = self.stop.load(Ordering::Relaxed);
                // Who stops does not wait for an evaluation; the next call begins with it.
                let over = outcomes.into_iter().filter(|(_, outcome)| outcome.as_ref().map_or(true, |_| !stopped));
                end(over.map(|(job, outcome)| (job, outcome.map(|_| ()))).collect(), &mut progress)?;
                // Also where that was asked for during the evaluation.
                if stopped || self.stop.load(Ordering::Relaxed) {
                    return Ok(None);
                }
            }
        }
        // In the order of the jobs.
        let place = |name: &String| jobs.iter().position(|job| job.name == *name);
        ended.sort_by_key(|(name, _)| place(name));
        Ok(Some(ended))
    }

    /// Takes from a class as many jobs as can train together: what they train on is kept on disk for all or for none,
    /// and memory suffices. Jobs that cannot even train alone are `refused`, with the reason.
    fn next_group<'j>(
        &mut self,
        class: &mut VecDeque<&'j Job>,
        refused: &mut Vec<(&'j Job, String)>,
    ) -> Vec<(&'j Job, Ready)> {
        let mut group: Vec<(&Job, Ready)> = Vec::new();
        let mut left = VecDeque::new();
        let mut keeps_values = false;
        let mut least = LEAST_TOGETHER;
        while let Some(job) = class.pop_front() {
            let ready = match self.ready(job) {
                Ok(ready) => ready,
                Err(failure) => {
                    refused.push((job, failure.to_string()));
                    continue;
                }
            };
            let alone = match check_together(&[&ready.setup], &self.engine) {
                Ok(alone) => alone,
                Err(error) => {
                    refused.push((job, error.to_string()));
                    continue;
                }
            };
            if group.is_empty() {
                keeps_values = alone.keeps_values;
            }
            let mut setups: Vec<&Setup> = group.iter().map(|(_, ready)| &ready.setup).collect();
            setups.push(&ready.setup);
            match check_together(&setups, &self.engine) {
                Ok(together)
                    if [alone.keeps_values, together.keeps_values] == [keeps_values; 2]
                        && together.trained_at_once >= least.min(alone.trained_at_once) =>
                {
                    least = least.min(alone.trained_at_once);
                    group.push((job, ready));
                }
                _ => left.push_back(job),
            }
        }
        *class = left;
        group
    }

    fn ready(&mut self, job: &Job) -> Outcome<Ready> {
        let data = self.data(&job.config)?;
        let resumes = matches!(job.run.state(), RunState::Resumable | RunState::Finished);
        Ready::new(job.config.clone(), job.run.clone(), resumes, &data, &[], &self.engine)
    }

    /// Trains a group: for each job whether its model is written, or was stopped before; or why it failed.
    fn train_group<'j>(
        &mut self,
        group: Vec<(&'j Job, Ready)>,
        progress: &mut GroupProgress,
    ) -> Outcome<Vec<(&'j Job, Result<bool, String>)>> {
        let mut locks = Vec::new();
        for (job, ready) in &group {
            locks.push(ready.claim(job.run.lock()?)?);
            if self.searches {
                search::seal(&job.run)?;
            }
        }
        let (jobs, mut setups): (Vec<&Job>, Vec<Setup>) =
            group.into_iter().map(|(job, ready)| (job, ready.setup)).unzip();
        if jobs.is_empty() {
            return Ok(Vec::new());
        }
        progress.begin(&setups, jobs.iter().map(|job| job.name.clone()).collect());
        let outcomes = match fit_together(&mut setups, &self.engine, &self.cache, progress) {
            Ok(outcomes) => outcomes.into_iter().map(|outcome| outcome.map_err(|error| error.to_string())).collect(),
            Err(error) => vec![Err(error.to_string()); jobs.len()],
        };
        progress.end();
        let is_finished = |outcome| matches!(outcome, roentgen_train::Outcome::Finished { .. });
        Ok(jobs.into_iter().zip(outcomes).map(|(job, outcome)| (job, outcome.map(is_finished))).collect())
    }
}

/// Images of a batch that each run of a group takes at once, at least, where memory allows it that many alone: what is
/// gained by a shared prefix is lost where a program runs for a few images at a time.
const LEAST_TOGETHER: usize = 8;

/// Jobs by what they can share, in their order.
fn classes(jobs: Vec<&Job>) -> Vec<(String, VecDeque<&Job>)> {
    let mut classes: Vec<(String, VecDeque<&Job>)> = Vec::new();
    for job in jobs {
        let key = sharing_key(&job.config);
        match classes.iter_mut().find(|(known, _)| *known == key) {
            Some((_, class)) => class.push_back(job),
            None => classes.push((key, VecDeque::from([job]))),
        }
    }
    classes
}

/// Runs of one key see the same batches behind prefixes with the same weights.
fn sharing_key(config: &Config) -> String {
    let (network, training, engine) = (&config.network, &config.training, &config.engine);
    format!(
        "{} {} {:?} {} {} {:?} {}",
        network.architecture,
        network.weights,
        config.data,
        training.seed,
        training.batch_size,
        engine.precision,
        engine.exact
    )
}

/// Writes why a run failed into its folder, or removes what was said of an earlier try.
fn note(job: &Job, ending: &Ended) -> Outcome {
    let file = job.run.failure_file();
    match ending {
        Ended::Failed(reason) => {
            let line = reason.split_whitespace().collect::<Vec<_>>().join(" ");
            Ok(write_atomically(&file, |out| writeln!(out, "{line}"))?)
        }
        Ended::Finished if file.is_file() => {
            std::fs::remove_file(&file).map_err(|e| Failure::work(format!("{}: cannot remove: {e}", file.display())))
        }
        Ended::Finished => Ok(()),
    }
}

/// A folder that holds a run of other settings is not touched. How it is computed may differ where no result does, and
/// its length may grow; in a search it may also be longer already.
fn refuse_other_settings(job: &Job, may_be_longer: bool) -> Outcome {
    let path = job.run.path().display();
    match job.run.state() {
        RunState::Absent => return Ok(()),
        RunState::Foreign => {
            return Err(Failure::call(format!(
                "{path}: the folder holds something that is no run: give another --out, or remove it"
            )));
        }
        RunState::Started | RunState::Resumable | RunState::Finished => {}
    }
    let there = job.run.config()?;
    let mut here = job.config.clone();
    let engine = &mut here.engine;
    (engine.threads, engine.device) = (there.engine.threads, there.engine.device);
    (engine.memory_limit_mib, engine.cache_limit_mib) = (there.engine.memory_limit_mib, there.engine.cache_limit_mib);
    engine.image_cache.clone_from(&there.engine.image_cache);
    engine.image_cache_limit_mib = there.engine.image_cache_limit_mib;
    here.data.root.clone_from(&there.data.root);
    let grows = here.training.epochs > there.training.epochs && !there.training.schedule.spans_the_run();
    if grows || may_be_longer {
        here.training.epochs = there.training.epochs;
    }
    match there.differences(&here).first() {
        None => Ok(()),
        Some((name, before, now)) => Err(Failure::call(format!(
            "{path}: a run stands there with {name} = {before}, and `{}` asks for {now}: give another --out, or the row \
             another name{}",
            job.name,
            if name == "training.epochs" && there.training.schedule.spans_the_run() {
                "; a learning rate that is planned over the whole run cannot go on in a longer one"
            } else {
                ""
            }
        ))),
    }
}

/// A finished run is not trained again, so it must be one of these data.
fn refuse_other_data(job: &Job, data: &Data) -> Outcome {
    if !matches!(job.run.state(), RunState::Resumable | RunState::Finished) {
        return Ok(());
    }
    let there = Environment::read(&job.run.environment_file())?.data_fingerprint;
    if there == data.manifest.fingerprint()? {
        return Ok(());
    }
    Err(Failure::call(format!(
        "{}: the run there was trained on other images or splits than {} has now: give another --out",
        job.run.path().display(),
        job.config.data.root.display()
    )))
}
