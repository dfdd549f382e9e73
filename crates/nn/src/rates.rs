//! Learning rates of their own for parts of a network.

use crate::freeze::{FreezePlan, modules_with_parameters, selects};
use crate::nearest;
use crate::network::Network;

/// Why names do not make groups of rates.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// A name that selects nothing that is trained.
    #[error(
        "the learning rate of `{name}` concerns nothing that is trained in {architecture}; nearest: {nearest}; unfreeze it, \
         or leave the rate out"
    )]
    SelectsNothing {
        /// The name.
        name: String,
        /// The architecture.
        architecture: String,
        /// The most similar modules that are trained.
        nearest: String,
    },
    /// Two names of one module.
    #[error("`{first}` and `{second}` are the same part of {architecture}, with a learning rate each: keep one")]
    Twice {
        /// One name.
        first: String,
        /// The other.
        second: String,
        /// The architecture.
        architecture: String,
    },
}

/// The learning rate of each tensor of a network that has one of its own: names are those of a freeze plan, and of
/// several that select a tensor the most specific wins, that is the longest module name.
///
/// # Errors
/// Where a name selects nothing that the plan trains, or two names mean the same module.
pub fn group_rates<'a>(
    network: &Network,
    plan: &FreezePlan,
    groups: impl IntoIterator<Item = (&'a str, f32)>,
) -> Result<Vec<Option<f32>>, GroupError> {
    let architecture = || network.architecture().to_owned();
    let module = |name: &'a str| match name {
        "head" => network.head_module().to_owned(),
        // It holds every module.
        "all" => String::new(),
        name => name.to_owned(),
    };
    let mut groups: Vec<(String, &str, f32)> =
        groups.into_iter().map(|(name, rate)| (module(name.trim()), name.trim(), rate)).collect();
    // A module that lies inside another has the longer name: it comes later and overwrites.
    groups.sort_by_key(|(module, ..)| module.len());
    let mut rates = vec![None; network.tensors().len()];
    for (index, (module, name, rate)) in groups.iter().enumerate() {
        if let Some((_, first, _)) = groups[..index].iter().find(|(other, ..)| other == module) {
            return Err(GroupError::Twice {
                first: (*first).to_owned(),
                second: (*name).to_owned(),
                architecture: architecture(),
            });
        }
        let mut found = false;
        for tensor in plan.trainable_tensors() {
            if selects(network, name, &network.tensors()[tensor].name) {
                (rates[tensor], found) = (Some(*rate), true);
            }
        }
        if !found {
            let trained = modules_with_parameters(network, |tensor| plan.trainable(tensor));
            return Err(GroupError::SelectsNothing {
                name: (*name).to_owned(),
                architecture: architecture(),
                nearest: nearest::names(name, trained.iter().map(String::as_str)),
            });
        }
    }
    Ok(rates)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architecture;
    use crate::freeze::FrozenBatchNorm;
    use crate::network::Head;

    #[test]
    fn the_most_specific_name_wins_whatever_the_order() {
        let network =
            architecture::build("resnet18", 64, Head::Replaced { hidden: 8, dropout: 0.5, classes: 2 }).unwrap();
        let plan = FreezePlan::resolve(&network, &["layer4", "head"], FrozenBatchNorm::Stored).unwrap();
        let groups = [("layer4.1.conv2", 4.0), ("all", 1.0), ("head", 2.0), ("layer4", 3.0)];
        for turn in 0..groups.len() {
            let mut groups = groups;
            groups.rotate_left(turn);
            let rates = group_rates(&network, &plan, groups).unwrap();
            let of = |name: &str| rates[network.tensors().iter().position(|tensor| tensor.name == name).unwrap()];
            assert_eq!(of("layer4.1.conv2.weight"), Some(4.0));
            assert_eq!((of("layer4.1.conv1.weight"), of("fc.0.bias")), (Some(3.0), Some(2.0)));
            assert_eq!(of("layer3.1.conv2.weight"), None, "it is frozen");
        }
        let alone = group_rates(&network, &plan, [("fc.3", 5.0)]).unwrap();
        assert_eq!(alone.iter().flatten().count(), 2);
        let error = group_rates(&network, &plan, [("layer3", 1.0)]).unwrap_err().to_string();
        assert!(
            error.contains("`layer3` concerns nothing that is trained") && error.contains("nearest: layer4"),
            "{error}"
        );
        let error = group_rates(&network, &plan, [("fc", 1.0), ("head", 2.0)]).unwrap_err();
        assert!(matches!(error, GroupError::Twice { .. }), "{error}");
    }
}
