//! The run directory: what lies where, and how a file is replaced.

use crate::{Config, RunError};
use std::io::Write;
use std::path::{Path, PathBuf};

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

    /// `metrics-<split>.json`.
    pub fn metrics_file(&self, split: &str) -> PathBuf {
        self.path.join(format!("metrics-{split}.json"))
    }

    /// `plots/`: every picture of the report as a file.
    pub fn plots_folder(&self) -> PathBuf {
        self.path.join("plots")
    }

    /// `report.html`.
    pub fn report_file(&self) -> PathBuf {
        self.path.join("report.html")
    }

    /// How far the folder has come as a run.
    pub fn state(&self) -> RunState {
        if self.model_file().is_file() {
            RunState::Finished
        } else if self.last_checkpoint_file().is_file() {
            RunState::Resumable
        } else if self.config_file().is_file() {
            RunState::Started
        } else if std::fs::read_dir(&self.path).is_ok_and(|mut entries| entries.next().is_some()) {
            RunState::Foreign
        } else {
            RunState::Absent
        }
    }

    /// Creates the folder and its `checkpoint/`, and writes `config.toml`.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn create(&self, config: &Config) -> Result<(), RunError> {
        let checkpoints = self.path.join("checkpoint");
        std::fs::create_dir_all(&checkpoints).map_err(RunError::io(&checkpoints, "create the folder"))?;
        write_atomically(&self.config_file(), |file| file.write_all(config.to_toml().as_bytes()))
    }

    /// Reads `config.toml`.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub fn config(&self) -> Result<Config, RunError> {
        Config::read(&self.config_file())
    }
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
        let mut temporary = tempfile::Builder::new().prefix(".roentgen-").suffix(".part").tempfile_in(folder)?;
        let mut buffered = std::io::BufWriter::new(temporary.as_file_mut());
        write(&mut buffered)?;
        buffered.flush()?;
        drop(buffered);
        allow_others_to_read(temporary.as_file())?;
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

/// Temporary files are private by default; what a run writes follows the usual rule for files.
#[cfg(unix)]
fn allow_others_to_read(file: &std::fs::File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn allow_others_to_read(_: &std::fs::File) -> std::io::Result<()> {
    Ok(())
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
        run.create(&Config::default()).unwrap();
        assert_eq!(run.state(), RunState::Started);
        std::fs::write(run.last_checkpoint_file(), b"x").unwrap();
        assert_eq!(run.state(), RunState::Resumable);
        std::fs::write(run.model_file(), b"x").unwrap();
        assert_eq!(run.state(), RunState::Finished);
        assert_eq!(RunDirectory::new(run.path().join("checkpoint")).state(), RunState::Foreign);
        assert!(RunDirectory::open(folder.path()).unwrap_err().to_string().contains("not a run directory"));
    }
}
