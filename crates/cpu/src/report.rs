//! What a plan and a program say of themselves: the stages with their work and times, and the memory.

use crate::plan::{Owner, Plan, Step, WeightShape};
use crate::program::CpuProgram;
use crate::stage::{Kind, Stage};
use roentgen_kernels::Region;
use roentgen_nn::{BufferContent, CompileRequest, MemoryPlan, Network, PlannedBuffer, StageReport, ValueId};

impl CpuProgram {
    pub(crate) fn stage_reports(&self) -> Vec<StageReport> {
        let report = |(step, times): (&Step, &crate::program::StepTimes)| {
            let output = self.network.value(step.stage.output);
            let (forward_operations, backward_operations) = step.operations();
            StageReport {
                name: output.name.clone(),
                kind: step.stage.description(),
                output: output.shape,
                forward_operations,
                backward_operations,
                forward_s: times.forward_s,
                backward_s: times.backward_s,
            }
        };
        self.plan.steps.iter().zip(&self.times).map(report).collect()
    }
}

impl Step {
    /// Operations of forward and of backward for one image, two a multiply-add.
    fn operations(&self) -> (u64, u64) {
        let forward = match self.weights {
            Some(WeightShape::Convolution(shape, _)) => shape.operations() as u64,
            Some(WeightShape::Linear(shape)) => 2 * shape.weights_len() as u64,
            None => 0,
        };
        let gradients = u64::from(self.trains_weight) + u64::from(self.needs_input_gradient(0));
        (forward, gradients * forward)
    }
}

impl Stage {
    /// What the stage does, and what is fused into it.
    fn description(&self) -> String {
        let main = match self.kind {
            Kind::Convolution { normalise: None, .. } => "convolution",
            Kind::Convolution { normalise: Some(_), .. } => "convolution + batch norm",
            Kind::BatchNorm { .. } => "batch norm",
            Kind::Linear { .. } => "linear",
            Kind::Add => "add",
            Kind::Relu => return "relu".into(),
            Kind::MaxPool { .. } => "max pool",
            Kind::AveragePool => "average pool",
            Kind::Flatten => "flatten",
            Kind::Dropout { .. } => "dropout",
        };
        let residual = self.kind != Kind::Add && self.inputs.len() == 2;
        [main, if residual { " + add" } else { "" }, if self.relu { " + relu" } else { "" }].concat()
    }
}

impl Plan {
    pub(crate) fn memory_plan(&self, request: &CompileRequest<'_>) -> MemoryPlan {
        let network = request.network;
        let name = |id: ValueId| network.value(id).name.clone();
        let buffers = self.buffers.iter().map(|buffer| {
            let (holds, owners) = match &buffer.owner {
                Owner::Value(id) => (BufferContent::Value, vec![name(*id)]),
                Owner::Gradient(group) => (BufferContent::Gradient, group.iter().map(|id| name(*id)).collect()),
                Owner::Mask(index) => (BufferContent::Mask, vec![name(self.steps[*index].stage.output)]),
                Owner::Tap(position) => (BufferContent::KeptGradient, vec![name(request.gradient_taps[*position])]),
            };
            let Region { offset, len } = buffer.region;
            PlannedBuffer {
                holds,
                owners,
                bytes: len,
                offset_bytes: offset,
                first: buffer.life.first,
                last: buffer.life.last,
            }
        });
        MemoryPlan {
            steps: self.step_names(network),
            buffers: buffers.collect(),
            arena_bytes: self.arena_bytes,
            packed_bytes: self.packed_len() * size_of::<f32>(),
            scratch_bytes: self.scratch_bytes,
        }
    }

