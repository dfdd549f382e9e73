use std::path::{Path, PathBuf};

/// What can go wrong with a run directory or one of its files.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The operating system refused to read or write.
    #[error("{}: cannot {action}: {source}{}", path.display(), advice(source))]
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
    /// Another process trains this run.
    #[error("{}: another process is at work in this run: wait until it ends, or give another folder", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// The folder holds no run.
    #[error("{}: not a run directory (it has no config.toml): give the folder that `roentgen train --out` wrote", path.display())]
    NotARun {
        /// The folder.
        path: PathBuf,
    },
}

/// What a user can do about an answer of the operating system; empty where only the user can know.
fn advice(error: &std::io::Error) -> &'static str {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            "; make room; what was written before is whole"
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            "; check that you may write there, or give another folder"
        }
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
            "; a file stands where a folder is needed: give another folder"
        }
        _ => "",
    }
}

impl RunError {
    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> RunError {
        let path = path.to_owned();
        move |source| RunError::Io { path, action, source }
    }

    pub(crate) fn malformed(path: &Path, found: impl std::fmt::Display, expected: impl Into<String>) -> RunError {
        // The parser of TOML ends its words with a line break.
        let found = found.to_string().trim_end().to_owned();
        RunError::Malformed { path: path.to_owned(), found, expected: expected.into() }
    }
}

/// The words of a parser that met an unknown key or name, with the nearest of those that it expected.
pub(crate) fn with_nearest_name(found: impl std::fmt::Display) -> String {
    let found = found.to_string().trim_end().to_owned();
    let unknown = ["unknown field `", "unknown variant `"].into_iter().find_map(|words| found.split_once(words));
    let Some((unknown, expected)) = unknown.and_then(|(_, rest)| rest.split_once('`')) else { return found };
    let names = expected.lines().next().unwrap_or_default().split('`').skip(1).step_by(2);
    match names.min_by_key(|name| strsim::damerau_levenshtein(unknown, name)) {
        Some(nearest) => format!("{found}; the nearest is `{nearest}`"),
        None => found,
    }
}
