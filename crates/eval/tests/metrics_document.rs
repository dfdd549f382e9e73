//! The form on disk: stable, complete, and refused where it contradicts itself.

mod sample;

use roentgen_eval::{ConfusionMatrix, FORMAT_VERSION, Metrics};
use serde_json::{Value, json};

/// Written by the first program that wrote this format. Never changed: it must keep opening.
const VERSION_1: &str = include_str!("fixtures/metrics_v1.json");

/// Written by the first program that evaluated probabilities. Never changed: it must keep opening.
const VERSION_1_WITH_PROBABILITIES: &str = include_str!("fixtures/metrics_v1_probabilities.json");

fn metrics(classes: &[&str], counts: &[&[u64]]) -> Metrics {
    let classes = classes.iter().map(|name| name.to_string()).collect();
    let matrix = ConfusionMatrix::from_counts(classes, counts.iter().map(|row| row.to_vec()).collect()).unwrap();
    Metrics::from_matrix(matrix, 0, Some(0.1 + 0.2)).unwrap()
}

fn frozen() -> Metrics {
    // Names out of the alphabet's order, and one class without images.
    let counts: [&[u64]; 3] = [&[15, 4, 1], &[2, 77, 0], &[0, 0, 0]];
    metrics(&["pneumonia", "normal", "COVID-19"], &counts).with_patients(80)
}

#[test]
fn what_is_written_reads_back_the_same() {
    for metrics in [frozen(), sample::evaluated(), metrics(&["b", "a"], &[&[515, 100], &[10, 875]])] {
        let text = serde_json::to_string(&metrics).unwrap();
        let read: Metrics = serde_json::from_str(&text).unwrap();
        assert_eq!(read, metrics);
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
    }
}

/// The wording of methods and notes may change; the file keeps the one that it was written with.
#[test]
fn version_1_opens_and_keeps_its_form() {
    let read: Metrics = serde_json::from_str(VERSION_1).unwrap();
    assert_eq!(read.classes(), ["pneumonia", "normal", "COVID-19"]);
    assert_eq!((read.positive_name(), read.samples(), read.patients), ("pneumonia", 99, Some(80)));
    assert_eq!(read.confusion_matrix, frozen().confusion_matrix);
    assert_eq!(read.accuracy.value, Some(92.0 / 99.0));
    assert_eq!(read.sensitivity[0].value, Some(0.75));
    assert_eq!(read.sensitivity[2].value, None);
    assert_eq!(read.macro_average.specificity.value, frozen().macro_average.specificity.value);
    assert_eq!((read.mean_loss, read.notes.len()), (Some(0.1 + 0.2), 4));
    let written = serde_json::to_string_pretty(&read).unwrap();
    assert_eq!(written, VERSION_1.trim_end(), "written:\n{written}");
}

#[test]
fn version_1_with_probabilities_opens_and_keeps_its_form() {
    let read: Metrics = serde_json::from_str(VERSION_1_WITH_PROBABILITIES).unwrap();
    let now = sample::evaluated();
    let probabilities = read.probabilities.as_ref().unwrap();
    assert_eq!(probabilities.auroc[0].value, now.probabilities.unwrap().auroc[0].value);
    assert_eq!((probabilities.calibration.bins.len(), read.thresholds.len(), read.groups.len()), (15, 3, 1));
    assert_eq!(read.thresholds[2].threshold, now.thresholds[2].threshold);
    assert_eq!(read.thresholds[2].outcomes, now.thresholds[2].outcomes);
    assert_eq!(read.groups[0].groups[1].name, "west");
    assert_eq!(read.temperature.as_ref().unwrap().fitted_images, 20);
    let written = serde_json::to_string_pretty(&read).unwrap();
    assert_eq!(written, VERSION_1_WITH_PROBABILITIES.trim_end(), "written:\n{written}");
}

