//! What the server says.

use crate::support::*;
use roentgen_cpu::CpuEngine;
use roentgen_data::decode::{Limits, decode_bytes};
use roentgen_infer::{Model, Predictor, arithmetic};
use roentgen_run::config;
use std::sync::Barrier;

/// The logits that the library gives for the bytes of an image.
fn expected_logits(images: &[Vec<u8>]) -> Vec<Vec<f32>> {
    let engine = CpuEngine::new(1).unwrap();
    let mut model = Model::open(run()).unwrap();
    let arithmetic = arithmetic(config::Precision::F32, false);
    let mut predictor = Predictor::new(&engine, &model.network, arithmetic, None).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let paths: Vec<_> = (0..images.len()).map(|index| folder.path().join(format!("{index}.png"))).collect();
    paths.iter().zip(images).for_each(|(path, bytes)| std::fs::write(path, bytes).unwrap());
    let mut logits = Vec::new();
    let keep = |answer: Result<roentgen_infer::FilePrediction, _>| {
        logits.push(answer.map_err(|(_, error)| error).unwrap().logits);
        true
    };
    predictor.files(&mut model.store, &paths, None, keep).unwrap();
    logits
}

fn logits(prediction: &serde_json::Value) -> Vec<f32> {
    prediction["logits"].as_array().unwrap().iter().map(|logit| logit.as_f64().unwrap() as f32).collect()
}

