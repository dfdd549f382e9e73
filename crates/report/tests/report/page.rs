//! The report page: that it says everything, holds everything, and carries any run.

use crate::sample::{UNKIND_NAMES, environment, skipped, tile, wedge, write_evaluation, write_metrics, write_run};
use roentgen_eval::{ClassMetric, Estimate, Metrics};
use roentgen_report::{Pixels, Sheet, write_report, write_sheets};
use roentgen_run::RunDirectory;
use std::collections::BTreeMap;

const CLASSES: [&str; 2] = ["infected", "normal"];
const COUNTS: [&[u64]; 2] = [&[515, 100], &[10, 875]];

fn page(run: &RunDirectory) -> String {
    let path = write_report(run).unwrap();
    assert_eq!(path, run.report_file());
    std::fs::read_to_string(path).unwrap()
}

/// The page's text as a reader sees it: without style and tags, entities resolved, white space single.
pub fn visible_text(page: &str) -> String {
    let body = &page[page.find("<body").unwrap()..];
    let mut text = String::new();
    for piece in body.replace("<wbr>", "").split('<') {
        text.push_str(piece.split_once('>').map_or(piece, |(_, after)| after));
        text.push(' ');
    }
    let resolved = [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&#x27;", "'"),
        ("&#x2f;", "/"),
        ("&nbsp;", " "),
        ("\u{201c}", "`"),
        ("\u{201d}", "`"),
        ("&amp;", "&"),
    ]
    .iter()
    .fold(text, |text, (entity, character)| text.replace(entity, character));
    resolved.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn sheets(classes: &[&str]) -> Vec<Sheet> {
    let sheet = |class: &&str| {
        let shown = |name: &str, predicted: &str| {
            tile(wedge(40, 30), (40, 30), &format!("test/{class}/{name}.png"), class, predicted)
        };
        Sheet { class: class.to_string(), best: vec![shown("right", class)], worst: vec![shown("wrong", "another")] }
    };
    classes.iter().map(sheet).collect()
}

#[test]
fn heat_maps_lie_beside_their_images_and_are_explained() {
    let folder = tempfile::tempdir().unwrap();
    let run = write_run(folder.path(), &environment(&CLASSES), 2, true);
    write_metrics(&run, "test", &CLASSES, &COUNTS);
    let mut sheets = sheets(&CLASSES);
    write_sheets(&run, "test", &sheets).unwrap();
    let without = page(&run);
    assert!(!without.contains("Grad-CAM") && !without.contains("class=\"mapped\""));
    sheets[0].best[0].heat_map = Some(Pixels::Rgb(vec![90; 3 * 40 * 30]));
    write_sheets(&run, "test", &sheets).unwrap();
    let with = page(&run);
    assert!(visible_text(&with).contains("its heat map (Grad-CAM)"));
    assert_eq!(with.matches("class=\"mapped\"").count(), 1);
    assert!(with.contains("Heat map over the same image: what spoke for infected"));
    assert_eq!(with.matches("<img ").count(), without.matches("<img ").count() + 1);
    assert_self_contained(&with);
}

/// A page must hold nothing that is fetched, nor anything that runs.
fn assert_self_contained(page: &str) {
    for forbidden in ["http:", "https:", "<script", "<link", "<iframe", "url(", "@import", "href=", "srcset"] {
        assert!(!page.contains(forbidden), "the page contains {forbidden}");
    }
    for source in page.split("src=\"").skip(1) {
        assert!(source.starts_with("data:image/png;base64,"), "{}", &source[..40]);
    }
}

fn assert_valid_plots(run: &RunDirectory, expected: &[&str]) {
    let mut found: Vec<String> = (std::fs::read_dir(run.plots_folder()).into_iter().flatten())
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".svg"))
        .collect();
    found.sort();
    assert_eq!(found, expected);
    for name in found {
        let text = std::fs::read_to_string(run.plots_folder().join(&name)).unwrap();
        let document = roxmltree::Document::parse(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        let root = document.root_element();
        assert_eq!(root.tag_name().namespace(), Some("http://www.w3.org/2000/svg"), "{name}");
        assert!(root.attribute("aria-label").is_some_and(|label| label.len() > 20), "{name} says what it shows");
        assert!(document.descendants().any(|node| node.has_tag_name("text")), "{name} has real text");
    }
}

