//! The container of `torch.save` since PyTorch 1.6: a zip archive of uncompressed entries.
//!
//! `NAME/data.pkl` is the pickle, `NAME/data/KEY` each storage, `NAME/byteorder` the byte order (absent before
//! PyTorch 2.0, when it was always the machine's). Reference: `torch/serialization.py`, `_save` and `_load`, 2.x.

use super::StateTensor;
use super::checkpoint::{self, StorageSource};
use super::error::{Fault, shortened};
use super::pickle;
use std::io::{Read, Seek};
use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

/// Reads the state dict of an archive of `file_bytes`.
pub(super) fn read(reader: impl Read + Seek, file_bytes: u64) -> Result<Vec<(String, StateTensor)>, Fault> {
    let archive = ZipArchive::new(reader).map_err(fault)?;
    let folder = archive
        .file_names()
        .filter_map(Result::ok)
        .find_map(|name| name.strip_suffix("/data.pkl").filter(|folder| !folder.contains('/')).map(str::to_owned))
        .ok_or_else(|| Fault::malformed("a zip archive without `data.pkl`, so not one of torch.save"))?;
    if archive.index_for_name(&format!("{folder}/constants.pkl")).is_some() {
        return Err(Fault::malformed(
            "a TorchScript archive, which is a program; load it in PyTorch and save its `state_dict()`",
        ));
    }
    let mut entries = Entries { archive, folder, file_bytes };
    if entries.has("byteorder") && entries.read("byteorder")? == b"big" {
        return Err(Fault::BigEndian);
    }
    let pickled = entries.read("data.pkl")?;
    let graph = pickle::read(&mut pickled.as_slice())?;
    drop(pickled);
    checkpoint::read(&graph, &mut entries, file_bytes)
}

struct Entries<R> {
    archive: ZipArchive<R>,
    folder: String,
    file_bytes: u64,
}

impl<R: Read + Seek> Entries<R> {
    fn has(&self, name: &str) -> bool {
        self.archive.index_for_name(&format!("{}/{name}", self.folder)).is_some()
    }

    /// The entry if it is as torch.save writes it: not compressed, and no longer than the file. A compressed one could
    /// be a thousand times its size in the file.
    fn entry(&mut self, name: &str) -> Result<zip::read::ZipFile<'_, R>, Fault> {
        let full_name = format!("{}/{name}", self.folder);
        let shown = shortened(&full_name);
        let index = self.archive.index_for_name(&full_name);
        let index = index.ok_or_else(|| Fault::malformed(format!("no entry `{shown}` in the archive")))?;
        let entry = self.archive.by_index(index).map_err(|error| match error {
            ZipError::Io(error) => error.into(),
            other => Fault::malformed(format!("entry `{shown}`: {other}")),
        })?;
        // Checked even though this crate compiles no decompressor in: another one could turn it on for all.
        if entry.compression() != CompressionMethod::Stored {
            return Err(Fault::malformed(format!("entry `{shown}` is compressed, which torch.save never does")));
        }
        if entry.size() != entry.compressed_size() || entry.size() > self.file_bytes {
            return Err(Fault::malformed(format!(
                "entry `{shown}` claims {} bytes in a file of {}",
                entry.size(),
                self.file_bytes
            )));
        }
        Ok(entry)
    }

    /// The content of an entry; the archive's checksum is checked at its end.
    fn read(&mut self, name: &str) -> Result<Vec<u8>, Fault> {
        let mut entry = self.entry(name)?;
        let size = entry.size();
        let mut content = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        entry.read_to_end(&mut content)?;
        if content.len() as u64 != size {
            let shown = shortened(name);
            return Err(Fault::malformed(format!("entry `{shown}` has {} of its {size} bytes", content.len())));
        }
        Ok(content)
    }
}

impl<R: Read + Seek> StorageSource for Entries<R> {
    fn bytes(&mut self, key: &str) -> Result<u64, Fault> {
        Ok(self.entry(&format!("data/{key}"))?.size())
    }

    fn read(&mut self, key: &str) -> Result<Vec<u8>, Fault> {
        Entries::read(self, &format!("data/{key}"))
    }
}

fn fault(error: ZipError) -> Fault {
    match error {
        ZipError::Io(error) => error.into(),
        other => Fault::malformed(other.to_string()),
    }
}
