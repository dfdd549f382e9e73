//! Sets of freeze plans to search over.

use crate::network::{Network, NetworkError, Op, TensorKind};
use std::collections::BTreeSet;

/// A freeze plan to try, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Letters, digits, `.` and `-`: it may name a folder.
    pub name: String,
    /// What [`crate::FreezePlan::resolve`] takes.
    pub selectors: Vec<String>,
}

/// The convolutions of a network, in order, that lie in one of some modules; all of them where none is named.
///
/// # Errors
/// Where a name is no module with a convolution; the error offers the nearest names.
pub fn convolutions(network: &Network, among: &[String]) -> Result<Vec<String>, NetworkError> {
    let all: Vec<&String> =
        network.values().iter().filter(|v| matches!(v.op, Op::Conv2d { .. })).map(|v| &v.name).collect();
    let lies_in = |name: &str, module: &str| name == module || name.starts_with(&format!("{module}."));
    for module in among {
        // An unknown name is refused with the nearest ones; a known one without convolutions is no more use.
        network.module_output(module)?;
        if !all.iter().any(|name| lies_in(name, module)) {
            return Err(NetworkError::Setting {
                setting: "a module to search in",
                found: format!("{module}, which has no convolution"),
                expected: "modules such as layer4 or features.10",
            });
        }
    }
    let is_wanted = |name: &str| among.is_empty() || among.iter().any(|module| lies_in(name, module));
    Ok(all.into_iter().filter(|name| is_wanted(name)).cloned().collect())
}

/// The head alone; then, for each convolution from the last to the first, everything from it on.
pub fn suffixes(network: &Network, convolutions: &[String]) -> Vec<Candidate> {
    let leaves = leaves(network);
    let head = Candidate { name: "head".into(), selectors: vec!["head".into()] };
    let from = |convolution: &String| {
        let start = leaves.iter().position(|leaf| leaf == convolution).unwrap_or(0);
        let chosen = leaves[start..].iter().cloned().collect();
        Candidate { name: format!("from-{convolution}"), selectors: shortest(network, &leaves, &chosen) }
    };
    std::iter::once(head).chain(convolutions.iter().rev().map(from)).collect()
}

/// The head alone; then each convolution with the head.
pub fn single_convolutions(convolutions: &[String]) -> Vec<Candidate> {
    let head = Candidate { name: "head".into(), selectors: vec!["head".into()] };
    let only = |name: &String| Candidate { name: format!("only-{name}"), selectors: vec![name.clone(), "head".into()] };
    std::iter::once(head).chain(convolutions.iter().map(only)).collect()
}

/// Random sets of convolutions with the head that train at most `budget` parameters, the head's included: `count` of
/// them, or fewer where `draw` finds no more that differ. `draw(n)` gives a number below n. Empty where not even the head
/// keeps the budget.
pub fn subsets(
    network: &Network,
    convolutions: &[String],
    budget: usize,
    count: usize,
    mut draw: impl FnMut(usize) -> usize,
) -> Vec<Candidate> {
    let parameters = |module: &str| -> usize {
        let inside = format!("{module}.");
        let of_module = |t: &&crate::TensorSpec| t.kind == TensorKind::Parameter && t.name.starts_with(&inside);
        network.tensors().iter().filter(of_module).map(|t| t.elements()).sum()
    };
    let head = parameters(network.head_module());
    if head > budget {
        return Vec::new();
    }
    let mut seen: BTreeSet<Vec<usize>> = BTreeSet::new();
    let mut candidates = Vec::new();
    // Small spaces are soon exhausted, and a draw may repeat what is known.
    for _ in 0..20 * count {
        if candidates.len() == count {
            break;
        }
        let mut order: Vec<usize> = (0..convolutions.len()).collect();
        (1..order.len()).rev().for_each(|last| order.swap(last, draw(last + 1)));
        let wanted = draw(convolutions.len()) + 1;
        let (mut chosen, mut taken) = (Vec::new(), head);
        for index in order {
            let more = parameters(&convolutions[index]);
            if chosen.len() < wanted && taken + more <= budget {
                chosen.push(index);
                taken += more;
            }
        }
        chosen.sort_unstable();
        if !seen.insert(chosen.clone()) {
            continue;
        }
        let mut selectors: Vec<String> = chosen.iter().map(|index| convolutions[*index].clone()).collect();
        selectors.push("head".into());
        candidates.push(Candidate { name: format!("subset-{:02}", candidates.len() + 1), selectors });
    }
    candidates
}

