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

#[test]
fn what_is_in_no_split_is_no_leak() {
    let folder = scratch();
    let data = data_set(folder.path());
    // A patient of the test, and the pixels of a test image, also among those that are to be split.
    fs::copy(data.join("test/normal/00.png"), data.join("train/normal/00.png")).unwrap();
    let mut table = "path,label,split,patient_id\n".to_owned();
    for path in contents(&data).into_keys() {
        let name = path.strip_prefix(folder.path()).unwrap().to_str().unwrap().to_owned();
        let [_, split, label, file] = name.split('/').collect::<Vec<_>>()[..] else { panic!("{name}") };
        let patient = if file == "00.png" && split != "validation" { label.to_owned() } else { name.replace('/', "-") };
        table += &format!("{name},{label},{split},{patient}\n");
    }
    fs::write(folder.path().join("all.csv"), table).unwrap();
    let split = ["data", "split", "all.csv", "--ratios", "0.8,0.2,0", "--keep-test", "--out", "kept.csv"];
    roentgen(folder.path(), &split).succeeds();
    assert_eq!(fs::read_to_string(folder.path().join("kept.csv")).unwrap().matches(",,").count(), 2);
    let audit = roentgen(folder.path(), &["audit", "--data", "kept.csv"]);
    assert!(!audit.stdout.contains("leak: "), "{}", audit.snapshot());
    assert!(audit.stdout.contains("1 group of images with identical pixels within a split"), "{}", audit.snapshot());
    train(folder.path(), &["--data", "kept.csv", "--out", "run", "--epochs", "1"]).succeeds();
}
