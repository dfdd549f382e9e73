//! Experiments: rows that go on after any kill, rows that fail alone, and files that say what is wrong in them.

use crate::support::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Rows that share batches: two whose frozen values are kept, and one that trains everything.
const FILE: &str = r#"format_version = 1
title = "Tiny"

[base.network]
weights = "none"
hidden = 24

[base.training]
epochs = 2
batch_size = 8
learning_rate = 0.01

[base.data]
image_size = 32
augment = "none"

[[row]]
name = "head"
title = "Head only"
freeze.unfreeze = ["head"]
published = { accuracy = 0.9, f1 = 0.9, f1_class = "normal", confusion_matrix = [[4, 0], [1, 3]] }

[[row]]
name = "layer4"
freeze.unfreeze = ["layer4", "head"]

[[row]]
name = "all"
freeze.unfreeze = ["all"]
"#;

fn experiment(folder: &Path, arguments: &[&str]) -> Answer {
    Answer::of(experiment_command(folder, arguments).output().expect("the binary starts"))
}

fn experiment_command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = command(folder);
    command.args(["experiment", "tiny.toml", "--data", "data"]).args(arguments);
    command
}

fn prepared(text: &str) -> tempfile::TempDir {
    let folder = scratch();
    data_set(folder.path());
    std::fs::write(folder.path().join("tiny.toml"), text).unwrap();
    folder
}

/// All that must not depend on how it went, by name.
fn outcome(out: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for run in ["head", "layer4", "all"] {
        let folder = out.join("runs").join(format!("{run}-seed-0"));
        for name in ["model.safetensors", "predictions-test.csv", "metrics-test.json", "steps.csv"] {
            files.insert(format!("{run}/{name}"), std::fs::read(folder.join(name)).unwrap());
        }
    }
    // The eighth column of the table holds seconds.
    let table = std::fs::read_to_string(out.join("table.csv")).unwrap();
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(table.as_bytes());
    let timeless: Vec<String> = reader
        .records()
        .map(|record| {
            record.unwrap().iter().enumerate().filter(|(i, _)| *i != 7).map(|(_, c)| c.to_owned() + ",").collect()
        })
        .collect();
    files.insert("table.csv".into(), timeless.join("\n").into_bytes());
    files
}

