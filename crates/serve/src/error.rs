//! Why a server does not start, or does not reload.

use roentgen_infer::ModelError;
use roentgen_nn::EngineError;
use roentgen_run::RunError;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why a server does not start, or does not reload.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Everybody on the network could ask.
    #[error(
        "{address} can be reached from other machines, and there is no token: give --token-file FILE, listen on \
         127.0.0.1, or say --allow-without-token where something else keeps strangers away"
    )]
    Exposed {
        /// Where it was to listen.
        address: SocketAddr,
    },
    /// A token file that holds no token.
    #[error(
        "{}: {found}; expected a token of at least 16 visible characters, such as `openssl rand -hex 32` prints",
        file.display()
    )]
    Token {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        found: String,
    },
    /// A name that cannot stand in a URL, or stands twice.
    #[error(
        "model name `{name}`: {found}; name models of your own choice with NAME=RUN, of letters, digits, - _ and ."
    )]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        found: &'static str,
    },
    /// A model cannot be opened.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A run cannot be read.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A model cannot be compiled.
    #[error("{name}: {source}")]
    Engine {
        /// The model.
        name: String,
        /// Why.
        source: EngineError,
    },
    /// A file of a run is not what it should be.
    #[error("{}: {found}; {advice}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        found: String,
        /// What to do.
        advice: &'static str,
    },
    /// The run knows no threshold of the kind that was asked for.
    #[error(
        "{}: no threshold by {rule} in its metrics; evaluate the run with `roentgen evaluate` first",
        run.display()
    )]
    NoThreshold {
        /// The run.
        run: PathBuf,
        /// What it was to be chosen by.
        rule: &'static str,
    },
    /// The system refuses an address, a thread or a signal.
    #[error("cannot {what}: {source}")]
    System {
        /// What the server wanted to do.
        what: String,
        /// The system's answer.
        source: std::io::Error,
    },
}

impl ServeError {
    /// For `map_err`.
    pub(crate) fn system(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> ServeError {
        let what = what.into();
        |source| ServeError::System { what, source }
    }
}
