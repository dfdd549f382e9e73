//! The run directory: what lies where, and how a file is replaced.

use crate::{Config, RunError};
use std::ffi::OsStr;
use std::fs::{File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

/// How the name of a file begins that is being written; see [`write_atomically`].
const PART_PREFIX: &str = ".roentgen-";
/// How such a name ends.
const PART_SUFFIX: &str = ".part";

/// A folder that a training run writes and everything after it reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunDirectory {
    path: PathBuf,
}

/// How far a folder has come as a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunState {
    /// There is no such folder, or it is empty.
    Absent,
    /// There is a folder that holds something else than a run.
    Foreign,
    /// A run was begun and left no checkpoint.
    Started,
    /// There is a checkpoint to resume from, and no finished model.
    Resumable,
    /// The model is written.
    Finished,
}

impl RunDirectory {
    /// Names the folder; nothing is touched.
    pub fn new(path: impl Into<PathBuf>) -> RunDirectory {
        RunDirectory { path: path.into() }
    }

    /// Names an existing run.
    ///
    /// # Errors
    /// Where the folder has no `config.toml`.
    pub fn open(path: impl Into<PathBuf>) -> Result<RunDirectory, RunError> {
        let run = RunDirectory::new(path);
        if run.config_file().is_file() { Ok(run) } else { Err(RunError::NotARun { path: run.path }) }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `config.toml`: every setting, resolved.
    pub fn config_file(&self) -> PathBuf {
        self.path.join("config.toml")
    }

    /// `environment.json`: what it ran on.
    pub fn environment_file(&self) -> PathBuf {
        self.path.join("environment.json")
    }

    /// `history.csv`: one line an epoch.
    pub fn history_file(&self) -> PathBuf {
        self.path.join("history.csv")
    }

    /// `steps.csv`: one line an optimiser step.
    pub fn steps_file(&self) -> PathBuf {
        self.path.join("steps.csv")
    }

    /// `model.safetensors`: the trained weights under torchvision's names. Its presence says that the run is finished.
    pub fn model_file(&self) -> PathBuf {
        self.path.join("model.safetensors")
    }

    /// `checkpoint/last.safetensors`: all that resuming needs.
    pub fn last_checkpoint_file(&self) -> PathBuf {
        self.path.join("checkpoint").join("last.safetensors")
    }

    /// `checkpoint/best.safetensors`: the weights of the epoch with the lowest validation loss.
    pub fn best_checkpoint_file(&self) -> PathBuf {
        self.path.join("checkpoint").join("best.safetensors")
    }

    /// `predictions-<split>.csv`.
    pub fn predictions_file(&self, split: &str) -> PathBuf {
        self.path.join(format!("predictions-{split}.csv"))
    }

    /// `predictions-<split>.json`: how the predictions of a split were computed, where it matters to who uses them again.
    pub fn computation_file(&self, split: &str) -> PathBuf {
        self.path.join(format!("predictions-{split}.json"))
    }

    /// `metrics-<split>.json`.
    pub fn metrics_file(&self, split: &str) -> PathBuf {
        self.path.join(format!("metrics-{split}.json"))
    }

    /// `plots/`: every picture of the report as a file.
    pub fn plots_folder(&self) -> PathBuf {
        self.path.join("plots")
    }

    /// `cache/`: values behind a frozen prefix, kept while training.
    pub fn cache_folder(&self) -> PathBuf {
        self.path.join("cache")
    }

    /// The sealed run that a path leads to, links followed: the path is its folder, or something in it or in a folder of
    /// its, such as a model or a checkpoint; or it is a folder whose model lies there.
    pub fn sealed_at(path: &Path) -> Option<RunDirectory> {
        let leads = |place: PathBuf| {
            let place = place.canonicalize().ok()?;
            place.ancestors().take(3).map(RunDirectory::new).find(|run| run.seal_file().is_file())
        };
        leads(path.to_owned()).or_else(|| leads(RunDirectory::new(path).model_file()))
    }

    /// `test-sealed`: says, while it is there, that the test images of this run must not be looked at yet.
    pub fn seal_file(&self) -> PathBuf {
        self.path.join("test-sealed")
    }

    /// `failure.txt`: why an experiment could not train or evaluate this run when it last tried, in one line.
    pub fn failure_file(&self) -> PathBuf {
        self.path.join("failure.txt")
    }

    /// `lr-find.csv`: the steps of a learning-rate range test.
    pub fn range_test_file(&self) -> PathBuf {
        self.path.join("lr-find.csv")
    }

    /// `lr-find.svg`: its losses over the rate.
    pub fn range_test_plot(&self) -> PathBuf {
        self.path.join("lr-find.svg")
    }

    /// `tensorboard/`: event files, where they were asked for.
    pub fn tensorboard_folder(&self) -> PathBuf {
        self.path.join("tensorboard")
    }

    /// `card.toml`: what people say about the model, for its card.
    pub fn card_statements_file(&self) -> PathBuf {
        self.path.join("card.toml")
    }

    /// `model-card.md`.
    pub fn card_file(&self) -> PathBuf {
        self.path.join("model-card.md")
    }

    /// `model-card.json`.
    pub fn card_document_file(&self) -> PathBuf {
        self.path.join("model-card.json")
    }

    /// `audit.json`: what an audit of the data found, where there was one.
    pub fn audit_file(&self) -> PathBuf {
        self.path.join("audit.json")
    }

    /// `report.html`.
    pub fn report_file(&self) -> PathBuf {
        self.path.join("report.html")
    }

    /// How far the folder has come as a run. What a kill in the first moment leaves behind counts as nothing, and so do
    /// the files of a range test.
    pub fn state(&self) -> RunState {
        let apart = [self.range_test_file(), self.range_test_plot(), self.failure_file()];
        let counts = |path: &Path| !is_part(path) && !apart.iter().any(|known| known == path);
        if self.model_file().is_file() {
            RunState::Finished
        } else if self.last_checkpoint_file().is_file() {
            RunState::Resumable
        } else if self.config_file().is_file() {
            RunState::Started
        } else if std::fs::read_dir(&self.path)
            .is_ok_and(|mut entries| entries.any(|entry| entry.is_ok_and(|entry| counts(&entry.path()))))
        {
            RunState::Foreign
        } else {
            RunState::Absent
        }
    }

    /// Creates the folder, writes `config.toml`, creates `checkpoint/`, and removes what a killed process was writing.
    /// The caller should hold the [`RunDirectory::lock`] of a run that exists.
    ///
    /// # Errors
    /// Where the system refuses; a folder that was made for it is removed again.
    pub fn create(&self, config: &Config) -> Result<(), RunError> {
        let checkpoints = self.path.join("checkpoint");
        let existed = self.path.exists();
        // The configuration comes first: a kill in between then leaves a run that can start, not a foreign folder.
        let written = write_atomically(&self.config_file(), |file| file.write_all(config.to_toml().as_bytes()));
        if written.is_err() && !existed {
            // The error to report is the first one; only an empty folder is removed.
            let _ = std::fs::remove_dir(&self.path);
        }
        written?;
        std::fs::create_dir_all(&checkpoints).map_err(RunError::io(&checkpoints, "create the folder"))?;
        for folder in [&self.path, &checkpoints] {
            let entries = std::fs::read_dir(folder).map_err(RunError::io(folder, "read the folder"))?;
            for part in entries.flatten().map(|entry| entry.path()).filter(|path| is_part(path)) {
                std::fs::remove_file(&part).map_err(RunError::io(&part, "remove what a killed process left"))?;
            }
        }
        Ok(())
    }

    /// Keeps other processes from training this run until the result is dropped; a killed process holds nothing.
    /// `None` where the system cannot lock folders, as Windows and some network file systems.
    ///
    /// # Errors
    /// [`RunError::InUse`] where another process holds it.
    pub fn lock(&self) -> Result<Option<File>, RunError> {
        let Ok(folder) = File::open(&self.path) else { return Ok(None) };
        match folder.try_lock() {
            Ok(()) => Ok(Some(folder)),
            Err(TryLockError::WouldBlock) => Err(RunError::InUse { path: self.path.clone() }),
            Err(TryLockError::Error(_)) => Ok(None),
        }
    }

    /// Takes a finished run up again: removes the model and everything that was computed from it, which would otherwise
    /// stand beside a model of more epochs. The model goes last, so that a kill in between leaves a finished run.
    /// Returns what was removed.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn reopen(&self) -> Result<Vec<PathBuf>, RunError> {
        let mut removed = Vec::new();
        let entries = std::fs::read_dir(&self.path).map_err(RunError::io(&self.path, "read the folder"))?;
        for path in entries.flatten().map(|entry| entry.path()) {
            let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
            let is_result = name.starts_with("predictions-") && (name.ends_with(".csv") || name.ends_with(".json"))
                || name.starts_with("metrics-") && name.ends_with(".json")
                || path == self.report_file();
            if is_result {
                std::fs::remove_file(&path).map_err(RunError::io(&path, "remove"))?;
                removed.push(path);
            }
        }
        let plots = self.plots_folder();
        if plots.is_dir() {
            std::fs::remove_dir_all(&plots).map_err(RunError::io(&plots, "remove"))?;
            removed.push(plots);
        }
        removed.sort();
        let model = self.model_file();
        if model.is_file() {
            std::fs::remove_file(&model).map_err(RunError::io(&model, "remove"))?;
            removed.push(model);
        }
        Ok(removed)
    }

