//! `roentgen compare`, and what an evaluation fits on validation images and reports by group.

use crate::support::*;
use std::fmt::Write;
use std::path::Path;

/// A run of which only settings and predictions are left, which is all that a comparison reads. Of 60 images of 40
/// patients, every second infected, those are wrong whose number `is_wrong` accepts.
fn run(folder: &Path, name: &str, is_wrong: impl Fn(usize) -> bool) {
    let place = folder.join(name);
    std::fs::create_dir(&place).unwrap();
    std::fs::copy(finished().join("run/config.toml"), place.join("config.toml")).unwrap();
    let mut text = "path,patient_id,label,predicted,p_infected,p_normal,loss\n".to_owned();
    for image in 0..60 {
        let (actual, other) = if image % 2 == 0 { ("infected", "normal") } else { ("normal", "infected") };
        let predicted = if is_wrong(image) { other } else { actual };
        let confidence = 0.625 + (image % 4) as f64 / 16.0;
        let p = if predicted == "infected" { confidence } else { 1.0 - confidence };
        writeln!(text, "{image:02}.png,patient {},{actual},{predicted},{p},{},0.5", image % 40, 1.0 - p).unwrap();
    }
    std::fs::write(place.join("predictions-test.csv"), text).unwrap();
}

#[test]
fn two_runs_on_one_split() {
    let folder = scratch();
    run(folder.path(), "head", |image| image % 3 == 0);
    run(folder.path(), "all", |image| image % 20 == 0);
    let answer = roentgen(folder.path(), &["compare", "head", "all"]).succeeds();
    assert_snapshot("compare", &answer);
    // The same answer again, to the bit, and no other for the order of the lines.
    let table = folder.path().join("all/predictions-test.csv");
    let text = std::fs::read_to_string(&table).unwrap();
    let (header, lines) = text.split_once('\n').unwrap();
    let reversed: Vec<&str> = lines.lines().rev().collect();
    std::fs::write(&table, format!("{header}\n{}\n", reversed.join("\n"))).unwrap();
    assert_eq!(roentgen(folder.path(), &["compare", "head", "all"]).stdout, answer.stdout);

    let json = roentgen(folder.path(), &["compare", "head", "all", "--json"]).succeeds();
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!((&json["models"][1], &json["by_patient"], &json["images"]), (&"all".into(), &true.into(), &60.into()));
    assert_eq!(json["metrics"][0]["accuracy"]["value"], 40.0 / 60.0);
    assert_eq!(json["errors"][0]["only_second_right"], 19);
    assert_eq!(json["differences"][0]["metric"], "accuracy");
    assert!((json["differences"][0]["effect"]["difference"].as_f64().unwrap() - 17.0 / 60.0).abs() < 1e-12);
    for sentence in json["statements"].as_array().unwrap() {
        assert!(answer.stdout.contains(sentence.as_str().unwrap()), "{sentence}");
    }
}

#[test]
fn what_cannot_be_compared_is_named() {
    let folder = scratch();
    run(folder.path(), "a", |image| image % 3 == 0);
    run(folder.path(), "b", |image| image % 20 == 0);
    let compare = |arguments: &[&str]| roentgen(folder.path(), &[&["compare"], arguments].concat());
    compare(&["a", "a"]).fails(2, &["both are the same run"]);
    compare(&["a", "nowhere"]).fails(2, &["nowhere", "not a run directory"]);
    compare(&["a", "b", "--split", "validation"])
        .fails(2, &["a: no predictions for `validation`", "roentgen evaluate a --split validation"]);
    compare(&["a", "b", "--positive", "fracture"]).fails(2, &["--positive fracture: no such class"]);
    let table = folder.path().join("b/predictions-test.csv");
    let text = std::fs::read_to_string(&table).unwrap();
    for (from, to, words) in [
        ("07.png,patient 7,normal", "07.png,patient 7,infected", "the labels of 07.png are normal and infected"),
        ("07.png,patient 7,", "07.png,patient 8,", "the patients of 07.png are not the same"),
        ("07.png", "77.png", "07.png is in the first alone"),
        ("07.png", "08.png", "08.png stands there twice"),
        ("p_normal", "p_healthy", "class `normal`"),
    ] {
        std::fs::write(&table, text.replacen(from, to, 1)).unwrap();
        compare(&["a", "b"]).fails(1, &["b/predictions-test.csv", words]);
    }
    std::fs::write(&table, format!("{text}99.png,p,normal,normal,0.25,0.75,0.5\n")).unwrap();
    compare(&["a", "b"]).fails(1, &["99.png is in the second alone", "on the same data"]);
}

#[test]
fn images_of_one_patient_widen_the_intervals() {
    let folder = scratch();
    run(folder.path(), "head", |image| image % 3 == 0);
    let answer = roentgen(folder.path(), &["evaluate", "--predictions", "head/predictions-test.csv"]).succeeds();
    assert_snapshot("evaluate_patients", &answer);
}

