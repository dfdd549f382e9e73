//! From a request to the images in it, within limits.

use crate::Limits;
use crate::admission::Admission;
use crate::multipart::{boundary, parts};
use crate::refusal::Refusal;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};

/// Types of a body that is one image. What it really is, its bytes say.
const IMAGE_TYPES: [&str; 5] =
    ["image/png", "image/jpeg", "application/dicom", "application/dicom+octet-stream", "application/octet-stream"];

/// An image as it was sent.
pub(crate) struct Upload {
    /// For answers and messages.
    pub(crate) name: String,
    pub(crate) bytes: Bytes,
}

/// The images of a request, and the room that they take.
pub(crate) struct Uploads {
    pub(crate) images: Vec<Upload>,
    pub(crate) room: Option<OwnedSemaphorePermit>,
}

/// Reads the images of a request: the one that is its body, or all files of a form.
pub(crate) async fn images(request: Request<Body>, limits: &Limits, admission: &Admission) -> Result<Uploads, Refusal> {
    let kind = content_type(request.headers());
    let boundary = boundary(&kind).transpose().map_err(|found| {
        Refusal::new(StatusCode::BAD_REQUEST, found, "multipart/form-data with the boundary of its parts")
    })?;
    if boundary.is_none() && !IMAGE_TYPES.contains(&media_type(&kind).as_str()) {
        let found = if kind.is_empty() { "no Content-Type".into() } else { format!("Content-Type {kind}") };
        let expected = format!("{}, or multipart/form-data with files", IMAGE_TYPES.join(", "));
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, found, expected));
    }
    let (body, room) = read(request, limits, admission).await?;
    let images = match boundary {
        None => vec![Upload { name: "image".into(), bytes: body }],
        Some(boundary) => {
            let malformed = |found: String| {
                let expected = format!("multipart/form-data with 1 to {} files", limits.images);
                Refusal::new(StatusCode::BAD_REQUEST, found, expected)
            };
            let parts = parts(&body, &boundary, limits.images).map_err(malformed)?;
            if let Some(field) = parts.iter().find(|part| part.file_name.is_none()) {
                return Err(malformed(format!("a field `{}` that is no file", shortened(&field.name))));
            }
            if parts.is_empty() {
                return Err(malformed("no file".into()));
            }
            let name = |part: &crate::multipart::Part| shortened(part.file_name.as_deref().unwrap_or_default());
            parts.into_iter().map(|part| Upload { name: name(&part), bytes: part.bytes }).collect()
        }
    };
    Ok(Uploads { images, room })
}

/// Reads a body as a whole. Memory is taken for what has arrived, not for what was announced.
pub(crate) async fn read(
    request: Request<Body>,
    limits: &Limits,
    admission: &Admission,
) -> Result<(Bytes, Option<OwnedSemaphorePermit>), Refusal> {
    let headers = request.headers();
    if let Some(encoding) = headers.get(header::CONTENT_ENCODING).filter(|encoding| *encoding != "identity") {
        let found = format!("Content-Encoding {}", String::from_utf8_lossy(encoding.as_bytes()));
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, found, "a body that is not compressed"));
    }
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let mut body = request.into_body();
    let too_long = |found: String| {
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, found, format!("at most {} bytes", limits.body_bytes))
    };
    if let Some(length) = announced.filter(|length| *length > limits.body_bytes as u64) {
        return Err(too_long(format!("a body of {length} bytes")));
    }
    let deadline = Instant::now() + limits.request_time;
    let mut bytes = BytesMut::new();
    let mut room = None;
    loop {
        let seconds = limits.request_time.as_secs_f64();
        let frame = timeout_at(deadline, body.frame()).await.map_err(|_| {
            let found = format!("{} bytes of a body after {seconds} s", bytes.len());
            Refusal::new(StatusCode::REQUEST_TIMEOUT, found, "the whole body by then")
        })?;
        let Some(frame) = frame else { return Ok((bytes.freeze(), room)) };
        let frame = frame.map_err(|error| {
            Refusal::new(StatusCode::BAD_REQUEST, format!("a body that breaks off: {error}"), "a whole body")
        })?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > limits.body_bytes {
            return Err(too_long("a body that goes on".into()));
        }
        admission.grow(&mut room, bytes.len() + data.len())?;
        bytes.extend_from_slice(&data);
    }
}

fn content_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    value.unwrap_or_default()
}

/// The type without its parameters, in lower case.
fn media_type(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// A stranger's name for a file, as far as a message repeats it.
fn shortened(name: &str) -> String {
    const LONGEST: usize = 200;
    name.chars().filter(|character| !character.is_control()).take(LONGEST).collect()
}
