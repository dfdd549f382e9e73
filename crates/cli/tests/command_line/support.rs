//! What the tests share: tiny data sets, the binary with its answer captured, and masks for what differs between runs.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;

/// Settings of a run that takes about a second: with [`data_set`]'s images, 3 steps an epoch.
pub const QUICK: [&str; 8] = ["--image-size", "32", "--weights", "none", "--hidden", "24", "--batch-size", "8"];

/// What a call left on its streams.
#[derive(Clone, Debug)]
pub struct Answer {
    /// `None` where a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Answer {
    pub fn of(output: Output) -> Answer {
        let text = |bytes| String::from_utf8(bytes).expect("the program writes UTF-8");
        Answer { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// All that a user sees.
    pub fn snapshot(&self) -> String {
        let mut text = match self.code {
            Some(code) => format!("exit code: {code}\n"),
            None => "ended by a signal\n".to_owned(),
        };
        for (name, stream) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            write!(text, "----- {name} -----\n{stream}").expect("a string takes all that is written to it");
        }
        text
    }

    /// Succeeded.
    #[track_caller]
    pub fn succeeds(self) -> Answer {
        assert_eq!(self.code, Some(0), "{}", self.snapshot());
        self
    }

    /// Failed with this exit code, and stderr holds each of the words.
    #[track_caller]
    pub fn fails(self, code: i32, words: &[&str]) -> Answer {
        assert_eq!(self.code, Some(code), "{}", self.snapshot());
        for word in words {
            assert!(self.stderr.contains(word), "`{word}` is not in:\n{}", self.stderr);
        }
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        for line in self.stderr.lines() {
            assert!(line.matches("(os error").count() <= 1, "a cause is said twice: {line}");
        }
        self
    }
}

/// The binary, in a folder: paths in messages are then short and the same everywhere.
pub fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_roentgen"));
    command.current_dir(folder).stdin(Stdio::null());
    command.env("COLUMNS", "100").env("ROENTGEN_CACHE", "cache").env_remove("ROENTGEN_WEIGHTS_URL");
    command
}

/// Calls the binary in a folder.
pub fn roentgen(folder: &Path, arguments: &[&str]) -> Answer {
    Answer::of(command(folder).args(arguments).output().expect("the binary starts"))
}

/// Calls `roentgen train` with [`QUICK`] settings and these.
pub fn train(folder: &Path, arguments: &[&str]) -> Answer {
    Answer::of(train_command(folder, arguments).output().expect("the binary starts"))
}

/// `roentgen train` with [`QUICK`] settings and these, not yet started.
pub fn train_command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = command(folder);
    command.arg("train").args(QUICK).args(arguments);
    command
}

/// A child that does not outlive a test that fails.
pub struct Guard(pub Child);

impl Drop for Guard {
    fn drop(&mut self) {
        // Both fail where it has ended and was waited for, which is the rule.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An empty folder that goes with the test. In memory where there is room for it: each checkpoint of a test is 45 to
/// 90 MB, and is flushed to the disk before it counts.
pub fn scratch() -> tempfile::TempDir {
    let made = match roomy_memory() {
        Some(folder) => tempfile::Builder::new().prefix("roentgen-test-").tempdir_in(folder),
        None => tempfile::tempdir(),
    };
    made.expect("a folder for temporary files can be made")
}

#[cfg(target_os = "linux")]
fn roomy_memory() -> Option<&'static Path> {
    let folder = Path::new("/dev/shm");
    let system = nix::sys::statvfs::statvfs(folder).ok()?;
    (system.blocks_available() * system.fragment_size() > 6 << 30).then_some(folder)
}

#[cfg(not(target_os = "linux"))]
fn roomy_memory() -> Option<&'static Path> {
    None
}

/// A grey PNG, 40 x 40: a disc, bright or dark, on a patterned ground.
pub fn disc(path: &Path, bright: bool, variant: usize) {
    let sign = if bright { 1 } else { -1 };
    let variant = variant as i32;
    let pixels: Vec<u8> = (0..40 * 40)
        .map(|i| {
            let (x, y) = (i % 40 - 18 - variant % 5, i / 40 - 20 + variant % 3);
            let inside = x * x + y * y < 90;
            (128 + if inside { 60 * sign } else { 0 } + (i * 31 + variant * 17) % 23) as u8
        })
        .collect();
    let file = std::fs::File::create(path).expect("the folder was made");
    let mut encoder = png::Encoder::new(file, 40, 40);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.write_header().and_then(|mut writer| writer.write_image_data(&pixels)).expect("a valid image");
}

/// A data set `folder/data` of 24 images to train on, 8 for validation and 8 for the test; infected is bright.
pub fn data_set(folder: &Path) -> PathBuf {
    let root = folder.join("data");
    // Other variants in each split: identical images in two of them would be a leak.
    for (split, count, start) in [("train", 12, 0), ("validation", 4, 15), ("test", 4, 30)] {
        for class in ["infected", "normal"] {
            let place = root.join(split).join(class);
            std::fs::create_dir_all(&place).expect("the folder can be made");
            for index in 0..count {
                disc(&place.join(format!("{index:02}.png")), class == "infected", start + index);
            }
        }
    }
    root
}

