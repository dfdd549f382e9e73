//! The convolution, and its gradient for the input.

use super::correlate::{Correlation, Finish, Start, TargetStrides};
use super::window::{Panels, Window};
use super::{ConvFinish, ConvShape};
use crate::{Compute, blocks};

impl Compute {
    /// `y = finish(x * weights)`.
    ///
    /// - `x`: `batch` images in the shape's input layout, [`ConvShape::input_len`] floats each
    /// - `packed`: weights from [`Compute::pack_weights`]
    /// - `y`: `batch` images, blocked, [`ConvShape::output_len`] floats each; overwritten
    ///
    /// # Panics
    /// Where a length does not fit.
    pub fn conv_forward(
        &self,
        shape: &ConvShape,
        batch: usize,
        x: &[f32],
        packed: &[f32],
        finish: &ConvFinish,
        y: &mut [f32],
    ) {
        self.forward_from(Panels::Values, shape, batch, x, packed, finish, y);
    }

    /// The gradient for the input, from the gradient for the output.
    ///
    /// - `dy`: `batch` images, blocked, [`ConvShape::output_len`] floats each
    /// - `packed_transposed`: weights from [`Compute::pack_weights_transposed`]
    /// - `activation`: where the input is the output of a ReLU, that output (laid out as `dx`): the gradient then is
    ///   the one for the ReLU's input
    /// - `dx`: `batch` images, blocked whatever the input's layout, [`ConvShape::data_gradient_len`] floats each;
    ///   overwritten, or added to where `accumulate` is set
    ///
    /// # Panics
    /// Where a length does not fit.
    pub fn conv_data_gradient(
        &self,
        shape: &ConvShape,
        batch: usize,
        dy: &[f32],
        packed_transposed: &[f32],
        activation: Option<&[f32]>,
        dx: &mut [f32],
        accumulate: bool,
    ) {
        let panels = Panels::Values;
        self.data_gradient_from(panels, shape, batch, dy, packed_transposed, activation, dx, accumulate);
    }

    /// [`Compute::conv_forward`] from panels of the given kind, for which the weights are packed.
    pub(super) fn forward_from(
        &self,
        panels: Panels,
        shape: &ConvShape,
        batch: usize,
        x: &[f32],
        packed: &[f32],
        finish: &ConvFinish,
        y: &mut [f32],
    ) {
        assert_eq!(x.len(), batch * shape.input_len(), "input of {batch} x {shape:?}");
        assert_eq!(packed.len(), shape.packed_len(), "packed weights of {shape:?}");
        assert_eq!(y.len(), batch * shape.output_len(), "output of {batch} x {shape:?}");
        finish.check(shape, batch);
        let (window, target_blocks) = (Window::forward(shape, panels), blocks(shape.out_channels));
        let correlation = Correlation {
            window,
            images: batch,
            source: x,
            source_blocks: shape.in_blocks(),
            weights: packed,
            target_blocks,
            strides: TargetStrides::blocked(target_blocks, window.target_height, window.target_width),
            start: finish.bias.map_or(Start::Zero, Start::Bias),
            finish: Finish::forward(finish),
        };
        self.correlate(&correlation, y);
    }

    /// [`Compute::conv_data_gradient`] from panels of the given kind, for which the weights are packed.
    pub(super) fn data_gradient_from(
        &self,
        panels: Panels,
        shape: &ConvShape,
        batch: usize,
        dy: &[f32],
        packed_transposed: &[f32],
        activation: Option<&[f32]>,
        dx: &mut [f32],
        accumulate: bool,
    ) {
        assert_eq!(dy.len(), batch * shape.output_len(), "output gradient of {batch} x {shape:?}");
        assert_eq!(packed_transposed.len(), shape.packed_transposed_len(), "transposed packed weights of {shape:?}");
        assert_eq!(dx.len(), batch * shape.data_gradient_len(), "input gradient of {batch} x {shape:?}");
        if let Some(activation) = activation {
            assert_eq!(activation.len(), dx.len(), "activation of {batch} x {shape:?}");
        }
        let (window, target_blocks) = (Window::gradient(shape, panels), blocks(shape.in_channels));
        let correlation = Correlation {
            window,
            images: batch,
            source: dy,
            source_blocks: blocks(shape.out_channels),
            weights: packed_transposed,
            target_blocks,
            strides: TargetStrides::blocked(target_blocks, window.target_height, window.target_width),
            start: if accumulate { Start::Target } else { Start::Zero },
            finish: Finish { activation, ..Finish::default() },
        };
        self.correlate(&correlation, dx);
    }
}
