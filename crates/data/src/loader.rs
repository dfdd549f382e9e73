//! Batches of tensors, decoded on threads ahead of the one that trains.
//!
//! A thread of the loader makes the batches in order, spreading the images of a batch over a pool; a bounded channel
//! holds those that are ready. What a batch contains is a function of its rows, the seed and the epoch: neither the
//! number of threads nor what they happen to do first can be seen in it.

use std::panic::resume_unwind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::Instant;

use rand::RngExt;
use rand::seq::SliceRandom;
use rayon::ThreadPool;
use rayon::prelude::*;
use roentgen_run::draw::{ChaCha8Rng, Purpose, stream};

use crate::cache::ImageCache;
use crate::check::image_threads;
use crate::decode::{Limits, decode};
use crate::error::DataError;
use crate::manifest::Manifest;
use crate::transform::{Augment, Transform};

/// What to load, and how far ahead.
#[derive(Clone, Debug)]
pub struct LoaderRequest {
    /// The data set.
    pub manifest: Arc<Manifest>,
    /// Rows of the manifest, in the order in which they come out; see [`epoch_order`] and [`balanced_order`].
    pub rows: Vec<usize>,
    /// Images of a batch, at least 1; the last batch may be smaller.
    pub batch_size: usize,
    /// From an image to a tensor.
    pub transform: Transform,
    /// Where decoded images are kept; they are decoded each time where absent. It changes no bit of a batch.
    pub cache: Option<Arc<ImageCache>>,
    /// The run's seed, for the augmentation.
    pub seed: u64,
    /// The epoch, for the augmentation.
    pub epoch: u64,
    /// Threads that decode, at least 1.
    pub threads: usize,
    /// Batches that may wait for the consumer, at least 1; one more is being made.
    pub batches_ahead: usize,
}

/// Some images of a data set, ready for the network.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Normalised images, `[N, 3, S, S]`.
    pub images: Vec<f32>,
    /// Class of each image, `[N]`.
    pub labels: Vec<usize>,
    /// Row in the manifest of each image, `[N]`.
    pub rows: Vec<usize>,
}

/// An iterator over the batches of one pass through the rows. Dropping it stops its threads, after at most the images
/// that they are decoding at that moment.
#[derive(Debug)]
pub struct Loader {
    /// `None` once the last batch or an error has come out.
    ready: Option<Receiver<Result<Batch, DataError>>>,
    used: Sender<Batch>,
    cancelled: Arc<AtomicBool>,
    maker: Option<JoinHandle<()>>,
    waited_s: f64,
}

impl Loader {
    /// Starts the threads, which begin with the first batches at once.
    ///
    /// # Errors [`DataError::Setting`] where the batch size, the threads, the batches ahead or the image size are 0, or
    /// a row is not in the manifest; [`DataError::Threads`] where the operating system gives none.
    pub fn start(request: LoaderRequest) -> Result<Loader, DataError> {
        for (setting, value) in [
            ("batch size", request.batch_size),
            ("batches ahead", request.batches_ahead),
            ("image size", request.transform.image_size),
        ] {
            if value == 0 {
                return Err(DataError::Setting { setting, found: "0".to_owned(), expected: "at least 1" });
            }
        }
        if let Some(row) = request.rows.iter().find(|&&row| row >= request.manifest.rows.len()) {
            let expected = "a row of the manifest";
            return Err(DataError::Setting { setting: "row", found: row.to_string(), expected });
        }
        let pool = image_threads(request.threads)?;
        let (ready_sender, ready) = sync_channel(request.batches_ahead);
        let (used, used_receiver) = channel();
        let cancelled = Arc::new(AtomicBool::new(false));
        let maker = {
            let cancelled = Arc::clone(&cancelled);
            let threads = request.threads;
            std::thread::Builder::new()
                .name("batches".to_owned())
                .spawn(move || make_batches(&request, &pool, &cancelled, &ready_sender, &used_receiver))
                .map_err(|error| DataError::Threads { threads, detail: error.to_string() })?
        };
        Ok(Loader { ready: Some(ready), used, cancelled, maker: Some(maker), waited_s: 0.0 })
    }

    /// Gives a batch back, so that its memory is used for a later one.
    pub fn recycle(&self, batch: Batch) {
        // After the last batch nobody takes it any more, and it is simply freed.
        let _ = self.used.send(batch);
    }

    /// Seconds that [`Iterator::next`] has spent waiting for images: 0 where loading keeps up with the consumer.
    pub fn waited_s(&self) -> f64 {
        self.waited_s
    }
}

impl Iterator for Loader {
    type Item = Result<Batch, DataError>;

