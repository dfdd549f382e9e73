//! The training loop, of one run or of several that share their batches and their frozen prefix.

use crate::arrangement::{Arrangement, arrange};
use crate::feed::Feed;
use crate::learner::Learner;
use crate::{Event, Observer, Setup, TrainError};
use roentgen_data::{Augment, Transform};
use roentgen_infer::{OtherPrefix, SharedPrefix};
use roentgen_nn::{Engine, ParameterStore};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A checkpoint is written at least so often, beside the one after each epoch.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(600);
/// Images that are validated on between two looks at the observer.
const VALIDATION_BATCH: usize = 16;

/// How training ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// `model.safetensors` is written.
    Finished {
        /// The epoch whose weights it holds, from 1.
        epoch: usize,
    },
    /// The observer asked for a stop; a checkpoint is written.
    Interrupted {
        /// Optimizer steps that lie behind.
        steps_done: u64,
    },
}

/// Trains from where the run directory's checkpoint stands, or from the start where there is none. Values behind the
/// frozen prefix are kept in the run directory while it trains, where they are used more than once.
///
/// Every result is a function of configuration, data and seed; how often it was interrupted, how many threads ran, how
/// the batch was cut and what was kept play no part.
///
/// # Errors
/// Where an image cannot be decoded, the loss is not finite, memory does not suffice, or the disk refuses; the last
/// checkpoint stays.
pub fn fit(setup: &mut Setup, engine: &dyn Engine, observer: &mut dyn Observer) -> Result<Outcome, TrainError> {
    let cache = setup.run.cache_folder();
    let outcome = fit_together(std::slice::from_mut(setup), engine, &cache, observer)?.remove(0);
    if let Ok(Outcome::Finished { .. }) = outcome {
        // What it held can be computed again; that it cannot be removed is no reason to fail.
        let _ = std::fs::remove_dir_all(&cache);
    }
    outcome
}

/// Trains runs that see the same batches behind one frozen prefix, in step: each image is decoded once, and the longest
/// of their prefixes computed once. Each run ends with the bits that it would have alone. Values behind the prefix are
/// kept in the folder `cache` where later epochs, or later calls, can use them.
///
/// One outcome a run, in order: a run that fails leaves the others alone.
///
/// # Errors
/// Where the runs do not fit together, an image cannot be decoded, or memory does not suffice.
pub fn fit_together(
    setups: &mut [Setup],
    engine: &dyn Engine,
    cache: &Path,
    observer: &mut dyn Observer,
) -> Result<Vec<Result<Outcome, TrainError>>, TrainError> {
    let take = |setup: &mut Setup| {
        let empty = ParameterStore::new(&setup.network);
        std::mem::replace(&mut setup.store, empty)
    };
    let stores: Vec<ParameterStore> = setups.iter_mut().map(take).collect();
    let setups: Vec<&Setup> = setups.iter().collect();
    let arrangement = arrange(&setups, engine)?;
    let mut learners = Vec::new();
    for (run, (&setup, store)) in setups.iter().zip(stores).enumerate() {
        let cuts = (arrangement.train_cuts[run].as_slice(), arrangement.validation_cuts[run].as_slice());
        let at_once = (arrangement.trained_at_once[run], arrangement.evaluated_at_once);
        let mut learner = Learner::new(setup, store, engine, cuts, at_once)?;
        learner.begin(run, observer)?;
        learners.push(learner);
    }
    let group = Group::new(learners, arrangement, engine, cache, observer)?;
    group.run(observer)
}

/// What [`fit_together`] would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Together {
    /// Whether what the runs train on is computed once and kept on disk, so that epochs neither decode nor compute it.
    pub keeps_values: bool,
    /// Images of a batch that go through a training program at once, in the run that takes the fewest.
    pub trained_at_once: usize,
}

/// Checks what [`fit_together`] will need, without allocating or writing anything.
///
/// # Errors
/// Where the runs do not fit together, or memory does not suffice.
pub fn check_together(setups: &[&Setup], engine: &dyn Engine) -> Result<Together, TrainError> {
    let arrangement = arrange(setups, engine)?;
    let at_once = arrangement.trained_at_once.iter().copied().min().unwrap_or(0);
    Ok(Together { keeps_values: arrangement.keep_train, trained_at_once: at_once })
}

/// Removes what earlier groups kept in a folder where it would not stay within the limit together with the files `used` now,
/// which take so many bytes.
fn make_room(folder: &Path, used: &[PathBuf], bytes: u64, limit: u64) {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let others: Vec<(PathBuf, u64)> = entries
        .map(|entry| (entry.path(), entry.metadata().map_or(0, |metadata| metadata.len())))
        .filter(|(path, _)| path.extension().is_some_and(|extension| extension == "values") && !used.contains(path))
        .collect();
    if bytes + others.iter().map(|(_, bytes)| bytes).sum::<u64>() > limit {
        for (path, _) in others {
            // What cannot be removed is in nobody's way but the limit's.
            let _ = std::fs::remove_file(path);
        }
    }
}

