//! What a server is asked to serve, and what a request may cost.

use crate::{ThresholdChoice, Token};
use roentgen_run::config::Precision;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// A model and the name that requests call it by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelSource {
    /// The name in URLs and answers.
    pub name: String,
    /// A finished run directory, or a weight file that this program wrote.
    pub path: PathBuf,
}

/// How to serve.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where to listen; port 0 takes a free one.
    pub address: SocketAddr,
    /// What requests must show. Without one the server listens on loopback alone.
    pub token: Option<Token>,
    /// Listens beyond loopback without a token: for whoever has put a guard of their own in front.
    pub allow_without_token: bool,
    /// Where the threshold comes from; `None` for Youden's of the run's evaluation, or 0.5 where it has none.
    pub threshold: Option<ThresholdChoice>,
    /// How long a batch waits for further images after its first.
    pub batch_wait: Duration,
    /// Number format; `None` for the one that the run was trained in.
    pub precision: Option<Precision>,
    /// Direct convolutions, also where the run was trained without.
    pub exact: bool,
    /// The most memory that a compiled model may take, in bytes.
    pub memory_limit_bytes: Option<usize>,
    /// What requests may cost.
    pub limits: Limits,
}

/// What requests may cost. Everything that a stranger can send is bounded by one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of a request's body.
    pub body_bytes: usize,
    /// Most bytes of the bodies of all requests together.
    pub all_bodies_bytes: usize,
    /// Most pixels of an image.
    pub pixels: u64,
    /// Most images of a request.
    pub images: usize,
    /// Most images in the server: waiting, being decoded, being computed. The next one is refused with 503.
    pub queue: usize,
    /// Most connections; further ones wait to be accepted.
    pub connections: usize,
    /// How long a head may take to arrive, and an idle connection stays open.
    pub head_time: Duration,
    /// How long a body may take to arrive, and from then on the answer.
    pub request_time: Duration,
    /// How long a client may take to read an answer.
    pub read_time: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            body_bytes: 32 << 20,
            all_bodies_bytes: 512 << 20,
            pixels: 64_000_000,
            images: 32,
            queue: 256,
            connections: 1024,
            head_time: Duration::from_secs(10),
            request_time: Duration::from_secs(30),
            read_time: Duration::from_secs(60),
        }
    }
}
