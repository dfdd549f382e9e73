//! One look at every image of a data set.

use super::likeness::Likeness;
use super::pixels::PixelDigest;
use super::stored::Stored;
use crate::check::image_threads;
use crate::decode::{Limits, decode_bytes, read_file};
use crate::error::DataError;
use crate::manifest::Manifest;
use rayon::prelude::*;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What was seen of an image.
#[derive(Clone, Debug)]
pub struct Examined {
    /// The image's row in the manifest.
    pub row: usize,
    /// How it is stored.
    pub stored: Stored,
    /// Tells whether another image has the same pixels.
    pub pixels: PixelDigest,
    /// Tells whether another image is an altered copy.
    pub likeness: Likeness,
}

/// What was seen of a data set.
#[derive(Debug)]
pub struct Examination {
    /// The images that can be decoded, by row.
    pub images: Vec<Examined>,
    /// The rows of the others, with why.
    pub bad: Vec<(usize, DataError)>,
}

/// Reads and decodes each image once, on `threads` threads. `progress` is called after each with the number done so
/// far, from any of the threads.
///
/// # Errors
/// [`DataError::Setting`] or [`DataError::Threads`] where the threads cannot be started. A bad image is no error here.
pub fn examine(manifest: &Manifest, threads: usize, progress: impl Fn(usize) + Sync) -> Result<Examination, DataError> {
    let done = AtomicUsize::new(0);
    let look = |row: usize| {
        let seen = look_at(manifest, row);
        progress(done.fetch_add(1, Ordering::Relaxed) + 1);
        seen.map_err(|error| (row, error))
    };
    let seen: Vec<Result<Examined, (usize, DataError)>> =
        image_threads(threads)?.install(|| (0..manifest.rows.len()).into_par_iter().map(look).collect());
    let mut examination = Examination { images: Vec::with_capacity(seen.len()), bad: Vec::new() };
    for outcome in seen {
        match outcome {
            Ok(image) => examination.images.push(image),
            Err(bad) => examination.bad.push(bad),
        }
    }
    Ok(examination)
}

fn look_at(manifest: &Manifest, row: usize) -> Result<Examined, DataError> {
    let limits = Limits::default();
    let path = manifest.path_of(row);
    let bytes = read_file(&path, &limits)?;
    let image = decode_bytes(&path.display().to_string(), &bytes, &limits)?;
    Ok(Examined {
        row,
        stored: Stored::new(&bytes, &image),
        pixels: PixelDigest::of(&image),
        likeness: Likeness::of(&image),
    })
}
