//! What values are made of in memory.
//!
//! In mixed precision that is bf16, for the values and their gradients: half the memory, and half the way through it.
//! From the flattening on, where features are few, it is f32: linear layers, logits, and what is between them.
//!
//! Where a value is rounded is a property of the network: each value once, when all that makes it is summed up. What is
//! fused rounds in between, so that a tap changes no bit.

use roentgen_nn::{Network, Op, Precision};

/// What a value, and its gradient, is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    F32,
    Bf16,
}

impl Format {
    /// Bytes of an element.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Format::F32 => 4,
            Format::Bf16 => 2,
        }
    }

    /// The formats of all values.
    pub(crate) fn of_values(network: &Network, precision: Precision) -> Vec<Format> {
        let mut formats: Vec<Format> = Vec::with_capacity(network.values().len());
        for value in network.values() {
            let behind_head = value.inputs.iter().any(|input| formats[input.index()] == Format::F32);
            let is_head = behind_head || matches!(value.op, Op::Flatten | Op::Linear { .. });
            formats.push(if precision == Precision::F32 || is_head { Format::F32 } else { Format::Bf16 });
        }
        formats
    }
}

/// Evaluates an expression with a type name bound to the elements of a format.
macro_rules! with_format {
    ($format:expr, $element:ident => $expression:expr) => {
        match $format {
            $crate::format::Format::F32 => {
                type $element = f32;
                $expression
            }
            $crate::format::Format::Bf16 => {
                type $element = roentgen_kernels::Bf16;
                $expression
            }
        }
    };
}
pub(crate) use with_format;

#[cfg(test)]
mod tests {
    use super::*;
    use roentgen_nn::{Head, architecture};

    #[test]
    fn everything_before_the_flattening_is_bf16() {
        for name in architecture::names() {
            let head = Head::Replaced { hidden: 20, dropout: 0.5, classes: 2 };
            let network = architecture::build(name, 64, head).unwrap();
            assert!(Format::of_values(&network, Precision::F32).iter().all(|format| *format == Format::F32));
            let mixed = Format::of_values(&network, Precision::Bf16);
            let first = mixed.iter().position(|format| *format == Format::F32).unwrap();
            assert_eq!(network.values()[first].op, Op::Flatten, "{name}");
            assert!(mixed[first..].iter().all(|format| *format == Format::F32), "{name}");
        }
    }
}
