//! What happens on the disk, and when it counts.

use crate::support::*;

fn reload(serving: &Serving) -> Answer {
    serving.raw(&request("/v1/reload", &[("Authorization", &format!("Bearer {TOKEN}"))], b""))
}

#[test]
fn a_replaced_model_counts_from_the_reload_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    write_run(&path, 1);
    let serving = Serving::of(&[("a", &path)], with_token(settings()));
    let image = disc(64, 0);
    let bearer = format!("Bearer {TOKEN}");
    let ask = || {
        let headers = [("Content-Type", "image/png"), ("Authorization", bearer.as_str())];
        serving.raw(&request("/v1/predict", &headers, &image)).succeeds().text()
    };
    let sha256 = |answer: &Answer| answer.json()["models"][0]["weights_sha256"].as_str().unwrap().to_owned();
    let models = || serving.get_with("/v1/models", &format!("Authorization: {bearer}")).succeeds();
    let (first, first_sha256) = (ask(), sha256(&models()));

    write_run(&path, 2);
    assert_eq!((ask(), sha256(&models())), (first.clone(), first_sha256.clone()));
    let second_sha256 = sha256(&reload(&serving).succeeds());
    let second = ask();
    assert_ne!(second, first);
    assert_ne!(second_sha256, first_sha256);

    // What does not open leaves everything as it was.
    std::fs::write(path.join("model.safetensors"), b"half a file").unwrap();
    reload(&serving).refused_with(409, &["model.safetensors"]);
    assert_eq!((ask(), sha256(&models())), (second.clone(), second_sha256));

    write_run(&path, 1);
    std::fs::write(path.join("metrics-test.json"), b"{}").unwrap();
    reload(&serving).refused_with(409, &["metrics-test.json", "roentgen evaluate"]);
    assert_eq!(ask(), second);
    std::fs::remove_file(path.join("metrics-test.json")).unwrap();
    // A search has taken the run up, and has not chosen yet.
    std::fs::write(path.join("test-sealed"), b"").unwrap();
    reload(&serving).refused_with(409, &["test-sealed", "a search", "after the choice"]);
    assert_eq!(ask(), second);
    std::fs::remove_file(path.join("test-sealed")).unwrap();
    reload(&serving).succeeds();
    assert_eq!(ask(), first);
}

#[test]
fn without_a_token_nobody_reloads_over_http() {
    let serving = Serving::start(settings());
    serving.raw(&request("/v1/reload", &[], b"")).refused_with(403, &["no token", "SIGHUP"]);
}
