//! Event files for TensorBoard: scalars as they come, in a file that is readable whenever the process ends.
//!
//! The file is a series of TFRecords (tensorflow/core/lib/io/record_writer.h): length, masked CRC-32C of the length, a
//! protobuf message, masked CRC-32C of the message. The message is `Event` of tensorflow/core/util/event.proto, of
//! which three fields are needed. Readers stop at a record that is cut short, which is what a kill leaves.

use roentgen_run::RunError;
use roentgen_run::directory::{append, truncate, write_atomically};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// TensorBoard takes files with `tfevents` in their name.
const FILE_NAME: &str = "events.out.tfevents.roentgen";
/// What the first record says.
const VERSION: &str = "brain.Event:2";

/// The event file of a run.
pub(crate) struct EventFile {
    path: PathBuf,
    /// Records that are not in the file yet.
    unwritten: Vec<u8>,
    length: u64,
}

impl EventFile {
    /// Goes on with the file in a folder after its first `length` bytes, those that a checkpoint counts: what a killed
    /// run wrote behind them is cut off. A file that is missing or shorter begins anew, as does one of length 0.
    ///
    /// # Errors
    /// Where the system refuses.
    pub(crate) fn open(folder: &Path, length: u64) -> Result<EventFile, RunError> {
        let path = folder.join(FILE_NAME);
        let found = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
        if length > 0 && found >= length {
            if found > length {
                truncate(&path, length)?;
            }
            return Ok(EventFile { path, unwritten: Vec::new(), length });
        }
        let mut first = Vec::new();
        record(&mut first, |event| field_bytes(event, 3, VERSION.as_bytes()));
        write_atomically(&path, |file| file.write_all(&first))?;
        Ok(EventFile { path, unwritten: Vec::new(), length: first.len() as u64 })
    }

    /// Takes a number down, for [`EventFile::write`]. `step` is what it stands over: an optimizer step or an epoch.
    pub(crate) fn scalar(&mut self, tag: &str, step: u64, value: f64) {
        record(&mut self.unwritten, |event| {
            field_varint(event, 2, step);
            let mut of_tag = Vec::new();
            field_bytes(&mut of_tag, 1, tag.as_bytes());
            // `simple_value`, a float.
            of_tag.push(2 << 3 | 5);
            of_tag.extend((value as f32).to_le_bytes());
            let mut summary = Vec::new();
            field_bytes(&mut summary, 1, &of_tag);
            field_bytes(event, 5, &summary);
        });
    }

    /// Appends what was taken down; returns the length of the file, for the checkpoint.
    ///
    /// # Errors
    /// Where the system refuses; the file then holds none of it.
    pub(crate) fn write(&mut self) -> Result<u64, RunError> {
        append(&self.path, &self.unwritten)?;
        self.length += self.unwritten.len() as u64;
        self.unwritten.clear();
        Ok(self.length)
    }
}

/// One record: an event of now.
fn record(into: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    // A clock before 1970 is wrong, and nothing but the axis of wall time would show it.
    let wall_time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    // `wall_time`, a double.
    let mut event = vec![1 << 3 | 1];
    event.extend(wall_time.to_le_bytes());
    fill(&mut event);
    let length = (event.len() as u64).to_le_bytes();
    for part in [&length[..], &event] {
        into.extend(part);
        into.extend(masked(crc32c(part)).to_le_bytes());
    }
}

/// A field of wire type 2: bytes with their length before them.
fn field_bytes(into: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    into.push(number << 3 | 2);
    varint(into, bytes.len() as u64);
    into.extend(bytes);
}

/// A field of wire type 0.
fn field_varint(into: &mut Vec<u8>, number: u8, value: u64) {
    into.push(number << 3);
    varint(into, value);
}

/// Seven bits a byte, the lowest first; the highest bit says that more follow.
fn varint(into: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        into.push(value as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

/// TFRecord stores checksums rotated and shifted, so that the checksum of data with checksums in it is sound.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli, reflected polynomial 0x82f63b78; RFC 3720, appendix B.4).
fn crc32c(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0u32; 256];
        let mut index = 0;
        while index < 256 {
            let mut value = index as u32;
            let mut bit = 0;
            while bit < 8 {
                value = if value & 1 == 1 { value >> 1 ^ 0x82f6_3b78 } else { value >> 1 };
                bit += 1;
            }
            table[index] = value;
            index += 1;
        }
        table
    };
    !bytes.iter().fold(!0, |crc, byte| crc >> 8 ^ TABLE[(crc as u8 ^ byte) as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_rfc() {
        // RFC 3720, B.4: 32 bytes of zeros, of ones, counting up.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(&(0..32).collect::<Vec<u8>>()), 0x46dd_794e);
    }

    #[test]
    fn what_lies_behind_the_checkpoint_is_cut_off_and_what_is_missing_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = EventFile::open(folder.path(), 0).unwrap();
        file.scalar("a", 1, 0.5);
        let counted = file.write().unwrap();
        let bytes = std::fs::read(folder.path().join(FILE_NAME)).unwrap();
        assert_eq!(bytes.len() as u64, counted);
        file.scalar("a", 300, 0.25);
        file.write().unwrap();
        assert_eq!(EventFile::open(folder.path(), counted).unwrap().write().unwrap(), counted);
        assert_eq!(std::fs::read(folder.path().join(FILE_NAME)).unwrap(), bytes);
        std::fs::remove_file(folder.path().join(FILE_NAME)).unwrap();
        assert!(EventFile::open(folder.path(), counted).unwrap().write().unwrap() < counted);
    }
}
