//! Frames that are an image file of their own: JPEG, lossless JPEG and JPEG 2000.

use hayro_jpeg2000::{DecodeSettings, DecoderContext, Image};
use jpeg_decoder::{Decoder, PixelFormat};

use super::codestream::{self, Codestream};
use super::fault::Fault;
use super::header::Header;
use super::transfer_syntax::Coding;
use crate::decode::jpeg;

/// Decodes a frame, which must have the size that the header says and so was checked against the limits.
pub(super) fn decode(header: &Header, frame: &[u8]) -> Result<Vec<u16>, Fault> {
    match header.coding {
        Coding::Jpeg2000 => jpeg_2000(header, frame),
        _ => jpeg(header, frame),
    }
}

/// Pixels that one byte of a frame can stand for at most: lossless, a pixel takes a bit; with loss, a block of 8 x 8
/// takes two.
const LOSSLESS_EXPANSION: u64 = 8;
const BLOCK_EXPANSION: u64 = 4 * 64;

fn jpeg(header: &Header, frame: &[u8]) -> Result<Vec<u16>, Fault> {
    let mut decoder = Decoder::new(frame);
    decoder.read_info().map_err(explain)?;
    let info = decoder.info().ok_or_else(|| Fault::Damaged("its JPEG stream has no frame header".to_owned()))?;
    same_size(header, u32::from(info.width), u32::from(info.height), "JPEG")?;
    let lossless = info.coding_process == jpeg_decoder::CodingProcess::Lossless;
    let expansion = if lossless { LOSSLESS_EXPANSION } else { BLOCK_EXPANSION };
    let pixels = u64::from(header.columns) * u64::from(header.rows);
    if !jpeg::has_end_of_image(frame) || frame.len() as u64 * expansion < pixels {
        return Err(Fault::Truncated(format!("its JPEG stream of {} bytes ends early", frame.len())));
    }
    if let Some(scans) = jpeg::too_many_scans(frame, pixels) {
        return Err(Fault::Unsupported(format!("JPEG in DICOM with {scans} scans")));
    }
    if lossless && jpeg::has_marker(frame, RESTART_INTERVAL) {
        // The decoder goes on predicting across them and gives other pixels.
        return Err(Fault::Unsupported("lossless JPEG with restart intervals".to_owned()));
    }
    let bytes = decoder.decode().map_err(explain)?;
    let samples: Vec<u16> = match info.pixel_format {
        PixelFormat::L8 => bytes.into_iter().map(u16::from).collect(),
        PixelFormat::L16 => bytes.chunks_exact(2).map(|pair| u16::from_ne_bytes([pair[0], pair[1]])).collect(),
        PixelFormat::RGB24 | PixelFormat::CMYK32 => {
            return Err(Fault::Damaged("its JPEG stream is in colour, and its header says grey".to_owned()));
        }
    };
    complete(header, samples, "JPEG")
}

/// Marker of the segment that announces restart intervals.
const RESTART_INTERVAL: u8 = 0xdd;

fn explain(error: jpeg_decoder::Error) -> Fault {
    match error {
        jpeg_decoder::Error::Unsupported(feature) => Fault::Unsupported(format!("JPEG in DICOM with {feature:?}")),
        jpeg_decoder::Error::Io(io) if io.kind() == std::io::ErrorKind::UnexpectedEof => {
            Fault::Truncated("its JPEG stream ends within the image".to_owned())
        }
        other => Fault::Damaged(format!("its JPEG stream: {other}")),
    }
}

fn jpeg_2000(header: &Header, frame: &[u8]) -> Result<Vec<u16>, Fault> {
    let failed = |error| Fault::Damaged(format!("its JPEG 2000 stream: {error}"));
    let Codestream { width, height, signed } = codestream::check(frame)?;
    same_size(header, width, height, "JPEG 2000")?;
    let settings = DecodeSettings { resolve_palette_indices: false, strict: true, target_resolution: None };
    let image = Image::new(frame, &settings).map_err(failed)?;
    let mut context = DecoderContext::default();
    let decoded = image.decode(&mut context).map_err(failed)?;
    let [component] = decoded.components() else {
        return Err(Fault::Damaged("its JPEG 2000 stream is in colour, and its header says grey".to_owned()));
    };
    let bits = u32::from(component.bit_depth());
    if !(1..=16).contains(&bits) {
        return Err(Fault::Unsupported(format!("JPEG 2000 in DICOM with {bits} bits")));
    }
    // The decoder lifts the samples of every stream to zero and above, also where they have a sign and begin below it.
    // What the lift added to such is the highest bit, which a number with a sign has the other way round.
    let flip = if signed { 1 << (bits - 1) } else { 0 };
    let largest = ((1u32 << bits) - 1) as f32;
    let stored = |sample: f32| sample.round().clamp(0.0, largest) as u16 ^ flip;
    let samples = component.samples().iter().map(|&sample| stored(sample)).collect();
    complete(header, samples, "JPEG 2000")
}

fn same_size(header: &Header, width: u32, height: u32, format: &str) -> Result<(), Fault> {
    if (width, height) == (header.columns, header.rows) {
        return Ok(());
    }
    Err(Fault::Damaged(format!(
        "its {format} stream has {width} x {height} pixels, its header says {} x {}",
        header.columns, header.rows
    )))
}

fn complete(header: &Header, samples: Vec<u16>, format: &str) -> Result<Vec<u16>, Fault> {
    let expected = header.columns as usize * header.rows as usize;
    match samples.len() == expected {
        true => Ok(samples),
        false => Err(Fault::Damaged(format!("its {format} stream gave {} of {expected} pixels", samples.len()))),
    }
}
