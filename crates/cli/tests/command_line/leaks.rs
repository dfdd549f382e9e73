//! A patient or an image in two splits stops training unless the user insists.

use crate::support::*;
use std::fs;

#[test]
fn a_leak_stops_training_unless_the_user_insists() {
    let folder = scratch();
    let data = data_set(folder.path());
    let table = "path,patient_id\ntrain/normal/00.png,anna\ntest/normal/01.png,anna\nvalidation/infected/00.png,ben\n\
                 train/infected/00.png,ben\ntest/infected/00.png,clara\n";
    fs::write(data.join("manifest.csv"), table).unwrap();
    let before = contents(folder.path());
    let arguments = ["--data", "data", "--out", "run", "--epochs", "1"];
    let words = ["data: patients in more than one split: 2 (anna, ben)", "--allow-leaks"];
    train(folder.path(), &arguments).fails(1, &words);
    assert_same(&before, &contents(folder.path()));

    let answer = train(folder.path(), &[&arguments[..], &["--allow-leaks"]].concat()).succeeds();
    assert!(answer.stderr.contains("warning: data: patients in more than one split: 2"), "{}", answer.stderr);
    let environment = fs::read_to_string(folder.path().join("run/environment.json")).unwrap();
    let environment: serde_json::Value = serde_json::from_str(&environment).unwrap();
    assert_eq!(environment["patients_in_several_splits"], serde_json::json!(["anna", "ben"]));
    // Going on asks again.
    roentgen(folder.path(), &["train", "--resume", "run", "--epochs", "2"]).fails(1, &["--allow-leaks"]);
}

#[test]
fn identical_pixels_in_two_splits_stop_training_whatever_the_files_are_called() {
    let folder = scratch();
    let data = data_set(folder.path());
    fs::copy(data.join("train/normal/03.png"), data.join("test/normal/another.png")).unwrap();
    fs::copy(data.join("train/normal/04.png"), data.join("train/infected/another.png")).unwrap();
    let before = contents(folder.path());
    let arguments = ["--data", "data", "--cache", "off", "--out", "run", "--epochs", "1"];
    let words = [
        "data: images with identical pixels in more than one split: 1 (train/normal/03.png = test/normal/another.png)",
        "roentgen audit --data data",
        "--allow-leaks",
    ];
    train(folder.path(), &arguments).fails(1, &words);
    assert_same(&before, &contents(folder.path()));

    let answer = train(folder.path(), &[&arguments[..], &["--allow-leaks"]].concat()).succeeds();
    assert!(
        answer.stderr.contains("warning: data: images with identical pixels in more than one"),
        "{}",
        answer.stderr
    );
    let doubt = "groups of images with identical pixels and different labels: 1 (train/infected/another.png = ";
    assert!(answer.stderr.contains(doubt), "{}", answer.stderr);
    roentgen(folder.path(), &["report", "run"]).succeeds();
    let page = fs::read_to_string(folder.path().join("run/report.html")).unwrap();
    let notice = page.find("class=\"notice\"").expect("a notice");
    let first = "class=\"notice\"><strong>Please note.</strong> Trained with --allow-leaks: 1 group of images";
    assert!(page[notice..].starts_with(first), "{page}");
}
