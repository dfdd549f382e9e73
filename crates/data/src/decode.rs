//! From the bytes of a file to pixels.
//!
//! The file type is told by the content, not by the name. Of PNG and JPEG comes out what Pillow's `convert("RGB")` gives
//! (version 13.0): alpha is dropped rather than blended, palettes are looked up, 16-bit colour keeps its high byte,
//! CMYK follows Adobe's inverted convention. EXIF orientation is ignored, as torchvision's loader does. One deviation:
//! 16-bit grey keeps its 16 bits and is scaled by 1/257, where Pillow clips everything above 255 to white. Of DICOM comes
//! out what a viewer shows, in the order of PS3.4, annex N.2, with 0 black whatever the file's polarity.

mod dicom;
mod jpeg;
mod png;
mod size;

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::num::NonZeroU32;
use std::path::Path;

use crate::error::DataError;
use crate::raster::Image;
pub use size::pixels_of;

/// Endings of image files, without the dot; they count in any case.
const ENDINGS: [&str; 6] = ["png", "jpg", "jpeg", "dcm", "dicom", "ima"];

/// Name of the index that stands beside DICOM files on a disk, and is a DICOM file without an image itself.
const DICOM_INDEX: &str = "DICOMDIR";

/// Whether a file of a folder is an image: by its name, or, where the name has no ending or one of digits alone as
/// scanners write them, by how its content begins. What cannot be read is none.
pub fn is_image_file(path: &Path) -> bool {
    let digits = |ending: &OsStr| ending.as_encoded_bytes().iter().all(u8::is_ascii_digit);
    match path.extension() {
        Some(ending) if ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known)) => true,
        Some(ending) if !digits(ending) => false,
        _ => {
            let beginning = beginning(path, dicom::SIGNATURE_BYTES as u64).unwrap_or_default();
            path.file_name() != Some(OsStr::new(DICOM_INDEX))
                && (dicom::is_dicom(&beginning)
                    || beginning.starts_with(png::SIGNATURE)
                    || beginning.starts_with(jpeg::SIGNATURE))
        }
    }
}

pub(crate) use dicom::{Format as DicomFormat, format as dicom_format, syntaxes as dicom_syntaxes};

/// Whether the name of an image file leaves it open that it is DICOM: it ends otherwise than PNG and JPEG files do.
pub(crate) fn may_be_dicom(path: &Path) -> bool {
    !path
        .extension()
        .is_some_and(|ending| ["png", "jpg", "jpeg"].iter().any(|known| ending.eq_ignore_ascii_case(known)))
}

/// The patient that the header of a DICOM file names. `None` where it names none, for other files, and for those that
/// cannot be read: decoding will say why.
pub fn dicom_patient(path: &Path) -> Option<String> {
    /// A header is rarely longer, up to the patient.
    const SHORT: u64 = 1 << 16;
    let name = path.display().to_string();
    let short = beginning(path, SHORT).ok()?;
    match dicom_patient_bytes(&name, &short) {
        Err(DataError::ImageTruncated { .. }) if short.len() as u64 == SHORT => {
            dicom_patient_bytes(&name, &beginning(path, Limits::default().file_bytes).ok()?).ok()?
        }
        found => found.ok()?,
    }
}

/// The patient that the header of a DICOM file in memory names, of which `bytes` may be the beginning; `None` where it names
/// none, and for other files. `name` stands for it in messages.
///
/// # Errors
/// [`DataError::ImageTruncated`] where the bytes end before the patient would stand there; others where they are damaged.
pub fn dicom_patient_bytes(name: &str, bytes: &[u8]) -> Result<Option<String>, DataError> {
    if dicom::is_dicom(bytes) { dicom::patient_id(name, bytes) } else { Ok(None) }
}

/// At most so many bytes from the start of a file.
fn beginning(path: &Path, bytes: u64) -> std::io::Result<Vec<u8>> {
    let mut beginning = Vec::new();
    File::open(path)?.take(bytes).read_to_end(&mut beginning)?;
    Ok(beginning)
}

/// What an image may cost, checked before memory is taken for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most pixels of an image (width times height). The default is 100 million.
    pub pixels: u64,
    /// Most times that one side may be as long as the other. The default is 64. The fixed short side of the resized
    /// image makes the long side as much longer, so that this bounds the memory of an augmentation.
    pub aspect_ratio: u32,
    /// Most bytes of a file. The default is 1 GiB.
    pub file_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { pixels: 100_000_000, aspect_ratio: 64, file_bytes: 1 << 30 }
    }
}

