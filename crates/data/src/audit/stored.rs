//! How an image is stored: what a network may learn in place of the lungs.

use crate::decode::{DicomFormat, dicom_format, dicom_syntaxes};
use crate::raster::Image;
use std::fmt;

/// Levels, of 255, between which a border counts as even.
const EVEN: u8 = 12;

/// How an image is stored and framed.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// What kind of file it is, told by its content.
    pub format: Format,
    /// Bytes of the file.
    pub file_bytes: usize,
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// Share of the area, `[0, 1]`, that lies in rows and columns at the rim whose pixels are all alike: a burned-in
    /// border.
    pub border: f64,
    /// See [`Image::is_dim`].
    pub dim: bool,
}

/// A kind of file, as far as its header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Format {
    /// `PNG`, `JPEG`, `DICOM`, or `other`.
    pub container: &'static str,
    /// Bits of a sample that count; 0 where the header does not say.
    pub bits: u8,
    /// What a pixel is made of: `grey`, `RGB`, and so on, of DICOM the photometric interpretation; `unknown` where the header
    /// does not say.
    pub pixel: &'static str,
    /// How the pixels are encoded: of DICOM the UID of the transfer syntax; `usual` otherwise.
    pub coding: &'static str,
}

const CONTAINERS: [&str; 4] = ["PNG", "JPEG", DICOM, "other"];
const DICOM: &str = "DICOM";
const PIXELS: [&str; 9] =
    ["grey", "RGB", "palette", "grey with alpha", "RGBA", "CMYK", MONOCHROME[0], MONOCHROME[1], "unknown"];
const MONOCHROME: [&str; 2] = ["MONOCHROME1", "MONOCHROME2"];
const USUAL: &str = "usual";

/// `PNG, 8-bit grey`.
impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}-bit {}", self.container, self.bits, self.pixel)
    }
}

impl Stored {
    /// Looks at the bytes of a file and at the image that they hold.
    pub fn new(bytes: &[u8], image: &Image) -> Stored {
        Stored {
            format: Format::of(bytes),
            file_bytes: bytes.len(),
            width: image.width(),
            height: image.height(),
            border: border(image),
            dim: image.is_dim(),
        }
    }
}

impl Format {
    /// Reads the header of a PNG, JPEG or DICOM file.
    pub fn of(bytes: &[u8]) -> Format {
        let other = Format { container: "other", bits: 0, pixel: "unknown", coding: USUAL };
        png(bytes).or_else(|| jpeg(bytes)).or_else(|| dicom(bytes)).unwrap_or(other)
    }

