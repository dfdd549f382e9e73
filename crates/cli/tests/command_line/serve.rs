//! `roentgen serve`: the binary, its signals, and that it answers as `evaluate` does.

use crate::support::*;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

/// A server as a process, and its URL.
fn serve(folder: &Path, arguments: &[&str]) -> (Guard, String) {
    let mut command = command(folder);
    command.args(["serve", "--addr", "127.0.0.1:0"]).args(arguments).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = Guard(command.spawn().unwrap());
    let mut url = String::new();
    BufReader::new(child.0.stdout.take().unwrap()).read_line(&mut url).unwrap();
    assert!(url.starts_with("http://127.0.0.1:"), "{url}");
    (child, url.trim().to_owned())
}

fn predict(url: &str, image: &Path) -> serde_json::Value {
    let sent = ureq::post(format!("{url}/v1/predict")).header("Content-Type", "image/png");
    let text = sent.send(std::fs::read(image).unwrap()).unwrap().body_mut().read_to_string().unwrap();
    serde_json::from_str::<serde_json::Value>(&text).unwrap()["predictions"][0].clone()
}

#[test]
fn the_server_answers_as_evaluate_does_to_the_bit() {
    let folder = scratch();
    copy_finished(folder.path());
    roentgen(folder.path(), &["evaluate", "run"]).succeeds();
    let (child, url) = serve(folder.path(), &["run"]);
    let table = std::fs::read_to_string(folder.path().join("run/predictions-test.csv")).unwrap();
    let mut rows = table.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let header = rows.next().unwrap();
    let column = |name: &str| header.iter().position(|cell| *cell == name).unwrap();
    let metrics = std::fs::read_to_string(folder.path().join("run/metrics-test.json")).unwrap();
    let metrics: serde_json::Value = serde_json::from_str(&metrics).unwrap();
    let youden = &metrics["thresholds"][0];
    assert_eq!(youden["rule"], "youden");
    // All at once, so that they meet in batches that evaluation did not make.
    let rows: Vec<_> = rows.collect();
    assert_eq!(rows.len(), 8);
    std::thread::scope(|scope| {
        for row in &rows {
            let (url, folder) = (&url, folder.path());
            scope.spawn(move || {
                let answer = predict(url, &folder.join("data").join(row[column("path")]));
                assert_eq!(answer["predicted"], row[column("predicted")]);
                for class in ["infected", "normal"] {
                    let served = answer["probabilities"][class].as_f64().unwrap() as f32;
                    let evaluated: f32 = row[column(&format!("p_{class}"))].parse().unwrap();
                    assert_eq!(served.to_bits(), evaluated.to_bits(), "{row:?}");
                }
                assert_eq!(answer["threshold"], youden["threshold"]);
                assert_eq!(answer["threshold_source"], "Youden, chosen on 8 validation images");
            });
        }
    });
    drop(child);
}

#[test]
fn signals_reload_and_end_it() {
    let folder = scratch();
    copy_finished(folder.path());
    let (mut child, url) = serve(folder.path(), &["served=run", "--threshold", "0.25"]);
    let image = folder.path().join("data/test/infected/00.png");
    let before = predict(&url, &image);
    assert_eq!((&before["threshold"], &before["reaches_threshold"]), (&0.25.into(), &true.into()));
    // An evaluation changes nothing before the reload, and the threshold was given on the command line.
    std::fs::write(folder.path().join("run/report.html"), "a report").unwrap();
    let report = || ureq::get(format!("{url}/v1/models/served/report")).call().map(|_| ());
    assert!(report().is_err());
    let pid = Pid::from_raw(child.0.id() as i32);
    kill(pid, Signal::SIGHUP).unwrap();
    let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while report().is_err() {
        assert!(std::time::Instant::now() < until, "the report was not read anew");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(predict(&url, &image), before);
    kill(pid, Signal::SIGTERM).unwrap();
    assert_eq!(child.0.wait().unwrap().code(), Some(0));
}

#[test]
fn wrong_calls_say_what_to_do() {
    let folder = scratch();
    copy_finished(folder.path());
    let call = |arguments: &[&str]| roentgen(folder.path(), &[&["serve"], arguments].concat());
    call(&["run", "--addr", "0.0.0.0:0"]).fails(2, &["0.0.0.0:0", "--token-file", "--allow-without-token"]);
    call(&["data"]).fails(2, &["data", "not a run directory"]);
    call(&["run", "run"]).fails(2, &["second model", "NAME=RUN"]);
    call(&["run", "--threshold", "2"]).fails(2, &["--threshold", "expected youden"]);
    call(&["run", "--threshold", "cost"]).fails(1, &["no threshold by cost", "roentgen evaluate"]);
    std::fs::write(folder.path().join("token"), "short").unwrap();
    call(&["run", "--token-file", "token"]).fails(2, &["token", "5 characters"]);
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = held.local_addr().unwrap().to_string();
    call(&["run", "--addr", &address]).fails(1, &["cannot listen on", &address]);
    // A search's candidate answers nobody before the winner is fixed, whatever the name it is to have.
    copy(&folder.path().join("run"), &folder.path().join("sealed"));
    std::fs::write(folder.path().join("sealed/test-sealed"), "").unwrap();
    for models in [&["sealed"][..], &["run", "other=sealed"], &["sealed/model.safetensors"]] {
        let words = ["sealed: the run belongs to a search", "without the test images"];
        call(&[models, &["--addr", &address]].concat()).fails(2, &words);
    }
}
