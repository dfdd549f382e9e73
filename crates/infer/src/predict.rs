//! Running a model over images.

use crate::ahead::in_order;
use crate::compiled::Compiled;
use roentgen_data::{Augment, DataError, ImageCache, Limits, Loader, LoaderRequest, Manifest, Transform, decode_frame};
use roentgen_nn::loss::{cross_entropy, softmax};
use roentgen_nn::{
    Arithmetic, CompileRequest, Engine, EngineError, FreezePlan, Mode, Network, ParameterSet, ParameterStore, Precision,
};
use roentgen_run::config;
use roentgen_run::predictions::{Prediction, largest};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;

/// Images in one forward pass of evaluation, where memory suffices: no result depends on it.
pub(crate) const BATCH: usize = 16;

/// Why a prediction failed.
#[derive(Debug, thiserror::Error)]
pub enum InferError {
    /// An image or a data set.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// The logits of one row of a manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct RowLogits {
    /// Row in the manifest.
    pub row: usize,
    /// One logit a class.
    pub logits: Vec<f32>,
}

impl RowLogits {
    /// Probabilities, predicted class and loss, as a line of a predictions table.
    pub fn to_prediction(&self, manifest: &Manifest, label: Option<usize>) -> Prediction {
        let row = &manifest.rows[self.row];
        let parts: Vec<_> = row.path.components().map(|part| part.as_os_str().to_string_lossy()).collect();
        Prediction {
            path: parts.join("/"),
            patient_id: row.patient_id.clone(),
            label,
            predicted: largest(&self.logits),
            probabilities: softmax(&self.logits).into_iter().map(|p| p as f32).collect(),
            loss: label.map(|label| cross_entropy(&self.logits, label) as f32),
        }
    }
}

/// A model's answer for one file.
#[derive(Clone, Debug, PartialEq)]
pub struct FilePrediction {
    /// The file.
    pub path: PathBuf,
    /// One logit a class.
    pub logits: Vec<f32>,
    /// One probability a class.
    pub probabilities: Vec<f32>,
    /// Index of the class of the largest logit.
    pub predicted: usize,
}

impl FilePrediction {
    /// Probabilities and class from logits.
    pub fn new(path: PathBuf, logits: Vec<f32>) -> FilePrediction {
        let probabilities = softmax(&logits).into_iter().map(|p| p as f32).collect();
        FilePrediction { path, probabilities, predicted: largest(&logits), logits }
    }
}

/// What an engine is asked for where a configuration says `precision` and `exact`.
pub fn arithmetic(precision: config::Precision, exact: bool) -> Arithmetic {
    let precision = match precision {
        config::Precision::F32 => Precision::F32,
        config::Precision::Bf16 => Precision::Bf16,
    };
    Arithmetic { precision, exact }
}

/// A compiled network in evaluation mode.
pub struct Predictor {
    pub(crate) compiled: Compiled,
    transform: Transform,
    threads: usize,
    image_cache: Option<Arc<ImageCache>>,
}

impl Predictor {
    /// Compiles a network for evaluation. Decoding uses as many threads as the engine.
    ///
    /// # Errors
    /// Where the memory does not suffice.
    pub fn new(
        engine: &dyn Engine,
        network: &Network,
        arithmetic: Arithmetic,
        memory_limit_bytes: Option<usize>,
    ) -> Result<Predictor, EngineError> {
        Predictor::for_images(engine, network, arithmetic, memory_limit_bytes, usize::MAX)
    }

    /// As [`Predictor::new`], for `images` images in all: a few are answered sooner, with the same bits.
    ///
    /// # Errors
    /// Where the memory does not suffice.
    pub fn for_images(
        engine: &dyn Engine,
        network: &Network,
        arithmetic: Arithmetic,
        memory_limit_bytes: Option<usize>,
        images: usize,
    ) -> Result<Predictor, EngineError> {
        let plan = FreezePlan::frozen(network);
        let mut request = CompileRequest::whole(network, &plan, Mode::Evaluate, images.clamp(1, BATCH));
        request.arithmetic = arithmetic;
        request.memory_limit_bytes = memory_limit_bytes;
        request.single_pass = images <= BATCH;
        Ok(Predictor {
            compiled: Compiled::new(engine, request)?,
            transform: Transform { image_size: network.image_size(), augment: Augment::None },
            threads: engine.threads(),
            image_cache: None,
        })
    }

    /// Takes the images of a manifest from a cache where there is one, and keeps them there.
    pub fn with_image_cache(self, image_cache: Option<Arc<ImageCache>>) -> Predictor {
        Predictor { image_cache, ..self }
    }

    /// Images that go through the network at once.
    pub fn batch_size(&self) -> usize {
        self.compiled.batch
    }

    /// Logits `[N, K]` of images that are already the network's input, `[N, 3, S, S]`, normalised: as many as wanted.
    ///
    /// # Errors
    /// Where the engine fails.
    pub fn logits(&mut self, store: &mut ParameterStore, images: &[f32]) -> Result<Vec<f32>, EngineError> {
        let mut logits = Vec::new();
        for batch in images.chunks(self.compiled.batch * self.transform.tensor_len()) {
            logits.extend(self.compiled.logits(store, ParameterSet::Live, batch)?);
        }
        Ok(logits)
    }