#[test]
fn thresholds_by_cost_and_sensitivity_are_fitted_on_validation() {
    let folder = scratch();
    copy_finished(folder.path());
    let options = ["--cost-miss", "10", "--cost-false-alarm", "2", "--prevalence", "0.1", "--at-sensitivity", "0.75"];
    let answer = roentgen(folder.path(), &[&["evaluate", "run", "--json"], &options[..]].concat()).succeeds();
    let metrics: serde_json::Value = serde_json::from_str(&answer.stdout).unwrap();
    let rules: Vec<&str> =
        metrics["thresholds"].as_array().unwrap().iter().map(|t| t["rule"].as_str().unwrap()).collect();
    assert_eq!(rules, ["youden", "sensitivity", "cost"]);
    assert_eq!(metrics["thresholds"][1]["at_least"], 0.75);
    let cost = &metrics["thresholds"][2];
    assert_eq!((&cost["miss"], &cost["prevalence"], &cost["cost"]), (&10.0.into(), &0.1.into(), &0.0.into()));
    // The second time the validation images are not computed again.
    assert!(answer.stderr.contains("wrote run/predictions-validation.csv"), "{}", answer.stderr);
    let again = roentgen(folder.path(), &[&["evaluate", "run", "--json"], &options[..]].concat()).succeeds();
    assert!(!again.stderr.contains("predictions-validation"), "{}", again.stderr);
    assert_eq!(again.stdout, answer.stdout);
    // Unless they were computed in another way.
    let words = |from: &str, to: &str| {
        format!("run/predictions-validation.csv was computed in {from}, this evaluation is in {to}: it is made anew")
    };
    let evaluate = |computation: &[&str]| {
        roentgen(folder.path(), &[&["evaluate", "run", "--json"], &options[..], computation].concat()).succeeds()
    };
    let other = evaluate(&["--precision", "bf16"]);
    assert!(other.stderr.contains(&words("f32", "bf16")), "{}", other.stderr);
    assert!(!evaluate(&["--precision", "bf16"]).stderr.contains("made anew"));
    assert!(evaluate(&["--exact"]).stderr.contains(&words("bf16", "f32, exact")));
    let back = evaluate(&[]);
    assert!(back.stderr.contains(&words("f32, exact", "f32")), "{}", back.stderr);
    assert_eq!(back.stdout, answer.stdout);
    // Earlier versions did not write it down, and computed as the run was told to.
    std::fs::remove_file(folder.path().join("run/predictions-validation.json")).unwrap();
    assert!(!evaluate(&[]).stderr.contains("predictions-validation"));
    for (option, value) in [
        ("--at-sensitivity", "0"),
        ("--at-sensitivity", "1.5"),
        ("--cost-miss", "0"),
        ("--cost-false-alarm", "inf"),
        ("--prevalence", "1"),
    ] {
        roentgen(folder.path(), &["evaluate", "run", option, value]).fails(2, &[option, value, "expected a number"]);
    }
}

#[test]
fn without_validation_images_the_reason_stands_in_the_notes() {
    let folder = scratch();
    copy_finished(folder.path());
    let evaluate = |data: &str| roentgen(folder.path(), &["evaluate", "run", "--data", data]).succeeds();
    let moved = folder.path().join("moved");
    std::fs::rename(folder.path().join("data"), &moved).unwrap();
    copy(&moved.join("test"), &folder.path().join("other/test"));
    let answer = evaluate("other");
    let words = "Neither temperature nor thresholds were fitted: the data that the run was trained on is not at data";
    assert!(answer.stdout.contains(words), "{}", answer.stdout);
    // The same data elsewhere is as good as where it was, also for others later.
    assert!(evaluate("moved").stdout.contains("chosen on 8 images of validation"));
    assert!(evaluate("other").stdout.contains("chosen on 8 images of validation"));
}

#[test]
fn sources_and_findings_have_their_own_tables() {
    let folder = scratch();
    copy_finished(folder.path());
    let mut text = "path,finding,source\n".to_owned();
    for class in ["infected", "normal"] {
        for (index, source) in ["east", "west", "east", "west"].into_iter().enumerate() {
            let finding = if class == "normal" { "normal" } else { ["COVID-19", "pneumonia"][index / 2] };
            writeln!(text, "test/{class}/{index:02}.png,{finding},{source}").unwrap();
        }
    }
    std::fs::write(folder.path().join("data/manifest.csv"), text).unwrap();
    let answer = roentgen(folder.path(), &["evaluate", "run"]).succeeds();
    let groups = answer.stdout.split("\nsource ").nth(1).unwrap().split("\nnotes").next().unwrap();
    for line in
        ["east         4         2  accuracy     1.0000", "COVID-19        2         2", "normal          4         0"]
    {
        assert!(groups.contains(line), "`{line}` is not in:\n{groups}");
    }
}
