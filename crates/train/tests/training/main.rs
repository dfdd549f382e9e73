//! Training as a whole, of one run and of several together.

mod alone;
mod support;
mod tensorboard;
mod together;
