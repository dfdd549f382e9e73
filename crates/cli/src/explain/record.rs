//! What is said of one explained image: in its JSON file, on stdout, and over its picture.

use super::origin::Origin;
use roentgen_data::{Augment, Image, Transform};
use roentgen_infer::explain::{Curves, Explanation, LungField};
use roentgen_run::FORMAT_VERSION;
use serde::Serialize;
use std::path::Path;

/// `<image>-<class>-<method>.json`.
#[derive(Serialize)]
pub struct Record {
    format_version: u32,
    image: String,
    #[serde(flatten)]
    origin: Origin,
    /// The class that is explained.
    class: String,
    predicted: String,
    probabilities: Vec<(String, f32)>,
    logits: Vec<f32>,
    map: MapRecord,
    /// The part of the image that the model saw, in pixels: left, top, width, height.
    seen: [f64; 4],
    #[serde(skip_serializing_if = "Option::is_none")]
    completeness: Option<CompletenessRecord>,
    curves: Option<CurvesRecord>,
    lung_field: Option<LungRecord>,
}

/// The raw map; places that speak against the class are negative.
#[derive(Serialize)]
struct MapRecord {
    height: usize,
    width: usize,
    smallest: f32,
    largest: f32,
}

/// Of integrated gradients: the sum of the map beside what the logit gained on the way.
#[derive(Serialize)]
struct CompletenessRecord {
    logit_gained: f64,
    attributed: f64,
}

/// The class's probability while the map's strongest pixels are taken away, or put into a blurred image.
#[derive(Serialize)]
struct CurvesRecord {
    deletion_area: f64,
    insertion_area: f64,
    shares: Vec<f64>,
    deletion: Vec<f64>,
    insertion: Vec<f64>,
}

/// Whether the evidence lies in the lungs.
#[derive(Serialize)]
struct LungRecord {
    /// `mask <file>` or `estimate`.
    source: String,
    share_of_evidence: Option<f64>,
    /// What an even map would have.
    share_of_area: f64,
}

impl Record {
    /// Heads the table on stdout.
    pub const HEADER: &'static str =
        "class         probability  deletion  insertion  in lungs  lungs' area  lungs from  image";

    pub fn new(
        path: &Path,
        image: &Image,
        classes: &[String],
        origin: Origin,
        explanation: &Explanation,
        curves: Option<&Curves>,
        lungs: Option<(LungField, String)>,
    ) -> Record {
        let Explanation { class, logits, probabilities, map, completeness } = explanation;
        let (width, height) = (image.width(), image.height());
        let seen = Transform { image_size: map.image_size, augment: Augment::None }.seen(width, height);
        let predicted = roentgen_run::predictions::largest(logits);
        Record {
            format_version: FORMAT_VERSION,
            image: path.display().to_string(),
            origin,
            class: classes[*class].clone(),
            predicted: classes[predicted].clone(),
            probabilities: classes.iter().cloned().zip(probabilities.iter().copied()).collect(),
            logits: logits.clone(),
            map: MapRecord {
                height: map.height,
                width: map.width,
                smallest: map.values.iter().copied().fold(f32::INFINITY, f32::min),
                largest: map.values.iter().copied().fold(f32::NEG_INFINITY, f32::max),
            },
            seen: [seen.left, seen.top, seen.width, seen.height],
            completeness: completeness.map(|c| CompletenessRecord { logit_gained: c.gained, attributed: c.attributed }),
            curves: curves.map(|curves| CurvesRecord {
                deletion_area: curves.deletion_area(),
                insertion_area: curves.insertion_area(),
                shares: curves.shares.clone(),
                deletion: curves.deletion.clone(),
                insertion: curves.insertion.clone(),
            }),
            lung_field: lungs.map(|(field, source)| {
                let share = field.share(map, width, height);
                LungRecord { source, share_of_evidence: share.evidence, share_of_area: share.area }
            }),
        }
    }

    /// A line of the table on stdout.
    pub fn line(&self) -> String {
        let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.4}"));
        let curves = self.curves.as_ref();
        let lungs = self.lung_field.as_ref();
        let source = lungs.map_or("none found", |lungs| lungs.source.split(' ').next().unwrap_or_default());
        format!(
            "{:12}  {:>11.4}  {:>8}  {:>9}  {:>8}  {:>11}  {source:10}  {}",
            self.class,
            self.probability(),
            number(curves.map(|curves| curves.deletion_area)),
            number(curves.map(|curves| curves.insertion_area)),
            number(lungs.and_then(|lungs| lungs.share_of_evidence)),
            number(lungs.map(|lungs| lungs.share_of_area)),
            self.image
        )
    }

    /// What stands over the picture.
    pub fn caption(&self) -> Vec<String> {
        let module = self.origin.method.module.as_ref().map_or_else(String::new, |module| format!(" of {module}"));
        let mut lines = vec![
            format!("What speaks for {}, p = {:.4}", self.class, self.probability()),
            format!("{}{module}", self.origin.method.name),
        ];
        if let Some(CurvesRecord { deletion_area, insertion_area, .. }) = &self.curves {
            lines.push(format!("deletion {deletion_area:.3}, insertion {insertion_area:.3}"));
        }
        if let Some(LungRecord { source, share_of_evidence: Some(share), share_of_area }) = &self.lung_field {
            let estimated = if source == "estimate" { " (estimate)" } else { "" };
            let percent = |share: f64| 100.0 * share;
            lines.push(format!(
                "{:.0} % of it in the lungs{estimated}, which are {:.0} % of the area",
                percent(*share),
                percent(*share_of_area)
            ));
        }
        lines
    }

    /// Of the class that is explained.
    fn probability(&self) -> f32 {
        let mut probabilities = self.probabilities.iter();
        probabilities.find(|(class, _)| *class == self.class).map_or(f32::NAN, |(_, probability)| *probability)
    }
}
