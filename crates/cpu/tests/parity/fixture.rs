//! The files that `reference/parity_fixtures.py` writes, and how a tensor is compared with its summary in one.

use crate::generator;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Summaries by tensor name.
pub type Summaries = BTreeMap<String, Summary>;

/// What every case with a network says of it. The replaced head has 380 hidden units, no dropout and 2 classes.
#[derive(Clone, Deserialize)]
pub struct Setting {
    pub arch: String,
    pub image_size: usize,
    pub batch_size: usize,
    #[serde(default)]
    pub stock_head: bool,
}

/// Logits in evaluation mode: of two classes in full, of 1000 the first 8 of a row and a summary of all.
#[derive(Clone, Deserialize)]
pub struct Logits {
    #[serde(flatten)]
    pub setting: Setting,
    #[serde(default)]
    pub logits: Vec<Vec<f64>>,
    #[serde(default)]
    pub first_logits: Vec<Vec<f64>>,
    #[serde(default)]
    pub tensors: Summaries,
}

/// Gradients of the trained parameters after one batch.
#[derive(Clone, Deserialize)]
pub struct ParameterGradients {
    #[serde(flatten)]
    pub setting: Setting,
    pub unfreeze: String,
    pub frozen_batch_norm: String,
    /// The generator's key of the batch.
    pub images: String,
    pub labels: Vec<usize>,
    pub loss: f64,
    pub tensors: Summaries,
}

/// Activations and gradients of the summed class-0 logits, under `<tap>/activation` and `<tap>/gradient`.
#[derive(Clone, Deserialize)]
pub struct HeatMap {
    #[serde(flatten)]
    pub setting: Setting,
    pub taps: Vec<String>,
    pub tensors: Summaries,
}

/// Ten steps on fresh batches.
#[derive(Clone, Deserialize)]
pub struct Training {
    #[serde(flatten)]
    pub setting: Setting,
    pub unfreeze: String,
    pub frozen_batch_norm: String,
    pub optimiser: Optimiser,
    pub labels: Vec<Vec<usize>>,
    pub losses: Vec<f64>,
    pub num_batches_tracked: BTreeMap<String, i64>,
    /// Trained parameters: value after the last step less value before the first.
    pub change: Summaries,
    /// Running statistics after the last step.
    pub statistics: Summaries,
}

/// Arguments of `torch.optim.SGD` and `torch.optim.AdamW`.
#[derive(Clone, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Optimiser {
    Sgd {
        lr: f32,
        momentum: f32,
        #[serde(default)]
        weight_decay: f32,
        #[serde(default)]
        nesterov: bool,
    },
    AdamW {
        lr: f32,
        betas: [f32; 2],
        eps: f32,
        weight_decay: f32,
    },
}

/// Losses of logits that are given.
#[derive(Clone, Deserialize)]
pub struct CrossEntropyExamples {
    pub examples: Vec<CrossEntropyExample>,
}

/// One batch of logits, its weighted mean loss, and the loss's gradient.
#[derive(Clone, Deserialize)]
pub struct CrossEntropyExample {
    pub logits: Vec<Vec<f32>>,
    pub labels: Vec<usize>,
    pub class_weights: Option<Vec<f32>>,
    pub loss: f64,
    pub gradient: Vec<Vec<f64>>,
}

/// A tensor in a few numbers: norms and sums of the whole, and the elements at some row-major indices.
#[derive(Clone, Deserialize)]
pub struct Summary {
    pub elements: usize,
    pub l2: f64,
    pub sum: f64,
    pub max_abs: f64,
    /// Sums with signs that the generator draws: an error anywhere in the tensor shows, in proportion to its L2 norm.
    pub projections: Vec<f64>,
    pub indices: Vec<usize>,
    pub values: Vec<f64>,
}

/// How far a tensor may be from PyTorch's.
#[derive(Clone, Copy)]
pub struct Tolerance {
    /// For norm, sum and projections, relative to a norm.
    pub whole: f64,
    /// For single elements, relative to a largest absolute value.
    pub element: f64,
    /// Whose norm and largest value.
    pub relative_to: RelativeTo,
}

impl Tolerance {
    /// So many times as much.
    pub fn times(self, factor: f64) -> Tolerance {
        Tolerance { whole: self.whole * factor, element: self.element * factor, ..self }
    }
}

