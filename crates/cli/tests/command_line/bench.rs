//! `bench` and `layers --memory`: figures that fit together, and calls that cannot be meant.

use crate::support::*;
use roentgen_kernels::Isa;
use serde_json::Value;
use std::path::Path;

const TINY: [&str; 9] = ["bench", "--arch", "resnet18", "--image-size", "32", "--batch-size", "2", "--rounds", "1"];

fn bench(arguments: &[&str]) -> Answer {
    roentgen(Path::new("."), &[&TINY[..], arguments].concat())
}

/// A number above zero.
#[track_caller]
fn positive(value: &Value) -> f64 {
    let number = value.as_f64().unwrap_or_else(|| panic!("{value} is no number"));
    assert!(number > 0.0 && number.is_finite(), "{number}");
    number
}

#[test]
fn json_holds_figures_that_fit_together() {
    let answer = bench(&["--json", "--layers", "--threads", "1"]).succeeds();
    let report: Value = serde_json::from_str(&answer.stdout).unwrap();
    assert_eq!((&report["arch"], &report["precision"]), (&"resnet18".into(), &"f32".into()));
    assert_eq!((&report["batch_size"], &report["image_size"]), (&2.into(), &32.into()));
    assert_eq!((&report["unfreeze"], &report["exact"], &report["threads"]), (&"all".into(), &false.into(), &1.into()));
    assert!(Isa::from_name(report["instruction_set"].as_str().unwrap()).is_ok(), "{}", report["instruction_set"]);
    positive(&report["ceiling_gflops"]);
    if cfg!(target_os = "linux") {
        // The process holds the program and more.
        assert!(1e6 * positive(&report["peak_rss_mb"]) > 0.5 * positive(&report["train_step"]["plan_bytes"]));
    }
    for (pass, layers) in [("train_step", "layers"), ("forward", "forward_layers")] {
        let (speed, layers) = (&report[pass], report[layers].as_array().unwrap());
        let images_per_s = positive(&speed["images_per_s"]);
        assert!(positive(&speed["best_images_per_s"]) >= images_per_s, "{speed}");
        let sum = |key: &str| layers.iter().map(|layer| layer[key].as_f64().unwrap()).sum::<f64>();
        // The work of the stages in the time of a batch.
        let gflops = sum("gflop") * images_per_s / 2.0;
        assert!((positive(&speed["gflops"]) - gflops).abs() < 1e-6 * gflops, "{pass}: {gflops}");
        let share = sum("share");
        assert!(share > 0.0 && share <= 1.0 + 1e-9, "{pass}: {share}");
        let milliseconds = sum("forward_ms") + sum("backward_ms");
        assert!(milliseconds > 0.0 && milliseconds / 1e3 <= 2.0 / images_per_s, "{pass}: {milliseconds} ms");
        assert!(layers.iter().all(|layer| positive(&layer["forward_ms"]) > 0.0));
        assert_eq!(sum("backward_ms") > 0.0, pass == "train_step");
        assert!(layers.iter().any(|layer| layer["kind"].as_str().unwrap().starts_with("convolution")));
        assert_eq!(layers.last().unwrap()["name"], "fc.3");
    }
    assert!(answer.stderr.contains("measuring the training step"), "{}", answer.stderr);
    let short: Value = serde_json::from_str(&bench(&["--json", "--threads", "1"]).succeeds().stdout).unwrap();
    assert!(short.get("layers").is_none() && short.get("forward_layers").is_none());
}

#[test]
fn the_table_stands_on_stdout_alone() {
    let answer = bench(&["--layers", "--unfreeze", "layer4,head", "--exact"]).succeeds();
    for words in
        ["training layer4,head", "convolutions computed directly", "ceiling: ", "layer4.1.conv2", "all convolution"]
    {
        assert!(answer.stdout.contains(words), "`{words}` is not in:\n{}", answer.stdout);
        assert!(!answer.stderr.contains(words), "{}", answer.stderr);
    }
}

#[test]
fn the_memory_plan_has_the_peak_of_the_program() {
    for unfreeze in ["all", "layer4,head"] {
        let report: Value =
            serde_json::from_str(&bench(&["--json", "--unfreeze", unfreeze]).succeeds().stdout).unwrap();
        let bytes = report["train_step"]["plan_bytes"].as_u64().unwrap();
        let plan =
            ["layers", "resnet18", "--memory", "--image-size", "32", "--batch-size", "2", "--unfreeze", unfreeze];
        let text = roentgen(Path::new("."), &plan).succeeds().stdout;
        let peak = text.lines().find(|line| line.starts_with("peak ")).expect("the plan has a peak");
        let digits: String = peak.split("MiB").nth(1).unwrap().chars().filter(char::is_ascii_digit).collect();
        assert_eq!(digits, bytes.to_string(), "{text}");
    }
}

#[test]
fn calls_that_cannot_be_meant() {
    let refused = |arguments: &[&str], words: &[&str]| {
        roentgen(Path::new("."), &[&["bench"], arguments].concat()).fails(2, words);
    };
    refused(&["--batch-size", "0"], &["--batch-size is 0; expected from 1 to 65536"]);
    refused(&["--rounds", "0"], &["--rounds is 0; expected from 1 to 65536"]);
    refused(&["--threads", "0"], &["0 threads cannot compute"]);
    refused(&["--precision", "f16"], &["invalid value 'f16'", "[possible values: f32"]);
    refused(&["--arch", "resnet81"], &["unknown architecture `resnet81`; nearest: resnet18"]);
    refused(&["--unfreeze", "layer9"], &["`layer9` selects no parameter of resnet18"]);
    refused(&["--image-size", "0"], &["the image size is 0"]);
    let layers = |arguments: &[&str], words: &[&str]| {
        roentgen(Path::new("."), &[&["layers", "resnet18"], arguments].concat()).fails(2, words);
    };
    layers(&["--batch-size", "4"], &["--memory"]);
    layers(&["--memory", "--batch-size", "0"], &["--batch-size is 0; expected from 1 to 65536"]);
}

#[test]
fn a_batch_that_no_memory_holds_is_refused_before_it_is_made() {
    let answer = roentgen(Path::new("."), &["bench", "--arch", "vgg16", "--batch-size", "65536", "--threads", "1"]);
    if cfg!(target_os = "linux") {
        answer.fails(
            1,
            &["vgg16 at 224 px needs ", "MiB for a batch of 65536, over the limit of ", "lower the batch size"],
        );
    }
}

#[test]
fn images_are_measured_from_files_in_a_first_pass_and_from_the_cache() {
    let folder = scratch();
    disc(&folder.path().join("a.png"), true, 0);
    let arguments = ["bench", "--data", "a.png", "--threads", "1", "--rounds", "1", "--image-size", "32"];
    let answer = roentgen(folder.path(), &[&arguments[..], &["--json"]].concat()).succeeds();
    let report: Value = serde_json::from_str(&answer.stdout).unwrap();
    for what in ["decode", "cached_first_pass", "cached"] {
        assert!(report[what]["images_per_s"].as_f64().unwrap() > 0.0, "{what}: {report}");
    }
    let table = roentgen(folder.path(), &arguments).succeeds().stdout;
    assert!(table.contains("from cache, first pass  "), "{table}");
}
