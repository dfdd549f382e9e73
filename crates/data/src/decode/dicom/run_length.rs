//! DICOM's run lengths: PackBits over each byte plane of the samples (PS3.5, annex G).

use super::fault::Fault;

/// Most bytes that one byte of a segment can stand for: a run of 128 has two.
const LARGEST_EXPANSION: usize = 64;

/// Decodes a frame of `pixels` samples of `sample_bytes` (1 or 2) bytes, the highest byte's plane first.
pub(super) fn decode(frame: &[u8], pixels: usize, sample_bytes: usize) -> Result<Vec<u16>, Fault> {
    let word = |index: usize| -> Result<usize, Fault> {
        let bytes = frame.get(index * 4..).and_then(<[u8]>::first_chunk);
        let bytes = bytes.ok_or_else(|| Fault::Truncated("the run lengths end within their header".to_owned()))?;
        Ok(u32::from_le_bytes(*bytes) as usize)
    };
    let segments = word(0)?;
    if segments != sample_bytes {
        return Err(Fault::Damaged(format!(
            "its run lengths have {segments} byte planes, and samples of {sample_bytes} bytes have {sample_bytes}"
        )));
    }
    let mut samples = Vec::new();
    for plane in 0..segments {
        let start = word(1 + plane)?;
        let end = if plane + 1 < segments { word(2 + plane)? } else { frame.len() };
        let segment = frame.get(start..end).ok_or_else(|| {
            Fault::Damaged(format!(
                "byte plane {plane} of its run lengths goes from {start} to {end} of {}",
                frame.len()
            ))
        })?;
        if segment.len().saturating_mul(LARGEST_EXPANSION) < pixels {
            return Err(short(plane, segment.len(), pixels));
        }
        samples.resize(pixels, 0);
        unpack(segment, &mut samples).ok_or_else(|| short(plane, segment.len(), pixels))?;
    }
    Ok(samples)
}

fn short(plane: usize, bytes: usize, pixels: usize) -> Fault {
    Fault::Truncated(format!("the {bytes} bytes of run lengths of byte plane {plane} do not fill {pixels} pixels"))
}

/// Shifts each sample by eight bits and puts a byte into it. `None` where the segment ends too early; what goes beyond
/// the last sample is padding.
fn unpack(segment: &[u8], samples: &mut [u16]) -> Option<()> {
    let mut put = samples.iter_mut();
    let mut bytes = segment.iter();
    while put.len() > 0 {
        match bytes.next()? {
            // So many bytes and one more, as they are.
            &count @ 0..=127 => {
                for _ in 0..=count {
                    let &byte = bytes.next()?;
                    let Some(sample) = put.next() else { return Some(()) };
                    *sample = (*sample << 8) | u16::from(byte);
                }
            }
            128 => {}
            // 257 less so many times the next byte.
            &count => {
                let &byte = bytes.next()?;
                put.by_ref()
                    .take(257 - usize::from(count))
                    .for_each(|sample| *sample = (*sample << 8) | u16::from(byte));
            }
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(planes: &[&[u8]]) -> Vec<u8> {
        let mut header = vec![planes.len() as u32];
        let mut start = 64;
        for plane in planes {
            header.push(start);
            start += plane.len() as u32;
        }
        header.resize(16, 0);
        header.iter().flat_map(|word| word.to_le_bytes()).chain(planes.concat()).collect()
    }

    #[test]
    fn literals_and_runs_become_the_high_and_the_low_byte() {
        // A run of three ones; a 2 as it is, then nothing, then a run of two threes.
        let frame = frame(&[&[254, 1], &[0, 2, 128, 255, 3]]);
        assert_eq!(decode(&frame, 3, 2).unwrap(), [0x0102, 0x0103, 0x0103]);
    }

    #[test]
    fn runs_beyond_the_image_are_padding_and_missing_ones_an_error() {
        let frame = frame(&[&[253, 7, 0]]);
        assert_eq!(decode(&frame, 2, 1).unwrap(), [7, 7]);
        assert!(matches!(decode(&frame, 5, 1), Err(Fault::Truncated(_))));
        assert!(matches!(decode(&frame, 4, 2), Err(Fault::Damaged(_))));
        assert!(matches!(decode(&frame[..66], usize::MAX, 1), Err(Fault::Truncated(_))), "before memory is taken");
    }
}
