//! The cache of decoded images: the same results with it and without, and what is said of it.

use crate::support::*;
use std::fs;
use std::path::{Path, PathBuf};

const SETTINGS: [&str; 4] = ["--data", "data", "--epochs", "2"];

fn entries(folder: &Path) -> Vec<PathBuf> {
    contents(folder).into_keys().filter(|path| path.extension().is_some_and(|ending| ending == "pixels")).collect()
}

#[test]
fn results_are_the_same_without_it_while_it_fills_and_from_it() {
    let scratch = scratch();
    let folder = scratch.path();
    data_set(folder);
    let train = |out, options: &[&str]| train(folder, &[&SETTINGS[..], &["--out", out], options].concat()).succeeds();
    let off = train("off", &["--cache", "off"]);
    assert!(!off.stderr.contains("decoded images"), "{}", off.stderr);
    assert!(!folder.join("cache").exists());
    let filling = train("filling", &[]);
    let said = "decoded images are kept in cache/images (at most 4096 MiB; --cache, --image-cache-limit)";
    assert!(filling.stderr.contains(said), "{}", filling.stderr);
    // Those for the test as well: the gate before training looks at all of them.
    assert_eq!(entries(&folder.join("cache/images")).len(), 40);
    train("filled", &["--cache", "cache/images", "--image-cache-limit", "1"]);
    for run in ["filling", "filled"] {
        assert!(results(&folder.join(run)) == results(&folder.join("off")), "{run}");
    }
    let config = fs::read_to_string(folder.join("filled/config.toml")).unwrap();
    assert!(config.contains("image_cache = \"cache/images\"\nimage_cache_limit_mib = 1\n"), "{config}");

    // An evaluation asks the cache of its run, unless told otherwise.
    let with = roentgen(folder, &["evaluate", "filled", "--data", "data"]).succeeds();
    assert!(with.stderr.contains("kept in cache/images (at most 1 MiB;"), "{}", with.stderr);
    for off in ["off", "Off", "OFF"] {
        let without = roentgen(folder, &["evaluate", "filling", "--data", "data", "--cache", off]).succeeds();
        assert_eq!(with.stdout, without.stdout);
        assert!(!without.stderr.contains("cache"), "{off}: {}", without.stderr);
        assert!(off == "off" || !folder.join(off).exists(), "{off}");
    }
}

#[test]
fn damage_is_mended_and_said_and_a_place_that_cannot_be_costs_nothing_but_time() {
    let scratch = scratch();
    let folder = scratch.path();
    data_set(folder);
    let train = |out, options: &[&str]| train(folder, &[&SETTINGS[..], &["--out", out], options].concat()).succeeds();
    train("first", &["--cache", "kept"]);
    let damaged = entries(&folder.join("kept")).swap_remove(3);
    let whole = fs::read(&damaged).unwrap();
    fs::write(&damaged, &whole[..whole.len() - 1]).unwrap();
    let answer = train("second", &["--cache", "kept"]);
    let name = damaged.strip_prefix(folder).unwrap().to_str().unwrap();
    assert_eq!(answer.stderr.matches(": damaged: ").count(), 1, "{}", answer.stderr);
    assert!(answer.stderr.contains(&format!("warning: {name}: damaged")), "{}", answer.stderr);
    assert!(fs::read(&damaged).unwrap() == whole);
    let mended = "warning: kept: 1 entry was damaged and was decoded again\n";
    assert!(answer.stderr.contains(mended), "{}", answer.stderr);

    fs::write(folder.join("file"), "not a folder").unwrap();
    let answer = train("third", &["--cache", "file"]);
    assert_eq!(answer.stderr.matches("goes on without").count(), 1, "{}", answer.stderr);
    for run in ["second", "third"] {
        assert!(results(&folder.join(run)) == results(&folder.join("first")), "{run}");
    }
}
