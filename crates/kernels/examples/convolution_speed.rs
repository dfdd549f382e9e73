//! How fast the convolution and linear kernels run: the best of several rounds, in GFLOP/s, for the layers of ResNet-18 and
//! VGG-16 at 224 x 224.
//!
//! ```text
//! cargo run --release -p roentgen-kernels --example convolution_speed [THREADS [ROUNDS [BATCH]]]
//! ```
//!
//! `ROENTGEN_ISA=scalar|avx2|avx512` forces the instruction set.

use std::time::Instant;

use roentgen_kernels::{AlignedBuffer, Compute, ConvShape, InputLayout, LinearShape};

/// Name, input and output channels, kernel, stride, and size of the input; padding keeps the size (at stride 1).
const LAYERS: [(&str, usize, usize, usize, usize, usize); 16] = [
    ("resnet18 conv1", 3, 64, 7, 2, 224),
    ("resnet18 layer1", 64, 64, 3, 1, 56),
    ("resnet18 layer2.0.conv1", 64, 128, 3, 2, 56),
    ("resnet18 layer2.0.downsample", 64, 128, 1, 2, 56),
    ("resnet18 layer2", 128, 128, 3, 1, 28),
    ("resnet18 layer3.0.conv1", 128, 256, 3, 2, 28),
    ("resnet18 layer3", 256, 256, 3, 1, 14),
    ("resnet18 layer4.0.conv1", 256, 512, 3, 2, 14),
    ("resnet18 layer4", 512, 512, 3, 1, 7),
    ("vgg16 features.0", 3, 64, 3, 1, 224),
    ("vgg16 features.2", 64, 64, 3, 1, 224),
    ("vgg16 features.7", 128, 128, 3, 1, 112),
    ("vgg16 features.12", 256, 256, 3, 1, 56),
    ("vgg16 features.19", 512, 512, 3, 1, 28),
    ("vgg16 features.26", 512, 512, 3, 1, 14),
    ("pointwise", 256, 256, 1, 1, 28),
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |default: usize| arguments.next().map_or(Ok(default), |text| text.parse());
    let (threads, rounds, batch) = (next(2)?, next(7)?, next(8)?);
    let compute = Compute::new(threads)?;
    println!("{} on {threads} threads, best of {rounds}, GFLOP/s", compute.isa().name());
    println!("{:<32}{:>8}{:>10}{:>10}{:>10}", "layer", "batch", "forward", "data", "weight");
    for (name, in_channels, out_channels, kernel, stride, size) in LAYERS {
        let input = if in_channels == 3 { InputLayout::Planar } else { InputLayout::Blocked };
        let shape = ConvShape {
            in_channels,
            out_channels,
            kernel,
            stride,
            padding: kernel / 2,
            in_height: size,
            in_width: size,
            input,
        };
        // Large maps need no large batch to be typical, and much memory.
        let batch = if size >= 112 { batch.div_ceil(4) } else { batch };
        convolution(&compute, rounds, name, batch, &shape);
    }
    for batch in [1, 8, 32, 128] {
        linear(&compute, rounds, "vgg16 head", batch, &LinearShape { in_features: 25088, out_features: 380 });
    }
    Ok(())
}

fn convolution(compute: &Compute, rounds: usize, name: &str, batch: usize, shape: &ConvShape) {
    let (x, dy) = (filled(batch * shape.input_len()), filled(batch * shape.output_len()));
    let mut y = AlignedBuffer::new(batch * shape.output_len());
    let mut dx = AlignedBuffer::new(batch * shape.data_gradient_len());
    let mut dw = AlignedBuffer::new(shape.packed_gradient_len());
    let (packed, transposed) = (filled(shape.packed_len()), filled(shape.packed_transposed_len()));
    let seconds = [
        best(rounds, || compute.conv_forward(shape, batch, &x, &packed, None, false, &mut y)),
        best(rounds, || compute.conv_data_gradient(shape, batch, &dy, &transposed, &mut dx, false)),
        best(rounds, || compute.conv_weight_gradient(shape, batch, &x, &dy, &mut dw, false)),
    ];
    report(name, batch, shape.operations() * batch, seconds);
}

fn linear(compute: &Compute, rounds: usize, name: &str, batch: usize, shape: &LinearShape) {
    let (x, dy) = (filled(batch * shape.input_len()), filled(batch * shape.output_len()));
    let mut y = AlignedBuffer::new(batch * shape.output_len());
    let mut dx = AlignedBuffer::new(batch * shape.input_len());
    let mut dw = AlignedBuffer::new(shape.packed_len());
    let (packed, transposed) = (filled(shape.packed_len()), filled(shape.packed_len()));
    let seconds = [
        best(rounds, || compute.linear_forward(shape, batch, &x, &packed, None, false, &mut y)),
        best(rounds, || compute.linear_data_gradient(shape, batch, &dy, &transposed, &mut dx, false)),
        best(rounds, || compute.linear_weight_gradient(shape, batch, &x, &dy, &mut dw, false)),
    ];
    report(name, batch, 2 * shape.weights_len() * batch, seconds);
}

/// Ordinary values: a product of zeros, or of denormal numbers, may take another time.
fn filled(len: usize) -> AlignedBuffer {
    let mut buffer = AlignedBuffer::new(len);
    for (i, value) in buffer.iter_mut().enumerate() {
        *value = (i * 7 % 13) as f32 / 13.0 - 0.5;
    }
    buffer
}

fn best(rounds: usize, mut run: impl FnMut()) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..rounds.max(1) {
        let start = Instant::now();
        run();
        best = best.min(start.elapsed().as_secs_f64());
    }
    best
}

fn report(name: &str, batch: usize, operations: usize, seconds: [f64; 3]) {
    let [forward, data, weight] = seconds.map(|seconds| operations as f64 / seconds / 1e9);
    println!("{name:<32}{batch:>8}{forward:>10.0}{data:>10.0}{weight:>10.0}");
}
