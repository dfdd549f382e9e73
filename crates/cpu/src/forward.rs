//! The forward pass of each kind of step.

use crate::algorithm::Algorithm;
use crate::plan::WeightShape;
use crate::program::CpuProgram;
use crate::stage::Kind;
use rand_core::Rng;
use roentgen_kernels::{ConvFinish, Element, WinogradWeights};
use roentgen_nn::{Draws, ParameterSet, ParameterStore, ValueId};
use roentgen_run::draw::{Purpose, name_key, pair_key, stream};

impl CpuProgram {
    /// Runs a step whose first input is made of `E`.
    pub(crate) fn forward_step<E: Element>(
        &mut self,
        index: usize,
        store: &mut ParameterStore,
        set: ParameterSet,
        draws: Draws<'_>,
    ) {
        if let Kind::Dropout { layer, probability } = self.plan.steps[index].stage.kind {
            self.draw_mask(index, layer, probability, draws);
        }
        let step = &self.plan.steps[index];
        let (batch, relu) = (self.batch, step.stage.relu);
        let shape = self.network.value(step.stage.output).shape;
        let (channels, positions) = (shape.channels, shape.positions());
        let x = self.region(step.stage.inputs[0]);
        let second = step.stage.inputs.get(1).map(|id| self.region(*id));
        let y = self.region(step.stage.output);
        let (compute, arena) = (&self.compute, &mut self.arena);
        match step.stage.kind {
            Kind::Convolution { .. } => {
                let packed = self.packed[index].as_mut().expect("the step has weights");
                packed.refresh(compute, step, store, set);
                let normalise = self.batch_norms[index].as_mut().map(|state| {
                    state.prepare(step, store, set, batch * positions, |_, _| {
                        unreachable!("a batch norm behind a convolution goes by its running statistics")
                    });
                    [&state.mean[..], &state.scale, &state.shift]
                });
                let bias = step.tensors.bias.map(|_| packed.bias.as_slice());
                // The slice of the residual is the input's where there is none, and then not looked at.
                let ([x, residual], [y]) = arena.view::<E, E, _, _>([x, second.unwrap_or(x)], [y]);
                let finish = ConvFinish { bias, normalise, residual: second.map(|_| residual), relu };
                let Some(WeightShape::Convolution(shape, algorithm)) = step.weights else {
                    unreachable!("a convolution has a convolution's weights")
                };
                match algorithm {
                    Algorithm::Direct => compute.conv_forward(&shape, batch, x, packed.weights(), &finish, y),
                    Algorithm::Winograd => {
                        let weights = if step.plain_weights {
                            WinogradWeights::Plain(store.tensor(set, step.tensors.weight))
                        } else {
                            WinogradWeights::Packed(packed.weights())
                        };
                        compute.winograd_forward(&shape, batch, x, weights, &finish, y);
                    }
                }
            }
            Kind::Linear { .. } => {
                let packed = self.packed[index].as_mut().expect("the step has weights");
                packed.refresh(compute, step, store, set);
                let bias = step.tensors.bias.map(|_| packed.bias.as_slice());
                let ([x], [y]) = arena.view::<f32, f32, _, _>([x], [y]);
                let Some(WeightShape::Linear(shape)) = step.weights else {
                    unreachable!("a linear layer has a linear layer's weights")
                };
                compute.linear_forward(&shape, batch, x, packed.weights(), bias, relu, y);
            }
            Kind::BatchNorm { .. } => {
                let state = self.batch_norms[index].as_mut().expect("the step is a batch norm");
                state.prepare(step, store, set, batch * positions, |mean, variance| {
                    compute.batch_norm_statistics(channels, batch, positions, arena.read::<E>(x), mean, variance);
                });
                let (mean, scale, shift) = (&state.mean, &state.scale, &state.shift);
                match second {
                    Some(residual) => {
                        let ([x, residual], [y]) = arena.view::<E, E, _, _>([x, residual], [y]);
                        let residual = Some(residual);
                        compute.batch_norm_apply(channels, batch, positions, x, mean, scale, shift, residual, relu, y);
                    }
                    None => {
                        let ([x], [y]) = arena.view::<E, E, _, _>([x], [y]);
                        compute.batch_norm_apply(channels, batch, positions, x, mean, scale, shift, None, relu, y);
                    }
                }
            }
            Kind::Add => {
                let second = second.expect("an addition has two inputs");
                let ([a, b], [y]) = arena.view::<E, E, _, _>([x, second], [y]);
                compute.add(a, b, relu, y);
            }
            Kind::Relu => {
                let ([x], [y]) = arena.view::<E, E, _, _>([x], [y]);
                compute.convert(x, y);
                compute.relu(y);
            }
            Kind::MaxPool { .. } => {
                let shape = step.pool_shape(&self.network).expect("the step is a max pooling");
                let ([x], [y]) = self.arena.view::<E, E, _, _>([x], [y]);
                self.compute.max_pool_forward(&shape, batch, x, y);
            }
            Kind::AveragePool => {
                let shape = step.average_pool_shape(&self.network);
                let ([x], [y]) = self.arena.view::<E, E, _, _>([x], [y]);
                self.compute.average_pool_forward(&shape, batch, x, y);
            }
            Kind::Flatten => {
                let from = self.network.value(step.stage.inputs[0]).shape;
                let ([x], [y]) = arena.view::<E, f32, _, _>([x], [y]);
                compute.flatten(from.channels, batch, from.positions(), x, y);
            }
            Kind::Dropout { .. } => {
                let mask =
                    step.mask.expect("a dropout step has a mask").prefix(y.len / size_of::<E>() * size_of::<f32>());
                let ([x], [values]) = arena.view::<E, E, _, _>([x], [y]);
                compute.convert(x, values);
                let ([mask], [y]) = arena.view::<f32, E, _, _>([mask], [y]);
                compute.multiply(mask, y);
            }
        }
    }

    /// Draws the mask of a dropout: for each image a stream of its own, so that it does not depend on the batch.
    fn draw_mask(&mut self, index: usize, layer: ValueId, probability: f32, draws: Draws<'_>) {
        let shape = self.network.value(layer).shape;
        let region = self.plan.steps[index].mask.expect("a dropout step has a mask");
        let key = name_key(&self.network.value(layer).name);
        let keep = 1.0 / (1.0 - probability);
        // A 32-bit draw below this is a zero.
        let threshold = (f64::from(probability) * 2f64.powi(32)) as u64;
        let per_image = self.blocked_len(layer) / self.batch;
        let planar = &mut self.mask_row;
        planar.resize(shape.elements(), 0.0);
        let mask = self.arena.write::<f32>(region);
        for (image, &row) in draws.rows.iter().enumerate() {
            let mut generator = stream(draws.seed, Purpose::Dropout, draws.epoch, pair_key(row as u64, key));
            for value in planar.iter_mut() {
                *value = if u64::from(generator.next_u32()) < threshold { 0.0 } else { keep };
            }
            let target = &mut mask[image * per_image..(image + 1) * per_image];
            self.compute.planar_to_blocked(shape.channels, 1, shape.positions(), planar, target);
        }
    }
}
