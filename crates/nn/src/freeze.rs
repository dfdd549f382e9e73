//! Freeze plans: what of a network is trained, resolved once from names.

use crate::nearest;
use crate::network::{Network, Op, TensorKind, ValueId};

/// How a batch norm behaves in a training-mode program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchNormMode {
    /// It normalises with the batch's statistics and updates the running ones.
    Batch,
    /// It normalises with the running statistics and leaves them.
    Stored,
}

/// What a batch norm without trainable parameters does while the rest trains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrozenBatchNorm {
    /// It stays in evaluation mode: a frozen layer does not change.
    Stored,
    /// It goes on gathering statistics, as PyTorch's does unless it is told otherwise.
    Batch,
}

/// Why names do not make a freeze plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FreezeError {
    /// Nothing was named.
    #[error("nothing to unfreeze was named: give `head`, `all`, or module names such as `layer4,head`")]
    Empty,
    /// A name that selects no parameter.
    #[error(
        "`{selector}` selects no parameter of {architecture}; nearest: {nearest}; `head`, `all` and any module name work"
    )]
    SelectsNothing {
        /// The name.
        selector: String,
        /// The architecture.
        architecture: String,
        /// The most similar modules that have parameters.
        nearest: String,
    },
}

/// What of a network is trained.
#[derive(Clone, Debug, PartialEq)]
pub struct FreezePlan {
    selectors: Vec<String>,
    /// One flag a tensor of the network; only parameters can be trainable.
    trainable: Vec<bool>,
    /// One entry a value: the mode of a batch norm.
    batch_norm: Vec<Option<BatchNormMode>>,
    deepest: Option<ValueId>,
}

impl FreezePlan {
    /// Resolves names to parameters: `head`, `all`, or torchvision module names, each of which selects every parameter
    /// inside it.
    ///
    /// # Errors
    /// Where no name is given, or one selects nothing; the error offers the nearest names.
    pub fn resolve(
        network: &Network,
        selectors: &[impl AsRef<str>],
        frozen_batch_norm: FrozenBatchNorm,
    ) -> Result<FreezePlan, FreezeError> {
        if selectors.is_empty() {
            return Err(FreezeError::Empty);
        }
        let mut trainable = vec![false; network.tensors().len()];
        for selector in selectors {
            let selector = selector.as_ref().trim();
            let mut found = false;
            for (tensor, flag) in network.tensors().iter().zip(&mut trainable) {
                if tensor.kind == TensorKind::Parameter && selects(network, selector, &tensor.name) {
                    (*flag, found) = (true, true);
                }
            }
            if !found {
                return Err(FreezeError::SelectsNothing {
                    selector: selector.into(),
                    architecture: network.architecture().into(),
                    nearest: nearest::names(
                        selector,
                        modules_with_parameters(network, |_| true).iter().map(String::as_str),
                    ),
                });
            }
        }
        Ok(FreezePlan::from_flags(
            network,
            selectors.iter().map(|s| s.as_ref().trim().to_owned()).collect(),
            trainable,
            frozen_batch_norm,
        ))
    }

    /// The plan in which nothing is trained, for evaluation and explanations.
    pub fn frozen(network: &Network) -> FreezePlan {
        FreezePlan::from_flags(network, Vec::new(), vec![false; network.tensors().len()], FrozenBatchNorm::Stored)
    }

    fn from_flags(
        network: &Network,
        selectors: Vec<String>,
        trainable: Vec<bool>,
        frozen_batch_norm: FrozenBatchNorm,
    ) -> FreezePlan {
        let trains = |id: ValueId| network.tensors().iter().zip(&trainable).any(|(t, &flag)| flag && t.value == id);
        let batch_norm = network
            .ids()
            .map(|id| {
                matches!(network.value(id).op, Op::BatchNorm2d { .. }).then(|| {
                    if trains(id) || frozen_batch_norm == FrozenBatchNorm::Batch {
                        BatchNormMode::Batch
                    } else {
                        BatchNormMode::Stored
                    }
                })
            })
            .collect();
        let deepest = network.ids().find(|&id| trains(id));
        FreezePlan { selectors, trainable, batch_norm, deepest }
    }

    /// The names that the plan was made from.
    pub fn selectors(&self) -> &[String] {
        &self.selectors
    }

    /// Whether a tensor, by its index in [`Network::tensors`], is trained.
    pub fn trainable(&self, tensor: usize) -> bool {
        self.trainable[tensor]
    }

    /// Indices of the trained tensors in the network's order.
    pub fn trainable_tensors(&self) -> impl Iterator<Item = usize> + '_ {
        self.trainable.iter().enumerate().filter_map(|(index, &flag)| flag.then_some(index))
    }

    /// The mode of a batch norm in a training program; `None` for other values.
    pub fn batch_norm(&self, id: ValueId) -> Option<BatchNormMode> {
        self.batch_norm[id.index()]
    }

    /// The first value that has a trained parameter: backward goes no deeper. `None` where nothing is trained.
    pub fn deepest(&self) -> Option<ValueId> {
        self.deepest
    }

    /// Whether any batch norm uses the batch's statistics: then an image's result depends on its batch, which may not
    /// be cut into micro-batches.
    pub fn depends_on_batch(&self) -> bool {
        self.batch_norm.contains(&Some(BatchNormMode::Batch))
    }

    /// Where the frozen prefix ends: the values that no training step changes and that something which does change is
    /// computed from, in the order of the network. What lies before them is the same function of the image throughout a
    /// run. The image itself is such a value where its first use is trained; inside a residual block there are two.
    ///
    /// A batch norm that looks at the batch and a dropout change whatever they touch, trained or not.
    pub fn cut(&self, network: &Network) -> Vec<ValueId> {
        let mut changes = vec![false; network.values().len()];
        let mut is_cut = vec![false; network.values().len()];
        for id in network.ids() {
            let value = network.value(id);
            changes[id.index()] = network.tensors().iter().zip(&self.trainable).any(|(t, &flag)| flag && t.value == id)
                || self.batch_norm(id) == Some(BatchNormMode::Batch)
                || matches!(value.op, Op::Dropout { .. })
                || value.inputs.iter().any(|input| changes[input.index()]);
            if changes[id.index()] {
                value
                    .inputs
                    .iter()
                    .filter(|input| !changes[input.index()])
                    .for_each(|input| is_cut[input.index()] = true);
            }
        }
        network.ids().filter(|id| is_cut[id.index()]).collect()
    }

    /// Number of trained parameters.
    pub fn trainable_count(&self, network: &Network) -> usize {
        self.trainable_tensors().map(|index| network.tensors()[index].elements()).sum()
    }
}

