//! Fully connected layers: 1 x 1 convolutions whose positions are the images of a batch.
//!
//! A matrix `[N, F]` becomes the map `[F / 16, 1, N, 16]`, after which the convolution's micro-kernels run over it with
//! the batch side by side: each weight is read from memory once for the whole batch.

use crate::compute::Shared;
use crate::convolution::correlate::{Correlation, Finish, Start, TargetStrides};
use crate::convolution::weight_gradient::WeightGradient;
use crate::convolution::window::{Panels, Window};
use crate::{Compute, ConvShape, InputLayout, LANES, blocks, padded};

/// A fully connected layer, as PyTorch's `Linear`: weights `[out_features, in_features]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LinearShape {
    /// Features of the input, at least 1.
    pub in_features: usize,
    /// Features of the output, at least 1.
    pub out_features: usize,
}

impl LinearShape {
    /// Floats of one image of the input: [`padded`]`(in_features)`.
    pub fn input_len(&self) -> usize {
        padded(self.in_features)
    }

    /// Floats of one image of the output: [`padded`]`(out_features)`.
    pub fn output_len(&self) -> usize {
        padded(self.out_features)
    }

    /// Floats of the weights as they come: `[out_features, in_features]`.
    pub fn weights_len(&self) -> usize {
        self.out_features * self.in_features
    }

    /// Floats of the packed weights, transposed or not, and of their packed gradient.
    pub fn packed_len(&self) -> usize {
        padded(self.out_features) * padded(self.in_features)
    }

    /// The convolution that this layer is for `batch` images.
    fn convolution(&self, batch: usize) -> ConvShape {
        ConvShape {
            in_channels: self.in_features,
            out_channels: self.out_features,
            kernel: 1,
            stride: 1,
            padding: 0,
            in_height: 1,
            in_width: batch,
            input: InputLayout::Blocked,
        }
    }
}

impl Compute {
    /// Packs weights `[out_features, in_features]` for [`Compute::linear_forward`].
    ///
    /// # Panics
    /// Where `weights` has not [`LinearShape::weights_len`] or `packed` not [`LinearShape::packed_len`] floats.
    pub fn linear_pack(&self, shape: &LinearShape, weights: &[f32], packed: &mut [f32]) {
        self.pack_weights::<f32>(&shape.convolution(1), weights, packed);
    }

    /// Packs weights `[out_features, in_features]` for [`Compute::linear_data_gradient`].
    ///
    /// # Panics
    /// As [`Compute::linear_pack`].
    pub fn linear_pack_transposed(&self, shape: &LinearShape, weights: &[f32], packed: &mut [f32]) {
        self.pack_weights_transposed::<f32>(&shape.convolution(1), weights, packed);
    }

    /// Brings the gradient that [`Compute::linear_weight_gradient`] made into the layout `[out_features, in_features]`.
    ///
    /// # Panics
    /// As [`Compute::linear_pack`].
    pub fn linear_unpack_gradient(&self, shape: &LinearShape, packed: &[f32], weights: &mut [f32]) {
        self.unpack_weight_gradient(&shape.convolution(1), packed, weights);
    }

    /// `y = x * weights^T + bias`, and `max(0, y)` where `relu` is set.
    ///
    /// - `x`: `[batch, padded(in_features)]`, zeros last
    /// - `packed`: weights from [`Compute::linear_pack`]
    /// - `bias`: [`padded`]`(out_features)` floats, zeros last
    /// - `y`: `[batch, padded(out_features)]`; overwritten
    ///
    /// # Panics
    /// Where a length does not fit.
    pub fn linear_forward(
        &self,
        shape: &LinearShape,
        batch: usize,
        x: &[f32],
        packed: &[f32],
        bias: Option<&[f32]>,
        relu: bool,
        y: &mut [f32],
    ) {
        assert_eq!(x.len(), batch * shape.input_len(), "input of {batch} x {shape:?}");
        assert_eq!(packed.len(), shape.packed_len(), "packed weights of {shape:?}");
        assert_eq!(y.len(), batch * shape.output_len(), "output of {batch} x {shape:?}");
        if let Some(bias) = bias {
            assert_eq!(bias.len(), padded(shape.out_features), "bias of {shape:?}");
        }
        let start = bias.map_or(Start::Zero, Start::Bias);
        self.multiply_rows(shape.in_features, shape.out_features, batch, x, packed, start, relu, y);
    }