    /// Runs over rows of a manifest, in order; `progress` is told how many are done, and may ask to stop by `false`.
    ///
    /// # Errors
    /// For the first image that cannot be decoded.
    pub fn rows(
        &mut self,
        store: &mut ParameterStore,
        set: ParameterSet,
        manifest: &Arc<Manifest>,
        rows: Vec<usize>,
        mut progress: impl FnMut(usize) -> bool,
    ) -> Result<Vec<RowLogits>, InferError> {
        let mut results = Vec::new();
        let (batch, transform, cache) = (self.compiled.batch, self.transform, self.image_cache.clone());
        over_rows(manifest, rows, batch, transform, cache, self.threads, |images, rows| {
            let logits = self.compiled.logits(store, set, images)?;
            let by_row = logits.chunks_exact(self.compiled.classes);
            results.extend(rows.iter().zip(by_row).map(|(&row, logits)| RowLogits { row, logits: logits.to_vec() }));
            Ok(progress(results.len()))
        })?;
        Ok(results)
    }

    /// Runs over files, in order, and hands each answer or the reason for none to `deliver`, which may ask to stop by
    /// `false`. `frame` chooses one, counted from 1, of files that have several.
    ///
    /// # Errors
    /// Where the engine fails; a file that cannot be decoded is an answer, not an error.
    pub fn files(
        &mut self,
        store: &mut ParameterStore,
        paths: &[PathBuf],
        frame: Option<NonZeroU32>,
        mut deliver: impl FnMut(Result<FilePrediction, (PathBuf, DataError)>) -> bool,
    ) -> Result<(), EngineError> {
        let (transform, batch) = (self.transform, self.compiled.batch);
        let decoded = |number: usize| {
            let image = decode_frame(&paths[number], &Limits::default(), frame)?;
            let mut tensor = vec![0.0; transform.tensor_len()];
            transform.apply(&image, None, &mut tensor);
            Ok(tensor)
        };
        // What the network works on next is decoded meanwhile, by every thread.
        let ahead = batch.max(2 * self.threads);
        let mut waiting = Vec::with_capacity(batch);
        let mut outcome = Ok(true);
        in_order(paths.len(), self.threads, ahead, decoded, |number, result| {
            waiting.push(result);
            if waiting.len() < batch && number + 1 < paths.len() {
                return true;
            }
            let first = number + 1 - waiting.len();
            outcome = self.answer(store, &paths[first..=number], &mut waiting, &mut deliver);
            matches!(outcome, Ok(true))
        });
        outcome.map(|_| ())
    }

    /// Runs over the images of a batch that could be decoded, and delivers what became of all; whether more is wanted.
    fn answer(
        &mut self,
        store: &mut ParameterStore,
        paths: &[PathBuf],
        decoded: &mut Vec<Result<Vec<f32>, DataError>>,
        deliver: &mut impl FnMut(Result<FilePrediction, (PathBuf, DataError)>) -> bool,
    ) -> Result<bool, EngineError> {
        let mut images = Vec::new();
        decoded.iter().flatten().for_each(|tensor| images.extend_from_slice(tensor));
        let logits = match images.is_empty() {
            true => Vec::new(),
            false => self.compiled.logits(store, ParameterSet::Live, &images)?,
        };
        let mut answers = logits.chunks_exact(self.compiled.classes);
        let goes_on = paths.iter().zip(decoded.drain(..)).all(|(path, result)| {
            deliver(match result {
                Ok(_) => {
                    let logits = answers.next().expect("one row of logits for each decoded image").to_vec();
                    Ok(FilePrediction::new(path.clone(), logits))
                }
                Err(error) => Err((path.clone(), error)),
            })
        });
        Ok(goes_on)
    }
}

/// Hands rows of a manifest, decoded ahead, to `act` in batches, in order: images `[N, 3, S, S]`, normalised, and row
/// numbers, until it says `false`.
///
/// # Errors
/// For the first image that cannot be decoded, and where `act` fails.
pub(crate) fn over_rows(
    manifest: &Arc<Manifest>,
    rows: Vec<usize>,
    batch_size: usize,
    transform: Transform,
    cache: Option<Arc<ImageCache>>,
    threads: usize,
    mut act: impl FnMut(&[f32], &[usize]) -> Result<bool, EngineError>,
) -> Result<(), InferError> {
    let mut loader = Loader::start(LoaderRequest {
        manifest: manifest.clone(),
        rows,
        batch_size,
        transform,
        cache,
        seed: 0,
        epoch: 0,
        threads,
        batches_ahead: 2,
    })?;
    while let Some(batch) = loader.next() {
        let batch = batch?;
        let goes_on = act(&batch.images, &batch.rows)?;
        loader.recycle(batch);
        if !goes_on {
            break;
        }
    }
    Ok(())
}
