//! Values at a cut, kept on disk: one record an image and view, each with its own checksum.
//!
//! The file is as long as all its records from the start; records that were never written are holes. A record counts
//! only where its checksum agrees, so a kill, a damaged byte or a truncated file costs the records concerned, which are
//! then computed again, and nothing else. Form, little-endian: 8 bytes of magic, version (u32), length of a record in
//! elements (u32), number of records (u64), bytes of an element (u32: 4 for f32, 2 for bf16), 32 bytes of fingerprint; then
//! records of a mark (u32), the CRC-32 of their bytes (u32), and the elements. What a network stores in bf16 is kept in bf16,
//! with all its bits.

use roentgen_nn::Precision;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

const MAGIC: [u8; 8] = *b"roentgen";
const VERSION: u32 = 2;
const HEADER: usize = 60;
/// Stands before each record that was written; a hole reads as 0.
const MARK: u32 = 0x7261_7973;
const RECORD_HEADER: usize = 8;

/// What a record is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Form {
    /// Elements of a record.
    pub(crate) elements: usize,
    /// How the network stores them.
    pub(crate) stored: Precision,
}

impl Form {
    fn bytes(self) -> usize {
        self.elements * self.stored.bytes()
    }
}

/// SHA-256 of all that the values depend on.
pub(crate) type Fingerprint = [u8; 32];

/// What was found where the file was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing, or nothing that is worth a word.
    Nothing,
    /// The same values, some of them perhaps still missing.
    Same,
    /// Values of other weights, data or settings, or something else: they are gone.
    Other,
}

/// An open file of values.
#[derive(Debug)]
pub(crate) struct ValuesFile {
    path: PathBuf,
    file: File,
    form: Form,
    present: Vec<bool>,
    bytes: Vec<u8>,
}

impl ValuesFile {
    /// Bytes of a file of `records` records.
    pub(crate) fn len(form: Form, records: usize) -> u64 {
        HEADER as u64 + records as u64 * (RECORD_HEADER + form.bytes()) as u64
    }

