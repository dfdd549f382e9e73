//! Which architecture the tensors of a file look like, for the message when they do not fit.

use super::StateDict;
use std::collections::BTreeMap;

/// The name of the torchvision architecture with these tensors, as far as their names and shapes tell; the family's
/// name where its depth is none of torchvision's; `None` for a family that is not known.
pub(super) fn looks_like(state: &StateDict) -> Option<String> {
    let rank = |name: &str| state.get(name).map(|tensor| tensor.shape.len());
    if rank("conv1.weight") == Some(4) && rank("layer1.0.conv1.weight") == Some(4) {
        Some(resnet(state))
    } else if rank("features.conv0.weight") == Some(4) {
        Some(densenet(state))
    } else if rank("features.0.weight") == Some(4) && rank("classifier.0.weight").is_some() {
        Some(vgg(state))
    } else {
        None
    }
}

/// How many different numbers follow each stem that starts with `prefix`: `layer1.0.`, `layer1.1.` give `layer1` 2.
fn counts(state: &StateDict, prefix: &str, stem_parts: usize) -> Vec<usize> {
    let mut last_of_stem: BTreeMap<String, std::collections::BTreeSet<String>> = BTreeMap::new();
    for (name, _) in state.tensors.iter().filter(|(name, _)| name.starts_with(prefix)) {
        let parts: Vec<&str> = name.split('.').collect();
        if parts.len() > stem_parts {
            last_of_stem.entry(parts[..stem_parts].join(".")).or_default().insert(parts[stem_parts].to_owned());
        }
    }
    last_of_stem.into_values().map(|numbers| numbers.len()).collect()
}

fn resnet(state: &StateDict) -> String {
    let bottleneck = state.get("layer1.0.conv3.weight").is_some();
    let grouped = state
        .get("layer1.0.conv2.weight")
        .is_some_and(|conv| bottleneck && conv.shape.get(1).is_some_and(|inputs| *inputs < conv.shape[0]));
    match (bottleneck, grouped, counts(state, "layer", 1).as_slice()) {
        (false, _, [2, 2, 2, 2]) => "resnet18".to_owned(),
        (false, _, [3, 4, 6, 3]) => "resnet34".to_owned(),
        (true, false, [3, 4, 6, 3]) => "resnet50".to_owned(),
        (true, false, [3, 4, 23, 3]) => "resnet101".to_owned(),
        (true, false, [3, 8, 36, 3]) => "resnet152".to_owned(),
        (true, true, _) => "a ResNeXt".to_owned(),
        _ => "a ResNet".to_owned(),
    }
}

fn vgg(state: &StateDict) -> String {
    let convolutions = state
        .tensors
        .iter()
        .filter(|(name, tensor)| name.starts_with("features.") && name.ends_with(".weight") && tensor.shape.len() == 4);
    // Three linear layers follow the convolutions, and the name counts them.
    let depth = convolutions.count() + 3;
    let batch_norm =
        state.tensors.iter().any(|(name, _)| name.starts_with("features.") && name.ends_with(".running_mean"));
    match depth {
        11 | 13 | 16 | 19 => format!("vgg{depth}{}", if batch_norm { "_bn" } else { "" }),
        _ => "a VGG".to_owned(),
    }
}

fn densenet(state: &StateDict) -> String {
    let blocks =
        (1..=4).map(|block| counts(state, &format!("features.denseblock{block}."), 2).first().copied().unwrap_or(0));
    match blocks.collect::<Vec<_>>().as_slice() {
        [6, 12, 24, 16] => "densenet121".to_owned(),
        [6, 12, 36, 24] => "densenet161".to_owned(),
        [6, 12, 32, 32] => "densenet169".to_owned(),
        [6, 12, 48, 32] => "densenet201".to_owned(),
        _ => "a DenseNet".to_owned(),
    }
}
