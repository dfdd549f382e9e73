//! From the bytes of the pixel data to one frame of stored samples.

use std::borrow::Cow;

use super::elements::Elements;
use super::fault::Fault;
use super::header::{Header, Samples};
use super::transfer_syntax::Coding;
use super::{compressed, run_length};

/// The samples of a frame (counted from 1), `[rows, columns]`, with only the bits that count, lowest at the bottom; a
/// sign is not extended.
pub(super) fn frame(header: &Header, frame: u32) -> Result<Vec<u16>, Fault> {
    let pixels = header.rows as usize * header.columns as usize;
    let mut samples = match header.coding {
        Coding::Native => native(header, frame, pixels)?,
        Coding::RunLength => run_length::decode(&encapsulated(header, frame)?, pixels, header.samples.bytes)?,
        Coding::Jpeg | Coding::JpegLossless | Coding::Jpeg2000 => {
            compressed::decode(header, &encapsulated(header, frame)?)?
        }
    };
    settle(&mut samples, header.samples)?;
    Ok(samples)
}

/// A frame of uncompressed pixels; frames follow one another without a gap.
fn native(header: &Header, frame: u32, pixels: usize) -> Result<Vec<u16>, Fault> {
    let data = header.pixels.value;
    if header.pixels.open_ended {
        return Err(Fault::Damaged(
            "its pixels are encapsulated, and its transfer syntax says that they are not".to_owned(),
        ));
    }
    let bytes = pixels * header.samples.bytes;
    let start = bytes as u64 * u64::from(frame - 1);
    let end = start + bytes as u64;
    if end > data.len() as u64 {
        return Err(Fault::Truncated(format!(
            "it has {} bytes of pixels; {} x {} pixels of {} bits in {} frames need {}",
            data.len(),
            header.columns,
            header.rows,
            header.samples.bytes * 8,
            header.frames,
            bytes as u64 * u64::from(header.frames)
        )));
    }
    // Both are at most the length of the data.
    let (start, end) = (start as usize, end as usize);
    let encoding = header.encoding;
    if header.samples.bytes == 2 {
        return Ok(data[start..end].chunks_exact(2).map(|pair| encoding.u16([pair[0], pair[1]])).collect());
    }
    // Bytes in words of two (OW): those that begin with the high byte hold the second pixel first.
    let swapped = encoding.big_endian && header.pixels.vr == Some(*b"OW");
    let byte = |index: usize| data.get(index ^ usize::from(swapped)).copied().unwrap_or(0);
    Ok((start..end).map(byte).map(u16::from).collect())
}

/// The bytes of one encoded frame (PS3.5, section A.4).
fn encapsulated<'a>(header: &Header<'a>, frame: u32) -> Result<Cow<'a, [u8]>, Fault> {
    if !header.pixels.open_ended {
        return Err(Fault::Damaged(
            "its pixels are not encapsulated, and its transfer syntax says that they are".to_owned(),
        ));
    }
    let data = header.pixels.value;
    let mut items = Elements::new(data, 0, header.encoding);
    let offsets = items.next_item()?.unwrap_or_default();
    let begin = items.position();
    if header.frames == 1 {
        return joined(items, data.len());
    }
    let offset = |frame: u32| -> Option<usize> {
        let bytes = offsets.get(4 * (frame as usize - 1)..)?.first_chunk()?;
        Some(begin + u32::from_le_bytes(*bytes) as usize)
    };
    if let Some(start) = offset(frame) {
        let end = offset(frame + 1).unwrap_or(data.len());
        if start > end || end > data.len() {
            return Err(Fault::Damaged(format!("its offset table places frame {frame} from {start} to {end}")));
        }
        return joined(Elements::new(data, start, header.encoding), end);
    }
    // Without a table of offsets, frames and fragments must be one and the same.
    let mut fragments = 0;
    let mut found = None;
    while let Some(fragment) = items.next_item()? {
        fragments += 1;
        if fragments == frame {
            found = Some(fragment);
        }
    }
    match found {
        Some(fragment) if fragments == header.frames => Ok(Cow::Borrowed(fragment)),
        _ => Err(Fault::Damaged(format!(
            "its {} frames lie in {fragments} fragments, and no table says where each begins",
            header.frames
        ))),
    }
}

/// The fragments up to the byte `end` as one; a single one, as most are, is not copied.
fn joined<'a>(mut items: Elements<'a>, end: usize) -> Result<Cow<'a, [u8]>, Fault> {
    let mut joined = Cow::Borrowed(&[][..]);
    while items.position() < end {
        let Some(fragment) = items.next_item()? else { break };
        if joined.is_empty() {
            joined = Cow::Borrowed(fragment);
        } else {
            joined.to_mut().extend_from_slice(fragment);
        }
    }
    if joined.is_empty() {
        return Err(Fault::Truncated("it has no bytes of pixels".to_owned()));
    }
    Ok(joined)
}

/// Moves the bits that count to the bottom and clears the others.
fn settle(samples: &mut [u16], layout: Samples) -> Result<(), Fault> {
    let Samples { bits, shift, signed, overlay, .. } = layout;
    let mask = ((1u32 << bits) - 1) as u16;
    // What stands above the sample: zeros, copies of the sign, or an overlay that the file tells of. Anything else
    // means that the number of bits is wrong, and cutting them off would give a picture of nothing.
    let above = |sample: u16| u32::from(sample) >> shift >> bits;
    let ones = (1u32 << (16 - shift - bits)) - 1;
    let byte_ones = (1u32 << (layout.bytes as u32 * 8 - shift - bits)) - 1;
    let is_sign = |sample: u16| signed && matches!(above(sample), all if all == ones || all == byte_ones);
    if !overlay && let Some(&sample) = samples.iter().find(|&&sample| above(sample) != 0 && !is_sign(sample)) {
        return Err(Fault::Header(format!(
            "it has a pixel {sample:#06x}, and says that {bits} bits are stored above bit {shift}"
        )));
    }
    for sample in samples {
        *sample = (*sample >> shift) & mask;
    }
    Ok(())
}
