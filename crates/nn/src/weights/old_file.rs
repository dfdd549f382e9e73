//! The container of `torch.save` before PyTorch 1.6, of which torchvision's VGG files are: five pickles in a row (magic
//! number, protocol, the writer's system, the object, the keys of the storages), then the storages in the order of the
//! keys, each an eight-byte count of elements and its bytes.
//!
//! Reference: `torch/serialization.py`, `_legacy_save` and `_legacy_load`, 2.x.

use super::StateTensor;
use super::checkpoint::{self, StorageSource};
use super::error::{Fault, shortened};
use super::pickle::{self, Graph, Object, Value};
use std::collections::HashMap;
use std::io::{Read, Seek, SeekFrom};

const MAGIC_NUMBER: i128 = 0x1950_a86a_20f9_469c_fc6c;
const PROTOCOL_VERSION: i128 = 1001;

/// Reads the state dict of a file of `file_bytes`.
pub(super) fn read<R: Read + Seek>(mut reader: R, file_bytes: u64) -> Result<Vec<(String, StateTensor)>, Fault> {
    match pickle::read(&mut reader)?.root {
        Value::Int(MAGIC_NUMBER) => {}
        _ => return Err(Fault::malformed("a pickle, but not one of torch.save (its magic number is absent)")),
    }
    match pickle::read(&mut reader)?.root {
        Value::Int(PROTOCOL_VERSION) => {}
        other => return Err(Fault::malformed(format!("its protocol is {other:?}; expected {PROTOCOL_VERSION}"))),
    }
    let system = pickle::read(&mut reader)?;
    let little_endian = system.dict(&system.root).into_iter().flatten().find_map(|(key, value)| match (key, value) {
        (Value::Text(key), Value::Bool(little)) if &**key == "little_endian" => Some(*little),
        _ => None,
    });
    if little_endian == Some(false) {
        return Err(Fault::BigEndian);
    }
    let graph = pickle::read(&mut reader)?;
    let keys = pickle::read(&mut reader)?;
    let mut storages = Storages::locate(reader, &graph, &keys, file_bytes)?;
    checkpoint::read(&graph, &mut storages, file_bytes)
}

/// Where each storage's bytes are: start and length.
struct Storages<R> {
    reader: R,
    place_of_key: HashMap<String, (u64, u64)>,
}

impl<R: Read + Seek> Storages<R> {
    /// Walks over the storages, which have no index: the length of each follows from its count and its element type.
    fn locate(mut reader: R, graph: &Graph, keys: &Graph, file_bytes: u64) -> Result<Self, Fault> {
        // The whole storage's element type is the one under which its key occurs first, as in PyTorch's reader.
        let mut element_bytes_of_key: HashMap<&str, usize> = HashMap::new();
        for object in &graph.objects {
            if let Object::Storage(storage) = object {
                let bytes = storage.element.map_or(1, |element| element.bytes());
                element_bytes_of_key.entry(&storage.key).or_insert(bytes);
            }
        }
        let keys = keys.sequence(&keys.root).ok_or_else(|| Fault::malformed("the keys of its storages are no list"))?;
        let mut place_of_key = HashMap::new();
        let mut position = reader.stream_position()?;
        for key in keys {
            let Value::Text(key) = key else {
                return Err(Fault::malformed("the key of a storage is no text"));
            };
            let element_bytes = *element_bytes_of_key
                .get(&**key)
                .ok_or_else(|| Fault::malformed(format!("no tensor names storage `{}`", shortened(key))))?;
            let mut count = [0; 8];
            reader.read_exact(&mut count)?;
            let count = u64::from_le_bytes(count);
            let start = position + 8;
            let length = count.checked_mul(element_bytes as u64);
            match length.and_then(|length| start.checked_add(length)) {
                Some(end) if end <= file_bytes => position = end,
                _ => {
                    return Err(Fault::malformed(format!(
                        "storage `{}` claims {count} elements, but {} bytes are left in the file",
                        shortened(key),
                        file_bytes.saturating_sub(start)
                    )));
                }
            }
            place_of_key.insert(key.to_string(), (start, position - start));
            reader.seek(SeekFrom::Start(position))?;
        }
        Ok(Storages { reader, place_of_key })
    }

    fn place(&self, key: &str) -> Result<(u64, u64), Fault> {
        let place = self.place_of_key.get(key).copied();
        place.ok_or_else(|| Fault::malformed(format!("storage `{}` is not in the file", shortened(key))))
    }
}

impl<R: Read + Seek> StorageSource for Storages<R> {
    fn bytes(&mut self, key: &str) -> Result<u64, Fault> {
        self.place(key).map(|(_, length)| length)
    }

    fn read(&mut self, key: &str) -> Result<Vec<u8>, Fault> {
        let (start, length) = self.place(key)?;
        self.reader.seek(SeekFrom::Start(start))?;
        let mut content = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
        self.reader.by_ref().take(length).read_to_end(&mut content)?;
        if content.len() as u64 != length {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
        }
        Ok(content)
    }
}
