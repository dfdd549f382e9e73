//! JPEG: grey, YCbCr, RGB, CMYK and YCCK; baseline and progressive.
//!
//! The decoder is jpeg-decoder 0.3, chosen by measurement against Pillow 13.0 (libjpeg-turbo 3.2). On the radiographs
//! at hand it is never more than 1 level away (mean 0.02), and in saturated colour with chroma at half resolution its
//! mean is 0.1, because it interpolates chroma as libjpeg does; zune-jpeg 0.5 is closer in grey (mean 0.004) and
//! faster, but 0.4 away in such colour. `tests/preprocessing_parity.rs` keeps the measure.

use jpeg_decoder::{Decoder, Error, PixelFormat};

use super::Limits;
use crate::error::DataError;
use crate::raster::{Image, Raster};

/// Start of image, followed by the first byte of any marker.
pub(super) const SIGNATURE: &[u8] = b"\xff\xd8\xff";

/// Decodes a JPEG file.
pub(super) fn decode(name: &str, bytes: &[u8], limits: &Limits) -> Result<Image, DataError> {
    let failed = |error| explain(name, error);
    let mut decoder = Decoder::new(bytes);
    decoder.read_info().map_err(failed)?;
    let info = decoder.info().ok_or_else(|| DataError::ImageDamaged {
        file: name.to_owned(),
        format: "JPEG",
        detail: "it has no frame header".to_owned(),
    })?;
    limits.check(name, u32::from(info.width), u32::from(info.height))?;
    if !has_end_of_image(bytes) {
        return Err(DataError::ImageTruncated {
            file: name.to_owned(),
            format: "JPEG",
            detail: format!("its {} bytes hold no end-of-image marker", bytes.len()),
        });
    }
    if let Some(scans) = too_many_scans(bytes, u64::from(info.width) * u64::from(info.height)) {
        return Err(DataError::ImageUnsupported {
            file: name.to_owned(),
            found: format!("a JPEG image of {} x {} pixels in {scans} scans", info.width, info.height),
        });
    }
    let samples = decoder.decode().map_err(failed)?;
    let (width, height) = (usize::from(info.width), usize::from(info.height));
    let image = match info.pixel_format {
        PixelFormat::L8 => Raster::new(width, height, samples).map(Image::Gray8),
        PixelFormat::RGB24 => Raster::new(width, height, samples).map(Image::from_rgb),
        PixelFormat::CMYK32 => {
            let samples = samples.chunks_exact(4).flat_map(|ink| cmyk_to_rgb([ink[0], ink[1], ink[2], ink[3]]));
            Raster::new(width, height, samples.collect()).map(Image::from_rgb)
        }
        PixelFormat::L16 => {
            return Err(DataError::ImageUnsupported {
                file: name.to_owned(),
                found: "a JPEG image of more than 8 bits".to_owned(),
            });
        }
    };
    image.ok_or_else(|| DataError::ImageDamaged {
        file: name.to_owned(),
        format: "JPEG",
        detail: format!("it does not hold {width} x {height} pixels"),
    })
}

/// Pillow's `cmyk2rgb` (Convert.c), on inks that the decoder has already brought from Adobe's inverted convention to
/// 0 = no ink. Pillow assumes that convention for every file with four channels, and so does the decoder.
fn cmyk_to_rgb([cyan, magenta, yellow, key]: [u8; 4]) -> [u8; 3] {
    let paper = 255 - u32::from(key);
    [cyan, magenta, yellow].map(|ink| {
        let product = u32::from(ink) * paper + 128;
        // The product over 255, rounded; never more than `paper`.
        (paper - ((product + (product >> 8)) >> 8)) as u8
    })
}

/// Whether the marker that ends an image stands behind its scans. Pillow refuses a file without it ("image file is
/// truncated"), where decoders made for browsers fill the rest with grey and say nothing.
pub(super) fn has_end_of_image(bytes: &[u8]) -> bool {
    has_marker(bytes, 0xd9)
}

