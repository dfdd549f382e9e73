//! The server as its clients meet it: over a socket, byte by byte where it matters.

mod access;
mod answers;
mod chromium;
mod faults;
mod page;
mod reload;
mod support;
