//! Radiographs as hospitals keep them: named by numbers, with patients in the headers, in either polarity.

use crate::support::*;
use std::fs;
use std::path::Path;

/// An element of explicit type.
fn element(group: u16, number: u16, vr: &[u8; 2], value: &[u8]) -> Vec<u8> {
    let mut bytes = [group.to_le_bytes(), number.to_le_bytes()].concat();
    bytes.extend(vr);
    if vr == b"OW" {
        bytes.extend([0, 0]);
        bytes.extend((value.len() as u32).to_le_bytes());
    } else {
        bytes.extend((value.len() as u16).to_le_bytes());
    }
    bytes.extend(value);
    bytes
}

/// Text of an even length.
fn text(words: &str, filler: u8) -> Vec<u8> {
    let mut bytes = words.as_bytes().to_vec();
    bytes.resize(words.len().next_multiple_of(2), filler);
    bytes
}

/// Frames of 40 x 40 pixels of 12 bits, MONOCHROME1: the image of [`disc`], which takes all 8 of its bits.
fn dicom(path: &Path, patient: &str, bright: bool, variant: usize, frames: usize) {
    let png = path.with_extension("temporary");
    disc(&png, bright, variant);
    let mut reader = png::Decoder::new(std::io::BufReader::new(fs::File::open(&png).unwrap())).read_info().unwrap();
    let mut pixels = vec![0; 40 * 40];
    reader.next_frame(&mut pixels).unwrap();
    fs::remove_file(&png).unwrap();
    let inverted: Vec<u8> = pixels.iter().flat_map(|&p| ((255 - u16::from(p)) * 16).to_le_bytes()).collect();
    let number = |value: u16| value.to_le_bytes();
    let elements = [
        element(0x0002, 0x0010, b"UI", &text("1.2.840.10008.1.2.1", 0)),
        element(0x0010, 0x0020, b"LO", &text(patient, b' ')),
        element(0x0028, 0x0002, b"US", &number(1)),
        element(0x0028, 0x0004, b"CS", &text("MONOCHROME1", b' ')),
        element(0x0028, 0x0008, b"IS", &text(&frames.to_string(), b' ')),
        element(0x0028, 0x0010, b"US", &number(40)),
        element(0x0028, 0x0011, b"US", &number(40)),
        element(0x0028, 0x0100, b"US", &number(16)),
        element(0x0028, 0x0101, b"US", &number(12)),
        element(0x0028, 0x0102, b"US", &number(11)),
        element(0x0028, 0x0103, b"US", &number(0)),
        // Every value that 8 bits times 16 can have.
        element(0x0028, 0x1050, b"DS", &text("2040", b' ')),
        element(0x0028, 0x1051, b"DS", &text("4080", b' ')),
        element(0x0028, 0x1056, b"CS", &text("LINEAR_EXACT", b' ')),
        element(0x7fe0, 0x0010, b"OW", &inverted.repeat(frames)),
    ];
    fs::write(path, [&[0; 128][..], b"DICM", &elements.concat()].concat()).unwrap();
}

/// As [`data_set`], as DICOM files that are named as scanners name them; each patient has two images.
fn dicom_data_set(folder: &Path) {
    let root = folder.join("data");
    // Each split has images of its own.
    for (split, count, first) in [("train", 12, 0), ("validation", 4, 12), ("test", 4, 16)] {
        for class in ["infected", "normal"] {
            let place = root.join(split).join(class);
            fs::create_dir_all(&place).unwrap();
            for index in 0..count {
                let name = ["IM", "1.2.840.", "x.dcm", "x.IMA"][index % 4];
                let name = if name.starts_with('x') { format!("{index}{name}") } else { format!("{name}{index}") };
                let patient = format!("{split}^{class}^{}", index / 2);
                dicom(&place.join(name), &patient, class == "infected", first + index, 1);
            }
        }
    }
}

#[test]
fn dicom_is_predicted_as_the_same_picture_in_png() {
    let folder = scratch();
    disc(&folder.path().join("a.png"), true, 3);
    dicom(&folder.path().join("a.dcm"), "p", true, 3, 1);
    dicom(&folder.path().join("three"), "p", true, 3, 3);
    let run = finished().join("run");
    let run = run.to_str().unwrap();
    let logits = |arguments: &[&str]| -> Vec<f64> {
        let answer = roentgen(folder.path(), &[&["predict", run, "--json"], arguments].concat()).succeeds();
        let answer: serde_json::Value = serde_json::from_str(&answer.stdout).unwrap();
        answer["logits"].as_array().unwrap().iter().map(|logit| logit.as_f64().unwrap()).collect()
    };
    let png = logits(&["a.png"]);
    for dicom in [&["a.dcm"][..], &["three", "--frame", "2"]] {
        for (dicom, png) in logits(dicom).iter().zip(&png) {
            // 16 bits are rounded less on the way than 8.
            assert!((dicom - png).abs() < 0.05, "{dicom} and {png}");
        }
    }
    roentgen(folder.path(), &["predict", run, "three"]).fails(1, &["three: has 3 frames", "--frame N"]);
    roentgen(folder.path(), &["predict", run, "three", "--frame", "4"]).fails(1, &["frame 4 was asked for"]);
    roentgen(folder.path(), &["predict", run, "three", "--frame", "0"]).fails(2, &["--frame"]);
    let explain = ["explain", run, "three", "--module", "layer3", "--curve-steps", "0", "--json", "--out", "maps"];
    roentgen(folder.path(), &explain).fails(1, &["three: has 3 frames", "--frame N"]);
    let maps = roentgen(folder.path(), &[&explain[..], &["--frame", "2"]].concat()).succeeds();
    let map: serde_json::Value = serde_json::from_str(&maps.stdout).unwrap();
    let explained: Vec<f64> = map["logits"].as_array().unwrap().iter().map(|logit| logit.as_f64().unwrap()).collect();
    assert_eq!(explained, logits(&["three", "--frame", "2"]));
    fs::remove_dir_all(folder.path().join("maps")).unwrap();
    let all = roentgen(folder.path(), &["predict", run, ".", "--frame", "1"]).succeeds();
    assert_eq!(all.stdout.lines().count(), 4, "a folder's DICOM file without an ending is found: {}", all.stdout);
}

