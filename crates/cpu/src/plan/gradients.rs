//! Which gradients backward computes, who writes each of them, and who takes it through a ReLU.

use super::{GradientWrite, Step, trains};
use crate::stage::{Kind, Stage};
use roentgen_nn::{CompileRequest, EngineError, ValueId};

/// Which stored values have a gradient: they depend on something trained or tapped, and the output depends on them.
pub(super) struct Reach {
    gradient: Vec<bool>,
}

impl Reach {
    pub(super) fn new(
        request: &CompileRequest<'_>,
        stages: &[Stage],
        storage: &[ValueId],
    ) -> Result<Reach, EngineError> {
        let network = request.network;
        let mut from_below = vec![false; network.values().len()];
        for tap in &request.gradient_taps {
            from_below[storage[tap.index()].index()] = true;
        }
        for stage in stages {
            let (weight, bias) = trains(request, stage);
            let reached = weight || bias || stage.inputs.iter().any(|input| from_below[input.index()]);
            from_below[stage.output.index()] |= reached;
        }
        let mut from_above = vec![false; network.values().len()];
        if let [output] = request.outputs[..] {
            from_above[storage[output.index()].index()] = true;
        }
        for stage in stages.iter().rev() {
            if from_above[stage.output.index()] {
                stage.inputs.iter().for_each(|input| from_above[input.index()] = true);
            }
        }
        for tap in &request.gradient_taps {
            if !from_above[storage[tap.index()].index()] {
                return Err(EngineError::NoGradient { name: network.value(*tap).name.clone() });
            }
        }
        Ok(Reach { gradient: from_below.iter().zip(&from_above).map(|(a, b)| *a && *b).collect() })
    }

    pub(super) fn has_gradient(&self, id: ValueId) -> bool {
        self.gradient[id.index()]
    }
}

/// Says, for each input of each stage that backward visits, how its gradient comes about.
pub(super) fn decide_gradient_writes(steps: &mut [Step], reach: &Reach) {
    let readers = |id: ValueId, steps: &[Step]| -> usize {
        steps.iter().filter(|s| s.backward).map(|s| s.stage.inputs.iter().filter(|i| **i == id).count()).sum()
    };
    let mut written: Vec<ValueId> = Vec::new();
    for index in (0..steps.len()).rev() {
        if !steps[index].backward {
            continue;
        }
        let stage = steps[index].stage.clone();
        for (position, &input) in stage.inputs.iter().enumerate() {
            if !reach.has_gradient(input) {
                continue;
            }
            let elementwise = matches!(stage.kind, Kind::BatchNorm { .. } | Kind::Relu | Kind::Dropout { .. });
            steps[index].input_gradients[position] = Some(if written.contains(&input) {
                GradientWrite::Accumulate
            } else if elementwise && position == 0 && readers(input, steps) == 1 {
                GradientWrite::InPlace
            } else {
                GradientWrite::Set
            });
            written.push(input);
        }
    }
}

/// Lets a convolution that is the last to write the gradient for a ReLU's output, or a max pooling that is the only
/// one, take it through the ReLU at once. A gradient that the caller wants to see as it was before stays as it is.
pub(super) fn decide_relu_passes(steps: &mut [Step], request: &CompileRequest<'_>, storage: &[ValueId]) {
    let tapped = |id: ValueId| request.gradient_taps.iter().any(|tap| storage[tap.index()] == id);
    for maker in 0..steps.len() {
        let Step { stage, backward, .. } = &steps[maker];
        let value = stage.output;
        if !(stage.relu && *backward) || tapped(value) {
            continue;
        }
        // Backward runs from the last stage to the first: the first reader writes last.
        let last_writer = steps.iter().position(|step| step.backward && step.stage.inputs.contains(&value));
        let Some(writer) = last_writer.map(|index| &mut steps[index]) else { continue };
        let able = match writer.stage.kind {
            Kind::Convolution { .. } => true,
            Kind::MaxPool { .. } => writer.input_gradients[0] == Some(GradientWrite::Set),
            _ => false,
        };
        if able && writer.stage.inputs[0] == value && writer.stage.inputs[1..].iter().all(|i| *i != value) {
            writer.passes_relu = true;
            steps[maker].relu_passed = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::plan::Plan;
    use roentgen_kernels::{Compute, Isa};
    use roentgen_nn::{CompileRequest, FreezePlan, FrozenBatchNorm, Head, Mode, Network, architecture};

    fn network(name: &str) -> Network {
        architecture::build(name, 64, Head::Replaced { hidden: 20, dropout: 0.5, classes: 2 }).unwrap()
    }

    /// Who takes the gradient through the ReLU of each stage that ends in one and has a gradient: the stage itself, or a
    /// stage before it in backward.
    fn takers(network: &Network, unfreeze: &str, tapped: &[&str]) -> Vec<(String, String)> {
        let freeze = FreezePlan::resolve(network, &[unfreeze], FrozenBatchNorm::Stored).unwrap();
        let mut request = CompileRequest::whole(network, &freeze, Mode::Train, 2);
        request.gradient_taps = tapped.iter().map(|name| network.module_output(name).unwrap()).collect();
        let plan = Plan::new(&request, &Compute::with_isa(1, Isa::Scalar).unwrap()).unwrap();
        let name = |id| network.value(id).name.clone();
        let mut takers = Vec::new();
        for step in plan.steps.iter().filter(|step| step.stage.relu && step.backward) {
            let value = step.stage.output;
            let writers = plan.steps.iter().filter(|s| s.passes_relu && s.stage.inputs[0] == value);
            let mut of_value: Vec<String> = writers.map(|writer| name(writer.stage.output)).collect();
            if !step.relu_passed {
                of_value.push(name(value));
            }
            assert_eq!(of_value.len(), 1, "the ReLU of {} is taken by {of_value:?}", name(value));
            takers.push((name(value), of_value.remove(0)));
        }
        let passing = plan.steps.iter().filter(|step| step.passes_relu).count();
        assert_eq!(passing, takers.iter().filter(|(value, taker)| value != taker).count(), "a ReLU without a maker");
        takers
    }

    fn taker(takers: &[(String, String)], value: &str) -> String {
        takers.iter().find(|(v, _)| v == value).unwrap_or_else(|| panic!("{value} has no gradient")).1.clone()
    }

    #[test]
    fn every_relu_is_taken_once() {
        let resnet = network("resnet18");
        let all = takers(&resnet, "all", &[]);
        // The max pooling, a convolution, the first of two convolutions that read a block, itself before other readers.
        assert_eq!(taker(&all, "relu"), "maxpool");
        assert_eq!(taker(&all, "layer1.0.relu"), "layer1.0.conv2");
        assert_eq!(taker(&all, "layer1.1"), "layer2.0.conv1");
        assert_eq!(taker(&all, "layer4.1"), "layer4.1");
        assert_eq!(taker(&all, "fc.1"), "fc.1");
        // Below what is trained nothing has a gradient; the deepest convolution takes none through a ReLU.
        let some = takers(&resnet, "layer4", &[]);
        assert!(some.iter().all(|(value, _)| !value.starts_with("layer3")));
        // Who looks at a gradient sees it as it was before the ReLU.
        let tapped = takers(&resnet, "all", &["layer1.1"]);
        assert_eq!(taker(&tapped, "layer1.1"), "layer1.1");
        let vgg = takers(&network("vgg11"), "all", &[]);
        assert_eq!(taker(&vgg, "features.1"), "features.2");
        assert_eq!(taker(&vgg, "features.12"), "features.14");
    }
}
