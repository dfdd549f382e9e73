//! Which path is answered by what.

use crate::app::App;
use crate::body::read;
use crate::guard::guard;
use crate::multipart::{boundary, parts};
use crate::refusal::{Refusal, json_response};
use crate::{explain, page, predict};
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{Method, Request, StatusCode, Uri, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::json;
use std::sync::Arc;

/// What needs no token: the page without anybody's data, the description of the interface, and whether the server is
/// up.
pub(crate) const OPEN_PATHS: [&str; 6] = ["/", "/page.css", "/page.js", "/openapi.json", "/healthz", "/readyz"];

/// The other paths, as counters name them.
const ROUTES: [&str; 5] = ["/metrics", "/v1/models", "/v1/predict", "/v1/explain", "/v1/reload"];

/// The route of a path, so that strangers cannot make up names for counters.
pub(crate) fn route_of(path: &str) -> &'static str {
    let fixed = OPEN_PATHS.iter().chain(&ROUTES).find(|route| **route == path);
    match (fixed, path.strip_prefix("/v1/models/")) {
        (Some(route), _) => route,
        (None, Some(rest)) if rest.ends_with("/report") => "/v1/models/{name}/report",
        (None, Some(_)) => "/v1/models/{name}",
        (None, None) => "other",
    }
}

pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/", get(page::html))
        .route("/page.css", get(page::css))
        .route("/page.js", get(page::js))
        .route("/openapi.json", get(page::openapi))
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/v1/models", get(models))
        .route("/v1/models/{name}", get(model))
        .route("/v1/models/{name}/report", get(report).post(report_by_form))
        .route("/v1/predict", post(predict::predict))
        .route("/v1/explain", post(explain::explain))
        .route("/v1/reload", post(reload))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(app.clone(), guard))
        .with_state(app)
}

async fn unknown(uri: Uri) -> Refusal {
    let path: String = uri.path().chars().take(200).collect();
    Refusal::new(StatusCode::NOT_FOUND, format!("the path {path}"), "one of those in /openapi.json")
}

async fn wrong_method(method: Method, uri: Uri) -> Refusal {
    let found = format!("{method} {}", uri.path().chars().take(200).collect::<String>());
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, found, "the method that /openapi.json gives for this path")
}

async fn ready(State(app): State<Arc<App>>) -> Result<&'static str, Refusal> {
    app.is_ready().map(|()| "ready\n")
}

async fn metrics(State(app): State<Arc<App>>) -> Response {
    let text = app.counters.text(&app.gauges());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

/// The list has of each model what a request needs to know; `/v1/models/NAME` has the rest.
async fn models(State(app): State<Arc<App>>) -> Response {
    const BRIEF: [&str; 8] = [
        "name",
        "architecture",
        "image_size",
        "classes",
        "positive",
        "threshold",
        "threshold_source",
        "weights_sha256",
    ];
    let registry = app.registry();
    let brief = |description: &serde_json::Value| -> serde_json::Map<_, _> {
        BRIEF.iter().map(|key| ((*key).to_owned(), description[*key].clone())).collect()
    };
    let models: Vec<_> = registry.models.iter().map(|model| brief(&model.description)).collect();
    json_response(StatusCode::OK, &json!({ "models": models }))
}

async fn model(State(app): State<Arc<App>>, Path(name): Path<String>) -> Result<Response, Refusal> {
    let registry = app.registry();
    let index = registry.find(Some(&name))?;
    Ok(json_response(StatusCode::OK, &registry.models[index].description))
}

/// The report is a document of its own, with styles and pictures within and no script; it may do nothing else.
const REPORT_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

async fn report(State(app): State<Arc<App>>, Path(name): Path<String>) -> Result<Response, Refusal> {
    let registry = app.registry();
    let model = &registry.models[registry.find(Some(&name))?];
    let Some(report) = model.report.clone() else {
        let expected = "a run with a report.html: write it with `roentgen report`, then reload";
        return Err(Refusal::new(StatusCode::NOT_FOUND, format!("no report of `{name}`"), expected));
    };
    let headers =
        [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CONTENT_SECURITY_POLICY, REPORT_POLICY)];
    Ok((headers, Body::from(report)).into_response())
}

/// For the page's link to the report where there is a token: a link cannot carry it in a header, a form can in its
/// body.
async fn report_by_form(
    State(app): State<Arc<App>>,
    path: Path<String>,
    request: Request<Body>,
) -> Result<Response, Refusal> {
    if let Some(token) = &app.settings.token {
        let refuse = |found: &str| {
            let expected = "multipart/form-data with the field `token`";
            Refusal::new(StatusCode::UNAUTHORIZED, found, expected)
        };
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok().map(boundary));
        let Some(Some(Ok(boundary))) = kind else { return Err(refuse("no form")) };
        let limits = crate::Limits { body_bytes: 16 << 10, ..app.settings.limits };
        let (body, _room) = read(request, &limits, &app.admission).await?;
        let parts = parts(&body, &boundary, 1).map_err(|found| refuse(&found))?;
        let shown = parts.iter().find(|part| part.name == "token");
        let shown = shown.and_then(|part| std::str::from_utf8(&part.bytes).ok()).unwrap_or_default();
        if !token.is(shown) {
            return Err(refuse("another token"));
        }
    }
    report(State(app), path).await
}

/// Reads all models anew. Only where a token says who asks: otherwise SIGHUP does it.
async fn reload(State(app): State<Arc<App>>) -> Result<Response, Refusal> {
    if app.settings.token.is_none() {
        let expected = "a server with --token-file; without one, send it SIGHUP";
        return Err(Refusal::new(StatusCode::FORBIDDEN, "no token", expected));
    }
    app.reload().await.map_err(|error| {
        let expected = "models that open; those that were served before still are";
        Refusal::new(StatusCode::CONFLICT, error.to_string(), expected)
    })?;
    Ok(models(State(app)).await)
}
