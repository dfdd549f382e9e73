//! Max pool and adaptive average pool against the judge.

#[path = "judge/mod.rs"]
mod judge;
#[path = "judge/machines.rs"]
mod machines;

use judge::*;
use machines::*;
use roentgen_kernels::{AveragePoolShape, Compute, PoolShape};

const CHANNELS: [usize; 5] = [1, 3, 16, 20, 33];

fn pool_shape(images: Images, window: Window) -> PoolShape {
    PoolShape {
        channels: images.channels,
        kernel: window.kernel[0],
        stride: window.stride[0],
        padding: window.padding[0],
        in_height: images.height,
        in_width: images.width,
    }
}

fn max_pool_forward(compute: &Compute, images: Images, window: Window, x: &[f32]) -> Vec<f32> {
    let shape = pool_shape(images, window);
    let mut y = unwritten(x.len() / images.positions() * shape.out_height() * shape.out_width());
    compute.max_pool_forward(&shape, images.batch, x, &mut y);
    y
}

/// The windows of VGG and ResNet, one that overlaps most, and one that leaves gaps.
fn windows() -> [Window; 4] {
    [Window::square(2, 2, 0), Window::square(3, 2, 1), Window::square(3, 1, 1), Window::square(2, 3, 1)]
}

/// Checks both directions, with and without something in `dx` before.
fn check_max_pool(images: Images, window: Window, x: &[f64]) {
    let out = images.with(images.channels, window.out(images));
    let (dy, before) = (noise(7, out.len()), noise(8, images.len()));
    let blocked_x = blocked(images, x);
    for (isa, y) in on_every_machine(|compute| max_pool_forward(compute, images, window, &blocked_x)) {
        let what = format!("{isa:?}, {images:?}, {window:?}");
        assert_close(&what, &planar(out, &y), &max_pool(images, window, x), 0.0);
        for accumulate in [false, true] {
            let gradients = on_every_machine(|compute| {
                let mut dx = if accumulate { blocked(images, &before) } else { unwritten(blocked_x.len()) };
                let (shape, dy) = (pool_shape(images, window), blocked(out, &dy));
                compute.max_pool_backward(&shape, images.batch, &blocked_x, &y, &dy, &mut dx, accumulate, false);
                dx
            });
            let mut expected = max_pool_backward(images, window, x, &dy);
            if accumulate {
                expected = add(&expected, &before);
            }
            for (_, dx) in gradients {
                assert_close(&what, &planar(images, &dx), &expected, 1e-6);
            }
        }
    }
}

#[test]
fn max_pool_meets_the_judge() {
    for channels in CHANNELS {
        for (batch, [height, width]) in [(1, [7, 5]), (2, [5, 8]), (3, [3, 3])] {
            for window in windows() {
                let images = Images::new(batch, channels, height, width);
                check_max_pool(images, window, &noise(1, images.len()));
            }
        }
    }
}

#[test]
fn the_first_of_equal_maxima_takes_the_gradient() {
    let images = Images::new(2, 20, 7, 6);
    for window in windows() {
        let x: Vec<f64> = noise(3, images.len()).iter().map(|v| (v * 1.5).round()).collect();
        check_max_pool(images, window, &x);
        check_max_pool(images, window, &vec![0.0; images.len()]);
        check_max_pool(images, window, &vec![f64::NEG_INFINITY; images.len()]);
    }
}

#[test]
fn the_gradient_passes_a_relu_as_in_a_pass_of_its_own() {
    let images = Images::new(2, 20, 7, 6);
    for window in windows() {
        let x: Vec<f64> = noise(3, images.len()).iter().map(|v| v.max(0.0)).collect();
        let (x, shape) = (blocked(images, &x), pool_shape(images, window));
        let out = images.with(images.channels, window.out(images));
        let dy = blocked(out, &noise(4, out.len()));
        on_every_machine(|compute| {
            let y = max_pool_forward(compute, images, window, &x);
            let mut expected = unwritten(x.len());
            compute.max_pool_backward(&shape, images.batch, &x, &y, &dy, &mut expected, false, false);
            compute.relu_backward(&x, &mut expected);
            let mut found = unwritten(x.len());
            compute.max_pool_backward(&shape, images.batch, &x, &y, &dy, &mut found, false, true);
            machines::assert_same_bits("through a ReLU", &found, &expected);
            found
        });
    }
}

