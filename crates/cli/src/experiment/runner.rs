//! Training many runs: in groups that share batches and frozen prefix, as far as memory allows.

use super::progress::GroupProgress;
use crate::failure::{Failure, Outcome};
use crate::leaks::Decoded;
use crate::train::{Data, Ready};
use crate::{search, start};
use roentgen_cpu::CpuEngine;
use roentgen_run::directory::RunState;
use roentgen_run::{Config, RunDirectory};
use roentgen_train::{Setup, check_together, fit_together};
use std::collections::{BTreeMap, VecDeque};
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
    /// Whether it is trained as far as its settings ask.
    fn is_finished(&self) -> bool {
        self.run.state() == RunState::Finished
            && self.run.config().is_ok_and(|config| config.training.epochs >= self.config.training.epochs)
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
    /// Whether the runs' test images are sealed.
    seals_tests: bool,
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
            seals_tests: false,
            stop,
            data: BTreeMap::new(),
            decoded: BTreeMap::new(),
        })
    }

    /// Seals the test images of every run that it begins.
    pub fn with_sealed_tests(self) -> Runner {
        Runner { seals_tests: true, ..self }
    }

    /// Checks, before anything is trained, what can be known wrong: settings against data, and folders that hold runs
    /// of other settings.
    pub fn check(&mut self, jobs: &[Job]) -> Outcome {
        for job in jobs {
            self.data(&job.config).map_err(|failure| failure.about(&job.name))?;
            let data = self.data(&job.config)?;
            Setup::check(&job.config, &data.manifest).map_err(|error| Failure::from(error).about(&job.name))?;
            refuse_other_settings(job)?;
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

    /// Trains the jobs that are not finished, and calls `finished` for each as soon as its model is written, for those
    /// too that were finished before. A job that fails leaves the others alone. `None` where a stop was asked for;
    /// everything is saved then, and the same call goes on.
    pub fn train(
        &mut self,
        jobs: &[Job],
        mut finished: impl FnMut(&Job) -> Outcome,
    ) -> Outcome<Option<Vec<(String, Ended)>>> {
        let mut ended: Vec<(String, Ended)> = Vec::new();
        let mut classes: Vec<(String, VecDeque<&Job>)> = Vec::new();
        for job in jobs {
            if job.is_finished() {
                finished(job)?;
                ended.push((job.name.clone(), Ended::Finished));
                continue;
            }
            let key = sharing_key(&job.config);
            match classes.iter_mut().find(|(known, _)| *known == key) {
                Some((_, class)) => class.push_back(job),
                None => classes.push((key, VecDeque::from([job]))),
            }
        }
        let mut progress = GroupProgress::new(jobs.len(), ended.len(), self.stop.clone());
        for (_, mut class) in classes {
            while !class.is_empty() {
                let mut refused = Vec::new();
                let group = self.next_group(&mut class, &mut refused);
                for (job, failure) in refused {
                    progress.failed(&job.name, &failure);
                    ended.push((job.name.clone(), Ended::Failed(failure)));
                }
                for (job, outcome) in self.train_group(group, &mut progress)? {
                    match outcome {
                        Ok(true) => {
                            finished(job)?;
                            ended.push((job.name.clone(), Ended::Finished));
                        }
                        Ok(false) => return Ok(None),
                        Err(failure) => {
                            progress.failed(&job.name, &failure);
                            ended.push((job.name.clone(), Ended::Failed(failure)));
                        }
                    }
                }
                if self.stop.load(Ordering::Relaxed) {
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
        while let Some(job) = class.pop_front() {
            let ready = match self.ready(job) {
                Ok(ready) => ready,
                Err(failure) => {
                    refused.push((job, failure.to_string()));
                    continue;
                }
            };
            let alone = check_together(&[&ready.setup], &self.engine);
            match alone {
                Err(error) => {
                    refused.push((job, error.to_string()));
                    continue;
                }
                Ok(together) if group.is_empty() => keeps_values = together.keeps_values,
                Ok(together) if together.keeps_values != keeps_values => {
                    left.push_back(job);
                    continue;
                }
                Ok(_) => {}
            }
            let mut setups: Vec<&Setup> = group.iter().map(|(_, ready)| &ready.setup).collect();
            setups.push(&ready.setup);
            match check_together(&setups, &self.engine) {
                Ok(together) if together.keeps_values == keeps_values => group.push((job, ready)),
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
            if self.seals_tests {
                search::seal(&job.run)?;
            }
        }
        let (jobs, mut setups): (Vec<&Job>, Vec<Setup>) =
            group.into_iter().map(|(job, ready)| (job, ready.setup)).unzip();
        if jobs.is_empty() {
            return Ok(Vec::new());
        }
        progress.begin(&setups, jobs.iter().map(|job| job.name.clone()).collect());
        // Values of another architecture or image size have a folder of their own; those of other weights replace each
        // other.
        let network = &setups[0].network;
        let cache = self.cache.join(format!("{}-{}", network.architecture(), network.image_size()));
        let outcomes = match fit_together(&mut setups, &self.engine, &cache, progress) {
            Ok(outcomes) => outcomes.into_iter().map(|outcome| outcome.map_err(|error| error.to_string())).collect(),
            Err(error) => vec![Err(error.to_string()); jobs.len()],
        };
        progress.end();
        let is_finished = |outcome| matches!(outcome, roentgen_train::Outcome::Finished { .. });
        Ok(jobs.into_iter().zip(outcomes).map(|(job, outcome)| (job, outcome.map(is_finished))).collect())
    }
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

/// A folder that holds a run of other settings is not touched. How it is computed may differ where no result does, and
/// its length may grow.
fn refuse_other_settings(job: &Job) -> Outcome {
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
    here.data.root.clone_from(&there.data.root);
    if there.training.epochs < here.training.epochs {
        here.training.epochs = there.training.epochs;
    }
    match there.differences(&here).first() {
        None => Ok(()),
        Some((name, before, now)) => Err(Failure::call(format!(
            "{path}: a run stands there with {name} = {before}, and `{}` asks for {now}: give another --out, or the row \
             another name",
            job.name
        ))),
    }
}
