//! The safetensors format, in and out: eight bytes of header length, a JSON header, the tensors' bytes.
//!
//! Reading goes tensor by tensor, so that a file is never in memory twice. Writing goes to any writer, with bytes that
//! depend on the content alone. Format: <https://github.com/huggingface/safetensors>, checked by its own crate.

use super::element::ElementType;
use super::error::{Fault, WeightsError, shortened};
use super::layout::Layout;
use super::{StateTensor, Values};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;
use thiserror::Error;

/// Longest header accepted, as in the format's reference implementation.
const MOST_HEADER_BYTES: u64 = 100_000_000;
const BYTES_OF_HEADER_LENGTH: u64 = 8;

/// Reads all tensors of a file of `file_bytes`, in the order of their bytes.
pub(super) fn read(mut reader: impl Read, file_bytes: u64) -> Result<Vec<(String, StateTensor)>, Fault> {
    let (header, header_bytes) = read_header(&mut reader, file_bytes)?;
    let expected_bytes = (BYTES_OF_HEADER_LENGTH + header_bytes).checked_add(header.data_len() as u64);
    if expected_bytes != Some(file_bytes) {
        return Err(Fault::malformed(format!(
            "by its header it should have {header_bytes} + {} bytes after the first 8, but it has {file_bytes} in all",
            header.data_len()
        )));
    }
    let mut tensors = Vec::new();
    for name in header.offset_keys() {
        let Some(TensorInfo { dtype, shape, data_offsets: (start, end) }) = header.info(&name) else {
            continue; // The names come from the same table.
        };
        let Some(element) = element_type(*dtype) else {
            return Err(Fault::tensor(&name, format!("its element type {dtype} is not supported")));
        };
        // The crate checked that the product of the sizes is the number of bytes; an empty axis beside axes that
        // overflow is left to this.
        let layout = Layout::contiguous(shape)
            .ok_or_else(|| Fault::tensor(&name, format!("its shape {shape:?} is impossible")))?;
        let mut bytes = vec![0; end - start];
        reader.read_exact(&mut bytes)?;
        tensors.push((name, StateTensor { shape: layout.shape.clone(), values: element.decode(&bytes, &layout) }));
    }
    if tensors.is_empty() {
        return Err(Fault::NoStateDict("no tensors at all".to_owned()));
    }
    Ok(tensors)
}

/// The metadata of a safetensors file: text by key, empty where the file has none. Reads the header alone.
///
/// # Errors
/// The file cannot be read or is no safetensors file.
pub fn read_safetensors_metadata(file: &Path) -> Result<BTreeMap<String, String>, WeightsError> {
    let read = || -> Result<BTreeMap<String, String>, Fault> {
        let handle = File::open(file)?;
        let file_bytes = handle.metadata()?.len();
        let (header, _) = read_header(&mut BufReader::new(handle), file_bytes)?;
        Ok(header.metadata().clone().unwrap_or_default().into_iter().collect())
    };
    read().map_err(|fault| fault.in_file(file, "safetensors"))
}

/// The header and its length in bytes. The tensors of a header follow each other without gaps, and each has the bytes
/// that its shape needs: the crate refuses any other.
fn read_header(reader: &mut impl Read, file_bytes: u64) -> Result<(Metadata, u64), Fault> {
    let mut length = [0; BYTES_OF_HEADER_LENGTH as usize];
    reader.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    if length > MOST_HEADER_BYTES || length > file_bytes {
        return Err(Fault::malformed(format!("it claims a header of {length} bytes in a file of {file_bytes}")));
    }
    let mut header = Vec::with_capacity(length as usize);
    reader.take(length).read_to_end(&mut header)?;
    if header.len() as u64 != length {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    let metadata = serde_json::from_slice(&header).map_err(|error| Fault::malformed(format!("its header: {error}")))?;
    Ok((metadata, length))
}

fn element_type(dtype: Dtype) -> Option<ElementType> {
    Some(match dtype {
        Dtype::F16 => ElementType::F16,
        Dtype::BF16 => ElementType::BF16,
        Dtype::F32 => ElementType::F32,
        Dtype::F64 => ElementType::F64,
        Dtype::BOOL => ElementType::Bool,
        Dtype::U8 => ElementType::U8,
        Dtype::I8 => ElementType::I8,
        Dtype::U16 => ElementType::U16,
        Dtype::I16 => ElementType::I16,
        Dtype::U32 => ElementType::U32,
        Dtype::I32 => ElementType::I32,
        Dtype::I64 => ElementType::I64,
        _ => return None,
    })
}

/// Values to write, row-major.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ValuesToWrite<'a> {
    /// Written as `F32`.
    F32(&'a [f32]),
    /// Written as `I64`.
    I64(&'a [i64]),
}

impl<'a> From<&'a Values> for ValuesToWrite<'a> {
    fn from(values: &'a Values) -> Self {
        match values {
            Values::F32(values) => ValuesToWrite::F32(values),
            Values::I64(values) => ValuesToWrite::I64(values),
        }
    }
}

/// One tensor to write.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TensorToWrite<'a> {
    /// Its name in the file.
    pub name: &'a str,
    /// Sizes of the axes; empty for a scalar.
    pub shape: &'a [usize],
    /// As many values as the product of the sizes.
    pub values: ValuesToWrite<'a>,
}

