//! Run directories of another version, or damaged.

use crate::support::*;
use roentgen_nn::weights::{StateDict, TensorToWrite, ValuesToWrite, read_safetensors_metadata, write_safetensors};
use std::fs;
use std::path::Path;

fn run_copy() -> tempfile::TempDir {
    let folder = scratch();
    copy(finished(), folder.path());
    folder
}

/// Rewrites the one metadata entry of a weight file.
fn change_metadata(file: &Path, change: impl Fn(&str) -> String) {
    let (key, text) = read_safetensors_metadata(file).unwrap().into_iter().next().unwrap();
    let state = StateDict::open(file).unwrap();
    let tensors: Vec<TensorToWrite<'_>> = state
        .tensors
        .iter()
        .map(|(name, tensor)| TensorToWrite { name, shape: &tensor.shape, values: ValuesToWrite::from(&tensor.values) })
        .collect();
    let changed = change(&text);
    assert_ne!(changed, text);
    write_safetensors(&mut fs::File::create(file).unwrap(), &tensors, Some((&key, &changed))).unwrap();
}

fn newer(text: &str) -> String {
    text.replace("\"format_version\":1", "\"format_version\":7,\"something_new\":[]")
}

#[test]
fn a_configuration_of_a_newer_version() {
    let folder = run_copy();
    let file = folder.path().join("run/config.toml");
    let text = fs::read_to_string(&file).unwrap().replace("format_version = 1", "format_version = 7\nnew_key = true");
    fs::write(&file, text).unwrap();
    let before = contents(folder.path());
    let words = ["run/config.toml: format version 7", "reads versions up to 1", "use a newer roentgen"];
    for arguments in [
        &["train", "--resume", "run", "--epochs", "9"][..],
        &["evaluate", "run"],
        &["train", "--config", "run/config.toml"],
    ] {
        roentgen(folder.path(), arguments).fails(1, &words);
    }
    roentgen(folder.path(), &["report", "run"]).fails(1, &words);
    assert_same(&before, &contents(folder.path()));
}

#[test]
fn a_model_of_a_newer_version() {
    let folder = run_copy();
    change_metadata(&folder.path().join("run/model.safetensors"), newer);
    let before = contents(folder.path());
    let words = ["run/model.safetensors: model format 7", "up to 1", "use a newer roentgen"];
    roentgen(folder.path(), &["evaluate", "run"]).fails(1, &words);
    roentgen(folder.path(), &["predict", "run", "data/test"]).fails(1, &words);
    assert_same(&before, &contents(folder.path()));
}

#[test]
fn a_checkpoint_of_a_newer_version() {
    let folder = run_copy();
    change_metadata(&folder.path().join("run/checkpoint/last.safetensors"), newer);
    let before = contents(folder.path());
    let words = ["run/checkpoint/last.safetensors: format version 7", "use a newer roentgen"];
    roentgen(folder.path(), &["train", "--resume", "run", "--epochs", "9"]).fails(1, &words);
    assert_same(&before, &contents(folder.path()));
}

#[test]
fn a_truncated_model_and_a_truncated_checkpoint() {
    let folder = run_copy();
    for name in ["model.safetensors", "checkpoint/last.safetensors"] {
        let file = folder.path().join("run").join(name);
        let bytes = fs::read(&file).unwrap();
        fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    }
    let mut before = contents(folder.path());
    roentgen(folder.path(), &["evaluate", "run"]).fails(1, &["run/model.safetensors", "damaged"]);
    let answer = roentgen(folder.path(), &["train", "--resume", "run", "--epochs", "9"]);
    answer.fails(1, &["run/checkpoint/last.safetensors", "damaged"]);
    let mut after = contents(folder.path());
    // The wish for nine epochs is kept, and nothing else has changed.
    let config = folder.path().join("run/config.toml");
    let text = String::from_utf8(after.remove(&config).unwrap()).unwrap();
    let old = String::from_utf8(before.remove(&config).unwrap()).unwrap();
    assert_eq!(text, old.replace("epochs = 8", "epochs = 9"));
    assert_same(&before, &after);
}

#[test]
fn a_configuration_with_a_mistake_names_the_line() {
    let folder = run_copy();
    let file = folder.path().join("mine.toml");
    fs::write(&file, "format_version = 1\n[training]\nlearning_rat = 0.1\n").unwrap();
    let answer = roentgen(folder.path(), &["train", "--config", "mine.toml", "--data", "data", "--out", "new"]);
    assert_snapshot("config_mistake", &answer);
    fs::write(&file, "format_version = 1\n[training]\nepochs = \"ten\"\n").unwrap();
    let answer = roentgen(folder.path(), &["train", "--config", "mine.toml", "--data", "data", "--out", "new"]);
    answer.fails(1, &["mine.toml", "epochs = \"ten\""]);
    roentgen(folder.path(), &["train", "--config", "no.toml"]).fails(1, &["no.toml: cannot read", "No such file"]);
}

#[test]
fn other_data_under_a_run_is_noticed() {
    let folder = run_copy();
    copy(&folder.path().join("data"), &folder.path().join("elsewhere"));
    for root in ["data", "elsewhere"] {
        fs::remove_file(folder.path().join(root).join("train/normal/00.png")).unwrap();
    }
    let before = contents(folder.path());
    let words = ["run/checkpoint/last.safetensors: it was trained on other data", "give its folder with --data"];
    roentgen(folder.path(), &["train", "--resume", "run", "--epochs", "9"]).fails(1, &words);
    let arguments = ["train", "--resume", "run", "--epochs", "9", "--data", "elsewhere"];
    roentgen(folder.path(), &arguments).fails(1, &words);
    assert_same(&before, &contents(folder.path()));
}
