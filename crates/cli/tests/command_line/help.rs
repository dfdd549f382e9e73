//! The help of every command.

use crate::support::{assert_snapshot, roentgen, scratch};
use std::path::Path;

/// The commands that a help text lists.
fn commands(help: &str) -> Vec<String> {
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    listed.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").map(str::to_owned).collect()
}

/// A command that is added without a snapshot fails here.
fn check(words: &[&str]) {
    let answer = roentgen(Path::new("."), &[words, &["--help"]].concat());
    assert_snapshot(&[&["help"], words].concat().join("_"), &answer);
    for command in commands(&answer.stdout) {
        check(&[words, &[command.as_str()]].concat());
    }
}

#[test]
fn every_command_explains_itself() {
    check(&[]);
}

#[test]
fn a_call_without_a_command_shows_the_help() {
    let answer = roentgen(Path::new("."), &[]).fails(2, &["Usage: roentgen"]);
    let help = roentgen(Path::new("."), &["--help"]).succeeds();
    assert_eq!(answer.stderr, help.stdout);
    assert!(commands(&help.stdout).len() >= 6, "{:?}", commands(&help.stdout));
}

#[test]
fn the_version_is_on_stdout() {
    assert_snapshot("version", &roentgen(Path::new("."), &["--version"]));
}

#[test]
fn unknown_words_are_answered_with_the_nearest() {
    assert_snapshot("unknown_command", &roentgen(Path::new("."), &["evalaute", "run"]));
    assert_snapshot("unknown_option", &roentgen(Path::new("."), &["train", "--learnin-rate", "1"]));
}

#[test]
fn shells_and_man_learn_every_command() {
    let folder = scratch();
    let call = |arguments: &[&str]| roentgen(folder.path(), arguments);
    let names = commands(&call(&["--help"]).stdout);
    for shell in ["bash", "zsh", "fish"] {
        let script = call(&["completions", shell]).succeeds().stdout;
        for name in &names {
            assert!(script.contains(name.as_str()), "{shell} does not know {name}");
        }
    }
    call(&["completions", "tcsh"]).fails(2, &["possible values: bash"]);
    assert!(call(&["man"]).succeeds().stdout.contains(".TH roentgen 1"));
    call(&["man", "--out", "man"]).succeeds();
    for name in names.iter().map(|name| format!("roentgen-{name}.1")).chain(["roentgen-weights-fetch.1".into()]) {
        let page = std::fs::read_to_string(folder.path().join("man").join(&name)).unwrap_or_default();
        assert!(page.contains(".SH SYNOPSIS"), "{name}");
    }
    std::fs::write(folder.path().join("file"), "").unwrap();
    call(&["man", "--out", "file"]).fails(2, &["--out file: expected a folder"]);
}
