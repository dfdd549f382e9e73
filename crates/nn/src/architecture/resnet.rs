//! ResNet (He et al., "Deep Residual Learning for Image Recognition", CVPR 2016) with basic blocks, as
//! torchvision 0.29 builds it.

use super::{batch_norm, replaced_head};
use crate::network::{Builder, Head, Network, NetworkError, Op, ValueId};

pub(super) struct Variant {
    pub(super) name: &'static str,
    /// Blocks in `layer1` to `layer4`.
    blocks: [usize; 4],
}

pub(super) const VARIANTS: [Variant; 2] =
    [Variant { name: "resnet18", blocks: [2, 2, 2, 2] }, Variant { name: "resnet34", blocks: [3, 4, 6, 3] }];

pub(super) fn build(variant: &Variant, image_size: usize, head: Head) -> Result<Network, NetworkError> {
    let mut b = Builder::new(variant.name, image_size, "fc", head);
    let image = ValueId(0);
    let x = b.add("conv1", convolution(64, 7, 2), &[image])?;
    let x = batch_norm(&mut b, "bn1".into(), x)?;
    let x = b.add("relu", Op::Relu, &[x])?;
    let mut x = b.add("maxpool", Op::MaxPool2d { kernel: 3, stride: 2, padding: 1 }, &[x])?;
    for (layer, (blocks, channels)) in variant.blocks.into_iter().zip([64, 128, 256, 512]).enumerate() {
        for block in 0..blocks {
            let stride = if layer > 0 && block == 0 { 2 } else { 1 };
            x = basic_block(&mut b, &format!("layer{}.{block}", layer + 1), x, channels, stride)?;
        }
    }
    let x = b.add("avgpool", Op::AdaptiveAvgPool2d { height: 1, width: 1 }, &[x])?;
    let x = b.add("flatten", Op::Flatten, &[x])?;
    match head {
        Head::Stock { classes } => b.add("fc", Op::Linear { out_features: classes }, &[x])?,
        Head::Replaced { hidden, dropout, classes } => replaced_head(&mut b, "fc", x, (hidden, dropout, classes))?,
    };
    Ok(b.finish())
}

fn convolution(out_channels: usize, kernel: usize, stride: usize) -> Op {
    Op::Conv2d { out_channels, kernel, stride, padding: kernel / 2, bias: false }
}

/// Two 3x3 convolutions beside the identity, or beside a 1x1 convolution where the shape changes. torchvision's `relu`
/// module is used twice; here the block's output has the block's name.
fn basic_block(
    b: &mut Builder,
    name: &str,
    from: ValueId,
    channels: usize,
    stride: usize,
) -> Result<ValueId, NetworkError> {
    let x = b.add(format!("{name}.conv1"), convolution(channels, 3, stride), &[from])?;
    let x = batch_norm(b, format!("{name}.bn1"), x)?;
    let x = b.add(format!("{name}.relu"), Op::Relu, &[x])?;
    let x = b.add(format!("{name}.conv2"), convolution(channels, 3, 1), &[x])?;
    let x = batch_norm(b, format!("{name}.bn2"), x)?;
    let identity = if stride != 1 || b.shape(from).channels != channels {
        let identity = b.add(format!("{name}.downsample.0"), convolution(channels, 1, stride), &[from])?;
        batch_norm(b, format!("{name}.downsample.1"), identity)?
    } else {
        from
    };
    let x = b.add(format!("{name}.add"), Op::Add, &[x, identity])?;
    b.add(name, Op::Relu, &[x])
}
