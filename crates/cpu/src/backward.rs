//! The backward pass of each kind of step.

use crate::algorithm::Algorithm;
use crate::plan::{GradientWrite, WeightShape};
use crate::program::CpuProgram;
use crate::stage::Kind;
use roentgen_kernels::{Element, WinogradSums, WinogradWeights};
use roentgen_nn::{BatchNormMode, Gradients, ParameterSet, ParameterStore};

impl CpuProgram {
    /// Turns the gradient of a step's output into those of its inputs and parameters. The gradient's memory may be
    /// worked in: whoever wanted it has had it. The first input is made of `E`.
    pub(crate) fn backward_step<E: Element>(
        &mut self,
        index: usize,
        store: &ParameterStore,
        set: ParameterSet,
        gradients: &mut Gradients,
        accumulate: bool,
    ) {
        let step = &self.plan.steps[index];
        let batch = self.batch;
        let dy = self.gradient_region(step.stage.output);
        if step.stage.relu && !step.relu_passed {
            let ([y], [dy]) = self.arena.view::<E, E, _, _>([self.region(step.stage.output)], [dy]);
            self.compute.relu_backward(y, dy);
        }
        // A summand's gradient is that of the sum.
        for (position, write) in step.input_gradients.iter().enumerate() {
            let is_summand = matches!(step.stage.kind, Kind::Add) || position == 1;
            let (true, Some(write)) = (is_summand, write) else { continue };
            let ([dy], [dx]) = self.arena.view::<E, E, _, _>([dy], [self.gradient_region(step.stage.inputs[position])]);
            match write {
                GradientWrite::Accumulate => self.compute.accumulate(dy, dx),
                GradientWrite::Set => self.compute.convert(dy, dx),
                GradientWrite::InPlace => unreachable!("a summand has memory of its own"),
            }
        }
        let input = step.stage.inputs[0];
        let write = step.input_gradients[0];
        let adds = write == Some(GradientWrite::Accumulate);
        match step.stage.kind {
            Kind::Convolution { .. } | Kind::Linear { .. } => {
                if let Some(state) = &self.batch_norms[index] {
                    let shape = self.network.value(step.stage.output).shape;
                    let dy = self.arena.write::<E>(dy);
                    self.compute.scale_channels(shape.channels, batch, shape.positions(), &state.scale, dy);
                }
                self.weights_backward::<E>(index, store, set, gradients, accumulate);
            }
            Kind::BatchNorm { .. } => {
                self.batch_norm_backward::<E>(index, store, set, gradients, accumulate);
                self.deliver::<E>(index);
            }
            Kind::Relu => self.deliver::<E>(index),
            Kind::Dropout { .. } => {
                let mask =
                    step.mask.expect("a dropout step has a mask").prefix(dy.len / size_of::<E>() * size_of::<f32>());
                let ([mask], [dy]) = self.arena.view::<f32, E, _, _>([mask], [dy]);
                self.compute.multiply(mask, dy);
                self.deliver::<E>(index);
            }
            Kind::Add => {}
            Kind::MaxPool { .. } if write.is_some() => {
                let shape = step.pool_shape(&self.network).expect("the step is a max pooling");
                let reads = [self.region(input), self.region(step.stage.output), dy];
                let ([x, y, dy], [dx]) = self.arena.view::<E, E, _, _>(reads, [self.gradient_region(input)]);
                self.compute.max_pool_backward(&shape, batch, x, y, dy, dx, adds, step.passes_relu);
            }
            Kind::AveragePool if write.is_some() => {
                let shape = step.average_pool_shape(&self.network);
                let ([dy], [dx]) = self.arena.view::<E, E, _, _>([dy], [self.gradient_region(input)]);
                self.compute.average_pool_backward(&shape, batch, dy, dx, adds);
            }
            Kind::Flatten if write.is_some() => {
                let from = self.network.value(input).shape;
                let ([dy], [dx]) = self.arena.view::<f32, E, _, _>([dy], [self.gradient_region(input)]);
                self.compute.flatten_backward(from.channels, batch, from.positions(), dy, dx, adds);
            }
            Kind::MaxPool { .. } | Kind::AveragePool | Kind::Flatten => {}
        }
    }

    /// Hands on what an elementwise step has made of its output's gradient, where that is not in place already.
    fn deliver<E: Element>(&mut self, index: usize) {
        let step = &self.plan.steps[index];
        let from = self.gradient_region(step.stage.output);
        match step.input_gradients[0] {
            None | Some(GradientWrite::InPlace) => {}
            Some(write) => {
                let ([from], [to]) =
                    self.arena.view::<E, E, _, _>([from], [self.gradient_region(step.stage.inputs[0])]);
                if write == GradientWrite::Accumulate {
                    self.compute.accumulate(from, to);
                } else {
                    self.compute.convert(from, to);
                }
            }
        }
    }

