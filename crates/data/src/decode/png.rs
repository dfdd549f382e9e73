//! PNG: every colour type and bit depth, interlaced or not.

mod gray;
mod unfilter;

use std::io::{Cursor, ErrorKind};

use png::{BitDepth, ColorType, Decoder, DecodingError, Limits as PngLimits, Transformations};

use super::Limits;
use crate::error::DataError;
use crate::raster::{Image, Raster};

/// The first eight bytes of every PNG file.
pub(super) const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

/// Decodes a PNG file. The library's own expansion of palettes and transparency is not used: it would turn the
/// transparent colour into an alpha channel, which Pillow's `convert("RGB")` ignores.
pub(super) fn decode(name: &str, bytes: &[u8], limits: &Limits) -> Result<Image, DataError> {
    if let Some(raster) = gray::decode(bytes, limits) {
        return Ok(Image::Gray8(raster));
    }
    let failed = |error| explain(name, error);
    // The pixels go into a buffer of ours; what the decoder takes beyond it is a few rows and the ancillary chunks.
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), PngLimits { bytes: 256 << 20 });
    decoder.set_transformations(Transformations::IDENTITY);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let (width, height) = decoder.read_header_info().map_err(failed)?.size();
    limits.check(name, width, height)?;

    let mut reader = decoder.read_info().map_err(failed)?;
    let (color_type, bit_depth) = reader.output_color_type();
    let palette = match &reader.info().palette {
        Some(palette) => palette.to_vec(),
        None if color_type == ColorType::Indexed => {
            let detail = "its pixels are indices into a palette that it lacks".to_owned();
            return Err(DataError::ImageDamaged { file: name.to_owned(), format: "PNG", detail });
        }
        None => Vec::new(),
    };
    let size = reader.output_buffer_size().ok_or_else(|| DataError::ImageTooLarge {
        file: name.to_owned(),
        width,
        height,
        limit: limits.pixels,
    })?;
    let mut data = vec![0; size];
    let frame = reader.next_frame(&mut data).map_err(failed)?;

    let (width, height) = (width as usize, height as usize);
    let rows = data.chunks_exact(frame.line_size);
    let raster_fits = "the decoder returned width x height pixels";
    Ok(match color_type {
        ColorType::Grayscale if bit_depth == BitDepth::Sixteen => {
            let samples = data.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
            Image::Gray16(Raster::new(width, height, samples).expect(raster_fits))
        }
        ColorType::Grayscale => {
            let largest = ((1u16 << bit_depth as u8) - 1) as u8;
            let samples = rows.flat_map(|row| unpack(row, bit_depth, width)).map(|sample| sample * (255 / largest));
            Image::Gray8(Raster::new(width, height, samples.collect()).expect(raster_fits))
        }
        ColorType::Indexed => {
            let samples = rows.flat_map(|row| unpack(row, bit_depth, width)).flat_map(|index| {
                let start = usize::from(index) * 3;
                // An index beyond the palette is black, as in Pillow.
                palette.get(start..start + 3).map_or([0; 3], |color| [color[0], color[1], color[2]])
            });
            Image::from_rgb(Raster::new(width, height, samples.collect()).expect(raster_fits))
        }
        ColorType::GrayscaleAlpha => {
            Image::Gray8(Raster::new(width, height, high_bytes::<2, 1>(&data, bit_depth)).expect(raster_fits))
        }
        ColorType::Rgb => {
            Image::from_rgb(Raster::new(width, height, high_bytes::<3, 3>(&data, bit_depth)).expect(raster_fits))
        }
        ColorType::Rgba => {
            Image::from_rgb(Raster::new(width, height, high_bytes::<4, 3>(&data, bit_depth)).expect(raster_fits))
        }
    })
}

/// The samples of one row of 1, 2, 4 or 8 bits each; the leftmost pixel is in the highest bits.
fn unpack(row: &[u8], bit_depth: BitDepth, width: usize) -> impl Iterator<Item = u8> {
    let bits = bit_depth as usize;
    let per_byte = 8 / bits;
    let mask = ((1u16 << bits) - 1) as u8;
    (0..width).map(move |x| (row[x / per_byte] >> (8 - bits * (x % per_byte + 1))) & mask)
}

/// The first `KEPT` of `STORED` channels in 8 bits; of 16-bit samples the high byte, as Pillow takes it.
fn high_bytes<const STORED: usize, const KEPT: usize>(data: &[u8], bit_depth: BitDepth) -> Vec<u8> {
    let sample_bytes = if bit_depth == BitDepth::Sixteen { 2 } else { 1 };
    let pixels = data.chunks_exact(STORED * sample_bytes);
    pixels.flat_map(|pixel| (0..KEPT).map(|channel| pixel[channel * sample_bytes])).collect()
}

fn explain(name: &str, error: DecodingError) -> DataError {
    let file = name.to_owned();
    match error {
        DecodingError::IoError(io) if io.kind() == ErrorKind::UnexpectedEof => DataError::ImageTruncated {
            file,
            format: "PNG",
            detail: "the file ends before the last row of pixels".to_owned(),
        },
        other => DataError::ImageDamaged { file, format: "PNG", detail: other.to_string() },
    }
}
