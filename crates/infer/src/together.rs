//! Several models over the same images: each image is decoded once, and what models compute alike is computed once.
//!
//! Models that were trained from one start have the same weights before the cuts of their freeze plans. The longest of
//! these prefixes is computed once and tapped at each model's cut, as in training in step. No bit depends on it.

use crate::model::{Model, ModelError, ModelFile};
use crate::predict::{BATCH, InferError, Predictor, RowLogits, over_rows};
use crate::prefix::SharedPrefix;
use roentgen_data::{Augment, ImageCache, Manifest, Transform};
use roentgen_nn::{
    Arithmetic, CompileRequest, Draws, Engine, EngineError, FreezePlan, Mode, Network, ParameterSet, Program, ValueId,
};
use std::sync::Arc;

/// Models that answer for images together.
pub struct Together<'a> {
    engine: &'a dyn Engine,
    arithmetic: Arithmetic,
    memory_limit_bytes: Option<usize>,
    image_cache: Option<Arc<ImageCache>>,
    members: Vec<Member>,
    /// Of two models and more.
    prefix: Option<SharedPrefix>,
    programs: Option<Programs>,
}

struct Member {
    model: Model,
    /// What its own program begins with: the image, or values that the shared prefix has.
    cut: Vec<ValueId>,
}

enum Programs {
    /// One model from the image to the logits.
    Alone(Predictor),
    /// The models' own, and the shared prefix where there is one.
    Several { prefix: Option<Box<dyn Program>>, own: Vec<Box<dyn Program>> },
}

impl<'a> Together<'a> {
    /// One model so far. `memory_limit_bytes` bounds the parameters and programs of all models together; of one alone, its
    /// program. Decoded images are taken from the cache where there is one, and kept there.
    pub fn new(
        engine: &'a dyn Engine,
        arithmetic: Arithmetic,
        memory_limit_bytes: Option<usize>,
        image_cache: Option<Arc<ImageCache>>,
        model: Model,
    ) -> Together<'a> {
        let cut = model.description.cut(&model.network);
        Together {
            engine,
            arithmetic,
            memory_limit_bytes,
            image_cache,
            members: vec![Member { model, cut }],
            prefix: None,
            programs: None,
        }
    }

    /// Takes one more model in, where it sees the same images and memory suffices for all of them with whole batches:
    /// behind its frozen prefix, or from the image on where it has another prefix than those before it. Returns
    /// whether it did; where it did not, nothing is changed.
    ///
    /// # Errors
    /// Where the file of weights cannot be read.
    pub fn admit(&mut self, file: &ModelFile) -> Result<bool, ModelError> {
        let (here, there) = (&self.members[0].model.network, &file.network);
        if (here.architecture(), here.image_size()) != (there.architecture(), there.image_size()) {
            return Ok(false);
        }
        let cut = file.description.cut(there);
        let image = vec![there.input()];
        // What is decided by numbers comes before the weights are read.
        let fits_behind = self.fits(there, &cut);
        if !fits_behind && !self.fits(there, &image) {
            return Ok(false);
        }
        let model = file.load()?;
        let number = self.members.len();
        let prefix = self.prefix.get_or_insert_with(|| {
            let Member { model, cut } = &self.members[0];
            let mut prefix = SharedPrefix::new(&model.network);
            let taken = prefix.take(0, &model.network, cut, &model.store);
            taken.expect("it is laid out for this network, and no model was before this one");
            prefix
        });
        let is_shared = fits_behind && prefix.take(number, &model.network, &cut, &model.store).is_ok();
        if !is_shared && !self.fits(there, &image) {
            return Ok(false);
        }
        self.members.push(Member { model, cut: if is_shared { cut } else { image } });
        self.programs = None;
        Ok(true)
    }

    /// How many models there are.
    pub fn models(&self) -> usize {
        self.members.len()
    }

    /// How many of them begin behind the shared prefix, and not with the image.
    pub fn behind_prefix(&self) -> usize {
        let image = self.members[0].model.network.input();
        self.members.iter().filter(|member| member.cut != [image]).count()
    }

    /// Runs all models over rows of a manifest: for each model, in the order in which they came, one answer a row.
    /// `progress` is told how many rows are done, and may ask to stop by `false`.
    ///
    /// # Errors
    /// For the first image that cannot be decoded, and where a model alone needs more memory than there is.
    pub fn rows(
        &mut self,
        manifest: &Arc<Manifest>,
        rows: Vec<usize>,
        mut progress: impl FnMut(usize) -> bool,
    ) -> Result<Vec<Vec<RowLogits>>, InferError> {
        if self.programs.is_none() {
            self.programs = Some(self.compile()?);
        }
        let (prefix, own) = match self.programs.as_mut().expect("they were just compiled") {
            Programs::Alone(predictor) => {
                let store = &mut self.members[0].model.store;
                return Ok(vec![predictor.rows(store, ParameterSet::Live, manifest, rows, progress)?]);
            }
            Programs::Several { prefix, own } => (prefix, own),
        };
        let network = &self.members[0].model.network;
        let image = network.input();
        let transform = Transform { image_size: network.image_size(), augment: Augment::None };
        let shared = cuts(network, self.members.iter().map(|member| &member.cut));
        let mut values: Vec<(ValueId, Vec<f32>)> = shared.into_iter().map(|id| (id, Vec::new())).collect();
        let cache = self.image_cache.clone();
        let mut answers: Vec<Vec<RowLogits>> = vec![Vec::with_capacity(rows.len()); self.members.len()];
        over_rows(manifest, rows, BATCH, transform, cache, self.engine.threads(), |images, rows| {
            // Nothing is drawn in evaluation mode.
            let draws = Draws { seed: 0, epoch: 0, rows };
            if let (Some(program), Some(shared)) = (&mut *prefix, &mut self.prefix) {
                program.forward(shared.weights(), ParameterSet::Live, &[images], rows.len(), draws)?;
                for (id, values) in &mut values {
                    program.read(*id, values)?;
                }
            }
            for ((member, program), answers) in self.members.iter_mut().zip(own.iter_mut()).zip(&mut answers) {
                let value = |id: &ValueId| match *id == image {
                    true => images,
                    false => &values.iter().find(|(known, _)| known == id).expect("the prefix ends in all cuts").1,
                };
                let entries: Vec<&[f32]> = member.cut.iter().map(value).collect();
                program.forward(&mut member.model.store, ParameterSet::Live, &entries, rows.len(), draws)?;
                let mut logits = Vec::new();
                program.read(member.model.network.output(), &mut logits)?;
                let by_row = logits.chunks_exact(member.model.network.classes());
                answers
                    .extend(rows.iter().zip(by_row).map(|(&row, logits)| RowLogits { row, logits: logits.to_vec() }));
            }
            Ok(progress(answers[0].len()))
        })?;
        Ok(answers)
    }

    fn compile(&self) -> Result<Programs, EngineError> {
        if let [member] = self.members.as_slice() {
            let network = &member.model.network;
            let alone = Predictor::new(self.engine, network, self.arithmetic, self.memory_limit_bytes)?;
            return Ok(Programs::Alone(alone.with_image_cache(self.image_cache.clone())));
        }
        let networks = self.members.iter().map(|member| (&member.model.network, &member.cut));
        let (prefix, own) = each_request(networks, self.arithmetic, |request| self.engine.compile(request))?;
        Ok(Programs::Several { prefix, own })
    }

    /// Whether memory suffices with one more model, cut at some values.
    fn fits(&self, network: &Network, cut: &Vec<ValueId>) -> bool {
        let Some(limit) = self.memory_limit_bytes else { return true };
        let members = || self.members.iter().map(|m| (&m.model.network, &m.cut)).chain([(network, cut)]);
        let Ok((prefix, own)) = each_request(members(), self.arithmetic, |request| self.engine.memory_bytes(request))
        else {
            return false;
        };
        let numbers = |network: &Network| 4 * network.tensors().iter().map(|tensor| tensor.elements()).sum::<usize>();
        let at_cuts = cuts(network, members().map(|(_, cut)| cut)).into_iter();
        let values: usize = at_cuts.map(|id| 4 * BATCH * network.value(id).shape.elements()).sum();
        // Beside each model's own numbers, those of the prefix.
        let stores: usize = members().map(|(network, _)| numbers(network)).sum::<usize>() + numbers(network);
        stores + values + prefix.unwrap_or(0) + own.iter().sum::<usize>() <= limit
    }
}

