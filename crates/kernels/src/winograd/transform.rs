//! The transforms of one tile: what is written B, G and A in the literature, for the points 0, p, -p, q, -q and infinity.
//!
//! With z = x^2, the rows of B for 0 and infinity are the coefficients of (z - p^2)(z - q^2). Those for p and -p come from
//! z - q^2, split into even and odd powers, whose sum and difference serve the point and its opposite; likewise for q. The
//! rows of A are the powers of the points; the rows of G are the powers divided by the product of the distances to all
//! other points. Everything is straight-line code on single values, so that all of it stays in registers.

use super::{EXTENT, TILE};
use crate::LANES;
use crate::vector::Register;

/// The interpolation points: 0, +-P, +-Q, infinity.
const P: f32 = 0.625;
const Q: f32 = 1.5;
const P2: f32 = P * P;
const Q2: f32 = Q * Q;

/// What the rows of G are divided by: for 0, for +-P and for +-Q. In f64, and rounded once where they are used.
const SCALE_ZERO: f64 = 1.0 / (0.390625 * 2.25);
const SCALE_P: f64 = 1.0 / (2.0 * 0.390625 * (0.390625 - 2.25));
const SCALE_Q: f64 = 1.0 / (2.0 * 2.25 * (2.25 - 0.390625));

/// # Safety
/// The processor has the instruction set.
#[inline(always)]
unsafe fn splat<R: Register>(value: f32) -> R {
    // SAFETY: the caller vouches for the instruction set.
    unsafe { R::splat(value) }
}

/// Cuts six pairs into the six first and the six second values.
#[inline(always)]
fn unzip<R: Copy>(pairs: [(R, R); 6]) -> ([R; 6], [R; 6]) {
    let [a, b, c, d, e, f] = pairs;
    ([a.0, b.0, c.0, d.0, e.0, f.0], [a.1, b.1, c.1, d.1, e.1, f.1])
}

// --- B: six inputs to six points. ---

/// The points 0 and infinity.
///
/// # Safety
/// The processor has the instruction set.
#[inline(always)]
unsafe fn input_ends<R: Register>(d: [R; 6]) -> (R, R) {
    // SAFETY: the caller vouches for the instruction set.
    let (product, sum): (R, R) = unsafe { (splat(P2 * Q2), splat(-(P2 + Q2))) };
    (d[0].mul_add(product, d[2].mul_add(sum, d[4])), d[1].mul_add(product, d[3].mul_add(sum, d[5])))
}

/// The points `point` and `-point`; `other` is the square of the other point.
///
/// # Safety
/// The processor has the instruction set.
#[inline(always)]
unsafe fn input_pair<R: Register>(d: [R; 6], point: f32, other: f32) -> (R, R) {
    // SAFETY: the caller vouches for the instruction set.
    let (plus, minus, other): (R, R, R) = unsafe { (splat(point), splat(-point), splat(-other)) };
    let (even, odd) = (d[2].mul_add(other, d[4]), d[1].mul_add(other, d[3]));
    (odd.mul_add(plus, even), odd.mul_add(minus, even))
}

/// Six values of one column of a tile.
///
/// # Safety
/// The processor has the instruction set; the column can be read.
#[inline(always)]
unsafe fn column_of_six<R: Register>(source: *const f32, stride: usize) -> [R; 6] {
    // SAFETY: the caller vouches for the memory and the instruction set.
    unsafe {
        [
            R::load(source),
            R::load(source.add(stride)),
            R::load(source.add(2 * stride)),
            R::load(source.add(3 * stride)),
            R::load(source.add(4 * stride)),
            R::load(source.add(5 * stride)),
        ]
    }
}

/// Transforms one row and writes its six points, `stride` apart.
///
/// # Safety
/// The processor has the instruction set; the points can be written.
#[inline(always)]
unsafe fn store_input_row<R: Register>(row: [R; 6], target: *mut f32, stride: usize) {
    // SAFETY: the caller vouches for the memory and the instruction set.
    unsafe {
        let (first, last) = input_ends(row);
        first.store(target);
        last.store(target.add(5 * stride));
        let (plus, minus) = input_pair(row, P, Q2);
        plus.store(target.add(stride));
        minus.store(target.add(2 * stride));
        let (plus, minus) = input_pair(row, Q, P2);
        plus.store(target.add(3 * stride));
        minus.store(target.add(4 * stride));
    }
}

