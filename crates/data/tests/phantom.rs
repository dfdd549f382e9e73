//! Phantoms: the same everywhere, whole or not there, and with a class that nothing but local structure betrays.

mod phantom_logistic;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use phantom_logistic::{Samples, best_test_accuracy};
use rayon::prelude::*;
use roentgen_data::manifest::{Manifest, Split};
use roentgen_data::phantom::{self, PhantomError, PhantomRow, PhantomSet};

const SMALL: PhantomSet = PhantomSet { seed: 11, train: 13, validation: 4, test: 6, size: 48 };

/// All files below `root`: relative path and bytes.
fn files(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(root).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

#[test]
fn the_same_seed_gives_the_same_bytes_with_any_number_of_threads() {
    let scratch = tempfile::tempdir().unwrap();
    let generate = |name: &str, threads: usize, set: &PhantomSet| {
        let dir = scratch.path().join(name);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| phantom::generate(&dir, set)).unwrap();
        files(&dir)
    };
    let first = generate("first", 1, &SMALL);
    assert!(first == generate("second", 3, &SMALL), "two sets of one seed differ");
    let other = generate("other", 1, &PhantomSet { seed: 12, ..SMALL });
    let images = |set: &BTreeMap<PathBuf, Vec<u8>>| -> BTreeSet<Vec<u8>> {
        set.iter()
            .filter(|(path, _)| path.extension().is_some_and(|kind| kind == "png"))
            .map(|(_, bytes)| bytes.clone())
            .collect()
    };
    assert_eq!(images(&first).len(), 13 + 4 + 6, "two images of one set are the same");
    assert!(images(&first).is_disjoint(&images(&other)), "two seeds share an image");
}

/// A checksum of pixels (FNV-1a, 64 bit).
fn checksum(pixels: &[u8]) -> u64 {
    pixels
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[test]
fn the_pixels_are_those_of_every_other_machine() {
    // Recorded on x86-64. Whoever changes what a phantom looks like records them anew and says so in the change log.
    let drawn = [(1, 0, true), (1, 0, false), (2, 123, true)]
        .map(|(seed, item, infected)| checksum(&phantom::draw_radiograph(seed, item, infected, 64)));
    assert_eq!(drawn, [0x2338_55e2_e9a4_acf4, 0xae54_493b_7196_2ddf, 0xa1dd_b023_74a5_976e], "found {drawn:#x?}");
}

#[test]
fn files_and_manifest_agree() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("new/phantoms");
    let rows = phantom::generate(&dir, &SMALL).unwrap();
    assert_eq!(rows, SMALL.rows().unwrap());

    let mut on_disk = files(&dir);
    let table = on_disk.remove(Path::new("manifest.csv")).expect("a manifest");
    assert_eq!(on_disk.len(), rows.len(), "{:?}", on_disk.keys());
    let mut lines = String::from("path,split,label,finding,patient_id,source\n");
    for row in &rows {
        let (path, split, label) = (row.path(), row.split.name(), row.label());
        assert!(path.starts_with(&format!("{split}/{label}/")), "{path} in {split} with {label}");
        lines += &format!("{path},{split},{label},{},{},phantom\n", row.finding(), row.patient_id());

        let mut reader = png::Decoder::new(std::io::Cursor::new(&on_disk[Path::new(&path)])).read_info().unwrap();
        assert_eq!(
            (reader.info().color_type, reader.info().bit_depth),
            (png::ColorType::Grayscale, png::BitDepth::Eight)
        );
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut pixels).unwrap();
        assert!(pixels == phantom::draw_radiograph(SMALL.seed, row.item, row.infected, SMALL.size), "pixels of {path}");
    }
    assert_eq!(String::from_utf8(table).unwrap(), lines);

    let opened = Manifest::open(&dir).unwrap();
    assert_eq!(opened.classes, ["infected", "normal"]);
    assert_eq!(opened.warnings, Vec::<String>::new());
    assert_eq!(opened.rows.len(), rows.len());
    for row in &opened.rows {
        let drawn = rows.iter().find(|drawn| Path::new(&drawn.path()) == row.path).expect("a phantom of that path");
        assert_eq!((row.split, row.label), (drawn.split, usize::from(!drawn.infected)));
        assert_eq!(row.patient_id, Some(drawn.patient_id()));
    }
}

