//! What values are made of in memory.
//!
//! In mixed precision that is bf16, for the values and their gradients: half the memory, and half the way through it.
//! From the flattening on, where features are few, it is f32: linear layers, logits, and what is between them.
//!
//! Where a value is rounded is a property of the network: each value once, when all that makes it is summed up. What is
//! fused rounds in between, so that a tap changes no bit.

/// Evaluates an expression with a type name bound to the elements of a format.
macro_rules! with_format {
    ($format:expr, $element:ident => $expression:expr) => {
        match $format {
            roentgen_nn::Precision::F32 => {
                type $element = f32;
                $expression
            }
            roentgen_nn::Precision::Bf16 => {
                type $element = roentgen_kernels::Bf16;
                $expression
            }
        }
    };
}
pub(crate) use with_format;
