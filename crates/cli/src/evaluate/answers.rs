//! What models answer for the images of a split: several runs in one pass, as far as memory allows.

use crate::failure::{Failure, Outcome};
use crate::progress::Count;
use crate::start;
use roentgen_cpu::CpuEngine;
use roentgen_data::{DataError, ImageCache, Manifest, Split};
use roentgen_infer::{ModelFile, RowLogits, Together, arithmetic};
use roentgen_nn::{Arithmetic, Engine};
use roentgen_run::config::OnBadImage;
use roentgen_run::predictions::{Computation, PredictionTable};
use std::sync::Arc;

/// How models are to answer.
pub struct Answering {
    pub engine: CpuEngine,
    pub computation: Computation,
    pub memory_limit_bytes: Option<usize>,
    pub on_bad_image: OnBadImage,
    pub image_cache: Option<Arc<ImageCache>>,
}

/// The images of a split that can be decoded.
pub struct Question {
    pub manifest: Arc<Manifest>,
    /// For each class of the data, the class of the models that it stands for.
    label_of: Vec<usize>,
    /// The manifest's rows.
    pub rows: Vec<usize>,
    /// Rows that were left out, with why.
    pub bad: Vec<(usize, DataError)>,
}

impl Answering {
    /// What the engine is asked for.
    pub fn arithmetic(&self) -> Arithmetic {
        arithmetic(self.computation.precision, self.computation.exact)
    }

    /// The images of a split, for networks of an image size; `label_of` says which of the models' classes each class of the
    /// data is.
    pub fn question(
        &self,
        manifest: &Arc<Manifest>,
        label_of: Vec<usize>,
        split: Split,
        image_size: usize,
    ) -> Outcome<Question> {
        let rows = manifest.require_split(split)?;
        let cache = self.image_cache.as_deref().map(|cache| (cache, image_size));
        let bad = start::bad_rows(manifest, &rows, self.on_bad_image, self.engine.threads(), cache)?;
        let rows: Vec<usize> = rows.into_iter().filter(|row| bad.iter().all(|(skipped, _)| skipped != row)).collect();
        if rows.is_empty() {
            let root = manifest.root.display();
            return Err(Failure::work(format!("{root}: no image of the split {split} can be decoded")));
        }
        Ok(Question { manifest: manifest.clone(), label_of, rows, bad })
    }

    /// The answers of models with the same classes: for each question one table a model.
    pub fn ask(&self, models: &[&ModelFile], questions: &[&Question]) -> Outcome<Vec<Vec<PredictionTable>>> {
        let mut answers: Vec<Vec<Option<PredictionTable>>> = vec![vec![None; models.len()]; questions.len()];
        let mut left: Vec<usize> = (0..models.len()).collect();
        while !left.is_empty() {
            let first = left.remove(0);
            let (arithmetic, limit) = (self.arithmetic(), self.memory_limit_bytes);
            let cache = self.image_cache.clone();
            let mut together = Together::new(&self.engine, arithmetic, limit, cache, models[first].load()?);
            let mut taken = vec![first];
            let mut later = Vec::new();
            for model in left {
                let place = if together.admit(models[model])? { &mut taken } else { &mut later };
                place.push(model);
            }
            left = later;
            if let (several @ 2.., behind) = (taken.len(), together.behind_prefix()) {
                eprintln!("evaluating {several} models in one pass, {behind} of them behind one frozen prefix");
            }
            for (question, answers) in questions.iter().zip(&mut answers) {
                let progress = Count::of_images("evaluating", question.rows.len());
                let logits = together.rows(&question.manifest, question.rows.clone(), |done| {
                    progress.done(done);
                    true
                })?;
                drop(progress);
                for (&model, logits) in taken.iter().zip(logits) {
                    answers[model] = Some(question.table(models[model], &logits));
                }
            }
        }
        Ok(answers.into_iter().map(|tables| tables.into_iter().flatten().collect()).collect())
    }
}

impl Question {
    fn table(&self, model: &ModelFile, logits: &[RowLogits]) -> PredictionTable {
        let manifest = &self.manifest;
        let label = |row: usize| self.label_of[manifest.rows[row].label];
        let rows = logits.iter().map(|answer| answer.to_prediction(manifest, Some(label(answer.row)))).collect();
        PredictionTable { classes: model.description.classes.clone(), rows }
    }
}
