//! The training loop.

use crate::checkpoint::{BestEpoch, Checkpoint, EpochSums};
use crate::micro_batch;
use crate::{Event, Observer, Setup, TrainError};
use roentgen_data::{Batch, Loader, LoaderRequest, epoch_order};
use roentgen_infer::{Predictor, write_model};
use roentgen_nn::loss::cross_entropy;
use roentgen_nn::optimizer::{Optimizer, ParameterSettings};
use roentgen_nn::{Draws, Engine, Gradients, ParameterSet, ParameterStore, Program, ValueId};
use roentgen_run::config::Select;
use roentgen_run::history::{
    EpochRecord, HISTORY_HEADER, STEPS_HEADER, StepRecord, append_rows, as_written, read_table, write_table,
};
use roentgen_run::predictions::largest;
use std::time::{Duration, Instant};

/// A checkpoint is written at least so often, beside the one after each epoch.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(600);

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

/// Trains from where the run directory's checkpoint stands, or from the start where there is none.
///
/// Every result is a function of configuration, data and seed; how often it was interrupted, how many threads ran and
/// how the batch was cut play no part.
///
/// # Errors
/// Where an image cannot be decoded, the loss is not finite, memory does not suffice, or the disk refuses; the last
/// checkpoint stays.
pub fn fit(setup: &mut Setup, engine: &dyn Engine, observer: &mut dyn Observer) -> Result<Outcome, TrainError> {
    let mut store = std::mem::replace(&mut setup.store, ParameterStore::new(&setup.network));
    let mut training = Training::new(setup, engine, &mut store)?;
    training.run(&mut store, observer)
}

struct Training<'a> {
    setup: &'a Setup,
    engine: &'a dyn Engine,
    program: Box<dyn Program>,
    output: ValueId,
    micro_batch: usize,
    gradients: Gradients,
    optimizer: Optimizer,
    predictor: Option<Predictor>,
    position: Checkpoint,
    buffers: Buffers,
    /// Steps that are not in `steps.csv` yet.
    unwritten: Vec<StepRecord>,
    /// Epochs and steps that the last checkpoint counts, where there is one.
    saved: Option<(usize, u64)>,
    last_save: Instant,
}

/// What a step works in, kept from step to step.
#[derive(Default)]
struct Buffers {
    /// `[N, K]`.
    logits: Vec<f32>,
    /// The gradient of the loss for the logits.
    slope: Vec<f32>,
    /// One an image.
    losses: Vec<f64>,
}

