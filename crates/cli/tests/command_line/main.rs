//! The command line as users meet it: what it prints, how it fails, and what it leaves behind.
//!
//! Wanted changes of what is printed are accepted with `INSTA_UPDATE=always cargo test -p roentgen` and read in the
//! diff of `snapshots/`.

mod answers;
mod audit;
mod bad_data;
mod bad_settings;
mod bench;
mod broken_files;
mod comparing;
mod data;
mod dicom;
mod diverging;
mod experiment;
mod explain;
mod full_disk;
mod help;
mod image_cache;
#[cfg(unix)]
mod interrupt;
mod kill;
mod leaks;
mod leaving;
mod long_list;
mod lr_find;
mod output;
mod preview;
mod search;
#[cfg(unix)]
mod serve;
mod skipping;
mod start_weights;
mod support;
