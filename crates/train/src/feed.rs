//! What training programs are fed with: for batches of rows, the images or the values at cuts behind a frozen prefix.
//!
//! Several runs that agree in data, augmentation and frozen prefix take their values from one feed: an image is decoded
//! once, and one prefix program computes the longest of their prefixes, tapped where each of them is cut. Where no
//! random draw changes from epoch to epoch, the values are kept on disk, and later epochs neither decode nor compute.

use crate::progress::{Event, Observer};
use crate::values_file::{Fingerprint, Form, Found, ValuesFile};
use crate::{Setup, TrainError};
use roentgen_data::{Augment, Batch, Loader, LoaderRequest, Transform};
use roentgen_nn::{CompileRequest, Draws, Engine, FreezePlan, Mode, ParameterSet, ParameterStore, Program, ValueId};
use sha2::{Digest, Sha256};
use std::io;
use std::path::{Path, PathBuf};

/// A batch as the programs take it.
pub(crate) struct Fed<'a> {
    /// Row in the manifest of each image, `[N]`.
    pub(crate) rows: &'a [usize],
    /// Class of each image, `[N]`.
    pub(crate) labels: &'a [usize],
    image: ValueId,
    images: &'a [f32],
    values: &'a [(ValueId, Vec<f32>)],
}

impl Fed<'_> {
    /// The part of a value, `[N, C, H, W]`, that belongs to some images of the batch.
    pub(crate) fn part(&self, id: ValueId, images: std::ops::Range<usize>) -> &[f32] {
        let whole = match id == self.image {
            true => self.images,
            false => &self.values.iter().find(|(known, _)| *known == id).expect("a value of the feed").1,
        };
        let each = whole.len() / self.rows.len();
        &whole[images.start * each..images.end * each]
    }
}

enum Source {
    /// Between two passes.
    Idle,
    /// Images come from files; the values are computed.
    Images(Loader),
    /// All values are on disk: the rows that are left, in batches.
    Disk(std::vec::IntoIter<Vec<usize>>),
}

/// Feeds one split to one or several runs.
pub(crate) struct Feed<'a> {
    setup: &'a Setup,
    engine: &'a dyn Engine,
    transform: Transform,
    /// Cycle of augmented views, where the draws repeat.
    views: Option<usize>,
    /// What is behind the prefix, the image left out.
    cuts: Vec<ValueId>,
    program: Option<Box<dyn Program>>,
    /// Images that the program takes at once.
    images_at_once: usize,
    files: Vec<ValuesFile>,
    source: Source,
    view: u64,
    batch: Batch,
    values: Vec<(ValueId, Vec<f32>)>,
    scratch: Vec<f32>,
}

