//! `roentgen audit`

mod findings;
mod pictures;
mod shortcuts;

use crate::failure::{Failure, Outcome};
use crate::{progress, start};
use clap::Args;
use roentgen_cpu::CpuEngine;
use roentgen_data::audit::{examine, identical, near_duplicates};
use roentgen_report::audit::Level;
use roentgen_run::config::OnBadImage;
use std::io::Write;
use std::path::PathBuf;

/// `roentgen audit`
#[derive(Debug, Args)]
pub struct Audit {
    /// Folder with train/, validation/ and test/, each with a folder a class
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Print the findings as JSON
    #[arg(long)]
    pub json: bool,
    /// Write a page with the findings and the pictures of the pairs, one self-contained file
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Threads [default: all cores]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
}

/// Runs the command.
pub fn run(arguments: &Audit) -> Outcome {
    let threads = arguments.threads.unwrap_or_else(CpuEngine::available_threads);
    if threads == 0 {
        return Err(Failure::call("--threads is 0; expected at least 1"));
    }
    let manifest = start::manifest(&arguments.data, None, OnBadImage::Fail, None)?;
    let bar = progress::bar(manifest.rows.len() as u64, "looking at images {wide_bar} {pos}/{len}");
    let examination = examine(&manifest, threads, |done| bar.set_position(done as u64))?;
    bar.finish_and_clear();
    let bar = progress::bar(examination.images.len() as u64, "looking for copies {wide_bar} {pos}/{len}");
    let likenesses: Vec<_> = examination.images.iter().map(|image| &image.likeness).collect();
    let search = near_duplicates(&likenesses, threads, |done| bar.set_position(done as u64))?;
    bar.finish_and_clear();

    let same_pixels = identical(examination.images.iter().map(|image| (image.row, image.pixels)));
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
        return Ok(());
    }
    Err(Failure::work(format!(
        "{}: kinds of leaks: {leaks}, kinds of contradicting labels: {errors}; move or remove the images listed above",
        arguments.data.display()
    )))
}