impl<'a> Training<'a> {
    fn new(setup: &'a Setup, engine: &'a dyn Engine, store: &mut ParameterStore) -> Result<Training<'a>, TrainError> {
        let (network, plan, config) = (&setup.network, &setup.plan, &setup.config);
        let limit = setup.memory_limit_bytes;
        let micro_batch = micro_batch::of(setup, engine)?;
        let batch_size = config.training.batch_size.min(setup.train_rows.len());
        let program = engine.compile(&micro_batch::request(setup, batch_size, micro_batch))?;
        let decay = config.training.weight_decay;
        let settings = ParameterSettings { learning_rate_factor: 1.0, weight_decay: decay };
        let mut optimizer = Optimizer::new(network, plan, setup.rule, |_| settings);
        let predictor = match setup.validation_rows.is_empty() {
            true => None,
            false => Some(Predictor::new(engine, network, setup.arithmetic(), limit)?),
        };
        let mut saved = None;
        let position = if setup.run.last_checkpoint_file().is_file() {
            let position = Checkpoint::restore(setup, store, &mut optimizer)?;
            discard_after(setup, &position)?;
            saved = Some((position.epochs_done, position.step));
            position
        } else {
            write_table::<EpochRecord>(&setup.run.history_file(), &HISTORY_HEADER, &[])?;
            write_table::<StepRecord>(&setup.run.steps_file(), &STEPS_HEADER, &[])?;
            Checkpoint::start(setup, engine.bits())
        };
        Ok(Training {
            setup,
            engine,
            program,
            output: network.output(),
            micro_batch,
            gradients: Gradients::new(network, plan),
            optimizer,
            predictor,
            position: Checkpoint { instruction_set: engine.bits(), ..position },
            buffers: Buffers::default(),
            unwritten: Vec::new(),
            saved,
            last_save: Instant::now(),
        })
    }

    fn steps_in_epoch(&self) -> usize {
        self.setup.train_rows.len().div_ceil(self.setup.config.training.batch_size)
    }

    fn steps_total(&self) -> u64 {
        let training = &self.setup.config.training;
        let all = (training.epochs * self.steps_in_epoch()) as u64;
        training.max_steps.map_or(all, |most| all.min(most))
    }

    /// Whether an epoch has to be begun, or one whose steps may all be done has still to be validated.
    fn work_is_left(&self) -> bool {
        let position = &self.position;
        let steps_left = position.step < self.steps_total() || position.steps_in_epoch > 0;
        position.epochs_done < self.setup.config.training.epochs && steps_left
    }

    fn run(&mut self, store: &mut ParameterStore, observer: &mut dyn Observer) -> Result<Outcome, TrainError> {
        let cut = self.micro_batch < self.setup.config.training.batch_size.min(self.setup.train_rows.len());
        observer.event(Event::Started {
            steps_done: self.position.step,
            steps_total: self.steps_total(),
            micro_batch: cut.then_some(self.micro_batch),
        });
        if self.work_is_left() {
            let removed = self.setup.run.reopen()?;
            if !removed.is_empty() {
                observer.event(Event::Reopened { removed: &removed });
            }
        }
        while self.work_is_left() {
            if !self.epoch(store, observer)? {
                return Ok(Outcome::Interrupted { steps_done: self.position.step });
            }
        }
        self.write_selected(store)
    }

    /// One epoch, or what is left of it. `false` where the observer asked for a stop.
    fn epoch(&mut self, store: &mut ParameterStore, observer: &mut dyn Observer) -> Result<bool, TrainError> {
        let setup = self.setup;
        let (data, training) = (&setup.config.data, &setup.config.training);
        let epoch = self.position.epochs_done + 1;
        let begun = Instant::now();
        let seconds_before = self.position.seconds_in_epoch;
        let mut order = epoch_order(&setup.train_rows, training.seed, epoch as u64, data.shuffle);
        order.drain(..(self.position.steps_in_epoch * training.batch_size).min(order.len()));
        let mut loader = Loader::start(LoaderRequest {
            manifest: setup.manifest.clone(),
            rows: order,
            batch_size: training.batch_size,
            transform: setup.train_transform(),
            seed: training.seed,
            epoch: epoch as u64,
            threads: self.engine.threads(),
            batches_ahead: 2,
        })?;
        let images_before = self.position.sums.images;
        while self.position.step < self.steps_total() {
            if observer.stop_requested() {
                self.position.seconds_in_epoch = seconds_before + begun.elapsed().as_secs_f64();
                self.save(store, observer)?;
                return Ok(false);
            }
            let Some(batch) = loader.next() else { break };
            let batch = batch?;
            let loss = self.step(store, &batch, epoch)?;
            loader.recycle(batch);
            let sums = self.position.sums;
            observer.event(Event::Step {
                epoch,
                step: self.position.step,
                in_epoch: (self.position.steps_in_epoch, self.steps_in_epoch()),
                loss,
                mean_loss: sums.loss / sums.weight,
                accuracy: sums.correct as f64 / sums.images as f64,
                images_per_s: (sums.images - images_before) as f64 / begun.elapsed().as_secs_f64(),
            });
            if self.last_save.elapsed() > CHECKPOINT_INTERVAL {
                self.position.seconds_in_epoch = seconds_before + begun.elapsed().as_secs_f64();
                self.save(store, observer)?;
            }
        }
        let trained_s = begun.elapsed().as_secs_f64();
        let waited_s = loader.waited_s();
        drop(loader);
        let Some(validation) = self.validate(store, observer)? else {
            self.position.seconds_in_epoch = seconds_before + trained_s;
            self.save(store, observer)?;
            return Ok(false);
        };
        if let Some((loss, _)) = validation.filter(|(loss, _)| !loss.is_finite()) {
            return Err(self.not_finite("the validation loss after", self.position.step, loss));
        }
        // Saving checks it too, but the line in the history comes before.
        self.check_weights(store)?;
        let sums = self.position.sums;
        let record = EpochRecord {
            epoch,
            train_loss: sums.loss / sums.weight,
            valid_loss: validation.map(|v| v.0),
            train_accuracy: sums.correct as f64 / sums.images as f64,
            valid_accuracy: validation.map(|v| v.1),
            learning_rate: as_written(training.learning_rate),
            seconds: seconds_before + begun.elapsed().as_secs_f64(),
            images_per_s: (sums.images - images_before) as f64 / trained_s,
        };
        append_rows(&setup.run.history_file(), std::slice::from_ref(&record))?;
        self.position.epochs_done = epoch;
        self.position.steps_in_epoch = 0;
        self.position.sums = EpochSums::default();
        self.position.seconds_in_epoch = 0.0;
        if let Some((valid_loss, _)) = validation
            && self.position.best.is_none_or(|best| valid_loss < best.valid_loss)
        {
            self.position.best = Some(BestEpoch { epoch, valid_loss });
            let file = setup.run.best_checkpoint_file();
            write_model(&file, &setup.description(), store, ParameterSet::Live)?;
        }
        self.save(store, observer)?;
        let waiting = waited_s / trained_s.max(f64::MIN_POSITIVE);
        observer.event(Event::Epoch { record: &record, epochs: training.epochs, waiting });
        Ok(true)
    }

    /// One optimizer step; returns the mean loss of the batch.
    fn step(&mut self, store: &mut ParameterStore, batch: &Batch, epoch: usize) -> Result<f64, TrainError> {
        let setup = self.setup;
        let total_weight = setup.loss.total_weight(&batch.labels);
        let per_image = batch.images.len() / batch.labels.len();
        let mut sum = 0.0;
        let mut correct = 0;
        let starts = (0..batch.labels.len()).step_by(self.micro_batch);
        for start in starts {
            let end = (start + self.micro_batch).min(batch.labels.len());
            let rows = &batch.rows[start..end];
            let labels = &batch.labels[start..end];
            let images = &batch.images[start * per_image..end * per_image];
            let draws = Draws { seed: setup.config.training.seed, epoch: epoch as u64, rows };
            self.program.forward(store, ParameterSet::Live, &[images], rows.len(), draws)?;
            let Buffers { logits, slope, losses } = &mut self.buffers;
            self.program.read(self.output, logits)?;
            slope.resize(logits.len(), 0.0);
            setup.loss.losses(logits, labels, total_weight, slope, losses);
            // One by one: how the batch is cut must not show in the sum.
            losses.iter().for_each(|loss| sum += loss);
            let by_image = logits.chunks_exact(logits.len() / labels.len());
            correct += by_image.zip(labels).filter(|(logits, label)| largest(logits) == **label).count();
            if !sum.is_finite() {
                return Err(self.not_finite("the loss of", self.position.step + 1, sum / total_weight));
            }
            let continues = start > 0;
            let slope = &self.buffers.slope;
            self.program.backward(store, ParameterSet::Live, slope, &mut self.gradients, continues)?;
        }
        self.optimizer.step(store, &self.gradients, setup.config.training.learning_rate);
        let loss = sum / total_weight;
        self.position.step += 1;
        self.position.steps_in_epoch += 1;
        let sums = &mut self.position.sums;
        sums.loss += sum;
        sums.weight += total_weight;
        sums.correct += correct;
        sums.images += batch.labels.len();
        self.unwritten.push(StepRecord { step: self.position.step, epoch, loss });
        Ok(loss)
    }

    /// A diverged step would make every later checkpoint useless: it must not replace a good one.
    fn check_weights(&self, store: &ParameterStore) -> Result<(), TrainError> {
        for (index, spec) in store.specs().iter().enumerate() {
            let values = store.tensor(ParameterSet::Live, index);
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
            Some((epochs, steps)) if steps == (epochs * self.steps_in_epoch()) as u64 => {
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

    /// Mean loss and accuracy over the validation rows; the outer `None` where the observer asked for a stop.
    fn validate(
        &mut self,
        store: &mut ParameterStore,
        observer: &mut dyn Observer,
    ) -> Result<Option<Option<(f64, f64)>>, TrainError> {
        let Some(predictor) = &mut self.predictor else { return Ok(Some(None)) };
        let setup = self.setup;
        let rows = setup.validation_rows.clone();
        let total = rows.len();
        let answers = predictor.rows(store, ParameterSet::Live, &setup.manifest, rows, |done| {
            observer.event(Event::Validation { done, total });
            !observer.stop_requested()
        })?;
        if answers.len() < total {
            return Ok(None);
        }
        let label = |row: usize| setup.manifest.rows[row].label;
        let (mut loss, mut weight, mut correct) = (0.0, 0.0, 0usize);
        for answer in &answers {
            let label = label(answer.row);
            loss += setup.loss.weight(label) * cross_entropy(&answer.logits, label);
            weight += setup.loss.weight(label);
            correct += usize::from(largest(&answer.logits) == label);
        }
        Ok(Some(Some((loss / weight, correct as f64 / total as f64))))
    }

    /// Steps first, then the checkpoint: whatever a checkpoint counts stands in the tables.
    fn save(&mut self, store: &ParameterStore, observer: &mut dyn Observer) -> Result<(), TrainError> {
        self.check_weights(store)?;
        append_rows(&self.setup.run.steps_file(), &self.unwritten)?;
        self.unwritten.clear();
        self.position.write(&self.setup.run.last_checkpoint_file(), store, &self.optimizer)?;
        self.saved = Some((self.position.epochs_done, self.position.step));
        self.last_save = Instant::now();
        observer.event(Event::Saved);
        Ok(())
    }

    fn write_selected(&self, store: &ParameterStore) -> Result<Outcome, TrainError> {
        let setup = self.setup;
        let best = self.position.best.filter(|_| setup.config.training.select == Select::Best);
        let epoch = match best {
            Some(best) => {
                let mut chosen = ParameterStore::new(&setup.network);
                let file = setup.run.best_checkpoint_file();
                roentgen_infer::start_weights(&setup.network, &mut chosen, Some(&file), 0)?;
                write_model(&setup.run.model_file(), &setup.description(), &chosen, ParameterSet::Live)?;
                best.epoch
            }
            None => {
                write_model(&setup.run.model_file(), &setup.description(), store, ParameterSet::Live)?;
                self.position.epochs_done
            }
        };
        Ok(Outcome::Finished { epoch })
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