#[test]
fn contradictions_in_what_came_later_are_refused_too() {
    let spoil = |pointer: &str, value: Value| {
        let mut document: Value = serde_json::from_str(VERSION_1_WITH_PROBABILITIES).unwrap();
        *document.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer}")) = value;
        serde_json::from_value::<Metrics>(document).unwrap_err().to_string()
    };
    for (pointer, value, expected) in [
        ("/auroc", Value::Null, "of auroc, auprc, brier and calibration some are there"),
        ("/auroc/normal/low", json!(0.99), "auroc of `normal` is Some"),
        ("/brier/value", json!(-0.1), "brier is Some"),
        ("/thresholds/1/f1/high", json!(2), "F1 at the threshold by sensitivity >= 0.95 is Some"),
        ("/groups/0/groups/1/accuracy/value", Value::Null, "accuracy of the source `west` is None"),
    ] {
        let message = spoil(pointer, value);
        assert!(message.contains(expected), "{pointer}: {message}");
    }
}

#[test]
fn fields_of_a_later_program_are_passed_over() {
    let mut document: Value = serde_json::from_str(VERSION_1).unwrap();
    document["lift"] = json!({"value": 0.9});
    let without: Metrics = serde_json::from_str(VERSION_1).unwrap();
    assert_eq!(serde_json::from_value::<Metrics>(document).unwrap(), without);
}

#[test]
fn contradictions_are_refused_and_named() {
    let spoil = |pointer: &str, value: Value| {
        let mut document: Value = serde_json::from_str(VERSION_1).unwrap();
        *document.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer}")) = value;
        serde_json::from_value::<Metrics>(document).unwrap_err().to_string()
    };
    let newer = FORMAT_VERSION + 1;
    for (pointer, value, expected) in [
        ("/format_version", json!(newer), "found metrics of format version 2, this program reads version 1"),
        ("/classes", json!(["pneumonia", "normal"]), "3 rows, expected 2"),
        ("/classes/1", json!("pneumonia"), "`pneumonia` occurs more than once"),
        ("/classes/1", json!("healthy"), "precision lacks the class `healthy`"),
        ("/positive", json!("fracture"), "the positive class `fracture` is none of the classes"),
        ("/samples", json!(98), "samples is 98, the matrix counts 99"),
        ("/confusion_matrix/0", json!([15, 4]), "2 columns in row 0, expected 3"),
        ("/accuracy/low", json!(0.99), "accuracy is Some"),
        ("/accuracy/value", Value::Null, "accuracy is None"),
        ("/f1/normal/high", json!(1.5), "f1 of `normal` is Some"),
        ("/macro/sensitivity/reason", Value::Null, "macro sensitivity is None"),
        ("/specificity", json!({}), "specificity lacks the class `pneumonia`"),
        ("/confusion_matrix/0/0", json!(-1), "invalid value"),
    ] {
        let error = spoil(pointer, value);
        assert!(error.contains(expected), "{pointer}: {error}");
    }
    let mut document: Value = serde_json::from_str(VERSION_1).unwrap();
    document["recall"] = document["sensitivity"].clone();
    document["sensitivity"]["fracture"] = document["accuracy"].clone();
    let error = serde_json::from_value::<Metrics>(document).unwrap_err().to_string();
    assert!(error.contains("sensitivity has a class `fracture`"), "{error}");
}

#[test]
fn bad_input_is_refused() {
    let classes = ["a".to_string(), "b".to_string()];
    let error = |positive, losses: &[f32]| {
        Metrics::compute(&classes, positive, &[0, 1], &[0, 1], Some(losses)).unwrap_err().to_string()
    };
    assert!(error(2, &[0.0, 0.0]).contains("positive class is 2, expected a class index from 0 to 1"));
    assert!(error(0, &[0.0]).contains("found 1 losses, expected 2"));
    assert!(error(0, &[0.0, f32::NAN]).contains("the loss of sample 1 is NaN"));
}
