//! The convolution, and its gradient for the input.

use super::correlate::{Correlation, Finish, Start, TargetStrides};
use super::window::{Panels, Window};
use super::{ConvFinish, ConvShape};
use crate::{Compute, Element, ScratchNeed, blocks};

impl Compute {
    /// `y = finish(x * weights)`. Products are of f32 where `x` is, else of bf16; sums are f32.
    ///
    /// - `x`: `batch` images in the shape's input layout, [`ConvShape::input_len`] elements each
    /// - `packed`: weights from [`Compute::pack_weights`] for this kind of element
    /// - `y`: `batch` images, blocked, [`ConvShape::output_len`] elements each; overwritten
    ///
    /// # Panics
    /// Where a length does not fit.
    pub fn conv_forward<E: Element>(
        &self,
        shape: &ConvShape,
        batch: usize,
        x: &[E],
        packed: &[f32],
        finish: &ConvFinish<E>,
        y: &mut [E],
    ) {
        assert_eq!(x.len(), batch * shape.input_len(), "input of {batch} x {shape:?}");
        assert_eq!(packed.len(), shape.packed_len(), "packed weights of {shape:?}");
        assert_eq!(y.len(), batch * shape.output_len(), "output of {batch} x {shape:?}");
        finish.check(shape, batch);
        let window = Window::forward(shape, Panels::of_forward::<E>(self.isa(), shape));
        let target_blocks = blocks(shape.out_channels);
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

    /// The gradient for the input, from the gradient for the output. Products are of f32 where `dy` is, else of bf16.
    ///
    /// - `dy`: `batch` images, blocked, [`ConvShape::output_len`] elements each
    /// - `packed_transposed`: weights from [`Compute::pack_weights_transposed`] for this kind of element
    /// - `activation`: where the input is the output of a ReLU, that output (laid out as `dx`): the gradient then is
    ///   the one for the ReLU's input
    /// - `dx`: `batch` images, blocked whatever the input's layout, [`ConvShape::data_gradient_len`] elements each;
    ///   overwritten, or added to where `accumulate` is set
    ///
    /// # Panics
    /// Where a length does not fit.
    pub fn conv_data_gradient<E: Element>(
        &self,
        shape: &ConvShape,
        batch: usize,
        dy: &[E],
        packed_transposed: &[f32],
        activation: Option<&[E]>,
        dx: &mut [E],
        accumulate: bool,
    ) {
        assert_eq!(dy.len(), batch * shape.output_len(), "output gradient of {batch} x {shape:?}");
        assert_eq!(packed_transposed.len(), shape.packed_transposed_len(), "transposed packed weights of {shape:?}");
        assert_eq!(dx.len(), batch * shape.data_gradient_len(), "input gradient of {batch} x {shape:?}");
        if let Some(activation) = activation {
            assert_eq!(activation.len(), dx.len(), "activation of {batch} x {shape:?}");
        }
        let window = Window::gradient(shape, Panels::of_gradient::<E>(self.isa()));
        let target_blocks = blocks(shape.in_channels);
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

    pub(crate) fn conv_forward_scratch<E: Element>(&self, shape: &ConvShape, batch: usize) -> ScratchNeed {
        let window = Window::forward(shape, Panels::of_forward::<E>(self.isa(), shape));
        self.correlate_scratch::<E>(&window, batch, shape.in_blocks())
    }

    pub(crate) fn conv_data_gradient_scratch<E: Element>(&self, shape: &ConvShape, batch: usize) -> ScratchNeed {
        let window = Window::gradient(shape, Panels::of_gradient::<E>(self.isa()));
        self.correlate_scratch::<E>(&window, batch, blocks(shape.out_channels))
    }
}
