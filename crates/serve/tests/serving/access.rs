//! Who may ask.

use crate::support::*;
use roentgen_cpu::CpuEngine;
use roentgen_serve::{ModelSource, ServeError, Server, Settings};
use std::sync::Arc;

fn bind(settings: Settings, names: &[&str]) -> Result<Server, ServeError> {
    let sources = names.iter().map(|name| ModelSource { name: (*name).into(), path: run().into() }).collect();
    Server::bind(Arc::new(CpuEngine::new(1).unwrap()), sources, settings)
}

#[test]
fn beyond_loopback_there_is_a_token_or_a_word_that_there_is_none() {
    let open = Settings { address: "0.0.0.0:0".parse().unwrap(), ..settings() };
    let error = bind(open.clone(), &["a"]).err().expect("refused").to_string();
    assert!(error.contains("--token-file") && error.contains("--allow-without-token"), "{error}");
    assert!(bind(with_token(open.clone()), &["a"]).is_ok());
    assert!(bind(Settings { allow_without_token: true, ..open }, &["a"]).is_ok());
}

#[test]
fn names_of_models_are_plain_and_unique() {
    for (names, word) in
        [(&["a", "a"][..], "second"), (&["a b"], "other characters"), (&[""], "none"), (&[".."], "dots")]
    {
        let error = bind(settings(), names).err().expect("refused").to_string();
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn with_a_token_everything_but_the_page_asks_for_it() {
    let serving = Serving::start(with_token(settings()));
    for open in ["/", "/page.css", "/page.js", "/openapi.json", "/healthz", "/readyz"] {
        serving.get(open).succeeds();
    }
    let right = format!("Authorization: Bearer {TOKEN}");
    let wrong = format!("Authorization: Bearer {TOKEN}x");
    for closed in ["/metrics", "/v1/models", "/v1/models/served", "/v1/nothing"] {
        let refused = serving.get(closed).refused_with(401, &["no token", "Authorization: Bearer"]);
        assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
        serving.get_with(closed, &wrong).refused_with(401, &["another token"]);
        serving.get_with(closed, &format!("Authorization: Basic {TOKEN}")).refused_with(401, &["another token"]);
        let status = serving.get_with(closed, &right).status;
        assert_eq!(status, if closed == "/v1/nothing" { 404 } else { 200 });
    }
    let image = disc(64, 0);
    serving.post("/v1/predict", "image/png", &image).refused_with(401, &["no token"]);
    let bearer = format!("bearer {TOKEN}");
    serving
        .raw(&request("/v1/predict", &[("Content-Type", "image/png"), ("Authorization", &bearer)], &image))
        .succeeds();
}

/// A form with the field `token`.
fn token_form(token: &str) -> String {
    format!("--edge\r\nContent-Disposition: form-data; name=\"token\"\r\n\r\n{token}\r\n--edge--\r\n")
}

#[test]
fn the_report_opens_with_the_token_in_a_form() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    write_run(&path, 1);
    std::fs::write(path.join("report.html"), "<title>the report</title>").unwrap();
    let serving = Serving::of(&[("a", &path)], with_token(settings()));
    let report = "/v1/models/a/report";
    serving.get(report).refused_with(401, &["no token"]);
    let form = |token| serving.post(report, "multipart/form-data; boundary=edge", token_form(token).as_bytes());
    form("another token").refused_with(401, &["another token"]);
    serving.post(report, "text/plain", b"x").refused_with(401, &["no form"]);
    let page = form(TOKEN).succeeds();
    assert_eq!(page.text(), "<title>the report</title>");
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("sandbox"), "{policy}");
}

#[test]
fn pages_of_other_sites_cannot_ask() {
    let serving = Serving::start(settings());
    let image = disc(64, 0);
    let ask = |origin: &str| {
        let headers = [("Content-Type", "image/png"), ("Origin", origin)];
        serving.raw(&request("/v1/predict", &headers, &image))
    };
    ask("http://localhost").succeeds();
    ask("https://evil.example").refused_with(403, &["https://evil.example"]);
    ask("null").refused_with(403, &["Origin null"]);
    // A name that a stranger's name server lets point to this machine.
    let rebound = "GET /v1/models HTTP/1.1\r\nHost: evil.example\r\n\r\n";
    serving.raw(rebound.as_bytes()).refused_with(421, &["evil.example", "--token-file"]);
    // A token is proof enough, whatever the name.
    let serving = Serving::start(with_token(settings()));
    let named = format!("GET /v1/models HTTP/1.1\r\nHost: xray.example\r\nAuthorization: Bearer {TOKEN}\r\n\r\n");
    serving.raw(named.as_bytes()).succeeds();
}

#[test]
fn answers_say_what_a_browser_may_do_with_them() {
    let serving = Serving::start(settings());
    for path in ["/", "/v1/models", "/nothing"] {
        let answer = serving.get(path);
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    // What the page loads is its own: no other address stands in it.
    for path in ["/", "/page.css", "/page.js"] {
        let text = serving.get(path).text();
        assert!(!text.contains("http:") && !text.contains("https:") && !text.contains("//cdn"), "{path}");
        assert!(!text.contains("localStorage") && !text.contains("document.cookie"), "{path}");
    }
}