/// Modules that hold parameters themselves, in the order of the network.
fn leaves(network: &Network) -> Vec<String> {
    let mut leaves: Vec<String> = Vec::new();
    for tensor in network.tensors().iter().filter(|t| t.kind == TensorKind::Parameter) {
        let name = &network.value(tensor.value).name;
        if leaves.last() != Some(name) {
            leaves.push(name.clone());
        }
    }
    leaves
}

/// The fewest module names that select exactly the chosen leaves, in the order of the network.
fn shortest(network: &Network, leaves: &[String], chosen: &BTreeSet<String>) -> Vec<String> {
    if chosen.len() == leaves.len() {
        return vec!["all".into()];
    }
    let is_whole = |module: &str| {
        let inside = format!("{module}.");
        leaves.iter().filter(|leaf| *leaf == module || leaf.starts_with(&inside)).all(|leaf| chosen.contains(leaf))
    };
    let mut names: Vec<String> = Vec::new();
    for leaf in leaves.iter().filter(|leaf| chosen.contains(*leaf)) {
        let ends = leaf.match_indices('.').map(|(end, _)| end).chain([leaf.len()]);
        let module = ends.map(|end| &leaf[..end]).find(|module| is_whole(module)).unwrap_or(leaf);
        let name = if module == network.head_module() { "head" } else { module };
        if names.last().is_none_or(|last| last != name) {
            names.push(name.to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FreezePlan, FrozenBatchNorm, Head, architecture};

    fn network(name: &str) -> Network {
        architecture::build(name, 64, Head::Replaced { hidden: 16, dropout: 0.5, classes: 2 }).unwrap()
    }

    fn trained(network: &Network, candidate: &Candidate) -> usize {
        FreezePlan::resolve(network, &candidate.selectors, FrozenBatchNorm::Stored).unwrap().trainable_count(network)
    }

    #[test]
    fn suffixes_grow_from_the_head_to_everything() {
        let resnet = network("resnet18");
        let all = suffixes(&resnet, &convolutions(&resnet, &[]).unwrap());
        assert_eq!(all.len(), 1 + 20);
        assert!(all.windows(2).all(|pair| trained(&resnet, &pair[0]) < trained(&resnet, &pair[1])));
        assert_eq!(all[20].selectors, ["all"]);
        let late = suffixes(&resnet, &convolutions(&resnet, &["layer4".into()]).unwrap());
        let words: Vec<String> = late.iter().map(|candidate| candidate.selectors.join(",")).collect();
        assert_eq!(
            words,
            [
                "head",
                "layer4.1.conv2,layer4.1.bn2,head",
                "layer4.1,head",
                "layer4.0.downsample,layer4.1,head",
                "layer4.0.conv2,layer4.0.bn2,layer4.0.downsample,layer4.1,head",
                "layer4,head"
            ]
        );
        let vgg = network("vgg16");
        assert_eq!(suffixes(&vgg, &convolutions(&vgg, &[]).unwrap())[1].selectors, ["features.28", "head"]);
    }

    #[test]
    fn subsets_keep_the_budget_and_differ() {
        let vgg = network("vgg16");
        let names = convolutions(&vgg, &[]).unwrap();
        let head = trained(&vgg, &suffixes(&vgg, &names)[0]);
        let budget = head + 700_000;
        let mut state = 1u64;
        let mut draw = |n: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % n
        };
        let found = subsets(&vgg, &names, budget, 12, &mut draw);
        assert_eq!(found.len(), 12);
        assert!(found.iter().all(|candidate| trained(&vgg, candidate) <= budget));
        let distinct: BTreeSet<Vec<String>> = found.iter().map(|candidate| candidate.selectors.clone()).collect();
        assert_eq!(distinct.len(), 12);
        assert!(subsets(&vgg, &names, head - 1, 12, &mut draw).is_empty());
        assert_eq!(single_convolutions(&names).len(), 14);
    }

    #[test]
    fn modules_to_search_in_are_checked() {
        let resnet = network("resnet18");
        assert!(convolutions(&resnet, &["layer9".into()]).unwrap_err().to_string().contains("layer"));
        assert!(convolutions(&resnet, &["fc".into()]).unwrap_err().to_string().contains("no convolution"));
        assert_eq!(convolutions(&resnet, &["layer3".into(), "layer4".into()]).unwrap().len(), 10);
    }
}
