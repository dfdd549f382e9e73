//! The crate from outside: run directories in, pages and pictures out.

mod page;
mod sample;
mod sheets;
