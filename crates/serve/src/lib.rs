//! Models over HTTP: an interface for programs, and a page for people.
//!
//! [`Server::bind`] opens the models and the port, [`Server::run`] answers until it is told to stop. An image takes one
//! way: its bytes are read within [`Limits`], decoded and transformed by the code that evaluation uses, and wait for
//! the one thread that runs networks, which gathers what waits into batches. Everything that a request can make the
//! server hold is counted, and what is too much is refused with 503 before work is done for it.
//!
//! Nothing that is sent is stored or logged. Nothing on the disk is reachable through a URL: models, their descriptions
//! and their reports are read when the server starts, and again when a reload is asked for.

mod accept;
mod admission;
mod app;
mod body;
mod connection;
mod counters;
mod decoders;
mod error;
mod explain;
mod guard;
mod model;
mod multipart;
mod page;
mod picture;
mod predict;
mod refusal;
mod registry;
mod routes;
mod server;
mod settings;
mod threshold;
mod token;
mod worker;

pub use error::ServeError;
pub use server::{Handle, Server};
pub use settings::{Limits, ModelSource, Settings};
pub use threshold::ThresholdChoice;
pub use token::Token;
pub use worker::SharedEngine;