struct Group<'a> {
    engine: &'a dyn Engine,
    /// `Err` holds why a run cannot go on.
    learners: Vec<Result<Learner<'a>, TrainError>>,
    train: Feed<'a>,
    validation: Feed<'a>,
    /// The tensors of the prefix, which no run of the group changes.
    weights: ParameterStore,
    last_save: Instant,
}

impl<'a> Group<'a> {
    fn new(
        learners: Vec<Learner<'a>>,
        arrangement: Arrangement,
        engine: &'a dyn Engine,
        cache: &Path,
        observer: &mut dyn Observer,
    ) -> Result<Group<'a>, TrainError> {
        let first = learners[0].setup;
        let union = arrangement.train_cuts.concat();
        let weights = prefix_weights(&learners)?;
        let at_once = arrangement.evaluated_at_once;
        let mut train = Feed::new(first, engine, first.train_transform(), arrangement.views, &union, at_once);
        let fixed = Transform { augment: Augment::None, ..first.train_transform() };
        let mut validation = Feed::new(first, engine, fixed, Some(1), &arrangement.validation_cuts.concat(), at_once);
        let work_is_left = learners.iter().any(Learner::work_is_left);
        if let Some(bytes) = arrangement.over_limit.filter(|_| work_is_left && first.cache_limit_bytes() > 0) {
            observer.event(0, Event::ValuesOverLimit { bytes });
        }
        if work_is_left && (arrangement.keep_train || arrangement.keep_validation) {
            observer.event(0, Event::ValuesKept { folder: cache, bytes: arrangement.bytes_on_disk });
            let used = [train.files_in(cache), validation.files_in(cache)].concat();
            make_room(cache, &used, arrangement.bytes_on_disk, first.cache_limit_bytes());
            if arrangement.keep_train {
                train.keep_on_disk(cache, &weights, observer)?;
            }
            if arrangement.keep_validation {
                validation.keep_on_disk(cache, &weights, observer)?;
            }
        }
        Ok(Group {
            engine,
            learners: learners.into_iter().map(Ok).collect(),
            train,
            validation,
            weights,
            last_save: Instant::now(),
        })
    }

    fn run(mut self, observer: &mut dyn Observer) -> Result<Vec<Result<Outcome, TrainError>>, TrainError> {
        let mut interrupted = false;
        while !interrupted && let Some(epoch) = self.earliest_epoch() {
            interrupted = !self.epoch(epoch, observer)?;
        }
        let outcome = |learner: Learner<'_>| match learner.work_is_left() {
            true => Ok(Outcome::Interrupted { steps_done: learner.position.step }),
            false => Ok(Outcome::Finished { epoch: learner.write_selected()? }),
        };
        Ok(self.learners.into_iter().map(|learner| learner.and_then(outcome)).collect())
    }

    /// The epoch, from 1, of the run that lies furthest behind: a kill may have parted them.
    fn earliest_epoch(&self) -> Option<usize> {
        let working = self.learners.iter().flatten().filter(|learner| learner.work_is_left());
        working.map(|learner| learner.position.epochs_done + 1).min()
    }

    /// One epoch, or what is left of it, of the runs that stand in it. `false` where the observer asked for a stop.
    fn epoch(&mut self, epoch: usize, observer: &mut dyn Observer) -> Result<bool, TrainError> {
        let stands_in_it = |learner: &Learner<'_>| learner.work_is_left() && learner.position.epochs_done + 1 == epoch;
        let working: Vec<&Learner<'_>> =
            self.learners.iter().flatten().filter(|learner| stands_in_it(learner)).collect();
        let setup = working[0].setup;
        let training = &setup.config.training;
        let mut step = working.iter().map(|learner| learner.position.steps_in_epoch).min().unwrap_or(0);
        let mut order = setup.epoch_order(epoch);
        order.drain(..(step * training.batch_size).min(order.len()));
        self.train.begin(order, training.batch_size, epoch as u64)?;
        loop {
            let is_next = |learner: &Learner<'_>| {
                let position = &learner.position;
                stands_in_it(learner) && position.steps_in_epoch >= step && position.step < learner.steps_total()
            };
            if !self.learners.iter().flatten().any(is_next) {
                break;
            }
            if observer.stop_requested() {
                self.train.end();
                each(&mut self.learners, observer, stands_in_it, |learner, run, observer| learner.save(run, observer));
                return Ok(false);
            }
            let begun = Instant::now();
            let Some(fed) = self.train.next(&mut self.weights, observer)? else { break };
            let takes_part = |learner: &Learner<'_>| is_next(learner) && learner.position.steps_in_epoch == step;
            let sharing = self.learners.iter().flatten().filter(|learner| takes_part(learner)).count().max(1);
            let shared_s = begun.elapsed().as_secs_f64() / sharing as f64;
            each(&mut self.learners, observer, takes_part, |learner, run, observer| {
                learner.step(&fed, shared_s, run, observer)
            });
            step += 1;
            if self.last_save.elapsed() > CHECKPOINT_INTERVAL {
                each(&mut self.learners, observer, stands_in_it, |learner, run, observer| learner.save(run, observer));
                self.last_save = Instant::now();
            }
        }
        let waited_s = self.train.end();
        let sharing = self.learners.iter().flatten().filter(|learner| stands_in_it(learner)).count().max(1);
        each(&mut self.learners, observer, stands_in_it, |learner, _, _| {
            learner.waited(waited_s / sharing as f64);
            Ok(())
        });
        if !self.validate(stands_in_it, observer)? {
            each(&mut self.learners, observer, stands_in_it, |learner, run, observer| learner.save(run, observer));
            return Ok(false);
        }
        each(&mut self.learners, observer, stands_in_it, |learner, run, observer| learner.end_epoch(run, observer));
        self.last_save = Instant::now();
        Ok(true)
    }

    /// Lets runs see the validation images. `false` where the observer asked for a stop.
    fn validate(
        &mut self,
        takes_part: impl Fn(&Learner<'_>) -> bool + Copy,
        observer: &mut dyn Observer,
    ) -> Result<bool, TrainError> {
        each(&mut self.learners, observer, takes_part, |learner, _, _| {
            learner.begin_validation();
            Ok(())
        });
        let Some(setup) = self.learners.iter().flatten().find(|learner| takes_part(learner)).map(|l| l.setup) else {
            return Ok(true);
        };
        let rows = setup.validation_rows.clone();
        let total = rows.len();
        if total == 0 {
            return Ok(true);
        }
        self.validation.begin(rows, VALIDATION_BATCH, 1)?;
        let mut done = 0;
        loop {
            let begun = Instant::now();
            let Some(fed) = self.validation.next(&mut self.weights, observer)? else { break };
            let images = fed.rows.len();
            let sharing = self.learners.iter().flatten().filter(|learner| takes_part(learner)).count().max(1);
            let shared_s = begun.elapsed().as_secs_f64() / sharing as f64;
            each(&mut self.learners, observer, takes_part, |learner, _, _| {
                learner.validate(&fed, shared_s, self.engine)
            });
            done += images;
            observer.event(0, Event::Validation { done, total });
            if observer.stop_requested() {
                self.validation.end();
                return Ok(false);
            }
        }
        self.validation.end();
        Ok(true)
    }
}

