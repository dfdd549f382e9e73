//! The shape of a convolution, and how long its buffers are.

use crate::{LANES, blocks};

/// How the input of a convolution lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InputLayout {
    /// `[N, ceil(C / 16), H, W, 16]`, as every activation.
    Blocked,
    /// `[N, C, H, W]`: for images of few channels, whose blocks would be mostly zeros.
    Planar,
}

/// A two-dimensional convolution (as PyTorch's `Conv2d`: a cross-correlation) with a square kernel, one stride and one
/// zero padding for both axes, without groups and dilation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvShape {
    /// Channels of the input, at least 1.
    pub in_channels: usize,
    /// Channels of the output, at least 1.
    pub out_channels: usize,
    /// Height and width of the kernel, at least 1.
    pub kernel: usize,
    /// Distance of neighbouring outputs in the input, at least 1.
    pub stride: usize,
    /// Rows and columns of zeros around the input.
    pub padding: usize,
    /// Rows of the input, at least 1.
    pub in_height: usize,
    /// Columns of the input, at least 1.
    pub in_width: usize,
    /// Layout of the input. The output is always blocked, and so is the gradient for the input.
    pub input: InputLayout,
}

/// The product of the sizes. A shape beyond the address space must not wrap around to a length that short slices have.
fn length(sizes: [usize; 5]) -> usize {
    sizes.into_iter().try_fold(1usize, usize::checked_mul).expect("a tensor that no memory could hold")
}

impl ConvShape {
    /// Rows of the output.
    ///
    /// # Panics
    /// Where the shape is impossible: a size of 0, or a kernel larger than the padded input.
    pub fn out_height(&self) -> usize {
        self.out_extent(self.in_height)
    }

    /// Columns of the output.
    ///
    /// # Panics
    /// As [`ConvShape::out_height`].
    pub fn out_width(&self) -> usize {
        self.out_extent(self.in_width)
    }

    /// Floats of one image of the input.
    pub fn input_len(&self) -> usize {
        match self.input {
            InputLayout::Blocked => self.data_gradient_len(),
            InputLayout::Planar => length([self.in_channels, self.in_height, self.in_width, 1, 1]),
        }
    }

    /// Floats of one image of the output.
    pub fn output_len(&self) -> usize {
        length([blocks(self.out_channels), self.out_height(), self.out_width(), LANES, 1])
    }

    /// Floats of one image of the gradient for the input, which is blocked also where the input is planar.
    pub fn data_gradient_len(&self) -> usize {
        length([blocks(self.in_channels), self.in_height, self.in_width, LANES, 1])
    }

    /// Floats of the weights as they come: `[out_channels, in_channels, kernel, kernel]`.
    pub fn weights_len(&self) -> usize {
        length([self.out_channels, self.in_channels, self.taps(), 1, 1])
    }

    /// Floats of the weights as [`Compute::pack_weights`](crate::Compute::pack_weights) packs them.
    pub fn packed_len(&self) -> usize {
        length([blocks(self.out_channels), self.in_blocks(), self.taps(), self.in_lanes(), LANES])
    }

    /// Floats of the weights as [`Compute::pack_weights_transposed`](crate::Compute::pack_weights_transposed) packs
    /// them.
    pub fn packed_transposed_len(&self) -> usize {
        length([blocks(self.in_channels), blocks(self.out_channels), self.taps(), LANES, LANES])
    }

    /// Floats of the packed weight gradient. Its layout is that of the packed weights.
    pub fn packed_gradient_len(&self) -> usize {
        self.packed_len()
    }

    /// Floating-point operations of a forward pass over one image, a multiplication and an addition being two. Each of
    /// the two gradients takes as many.
    pub fn operations(&self) -> usize {
        2 * self.weights_len() * self.out_height() * self.out_width()
    }

    /// Positions of the kernel.
    pub(super) fn taps(&self) -> usize {
        length([self.kernel, self.kernel, 1, 1, 1])
    }

    /// Input channels that lie side by side.
    pub(super) fn in_lanes(&self) -> usize {
        match self.input {
            InputLayout::Blocked => LANES,
            InputLayout::Planar => 1,
        }
    }

    /// Input blocks: of 16 channels, or of one where they lie in planes.
    pub(super) fn in_blocks(&self) -> usize {
        self.in_channels.div_ceil(self.in_lanes())
    }

    fn out_extent(&self, extent: usize) -> usize {
        let sizes = [self.in_channels, self.out_channels, self.kernel, self.stride, extent];
        assert!(!sizes.contains(&0), "a convolution of size 0: {self:?}");
        let padded = extent + 2 * self.padding;
        assert!(self.kernel <= padded, "the kernel is larger than the padded input: {self:?}");
        (padded - self.kernel) / self.stride + 1
    }
}
