//! `data preview`: a sheet of what training sees.

use crate::support::*;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::Path;

const GAP: usize = 4;
const SIZE: usize = 28;

/// The squares of a sheet, line by line, each `[SIZE, SIZE, 3]`.
fn squares(path: &Path, columns: usize, lines: usize) -> Vec<Vec<Vec<u8>>> {
    let mut reader = png::Decoder::new(BufReader::new(File::open(path).unwrap())).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut pixels).unwrap();
    let (width, height) = (GAP + columns * (SIZE + GAP), GAP + lines * (SIZE + GAP));
    assert_eq!((reader.info().width as usize, reader.info().height as usize), (width, height));
    let square = |line: usize, column: usize| {
        let (left, top) = (GAP + column * (SIZE + GAP), GAP + line * (SIZE + GAP));
        let rows = pixels.chunks_exact(3 * width).skip(top).take(SIZE);
        rows.flat_map(|row| row[3 * left..3 * (left + SIZE)].to_vec()).collect()
    };
    (0..lines).map(|line| (0..columns).map(|column| square(line, column)).collect()).collect()
}

#[test]
fn a_sheet_shows_the_fixed_transform_first_and_then_what_is_drawn() {
    let scratch = scratch();
    let folder = scratch.path();
    data_set(folder);
    let preview = |out: &str, options: &[&str]| {
        let fixed =
            ["data", "preview", "--data", "data", "--image-size", "28", "--images", "3", "--samples", "4", "--out"];
        let answer = roentgen(folder, &[&fixed[..], &[out], options].concat()).succeeds();
        assert_eq!(answer.stdout.lines().count(), 3, "{}", answer.stdout);
        assert!(answer.stdout.lines().all(|line| line.ends_with(".png")), "{}", answer.stdout);
        squares(&folder.join(out), 5, 3)
    };
    let plain = preview("none.png", &["--augment", "none"]);
    for line in &plain {
        assert!(line.iter().all(|square| *square == line[0]));
    }
    assert_ne!(plain[0][0], plain[1][0]);
    for kind in ["seed", "cxr"] {
        let drawn = preview("drawn.png", &["--augment", kind]);
        for (line, plain) in drawn.iter().zip(&plain) {
            assert_eq!(line[0], plain[0], "{kind}");
            assert!((1..5).all(|one| (0..one).all(|other| line[one] != line[other])), "{kind}: samples are alike");
        }
        assert_eq!(drawn, preview("again.png", &["--augment", kind]));
        assert_ne!(drawn, preview("other.png", &["--augment", kind, "--seed", "1"]));
    }
    // The parameters of a configuration: without any of them nothing changes.
    let still =
        "format_version = 1\n[data]\naugment = \"cxr\"\n[data.cxr]\nrotation_degrees = 0\nshift = 0\ncontrast = 0\n";
    fs::write(folder.join("still.toml"), still).unwrap();
    assert_eq!(preview("still.png", &["--config", "still.toml"]), plain);
}

#[test]
fn previews_that_cannot_be_meant() {
    let scratch = scratch();
    data_set(scratch.path());
    let refused = |options: &[&str], words: &[&str]| {
        let fixed = ["data", "preview", "--data", "data", "--out", "a.png"];
        roentgen(scratch.path(), &[&fixed[..], options].concat()).fails(2, words);
        assert!(!scratch.path().join("a.png").exists());
    };
    refused(&["--images", "0"], &["--images is 0; expected from 1 to 4096"]);
    refused(&["--augment", "mirror"], &["invalid value 'mirror'", "none, seed, cxr"]);
}

#[test]
fn training_spells_the_parameters_of_cxr_out_and_refuses_impossible_ones() {
    let scratch = scratch();
    let folder = scratch.path();
    data_set(folder);
    let settings = ["--data", "data", "--epochs", "1", "--augment", "cxr", "--cache", "off", "--out"];
    train(folder, &[&settings[..], &["run"]].concat()).succeeds();
    let config = fs::read_to_string(folder.join("run/config.toml")).unwrap();
    for line in ["augment = \"cxr\"", "[data.cxr]", "rotation_degrees = 7.0", "clahe_limit = 2.0"] {
        assert!(config.contains(line), "{line} is missing from\n{config}");
    }
    // Another augmentation given beside the file leaves its parameters behind; a file with both is a mistake.
    let again = ["--config", "run/config.toml", "--cache", "off", "--augment", "seed", "--out", "seed"];
    roentgen(folder, &[&["train"], &again[..]].concat()).succeeds();
    fs::write(folder.join("both.toml"), config.replace("augment = \"cxr\"", "augment = \"seed\"")).unwrap();
    let both = ["train", "--config", "both.toml", "--out", "both"];
    roentgen(folder, &both).fails(2, &["data.cxr beside another augmentation"]);
    fs::write(folder.join("far.toml"), config.replace("shift = 0.05", "shift = 1.5")).unwrap();
    roentgen(folder, &["train", "--config", "far.toml", "--out", "far"]).fails(2, &["cxr's shift", "from 0 to 1"]);
}
