//! `environment.json`: what a run ran on, and what was found in its data.

use crate::RunError;
use crate::directory::write_atomically;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Images by source and class name.
pub type ImagesBySource = BTreeMap<String, BTreeMap<String, usize>>;

/// What a run ran on, and what was found in its data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// Version of the program.
    pub version: String,
    /// Instruction set that the engine used.
    pub instruction_set: String,
    /// Threads of the engine.
    pub threads: usize,
    /// Operating system and processor architecture.
    pub platform: String,
    /// SHA-256 over classes, paths, labels, splits, patients and file sizes.
    pub data_fingerprint: String,
    /// Class names in the order of the outputs.
    pub classes: Vec<String>,
    /// Images by split and class name.
    pub images: BTreeMap<String, BTreeMap<String, usize>>,
    /// Images by split, source and class name; absent where the manifest names no source, empty text for images without
    /// one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sources: Option<BTreeMap<String, ImagesBySource>>,
    /// Patients by split; absent where the manifest knows none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patients: Option<BTreeMap<String, usize>>,
    /// Patients that stand in more than one split.
    #[serde(default)]
    pub patients_in_several_splits: Vec<String>,
    /// Images with identical pixels that stand in more than one split, a line a group.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub identical_in_several_splits: Vec<String>,
    /// Trainable parameters, and all parameters.
    pub trainable_parameters: usize,
    /// All parameters.
    pub parameters: usize,
    /// Where the start weights came from, in words.
    pub start: String,
    /// Images that were left out, with the reason.
    #[serde(default)]
    pub skipped_images: Vec<SkippedImage>,
    /// What the reader of the data found worth saying.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// An image that was left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedImage {
    /// The file, relative to the data folder.
    pub path: String,
    /// Why.
    pub reason: String,
}

impl Environment {
    /// Writes the file, atomically.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn write(&self, path: &Path) -> Result<(), RunError> {
        write_atomically(path, |file| {
            serde_json::to_writer_pretty(&mut *file, self)?;
            std::io::Write::write_all(file, b"\n")
        })
    }

    /// Reads the file.
    ///
    /// # Errors
    /// Where it cannot be read, or is not of this form.
    pub fn read(path: &Path) -> Result<Environment, RunError> {
        let text = std::fs::read_to_string(path).map_err(RunError::io(path, "read"))?;
        serde_json::from_str(&text).map_err(|e| RunError::malformed(path, e, "an environment.json of a run"))
    }
}
