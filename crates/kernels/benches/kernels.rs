//! How fast each kernel runs on the layers of ResNet-18 and VGG-16 at 224 x 224, on all cores.
//!
//! ```text
//! cargo bench -p roentgen-kernels                                   # everything: ten minutes
//! cargo bench -p roentgen-kernels -- 'winograd forward'             # one kernel
//! cargo bench -p roentgen-kernels -- 'resnet18 layer1'              # one layer
//! ```
//!
//! A throughput in "Gelem/s" is GFLOP/s for convolutions and linear layers, whose elements are floating-point
//! operations of the direct algorithm, and 10^9 bytes read and written a second for the others. The environment
//! variable `ROENTGEN_ISA` forces the instruction set.

use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use roentgen_kernels::{
    AlignedBuffer, Compute, ConvFinish, ConvShape, InputLayout, LANES, LinearShape, PoolShape, WinogradWeights, blocks,
    padded,
};

/// Images in a batch; large maps need fewer to be typical, and much memory.
fn batch_of(size: usize) -> usize {
    if size >= 112 { 2 } else { 8 }
}

/// Name, input and output channels, kernel, stride, and side of the input; padding keeps the side at stride 1.
const CONVOLUTIONS: [(&str, usize, usize, usize, usize, usize); 20] = [
    ("resnet18 conv1", 3, 64, 7, 2, 224),
    ("resnet18 layer1", 64, 64, 3, 1, 56),
    ("resnet18 layer2.0.conv1", 64, 128, 3, 2, 56),
    ("resnet18 layer2.0.downsample", 64, 128, 1, 2, 56),
    ("resnet18 layer2", 128, 128, 3, 1, 28),
    ("resnet18 layer3.0.conv1", 128, 256, 3, 2, 28),
    ("resnet18 layer3.0.downsample", 128, 256, 1, 2, 28),
    ("resnet18 layer3", 256, 256, 3, 1, 14),
    ("resnet18 layer4.0.conv1", 256, 512, 3, 2, 14),
    ("resnet18 layer4.0.downsample", 256, 512, 1, 2, 14),
    ("resnet18 layer4", 512, 512, 3, 1, 7),
    ("vgg16 features.0", 3, 64, 3, 1, 224),
    ("vgg16 features.2", 64, 64, 3, 1, 224),
    ("vgg16 features.5", 64, 128, 3, 1, 112),
    ("vgg16 features.7", 128, 128, 3, 1, 112),
    ("vgg16 features.10", 128, 256, 3, 1, 56),
    ("vgg16 features.12", 256, 256, 3, 1, 56),
    ("vgg16 features.17", 256, 512, 3, 1, 28),
    ("vgg16 features.19", 512, 512, 3, 1, 28),
    ("vgg16 features.24", 512, 512, 3, 1, 14),
];

/// Name, channels, kernel, stride, padding, and side of the input.
const POOLINGS: [(&str, usize, usize, usize, usize, usize); 3] = [
    ("resnet18 maxpool", 64, 3, 2, 1, 112),
    ("vgg16 features.4", 64, 2, 2, 0, 224),
    ("vgg16 features.30", 512, 2, 2, 0, 14),
];

/// Name, channels and side.
const BATCH_NORMS: [(&str, usize, usize); 3] =
    [("resnet18 bn1", 64, 112), ("resnet18 layer1", 64, 56), ("resnet18 layer4", 512, 7)];

/// Name, features in and out, images.
const LINEAR_LAYERS: [(&str, usize, usize, usize); 4] = [
    ("resnet18 fc.0", 512, 380, 16),
    ("vgg16 classifier.0", 25088, 380, 1),
    ("vgg16 classifier.0", 25088, 380, 8),
    ("vgg16 classifier.0", 25088, 380, 128),
];

fn compute() -> Compute {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Compute::new(threads).expect("ROENTGEN_ISA, where it is set, names a set that this processor has")
}

/// Ordinary values: a product of zeros, or of denormal numbers, may take another time.
fn filled(len: usize) -> AlignedBuffer {
    let mut buffer = AlignedBuffer::new(len);
    for (i, value) in buffer.iter_mut().enumerate() {
        *value = (i * 7 % 13) as f32 / 13.0 - 0.5;
    }
    buffer
}

fn group<'a>(criterion: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2));
    group
}

/// The convolutions, each with its batch.
fn convolution_shapes() -> impl Iterator<Item = (&'static str, usize, ConvShape)> {
    CONVOLUTIONS.into_iter().map(|(name, in_channels, out_channels, kernel, stride, size)| {
        let input = if in_channels == 3 { InputLayout::Planar } else { InputLayout::Blocked };
        let padding = kernel / 2;
        let (in_height, in_width) = (size, size);
        let shape = ConvShape { in_channels, out_channels, kernel, stride, padding, in_height, in_width, input };
        (name, batch_of(size), shape)
    })
}

