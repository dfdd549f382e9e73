//! How each convolution is computed: a fixed table over shape and instruction set.
//!
//! Bits depend on it, so it looks at nothing that may change between runs of a network on one machine: no timing, no
//! batch, no number of threads. Whoever changes an entry raises [`TABLE_VERSION`].

use roentgen_kernels::{ConvShape, Isa};
use roentgen_nn::Arithmetic;

/// Version of the table, and so of the bits of every convolution. Since 4, mixed precision stores bf16; in f32 it is as 3.
pub(crate) const TABLE_VERSION: u32 = 4;

/// How a convolution and its gradients are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    /// Every product as it stands: of what the activations are made of, f32 or bf16.
    Direct,
    /// F(4 x 4, 3 x 3): a quarter of the products, within 1e-5 of the largest output.
    Winograd,
}

impl Algorithm {
    /// The table. `Arithmetic::exact` asks for direct convolutions everywhere.
    ///
    /// It is the same in mixed precision: Winograd's algorithm in f32 needs a quarter of the products of bf16 at half
    /// their rate, so that it stays the faster one, and is the more exact.
    pub(crate) fn of(shape: &ConvShape, isa: Isa, arithmetic: Arithmetic) -> Algorithm {
        if !arithmetic.exact && isa != Isa::Scalar && Algorithm::saves_products(shape) {
            Algorithm::Winograd
        } else {
            Algorithm::Direct
        }
    }

    /// Whether Winograd's algorithm clearly saves products.
    fn saves_products(shape: &ConvShape) -> bool {
        if !shape.suits_winograd() {
            return false;
        }
        // Tiles stand over the border of a map. It pays where the products of whole tiles, 36 each, are clearly fewer
        // than 9 for each output: transforms cost about half as much again on small maps.
        let (height, width) = (shape.out_height(), shape.out_width());
        let tiles = height.div_ceil(4) * width.div_ceil(4);
        3 * 36 * tiles <= 2 * 9 * height * width
    }
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
        let of = |shape: ConvShape| Algorithm::of(&shape, Isa::Avx512, Arithmetic::default());
        for size in [4, 5, 7, 14, 28, 56, 112, 224, 1000] {
            assert_eq!(of(shape(3, 1, size, InputLayout::Blocked)), Algorithm::Winograd, "{size}");
        }
        for size in [1, 2] {
            assert_eq!(of(shape(3, 1, size, InputLayout::Blocked)), Algorithm::Direct, "{size}");
        }
        assert_eq!(of(shape(3, 2, 56, InputLayout::Blocked)), Algorithm::Direct);
        assert_eq!(of(shape(1, 1, 56, InputLayout::Blocked)), Algorithm::Direct);
        assert_eq!(of(shape(3, 1, 224, InputLayout::Planar)), Algorithm::Direct);
        let suitable = shape(3, 1, 56, InputLayout::Blocked);
        let exact = Arithmetic { exact: true, ..Arithmetic::default() };
        assert_eq!(Algorithm::of(&suitable, Isa::Avx512, exact), Algorithm::Direct);
        assert_eq!(Algorithm::of(&suitable, Isa::Scalar, Arithmetic::default()), Algorithm::Direct);
    }
}
