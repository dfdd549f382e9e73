//! The gate before training: a patient, or the same pixels, on both sides of a split make every test figure too good.

use crate::failure::{Failure, Outcome};
use crate::progress::Count;
use roentgen_data::audit::{PixelDigest, glances, identical};
use roentgen_data::{DataError, ImageCache, Manifest, Split};
use roentgen_run::config::OnBadImage;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// What decoding every image once has told.
pub struct Decoded {
    digests: Vec<(usize, PixelDigest)>,
    /// What cannot be decoded and is to be skipped.
    pub bad: Vec<(usize, DataError)>,
    /// What cannot be decoded and is not to be skipped.
    unusable: Vec<(usize, DataError)>,
    /// Rows of images in which nearly nothing is to be seen.
    dim: Vec<usize>,
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
        let progress = Count::of_images("comparing the pixels of", manifest.rows.len());
        let outcomes = glances(manifest, threads, cache, |done| progress.done(done))?;
        drop(progress);
        let mut decoded = Decoded { digests: Vec::new(), bad: Vec::new(), unusable: Vec::new(), dim: Vec::new() };
        for (row, outcome) in outcomes.into_iter().enumerate() {
            match outcome {
                Ok(seen) => {
                    decoded.digests.push((row, seen.pixels));
                    decoded.dim.extend(seen.dim.then_some(row));
                }
                Err(error) if on_bad_image == OnBadImage::Skip => {
                    eprintln!("skipped: {error}");
                    decoded.bad.push((row, error));
                }
                Err(error) => decoded.unusable.push((row, error)),
            }
        }
        Ok(Rc::new(decoded))
    }

    /// Refuses images that training would meet after hours and stop at; of images for the test it warns, at which an
    /// evaluation will stop.
    pub fn refuse_bad_images(&self, manifest: &Manifest) -> Outcome {
        let of = |splits: &[Split]| -> Vec<String> {
            let here = self.unusable.iter().filter(|(row, _)| splits.contains(&manifest.rows[*row].split));
            here.map(|(_, error)| error.to_string()).collect()
        };
        let place = manifest.place().display();
        let tested = of(&[Split::Test]);
        if !tested.is_empty() {
            eprintln!(
                "warning: {place}: {} of the test cannot be used, and an evaluation will stop there: {}",
                images(tested.len()),
                first_ten(&tested)
            );
        }
        let trained = of(&[Split::Train, Split::Validation]);
        if trained.is_empty() {
            return Ok(());
        }
        Err(Failure::work(format!(
            "{place}: {} for training and validation cannot be used; mend or remove what is named here, or leave such images \
             out with --on-bad-image skip: {}",
            images(trained.len()),
            first_ten(&trained)
        )))
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
    if !decoded.dim.is_empty() {
        let names: Vec<String> = decoded.dim.iter().map(|&row| manifest.rows[row].path.display().to_string()).collect();
        eprintln!("warning: {}: {DIM}: {}", manifest.place().display(), first_five(&names));
    }
    Ok(())
}

/// What is wrong with images for which [`roentgen_data::Image::is_dim`] holds.
pub const DIM: &str = "images of 16 bits that use only the lowest eighth of their range and are nearly black to a network, as \
    where 12 bits were stored in 16; multiply their pixels, or give the DICOM files that they were made of";

/// Says what the gate does not look for.
pub fn say_what_was_not_looked_for(manifest: &Manifest) {
    eprintln!(
        "note: altered copies of images, and what files alone give away, were not looked for: `roentgen audit --data {}`",
        manifest.place().display()
    );
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

fn images(count: usize) -> String {
    format!("{count} {}", if count == 1 { "image" } else { "images" })
}

/// A line for each, under what they are the end of.
fn first_ten(lines: &[String]) -> String {
    let shown = lines.iter().take(10).map(|line| format!("\n  {line}")).collect::<String>();
    if lines.len() > 10 { format!("{shown}\n  and {} more", lines.len() - 10) } else { shown }
}

fn first_five(names: &[String]) -> String {
    let shown = names[..names.len().min(5)].join(", ");
    format!("{} ({shown}{})", names.len(), if names.len() > 5 { ", ..." } else { "" })
}
