//! How each convolution is computed: a fixed table over shape and instruction set.
//!
//! Bits depend on it, so it looks at nothing that may change between runs of a network on one machine: no timing, no
//! batch, no number of threads. Whoever changes an entry raises [`TABLE_VERSION`].

use roentgen_kernels::{ConvShape, Isa};

/// Version of the table, and so of the bits of every convolution.
pub const TABLE_VERSION: u32 = 2;

/// How a convolution and its gradients are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    /// Every product as it stands.
    Direct,
    /// F(4 x 4, 3 x 3): a quarter of the products, within 1e-5 of the largest output.
    Winograd,
}

impl Algorithm {
    /// The table. `exact` asks for direct convolutions everywhere.
    pub(crate) fn of(shape: &ConvShape, isa: Isa, exact: bool) -> Algorithm {
        if exact || isa == Isa::Scalar || !shape.suits_winograd() {
            return Algorithm::Direct;
        }
        // Tiles stand over the border of a map. It pays where the products of whole tiles, 36 each, are clearly fewer than
        // 9 for each output: transforms cost about half as much again on small maps.
        let (height, width) = (shape.out_height(), shape.out_width());
        let tiles = height.div_ceil(4) * width.div_ceil(4);
        if 3 * 36 * tiles <= 2 * 9 * height * width { Algorithm::Winograd } else { Algorithm::Direct }
    }
}

/// Whether Winograd's weights are better transformed on the way, in every call, than once for all calls of a step: weights
/// that training changes, so many that their transforms would go through memory, for so few tiles that every thread can
/// go through all of them. It changes no bit, so it may look at the batch.
pub(crate) fn transforms_on_the_way(shape: &ConvShape, batch: usize, trained: bool) -> bool {
    let tiles = batch * shape.out_height().div_ceil(4) * shape.out_width().div_ceil(4);
    trained && shape.in_channels * shape.out_channels >= 256 * 256 && tiles <= 512
}

#[cfg(test)]
mod tests {
    use super::*;
    use roentgen_kernels::InputLayout;

    fn shape(kernel: usize, stride: usize, size: usize, input: InputLayout) -> ConvShape {
        ConvShape {
            in_channels: 64,
            out_channels: 64,
            kernel,
            stride,
            padding: kernel / 2,
            in_height: size,
            in_width: size,
            input,
        }
    }

    #[test]
    fn the_table_takes_winograd_where_it_saves_products() {
        let of = |shape: ConvShape| Algorithm::of(&shape, Isa::Avx512, false);
        for size in [4, 5, 7, 14, 28, 56, 112, 224, 1000] {
            assert_eq!(of(shape(3, 1, size, InputLayout::Blocked)), Algorithm::Winograd, "{size}");
        }
        for size in [1, 2] {
            assert_eq!(of(shape(3, 1, size, InputLayout::Blocked)), Algorithm::Direct, "{size}");
        }
        assert_eq!(of(shape(3, 2, 56, InputLayout::Blocked)), Algorithm::Direct);
        assert_eq!(of(shape(1, 1, 56, InputLayout::Blocked)), Algorithm::Direct);
        assert_eq!(of(shape(3, 1, 224, InputLayout::Planar)), Algorithm::Direct);
        assert_eq!(Algorithm::of(&shape(3, 1, 56, InputLayout::Blocked), Isa::Avx512, true), Algorithm::Direct);
        assert_eq!(Algorithm::of(&shape(3, 1, 56, InputLayout::Blocked), Isa::Scalar, false), Algorithm::Direct);
    }
}
