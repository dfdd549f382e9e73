//! DICOM files that give no image: each is an error that names the file, what was found, and what to do.

use std::fs;
use std::path::Path;

use roentgen_data::{DataError, Limits, decode, decode_bytes};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/dicom");

#[test]
fn each_bad_file_gives_its_own_error() {
    use DataError::{
        DicomHeader, ImageDamaged, ImageTooElongated, ImageTooLarge, ImageTruncated, ImageUnsupported, NoPixelData,
        SeveralFrames, TransferSyntax,
    };
    type Expected = fn(&DataError) -> bool;
    let truncated: Expected = |e| matches!(e, ImageTruncated { format: "DICOM", .. });
    let damaged: Expected = |e| matches!(e, ImageDamaged { format: "DICOM", .. });
    let header: Expected = |e| matches!(e, DicomHeader { .. });
    let unsupported: Expected = |e| matches!(e, ImageUnsupported { .. });
    // File, kind of error, and what its message says besides the file's name.
    let expected: [(&str, Expected, &str); 47] = [
        ("magic-only", header, "no transfer syntax"),
        ("no-transfer-syntax", header, "no transfer syntax"),
        ("no-pixel-data", |e| matches!(e, NoPixelData { .. }), "without pixel data"),
        ("truncated-header", truncated, ""),
        ("truncated-pixels", truncated, "says that it has 96 bytes, and 76 are left"),
        ("too-few-pixels", truncated, "76 bytes of pixels; 8 x 6 pixels of 16 bits in 1 frames need 96"),
        ("lying-length", truncated, "4294967280 bytes"),
        ("no-type", damaged, "(0028,0010) has no type"),
        ("huge", |e| matches!(e, ImageTooLarge { width: 65535, height: 65535, .. }), "limit"),
        ("elongated", |e| matches!(e, ImageTooElongated { width: 96, height: 1, .. }), "64"),
        ("no-rows", header, "no rows (0028,0010)"),
        ("zero-columns", header, "0 columns (0028,0011)"),
        ("colour", unsupported, "photometric interpretation RGB"),
        ("three-samples", unsupported, "3 samples per pixel"),
        ("palette", unsupported, "PALETTE COLOR"),
        ("bits-32", unsupported, "32 bits allocated"),
        ("bits-stored-beyond-allocated", header, "20 bits stored"),
        ("bits-stored-too-few", header, "9 bits are stored"),
        ("high-bit", header, "the high bit (0028,0102) is 3"),
        ("window-of-no-width", header, "width (0028,1051) is 0"),
        ("window-function", header, "`CUBIC`"),
        ("slope-zero", header, "slope (0028,1053) is 0"),
        ("several-frames", |e| matches!(e, SeveralFrames { frames: 3, .. }), "--frame"),
        ("table-too-short", header, "4 entries of 12 bits has 6 bytes"),
        ("rescale-no-number", header, "(0028,1053) is `one.`"),
        ("nested", damaged, "more than 32 sequences deep"),
        (
            "jpeg-ls",
            |e| matches!(e, TransferSyntax { .. }),
            "1.2.840.10008.1.2.4.80 (JPEG-LS Lossless), which is not read; decode it with `dcmdjpls",
        ),
        ("deflated", |e| matches!(e, TransferSyntax { .. }), "1.2.840.10008.1.2.1.99 (Deflated"),
        ("video", |e| matches!(e, TransferSyntax { .. }), "video"),
        ("unknown-syntax", |e| matches!(e, TransferSyntax { .. }), "1.2.3.4.5 (an unknown transfer syntax)"),
        ("jpeg-extended-12", unsupported, "SamplePrecision(12)"),
        ("native-as-rle", damaged, "not encapsulated"),
        ("rle-planes", damaged, "3 byte planes"),
        ("rle-offset", damaged, "1073741824"),
        ("rle-short", damaged, "of its run lengths goes from 64"),
        ("rle-bomb", truncated, "do not fill 81000000 pixels"),
        ("jpeg-short", truncated, "ends early"),
        ("jpeg-size", damaged, "8 x 6 pixels, its header says 9 x 6"),
        ("jpeg-restarts", unsupported, "restart intervals"),
        ("jpeg-colour", damaged, "in colour"),
        ("jpeg2000-short", truncated, "JPEG 2000 stream ends within a tile"),
        ("jpeg2000-components", damaged, "in colour"),
        ("jpeg2000-pixels", truncated, "bytes for 10000 x 10000 pixels"),
        ("jpeg2000-tiles", truncated, "cannot hold its packets"),
        ("jpeg2000-tiles-missing", truncated, "holds 3 of 16 tiles"),
        ("jpeg2000-packets", truncated, "cannot hold its packets"),
        ("no-fragments", truncated, "no bytes of pixels"),
    ];
    let files = fs::read_dir(Path::new(FIXTURES).join("bad")).unwrap().count();
    assert_eq!(files, expected.len(), "every bad file has its line here");
    for (name, is_expected, words) in expected {
        let file = format!("{name}.dcm");
        let error = decode(&Path::new(FIXTURES).join("bad").join(&file), &Limits::default()).expect_err(name);
        assert!(is_expected(&error), "{name}: {error:?}");
        let message = error.to_string();
        assert!(message.contains(&file) && message.contains(words), "{name}: {message}");
    }
}

