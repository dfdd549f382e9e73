//! What happens to a convolution's sums before they are stored.

use super::ConvShape;
use crate::{Element, padded};

/// The operations behind a convolution that its kernels do on the way: each element goes through the same f32
/// operations, in the same order, as if the passes were run one by one. Where they would store bf16, it is rounded in
/// between.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConvFinish<'a, E: Element = f32> {
    /// Added first: [`padded`]`(out_channels)` floats, zeros last.
    pub bias: Option<&'a [f32]>,
    /// Mean, scale and shift of a batch norm behind a convolution without bias, [`padded`]`(out_channels)` floats each,
    /// zeros last: `(value - mean) * scale + shift`, as
    /// [`Compute::batch_norm_apply`](crate::Compute::batch_norm_apply).
    pub normalise: Option<[&'a [f32]; 3]>,
    /// Added next; laid out as the output.
    pub residual: Option<&'a [E]>,
    /// Whether a ReLU comes last.
    pub relu: bool,
}

impl<E: Element> ConvFinish<'_, E> {
    /// Panics where something does not fit the output of `batch` images.
    pub(crate) fn check(&self, shape: &ConvShape, batch: usize) {
        let channels = padded(shape.out_channels);
        assert!(self.bias.is_none() || self.normalise.is_none(), "a normalised convolution has no bias");
        for vector in self.bias.into_iter().chain(self.normalise.into_iter().flatten()) {
            assert_eq!(vector.len(), channels, "bias or normalisation of {shape:?}");
        }
        if let Some(residual) = self.residual {
            assert_eq!(residual.len(), batch * shape.output_len(), "residual of {batch} x {shape:?}");
        }
    }
}
