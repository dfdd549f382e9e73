//! `roentgen audit`

mod findings;
mod pictures;
mod shortcuts;
mod together;

use crate::failure::{Failure, Outcome};
use crate::image_cache::{self, ImageCacheArguments};
use crate::progress::Count;
use crate::{resolve, start};
use clap::Args;
use roentgen_cpu::CpuEngine;
use roentgen_data::audit::{Examination, examine, identical, near_duplicates};
use roentgen_data::{Manifest, Split};
use roentgen_report::audit::Level;
use roentgen_run::config::EngineSettings;
use std::io::Write;
use std::path::PathBuf;

/// `roentgen audit`
#[derive(Debug, Args)]
pub struct Audit {
    /// A folder with train/, validation/ and test/, each with a folder a class; a table (path,label,...); or a published data
    /// set
    #[arg(long, value_name = "PATH")]
    pub data: PathBuf,
    /// Print the findings as JSON
    #[arg(long)]
    pub json: bool,
    /// Write a page with the findings and the pictures of the pairs, one self-contained file
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// What to do with an image that a table names and that is not there; what cannot be decoded is always listed
    #[arg(long, value_name = "WHAT", default_value = "fail")]
    pub on_bad_image: crate::arguments::OnBadImage,
    /// File with a key: patients are written as pseudonyms, hashed with it
    #[arg(long, value_name = "KEYFILE")]
    pub anonymous: Option<PathBuf>,
    /// Threads [default: all cores]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Where what was seen of each image is kept.
    #[command(flatten)]
    pub image_cache: ImageCacheArguments,
}

/// Runs the command.
pub fn run(arguments: &Audit) -> Outcome {
    let threads = arguments.threads.unwrap_or_else(CpuEngine::available_threads);
    if threads == 0 {
        return Err(Failure::call("--threads is 0; expected at least 1"));
    }
    let on_bad_image = resolve::on_bad_image(arguments.on_bad_image);
    let manifest = start::manifest(&arguments.data, None, on_bad_image, arguments.anonymous.as_deref())?;
    let mut engine = EngineSettings::default();
    arguments.image_cache.apply(&mut engine);
    let cache = image_cache::open(&engine);
    let progress = Count::of_images("looking at", manifest.rows.len());
    let examination = examine(&manifest, threads, cache.as_deref(), |done| progress.done(done))?;
    drop(progress);
    let progress = Count::of_images("looking for copies among", examination.images.len());
    let likenesses: Vec<_> = examination.images.iter().map(|image| &image.look.likeness).collect();
    let search = near_duplicates(&likenesses, threads, |done| progress.done(done))?;
    drop(progress);

    let same_pixels = identical(examination.images.iter().map(|image| (image.row, image.look.pixels)));
    let mut audit = findings::audit(&manifest, &examination, &same_pixels, &search)?;
    audit.data_fingerprint = Some(manifest.fingerprint()?);
    if let Some(path) = &arguments.html {
        audit.write_page(path, &pictures::of_pairs(&manifest, &audit)?)?;
        eprintln!("wrote {}", path.display());
    }
    let mut out = std::io::stdout().lock();
    if arguments.json {
        serde_json::to_writer_pretty(&mut out, &audit).map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else {
        write!(out, "{}", audit.to_text())?;
    }
    drop(out);
    let grave = |level: Level| audit.findings.iter().filter(|finding| finding.level == level).count();
    let (leaks, errors) = (grave(Level::Leak), grave(Level::Error));
    if leaks + errors == 0 {
        return every_split_was_seen(&manifest, &examination);
    }
    Err(Failure::work(format!(
        "{}: kinds of leaks: {leaks}, kinds of contradicting labels: {errors}; move or remove the images listed above",
        arguments.data.display()
    )))
}

/// Of a split of which no image is there or could be decoded nothing is known, least of all that it does not leak.
fn every_split_was_seen(manifest: &Manifest, examination: &Examination) -> Outcome {
    let place = manifest.place().display();
    if let [split, ..] = manifest.absent_splits[..] {
        return Err(Failure::work(format!(
            "{place}: no image of the {split} split is there, so that nothing can be said of leaks; see above"
        )));
    }
    for split in Split::ALL.into_iter().chain([Split::Unassigned]) {
        let rows = manifest.rows_of(split).len();
        let seen = examination.images.iter().any(|image| manifest.rows[image.row].split == split);
        if rows > 0 && !seen {
            return Err(Failure::work(format!(
                "{place}: no image of the {split} split can be decoded ({rows} there), so that nothing can be said of leaks; see above"
            )));
        }
    }
    Ok(())
}
