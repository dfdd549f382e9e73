//! `roentgen train --lr-find`

use crate::support::*;
use std::fs;

#[test]
fn a_range_test_leaves_a_table_a_picture_and_a_folder_that_is_ready_for_a_run() {
    let folder = scratch();
    data_set(folder.path());
    let settings = ["--data", "data", "--out", "run", "--epochs", "1", "--augment", "none", "--dropout", "0"];
    let find = || train(folder.path(), &[&settings[..], &["--lr-find"]].concat()).succeeds();
    let answer = find();
    assert!(answer.stdout.starts_with("suggested learning rate: "), "{}", answer.snapshot());
    assert!(answer.stderr.contains("wrote run/lr-find.csv and run/lr-find.svg ("), "{}", answer.stderr);
    let run = folder.path().join("run");
    let files = contents(&run);
    assert_eq!(files.len(), 2, "{:?}", files.keys());
    let table = fs::read_to_string(run.join("lr-find.csv")).unwrap();
    let rows: Vec<Vec<f64>> =
        table.lines().skip(1).map(|line| line.split(',').map(|cell| cell.parse().unwrap()).collect()).collect();
    assert!(rows.len() > 30 && rows[0][1] == 1e-7, "{table}");
    // It ends with the first step whose loss is too much, and the suggestion is a rate that was tried.
    let smoothed: Vec<f64> = rows.iter().map(|row| row[3]).collect();
    let lowest = |end: usize| smoothed[..=end].iter().copied().fold(f64::INFINITY, f64::min);
    assert!((0..rows.len() - 1).all(|step| smoothed[step] <= 4.0 * lowest(step)), "{table}");
    let suggestion = answer.stdout.split_whitespace().nth(3).unwrap();
    assert!(rows.iter().any(|row| format!("{:.1e}", row[1]) == suggestion), "{suggestion} in {table}");
    // Again to the same bits, and then the run itself.
    find();
    assert_same(&files, &contents(&run));
    train(folder.path(), &[&settings[..], &["--lr", suggestion]].concat()).succeeds();
    train(folder.path(), &[&settings[..], &["--lr-find"]].concat()).fails(2, &["run: a finished run stands there"]);
    roentgen(folder.path(), &["train", "--resume", "run", "--lr-find"]).fails(2, &["cannot be used with"]);
}
