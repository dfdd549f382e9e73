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
    // From what was kept of each image, and without keeping anything.
    for cache in ["cache/images", "off"] {
        let again = roentgen(folder.path(), &["audit", "--data", "data", "--json", "--cache", cache]).succeeds();
        assert_eq!((again.stdout == answer.stdout, again.stderr.contains("kept in")), (true, cache != "off"));
    }

    fs::copy(first(&data, "train/normal"), data.join("test/normal/same.png")).unwrap();
    fs::copy(first(&data, "train/infected"), data.join("train/normal/other-label.png")).unwrap();
    write_altered(&first(&data, "validation/infected"), &data.join("test/infected/altered.png"));
    fs::write(data.join("test/infected/broken.png"), b"").unwrap();
    let before = contents(&data);
    let answer = roentgen(folder.path(), &["audit", "--data", "data", "--json"]);
    assert_same(&before, &contents(&data));
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
fn what_the_table_says_of_people_is_a_feature_and_who_they_are_can_be_hidden() {
    let folder = scratch();
    let data = data_set(folder.path());
    let mut table = "path,label,split,patient_id,view,age,sex\n".to_owned();
    for (index, path) in contents(&data).into_keys().enumerate() {
        let label = if path.to_str().unwrap().contains("infected") { "infected" } else { "normal" };
        let split = if path.to_str().unwrap().contains("train") { "train" } else { "test" };
        let (view, age) = if label == "infected" { ("AP supine", 60 + index % 9) } else { ("PA", 30 + index % 9) };
        let age = if index % 5 == 0 { String::new() } else { age.to_string() };
        let sex = ["F", "M", ""][index % 3];
        // Two images of a patient, the last of whom has one in either split.
        table += &format!("{},{label},{split},Anna {},{view},{age},{sex}\n", path.display(), index / 2);
    }
    let first = contents(&data).into_keys().next().unwrap();
    let deep = first.with_file_name("deep.png");
    let mut encoder = png::Encoder::new(fs::File::create(&deep).unwrap(), 40, 40);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Sixteen);
    let samples: Vec<u8> = (0..40 * 40u32).flat_map(|index| ((index * 7919 % 4096) as u16).to_be_bytes()).collect();
    encoder.write_header().and_then(|mut writer| writer.write_image_data(&samples)).unwrap();
    table += &format!("{},infected,train,Berta,,,\n", deep.display());
    table += &format!(
        "{},infected,test,Anna 0,,,\n",
        data.join("test/infected/00.png").with_file_name("gone.png").display()
    );
    fs::write(folder.path().join("list.csv"), table).unwrap();
    fs::write(folder.path().join("key"), "a key of more than sixteen bytes").unwrap();
    roentgen(folder.path(), &["audit", "--data", "list.csv"])
        .fails(1, &["1 of 42 images are not there", "--on-bad-image"]);
    let arguments = ["audit", "--data", "list.csv", "--on-bad-image", "skip", "--anonymous", "key", "--json"];
    let answer = roentgen(folder.path(), &[&arguments[..], &["--html", "audit.html"]].concat());
    assert!(!answer.stdout.contains("Anna"), "{}", answer.stdout);
    assert!(!fs::read_to_string(folder.path().join("audit.html")).unwrap().contains("Anna"));
    let audit = json(&answer);
    assert_eq!(audit["data"], "list.csv");
    assert!(kinds(&audit).contains(&"warning dim-image".to_owned()), "{audit:#}");
    let area = |feature: &str| {
        let found = audit["shortcuts"].as_array().unwrap().iter();
        let found = found.into_iter().find(|s| s["feature"] == feature && s["target"] == "infected");
        found.unwrap_or_else(|| panic!("{feature}: {audit:#}"))["auroc"]["value"].as_f64().unwrap()
    };
    assert_eq!(area("age (larger)"), 1.0);
    assert!(area("view") > 0.95 && area("all features together") > 0.95);
    assert!(area("sex") < 0.7);
    // Absolute paths are as they stand there.
    let pairs = audit["near_duplicates"].as_array().unwrap();
    assert!(pairs.iter().all(|pair| !pair["first"]["path"].as_str().unwrap().starts_with("//")), "{audit:#}");
}

#[test]
fn where_nothing_can_be_looked_at_nothing_is_said_to_be_clean() {
    let folder = scratch();
    let data = data_set(folder.path());
    for path in contents(&data).into_keys().filter(|path| path.to_str().unwrap().contains("/test/")) {
        fs::write(path, "text").unwrap();
    }
    let answer = roentgen(folder.path(), &["audit", "--data", "data"]);
    assert!(answer.stdout.contains("among the images that can be decoded (8 cannot)"), "{}", answer.stdout);
    answer.fails(1, &["data: no image of the test split can be decoded (8 there)"]);
    contents(&data).into_keys().for_each(|path| fs::write(path, "text").unwrap());
    let answer = roentgen(folder.path(), &["audit", "--data", "data"]);
    assert!(answer.stdout.contains("0 images. No image can be decoded: nothing is known"), "{}", answer.stdout);
    answer.fails(1, &["data: no image of the train split can be decoded (24 there)"]);
}

#[test]
fn a_split_that_is_not_there_is_not_said_to_be_clean() {
    let folder = scratch();
    let data = data_set(folder.path());
    let mut list = String::from("path,label,split\n");
    for path in contents(&data).into_keys() {
        let image = path.strip_prefix(folder.path()).unwrap().to_str().unwrap();
        let [_, split, label, _] = image.split('/').collect::<Vec<_>>()[..] else { panic!("{image}") };
        list += &format!("{image},{label},{split}\n");
    }
    fs::write(folder.path().join("list.csv"), list).unwrap();
    let audit = ["audit", "--data", "list.csv", "--on-bad-image", "skip"];
    let whole = roentgen(folder.path(), &audit);
    assert!(!whole.stderr.contains("is there"), "{}", whole.stderr);
    fs::remove_dir_all(data.join("test")).unwrap();
    roentgen(folder.path(), &audit).fails(1, &["list.csv: no image of the test split is there"]);
}

#[test]
fn wrong_calls_are_refused() {
    roentgen(Path::new("."), &["audit", "--data", "nowhere"]).fails(2, &["nowhere: no such folder"]);
    roentgen(Path::new("."), &["audit", "--data", ".", "--threads", "0"]).fails(2, &["--threads is 0"]);
}
