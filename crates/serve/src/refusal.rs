//! How a request is refused: a status, and as JSON what was found and what was expected.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use roentgen_data::DataError;
use serde_json::json;

/// Why a request gets no answer.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    found: String,
    expected: String,
}

/// Seconds after which a client that met a full server should ask again.
const RETRY_AFTER_S: u64 = 1;

impl Refusal {
    pub(crate) fn new(status: StatusCode, found: impl Into<String>, expected: impl Into<String>) -> Refusal {
        Refusal { status, found: found.into(), expected: expected.into() }
    }

    /// The server has as much to do as it may have.
    pub(crate) fn busy(found: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, found, "fewer requests at a time; ask again in a moment")
    }

    /// The server's own fault.
    pub(crate) fn internal(found: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, found, "no error; look at what the server wrote to stderr")
    }

    /// An image that cannot be decoded.
    pub(crate) fn image(error: &DataError, pixels: u64) -> Refusal {
        let status = match error {
            DataError::ImageTooLarge { .. } | DataError::ImageTooElongated { .. } | DataError::FileTooLarge { .. } => {
                StatusCode::PAYLOAD_TOO_LARGE
            }
            DataError::NotAnImage { .. } | DataError::ImageUnsupported { .. } | DataError::ImageEmpty { .. } => {
                StatusCode::UNSUPPORTED_MEDIA_TYPE
            }
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        };
        if let DataError::SeveralFrames { file, frames } = error {
            let expected = format!("one of them: add ?frame=N to the address, with N from 1 to {frames}");
            return Refusal::new(status, format!("{file}: has {frames} frames, and an image is one"), expected);
        }
        let expected = format!("a radiograph as PNG, JPEG or DICOM of at most {} million pixels", pixels as f64 / 1e6);
        Refusal::new(status, error.to_string(), expected)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = self.status;
        let body = json!({ "error": { "status": status.as_u16(), "found": self.found, "expected": self.expected } });
        let mut response = json_response(status, &body);
        let headers = response.headers_mut();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_S));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// An answer as JSON.
pub(crate) fn json_response(status: StatusCode, body: &impl serde::Serialize) -> Response {
    let text = serde_json::to_string(body).expect("maps have text as keys, and nothing else can fail");
    (status, [(header::CONTENT_TYPE, "application/json")], text).into_response()
}
