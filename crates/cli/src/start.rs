//! What several commands begin with: an engine, a data set whose bad images are known, start weights.

use crate::download;
use crate::failure::{Failure, Outcome};
use crate::progress::Count;
use roentgen_cpu::CpuEngine;
use roentgen_data::{DataError, Fold, ImageCache, Manifest, MissingImages, PatientKey, check_images};
use roentgen_nn::weights::official_file;
use roentgen_nn::{Head, architecture};
use roentgen_run::RunDirectory;
use roentgen_run::config::{CrossValidation, OnBadImage};
use roentgen_run::environment::{ImagesBySource, SkippedImage};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Side of the images, in pixels, that torchvision's weights were trained on.
const IMAGENET_SIZE: usize = 224;
/// Classes of torchvision's own head.
const IMAGENET_CLASSES: usize = 1000;

/// An engine with as many threads as asked for, or one a core.
pub fn engine(threads: Option<usize>) -> Outcome<CpuEngine> {
    let available = CpuEngine::available_threads();
    let threads = threads.unwrap_or(available);
    if threads > available {
        eprintln!("note: {threads} threads on {available} cores; results are the same, and it is not faster");
    }
    Ok(CpuEngine::new(threads)?)
}

/// Nine tenths of the memory that the system could give now; `None` where it does not say.
pub fn available_memory_bytes() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemAvailable:"))?;
    let kib: usize = line.split_whitespace().nth(1)?.parse().ok()?;
    kib.checked_mul(1024)?.checked_div(10)?.checked_mul(9)
}

/// Opens a data set, and says on stderr what the user should know of it, once. Images that a table names and that are
/// not there are bad images.
pub fn open(data: &Path, on_bad_image: OnBadImage) -> Outcome<Manifest> {
    if !data.exists() {
        let path = data.display();
        return Err(Failure::call(format!("{path}: no such folder; say with --data where the data set is")));
    }
    // An archive's headers lie on a slow disk.
    let progress = Count::of_unknown("reading what is known of", "images");
    let missing = match on_bad_image {
        OnBadImage::Fail => MissingImages::Refuse,
        OnBadImage::Skip => MissingImages::LeaveOut,
    };
    let manifest = Manifest::open_watched(data, missing, |done, all| progress.done_of(done, all))?;
    drop(progress);
    warn_once(&manifest.warnings);
    Ok(manifest)
}

/// Says warnings on stderr, each once, however many runs or data sets it is about.
pub fn warn_once(warnings: &[String]) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    // Nothing that holds the lock can panic; a set that is half there would say something twice.
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    for warning in warnings {
        if said.insert(warning.clone()) {
            eprintln!("warning: {warning}");
        }
    }
}

/// As [`open`], with the splits of a cross-validation and pseudonyms for patients where the settings name them.
pub fn manifest(
    data: &Path,
    cross_validation: Option<CrossValidation>,
    on_bad_image: OnBadImage,
    anonymous: Option<&Path>,
) -> Outcome<Arc<Manifest>> {
    let key = anonymous.map(PatientKey::read).transpose()?;
    let mut manifest = open(data, on_bad_image)?;
    if let Some(CrossValidation { folds, held_out, seed }) = cross_validation {
        manifest.cross_validate(Fold { folds, held_out, seed })?;
    }
    // Last: which patient comes into which fold does not depend on the key.
    if let Some(key) = key {
        manifest.anonymize(&key);
    }
    Ok(Arc::new(manifest))
}

/// Rows that cannot be decoded, with why; looked for where they are to be skipped. An empty list where they are not:
/// the first one met is then an error. Decoded images are kept in `cache`, for networks of an image size.
pub fn bad_rows(
    manifest: &Manifest,
    rows: &[usize],
    what: OnBadImage,
    threads: usize,
    cache: Option<(&ImageCache, usize)>,
) -> Outcome<Vec<(usize, DataError)>> {
    if what == OnBadImage::Fail {
        return Ok(Vec::new());
    }
    let progress = Count::of_images("checking", rows.len());
    let bad = check_images(manifest, rows, threads, cache, |done| progress.done(done))?;
    drop(progress);
    for (_, error) in &bad {
        eprintln!("skipped: {error}");
    }
    Ok(bad)
}