/// Whether a selector - `head`, `all`, or a module's name - selects a tensor.
pub(crate) fn selects(network: &Network, selector: &str, tensor: &str) -> bool {
    let module = if selector == "head" { network.head_module() } else { selector };
    let inside = |name: &str| name.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    selector == "all" || inside(tensor)
}

/// Every module that holds parameters of interest, by their index, outer modules included, and the two special names.
pub(crate) fn modules_with_parameters(network: &Network, of_interest: impl Fn(usize) -> bool) -> Vec<String> {
    let mut names = vec!["head".to_owned(), "all".to_owned()];
    let tensors = network.tensors().iter().enumerate();
    for (_, tensor) in tensors.filter(|(index, t)| t.kind == TensorKind::Parameter && of_interest(*index)) {
        let mut name = tensor.name.as_str();
        while let Some((module, _)) = name.rsplit_once('.') {
            if !names.iter().any(|n| n == module) {
                names.push(module.to_owned());
            }
            name = module;
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architecture;
    use crate::network::Head;

    fn network(name: &str) -> Network {
        architecture::build(name, 64, Head::Replaced { hidden: 380, dropout: 0.5, classes: 2 }).unwrap()
    }

    fn plan(network: &Network, selectors: &[&str]) -> FreezePlan {
        FreezePlan::resolve(network, selectors, FrozenBatchNorm::Stored).unwrap()
    }

    #[test]
    fn head_features_and_all_select_what_they_say() {
        let vgg = network("vgg16");
        assert_eq!(plan(&vgg, &["head"]).trainable_count(&vgg), 25_088 * 380 + 380 + 380 * 2 + 2);
        let one = plan(&vgg, &["features.10", "head"]);
        assert_eq!(vgg.value(one.deepest().unwrap()).name, "features.10");
        assert_eq!(one.trainable_count(&vgg) - plan(&vgg, &["head"]).trainable_count(&vgg), 256 * 128 * 9 + 256);
        assert_eq!(plan(&vgg, &["all"]).trainable_count(&vgg), vgg.parameter_count());
        // `features.1` is a ReLU, and no prefix of `features.10`.
        let error = FreezePlan::resolve(&vgg, &["features.1"], FrozenBatchNorm::Stored).unwrap_err().to_string();
        assert!(error.contains("features.10"), "{error}");
    }

    #[test]
    fn frozen_batch_norms_keep_their_statistics_unless_told_otherwise() {
        let resnet = network("resnet18");
        let stored = plan(&resnet, &["layer4", "head"]);
        let mode = |plan: &FreezePlan, name: &str| plan.batch_norm(resnet.module_output(name).unwrap());
        assert_eq!(mode(&stored, "layer3.1.bn2"), Some(BatchNormMode::Stored));
        assert_eq!(mode(&stored, "layer4.0.bn1"), Some(BatchNormMode::Batch));
        assert_eq!(mode(&stored, "layer4.0.conv1"), None);
        assert!(!plan(&resnet, &["head"]).depends_on_batch());
        let batch = FreezePlan::resolve(&resnet, &["head"], FrozenBatchNorm::Batch).unwrap();
        assert_eq!(mode(&batch, "bn1"), Some(BatchNormMode::Batch));
        assert_eq!(FreezePlan::frozen(&resnet).deepest(), None);
    }

    #[test]
    fn a_cut_is_what_the_changing_part_is_computed_from() {
        let resnet = network("resnet18");
        let names = |plan: &FreezePlan| -> Vec<String> {
            plan.cut(&resnet).iter().map(|id| resnet.value(*id).name.clone()).collect()
        };
        assert_eq!(names(&plan(&resnet, &["all"])), ["input"]);
        assert_eq!(names(&plan(&resnet, &["head"])), ["flatten"]);
        assert_eq!(names(&plan(&resnet, &["layer4", "head"])), ["layer3.1"]);
        // The shortcut is frozen too, and computed beside the trained convolution.
        assert_eq!(names(&plan(&resnet, &["layer2.0.conv2", "head"])), ["layer2.0.relu", "layer2.0.downsample.1"]);
        let batch = FreezePlan::resolve(&resnet, &["head"], FrozenBatchNorm::Batch).unwrap();
        assert_eq!(names(&batch), ["conv1"]);
    }

    #[test]
    fn nothing_named_is_an_error() {
        let none: [&str; 0] = [];
        assert_eq!(FreezePlan::resolve(&network("resnet18"), &none, FrozenBatchNorm::Stored), Err(FreezeError::Empty));
    }
}
