//! What commands answer, word for word: stdout, stderr and exit code.

use crate::support::*;
use std::fmt::Write;

#[test]
fn layers_of_a_frozen_resnet() {
    let folder = scratch();
    assert_snapshot("layers_resnet18_head", &roentgen(folder.path(), &["layers", "resnet18"]));
}

#[test]
fn layers_of_a_vgg_trained_in_two_places() {
    let folder = scratch();
    let arguments = ["layers", "vgg16", "--unfreeze", "features.10,head", "--classes", "3", "--image-size", "96"];
    assert_snapshot("layers_vgg16_two_places", &roentgen(folder.path(), &arguments));
}

#[test]
fn layers_with_batch_norms_in_training_mode() {
    let folder = scratch();
    let arguments = ["layers", "resnet18", "--unfreeze", "layer4.1,head", "--frozen-bn", "train"];
    assert_snapshot("layers_resnet18_frozen_bn_train", &roentgen(folder.path(), &arguments));
}

#[test]
fn the_list_of_weights() {
    let folder = scratch();
    std::fs::create_dir(folder.path().join("cache")).unwrap();
    std::fs::write(folder.path().join("cache/resnet18-f37072fd.pth"), b"").unwrap();
    assert_snapshot("weights_list", &roentgen(folder.path(), &["weights", "list"]));
}

/// A table of predictions with these counts, rows actual and columns predicted.
fn table(counts: [[usize; 2]; 2]) -> String {
    let classes = ["infected", "normal"];
    let mut text = "path,patient_id,label,predicted,p_infected,p_normal,loss\n".to_owned();
    for (actual, row) in counts.iter().enumerate() {
        for (predicted, count) in row.iter().enumerate() {
            let (p, q, loss) = if predicted == 0 { (0.75, 0.25, 0.5) } else { (0.25, 0.75, 0.125) };
            for index in 0..*count {
                let (actual, predicted) = (classes[actual], classes[predicted]);
                writeln!(text, "{actual}-{predicted}-{index}.png,,{actual},{predicted},{p},{q},{loss}").unwrap();
            }
        }
    }
    text
}

#[test]
fn metrics_of_a_table_alone() {
    let folder = scratch();
    std::fs::write(folder.path().join("table.csv"), table([[515, 100], [10, 875]])).unwrap();
    let answer = roentgen(folder.path(), &["evaluate", "--predictions", "table.csv"]).succeeds();
    assert_snapshot("evaluate_table", &answer);
    let json = roentgen(folder.path(), &["evaluate", "--predictions", "table.csv", "--json"]).succeeds();
    assert_snapshot("evaluate_table_json", &json);
    // The figures of the assignment, whatever a snapshot says.
    let metrics: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    let rounded = |value: &serde_json::Value| format!("{:.5}", value["value"].as_f64().unwrap());
    assert_eq!(rounded(&metrics["accuracy"]), "0.92667");
    assert_eq!(rounded(&metrics["f1"]["infected"]), "0.90351");
    assert_eq!(rounded(&metrics["f1"]["normal"]), "0.94086");
}

#[test]
fn a_table_whose_positive_class_is_another() {
    let folder = scratch();
    std::fs::write(folder.path().join("table.csv"), table([[3, 1], [2, 4]])).unwrap();
    let answer = roentgen(folder.path(), &["evaluate", "--predictions", "table.csv", "--positive", "normal"]);
    assert!(answer.stdout.contains("normal (positive)"), "{}", answer.snapshot());
}

#[test]
fn evaluation_of_a_run() {
    let folder = scratch();
    copy_finished(folder.path());
    assert_snapshot_without_loss("evaluate_run", &roentgen(folder.path(), &["evaluate", "run"]));
    let run = folder.path().join("run");
    let answer = roentgen(folder.path(), &["evaluate", "run", "--split", "validation", "--json"]).succeeds();
    assert_snapshot_without_loss("evaluate_run_json", &answer);
    // What is printed is what is written.
    let written = std::fs::read_to_string(run.join("metrics-validation.json")).unwrap();
    assert_eq!(answer.stdout, written);
    assert!(run.join("predictions-test.csv").is_file() && run.join("plots").is_dir());
}

#[test]
fn a_report_is_one_page_whose_path_is_printed() {
    let folder = scratch();
    copy_finished(folder.path());
    assert_snapshot("report", &roentgen(folder.path(), &["report", "run"]));
    assert!(folder.path().join("run/report.html").metadata().unwrap().len() > 1000);
}

const IMAGES: [&str; 3] = ["data/test/infected/00.png", "data/test/normal", "data/test/infected/03.png"];

#[test]
fn predictions_in_three_forms() {
    let predict = |form: &str| {
        let answer = roentgen(finished(), &[&["predict", "run"], &IMAGES[..], &["--format", form]].concat()).succeeds();
        assert_snapshot_without_fractions(&format!("predict_{form}"), &answer);
        answer.stdout
    };
    predict("table");
    let csv = predict("csv");
    let json = predict("json");
    let short = roentgen(finished(), &[&["predict", "run", "--json"], &IMAGES[..]].concat()).succeeds();
    assert_eq!(short.stdout, json);
    // Both forms hold the same numbers, in texts that no shorter one can stand for.
    for (line, row) in json.lines().zip(csv.lines().skip(1)) {
        let answer: serde_json::Value = serde_json::from_str(line).unwrap();
        let probabilities = &answer["probabilities"];
        let numbers =
            [&probabilities["infected"], &probabilities["normal"], &answer["logits"][0], &answer["logits"][1]];
        for (number, text) in numbers.iter().zip(row.split(',').skip(2)) {
            let number = number.as_f64().unwrap() as f32;
            assert_eq!(number, text.parse::<f32>().unwrap());
            assert_eq!(number.to_string(), text);
            assert!(line.contains(&serde_json::to_string(&number).unwrap()), "{number} is not in {line}");
        }
        let order = ["\"path\"", "\"predicted\"", "\"probabilities\"", "\"infected\":", "\"normal\":", "\"logits\""];
        let places: Vec<_> = order.iter().map(|key| line.find(key).unwrap()).collect();
        assert!(places.is_sorted(), "{line}");
    }
    assert_eq!(json.lines().count(), 6);
}

#[test]
fn lines_of_training() {
    let folder = scratch();
    data_set(folder.path());
    let answer = train(folder.path(), &["--data", "data", "--out", "run", "--epochs", "2"]).succeeds();
    assert_snapshot_without_fractions("train", &answer);
    let history = std::fs::read_to_string(folder.path().join("run/history.csv")).unwrap();
    for line in history.lines().skip(1) {
        assert_eq!(line.split(',').nth(5), Some("0.001"), "{line}");
    }
}

#[test]
fn more_threads_than_cores_work_and_say_so() {
    let image = ["predict", "run", "data/test/infected/00.png"];
    let few = roentgen(finished(), &[&image[..], &["--threads", "1"]].concat()).succeeds();
    let many = roentgen(finished(), &[&image[..], &["--threads", "70"]].concat()).succeeds();
    assert_eq!(many.stdout, few.stdout);
    assert!(many.stderr.contains("note: 70 threads on "), "{}", many.stderr);
    assert_eq!(few.stderr, "");
}
