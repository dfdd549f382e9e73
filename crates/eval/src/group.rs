//! The same metrics for parts of a split: by source, by finding.

use crate::EvalError;
use crate::estimate::Estimate;
use crate::metrics::Metrics;
use crate::predictions::Predictions;
use rand::Rng;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The name of the group of images that have none.
const UNKNOWN: &str = "(unknown)";

/// Metrics of each group of images, the groups sorted by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GroupTable {
    /// What the images are grouped by, such as `source`.
    pub by: String,
    /// The groups, at least two.
    pub groups: Vec<Group>,
}

/// The images of one group. Intervals are as in [`Metrics::evaluate`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Images in it.
    pub images: u64,
    /// Their patients, where all are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patients: Option<u64>,
    /// Images of the positive class in it.
    pub positives: u64,
    /// Share of its images that were called what they are.
    pub accuracy: Estimate,
    /// Sensitivity for the positive class.
    pub sensitivity: Estimate,
    /// Specificity for the positive class.
    pub specificity: Estimate,
    /// Area under the ROC curve of the positive class.
    pub auroc: Estimate,
}

impl GroupTable {
    /// Metrics of the images of each name in `names`, `[N]`, where `None` is a group of its own. `None` where there are
    /// not two groups: the table would repeat the whole.
    ///
    /// # Errors
    ///
    /// Another number of names than of images; `positive` is no class.
    pub fn new<R: Rng>(
        by: &str,
        names: &[Option<String>],
        predictions: &Predictions,
        positive: usize,
        generator: &impl Fn(u64) -> R,
    ) -> Result<Option<Self>, EvalError> {
        let (found, expected) = (names.len(), predictions.samples());
        if found != expected {
            return Err(EvalError::Length { what: "group names", found, expected });
        }
        let mut samples: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (sample, name) in names.iter().enumerate() {
            samples.entry(name.as_deref().unwrap_or(UNKNOWN)).or_default().push(sample);
        }
        if samples.len() < 2 {
            return Ok(None);
        }
        let groups = samples.into_iter().map(|(name, samples)| {
            let part = predictions.subset(&samples);
            let metrics = Metrics::evaluate(&part, positive, generator)?;
            let probabilities = metrics.probabilities.as_ref().expect("set by `evaluate`");
            Ok(Group {
                name: name.to_owned(),
                images: metrics.samples(),
                patients: metrics.patients,
                positives: metrics.confusion_matrix.actual(positive),
                accuracy: metrics.accuracy.clone(),
                sensitivity: metrics.sensitivity[positive].clone(),
                specificity: metrics.specificity[positive].clone(),
                auroc: probabilities.auroc[positive].clone(),
            })
        });
        Ok(Some(Self { by: by.to_owned(), groups: groups.collect::<Result<_, EvalError>>()? }))
    }

    /// Whether every group has images of one side only, so that telling the groups apart is enough to tell the classes
    /// apart.
    pub fn gives_the_class_away(&self) -> bool {
        self.groups.iter().all(|group| group.positives == 0 || group.positives == group.images)
    }
}

impl Group {
    /// Its estimates with their names.
    pub(crate) fn estimates(&self) -> [(&'static str, &Estimate); 4] {
        [
            ("accuracy", &self.accuracy),
            ("sensitivity", &self.sensitivity),
            ("specificity", &self.specificity),
            ("AUROC", &self.auroc),
        ]
    }
}
