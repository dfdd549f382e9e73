//! The parameter store: parameters and buffers by torchvision name, outside all programs, so that several programs
//! (training, evaluation, explanations) work on the same numbers.

use crate::freeze::{BatchNormMode, FreezePlan};
use crate::network::{Network, TensorKind, TensorSpec};
use crate::weights::{ExpectedTensor, StateDict, StateTensor, Values};
use crate::workers::{BLOCK, Workers};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// A named copy of all parameters and buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterSet {
    /// What the optimizer updates.
    Live,
    /// A running average of the live ones, where one is kept.
    Averaged,
}

/// Says that a tensor has the same content as when this stamp was last seen: programs keep packed copies by it. No two
/// contents of any store in the process share a stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp(u64);

impl Stamp {
    fn fresh() -> Stamp {
        // Only uniqueness matters: no result depends on the number.
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Stamp(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

struct Set {
    /// All tensors but counters, one after the other in the network's order.
    values: Vec<f32>,
    stamps: Vec<Stamp>,
}

/// Parameters and buffers of one network, in one or more named sets. Tensors are addressed by their index in
/// [`Network::tensors`] and hold torchvision's row-major layout.
pub struct ParameterStore {
    specs: Vec<TensorSpec>,
    ranges: Vec<Range<usize>>,
    counters: Vec<i64>,
    live: Set,
    averaged: Option<Set>,
}

impl ParameterStore {
    /// A store for a network: all zeros, but ones in batch norm scales and variances.
    pub fn new(network: &Network) -> ParameterStore {
        let specs = network.tensors().to_vec();
        let mut end = 0;
        let ranges: Vec<Range<usize>> = specs
            .iter()
            .map(|spec| {
                let start = end;
                end += if spec.kind == TensorKind::Counter { 0 } else { spec.elements() };
                start..end
            })
            .collect();
        let mut values = vec![0.0; end];
        for (spec, range) in specs.iter().zip(&ranges) {
            let is_scale = spec.shape.len() == 1 && spec.name.ends_with(".weight");
            if is_scale || spec.name.ends_with(".running_var") {
                values[range.clone()].fill(1.0);
            }
        }
        let stamps = specs.iter().map(|_| Stamp::fresh()).collect();
        let counters = vec![0; specs.len()];
        ParameterStore { specs, ranges, counters, live: Set { values, stamps }, averaged: None }
    }

    fn set(&self, set: ParameterSet) -> &Set {
        match set {
            ParameterSet::Live => &self.live,
            ParameterSet::Averaged => self.averaged.as_ref().unwrap_or(&self.live),
        }
    }

    /// Copies the live set into the averaged one, which exists from then on. Until then the averaged set reads as the
    /// live one.
    pub fn start_average(&mut self) {
        let stamps = self.specs.iter().map(|_| Stamp::fresh()).collect();
        self.averaged = Some(Set { values: self.live.values.clone(), stamps });
    }

    /// Moves the averaged set, where there is one, towards the live one: a trained parameter by a share of `1 - decay`
    /// (Polyak and Juditsky 1992; `torch.optim.swa_utils.get_ema_multi_avg_fn`), and takes over the buffers that
    /// training with the plan changes, the running statistics of batch norms that look at the batch. Everything else is
    /// the same in both. Allocates nothing.
    pub fn average(&mut self, workers: &dyn Workers, plan: &FreezePlan, decay: f32) {
        let Some(averaged) = &mut self.averaged else { return };
        for (index, spec) in self.specs.iter().enumerate() {
            if !moves(spec, index, plan) {
                continue;
            }
            averaged.stamps[index] = Stamp::fresh();
            let range = self.ranges[index].clone();
            let (into, from) = (&mut averaged.values[range.clone()], &self.live.values[range]);
            if spec.kind == TensorKind::Parameter {
                workers.for_each_block([into, &mut [], &mut []], &|start, [into, ..]| {
                    let pairs = into.iter_mut().zip(&from[start..]);
                    pairs.for_each(|(average, live)| *average += (1.0 - decay) * (live - *average));
                });
            } else {
                into.copy_from_slice(from);
            }
        }
    }

    /// The tensors of the averaged set that training with a plan tells from the live ones; empty where there is no such
    /// set. For checkpoints.
    pub fn averaged_state(&self, plan: &FreezePlan) -> StateDict {
        let all = self.state_dict(ParameterSet::Averaged).tensors.into_iter().zip(&self.specs).enumerate();
        let kept = all.filter(|(index, (_, spec))| self.averaged.is_some() && moves(spec, *index, plan));
        StateDict { tensors: kept.map(|(_, (tensor, _))| tensor).collect() }
    }

    /// Takes back what [`ParameterStore::averaged_state`] gave, after the live set was filled: the averaged set begins
    /// as a copy of it.
    ///
    /// # Errors
    /// The name of a tensor that is missing or has another size: the state belongs to another plan, or to none.
    pub fn restore_average(&mut self, state: &StateDict, plan: &FreezePlan) -> Result<(), String> {
        self.start_average();
        for index in 0..self.specs.len() {
            if !moves(&self.specs[index], index, plan) {
                continue;
            }
            let name = self.specs[index].name.clone();
            let into = self.averaged_mut(index).unwrap_or_default();
            match state.get(&name).map(|tensor| &tensor.values) {
                Some(Values::F32(values)) if values.len() == into.len() => into.copy_from_slice(values),
                _ => return Err(name),
            }
        }
        Ok(())
    }

    /// What the tensors are.
    pub fn specs(&self) -> &[TensorSpec] {
        &self.specs
    }

    /// The values of a tensor, row-major; empty for a counter.
    pub fn tensor(&self, set: ParameterSet, index: usize) -> &[f32] {
        &self.set(set).values[self.ranges[index].clone()]
    }

    /// The values of a live tensor for writing; its stamp changes.
    pub fn tensor_mut(&mut self, index: usize) -> &mut [f32] {
        self.live.stamps[index] = Stamp::fresh();
        &mut self.live.values[self.ranges[index].clone()]
    }

    /// The values of an averaged tensor for writing, where [`ParameterStore::start_average`] was called.
    pub fn averaged_mut(&mut self, index: usize) -> Option<&mut [f32]> {
        let set = self.averaged.as_mut()?;
        set.stamps[index] = Stamp::fresh();
        Some(&mut set.values[self.ranges[index].clone()])
    }

    /// The stamp of a tensor's content.
    pub fn stamp(&self, set: ParameterSet, index: usize) -> Stamp {
        self.set(set).stamps[index]
    }

    /// `num_batches_tracked` of a batch norm, by the index of that tensor.
    pub fn counter(&self, index: usize) -> i64 {
        self.counters[index]
    }

    /// Sets `num_batches_tracked`.
    pub fn set_counter(&mut self, index: usize, count: i64) {
        self.counters[index] = count;
    }

    /// Index of a tensor by name.
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.specs.iter().position(|spec| spec.name == name)
    }

    /// What a weight file must hold to fill this store.
    pub fn expected(&self) -> Vec<ExpectedTensor> {
        self.specs
            .iter()
            .map(|spec| ExpectedTensor { name: spec.name.clone(), shape: spec.shape.clone(), kind: spec.kind })
            .collect()
    }

    /// Takes the live tensors that a state dict has under their names; others stay. Shapes must have been checked
    /// ([`StateDict::fit`]).
    ///
    /// # Panics
    /// Where a tensor of a known name has another number of elements.
    pub fn take(&mut self, state: &StateDict) {
        for (name, tensor) in &state.tensors {
            let Some(index) = self.index_of(name) else { continue };
            match &tensor.values {
                Values::F32(values) => self.tensor_mut(index).copy_from_slice(values),
                Values::I64(values) => self.set_counter(index, values.first().copied().unwrap_or(0)),
            }
        }
    }

    /// A set as a state dict under torchvision's names, in torchvision's order.
    pub fn state_dict(&self, set: ParameterSet) -> StateDict {
        let tensors = self
            .specs
            .iter()
            .enumerate()
            .map(|(index, spec)| {
                let values = match spec.kind {
                    TensorKind::Counter => Values::I64(vec![self.counters[index]]),
                    _ => Values::F32(self.tensor(set, index).to_vec()),
                };
                (spec.name.clone(), StateTensor { shape: spec.shape.clone(), values })
            })
            .collect();
        StateDict { tensors }
    }
}

/// Whether steps of a plan change a tensor: a trained parameter, or a running statistic of a batch norm that looks at
/// the batch.
fn moves(spec: &TensorSpec, index: usize, plan: &FreezePlan) -> bool {
    match spec.kind {
        TensorKind::Parameter => plan.trainable(index),
        TensorKind::Buffer => plan.batch_norm(spec.value) == Some(BatchNormMode::Batch),
        TensorKind::Counter => false,
    }
}

/// Gradients of the trained parameters in one flat buffer, in the network's order.
pub struct Gradients {
    values: Vec<f32>,
    /// The bits of a sum of squares for each block of the values: atomic, so that several threads write theirs.
    squares: Vec<AtomicU64>,
    /// One entry a tensor of the network.
    ranges: Vec<Option<Range<usize>>>,
}

impl Gradients {
    /// Zeros for every trained parameter of a plan.
    pub fn new(network: &Network, plan: &FreezePlan) -> Gradients {
        let mut end = 0;
        let ranges = network
            .tensors()
            .iter()
            .enumerate()
            .map(|(index, spec)| {
                plan.trainable(index).then(|| {
                    let start = end;
                    end += spec.elements();
                    start..end
                })
            })
            .collect();
        let squares = (0..end.div_ceil(BLOCK)).map(|_| AtomicU64::new(0)).collect();
        Gradients { values: vec![0.0; end], squares, ranges }
    }

    /// All gradients, one after the other.
    pub fn flat(&self) -> &[f32] {
        &self.values
    }

    /// Scales all gradients down where their L2 norm, taken over all of them together, exceeds `largest`, as
    /// `torch.nn.utils.clip_grad_norm_` does: by `largest / (norm + 1e-6)`. Returns the norm before. The squares are
    /// summed in f64, block by block and then over the blocks in order: the same bits whoever works.
    pub fn clip_norm(&mut self, workers: &dyn Workers, largest: f64) -> f64 {
        let squares = &self.squares;
        workers.for_each_block([&mut self.values, &mut [], &mut []], &|start, [values, ..]| {
            // Eight sums side by side, which is what registers hold; the order is the same on every machine.
            let mut sums = [0.0f64; 8];
            for chunk in values.chunks(sums.len()) {
                for (sum, value) in sums.iter_mut().zip(chunk) {
                    *sum += f64::from(*value) * f64::from(*value);
                }
            }
            squares[start / BLOCK].store(sums.iter().sum::<f64>().to_bits(), Ordering::Relaxed);
        });
        let norm = squares.iter().map(|bits| f64::from_bits(bits.load(Ordering::Relaxed))).sum::<f64>().sqrt();
        let factor = largest / (norm + 1e-6);
        if factor < 1.0 {
            workers.for_each_block([&mut self.values, &mut [], &mut []], &|_, [values, ..]| {
                values.iter_mut().for_each(|value| *value = (f64::from(*value) * factor) as f32);
            });
        }
        norm
    }

    /// Where a tensor's gradient lies in [`Gradients::flat`]; `None` where it is not trained.
    pub fn range(&self, tensor: usize) -> Option<Range<usize>> {
        self.ranges[tensor].clone()
    }

    /// The gradient of a trained tensor, row-major; `None` where it is not trained.
    pub fn tensor(&self, tensor: usize) -> Option<&[f32]> {
        self.ranges[tensor].clone().map(|range| &self.values[range])
    }

    /// The gradient of a trained tensor for writing.
    pub fn tensor_mut(&mut self, tensor: usize) -> Option<&mut [f32]> {
        self.ranges[tensor].clone().map(|range| &mut self.values[range])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architecture;
    use crate::freeze::FrozenBatchNorm;
    use crate::network::Head;
    use crate::workers::CallingThread;

    #[test]
    fn an_average_follows_what_is_trained_and_survives_a_checkpoint() {
        let head = Head::Replaced { hidden: 3, dropout: 0.5, classes: 2 };
        let network = architecture::build("resnet18", 32, head).unwrap();
        let plan = FreezePlan::resolve(&network, &["layer4.1.bn2", "head"], FrozenBatchNorm::Stored).unwrap();
        let mut store = ParameterStore::new(&network);
        let index = |store: &ParameterStore, name: &str| store.index_of(name).unwrap();
        let names = ["fc.3.weight", "layer4.1.bn2.running_mean", "layer4.1.bn1.running_mean", "conv1.weight"];
        let [weight, statistic, frozen_statistic, frozen] = names.map(|name| index(&store, name));
        store.start_average();
        let stamp = |store: &ParameterStore, tensor| store.stamp(ParameterSet::Averaged, tensor);
        let before = [weight, statistic, frozen_statistic, frozen].map(|tensor| stamp(&store, tensor));
        let mut expected = 0.0f64;
        for live in [1.0f32, 2.0, 4.0] {
            store.tensor_mut(weight).fill(live);
            store.tensor_mut(statistic).fill(live);
            store.average(&CallingThread, &plan, 0.75);
            expected = 0.75 * expected + 0.25 * f64::from(live);
        }
        let averaged = |store: &ParameterStore, tensor| f64::from(store.tensor(ParameterSet::Averaged, tensor)[0]);
        assert!((averaged(&store, weight) - expected).abs() < 1e-6);
        assert_eq!(averaged(&store, statistic), 4.0);
        let after = [weight, statistic, frozen_statistic, frozen].map(|tensor| stamp(&store, tensor));
        let changed: Vec<bool> = before.iter().zip(&after).map(|(a, b)| a != b).collect();
        // What did not change keeps its stamp: programs keep what they packed of it.
        assert_eq!(changed, [true, true, false, false]);

        let state = store.averaged_state(&plan);
        let mut other = ParameterStore::new(&network);
        other.take(&store.state_dict(ParameterSet::Live));
        other.restore_average(&state, &plan).unwrap();
        assert!(other.state_dict(ParameterSet::Averaged) == store.state_dict(ParameterSet::Averaged));
        assert!(other.state_dict(ParameterSet::Live) == store.state_dict(ParameterSet::Live));
        let missing = other.restore_average(&StateDict::default(), &plan).unwrap_err();
        assert!(names.contains(&missing.as_str()) || missing.contains("bn2") || missing.contains("fc."), "{missing}");
    }
}
