use roentgen_run::RunError;
use std::path::PathBuf;

/// What can go wrong while pictures and pages are made.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A file of the run directory cannot be read or written.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A table of predictions contradicts itself or another.
    #[error(transparent)]
    Eval(#[from] roentgen_eval::EvalError),
    /// The run directory cannot be listed.
    #[error("{}: cannot list the folder: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A tile's pixels do not fit its stated size.
    #[error("{path}: {found} pixel bytes; expected {expected} for {width} x {height}: hand over every pixel once")]
    TileSize {
        /// The image that the tile shows.
        path: String,
        /// Bytes handed over.
        found: usize,
        /// Bytes that width, height and kind of pixel ask for.
        expected: usize,
        /// Stated width in pixels.
        width: usize,
        /// Stated height in pixels.
        height: usize,
    },
    /// A picture could not be encoded.
    #[error("{}: cannot encode the picture: {source}", path.display())]
    Picture {
        /// The file that was to be written.
        path: PathBuf,
        /// The encoder's answer.
        source: image::ImageError,
    },
    /// A template of this crate failed: a defect of the program, not of the run.
    #[error("the report's template `{name}` failed ({source}): please report this with the run's config.toml")]
    Template {
        /// The template.
        name: &'static str,
        /// The engine's answer, with the line.
        source: minijinja::Error,
    },
}
