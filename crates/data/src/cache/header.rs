//! What each file of the cache begins with, and how damage to it is seen.
//!
//! Little-endian: 8 bytes of magic, version (u32), fields of the form's own, and last a CRC-32 (u32) of all other
//! bytes of the file.

/// The header of a form of files.
pub(super) struct Header {
    pub(super) magic: [u8; 8],
    pub(super) version: u32,
    /// Bytes of the fields between version and checksum.
    pub(super) fields: usize,
    /// What such a file is, for messages.
    pub(super) of: &'static str,
}

/// Where the fields begin: behind magic and version.
pub(super) const FIELDS: usize = 12;
/// Bytes of the checksum.
const CHECKSUM: usize = 4;

impl Header {
    /// Where the checksum stands: it is of all bytes but its own.
    const fn checksum_at(&self) -> usize {
        FIELDS + self.fields
    }

    const fn length(&self) -> usize {
        self.checksum_at() + CHECKSUM
    }

    /// Begins the file that is written into `bytes`; what else stands there is removed. The fields follow, and room for the
    /// checksum, then what the file holds, and [`Header::seal`].
    pub(super) fn begin(&self, bytes: &mut Vec<u8>) {
        bytes.clear();
        bytes.extend(self.magic);
        bytes.extend(self.version.to_le_bytes());
    }

    /// Puts the checksum into a file that is complete but for it.
    pub(super) fn seal(&self, bytes: &mut [u8]) {
        let checksum = self.checksum(bytes);
        bytes[self.checksum_at()..self.length()].copy_from_slice(&checksum);
    }

    /// The header of a whole file, and what stands behind it.
    ///
    /// # Errors
    /// In words, what is wrong with it.
    pub(super) fn open<'a>(&self, bytes: &'a [u8]) -> Result<(&'a [u8], &'a [u8]), String> {
        let Some((header, rest)) = bytes.split_at_checked(self.length()) else {
            return Err(format!("{} bytes, fewer than its header has", bytes.len()));
        };
        if !header.starts_with(&self.magic) {
            return Err(format!("it does not begin as {}", self.of));
        }
        let version = number(header, self.magic.len());
        if version != self.version {
            return Err(format!("version {version} of its form, where {} was expected", self.version));
        }
        if header[self.checksum_at()..] != self.checksum(bytes) {
            return Err("its checksum is wrong".to_owned());
        }
        Ok((header, rest))
    }

    fn checksum(&self, bytes: &[u8]) -> [u8; CHECKSUM] {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&bytes[..self.checksum_at()]);
        hasher.update(&bytes[self.length()..]);
        hasher.finalize().to_le_bytes()
    }
}

/// The number at a place of a header, which lies inside of it.
pub(super) fn number(header: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
}
