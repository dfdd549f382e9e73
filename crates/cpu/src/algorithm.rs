//! How each convolution is computed: a fixed table over shape and instruction set.
//!
//! Bits depend on it, so it looks at nothing that may change between runs of a network on one machine: no timing, no
//! batch, no number of threads. Whoever changes an entry raises [`TABLE_VERSION`].

use roentgen_kernels::{ConvShape, Isa};
use roentgen_nn::{Arithmetic, Precision};

/// Version of the table, and so of the bits of every convolution.
pub(crate) const TABLE_VERSION: u32 = 3;

/// How a convolution and its gradients are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    /// Every product as it stands.
    Direct,
    /// F(4 x 4, 3 x 3): a quarter of the products, within 1e-5 of the largest output.
    Winograd,
    /// Every product, of bf16.
    Bf16,
}

impl Algorithm {
    /// The table. `Arithmetic::exact` asks for direct convolutions everywhere.
    ///
    /// In mixed precision, products of bf16 take the place of direct ones in f32; Winograd's algorithm in f32 needs a
    /// quarter of the products at half their rate, so that it stays the faster one, and is the more exact.
    pub(crate) fn of(shape: &ConvShape, isa: Isa, arithmetic: Arithmetic) -> Algorithm {
        if !arithmetic.exact && isa != Isa::Scalar && Algorithm::saves_products(shape) {
            Algorithm::Winograd
        } else if arithmetic.precision == Precision::Bf16 && shape.suits_bf16() {
            Algorithm::Bf16
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

    #[test]
    fn mixed_precision_takes_bf16_where_winograd_does_not_apply() {
        let of = |shape: ConvShape, exact| {
            Algorithm::of(&shape, Isa::Avx512Bf16, Arithmetic { precision: Precision::Bf16, exact })
        };
        assert_eq!(of(shape(3, 1, 56, InputLayout::Blocked), false), Algorithm::Winograd);
        assert_eq!(of(shape(3, 1, 56, InputLayout::Blocked), true), Algorithm::Bf16);
        assert_eq!(of(shape(3, 2, 56, InputLayout::Blocked), false), Algorithm::Bf16);
        assert_eq!(of(shape(1, 2, 56, InputLayout::Blocked), false), Algorithm::Bf16);
        assert_eq!(of(shape(7, 2, 224, InputLayout::Planar), false), Algorithm::Bf16);
    }
}