#[test]
fn every_number_of_the_metrics_is_on_the_page() {
    let folder = tempfile::tempdir().unwrap();
    let run = write_run(folder.path(), &environment(&CLASSES), 6, true);
    let metrics = write_metrics(&run, "test", &CLASSES, &COUNTS);
    let text = visible_text(&page(&run));
    let assert_shown = |estimate: &Estimate| {
        let (value, interval) = (estimate.value.unwrap(), estimate.interval().unwrap());
        for shown in [format!("{value:.4}"), format!("{:.4} to {:.4}", interval.low, interval.high)] {
            assert!(text.contains(&shown), "{shown} is missing from\n{text}");
        }
        assert!(text.contains(&estimate.method), "{} is missing", estimate.method);
    };
    assert_shown(&metrics.accuracy);
    for metric in ClassMetric::ALL {
        metrics.of_classes(metric).iter().for_each(assert_shown);
        assert_shown(metrics.macro_average.get(metric));
    }
    for shown in ["0.2346", " 515 ", " 100 ", " 10 ", " 875 ", "83.7 %", "0.9267", "0.9035", "0.9409", "1,500 images"] {
        assert!(text.contains(shown), "{shown} is missing from\n{text}");
    }
    for sentence in roentgen_eval::statements(&metrics).iter().chain(&metrics.notes) {
        assert!(text.contains(&sentence.split_whitespace().collect::<Vec<_>>().join(" ")), "{sentence} is missing");
    }
}

#[test]
fn probabilities_come_as_curves_and_tables() {
    let folder = tempfile::tempdir().unwrap();
    let run = write_run(folder.path(), &environment(&CLASSES), 2, true);
    let metrics = write_evaluation(&run, "test", &CLASSES);
    let page = page(&run);
    assert_self_contained(&page);
    let text = visible_text(&page);
    let probabilities = metrics.probabilities.as_ref().unwrap();
    let (applied, group) = (&metrics.thresholds[0], &metrics.groups[0].groups[1]);
    let estimates = [&probabilities.auroc[0], &probabilities.auprc[1], &applied.sensitivity, &applied.f1];
    for estimate in estimates.into_iter().chain([&group.accuracy, &group.auroc]) {
        let (value, interval) = (estimate.value.unwrap(), estimate.interval().unwrap());
        for shown in [format!("{value:.4}"), format!("{:.4} to {:.4}", interval.low, interval.high)] {
            assert!(text.contains(&shown), "{shown} is missing from\n{text}");
        }
    }
    let temperature = format!("Temperature {:.4}", metrics.temperature.as_ref().unwrap().temperature);
    for shown in ["Youden", "<east>", "By source", "bootstrap by patient", &temperature] {
        assert!(text.contains(shown), "{shown} is missing from\n{text}");
    }
    let curves = ["precision-recall-test.svg", "reliability-test.svg", "roc-test.svg"];
    let mut expected = vec!["accuracy.svg", "confusion-test-counts.svg", "confusion-test-shares.svg", "loss.svg"];
    expected.extend(curves);
    expected.push("step-loss.svg");
    expected.sort();
    assert_valid_plots(&run, &expected);

    // Without the predictions there are no curves, and everything else stands.
    std::fs::remove_file(run.predictions_file("test")).unwrap();
    std::fs::remove_dir_all(run.plots_folder()).unwrap();
    self::page(&run);
    expected.retain(|name| !name.starts_with("roc") && !name.starts_with("precision"));
    assert_valid_plots(&run, &expected);
    std::fs::write(run.predictions_file("test"), "no table").unwrap();
    assert!(write_report(&run).unwrap_err().to_string().contains("predictions-test.csv"));
}

#[test]
fn the_page_follows_the_order_of_the_work() {
    let folder = tempfile::tempdir().unwrap();
    let run = write_run(folder.path(), &environment(&CLASSES), 6, true);
    write_metrics(&run, "validation", &CLASSES, &[&[500, 100], &[30, 870]]);
    write_metrics(&run, "test", &CLASSES, &COUNTS);
    write_sheets(&run, "test", &sheets(&CLASSES)).unwrap();
    let page = page(&run);
    assert_self_contained(&page);
    let sections = ["settings", "data", "curves", "confusion", "images", "scores", "words", "reproduction"];
    let places: Vec<usize> = sections
        .iter()
        .map(|id| page.find(&format!("<section id=\"{id}\">")).unwrap_or_else(|| panic!("no {id}")))
        .collect();
    assert!(places.is_sorted(), "{places:?}");
    assert!(page.find("On the test split").unwrap() < page.find("On the validation split").unwrap());
    let text = visible_text(&page);
    for shown in [
        "not for diagnosis",
        "195,702 trainable of 11,372,214",
        "SGD, learning rate 0.001, momentum 0.9",
        "the head alone",
        "12,000",
        "9,411",
        "No patient stands in more than one split.",
        "validation: no images were kept",
        "--data 'data/my x-rays' --split test",
        "batch_size = 128",
    ] {
        assert!(text.contains(shown), "{shown} is missing from\n{text}");
    }
    let confusion = ["counts", "shares"]
        .map(|kind| [format!("confusion-test-{kind}.svg"), format!("confusion-validation-{kind}.svg")]);
    let mut expected = vec!["accuracy.svg", "loss.svg", "step-loss.svg"];
    expected.extend(confusion.iter().flatten().map(String::as_str));
    expected.sort();
    assert_valid_plots(&run, &expected);
}

