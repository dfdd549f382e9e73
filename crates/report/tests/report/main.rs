//! The crate from outside: run directories in, pages and pictures out.

mod experiment;
mod page;
mod sample;
mod sheets;
