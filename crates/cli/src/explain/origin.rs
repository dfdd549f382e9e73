//! What a map and its check follow from, and that no map takes the place of another's.

use crate::failure::{Failure, Outcome};
use roentgen_infer::explain::Method;
use roentgen_run::predictions::Computation;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::Path;

/// The files of a map begin with its stem, `<image>-<class>-<method>`. The JSON file is written first: it says what the others
/// are of, also where a kill leaves some of them unwritten.
pub const ENDINGS: [&str; 4] = [".json", ".npy", ".png", "-curves.svg"];

/// A part of the JSON file.
#[derive(Serialize)]
pub struct Origin {
    pub method: MethodRecord,
    /// Of the model file.
    pub model_sha256: String,
    pub image_sha256: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask_sha256: Option<String>,
    /// As the call says it; needed for a file with several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frame: Option<NonZeroU32>,
    pub computation: Computation,
    pub curve_steps: usize,
}

/// How the map is made.
#[derive(Clone, Serialize)]
pub struct MethodRecord {
    pub name: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    #[serde(flatten)]
    settings: BTreeMap<&'static str, usize>,
}

impl MethodRecord {
    pub fn new(method: Method, module: Option<&str>) -> MethodRecord {
        let settings = match method {
            Method::GradCam | Method::GradCamPlusPlus | Method::HiResCam => BTreeMap::new(),
            Method::IntegratedGradients { steps } => BTreeMap::from([("steps", steps)]),
            Method::Occlusion { patch, stride } => BTreeMap::from([("patch", patch), ("stride", stride)]),
        };
        MethodRecord { name: method.name(), module: module.map(ToOwned::to_owned), settings }
    }
}

/// The names of those files of this stem that a folder has.
pub fn files_there(folder: &Path, stem: &str) -> Vec<String> {
    let names = ENDINGS.iter().map(|ending| format!("{stem}{ending}"));
    names.filter(|name| folder.join(name).exists()).collect()
}

impl Origin {
    /// Refuses a folder in which files of this stem are of something else. What the same call left there is made again.
    pub fn refuse_others(&self, folder: &Path, stem: &str, class: &str) -> Outcome {
        let there = files_there(folder, stem);
        let Some(first) = there.first() else { return Ok(()) };
        let what = match std::fs::read(folder.join(format!("{stem}.json"))) {
            Ok(bytes) => self.difference(&serde_json::from_slice(&bytes).unwrap_or_default(), class),
            Err(_) => Some("something that no JSON file beside it names"),
        };
        let Some(what) = what else { return Ok(()) };
        Err(Failure::call(format!(
            "--out {}: {first} is there already, of {what}, and would be lost: name another folder, or remove its map first",
            folder.display()
        )))
    }

    /// What a JSON file says otherwise; `None` where it is of the same.
    fn difference(&self, found: &Value, class: &str) -> Option<&'static str> {
        let own = serde_json::to_value(self).expect("an origin is plain data");
        // Earlier versions did not write it.
        if found.get("model_sha256").is_none() {
            return Some("something that its JSON file does not name");
        }
        // Of a file with one frame that is the first; of one with several the call must say which.
        let frame = |of: &Value| of.get("frame").and_then(Value::as_u64).unwrap_or(1);
        if frame(found) != frame(&own) {
            return Some("another --frame");
        }
        if found.get("class").is_some_and(|found| found != class) {
            return Some("another class");
        }
        [
            ("model_sha256", "another model"),
            ("image_sha256", "another image"),
            ("method", "another --module, --steps, --patch or --stride"),
            ("computation", "another --precision or choice of --exact"),
            ("mask_sha256", "another --mask"),
            ("curve_steps", "another number of --curve-steps"),
        ]
        .into_iter()
        .find_map(|(key, what)| (found.get(key) != own.get(key)).then_some(what))
    }
}
