//! The one thread that runs networks. Requests send it images; it gathers those that wait into batches.
//!
//! No answer depends on the batch that an image came into: an image's logits have the same bits in any.

use crate::ServeError;
use crate::counters::Counters;
use crate::decoders::Place;
use crate::model::Opened;
use roentgen_infer::explain::{ExplainError, Explainer, Explanation, Method};
use roentgen_infer::{Model, Predictor};
use roentgen_nn::{Arithmetic, Engine, EngineError};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// An engine that threads share.
pub type SharedEngine = Arc<dyn Engine + Send + Sync>;

/// Where the answer goes; nobody waits any more where the other end is dropped.
pub(crate) type Reply<T, E> = oneshot::Sender<Result<T, E>>;

/// What is asked of a model.
pub(crate) enum Work {
    /// One logit a class.
    Predict(Reply<Vec<f32>, EngineError>),
    /// A map, of a class or of the predicted one.
    Explain(Method, Option<usize>, Reply<Explanation, ExplainError>),
}

/// One image that waits.
pub(crate) struct Job {
    /// Index of the model.
    pub(crate) model: usize,
    /// The network's input, `[3, S, S]`.
    pub(crate) tensor: Vec<f32>,
    pub(crate) work: Work,
    /// Its place among the decoded images, which it gives up when it is computed.
    pub(crate) decoded: Place,
}

impl Job {
    fn is_forsaken(&self) -> bool {
        match &self.work {
            Work::Predict(reply) => reply.is_closed(),
            Work::Explain(_, _, reply) => reply.is_closed(),
        }
    }

    /// Whether it can go into a batch of predictions of a model.
    fn fits(&self, model: usize) -> bool {
        self.model == model && matches!(self.work, Work::Predict(_))
    }
}

/// A model with its programs. They cannot leave the thread that compiled them.
struct Compiled {
    name: String,
    model: Model,
    arithmetic: Arithmetic,
    predictor: Predictor,
    /// Compiled when first asked for.
    explainers: HashMap<&'static str, Explainer>,
}

struct Worker {
    engine: SharedEngine,
    memory_limit_bytes: Option<usize>,
    batch_wait: Duration,
    counters: Arc<Counters>,
    models: Vec<Compiled>,
}

/// Compiles the models on a thread of their own, which then takes jobs until every sender is dropped.
///
/// # Errors
/// Where a model does not compile.
pub(crate) fn start(
    engine: SharedEngine,
    models: Vec<(String, Model, Arithmetic)>,
    memory_limit_bytes: Option<usize>,
    batch_wait: Duration,
    counters: Arc<Counters>,
) -> Result<(Sender<Job>, JoinHandle<()>), ServeError> {
    let (jobs, received) = mpsc::channel();
    let (ready, compiled) = mpsc::channel();
    let run = move || {
        let compile = |(name, model, arithmetic): (String, Model, Arithmetic)| match Predictor::new(
            &*engine,
            &model.network,
            arithmetic,
            memory_limit_bytes,
        ) {
            Ok(predictor) => Ok(Compiled { name, model, arithmetic, predictor, explainers: HashMap::new() }),
            Err(source) => Err(ServeError::Engine { name, source }),
        };
        // Whoever started the thread waits for this word.
        match models.into_iter().map(compile).collect::<Result<Vec<_>, _>>() {
            Ok(models) => {
                let _ = ready.send(Ok(()));
                Worker { engine, memory_limit_bytes, batch_wait, counters, models }.run(&received);
            }
            Err(error) => {
                let _ = ready.send(Err(error));
            }
        }
    };
    let spawned = std::thread::Builder::new().name("inference".into()).spawn(run);
    let thread = spawned.map_err(ServeError::system("start the inference thread"))?;
    let gone = || ServeError::system("compile the models")(std::io::Error::other("the inference thread panicked"));
    compiled.recv().unwrap_or_else(|_| Err(gone()))?;
    Ok((jobs, thread))
}

impl Worker {
    fn run(mut self, jobs: &Receiver<Job>) {
        // What came while a batch of another kind was gathered.
        let mut waiting = VecDeque::new();
        loop {
            let Some(first) = waiting.pop_front().or_else(|| jobs.recv().ok()) else { return };
            if first.is_forsaken() {
                continue;
            }
            match first.work {
                Work::Predict(_) => {
                    let model = first.model;
                    let batch = self.gather(first, jobs, &mut waiting);
                    // Nobody may wait any more for any of them.
                    if !batch.is_empty() {
                        self.predict(model, batch);
                    }
                }
                Work::Explain(method, class, reply) => {
                    let begun = Instant::now();
                    drop(first.decoded);
                    let _ = reply.send(self.explain(first.model, &first.tensor, method, class));
                    self.counters.explained(&self.models[first.model].name, begun.elapsed());
                }
            }
        }
    }

    /// The batch of a job: what waits for the same model, and what comes within a few milliseconds.
    fn gather(&self, first: Job, jobs: &Receiver<Job>, waiting: &mut VecDeque<Job>) -> Vec<Job> {
        let (model, largest) = (first.model, self.models[first.model].predictor.batch_size());
        let until = Instant::now() + self.batch_wait;
        let mut batch = vec![first];
        let mut place = 0;
        while batch.len() < largest && place < waiting.len() {
            if waiting[place].fits(model) {
                batch.extend(waiting.remove(place));
            } else {
                place += 1;
            }
        }
        while batch.len() < largest {
            let Ok(job) = jobs.recv_timeout(until.saturating_duration_since(Instant::now())) else { break };
            if job.fits(model) { batch.push(job) } else { waiting.push_back(job) }
        }
        batch.retain(|job| !job.is_forsaken());
        batch
    }

    fn predict(&mut self, model: usize, batch: Vec<Job>) {
        let Compiled { name, model, predictor, .. } = &mut self.models[model];
        let begun = Instant::now();
        let mut images = Vec::with_capacity(batch.iter().map(|job| job.tensor.len()).sum());
        let mut replies = Vec::with_capacity(batch.len());
        for job in batch {
            images.extend_from_slice(&job.tensor);
            if let Work::Predict(reply) = job.work {
                replies.push(reply);
            }
        }
        let answer = predictor.logits(&mut model.store, &images);
        self.counters.predicted(name, replies.len(), begun.elapsed());
        let classes = model.description.classes.len();
        for (index, reply) in replies.into_iter().enumerate() {
            // A client that has gone in the meantime misses nothing.
            let _ = reply.send(match &answer {
                Ok(logits) => Ok(logits[index * classes..][..classes].to_vec()),
                Err(error) => Err(error.clone()),
            });
        }
    }

    fn explain(
        &mut self,
        model: usize,
        tensor: &[f32],
        method: Method,
        class: Option<usize>,
    ) -> Result<Explanation, ExplainError> {
        let Compiled { model, arithmetic, explainers, .. } = &mut self.models[model];
        let explainer = match explainers.entry(method.name()) {
            std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::hash_map::Entry::Vacant(place) => place.insert(Explainer::new(
                &*self.engine,
                &model.network,
                method,
                None,
                *arithmetic,
                self.memory_limit_bytes,
            )?),
        };
        explainer.explain_tensor(&mut model.store, tensor, class)
    }
}

/// Splits opened models into what requests need and what the thread needs.
pub(crate) fn split(opened: Vec<Opened>) -> (Vec<crate::model::Served>, Vec<(String, Model, Arithmetic)>) {
    opened
        .into_iter()
        .map(|Opened { served, model, arithmetic }| {
            let name = served.name.clone();
            (served, (name, model, arithmetic))
        })
        .unzip()
}