#[test]
fn images_carry_their_pixels_captions_and_alternative_texts() {
    let folder = tempfile::tempdir().unwrap();
    let run = write_run(folder.path(), &environment(&CLASSES), 2, true);
    write_metrics(&run, "test", &CLASSES, &COUNTS);
    let mut sheets = sheets(&CLASSES);
    sheets[0].worst[0].patient_id = Some("nih-00000193".into());
    sheets[0].worst[0].caption = vec!["finding: pneumonia".into()];
    write_sheets(&run, "test", &sheets).unwrap();
    let page = page(&run);
    let images: Vec<&str> = page.split("<img ").skip(1).map(|rest| &rest[..rest.find('>').unwrap()]).collect();
    assert_eq!(images.len(), 4);
    for image in &images {
        let alt = image.split("alt=\"").nth(1).unwrap();
        assert!(alt.contains("actual") && alt.contains("p\u{a0}=\u{a0}0.9876"), "{alt}");
        assert!(image.contains("width=\"40\" height=\"30\""), "{image}");
    }
    let text = visible_text(&page);
    for shown in [
        "test/infected/wrong.png",
        "patient nih-00000193",
        "predicted another, p = 0.9876",
        "finding: pneumonia",
        "patient unknown",
    ] {
        assert!(text.contains(shown), "{shown} is missing from\n{text}");
    }
    // The pixels are those handed over, not some other picture.
    use base64::Engine;
    let data = images[0].split("base64,").nth(1).unwrap().split('"').next().unwrap();
    let png = base64::prelude::BASE64_STANDARD.decode(data).unwrap();
    let roentgen_report::Pixels::Grey(expected) = wedge(40, 30) else { unreachable!("a wedge is grey") };
    assert_eq!(image::load_from_memory(&png).unwrap().to_luma8().into_raw(), expected);
}

#[test]
fn names_that_are_markup_stay_text() {
    let folder = tempfile::tempdir().unwrap();
    let mut environment = environment(&UNKIND_NAMES);
    environment.skipped_images = vec![skipped("train/<script>alert(1)</script>.png", "zero bytes & \"nothing\" else")];
    environment.warnings = vec!["Phantoms prove the <pipeline> and nothing medical.".into()];
    environment.start = "<i>a</i> file".into();
    let run = write_run(&folder.path().join("<run> & \"co\""), &environment, 3, true);
    write_metrics(&run, "test", &UNKIND_NAMES, &[&[20, 3, 2], &[1, 40, 0], &[4, 0, 30]]);
    write_sheets(&run, "test", &sheets(&UNKIND_NAMES)).unwrap();
    let page = page(&run);
    assert_self_contained(&page);
    for markup in ["<b>", "<i>", "<run>", "<pipeline>"] {
        assert!(!page.contains(markup), "{markup} came through");
    }
    let text = visible_text(&page);
    for shown in UNKIND_NAMES
        .iter()
        .chain(&["<run> & \"co\": resnet18", "<script>alert(1)</script>.png: zero bytes & \"nothing\" else"])
    {
        assert!(text.contains(shown), "{shown} is missing from\n{text}");
    }
    assert_valid_plots(
        &run,
        &["accuracy.svg", "confusion-test-counts.svg", "confusion-test-shares.svg", "loss.svg", "step-loss.svg"],
    );
}

#[test]
fn warnings_and_leaks_stand_above_everything() {
    let folder = tempfile::tempdir().unwrap();
    let mut environment = environment(&CLASSES);
    environment.warnings = vec!["Phantoms prove the pipeline and nothing medical.".into()];
    environment.patients_in_several_splits = vec!["nih-1".into(), "nih-2".into()];
    let text = visible_text(&page(&write_run(folder.path(), &environment, 3, true)));
    let settings = text.find("Settings").unwrap();
    assert!(text.find("Phantoms prove").unwrap() < settings);
    assert!(text.find("2 patients stand in more than one split").unwrap() < settings);
    assert!(text.contains("nih-1, nih-2"));
    assert!(!text.contains("No patient stands in more than one split"));
}

#[test]
fn unknown_patients_are_not_called_disjoint() {
    let folder = tempfile::tempdir().unwrap();
    let mut environment = environment(&CLASSES);
    environment.patients = None;
    let text = visible_text(&page(&write_run(folder.path(), &environment, 3, true)));
    assert!(text.contains("Patients are unknown") && text.contains("not provable"), "{text}");
    assert!(!text.contains("No patient stands"));
}

