//! Weights as the kernels want them: packed when they change, once for all calls of a step.

use crate::algorithm::Algorithm;
use crate::format::with_format;
use crate::plan::{Step, WeightShape};
use roentgen_kernels::{AlignedBuffer, Compute, padded};
use roentgen_nn::{ParameterSet, ParameterStore, Stamp};

/// What a step keeps beside the arena.
pub(crate) struct Packed {
    /// Empty where they are taken as they are.
    weights: AlignedBuffer,
    /// For the data gradient; empty where none is computed.
    transposed: AlignedBuffer,
    /// The weight gradient in the kernels' layout, kept so that micro-batches continue it; empty where none is
    /// computed, and for Winograd's algorithm without micro-batches.
    pub(crate) gradient: AlignedBuffer,
    /// One value a channel, padded with zeros.
    pub(crate) bias: Vec<f32>,
    pub(crate) bias_gradient: Vec<f32>,
    stamps: [Option<Stamp>; 2],
}

impl Packed {
    /// Room for a convolution or linear layer; `None` for other steps.
    pub(crate) fn new(step: &Step) -> Option<Packed> {
        let weights = step.weights?;
        let [packed, transposed, gradient] = step.packed_lens();
        let out = match weights {
            WeightShape::Convolution(shape, _) => shape.out_channels,
            WeightShape::Linear(shape) => shape.out_features,
        };
        Some(Packed {
            weights: AlignedBuffer::new(packed),
            transposed: AlignedBuffer::new(transposed),
            gradient: AlignedBuffer::new(gradient),
            bias: vec![0.0; padded(out)],
            bias_gradient: vec![0.0; padded(out)],
            stamps: [None; 2],
        })
    }

    pub(crate) fn weights(&self) -> &[f32] {
        &self.weights
    }

    pub(crate) fn transposed(&self) -> &[f32] {
        &self.transposed
    }

    /// Packs what has changed since the last call.
    pub(crate) fn refresh(&mut self, compute: &Compute, step: &Step, store: &ParameterStore, set: ParameterSet) {
        let index = step.tensors.weight;
        let stamp = store.stamp(set, index);
        if self.stamps[0] != Some(stamp) && !step.plain_weights {
            let source = store.tensor(set, index);
            match step.weights.expect("packed weights belong to a step with weights") {
                WeightShape::Convolution(shape, Algorithm::Winograd) => {
                    compute.winograd_pack(&shape, source, &mut self.weights);
                    if !self.transposed.is_empty() {
                        compute.winograd_pack_transposed(&shape, source, &mut self.transposed);
                    }
                }
                WeightShape::Convolution(shape, Algorithm::Direct) => with_format!(step.format, E => {
                    compute.pack_weights::<E>(&shape, source, &mut self.weights);
                    if !self.transposed.is_empty() {
                        compute.pack_weights_transposed::<E>(&shape, source, &mut self.transposed);
                    }
                }),
                WeightShape::Linear(shape) => {
                    compute.linear_pack(&shape, source, &mut self.weights);
                    if !self.transposed.is_empty() {
                        compute.linear_pack_transposed(&shape, source, &mut self.transposed);
                    }
                }
            }
            self.stamps[0] = Some(stamp);
        }
        if let Some(index) = step.tensors.bias {
            let stamp = store.stamp(set, index);
            if self.stamps[1] != Some(stamp) {
                let source = store.tensor(set, index);
                self.bias[..source.len()].copy_from_slice(source);
                self.stamps[1] = Some(stamp);
            }
        }
    }
}