#[test]
fn killed_at_any_moment_an_experiment_ends_with_the_same_files() {
    let folder = prepared(FILE);
    let begun = Instant::now();
    let answer = experiment(folder.path(), &["--out", "whole"]).succeeds();
    let whole = begun.elapsed();
    assert!(
        answer.stdout.contains("Table 1: resnet18") && answer.stdout.contains("| Head only |"),
        "{}",
        answer.stdout
    );
    assert!(answer.stderr.contains("2 runs in step (head-seed-0, layer4-seed-0)"), "{}", answer.stderr);
    let words = "evaluating 2 models in one pass, 2 of them behind one frozen prefix";
    assert_eq!(answer.stderr.matches(words).count(), 1, "{}", answer.stderr);
    let expected = outcome(&folder.path().join("whole"));
    let page = std::fs::read_to_string(folder.path().join("whole/report.html")).unwrap();
    assert!(page.contains("head-seed-0&#x2f;report.html") && page.contains("Which differences hold"));
    assert!(!folder.path().join("whole/cache").exists());
    // Rows are evaluated together, and each has the bits of an evaluation by itself.
    for (name, bytes) in &expected {
        if let Some(row) = name.strip_suffix("/predictions-test.csv") {
            let run = format!("{row}-seed-0");
            copy(&folder.path().join("whole/runs").join(&run), &folder.path().join("alone").join(&run));
            let place = folder.path().join("alone").join(&run);
            let validation = std::fs::read(place.join("predictions-validation.csv")).unwrap();
            std::fs::remove_file(place.join("predictions-validation.csv")).unwrap();
            roentgen(folder.path(), &["evaluate", &format!("alone/{run}")]).succeeds();
            assert!(std::fs::read(place.join("predictions-test.csv")).unwrap() == *bytes, "{row}");
            assert!(std::fs::read(place.join("predictions-validation.csv")).unwrap() == validation, "{row}");
            let metrics = std::fs::read(place.join("metrics-test.json")).unwrap();
            assert!(metrics == expected[&format!("{row}/metrics-test.json")], "{row}");
        }
    }
    for (number, share) in [0.2, 0.45, 0.7, 0.9].into_iter().enumerate() {
        let out = format!("killed-{number}");
        let mut command = experiment_command(folder.path(), &["--out", &out]);
        let mut child = Guard(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let begun = Instant::now();
        while begun.elapsed() < whole.mul_f64(share) && child.0.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        drop(child);
        experiment(folder.path(), &["--out", &out]).succeeds();
        let after = outcome(&folder.path().join(&out));
        for (name, bytes) in &expected {
            assert!(after[name] == *bytes, "{name} differs after a kill at {share}");
        }
    }
    // What is finished stays as it is.
    let model = folder.path().join("whole/runs/all-seed-0/model.safetensors");
    let written = std::fs::metadata(&model).unwrap().modified().unwrap();
    let again = experiment(folder.path(), &["--out", "whole"]).succeeds();
    assert_eq!(std::fs::metadata(&model).unwrap().modified().unwrap(), written);
    assert!(!again.stderr.contains("epoch"), "{}", again.stderr);
    // Killed while rows were evaluated, of which one has answered for the validation images and one has not.
    for (row, file) in
        [("head", "metrics-test.json"), ("layer4", "metrics-test.json"), ("layer4", "predictions-validation.csv")]
    {
        std::fs::remove_file(folder.path().join(format!("whole/runs/{row}-seed-0/{file}"))).unwrap();
    }
    let again = experiment(folder.path(), &["--out", "whole"]).succeeds();
    assert!(again.stderr.contains(words), "{}", again.stderr);
    assert!(outcome(&folder.path().join("whole")) == expected);
    // Another row joins without the others being touched; other settings do not.
    let longer = FILE.to_owned() + "\n[[row]]\nname = \"bn\"\nfreeze.unfreeze = [\"layer4.1.bn2\", \"head\"]\n";
    std::fs::write(folder.path().join("tiny.toml"), longer).unwrap();
    let joined = experiment(folder.path(), &["--out", "whole"]).succeeds();
    assert!(joined.stderr.contains("3 of 4 runs done"), "{}", joined.stderr);
    let refused = experiment(folder.path(), &["--out", "whole", "--lr", "0.02"]);
    refused.fails(2, &["whole/runs/head-seed-0", "training.learning_rate = 0.01", "asks for 0.02", "another --out"]);
}

#[test]
fn seeds_and_folds_are_runs_of_their_own() {
    let folder = prepared(FILE);
    let out = folder.path().join("out");
    let settings = ["--out", "out", "--seeds", "3,4", "--folds", "3", "--epochs", "1"];
    let answer = experiment(folder.path(), &settings).succeeds();
    assert_eq!(std::fs::read_dir(out.join("runs")).unwrap().count(), 18);
    // 40 images, each tested once a seed: means have deviations, and the counts of both seeds add up.
    assert!(answer.stdout.contains(" \u{b1} "), "{}", answer.stdout);
    let results: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(out.join("results.json")).unwrap()).unwrap();
    let matrix = results["rows"][0]["confusion_matrix"].as_array().unwrap();
    let images: u64 = matrix.iter().flat_map(|row| row.as_array().unwrap()).map(|n| n.as_u64().unwrap()).sum();
    assert_eq!(images, 80);
    assert!(results["rows"][0]["folds"]["accuracy"][0].is_number());
    assert!(std::fs::read_to_string(out.join("report.html")).unwrap().contains("over the folds"));
}