#[test]
fn a_run_without_validation_or_evaluation_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    for epochs in [1, 100] {
        let run = write_run(&folder.path().join(epochs.to_string()), &environment(&CLASSES), epochs, false);
        let page = page(&run);
        assert_self_contained(&page);
        assert!(!page.contains("id=\"confusion\""));
        let text = visible_text(&page);
        assert!(text.contains("not been evaluated yet") && text.contains("no validation split"), "{text}");
        assert_eq!(text.contains("With 1 epoch it is too early"), epochs == 1);
        assert_valid_plots(&run, &["accuracy.svg", "loss.svg", "step-loss.svg"]);
        let loss = std::fs::read_to_string(run.plots_folder().join("loss.svg")).unwrap();
        assert!(!loss.contains("curve validation"), "no legend for a curve that is not there");
    }
}

#[test]
fn a_run_that_only_began_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let run = RunDirectory::new(folder.path());
    run.create(&roentgen_run::Config::default()).unwrap();
    let text = visible_text(&page(&run));
    assert!(text.contains("environment.json is missing") && text.contains("No epoch was recorded"), "{text}");
}

#[test]
fn undefined_metrics_come_with_their_reason() {
    let folder = tempfile::tempdir().unwrap();
    let run = write_run(folder.path(), &environment(&CLASSES), 3, true);
    let metrics: Metrics = write_metrics(&run, "test", &CLASSES, &[&[0, 0], &[4, 36]]);
    let page = page(&run);
    let text = visible_text(&page);
    let reason = metrics.sensitivity[0].reason.as_ref().unwrap();
    assert!(text.contains("undefined") && text.contains(&format!("sensitivity of infected: {reason}")), "{text}");
    assert!(page.contains("Actual infected: undefined predicted infected"), "an empty row has no shares");
    assert!(!page.contains("NaN"));
}

#[test]
fn the_same_run_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let run = write_run(folder.path(), &environment(&CLASSES), 6, true);
    write_metrics(&run, "test", &CLASSES, &COUNTS);
    write_sheets(&run, "test", &sheets(&CLASSES)).unwrap();
    let files = || -> BTreeMap<_, _> {
        let plots = std::fs::read_dir(run.plots_folder()).unwrap().map(|entry| entry.unwrap().path());
        plots.chain([run.report_file()]).map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
    };
    page(&run);
    let first = files();
    write_sheets(&run, "test", &sheets(&CLASSES)).unwrap();
    page(&run);
    assert!(first == files(), "a second report differs");
}

#[test]
fn damaged_files_are_named_and_leave_the_old_page() {
    let folder = tempfile::tempdir().unwrap();
    let run = write_run(folder.path(), &environment(&CLASSES), 3, true);
    write_metrics(&run, "test", &CLASSES, &COUNTS);
    write_sheets(&run, "test", &sheets(&CLASSES)).unwrap();
    let before = page(&run);
    let images_file = run.plots_folder().join("images-test.json");
    let newer = r#"{"format_version": 99, "something": "new"}"#;
    for (file, text, cause) in [
        (run.metrics_file("test"), "{ not what it was", "expected metrics"),
        (run.metrics_file("test"), newer, "expected metrics"),
        (images_file.clone(), "{ not what it was", "expected captioned images"),
        (images_file, newer, "format version 99"),
        (run.environment_file(), "{}", "environment.json"),
        (run.history_file(), "epoch,train_loss\none,two\n", "history.csv"),
        (run.config_file(), "format_version = 99", "format version 99"),
    ] {
        let whole = std::fs::read(&file).unwrap();
        std::fs::write(&file, text).unwrap();
        let message = write_report(&run).unwrap_err().to_string();
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(message.contains(name) && message.contains(cause), "{message}");
        std::fs::write(&file, whole).unwrap();
    }
    assert_eq!(std::fs::read_to_string(run.report_file()).unwrap(), before);
    assert_eq!(page(&run), before, "mended, the run gives the same page");
}

#[test]
fn real_images_make_a_whole_page() {
    let Some(sheets) = crate::sample::sheets_of_real_images() else { return };
    let folder = tempfile::tempdir().unwrap();
    let run = write_run(folder.path(), &environment(&CLASSES), 10, true);
    write_metrics(&run, "test", &CLASSES, &COUNTS);
    write_sheets(&run, "test", &sheets).unwrap();
    let page = page(&run);
    assert_self_contained(&page);
    assert_eq!(page.matches("<img ").count(), 32);
    assert!(page.len() < 4 << 20, "{} bytes: thumbnails are meant to be small", page.len());
}