    /// The gradient for the input, from the gradient for the output.
    ///
    /// - `dy`: `[batch, padded(out_features)]`, zeros last
    /// - `packed_transposed`: weights from [`Compute::linear_pack_transposed`]
    /// - `dx`: `[batch, padded(in_features)]`; overwritten, or added to where `accumulate` is set
    ///
    /// # Panics
    /// Where a length does not fit.
    pub fn linear_data_gradient(
        &self,
        shape: &LinearShape,
        batch: usize,
        dy: &[f32],
        packed_transposed: &[f32],
        dx: &mut [f32],
        accumulate: bool,
    ) {
        assert_eq!(dy.len(), batch * shape.output_len(), "output gradient of {batch} x {shape:?}");
        assert_eq!(packed_transposed.len(), shape.packed_len(), "transposed packed weights of {shape:?}");
        assert_eq!(dx.len(), batch * shape.input_len(), "input gradient of {batch} x {shape:?}");
        let start = if accumulate { Start::Target } else { Start::Zero };
        self.multiply_rows(shape.out_features, shape.in_features, batch, dy, packed_transposed, start, false, dx);
    }

    /// The gradient for the weights, from the input and the gradient for the output.
    ///
    /// - `x`: `[batch, padded(in_features)]`, zeros last
    /// - `dy`: `[batch, padded(out_features)]`, zeros last
    /// - `packed_dw`: [`LinearShape::packed_len`] floats, for [`Compute::linear_unpack_gradient`]; overwritten, or
    ///   added to, image by image, where `accumulate` is set
    ///
    /// # Panics
    /// Where a length does not fit.
    pub fn linear_weight_gradient(
        &self,
        shape: &LinearShape,
        batch: usize,
        x: &[f32],
        dy: &[f32],
        packed_dw: &mut [f32],
        accumulate: bool,
    ) {
        assert_eq!(x.len(), batch * shape.input_len(), "input of {batch} x {shape:?}");
        assert_eq!(dy.len(), batch * shape.output_len(), "output gradient of {batch} x {shape:?}");
        assert_eq!(packed_dw.len(), shape.packed_len(), "packed weight gradient of {shape:?}");
        if batch == 0 {
            return if accumulate {
            } else {
                packed_dw.fill(0.0)
            };
        }
        self.with_shared_scratch(Shared::Inputs, |scratch| {
            let (source, output_gradient) = scratch.buffer.prefix(x.len() + dy.len()).split_at_mut(x.len());
            self.rows_to_map(batch, x, source);
            self.rows_to_map(batch, dy, output_gradient);
            let output_blocks = blocks(shape.out_features);
            let gradient = WeightGradient {
                window: Window::forward(&shape.convolution(batch), Panels::Values),
                images: 1,
                source,
                source_blocks: blocks(shape.in_features),
                output_gradient,
                output_blocks,
                strides: TargetStrides::blocked(output_blocks, 1, batch),
                accumulate,
            };
            self.weight_gradient(&gradient, packed_dw);
        });
    }

    /// `target = start + source * weights`, for matrices `[batch, padded(from)]` and `[batch, padded(to)]`.
    fn multiply_rows(
        &self,
        from: usize,
        to: usize,
        batch: usize,
        source: &[f32],
        weights: &[f32],
        start: Start,
        relu: bool,
        target: &mut [f32],
    ) {
        if batch == 0 {
            return;
        }
        let shape = LinearShape { in_features: from, out_features: to };
        self.with_shared_scratch(Shared::Inputs, |scratch| {
            let map = scratch.buffer.prefix(source.len());
            self.rows_to_map(batch, source, map);
            let correlation = Correlation {
                window: Window::forward(&shape.convolution(batch), Panels::Values),
                images: 1,
                source: map,
                source_blocks: blocks(from),
                weights,
                target_blocks: blocks(to),
                // The target stays a matrix: neighbouring images are a row apart.
                strides: TargetStrides { image: 0, block: LANES, row: 0, column: padded(to) },
                start,
                finish: Finish { relu, ..Finish::default() },
            };
            self.correlate(&correlation, target);
        });
    }

    /// From `[batch, blocks, 16]` to `[blocks, batch, 16]`.
    fn rows_to_map(&self, batch: usize, rows: &[f32], map: &mut [f32]) {
        let row_len = rows.len() / batch;
        self.parallel_chunks(map, batch * LANES, |first, part, _| {
            for (i, block) in part.chunks_exact_mut(batch * LANES).enumerate() {
                for (image, lanes) in block.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
                    lanes.copy_from_slice(&rows[image * row_len + (first + i) * LANES..][..LANES]);
                }
            }
        });
    }
}