#[test]
fn logits_have_the_bits_of_the_library_in_any_batch() {
    let images: Vec<Vec<u8>> = (0..24).map(|variant| disc(70 + variant, variant)).collect();
    let expected = expected_logits(&images);
    let serving = Serving::start(settings());
    // All at once, so that they meet in batches.
    let barrier = Barrier::new(images.len());
    let found: Vec<Vec<f32>> = std::thread::scope(|scope| {
        let (serving, barrier) = (&serving, &barrier);
        let clients: Vec<_> = images
            .iter()
            .map(|image| {
                scope.spawn(move || {
                    barrier.wait();
                    let answer = serving.post("/v1/predict", "image/png", image).succeeds().json();
                    logits(&answer["predictions"][0])
                })
            })
            .collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    assert_eq!(found, expected);
    assert!(serving.counted("roentgen_batch_images_count{}") < 24.0, "no batch held two images");
    assert_eq!(serving.counted("roentgen_images_total{model=\"served\",work=\"predict\"}"), 24.0);
    assert_eq!(serving.counted("roentgen_images_waiting"), 0.0);
    assert_eq!(serving.counted("roentgen_body_bytes"), 0.0);
}

#[test]
fn several_images_are_answered_in_their_order() {
    let serving = Serving::start(settings());
    let images: Vec<Vec<u8>> = (0..4).map(|variant| disc(80, variant * 5)).collect();
    let names = ["b.png", "a.png", "d \"x\".png", "c.png"];
    let files: Vec<(&str, &[u8])> =
        ["b.png", "a.png", "d \\\"x\\\".png", "c.png"].into_iter().zip(images.iter().map(Vec::as_slice)).collect();
    let (kind, body) = form(&files);
    let answer = serving.post("/v1/predict", &kind, &body).succeeds().json();
    assert_eq!(answer["model"], "served");
    let predictions = answer["predictions"].as_array().unwrap();
    let expected = expected_logits(&images);
    assert_eq!(predictions.len(), 4);
    for ((prediction, name), expected) in predictions.iter().zip(names).zip(expected) {
        assert_eq!(prediction["file"], name);
        assert_eq!(logits(prediction), expected);
        let sum: f64 = CLASSES.iter().map(|class| prediction["probabilities"][class].as_f64().unwrap()).sum();
        assert!((sum - 1.0).abs() < 1e-6);
        let infected = prediction["probabilities"]["infected"].as_f64().unwrap();
        assert_eq!(prediction["predicted"], if infected >= 0.5 { "infected" } else { "normal" });
        assert_eq!((&prediction["positive"], &prediction["threshold"]), (&"infected".into(), &0.5.into()));
        assert_eq!(prediction["reaches_threshold"], infected >= 0.5);
        assert!(prediction["threshold_source"].as_str().unwrap().contains("not calibrated"));
    }
}

#[test]
fn dicom_files_are_images_too() {
    let fixture = |name: &str| {
        let path = format!("{}/../data/tests/fixtures/dicom/{name}.dcm", env!("CARGO_MANIFEST_DIR"));
        std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    };
    let serving = Serving::start(settings());
    let names = ["explicit-16s", "jpeg-lossless-70-12", "jpeg2000-8", "rle-8"];
    let files = names.map(|name| fixture(&format!("syntaxes/{name}")));
    let expected = expected_logits(&files);
    for (file, expected) in files.iter().zip(&expected) {
        let answer = serving.post("/v1/predict", "application/dicom", file).succeeds().json();
        assert_eq!(&logits(&answer["predictions"][0]), expected);
    }
    let parts: Vec<(&str, &[u8])> = names.into_iter().zip(files.iter().map(Vec::as_slice)).collect();
    let (kind, body) = form(&parts);
    let answer = serving.post("/v1/predict", &kind, &body).succeeds().json();
    let together: Vec<_> = answer["predictions"].as_array().unwrap().iter().map(logits).collect();
    assert_eq!(together, expected);
    let explained = serving.post("/v1/explain", "application/dicom", &files[0]).succeeds().json();
    assert_eq!(logits(&explained["explanations"][0]), expected[0]);
    // Of several frames one must be chosen, at either address.
    let three = fixture("frames/native");
    let frames = |ask: &str| serving.post(ask, "application/dicom", &three);
    for place in ["/v1/predict", "/v1/explain"] {
        frames(place).refused_with(422, &["3 frames", "?frame=N", "1 to 3"]);
        frames(&format!("{place}?frame=4")).refused_with(422, &["frame 4", "1 to 3"]);
        frames(&format!("{place}?frame=0")).refused_with(400, &["frame=N"]);
        frames(&format!("{place}?model=served&frame=3")).succeeds();
    }
    let bad =
        [(422, "no-pixel-data", "pixel data"), (422, "jpeg-ls", "1.2.840.10008.1.2.4.8"), (413, "huge", "pixels")];
    for (status, name, words) in bad {
        let answer = serving.post("/v1/predict", "application/dicom", &fixture(&format!("bad/{name}")));
        answer.refused_with(status, &[words]);
    }
}

#[test]
fn explanations_are_pictures_over_the_image() {
    let serving = Serving::start(settings());
    let image = disc(90, 3);
    let prediction = serving.post("/v1/predict", "image/png", &image).succeeds().json()["predictions"][0].clone();
    let path = "/v1/explain?method=hires-cam&class=normal";
    let answer = serving.post(path, "image/png", &image).succeeds().json();
    let explanation = &answer["explanations"][0];
    // The same answer as predict's, to the bit.
    assert_eq!(logits(explanation), logits(&prediction));
    assert_eq!((&explanation["class"], &explanation["method"]), (&"normal".into(), &"hires-cam".into()));
    assert_eq!((&explanation["width"], &explanation["height"]), (&90.into(), &90.into()));
    assert_eq!(explanation["map"]["values"].as_array().unwrap().len(), 4);
    for picture in ["image", "heat_map"] {
        assert!(explanation[picture].as_str().unwrap().starts_with("data:image/png;base64,"));
    }
    let other = serving.post("/v1/explain?class=infected", "image/png", &image).succeeds().json();
    assert_ne!(other["explanations"][0]["heat_map"], explanation["heat_map"]);
    let asked = |kind: &str, accept: &str, body: &[u8]| {
        serving.raw(&request(path, &[("Content-Type", kind), ("Accept", accept)], body))
    };
    let overlay = asked("image/png", "image/png, */*", &image).succeeds();
    assert_eq!(overlay.header("content-type"), Some("image/png"));
    let picture = decode_bytes("overlay", &overlay.body, &Limits::default()).unwrap();
    // With a line of text above it, and its legend below.
    assert!(picture.width() >= 90 && picture.height() > 90);
    // Of several images there is no one picture: JSON, unless it is not acceptable.
    let (kind, two) = form(&[("a.png", &image), ("b.png", &image)]);
    let both = asked(&kind, "image/png;q=0.9, application/json;q=0.1", &two).succeeds();
    assert_eq!(both.json()["explanations"].as_array().unwrap().len(), 2);
    asked(&kind, "image/png", &two).refused_with(406, &["2 images", "application/json"]);
    asked("image/png", "text/html", &image).refused_with(406, &["application/json", "image/png"]);

    for written in ["grad-cam++", "grad-cam%2B%2B"] {
        let answer = serving.post(&format!("/v1/explain?method={written}"), "image/png", &image).succeeds().json();
        assert_eq!(answer["explanations"][0]["method"], "grad-cam++");
    }
    serving.post("/v1/explain?class=ill", "image/png", &image).refused_with(400, &["`ill`", "infected, normal"]);
    serving.post("/v1/explain?method=lime", "image/png", &image).refused_with(400, &["`lime`", "grad-cam"]);
    serving.post("/v1/explain?klass=ill", "image/png", &image).refused_with(400, &["klass"]);
}

#[test]
fn several_models_answer_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("other");
    write_run(&other, 2);
    let serving = Serving::of(&[("first", run()), ("second", &other)], settings());
    let image = disc(64, 0);
    let ask = |path: &str| serving.post(path, "image/png", &image).succeeds().json();
    let first = ask("/v1/predict");
    assert_eq!(first, ask("/v1/predict?model=first"));
    let second = ask("/v1/predict?model=second");
    assert_eq!((&first["model"], &second["model"]), (&"first".into(), &"second".into()));
    assert_ne!(first["predictions"], second["predictions"]);
    serving.post("/v1/predict?model=third", "image/png", &image).refused_with(404, &["`third`", "first, second"]);
    let models = serving.get("/v1/models").succeeds().json();
    let names: Vec<_> = models["models"].as_array().unwrap().iter().map(|model| model["name"].clone()).collect();
    assert_eq!(names, ["first", "second"]);
    assert_ne!(models["models"][0]["weights_sha256"], models["models"][1]["weights_sha256"]);
    let detail = serving.get("/v1/models/second").succeeds().json();
    assert_eq!((&detail["architecture"], &detail["report"]), (&"resnet18".into(), &false.into()));
}

#[test]
fn every_path_of_the_description_is_answered() {
    let serving = Serving::start(settings());
    let description = serving.get("/openapi.json").succeeds().json();
    assert_eq!(description["openapi"], "3.1.0");
    let paths = description["paths"].as_object().unwrap();
    assert!(paths.len() >= 11);
    for (path, methods) in paths {
        for method in methods.as_object().unwrap().keys() {
            let (method, path) = (method.to_uppercase(), path.replace("{name}", "served"));
            let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
            let answer = serving.raw(head.as_bytes());
            let unknown = answer.status == 405 || answer.status == 404 && !path.ends_with("/report");
            assert!(!unknown, "{method} {path}: {}", answer.text());
            let wrong = format!("DELETE {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            serving.raw(wrong.as_bytes()).refused_with(405, &["DELETE", &path]);
        }
    }
    serving.get("/readyz").succeeds();
    let metrics = serving.get("/metrics").succeeds();
    assert!(metrics.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    assert!(metrics.text().contains("roentgen_requests_total{route=\"/readyz\",status=\"200\"} 2\n"));
}
