//! Data that cannot be used: the message names the file, the cause and the way out, and nothing is left behind.

use crate::support::*;
use std::fs;
use std::path::Path;

/// Fails, and leaves the folder as it was, without a run directory.
#[track_caller]
fn refused(folder: &Path, arguments: &[&str], code: i32, words: &[&str]) {
    let before = contents(folder);
    let arguments = [arguments, &["--out", "run", "--epochs", "1"]].concat();
    train(folder, &arguments).fails(code, words);
    assert_same(&before, &contents(folder));
}

/// A data set in which the first training image of the class infected holds these bytes.
fn with_image(bytes: &[u8]) -> tempfile::TempDir {
    let folder = scratch();
    fs::write(data_set(folder.path()).join("train/infected/00.png"), bytes).unwrap();
    folder
}

#[test]
fn an_empty_folder() {
    let folder = scratch();
    fs::create_dir(folder.path().join("data")).unwrap();
    refused(folder.path(), &["--data", "data"], 1, &["data: no split folder", "found nothing", "SPLIT/CLASS/"]);
    for split in ["train", "test"] {
        fs::create_dir_all(folder.path().join("data").join(split).join("normal")).unwrap();
    }
    refused(folder.path(), &["--data", "data"], 1, &["data: no image in any split"]);
}

#[test]
fn no_such_folder() {
    let folder = scratch();
    refused(folder.path(), &["--data", "no/such"], 2, &["no/such: no such folder", "--data"]);
    fs::write(folder.path().join("file"), b"").unwrap();
    refused(
        folder.path(),
        &["--data", "file"],
        1,
        &["file: is neither a folder nor a .csv table", "`train`, `validation` and `test`"],
    );
}

#[test]
fn one_class_alone() {
    let folder = scratch();
    let data = data_set(folder.path());
    for split in ["train", "validation", "test"] {
        fs::remove_dir_all(data.join(split).join("normal")).unwrap();
    }
    refused(folder.path(), &["--data", "data"], 1, &["data: only one class (`infected`)", "at least two classes"]);
}

#[test]
fn a_class_that_a_split_lacks() {
    for split in ["train", "validation"] {
        let folder = scratch();
        let data = data_set(folder.path());
        fs::remove_dir_all(data.join(split).join("normal")).unwrap();
        let place = format!("data/{split}/normal: no images of the class `normal`");
        refused(folder.path(), &["--data", "data"], 1, &[&place, "add images there"]);
    }
    let folder = scratch();
    fs::remove_dir_all(data_set(folder.path()).join("train")).unwrap();
    refused(
        folder.path(),
        &["--data", "data"],
        1,
        &["the split `train` has no images (splits found: validation, test)"],
    );
}

/// A bad image is met before the first step: nothing is begun, and the same call works once the image is mended.
#[track_caller]
fn stops_at(bytes: &[u8], words: &[&str]) {
    let folder = with_image(bytes);
    let count = "data: 1 image for training and validation cannot be used; mend or remove";
    let all = [&[count, "--on-bad-image skip", "data/train/infected/00.png"], words].concat();
    refused(folder.path(), &["--data", "data", "--cache", "off"], 1, &all);
    disc(&folder.path().join("data/train/infected/00.png"), true, 0);
    train(folder.path(), &["--data", "data", "--out", "run", "--epochs", "1"]).succeeds();
}

#[test]
fn bad_images_of_every_split_are_told_before_training() {
    let folder = scratch();
    let data = data_set(folder.path());
    for index in 0..11 {
        fs::write(data.join(format!("train/normal/{index:02}.png")), b"").unwrap();
    }
    fs::write(data.join("validation/normal/01.png"), b"words").unwrap();
    fs::write(data.join("test/infected/02.png"), b"GIF89a").unwrap();
    let words = [
        "data: 12 images for training and validation",
        "train/normal/09.png",
        "and 2 more",
        "warning: data: 1 image of the test cannot be used, and an evaluation will stop there: ",
        "test/infected/02.png: is no PNG",
    ];
    refused(folder.path(), &["--data", "data", "--cache", "off"], 1, &words);
}