/// Whether a marker stands in a file that begins with [`SIGNATURE`], outside of segments and before the end of the image.
pub(super) fn has_marker(bytes: &[u8], wanted: u8) -> bool {
    markers(bytes).any(|marker| marker == wanted)
}

/// The number of scans, where decoding them all would take too long: each goes over all blocks of the image, and may be a
/// hundred bytes that change nothing. Encoders write 4 scans of a sequential and about 10 of a progressive image.
pub(super) fn too_many_scans(bytes: &[u8], pixels: u64) -> Option<usize> {
    const START_OF_SCAN: u8 = 0xda;
    const MOST_SCANS: usize = 100;
    /// Sixteen times over the largest image that [`Limits`] lets pass by default.
    const MOST_PIXELS: u64 = 1_600_000_000;
    let scans = markers(bytes).filter(|&marker| marker == START_OF_SCAN).count();
    (scans > MOST_SCANS || scans as u64 * pixels > MOST_PIXELS).then_some(scans)
}

/// The markers of a file that begins with [`SIGNATURE`] behind the first, those of scans and of the end included, without
/// those inside of segments and of entropy-coded data.
fn markers(bytes: &[u8]) -> impl Iterator<Item = u8> {
    const END_OF_IMAGE: u8 = 0xd9;
    let mut position = SIGNATURE.len() - 1;
    std::iter::from_fn(move || {
        while let Some(&[first, marker]) = bytes.get(position..).and_then(<[u8]>::first_chunk) {
            match (first, marker) {
                // A fill byte before a marker; entropy-coded data; a stuffed 0xff in it; a marker without a segment.
                (0xff, 0xff) | (0..=0xfe, _) => position += 1,
                (0xff, 0x00 | 0x01 | 0xd0..=0xd8) => position += 2,
                (0xff, END_OF_IMAGE) => {
                    position = bytes.len();
                    return Some(END_OF_IMAGE);
                }
                (0xff, _) => {
                    let length = bytes.get(position + 2..).and_then(<[u8]>::first_chunk);
                    position = match length {
                        Some(&length) => position + 2 + usize::from(u16::from_be_bytes(length)),
                        None => bytes.len(),
                    };
                    return Some(marker);
                }
            }
        }
        None
    })
}

fn explain(name: &str, error: Error) -> DataError {
    let file = name.to_owned();
    match error {
        Error::Unsupported(feature) => {
            DataError::ImageUnsupported { file, found: format!("a JPEG image with {feature:?}") }
        }
        Error::Io(io) if io.kind() == std::io::ErrorKind::UnexpectedEof => {
            DataError::ImageTruncated { file, format: "JPEG", detail: "the file ends within the image".to_owned() }
        }
        other => DataError::ImageDamaged { file, format: "JPEG", detail: other.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_looked_for_behind_segments_and_stuffed_bytes() {
        let file = |tail: &[u8]| [&[0xff, 0xd8, 0xff, 0xe0, 0, 4, 0xff, 0xd9, 0xff, 0xda, 0, 2][..], tail].concat();
        assert!(has_end_of_image(&file(&[1, 2, 0xff, 0, 0xff, 0xd0, 3, 0xff, 0xff, 0xd9])));
        assert!(!has_end_of_image(&file(&[1, 2, 0xff, 0, 0xd9, 3])), "the end inside the segment does not count");
        assert!(!has_end_of_image(&file(&[1, 0xff])));
        assert!(!has_end_of_image(&file(&[0xff, 0xc4, 0xff])));
    }

    #[test]
    fn inks_become_light() {
        assert_eq!(cmyk_to_rgb([0, 0, 0, 0]), [255, 255, 255]);
        assert_eq!(cmyk_to_rgb([255, 0, 0, 0]), [0, 255, 255]);
        assert_eq!(cmyk_to_rgb([10, 20, 30, 255]), [0, 0, 0]);
    }
}
