//! A compiled program: its memory, and the two passes through its steps.

use crate::batch_norm::BatchNorm;
use crate::format::with_format;
use crate::packed::Packed;
use crate::plan::{Layout, Plan, Step};
use crate::stage::Kind;
use roentgen_kernels::{Arena, AveragePoolShape, Compute, PoolShape, Region};
use roentgen_nn::{
    BatchNormMode, Draws, EngineError, Gradients, Network, ParameterSet, ParameterStore, Program, StageReport, ValueId,
};
use std::sync::Arc;
use std::time::Instant;

pub(crate) struct CpuProgram {
    pub(crate) compute: Arc<Compute>,
    pub(crate) network: Network,
    pub(crate) plan: Plan,
    pub(crate) arena: Arena,
    /// One entry a step.
    pub(crate) packed: Vec<Option<Packed>>,
    pub(crate) batch_norms: Vec<Option<BatchNorm>>,
    pub(crate) times: Vec<StepTimes>,
    /// One image's mask of a dropout, before it is laid out.
    pub(crate) mask_row: Vec<f32>,
    /// Images in the last forward pass.
    pub(crate) batch: usize,
}

/// Seconds that a step took in the last passes.
#[derive(Clone, Copy, Default)]
pub(crate) struct StepTimes {
    pub(crate) forward_s: f64,
    pub(crate) backward_s: f64,
}

impl CpuProgram {
    pub(crate) fn new(compute: Arc<Compute>, network: &Network, plan: Plan) -> CpuProgram {
        let packed = plan.steps.iter().map(Packed::new).collect();
        let batch_norms = plan.steps.iter().map(|step| BatchNorm::new(network, step)).collect();
        let arena = Arena::new(plan.arena_bytes);
        let times = vec![StepTimes::default(); plan.steps.len()];
        CpuProgram {
            compute,
            network: network.clone(),
            plan,
            arena,
            packed,
            batch_norms,
            times,
            mask_row: Vec::new(),
            batch: 0,
        }
    }

    /// The part of a value's region that the present batch uses.
    pub(crate) fn region(&self, id: ValueId) -> Region {
        let place = self.plan.place(id);
        place.region.prefix(place.per_image * self.batch)
    }

    /// As [`CpuProgram::region`], of its gradient, which is always blocked.
    pub(crate) fn gradient_region(&self, id: ValueId) -> Region {
        let region = self.plan.gradient(id).expect("backward visits values with a gradient only");
        region.prefix(self.blocked_len(id) * self.plan.format(id).bytes())
    }

    /// Elements of a blocked value of the present batch.
    pub(crate) fn blocked_len(&self, id: ValueId) -> usize {
        let shape = self.network.value(id).shape;
        roentgen_kernels::padded(shape.channels) * shape.positions() * self.batch
    }

    /// Copies blocked or planar memory out as `[N, C, H, W]`.
    fn copy_out(&self, id: ValueId, region: Region, layout: Layout, into: &mut Vec<f32>) {
        let shape = self.network.value(id).shape;
        into.resize(shape.elements() * self.batch, 0.0);
        with_format!(self.plan.format(id), E => {
            let source = self.arena.read::<E>(region);
            match layout {
                Layout::Planar => self.compute.convert(source, into),
                Layout::Blocked => {
                    self.compute.blocked_to_planar(shape.channels, self.batch, shape.positions(), source, into);
                }
            }
        });
    }
}

impl Program for CpuProgram {
    fn forward(
        &mut self,
        store: &mut ParameterStore,
        set: ParameterSet,
        entries: &[&[f32]],
        batch: usize,
        draws: Draws<'_>,
    ) -> Result<(), EngineError> {
        if batch == 0 || batch > self.plan.largest_batch {
            return Err(EngineError::Batch { found: batch, largest: self.plan.largest_batch });
        }
        let length = |name: &str, found: usize, expected: usize| {
            if found == expected { Ok(()) } else { Err(EngineError::Length { name: name.into(), found, expected }) }
        };
        length("the list of entries", entries.len(), self.plan.entries.len())?;
        length("the list of row numbers", draws.rows.len(), batch)?;
        for (id, entry) in self.plan.entries.iter().zip(entries) {
            let value = self.network.value(*id);
            length(&value.name, entry.len(), value.shape.elements() * batch)?;
        }
        self.check_batch_norms(batch)?;
        self.batch = batch;
        for (index, entry) in entries.iter().enumerate() {
            let id = self.plan.entries[index];
            let shape = self.network.value(id).shape;
            let region = self.region(id);
            with_format!(self.plan.format(id), E => {
                let target = self.arena.write::<E>(region);
                match self.plan.place(id).layout {
                    Layout::Planar => self.compute.convert(entry, target),
                    Layout::Blocked => {
                        self.compute.planar_to_blocked(shape.channels, batch, shape.positions(), entry, target);
                    }
                }
            });
        }
        for index in 0..self.plan.steps.len() {
            let begun = Instant::now();
            with_format!(self.plan.steps[index].format, E => self.forward_step::<E>(index, store, set, draws));
            self.times[index].forward_s = begun.elapsed().as_secs_f64();
        }
        Ok(())
    }

