//! Tables and page of an experiment: from the folders of its runs, whatever is in them.

use crate::page::visible_text;
use crate::sample::{environment, history};
use roentgen_report::write_experiment_report;
use roentgen_run::history::{HISTORY_HEADER, write_table};
use roentgen_run::predictions::{Prediction, PredictionTable};
use roentgen_run::{Experiment, ExperimentDirectory};
use serde_json::Value;
use std::path::Path;

const CLASSES: [&str; 2] = ["infected", "normal"];

const FILE: &str = r#"format_version = 1
title = "Tiny"
seeds = [SEEDS]
FOLDS

[[row]]
name = "head"
title = "Head only"
freeze.unfreeze = ["head"]
published = { accuracy = 0.9266, f1 = 0.94, f1_class = "normal", confusion_matrix = [[515, 100], [10, 875]] }

[[row]]
name = "all"
title = "Everything"
freeze.unfreeze = ["all"]
"#;

/// An experiment of two rows, nothing of which has run.
fn begun(folder: &Path, seeds: &str, folds: &str) -> (ExperimentDirectory, Experiment) {
    let file = folder.join("tiny.toml");
    std::fs::write(&file, FILE.replace("SEEDS", seeds).replace("FOLDS", folds)).unwrap();
    let experiment = Experiment::read(&file).unwrap();
    let directory = ExperimentDirectory::new(folder.join("out"));
    std::fs::create_dir(directory.path()).unwrap();
    directory.begin(&experiment).unwrap();
    (directory, experiment)
}

/// Answers for the images `images`, every second infected, wrong where (image * 7 + shift) % every is 0.
fn answers(images: std::ops::Range<usize>, shift: usize, every: usize) -> PredictionTable {
    let row = |image: usize| {
        let label = image % 2;
        let predicted = if (image * 7 + shift).is_multiple_of(every) { 1 - label } else { label };
        let sure = 0.55 + 0.4 * ((image * 13 + shift * 5) % 17) as f32 / 17.0;
        let probabilities = if predicted == 0 { vec![sure, 1.0 - sure] } else { vec![1.0 - sure, sure] };
        let patient_id = Some(format!("p{}", image / 2));
        Prediction {
            path: format!("{image:03}.png"),
            patient_id,
            label: Some(label),
            predicted,
            probabilities,
            loss: None,
        }
    };
    PredictionTable { classes: CLASSES.map(str::to_owned).to_vec(), rows: images.map(row).collect() }
}

/// Leaves what a finished and evaluated training leaves.
fn finish(directory: &ExperimentDirectory, folder: &str, table: &PredictionTable) {
    let run = directory.run(folder);
    std::fs::create_dir_all(run.path()).unwrap();
    environment(&CLASSES).write(&run.environment_file()).unwrap();
    write_table(&run.history_file(), &HISTORY_HEADER, &history(2, true)).unwrap();
    std::fs::write(run.model_file(), "").unwrap();
    table.write(&run.predictions_file("test")).unwrap();
}

struct Report {
    markdown: String,
    table: String,
    differences: String,
    text: String,
    page: String,
    results: Value,
}

fn report(directory: &ExperimentDirectory) -> Report {
    let page = std::fs::read_to_string(write_experiment_report(directory).unwrap()).unwrap();
    let read = |path: std::path::PathBuf| std::fs::read_to_string(path).unwrap();
    Report {
        markdown: read(directory.table_file("md")),
        table: read(directory.table_file("csv")),
        differences: read(directory.differences_file()),
        text: visible_text(&page),
        results: serde_json::from_str(&read(directory.results_file())).unwrap(),
        page,
    }
}

/// The cell of a row in a column of a CSV whose cells hold no commas.
fn cell<'a>(csv: &'a str, row: usize, column: &str) -> &'a str {
    let place = csv.lines().next().unwrap().split(',').position(|head| head == column).unwrap();
    csv.lines().nth(row + 1).unwrap().split(',').nth(place).unwrap()
}

