//! `roentgen bench --data`: how fast images become tensors, from their files and from the cache.

use super::measure::median;
use crate::arguments::{AugmentKind, Bench};
use crate::failure::{Failure, Outcome};
use crate::image_cache::open_folder;
use crate::progress::Count;
use crate::resolve;
use crate::wording::counted;
use clap::Args;
use roentgen_cpu::CpuEngine;
use roentgen_data::{DataError, ImageCache, Transform, load_image};
use roentgen_run::config::DataSettings;
use roentgen_run::draw::{Purpose, stream};
use serde::Serialize;
use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

/// What is measured instead of a network.
#[derive(Debug, Args)]
pub struct DataArguments {
    /// Measure instead how fast these image files become tensors, from the files and from a cache of decoded images
    #[arg(long, value_name = "FILE", num_args = 1..)]
    #[arg(conflicts_with_all = ["arch", "batch_size", "unfreeze", "precision", "exact", "layers"])]
    pub data: Vec<PathBuf>,
    /// Augmentation, for --data
    #[arg(long, value_name = "KIND", default_value = "seed", requires = "data")]
    pub augment: AugmentKind,
}

/// The object that `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    /// Image files.
    files: usize,
    augment: &'static str,
    /// Side of the tensors in pixels.
    image_size: usize,
    threads: usize,
    /// Reading, decoding, and the transform.
    decode: Speed,
    /// The same from a cache that holds all of them, in the first pass of a process: each file is read once, to know its
    /// content.
    cached_first_pass: Speed,
    /// And in every later pass.
    cached: Speed,
}

#[derive(Debug, Serialize)]
struct Speed {
    /// Of the median round.
    images_per_s: f64,
    /// Of the fastest round.
    best_images_per_s: f64,
}

/// Runs the command.
pub fn run(arguments: &Bench) -> Outcome {
    let DataArguments { data: files, augment } = &arguments.data;
    let threads = arguments.threads.unwrap_or_else(CpuEngine::available_threads);
    if threads == 0 || arguments.image_size == 0 {
        return Err(Failure::call("--threads and --image-size: expected at least 1"));
    }
    let settings = DataSettings { augment: resolve::augmentation(*augment), ..DataSettings::default() };
    let transform = Transform { image_size: arguments.image_size, augment: roentgen_train::augment(&settings) };
    let folder = tempfile::tempdir()?;
    let cache = open_folder(folder.path(), u64::MAX);
    let passes = Passes { files, transform, threads, rounds: arguments.rounds };
    let decode = passes.measure("files", |round| passes.pass(round, None))?;
    let cached = passes.measure("cache", |round| passes.pass(round, Some(&cache)))?;
    // What a process knows of its files is in the cache that it has opened.
    let anew = |round| passes.pass(round, Some(&open_folder(folder.path(), u64::MAX)));
    let report = Report {
        files: files.len(),
        augment: match augment {
            AugmentKind::None => "none",
            AugmentKind::Seed => "seed",
            AugmentKind::Cxr => "cxr",
        },
        image_size: arguments.image_size,
        threads,
        decode,
        cached_first_pass: passes.measure("cache, first pass of a process", anew)?,
        cached,
    };
    let mut out = std::io::stdout().lock();
    if arguments.json {
        serde_json::to_writer(&mut out, &report).map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else {
        let Report { files, augment, image_size, threads, .. } = report;
        let (files, threads) = (counted(files, "file", "files"), counted(threads, "thread", "threads"));
        writeln!(out, "{files} to {image_size} x {image_size} px, augmentation {augment}, {threads}\n")?;
        let Report { decode, cached_first_pass, cached, .. } = &report;
        writeln!(out, "                        images/s      best")?;
        for (name, speed) in
            [("from files", decode), ("from cache, first pass", cached_first_pass), ("from cache", cached)]
        {
            writeln!(out, "{name:22}  {:>8.1}  {:>8.1}", speed.images_per_s, speed.best_images_per_s)?;
        }
    }
    Ok(())
}

/// Passes over all files, spread over threads.
struct Passes<'a> {
    files: &'a [PathBuf],
    transform: Transform,
    threads: usize,
    rounds: usize,
}

impl Passes<'_> {
    fn measure(&self, what: &str, pass: impl Fn(u64) -> Result<(), DataError>) -> Outcome<Speed> {
        eprintln!("measuring images from {what}");
        let progress = Count::new("measuring", "rounds", self.rounds + 1);
        let mut seconds = Vec::with_capacity(self.rounds);
        // The first round meets the disk, and fills the cache.
        for round in 0..=self.rounds {
            let begun = Instant::now();
            pass(round as u64)?;
            if round > 0 {
                seconds.push(begun.elapsed().as_secs_f64());
            }
            progress.one_more();
        }
        drop(progress);
        let best = seconds.iter().copied().fold(f64::INFINITY, f64::min);
        let images = self.files.len() as f64;
        Ok(Speed { images_per_s: images / median(&seconds), best_images_per_s: images / best })
    }

    fn pass(&self, epoch: u64, cache: Option<&ImageCache>) -> Result<(), DataError> {
        let part = |first: usize| -> Result<(), DataError> {
            let mut tensor = vec![0.0; self.transform.tensor_len()];
            for (item, file) in self.files.iter().enumerate().skip(first).step_by(self.threads) {
                let random = || stream(0, Purpose::Augment, epoch, item as u64);
                load_image(file, &self.transform, cache, random, &mut tensor)?;
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let parts: Vec<_> = (0..self.threads).map(|first| scope.spawn(move || part(first))).collect();
            // A panic in a decoder is a defect, here as anywhere.
            parts.into_iter().try_for_each(|part| part.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })
    }
}