/// A folder that holds `data` and the finished `run` of one epoch; made once, for tests that only read it.
pub fn finished() -> &'static Path {
    static FINISHED: OnceLock<PathBuf> = OnceLock::new();
    FINISHED.get_or_init(|| {
        // Cargo's own folder for tests: a static value would never delete a temporary one.
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("finished");
        let _ = std::fs::remove_dir_all(&folder);
        data_set(&folder);
        // Few images, many steps: the classes are told apart without doubt, on every instruction set.
        let settings = ["--data", "data", "--out", "run", "--unfreeze", "all", "--augment", "none", "--lr", "0.01"];
        train(&folder, &[&settings[..], &["--epochs", "8", "--dropout", "0"]].concat()).succeeds();
        folder
    })
}

/// Copies a folder with all that is in it.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("the folder can be made");
    for entry in std::fs::read_dir(from).expect("the folder is there").flatten() {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            std::fs::copy(&from, &to).expect("a file can be copied");
        }
    }
}

/// Copies [`finished`] without its checkpoints, which make up most of it.
pub fn copy_finished(to: &Path) {
    copy(&finished().join("data"), &to.join("data"));
    std::fs::create_dir(to.join("run")).expect("the folder can be made");
    for name in ["config.toml", "environment.json", "history.csv", "steps.csv", "model.safetensors"] {
        std::fs::copy(finished().join("run").join(name), to.join("run").join(name)).expect("a file can be copied");
    }
}

/// Every file under a folder with its bytes, and every empty folder; nothing where there is no such folder.
pub fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let Ok(entries) = std::fs::read_dir(folder) else { return found };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            let inside = contents(&path);
            if inside.is_empty() {
                found.insert(path, b"(empty folder)".to_vec());
            }
            found.extend(inside);
        } else {
            let bytes = std::fs::read(&path).expect("a file can be read");
            found.insert(path, bytes);
        }
    }
    found
}

/// Fails unless two folders hold the same files; says which differ, not how.
#[track_caller]
pub fn assert_same(before: &BTreeMap<PathBuf, Vec<u8>>, after: &BTreeMap<PathBuf, Vec<u8>>) {
    let names = |all: &BTreeMap<PathBuf, Vec<u8>>| all.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(before), names(after));
    for (path, bytes) in before {
        assert!(after[path] == *bytes, "{} has changed", path.display());
    }
}

/// All of a run that must not depend on how it went: the model, the losses, and the history without its times.
pub fn results(run: &Path) -> (Vec<u8>, String, Vec<Vec<String>>) {
    let read = |name: &str| std::fs::read(run.join(name)).unwrap_or_else(|e| panic!("{}/{name}: {e}", run.display()));
    let text = |name: &str| String::from_utf8(read(name)).expect("tables are text");
    let timeless = |line: &str| line.split(',').take(6).map(str::to_owned).collect();
    (read("model.safetensors"), text("steps.csv"), text("history.csv").lines().map(timeless).collect())
}

/// Masks for times, rates, the machine, and what a new version changes.
pub fn masks() -> insta::Settings {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("snapshots");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.add_filter(r"\d+\.\d s, [\d.]+ images/s(, \d+ % of it waiting for images)?", "<time and rate>");
    settings.add_filter(r"(avx512bf16|avx512|avx2|scalar) on \d+ threads", "<instruction set> on <n> threads");
    settings.add_filter(r"127\.0\.0\.1:\d+", "<server>");
    settings.add_filter(&format!("roentgen {}", env!("CARGO_PKG_VERSION").replace('.', r"\.")), "roentgen <version>");
    settings
}

/// Compares an answer with its snapshot.
#[track_caller]
pub fn assert_snapshot(name: &str, answer: &Answer) {
    masks().bind(|| insta::assert_snapshot!(name, answer.snapshot()));
}

/// As [`assert_snapshot`], with mean loss and calibration masked: their last digits differ between instruction sets.
#[track_caller]
pub fn assert_snapshot_without_loss(name: &str, answer: &Answer) {
    let mut settings = masks();
    settings.add_filter(r#"(mean loss |"mean_loss": )[-\d.e]+"#, "$1<loss>");
    settings.add_filter(r"(expected calibration error  )[\d.]+(, .* )[\d.]+( by chance)", "$1<number>$2<number>$3");
    settings.add_filter(
        r#"("(?:expected_calibration_error|expected_by_chance|mean_confidence|threshold)": )\d[\d.e-]*"#,
        "$1<number>",
    );
    settings.add_filter(r#"(?s)("brier": \{)[^}]*\}"#, "$1<estimate>}");
    settings.bind(|| insta::assert_snapshot!(name, answer.snapshot()));
}

/// As [`assert_snapshot`], with every number masked that has a fraction: all of them follow from training.
#[track_caller]
pub fn assert_snapshot_without_fractions(name: &str, answer: &Answer) {
    let mut settings = masks();
    settings.add_filter(r"-?\d+\.\d+(e-?\d+)?", "<number>");
    // A probability that rounds to 1 has none in a CSV.
    settings.add_filter(",1,", ",<number>,");
    settings.bind(|| insta::assert_snapshot!(name, answer.snapshot()));
}
