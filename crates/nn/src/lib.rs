//! Networks as data, freeze plans, the parameter store, weight files, and the seam to the engines.
//!
//! What a network, an optimizer, a dropout or a batch norm *means* is said here; how fast it goes is an engine's
//! affair.

pub mod architecture;
pub mod describe;
pub mod engine;
mod freeze;
pub mod freeze_space;
mod initialise;
mod inspection;
pub mod loss;
mod nearest;
pub mod network;
pub mod optimizer;
mod rates;
mod store;
pub mod weights;
mod workers;

pub use engine::{Arithmetic, CompileRequest, Draws, Engine, EngineError, Mode, Precision, Program};
pub use freeze::{BatchNormMode, FreezeError, FreezePlan, FrozenBatchNorm};
pub use initialise::initialise;
pub use inspection::{BufferContent, MemoryPlan, PlannedBuffer, StageReport};
pub use network::{FeatureShape, Head, Network, NetworkError, Op, TensorKind, TensorSpec, ValueId};
pub use rates::{GroupError, group_rates};
pub use store::{Gradients, ParameterSet, ParameterStore, Stamp};
pub use workers::{BLOCK, BlockBody, CallingThread, Workers};
