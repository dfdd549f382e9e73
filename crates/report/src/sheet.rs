//! Best and worst classified images: what `roentgen evaluate` hands over, and how it is kept in `plots/`.

use crate::{ReportError, contact_sheet};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use image::{ExtendedColorType, ImageEncoder, RgbImage};
use roentgen_run::directory::write_atomically;
use roentgen_run::{FORMAT_VERSION, RunDirectory, RunError};
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Pixels of one image, 8 bits a channel, row by row from the upper left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pixels {
    /// One byte a pixel; 0 is black.
    Grey(Vec<u8>),
    /// Three bytes a pixel: red, green, blue.
    Rgb(Vec<u8>),
}

/// One classified image with all that its caption says.
#[derive(Clone, Debug, PartialEq)]
pub struct Tile {
    /// The picture, of any size; scaled to fit 224 x 224 where it is shown.
    pub pixels: Pixels,
    /// Width in pixels, at least 1.
    pub width: usize,
    /// Height in pixels, at least 1.
    pub height: usize,
    /// The image, relative to the data folder, with `/` between its parts.
    pub path: String,
    /// The patient, where the manifest knows it.
    pub patient_id: Option<String>,
    /// The probability of the predicted class, in `[0, 1]`.
    pub probability: f32,
    /// Name of the actual class.
    pub actual: String,
    /// Name of the predicted class.
    pub predicted: String,
    /// Further lines under the image, such as its finding or source; may be empty.
    pub caption: Vec<String>,
}

/// The images of one actual class that the model was surest about.
#[derive(Clone, Debug, PartialEq)]
pub struct Sheet {
    /// Name of the class; may hold any character.
    pub class: String,
    /// Images of the class classified right, the most confident first.
    pub best: Vec<Tile>,
    /// Images of the class classified wrong, the most confident first.
    pub worst: Vec<Tile>,
}

impl Tile {
    /// # Errors
    /// [`ReportError::TileSize`] where the pixels are not `width * height`, or a side is 0 or beyond `u32`.
    pub(crate) fn check(&self) -> Result<(), ReportError> {
        check(&self.pixels, self.width, self.height, &self.path)
    }

    /// The picture in colour. The tile has passed [`Tile::check`].
    pub(crate) fn to_rgb(&self) -> RgbImage {
        to_rgb(&self.pixels, self.width, self.height)
    }

    /// The last part of the path.
    pub(crate) fn file_name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    pub(crate) fn patient(&self) -> String {
        self.patient_id.as_ref().map_or_else(|| "patient unknown".to_owned(), |id| format!("patient {id}"))
    }

    pub(crate) fn verdict(&self) -> String {
        format!("predicted {}, p\u{a0}=\u{a0}{:.4}", self.predicted, self.probability)
    }
}

/// `plots/images-<split>.json`: the pictures and captions that the report page shows. One file, written atomically, so
/// that captions and pictures never come from different evaluations.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SheetFile {
    format_version: u32,
    pub(crate) split: String,
    pub(crate) classes: Vec<ClassImages>,
}

/// The images of one actual class.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ClassImages {
    pub(crate) class: String,
    pub(crate) contact_sheet: String,
    pub(crate) best: Vec<CaptionedImage>,
    pub(crate) worst: Vec<CaptionedImage>,
}

/// One image as the page shows it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CaptionedImage {
    path: String,
    patient_id: Option<String>,
    patient: String,
    actual: String,
    predicted: String,
    probability: f32,
    verdict: String,
    caption: Vec<String>,
    width: u32,
    height: u32,
    png_base64: String,
}

/// Writes for each class a contact sheet, `plots/images-<split>-<class>.png`, and for the report page
/// `plots/images-<split>.json`, which holds the same images with their captions. Characters of a class or split that a
/// file name cannot hold everywhere are replaced. Returns the contact sheets' paths, in the order of `sheets`.
///
/// # Errors
/// [`ReportError::TileSize`] before anything is written; else where the system refuses to write.
pub fn write_sheets(run: &RunDirectory, split: &str, sheets: &[Sheet]) -> Result<Vec<PathBuf>, ReportError> {
    sheets.iter().flat_map(|sheet| sheet.best.iter().chain(&sheet.worst)).try_for_each(Tile::check)?;
    let mut written = Vec::with_capacity(sheets.len());
    let mut classes = Vec::with_capacity(sheets.len());
    for sheet in sheets {
        let name = format!("images-{}-{}.png", file_name_part(split), file_name_part(&sheet.class));
        let path = run.plots_folder().join(&name);
        let png = encode_png(&path, &contact_sheet::draw(split, sheet))?;
        write_atomically(&path, |file| file.write_all(&png))?;
        let captioned = |tiles: &[Tile]| tiles.iter().map(|tile| captioned(&path, tile)).collect::<Result<_, _>>();
        classes.push(ClassImages {
            class: sheet.class.clone(),
            contact_sheet: name,
            best: captioned(&sheet.best)?,
            worst: captioned(&sheet.worst)?,
        });
        written.push(path);
    }
    let record = SheetFile { format_version: FORMAT_VERSION, split: split.to_owned(), classes };
    write_atomically(&sheet_file(run, split), |file| Ok(serde_json::to_writer(file, &record)?))?;
    Ok(written)
}

