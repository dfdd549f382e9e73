//! A patient in two splits stops training unless the user insists.

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
