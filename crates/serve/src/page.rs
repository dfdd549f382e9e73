//! The page and the description of the interface: files that are part of the program.

use axum::http::{HeaderName, header};

type File = ([(HeaderName, &'static str); 1], &'static str);

const fn file(kind: &'static str, text: &'static str) -> File {
    ([(header::CONTENT_TYPE, kind)], text)
}

pub(crate) async fn html() -> File {
    file("text/html; charset=utf-8", include_str!("../assets/page.html"))
}

pub(crate) async fn css() -> File {
    file("text/css; charset=utf-8", include_str!("../assets/page.css"))
}

pub(crate) async fn js() -> File {
    file("text/javascript; charset=utf-8", include_str!("../assets/page.js"))
}

pub(crate) async fn openapi() -> File {
    file("application/json", include_str!("../assets/openapi.json"))
}
