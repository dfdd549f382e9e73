//! An image of the cache as a file.
//!
//! Little-endian: 8 bytes of magic, version (u32), kind of samples (u32), width and height in pixels (u32 each), the
//! digest of the pixels that were decoded, before they were resized (32 bytes), the CRC-32 of the header so far and of all
//! samples (u32); then the samples row by row, of 16 bits each in two bytes. The file ends there.

use super::header::{FIELDS, Header, number};
use crate::audit::PixelDigest;
use crate::raster::{Image, Raster};

/// Version of this form.
pub(super) const VERSION: u32 = 1;
/// Bytes of the kind of samples, the width or the height.
const NUMBER: usize = 4;
/// Where kind, width, height and the digest stand.
const KIND: usize = FIELDS;
const WIDTH: usize = KIND + NUMBER;
const HEIGHT: usize = WIDTH + NUMBER;
const DIGEST: usize = HEIGHT + NUMBER;
/// Bytes of the digest.
const DIGEST_LENGTH: usize = 32;
const HEADER: Header = Header {
    magic: *b"roentpix",
    version: VERSION,
    fields: DIGEST + DIGEST_LENGTH - FIELDS,
    of: "an image of the cache",
};

/// The file of an image, whose original has the digest `pixels`, written into `bytes`.
pub(super) fn write(image: &Image, pixels: &PixelDigest, bytes: &mut Vec<u8>) {
    let kind = match image {
        Image::Gray8(_) => 0,
        Image::Gray16(_) => 1,
        Image::Rgb8(_) => 2,
    };
    HEADER.begin(bytes);
    // Limits on decoding keep sides far below 2^32.
    for number in [kind, image.width() as u32, image.height() as u32] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.extend_from_slice(pixels.as_bytes());
    bytes.extend_from_slice(&[0; 4]);
    match image {
        Image::Gray8(raster) => bytes.extend_from_slice(raster.samples()),
        Image::Gray16(raster) => bytes.extend(raster.samples().iter().flat_map(|sample| sample.to_le_bytes())),
        Image::Rgb8(raster) => bytes.extend_from_slice(raster.samples()),
    }
    HEADER.seal(bytes);
}

/// The image of a file, and the digest of what it was made of.
///
/// # Errors
/// In words, what is wrong with it.
pub fn read(bytes: &[u8]) -> Result<(PixelDigest, Image), String> {
    let (header, samples) = HEADER.open(bytes)?;
    let (width, height) = (number(header, WIDTH) as usize, number(header, HEIGHT) as usize);
    let image = match number(header, KIND) {
        0 => Raster::new(width, height, samples.to_vec()).map(Image::Gray8),
        1 if samples.len().is_multiple_of(2) => {
            let deep = samples.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
            Raster::new(width, height, deep.collect()).map(Image::Gray16)
        }
        2 => Raster::new(width, height, samples.to_vec()).map(Image::Rgb8),
        _ => None,
    };
    let mut pixels = [0; DIGEST_LENGTH];
    pixels.copy_from_slice(&header[DIGEST..DIGEST + DIGEST_LENGTH]);
    let image = image.ok_or_else(|| format!("its {} bytes are not {width} x {height} pixels", samples.len()))?;
    Ok((PixelDigest::from_bytes(pixels), image))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images() -> [Image; 3] {
        [
            Image::Gray8(Raster::new(3, 2, vec![0, 1, 2, 253, 254, 255]).unwrap()),
            Image::Gray16(Raster::new(1, 3, vec![0, 256, 65535]).unwrap()),
            Image::Rgb8(Raster::new(2, 1, vec![1, 2, 3, 4, 5, 6]).unwrap()),
        ]
    }

    #[test]
    fn images_come_back_and_damage_is_seen_in_every_byte() {
        for image in images() {
            let mut bytes = vec![7; 5];
            let pixels = PixelDigest::of(&images()[0]);
            write(&image, &pixels, &mut bytes);
            assert_eq!(read(&bytes).unwrap(), (pixels, image));
            for at in 0..bytes.len() {
                let mut damaged = bytes.clone();
                damaged[at] ^= 0x10;
                assert!(read(&damaged).is_err(), "byte {at}");
                assert!(read(&bytes[..at]).is_err(), "cut at {at}");
            }
            bytes.push(0);
            assert!(read(&bytes).is_err(), "one byte too many");
        }
    }

    #[test]
    fn a_right_checksum_does_not_make_wrong_sizes_right() {
        let mut bytes = Vec::new();
        write(&images()[1], &PixelDigest::from_bytes([9; 32]), &mut bytes);
        for (at, value) in [(12, 3), (12, 0), (16, 0), (16, u32::MAX), (20, 2)] {
            let mut wrong = bytes.clone();
            wrong[at..at + 4].copy_from_slice(&value.to_le_bytes());
            HEADER.seal(&mut wrong);
            assert!(read(&wrong).unwrap_err().contains("pixels"), "{at}: {value}");
        }
    }

    #[test]
    fn the_form_of_version_1_stays() {
        let mut bytes = Vec::new();
        write(&images()[0], &PixelDigest::from_bytes([9; 32]), &mut bytes);
        let header = [&b"roentpix\x01\0\0\0\0\0\0\0\x03\0\0\0\x02\0\0\0"[..], &[9; 32]].concat();
        let samples = b"\x00\x01\x02\xfd\xfe\xff";
        let checksum = crc32fast::hash(&[&header[..], samples].concat()).to_le_bytes();
        let expected = [&header[..], &checksum, samples];
        assert_eq!(bytes, expected.concat());
    }
}
