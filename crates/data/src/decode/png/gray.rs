//! The short way for what most radiographs are: 8 bits, grey, not interlaced.
//!
//! It knows the one case, and takes it only where everything is as it should be: whatever is unusual or damaged is left
//! to the library, whose errors say what is wrong.

use fdeflate::Decompressor;

use super::unfilter::{ROWS, unfilter};
use crate::decode::Limits;
use crate::raster::Raster;

/// The pixels of a file of that kind; `None` for any other, and for one that is not whole.
pub(super) fn decode(bytes: &[u8], limits: &Limits) -> Option<Raster<u8, 1>> {
    let mut chunks = Chunks { bytes: bytes.get(super::SIGNATURE.len()..)? };
    let (b"IHDR", header) = chunks.next()? else { return None };
    let (size, kind) = header.split_at_checked(8)?;
    // Bit depth 8, grey, the only compression and filtering there are, no interlacing.
    if kind != [8, 0, 0, 0, 0] {
        return None;
    }
    let side = |at: usize| u32::from_be_bytes([size[at], size[at + 1], size[at + 2], size[at + 3]]);
    let (width, height) = (side(0), side(4));
    if width == 0 || height == 0 || limits.check("", width, height).is_err() {
        return None;
    }
    let (width, height) = (width as usize, height as usize);
    let mut compressed = Vec::with_capacity(chunks.bytes.len());
    loop {
        match chunks.next()? {
            (b"IDAT", data) => compressed.extend_from_slice(data),
            (b"IEND", _) => break,
            // What does not concern grey pixels. A chunk between the data would be an error.
            (b"pHYs" | b"tEXt" | b"tIME" | b"gAMA" | b"sBIT" | b"cHRM", _) if compressed.is_empty() => {}
            _ => return None,
        }
    }
    // A byte for the filter, then the pixels; rows beyond the last fill its group.
    let stride = width + 1;
    let mut filtered = vec![0; stride * height.next_multiple_of(ROWS)];
    let mut decompressor = Decompressor::new();
    // As much room as there should be, so that more is an error.
    let (_, produced) = decompressor.read(&compressed, &mut filtered[..stride * height], 0, true).ok()?;
    if produced != stride * height || !decompressor.is_done() {
        return None;
    }
    let mut samples = unfilter(&filtered, width)?;
    samples.truncate(width * height);
    Raster::new(width, height, samples)
}

/// The chunks of a file: type and content. It ends before the first whose checksum is wrong.
struct Chunks<'a> {
    bytes: &'a [u8],
}

impl<'a> Iterator for Chunks<'a> {
    type Item = (&'a [u8; 4], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (&length, rest) = self.bytes.split_first_chunk()?;
        let length = usize::try_from(u32::from_be_bytes(length)).ok()?;
        let (content, rest) = rest.split_at_checked(length.checked_add(4)?)?;
        let (&checksum, rest) = rest.split_first_chunk()?;
        if crc32fast::hash(content) != u32::from_be_bytes(checksum) {
            return None;
        }
        self.bytes = rest;
        content.split_first_chunk()
    }
}
