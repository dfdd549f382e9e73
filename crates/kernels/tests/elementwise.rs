//! ReLU, addition, masks and the changes of layout, against the judge.

#[path = "judge/mod.rs"]
mod judge;
#[path = "judge/machines.rs"]
mod machines;

use judge::*;
use machines::*;
use roentgen_kernels::{Compute, padded};

/// Whole blocks of lanes, several threads' worth, and one block alone.
const LENGTHS: [usize; 3] = [16, 7 * 16, 1003 * 16];

#[test]
fn relu_and_its_gradient() {
    for length in LENGTHS {
        let (x, dy) = (noise(1, length), noise(2, length));
        let forward = on_every_machine(|compute| {
            let mut y = single(&x);
            compute.relu(&mut y);
            y
        });
        for (isa, y) in forward {
            assert_eq!(y, single(&relu(&x)), "{isa:?}");
            for (isa, dx) in on_every_machine(|compute| relu_gradient(compute, &y, &dy)) {
                assert_eq!(dx, single(&relu_backward(&x, &dy)), "{isa:?}");
            }
        }
    }
}

fn relu_gradient(compute: &Compute, y: &[f32], dy: &[f64]) -> Vec<f32> {
    let mut dx = single(dy);
    compute.relu_backward(y, &mut dx);
    dx
}

#[test]
fn relu_keeps_nan_and_its_gradient() {
    let mut x = vec![0.0; 16];
    x[..6].copy_from_slice(&[f64::NAN, -1.0, -0.0, f64::INFINITY, f64::NEG_INFINITY, 3.0]);
    let forward = on_every_machine(|compute| {
        let mut y = single(&x);
        compute.relu(&mut y);
        y
    });
    for (isa, y) in forward {
        assert!(y[0].is_nan(), "{isa:?}");
        assert_eq!(y[1..6], [0.0, 0.0, f32::INFINITY, 0.0, 3.0], "{isa:?}");
        let gradients = on_every_machine(|compute| relu_gradient(compute, &y, &[1.0; 16]));
        assert!(gradients.iter().all(|(_, dx)| dx[..6] == [1.0, 0.0, 0.0, 1.0, 0.0, 1.0]));
        // The gradient is right also where the sign is seen before the ReLU.
        let gradients = on_every_machine(|compute| relu_gradient(compute, &single(&x), &[1.0; 16]));
        assert!(gradients.iter().all(|(_, dx)| dx[..6] == [1.0, 0.0, 0.0, 1.0, 0.0, 1.0]));
    }
}

#[test]
fn addition_with_and_without_relu() {
    for length in LENGTHS {
        let (mut a, b) = (noise(1, length), noise(2, length));
        a[3] = f64::NAN;
        a[4] = f64::NEG_INFINITY;
        for with_relu in [false, true] {
            let results = on_every_machine(|compute| {
                let mut y = unwritten(length);
                compute.add(&single(&a), &single(&b), with_relu, &mut y);
                y
            });
            let sum = add(&a, &b);
            let expected = if with_relu { relu(&sum) } else { sum };
            for (isa, y) in results {
                // One addition: nothing but its own rounding.
                assert_same_values(&y, &single(&expected), &format!("{isa:?}"));
            }
        }
    }
}

#[track_caller]
fn assert_same_values(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        assert!(f == e || (f.is_nan() && e.is_nan()), "{what}: value {i} is {f}, expected {e}");
    }
}

#[test]
fn accumulation_and_masks() {
    for length in LENGTHS {
        let (a, b) = (noise(1, length), noise(2, length));
        let sums = on_every_machine(|compute| {
            let mut sum = single(&a);
            compute.accumulate(&single(&b), &mut sum);
            sum
        });
        let products = on_every_machine(|compute| {
            let mut product = single(&a);
            compute.multiply(&single(&b), &mut product);
            product
        });
        for ((isa, sum), (_, product)) in sums.into_iter().zip(products) {
            assert_eq!(sum, single(&add(&a, &b)), "{isa:?}");
            let expected: Vec<f64> = a.iter().zip(&b).map(|(a, b)| a * b).collect();
            assert_eq!(product, single(&expected), "{isa:?}");
        }
    }
}

#[test]
fn layouts_come_and_go() {
    for channels in [1, 3, 16, 20, 33] {
        for batch in [1, 2, 3] {
            // 13 x 11 positions are more than two tiles of the transposition, and no whole number of them.
            for [height, width] in [[1, 1], [5, 3], [13, 11]] {
                let images = Images::new(batch, channels, height, width);
                let (x, positions) = (noise(1, images.len()), images.positions());
                for (isa, there) in on_every_machine(|compute| {
                    let mut there = unwritten(blocked(images, &x).len());
                    compute.planar_to_blocked(channels, batch, positions, &single(&x), &mut there);
                    there
                }) {
                    assert_eq!(there, blocked(images, &x), "{isa:?}, {images:?}");
                }
                for (isa, back) in on_every_machine(|compute| {
                    let mut back = unwritten(images.len());
                    compute.blocked_to_planar(channels, batch, positions, &blocked(images, &x), &mut back);
                    back
                }) {
                    assert_eq!(back, single(&x), "{isa:?}, {images:?}");
                }
            }
        }
    }
}

/// Rows of features as a linear layer takes them: each padded with zeros to a multiple of 16.
fn rows(batch: usize, x: &[f64]) -> Vec<f32> {
    x.chunks(x.len() / batch).flat_map(padded_channels).collect()
}

#[test]
fn flattening_and_its_gradient() {
    for channels in [1, 3, 16, 20, 33] {
        for batch in [1, 2, 3] {
            for [height, width] in [[1, 1], [5, 3], [7, 7]] {
                let images = Images::new(batch, channels, height, width);
                let (x, positions) = (noise(1, images.len()), images.positions());
                for (isa, flat) in on_every_machine(|compute| {
                    let mut flat = unwritten(batch * padded(channels * positions));
                    compute.flatten(channels, batch, positions, &blocked(images, &x), &mut flat);
                    flat
                }) {
                    assert_eq!(flat, rows(batch, &flatten(&x)), "{isa:?}, {images:?}");
                }
                let before = noise(2, images.len());
                for accumulate in [false, true] {
                    for (isa, dx) in on_every_machine(|compute| {
                        let mut dx =
                            if accumulate { blocked(images, &before) } else { unwritten(blocked(images, &x).len()) };
                        compute.flatten_backward(channels, batch, positions, &rows(batch, &x), &mut dx, accumulate);
                        dx
                    }) {
                        let expected = if accumulate { add(&before, &x) } else { x.clone() };
                        assert_eq!(dx, blocked(images, &expected), "{isa:?}, {images:?}");
                    }
                }
            }
        }
    }
}

#[test]
#[should_panic(expected = "`mask` has 16 elements, its shape has 32")]
fn a_wrong_length_is_refused() {
    Compute::new(1).expect("one thread").multiply(&[0.0; 16], &mut [0.0; 32]);
}