    fn weights_backward<E: Element>(
        &mut self,
        index: usize,
        store: &ParameterStore,
        set: ParameterSet,
        gradients: &mut Gradients,
        accumulate: bool,
    ) {
        let step = &self.plan.steps[index];
        let batch = self.batch;
        let (input, output) = (step.stage.inputs[0], step.stage.output);
        let (x, dy) = (self.region(input), self.gradient_region(output));
        let dx = step.input_gradients[0].map(|write| (self.gradient_region(input), write == GradientWrite::Accumulate));
        let packed = self.packed[index].as_mut().expect("the step has weights");
        let weights = step.weights.expect("the step has weights");
        let shape = self.network.value(output).shape;
        let (compute, arena) = (&self.compute, &mut self.arena);
        if step.trains_weight {
            let target = gradients.tensor_mut(step.tensors.weight).expect("a trained weight has a gradient");
            match weights {
                WeightShape::Convolution(shape, Algorithm::Winograd) => {
                    let sums = step.micro_batches.then_some(WinogradSums { sums: &mut packed.gradient, accumulate });
                    let (x, dy) = (arena.read::<E>(x), arena.read(dy));
                    compute.winograd_weight_gradient(&shape, batch, x, dy, sums, target);
                }
                WeightShape::Convolution(shape, Algorithm::Direct) => {
                    let (x, dy) = (arena.read::<E>(x), arena.read(dy));
                    compute.conv_weight_gradient(&shape, batch, x, dy, &mut packed.gradient, accumulate);
                    compute.unpack_weight_gradient(&shape, &packed.gradient, target);
                }
                WeightShape::Linear(shape) => {
                    let (x, dy) = (arena.read(x), arena.read(dy));
                    compute.linear_weight_gradient(&shape, batch, x, dy, &mut packed.gradient, accumulate);
                    compute.linear_unpack_gradient(&shape, &packed.gradient, target);
                }
            }
        }
        if step.trains_bias {
            let bias = step.tensors.bias.expect("a trained bias exists");
            let target = gradients.tensor_mut(bias).expect("a trained bias has a gradient");
            let dy = arena.read::<E>(dy);
            compute.bias_gradient(shape.channels, batch, shape.positions(), dy, &mut packed.bias_gradient, accumulate);
            target.copy_from_slice(&packed.bias_gradient[..shape.channels]);
        }
        let Some((dx, adds)) = dx else { return };
        if let WeightShape::Linear(shape) = weights {
            let ([dy], [dx]) = arena.view([dy], [dx]);
            return compute.linear_data_gradient(&shape, batch, dy, packed.transposed(), dx, adds);
        }
        // The input need not be alive where nothing of it is read: the gradient may even lie in its place.
        let read = if step.passes_relu { x } else { dy };
        let ([dy, x], [dx]) = arena.view::<E, E, _, _>([dy, read], [dx]);
        let activation = step.passes_relu.then_some(x);
        match weights {
            WeightShape::Convolution(shape, Algorithm::Winograd) => {
                let weights = if step.plain_weights {
                    WinogradWeights::Plain(store.tensor(set, step.tensors.weight))
                } else {
                    WinogradWeights::Packed(packed.transposed())
                };
                compute.winograd_data_gradient(&shape, batch, dy, weights, activation, dx, adds);
            }
            WeightShape::Convolution(shape, Algorithm::Direct) => {
                compute.conv_data_gradient(&shape, batch, dy, packed.transposed(), activation, dx, adds);
            }
            WeightShape::Linear(_) => unreachable!("linear layers are done"),
        }
    }

    /// The gradients of scale and shift, and the input's gradient in the memory of the output's.
    fn batch_norm_backward<E: Element>(
        &mut self,
        index: usize,
        store: &ParameterStore,
        set: ParameterSet,
        gradients: &mut Gradients,
        accumulate: bool,
    ) {
        let step = &self.plan.steps[index];
        let batch = self.batch;
        let shape = self.network.value(step.stage.output).shape;
        let (channels, positions) = (shape.channels, shape.positions());
        let x = self.region(step.stage.inputs[0]);
        let dy = self.gradient_region(step.stage.output);
        let state = self.batch_norms[index].as_mut().expect("the step is a batch norm");
        let by_batch = step.batch_norm == Some(BatchNormMode::Batch);
        if by_batch || step.trains_weight || step.trains_bias {
            let ([x, dy], []) = self.arena.view::<E, E, _, _>([x, dy], []);
            let (mean, inverse) = (&state.mean, &state.inverse_deviation);
            let (d_weight, d_shift) = (&mut state.weight_gradient, &mut state.shift_gradient);
            self.compute
                .batch_norm_reduce(channels, batch, positions, x, dy, mean, inverse, d_weight, d_shift, accumulate);
        }
        for (trained, tensor, source) in [
            (step.trains_weight, Some(step.tensors.weight), &state.weight_gradient),
            (step.trains_bias, step.tensors.bias, &state.shift_gradient),
        ] {
            if let (true, Some(tensor)) = (trained, tensor) {
                let target = gradients.tensor_mut(tensor).expect("a trained tensor has a gradient");
                target.copy_from_slice(&source[..channels]);
            }
        }
        debug_assert_eq!(store.tensor(set, step.tensors.weight).len(), channels);
        if step.needs_input_gradient(0) {
            if by_batch {
                let ([x], [dy]) = self.arena.view::<E, E, _, _>([x], [dy]);
                self.compute.batch_norm_data_gradient_training(
                    channels,
                    batch,
                    positions,
                    x,
                    &state.mean,
                    &state.inverse_deviation,
                    &state.weight,
                    &state.weight_gradient,
                    &state.shift_gradient,
                    dy,
                );
            } else {
                self.compute.scale_channels(channels, batch, positions, &state.scale, self.arena.write::<E>(dy));
            }
        }
    }
}
