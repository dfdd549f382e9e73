//! One look at every image of a data set.

use super::look::Look;
use crate::cache::ImageCache;
use crate::check::image_threads;
use crate::decode::{Limits, read_file};
use crate::error::DataError;
use crate::manifest::Manifest;
use rayon::prelude::*;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What was seen of an image.
#[derive(Clone, Debug)]
pub struct Examined {
    /// The image's row in the manifest.
    pub row: usize,
    /// What was seen.
    pub look: Look,
}

/// What was seen of a data set.
#[derive(Debug)]
pub struct Examination {
    /// The images that can be decoded, by row.
    pub images: Vec<Examined>,
    /// The rows of the others, with why.
    pub bad: Vec<(usize, DataError)>,
}

/// Reads and decodes each image once, on `threads` threads; what an audit has seen before is in the `cache`. `progress` is
/// called after each with the number done so far, from any of the threads.
///
/// # Errors
/// [`DataError::Setting`] or [`DataError::Threads`] where the threads cannot be started. A bad image is no error here.
pub fn examine(
    manifest: &Manifest,
    threads: usize,
    cache: Option<&ImageCache>,
    progress: impl Fn(usize) + Sync,
) -> Result<Examination, DataError> {
    let limits = Limits::default();
    let done = AtomicUsize::new(0);
    let look = |row: usize| {
        let path = manifest.path_of(row);
        let seen = match cache {
            Some(cache) => cache.look(&path, &limits),
            None => read_file(&path, &limits).and_then(|bytes| Look::at(&path.display().to_string(), &bytes, &limits)),
        };
        progress(done.fetch_add(1, Ordering::Relaxed) + 1);
        (row, seen)
    };
    let seen: Vec<(usize, Result<Look, DataError>)> =
        image_threads(threads)?.install(|| (0..manifest.rows.len()).into_par_iter().map(look).collect());
    let mut examination = Examination { images: Vec::with_capacity(seen.len()), bad: Vec::new() };
    for (row, outcome) in seen {
        match outcome {
            Ok(look) => examination.images.push(Examined { row, look }),
            Err(error) => examination.bad.push((row, error)),
        }
    }
    Ok(examination)
}
