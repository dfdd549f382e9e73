//! Which instruction set the kernels run on: found at run time, or forced by the environment.

use crate::ComputeError;

/// Environment variable that forces an instruction set: `scalar`, `avx2`, `avx512` or `avx512bf16`.
pub const ISA_VARIABLE: &str = "ROENTGEN_ISA";

/// An instruction set for which every kernel is compiled.
///
/// Bits are promised for one instruction set: `Scalar` rounds after each multiplication, the others do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isa {
    /// Portable Rust, on every processor.
    Scalar,
    /// x86-64 with AVX2 and FMA: a vector of 16 lanes is two registers.
    Avx2,
    /// x86-64 with AVX-512F: a vector of 16 lanes is one register.
    Avx512,
    /// [`Isa::Avx512`] with BW and BF16: the same bits in f32, and products of bf16 pairs.
    Avx512Bf16,
}

impl Isa {
    /// Every instruction set, slowest first, whether or not this processor has it.
    pub const ALL: [Isa; 4] = [Isa::Scalar, Isa::Avx2, Isa::Avx512, Isa::Avx512Bf16];

    /// The fastest instruction set that this processor has.
    pub fn detect() -> Isa {
        // `Scalar` is on every processor, so the search always ends with a find.
        Isa::ALL.into_iter().rev().find(|isa| isa.is_available()).unwrap_or(Isa::Scalar)
    }

    /// Whether this processor (and its operating system) can run this instruction set.
    pub fn is_available(self) -> bool {
        match self {
            Isa::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => is_x86_feature_detected!("avx512f"),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Bf16 => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512bf16")
            }
            #[cfg(not(target_arch = "x86_64"))]
            Isa::Avx2 | Isa::Avx512 | Isa::Avx512Bf16 => false,
        }
    }

    /// The instruction set that the environment variable `ROENTGEN_ISA` asks for; `None` where it is not set.
    ///
    /// # Errors [`ComputeError::UnknownIsa`] for another word, [`ComputeError::IsaUnavailable`] where the processor
    /// lacks the set.
    pub fn forced() -> Result<Option<Isa>, ComputeError> {
        match std::env::var_os(ISA_VARIABLE) {
            None => Ok(None),
            Some(value) => Isa::from_name(&value.to_string_lossy())?.checked().map(Some),
        }
    }

    /// The instruction set called `name` (see [`Isa::name`]), whether or not this processor has it.
    ///
    /// # Errors
    /// [`ComputeError::UnknownIsa`] where no instruction set has that name.
    pub fn from_name(name: &str) -> Result<Isa, ComputeError> {
        Isa::ALL.into_iter().find(|isa| isa.name() == name).ok_or_else(|| ComputeError::UnknownIsa(name.to_string()))
    }

    /// This instruction set, once it is known that the processor has it.
    ///
    /// # Errors
    /// [`ComputeError::IsaUnavailable`] where it has not.
    pub fn checked(self) -> Result<Isa, ComputeError> {
        if self.is_available() { Ok(self) } else { Err(ComputeError::IsaUnavailable(self.name())) }
    }

    /// The name that [`ISA_VARIABLE`] takes: `scalar`, `avx2`, `avx512` or `avx512bf16`.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
            Isa::Avx512Bf16 => "avx512bf16",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_others_are_refused() {
        for isa in Isa::ALL {
            assert_eq!(Isa::from_name(isa.name()).unwrap(), isa);
        }
        let message = Isa::from_name("sse9").unwrap_err().to_string();
        assert!(message.contains("sse9") && message.contains("avx512"), "{message}");
    }

    #[test]
    fn the_detected_set_is_the_best_available() {
        let detected = Isa::detect();
        assert!(detected.is_available());
        assert!(Isa::ALL.into_iter().all(|isa| isa <= detected || !isa.is_available()));
    }

    #[test]
    fn a_set_that_the_processor_lacks_is_an_error() {
        for isa in Isa::ALL {
            assert_eq!(isa.checked().is_ok(), isa.is_available());
        }
    }
}
