//! How large an image is, before anything of its pixels is decoded.

use std::io::Cursor;

use super::{dicom, jpeg, png};

/// Pixels of the image in these bytes (of one frame, where there are several), as its header says; `None` where the
/// header says nothing that decoding would go by. It costs what reading the header costs.
pub fn pixels_of(bytes: &[u8]) -> Option<u64> {
    let (width, height) = if dicom::is_dicom(bytes) {
        dicom::size(bytes)?
    } else if bytes.starts_with(png::SIGNATURE) {
        ::png::Decoder::new(Cursor::new(bytes)).read_header_info().ok()?.size()
    } else if bytes.starts_with(jpeg::SIGNATURE) {
        let mut decoder = jpeg_decoder::Decoder::new(bytes);
        decoder.read_info().ok()?;
        let info = decoder.info()?;
        (u32::from(info.width), u32::from(info.height))
    } else {
        return None;
    };
    Some(u64::from(width) * u64::from(height))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// Every image of the fixtures that decodes has as many pixels as its header promised.
    #[test]
    fn the_header_says_what_decoding_gives() {
        fn search(folder: &Path, compared: &mut usize) {
            for entry in std::fs::read_dir(folder).unwrap().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    search(&path, compared);
                } else if let bytes = std::fs::read(&path).unwrap()
                    && let Ok(image) = crate::decode::decode_bytes("", &bytes, &crate::Limits::default())
                {
                    let pixels = image.width() as u64 * image.height() as u64;
                    assert_eq!(pixels_of(&bytes), Some(pixels), "{}", path.display());
                    *compared += 1;
                }
            }
        }
        let mut compared = 0;
        search(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures"), &mut compared);
        assert!(compared > 10, "{compared} images were compared");
    }

    #[test]
    fn what_is_no_image_has_no_size() {
        assert_eq!(pixels_of(b""), None);
        assert_eq!(pixels_of(b"\xff\xd8\xff\xe0 and no more"), None);
        assert_eq!(pixels_of(b"text"), None);
    }
}
