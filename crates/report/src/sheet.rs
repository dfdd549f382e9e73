//! Best and worst classified images: what `roentgen evaluate` hands over, and how it is kept in `plots/`.

use crate::png::encode_png;
use crate::{ReportError, contact_sheet};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use image::RgbImage;
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

impl Pixels {
    /// Whether these are all pixels of a picture of this size; `path` names it.
    ///
    /// # Errors
    /// [`ReportError::TileSize`] where they are not `width * height`, or a side is 0 or beyond `u32`.
    pub(crate) fn check(&self, path: &str, width: usize, height: usize) -> Result<(), ReportError> {
        let (found, channels) = match self {
            Pixels::Grey(bytes) => (bytes.len(), 1),
            Pixels::Rgb(bytes) => (bytes.len(), 3),
        };
        let expected = width.saturating_mul(height).saturating_mul(channels);
        if found == expected && expected > 0 && u32::try_from(width.max(height)).is_ok() {
            return Ok(());
        }
        Err(ReportError::TileSize { path: path.to_owned(), found, expected, width, height })
    }

    /// The picture in colour; size and pixels have passed [`Pixels::check`].
    pub(crate) fn to_rgb(&self, width: usize, height: usize) -> RgbImage {
        let bytes = match self {
            Pixels::Grey(bytes) => bytes.iter().flat_map(|&grey| [grey; 3]).collect(),
            Pixels::Rgb(bytes) => bytes.clone(),
        };
        RgbImage::from_raw(width as u32, height as u32, bytes)
            .expect("the check compared the number of bytes with the size")
    }
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
    /// The same picture, of the same size, with what speaks for the predicted class over it; shown beside it.
    pub heat_map: Option<Pixels>,
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
        let mut pictures = std::iter::once(&self.pixels).chain(&self.heat_map);
        pictures.try_for_each(|pixels| pixels.check(&self.path, self.width, self.height))
    }

    /// The picture in colour. The tile has passed [`Tile::check`].
    pub(crate) fn to_rgb(&self) -> RgbImage {
        self.pixels.to_rgb(self.width, self.height)
    }

    /// The tile with its heat map in the picture's place, where it has one.
    pub(crate) fn with_heat_map(&self) -> Option<Tile> {
        self.heat_map.as_ref().map(|pixels| Tile { pixels: pixels.clone(), heat_map: None, ..self.clone() })
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

impl ClassImages {
    pub(crate) fn has_heat_maps(&self) -> bool {
        self.best.iter().chain(&self.worst).any(|image| image.heat_map_png_base64.is_some())
    }
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
    /// Of the same size.
    #[serde(default)]
    heat_map_png_base64: Option<String>,
}

/// Writes for each class a contact sheet, `plots/images-<split>-<class>.png`, one of the heat maps beside it where the
/// tiles have some, `plots/heat-maps-<split>-<class>.png`, and for the report page `plots/images-<split>.json`, which holds
/// the same images with their maps and captions. Characters of a class or split that a
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
        write_heat_maps(run, split, sheet)?;
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

/// Writes the contact sheet of the heat maps, `plots/heat-maps-<split>-<class>.png`; where there are none, an older one is
/// removed, so that it does not stand beside the pictures of another evaluation.
fn write_heat_maps(run: &RunDirectory, split: &str, sheet: &Sheet) -> Result<(), ReportError> {
    let name = format!("heat-maps-{}-{}.png", file_name_part(split), file_name_part(&sheet.class));
    let path = run.plots_folder().join(name);
    let maps = |tiles: &[Tile]| -> Vec<Tile> { tiles.iter().filter_map(Tile::with_heat_map).collect() };
    let maps = Sheet { class: sheet.class.clone(), best: maps(&sheet.best), worst: maps(&sheet.worst) };
    if maps.best.is_empty() && maps.worst.is_empty() {
        return match std::fs::remove_file(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(RunError::Io { path, action: "remove", source }.into())
            }
            _ => Ok(()),
        };
    }
    let png = encode_png(&path, &contact_sheet::draw(split, &maps))?;
    Ok(write_atomically(&path, |file| file.write_all(&png))?)
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
    let encoded = |picture: &RgbImage| Ok::<_, ReportError>(BASE64_STANDARD.encode(encode_png(path, picture)?));
    let heat_map = tile.with_heat_map().map(|map| contact_sheet::fitted(&map, false));
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
        png_base64: encoded(&picture)?,
        heat_map_png_base64: heat_map.as_ref().map(encoded).transpose()?,
    })
}

/// A part of a file name that every common file system accepts. A name of ASCII letters, digits, `-` and `_` stays as
/// it is; any other is cut to 40 such characters and gets a hash, so that `a/b` and `a?b` do not meet in one file.
pub fn file_name_part(name: &str) -> String {
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