#[test]
fn classes_are_balanced_and_patients_stay_in_one_split() {
    for seed in 0..20 {
        let set = PhantomSet { seed, train: 61, validation: 31, test: 41, size: 32 };
        let rows = set.rows().unwrap();
        let mut split_of = BTreeMap::new();
        let mut images_of = BTreeMap::<u64, usize>::new();
        for row in &rows {
            assert_eq!(
                *split_of.entry(row.patient).or_insert(row.split),
                row.split,
                "patient {} in two splits",
                row.patient
            );
            *images_of.entry(row.patient).or_default() += 1;
        }
        let twice = images_of.values().filter(|&&images| images == 2).count();
        assert!(
            (1..=25).contains(&twice) && images_of.values().all(|&images| images <= 2),
            "{twice} patients with two images"
        );
        for split in Split::ALL {
            let of_split = || rows.iter().filter(move |row| row.split == split);
            assert_eq!(of_split().count(), set.count(split));
            assert_eq!(of_split().filter(|row| row.infected).count(), set.count(split) / 2);
        }
    }
}

#[test]
fn a_set_is_written_whole_or_not_at_all() {
    let scratch = tempfile::tempdir().unwrap();
    let names = || -> Vec<_> {
        fs::read_dir(scratch.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };

    let dir = scratch.path().join("set");
    assert!(matches!(
        phantom::generate(&dir, &PhantomSet { size: 31, ..SMALL }),
        Err(PhantomError::Side { found: 31 })
    ));
    let lacking = phantom::generate(&dir, &PhantomSet { test: 1, ..SMALL });
    assert!(matches!(lacking, Err(PhantomError::TooFew { split: Split::Test, found: 1 })));
    assert_eq!(names(), Vec::<String>::new(), "a wrong call leaves something");

    fs::create_dir(&dir).unwrap();
    phantom::generate(&dir, &SMALL).expect("an empty folder is replaced");
    assert_eq!(names(), ["set"], "the draft is still there");

    let before = files(&dir);
    let again = phantom::generate(&dir, &PhantomSet { seed: 99, ..SMALL });
    assert!(matches!(again, Err(PhantomError::Occupied { .. })), "{again:?}");
    assert!(before == files(&dir) && names() == ["set"]);

    let file = dir.join("manifest.csv");
    assert!(matches!(phantom::generate(&file, &SMALL), Err(PhantomError::Occupied { .. })));
    let below_a_file = phantom::generate(&file.join("set"), &SMALL);
    assert!(matches!(&below_a_file, Err(PhantomError::Io { path, .. }) if *path == file), "{below_a_file:?}");
    assert!(before == files(&dir));
}

#[test]
fn the_class_is_independent_of_every_nuisance() {
    // 4,500 images: a correlation of 0.07 with the class would show.
    let set = PhantomSet { seed: 5, train: 3_000, validation: 500, test: 1_000, size: 64 };
    let rows = set.rows().unwrap();
    let drawn: Vec<_> = rows.par_iter().map(|row| phantom::parameters(set.seed, row.item)).collect();
    for index in 0..drawn[0].len() {
        let name = drawn[0][index].0;
        let of_class = |infected| {
            let values: Vec<f64> = rows
                .iter()
                .zip(&drawn)
                .filter(|(row, _)| row.infected == infected)
                .map(|(_, all)| f64::from(all[index].1))
                .collect();
            let count = values.len() as f64;
            let mean = values.iter().sum::<f64>() / count;
            (mean, values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0) / count)
        };
        let ((mean_infected, error_infected), (mean_normal, error_normal)) = (of_class(true), of_class(false));
        let welch = (mean_infected - mean_normal) / (error_infected + error_normal).sqrt();
        assert!(error_normal > 0.0, "{name} never varies");
        // Two-sided p = 0.000007 for each of about 50: one set in 3,000 would fail by chance, and this one does not.
        assert!(welch.abs() < 4.5, "{name}: {mean_infected} where infected, {mean_normal} where normal, t = {welch}");
    }
}

/// Pixels averaged down to 32 x 32.
fn thumbnail(pixels: &[u8], size: usize) -> Vec<f64> {
    assert_eq!(size % 32, 0, "whole pixels in each cell");
    let cell = size / 32;
    let mut sums = vec![0.0; 32 * 32];
    for (index, &pixel) in pixels.iter().enumerate() {
        sums[index / size / cell * 32 + index % size / cell] += f64::from(pixel) / (cell * cell) as f64;
    }
    sums
}