#[test]
fn an_image_of_zero_bytes() {
    stops_at(b"", &["the file is empty (0 bytes)", "copy it again or remove it"]);
}

#[test]
fn a_truncated_image() {
    let folder = scratch();
    let whole = fs::read(data_set(folder.path()).join("train/infected/00.png")).unwrap();
    stops_at(&whole[..whole.len() / 2], &["the PNG image is truncated", "copy it again or remove it"]);
}

#[test]
fn a_text_called_png() {
    stops_at(
        b"these are words\n",
        &["is no PNG, JPEG or DICOM image but text", "these are words", "convert it or remove it"],
    );
}

/// The beginning of a PNG that announces this size; no pixel follows.
fn png_header(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Grayscale);
    // Dropped at once, the writer has written the header and complains about nothing.
    drop(encoder.write_header().unwrap());
    bytes
}

#[test]
fn an_image_of_900_million_pixels() {
    let bytes = png_header(30_000, 30_000);
    assert!(bytes.len() < 100);
    stops_at(&bytes, &["30000 x 30000 pixels are more than the limit of 100000000 pixels", "scale the image down"]);
}

#[cfg(target_os = "linux")]
#[test]
fn names_that_are_not_utf_8() {
    use std::os::unix::ffi::OsStrExt;
    let strange = std::ffi::OsStr::from_bytes(b"caf\xe9.png");
    let folder = scratch();
    let data = data_set(folder.path());
    disc(&data.join("train/infected").join(strange), true, 1);
    refused(folder.path(), &["--data", "data"], 1, &["caf\u{fffd}.png: the name is not UTF-8", "rename the file"]);

    // A data folder of such a name: no run could say where its data lie.
    let folder = scratch();
    fs::rename(data_set(folder.path()), folder.path().join(strange)).unwrap();
    let before = contents(folder.path());
    let mut command = train_command(folder.path(), &["--out", "run"]);
    let answer = Answer::of(command.arg("--data").arg(strange).output().unwrap());
    answer.fails(2, &["--data caf\u{fffd}.png: the name is not UTF-8", "rename the folder"]);
    assert_same(&before, &contents(folder.path()));

    // A run directory of such a name is nobody's trouble.
    let folder = scratch();
    data_set(folder.path());
    let mut command = train_command(folder.path(), &["--data", "data", "--epochs", "1", "--out"]);
    Answer::of(command.arg(strange).output().unwrap()).succeeds();
    assert!(folder.path().join(strange).join("model.safetensors").is_file());
}

#[test]
fn a_test_split_without_a_class_leaves_metrics_undefined() {
    let folder = scratch();
    copy_finished(folder.path());
    for name in ["a", "b"] {
        let class = folder.path().join("elsewhere/test/PNEUMONIA");
        fs::create_dir_all(&class).unwrap();
        disc(&class.join(format!("{name}.png")), true, 0);
    }
    fs::create_dir_all(folder.path().join("elsewhere/test/NORMAL")).unwrap();
    let arguments = ["evaluate", "run", "--data", "elsewhere", "--map", "PNEUMONIA=infected", "--map", "NORMAL=normal"];
    let answer = roentgen(folder.path(), &arguments).succeeds();
    assert_snapshot_without_loss("evaluate_absent_class", &answer);
    let names: Vec<_> = fs::read_dir(folder.path().join("run")).unwrap().flatten().map(|e| e.file_name()).collect();
    let kept = |name: &str| name.starts_with("metrics-elsewhere-") && name.ends_with("-test.json");
    assert!(names.iter().any(|name| name.to_str().is_some_and(kept)), "{names:?}");
    assert!(!folder.path().join("run/metrics-test.json").exists());
}
