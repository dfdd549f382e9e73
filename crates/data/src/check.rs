//! Decodes images to see which are bad, before hours of work depend on them.

use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::cache::ImageCache;
use crate::decode::{Limits, decode};
use crate::error::DataError;
use crate::manifest::Manifest;

/// Decodes the images of `rows` on `threads` threads and returns those that cannot be, in the order of `rows`; with a
/// `cache`, for networks of an image size, they are decoded into it, and those that are there already are not decoded.
/// `progress` is called after each image with the number done so far, from any of the threads.
///
/// # Errors
/// [`DataError::Setting`] or [`DataError::Threads`] where the threads cannot be started. A bad image is no error here.
pub fn check_images(
    manifest: &Manifest,
    rows: &[usize],
    threads: usize,
    cache: Option<(&ImageCache, usize)>,
    progress: impl Fn(usize) + Sync,
) -> Result<Vec<(usize, DataError)>, DataError> {
    let limits = Limits::default();
    let done = AtomicUsize::new(0);
    let check = |&row: &usize| {
        let path = manifest.path_of(row);
        let outcome = match cache {
            Some((cache, image_size)) => cache.read(&path, &limits, image_size),
            None => decode(&path, &limits),
        };
        progress(done.fetch_add(1, Ordering::Relaxed) + 1);
        outcome.err().map(|error| (row, error))
    };
    Ok(image_threads(threads)?.install(|| rows.par_iter().filter_map(check).collect()))
}

/// A pool of its own: what the rest of the program does on its threads does not delay it, nor the other way round.
pub(crate) fn image_threads(threads: usize) -> Result<ThreadPool, DataError> {
    if threads == 0 {
        return Err(DataError::Setting { setting: "threads", found: "0".to_owned(), expected: "at least 1" });
    }
    ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|index| format!("images-{index}"))
        .build()
        .map_err(|error| DataError::Threads { threads, detail: error.to_string() })
}
