//! What an audit sees of one image, and as bytes, in which it is kept.

use super::likeness::Likeness;
use super::pixels::PixelDigest;
use super::stored::{Format, Stored};
use crate::decode::{Limits, decode_bytes};
use crate::error::DataError;

/// What is seen of an image.
#[derive(Clone, Debug, PartialEq)]
pub struct Look {
    /// How it is stored.
    pub stored: Stored,
    /// Tells whether another image has the same pixels.
    pub pixels: PixelDigest,
    /// Tells whether another image is an altered copy.
    pub likeness: Likeness,
}

impl Look {
    /// Decodes the bytes of a file; `name` stands for it in messages.
    ///
    /// # Errors
    /// As [`decode_bytes`].
    pub fn at(name: &str, bytes: &[u8], limits: &Limits) -> Result<Look, DataError> {
        let image = decode_bytes(name, bytes, limits)?;
        Ok(Look { stored: Stored::new(bytes, &image), pixels: PixelDigest::of(&image), likeness: Likeness::of(&image) })
    }

    /// Appends all of it: numbers in little-endian, words behind their length in a byte.
    pub(crate) fn write(&self, bytes: &mut Vec<u8>) {
        let Stored { format, file_bytes, width, height, border, dim } = &self.stored;
        for word in [format.container, format.pixel, format.coding] {
            // Names of ours, all of them short.
            bytes.push(word.len() as u8);
            bytes.extend(word.as_bytes());
        }
        bytes.extend([format.bits, u8::from(*dim)]);
        for number in [*file_bytes, *width, *height] {
            bytes.extend((number as u64).to_le_bytes());
        }
        bytes.extend(border.to_le_bytes());
        bytes.extend(self.pixels.as_bytes());
        self.likeness.write(bytes);
    }

    /// The inverse of [`Look::write`]; `None` for anything else.
    pub(crate) fn read(mut bytes: &[u8]) -> Option<Look> {
        let rest = &mut bytes;
        let [container, pixel, coding] = [word(rest)?, word(rest)?, word(rest)?];
        let [bits, dim] = take::<2>(rest)?;
        let mut number = || take(rest).and_then(|bytes| usize::try_from(u64::from_le_bytes(bytes)).ok());
        let [file_bytes, width, height] = [number()?, number()?, number()?];
        let border = f64::from_le_bytes(take(rest)?);
        let stored = Stored {
            format: Format::from_words(container, bits, pixel, coding)?,
            file_bytes,
            width,
            height,
            border,
            dim: dim == 1,
        };
        let pixels = PixelDigest::from_bytes(take(rest)?);
        Some(Look { stored, pixels, likeness: Likeness::read(rest)? })
    }
}

/// So many bytes from the beginning.
fn take<const LENGTH: usize>(bytes: &mut &[u8]) -> Option<[u8; LENGTH]> {
    let (taken, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*taken)
}

fn word<'a>(bytes: &mut &'a [u8]) -> Option<&'a str> {
    let [length] = take(bytes)?;
    let (word, rest) = bytes.split_at_checked(usize::from(length))?;
    *bytes = rest;
    std::str::from_utf8(word).ok()
}
