//! An entry of the cache: a decoded image, or what an audit saw of one.

#![no_main]

use libfuzzer_sys::fuzz_target;
use roentgen_data::Image;
use roentgen_data::cache::{entry, look};

/// Where the checksum of an image stands, which covers everything else.
const CHECKSUM: std::ops::Range<usize> = 56..60;
/// Where that of a look stands, likewise.
const LOOK_CHECKSUM: std::ops::Range<usize> = 12..16;

fn check(bytes: &[u8]) {
    if let Ok((_, image)) = entry::read(bytes) {
        let samples = match &image {
            Image::Gray8(raster) => raster.samples().len(),
            Image::Gray16(raster) => raster.samples().len(),
            Image::Rgb8(raster) => raster.samples().len() / 3,
        };
        assert_eq!(samples, image.width() * image.height());
    }
}

fuzz_target!(|bytes: &[u8]| {
    check(bytes);
    // No mutation hits the right checksum: what stands behind it is reached by mending it.
    if bytes.len() >= CHECKSUM.end {
        let mut mended = bytes.to_vec();
        let checksum = crc32fast::hash(&[&bytes[..CHECKSUM.start], &bytes[CHECKSUM.end..]].concat());
        mended[CHECKSUM].copy_from_slice(&checksum.to_le_bytes());
        check(&mended);
    }
    let _ = look::read(bytes);
    if bytes.len() >= LOOK_CHECKSUM.end {
        let mut mended = bytes.to_vec();
        let checksum = crc32fast::hash(&[&bytes[..LOOK_CHECKSUM.start], &bytes[LOOK_CHECKSUM.end..]].concat());
        mended[LOOK_CHECKSUM].copy_from_slice(&checksum.to_le_bytes());
        if let Ok(look) = look::read(&mended) {
            assert!(!look.stored.format.container.is_empty());
        }
    }
});
