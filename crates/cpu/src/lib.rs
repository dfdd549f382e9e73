//! The CPU engine: compiles a network and a freeze plan to a plan of stages and memory, and runs it on the kernels.
//!
//! Activations stay in the kernels' blocked layout from the image to the head; plain layouts exist at the seam only.
//! On one instruction set an image's logits have the same bits in any batch, at any place in it and with any number
//! of threads, and micro-batches, in order, give the gradients of the batch to the bit.

mod algorithm;
mod backward;
mod batch_norm;
mod format;
mod forward;
mod memory;
mod packed;
mod plan;
mod program;
mod report;
mod scratch;
mod stage;

use algorithm::TABLE_VERSION;
use plan::Plan;
use program::CpuProgram;
use roentgen_kernels::{Compute, ComputeError};
use roentgen_nn::{BLOCK, BlockBody, CompileRequest, Engine, EngineError, MemoryPlan, Program, Workers};
use std::sync::Arc;

pub use roentgen_kernels::Isa;

/// The engine: an instruction set and a pool of threads, shared by the programs that it compiles.
pub struct CpuEngine {
    compute: Arc<Compute>,
}

impl CpuEngine {
    /// An engine with the best instruction set that the processor has, or the one that `ROENTGEN_ISA` forces.
    ///
    /// # Errors
    /// For no threads, or a forced instruction set that is unknown or absent.
    pub fn new(threads: usize) -> Result<CpuEngine, ComputeError> {
        Ok(CpuEngine { compute: Arc::new(Compute::new(threads)?) })
    }

    /// An engine with a given instruction set.
    ///
    /// # Errors
    /// For no threads, or an instruction set that the processor lacks.
    pub fn with_isa(threads: usize, isa: Isa) -> Result<CpuEngine, ComputeError> {
        Ok(CpuEngine { compute: Arc::new(Compute::with_isa(threads, isa)?) })
    }

    /// One thread a core.
    pub fn available_threads() -> usize {
        std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
    }
}

impl Workers for CpuEngine {
    fn for_each_block(&self, slices: [&mut [f32]; 3], body: BlockBody<'_>) {
        self.compute.for_each_block(BLOCK, slices, body);
    }
}

impl Engine for CpuEngine {
    fn compile(&self, request: &CompileRequest<'_>) -> Result<Box<dyn Program>, EngineError> {
        let plan = Plan::new(request, &self.compute)?;
        if let Some(limit) = request.memory_limit_bytes.filter(|limit| plan.memory_bytes() > *limit) {
            let mib = |bytes: usize| bytes.div_ceil(1 << 20);
            return Err(EngineError::Memory {
                architecture: request.network.architecture().into(),
                image_size: request.network.image_size(),
                batch: request.largest_batch,
                needed_mib: mib(plan.memory_bytes()),
                limit_mib: mib(limit),
                advice: "lower the batch size or the image size, unfreeze less, or raise the limit".into(),
            });
        }
        Ok(Box::new(CpuProgram::new(self.compute.clone(), request.network, plan)))
    }

    fn memory_bytes(&self, request: &CompileRequest<'_>) -> Result<usize, EngineError> {
        Ok(Plan::new(request, &self.compute)?.memory_bytes())
    }

    fn memory_plan(&self, request: &CompileRequest<'_>) -> Result<MemoryPlan, EngineError> {
        Ok(Plan::new(request, &self.compute)?.memory_plan(request))
    }

    fn ceiling_gflops(&self) -> f64 {
        self.compute.measure_ceiling()
    }

    fn description(&self) -> String {
        self.compute.isa().name().to_owned()
    }

    fn bits(&self) -> String {
        format!("{} with algorithms of version {TABLE_VERSION}", self.compute.isa().name())
    }

    fn threads(&self) -> usize {
        self.compute.threads()
    }
}
