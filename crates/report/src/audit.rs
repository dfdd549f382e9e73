//! What an audit of a data set found: as a document for programs, as text, and as a page with the pictures of the
//! pairs.

use crate::png::encode_png;
use crate::sheet::Pixels;
use crate::{ReportError, templates};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use roentgen_eval::Estimate;
use roentgen_run::directory::write_atomically;
use serde::Serialize;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

/// Version of [`Audit`] as JSON.
pub const FORMAT_VERSION: u32 = 1;
/// Lines of one finding that a terminal shows; JSON and the page have all.
const LINES_SHOWN: usize = 20;
/// Pairs on the page with their pictures; JSON has all.
pub const PAIRS_PICTURED: usize = 200;

/// How much a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Test figures would be too good: the same stands on both sides of a split.
    Leak,
    /// The labels contradict each other.
    Error,
    /// To be looked at before results are believed.
    Warning,
    /// Good to know.
    Note,
}

impl Level {
    /// `leak`, `error`, `warning` or `note`.
    pub fn name(self) -> &'static str {
        match self {
            Level::Leak => "leak",
            Level::Error => "error",
            Level::Warning => "warning",
            Level::Note => "note",
        }
    }
}

/// One kind of thing that was found.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// How much it weighs.
    pub level: Level,
    /// Its name for programs, such as `patient-across-splits`.
    pub kind: &'static str,
    /// What was found, in a sentence.
    pub summary: String,
    /// Where, a line each; may be empty.
    pub details: Vec<String>,
}

/// An image as an audit speaks of it.
#[derive(Clone, Debug, Serialize)]
pub struct AuditedImage {
    /// The file, relative to the data folder, with `/` between its parts.
    pub path: String,
    /// Its part of the data.
    pub split: String,
    /// Its class.
    pub label: String,
    /// Its patient, where known.
    pub patient_id: Option<String>,
}

/// Two images of the same exposure.
#[derive(Clone, Debug, Serialize)]
pub struct DuplicatePair {
    /// One of them, the earlier one in the data set.
    pub first: AuditedImage,
    /// The other.
    pub second: AuditedImage,
    /// Whether they stand in different splits.
    pub across_splits: bool,
    /// Whether their pixels are identical.
    pub identical: bool,
    /// Correlation of their fine structure once one is laid over the other, `[0, 1]`.
    pub correlation: f32,
    /// What turns one into the other, in words; may be empty.
    pub changes: String,
}

/// How well one feature of the files alone, without looking at the lungs, tells two sides apart.
#[derive(Clone, Debug, Serialize)]
pub struct Shortcut {
    /// The feature, such as `source` or `width`.
    pub feature: String,
    /// What is told from the rest: a class, or the test split from the training split.
    pub target: String,
    /// Area under the ROC curve, 0.5 for a feature that says nothing.
    pub auroc: Estimate,
    /// Whether the interval lies so high that a model could live on the feature.
    pub suspicious: bool,
}

/// What an audit found.
#[derive(Clone, Debug, Serialize)]
pub struct Audit {
    /// Version of this form.
    pub format_version: u32,
    /// The data set's folder, or its table.
    pub data: String,
    /// What a run on the same data has as its fingerprint; `None` where it was not computed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_fingerprint: Option<String>,
    /// Images that were looked at.
    pub images: usize,
    /// Images that could not be.
    pub undecodable: usize,
    /// What can be said of patients and splits, in a sentence.
    pub patients: String,
    /// What was found, the gravest first.
    pub findings: Vec<Finding>,
    /// Pairs of the same exposure, those across splits first.
    pub near_duplicates: Vec<DuplicatePair>,
    /// How much features of the files give away, the most telling first.
    pub shortcuts: Vec<Shortcut>,
    /// How the images were compared, in words.
    pub method: Vec<String>,
}

/// A thumbnail for the page.
#[derive(Clone, Debug)]
pub struct Thumbnail {
    /// The pixels.
    pub pixels: Pixels,
    /// Width in pixels, at least 1.
    pub width: usize,
    /// Height in pixels, at least 1.
    pub height: usize,
}

#[derive(Serialize)]
struct PageContext<'a> {
    audit: &'a Audit,
    verdict: String,
    pairs: Vec<PairContext<'a>>,
    pairs_left_out: usize,
    shortcuts: Vec<ShortcutContext<'a>>,
}

#[derive(Serialize)]
struct PairContext<'a> {
    pair: &'a DuplicatePair,
    correlation: String,
    pictures: [String; 2],
}

#[derive(Serialize)]
struct ShortcutContext<'a> {
    shortcut: &'a Shortcut,
    area: String,
    interval: String,
}

