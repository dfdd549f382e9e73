//! What every request passes first: whose it is, and what is counted and said of its answer.

use crate::app::App;
use crate::refusal::Refusal;
use crate::routes::{OPEN_PATHS, route_of};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

/// What the page may load: its own files, and pictures that are part of an answer; no script or style within the
/// document.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; \
     connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Headers of every answer that does not set its own.
const HEADERS: [(header::HeaderName, &str); 5] = [
    (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "same-origin"),
    (header::CACHE_CONTROL, "no-store"),
    (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// Checks, answers, counts.
pub(crate) async fn guard(State(app): State<Arc<App>>, request: Request<Body>, next: Next) -> Response {
    let begun = Instant::now();
    let route = route_of(request.uri().path());
    let chunked = request.headers().contains_key(header::TRANSFER_ENCODING);
    let head = request.method() == Method::HEAD;
    let mut response = match check(&app, &request) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    };
    let status = response.status();
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    // Where a body's length could be read in two ways, somebody in front may have read it in the other one: what
    // follows on this connection is not to be believed.
    if chunked || status == StatusCode::REQUEST_TIMEOUT || status == StatusCode::PAYLOAD_TOO_LARGE {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if !head {
        app.counters.answered(route, status, begun.elapsed());
    }
    response
}

fn check(app: &App, request: &Request<Body>) -> Result<(), Refusal> {
    let headers = request.headers();
    let host = host(request)?;
    match &app.settings.token {
        Some(token) => {
            let path = request.uri().path();
            // A form cannot send headers: there the handler looks for the token in the body.
            let is_form = request.method() == Method::POST && path.ends_with("/report");
            if OPEN_PATHS.contains(&path) || is_form || bearer(headers).is_some_and(|shown| token.is(shown)) {
                return Ok(());
            }
            let found = if headers.contains_key(header::AUTHORIZATION) { "another token" } else { "no token" };
            Err(Refusal::new(StatusCode::UNAUTHORIZED, found, "the header `Authorization: Bearer TOKEN`"))
        }
        None => {
            // Without a token, whoever reaches the server may ask; a page of another site that is open in a browser on
            // this machine reaches it too, and must not. It may also let its own name point here.
            if !app.settings.allow_without_token && !is_this_machine(host) {
                let expected = "localhost or an IP address; for other names start the server with --token-file";
                return Err(Refusal::new(StatusCode::MISDIRECTED_REQUEST, format!("Host {host}"), expected));
            }
            match headers.get(header::ORIGIN).map(HeaderValue::to_str) {
                Some(Ok(origin)) if origin.split_once("://").is_some_and(|(_, origin)| origin == host) => Ok(()),
                Some(origin) => {
                    let found = format!("Origin {}", origin.unwrap_or("that is not text"));
                    Err(Refusal::new(StatusCode::FORBIDDEN, found, "requests of this server's own page"))
                }
                None => Ok(()),
            }
        }
    }
}

/// The one Host of a request.
fn host(request: &Request<Body>) -> Result<&str, Refusal> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let refuse = |found: &str| Refusal::new(StatusCode::BAD_REQUEST, found, "one header Host");
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().map_err(|_| refuse("a Host that is not text")),
        (Some(_), Some(_)) => Err(refuse("several headers Host")),
        (None, _) if request.version() < Version::HTTP_11 => Ok("localhost"),
        (None, _) => Err(refuse("no header Host")),
    }
}

/// Whether a Host is an address or `localhost`, which no stranger's name server can answer for.
fn is_this_machine(host: &str) -> bool {
    let Ok(uri) = host.parse::<Uri>() else { return false };
    let name = uri.host().unwrap_or_default();
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok()
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use super::is_this_machine;

    #[test]
    fn names_that_others_can_point_here_are_told_apart() {
        for host in ["localhost", "LOCALHOST:8080", "127.0.0.1", "127.0.0.1:8080", "[::1]:8080", "[::1]", "10.0.0.7"] {
            assert!(is_this_machine(host), "{host}");
        }
        for host in ["", "evil.example", "localhost.evil.example:80", "127.0.0.1.evil.example", "a b", ":80"] {
            assert!(!is_this_machine(host), "{host}");
        }
    }
}