#[test]
fn a_row_that_fails_is_reported_and_the_others_go_on() {
    let folder = prepared(&(FILE.to_owned() + "training.learning_rate = 1e30\n"));
    let answer = experiment(folder.path(), &["--out", "out"]);
    answer.fails(1, &["1 of 3 runs failed", "all-seed-0: ", "training has diverged"]);
    let why = folder.path().join("out/runs/all-seed-0/failure.txt");
    assert!(std::fs::read_to_string(&why).unwrap().contains("training has diverged"));
    let page = std::fs::read_to_string(folder.path().join("out/report.html")).unwrap();
    assert!(page.contains("failed: all") && page.contains("layer4-seed-0&#x2f;report.html"));
}

#[test]
fn a_row_that_cannot_be_evaluated_fails_alone_and_is_tried_again() {
    let folder = prepared(FILE);
    // An image that is whole while the rows are trained, and damaged when the first is evaluated.
    let image = folder.path().join("data/test/normal/00.png");
    assert!(image.is_file());
    let bytes = std::fs::read(&image).unwrap();
    let mut child = Guard(
        experiment_command(folder.path(), &["--out", "out"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let begun = folder.path().join("out/runs/head-seed-0/history.csv");
    while !begun.is_file() {
        assert!(child.0.try_wait().unwrap().is_none(), "it ended before it trained");
        std::thread::sleep(Duration::from_millis(1));
    }
    // Of the same length: what a file's size tells stays as it is.
    let mut damaged = bytes.clone();
    damaged[bytes.len() / 2..].fill(0);
    std::fs::write(&image, &damaged).unwrap();
    assert_eq!(child.0.wait().unwrap().code(), Some(1));
    for row in ["head", "layer4", "all"] {
        let run = folder.path().join(format!("out/runs/{row}-seed-0"));
        assert!(run.join("model.safetensors").is_file(), "{row} was trained");
        assert!(std::fs::read_to_string(run.join("failure.txt")).unwrap().contains("00.png"), "{row}");
    }
    assert!(folder.path().join("out/table.md").is_file());
    std::fs::write(&image, &bytes).unwrap();
    experiment(folder.path(), &["--out", "out"]).succeeds();
    assert!(!folder.path().join("out/runs/head-seed-0/failure.txt").exists());
}

#[test]
fn a_folder_of_other_data_or_another_experiment_is_left_alone() {
    let folder = prepared(FILE);
    let settings = ["--out", "out", "--epochs", "1", "--schedule", "cosine"];
    experiment(folder.path(), &settings).succeeds();
    let refusal = |arguments: &[&str], words: &[&str]| {
        let before = std::fs::read(folder.path().join("out/experiment.toml")).unwrap();
        experiment(folder.path(), &[&settings[..], arguments].concat()).fails(2, words);
        assert!(std::fs::read(folder.path().join("out/experiment.toml")).unwrap() == before);
    };
    let words = ["training.epochs = 1", "asks for 2", "planned over the whole run"];
    experiment(folder.path(), &["--out", "out", "--epochs", "2", "--schedule", "cosine"]).fails(2, &words);
    disc(&folder.path().join("data/test/normal/new.png"), false, 22);
    refusal(&[], &["out/runs/head-seed-0", "other images or splits", "another --out"]);
    std::fs::remove_file(folder.path().join("data/test/normal/new.png")).unwrap();
    std::fs::write(folder.path().join("tiny.toml"), FILE.replace("name = \"all\"", "name = \"everything\"")).unwrap();
    refusal(&[], &["an experiment stands there (`Tiny`)", "(all)", "another --out"]);
}

#[test]
fn rows_that_were_begun_need_no_start_weights() {
    let folder = prepared(FILE);
    let start = folder.path().join("start.safetensors");
    std::fs::copy(finished().join("run/model.safetensors"), &start).unwrap();
    let call = |out: &str, epochs: &str| {
        experiment(folder.path(), &["--out", out, "--epochs", epochs, "--weights", "start.safetensors"])
    };
    call("out", "1").succeeds();
    std::fs::remove_file(start).unwrap();
    call("out", "2").succeeds();
    call("new", "2").fails(2, &["--weights start.safetensors: no such file or run"]);
}

#[test]
fn classes_that_are_balanced_twice_are_warned_of_once() {
    let twice = FILE.replace("learning_rate = 0.01", "learning_rate = 0.01\nclass_weights = \"balanced\"");
    let folder = prepared(&twice.replace("augment = \"none\"", "augment = \"none\"\nsampler = \"balanced\""));
    let words = "warning: the balanced sampler and the balanced class weights both make up for rare classes";
    let answer = experiment(folder.path(), &["--out", "out", "--epochs", "1"]).succeeds();
    assert_eq!(answer.stderr.matches(words).count(), 1, "{}", answer.stderr);
    assert!(answer.stderr.contains("choose --sampler balanced or --class-weights balanced, not both"));
    let page = std::fs::read_to_string(folder.path().join("out/runs/head-seed-0/report.html")).unwrap();
    assert!(page.contains("count twice over"));
    let settings = ["--data", "data", "--epochs", "1", "--sampler", "balanced"];
    let once = train(folder.path(), &[&settings[..], &["--out", "once"]].concat()).succeeds();
    assert!(!once.stderr.contains("balanced class weights"), "{}", once.stderr);
    let both = train(folder.path(), &[&settings[..], &["--class-weights", "balanced", "--out", "both"]].concat());
    assert!(both.succeeds().stderr.contains(words));
}

#[test]
fn what_is_wrong_in_the_file_is_named_with_its_line() {
    let refusal = |from: &str, to: &str, arguments: &[&str], words: &[&str]| {
        let folder = prepared(&FILE.replace(from, to));
        experiment(folder.path(), &[&["--out", "out"], arguments].concat()).fails(2, words);
        assert!(!folder.path().join("out").exists(), "nothing was begun");
    };
    refusal("epochs = 2", "epoch = 2", &[], &["tiny.toml", "line 9", "the nearest is `epochs`"]);
    refusal(
        "[\"layer4\", \"head\"]",
        "[\"layer9\"]",
        &[],
        &["tiny.toml, line 24", "layer4-seed-0: `layer9`", "nearest"],
    );
    refusal("name = \"all\"", "name = \"head\"", &[], &["two rows are called `head`"]);
    refusal(
        "",
        "",
        &["--unfreeze", "all"],
        &["freeze.unfreeze", "has no effect: every row of tiny.toml sets it itself"],
    );
    let threads = "freeze.unfreeze = [\"all\"]\nengine.threads = 1";
    refusal("freeze.unfreeze = [\"all\"]", threads, &[], &["row `all` sets engine.threads", "[base]"]);
    let nowhere = "name = \"layer4\"\nnetwork.weights = \"nowhere.pth\"";
    let words = ["tiny.toml, line 24", "layer4-seed-0: --weights nowhere.pth: no such file or run"];
    refusal("name = \"layer4\"", nowhere, &[], &words);
    refusal("", "", &["--seeds", "1,1"], &["give each seed once"]);
    refusal("", "", &["--folds", "2"], &["2 folds: give 3 at least"]);
    let folder = prepared(FILE);
    std::fs::create_dir(folder.path().join("notes")).unwrap();
    std::fs::write(folder.path().join("notes/a.txt"), "mine").unwrap();
    experiment(folder.path(), &["--out", "notes"]).fails(2, &["no experiment", "empty folder"]);
    roentgen(folder.path(), &["experiment", "none.toml", "--out", "out"]).fails(2, &["none.toml", "cannot read"]);
    roentgen(folder.path(), &["experiment", "tiny.toml", "--out", "out"]).fails(2, &["no data", "--data DIR"]);
}

#[test]
fn the_experiments_of_the_project_are_read() {
    let folder = scratch();
    data_set(folder.path());
    for name in ["assignment", "assignment-as-published"] {
        let file = format!("{}/../../experiments/{name}.toml", env!("CARGO_MANIFEST_DIR"));
        // Of random weights, so that nothing is fetched; stopped by an image size that no network takes.
        let settings = ["--data", "data", "--weights", "none", "--image-size", "8", "--out", "out"];
        let answer = roentgen(folder.path(), &[&["experiment", &file], &settings[..]].concat());
        answer.fails(2, &["vgg16-head", "too small"]);
    }
}
