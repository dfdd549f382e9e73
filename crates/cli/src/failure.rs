//! How a command fails: 1 where the work failed, 2 where the call was wrong. Nobody reading the answer is no failure.

use roentgen_infer::ModelError;
use roentgen_infer::explain::ExplainError;
use roentgen_nn::{EngineError, FreezeError, NetworkError};
use roentgen_run::RunError;
use roentgen_train::TrainError;
use std::process::ExitCode;

/// Why a command did not do what it was asked for.
#[derive(Debug)]
pub enum Failure {
    /// The call was wrong: nothing was begun. Exit code 2.
    Call(anyhow::Error),
    /// The work failed. Exit code 1.
    Work(anyhow::Error),
    /// Whoever read stdout has seen enough, as `head` has. Exit code 0, and no word.
    ReaderGone,
}

/// What commands return.
pub type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// A wrong call, in words.
    pub fn call(message: impl Into<String>) -> Failure {
        Failure::Call(anyhow::Error::msg(message.into()))
    }

    /// Failed work, in words.
    pub fn work(message: impl Into<String>) -> Failure {
        Failure::Work(anyhow::Error::msg(message.into()))
    }

    /// The same, with what it is about before its words.
    pub fn about(self, what: &str) -> Failure {
        match self {
            Failure::Call(error) => Failure::call(format!("{what}: {}", words(&error))),
            Failure::Work(error) => Failure::work(format!("{what}: {}", words(&error))),
            Failure::ReaderGone => Failure::ReaderGone,
        }
    }

    /// Says why on stderr.
    pub fn report(self) -> ExitCode {
        let (error, code) = match self {
            Failure::Call(error) => (error, 2),
            Failure::Work(error) => (error, 1),
            Failure::ReaderGone => return ExitCode::SUCCESS,
        };
        eprintln!("error: {}", words(&error));
        ExitCode::from(code)
    }
}

/// An error and its causes, without the causes whose words stand there already: messages that go on behind the cause
/// with advice repeat it.
fn words(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !text.contains(&cause) {
            text += if text.is_empty() { "" } else { ": " };
            text += &cause;
        }
    }
    text
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Call(error) | Failure::Work(error) => f.write_str(&words(error)),
            Failure::ReaderGone => f.write_str("nobody reads the answer"),
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Failure {
        Failure::Work(error)
    }
}

macro_rules! work {
    ($($error:ty),*) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Failure {
                Failure::Work(error.into())
            }
        })*
    };
}

work!(
    roentgen_data::DataError,
    roentgen_data::phantom::PhantomError,
    roentgen_infer::InferError,
    roentgen_report::ReportError,
    roentgen_eval::EvalError,
    roentgen_nn::weights::WeightsError,
    EngineError
);

macro_rules! call {
    ($($error:ty),*) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Failure {
                Failure::Call(error.into())
            }
        })*
    };
}

call!(NetworkError, FreezeError, roentgen_kernels::ComputeError);

/// Commands have one unnamed stream, stdout: whatever else they read or write is named where it fails.
impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Failure::ReaderGone,
            _ => Failure::Work(anyhow::Error::new(error).context("cannot write to stdout")),
        }
    }
}

impl From<ExplainError> for Failure {
    fn from(error: ExplainError) -> Failure {
        match error {
            ExplainError::Engine(error) => error.into(),
            error => Failure::Call(error.into()),
        }
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Failure {
        match error {
            RunError::NotARun { .. } => Failure::Call(error.into()),
            error => Failure::Work(error.into()),
        }
    }
}

impl From<ModelError> for Failure {
    fn from(error: ModelError) -> Failure {
        match error {
            ModelError::Network(error) => error.into(),
            ModelError::Run(error) => error.into(),
            error => Failure::Work(error.into()),
        }
    }
}

impl From<TrainError> for Failure {
    fn from(error: TrainError) -> Failure {
        match error {
            TrainError::Network(_)
            | TrainError::Freeze(_)
            | TrainError::Group(_)
            | TrainError::Setting { .. }
            | TrainError::UnknownPositive { .. } => Failure::Call(error.into()),
            TrainError::Model(error) => error.into(),
            TrainError::Run(error) => error.into(),
            error => Failure::Work(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::words;
    use anyhow::{Context, anyhow};

    #[test]
    fn causes_are_said_once() {
        let error = Err::<(), _>(anyhow!("disk full")).context("a.txt: cannot write: disk full; make room");
        assert_eq!(
            words(&error.context("the run stopped").unwrap_err()),
            "the run stopped: a.txt: cannot write: disk full; make room"
        );
        assert_eq!(words(&anyhow!("cause").context("effect")), "effect: cause");
    }
}
