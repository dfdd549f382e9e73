//! One run as it learns: its weights, optimizer, tables and checkpoints. What it is fed with comes from outside.

use crate::arrangement::validation_request;
use crate::checkpoint::{BestEpoch, Checkpoint, EpochSums};
use crate::event_file::EventFile;
use crate::feed::Fed;
use crate::step::Stepper;
use crate::{Event, LearningRate, Observer, Setup, TrainError};
use roentgen_infer::write_model;
use roentgen_nn::loss::cross_entropy;
use roentgen_nn::{Draws, Engine, FreezePlan, ParameterSet, ParameterStore, Program, ValueId};
use roentgen_run::config::Select;
use roentgen_run::history::{
    EpochRecord, HISTORY_HEADER, STEPS_HEADER, StepRecord, append_rows, as_written, read_table, write_table,
};
use roentgen_run::predictions::largest;
use std::time::Instant;

/// One run as it learns.
pub(crate) struct Learner<'a> {
    /// What it is.
    pub(crate) setup: &'a Setup,
    /// Its weights.
    pub(crate) store: ParameterStore,
    /// Where it stands.
    pub(crate) position: Checkpoint,
    stepper: Stepper<'a>,
    rate: LearningRate,
    validation: Validation,
    /// Steps that are not in `steps.csv` yet.
    unwritten: Vec<StepRecord>,
    /// TensorBoard's file, where it was asked for.
    events: Option<EventFile>,
    /// Epochs and steps that the last checkpoint counts, where there is one.
    saved: Option<(usize, u64)>,
    /// What this process has done of the epoch.
    trained: Trained,
}

#[derive(Clone, Copy, Default)]
struct Trained {
    images: usize,
    seconds: f64,
    waited_s: f64,
}

/// The network in evaluation mode, and sums over the images that it has seen.
struct Validation {
    cut: Vec<ValueId>,
    program: Option<Box<dyn Program>>,
    images_at_once: usize,
    /// `[N, K]`.
    logits: Vec<f32>,
    loss: f64,
    correct: usize,
    images: usize,
}

