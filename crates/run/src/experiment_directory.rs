//! The folder of an experiment: what lies where.

use crate::directory::write_atomically;
use crate::{Experiment, RunDirectory, RunError};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// A folder that `roentgen experiment` writes: the experiment, a run directory for each row, seed and fold, and what
/// was made of them all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExperimentDirectory {
    path: PathBuf,
}

/// What a folder is to an experiment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExperimentState {
    /// There is no such folder, or it is empty.
    Absent,
    /// An experiment was begun there.
    Begun,
    /// It holds something else.
    Foreign,
}

impl ExperimentDirectory {
    /// Names the folder; nothing is touched.
    pub fn new(path: impl Into<PathBuf>) -> ExperimentDirectory {
        ExperimentDirectory { path: path.into() }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `experiment.toml`: the experiment with what the command line said otherwise.
    pub fn experiment_file(&self) -> PathBuf {
        self.path.join("experiment.toml")
    }

    /// `runs/<folder>/`: one training run, see [`crate::experiment::PlannedRun`].
    pub fn run(&self, folder: &str) -> RunDirectory {
        RunDirectory::new(self.path.join("runs").join(folder))
    }

    /// `cache/`: values behind frozen prefixes, kept until all rows are trained.
    pub fn cache_folder(&self) -> PathBuf {
        self.path.join("cache")
    }

    /// `table.csv`, `table.md`: the rows with their figures.
    pub fn table_file(&self, extension: &str) -> PathBuf {
        self.path.join(format!("table.{extension}"))
    }

    /// `differences.csv`: every pair of rows in every metric, for programs.
    pub fn differences_file(&self) -> PathBuf {
        self.path.join("differences.csv")
    }

    /// `results.json`: the rows with their figures and their differences, for programs.
    pub fn results_file(&self) -> PathBuf {
        self.path.join("results.json")
    }

    /// `plots/`: every picture of the report as a file.
    pub fn plots_folder(&self) -> PathBuf {
        self.path.join("plots")
    }

    /// `report.html`.
    pub fn report_file(&self) -> PathBuf {
        self.path.join("report.html")
    }

    /// What the folder is.
    pub fn state(&self) -> ExperimentState {
        if self.experiment_file().is_file() {
            return ExperimentState::Begun;
        }
        match RunDirectory::new(&self.path).state() {
            crate::directory::RunState::Absent => ExperimentState::Absent,
            _ => ExperimentState::Foreign,
        }
    }

    /// Writes `experiment.toml`, and keeps other processes from working here until the result is dropped.
    ///
    /// # Errors
    /// Where the system refuses, or another process holds the folder.
    pub fn begin(&self, experiment: &Experiment) -> Result<Option<File>, RunError> {
        let folder = RunDirectory::new(&self.path);
        let held = folder.lock()?;
        write_atomically(&self.experiment_file(), |file| file.write_all(experiment.to_toml().as_bytes()))?;
        match held {
            Some(held) => Ok(Some(held)),
            None => folder.lock(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;

    #[test]
    fn a_folder_is_taken_once_and_strangers_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let directory = ExperimentDirectory::new(folder.path().join("e"));
        assert_eq!(directory.state(), ExperimentState::Absent);
        let plans = vec![("a".to_owned(), vec!["head".to_owned()])];
        let experiment = Experiment::over_freeze_plans("t".into(), vec![0], Config::default(), plans);
        let held = directory.begin(&experiment).unwrap();
        assert_eq!(directory.state(), ExperimentState::Begun);
        assert_eq!(Experiment::read(&directory.experiment_file()).unwrap(), experiment);
        if held.is_some() {
            assert!(matches!(directory.begin(&experiment), Err(RunError::InUse { .. })));
        }
        let foreign = ExperimentDirectory::new(folder.path());
        assert_eq!(foreign.state(), ExperimentState::Foreign);
    }
}
