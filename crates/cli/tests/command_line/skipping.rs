//! `--on-bad-image skip` goes on, and lists what it left out.

use crate::support::*;
use std::fs;

#[test]
fn bad_images_are_left_out_and_listed() {
    let folder = scratch();
    let data = data_set(folder.path());
    fs::write(data.join("train/normal/03.png"), b"").unwrap();
    fs::write(data.join("validation/normal/01.png"), b"words").unwrap();
    fs::write(data.join("test/infected/02.png"), b"GIF89a").unwrap();
    let arguments = ["--data", "data", "--out", "run", "--epochs", "1", "--on-bad-image", "skip"];
    let answer = train(folder.path(), &arguments).succeeds();
    assert_snapshot_without_fractions("train_skip", &answer);

    let environment = fs::read_to_string(folder.path().join("run/environment.json")).unwrap();
    let environment: serde_json::Value = serde_json::from_str(&environment).unwrap();
    let skipped: Vec<_> = environment["skipped_images"].as_array().unwrap().iter().map(|s| &s["path"]).collect();
    assert_eq!(skipped, ["train/normal/03.png", "validation/normal/01.png", "test/infected/02.png"]);
    assert_eq!(environment["images"]["train"], serde_json::json!({ "infected": 12, "normal": 11 }));
    assert_eq!(environment["images"]["test"], serde_json::json!({ "infected": 3, "normal": 4 }));

    // The run's way with bad images holds for its evaluation too.
    let answer = roentgen(folder.path(), &["evaluate", "run"]).succeeds();
    assert!(answer.stderr.contains("skipped: data/test/infected/02.png: is no PNG"), "{}", answer.stderr);
    assert!(answer.stderr.contains("skipped 1 of 8 images"), "{}", answer.stderr);
    assert!(answer.stdout.contains("on 7 images"), "{}", answer.stdout);
    let before = contents(&folder.path().join("run"));
    let answer = roentgen(folder.path(), &["evaluate", "run", "--on-bad-image", "fail"]);
    answer.fails(1, &["data/test/infected/02.png: is no PNG, JPEG or DICOM image but a GIF image"]);
    assert_same(&before, &contents(&folder.path().join("run")));

    roentgen(folder.path(), &["report", "run"]).succeeds();
    let page = fs::read_to_string(folder.path().join("run/report.html")).unwrap();
    for path in skipped {
        // As HTML has it.
        let escaped = path.as_str().unwrap().replace('/', "&#x2f;");
        assert!(page.contains(&escaped), "{path} is not on the page");
    }
}

#[test]
fn a_class_of_which_nothing_is_left_cannot_be_trained() {
    let folder = scratch();
    let data = data_set(folder.path());
    for entry in fs::read_dir(data.join("train/normal")).unwrap().flatten() {
        fs::write(entry.path(), b"").unwrap();
    }
    let before = contents(folder.path());
    let arguments = ["--data", "data", "--out", "run", "--epochs", "1", "--on-bad-image", "skip", "--cache", "off"];
    let words = [
        "training images of a class is 0 for `normal` after leaving out",
        "data/train/normal/00.png: the file is empty",
    ];
    train(folder.path(), &arguments).fails(2, &words);
    assert_same(&before, &contents(folder.path()));
}

#[test]
fn prediction_goes_on_behind_a_bad_image() {
    let folder = scratch();
    fs::write(folder.path().join("bad.png"), b"").unwrap();
    copy_finished(folder.path());
    let images = ["data/test/infected/00.png", "bad.png", "data/test/normal/00.png"];
    let answer = roentgen(folder.path(), &[&["predict", "run"], &images[..]].concat());
    assert_snapshot_without_fractions("predict_bad_image", &answer);
}