/// Why a weight file could not be written.
#[derive(Debug, Error)]
pub enum WriteError {
    /// The writer failed, for one because the disk is full.
    #[error("cannot write the weights: {0}")]
    Write(#[from] io::Error),
    /// A tensor's values are not as many as its shape says.
    #[error("tensor `{name}` has {found} values, but its shape {shape:?} needs another number")]
    Shape {
        /// The tensor.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// How many values it has.
        found: usize,
    },
    /// Two tensors have the same name.
    #[error("two tensors are called `{0}`")]
    Twice(String),
    /// The header cannot be formed.
    #[error("cannot form the header of the weights: {0}")]
    Header(String),
}

/// The system's own answer stays what it was, so that a full disk is known as one.
impl From<WriteError> for io::Error {
    fn from(error: WriteError) -> io::Error {
        match error {
            WriteError::Write(error) => error,
            error => io::Error::other(error),
        }
    }
}

/// Writes a safetensors file. The bytes depend on the tensors and the metadata alone, not on the order in which the
/// tensors are given: 64-bit tensors come first, which aligns all, then they are sorted by name. Metadata is at most
/// one key and its text, because the format's maps have no order.
///
/// Writing to a file so that a crash leaves either the old or the new one is the caller's affair, as is flushing.
///
/// # Errors
/// The writer fails, a name comes twice, or a shape does not fit its values.
pub fn write_safetensors(
    mut writer: impl Write,
    tensors: &[TensorToWrite<'_>],
    metadata: Option<(&str, &str)>,
) -> Result<(), WriteError> {
    let mut sorted: Vec<&TensorToWrite<'_>> = tensors.iter().collect();
    sorted.sort_by_key(|tensor| (matches!(tensor.values, ValuesToWrite::F32(_)), tensor.name));
    let mut entries: Vec<(String, TensorInfo)> = Vec::with_capacity(sorted.len());
    let mut names = std::collections::HashSet::new();
    let mut start = 0;
    for TensorToWrite { name, shape, values } in sorted.iter().copied() {
        let (dtype, count, element) = match values {
            ValuesToWrite::F32(values) => (Dtype::F32, values.len(), ElementType::F32),
            ValuesToWrite::I64(values) => (Dtype::I64, values.len(), ElementType::I64),
        };
        if Layout::contiguous(shape).map(|layout| layout.elements) != Some(count) {
            return Err(WriteError::Shape { name: shortened(name), shape: shape.to_vec(), found: count });
        }
        if !names.insert(*name) {
            return Err(WriteError::Twice(shortened(name)));
        }
        let end = start + count * element.bytes();
        entries.push((name.to_string(), TensorInfo { dtype, shape: shape.to_vec(), data_offsets: (start, end) }));
        start = end;
    }
    let metadata = metadata.map(|(key, text)| HashMap::from([(key.to_owned(), text.to_owned())]));
    let header = Metadata::new(metadata, entries).map_err(|error| WriteError::Header(error.to_string()))?;
    let mut header = serde_json::to_vec(&header).map_err(|error| WriteError::Header(error.to_string()))?;
    // The tensors begin at a multiple of eight bytes; the format fills with spaces.
    header.resize(header.len().next_multiple_of(8), b' ');
    writer.write_all(&(header.len() as u64).to_le_bytes())?;
    writer.write_all(&header)?;
    for tensor in sorted {
        match tensor.values {
            ValuesToWrite::F32(values) => write_numbers(&mut writer, values, |value| value.to_le_bytes())?,
            ValuesToWrite::I64(values) => write_numbers(&mut writer, values, |value| value.to_le_bytes())?,
        }
    }
    Ok(())
}

/// Writes numbers a block at a time, so that the writer sees few calls and memory stays small.
fn write_numbers<T: Copy, const N: usize>(
    writer: &mut impl Write,
    values: &[T],
    to_bytes: impl Fn(T) -> [u8; N],
) -> io::Result<()> {
    let mut block = Vec::with_capacity(N * 16384);
    for values in values.chunks(16384) {
        block.clear();
        values.iter().for_each(|value| block.extend_from_slice(&to_bytes(*value)));
        writer.write_all(&block)?;
    }
    Ok(())
}