    fn read(&self, value: ValueId, into: &mut Vec<f32>) -> Result<(), EngineError> {
        if !self.plan.readable.contains(&value) {
            return Err(EngineError::TapOutside { name: self.network.value(value).name.clone() });
        }
        let storage = self.plan.storage(value);
        self.copy_out(storage, self.region(storage), self.plan.place(storage).layout, into);
        Ok(())
    }

    fn backward(
        &mut self,
        store: &ParameterStore,
        set: ParameterSet,
        output_gradient: &[f32],
        gradients: &mut Gradients,
        accumulate: bool,
    ) -> Result<(), EngineError> {
        let no_gradient = |id: &ValueId| EngineError::NoGradient { name: self.network.value(*id).name.clone() };
        let [output] = self.plan.outputs[..] else {
            return Err(self
                .plan
                .outputs
                .first()
                .map_or(EngineError::NoGradient { name: "nothing".into() }, no_gradient));
        };
        if self.plan.gradient(output).is_none() {
            return Err(no_gradient(&output));
        }
        if accumulate && !self.plan.micro_batches {
            return Err(EngineError::NoMicroBatches);
        }
        let by_batch = |step: &&Step| step.backward && step.batch_norm == Some(BatchNormMode::Batch);
        if let Some(step) = self.plan.steps.iter().find(by_batch).filter(|_| accumulate) {
            let layer = step.stage.layer().expect("a batch norm is a layer");
            return Err(EngineError::CutBatch { name: self.network.value(layer).name.clone() });
        }
        let shape = self.network.value(output).shape;
        let expected = shape.elements() * self.batch;
        if output_gradient.len() != expected {
            let name = format!("the gradient of {}", self.network.value(output).name);
            return Err(EngineError::Length { name, found: output_gradient.len(), expected });
        }
        let storage = self.plan.storage(output);
        let region = self.gradient_region(storage);
        with_format!(self.plan.format(storage), E => {
            let target = self.arena.write::<E>(region);
            self.compute.planar_to_blocked(shape.channels, self.batch, shape.positions(), output_gradient, target);
        });
        for index in (0..self.plan.steps.len()).rev() {
            if self.plan.steps[index].backward {
                self.keep_gradient_taps(self.plan.steps[index].stage.output);
                let begun = Instant::now();
                with_format!(self.plan.steps[index].format, E => {
                    self.backward_step::<E>(index, store, set, gradients, accumulate);
                });
                self.times[index].backward_s = begun.elapsed().as_secs_f64();
            }
        }
        for index in 0..self.plan.entries.len() {
            self.keep_gradient_taps(self.plan.entries[index]);
        }
        Ok(())
    }

    fn read_gradient(&self, value: ValueId, into: &mut Vec<f32>) -> Result<(), EngineError> {
        let Some((_, storage, region)) = self.plan.gradient_taps.iter().find(|(id, ..)| *id == value) else {
            return Err(EngineError::NoGradient { name: self.network.value(value).name.clone() });
        };
        let bytes = self.blocked_len(*storage) * self.plan.format(*storage).bytes();
        self.copy_out(*storage, region.prefix(bytes), Layout::Blocked, into);
        Ok(())
    }

    fn memory_bytes(&self) -> usize {
        self.plan.memory_bytes()
    }

    fn stages(&self) -> Vec<StageReport> {
        self.stage_reports()
    }
}

impl CpuProgram {
    /// Copies the finished gradient of a value to where its taps keep it: the stage that made the value may work in
    /// the gradient's own memory.
    fn keep_gradient_taps(&mut self, value: ValueId) {
        for index in 0..self.plan.gradient_taps.len() {
            let (_, storage, region) = self.plan.gradient_taps[index];
            if storage == value {
                let gradient = self.gradient_region(value);
                with_format!(self.plan.format(value), E => {
                    let ([gradient], [kept]) = self.arena.view::<E, E, _, _>([gradient], [region.prefix(gradient.len)]);
                    self.compute.convert(gradient, kept);
                });
            }
        }
    }
}

impl Step {
    pub(crate) fn pool_shape(&self, network: &Network) -> Option<PoolShape> {
        let Kind::MaxPool { kernel, stride, padding } = self.stage.kind else { return None };
        let from = network.value(self.stage.inputs[0]).shape;
        Some(PoolShape {
            channels: from.channels,
            kernel,
            stride,
            padding,
            in_height: from.height,
            in_width: from.width,
        })
    }

    pub(crate) fn average_pool_shape(&self, network: &Network) -> AveragePoolShape {
        let from = network.value(self.stage.inputs[0]).shape;
        let to = network.value(self.stage.output).shape;
        AveragePoolShape {
            channels: from.channels,
            in_height: from.height,
            in_width: from.width,
            out_height: to.height,
            out_width: to.width,
        }
    }
}
