//! From the bytes of a file to pixels.
//!
//! The file type is told by the content, not by the name. What comes out is what Pillow's `convert("RGB")` gives
//! (version 13.0): alpha is dropped rather than blended, palettes are looked up, 16-bit colour keeps its high byte,
//! CMYK follows Adobe's inverted convention. EXIF orientation is ignored, as torchvision's loader does. One deviation:
//! 16-bit grey keeps its 16 bits and is scaled by 1/257, where Pillow clips everything above 255 to white.

mod jpeg;
mod png;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::error::DataError;
use crate::raster::Image;

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
/// [`DataError::Unreadable`] or one of the `Image...` variants and [`DataError::FileTooLarge`]; all name the file.
pub fn decode(path: &Path, limits: &Limits) -> Result<Image, DataError> {
    decode_bytes(&path.display().to_string(), &read(path, limits)?, limits)
}

/// The bytes of an image file; one more than the limit where it is larger.
pub(crate) fn read(path: &Path, limits: &Limits) -> Result<Vec<u8>, DataError> {
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
    if bytes.len() as u64 > limits.file_bytes {
        return Err(DataError::FileTooLarge { file: name.to_owned(), limit: limits.file_bytes });
    }
    if bytes.is_empty() {
        Err(DataError::ImageEmpty { file: name.to_owned() })
    } else if bytes.starts_with(png::SIGNATURE) {
        png::decode(name, bytes, limits)
    } else if bytes.starts_with(jpeg::SIGNATURE) {
        jpeg::decode(name, bytes, limits)
    } else {
        Err(DataError::NotAnImage { file: name.to_owned(), found: describe(bytes) })
    }
}

/// What a file that is neither PNG nor JPEG looks like, for the message.
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
    if bytes.get(128..132) == Some(b"DICM") {
        return "a DICOM file".to_owned();
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