/// The 36 points of 6 x 6 inputs, for 16 channels. Rows of the source lie `row_stride` apart, columns 16; points of the
/// target lie `stride` apart.
///
/// # Safety
/// The processor has the instruction set; all that can be read and written.
#[inline(always)]
pub(super) unsafe fn input<R: Register>(source: *const f32, row_stride: usize, target: *mut f32, stride: usize) {
    // SAFETY: the caller vouches for the memory and the instruction set.
    unsafe {
        for part in 0..LANES / R::WIDTH {
            let (source, target) = (source.add(part * R::WIDTH), target.add(part * R::WIDTH));
            let row = EXTENT * stride;
            let (first, last) = unzip([
                input_ends::<R>(column_of_six(source, row_stride)),
                input_ends::<R>(column_of_six(source.add(LANES), row_stride)),
                input_ends::<R>(column_of_six(source.add(2 * LANES), row_stride)),
                input_ends::<R>(column_of_six(source.add(3 * LANES), row_stride)),
                input_ends::<R>(column_of_six(source.add(4 * LANES), row_stride)),
                input_ends::<R>(column_of_six(source.add(5 * LANES), row_stride)),
            ]);
            store_input_row(first, target, stride);
            store_input_row(last, target.add(5 * row), stride);
            let (plus, minus) = input_rows::<R>(source, row_stride, P, Q2);
            store_input_row(plus, target.add(row), stride);
            store_input_row(minus, target.add(2 * row), stride);
            let (plus, minus) = input_rows::<R>(source, row_stride, Q, P2);
            store_input_row(plus, target.add(3 * row), stride);
            store_input_row(minus, target.add(4 * row), stride);
        }
    }
}

/// The rows of `point` and `-point`.
///
/// # Safety
/// As [`input`].
#[inline(always)]
unsafe fn input_rows<R: Register>(source: *const f32, row_stride: usize, point: f32, other: f32) -> ([R; 6], [R; 6]) {
    // SAFETY: the caller vouches for the memory and the instruction set.
    unsafe {
        unzip([
            input_pair::<R>(column_of_six(source, row_stride), point, other),
            input_pair::<R>(column_of_six(source.add(LANES), row_stride), point, other),
            input_pair::<R>(column_of_six(source.add(2 * LANES), row_stride), point, other),
            input_pair::<R>(column_of_six(source.add(3 * LANES), row_stride), point, other),
            input_pair::<R>(column_of_six(source.add(4 * LANES), row_stride), point, other),
            input_pair::<R>(column_of_six(source.add(5 * LANES), row_stride), point, other),
        ])
    }
}

// --- A: six points to four outputs. ---

/// The outputs 0 and 2.
///
/// # Safety
/// The processor has the instruction set.
#[inline(always)]
unsafe fn output_even<R: Register>(m: [R; 6]) -> (R, R) {
    // SAFETY: the caller vouches for the instruction set.
    let (p2, q2): (R, R) = unsafe { (splat(P2), splat(Q2)) };
    let (p, q) = (m[1].add(m[2]), m[3].add(m[4]));
    (m[0].add(p).add(q), q.mul_add(q2, p.mul(p2)))
}

/// The outputs 1 and 3.
///
/// # Safety
/// The processor has the instruction set.
#[inline(always)]
unsafe fn output_odd<R: Register>(m: [R; 6]) -> (R, R) {
    // SAFETY: the caller vouches for the instruction set.
    let (p1, q1, p3, q3): (R, R, R, R) = unsafe { (splat(P), splat(Q), splat(P * P2), splat(Q * Q2)) };
    let (p, q) = (m[1].sub(m[2]), m[3].sub(m[4]));
    (q.mul_add(q1, p.mul(p1)), q.mul_add(q3, p.mul_add(p3, m[5])))
}

/// Transforms one row and writes its four outputs, 16 apart.
///
/// # Safety
/// The processor has the instruction set; the outputs can be written.
#[inline(always)]
unsafe fn store_output_row<R: Register>(row: [R; 6], target: *mut f32) {
    // SAFETY: the caller vouches for the memory and the instruction set.
    unsafe {
        let (zero, two) = output_even(row);
        let (one, three) = output_odd(row);
        zero.store(target);
        one.store(target.add(LANES));
        two.store(target.add(2 * LANES));
        three.store(target.add(3 * LANES));
    }
}

/// The 4 x 4 outputs of 36 points, for 16 channels: points lie `stride` apart; the outputs are written as `[4, 4, 16]`.
///
/// # Safety
/// The processor has the instruction set; all that can be read and written.
#[inline(always)]
pub(super) unsafe fn output<R: Register>(source: *const f32, stride: usize, target: *mut f32) {
    // SAFETY: the caller vouches for the memory and the instruction set.
    unsafe {
        for part in 0..LANES / R::WIDTH {
            let (source, target) = (source.add(part * R::WIDTH), target.add(part * R::WIDTH));
            let (row, line) = (EXTENT * stride, TILE * LANES);
            let (zero, two) = unzip([
                output_even::<R>(column_of_six(source, row)),
                output_even::<R>(column_of_six(source.add(stride), row)),
                output_even::<R>(column_of_six(source.add(2 * stride), row)),
                output_even::<R>(column_of_six(source.add(3 * stride), row)),
                output_even::<R>(column_of_six(source.add(4 * stride), row)),
                output_even::<R>(column_of_six(source.add(5 * stride), row)),
            ]);
            store_output_row(zero, target);
            store_output_row(two, target.add(2 * line));
            let (one, three) = unzip([
                output_odd::<R>(column_of_six(source, row)),
                output_odd::<R>(column_of_six(source.add(stride), row)),
                output_odd::<R>(column_of_six(source.add(2 * stride), row)),
                output_odd::<R>(column_of_six(source.add(3 * stride), row)),
                output_odd::<R>(column_of_six(source.add(4 * stride), row)),
                output_odd::<R>(column_of_six(source.add(5 * stride), row)),
            ]);
            store_output_row(one, target.add(line));
            store_output_row(three, target.add(3 * line));
        }
    }
}

