//! `POST /v1/predict`, and the way of an image from its bytes to the inference thread.

use crate::app::App;
use crate::body::{Upload, Uploads, images};
use crate::decoders::Place;
use crate::model::Served;
use crate::refusal::{Refusal, json_response};
use crate::registry::Registry;
use crate::worker::Work;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{Request, StatusCode};
use axum::response::Response;
use roentgen_data::decode::{decode_frame_bytes, pixels_of};
use roentgen_data::{Image, Limits};
use roentgen_nn::loss::softmax;
use roentgen_run::predictions::largest;
use serde::{Deserialize, Serialize, Serializer};
use std::future::Future;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// The words behind the question mark.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    /// The model by name; the first where absent.
    model: Option<String>,
    /// The frame, counted from 1, of images that have several.
    frame: Option<NonZeroU32>,
}

/// What a model says of an image.
#[derive(Serialize)]
pub(crate) struct Prediction {
    /// The file's name as it was sent.
    pub(crate) file: String,
    /// The class of the largest probability.
    predicted: String,
    probabilities: ByClass,
    /// One a class, in the order of the probabilities.
    logits: Vec<f32>,
    /// The class that the threshold is for, and the least probability of it that counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    positive: Option<String>,
    threshold: Option<f64>,
    /// Who chose the threshold.
    #[serde(skip_serializing_if = "Option::is_none")]
    threshold_source: Option<String>,
    /// Whether the probability of the positive class is at least the threshold.
    #[serde(skip_serializing_if = "Option::is_none")]
    reaches_threshold: Option<bool>,
}

impl Prediction {
    pub(crate) fn new(model: &Served, file: String, logits: Vec<f32>) -> Prediction {
        let probabilities: Vec<f32> = softmax(&logits).into_iter().map(|p| p as f32).collect();
        let decision = model.decision.as_ref();
        Prediction {
            file,
            predicted: model.classes[largest(&logits)].clone(),
            positive: decision.map(|decision| model.classes[decision.positive].clone()),
            threshold: decision.map(|decision| decision.threshold),
            threshold_source: decision.map(|decision| decision.source.clone()),
            reaches_threshold: decision
                .map(|decision| f64::from(probabilities[decision.positive]) >= decision.threshold),
            probabilities: ByClass { classes: model.classes.clone(), values: probabilities },
            logits,
        }
    }
}

/// An object from class to number, in the order of the classes.
struct ByClass {
    classes: Vec<String>,
    values: Vec<f32>,
}

impl Serialize for ByClass {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.classes.iter().zip(&self.values))
    }
}

#[derive(Serialize)]
struct Answer<'a> {
    model: &'a str,
    predictions: Vec<Prediction>,
}

/// Classifies the images of a request: all of them, or none.
pub(crate) async fn predict(
    State(app): State<Arc<App>>,
    wanted: Result<Query<Wanted>, axum::extract::rejection::QueryRejection>,
    request: Request<Body>,
) -> Result<Response, Refusal> {
    let Query(wanted) = wanted.map_err(|error| unknown_words(&error, "?model=NAME&frame=N"))?;
    let registry = app.registry();
    let model = registry.find(wanted.model.as_deref())?;
    let uploads = uploads(&app, request).await?;
    let predictions = for_each_image(&app, &registry, model, wanted.frame, uploads, predict_one).await?;
    Ok(json_response(StatusCode::OK, &Answer { model: &registry.models[model].name, predictions }))
}

/// A query that is not understood.
pub(crate) fn unknown_words(error: &axum::extract::rejection::QueryRejection, expected: &str) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, error.body_text(), expected)
}

/// What is done with one image.
pub(crate) struct One {
    pub(crate) app: Arc<App>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) model: usize,
    pub(crate) upload: Upload,
    frame: Option<NonZeroU32>,
    held: Arc<Held>,
}

/// What a request has taken of the server: given back when its last image is done with, also where nobody waits for it.
struct Held {
    _room: Option<OwnedSemaphorePermit>,
    _places: OwnedSemaphorePermit,
}