#[test]
fn patients_come_from_the_headers_and_leave_as_pseudonyms() {
    let folder = scratch();
    dicom_data_set(folder.path());
    let arguments = ["--data", "data", "--out", "run", "--epochs", "1"];
    fs::write(folder.path().join("key"), "short").unwrap();
    let anonymous = [&arguments[..], &["--anonymous", "key"]].concat();
    train(folder.path(), &anonymous).fails(1, &["key: a key of 5 bytes; expected at least 16"]);
    fs::write(folder.path().join("key"), "a key of more than sixteen bytes").unwrap();
    train(folder.path(), &anonymous).succeeds();
    roentgen(folder.path(), &["evaluate", "run"]).succeeds();
    roentgen(folder.path(), &["report", "run"]).succeeds();

    let environment = fs::read_to_string(folder.path().join("run/environment.json")).unwrap();
    let environment: serde_json::Value = serde_json::from_str(&environment).unwrap();
    assert_eq!(environment["patients"], serde_json::json!({ "train": 12, "validation": 4, "test": 4 }));
    let table = fs::read_to_string(folder.path().join("run/predictions-test.csv")).unwrap();
    let mut rows = csv::Reader::from_reader(table.as_bytes());
    let patients: Vec<String> = rows.records().map(|row| row.unwrap()[1].to_owned()).collect();
    assert_eq!(patients.len(), 8);
    assert_eq!(patients.iter().collect::<std::collections::BTreeSet<_>>().len(), 4);
    assert!(patients.iter().all(|id| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())));
    for (path, bytes) in contents(&folder.path().join("run")) {
        let found = bytes.windows(13).any(|window| window == b"test^infected" || window == b"rain^infected");
        assert!(!found, "{} names a patient", path.display());
    }

    // A patient in two splits is found by the header, and named by the pseudonym.
    dicom(&folder.path().join("data/test/normal/IM99"), "train^normal^0", false, 1, 1);
    let again = [&["--data", "data", "--out", "other", "--epochs", "1"][..], &["--anonymous", "key"]].concat();
    let answer = train(folder.path(), &again).fails(1, &["patients in more than one split: 1 ("]);
    assert!(!answer.stderr.contains("train^normal^0"), "{}", answer.stderr);
    let plain = ["--data", "data", "--out", "other", "--epochs", "1"];
    train(folder.path(), &plain).fails(1, &["patients in more than one split: 1 (train^normal^0)"]);
}

#[test]
fn patients_of_a_table_without_them_come_from_the_headers() {
    let folder = scratch();
    let mut table = "path,label,split,source\n".to_owned();
    for index in 0..8 {
        let (split, label) = (["train", "test"][index % 2], ["infected", "normal"][index / 2 % 2]);
        dicom(&folder.path().join(format!("{index}.dcm")), "one", label == "infected", index, 1);
        table += &format!("{index}.dcm,{label},{split},{}\n", if index < 2 { "RSNA" } else { "" });
    }
    fs::write(folder.path().join("list.csv"), &table).unwrap();
    let answer = roentgen(folder.path(), &["audit", "--data", "list.csv"]);
    assert!(answer.stdout.contains("  one: 3 in train, 3 in test\n"), "{}", answer.snapshot());
    // The header of RSNA's challenge holds the id of an image.
    let unknown = "the patients of 2 of 8 images are unknown: neither a table nor a DICOM header names them";
    answer.fails(1, &[&format!("warning: list.csv: {unknown}")]);
    // A table that knows one image leaves the others to their headers.
    dicom_data_set(folder.path());
    fs::write(folder.path().join("data/manifest.csv"), "path,patient_id\ntrain/infected/IM0,known\n").unwrap();
    let answer = roentgen(folder.path(), &["audit", "--data", "data"]);
    assert!(answer.stdout.contains("Patients are disjoint between the splits, by their ids"), "{}", answer.snapshot());
}
