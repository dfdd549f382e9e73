use std::path::{Path, PathBuf};

/// What can go wrong with a run directory or one of its files.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The operating system refused to read or write.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried, as a verb phrase ("write", "create the folder").
        action: &'static str,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A file is not what its name promises.
    #[error("{}: {found}; expected {expected}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What stands there, with the line where there is one.
        found: String,
        /// What should stand there.
        expected: String,
    },
    /// The directory was written by a newer version of the program.
    #[error("{}: format version {found}; this program reads versions up to {supported}: use a newer roentgen", path.display())]
    NewerFormat {
        /// The file that states the version.
        path: PathBuf,
        /// The version found.
        found: u32,
        /// The newest version that this build reads.
        supported: u32,
    },
    /// The folder holds no run.
    #[error("{}: not a run directory (it has no config.toml): give the folder that `roentgen train --out` wrote", path.display())]
    NotARun {
        /// The folder.
        path: PathBuf,
    },
}

impl RunError {
    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> RunError {
        let path = path.to_owned();
        move |source| RunError::Io { path, action, source }
    }

    pub(crate) fn malformed(path: &Path, found: impl std::fmt::Display, expected: impl Into<String>) -> RunError {
        RunError::Malformed { path: path.to_owned(), found: found.to_string(), expected: expected.into() }
    }
}
