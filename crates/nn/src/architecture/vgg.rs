//! VGG (Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015), with
//! and without batch norm, as torchvision 0.29 builds it.

use super::{batch_norm, replaced_head};
use crate::network::{Builder, Head, Network, NetworkError, Op, ValueId};

pub(super) struct Variant {
    pub(super) name: &'static str,
    /// Convolutions before each of the five poolings, whose widths are 64, 128, 256, 512 and 512.
    convolutions: [usize; 5],
    batch_norm: bool,
}

const fn variant(name: &'static str, convolutions: [usize; 5], batch_norm: bool) -> Variant {
    Variant { name, convolutions, batch_norm }
}

pub(super) const VARIANTS: [Variant; 8] = [
    variant("vgg11", [1, 1, 2, 2, 2], false),
    variant("vgg13", [2, 2, 2, 2, 2], false),
    variant("vgg16", [2, 2, 3, 3, 3], false),
    variant("vgg19", [2, 2, 4, 4, 4], false),
    variant("vgg11_bn", [1, 1, 2, 2, 2], true),
    variant("vgg13_bn", [2, 2, 2, 2, 2], true),
    variant("vgg16_bn", [2, 2, 3, 3, 3], true),
    variant("vgg19_bn", [2, 2, 4, 4, 4], true),
];

pub(super) fn build(variant: &Variant, image_size: usize, head: Head) -> Result<Network, NetworkError> {
    let mut b = Builder::new(variant.name, image_size, "classifier", head);
    let mut x = ValueId(0);
    let mut index = 0;
    let mut name = || {
        index += 1;
        format!("features.{}", index - 1)
    };
    for (count, out_channels) in variant.convolutions.into_iter().zip([64, 128, 256, 512, 512]) {
        for _ in 0..count {
            x = b.add(name(), Op::Conv2d { out_channels, kernel: 3, stride: 1, padding: 1, bias: true }, &[x])?;
            if variant.batch_norm {
                x = batch_norm(&mut b, name(), x)?;
            }
            x = b.add(name(), Op::Relu, &[x])?;
        }
        x = b.add(name(), Op::MaxPool2d { kernel: 2, stride: 2, padding: 0 }, &[x])?;
    }
    let x = b.add("avgpool", Op::AdaptiveAvgPool2d { height: 7, width: 7 }, &[x])?;
    let x = b.add("flatten", Op::Flatten, &[x])?;
    match head {
        Head::Stock { classes } => stock_head(&mut b, x, classes)?,
        Head::Replaced { hidden, dropout, classes } => {
            replaced_head(&mut b, "classifier", x, (hidden, dropout, classes))?
        }
    };
    Ok(b.finish())
}

fn stock_head(b: &mut Builder, from: ValueId, classes: usize) -> Result<ValueId, NetworkError> {
    let mut x = from;
    for layer in [0, 3] {
        x = b.add(format!("classifier.{layer}"), Op::Linear { out_features: 4096 }, &[x])?;
        x = b.add(format!("classifier.{}", layer + 1), Op::Relu, &[x])?;
        x = b.add(format!("classifier.{}", layer + 2), Op::Dropout { probability: 0.5 }, &[x])?;
    }
    b.add("classifier.6", Op::Linear { out_features: classes }, &[x])
}
