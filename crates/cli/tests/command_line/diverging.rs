//! A loss that is no number stops training at the step, and the last good checkpoint stays.

use crate::support::*;
use std::fs;

#[test]
fn a_run_that_diverges_at_once_says_at_which_step() {
    let folder = scratch();
    data_set(folder.path());
    let answer = train(folder.path(), &["--data", "data", "--out", "run", "--lr", "1e30"]);
    answer.fails(1, &["the loss of step 2 (epoch 1) is NaN", "there is no checkpoint", "Lower the learning rate"]);
    assert!(!folder.path().join("run/checkpoint/last.safetensors").exists());
    assert!(!folder.path().join("run/model.safetensors").exists());
    // With another rate the same place serves.
    train(folder.path(), &["--data", "data", "--out", "run", "--epochs", "1"]).succeeds();
}

#[test]
fn weights_that_only_validation_shows_to_be_useless_are_no_checkpoint() {
    let folder = scratch();
    data_set(folder.path());
    // One step an epoch: its own loss is still good.
    let arguments = ["--data", "data", "--out", "run", "--lr", "1e30", "--batch-size", "100"];
    let mut command = command(folder.path());
    command.args(["train", "--image-size", "32", "--weights", "none"]).args(arguments);
    Answer::of(command.output().unwrap()).fails(1, &["the validation loss after step 1 (epoch 1) is NaN"]);
    assert!(!folder.path().join("run/checkpoint/last.safetensors").exists());
    assert_eq!(fs::read_to_string(folder.path().join("run/history.csv")).unwrap().lines().count(), 1);
}

#[test]
fn the_last_good_checkpoint_stays() {
    let folder = scratch();
    data_set(folder.path());
    train(folder.path(), &["--data", "data", "--out", "run", "--epochs", "1"]).succeeds();
    let run = folder.path().join("run");
    let good = fs::read(run.join("checkpoint/last.safetensors")).unwrap();
    let config = fs::read_to_string(run.join("config.toml")).unwrap();
    let wild = config.replace("learning_rate = 0.001", "learning_rate = 1e30");
    assert_ne!(config, wild);
    fs::write(run.join("config.toml"), &wild).unwrap();
    let words =
        ["(epoch 2) is NaN", "The checkpoint after epoch 1 is kept in run/checkpoint/last.safetensors", "it is 1e30"];
    roentgen(folder.path(), &["train", "--resume", "run", "--epochs", "2"]).fails(1, &words);
    assert!(fs::read(run.join("checkpoint/last.safetensors")).unwrap() == good);
    // From there it goes on, at the old rate.
    fs::write(run.join("config.toml"), &config).unwrap();
    roentgen(folder.path(), &["train", "--resume", "run", "--epochs", "2"]).succeeds();
    train(folder.path(), &["--data", "data", "--out", "whole", "--epochs", "2"]).succeeds();
    assert!(results(&run) == results(&folder.path().join("whole")));
}
