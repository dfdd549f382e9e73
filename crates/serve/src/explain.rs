//! `POST /v1/explain`: why a model says so, as a picture over the image.

use crate::accept::preference;
use crate::app::App;
use crate::picture::{Shown, data_url};
use crate::predict::{One, Prediction, decode, for_each_image, on_thread, unknown_words, uploads};
use crate::refusal::Refusal;
use crate::worker::Work;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use roentgen_infer::explain::{ExplainError, HeatMap, Method};
use roentgen_report::ReportError;
use serde::{Deserialize, Serialize};
use std::num::NonZeroU32;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;

/// The methods that answer in about the time of two predictions. The others take a hundred times as long: they are for
/// `roentgen explain`.
const METHODS: [(&str, Method); 3] =
    [("grad-cam", Method::GradCam), ("grad-cam++", Method::GradCamPlusPlus), ("hires-cam", Method::HiResCam)];

/// The words behind the question mark.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    /// The model by name; the first where absent.
    model: Option<String>,
    /// Grad-CAM where absent.
    method: Option<String>,
    /// The class to explain; the predicted one where absent.
    class: Option<String>,
    /// The frame, counted from 1, of images that have several.
    frame: Option<NonZeroU32>,
}

#[derive(Serialize)]
struct Explained {
    #[serde(flatten)]
    prediction: Prediction,
    /// The class that the map speaks for.
    class: String,
    method: &'static str,
    map: RawMap,
    /// Size of the two pictures.
    width: usize,
    height: usize,
    /// The image, for whoever cannot show what was sent.
    image: String,
    /// The evidence for the class, transparent where there is none.
    heat_map: String,
}

/// The map as the network gives it; positive values speak for the class.
#[derive(Serialize)]
struct RawMap {
    height: usize,
    width: usize,
    values: Vec<f32>,
}

#[derive(Serialize)]
struct Answer<'a> {
    model: &'a str,
    explanations: Vec<Explained>,
}

/// Explains the images of a request: as JSON, or where the client would rather have PNG, one image as its overlay.
pub(crate) async fn explain(
    State(app): State<Arc<App>>,
    wanted: Result<Query<Wanted>, QueryRejection>,
    request: Request<Body>,
) -> Result<Response, Refusal> {
    let Query(wanted) = wanted.map_err(|error| unknown_words(&error, "?model=NAME&method=NAME&class=NAME&frame=N"))?;
    let registry = app.registry();
    let model = registry.find(wanted.model.as_deref())?;
    let served = &registry.models[model];
    let refuse = |what: &str, found: &str, known: &[&str]| {
        let found = format!("{what} `{}`", found.chars().take(100).collect::<String>());
        Refusal::new(StatusCode::BAD_REQUEST, found, format!("one of {}", known.join(", ")))
    };
    let class = wanted.class.map(|name| {
        let known: Vec<&str> = served.classes.iter().map(String::as_str).collect();
        known.iter().position(|class| *class == name).ok_or_else(|| refuse("class", &name, &known))
    });
    let class = class.transpose()?;
    // In a query a bare `+` stands for a blank: `?method=grad-cam++`, as it is printed, arrives with two.
    let named = wanted.method.as_deref().unwrap_or(METHODS[0].0).replace(' ', "+");
    let method = METHODS.iter().find(|(name, _)| *name == named).map(|(_, method)| *method);
    let method = method.ok_or_else(|| refuse("method", &named, &METHODS.map(|(name, _)| name)))?;
    let [json, png] = ["application/json", "image/png"].map(|kind| preference(request.headers(), kind));
    if json.or(png).is_none() {
        let expected = "application/json, or image/png for one image";
        return Err(Refusal::new(StatusCode::NOT_ACCEPTABLE, "an Accept of neither JSON nor PNG", expected));
    }
    let uploads = uploads(&app, request).await?;
    let images = uploads.images.len();
    if json.is_none() && images > 1 {
        let found = format!("{images} images, and PNG to answer with");
        return Err(Refusal::new(StatusCode::NOT_ACCEPTABLE, found, "one image, or `Accept: application/json`"));
    }
    if images == 1 && png > json {
        let work = move |one| explain_one(one, method, class, overlay);
        let pictures = for_each_image(&app, &registry, model, wanted.frame, uploads, work).await?;
        let (pictures, room): (Vec<Vec<u8>>, _) = pictures.into_iter().unzip();
        return Ok(sent("image/png", pictures.concat(), room));
    }
    let work = move |one| explain_one(one, method, class, described);
    let explanations = for_each_image(&app, &registry, model, wanted.frame, uploads, work).await?;
    let (explanations, room) = explanations.into_iter().unzip();
    let answer = serde_json::to_vec(&Answer { model: &served.name, explanations });
    Ok(sent("application/json", answer.expect("maps have text as keys, and nothing else can fail"), room))
}

