//! How much scratch memory the kernels will ask for in the two passes through a plan.

use crate::algorithm::Algorithm;
use crate::format::with_format;
use crate::plan::{Step, WeightShape};
use crate::stage::Kind;
use roentgen_kernels::{Compute, ScratchNeed};
use roentgen_nn::{BatchNormMode, Network};

/// Bytes for all steps, of which each uses the memory after the other.
pub(crate) fn bytes(steps: &[Step], network: &Network, batch: usize, compute: &Compute) -> usize {
    let needs = steps.iter().map(|step| step.scratch(network, batch, compute));
    compute.scratch_bytes(needs.fold(ScratchNeed::default(), ScratchNeed::and))
}

impl Step {
    fn scratch(&self, network: &Network, batch: usize, compute: &Compute) -> ScratchNeed {
        let gradients = [self.needs_input_gradient(0), self.trains_weight];
        let output = network.value(self.stage.output).shape;
        match (self.stage.kind, self.weights) {
            (_, Some(WeightShape::Convolution(shape, Algorithm::Winograd))) => {
                compute.winograd_scratch(&shape, batch, self.plain_weights, gradients, self.micro_batches)
            }
            (_, Some(WeightShape::Convolution(shape, Algorithm::Direct))) => {
                with_format!(self.format, E => compute.conv_scratch::<E>(&shape, batch, gradients))
            }
            (_, Some(WeightShape::Linear(shape))) => compute.linear_scratch(&shape, batch),
            (Kind::BatchNorm { .. }, None) if self.sums_up() => compute.batch_norm_scratch(output.channels, batch),
            (Kind::MaxPool { .. }, None) if gradients[0] => {
                let shape = self.pool_shape(network).expect("the step is a max pooling");
                with_format!(self.format, E => compute.max_pool_scratch::<E>(&shape))
            }
            (Kind::AveragePool, None) if gradients[0] => {
                with_format!(self.format, E => compute.average_pool_scratch::<E>(&self.average_pool_shape(network)))
            }
            (_, None) => ScratchNeed::default(),
        }
    }

    /// Whether a batch norm looks at the whole batch, in forward or in backward.
    fn sums_up(&self) -> bool {
        self.batch_norm == Some(BatchNormMode::Batch) || self.trains_weight || self.trains_bias
    }
}
