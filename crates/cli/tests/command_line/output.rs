//! Where answers go: a reader who leaves early, a list on stdin.

use crate::support::*;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

#[test]
fn a_reader_who_has_seen_enough_is_no_error() {
    // More output than a pipe holds, so that the program is still writing when the reader has gone.
    let images: Vec<&str> = ["data/train", "data/validation", "data/test"].repeat(40);
    let mut arguments = vec!["predict", "run", "--json"];
    arguments.extend(images);
    let mut command = command(finished());
    command.args(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = Guard(command.spawn().unwrap());
    let mut first = String::new();
    // Dropping the reader closes the pipe.
    BufReader::new(child.0.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert!(first.starts_with("{\"path\":"), "{first}");
    let mut stderr = String::new();
    std::io::Read::read_to_string(&mut child.0.stderr.take().unwrap(), &mut stderr).unwrap();
    assert_eq!((child.0.wait().unwrap().code(), stderr.as_str()), (Some(0), ""));
}

#[test]
fn commands_that_print_at_once_meet_a_closed_stdout() {
    let calls: [&[&str]; 6] = [
        &["layers", "vgg19_bn"],
        &["weights", "list"],
        &["report", "run"],
        &["--help"],
        &["completions", "bash"],
        &["man"],
    ];
    for arguments in calls {
        let folder = scratch();
        if arguments[0] == "report" {
            copy_finished(folder.path());
        }
        let mut command = command(folder.path());
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = Guard(command.spawn().unwrap());
        drop(child.0.stdout.take());
        let mut stderr = String::new();
        std::io::Read::read_to_string(&mut child.0.stderr.take().unwrap(), &mut stderr).unwrap();
        let status = child.0.wait().unwrap();
        assert!(stderr.is_empty() && status.code() == Some(0), "{arguments:?}: {status}: {stderr}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_stdout_is_an_error() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = command(finished());
    let output = command.args(["predict", "run", "data/test", "--json"]).stdout(full).output().unwrap();
    Answer::of(output).fails(1, &["cannot write to stdout", "No space left"]);
}

#[test]
fn a_list_on_stdin() {
    let mut command = command(finished());
    command.args(["predict", "run", "-", "--format", "csv"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = Guard(command.stderr(Stdio::piped()).spawn().unwrap());
    let list = b"data/test/infected/01.png\r\n\ndata/test/normal/02.png\nno-such.png\n\xff\xfe.png\n";
    child.0.stdin.take().unwrap().write_all(list).unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut child.0.stdout.take().unwrap(), &mut text).unwrap();
    let mut stderr = String::new();
    std::io::Read::read_to_string(&mut child.0.stderr.take().unwrap(), &mut stderr).unwrap();
    assert_eq!(child.0.wait().unwrap().code(), Some(1));
    let paths: Vec<_> = text.lines().skip(1).filter_map(|line| line.split(',').next()).collect();
    assert_eq!(paths, ["data/test/infected/01.png", "data/test/normal/02.png"]);
    for words in ["no-such.png: cannot be read", ".png: the name is not UTF-8", "2 of 4 images could not be read"] {
        assert!(stderr.contains(words), "{stderr}");
    }
}

#[test]
fn an_empty_list_says_what_to_give() {
    roentgen(finished(), &["predict", "run", "-"]).fails(2, &["no images: give files or folders"]);
    roentgen(finished(), &["predict", "run"]).fails(2, &["no images: give files or folders"]);
    let folder = scratch();
    let empty = folder.path().to_str().unwrap();
    roentgen(finished(), &["predict", "run", empty])
        .fails(1, &[empty, "no image in it (.png, .jpg, .jpeg, .dcm, .dicom, .ima)"]);
}