/// Lets each run that `takes_part` do something; one that fails is told of and left out from then on.
fn each<'a>(
    learners: &mut [Result<Learner<'a>, TrainError>],
    observer: &mut dyn Observer,
    takes_part: impl Fn(&Learner<'_>) -> bool,
    mut act: impl FnMut(&mut Learner<'a>, usize, &mut dyn Observer) -> Result<(), TrainError>,
) {
    for (run, slot) in learners.iter_mut().enumerate() {
        let Ok(learner) = slot else { continue };
        if !takes_part(learner) {
            continue;
        }
        if let Err(error) = act(learner, run, observer) {
            observer.event(run, Event::Failed { error: &error });
            *slot = Err(error);
        }
    }
}

/// The tensors that lie before the cuts, from the runs that have them frozen. A checkpoint holds them too, so that a
/// resumed run need not know where its weights once came from.
fn prefix_weights(learners: &[Learner<'_>]) -> Result<ParameterStore, TrainError> {
    let mut prefix = SharedPrefix::new(&learners[0].setup.network);
    for (run, learner) in learners.iter().enumerate() {
        let network = &learner.setup.network;
        let cut = learner.setup.plan.cut(network);
        prefix.take(run, network, &cut, &learner.store).map_err(|OtherPrefix { tensor, other }| {
            TrainError::Setting {
                setting: "a run that is to train together with another",
                found: format!(
                    "{} beside {}, with other values in the frozen `{}`",
                    learner.setup.run.path().display(),
                    learners[other].setup.run.path().display(),
                    network.tensors()[tensor].name
                ),
                expected: "the same start weights",
            }
        })?;
    }
    Ok(prefix.into_weights())
}