/// Memory for a header is bounded by more than the length of its file.
#[test]
fn a_header_of_elements_without_end_is_damaged() {
    let file = fs::read(format!("{FIXTURES}/syntaxes/explicit-8.dcm")).unwrap();
    let rows = b"\x28\0\x10\0US";
    let at = file.windows(rows.len()).position(|window| window == rows).unwrap();
    let with = |count: usize| {
        let empty = rows.iter().copied().chain([0, 0]).collect::<Vec<_>>().repeat(count);
        decode_bytes("many.dcm", &[&file[..at], &empty, &file[at..]].concat(), &Limits::default())
    };
    assert!(with(4000).is_ok());
    let error = with(5000).unwrap_err().to_string();
    assert!(error.contains("many.dcm") && error.contains("more than 4096 elements"), "{error}");
}

/// One file of each coding.
const WHOLE: [&str; 7] =
    ["explicit-12", "implicit-table", "rle-16", "jpeg-50", "jpeg-lossless-57-4", "jpeg2000-12", "icon-and-private"];

#[test]
fn every_beginning_of_a_file_is_an_error_but_no_panic() {
    for name in WHOLE {
        let whole = fs::read(format!("{FIXTURES}/syntaxes/{name}.dcm")).unwrap();
        assert!(decode_bytes(name, &whole, &Limits::default()).is_ok());
        for end in 0..whole.len() {
            assert!(decode_bytes(name, &whole[..end], &Limits::default()).is_err(), "{name}: {end} of {}", whole.len());
        }
    }
}

#[test]
fn a_flipped_byte_is_an_error_or_an_image_but_no_panic() {
    let limits = Limits { pixels: 1_000_000, ..Limits::default() };
    for name in WHOLE {
        let whole = fs::read(format!("{FIXTURES}/syntaxes/{name}.dcm")).unwrap();
        for position in 132..whole.len() {
            for flip in [0x01, 0xa5] {
                let mut changed = whole.clone();
                changed[position] ^= flip;
                if let Ok(image) = decode_bytes(name, &changed, &limits) {
                    assert!(image.width() * image.height() <= 1_000_000);
                }
            }
        }
    }
}

/// An item of a sequence holds as few elements as the group it stands in: each takes several times its bytes in memory.
#[test]
fn an_item_of_very_many_elements_is_refused() {
    let short = |group: u16, element: u16, vr: &[u8; 2], value: &[u8]| {
        [&group.to_le_bytes()[..], &element.to_le_bytes(), vr, &(value.len() as u16).to_le_bytes(), value].concat()
    };
    let long = |group: u16, element: u16, vr: &[u8; 2], value: &[u8]| {
        let length = (value.len() as u32).to_le_bytes();
        [&group.to_le_bytes()[..], &element.to_le_bytes(), vr, &[0, 0], &length, value].concat()
    };
    let number = |element: u16, value: u16| short(0x0028, element, b"US", &value.to_le_bytes());
    let file = |elements: usize| {
        let items = short(0x0028, 0x3004, b"LO", b"").repeat(elements);
        let item = [&[0xfe, 0xff, 0x00, 0xe0][..], &(items.len() as u32).to_le_bytes(), &items].concat();
        [
            [0; 128].to_vec(),
            b"DICM".to_vec(),
            short(0x0002, 0x0010, b"UI", b"1.2.840.10008.1.2.1\0"),
            number(0x0002, 1),
            short(0x0028, 0x0004, b"CS", b"MONOCHROME2 "),
            number(0x0010, 8),
            number(0x0011, 8),
            number(0x0100, 8),
            number(0x0101, 8),
            number(0x0102, 7),
            number(0x0103, 0),
            long(0x0028, 0x3000, b"SQ", &item),
            long(0x7fe0, 0x0010, b"OB", &[0; 64]),
        ]
        .concat()
    };
    let message = |elements| decode_bytes("many.dcm", &file(elements), &Limits::default()).unwrap_err().to_string();
    // One that is not too long is looked at: it has no descriptor.
    assert!(message(4096).contains("(0028,3002)"), "{}", message(4096));
    assert!(message(4097).contains("more than 4096 elements"), "{}", message(4097));
}