#[test]
fn rows_of_several_seeds_are_compared_by_what_the_table_shows() {
    let folder = tempfile::tempdir().unwrap();
    let (directory, _) = begun(folder.path(), "0, 1, 2", "");
    for seed in 0..3 {
        finish(&directory, &format!("head-seed-{seed}"), &answers(0..120, 3 * seed, 5));
        finish(&directory, &format!("all-seed-{seed}"), &answers(0..120, 4 * seed + 1, 11));
    }
    let report = report(&directory);
    for (index, row) in ["Head only", "Everything"].into_iter().enumerate() {
        let mean = report.results["rows"][index]["metrics"]["accuracy"]["value"].as_f64().unwrap();
        let compared = report.results["differences"]["differences"][0]["values"][index].as_f64().unwrap();
        assert!((mean - compared).abs() < 1e-12, "{row}: {mean} and {compared}");
        assert_eq!(cell(&report.table, index, "accuracy"), format!("{mean:.6}"));
        assert!(report.markdown.contains(&format!("| {row} | {mean:.4} \u{b1} ")), "{}", report.markdown);
    }
    // Ensembles of three are right elsewhere than their members, so McNemar's counts are called theirs.
    for text in [&report.markdown, &report.text] {
        assert!(text.contains("McNemar's p, ensembles") && text.contains("the mean over its trainings"), "{text}");
    }
}

#[test]
fn mcnemar_and_delong_stand_in_every_table_of_differences() {
    let folder = tempfile::tempdir().unwrap();
    let (directory, _) = begun(folder.path(), "0", "");
    finish(&directory, "head-seed-0", &answers(0..120, 0, 5));
    finish(&directory, "all-seed-0", &answers(0..120, 1, 11));
    let report = report(&directory);
    let mcnemar = &report.results["differences"]["errors"][0];
    let (first, second) = (&mcnemar["only_first_right"], &mcnemar["only_second_right"]);
    let p = mcnemar["p"].as_f64().unwrap();
    for text in [&report.markdown, &report.text] {
        for shown in [format!("{first} / {second}"), format!("{p:.4}"), "DeLong's test by patient".into()] {
            assert!(text.contains(&shown), "{shown} is missing from\n{text}");
        }
    }
    assert!(report.differences.contains("DeLong's test by patient"), "{}", report.differences);
    let cells: Vec<&str> = report.differences.lines().nth(1).unwrap().rsplit(',').take(3).collect();
    assert_eq!(cells[1..], [second.to_string(), first.to_string()]);
    assert!((cells[0].parse::<f64>().unwrap() - p).abs() < 1e-12, "{cells:?}");
}

#[test]
fn a_cross_validation_says_so_and_gives_the_spread_of_its_folds() {
    let folder = tempfile::tempdir().unwrap();
    let (directory, _) = begun(folder.path(), "0", "folds = 3");
    for fold in 1..=3 {
        let images = 40 * (fold - 1)..40 * fold;
        finish(&directory, &format!("head-seed-0-fold-{fold}"), &answers(images.clone(), fold, 5));
        finish(&directory, &format!("all-seed-0-fold-{fold}"), &answers(images, fold, 9));
    }
    let report = report(&directory);
    let spread = &report.results["rows"][0]["folds"]["accuracy"];
    let (mean, deviation) = (spread[0].as_f64().unwrap(), spread[1].as_f64().unwrap());
    assert!(deviation > 0.0);
    assert_eq!(cell(&report.table, 0, "accuracy_fold_mean"), format!("{mean:.6}"));
    assert_eq!(cell(&report.table, 0, "accuracy_fold_deviation"), format!("{deviation:.6}"));
    for text in [&report.markdown, &report.text] {
        assert!(text.contains(&format!("accuracy {mean:.4} \u{b1} {deviation:.4}")), "{text}");
        assert!(
            text.contains("On the out-of-fold predictions of 3 folds") && !text.contains("On the test split"),
            "{text}"
        );
        // 12,000 + 1,500 + 1,500.
        assert!(text.contains("15,000 images, each tested once in 3 folds"), "{text}");
    }
}

