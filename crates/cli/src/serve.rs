//! `roentgen serve`

use crate::arguments::Computation;
use crate::failure::{Failure, Outcome};
use crate::{resolve, search, start};
use clap::Args;
use roentgen_serve::{Limits, ModelSource, ServeError, Server, Settings, SharedEngine, ThresholdChoice, Token};
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// `roentgen serve`
#[derive(Debug, Args)]
pub struct Serve {
    /// Run directories or model files, each as RUN or NAME=RUN; a request that names none is answered by the first
    #[arg(required = true, value_name = "RUN")]
    pub models: Vec<String>,
    /// Where to listen; port 0 takes a free one. The URL is printed on stdout
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
    pub addr: SocketAddr,
    /// Answer only requests with `Authorization: Bearer TOKEN`, the token in this file
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Listen beyond this machine without a token: whoever reaches the port may ask
    #[arg(long, conflicts_with = "token_file")]
    pub allow_without_token: bool,
    /// Threshold of the positive class: youden, sensitivity or cost (as `roentgen evaluate` chose them), or a
    /// probability [default: youden, or 0.5 for a run without evaluation]
    #[arg(long, value_name = "RULE|P")]
    pub threshold: Option<ThresholdChoice>,
    /// Most size of a request in MiB
    #[arg(long, value_name = "MIB", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub max_body: u32,
    /// Most pixels of an image in millions
    #[arg(long, value_name = "MEGAPIXELS", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub max_pixels: u32,
    /// Most images that wait or are worked on; further requests are answered with 503
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub queue: u32,
    /// Most open connections
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub connections: u32,
    /// Seconds for a request to arrive, and as many for its answer
    #[arg(long, value_name = "S", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub timeout: u32,
    /// Milliseconds that a batch waits for further images
    #[arg(long, value_name = "MS", default_value_t = 3, value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub batch_wait: u32,
    /// How the model computes.
    #[command(flatten)]
    pub computation: Computation,
}

/// Runs the command until it is told to stop.
pub fn run(arguments: &Serve) -> Outcome {
    let sources: Vec<ModelSource> = arguments.models.iter().map(|model| source(model)).collect();
    sources.iter().try_for_each(|source| search::refuse_sealed_model(&source.path))?;
    let limits = Limits::default();
    let body_bytes = (arguments.max_body as usize) << 20;
    let settings = Settings {
        address: arguments.addr,
        token: arguments.token_file.as_deref().map(Token::read).transpose().map_err(failure)?,
        allow_without_token: arguments.allow_without_token,
        threshold: arguments.threshold,
        batch_wait: Duration::from_millis(arguments.batch_wait.into()),
        precision: arguments.computation.precision.map(resolve::precision),
        exact: arguments.computation.exact,
        memory_limit_bytes: start::available_memory_bytes(),
        limits: Limits {
            body_bytes,
            // One request of the largest size must fit.
            all_bodies_bytes: limits.all_bodies_bytes.max(body_bytes),
            pixels: u64::from(arguments.max_pixels) * 1_000_000,
            images: limits.images.min(arguments.queue as usize),
            queue: arguments.queue as usize,
            connections: arguments.connections as usize,
            request_time: Duration::from_secs(arguments.timeout.into()),
            ..limits
        },
    };
    let engine: SharedEngine = Arc::new(start::engine(arguments.computation.threads)?);
    let server = Server::bind(engine, sources, settings).map_err(failure)?;
    server.describe().iter().for_each(|line| eprintln!("{line}"));
    eprintln!("for research, not for diagnosis; Ctrl-C stops");
    let mut out = std::io::stdout();
    writeln!(out, "http://{}", server.address())?;
    out.flush()?;
    server.run().map_err(failure)
}

/// `RUN`, named after its folder, or `NAME=RUN`.
fn source(model: &str) -> ModelSource {
    match model.split_once('=') {
        // A path may hold the sign too.
        Some((name, path)) if !Path::new(model).exists() => ModelSource { name: name.into(), path: path.into() },
        _ => {
            let path = PathBuf::from(model);
            let absolute = path.canonicalize().unwrap_or_else(|_| path.clone());
            let stem = if absolute.is_dir() { absolute.file_name() } else { absolute.file_stem() };
            let name = stem.map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
            ModelSource { name, path }
        }
    }
}

/// What the words of the call cannot be served by is a wrong call.
fn failure(error: ServeError) -> Failure {
    match error {
        ServeError::Model(error) => error.into(),
        ServeError::Run(error) => error.into(),
        ServeError::Exposed { .. } | ServeError::Token { .. } | ServeError::Name { .. } => Failure::Call(error.into()),
        error => Failure::Work(error.into()),
    }
}
