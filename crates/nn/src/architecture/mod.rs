//! The registry of architectures: torchvision's names to networks.

mod resnet;
mod vgg;

use crate::nearest;
use crate::network::{Builder, Head, Network, NetworkError, Op, ValueId};

/// The names that [`build`] knows, torchvision's.
pub fn names() -> impl Iterator<Item = &'static str> {
    vgg::VARIANTS.iter().map(|v| v.name).chain(resnet::VARIANTS.iter().map(|v| v.name))
}

/// Builds a network.
///
/// # Errors
/// For an unknown architecture, a head out of range, or an image too small for the layers.
pub fn build(architecture: &str, image_size: usize, head: Head) -> Result<Network, NetworkError> {
    check(image_size, head)?;
    if let Some(variant) = vgg::VARIANTS.iter().find(|v| v.name == architecture) {
        return vgg::build(variant, image_size, head);
    }
    if let Some(variant) = resnet::VARIANTS.iter().find(|v| v.name == architecture) {
        return resnet::build(variant, image_size, head);
    }
    Err(NetworkError::UnknownArchitecture {
        name: architecture.into(),
        nearest: nearest::names(architecture, names()),
        known: names().collect::<Vec<_>>().join(", "),
    })
}

/// Largest image side, hidden width and number of classes: far beyond use, and small enough that no size overflows.
const LARGEST: usize = 1 << 16;

fn check(image_size: usize, head: Head) -> Result<(), NetworkError> {
    let out_of_range = |setting, found: String, expected| Err(NetworkError::Setting { setting, found, expected });
    let range = "from 1 to 65536";
    if !(1..=LARGEST).contains(&image_size) {
        return out_of_range("the image size", image_size.to_string(), range);
    }
    if !(1..=LARGEST).contains(&head.classes()) {
        return out_of_range("the number of classes", head.classes().to_string(), range);
    }
    if let Head::Replaced { hidden, dropout, .. } = head {
        if !(1..=LARGEST).contains(&hidden) {
            return out_of_range("the head's hidden width", hidden.to_string(), range);
        }
        if !(0.0..1.0).contains(&dropout) {
            return out_of_range("dropout", dropout.to_string(), "a probability of at least 0 and below 1");
        }
    }
    Ok(())
}

/// `Linear, ReLU, Dropout, Linear` under `<module>.0` to `<module>.3`.
fn replaced_head(
    builder: &mut Builder,
    module: &str,
    from: ValueId,
    (hidden, dropout, classes): (usize, f32, usize),
) -> Result<ValueId, NetworkError> {
    let x = builder.add(format!("{module}.0"), Op::Linear { out_features: hidden }, &[from])?;
    let x = builder.add(format!("{module}.1"), Op::Relu, &[x])?;
    let x = builder.add(format!("{module}.2"), Op::Dropout { probability: dropout }, &[x])?;
    builder.add(format!("{module}.3"), Op::Linear { out_features: classes }, &[x])
}

/// Batch norm as both families have it: torch's defaults.
fn batch_norm(builder: &mut Builder, name: String, from: ValueId) -> Result<ValueId, NetworkError> {
    builder.add(name, Op::BatchNorm2d { epsilon: 1e-5, momentum: 0.1 }, &[from])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::TensorKind;

    const HEAD: Head = Head::Replaced { hidden: 380, dropout: 0.5, classes: 2 };

    #[test]
    fn parameter_counts_are_those_of_torchvision() {
        // torchvision's documentation, "num_params" of each weight entry.
        for (name, count) in [
            ("vgg11", 132_863_336),
            ("vgg11_bn", 132_868_840),
            ("vgg13", 133_047_848),
            ("vgg13_bn", 133_053_736),
            ("vgg16", 138_357_544),
            ("vgg16_bn", 138_365_992),
            ("vgg19", 143_667_240),
            ("vgg19_bn", 143_678_248),
            ("resnet18", 11_689_512),
            ("resnet34", 21_797_672),
        ] {
            let network = build(name, 224, Head::Stock { classes: 1000 }).unwrap();
            assert_eq!(network.parameter_count(), count, "{name}");
        }
    }

    #[test]
    fn names_are_those_of_the_conventions() {
        let vgg = build("vgg16", 224, HEAD).unwrap();
        let convolutions: Vec<&str> = vgg
            .tensors()
            .iter()
            .filter(|t| t.shape.len() == 4)
            .map(|t| t.name.strip_prefix("features.").unwrap().strip_suffix(".weight").unwrap())
            .collect();
        assert_eq!(convolutions, ["0", "2", "5", "7", "10", "12", "14", "17", "19", "21", "24", "26", "28"]);
        assert_eq!(vgg.tensors().last().unwrap().name, "classifier.3.bias");

        let resnet = build("resnet18", 224, HEAD).unwrap();
        let has = |name: &str| resnet.tensors().iter().any(|t| t.name == name);
        assert!(has("conv1.weight") && has("layer2.0.downsample.1.running_var") && has("layer4.1.bn2.weight"));
        assert!(has("fc.0.weight") && !has("conv1.bias") && !has("layer1.0.downsample.0.weight"));
        assert_eq!(resnet.tensors().iter().filter(|t| t.kind == TensorKind::Counter).count(), 20);
    }

    #[test]
    fn every_architecture_builds_at_any_tested_size() {
        for name in names() {
            for size in [32, 64, 96, 224, 1000] {
                let network = build(name, size, HEAD).unwrap();
                assert_eq!(network.value(network.output()).shape.channels, 2);
                let features = network.value(network.module_output("avgpool").unwrap()).shape;
                assert_eq!(features.height, if name.starts_with("vgg") { 7 } else { 1 }, "{name} at {size}");
            }
        }
        assert_eq!(build("vgg16", 224, HEAD).unwrap().module_output("features").map(|v| v.index()).unwrap(), 31);
        assert!(build("vgg16", 16, HEAD).unwrap_err().to_string().contains("too small"));
    }

    #[test]
    fn mistakes_are_answered_with_the_nearest_names() {
        assert!(build("resnet81", 224, HEAD).unwrap_err().to_string().contains("resnet18"));
        let network = build("resnet18", 64, HEAD).unwrap();
        assert!(network.module_output("layer4.1.conv9").unwrap_err().to_string().contains("layer4.1.conv"));
        assert_eq!(network.value(network.module_output("layer4").unwrap()).name, "layer4.1");
        let bad = Head::Replaced { hidden: 380, dropout: 1.0, classes: 2 };
        assert!(build("resnet18", 64, bad).unwrap_err().to_string().contains("dropout"));
    }
}
