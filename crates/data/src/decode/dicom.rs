//! DICOM: grey images, uncompressed or in run lengths, JPEG, lossless JPEG or JPEG 2000.
//!
//! What comes out is what the file asks a viewer to show: modality transformation (rescale or table), then values of
//! interest (the first table, else the first window), then MONOCHROME1 inverted, so that 0 is black. Without table and
//! window, 8 bits and less are taken as they are, and more go from the smallest to the largest value of the frame, padding
//! excepted. Overlays and annotations are not drawn.
//!
//! The reader is ours: what is needed of the format is small, and the library at hand (dicom-object 0.10) would bring 25
//! more packages, and reserve whatever an element's length says before it looks whether the file is that long.
//! `tests/dicom_parity.rs` keeps it by pydicom.

mod codestream;
mod compressed;
mod elements;
mod fault;
mod header;
mod levels;
mod pixels;
mod run_length;
mod transfer_syntax;

use std::num::NonZeroU32;

use super::Limits;
use crate::error::DataError;
use crate::raster::Image;
use fault::Fault;

/// Bytes from the start of a file in which [`is_dicom`] finds what it needs.
pub(super) const SIGNATURE_BYTES: usize = header::MAGIC_AT + header::MAGIC.len();

/// Whether a file begins as DICOM files do.
pub(super) fn is_dicom(bytes: &[u8]) -> bool {
    header::is_dicom(bytes)
}

/// Width and height of the frames; `None` where the header is damaged.
pub(super) fn size(bytes: &[u8]) -> Option<(u32, u32)> {
    header::read(bytes).ok().map(|header| (header.columns, header.rows))
}

/// Decodes one frame of a DICOM file, counted from 1; the only one where none is named.
pub(super) fn decode(name: &str, bytes: &[u8], limits: &Limits, frame: Option<NonZeroU32>) -> Result<Image, DataError> {
    let decode = || {
        let header = header::read(bytes)?;
        limits.check(name, header.columns, header.rows)?;
        let frame = match (frame, header.frames) {
            (None, 1) => 1,
            (None, several) => return Err(Fault::SeveralFrames(several)),
            (Some(frame), frames) if frame.get() > frames => return Err(Fault::NoSuchFrame(frame.get(), frames)),
            (Some(frame), _) => frame.get(),
        };
        levels::image(&header, pixels::frame(&header, frame)?)
    };
    decode().map_err(|fault| fault.in_file(name))
}

/// How the image of a file is stored.
pub(crate) struct Format {
    /// Bits that count, 1 to 16.
    pub bits: u8,
    /// Whether the lowest value is white (MONOCHROME1).
    pub inverted: bool,
    /// The UID of the transfer syntax, one of [`syntaxes`].
    pub syntax: &'static str,
}

/// The format of a file whose header is sound.
pub(crate) fn format(bytes: &[u8]) -> Option<Format> {
    let header = Some(bytes).filter(|bytes| is_dicom(bytes)).and_then(|bytes| header::read(bytes).ok())?;
    Some(Format { bits: header.samples.bits as u8, inverted: header.inverted, syntax: header.syntax })
}

/// The UIDs of the transfer syntaxes that are read.
pub(crate) fn syntaxes() -> impl Iterator<Item = &'static str> {
    transfer_syntax::uids()
}

/// The patient's identity as the header has it, of a file of which `bytes` may be the beginning; `None` where it is
/// empty or missing.
///
/// # Errors
/// [`DataError::ImageTruncated`] where the bytes end before it would stand there; others where they are damaged.
pub(super) fn patient_id(name: &str, bytes: &[u8]) -> Result<Option<String>, DataError> {
    header::patient_id(bytes).map_err(|fault| fault.in_file(name))
}