/// What the size of an error is compared with.
#[derive(Clone, Copy)]
pub enum RelativeTo {
    /// The tensor itself.
    Tensor,
    /// The largest among the parameters of a layer: the gradient of a bias in front of a batch norm is exactly zero,
    /// and what is left of it in f32 says something only beside the weight's gradient.
    Layer,
}

impl RelativeTo {
    fn group(self, name: &str) -> &str {
        match self {
            RelativeTo::Tensor => name,
            RelativeTo::Layer => name.rsplit_once('.').map_or(name, |(layer, _)| layer),
        }
    }
}

impl Summary {
    /// Says where `found` differs from the tensor that was summarised under `name`, one of `summaries`.
    fn differences(&self, name: &str, found: &[f32], summaries: &Summaries, tolerance: Tolerance) -> Vec<String> {
        if found.len() != self.elements {
            return vec![format!("{name} has {} elements, expected {}", found.len(), self.elements)];
        }
        let group = |name| tolerance.relative_to.group(name);
        let members = || summaries.iter().filter(|(other, _)| group(other) == group(name)).map(|(_, summary)| summary);
        let whole = tolerance.whole * members().fold(0.0, |largest, summary| summary.l2.max(largest));
        let element = tolerance.element * members().fold(0.0, |largest, summary| summary.max_abs.max(largest));

        let found: Vec<f64> = found.iter().map(|&value| f64::from(value)).collect();
        let l2 = found.iter().map(|value| value * value).sum::<f64>().sqrt();
        let max_abs = found.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
        let mut compared = vec![
            ("L2 norm".to_owned(), l2, self.l2, whole),
            // Where elements share a sign so do their errors, and both sums grow beyond the norms.
            ("sum".to_owned(), found.iter().sum(), self.sum, (4.0 * whole).max(tolerance.whole * self.sum.abs())),
            ("largest absolute value".to_owned(), max_abs, self.max_abs, element),
        ];
        for (number, (found, &expected)) in projections(name, &found).into_iter().zip(&self.projections).enumerate() {
            // Errors of random signs add up to about their L2 norm: four times that is beyond chance.
            compared.push((format!("projection {number}"), found, expected, 4.0 * whole));
        }
        for (&index, &expected) in self.indices.iter().zip(&self.values) {
            compared.push((format!("element {index}"), found[index], expected, element));
        }
        compared
            .into_iter()
            .filter(|(_, found, expected, allowed)| {
                let close = (found - expected).abs() <= *allowed; // false for a NaN, which must fail
                !close
            })
            .map(|(what, found, expected, allowed)| {
                format!("{name}, {what}: {found:e}, expected {expected:e}, allowed {allowed:e}")
            })
            .collect()
    }
}

/// Sums of the elements with signs: the sign of element i in projection p is bit p of the generator's number i.
fn projections(name: &str, values: &[f64]) -> [f64; 4] {
    let draws = generator::draws(&format!("signs/{name}"));
    let mut totals = [0.0; 4];
    for (value, draw) in values.iter().zip(draws) {
        for (bit, total) in totals.iter_mut().enumerate() {
            *total += if draw >> bit & 1 == 1 { -value } else { *value };
        }
    }
    totals
}

/// Compares every summarised tensor with the one that a closure finds under its name.
pub fn differences(
    expected: &Summaries,
    tolerance: Tolerance,
    mut tensor: impl FnMut(&str) -> Option<Vec<f32>>,
) -> Vec<String> {
    let compare = |(name, summary): (&String, &Summary)| match tensor(name) {
        Some(found) => summary.differences(name, &found, expected, tolerance),
        None => vec![format!("{name} is in PyTorch's result and not in ours")],
    };
    expected.iter().flat_map(compare).collect()
}

/// Every fixture whose name starts with `prefix`, with its name, in the order of names.
pub fn read_all<T: DeserializeOwned>(prefix: &str) -> Vec<(String, T)> {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/parity"));
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("a readable folder").file_name().into_string().expect("a fixture's name is ASCII"))
        .filter(|name| name.starts_with(prefix))
        .collect();
    names.sort();
    assert!(!names.is_empty(), "no fixture {prefix}* in {}", folder.display());
    names
        .into_iter()
        .map(|name| {
            let text = std::fs::read_to_string(folder.join(&name)).unwrap_or_else(|error| panic!("{name}: {error}"));
            let fixture = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            (name, fixture)
        })
        .collect()
}