async fn predict_one(one: One) -> Result<Prediction, Refusal> {
    let served = &one.registry.models[one.model];
    // Nothing is kept of the image while its tensor waits.
    let decoded = decode(&one, drop).await?;
    let logits = one.registry.ask(one.model, decoded.tensor, decoded.place, Work::Predict).await?;
    let logits = logits.map_err(|error| Refusal::internal(error.to_string()))?;
    Ok(Prediction::new(served, one.upload.name, logits))
}

/// Reads the images of a request.
pub(crate) async fn uploads(app: &App, request: Request<Body>) -> Result<Uploads, Refusal> {
    images(request, &app.settings.limits, &app.admission).await
}

/// Takes a place for each image of a request, and does something with each, in no order; the results are in the order of
/// the images. The first refusal is that of the request.
pub(crate) async fn for_each_image<T: Send + 'static, F: Future<Output = Result<T, Refusal>> + Send + 'static>(
    app: &Arc<App>,
    registry: &Arc<Registry>,
    model: usize,
    frame: Option<NonZeroU32>,
    Uploads { images, room }: Uploads,
    work: impl Fn(One) -> F,
) -> Result<Vec<T>, Refusal> {
    let limits = &app.settings.limits;
    let held = Arc::new(Held { _places: app.admission.images(images.len())?, _room: room });
    // Dropped with everything in it where the client goes or the time is over.
    let mut tasks = JoinSet::new();
    for (index, upload) in images.into_iter().enumerate() {
        let work = work(One { app: app.clone(), registry: registry.clone(), model, upload, frame, held: held.clone() });
        tasks.spawn(async move { (index, work.await) });
    }
    let gather = async {
        let mut results = Vec::with_capacity(tasks.len());
        while let Some(ended) = tasks.join_next().await {
            let (index, result) = ended.map_err(|error| Refusal::internal(error.to_string()))?;
            results.push((index, result?));
        }
        results.sort_by_key(|(index, _)| *index);
        Ok(results.into_iter().map(|(_, result)| result).collect())
    };
    let late = |_| Refusal::busy(format!("no answer within {} s", limits.request_time.as_secs_f64()));
    timeout(limits.request_time, gather).await.map_err(late)?
}

/// An image as the network takes it.
pub(crate) struct Decoded<T> {
    /// What was kept of the image itself.
    pub(crate) kept: T,
    /// `[3, S, S]`
    pub(crate) tensor: Vec<f32>,
    /// Its place among those that wait for the inference thread.
    pub(crate) place: Place,
}

/// Decodes and transforms an image as evaluation does, on one of the threads for it. An image can take a hundred times
/// the memory of its tensor: `keep` says what remains of it.
///
/// Whoever stops waiting before its turn has come takes the image along; afterwards the decoder keeps it to its end.
pub(crate) async fn decode<T: Send + 'static>(
    one: &One,
    keep: impl FnOnce(Image) -> T + Send + 'static,
) -> Result<Decoded<T>, Refusal> {
    let app = &one.app;
    let looking = app.decoders.look().await;
    let (held, bytes) = (one.held.clone(), one.upload.bytes.clone());
    let look = move || {
        let pixels = pixels_of(&bytes).unwrap_or(0);
        drop(looking);
        (bytes, held, pixels)
    };
    let (bytes, held, pixels) = on_thread(look).await?;
    let (turn, place) = app.decoders.turn(pixels).await;
    let frame = one.frame;
    let (app, name, transform) = (app.clone(), one.upload.name.clone(), one.registry.models[one.model].transform);
    let work = move || {
        let begun = Instant::now();
        let pixels = app.settings.limits.pixels;
        let limits = Limits { pixels, ..Limits::default() };
        let decoded = decode_frame_bytes(&name, &bytes, &limits, frame).map(|image| {
            let mut tensor = vec![0.0; transform.tensor_len()];
            transform.apply(&image, None, &mut tensor);
            Decoded { kept: keep(image), tensor, place }
        });
        app.counters.decoded(begun.elapsed());
        // In this order: as long as an image is counted as being decoded, its bytes are as well.
        drop(turn);
        drop((bytes, held));
        decoded.map_err(|error| Refusal::image(&error, pixels))
    };
    on_thread(work).await?
}

/// Runs what has its turn on a thread where it holds up nobody.
pub(crate) async fn on_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Refusal::internal(error.to_string()))
}