fn operations(shape: &ConvShape, batch: usize) -> Throughput {
    Throughput::Elements((shape.operations() * batch) as u64)
}

fn direct_convolution(criterion: &mut Criterion) {
    let compute = compute();
    let mut forward = group(criterion, "direct forward");
    for (name, batch, shape) in convolution_shapes() {
        let (x, packed) = (filled(batch * shape.input_len()), filled(shape.packed_len()));
        let mut y = AlignedBuffer::new(batch * shape.output_len());
        forward.throughput(operations(&shape, batch)).bench_function(name, |bencher| {
            bencher.iter(|| compute.conv_forward(&shape, batch, &x, &packed, &ConvFinish::default(), &mut y));
        });
    }
    forward.finish();
    let mut data_gradient = group(criterion, "direct data gradient");
    // Nobody asks for the gradient of an image.
    for (name, batch, shape) in convolution_shapes().filter(|(_, _, shape)| shape.input == InputLayout::Blocked) {
        let (dy, packed) = (filled(batch * shape.output_len()), filled(shape.packed_transposed_len()));
        let mut dx = AlignedBuffer::new(batch * shape.data_gradient_len());
        data_gradient.throughput(operations(&shape, batch)).bench_function(name, |bencher| {
            bencher.iter(|| compute.conv_data_gradient(&shape, batch, &dy, &packed, None, &mut dx, false));
        });
    }
    data_gradient.finish();
    let mut weight_gradient = group(criterion, "direct weight gradient");
    for (name, batch, shape) in convolution_shapes() {
        let (x, dy) = (filled(batch * shape.input_len()), filled(batch * shape.output_len()));
        let mut dw = AlignedBuffer::new(shape.packed_gradient_len());
        weight_gradient.throughput(operations(&shape, batch)).bench_function(name, |bencher| {
            bencher.iter(|| compute.conv_weight_gradient(&shape, batch, &x, &dy, &mut dw, false));
        });
    }
    weight_gradient.finish();
}

/// Weights that were transformed before, and weights that are transformed on the way.
fn weight_forms<'a>(packed: &'a [f32], plain: &'a [f32]) -> [(&'static str, WinogradWeights<'a>); 2] {
    [("packed", WinogradWeights::Packed(packed)), ("plain", WinogradWeights::Plain(plain))]
}

fn winograd_convolution(criterion: &mut Criterion) {
    let compute = compute();
    let shapes = || convolution_shapes().filter(|(_, _, shape)| shape.suits_winograd());
    let mut forward = group(criterion, "winograd forward");
    for (name, batch, shape) in shapes() {
        let (packed, plain) = (filled(shape.winograd_packed_len()), filled(shape.weights_len()));
        let x = filled(batch * shape.input_len());
        let mut y = AlignedBuffer::new(batch * shape.output_len());
        forward.throughput(operations(&shape, batch));
        for (form, weights) in weight_forms(&packed, &plain) {
            forward.bench_function(format!("{name}, {form} weights"), |bencher| {
                bencher.iter(|| compute.winograd_forward(&shape, batch, &x, weights, &ConvFinish::default(), &mut y));
            });
        }
    }
    forward.finish();
    let mut data_gradient = group(criterion, "winograd data gradient");
    for (name, batch, shape) in shapes() {
        let (packed, plain) = (filled(shape.winograd_packed_len()), filled(shape.weights_len()));
        let dy = filled(batch * shape.output_len());
        let mut dx = AlignedBuffer::new(batch * shape.data_gradient_len());
        data_gradient.throughput(operations(&shape, batch));
        for (form, weights) in weight_forms(&packed, &plain) {
            data_gradient.bench_function(format!("{name}, {form} weights"), |bencher| {
                bencher.iter(|| compute.winograd_data_gradient(&shape, batch, &dy, weights, None, &mut dx, false));
            });
        }
    }
    data_gradient.finish();
    let mut weight_gradient = group(criterion, "winograd weight gradient");
    for (name, batch, shape) in shapes() {
        let (x, dy) = (filled(batch * shape.input_len()), filled(batch * shape.output_len()));
        let mut dw = vec![0.0; shape.weights_len()];
        weight_gradient.throughput(operations(&shape, batch)).bench_function(name, |bencher| {
            bencher.iter(|| compute.winograd_weight_gradient(&shape, batch, &x, &dy, None, &mut dw));
        });
    }
    weight_gradient.finish();
}

/// Buffers of a number of floats, each read or written once.
fn traffic(floats: usize) -> Throughput {
    Throughput::Elements((floats * size_of::<f32>()) as u64)
}