/// For the environment and the report.
pub fn skipped(manifest: &Manifest, bad: &[(usize, DataError)]) -> Vec<SkippedImage> {
    bad.iter()
        .map(|(row, error)| SkippedImage {
            path: manifest.rows[*row].path.display().to_string(),
            reason: error.to_string(),
        })
        .collect()
}

/// How many images a data set has, by split and class, and by split, source and class; and how many patients by split.
/// Sources and patients are `None` where they are not known.
pub struct Counts {
    pub images: BTreeMap<String, BTreeMap<String, usize>>,
    pub sources: Option<BTreeMap<String, ImagesBySource>>,
    pub patients: Option<BTreeMap<String, usize>>,
}

/// Counts a data set without its bad rows.
pub fn counts(manifest: &Manifest, bad: &[(usize, DataError)]) -> Counts {
    let mut images: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
    let mut sources: BTreeMap<String, ImagesBySource> = BTreeMap::new();
    let mut patients: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for (index, row) in manifest.rows.iter().enumerate() {
        if bad.iter().any(|(skipped, _)| *skipped == index) {
            continue;
        }
        let split = row.split.to_string();
        let class = &manifest.classes[row.label];
        *images.entry(split.clone()).or_default().entry(class.clone()).or_default() += 1;
        let of_source = sources.entry(split.clone()).or_default().entry(row.source.clone().unwrap_or_default());
        *of_source.or_default().entry(class.clone()).or_default() += 1;
        if let Some(patient) = &row.patient_id {
            patients.entry(split).or_default().insert(patient);
        }
    }
    let patients_known = manifest.rows.iter().all(|row| row.patient_id.is_some());
    Counts {
        images,
        sources: manifest.rows.iter().any(|row| row.source.is_some()).then_some(sources),
        patients: patients_known.then(|| patients.into_iter().map(|(split, ids)| (split, ids.len())).collect()),
    }
}

/// The weight file that `--weights` names: downloaded, a file, or a run's model. `None` for a random start.
pub fn weight_file(weights: &str, architecture: &str) -> Outcome<Option<PathBuf>> {
    match weights {
        "none" => Ok(None),
        "imagenet" => fetch(architecture).map(Some),
        path => local_weight_file(Path::new(path)).map(Some),
    }
}

/// Whether the weight file that `--weights` names is there, or can be asked for when a run begins with it.
pub fn check_weights(weights: &str) -> Outcome {
    match weights {
        "none" | "imagenet" => Ok(()),
        path => local_weight_file(Path::new(path)).map(|_| ()),
    }
}

fn local_weight_file(path: &Path) -> Outcome<PathBuf> {
    if path.is_dir() {
        let model = RunDirectory::open(path)?.model_file();
        return match model.is_file() {
            true => Ok(model),
            false => Err(Failure::work(format!(
                "{}: the run has no model.safetensors yet: finish it with --resume",
                path.display()
            ))),
        };
    }
    match path.is_file() {
        true => Ok(path.to_owned()),
        false => Err(Failure::call(format!(
            "--weights {}: no such file or run; expected imagenet, none, a weight file, or a run directory",
            path.display()
        ))),
    }
}

/// torchvision's weights of an architecture, from the cache or the network.
pub fn fetch(architecture: &str) -> Outcome<PathBuf> {
    // An unknown name is refused with the nearest ones.
    architecture::build(architecture, IMAGENET_SIZE, Head::Stock { classes: IMAGENET_CLASSES })?;
    let Some(file) = official_file(architecture) else {
        return Err(Failure::call(format!("torchvision publishes no weights for {architecture}: give --weights none")));
    };
    Ok(download::fetch_official(file.name, file.sha256_prefix)?)
}
