//! What a batch norm keeps between forward and backward, one value a channel, and its running statistics.

use crate::plan::Step;
use crate::program::CpuProgram;
use crate::stage::Kind;
use roentgen_kernels::padded;
use roentgen_nn::{BatchNormMode, EngineError, Network, Op, ParameterSet, ParameterStore};

/// Vectors of `padded(C)` values, zero beyond C.
pub(crate) struct BatchNorm {
    pub(crate) mean: Vec<f32>,
    variance: Vec<f32>,
    pub(crate) inverse_deviation: Vec<f32>,
    pub(crate) weight: Vec<f32>,
    /// Weight times inverse deviation.
    pub(crate) scale: Vec<f32>,
    pub(crate) shift: Vec<f32>,
    pub(crate) weight_gradient: Vec<f32>,
    pub(crate) shift_gradient: Vec<f32>,
    epsilon: f32,
    momentum: f32,
}

impl BatchNorm {
    /// Room for a batch norm; `None` for other steps.
    pub(crate) fn new(network: &Network, step: &Step) -> Option<BatchNorm> {
        let (Kind::BatchNorm { layer } | Kind::Convolution { normalise: Some(layer), .. }) = step.stage.kind else {
            return None;
        };
        let value = network.value(layer);
        let Op::BatchNorm2d { epsilon, momentum } = value.op else { unreachable!("the stage is a batch norm's") };
        let vector = || vec![0.0; padded(value.shape.channels)];
        Some(BatchNorm {
            mean: vector(),
            variance: vector(),
            inverse_deviation: vector(),
            weight: vector(),
            scale: vector(),
            shift: vector(),
            weight_gradient: vector(),
            shift_gradient: vector(),
            epsilon,
            momentum,
        })
    }

    /// Sets mean, scale and shift for a pass: from the batch, updating the running statistics, or from those.
    pub(crate) fn prepare(
        &mut self,
        step: &Step,
        store: &mut ParameterStore,
        set: ParameterSet,
        count: usize,
        statistics: impl FnOnce(&mut [f32], &mut [f32]),
    ) {
        let tensors = step.normalise.expect("the step normalises");
        let channels = store.tensor(set, tensors.weight).len();
        if step.batch_norm == Some(BatchNormMode::Batch) {
            statistics(&mut self.mean, &mut self.variance);
            // PyTorch: the running variance is of the unbiased estimate, and the batch is normalised by the biased one.
            let unbiased = count as f32 / (count as f32 - 1.0);
            let momentum = self.momentum;
            let update = |running: &mut [f32], new: &[f32], factor: f32| {
                for (running, new) in running.iter_mut().zip(new) {
                    *running = (1.0 - momentum) * *running + momentum * (new * factor);
                }
            };
            update(store.tensor_mut(tensors.running_mean), &self.mean, 1.0);
            update(store.tensor_mut(tensors.running_var), &self.variance, unbiased);
            store.set_counter(tensors.batches, store.counter(tensors.batches) + 1);
        } else {
            self.mean[..channels].copy_from_slice(store.tensor(set, tensors.running_mean));
            self.variance[..channels].copy_from_slice(store.tensor(set, tensors.running_var));
        }
        let bias = tensors.bias.expect("a batch norm has a bias");
        self.weight[..channels].copy_from_slice(store.tensor(set, tensors.weight));
        self.shift[..channels].copy_from_slice(store.tensor(set, bias));
        for channel in 0..channels {
            // In f64 and rounded once, as a reference would.
            let deviation = (f64::from(self.variance[channel]) + f64::from(self.epsilon)).sqrt();
            self.inverse_deviation[channel] = (1.0 / deviation) as f32;
            self.scale[channel] = self.weight[channel] * self.inverse_deviation[channel];
        }
    }
}

impl CpuProgram {
    /// A batch norm that normalises by the batch needs more than one value a channel.
    pub(crate) fn check_batch_norms(&self, batch: usize) -> Result<(), EngineError> {
        for step in self.plan.steps.iter().filter(|step| step.batch_norm == Some(BatchNormMode::Batch)) {
            let value = self.network.value(step.stage.layer().expect("a batch norm is a layer"));
            if batch * value.shape.positions() == 1 {
                return Err(EngineError::OneValuePerChannel { name: value.name.clone() });
            }
        }
        Ok(())
    }
}