    /// Opens a file for the values of a fingerprint, or makes it. What stands there of another fingerprint is replaced.
    pub(crate) fn open(
        path: &Path,
        fingerprint: &Fingerprint,
        form: Form,
        records: usize,
    ) -> io::Result<(ValuesFile, Found)> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mut header = Vec::with_capacity(HEADER);
        header.extend_from_slice(&MAGIC);
        header.extend_from_slice(&VERSION.to_le_bytes());
        let elements = u32::try_from(form.elements).map_err(io::Error::other)?;
        header.extend_from_slice(&elements.to_le_bytes());
        header.extend_from_slice(&(records as u64).to_le_bytes());
        header.extend_from_slice(&(form.stored.bytes() as u32).to_le_bytes());
        header.extend_from_slice(fingerprint);
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let expected = ValuesFile::len(form, records);
        let found_len = file.metadata()?.len();
        let mut found = vec![0; HEADER];
        let is_same = found_len == expected && file.read_exact(&mut found).is_ok() && found == header;
        let mut values =
            ValuesFile { path: path.to_owned(), file, form, present: vec![false; records], bytes: Vec::new() };
        if is_same {
            values.look_for_records()?;
            return Ok((values, Found::Same));
        }
        values.file.set_len(0)?;
        values.file.set_len(expected)?;
        values.file.seek(SeekFrom::Start(0))?;
        values.file.write_all(&header)?;
        Ok((values, if found_len == 0 { Found::Nothing } else { Found::Other }))
    }

    fn start_of(&self, record: usize) -> SeekFrom {
        SeekFrom::Start(ValuesFile::len(self.form, record))
    }

    fn look_for_records(&mut self) -> io::Result<()> {
        let mut mark = [0; 4];
        for record in 0..self.present.len() {
            self.file.seek(self.start_of(record))?;
            self.file.read_exact(&mut mark)?;
            self.present[record] = u32::from_le_bytes(mark) == MARK;
        }
        Ok(())
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a record was written; it may still turn out damaged.
    pub(crate) fn has(&self, record: usize) -> bool {
        self.present[record]
    }

    /// Appends the elements of a record to `into`. `false`, with nothing appended, where it is damaged or was never
    /// written.
    pub(crate) fn read(&mut self, record: usize, into: &mut Vec<f32>) -> io::Result<bool> {
        if !self.present[record] {
            return Ok(false);
        }
        self.bytes.resize(RECORD_HEADER + self.form.bytes(), 0);
        self.file.seek(self.start_of(record))?;
        self.file.read_exact(&mut self.bytes)?;
        let (head, body) = self.bytes.split_at(RECORD_HEADER);
        let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        if word(0) != MARK || word(4) != crc32fast::hash(body) {
            self.present[record] = false;
            return Ok(false);
        }
        match self.form.stored {
            Precision::F32 => into.extend(body.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))),
            // bf16 is the upper half of binary32.
            Precision::Bf16 => into.extend(body.chunks_exact(2).map(|b| f32::from_le_bytes([0, 0, b[0], b[1]]))),
        }
        Ok(true)
    }

    /// Writes a record.
    pub(crate) fn write(&mut self, record: usize, values: &[f32]) -> io::Result<()> {
        assert_eq!(values.len(), self.form.elements, "a record of another length");
        self.bytes.clear();
        self.bytes.resize(RECORD_HEADER, 0);
        match self.form.stored {
            Precision::F32 => self.bytes.extend(values.iter().flat_map(|value| value.to_le_bytes())),
            Precision::Bf16 => self.bytes.extend(values.iter().flat_map(|value| {
                let [low0, low1, high0, high1] = value.to_le_bytes();
                debug_assert_eq!([low0, low1], [0, 0], "{value} is no bf16");
                [high0, high1]
            })),
        }
        let checksum = crc32fast::hash(&self.bytes[RECORD_HEADER..]);
        self.bytes[..4].copy_from_slice(&MARK.to_le_bytes());
        self.bytes[4..RECORD_HEADER].copy_from_slice(&checksum.to_le_bytes());
        self.file.seek(self.start_of(record))?;
        self.file.write_all(&self.bytes)?;
        self.present[record] = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FINGERPRINT: Fingerprint = [7; 32];
    const PAIRS: Form = Form { elements: 2, stored: Precision::F32 };
    const TRIPLES: Form = Form { elements: 3, stored: Precision::F32 };

    fn read(file: &mut ValuesFile, record: usize) -> Option<Vec<f32>> {
        let mut values = vec![9.0];
        let there = file.read(record, &mut values).unwrap();
        assert_eq!(values.remove(0), 9.0);
        assert!(there || values.is_empty());
        there.then_some(values)
    }

    #[test]
    fn records_come_back_to_the_bit_and_others_are_absent() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/values");
        let (mut file, found) = ValuesFile::open(&path, &FINGERPRINT, TRIPLES, 4).unwrap();
        assert_eq!(found, Found::Nothing);
        // Zeros too: a hole is told from them by its mark.
        file.write(2, &[1.5, -0.0, f32::MIN_POSITIVE / 2.0]).unwrap();
        file.write(0, &[0.0; 3]).unwrap();
        drop(file);
        let (mut file, found) = ValuesFile::open(&path, &FINGERPRINT, TRIPLES, 4).unwrap();
        assert_eq!(found, Found::Same);
        assert_eq!((0..4).map(|record| file.has(record)).collect::<Vec<_>>(), [true, false, true, false]);
        let bits = |values: Vec<f32>| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        let expected = [1.5f32, -0.0, f32::MIN_POSITIVE / 2.0].map(f32::to_bits);
        assert_eq!(bits(read(&mut file, 2).unwrap()), expected);
        assert_eq!(read(&mut file, 1), None);
    }

    #[test]
    fn bf16_takes_half_the_room_and_keeps_its_bits() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("values");
        let form = Form { stored: Precision::Bf16, ..TRIPLES };
        let (mut file, _) = ValuesFile::open(&path, &FINGERPRINT, form, 2).unwrap();
        let values = [0x3f81_0000, 0x8000_0000, 0x0001_0000].map(f32::from_bits);
        file.write(1, &values).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), (HEADER + 2 * (RECORD_HEADER + 6)) as u64);
        let (mut file, found) = ValuesFile::open(&path, &FINGERPRINT, form, 2).unwrap();
        assert_eq!(found, Found::Same);
        assert_eq!(
            read(&mut file, 1).unwrap().iter().map(|v| v.to_bits()).collect::<Vec<_>>(),
            values.map(f32::to_bits)
        );
        // As many bytes of another format are other values.
        let twice = Form { elements: 6, stored: Precision::Bf16 };
        drop(ValuesFile::open(&path, &FINGERPRINT, TRIPLES, 2).unwrap());
        assert_eq!(ValuesFile::open(&path, &FINGERPRINT, twice, 2).unwrap().1, Found::Other);
    }

    #[test]
    fn one_damaged_byte_costs_its_record_and_another_fingerprint_everything() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("values");
        let (mut file, _) = ValuesFile::open(&path, &FINGERPRINT, PAIRS, 2).unwrap();
        file.write(0, &[1.0, 2.0]).unwrap();
        file.write(1, &[3.0, 4.0]).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        let len = bytes.len();
        bytes[len - 1] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let (mut file, found) = ValuesFile::open(&path, &FINGERPRINT, PAIRS, 2).unwrap();
        assert_eq!(found, Found::Same);
        assert_eq!(read(&mut file, 0), Some(vec![1.0, 2.0]));
        assert_eq!(read(&mut file, 1), None);
        assert!(!file.has(1));
        file.write(1, &[3.0, 4.0]).unwrap();
        assert_eq!(read(&mut file, 1), Some(vec![3.0, 4.0]));
        let (mut file, found) = ValuesFile::open(&path, &[8; 32], PAIRS, 2).unwrap();
        assert_eq!(found, Found::Other);
        assert_eq!(read(&mut file, 0), None);
        // A file of another shape, or of something else, is replaced as well.
        for other in [&bytes[..len - 9], b"notes".as_slice()] {
            std::fs::write(&path, other).unwrap();
            assert_eq!(ValuesFile::open(&path, &FINGERPRINT, PAIRS, 2).unwrap().1, Found::Other);
        }
    }
}