/// Reads what [`write_sheets`] wrote for a split; `None` where the split has no sheets.
///
/// # Errors
/// Where the file cannot be read, is not of this form, or is of a newer format.
pub(crate) fn read_sheets(run: &RunDirectory, split: &str) -> Result<Option<SheetFile>, RunError> {
    let path = sheet_file(run, split);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(RunError::Io { path, action: "read", source }),
    };
    #[derive(Deserialize)]
    struct Version {
        format_version: u32,
    }
    let malformed = |error: serde_json::Error| RunError::Malformed {
        path: path.clone(),
        found: error.to_string(),
        expected: "captioned images as `roentgen evaluate` writes them".into(),
    };
    // The version comes first: of a newer format nothing else is known.
    let Version { format_version: found } = serde_json::from_str(&text).map_err(malformed)?;
    if found > FORMAT_VERSION {
        return Err(RunError::NewerFormat { path, found, supported: FORMAT_VERSION });
    }
    let record: SheetFile = serde_json::from_str(&text).map_err(malformed)?;
    Ok(Some(record))
}

fn sheet_file(run: &RunDirectory, split: &str) -> PathBuf {
    run.plots_folder().join(format!("images-{}.json", file_name_part(split)))
}

fn captioned(path: &Path, tile: &Tile) -> Result<CaptionedImage, ReportError> {
    let picture = contact_sheet::fitted(tile, false);
    Ok(CaptionedImage {
        path: tile.path.clone(),
        patient_id: tile.patient_id.clone(),
        patient: tile.patient(),
        actual: tile.actual.clone(),
        predicted: tile.predicted.clone(),
        probability: tile.probability,
        verdict: tile.verdict(),
        caption: tile.caption.clone(),
        width: picture.width(),
        height: picture.height(),
        png_base64: BASE64_STANDARD.encode(encode_png(path, &picture)?),
    })
}

/// The picture that these pixels of an image at `path` make.
///
/// # Errors
/// [`ReportError::TileSize`] where the pixels are not `width * height`, or a side is 0 or beyond `u32`.
pub(crate) fn picture(pixels: &Pixels, width: usize, height: usize, path: &str) -> Result<RgbImage, ReportError> {
    check(pixels, width, height, path)?;
    Ok(to_rgb(pixels, width, height))
}

fn check(pixels: &Pixels, width: usize, height: usize, path: &str) -> Result<(), ReportError> {
    let (found, channels) = match pixels {
        Pixels::Grey(bytes) => (bytes.len(), 1),
        Pixels::Rgb(bytes) => (bytes.len(), 3),
    };
    let expected = width.saturating_mul(height).saturating_mul(channels);
    if found == expected && expected > 0 && u32::try_from(width.max(height)).is_ok() {
        return Ok(());
    }
    Err(ReportError::TileSize { path: path.to_owned(), found, expected, width, height })
}

/// Pixels that have passed [`check`], in colour.
fn to_rgb(pixels: &Pixels, width: usize, height: usize) -> RgbImage {
    let bytes = match pixels {
        Pixels::Grey(bytes) => bytes.iter().flat_map(|&grey| [grey; 3]).collect(),
        Pixels::Rgb(bytes) => bytes.clone(),
    };
    RgbImage::from_raw(width as u32, height as u32, bytes)
        .expect("the check compared the number of bytes with the size")
}

/// PNG bytes; a picture without colour is stored grey, a third of the bytes.
pub(crate) fn encode_png(path: &Path, picture: &RgbImage) -> Result<Vec<u8>, ReportError> {
    use image::codecs::png::{CompressionType, FilterType, PngEncoder};
    let mut bytes = Vec::new();
    let encoder = PngEncoder::new_with_quality(&mut bytes, CompressionType::Default, FilterType::Adaptive);
    let (width, height) = picture.dimensions();
    let grey = picture.pixels().all(|pixel| pixel.0[0] == pixel.0[1] && pixel.0[1] == pixel.0[2]);
    let outcome = if grey {
        let channel: Vec<u8> = picture.pixels().map(|pixel| pixel.0[0]).collect();
        encoder.write_image(&channel, width, height, ExtendedColorType::L8)
    } else {
        encoder.write_image(picture.as_raw(), width, height, ExtendedColorType::Rgb8)
    };
    outcome.map_err(|source| ReportError::Picture { path: path.to_owned(), source })?;
    Ok(bytes)
}

/// A part of a file name that every common file system accepts. A name of ASCII letters, digits, `-` and `_` stays as
/// it is; any other is cut to 40 such characters and gets a hash, so that `a/b` and `a?b` do not meet in one file.
pub(crate) fn file_name_part(name: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !name.is_empty() && name.len() <= 40 && name.chars().all(safe) {
        return name.to_owned();
    }
    // FNV-1a with 32 bits: it need only tell apart the few classes of one run.
    let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let kept: String = name.chars().take(40).map(|c| if safe(c) { c } else { '_' }).collect();
    format!("{kept}-{hash:08x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_are_safe_and_distinct() {
        assert_eq!(file_name_part("COVID-19"), "COVID-19");
        let long = "x".repeat(300);
        let names = ["../a", "..\\a", "a b", "a?b", "", "胸", long.as_str(), "NUL\0"].map(file_name_part);
        for (index, name) in names.iter().enumerate() {
            assert!(name.len() <= 49 && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)), "{name}");
            assert!(!names[..index].contains(name), "{name} twice");
        }
    }
}
