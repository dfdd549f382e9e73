//! What an optimizer means: SGD and AdamW as PyTorch 2 computes them, over one flat buffer.

use crate::freeze::FreezePlan;
use crate::network::Network;
use crate::store::{Gradients, ParameterStore};
use crate::weights::{StateDict, StateTensor, Values};
use crate::workers::Workers;
use std::ops::Range;

/// The update rule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// `torch.optim.SGD` with dampening 0.
    Sgd {
        /// Share of the last step in the next; 0 for none.
        momentum: f32,
        /// Nesterov's form.
        nesterov: bool,
    },
    /// `torch.optim.AdamW` (Loshchilov and Hutter, ICLR 2019).
    AdamW {
        /// Decay of the running mean of the gradient.
        beta1: f32,
        /// Decay of the running mean of its square.
        beta2: f32,
        /// Added to the root of the latter.
        epsilon: f32,
    },
}

impl Rule {
    /// Numbers that are kept from step to step for each trained parameter.
    pub fn state_per_parameter(self) -> usize {
        match self {
            Rule::Sgd { momentum: 0.0, .. } => 0,
            Rule::Sgd { .. } => 1,
            Rule::AdamW { .. } => 2,
        }
    }
}

/// What holds for one parameter: the optimizer's settings are a table, resolved once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ParameterSettings {
    /// Factor on the learning rate.
    pub learning_rate_factor: f32,
    /// Weight decay: added to the gradient in SGD, decoupled in AdamW.
    pub weight_decay: f32,
}

struct Entry {
    tensor: usize,
    name: String,
    shape: Vec<usize>,
    range: Range<usize>,
    settings: ParameterSettings,
    /// Steps that the optimizer had taken when this parameter joined it.
    joined: u64,
}

/// Updates the trained parameters of a plan.
pub struct Optimizer {
    rule: Rule,
    entries: Vec<Entry>,
    /// SGD: the momentum buffer. AdamW: the mean of the gradient. Empty for SGD without momentum.
    first: Vec<f32>,
    /// AdamW: the mean of the squared gradient. Empty for SGD.
    second: Vec<f32>,
    steps: u64,
}

impl Optimizer {
    /// An optimizer with no step taken. `settings` is asked once for each trained parameter, by name.
    pub fn new(
        network: &Network,
        plan: &FreezePlan,
        rule: Rule,
        settings: impl Fn(&str) -> ParameterSettings,
    ) -> Optimizer {
        let layout = Gradients::new(network, plan);
        let entries: Vec<Entry> = plan
            .trainable_tensors()
            .map(|tensor| {
                let spec = &network.tensors()[tensor];
                Entry {
                    tensor,
                    name: spec.name.clone(),
                    shape: spec.shape.clone(),
                    range: layout.range(tensor).expect("a trained tensor has a gradient"),
                    settings: settings(&spec.name),
                    joined: 0,
                }
            })
            .collect();
        let len = layout.flat().len();
        let kept = rule.state_per_parameter();
        let (first, second) = (if kept > 0 { len } else { 0 }, if kept > 1 { len } else { 0 });
        Optimizer { rule, entries, first: vec![0.0; first], second: vec![0.0; second], steps: 0 }
    }

