//! How much a folder of the cache may hold, and what goes where it is full.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::Key;

/// Endings of the files of entries: decoded images, and what audits saw of them.
pub(super) const ENDINGS: [&str; 2] = ["pixels", "look"];

/// A file that was being written when its process was killed is removed after so long.
const ABANDONED: Duration = Duration::from_secs(3600);

/// What is known of a folder: what it holds, oldest use first, and what this process needs of it.
#[derive(Debug)]
pub(super) struct Room {
    limit_bytes: u64,
    bytes: u64,
    /// What stood there when it was opened.
    oldest: VecDeque<PathBuf>,
    /// The length of each entry that is counted.
    lengths: HashMap<Key, u64>,
    used: HashSet<Key>,
}

impl Room {
    /// Looks through `folder`. Files that are not the cache's own are neither counted nor ever touched.
    pub(super) fn look(folder: &Path, limit_bytes: u64) -> Room {
        let mut found = Vec::new();
        let subfolders = fs::read_dir(folder).into_iter().flatten().flatten();
        for entry in subfolders.filter(|entry| entry.file_name().len() == 2) {
            for file in fs::read_dir(entry.path()).into_iter().flatten().flatten() {
                let path = file.path();
                let Ok(metadata) = file.metadata() else { continue };
                let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                let Some(key) = key_of(&path) else { continue };
                match path.extension().and_then(OsStr::to_str) {
                    Some(ending) if ENDINGS.contains(&ending) => found.push((used, path, key, metadata.len())),
                    Some("part") if used.elapsed().is_ok_and(|age| age > ABANDONED) => drop(fs::remove_file(path)),
                    _ => {}
                }
            }
        }
        found.sort();
        let lengths: HashMap<Key, u64> = found.iter().map(|(_, _, key, len)| (*key, *len)).collect();
        let oldest = found.into_iter().map(|(_, path, ..)| path).collect();
        Room { limit_bytes, bytes: lengths.values().sum(), oldest, lengths, used: HashSet::new() }
    }

    /// Notes that this process needs an entry. Whether that is new.
    pub(super) fn uses(&mut self, key: Key) -> bool {
        self.used.insert(key)
    }

    /// Makes room for an entry of `len` bytes, which may take the place of one that was damaged, at the cost of those that were not used for the longest time and that
    /// this process has not needed. `false` where there is none: a cache that is too small for the data keeps what it
    /// has, because throwing out what the next epoch asks for first would help nobody.
    pub(super) fn make(&mut self, key: &Key, len: u64) -> bool {
        if len > self.limit_bytes {
            return false;
        }
        self.give_back(key);
        while self.bytes.saturating_add(len) > self.limit_bytes {
            let Some(path) = self.oldest.pop_front() else { return false };
            if let Some(old) = key_of(&path).filter(|old| !self.used.contains(old)) {
                // Another process may have been faster; gone is gone.
                let _ = fs::remove_file(path);
                self.give_back(&old);
            }
        }
        self.bytes += len;
        self.lengths.insert(*key, len);
        true
    }

    /// Takes back the room of an entry that is there no longer, or was never written.
    pub(super) fn give_back(&mut self, key: &Key) {
        self.bytes -= self.lengths.remove(key).unwrap_or(0);
    }

    /// Bytes of all entries.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// The name of an entry without its ending; of a part, what stands before the process.
pub(super) fn name_of(key: &Key) -> String {
    key.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The key in the name of a file of the cache; `None` for any other file.
fn key_of(path: &Path) -> Option<Key> {
    let name = path.file_name()?.to_str()?.split('.').next()?;
    let mut key = Key::default();
    if name.len() != 2 * key.len() || !name.is_ascii() {
        return None;
    }
    for (byte, digits) in key.iter_mut().zip(name.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_keys_are_inverse_and_other_files_have_none() {
        let key: Key = std::array::from_fn(|index| (index as u8).wrapping_mul(9));
        let name = name_of(&key);
        assert_eq!(key_of(Path::new(&format!("/x/{name}.pixels"))), Some(key));
        assert_eq!(key_of(Path::new(&format!("{name}.12-3.part"))), Some(key));
        for other in ["notes.pixels", &name[1..], &format!("{name}0.pixels"), &format!("z{}.pixels", &name[1..])] {
            assert_eq!(key_of(Path::new(other)), None, "{other}");
        }
    }
}