impl<'a> Feed<'a> {
    /// Feeds the values `wanted` of rows of the setup's manifest. `views` is the length of the cycle in which
    /// augmentation repeats: `None` where every epoch draws anew.
    pub(crate) fn new(
        setup: &'a Setup,
        engine: &'a dyn Engine,
        transform: Transform,
        views: Option<usize>,
        wanted: &[ValueId],
        images_at_once: usize,
    ) -> Feed<'a> {
        let image = setup.network.input();
        let mut cuts: Vec<ValueId> = wanted.iter().copied().filter(|id| *id != image).collect();
        cuts.sort_unstable();
        cuts.dedup();
        Feed {
            setup,
            engine,
            transform,
            views,
            values: cuts.iter().map(|id| (*id, Vec::new())).collect(),
            cuts,
            program: None,
            images_at_once,
            files: Vec::new(),
            source: Source::Idle,
            view: 0,
            batch: Batch::default(),
            scratch: Vec::new(),
        }
    }

    /// Bytes on disk of what [`Feed::keep_on_disk`] keeps for a number of images.
    pub(crate) fn bytes_on_disk(&self, images: usize) -> u64 {
        let views = self.views.unwrap_or(1);
        self.forms().into_iter().map(|form| ValuesFile::len(form, views * images)).sum()
    }

    /// What is kept of an image at each cut.
    fn forms(&self) -> Vec<Form> {
        let network = &self.setup.network;
        let stored = self.setup.arithmetic().precision.of_values(network);
        let form = |id: &ValueId| Form { elements: network.value(*id).shape.elements(), stored: stored[id.index()] };
        self.cuts.iter().map(form).collect()
    }

    /// Keeps the values in a folder from here on; `weights` holds the tensors of the prefix. Where nothing is drawn, all
    /// splits and folds have their values in one file, and find those of each other.
    pub(crate) fn keep_on_disk(
        &mut self,
        folder: &Path,
        weights: &ParameterStore,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        let Some(views) = self.views else { unreachable!("values of draws that never repeat are never used again") };
        let records = views * self.setup.manifest.rows.len();
        let kept = self.cuts.clone().into_iter().zip(self.forms()).zip(self.files_in(folder));
        for ((id, form), path) in kept {
            let fingerprint = self.fingerprint(id, weights)?;
            match ValuesFile::open(&path, &fingerprint, form, records) {
                Ok((file, found)) => {
                    if found == Found::Other {
                        observer.event(0, Event::ValuesReplaced { path: &path });
                    }
                    self.files.push(file);
                }
                Err(error) => {
                    self.give_up(&path, &error, observer);
                    break;
                }
            }
        }
        Ok(())
    }

    /// The files that [`Feed::keep_on_disk`] uses.
    pub(crate) fn files_in(&self, folder: &Path) -> Vec<PathBuf> {
        let network = &self.setup.network;
        let kind = match self.transform.augment {
            Augment::None => "plain",
            Augment::Seed | Augment::Cxr(_) => "augmented",
        };
        let file = |id: &ValueId| {
            let (architecture, size) = (network.architecture(), network.image_size());
            folder.join(format!("{architecture}-{size}-{kind}-{}.values", network.value(*id).name))
        };
        self.cuts.iter().map(file).collect()
    }

    /// Goes on without values on disk: everything is computed anew, and nothing is lost but time. What was kept makes
    /// room for what matters more, such as the next checkpoint.
    fn give_up(&mut self, path: &Path, error: &io::Error, observer: &mut dyn Observer) {
        for file in self.files.drain(..) {
            // It is no worse than before where this fails too.
            let _ = std::fs::remove_file(file.path());
        }
        observer.event(0, Event::ValuesGivenUp { path, reason: &error.to_string() });
    }

    /// Of all that a value depends on: images and their size, draws, arithmetic, and the weights that it is computed
    /// with.
    fn fingerprint(&self, id: ValueId, weights: &ParameterStore) -> Result<Fingerprint, TrainError> {
        let setup = self.setup;
        let mut hash = Sha256::new();
        hash.update(setup.manifest.images_fingerprint()?);
        let draws = match self.transform.augment {
            Augment::None => "none".to_owned(),
            Augment::Seed => format!("seed {} views {:?}", setup.config.training.seed, self.views),
            Augment::Cxr(cxr) => format!("{cxr:?} {} views {:?}", setup.config.training.seed, self.views),
        };
        let arithmetic = setup.arithmetic();
        let texts = [
            setup.network.architecture().to_owned(),
            setup.network.value(id).name.clone(),
            setup.network.image_size().to_string(),
            draws,
            self.engine.bits(),
            format!("{:?} {}", arithmetic.precision, arithmetic.exact),
        ];
        for text in texts {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        }
        let mut bytes = Vec::new();
        for tensor in setup.network.tensors_behind(&[id]) {
            bytes.clear();
            bytes.extend(weights.tensor(ParameterSet::Live, tensor).iter().flat_map(|value| value.to_le_bytes()));
            hash.update(&bytes);
        }
        Ok(hash.finalize().into())
    }

    fn record(&self, row: usize) -> usize {
        (self.view as usize).saturating_sub(1) * self.setup.manifest.rows.len() + row
    }

    /// Begins a pass over rows in an order, in batches. `epoch`, from 1, is what augmentation is drawn for.
    pub(crate) fn begin(&mut self, order: Vec<usize>, batch_size: usize, epoch: u64) -> Result<(), TrainError> {
        self.view = self.views.map_or(epoch, |views| (epoch - 1) % views as u64 + 1);
        let on_disk = |file: &ValuesFile| order.iter().all(|row| file.has(self.record(*row)));
        self.source = if !self.files.is_empty() && self.files.iter().all(on_disk) {
            // The prefix has done its work.
            self.program = None;
            Source::Disk(order.chunks(batch_size).map(<[usize]>::to_vec).collect::<Vec<_>>().into_iter())
        } else {
            Source::Images(self.loader(order, batch_size)?)
        };
        Ok(())
    }

    fn loader(&self, rows: Vec<usize>, batch_size: usize) -> Result<Loader, TrainError> {
        Ok(Loader::start(LoaderRequest {
            manifest: self.setup.manifest.clone(),
            rows,
            batch_size,
            transform: self.transform,
            cache: self.setup.image_cache.clone(),
            seed: self.setup.config.training.seed,
            epoch: self.view,
            threads: self.engine.threads(),
            batches_ahead: 2,
        })?)
    }

    /// The next batch of the pass; `weights` holds the tensors of the prefix.
    pub(crate) fn next(
        &mut self,
        weights: &mut ParameterStore,
        observer: &mut dyn Observer,
    ) -> Result<Option<Fed<'_>>, TrainError> {
        match &mut self.source {
            Source::Idle => return Ok(None),
            Source::Images(loader) => {
                let used = std::mem::take(&mut self.batch);
                if !used.rows.is_empty() {
                    loader.recycle(used);
                }
                let Some(batch) = loader.next() else { return Ok(None) };
                self.batch = batch?;
                self.compute(weights)?;
                self.store(observer);
            }
            Source::Disk(rows) => {
                let Some(rows) = rows.next() else { return Ok(None) };
                self.read(rows, weights, observer)?;
            }
        }
        Ok(Some(Fed {
            rows: &self.batch.rows,
            labels: &self.batch.labels,
            image: self.setup.network.input(),
            images: &self.batch.images,
            values: &self.values,
        }))
    }

    /// Ends a pass; returns the seconds that it waited for images.
    pub(crate) fn end(&mut self) -> f64 {
        self.batch = Batch::default();
        match std::mem::replace(&mut self.source, Source::Idle) {
            Source::Images(loader) => loader.waited_s(),
            Source::Idle | Source::Disk(_) => 0.0,
        }
    }

    /// Computes the values of the images of the batch.
    fn compute(&mut self, weights: &mut ParameterStore) -> Result<(), TrainError> {
        if self.cuts.is_empty() {
            return Ok(());
        }
        let program = match &mut self.program {
            Some(program) => program,
            none => {
                let plan = FreezePlan::frozen(&self.setup.network);
                let request = prefix_request(self.setup, &plan, &self.cuts, self.images_at_once);
                none.insert(self.engine.compile(&request)?)
            }
        };
        self.values.iter_mut().for_each(|(_, values)| values.clear());
        let rows = self.batch.rows.chunks(self.images_at_once);
        for (images, rows) in self.batch.images.chunks(self.images_at_once * self.transform.tensor_len()).zip(rows) {
            // Nothing is drawn before a cut.
            let draws = Draws { seed: 0, epoch: 0, rows };
            program.forward(weights, ParameterSet::Live, &[images], rows.len(), draws)?;
            for (id, values) in &mut self.values {
                program.read(*id, &mut self.scratch)?;
                values.extend_from_slice(&self.scratch);
            }
        }
        Ok(())
    }

    /// Writes the values of the batch that are not on disk yet.
    fn store(&mut self, observer: &mut dyn Observer) {
        let mut failure = None;
        for (index, (_, values)) in self.values.iter().enumerate().take(self.files.len()) {
            let each = values.len() / self.batch.rows.len();
            for (row, values) in self.batch.rows.iter().zip(values.chunks_exact(each)) {
                let record = self.record(*row);
                if !self.files[index].has(record)
                    && let Err(error) = self.files[index].write(record, values)
                {
                    failure = Some((self.files[index].path().to_owned(), error));
                }
            }
        }
        if let Some((path, error)) = failure {
            self.give_up(&path, &error, observer);
        }
    }

    /// Reads a batch from disk; what turns out damaged is computed again.
    fn read(
        &mut self,
        rows: Vec<usize>,
        weights: &mut ParameterStore,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        let mut whole = true;
        for index in 0..self.values.len() {
            self.values[index].1.clear();
            for row in &rows {
                let record = self.record(*row);
                // A file that cannot be read any more is as good as a damaged one.
                let there = self.files.get_mut(index).map(|file| file.read(record, &mut self.values[index].1));
                whole &= matches!(there, Some(Ok(true)));
            }
        }
        if whole {
            let manifest = &self.setup.manifest;
            self.batch.labels = rows.iter().map(|row| manifest.rows[*row].label).collect();
            self.batch.rows = rows;
            return Ok(());
        }
        let batch_size = rows.len();
        let mut loader = self.loader(rows, batch_size)?;
        self.batch = loader.next().expect("one batch of at least one row")?;
        self.compute(weights)?;
        self.store(observer);
        Ok(())
    }
}

/// A program from the image to some cuts. `plan` is [`FreezePlan::frozen`].
pub(crate) fn prefix_request<'b>(
    setup: &'b Setup,
    plan: &'b FreezePlan,
    cuts: &[ValueId],
    images: usize,
) -> CompileRequest<'b> {
    CompileRequest {
        arithmetic: setup.arithmetic(),
        outputs: cuts.to_vec(),
        ..CompileRequest::whole(&setup.network, plan, Mode::Evaluate, images)
    }
}