    /// The times that lifetimes count in: forward in order, backward in reverse, and when the caller reads.
    fn step_names(&self, network: &Network) -> Vec<String> {
        let named = |pass: &str, step: &Step| format!("{pass} {}", network.value(step.stage.output).name);
        let forward = self.steps.iter().map(|step| named("forward", step));
        let backward = self.steps.iter().rev().map(|step| named("backward", step));
        forward.chain(backward).chain(["reading the results".into()]).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::CpuEngine;
    use crate::plan::Plan;
    use roentgen_kernels::{Compute, Isa};
    use roentgen_nn::{
        Arithmetic, BufferContent, CompileRequest, Draws, Engine, FreezePlan, FrozenBatchNorm, Gradients, Head,
        MemoryPlan, Mode, Network, ParameterSet, ParameterStore, Precision, architecture, initialise,
    };

    fn network(name: &str) -> Network {
        architecture::build(name, 64, Head::Replaced { hidden: 380, dropout: 0.5, classes: 2 }).unwrap()
    }

    fn plan(network: &Network, unfreeze: &[&str]) -> FreezePlan {
        FreezePlan::resolve(network, unfreeze, FrozenBatchNorm::Stored).unwrap()
    }

    #[test]
    fn stages_say_what_they_do_and_how_long_it_took() {
        let network = network("resnet18");
        let freeze = plan(&network, &["layer4", "head"]);
        let engine = CpuEngine::new(1).unwrap();
        let mut program = engine.compile(&CompileRequest::whole(&network, &freeze, Mode::Train, 2)).unwrap();
        assert!(program.stages().iter().all(|stage| stage.forward_s == 0.0 && stage.backward_s == 0.0));
        let mut store = ParameterStore::new(&network);
        initialise(&network, &mut store, 1, |_| true);
        let (images, rows) = (vec![0.5; 2 * 3 * 64 * 64], [0, 1]);
        let draws = Draws { seed: 0, epoch: 1, rows: &rows };
        program.forward(&mut store, ParameterSet::Live, &[&images], 2, draws).unwrap();
        let mut gradients = Gradients::new(&network, &freeze);
        program.backward(&store, ParameterSet::Live, &[0.1; 4], &mut gradients, false).unwrap();
        let stages = program.stages();
        let stage = |name: &str| stages.iter().find(|stage| stage.name == name).unwrap();
        assert_eq!(stage("layer1.0").kind, "convolution + batch norm + add + relu");
        assert_eq!(stage("relu").kind, "convolution + batch norm + relu");
        assert_eq!(stage("layer4.0").kind, "batch norm + add + relu");
        assert_eq!(stage("layer4.0.conv1").kind, "convolution");
        assert_eq!(stage("fc.1").kind, "linear + relu");
        assert_eq!(stage("fc.1").output.channels, 380);
        assert!(stages.iter().all(|stage| stage.forward_s > 0.0));
        for stage in &stages {
            let reached =
                stage.name.starts_with("layer4") || ["avgpool", "fc"].iter().any(|n| stage.name.starts_with(n));
            assert_eq!(stage.backward_s > 0.0, reached, "{}", stage.name);
        }
        // Seven by seven taps of three channels, for 64 channels at half the size.
        assert_eq!(stage("relu").forward_operations, 2 * 49 * 3 * 64 * 32 * 32);
        assert_eq!(stage("relu").backward_operations, 0);
        // Nothing before it is trained, so only its weight has a gradient; the next one has both.
        let deepest = stage("layer4.0.conv1");
        assert_eq!(deepest.forward_operations, 2 * 9 * 256 * 512 * 2 * 2);
        assert_eq!(deepest.backward_operations, deepest.forward_operations);
        assert_eq!(stage("layer4.0.conv2").backward_operations, 2 * stage("layer4.0.conv2").forward_operations);
        assert_eq!(stage("layer4.0").forward_operations, 0);
    }

    /// No two buffers that live at the same time may share a byte.
    fn assert_sound(plan: &MemoryPlan) {
        for (index, a) in plan.buffers.iter().enumerate() {
            assert!(a.bytes > 0 && a.first <= a.last && a.last < plan.steps.len(), "{a:?}");
            assert!(a.offset_bytes + a.bytes <= plan.arena_bytes, "{a:?}");
            for b in &plan.buffers[index + 1..] {
                let together = a.first <= b.last && b.first <= a.last;
                let apart = a.offset_bytes + a.bytes <= b.offset_bytes || b.offset_bytes + b.bytes <= a.offset_bytes;
                assert!(!together || apart, "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn the_memory_plan_is_that_of_the_program() {
        for (name, unfreeze, mode) in [
            ("resnet18", "all", Mode::Train),
            ("resnet18", "layer4,head", Mode::Train),
            ("vgg11", "features.6,head", Mode::Train),
            ("vgg11_bn", "head", Mode::Evaluate),
        ] {
            let network = network(name);
            let freeze = plan(&network, &unfreeze.split(',').collect::<Vec<_>>());
            let request = CompileRequest::whole(&network, &freeze, mode, 3);
            let engine = CpuEngine::new(1).unwrap();
            let plan = engine.memory_plan(&request).unwrap();
            assert_sound(&plan);
            let program = engine.compile(&request).unwrap();
            assert_eq!(plan.peak_bytes(), program.memory_bytes(), "{name}");
            assert_eq!(plan.peak_bytes(), engine.memory_bytes(&request).unwrap());
            assert_eq!(plan.steps.len(), 2 * program.stages().len() + 1);
            let most = (0..plan.steps.len()).map(|step| plan.living_bytes(step)).max().unwrap();
            assert!(most <= plan.arena_bytes && plan.arena_bytes < plan.unshared_bytes(), "{name}");
        }
    }

    /// What the kernels hold after both passes is what was planned, to the byte.
    #[test]
    fn the_scratch_memory_is_as_planned() {
        let trained = Arithmetic::default();
        let mixed = Arithmetic { precision: Precision::Bf16, exact: false };
        let exact = |arithmetic: Arithmetic| Arithmetic { exact: true, ..arithmetic };
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available() && *isa != Isa::Scalar) {
            for (name, unfreeze, threads, micro_batches) in [
                ("resnet18", "all", 2, false),
                ("resnet18", "layer4,head", 1, false),
                ("vgg11", "all", 3, true),
                ("vgg11_bn", "head", 2, false),
            ] {
                for arithmetic in [trained, mixed, exact(trained), exact(mixed)] {
                    let network = network(name);
                    let freeze = plan(&network, &unfreeze.split(',').collect::<Vec<_>>());
                    let whole = CompileRequest::whole(&network, &freeze, Mode::Train, 3);
                    let request = CompileRequest { arithmetic, micro_batches, ..whole };
                    let engine = CpuEngine::with_isa(threads, isa).unwrap();
                    let planned = engine.memory_plan(&request).unwrap().scratch_bytes;
                    let mut program = engine.compile(&request).unwrap();
                    let mut store = ParameterStore::new(&network);
                    let (images, rows) = (vec![0.5; 3 * 3 * 64 * 64], [0, 1, 2]);
                    let draws = Draws { seed: 0, epoch: 1, rows: &rows };
                    program.forward(&mut store, ParameterSet::Live, &[&images], 3, draws).unwrap();
                    let mut gradients = Gradients::new(&network, &freeze);
                    program.backward(&store, ParameterSet::Live, &[0.1; 6], &mut gradients, false).unwrap();
                    let held = engine.compute.scratch_bytes_held();
                    assert_eq!(held, planned, "{name}, {unfreeze}, {threads} threads, {arithmetic:?}, {}", isa.name());
                }
            }
        }
    }

    #[test]
    fn buffers_are_named_by_what_they_hold_and_when() {
        let network = network("vgg11");
        let freeze = plan(&network, &["all"]);
        let mut request = CompileRequest::whole(&network, &freeze, Mode::Train, 2);
        request.gradient_taps = vec![network.module_output("features.2").unwrap()];
        let compute = Compute::with_isa(1, Isa::Scalar).unwrap();
        let plan = Plan::new(&request, &compute).unwrap().memory_plan(&request);
        let find = |holds: BufferContent, owner: &str| {
            let mut found = plan.buffers.iter().filter(|b| b.holds == holds && b.owners.iter().any(|o| o == owner));
            let buffer = found.next().unwrap_or_else(|| panic!("{holds:?} of {owner}"));
            assert!(found.next().is_none(), "{owner} has two");
            (buffer.bytes, plan.steps[buffer.first].as_str(), plan.steps[buffer.last].as_str())
        };
        let map = |channels: usize, side: usize| 2 * channels * side * side * 4;
        // A convolution with its ReLU, read again by the pooling, which takes the gradient through the ReLU.
        let made = find(BufferContent::Value, "features.1");
        assert_eq!(made, (map(64, 64), "forward features.1", "backward features.2"));
        let gradient = find(BufferContent::Gradient, "features.1");
        assert_eq!(gradient, (map(64, 64), "backward features.2", "backward features.1"));
        let kept = find(BufferContent::KeptGradient, "features.2");
        assert_eq!((kept.0, kept.2), (map(64, 32), "reading the results"));
        let mask = find(BufferContent::Mask, "classifier.2");
        assert_eq!((mask.1, mask.2), ("forward classifier.2", "backward classifier.2"));
    }
}
