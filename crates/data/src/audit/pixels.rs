//! Images whose pixels are identical, whatever their files are called and however they are stored.

use crate::cache::ImageCache;
use crate::check::image_threads;
use crate::decode::{Limits, decode};
use crate::error::DataError;
use crate::manifest::Manifest;
use crate::raster::{Image, Raster};
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

/// SHA-256 over the size and the decoded pixels of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PixelDigest([u8; 32]);

impl PixelDigest {
    pub(crate) fn from_bytes(bytes: [u8; 32]) -> PixelDigest {
        PixelDigest(bytes)
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Of a decoded image. A grey image has the same digest whether it was stored grey or in colour.
    pub fn of(image: &Image) -> PixelDigest {
        let mut hash = Sha256::new();
        let mut begin = |kind: u8| {
            hash.update([kind]);
            hash.update((image.width() as u64).to_le_bytes());
            hash.update((image.height() as u64).to_le_bytes());
        };
        match image {
            Image::Gray8(raster) => {
                begin(0);
                hash.update(raster.samples());
            }
            Image::Gray16(raster) => {
                begin(1);
                add_wide(&mut hash, raster);
            }
            Image::Rgb8(raster) => {
                begin(2);
                hash.update(raster.samples());
            }
        }
        PixelDigest(hash.finalize().into())
    }
}

fn add_wide(hash: &mut Sha256, raster: &Raster<u16, 1>) {
    let mut bytes = Vec::with_capacity(2 * raster.width());
    for y in 0..raster.height() {
        bytes.clear();
        bytes.extend(raster.row(y).iter().flat_map(|sample| sample.to_le_bytes()));
        hash.update(&bytes);
    }
}

/// What is kept of an image that was looked at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Glance {
    /// Tells whether another image has the same pixels.
    pub pixels: PixelDigest,
    /// See [`Image::is_dim`].
    pub dim: bool,
}

/// Decodes every image on `threads` threads: what was seen, or why it cannot be decoded, in the order of the rows. With a
/// `cache`, for networks of an image size, what is there already is not decoded, and the rest is kept there.
/// `progress` is called after each image with the number done so far, from any of the threads.
///
/// # Errors
/// [`DataError::Setting`] or [`DataError::Threads`] where the threads cannot be started. A bad image is no error here.
pub fn glances(
    manifest: &Manifest,
    threads: usize,
    cache: Option<(&ImageCache, usize)>,
    progress: impl Fn(usize) + Sync,
) -> Result<Vec<Result<Glance, DataError>>, DataError> {
    let done = AtomicUsize::new(0);
    let look = |row: usize| {
        let (path, limits) = (manifest.path_of(row), Limits::default());
        let outcome = match cache {
            Some((cache, image_size)) => cache.glance(&path, &limits, image_size),
            None => decode(&path, &limits).map(|image| Glance { pixels: PixelDigest::of(&image), dim: image.is_dim() }),
        };
        progress(done.fetch_add(1, Ordering::Relaxed) + 1);
        outcome
    };
    Ok(image_threads(threads)?.install(|| (0..manifest.rows.len()).into_par_iter().map(look).collect()))
}

/// Groups of at least two rows with the same pixels; rows ascend within a group, groups by their first row.
pub fn identical(digests: impl IntoIterator<Item = (usize, PixelDigest)>) -> Vec<Vec<usize>> {
    let mut rows_of: BTreeMap<PixelDigest, Vec<usize>> = BTreeMap::new();
    for (row, digest) in digests {
        rows_of.entry(digest).or_default().push(row);
    }
    let mut groups: Vec<Vec<usize>> = rows_of.into_values().filter(|rows| rows.len() > 1).collect();
    groups.iter_mut().for_each(|rows| rows.sort_unstable());
    groups.sort_unstable();
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_count_and_their_order_does() {
        let grey = |width, height, samples: &[u8]| Image::Gray8(Raster::new(width, height, samples.to_vec()).unwrap());
        let images = [
            grey(2, 2, &[1, 2, 3, 4]),
            grey(2, 2, &[2, 1, 4, 3]),
            grey(4, 1, &[1, 2, 3, 4]),
            Image::from_rgb(Raster::new(2, 2, vec![1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]).unwrap()),
            Image::Gray16(Raster::new(2, 1, vec![0x0201, 0x0403]).unwrap()),
        ];
        let digests = images.iter().map(PixelDigest::of).enumerate();
        assert_eq!(identical(digests), [[0, 3]]);
    }
}
