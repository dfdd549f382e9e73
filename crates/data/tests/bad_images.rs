//! Files that are no image, or a broken one: each is an error that names the file and says what it is.

use std::fs;
use std::path::Path;

use roentgen_data::{DataError, Limits, decode, decode_bytes};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");

fn error_of(name: &str) -> DataError {
    let error = decode(&Path::new(FIXTURES).join("bad").join(name), &Limits::default()).expect_err(name);
    assert!(error.to_string().contains(name), "the message does not name the file: {error}");
    error
}

#[test]
fn each_bad_file_gives_its_own_error() {
    type Expected = fn(&DataError) -> bool;
    let expected: [(&str, Expected); 18] = [
        ("empty.png", |e| matches!(e, DataError::ImageEmpty { .. })),
        ("empty.jpg", |e| matches!(e, DataError::ImageEmpty { .. })),
        ("text.png", |e| matches!(e, DataError::NotAnImage { found, .. } if found.contains("text"))),
        ("gif.png", |e| matches!(e, DataError::NotAnImage { found, .. } if found.contains("GIF"))),
        ("dicom.jpg", |e| {
            matches!(e, DataError::ImageTruncated { format: "DICOM", .. } | DataError::DicomHeader { .. })
        }),
        ("signature-only.png", |e| matches!(e, DataError::ImageTruncated { .. })),
        ("header-only.png", |e| matches!(e, DataError::ImageTruncated { .. })),
        ("truncated.png", |e| matches!(e, DataError::ImageTruncated { .. })),
        ("damaged.png", |e| matches!(e, DataError::ImageDamaged { .. })),
        ("no-size.png", |e| matches!(e, DataError::ImageDamaged { .. })),
        ("no-palette.png", |e| matches!(e, DataError::ImageDamaged { .. })),
        ("huge.png", |e| matches!(e, DataError::ImageTooLarge { width: 30_000, height: 30_000, .. })),
        ("elongated.png", |e| matches!(e, DataError::ImageTooElongated { width: 1, height: 10_000, .. })),
        ("marker-only.jpg", |e| matches!(e, DataError::ImageTruncated { .. })),
        ("truncated.jpg", |e| matches!(e, DataError::ImageTruncated { .. })),
        ("no-end.jpg", |e| matches!(e, DataError::ImageTruncated { .. })),
        ("huge.jpg", |e| matches!(e, DataError::ImageTooLarge { width: 30_000, height: 30_000, .. })),
        ("no-frame.jpg", |e| matches!(e, DataError::ImageDamaged { .. })),
    ];
    let files = fs::read_dir(Path::new(FIXTURES).join("bad")).unwrap().count();
    assert_eq!(files, expected.len(), "every bad file has its line here");
    for (name, is_expected) in expected {
        let error = error_of(name);
        assert!(is_expected(&error), "{name}: {error:?}");
    }
}

#[test]
fn the_type_is_told_by_the_content() {
    let png = fs::read(format!("{FIXTURES}/images/grey8.png")).unwrap();
    let jpeg = fs::read(format!("{FIXTURES}/images/grey.jpg")).unwrap();
    assert_eq!(decode_bytes("x.jpg", &png, &Limits::default()).unwrap().width(), 61);
    assert_eq!(decode_bytes("x.png", &jpeg, &Limits::default()).unwrap().width(), 61);
}

#[test]
fn every_beginning_of_a_file_is_an_error_or_an_image_but_no_panic() {
    for name in ["grey8.png", "palette4.png", "colour-420-progressive.jpg", "cmyk.jpg"] {
        let whole = fs::read(format!("{FIXTURES}/images/{name}")).unwrap();
        let mut refused = 0;
        for end in 0..whole.len() {
            refused += usize::from(decode_bytes(name, &whole[..end], &Limits::default()).is_err());
        }
        // Only the checksum and the end marker of a PNG stand behind its pixels.
        assert!(refused + 24 >= whole.len(), "{name}: {refused} of {} beginnings refused", whole.len());
    }
}

#[test]
fn a_flipped_byte_is_an_error_or_an_image_but_no_panic() {
    for name in ["grey2.png", "grey8-interlaced.png", "grey-progressive.jpg", "colour-restarts.jpg", "ycck.jpg"] {
        let whole = fs::read(format!("{FIXTURES}/images/{name}")).unwrap();
        for position in 0..whole.len() {
            let mut changed = whole.clone();
            changed[position] ^= 0xa5;
            if let Ok(image) = decode_bytes(name, &changed, &Limits { pixels: 1_000_000, ..Limits::default() }) {
                assert!(image.width() * image.height() <= 1_000_000);
            }
        }
    }
}

#[test]
fn limits_are_the_callers() {
    let png = fs::read(format!("{FIXTURES}/images/grey8.png")).unwrap();
    let limits = Limits { pixels: 61 * 47, ..Limits::default() };
    assert!(decode_bytes("a", &png, &limits).is_ok());
    let limits = Limits { pixels: 61 * 47 - 1, ..Limits::default() };
    assert!(matches!(decode_bytes("a", &png, &limits), Err(DataError::ImageTooLarge { limit: 2866, .. })));
    let limits = Limits { file_bytes: 100, ..Limits::default() };
    assert!(matches!(decode_bytes("a", &png, &limits), Err(DataError::FileTooLarge { limit: 100, .. })));
    let missing = decode(Path::new("/no/such/file.png"), &Limits::default()).unwrap_err();
    assert!(missing.to_string().contains("/no/such/file.png"));
}

#[test]
fn a_scan_that_is_repeated_without_end_is_refused() {
    let whole = fs::read(format!("{FIXTURES}/images/grey-progressive.jpg")).unwrap();
    let last = whole.windows(2).rposition(|pair| pair == [0xff, 0xda]).unwrap();
    let (image, end) = whole.split_at(whole.len() - 2);
    let repeated = |times: usize| [image, &image[last..].repeat(times), end].concat();
    assert!(decode_bytes("a", &repeated(1), &Limits::default()).is_ok());
    let error = decode_bytes("a", &repeated(100), &Limits::default()).unwrap_err();
    assert!(matches!(&error, DataError::ImageUnsupported { found, .. } if found.contains("scans")), "{error:?}");
    // Fewer scans, of more pixels: the height stands in the frame's header, and no scan reaches so far down.
    let mut tall = repeated(20);
    let frame = tall.windows(2).position(|pair| pair == [0xff, 0xc2]).unwrap();
    tall[frame + 5..frame + 9].copy_from_slice(&[0x27, 0x10, 0x27, 0x10]);
    let error = decode_bytes("a", &tall, &Limits::default()).unwrap_err();
    assert!(
        matches!(&error, DataError::ImageUnsupported { found, .. } if found.contains("10000 x 10000")),
        "{error:?}"
    );
}