impl<'a> Learner<'a> {
    /// A run at its last checkpoint, or at its start. Of what comes in pairs, the first is for training, the second for
    /// validation: the cuts whose values the programs take, and the images that they take at once.
    pub(crate) fn new(
        setup: &'a Setup,
        mut store: ParameterStore,
        engine: &'a dyn Engine,
        cuts: (&[ValueId], &[ValueId]),
        at_once: (usize, usize),
    ) -> Result<Learner<'a>, TrainError> {
        let file = setup.run.last_checkpoint_file();
        let resumed = file.is_file().then(|| Checkpoint::read(&file)).transpose()?;
        let stage = resumed.as_ref().map_or(&setup.stages[0], |position| position.stage(setup));
        let mut stepper = Stepper::new(setup, engine, stage, cuts.0, at_once.0)?;
        let mut saved = None;
        let position = if let Some(position) = resumed {
            position.restore(setup, &mut store, &mut stepper.optimizer)?;
            discard_after(setup, &position)?;
            saved = Some((position.epochs_done, position.step));
            position
        } else {
            if setup.config.training.average_decay.is_some() {
                store.start_average();
            }
            write_table::<EpochRecord>(&setup.run.history_file(), &HISTORY_HEADER, &[])?;
            write_table::<StepRecord>(&setup.run.steps_file(), &STEPS_HEADER, &[])?;
            Checkpoint::start(setup, engine.bits())
        };
        let events = setup
            .config
            .training
            .tensorboard
            .then(|| EventFile::open(&setup.run.tensorboard_folder(), position.tensorboard_bytes));
        Ok(Learner {
            setup,
            store,
            stepper,
            rate: setup.learning_rate(),
            validation: Validation {
                cut: cuts.1.to_vec(),
                program: None,
                images_at_once: at_once.1,
                logits: Vec::new(),
                loss: 0.0,
                correct: 0,
                images: 0,
            },
            position: Checkpoint { instruction_set: engine.bits(), ..position },
            unwritten: Vec::new(),
            events: events.transpose()?,
            saved,
            trained: Trained::default(),
        })
    }

    pub(crate) fn steps_total(&self) -> u64 {
        self.setup.steps_total()
    }

    /// Whether an epoch has to be begun, or one whose steps may all be done has still to be validated.
    pub(crate) fn work_is_left(&self) -> bool {
        let position = &self.position;
        let steps_left = position.step < self.steps_total() || position.steps_in_epoch > 0;
        let training = &self.setup.config.training;
        position.epochs_done < training.epochs && steps_left && !position.stopped_early(training)
    }

    /// Tells the observer where the run begins, and takes a finished one up again.
    pub(crate) fn begin(&mut self, run: usize, observer: &mut dyn Observer) -> Result<(), TrainError> {
        observer.event(
            run,
            Event::Started {
                steps_done: self.position.step,
                steps_total: self.steps_total(),
                micro_batch: self.stepper.micro_batch(),
            },
        );
        if self.work_is_left() {
            let removed = self.setup.run.reopen()?;
            if !removed.is_empty() {
                observer.event(run, Event::Reopened { removed: &removed });
            }
        }
        Ok(())
    }

    /// One optimizer step. `shared_s` are the seconds that this run's share of what came before it took: loading, and
    /// the prefix.
    pub(crate) fn step(
        &mut self,
        fed: &Fed<'_>,
        shared_s: f64,
        run: usize,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        let begun = Instant::now();
        let setup = self.setup;
        let epoch = self.position.epochs_done + 1;
        let stage = setup.stage(epoch);
        if stage.from_epoch != self.stepper.stage.from_epoch {
            self.stepper.enter(stage);
            self.position.record(setup, &stage.plan);
            observer.event(run, Event::Unfrozen { epoch, plan: &stage.plan });
        }
        let batch = self.stepper.gradients_of(&mut self.store, fed, epoch)?;
        let loss = batch.loss / batch.weight;
        if !loss.is_finite() {
            return Err(self.not_finite("the loss of", self.position.step + 1, loss));
        }
        let rates = self.rate.at(self.position.step);
        if let Err(norm) = self.stepper.update(&mut self.store, rates) {
            return Err(self.not_finite("the norm of the gradients of", self.position.step + 1, norm));
        }
        self.position.step += 1;
        self.position.steps_in_epoch += 1;
        let sums = &mut self.position.sums;
        sums.loss += batch.loss;
        sums.weight += batch.weight;
        sums.correct += batch.correct;
        sums.images += fed.labels.len();
        self.unwritten.push(StepRecord { step: self.position.step, epoch, loss });
        if let Some(events) = &mut self.events {
            events.scalar("step/train_loss", self.position.step, loss);
            events.scalar("step/learning_rate", self.position.step, as_written(rates.learning_rate));
        }
        let seconds = shared_s + begun.elapsed().as_secs_f64();
        self.position.seconds_in_epoch += seconds;
        self.trained.images += fed.labels.len();
        self.trained.seconds += seconds;
        let sums = self.position.sums;
        observer.event(
            run,
            Event::Step {
                epoch,
                step: self.position.step,
                in_epoch: (self.position.steps_in_epoch, setup.steps_in_epoch()),
                loss,
                mean_loss: sums.loss / sums.weight,
                accuracy: sums.correct as f64 / sums.images as f64,
                images_per_s: self.trained.images as f64 / self.trained.seconds,
            },
        );
        Ok(())
    }

    /// Counts seconds that the training part of the epoch spent waiting for images.
    pub(crate) fn waited(&mut self, seconds: f64) {
        self.trained.waited_s += seconds;
    }

    /// Makes room for the sums of a validation.
    pub(crate) fn begin_validation(&mut self) {
        let validation = &mut self.validation;
        (validation.loss, validation.correct, validation.images) = (0.0, 0, 0);
    }

    /// Takes some validation images in.
    pub(crate) fn validate(&mut self, fed: &Fed<'_>, shared_s: f64, engine: &dyn Engine) -> Result<(), TrainError> {
        let begun = Instant::now();
        let setup = self.setup;
        let validation = &mut self.validation;
        let program = match &mut validation.program {
            Some(program) => program,
            none => {
                let plan = FreezePlan::frozen(&setup.network);
                let request = validation_request(setup, &plan, &validation.cut, validation.images_at_once);
                none.insert(engine.compile(&request)?)
            }
        };
        for start in (0..fed.labels.len()).step_by(validation.images_at_once) {
            let images = start..(start + validation.images_at_once).min(fed.labels.len());
            let entries: Vec<&[f32]> = validation.cut.iter().map(|id| fed.part(*id, images.clone())).collect();
            // Nothing is drawn in evaluation mode.
            let draws = Draws { seed: 0, epoch: 0, rows: &fed.rows[images.clone()] };
            // Where no average is kept, the averaged set is the live one.
            program.forward(&mut self.store, ParameterSet::Averaged, &entries, images.len(), draws)?;
            let logits = &mut validation.logits;
            program.read(setup.network.output(), logits)?;
            for (logits, &label) in logits.chunks_exact(setup.network.classes()).zip(&fed.labels[images]) {
                // Plain, whatever is trained on: so that epochs, runs and evaluation compare.
                validation.loss += cross_entropy(logits, label);
                validation.correct += usize::from(largest(logits) == label);
                validation.images += 1;
            }
        }
        self.position.seconds_in_epoch += shared_s + begun.elapsed().as_secs_f64();
        Ok(())
    }

    /// Ends an epoch whose validation, where there is one, is done: its line in the history, and a checkpoint.
    pub(crate) fn end_epoch(&mut self, run: usize, observer: &mut dyn Observer) -> Result<(), TrainError> {
        let (setup, validation) = (self.setup, &self.validation);
        let training = &setup.config.training;
        let epoch = self.position.epochs_done + 1;
        let seen = validation.images as f64;
        let validation = (validation.images > 0).then(|| (validation.loss / seen, validation.correct as f64 / seen));
        if let Some((loss, _)) = validation.filter(|(loss, _)| !loss.is_finite()) {
            return Err(self.not_finite("the validation loss after", self.position.step, loss));
        }
        // Saving checks it too, but the line in the history comes before.
        self.check_weights()?;
        let improved = validation
            .map(|(valid_loss, _)| BestEpoch { epoch, valid_loss })
            .filter(|now| self.position.best.is_none_or(|best| now.valid_loss < best.valid_loss));
        self.position.best = improved.or(self.position.best);
        let stops = |best: &BestEpoch| epoch < training.epochs && best.ends_patience(epoch, training);
        let note = self.position.best.filter(stops).map(|best| {
            format!(
                "stopped early: no lower validation loss than that of epoch {} for {} epochs",
                best.epoch,
                epoch - best.epoch
            )
        });
        let sums = self.position.sums;
        let trained = std::mem::take(&mut self.trained);
        let record = EpochRecord {
            epoch,
            train_loss: sums.loss / sums.weight,
            valid_loss: validation.map(|v| v.0),
            train_accuracy: sums.correct as f64 / sums.images as f64,
            valid_accuracy: validation.map(|v| v.1),
            learning_rate: as_written(self.rate.at(self.position.step.saturating_sub(1)).learning_rate),
            seconds: self.position.seconds_in_epoch,
            images_per_s: trained.images as f64 / trained.seconds.max(f64::MIN_POSITIVE),
            note,
        };
        append_rows(&setup.run.history_file(), std::slice::from_ref(&record))?;
        if let Some(events) = &mut self.events {
            let numbers = [
                ("epoch/train_loss", Some(record.train_loss)),
                ("epoch/valid_loss", record.valid_loss),
                ("epoch/train_accuracy", Some(record.train_accuracy)),
                ("epoch/valid_accuracy", record.valid_accuracy),
            ];
            for (tag, value) in numbers {
                value.into_iter().for_each(|value| events.scalar(tag, epoch as u64, value));
            }
        }
        self.position.epochs_done = epoch;
        self.position.steps_in_epoch = 0;
        self.position.sums = EpochSums::default();
        self.position.seconds_in_epoch = 0.0;
        if improved.is_some() {
            let file = setup.run.best_checkpoint_file();
            write_model(&file, &setup.description(), &self.store, ParameterSet::Averaged)?;
        }
        self.save(run, observer)?;
        let waiting = trained.waited_s / trained.seconds.max(f64::MIN_POSITIVE);
        observer.event(run, Event::Epoch { record: &record, epochs: training.epochs, waiting });
        Ok(())
    }

    /// A diverged step would make every later checkpoint useless: it must not replace a good one.
    fn check_weights(&self) -> Result<(), TrainError> {
        for (index, spec) in self.store.specs().iter().enumerate() {
            let values = self.store.tensor(ParameterSet::Live, index);
            if let Some(value) = values.iter().find(|value| !value.is_finite()) {
                let quantity = format!("a number of `{}` after", spec.name);
                return Err(self.not_finite(&quantity, self.position.step, f64::from(*value)));
            }
        }
        Ok(())
    }

    fn not_finite(&self, quantity: &str, step: u64, value: f64) -> TrainError {
        let file = self.setup.run.last_checkpoint_file();
        let kept = match self.saved {
            None => "No epoch was finished, so there is no checkpoint.".to_owned(),
            Some((epochs, steps)) if steps == (epochs * self.setup.steps_in_epoch()) as u64 => {
                format!("The checkpoint after epoch {epochs} is kept in {}.", file.display())
            }
            Some((_, steps)) => format!("The checkpoint after step {steps} is kept in {}.", file.display()),
        };
        TrainError::NotFinite {
            quantity: quantity.to_owned(),
            step,
            epoch: self.position.epochs_done + 1,
            value,
            learning_rate: self.setup.config.training.learning_rate,
            kept,
        }
    }

    /// Steps first, then the checkpoint: whatever a checkpoint counts stands in the tables.
    pub(crate) fn save(&mut self, run: usize, observer: &mut dyn Observer) -> Result<(), TrainError> {
        self.check_weights()?;
        append_rows(&self.setup.run.steps_file(), &self.unwritten)?;
        self.unwritten.clear();
        if let Some(events) = &mut self.events {
            self.position.tensorboard_bytes = events.write()?;
        }
        self.position.write(
            &self.setup.run.last_checkpoint_file(),
            &self.store,
            &self.setup.plan,
            &self.stepper.optimizer,
        )?;
        self.saved = Some((self.position.epochs_done, self.position.step));
        observer.event(run, Event::Saved);
        Ok(())
    }

    /// Writes the model of a run whose epochs are done; returns the epoch whose weights it holds.
    pub(crate) fn write_selected(&self) -> Result<usize, TrainError> {
        let setup = self.setup;
        let best = self.position.best.filter(|_| setup.config.training.select == Select::Best);
        let Some(best) = best else {
            write_model(&setup.run.model_file(), &setup.description(), &self.store, ParameterSet::Averaged)?;
            return Ok(self.position.epochs_done);
        };
        let mut chosen = ParameterStore::new(&setup.network);
        let file = setup.run.best_checkpoint_file();
        roentgen_infer::start_weights(&setup.network, &mut chosen, Some(&file), 0)?;
        write_model(&setup.run.model_file(), &setup.description(), &chosen, ParameterSet::Live)?;
        Ok(best.epoch)
    }
}

/// Removes from the tables what a killed run wrote after its last checkpoint.
fn discard_after(setup: &Setup, position: &Checkpoint) -> Result<(), TrainError> {
    let steps: Vec<StepRecord> = read_table(&setup.run.steps_file())?;
    let steps: Vec<StepRecord> = steps.into_iter().filter(|row| row.step <= position.step).collect();
    write_table(&setup.run.steps_file(), &STEPS_HEADER, &steps)?;
    let history: Vec<EpochRecord> = read_table(&setup.run.history_file())?;
    let history: Vec<EpochRecord> = history.into_iter().filter(|row| row.epoch <= position.epochs_done).collect();
    write_table(&setup.run.history_file(), &HISTORY_HEADER, &history)?;
    Ok(())
}