// --- The transpose of A: four gradients of outputs to six points. ---

/// The points `point` and `-point`.
///
/// # Safety
/// The processor has the instruction set.
#[inline(always)]
unsafe fn gradient_pair<R: Register>(g: [R; 4], point: f32) -> (R, R) {
    // SAFETY: the caller vouches for the instruction set.
    let (plus, minus, square): (R, R, R) = unsafe { (splat(point), splat(-point), splat(point * point)) };
    let (even, odd) = (g[2].mul_add(square, g[0]), g[3].mul_add(square, g[1]));
    (odd.mul_add(plus, even), odd.mul_add(minus, even))
}

/// Transforms one row and writes its six points, `stride` apart.
///
/// # Safety
/// The processor has the instruction set; the points can be written.
#[inline(always)]
unsafe fn store_gradient_row<R: Register>(row: [R; 4], target: *mut f32, stride: usize) {
    // SAFETY: the caller vouches for the memory and the instruction set.
    unsafe {
        row[0].store(target);
        row[3].store(target.add(5 * stride));
        let (plus, minus) = gradient_pair(row, P);
        plus.store(target.add(stride));
        minus.store(target.add(2 * stride));
        let (plus, minus) = gradient_pair(row, Q);
        plus.store(target.add(3 * stride));
        minus.store(target.add(4 * stride));
    }
}

/// Four values, `stride` apart.
///
/// # Safety
/// The processor has the instruction set; the values can be read.
#[inline(always)]
unsafe fn four<R: Register>(source: *const f32, stride: usize) -> [R; 4] {
    // SAFETY: the caller vouches for the memory and the instruction set.
    unsafe {
        [R::load(source), R::load(source.add(stride)), R::load(source.add(2 * stride)), R::load(source.add(3 * stride))]
    }
}

/// The rows of `point` and `-point`.
///
/// # Safety
/// As [`gradient`].
#[inline(always)]
unsafe fn gradient_rows<R: Register>(source: *const f32, row_stride: usize, point: f32) -> ([R; 4], [R; 4]) {
    // SAFETY: the caller vouches for the memory and the instruction set.
    unsafe {
        let a = gradient_pair::<R>(four(source, row_stride), point);
        let b = gradient_pair::<R>(four(source.add(LANES), row_stride), point);
        let c = gradient_pair::<R>(four(source.add(2 * LANES), row_stride), point);
        let d = gradient_pair::<R>(four(source.add(3 * LANES), row_stride), point);
        ([a.0, b.0, c.0, d.0], [a.1, b.1, c.1, d.1])
    }
}

/// The 36 points of the gradients of 4 x 4 outputs, for 16 channels. Rows of the source lie `row_stride` apart, columns
/// 16; points of the target lie `stride` apart.
///
/// # Safety
/// The processor has the instruction set; all that can be read and written.
#[inline(always)]
pub(super) unsafe fn gradient<R: Register>(source: *const f32, row_stride: usize, target: *mut f32, stride: usize) {
    // SAFETY: the caller vouches for the memory and the instruction set.
    unsafe {
        for part in 0..LANES / R::WIDTH {
            let (source, target) = (source.add(part * R::WIDTH), target.add(part * R::WIDTH));
            let row = EXTENT * stride;
            store_gradient_row::<R>(four(source, LANES), target, stride);
            store_gradient_row::<R>(four(source.add(3 * row_stride), LANES), target.add(5 * row), stride);
            let (plus, minus) = gradient_rows::<R>(source, row_stride, P);
            store_gradient_row(plus, target.add(row), stride);
            store_gradient_row(minus, target.add(2 * row), stride);
            let (plus, minus) = gradient_rows::<R>(source, row_stride, Q);
            store_gradient_row(plus, target.add(3 * row), stride);
            store_gradient_row(minus, target.add(4 * row), stride);
        }
    }
}

// --- G: three weights to six points, and its transpose. ---