/// An answer that keeps its room until the last byte of it is sent.
fn sent(kind: &'static str, bytes: Vec<u8>, room: Vec<OwnedSemaphorePermit>) -> Response {
    struct Held {
        bytes: Vec<u8>,
        _room: Vec<OwnedSemaphorePermit>,
    }
    impl AsRef<[u8]> for Held {
        fn as_ref(&self) -> &[u8] {
            &self.bytes
        }
    }
    let body = Bytes::from_owner(Held { bytes, _room: room });
    ([(header::CONTENT_TYPE, kind)], Body::from(body)).into_response()
}

/// What an explanation is drawn from.
struct Evidence {
    prediction: Prediction,
    /// The class that the map speaks for.
    class: String,
    method: &'static str,
    map: HeatMap,
    shown: Shown,
}

/// Explains an image, and draws what is asked for. The permit is given up when the answer is sent.
async fn explain_one<T: Send + 'static>(
    one: One,
    method: Method,
    class: Option<usize>,
    draw: fn(Evidence) -> Result<T, ReportError>,
) -> Result<(T, OwnedSemaphorePermit), Refusal> {
    let served = &one.registry.models[one.model];
    let room = one.app.admission.explanation()?;
    let decoded = decode(&one, |image| Shown::new(&image)).await?;
    let work = |reply| Work::Explain(method, class, reply);
    let explained = one.registry.ask(one.model, decoded.tensor, decoded.place, work).await?;
    let explained = explained.map_err(|error| match error {
        ExplainError::Engine(_) => Refusal::internal(error.to_string()),
        // A network that has no map at its image size.
        error => Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string(), "a model with a map"),
    })?;
    let prediction = Prediction::new(served, one.upload.name, explained.logits);
    let class = served.classes[explained.class].clone();
    let drawing = one.app.admission.drawing().await;
    let evidence = Evidence { prediction, class, method: method.name(), map: explained.map, shown: decoded.kept };
    let drawn = move || {
        let _drawing = drawing;
        // Drawing goes on where the client has gone, and its memory counts until it ends.
        draw(evidence).map(|drawn| (drawn, room))
    };
    on_thread(drawn).await?.map_err(|error| Refusal::internal(error.to_string()))
}

/// The PNG of an image with its map and a legend.
fn overlay(Evidence { prediction, class, method, map, shown }: Evidence) -> Result<Vec<u8>, ReportError> {
    shown.with(&map).overlay_png(&[format!("{}: evidence for {class} ({method})", prediction.file)])
}

/// A part of the JSON answer.
fn described(Evidence { prediction, class, method, map, shown }: Evidence) -> Result<Explained, ReportError> {
    let picture = shown.with(&map);
    Ok(Explained {
        prediction,
        class,
        method,
        width: picture.width,
        height: picture.height,
        image: data_url(&picture.image_png()?),
        heat_map: data_url(&picture.layer_png()?),
        map: RawMap { height: map.height, width: map.width, values: map.values },
    })
}
