//! Ctrl-C: the first saves and says how to go on, the second ends at once.

use crate::support::*;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStderr, Stdio};

fn interrupt(child: &Child) {
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
}

/// Reads stderr until a line that begins so.
#[track_caller]
fn wait_for(lines: &mut Lines<BufReader<ChildStderr>>, beginning: &str) {
    let mut seen = Vec::new();
    for line in lines.by_ref().map_while(Result::ok) {
        if line.starts_with(beginning) {
            return;
        }
        seen.push(line);
    }
    panic!("no line begins with `{beginning}`: {seen:#?}");
}

#[test]
fn ctrl_c_saves_and_the_run_goes_on_to_the_same_files() {
    let folder = scratch();
    data_set(folder.path());
    let settings = ["--data", "data", "--epochs", "6", "--out"];
    train(folder.path(), &[&settings[..], &["whole"]].concat()).succeeds();
    let mut command = train_command(folder.path(), &[&settings[..], &["run"]].concat());
    let mut child = Guard(command.stderr(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(child.0.stderr.take().unwrap()).lines();
    wait_for(&mut lines, "epoch 1/6");
    interrupt(&child.0);
    wait_for(&mut lines, "stopping after this step");
    wait_for(&mut lines, "error: stopped after step");
    assert_eq!(child.0.wait().unwrap().code(), Some(1));
    assert!(!folder.path().join("run/model.safetensors").exists());

    // The same call does not overwrite it; the other one goes on.
    train(folder.path(), &[&settings[..], &["run"]].concat()).fails(2, &["go on with `roentgen train --resume run`"]);
    let answer = roentgen(folder.path(), &["train", "--resume", "run"]).succeeds();
    assert!(answer.stderr.contains("going on after step"), "{}", answer.stderr);
    assert!(results(&folder.path().join("run")) == results(&folder.path().join("whole")));
}

#[test]
fn a_second_ctrl_c_ends_at_once() {
    let folder = scratch();
    data_set(folder.path());
    // One step that takes seconds.
    let arguments =
        ["--data", "data", "--out", "run", "--image-size", "224", "--unfreeze", "all", "--batch-size", "24"];
    let mut command = command(folder.path());
    command.arg("train").args(arguments).args(["--weights", "none", "--threads", "1"]).stderr(Stdio::piped());
    let mut child = Guard(command.spawn().unwrap());
    let mut lines = BufReader::new(child.0.stderr.take().unwrap()).lines();
    wait_for(&mut lines, "resnet18 on 24 images");
    interrupt(&child.0);
    wait_for(&mut lines, "stopping after this step");
    interrupt(&child.0);
    assert_eq!(child.0.wait().unwrap().code(), Some(130));
    assert!(!folder.path().join("run/checkpoint/last.safetensors").exists());
}

#[test]
fn two_processes_do_not_train_one_run() {
    let folder = scratch();
    data_set(folder.path());
    let arguments = ["--data", "data", "--out", "run", "--epochs", "1000"];
    let mut child = Guard(train_command(folder.path(), &arguments).stderr(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(child.0.stderr.take().unwrap()).lines();
    wait_for(&mut lines, "epoch 1/1000");
    let before = std::fs::read(folder.path().join("run/config.toml")).unwrap();
    let answer = roentgen(folder.path(), &["train", "--resume", "run", "--epochs", "2000"]);
    answer.fails(1, &["run: another process is at work in this run"]);
    assert_eq!(std::fs::read(folder.path().join("run/config.toml")).unwrap(), before);
    child.0.kill().unwrap();
    child.0.wait().unwrap();
    let done = std::fs::read_to_string(folder.path().join("run/history.csv")).unwrap().lines().count();
    let epochs = format!("{done}");
    // A killed process holds nothing.
    roentgen(folder.path(), &["train", "--resume", "run", "--epochs", &epochs]).succeeds();
}
