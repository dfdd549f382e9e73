//! What can be wrong with a weight file, in words for the user who has to replace it.

use super::fit::Mismatch;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why a weight file cannot be used.
#[derive(Debug, Error)]
pub enum WeightsError {
    /// The operating system could not open or read the file.
    #[error("{}: cannot read the weight file: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The content is of no known format.
    #[error(
        "{}: not a weight file: {found}; expected what torch.save or safetensors writes (.pth, .pt, .safetensors)",
        file.display()
    )]
    NotWeights {
        /// The file.
        file: PathBuf,
        /// What its first bytes look like.
        found: String,
    },
    /// The pickle names a Python object outside the few that a state dict needs. Nothing was executed.
    #[error(
        "{}: refused: the file names the Python object `{global}`, which is no part of a state dict (nothing in it was \
         executed); if you trust its source, open it in PyTorch and save `model.state_dict()` alone",
        file.display()
    )]
    Forbidden {
        /// The file.
        file: PathBuf,
        /// Module and name, as `posix.system`.
        global: String,
    },
    /// The numbers are in big-endian byte order.
    #[error(
        "{}: written on a big-endian machine, which is not supported; load it in PyTorch on a little-endian machine \
         and save it again",
        file.display()
    )]
    BigEndian {
        /// The file.
        file: PathBuf,
    },
    /// The file is truncated, damaged, or inconsistent with itself.
    #[error(
        "{}: damaged or unusual file (read as {format}): {problem}; fetch it again, or save the state dict again",
        file.display()
    )]
    Malformed {
        /// The file.
        file: PathBuf,
        /// What it was read as.
        format: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// One tensor cannot be read.
    #[error("{}: tensor `{name}`: {problem}", file.display())]
    Tensor {
        /// The file.
        file: PathBuf,
        /// The tensor's name.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The file is sound, but there is no state dict in it.
    #[error(
        "{}: holds no state dict, but {found}; expected named tensors, or those under `state_dict`, \
         `model_state_dict` or `model`",
        file.display()
    )]
    NoStateDict {
        /// The file.
        file: PathBuf,
        /// What is there instead.
        found: String,
    },
    /// The tensors are not those of the network.
    #[error(transparent)]
    Mismatch(Box<Mismatch>),
}

/// A [`WeightsError`] that does not know its file yet.
#[derive(Debug)]
pub(super) enum Fault {
    Read(io::Error),
    Forbidden(String),
    BigEndian,
    Malformed(String),
    Tensor { name: String, problem: String },
    NoStateDict(String),
}

impl Fault {
    pub(super) fn malformed(problem: impl Into<String>) -> Fault {
        Fault::Malformed(problem.into())
    }

    pub(super) fn tensor(name: &str, problem: impl Into<String>) -> Fault {
        Fault::Tensor { name: shortened(name), problem: problem.into() }
    }

    pub(super) fn in_file(self, file: &Path, format: &'static str) -> WeightsError {
        let file = file.to_owned();
        match self {
            Fault::Read(source) => WeightsError::Read { file, source },
            Fault::Forbidden(global) => WeightsError::Forbidden { file, global },
            Fault::BigEndian => WeightsError::BigEndian { file },
            Fault::Malformed(problem) => WeightsError::Malformed { file, format, problem },
            Fault::Tensor { name, problem } => WeightsError::Tensor { file, name, problem },
            Fault::NoStateDict(found) => WeightsError::NoStateDict { file, found },
        }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Fault {
        match error.kind() {
            // A short file is damage in the file, not trouble with the disk.
            io::ErrorKind::UnexpectedEof => Fault::malformed("it ends too early (a broken download?)"),
            // So says the archive reader of a wrong checksum.
            io::ErrorKind::InvalidData => Fault::Malformed(error.to_string()),
            _ => Fault::Read(error),
        }
    }
}

/// Text of the file as a message may show it: control characters escaped, at most 80 characters.
pub(super) fn shortened(text: &str) -> String {
    let mut shown: String = text.chars().take(80).flat_map(char::escape_debug).collect();
    if text.chars().nth(80).is_some() {
        shown.push_str("...");
    }
    shown
}
