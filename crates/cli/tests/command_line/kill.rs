//! A run that is killed at any moment goes on to the files of one that was left alone.

use crate::support::*;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

const SETTINGS: [&str; 6] = ["--data", "data", "--epochs", "2", "--lr", "0.01"];

/// When to kill.
enum Moment {
    /// So long after the start, in parts of the time that an undisturbed run takes.
    Share(f64),
    /// As soon as a look at the run directory is answered by yes.
    Sees(&'static str, Look),
}

/// A question about a run directory.
type Look = fn(&Path) -> bool;

fn exists(run: &Path, name: &str) -> bool {
    run.join(name).exists()
}

/// Whether a file in this folder is just being written.
fn part(folder: &Path) -> bool {
    std::fs::read_dir(folder)
        .is_ok_and(|entries| entries.flatten().any(|e| e.file_name().to_string_lossy().ends_with(".part")))
}

fn moments() -> Vec<Moment> {
    let sees: [(&str, Look); 8] = [
        ("the folder", |run| run.exists()),
        ("the configuration", |run| exists(run, "config.toml")),
        ("the environment", |run| exists(run, "environment.json")),
        ("a checkpoint being written", |run| part(&run.join("checkpoint"))),
        ("the best epoch's weights", |run| exists(run, "checkpoint/best.safetensors")),
        ("the first checkpoint", |run| exists(run, "checkpoint/last.safetensors")),
        ("a later checkpoint being written", |run| {
            exists(run, "checkpoint/last.safetensors") && part(&run.join("checkpoint"))
        }),
        ("the model being written", |run| {
            exists(run, "steps.csv") && exists(run, "checkpoint/last.safetensors") && part(run)
        }),
    ];
    let shares = [0.15, 0.3, 0.45, 0.6, 0.75, 0.9];
    sees.into_iter().map(|(name, sees)| Moment::Sees(name, sees)).chain(shares.map(Moment::Share)).collect()
}

/// Runs `train` until the moment, and whether it was still at work then.
fn killed(folder: &Path, arguments: &[&str], run: &Path, moment: &Moment, whole: Duration) -> bool {
    let mut command = match arguments.first() {
        Some(&"--resume") => {
            let mut command = command(folder);
            command.arg("train").args(arguments);
            command
        }
        _ => train_command(folder, arguments),
    };
    let begun = Instant::now();
    let mut child = Guard(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    loop {
        let now = match moment {
            Moment::Share(share) => begun.elapsed() >= whole.mul_f64(*share),
            Moment::Sees(_, sees) => sees(run),
        };
        if child.0.try_wait().unwrap().is_some() {
            return false;
        }
        if now {
            child.0.kill().unwrap();
            return child.0.wait().unwrap().code().is_none();
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}

fn leftovers(run: &Path) -> Vec<PathBuf> {
    let all = contents(run).into_keys();
    all.filter(|path| path.extension().is_some_and(|extension| extension == "part")).collect()
}

#[test]
fn killed_at_any_moment_a_run_ends_with_the_same_files() {
    let folder = scratch();
    data_set(folder.path());
    let begun = Instant::now();
    train(folder.path(), &[&SETTINGS[..], &["--out", "whole"]].concat()).succeeds();
    let whole = begun.elapsed();
    let expected = results(&folder.path().join("whole"));
    let mut kills = 0;
    for (index, moment) in moments().iter().enumerate() {
        let name = format!("killed-{index}");
        let run = folder.path().join(&name);
        kills += usize::from(killed(folder.path(), &[&SETTINGS[..], &["--out", &name]].concat(), &run, moment, whole));
        // A second kill, of the run that goes on.
        if index % 4 == 0 && run.join("config.toml").is_file() {
            let again = Moment::Share(0.1 + 0.05 * index as f64);
            kills += usize::from(killed(folder.path(), &["--resume", &name], &run, &again, whole));
        }
        let finish = || match run.join("config.toml").is_file() {
            true => roentgen(folder.path(), &["train", "--resume", &name]),
            // Killed before there was a run: the same call begins it.
            false => train(folder.path(), &[&SETTINGS[..], &["--out", &name]].concat()),
        };
        if !run.join("model.safetensors").is_file() {
            finish().succeeds();
        }
        let name = match moment {
            Moment::Share(share) => format!("killed after {share} of the time"),
            Moment::Sees(name, _) => format!("killed at {name}"),
        };
        assert!(results(&run) == expected, "{name}: other files");
        assert_eq!(leftovers(&run), Vec::<PathBuf>::new(), "{name}");
        std::fs::remove_dir_all(&run).unwrap();
    }
    // A moment may pass unseen on a busy machine, most do not.
    assert!(kills >= 8, "only {kills} kills came before the end");
}

#[test]
fn a_run_that_is_trained_further_is_one_of_that_length() {
    let folder = scratch();
    data_set(folder.path());
    train(folder.path(), &["--data", "data", "--epochs", "3", "--out", "whole", "--select", "best"]).succeeds();
    train(folder.path(), &["--data", "data", "--epochs", "1", "--out", "run", "--select", "best"]).succeeds();
    let run = folder.path().join("run");
    roentgen(folder.path(), &["evaluate", "run"]).succeeds();
    // Killed after the old model and its results were removed: it is no finished run, and nothing says that it is.
    let lost: Look = |run| !run.join("model.safetensors").exists();
    let moment = Moment::Sees("the model gone", lost);
    assert!(killed(folder.path(), &["--resume", "run", "--epochs", "3"], &run, &moment, Duration::ZERO));
    assert!(!run.join("metrics-test.json").exists() && !run.join("plots").exists());
    roentgen(folder.path(), &["evaluate", "run"]).fails(1, &["no model.safetensors yet", "--resume run"]);
    roentgen(folder.path(), &["train", "--resume", "run"]).succeeds();
    assert!(results(&run) == results(&folder.path().join("whole")));
    assert!(std::fs::read_to_string(run.join("config.toml")).unwrap().contains("epochs = 3"));
}

#[test]
fn the_same_settings_give_the_same_model_elsewhere() {
    let folder = scratch();
    data_set(folder.path());
    train(folder.path(), &["--data", "data", "--epochs", "1", "--out", "run"]).succeeds();
    let arguments = ["train", "--config", "run/config.toml", "--out", "other", "--threads", "1"];
    roentgen(folder.path(), &arguments).succeeds();
    assert!(results(&folder.path().join("run")) == results(&folder.path().join("other")));
}

#[test]
fn going_on_with_other_instructions_warns_of_other_bits() {
    let folder = scratch();
    data_set(folder.path());
    let begin = |isa: &str| {
        let mut command = train_command(folder.path(), &["--data", "data", "--out", isa, "--epochs", "1"]);
        Answer::of(command.env("ROENTGEN_ISA", isa).output().unwrap())
    };
    let on = |isa: &str, run: &str| {
        let mut command = command(folder.path());
        command.env("ROENTGEN_ISA", isa).args(["train", "--resume", run, "--epochs", "2"]);
        Answer::of(command.output().unwrap())
    };
    begin("scalar").succeeds();
    let same = on("scalar", "scalar").succeeds();
    assert!(!same.stderr.contains("warning"), "{}", same.stderr);
    let begun = begin("avx2");
    if begun.code != Some(0) {
        println!("skipped: this processor has one instruction set");
        begun.fails(2, &["this processor lacks the instruction set avx2"]);
        return;
    }
    let other = on("scalar", "avx2").succeeds();
    for words in ["warning: the run began on avx2", "goes on on scalar", "the last bits of its numbers will differ"] {
        assert!(other.stderr.contains(words), "{}", other.stderr);
    }
}
