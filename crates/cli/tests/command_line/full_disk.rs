//! A disk that is full, or may not be written.
//!
//! A limit on the size of files stands for the full disk: the kernel then refuses in the middle of a file, after as
//! many bytes as there is room for, whoever the user is. Permissions would not do: the superuser passes them.

use crate::support::*;
use std::fs;
use std::path::Path;
use std::process::Command;

/// `roentgen` where no file can become larger than `limit_kib`. `None` where there is no bash to set the limit.
fn with_room(folder: &Path, limit_kib: u64, arguments: &[&str]) -> Option<Answer> {
    let binary = env!("CARGO_BIN_EXE_roentgen");
    // Without the trap the kernel ends the program; with it, writing fails as on a full disk.
    let script = format!("trap '' XFSZ; ulimit -f {limit_kib}; exec \"$0\" \"$@\"");
    let mut bash = Command::new("bash");
    bash.current_dir(folder)
        .env("ROENTGEN_CACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache"))
        .args(["-c", &script, binary])
        .args(arguments);
    match bash.output() {
        Ok(output) => Some(Answer::of(output)),
        Err(_) => {
            println!("skipped: no bash to limit the size of files with");
            None
        }
    }
}

#[test]
fn a_disk_that_fills_in_the_middle_of_a_checkpoint() {
    let folder = scratch();
    data_set(folder.path());
    let settings = ["--data", "data", "--out"];
    let quick = |out, epochs| [&["train"], &QUICK[..], &settings, &[out, "--epochs", epochs]].concat();
    // No checkpoint fits: nothing half-written is left, and once there is room the same call begins.
    let Some(answer) = with_room(folder.path(), 20_000, &quick("run", "1")) else { return };
    answer.fails(1, &["run/checkpoint/", ".safetensors: cannot write: File too large", "make room"]);
    let run = folder.path().join("run");
    let names: Vec<_> = contents(&run).into_keys().collect();
    let expected = ["checkpoint", "config.toml", "environment.json", "history.csv", "steps.csv"];
    assert_eq!(names, expected.map(|name| run.join(name)));
    roentgen(folder.path(), &quick("run", "1")).succeeds();

    // The next checkpoint no longer fits: the old one stays whole, and the run goes on to the same files.
    let before = fs::read(run.join("checkpoint/last.safetensors")).unwrap();
    let answer = with_room(folder.path(), 20_000, &["train", "--resume", "run", "--epochs", "2"]).unwrap();
    answer.fails(1, &[".safetensors: cannot write: File too large", "the last checkpoint is kept", "--resume run"]);
    assert!(fs::read(run.join("checkpoint/last.safetensors")).unwrap() == before);
    let parts = contents(&run).into_keys().filter(|path| path.to_string_lossy().ends_with(".part")).count();
    assert_eq!(parts, 0);
    roentgen(folder.path(), &["train", "--resume", "run"]).succeeds();
    roentgen(folder.path(), &quick("whole", "2")).succeeds();
    assert!(results(&run) == results(&folder.path().join("whole")));
}

#[test]
fn no_room_for_anything() {
    let folder = scratch();
    data_set(folder.path());
    let before = contents(folder.path());
    let arguments = [&["train"], &QUICK[..], &["--data", "data", "--out", "run"]].concat();
    let Some(answer) = with_room(folder.path(), 0, &arguments) else { return };
    answer.fails(1, &["run/config.toml: cannot write: File too large", "make room"]);
    assert_same(&before, &contents(folder.path()));
    assert!(!folder.path().join("run").exists());
}

#[test]
fn evaluation_without_room_keeps_the_old_results() {
    let folder = scratch();
    copy_finished(folder.path());
    let arguments = ["evaluate", "run", "--split", "validation"];
    roentgen(folder.path(), &arguments).succeeds();
    let before = contents(folder.path());
    let Some(answer) = with_room(folder.path(), 0, &arguments) else { return };
    answer.fails(1, &["run/predictions-validation.csv: cannot write: File too large"]);
    assert_same(&before, &contents(folder.path()));
}

#[test]
fn places_that_cannot_be_written() {
    let folder = scratch();
    data_set(folder.path());
    fs::write(folder.path().join("file"), b"kept").unwrap();
    let before = contents(folder.path());
    let out =
        |place: &str| train(folder.path(), &["--data", "data", "--cache", "off", "--epochs", "1", "--out", place]);
    out("file/run").fails(1, &["file/run: cannot create the folder", "a file stands where a folder is needed"]);
    out("file").fails(1, &["file: cannot create the folder", "a file stands where a folder is needed"]);
    if cfg!(target_os = "linux") {
        out("/proc/roentgen").fails(1, &["/proc/roentgen: cannot create the folder"]);
    }
    assert_same(&before, &contents(folder.path()));
}

#[cfg(unix)]
#[test]
fn a_folder_without_permission() {
    use std::os::unix::fs::PermissionsExt;
    let folder = scratch();
    data_set(folder.path());
    let locked = folder.path().join("locked");
    fs::create_dir(&locked).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o555)).unwrap();
    if fs::write(locked.join("probe"), b"").is_ok() {
        println!("skipped: this user may write everywhere");
        return;
    }
    let words = ["locked/run: cannot create the folder", "check that you may write there"];
    train(folder.path(), &["--data", "data", "--out", "locked/run"]).fails(1, &words);
}
