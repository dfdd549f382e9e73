//! Weights in and out: what PyTorch and safetensors write becomes a [`StateDict`], which [`StateDict::fit`] puts into a
//! network's own order and checks.
//!
//! | file | what it does |
//! |---|---|
//! | `mod.rs` | [`StateDict`], and which reader a file needs, by its content |
//! | `pickle.rs`, `pickle_globals.rs` | the restricted pickle interpreter, and the few names it knows |
//! | `zip_file.rs`, `old_file.rs` | the two containers of `torch.save`: since 1.6, and before |
//! | `checkpoint.rs` | finds the state dict among the pickled objects and reads its tensors |
//! | `element.rs`, `layout.rs` | bytes to numbers; sizes, strides and offsets, checked before anything is allocated |
//! | `safetensors_file.rs` | the `.safetensors` format, in and out |
//! | `fit.rs`, `family.rs` | does this file fit this network, and if not, which would it fit |
//! | `imagenet.rs` | torchvision's official files |
//!
//! A weight file is input from a stranger. Nothing in it is executed, a name outside the known few is an error, and
//! what is allocated is bounded by the length of the file.

mod checkpoint;
mod element;
mod error;
mod family;
mod fit;
mod imagenet;
mod layout;
mod old_file;
mod pickle;
mod pickle_globals;
mod safetensors_file;
mod zip_file;

pub use error::WeightsError;
pub use fit::{ExpectedTensor, Fitted, HeadFate, Mismatch, ShapeMismatch};
pub use imagenet::{OfficialFile, official_file};
pub use safetensors_file::{TensorToWrite, ValuesToWrite, WriteError, read_safetensors_metadata, write_safetensors};

use error::Fault;
use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;

/// The values of a tensor, row-major (the last axis varies fastest).
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Real numbers; 16-bit and 64-bit floats of the file are converted.
    F32(Vec<f32>),
    /// Integers; narrower ones and booleans of the file are widened.
    I64(Vec<i64>),
}

impl Values {
    /// How many values there are.
    pub fn len(&self) -> usize {
        match self {
            Values::F32(values) => values.len(),
            Values::I64(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One tensor of a weight file, contiguous and row-major whatever its layout in the file was.
#[derive(Clone, Debug, PartialEq)]
pub struct StateTensor {
    /// Sizes of the axes; empty for a scalar. Their product is the number of values.
    pub shape: Vec<usize>,
    /// The values.
    pub values: Values,
}

/// Named tensors in the order of the file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StateDict {
    /// Name and tensor; each name once. Wrappers' prefixes (`module.`, `model.`, `_orig_mod.`) are taken off.
    pub tensors: Vec<(String, StateTensor)>,
}

/// Prefixes that `DataParallel`, Lightning modules and `torch.compile` put before every name.
const WRAPPER_PREFIXES: [&str; 3] = ["module.", "model.", "_orig_mod."];

impl StateDict {
    /// Reads a weight file. The format is told by the content, not by the name: `torch.save`'s zip archive, the older
    /// format of PyTorch before 1.6, or safetensors. A checkpoint that holds the state dict under `state_dict`,
    /// `model_state_dict` or `model` is accepted; what else is in it (an epoch, an optimiser) is left alone.
    ///
    /// # Errors
    /// The file cannot be read, is of another kind, is truncated or inconsistent, was written on a big-endian machine,
    /// names Python code that is no part of a state dict, or holds no state dict.
    pub fn open(file: &Path) -> Result<StateDict, WeightsError> {
        let (format, tensors) = Self::read(file)?;
        let tensors = tensors.map_err(|fault| fault.in_file(file, format))?;
        Ok(StateDict { tensors: without_wrapper_prefixes(tensors) })
    }

    /// The tensor of this name.
    pub fn get(&self, name: &str) -> Option<&StateTensor> {
        self.tensors.iter().find(|(candidate, _)| candidate == name).map(|(_, tensor)| tensor)
    }

    /// The name of the format beside what its reader found.
    #[expect(clippy::type_complexity, reason = "a named type for one private return value would say less")]
    fn read(file: &Path) -> Result<(&'static str, Result<Vec<(String, StateTensor)>, Fault>), WeightsError> {
        let unreadable = |source| WeightsError::Read { file: file.to_owned(), source };
        let handle = File::open(file).map_err(unreadable)?;
        let file_bytes = handle.metadata().map_err(unreadable)?.len();
        let mut reader = BufReader::new(handle);
        let mut start = Vec::new();
        reader.by_ref().take(16).read_to_end(&mut start).map_err(unreadable)?;
        reader.rewind().map_err(unreadable)?;
        match start.as_slice() {
            // Eight bytes of header length, small, then the header, which is a JSON object. Asked first: such a length
            // may begin as a pickle does, but no pickle of torch.save goes on like this.
            [_, _, _, _, 0, 0, 0, 0, b'{', ..] => Ok(("safetensors", safetensors_file::read(reader, file_bytes))),
            [b'P', b'K', 3, 4, ..] => Ok(("a PyTorch zip archive", zip_file::read(reader, file_bytes))),
            // Every pickle of protocol 2 and later begins so; the first one of the old format is its magic number.
            [0x80, 2..=5, ..] => Ok(("PyTorch's older format", old_file::read(reader, file_bytes))),
            _ => Err(WeightsError::NotWeights { file: file.to_owned(), found: describe_start(&start, file_bytes) }),
        }
    }
}

/// What a file that is no weight file begins with, for the message.
fn describe_start(start: &[u8], file_bytes: u64) -> String {
    let text = String::from_utf8_lossy(start);
    if start.is_empty() {
        "it is empty".to_owned()
    } else if text.trim_start().starts_with('<') {
        "it begins like a web page (an error page in place of the download?)".to_owned()
    } else if text.starts_with("version https://") {
        "it is a Git LFS pointer: fetch the file itself with `git lfs pull`".to_owned()
    } else if start.starts_with(&[0x89, b'H', b'D', b'F']) {
        "it is an HDF5 file (Keras?)".to_owned()
    } else if start.starts_with(&[0x1f, 0x8b]) {
        "it is compressed with gzip: unpack it first".to_owned()
    } else {
        format!("its {file_bytes} bytes begin with {:02x?}", &start[..start.len().min(8)])
    }
}

/// Takes a prefix off where every name has it; wrappers nest, so again until none is left.
fn without_wrapper_prefixes(mut tensors: Vec<(String, StateTensor)>) -> Vec<(String, StateTensor)> {
    while let Some(prefix) =
        WRAPPER_PREFIXES.iter().find(|prefix| tensors.iter().all(|(name, _)| name.starts_with(**prefix)))
        && !tensors.is_empty()
    {
        for (name, _) in &mut tensors {
            name.drain(..prefix.len());
        }
    }
    tensors
}