impl Audit {
    /// One sentence that says whether the data can be used as they are.
    pub fn verdict(&self) -> String {
        let count = |level: Level| self.findings.iter().filter(|finding| finding.level == level).count();
        match (count(Level::Leak), count(Level::Error), count(Level::Warning)) {
            (0, 0, 0) => "Nothing was found.".into(),
            (0, 0, warnings) if self.images > 0 => {
                let among = match self.undecodable {
                    0 => String::new(),
                    count => format!(" among the images that can be decoded ({count} cannot)"),
                };
                format!("No leak was found{among}; {warnings} kinds of findings deserve a look.")
            }
            (0, 0, _) => "No image can be decoded: nothing is known of leaks.".into(),
            (0, _, _) => "Identical images have different labels.".into(),
            _ => "The splits leak: what stands on both sides makes test figures too good.".into(),
        }
    }

    /// The audit for a terminal.
    pub fn to_text(&self) -> String {
        let mut text = format!("{}: {} images. {}\n{}\n", self.data, self.images, self.verdict(), self.patients);
        for finding in &self.findings {
            text += &format!("\n{}: {}\n", finding.level.name(), finding.summary);
            for line in finding.details.iter().take(LINES_SHOWN) {
                text += &format!("  {line}\n");
            }
            if finding.details.len() > LINES_SHOWN {
                text += &format!("  and {} more (--json has all)\n", finding.details.len() - LINES_SHOWN);
            }
        }
        if !self.shortcuts.is_empty() {
            let width = |texts: &mut dyn Iterator<Item = usize>| texts.max().unwrap_or(0);
            let feature = width(&mut self.shortcuts.iter().map(|s| s.feature.len())).max(7);
            let target = width(&mut self.shortcuts.iter().map(|s| s.target.len())).max(11);
            text += &format!("\n{:feature$}  {:target$}  AUROC of the feature alone\n", "feature", "tells apart");
            for s in &self.shortcuts {
                let mark = if s.suspicious { "  !" } else { "" };
                writeln!(text, "{:feature$}  {:target$}  {}{mark}", s.feature, s.target, s.auroc)
                    .expect("a string takes everything");
            }
        }
        text += "\n";
        self.method.iter().for_each(|sentence| text += &format!("{sentence}\n"));
        text
    }

    /// Writes the page; `thumbnails` belong to the first so many [`Audit::near_duplicates`], in their order.
    ///
    /// # Errors
    /// [`ReportError::TileSize`] where pixels do not fit their size; else where the system refuses to write.
    pub fn write_page(&self, path: &Path, thumbnails: &[[Thumbnail; 2]]) -> Result<(), ReportError> {
        let encoded = |thumbnail: &Thumbnail, image: &AuditedImage| -> Result<String, ReportError> {
            let Thumbnail { pixels, width, height } = thumbnail;
            pixels.check(&image.path, *width, *height)?;
            let picture = pixels.to_rgb(*width, *height);
            Ok(BASE64_STANDARD.encode(encode_png(path, &picture)?))
        };
        let pair = |(pair, [first, second]): (&'_ DuplicatePair, &[Thumbnail; 2])| {
            Ok((encoded(first, &pair.first)?, encoded(second, &pair.second)?))
        };
        let pictures: Vec<(String, String)> =
            self.near_duplicates.iter().zip(thumbnails).map(pair).collect::<Result<_, ReportError>>()?;
        let pairs: Vec<PairContext<'_>> = self
            .near_duplicates
            .iter()
            .zip(pictures)
            .map(|(pair, (first, second))| PairContext {
                pair,
                correlation: format!("{:.3}", pair.correlation),
                pictures: [first, second],
            })
            .collect();
        let shortcut = |shortcut| {
            let Shortcut { auroc, .. }: &Shortcut = shortcut;
            let number =
                |value: Option<f64>| value.map_or_else(|| "undefined".to_owned(), |value| format!("{value:.3}"));
            let interval = auroc.interval().map(|range| format!("{:.3} to {:.3}", range.low, range.high));
            ShortcutContext { shortcut, area: number(auroc.value), interval: interval.unwrap_or_default() }
        };
        let context = PageContext {
            audit: self,
            verdict: self.verdict(),
            pairs_left_out: self.near_duplicates.len() - pairs.len(),
            pairs,
            shortcuts: self.shortcuts.iter().map(shortcut).collect(),
        };
        let page = templates::render(templates::AUDIT, context)?;
        write_atomically(path, |file| file.write_all(page.as_bytes()))?;
        Ok(())
    }
}
