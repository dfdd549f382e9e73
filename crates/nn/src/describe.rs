//! The layer table: a freeze plan, dry.

use crate::freeze::{BatchNormMode, FreezePlan};
use crate::network::{FeatureShape, Network, TensorKind};

/// One layer of the table.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerRow {
    /// torchvision's module name.
    pub name: String,
    /// torch's name of the operation.
    pub operation: &'static str,
    /// Output for one image.
    pub shape: FeatureShape,
    /// Parameters.
    pub parameters: usize,
    /// Trained parameters.
    pub trainable_parameters: usize,
    /// For a batch norm, its mode while training.
    pub batch_norm: Option<BatchNormMode>,
    /// Whether backward computes a gradient of this layer's output.
    pub reached_by_backward: bool,
}

/// The layers of a network under a plan, in the order of computation.
pub fn layers(network: &Network, plan: &FreezePlan) -> Vec<LayerRow> {
    let reached = reached_by_backward(network, plan);
    network
        .ids()
        .map(|id| {
            let value = network.value(id);
            let count = |only_trained: bool| -> usize {
                network
                    .tensors()
                    .iter()
                    .enumerate()
                    .filter(|(_, t)| t.value == id && t.kind == TensorKind::Parameter)
                    .filter(|(index, _)| !only_trained || plan.trainable(*index))
                    .map(|(_, t)| t.elements())
                    .sum()
            };
            LayerRow {
                name: value.name.clone(),
                operation: value.op.name(),
                shape: value.shape,
                parameters: count(false),
                trainable_parameters: count(true),
                batch_norm: plan.batch_norm(id),
                reached_by_backward: reached[id.index()],
            }
        })
        .collect()
}

/// For each value, whether its gradient is needed: it is computed from a trained parameter.
pub fn reached_by_backward(network: &Network, plan: &FreezePlan) -> Vec<bool> {
    let mut reached = vec![false; network.values().len()];
    for tensor in plan.trainable_tensors() {
        reached[network.tensors()[tensor].value.index()] = true;
    }
    for id in network.ids() {
        if network.value(id).inputs.iter().any(|input| reached[input.index()]) {
            reached[id.index()] = true;
        }
    }
    reached
}
