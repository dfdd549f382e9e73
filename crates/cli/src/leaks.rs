//! The gate before training: a patient, or the same pixels, on both sides of a split make every test figure too good.

use crate::failure::{Failure, Outcome};
use crate::progress;
use roentgen_data::audit::{PixelDigest, identical, pixel_digests};
use roentgen_data::{DataError, ImageCache, Manifest};
use roentgen_run::config::OnBadImage;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// What decoding every image once has told.
pub struct Decoded {
    digests: Vec<(usize, PixelDigest)>,
    /// What cannot be decoded, where it is to be skipped; elsewhere the first one that training meets is an error.
    pub bad: Vec<(usize, DataError)>,
}

impl Decoded {
    /// Decodes the images, those for the test as well: the report lists what evaluation will leave out. With a `cache`, for
    /// networks of an image size, what is there already is not decoded, and the rest is kept there.
    pub fn look(
        manifest: &Manifest,
        on_bad_image: OnBadImage,
        threads: usize,
        cache: Option<(&ImageCache, usize)>,
    ) -> Outcome<Rc<Decoded>> {
        let bar = progress::bar(manifest.rows.len() as u64, "comparing pixels {wide_bar} {pos}/{len}");
        let outcomes = pixel_digests(manifest, threads, cache, |done| bar.set_position(done as u64))?;
        bar.finish_and_clear();
        let mut decoded = Decoded { digests: Vec::with_capacity(outcomes.len()), bad: Vec::new() };
        for (row, outcome) in outcomes.into_iter().enumerate() {
            match outcome {
                Ok(digest) => decoded.digests.push((row, digest)),
                Err(error) if on_bad_image == OnBadImage::Skip => {
                    eprintln!("skipped: {error}");
                    decoded.bad.push((row, error));
                }
                Err(_) => {}
            }
        }
        Ok(Rc::new(decoded))
    }

    /// Groups of images with identical pixels.
    fn identical(&self) -> Vec<Vec<usize>> {
        identical(self.digests.iter().copied())
    }

    /// The groups that stand in more than one split, a line each.
    pub fn identical_across_splits(&self, manifest: &Manifest) -> Vec<String> {
        let groups = self.identical();
        let across = groups.iter().filter(|group| manifest.across_splits(group));
        across.map(|group| line(manifest, group)).collect()
    }
}

/// Refuses a patient in two splits, which is known before anything is decoded.
pub fn check_patients(manifest: &Manifest) -> Outcome {
    refuse(manifest, &[], false)
}

/// Refuses data that leak, unless that is `allowed`, and says what else speaks against them and is cheap to know.
pub fn check(manifest: &Manifest, decoded: &Decoded, allowed: bool) -> Outcome {
    refuse(manifest, &decoded.identical_across_splits(manifest), allowed)?;
    for doubt in doubts(manifest, &decoded.identical()) {
        eprintln!("warning: {}: {doubt}", manifest.place().display());
    }
    Ok(())
}

/// `pixels` are the groups of identical images that stand in more than one split.
fn refuse(manifest: &Manifest, pixels: &[String], allowed: bool) -> Outcome {
    let root = manifest.place().display();
    let patients: Vec<String> = manifest.patients_across_splits().into_iter().map(|leak| leak.patient_id).collect();
    let mut leaks = Vec::new();
    if !patients.is_empty() {
        leaks.push(format!("patients in more than one split: {}", first_five(&patients)));
    }
    if !pixels.is_empty() {
        leaks.push(format!("images with identical pixels in more than one split: {}", first_five(pixels)));
    }
    if leaks.is_empty() {
        return Ok(());
    }
    let message = format!("{root}: {}", leaks.join("; "));
    if allowed {
        eprintln!("warning: {message}; test figures will be too good");
        return Ok(());
    }
    Err(Failure::work(format!(
        "{message}: move each patient and each image into one split (`roentgen audit --data {root}` lists all), or \
         train all the same with --allow-leaks"
    )))
}

/// What is no leak and still not as it should be.
fn doubts(manifest: &Manifest, groups: &[Vec<usize>]) -> Vec<String> {
    let mut labels: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
    for row in &manifest.rows {
        if let Some(patient) = &row.patient_id {
            labels.entry(patient).or_default().insert(row.label);
        }
    }
    let named = |chosen: &dyn Fn(&[usize]) -> bool| -> Vec<String> {
        groups.iter().filter(|group| chosen(group)).map(|group| line(manifest, group)).collect()
    };
    let label = |row: usize| manifest.rows[row].label;
    let found = [
        ("groups of images with identical pixels and different labels", named(&|group| differ(group, label))),
        (
            "groups of images with identical pixels within a split",
            named(&|group| !differ(group, label) && !manifest.across_splits(group)),
        ),
        (
            "patients with images of different labels",
            labels.into_iter().filter(|(_, labels)| labels.len() > 1).map(|(patient, _)| patient.to_owned()).collect(),
        ),
    ];
    let found = found.into_iter().filter(|(_, lines)| !lines.is_empty());
    found.map(|(what, lines)| format!("{what}: {}", first_five(&lines))).collect()
}

fn differ(group: &[usize], of: impl Fn(usize) -> usize) -> bool {
    group.iter().any(|&row| of(row) != of(group[0]))
}

fn line(manifest: &Manifest, group: &[usize]) -> String {
    let paths: Vec<String> = group.iter().map(|&row| manifest.rows[row].path.display().to_string()).collect();
    paths.join(" = ")
}

fn first_five(names: &[String]) -> String {
    let shown = names[..names.len().min(5)].join(", ");
    format!("{} ({shown}{})", names.len(), if names.len() > 5 { ", ..." } else { "" })
}
