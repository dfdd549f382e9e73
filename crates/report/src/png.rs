//! Pictures as PNG bytes.

use crate::ReportError;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder, RgbImage, RgbaImage};
use std::path::Path;

/// PNG bytes; a picture without colour is stored grey, a third of the bytes. `path` is for the error.
pub(crate) fn encode_png(path: &Path, picture: &RgbImage) -> Result<Vec<u8>, ReportError> {
    let grey = picture.pixels().all(|pixel| pixel.0[0] == pixel.0[1] && pixel.0[1] == pixel.0[2]);
    if grey {
        let channel: Vec<u8> = picture.pixels().map(|pixel| pixel.0[0]).collect();
        encode(path, &channel, picture.dimensions(), ExtendedColorType::L8)
    } else {
        encode(path, picture.as_raw(), picture.dimensions(), ExtendedColorType::Rgb8)
    }
}

/// PNG bytes of a picture with transparency. `path` is for the error.
pub(crate) fn encode_transparent_png(path: &Path, picture: &RgbaImage) -> Result<Vec<u8>, ReportError> {
    encode(path, picture.as_raw(), picture.dimensions(), ExtendedColorType::Rgba8)
}

fn encode(
    path: &Path,
    samples: &[u8],
    (width, height): (u32, u32),
    kind: ExtendedColorType,
) -> Result<Vec<u8>, ReportError> {
    let mut bytes = Vec::new();
    PngEncoder::new_with_quality(&mut bytes, CompressionType::Default, FilterType::Adaptive)
        .write_image(samples, width, height, kind)
        .map_err(|source| ReportError::Picture { path: path.to_owned(), source })?;
    Ok(bytes)
}