    /// The next batch, or the error of the first image in it that cannot be read; after an error comes nothing more.
    fn next(&mut self) -> Option<Self::Item> {
        let started = Instant::now();
        let received = self.ready.as_ref()?.recv();
        self.waited_s += started.elapsed().as_secs_f64();
        if !matches!(received, Ok(Ok(_))) {
            self.ready = None;
        }
        if received.is_err()
            && let Some(Err(panic)) = self.maker.take().map(JoinHandle::join)
        {
            // A defect in a decoder: it must not look like the end of the data.
            resume_unwind(panic);
        }
        received.ok()
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::Relaxed);
        // Wakes a maker that waits for room.
        self.ready = None;
        if let Some(maker) = self.maker.take() {
            // A panic in it has nothing left to disturb.
            let _ = maker.join();
        }
    }
}

fn make_batches(
    request: &LoaderRequest,
    pool: &ThreadPool,
    cancelled: &AtomicBool,
    ready: &SyncSender<Result<Batch, DataError>>,
    used: &Receiver<Batch>,
) {
    for rows in request.rows.chunks(request.batch_size) {
        let mut batch = used.try_recv().unwrap_or_default();
        batch.rows.clear();
        batch.rows.extend_from_slice(rows);
        batch.labels.clear();
        batch.labels.extend(rows.iter().map(|&row| request.manifest.rows[row].label));
        batch.images.resize(rows.len() * request.transform.tensor_len(), 0.0);
        let outcome = pool.install(|| fill(request, cancelled, &mut batch));
        let failed = outcome.is_err();
        if cancelled.load(Ordering::Relaxed) || ready.send(outcome.map(|()| batch)).is_err() || failed {
            return;
        }
    }
}

/// Decodes and transforms the rows of `batch` into its images. All images of the batch are tried, so that the error is
/// that of its first bad row, whichever thread meets one first.
fn fill(request: &LoaderRequest, cancelled: &AtomicBool, batch: &mut Batch) -> Result<(), DataError> {
    let outcomes: Vec<Result<(), DataError>> = batch
        .images
        .par_chunks_exact_mut(request.transform.tensor_len())
        .zip(&batch.rows)
        .map(|(tensor, &row)| {
            if cancelled.load(Ordering::Relaxed) {
                return Ok(());
            }
            let path = request.manifest.path_of(row);
            let random = || stream(request.seed, Purpose::Augment, request.epoch, row as u64);
            load_image(&path, &request.transform, request.cache.as_deref(), random, tensor)
        })
        .collect();
    outcomes.into_iter().collect()
}

/// From an image file, or its entry in `cache`, to the tensor `[3, S, S]` in `out`. `random` makes the generator of an
/// augmentation, and is not called where there is none.
///
/// # Errors
/// As [`decode`].
///
/// # Panics
/// Where `out` does not have [`Transform::tensor_len`] elements.
pub fn load_image(
    path: &Path,
    transform: &Transform,
    cache: Option<&ImageCache>,
    random: impl FnOnce() -> ChaCha8Rng,
    out: &mut [f32],
) -> Result<(), DataError> {
    let limits = Limits::default();
    let image = match cache {
        Some(cache) => cache.read(path, &limits, transform.image_size)?,
        None => decode(path, &limits)?,
    };
    let mut random = match transform.augment {
        Augment::None => None,
        Augment::Seed | Augment::Cxr(_) => Some(random()),
    };
    transform.apply(&image, random.as_mut(), out);
    Ok(())
}

/// The order of the rows in an epoch: as given, or shuffled by (seed, epoch) alone.
pub fn epoch_order(rows: &[usize], seed: u64, epoch: u64, shuffle: bool) -> Vec<usize> {
    let mut order = rows.to_vec();
    if shuffle {
        order.shuffle(&mut stream(seed, Purpose::Shuffle, epoch, 0));
    }
    order
}

/// As many rows as there are, drawn with replacement so that every class comes with the same probability, and every row
/// of a class too: a class uniformly, then one of its rows. A function of (seed, epoch) alone. `label` gives the class
/// of a row. (`torch.utils.data.WeightedRandomSampler` with weights of 1 / images of the class.)
pub fn balanced_order(rows: &[usize], label: impl Fn(usize) -> usize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut of_class: Vec<Vec<usize>> = Vec::new();
    for &row in rows {
        let class = label(row);
        of_class.resize_with(of_class.len().max(class + 1), Vec::new);
        of_class[class].push(row);
    }
    of_class.retain(|rows| !rows.is_empty());
    // The item tells these draws from those of a shuffle.
    let mut random = stream(seed, Purpose::Shuffle, epoch, 1);
    let mut draw = || {
        let rows = &of_class[random.random_range(0..of_class.len())];
        rows[random.random_range(0..rows.len())]
    };
    rows.iter().map(|_| draw()).collect()
}
