//! How an image is stored: what a network may learn in place of the lungs.

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
}

/// A kind of file, as far as its header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Format {
    /// `PNG`, `JPEG`, or `other`.
    pub container: &'static str,
    /// Bits of a sample; 0 where the header does not say.
    pub bits: u8,
    /// What a pixel is made of: `grey`, `RGB`, and so on; `unknown` where the header does not say.
    pub pixel: &'static str,
}

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
        }
    }
}

impl Format {
    /// Reads the header of a PNG or JPEG file.
    pub fn of(bytes: &[u8]) -> Format {
        png(bytes).or_else(|| jpeg(bytes)).unwrap_or(Format { container: "other", bits: 0, pixel: "unknown" })
    }
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
    Some(Format { container: "PNG", bits, pixel })
}

/// The frame header of a JPEG file stands behind other segments.
fn jpeg(bytes: &[u8]) -> Option<Format> {
    let mut rest = bytes.strip_prefix(b"\xff\xd8")?;
    let unknown = Format { container: "JPEG", bits: 0, pixel: "unknown" };
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
                return Some(Format { container: "JPEG", bits, pixel });
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