/// Mean, standard deviation and the shares of 16 bins of brightness.
fn statistics(pixels: &[u8]) -> Vec<f64> {
    let count = pixels.len() as f64;
    let mean = pixels.iter().map(|&pixel| f64::from(pixel)).sum::<f64>() / count;
    let variance = pixels.iter().map(|&pixel| (f64::from(pixel) - mean).powi(2)).sum::<f64>() / count;
    let mut features = vec![mean, variance.sqrt()];
    features.resize(18, 0.0);
    for &pixel in pixels {
        features[2 + usize::from(pixel >> 4)] += 1.0 / count;
    }
    features
}

/// Test accuracy of the regression on thumbnails and of the one on statistics, of images that `draw` gives.
fn probe(set: &PhantomSet, draw: impl Fn(&PhantomRow) -> Vec<u8> + Sync) -> (f64, f64) {
    let rows = set.rows().unwrap();
    let (thumbnails, statistics): (Vec<_>, Vec<_>) = rows
        .par_iter()
        .map(|row| {
            let pixels = draw(row);
            (thumbnail(&pixels, set.size), statistics(&pixels))
        })
        .unzip();
    let accuracy = |features: &[Vec<f64>]| {
        let [train, validation, test] = Split::ALL.map(|split| {
            let of_split = || rows.iter().zip(features).filter(move |(row, _)| row.split == split);
            Samples {
                features: of_split().map(|(_, features)| features.clone()).collect(),
                labels: of_split().map(|(row, _)| f64::from(u8::from(row.infected))).collect(),
            }
        });
        best_test_accuracy(&train, &validation, &test)
    };
    rayon::join(|| accuracy(&thumbnails), || accuracy(&statistics))
}

#[test]
fn neither_thumbnail_nor_statistics_betray_the_class() {
    for seed in [0, 1, 2] {
        let set = PhantomSet::demo(seed);
        let (on_pixels, on_statistics) =
            probe(&set, |row| phantom::draw_radiograph(seed, row.item, row.infected, set.size));
        println!("seed {seed}: test accuracy {on_pixels:.3} on 32 x 32 pixels, {on_statistics:.3} on statistics");
        assert!(on_pixels < 0.70, "seed {seed}: {on_pixels} on 32 x 32 pixels");
        assert!(on_statistics < 0.70, "seed {seed}: {on_statistics} on mean, deviation and histogram");
    }
}

#[test]
fn the_regressions_find_a_class_that_is_betrayed() {
    let set = PhantomSet { seed: 4, train: 200, validation: 60, test: 100, size: 64 };
    let plain = |row: &PhantomRow| phantom::draw_radiograph(set.seed, row.item, row.infected, set.size);
    // A burned-in block of 4 x 4 pixels tells the class.
    let (on_pixels, _) = probe(&set, |row| {
        let mut pixels = plain(row);
        for index in 0..16 {
            pixels[(56 + index / 4) * 64 + 56 + index % 4] = if row.infected { 255 } else { 0 };
        }
        pixels
    });
    assert!(on_pixels > 0.95, "{on_pixels}");
    // A contrast lower by a quarter tells the class.
    let (_, on_statistics) = probe(&set, |row| {
        let factor = if row.infected { 0.75 } else { 1.0 };
        plain(row).into_iter().map(|pixel| (f32::from(pixel) * factor) as u8).collect()
    });
    assert!(on_statistics > 0.80, "{on_statistics}");
}

#[test]
fn both_forms_of_a_phantom_are_equally_bright() {
    let mean = |pixels: Vec<u8>| pixels.iter().map(|&pixel| f64::from(pixel)).sum::<f64>() / pixels.len() as f64;
    let differences: Vec<f64> = (0..60)
        .map(|item| {
            mean(phantom::draw_radiograph(3, item, true, 96)) - mean(phantom::draw_radiograph(3, item, false, 96))
        })
        .collect();
    // Grey levels; the tone curve and clipping keep it from being nil.
    assert!(differences.iter().all(|difference| difference.abs() < 1.5), "{differences:?}");
    assert!((differences.iter().sum::<f64>() / 60.0).abs() < 0.4, "{differences:?}");
}
