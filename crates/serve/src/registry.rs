//! The models that are served at one moment, and the thread that runs them. A reload makes a new registry; requests in
//! progress keep the one that they began with.

use crate::counters::Counters;
use crate::decoders::Place;
use crate::model::{Served, open};
use crate::refusal::Refusal;
use crate::worker::{Job, SharedEngine, Work, split, start};
use crate::{ModelSource, ServeError, Settings};
use axum::http::StatusCode;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use tokio::sync::oneshot;

pub(crate) struct Registry {
    /// In the order of the command line; the first is the default.
    pub(crate) models: Vec<Served>,
    jobs: Sender<Job>,
    inference: JoinHandle<()>,
}

impl Registry {
    /// Opens and compiles all models, or none.
    pub(crate) fn open(
        engine: &SharedEngine,
        sources: &[ModelSource],
        settings: &Settings,
        counters: &Arc<Counters>,
    ) -> Result<Registry, ServeError> {
        let opened = sources.iter().map(|source| open(source, settings)).collect::<Result<Vec<_>, _>>()?;
        let (models, programs) = split(opened);
        let limit = settings.memory_limit_bytes;
        let (jobs, inference) = start(engine.clone(), programs, limit, settings.batch_wait, counters.clone())?;
        Ok(Registry { models, jobs, inference })
    }

    /// Whether the inference thread still takes work: it ends before its time by a panic alone.
    pub(crate) fn is_alive(&self) -> bool {
        !self.inference.is_finished()
    }

    /// The index of a model by name; the first where none is named.
    pub(crate) fn find(&self, name: Option<&str>) -> Result<usize, Refusal> {
        let Some(name) = name else { return Ok(0) };
        self.models.iter().position(|model| model.name == name).ok_or_else(|| {
            let known: Vec<&str> = self.models.iter().map(|model| model.name.as_str()).collect();
            Refusal::new(StatusCode::NOT_FOUND, format!("model `{name}`"), format!("one of {}", known.join(", ")))
        })
    }

    /// Sends an image to the inference thread and waits for what it says. `work` wraps the way back.
    pub(crate) async fn ask<T, E: std::fmt::Display>(
        &self,
        model: usize,
        tensor: Vec<f32>,
        decoded: Place,
        work: impl FnOnce(oneshot::Sender<Result<T, E>>) -> Work,
    ) -> Result<Result<T, E>, Refusal> {
        let (reply, answer) = oneshot::channel();
        let job = Job { model, tensor, work: work(reply), decoded };
        let stopped = || Refusal::internal("the inference thread has stopped; start the server anew");
        self.jobs.send(job).map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())
    }
}