    /// Reads `config.toml`.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub fn config(&self) -> Result<Config, RunError> {
        Config::read(&self.config_file())
    }
}

/// Whether a path names a file that [`write_atomically`] had not finished.
fn is_part(path: &Path) -> bool {
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
    name.starts_with(PART_PREFIX) && name.ends_with(PART_SUFFIX)
}

/// Writes a file so that a crash or a full disk at any moment leaves either the old or the new one: into a temporary
/// file beside it, flushed to the disk, then renamed.
///
/// # Errors
/// Where the system refuses; the temporary file is removed and an old file stays as it was.
pub fn write_atomically(
    path: &Path,
    write: impl FnOnce(&mut std::io::BufWriter<&mut std::fs::File>) -> std::io::Result<()>,
) -> Result<(), RunError> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(RunError::io(folder, "create the folder"))?;
    let attempt = || -> std::io::Result<()> {
        let mut temporary = new_part(folder)?;
        let mut buffered = std::io::BufWriter::new(temporary.as_file_mut());
        write(&mut buffered)?;
        buffered.flush()?;
        drop(buffered);
        temporary.as_file().sync_all()?;
        temporary.persist(path).map_err(|e| e.error)?;
        // The rename itself must reach the disk; a system that cannot sync folders is no reason to fail.
        if let Ok(folder) = std::fs::File::open(folder) {
            let _ = folder.sync_all();
        }
        Ok(())
    };
    attempt().map_err(RunError::io(path, "write"))
}