fn max_pooling(criterion: &mut Criterion) {
    let compute = compute();
    let mut group = group(criterion, "max pool");
    for (name, channels, kernel, stride, padding, size) in POOLINGS {
        let (in_height, in_width) = (size, size);
        let shape = PoolShape { channels, kernel, stride, padding, in_height, in_width };
        let batch = batch_of(size);
        let in_len = batch * blocks(channels) * size * size * LANES;
        let out_len = batch * blocks(channels) * shape.out_height() * shape.out_width() * LANES;
        let (x, dy) = (filled(in_len), filled(out_len));
        let (mut y, mut dx) = (AlignedBuffer::new(out_len), AlignedBuffer::new(in_len));
        group.throughput(traffic(in_len + out_len));
        group.bench_function(format!("forward/{name}"), |bencher| {
            bencher.iter(|| compute.max_pool_forward(&shape, batch, &x, &mut y));
        });
        group.throughput(traffic(2 * in_len + 2 * out_len));
        group.bench_function(format!("backward/{name}"), |bencher| {
            bencher.iter(|| compute.max_pool_backward(&shape, batch, &x, &y, &dy, &mut dx, false, false));
        });
    }
    group.finish();
}

fn batch_norm(criterion: &mut Criterion) {
    let compute = compute();
    let mut group = group(criterion, "batch norm");
    for (name, channels, size) in BATCH_NORMS {
        let (batch, positions) = (batch_of(size), size * size);
        let len = batch * padded(channels) * positions;
        let (x, residual, mut y) = (filled(len), filled(len), AlignedBuffer::new(len));
        let (mut mean, mut variance) = (vec![0.0; padded(channels)], vec![0.0; padded(channels)]);
        let (scale, shift) = (vec![1.5; padded(channels)], vec![0.25; padded(channels)]);
        let (mut d_scale, mut d_shift) = (vec![0.0; padded(channels)], vec![0.0; padded(channels)]);
        group.throughput(traffic(len));
        group.bench_function(format!("statistics/{name}"), |bencher| {
            bencher.iter(|| compute.batch_norm_statistics(channels, batch, positions, &x, &mut mean, &mut variance));
        });
        group.throughput(traffic(3 * len));
        group.bench_function(format!("apply with residual and relu/{name}"), |bencher| {
            let residual = Some(&residual[..]);
            bencher.iter(|| {
                compute.batch_norm_apply(channels, batch, positions, &x, &mean, &scale, &shift, residual, true, &mut y);
            });
        });
        group.throughput(traffic(2 * len));
        group.bench_function(format!("reduce/{name}"), |bencher| {
            bencher.iter(|| {
                compute.batch_norm_reduce(
                    channels,
                    batch,
                    positions,
                    &x,
                    &residual,
                    &mean,
                    &scale,
                    &mut d_scale,
                    &mut d_shift,
                    false,
                );
            });
        });
        // In place: what it makes stays bounded only where its factors are small.
        let small = vec![1e-3; padded(channels)];
        group.throughput(traffic(3 * len));
        group.bench_function(format!("data gradient/{name}"), |bencher| {
            bencher.iter_batched_ref(
                || filled(len),
                |dy| {
                    compute.batch_norm_data_gradient_training(
                        channels, batch, positions, &x, &mean, &scale, &shift, &small, &small, dy,
                    );
                },
                criterion::BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

fn linear(criterion: &mut Criterion) {
    let compute = compute();
    let mut group = group(criterion, "linear");
    for (name, in_features, out_features, batch) in LINEAR_LAYERS {
        let shape = LinearShape { in_features, out_features };
        let (x, dy) = (filled(batch * shape.input_len()), filled(batch * shape.output_len()));
        let (mut y, mut dx) = (AlignedBuffer::new(dy.len()), AlignedBuffer::new(x.len()));
        let (packed, mut dw) = (filled(shape.packed_len()), AlignedBuffer::new(shape.packed_len()));
        group.throughput(Throughput::Elements((2 * shape.weights_len() * batch) as u64));
        group.bench_function(format!("forward/{name}, {batch} images"), |bencher| {
            bencher.iter(|| compute.linear_forward(&shape, batch, &x, &packed, None, false, &mut y));
        });
        group.bench_function(format!("data gradient/{name}, {batch} images"), |bencher| {
            bencher.iter(|| compute.linear_data_gradient(&shape, batch, &dy, &packed, &mut dx, false));
        });
        group.bench_function(format!("weight gradient/{name}, {batch} images"), |bencher| {
            bencher.iter(|| compute.linear_weight_gradient(&shape, batch, &x, &dy, &mut dw, false));
        });
    }
    group.finish();
}

criterion_group!(kernels, direct_convolution, winograd_convolution, max_pooling, batch_norm, linear);
criterion_main!(kernels);