    /// An optimizer for a plan that trains more, or other parameters: those that were trained already keep their state,
    /// the others begin with none, at a step 1 of their own, as in a `torch.optim` group that is added.
    pub fn extended(
        &self,
        network: &Network,
        plan: &FreezePlan,
        settings: impl Fn(&str) -> ParameterSettings,
    ) -> Optimizer {
        let mut extended = Optimizer { steps: self.steps, ..Optimizer::new(network, plan, self.rule, settings) };
        for entry in &mut extended.entries {
            let Some(known) = self.entries.iter().find(|known| known.tensor == entry.tensor) else {
                entry.joined = self.steps;
                continue;
            };
            entry.joined = known.joined;
            for (into, from) in [(&mut extended.first, &self.first), (&mut extended.second, &self.second)] {
                if !into.is_empty() {
                    into[entry.range.clone()].copy_from_slice(&from[known.range.clone()]);
                }
            }
        }
        extended
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Sets what schedules move from step to step: SGD's momentum, AdamW's beta 1. It is no part of the state: whoever
    /// moves it sets it before each step. SGD that was made without momentum has no buffer for it and stays without.
    pub fn set_momentum(&mut self, value: f32) {
        match &mut self.rule {
            Rule::Sgd { momentum, .. } => *momentum = value,
            Rule::AdamW { beta1, .. } => *beta1 = value,
        }
    }

    /// One update of the live parameters. Each number is updated by itself, so that the bits do not depend on who works.
    pub fn step(
        &mut self,
        workers: &dyn Workers,
        store: &mut ParameterStore,
        gradients: &Gradients,
        learning_rate: f32,
    ) {
        self.steps += 1;
        for entry in &self.entries {
            // Empty where the rule keeps nothing.
            let [first, second] = [&mut self.first, &mut self.second].map(|buffer| match &mut buffer[..] {
                [] => Default::default(),
                kept => &mut kept[entry.range.clone()],
            });
            let slices = [store.tensor_mut(entry.tensor), first, second];
            let gradient = &gradients.flat()[entry.range.clone()];
            let rate = learning_rate * entry.settings.learning_rate_factor;
            let decay = entry.settings.weight_decay;
            match self.rule {
                Rule::Sgd { .. } if slices[1].is_empty() => {
                    workers.for_each_block(slices, &|start, [parameter, ..]| {
                        for (p, &g) in parameter.iter_mut().zip(&gradient[start..]) {
                            *p -= rate * (g + decay * *p);
                        }
                    });
                }
                Rule::Sgd { momentum, nesterov } => {
                    workers.for_each_block(slices, &|start, [parameter, velocity, _]| {
                        for ((p, &g), v) in parameter.iter_mut().zip(&gradient[start..]).zip(velocity) {
                            let g = g + decay * *p;
                            *v = momentum * *v + g;
                            *p -= rate * if nesterov { g + momentum * *v } else { *v };
                        }
                    });
                }
                Rule::AdamW { beta1, beta2, epsilon } => {
                    let steps = (self.steps - entry.joined) as i32;
                    let correction1 = (1.0 - f64::from(beta1).powi(steps)) as f32;
                    let correction2 = (1.0 - f64::from(beta2).powi(steps)).sqrt() as f32;
                    workers.for_each_block(slices, &|start, [parameter, mean, square]| {
                        for (((p, &g), m), v) in parameter.iter_mut().zip(&gradient[start..]).zip(mean).zip(square) {
                            *p *= 1.0 - rate * decay;
                            *m = beta1 * *m + (1.0 - beta1) * g;
                            *v = beta2 * *v + (1.0 - beta2) * g * g;
                            *p -= rate / correction1 * *m / (v.sqrt() / correction2 + epsilon);
                        }
                    });
                }
            }
        }
    }

    /// The state by parameter name (`momentum.<name>`, or `mean.<name>` and `square.<name>`), the count of steps, and
    /// for a parameter that joined later the count then (`joined.<name>`).
    pub fn state(&self) -> StateDict {
        let mut tensors = Vec::new();
        for (prefix, buffer) in [(self.first_name(), &self.first), ("square", &self.second)] {
            if buffer.is_empty() {
                continue;
            }
            for entry in &self.entries {
                let values = Values::F32(buffer[entry.range.clone()].to_vec());
                let name = format!("{prefix}.{}", entry.name);
                tensors.push((name, StateTensor { shape: entry.shape.clone(), values }));
            }
        }
        let later = self.entries.iter().filter(|entry| entry.joined > 0);
        let counts = later.map(|entry| (format!("joined.{}", entry.name), entry.joined));
        for (name, count) in counts.chain([("steps".to_owned(), self.steps)]) {
            let values = Values::I64(vec![i64::try_from(count).expect("fewer than 2^63 steps")]);
            tensors.push((name, StateTensor { shape: vec![], values }));
        }
        StateDict { tensors }
    }

    /// Takes back what [`Optimizer::state`] gave.
    ///
    /// # Errors
    /// The name of a tensor that is missing or has another size: the state belongs to another freeze plan or rule.
    pub fn restore(&mut self, state: &StateDict) -> Result<(), String> {
        let f32s = |name: &str, len: usize| match state.get(name).map(|t| &t.values) {
            Some(Values::F32(values)) if values.len() == len => Ok(values),
            _ => Err(name.to_owned()),
        };
        let first_name = self.first_name();
        for (prefix, buffer) in [(first_name, &mut self.first), ("square", &mut self.second)] {
            if buffer.is_empty() {
                continue;
            }
            for entry in &self.entries {
                let values = f32s(&format!("{prefix}.{}", entry.name), entry.range.len())?;
                buffer[entry.range.clone()].copy_from_slice(values);
            }
        }
        let count = |name: &str| match state.get(name).map(|t| &t.values) {
            Some(Values::I64(count)) if count.len() == 1 => Some(count[0] as u64),
            _ => None,
        };
        self.steps = count("steps").ok_or("steps")?;
        for entry in &mut self.entries {
            entry.joined = count(&format!("joined.{}", entry.name)).unwrap_or(0).min(self.steps);
        }
        Ok(())
    }

    fn first_name(&self) -> &'static str {
        match self.rule {
            Rule::Sgd { .. } => "momentum",
            Rule::AdamW { .. } => "mean",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architecture;
    use crate::freeze::FrozenBatchNorm;
    use crate::network::Head;
    use crate::store::ParameterSet;
    use crate::workers::CallingThread;

    #[test]
    fn a_parameter_that_joins_later_moves_as_at_a_first_step_and_the_others_as_before() {
        let head = Head::Replaced { hidden: 3, dropout: 0.5, classes: 2 };
        let network = architecture::build("resnet18", 32, head).unwrap();
        let plan = |names: &[&str]| FreezePlan::resolve(&network, names, FrozenBatchNorm::Stored).unwrap();
        let (small, large, joining) = (plan(&["fc.3"]), plan(&["fc.3", "fc.0"]), plan(&["fc.0"]));
        let settings = |_: &str| ParameterSettings { learning_rate_factor: 1.0, weight_decay: 0.01 };
        let ones = |plan: &FreezePlan| {
            let mut gradients = Gradients::new(&network, plan);
            plan.trainable_tensors().for_each(|tensor| gradients.tensor_mut(tensor).unwrap().fill(0.5));
            gradients
        };
        for rule in [
            Rule::AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 },
            Rule::Sgd { momentum: 0.9, nesterov: false },
            Rule::Sgd { momentum: 0.0, nesterov: false },
        ] {
            let value =
                |store: &ParameterStore, name: &str| store.tensor(ParameterSet::Live, store.index_of(name).unwrap())[0];
            // The small plan throughout; then, from the third step on, what it lacks by itself.
            let (mut alone, mut first) =
                (ParameterStore::new(&network), Optimizer::new(&network, &small, rule, settings));
            let mut late = Optimizer::new(&network, &joining, rule, settings);
            let (mut store, mut optimizer) =
                (ParameterStore::new(&network), Optimizer::new(&network, &small, rule, settings));
            for step in 0..5 {
                first.step(&CallingThread, &mut alone, &ones(&small), 0.1);
                if step == 2 {
                    optimizer = optimizer.extended(&network, &large, settings);
                    // Through a checkpoint as well.
                    let mut restored = Optimizer::new(&network, &large, rule, settings);
                    restored.restore(&optimizer.state()).unwrap();
                    optimizer = restored;
                }
                if step >= 2 {
                    late.step(&CallingThread, &mut alone, &ones(&joining), 0.1);
                }
                optimizer.step(&CallingThread, &mut store, &ones(if step < 2 { &small } else { &large }), 0.1);
            }
            for name in ["fc.3.weight", "fc.0.weight"] {
                assert_ne!(value(&store, name), 0.0);
                assert_eq!(value(&store, name), value(&alone, name), "{name}, {rule:?}");
            }
            assert_eq!(optimizer.steps(), 5);
        }
    }
}