/// Does something with what must be compiled for models that answer together: the prefix from the image to the cuts,
/// where there is one, and each model's own part, from its cut to the logits.
fn each_request<'n, T>(
    members: impl Iterator<Item = (&'n Network, &'n Vec<ValueId>)> + Clone,
    arithmetic: Arithmetic,
    act: impl Fn(&CompileRequest<'_>) -> Result<T, EngineError>,
) -> Result<(Option<T>, Vec<T>), EngineError> {
    let request = |network: &Network, entries: Option<&Vec<ValueId>>, outputs: Option<Vec<ValueId>>| {
        let plan = FreezePlan::frozen(network);
        let whole = CompileRequest::whole(network, &plan, Mode::Evaluate, BATCH);
        let entries = entries.cloned().unwrap_or_else(|| whole.entries.clone());
        let outputs = outputs.unwrap_or_else(|| whole.outputs.clone());
        act(&CompileRequest { arithmetic, entries, outputs, ..whole })
    };
    let Some((first, _)) = members.clone().next() else { return Ok((None, Vec::new())) };
    let shared = cuts(first, members.clone().map(|(_, cut)| cut));
    let prefix = (!shared.is_empty()).then(|| request(first, None, Some(shared))).transpose()?;
    let own = members.map(|(network, cut)| request(network, Some(cut), None)).collect::<Result<_, _>>()?;
    Ok((prefix, own))
}

/// All values that some model is cut at, the image left out, in the order of the network.
fn cuts<'c>(network: &Network, of: impl Iterator<Item = &'c Vec<ValueId>>) -> Vec<ValueId> {
    let mut values: Vec<ValueId> = of.flatten().copied().filter(|id| *id != network.input()).collect();
    values.sort_unstable();
    values.dedup();
    values
}