/// The six points of three weights.
///
/// # Safety
/// The processor has the instruction set.
#[inline(always)]
unsafe fn weight_points<R: Register>(g: [R; 3]) -> [R; 6] {
    // SAFETY: the caller vouches for the instruction set.
    unsafe {
        let p_even = g[2].mul_add(splat((SCALE_P * P2 as f64) as f32), g[0].mul(splat(SCALE_P as f32)));
        let p_odd = g[1].mul(splat((SCALE_P * P as f64) as f32));
        let q_even = g[2].mul_add(splat((SCALE_Q * Q2 as f64) as f32), g[0].mul(splat(SCALE_Q as f32)));
        let q_odd = g[1].mul(splat((SCALE_Q * Q as f64) as f32));
        [
            g[0].mul(splat(SCALE_ZERO as f32)),
            p_even.add(p_odd),
            p_even.sub(p_odd),
            q_even.add(q_odd),
            q_even.sub(q_odd),
            g[2],
        ]
    }
}

/// Three weights of the sums at six points: the transpose of [`weight_points`].
///
/// # Safety
/// The processor has the instruction set.
#[inline(always)]
unsafe fn weights_of<R: Register>(m: [R; 6]) -> [R; 3] {
    // SAFETY: the caller vouches for the instruction set.
    unsafe {
        let (scale_p, scale_q): (R, R) = (splat(SCALE_P as f32), splat(SCALE_Q as f32));
        let (p_even, p_odd) = (m[1].add(m[2]).mul(scale_p), m[1].sub(m[2]).mul(scale_p));
        let (q_even, q_odd) = (m[3].add(m[4]).mul(scale_q), m[3].sub(m[4]).mul(scale_q));
        [
            m[0].mul_add(splat(SCALE_ZERO as f32), p_even.add(q_even)),
            p_odd.mul_add(splat(P), q_odd.mul(splat(Q))),
            p_even.mul_add(splat(P2), q_even.mul_add(splat(Q2), m[5])),
        ]
    }
}

/// Three values, `stride` apart.
///
/// # Safety
/// The processor has the instruction set; the values can be read.
#[inline(always)]
unsafe fn three<R: Register>(source: *const f32, stride: usize) -> [R; 3] {
    // SAFETY: the caller vouches for the memory and the instruction set.
    unsafe { [R::load(source), R::load(source.add(stride)), R::load(source.add(2 * stride))] }
}

/// The 36 points of 3 x 3 weights, for 16 output channels: weights lie `tap_stride` apart, points `stride`.
///
/// # Safety
/// The processor has the instruction set; all that can be read and written.
#[inline(always)]
pub(super) unsafe fn weights<R: Register>(source: *const f32, tap_stride: usize, target: *mut f32, stride: usize) {
    // SAFETY: the caller vouches for the memory and the instruction set.
    unsafe {
        for part in 0..LANES / R::WIDTH {
            let (source, target) = (source.add(part * R::WIDTH), target.add(part * R::WIDTH));
            let a = weight_points::<R>(three(source, 3 * tap_stride));
            let b = weight_points::<R>(three(source.add(tap_stride), 3 * tap_stride));
            let c = weight_points::<R>(three(source.add(2 * tap_stride), 3 * tap_stride));
            for row in 0..EXTENT {
                let points = weight_points([a[row], b[row], c[row]]);
                for column in 0..EXTENT {
                    points[column].store(target.add((row * EXTENT + column) * stride));
                }
            }
        }
    }
}

/// The gradients of 3 x 3 weights from the sums at 36 points, for 16 output channels: points lie `stride` apart,
/// weights `tap_stride`.
///
/// # Safety
/// The processor has the instruction set; all that can be read and written.
#[inline(always)]
pub(super) unsafe fn weight_gradient<R: Register>(
    source: *const f32,
    stride: usize,
    target: *mut f32,
    tap_stride: usize,
) {
    // SAFETY: the caller vouches for the memory and the instruction set.
    unsafe {
        for part in 0..LANES / R::WIDTH {
            let (source, target) = (source.add(part * R::WIDTH), target.add(part * R::WIDTH));
            let row = EXTENT * stride;
            let columns = [
                weights_of::<R>(column_of_six(source, row)),
                weights_of::<R>(column_of_six(source.add(stride), row)),
                weights_of::<R>(column_of_six(source.add(2 * stride), row)),
                weights_of::<R>(column_of_six(source.add(3 * stride), row)),
                weights_of::<R>(column_of_six(source.add(4 * stride), row)),
                weights_of::<R>(column_of_six(source.add(5 * stride), row)),
            ];
            for row in 0..3 {
                let line = weights_of([
                    columns[0][row],
                    columns[1][row],
                    columns[2][row],
                    columns[3][row],
                    columns[4][row],
                    columns[5][row],
                ]);
                for column in 0..3 {
                    line[column].store(target.add((row * 3 + column) * tap_stride));
                }
            }
        }
    }
}