#[test]
fn a_row_of_other_data_leaves_the_tables_and_says_why_nothing_is_compared() {
    let folder = tempfile::tempdir().unwrap();
    let (directory, _) = begun(folder.path(), "0", "");
    finish(&directory, "head-seed-0", &answers(0..120, 0, 5));
    finish(&directory, "all-seed-0", &answers(0..100, 1, 11));
    let compared = report(&directory);
    assert!(compared.results["differences"].is_null());
    for text in [&compared.markdown, &compared.text] {
        assert!(text.contains("undefined") && text.contains("number of images: 120 against 100"), "{text}");
        assert!(text.contains("Everything"), "{text}");
    }
    assert!(!cell(&compared.table, 1, "accuracy").is_empty());

    // Other classes cannot even stand in the same columns.
    let mut table = answers(0..120, 1, 11);
    table.classes = vec!["normal".into(), "pneumonia".into()];
    finish(&directory, "all-seed-0", &table);
    let other = report(&directory);
    for text in [&other.markdown, &other.text] {
        assert!(text.contains("classes: infected, normal against normal, pneumonia"), "{text}");
    }
    assert!(!cell(&other.table, 0, "accuracy").is_empty() && cell(&other.table, 1, "accuracy").is_empty());
}

#[test]
fn a_row_that_failed_says_why_and_nobody_is_told_to_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let (directory, _) = begun(folder.path(), "0", "");
    finish(&directory, "head-seed-0", &answers(0..120, 0, 5));
    let unfinished = report(&directory);
    for text in [&unfinished.markdown, &unfinished.text] {
        assert!(text.contains("not finished: all"), "{text}");
    }
    assert!(unfinished.text.contains("Finish Everything"));
    std::fs::create_dir_all(directory.run("all-seed-0").path()).unwrap();
    std::fs::write(directory.run("all-seed-0").path().join("failure.txt"), "training has diverged: the loss is NaN\n")
        .unwrap();
    let failed = report(&directory);
    for text in [&failed.markdown, &failed.text] {
        assert!(text.contains("failed: all-seed-0: training has diverged: the loss is NaN"), "{text}");
    }
    assert!(!failed.text.contains("Finish Everything"), "{}", failed.text);
    assert_eq!(failed.results["rows"][1]["failures"][0], "all-seed-0: training has diverged: the loss is NaN");
}

#[test]
fn matrices_stand_in_the_tables_and_other_data_is_a_deviation() {
    let folder = tempfile::tempdir().unwrap();
    let (directory, _) = begun(folder.path(), "0", "");
    finish(&directory, "head-seed-0", &answers(0..120, 0, 5));
    let report = report(&directory);
    assert!(report.markdown.contains("![picture](plots/confusion-head.svg)"), "{}", report.markdown);
    assert!(directory.plots_folder().join("confusion-head.svg").is_file());
    let matrices: Vec<&str> = report.page.split("<table class=\"matrix\">").skip(1).collect();
    assert_eq!(matrices.len(), 2, "the row's own matrix and the published one");
    assert!(matrices[1].contains(">515<") && matrices[1].contains(">100<"));
    // The sample's 1,500 test images are as many as the published ones.
    assert!(!report.text.contains("other data"), "{}", report.text);
    let mut smaller = environment(&CLASSES);
    smaller.images.get_mut("test").unwrap().insert("normal".into(), 63);
    smaller.write(&directory.run("head-seed-0").environment_file()).unwrap();
    let report = self::report(&directory);
    let expected =
        "12,000 images for training, 1,500 for validation and 678 for testing; the published figures are of 1,500";
    for text in [&report.markdown, &report.text] {
        assert!(text.contains(expected), "{text}");
    }
}
