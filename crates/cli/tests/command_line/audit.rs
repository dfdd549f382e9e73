//! `roentgen audit`: what it finds in phantoms, among which leaks of every kind are planted.

use crate::support::*;
use roentgen_data::phantom::{PhantomSet, generate};
use std::fs;
use std::path::Path;

/// A data set of phantoms; nothing in it leaks.
fn phantoms(folder: &Path) -> std::path::PathBuf {
    let data = folder.join("data");
    generate(&data, &PhantomSet { seed: 4, train: 24, validation: 8, test: 8, size: 128 }).expect("an empty folder");
    data
}

/// The first image of a split's class.
fn first(data: &Path, place: &str) -> std::path::PathBuf {
    let mut images: Vec<_> = fs::read_dir(data.join(place)).unwrap().flatten().map(|entry| entry.path()).collect();
    images.sort();
    images.swap_remove(0)
}

/// Writes the negative of a grey image, mirrored.
fn write_altered(from: &Path, to: &Path) {
    let mut reader = png::Decoder::new(std::io::BufReader::new(fs::File::open(from).unwrap())).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let size = reader.next_frame(&mut pixels).unwrap();
    pixels.truncate(size.buffer_size());
    pixels.chunks_exact_mut(size.width as usize).for_each(<[u8]>::reverse);
    pixels.iter_mut().for_each(|pixel| *pixel = 255 - *pixel);
    let mut encoder = png::Encoder::new(fs::File::create(to).unwrap(), size.width, size.height);
    encoder.set_color(size.color_type);
    encoder.write_header().and_then(|mut writer| writer.write_image_data(&pixels)).unwrap();
}

fn json(answer: &Answer) -> serde_json::Value {
    serde_json::from_str(&answer.stdout).unwrap_or_else(|error| panic!("{error}: {}", answer.snapshot()))
}

fn kinds(audit: &serde_json::Value) -> Vec<String> {
    let findings = audit["findings"].as_array().unwrap().iter();
    findings.map(|f| format!("{} {}", f["level"].as_str().unwrap(), f["kind"].as_str().unwrap())).collect()
}

#[test]
fn clean_data_pass_and_every_planted_leak_is_found() {
    let folder = scratch();
    let data = phantoms(folder.path());
    let answer = roentgen(folder.path(), &["audit", "--data", "data", "--json"]).succeeds();
    let audit = json(&answer);
    let grave: Vec<String> =
        kinds(&audit).into_iter().filter(|kind| kind.starts_with("leak") || kind.starts_with("error")).collect();
    assert!(grave.is_empty(), "{}", answer.stdout);
    assert_eq!(audit["near_duplicates"], serde_json::json!([]));
    assert!(audit["patients"].as_str().unwrap().contains("disjoint between the splits, by their ids"));

    fs::copy(first(&data, "train/normal"), data.join("test/normal/same.png")).unwrap();
    fs::copy(first(&data, "train/infected"), data.join("train/normal/other-label.png")).unwrap();
    write_altered(&first(&data, "validation/infected"), &data.join("test/infected/altered.png"));
    fs::write(data.join("test/infected/broken.png"), b"").unwrap();
    let before = contents(folder.path());
    let answer = roentgen(folder.path(), &["audit", "--data", "data", "--json"]);
    assert_same(&before, &contents(folder.path()));
    let audit = json(&answer);
    answer.fails(1, &["data: kinds of leaks: 2, kinds of contradicting labels: 1"]);
    for kind in [
        "leak identical-across-splits",
        "leak near-duplicate-across-splits",
        "error identical-with-different-labels",
        "warning bad-image",
    ] {
        assert!(kinds(&audit).contains(&kind.to_owned()), "{kind}: {audit:#}");
    }
    assert!(audit["patients"].as_str().unwrap().contains("not provable"), "{audit:#}");
    let pairs = audit["near_duplicates"].as_array().unwrap();
    assert_eq!(pairs.len(), 3, "{audit:#}");
    let altered = pairs.iter().find(|pair| pair["identical"] == false).unwrap();
    assert_eq!(altered["second"]["path"], "test/infected/altered.png");
    assert_eq!((&altered["across_splits"], &altered["changes"]), (&true.into(), &"mirrored, inverted".into()));
}

#[test]
fn a_patient_in_two_splits_is_a_leak_and_the_page_shows_pairs() {
    let folder = scratch();
    let data = phantoms(folder.path());
    let table = fs::read_to_string(data.join("manifest.csv")).unwrap();
    let column = table.lines().next().unwrap().split(',').position(|name| name == "patient_id").unwrap();
    let patient = |line: &str| line.split(',').nth(column).unwrap().to_owned();
    let of = |split: &str| patient(table.lines().find(|line| line.starts_with(split)).unwrap());
    fs::write(data.join("manifest.csv"), table.replace(&of("test/"), &of("train/"))).unwrap();
    write_altered(&first(&data, "train/infected"), &data.join("test/infected/altered.png"));
    let answer = roentgen(folder.path(), &["audit", "--data", "data", "--html", "audit.html"]);
    let text = answer.stdout.clone();
    answer.fails(1, &["wrote audit.html", "data: kinds of leaks: 2"]);
    assert!(text.contains("leak: 1 patient with images in more than one split"), "{text}");
    assert!(text.contains("leak: 1 pair of images of the same exposure, altered, in different splits"), "{text}");
    let page = fs::read_to_string(folder.path().join("audit.html")).unwrap();
    assert_eq!(page.matches("src=\"data:image/png;base64,").count(), 2);
    assert!(!page.contains("http"), "the page needs something from elsewhere");
    assert!(page.contains("test&#x2f;infected&#x2f;altered.png"), "the pair has no caption");
}

#[test]
fn sources_that_are_the_label_are_warned_of() {
    let folder = scratch();
    let data = phantoms(folder.path());
    let table = fs::read_to_string(data.join("manifest.csv")).unwrap();
    let mut lines = table.lines();
    let header =
        format!("path,source,{}", lines.next().unwrap().split_once(',').unwrap().1.replace("source", "origin"));
    let rows = lines.map(|line| {
        let (path, rest) = line.split_once(',').unwrap();
        format!("{path},{},{rest}", if path.contains("infected") { "clinic" } else { "school" })
    });
    fs::write(data.join("manifest.csv"), [header].into_iter().chain(rows).collect::<Vec<_>>().join("\n")).unwrap();
    let audit = json(&roentgen(folder.path(), &["audit", "--data", "data", "--json"]).succeeds());
    assert!(kinds(&audit).contains(&"warning shortcut".to_owned()), "{audit:#}");
    let source = &audit["shortcuts"].as_array().unwrap().iter().find(|s| s["feature"] == "source").unwrap();
    assert_eq!((&source["auroc"]["value"], &source["suspicious"]), (&1.0.into(), &true.into()));
}

#[test]
fn wrong_calls_are_refused() {
    roentgen(Path::new("."), &["audit", "--data", "nowhere"]).fails(2, &["nowhere: no such folder"]);
    roentgen(Path::new("."), &["audit", "--data", ".", "--threads", "0"]).fails(2, &["--threads is 0"]);
}