/// Adds bytes to a file, flushed to the disk: a checkpoint that counts them is flushed, and so must they be.
///
/// # Errors
/// Where the system refuses; the file then holds none of the bytes. Where even that fails, half of them may stand at
/// its end, which readers skip.
pub fn append(path: &Path, bytes: &[u8]) -> Result<(), RunError> {
    let attempt = || -> std::io::Result<()> {
        let mut file = std::fs::OpenOptions::new().append(true).open(path)?;
        let length = file.metadata()?.len();
        file.write_all(bytes).inspect_err(|_| {
            let _ = file.set_len(length);
        })?;
        file.sync_data()
    };
    attempt().map_err(RunError::io(path, "write"))
}

/// Cuts a file off after its first `length` bytes.
///
/// # Errors
/// Where the system refuses.
pub fn truncate(path: &Path, length: u64) -> Result<(), RunError> {
    let attempt = || std::fs::OpenOptions::new().write(true).open(path)?.set_len(length);
    attempt().map_err(RunError::io(path, "shorten"))
}

/// A temporary file that gets the usual rights of a new file, not the private ones of temporary files.
fn new_part(folder: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(PART_PREFIX).suffix(PART_SUFFIX);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        write_atomically(&path, |f| f.write_all(b"old")).unwrap();
        let error = write_atomically(&path, |f| {
            f.write_all(b"half")?;
            Err(std::io::Error::other("disk full"))
        });
        assert!(error.unwrap_err().to_string().contains("a.txt"));
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn states_follow_the_files() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDirectory::new(folder.path().join("run"));
        assert_eq!(run.state(), RunState::Absent);
        std::fs::create_dir(run.path()).unwrap();
        [run.range_test_file(), run.range_test_plot()].iter().for_each(|file| std::fs::write(file, b"x").unwrap());
        assert_eq!(run.state(), RunState::Absent);
        run.create(&Config::default()).unwrap();
        assert_eq!(run.state(), RunState::Started);
        std::fs::write(run.last_checkpoint_file(), b"x").unwrap();
        assert_eq!(run.state(), RunState::Resumable);
        std::fs::write(run.model_file(), b"x").unwrap();
        assert_eq!(run.state(), RunState::Finished);
        assert_eq!(RunDirectory::new(run.path().join("checkpoint")).state(), RunState::Foreign);
        assert!(RunDirectory::open(folder.path()).unwrap_err().to_string().contains("not a run directory"));
    }

    #[test]
    fn what_a_kill_leaves_is_no_foreign_folder_and_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDirectory::new(folder.path());
        std::fs::write(folder.path().join(".roentgen-abc.part"), b"half").unwrap();
        assert_eq!(run.state(), RunState::Absent);
        run.create(&Config::default()).unwrap();
        std::fs::write(run.path().join("checkpoint/.roentgen-abc.part"), b"half").unwrap();
        run.create(&Config::default()).unwrap();
        let names = |path: &Path| std::fs::read_dir(path).unwrap().flatten().map(|e| e.file_name()).collect::<Vec<_>>();
        assert_eq!(names(&run.path().join("checkpoint")).len(), 0);
        assert_eq!(names(run.path()).len(), 2, "{:?}", names(run.path()));
    }

    #[test]
    fn a_run_that_is_taken_up_again_loses_its_model_and_results_alone() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDirectory::new(folder.path());
        run.create(&Config::default()).unwrap();
        std::fs::create_dir(run.plots_folder()).unwrap();
        let results = [run.model_file(), run.report_file(), run.predictions_file("test"), run.metrics_file("a-test")];
        let kept = [run.history_file(), run.last_checkpoint_file(), run.path().join("notes-metrics-test.json.txt")];
        results.iter().chain(&kept).for_each(|file| std::fs::write(file, b"x").unwrap());
        let removed = run.reopen().unwrap();
        assert_eq!(removed.last(), Some(&run.model_file()));
        assert_eq!(removed.len(), results.len() + 1);
        assert!(removed.iter().all(|path| !path.exists()) && kept.iter().all(|file| file.exists()));
        assert_eq!(run.state(), RunState::Resumable);
    }

    #[cfg(unix)]
    #[test]
    fn one_process_at_a_time_trains_a_run() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDirectory::new(folder.path());
        let held = run.lock().unwrap();
        if held.is_none() {
            println!("skipped: this file system cannot lock folders");
            return;
        }
        assert!(matches!(run.lock(), Err(RunError::InUse { .. })));
        drop(held);
        assert!(run.lock().is_ok());
    }
}
