//! The search over freeze plans: what it finds, what it costs, and that it never looks at the test images before.

use crate::support::*;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const SETTINGS: [&str; 10] =
    ["--lr", "0.01", "--dropout", "0", "--augment", "none", "--select", "best", "--min-epochs", "1"];

fn search_command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = command(folder);
    command.args(["search", "--data", "data"]).args(QUICK).args(SETTINGS).args(arguments);
    command
}

fn search(folder: &Path, arguments: &[&str]) -> Answer {
    Answer::of(search_command(folder, arguments).output().expect("the binary starts"))
}

fn results(out: &Path) -> serde_json::Value {
    let text = std::fs::read_to_string(out.join("search.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn it_finds_a_row_within_noise_of_the_best_at_a_fraction_of_the_cost() {
    let folder = scratch();
    data_set(folder.path());
    let space = ["--among", "layer4", "--epochs", "16"];
    let halving = ["--eta", "4", "--finalists", "1", "--seeds", "0", "--out", "halving"];
    let answer = search(folder.path(), &[&space[..], &halving].concat()).succeeds();
    // All candidates at full length: a first comparison after the last epoch.
    let whole = ["--min-epochs", "16", "--finalists", "6", "--seeds", "0", "--out", "whole"];
    let mut settings: Vec<&str> = SETTINGS.to_vec();
    settings.truncate(8);
    let mut every = command(folder.path());
    every.args(["search", "--data", "data"]).args(QUICK).args(settings).args(space).args(whole);
    Answer::of(every.output().unwrap()).succeeds();
    let (found, every) = (results(&folder.path().join("halving")), results(&folder.path().join("whole")));
    let of = |results: &serde_json::Value, key: &str, figure: &str| -> f64 {
        let rows = results["candidates"].as_array().unwrap();
        rows.iter().find(|row| row["name"] == *key).unwrap()[figure].as_f64().unwrap()
    };
    // At full length the candidates lie far apart, so that a choice at random would be found out.
    let losses: Vec<f64> =
        every["candidates"].as_array().unwrap().iter().map(|row| row["validation_loss"].as_f64().unwrap()).collect();
    let best = losses.iter().copied().fold(f64::INFINITY, f64::min);
    let worst = losses.iter().copied().fold(0.0, f64::max);
    let winner = found["winner"].as_str().unwrap();
    let reached = of(&every, winner, "validation_loss");
    assert!(reached <= best + 0.1 * (worst - best), "{winner} reaches {reached} of {losses:?}\n{}", answer.stdout);
    let middling = losses.iter().filter(|loss| **loss > best + 0.1 * (worst - best)).count();
    assert!(middling >= 2, "{losses:?}: every candidate would do");
    let epochs = |results: &serde_json::Value| -> u64 {
        results["candidates"].as_array().unwrap().iter().map(|row| row["epochs"].as_u64().unwrap()).sum()
    };
    assert!(4 * epochs(&found) <= epochs(&every), "{} of {} epochs", epochs(&found), epochs(&every));
    for name in ["report.html", "frontier.csv", "winner.toml", "plots/frontier-parameters.svg"] {
        assert!(folder.path().join("halving").join(name).is_file(), "{name} is missing");
    }
    // The winner as a row of an experiment trains to the same model.
    roentgen(folder.path(), &["experiment", "halving/winner.toml", "--out", "again"]).succeeds();
    let model = |path: String| std::fs::read(folder.path().join(path)).unwrap();
    let again = model(format!("again/runs/{winner}-seed-0/model.safetensors"));
    assert!(again == model(format!("halving/runs/{winner}-seed-0/model.safetensors")));
}

#[test]
fn the_test_images_stay_sealed_until_the_winner_is_fixed() {
    let folder = scratch();
    data_set(folder.path());
    let settings = ["--among", "layer4.1", "--epochs", "4", "--eta", "2", "--finalists", "1", "--seeds", "0,1"];
    let whole = [&settings[..], &["--out", "whole"]].concat();
    let answer = search(folder.path(), &whole).succeeds();
    assert!(answer.stdout.contains("On the 8 test images: accuracy"), "{}", answer.stdout);
    data_set(&folder.path().join("other"));
    std::fs::rename(folder.path().join("other/data"), folder.path().join("copy")).unwrap();
    disc(&folder.path().join("copy/test/normal/new.png"), false, 9);
    let winner = results(&folder.path().join("whole"))["winner"].as_str().unwrap().to_owned();
    let runs = folder.path().join("whole/runs");
    for run in std::fs::read_dir(&runs).unwrap().flatten() {
        let name = run.file_name().into_string().unwrap();
        let is_winner = name.starts_with(&format!("{winner}-seed-"));
        assert_eq!(run.path().join("predictions-test.csv").is_file(), is_winner, "{name}");
        let path = format!("whole/runs/{name}");
        let evaluated = roentgen(folder.path(), &["evaluate", &path]);
        match is_winner {
            true => drop(evaluated.succeeds()),
            false => drop(evaluated.fails(2, &["chooses its winner without the test images"])),
        }
        roentgen(folder.path(), &["evaluate", &path, "--split", "validation"]).succeeds();
        if !is_winner {
            // Nor by way of a copy that is not quite the same.
            roentgen(folder.path(), &["evaluate", &path, "--data", "copy"]).fails(2, &["train it as a run by itself"]);
            // Nor as files without a split.
            let files = ["data/test/normal", "--out", "answers.csv"];
            for call in [&["predict", &path, "data/test/normal"][..], &["predict", &path, files[0], files[1], files[2]]]
            {
                let refused = roentgen(folder.path(), call);
                assert_eq!(refused.stdout, "");
                refused.fails(2, &[&path, "chooses its winner without the test images"]);
            }
            let explain = ["explain", &path, "data/test/normal/00.png", "--out", "maps"];
            roentgen(folder.path(), &explain).fails(2, &["chooses its winner without the test images"]);
            assert!(!folder.path().join("answers.csv").exists() && !folder.path().join("maps").exists());
            // Nor by a folder into which its model is linked.
            #[cfg(unix)]
            {
                let linked = folder.path().join(format!("linked-{name}"));
                std::fs::create_dir(&linked).unwrap();
                std::fs::copy(run.path().join("config.toml"), linked.join("config.toml")).unwrap();
                std::os::unix::fs::symlink(run.path().join("model.safetensors"), linked.join("model.safetensors"))
                    .unwrap();
                let refused =
                    roentgen(folder.path(), &["predict", linked.to_str().unwrap(), "data/test/normal/00.png"]);
                refused.fails(2, &["chooses its winner without the test images"]);
            }
            let winners = format!("whole/runs/{winner}-seed-0");
            roentgen(folder.path(), &["compare", &winners, &path]).fails(2, &["chooses its winner without"]);
        }
    }
    // A candidate that was given up was trained once, the winner with both seeds.
    for candidate in results(&folder.path().join("whole"))["candidates"].as_array().unwrap() {
        let trainings = if candidate["name"] == winner.as_str() { 2 } else { 1 };
        assert_eq!(candidate["seeds"], trainings, "{candidate}");
    }
    // Finished, it stays as it is.
    let frontier = std::fs::read(folder.path().join("whole/frontier.csv")).unwrap();
    let again = search(folder.path(), &whole).succeeds();
    assert!(!again.stderr.contains("epoch 1/"), "{}", again.stderr);
    assert!(std::fs::read(folder.path().join("whole/frontier.csv")).unwrap() == frontier);
    // Its report is made again from what lies there.
    let page = folder.path().join("whole/report.html");
    let before = std::fs::read(&page).unwrap();
    std::fs::remove_file(&page).unwrap();
    let report = |out: &str| roentgen(folder.path(), &["report", out]);
    assert_eq!(report("whole").succeeds().stdout, "whole/report.html\n");
    assert!(std::fs::read(&page).unwrap() == before);
    assert!(std::fs::read(folder.path().join("whole/frontier.csv")).unwrap() == frontier);
    let file = folder.path().join("whole/search.json");
    let text = std::fs::read_to_string(&file).unwrap();
    for (broken, words) in [
        (&text[..text.len() / 2], ["search.json", "the results of a search"]),
        (&text.replacen("\"format_version\": 1", "\"format_version\": 2", 1), ["version 2", "use a newer roentgen"]),
    ] {
        std::fs::write(&file, broken).unwrap();
        report("whole").fails(1, &words);
    }
    std::fs::remove_file(&file).unwrap();
    report("whole").fails(1, &["whole: the search has not fixed its winner yet"]);
    std::fs::write(&file, text).unwrap();
    // Killed and started again, it finds the same.
    let killed = [&settings[..], &["--out", "killed"]].concat();
    for patience_ms in [700, 1500] {
        let mut command = search_command(folder.path(), &killed);
        let mut child = Guard(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        std::thread::sleep(Duration::from_millis(patience_ms));
        let _ = child.0.kill();
    }
    search(folder.path(), &killed).succeeds();
    let timeless = |out: &str| {
        let table = std::fs::read_to_string(folder.path().join(out).join("frontier.csv")).unwrap();
        let without =
            |line: &str| line.split(',').enumerate().filter(|(i, _)| *i != 5).map(|(_, c)| c.to_owned()).collect();
        table.lines().map(without).collect::<Vec<Vec<String>>>()
    };
    assert_eq!(timeless("killed"), timeless("whole"));
    search(folder.path(), &[&whole[..], &["--momentum", "0.8"]].concat()).fails(2, &["another search stands there"]);
}

#[test]
fn calls_that_cannot_be_are_answered() {
    let folder = scratch();
    data_set(folder.path());
    let refusal = |arguments: &[&str], words: &[&str]| {
        search(folder.path(), &[arguments, &["--out", "out"]].concat()).fails(2, words);
        assert!(!folder.path().join("out").exists());
    };
    refusal(&["--unfreeze", "all"], &["what is searched for", "--space"]);
    refusal(&["--eta", "1"], &["--eta 1", "2 at least"]);
    refusal(&["--candidates", "3"], &["--candidates", "--space subsets"]);
    refusal(&["--warmup", "2"], &["--min-epochs 1", "before the warm-up is over"]);
    refusal(&["--among", "layer9"], &["layer9", "nearest"]);
    refusal(&["--space", "subsets"], &["--budget"]);
    refusal(&["--budget", "10"], &["no candidate keeps the budget", "the least is 12362"]);
    refusal(&["--space", "subsets", "--budget", "10"], &["no candidate keeps the budget"]);
    refusal(&["--epochs", "0"], &["--min-epochs 1 is more than the 0 epochs"]);
    search(folder.path(), &["--out", "data"]).fails(2, &["no search", "--out"]);
}
