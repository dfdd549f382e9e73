//! What users read, word for word. A wanted change is made in the files under `fixtures/`.

mod sample;

use roentgen_eval::{ConfusionMatrix, Metrics, format_table, statements};

fn metrics(classes: &[&str], counts: &[&[u64]], positive: usize, mean_loss: Option<f64>) -> Metrics {
    let classes = classes.iter().map(|name| name.to_string()).collect();
    let matrix = ConfusionMatrix::from_counts(classes, counts.iter().map(|row| row.to_vec()).collect()).unwrap();
    Metrics::from_matrix(matrix, positive, mean_loss).unwrap()
}

fn assert_text(metrics: &Metrics, expected: &str) {
    let text = format!("{}\nstatements\n- {}\n", format_table(metrics), statements(metrics).join("\n- "));
    assert_eq!(text, expected, "found:\n{text}");
}

#[test]
fn two_classes() {
    let metrics = metrics(&["infected", "normal"], &[&[515, 100], &[10, 875]], 0, Some(0.2134)).with_patients(1342);
    assert_text(&metrics, include_str!("fixtures/two_classes.txt"));
}

#[test]
fn three_classes_of_which_one_is_absent() {
    let counts: [&[u64]; 3] = [&[9, 3, 2], &[0, 0, 0], &[2, 0, 22]];
    let metrics = metrics(&["COVID-19", "normal", "pneumonia"], &counts, 0, None);
    assert_text(&metrics, include_str!("fixtures/absent_class.txt"));
}

#[test]
fn a_class_that_is_never_predicted() {
    let metrics = metrics(&["NORMAL", "PNEUMONIA"], &[&[60, 0], &[40, 0]], 1, None);
    assert_text(&metrics, include_str!("fixtures/never_predicted.txt"));
}

#[test]
fn one_class_without_errors() {
    let metrics = metrics(&["infected", "normal"], &[&[0, 0], &[0, 1]], 0, None);
    assert_text(&metrics, include_str!("fixtures/one_image.txt"));
}

#[test]
fn everything() {
    assert_text(&sample::evaluated(), include_str!("fixtures/everything.txt"));
}

fn sentences(counts: &[&[u64]]) -> String {
    let names: Vec<&str> = ["infected", "normal", "other"][..counts.len()].to_vec();
    statements(&metrics(&names, counts, 0, None)).join("\n")
}

#[test]
fn accuracy_is_compared_with_the_most_frequent_class() {
    assert!(
        sentences(&[&[90, 10], &[10, 90]])
            .contains("better than always answering `infected`, which is right for 50.0 %")
    );
    assert!(sentences(&[&[10, 90], &[90, 10]]).contains("worse than always answering `infected`"));
    assert!(sentences(&[&[52, 48], &[48, 52]]).contains("not distinguishable from always answering `infected`"));
    assert!(sentences(&[&[5, 5], &[10, 80]]).contains("not distinguishable from always answering `normal`"));
}

#[test]
fn a_kind_of_error_is_called_more_frequent_only_where_its_rate_is() {
    assert!(sentences(&[&[60, 40], &[10, 90]]).contains("missed more often than it is raised"));
    assert!(sentences(&[&[90, 10], &[40, 60]]).contains("false alarm more often than it is missed"));
    assert!(sentences(&[&[88, 12], &[10, 90]]).contains("these images do not show"));
    // More false alarms than misses in number, fewer in rate.
    assert!(sentences(&[&[10, 10], &[30, 970]]).contains("missed more often than it is raised"));
}

#[test]
fn wide_intervals_are_named_and_narrow_ones_are_not() {
    assert!(sentences(&[&[8, 2], &[50, 950]]).contains("sensitivity for `infected` rests on 10 images"));
    assert!(!sentences(&[&[800, 200], &[50, 950]]).contains("rests on"));
}

#[test]
fn equally_frequent_confusions_are_all_named() {
    let text = sentences(&[&[9, 3, 0], &[1, 9, 3], &[0, 0, 9]]);
    assert!(
        text.contains("Most frequent confusion: `infected` called `normal`, `normal` called `other` (3 images each)."),
        "{text}"
    );
}