impl Limits {
    fn check(&self, file: &str, width: u32, height: u32) -> Result<(), DataError> {
        if u64::from(width) * u64::from(height) > self.pixels {
            return Err(DataError::ImageTooLarge { file: file.to_owned(), width, height, limit: self.pixels });
        }
        let (short, long) = (u64::from(width.min(height)), u64::from(width.max(height)));
        if long > short * u64::from(self.aspect_ratio) {
            return Err(DataError::ImageTooElongated {
                file: file.to_owned(),
                width,
                height,
                limit: self.aspect_ratio,
            });
        }
        Ok(())
    }
}

/// Reads and decodes one image file.
///
/// # Errors
/// [`DataError::Unreadable`] or one of the variants about images, frames and DICOM; all name the file.
pub fn decode(path: &Path, limits: &Limits) -> Result<Image, DataError> {
    decode_frame(path, limits, None)
}

/// As [`decode`], for a file that may have several frames: the one of this number, counted from 1. PNG and JPEG have one.
///
/// # Errors
/// As [`decode`]; [`DataError::NoSuchFrame`] where the file has fewer.
pub fn decode_frame(path: &Path, limits: &Limits, frame: Option<NonZeroU32>) -> Result<Image, DataError> {
    decode_frame_bytes(&path.display().to_string(), &read_file(path, limits)?, limits, frame)
}

/// The bytes of a file; of one that is too large, enough to see that it is.
pub fn read_file(path: &Path, limits: &Limits) -> Result<Vec<u8>, DataError> {
    let unreadable = |source| DataError::Unreadable { path: path.to_owned(), source };
    let file = File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::with_capacity(file.metadata().map_err(unreadable)?.len().min(limits.file_bytes) as usize + 1);
    file.take(limits.file_bytes.saturating_add(1)).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}

/// Decodes an image that is in memory; `name` stands for it in messages.
///
/// # Errors
/// As [`decode`], without [`DataError::Unreadable`].
pub fn decode_bytes(name: &str, bytes: &[u8], limits: &Limits) -> Result<Image, DataError> {
    decode_frame_bytes(name, bytes, limits, None)
}

/// As [`decode_bytes`], with the frame of [`decode_frame`].
///
/// # Errors
/// As [`decode_frame`], without [`DataError::Unreadable`].
pub fn decode_frame_bytes(
    name: &str,
    bytes: &[u8],
    limits: &Limits,
    frame: Option<NonZeroU32>,
) -> Result<Image, DataError> {
    if bytes.len() as u64 > limits.file_bytes {
        return Err(DataError::FileTooLarge { file: name.to_owned(), limit: limits.file_bytes });
    }
    if bytes.is_empty() {
        Err(DataError::ImageEmpty { file: name.to_owned() })
    } else if dicom::is_dicom(bytes) {
        dicom::decode(name, bytes, limits, frame)
    } else if let Some(frame) = frame.filter(|frame| frame.get() > 1) {
        Err(DataError::NoSuchFrame { file: name.to_owned(), frame: frame.get(), frames: 1 })
    } else if bytes.starts_with(png::SIGNATURE) {
        png::decode(name, bytes, limits)
    } else if bytes.starts_with(jpeg::SIGNATURE) {
        jpeg::decode(name, bytes, limits)
    } else {
        Err(DataError::NotAnImage { file: name.to_owned(), found: describe(bytes) })
    }
}

/// What a file that is no image looks like, for the message.
fn describe(bytes: &[u8]) -> String {
    let signatures: [(&[u8], &str); 6] = [
        (b"GIF8", "a GIF image"),
        (b"BM", "a BMP image"),
        (b"II*\0", "a TIFF image"),
        (b"MM\0*", "a TIFF image"),
        (b"%PDF", "a PDF document"),
        (b"PK\x03\x04", "a zip archive"),
    ];
    if let Some((_, kind)) = signatures.iter().find(|(signature, _)| bytes.starts_with(signature)) {
        return (*kind).to_owned();
    }
    if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
        return "a WebP image".to_owned();
    }
    let start = &bytes[..bytes.len().min(512)];
    if start.iter().all(|&byte| byte >= 0x20 || byte.is_ascii_whitespace()) {
        let words: String = String::from_utf8_lossy(start).chars().take(24).collect();
        return format!("text (it starts with {words:?})");
    }
    if start.iter().all(|&byte| byte == 0) {
        return "zero bytes".to_owned();
    }
    format!("data of an unknown kind (it starts with the bytes {:02x?})", &bytes[..bytes.len().min(8)])
}
