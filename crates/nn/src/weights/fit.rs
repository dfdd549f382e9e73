//! Does a state dict fit a network? Every tensor outside the head must, exactly; the head may start anew.

use super::error::shortened;
use super::family;
use super::{StateDict, StateTensor, Values, WeightsError};
use crate::network::{TensorKind, TensorSpec};
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};

/// A tensor that a network expects from a weight file.
#[derive(Clone, Debug, PartialEq)]
pub struct ExpectedTensor {
    /// torchvision's name, as `layer1.0.conv1.weight`.
    pub name: String,
    /// Sizes of its axes.
    pub shape: Vec<usize>,
    /// What it is for. A counter may be absent from the file, as it is before PyTorch 0.4.1: it then starts at 0.
    pub kind: TensorKind,
}

impl From<&TensorSpec> for ExpectedTensor {
    fn from(spec: &TensorSpec) -> Self {
        ExpectedTensor { name: spec.name.clone(), shape: spec.shape.clone(), kind: spec.kind }
    }
}

/// What became of the head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeadFate {
    /// The file's head is this network's head.
    Loaded,
    /// The file has no head that fits; the network keeps its fresh one.
    StartedAnew {
        /// Why, for the user.
        reason: String,
    },
}

/// A state dict put into a network's order.
#[derive(Clone, Debug, PartialEq)]
pub struct Fitted {
    /// The tensors by the names and in the order that were expected; without the head's where that starts anew.
    pub tensors: StateDict,
    /// What became of the head.
    pub head: HeadFate,
}

/// A tensor whose shape or element type is another than the network's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShapeMismatch {
    /// The tensor.
    pub name: String,
    /// What the file has, in words, as `[64, 3, 3, 3]`.
    pub found: String,
    /// What the network needs.
    pub expected: String,
}

/// All differences between a file and a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// The weight file.
    pub file: PathBuf,
    /// The network it was to fit.
    pub architecture: String,
    /// The architecture that the file's tensors look like, if it is another one.
    pub looks_like: Option<String>,
    /// Tensors of the network that the file lacks.
    pub missing: Vec<String>,
    /// Tensors of the file, with their shapes, that the network lacks.
    pub surplus: Vec<String>,
    /// Tensors of both that differ.
    pub differing: Vec<ShapeMismatch>,
}

impl std::error::Error for Mismatch {}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: these weights do not fit {}", self.file.display(), self.architecture)?;
        list(f, "missing in the file", &self.missing, |f, name| f.write_str(name))?;
        list(f, "surplus in the file", &self.surplus, |f, name| f.write_str(name))?;
        list(f, "of another shape", &self.differing, |f, ShapeMismatch { name, found, expected }| {
            write!(f, "{name} is {found} in the file, {expected} expected")
        })?;
        match &self.looks_like {
            Some(other) => write!(f, "; the file looks like {other}: choose that architecture, or another file"),
            None => write!(f, "; choose the architecture that the file was made for, or another file"),
        }
    }
}