#[test]
fn nan_wins_every_window_that_it_is_in() {
    let images = Images::new(2, 20, 7, 6);
    let mut x = noise(3, images.len());
    for i in (0..x.len()).step_by(17) {
        x[i] = f64::NAN;
    }
    for window in windows() {
        let out = images.with(images.channels, window.out(images));
        let expected = max_pool(images, window, &x);
        assert!(expected.iter().any(|v| v.is_nan()) && expected.iter().any(|v| !v.is_nan()));
        for (isa, y) in on_every_machine(|compute| max_pool_forward(compute, images, window, &blocked(images, &x))) {
            assert_close(&format!("{isa:?}, {window:?}"), &planar(out, &y), &expected, 0.0);
        }
    }
}

/// Input sizes and output sizes: ResNet's, VGG's at 224 and below it, and what divides nothing.
const AVERAGES: [([usize; 2], [usize; 2]); 6] =
    [([7, 7], [1, 1]), ([7, 7], [7, 7]), ([2, 3], [7, 7]), ([11, 9], [4, 5]), ([1, 1], [7, 7]), ([14, 13], [7, 1])];

fn average_shape(images: Images, [out_height, out_width]: [usize; 2]) -> AveragePoolShape {
    AveragePoolShape {
        channels: images.channels,
        in_height: images.height,
        in_width: images.width,
        out_height,
        out_width,
    }
}

#[test]
fn average_pool_meets_the_judge() {
    for channels in CHANNELS {
        for batch in [1, 2, 3] {
            for ([height, width], out_size) in AVERAGES {
                let images = Images::new(batch, channels, height, width);
                let (out, shape) = (images.with(channels, out_size), average_shape(images, out_size));
                let (x, dy, before) = (noise(1, images.len()), noise(2, out.len()), noise(3, images.len()));
                for (isa, y) in on_every_machine(|compute| {
                    let mut y = unwritten(blocked(out, &dy).len());
                    compute.average_pool_forward(&shape, batch, &blocked(images, &x), &mut y);
                    y
                }) {
                    let expected = adaptive_average_pool(images, out_size, &x);
                    assert_close(&format!("{isa:?}, {shape:?}"), &planar(out, &y), &expected, 1e-6);
                }
                for accumulate in [false, true] {
                    let mut expected = adaptive_average_pool_backward(images, out_size, &dy);
                    if accumulate {
                        expected = add(&expected, &before);
                    }
                    for (isa, dx) in on_every_machine(|compute| {
                        let mut dx =
                            if accumulate { blocked(images, &before) } else { unwritten(blocked(images, &x).len()) };
                        compute.average_pool_backward(&shape, batch, &blocked(out, &dy), &mut dx, accumulate);
                        dx
                    }) {
                        assert_close(&format!("{isa:?}, {shape:?}"), &planar(images, &dx), &expected, 1e-6);
                    }
                }
            }
        }
    }
}

#[test]
fn an_image_has_the_same_bits_at_any_place_in_a_batch() {
    let (images, alone) = (Images::new(3, 20, 7, 5), Images::new(1, 20, 7, 5));
    let (window, x) = (Window::square(3, 2, 1), noise(1, images.len()));
    let average = average_shape(images, [3, 2]);
    let run = |compute: &Compute, images: Images, x: &[f64]| {
        let x = blocked(images, x);
        let y = max_pool_forward(compute, images, window, &x);
        let mut averaged = unwritten(x.len() / images.positions() * 6);
        compute.average_pool_forward(&average, images.batch, &x, &mut averaged);
        let (mut from_max, mut from_average) = (unwritten(x.len()), unwritten(x.len()));
        compute.max_pool_backward(&pool_shape(images, window), images.batch, &x, &y, &y, &mut from_max, false, false);
        compute.average_pool_backward(&average, images.batch, &averaged, &mut from_average, false);
        // Image by image, so that a batch's result is made of its images' results.
        let image = |values: &[f32], n: usize| values.chunks(values.len() / images.batch).nth(n).unwrap().to_vec();
        (0..images.batch)
            .flat_map(|n| [&y, &averaged, &from_max, &from_average].map(|values| image(values, n)).concat())
            .collect::<Vec<f32>>()
    };
    let together = on_every_machine(|compute| run(compute, images, &x));
    for (n, x) in x.chunks(alone.len()).enumerate() {
        let single = on_every_machine(|compute| run(compute, alone, x));
        for ((isa, together), (_, single)) in together.iter().zip(single) {
            assert_same_bits(&format!("{isa:?}, image {n}"), &single, &together[n * single.len()..][..single.len()]);
        }
    }
}

#[test]
#[should_panic(expected = "exceeds the padded input")]
fn a_window_larger_than_the_image_is_refused() {
    PoolShape { channels: 1, kernel: 3, stride: 2, padding: 0, in_height: 2, in_width: 2 }.out_height();
}
