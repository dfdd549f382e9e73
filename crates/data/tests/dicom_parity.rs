//! DICOM files show what pydicom says that they show (`reference/dicom_fixtures.py`), within 1 level of 65535.

use std::collections::BTreeSet;
use std::fs;
use std::num::NonZeroU32;
use std::path::Path;

use roentgen_data::{DataError, Image, Limits, decode, decode_bytes, decode_frame};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/dicom");

/// Little-endian numbers of two bytes.
fn levels(bytes: &[u8]) -> Vec<u16> {
    bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect()
}

/// The levels of a grey image, 0 to 65535.
fn shown(image: &Image) -> Vec<u16> {
    match image {
        Image::Gray8(raster) => raster.samples().iter().map(|&level| u16::from(level) * 257).collect(),
        Image::Gray16(raster) => raster.samples().to_vec(),
        Image::Rgb8(_) => panic!("a DICOM image in colour"),
    }
}

#[track_caller]
fn assert_shows(name: &str, image: &Image, expected: &[u16], tolerance: u16) {
    let found = shown(image);
    assert_eq!(found.len(), expected.len(), "{name}: pixels");
    for (pixel, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!(found.abs_diff(*expected) <= tolerance, "{name}, pixel {pixel}: {found}, pydicom {expected}");
    }
}

#[test]
fn every_combination_of_bits_modality_and_values_of_interest() {
    let all = fs::read(format!("{FIXTURES}/combinations.bin")).unwrap();
    let mut rest = all.as_slice();
    let mut part = || -> Option<&[u8]> {
        let (length, behind) = rest.split_first_chunk()?;
        let (part, behind) = behind.split_at(u32::from_le_bytes(*length) as usize);
        rest = behind;
        Some(part)
    };
    let mut names = BTreeSet::new();
    while let Some(name) = part() {
        let name = String::from_utf8(name.to_vec()).unwrap();
        let file = [&[0; 128][..], b"DICM", part().unwrap()].concat();
        let image = decode_bytes(&name, &file, &Limits::default()).unwrap();
        assert_eq!((image.width(), image.height()), (6, 5));
        assert_shows(&name, &image, &levels(part().unwrap()), 1);
        names.insert(name);
    }
    assert_eq!(names.len(), 234);
}

#[test]
fn every_transfer_syntax_that_is_read() {
    let mut files = 0;
    for entry in fs::read_dir(format!("{FIXTURES}/syntaxes")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().unwrap() == "raw" {
            continue;
        }
        let name = path.file_stem().unwrap().to_str().unwrap();
        let image = decode(&path, &Limits::default()).unwrap();
        // Lossy: decoders may differ by a stored level or two.
        let tolerance = match name {
            "jpeg-50" | "jpeg-51-fragments" => 257,
            "jpeg2000-91" => 2 * (65535 / 4095),
            _ => 1,
        };
        assert_shows(name, &image, &levels(&fs::read(path.with_extension("raw")).unwrap()), tolerance);
        files += 1;
    }
    assert_eq!(files, 46);
}

#[test]
fn eight_bits_as_they_are_stay_eight_bits() {
    let eight = decode(Path::new(&format!("{FIXTURES}/syntaxes/rle-8.dcm")), &Limits::default()).unwrap();
    assert!(matches!(eight, Image::Gray8(_)));
    let twelve = decode(Path::new(&format!("{FIXTURES}/syntaxes/rle-12.dcm")), &Limits::default()).unwrap();
    assert!(matches!(twelve, Image::Gray16(_)));
}

#[test]
fn a_frame_is_chosen_and_never_guessed() {
    let names = ["native", "native-odd", "big-endian-odd", "rle-offsets", "rle-fragments", "rle-offsets-fragments"];
    for name in names {
        let path = Path::new(FIXTURES).join(format!("frames/{name}.dcm"));
        let expected = levels(&fs::read(path.with_extension("raw")).unwrap());
        for (frame, expected) in (1..).zip(expected.chunks_exact(expected.len() / 3)) {
            let image = decode_frame(&path, &Limits::default(), NonZeroU32::new(frame)).unwrap();
            assert_shows(name, &image, expected, 1);
        }
        let none = decode(&path, &Limits::default()).unwrap_err();
        assert!(matches!(none, DataError::SeveralFrames { frames: 3, .. }), "{none}");
        assert!(none.to_string().contains("--frame N"), "{none}");
        let fourth = decode_frame(&path, &Limits::default(), NonZeroU32::new(4)).unwrap_err();
        assert!(matches!(fourth, DataError::NoSuchFrame { frame: 4, frames: 3, .. }), "{fourth}");
    }
    let single = format!("{FIXTURES}/syntaxes/rle-12.dcm");
    assert!(decode_frame(Path::new(&single), &Limits::default(), NonZeroU32::new(1)).is_ok());
    let png = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/images/grey8.png");
    let second = decode_frame(Path::new(png), &Limits::default(), NonZeroU32::new(2)).unwrap_err();
    assert!(matches!(second, DataError::NoSuchFrame { frame: 2, frames: 1, .. }), "{second}");
}
