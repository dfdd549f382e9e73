//! What an optimizer step is made of: forward and backward over a batch, cut or whole, and the update.

use crate::feed::Fed;
use crate::{Setup, Stage, StepRates, TrainError, micro_batch};
use roentgen_nn::optimizer::Optimizer;
use roentgen_nn::{Draws, Engine, Gradients, ParameterSet, ParameterStore, Program, ValueId};
use roentgen_run::history::as_written;
use roentgen_run::predictions::largest;

/// The training program of a stage of a run with its gradients and its optimizer.
pub(crate) struct Stepper<'a> {
    setup: &'a Setup,
    engine: &'a dyn Engine,
    pub(crate) stage: &'a Stage,
    cut: Vec<ValueId>,
    images_at_once: usize,
    /// `None` between two stages: of two programs there is memory for one.
    program: Option<Box<dyn Program>>,
    gradients: Gradients,
    pub(crate) optimizer: Optimizer,
    /// `[N, K]`.
    logits: Vec<f32>,
    /// The gradient of the loss for the logits.
    slope: Vec<f32>,
    /// One an image.
    losses: Vec<f64>,
}

/// What forward says of a batch.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BatchSums {
    /// Weighted losses.
    pub(crate) loss: f64,
    /// Weights of the labels.
    pub(crate) weight: f64,
    /// Images classified right.
    pub(crate) correct: usize,
}

impl<'a> Stepper<'a> {
    /// Compiles the program of a stage that takes the values of a cut, and so many images at once.
    pub(crate) fn new(
        setup: &'a Setup,
        engine: &'a dyn Engine,
        stage: &'a Stage,
        cut: &[ValueId],
        images_at_once: usize,
    ) -> Result<Stepper<'a>, TrainError> {
        let (network, plan) = (&setup.network, &stage.plan);
        Ok(Stepper {
            setup,
            engine,
            stage,
            program: Some(engine.compile(&micro_batch::request(setup, plan, cut, images_at_once))?),
            cut: cut.to_vec(),
            images_at_once,
            gradients: Gradients::new(network, plan),
            optimizer: Optimizer::new(network, plan, setup.rule, |name| setup.parameter_settings(name)),
            logits: Vec::new(),
            slope: Vec::new(),
            losses: Vec::new(),
        })
    }

    /// Goes on with another stage: the optimizer keeps what it knows of the parameters that were trained already.
    pub(crate) fn enter(&mut self, stage: &'a Stage) {
        let (network, setup) = (&self.setup.network, self.setup);
        self.stage = stage;
        self.program = None;
        self.gradients = Gradients::new(network, &stage.plan);
        self.optimizer = self.optimizer.extended(network, &stage.plan, |name| setup.parameter_settings(name));
    }

    /// Whether batches are cut to keep a memory limit, and into how many images.
    pub(crate) fn micro_batch(&self) -> Option<usize> {
        (self.images_at_once < micro_batch::batch_size(self.setup)).then_some(self.images_at_once)
    }

    /// Forward and backward over a batch. Where the loss is not finite, it ends there: the gradients mean nothing.
    pub(crate) fn gradients_of(
        &mut self,
        store: &mut ParameterStore,
        fed: &Fed<'_>,
        epoch: usize,
    ) -> Result<BatchSums, TrainError> {
        let setup = self.setup;
        let program = match &mut self.program {
            Some(program) => program,
            none => {
                let request = micro_batch::request(setup, &self.stage.plan, &self.cut, self.images_at_once);
                none.insert(self.engine.compile(&request)?)
            }
        };
        let mut sums = BatchSums { weight: setup.loss.total_weight(fed.labels), ..BatchSums::default() };
        for start in (0..fed.labels.len()).step_by(self.images_at_once) {
            let images = start..(start + self.images_at_once).min(fed.labels.len());
            let (rows, labels) = (&fed.rows[images.clone()], &fed.labels[images.clone()]);
            let entries: Vec<&[f32]> = self.cut.iter().map(|id| fed.part(*id, images.clone())).collect();
            let draws = Draws { seed: setup.config.training.seed, epoch: epoch as u64, rows };
            program.forward(store, ParameterSet::Live, &entries, rows.len(), draws)?;
            let (logits, slope, losses) = (&mut self.logits, &mut self.slope, &mut self.losses);
            program.read(setup.network.output(), logits)?;
            slope.resize(logits.len(), 0.0);
            setup.loss.losses(logits, labels, sums.weight, slope, losses);
            // One by one: how the batch is cut must not show in the sum.
            losses.iter().for_each(|loss| sums.loss += loss);
            let by_image = logits.chunks_exact(logits.len() / labels.len());
            sums.correct += by_image.zip(labels).filter(|(logits, label)| largest(logits) == **label).count();
            if !sums.loss.is_finite() {
                break;
            }
            let continues = start > 0;
            program.backward(store, ParameterSet::Live, slope, &mut self.gradients, continues)?;
        }
        Ok(sums)
    }

    /// The update that follows [`Stepper::gradients_of`], of the parameters and of their average where one is kept.
    ///
    /// # Errors
    /// The norm of the gradients, where it is to be clipped and is not finite.
    pub(crate) fn update(&mut self, store: &mut ParameterStore, rates: StepRates) -> Result<(), f64> {
        if let Some(largest) = self.setup.config.training.clip_norm {
            let norm = self.gradients.clip_norm(self.engine, as_written(largest));
            if !norm.is_finite() {
                return Err(norm);
            }
        }
        if let Some(momentum) = rates.momentum {
            self.optimizer.set_momentum(momentum);
        }
        self.optimizer.step(self.engine, store, &self.gradients, rates.learning_rate);
        if let Some(decay) = self.setup.config.training.average_decay {
            store.average(self.engine, &self.stage.plan, decay);
        }
        Ok(())
    }
}