    /// From what its fields were, somewhere else; `None` for words that are none of them.
    pub(super) fn from_words(container: &str, bits: u8, pixel: &str, coding: &str) -> Option<Format> {
        let among = |words: &[&'static str], word: &str| words.iter().copied().find(|known| *known == word);
        Some(Format {
            container: among(&CONTAINERS, container)?,
            bits,
            pixel: among(&PIXELS, pixel)?,
            coding: among(&[USUAL], coding).or_else(|| dicom_syntaxes().find(|known| *known == coding))?,
        })
    }
}

/// The header of a DICOM file, where its image can be decoded.
fn dicom(bytes: &[u8]) -> Option<Format> {
    let DicomFormat { bits, inverted, syntax } = dicom_format(bytes)?;
    Some(Format { container: DICOM, bits, pixel: MONOCHROME[usize::from(!inverted)], coding: syntax })
}

/// The first chunk of a PNG file, IHDR, stands at a fixed place.
fn png(bytes: &[u8]) -> Option<Format> {
    let header = bytes.strip_prefix(b"\x89PNG\r\n\x1a\n")?;
    let (bits, colour) = (*header.get(16)?, *header.get(17)?);
    let pixel = match colour {
        0 => "grey",
        2 => "RGB",
        3 => "palette",
        4 => "grey with alpha",
        6 => "RGBA",
        _ => "unknown",
    };
    Some(Format { container: "PNG", bits, pixel, coding: USUAL })
}

/// The frame header of a JPEG file stands behind other segments.
fn jpeg(bytes: &[u8]) -> Option<Format> {
    let mut rest = bytes.strip_prefix(b"\xff\xd8")?;
    let unknown = Format { container: "JPEG", bits: 0, pixel: "unknown", coding: USUAL };
    loop {
        let Some(&[0xff, marker, high, low]) = rest.first_chunk() else { return Some(unknown) };
        match marker {
            // A fill byte before the marker.
            0xff => rest = &rest[1..],
            // Start of frame, of any process; the others in this range are tables.
            0xc0..=0xcf if ![0xc4, 0xc8, 0xcc].contains(&marker) => {
                let (Some(&bits), Some(&components)) = (rest.get(4), rest.get(9)) else { return Some(unknown) };
                let pixel = match components {
                    1 => "grey",
                    3 => "RGB",
                    4 => "CMYK",
                    _ => "unknown",
                };
                return Some(Format { container: "JPEG", bits, pixel, coding: USUAL });
            }
            _ => {
                let length = usize::from(u16::from_be_bytes([high, low]));
                let Some(next) = rest.get(2 + length..) else { return Some(unknown) };
                rest = next;
            }
        }
    }
}

/// Whether pixels are all alike.
fn even(mut pixels: impl Iterator<Item = u8>) -> bool {
    let (mut low, mut high) = (u8::MAX, 0);
    pixels.all(|pixel| {
        (low, high) = (low.min(pixel), high.max(pixel));
        high - low <= EVEN
    })
}

/// The share of the area in even rows and columns at the rim.
fn border(image: &Image) -> f64 {
    let (width, height) = (image.width(), image.height());
    let grey = |x: usize, y: usize| match image {
        Image::Gray8(raster) => raster.row(y)[x],
        Image::Gray16(raster) => (raster.row(y)[x] >> 8) as u8,
        Image::Rgb8(raster) => raster.row(y)[3 * x + 1],
    };
    let even_row = |y: usize| even((0..width).map(|x| grey(x, y)));
    let even_column = |x: usize| even((0..height).map(|y| grey(x, y)));
    let top = (0..height).take_while(|&y| even_row(y)).count();
    if top == height {
        return 1.0;
    }
    let bottom = (0..height).rev().take_while(|&y| even_row(y)).count();
    let left = (0..width).take_while(|&x| even_column(x)).count();
    let right = (0..width).rev().take_while(|&x| even_column(x)).count();
    // Not every row is even, so that not every column can be: something is left.
    let inner = width.saturating_sub(left + right) * (height - top - bottom);
    1.0 - inner as f64 / (width * height) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raster::Raster;

    #[test]
    fn headers_say_what_a_file_is() {
        let png = [b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x10\0\0\0\x10".as_slice(), &[16, 0, 0, 0, 0]].concat();
        assert_eq!(Format::of(&png).to_string(), "PNG, 16-bit grey");
        // A segment, a fill byte, a table whose marker is near that of a frame, and the frame.
        let jpeg = [0xff, 0xd8, 0xff, 0xe0, 0, 3, 9, 0xff, 0xff, 0xc4, 0, 2, 0xff, 0xc2, 0, 11, 8, 0, 1, 0, 1, 3];
        assert_eq!(Format::of(&jpeg).to_string(), "JPEG, 8-bit RGB");
        for length in 2..jpeg.len() {
            assert_eq!(Format::of(&jpeg[..length]).pixel, "unknown", "cut to {length} bytes");
        }
        assert_eq!(Format::of(b"GIF89a").container, "other");
        for (name, described, coding) in [
            ("explicit-12", "DICOM, 12-bit MONOCHROME2", "1.2.840.10008.1.2.1"),
            ("jpeg-lossless-70-8", "DICOM, 8-bit MONOCHROME2", "1.2.840.10008.1.2.4.70"),
        ] {
            let file = format!("{}/tests/fixtures/dicom/syntaxes/{name}.dcm", env!("CARGO_MANIFEST_DIR"));
            let format = Format::of(&std::fs::read(file).unwrap());
            assert_eq!((format.to_string().as_str(), format.coding), (described, coding));
            assert_eq!(Format::from_words(format.container, format.bits, format.pixel, format.coding), Some(format));
        }
    }

    #[test]
    fn even_rims_are_borders() {
        let raster = |inner: fn(usize, usize) -> u8| {
            let pixel = |index: usize| {
                let (x, y) = (index % 20, index / 20);
                if (2..18).contains(&x) && (1..9).contains(&y) { inner(x, y) } else { 3 }
            };
            Image::Gray8(Raster::new(20, 10, (0..200).map(pixel).collect()).unwrap())
        };
        assert_eq!(border(&raster(|x, y| (40 + 31 * x + 17 * y) as u8)), 1.0 - (16.0 * 8.0) / 200.0);
        assert_eq!(border(&raster(|_, _| 4)), 1.0);
    }
}