/// Writes the number of items and the first ten of them; nothing for none.
fn list<T>(
    f: &mut fmt::Formatter<'_>,
    heading: &str,
    items: &[T],
    write_item: impl Fn(&mut fmt::Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    const SHOWN: usize = 10;
    if items.is_empty() {
        return Ok(());
    }
    write!(f, "; {} {heading}: ", items.len())?;
    for (index, item) in items.iter().take(SHOWN).enumerate() {
        if index > 0 {
            f.write_str(", ")?;
        }
        write_item(f, item)?;
    }
    if items.len() > SHOWN {
        write!(f, " and {} more", items.len() - SHOWN)?;
    }
    Ok(())
}

impl StateDict {
    /// Puts the tensors into the order of `expected` and checks that they are the network's, no more and no fewer. They are
    /// moved, not copied: copies of a large model would be most of the time that a short-lived process takes.
    ///
    /// `head` is the name of the head's module (`fc` or `classifier`). If all of the head's tensors fit exactly, it is
    /// loaded. If not, and `head_may_differ`, the whole head is left out and the reason given; else it is an error like
    /// any other difference. `file` and `architecture` are for the messages.
    ///
    /// # Errors
    /// [`WeightsError::Mismatch`], which names every tensor that is missing, surplus or of another shape, and the
    /// architecture that the file seems to be of.
    pub fn fit(
        self,
        file: &Path,
        architecture: &str,
        expected: &[ExpectedTensor],
        head: &str,
        head_may_differ: bool,
    ) -> Result<Fitted, WeightsError> {
        let in_file: HashMap<&str, usize> =
            self.tensors.iter().enumerate().map(|(index, (name, _))| (name.as_str(), index)).collect();
        let expected_names: HashSet<&str> = expected.iter().map(|tensor| tensor.name.as_str()).collect();
        let in_head = |name: &str| name.strip_prefix(head).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));

        let mut body = Differences::default();
        let mut head_differences = Differences::default();
        // Where each tensor stands in the file; a counter may stand nowhere.
        let mut places: Vec<(&ExpectedTensor, Option<usize>)> = Vec::with_capacity(expected.len());
        for wanted in expected {
            let differences = if in_head(&wanted.name) { &mut head_differences } else { &mut body };
            match in_file.get(wanted.name.as_str()) {
                Some(&index) => match check(&self.tensors[index].1, wanted) {
                    Ok(()) => places.push((wanted, Some(index))),
                    Err(mismatch) => differences.differing.push(mismatch),
                },
                None if wanted.kind == TensorKind::Counter => places.push((wanted, None)),
                None => differences.missing.push(wanted.name.clone()),
            }
        }
        for (name, tensor) in &self.tensors {
            if !expected_names.contains(name.as_str()) {
                let differences = if in_head(name) { &mut head_differences } else { &mut body };
                differences.surplus.push(format!("{} {:?}", shortened(name), tensor.shape));
            }
        }

        let fate = if head_differences.is_empty() {
            HeadFate::Loaded
        } else if head_may_differ {
            places.retain(|(wanted, _)| !in_head(&wanted.name));
            HeadFate::StartedAnew { reason: self.why_anew(head, &head_differences) }
        } else {
            body.append(head_differences);
            HeadFate::Loaded // Not reached: the differences are an error below.
        };
        if !body.is_empty() {
            return Err(WeightsError::Mismatch(Box::new(Mismatch {
                file: file.to_owned(),
                architecture: architecture.to_owned(),
                looks_like: family::looks_like(&self).filter(|other| other != architecture),
                missing: body.missing,
                surplus: body.surplus,
                differing: body.differing,
            })));
        }
        let mut found: Vec<Option<StateTensor>> = self.tensors.into_iter().map(|(_, tensor)| Some(tensor)).collect();
        let mut tensor = |(wanted, place): (&ExpectedTensor, Option<usize>)| {
            let tensor = match place.and_then(|index| found[index].take()) {
                Some(tensor) => fitted(tensor, wanted),
                None => counter_at_zero(wanted),
            };
            (wanted.name.clone(), tensor)
        };
        Ok(Fitted { tensors: StateDict { tensors: places.into_iter().map(&mut tensor).collect() }, head: fate })
    }

    /// Why the file's head is not this network's.
    fn why_anew(&self, head: &str, differences: &Differences) -> String {
        if let Some(classes) = self.classes_of_stock_head(head) {
            return format!("the file holds torchvision's own head ({classes} classes)");
        }
        let prefix = format!("{head}.");
        if !self.tensors.iter().any(|(name, _)| name == head || name.starts_with(&prefix)) {
            return "the file holds no head".to_owned();
        }
        // The last difference is the one that the user thinks of: the output layer, whose rows are the classes.
        let layer = differences.differing.iter().rev().find(|difference| difference.name.ends_with(".weight"));
        match (layer.or(differences.differing.last()), differences.missing.first(), differences.surplus.first()) {
            (Some(ShapeMismatch { name, found, expected }), ..) => {
                format!("{name} is {found} in the file, {expected} here")
            }
            (None, Some(name), _) => format!("{name} is not in the file"),
            (None, None, Some(name)) => format!("{name} of the file is not in the head here"),
            (None, None, None) => "it differs".to_owned(),
        }
    }

    /// The number of classes of the head with which torchvision ships its networks: one linear layer `fc` or
    /// `classifier` (ResNet, DenseNet), or VGG's three of 4096 inputs and more.
    fn classes_of_stock_head(&self, head: &str) -> Option<usize> {
        let weight = |name: String| match self.get(&name)?.shape.as_slice() {
            [outputs, inputs] => Some((*outputs, *inputs)),
            _ => None,
        };
        if let Some((classes, _)) = weight(format!("{head}.weight")) {
            return Some(classes);
        }
        match (
            weight(format!("{head}.0.weight")),
            weight(format!("{head}.3.weight")),
            weight(format!("{head}.6.weight")),
        ) {
            (Some((4096, _)), Some((4096, 4096)), Some((classes, 4096))) => Some(classes),
            _ => None,
        }
    }
}

#[derive(Default)]
struct Differences {
    missing: Vec<String>,
    surplus: Vec<String>,
    differing: Vec<ShapeMismatch>,
}

impl Differences {
    fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.surplus.is_empty() && self.differing.is_empty()
    }

    fn append(&mut self, other: Differences) {
        self.missing.extend(other.missing);
        self.surplus.extend(other.surplus);
        self.differing.extend(other.differing);
    }
}

/// Whether the file's tensor is the wanted one in shape and kind.
fn check(found: &StateTensor, wanted: &ExpectedTensor) -> Result<(), ShapeMismatch> {
    let mismatch = |found: String, expected: String| ShapeMismatch { name: wanted.name.clone(), found, expected };
    if found.shape != wanted.shape {
        return Err(mismatch(format!("{:?}", found.shape), format!("{:?}", wanted.shape)));
    }
    match (&found.values, wanted.kind) {
        (Values::I64(_), TensorKind::Parameter | TensorKind::Buffer) => {
            Err(mismatch("integers".to_owned(), "real numbers".to_owned()))
        }
        _ => Ok(()),
    }
}

/// A tensor that was checked, as the network has it.
fn fitted(found: StateTensor, wanted: &ExpectedTensor) -> StateTensor {
    match (found.values, wanted.kind) {
        // Casting a whole file to half precision casts its counters too; nothing that is computed depends on them.
        (Values::F32(values), TensorKind::Counter) => {
            StateTensor { shape: found.shape, values: Values::I64(values.iter().map(|value| *value as i64).collect()) }
        }
        (values, _) => StateTensor { shape: found.shape, values },
    }
}

fn counter_at_zero(wanted: &ExpectedTensor) -> StateTensor {
    StateTensor { shape: wanted.shape.clone(), values: Values::I64(vec![0; wanted.shape.iter().product()]) }
}
