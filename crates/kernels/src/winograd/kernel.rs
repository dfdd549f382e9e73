//! What is compiled for each instruction set: the transforms, the two products, and the last touch to a tile.
//!
//! Each piece is a function of its own, so that the compiler plans registers for one loop at a time.

use super::{TILE, transform};
#[cfg(target_arch = "x86_64")]
use crate::vector::{Avx2Register, Avx2Vector, Avx512Vector};
use crate::vector::{Register, ScalarVector};
use crate::{Element, LANES};

/// One point of a matrix product: up to `COLUMNS` tiles times the lanes of a group, over all source channels.
pub(super) struct Product {
    /// Transformed inputs, `[source blocks, columns, 16]`: a point of the first block.
    pub(super) source: *const f32,
    /// From one source block to the next in the inputs.
    pub(super) source_stride: usize,
    pub(super) source_blocks: usize,
    /// Transformed weights, `[source channels, lanes of the group]`.
    pub(super) weights: *const f32,
    /// `[columns, 16]`, and the same again for the second block where a group has two.
    pub(super) target: *mut f32,
    /// From the lanes of the first register to those of the second in the target.
    pub(super) target_second: usize,
}

/// A sum over tiles: `LANES_AT_ONCE` input channels times the lanes of a group.
pub(super) struct TileSum {
    /// Transformed inputs of one block at one point, `[tiles, 16]`.
    pub(super) source: *const f32,
    /// Transformed gradients at the same point, `[tiles, 16]`.
    pub(super) gradient: *const f32,
    /// From the lanes of the first register to those of the second in the gradients.
    pub(super) gradient_second: usize,
    pub(super) tiles: usize,
    /// `[16 input channels, lanes of the group]`.
    pub(super) target: *mut f32,
    /// Whether to go on from what the target holds; else from 0.
    pub(super) accumulate: bool,
}

/// The last touch to a tile of 16 channels, on its way to the target: `max(floor, (value - mean) * scale + shift +
/// addend)`, or for a gradient `value + addend`, 0 where the activation is not above 0.
#[derive(Clone, Copy)]
pub(super) struct Touch<E> {
    /// `[4, 4, 16]`.
    pub(super) tile: *const f32,
    pub(super) target: *mut E,
    /// From row to row in the target, and in what is added and looked at.
    pub(super) row_stride: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// 16 means, scales and shifts; null for a gradient.
    pub(super) affine: [*const f32; 3],
    /// Whether that is a batch norm: the value before it then is rounded as every value of the network. It may be a bias
    /// alone.
    pub(super) normalises: bool,
    pub(super) relu: bool,
    /// What is added, laid out as the target; null for nothing.
    pub(super) addend: *const E,
    /// The activation whose ReLU the gradient passes, laid out as the target; null for none.
    pub(super) activation: *const E,
    /// Whether to write past the caches.
    pub(super) stream: bool,
}

/// A copy of some positions of 16 channels as f32.
pub(super) struct Widening<E> {
    pub(super) source: *const E,
    /// From row to row in the source.
    pub(super) row_stride: usize,
    pub(super) rows: usize,
    /// Positions of a row, which lie side by side.
    pub(super) columns: usize,
    pub(super) target: *mut f32,
    /// From row to row in the target.
    pub(super) target_row_stride: usize,
}

/// The compiled pieces.
pub(super) trait WinogradKernel {
    /// Lanes that the products of one group keep side by side.
    const GROUP_LANES: usize;
    /// Tiles of the widest product.
    const COLUMNS: usize;

    /// [`transform::input`].
    ///
    /// # Safety
    /// The processor has the instruction set; the pointers hold what the function says.
    unsafe fn input(source: *const f32, row_stride: usize, target: *mut f32, stride: usize);
    /// [`transform::gradient`].
    ///
    /// # Safety
    /// As [`WinogradKernel::input`].
    unsafe fn gradient(source: *const f32, row_stride: usize, target: *mut f32, stride: usize);
    /// [`transform::weights`].
    ///
    /// # Safety
    /// As [`WinogradKernel::input`].
    unsafe fn weights(source: *const f32, tap_stride: usize, target: *mut f32, stride: usize);
    /// [`transform::output`].
    ///
    /// # Safety
    /// As [`WinogradKernel::input`].
    unsafe fn output(source: *const f32, stride: usize, target: *mut f32);
    /// [`transform::weight_gradient`], for 16 input channels: the source is `[36, 16 input channels, lanes]`, the
    /// target `[9, 16 input channels, 16]`.
    ///
    /// # Safety
    /// As [`WinogradKernel::input`].
    unsafe fn weight_gradient(source: *const f32, lanes: usize, target: *mut f32);
    /// The product for `columns` tiles and a group of `lanes` lanes.
    ///
    /// # Safety
    /// As [`WinogradKernel::input`].
    unsafe fn product(columns: usize, lanes: usize, product: &Product);
    /// The sum for a group of `lanes` lanes.
    ///
    /// # Safety
    /// As [`WinogradKernel::input`].
    unsafe fn tile_sum(lanes: usize, sum: &TileSum);
    /// The last touch.
    ///
    /// # Safety
    /// As [`WinogradKernel::input`].
    unsafe fn touch<E: Element>(touch: &Touch<E>);
    /// The copy.
    ///
    /// # Safety
    /// As [`WinogradKernel::input`].
    unsafe fn widen<E: Element>(widening: &Widening<E>);
    /// Ends a run of touches that stream.
    ///
    /// # Safety
    /// As [`WinogradKernel::input`].
    unsafe fn fence();
}

/// # Safety
/// The processor has the instruction set; all that the product points at can be read and written.
#[inline(always)]
unsafe fn product<R: Register, const REGISTERS: usize, const COLUMNS: usize>(product: &Product) {
    // SAFETY: the caller vouches for the memory and the instruction set.
    unsafe {
        let mut sums = [[R::splat(0.0); REGISTERS]; COLUMNS];
        let mut weights = product.weights;
        let mut source = product.source;
        for _ in 0..product.source_blocks {
            for lane in 0..LANES {
                let mut weight = [R::splat(0.0); REGISTERS];
                for r in 0..REGISTERS {
                    weight[r] = R::load(weights.add((lane * REGISTERS + r) * R::WIDTH));
                }
                for c in 0..COLUMNS {
                    let value = R::splat(*source.add(c * LANES + lane));
                    for r in 0..REGISTERS {
                        sums[c][r] = value.mul_add(weight[r], sums[c][r]);
                    }
                }
            }
            weights = weights.add(LANES * REGISTERS * R::WIDTH);
            source = source.add(product.source_stride);
        }
        for c in 0..COLUMNS {
            for r in 0..REGISTERS {
                sums[c][r].store(product.target.add(c * LANES + r * product.target_second));
            }
        }
    }
}

/// # Safety
/// The processor has the instruction set; all that the sum points at can be read and written.
#[inline(always)]
unsafe fn tile_sum<R: Register, const REGISTERS: usize, const LANES_AT_ONCE: usize>(sum: &TileSum) {
    // SAFETY: the caller vouches for the memory and the instruction set.
    unsafe {
        for first in (0..LANES).step_by(LANES_AT_ONCE) {
            let target = sum.target.add(first * REGISTERS * R::WIDTH);
            let mut sums = [[R::splat(0.0); REGISTERS]; LANES_AT_ONCE];
            if sum.accumulate {
                for i in 0..LANES_AT_ONCE {
                    for r in 0..REGISTERS {
                        sums[i][r] = R::load(target.add((i * REGISTERS + r) * R::WIDTH));
                    }
                }
            }
            let (mut source, mut gradient) = (sum.source.add(first), sum.gradient);
            for _ in 0..sum.tiles {
                let mut factor = [R::splat(0.0); REGISTERS];
                for r in 0..REGISTERS {
                    factor[r] = R::load(gradient.add(r * sum.gradient_second));
                }
                for i in 0..LANES_AT_ONCE {
                    let value = R::splat(*source.add(i));
                    for r in 0..REGISTERS {
                        sums[i][r] = value.mul_add(factor[r], sums[i][r]);
                    }
                }
                source = source.add(LANES);
                gradient = gradient.add(LANES);
            }
            for i in 0..LANES_AT_ONCE {
                for r in 0..REGISTERS {
                    sums[i][r].store(target.add((i * REGISTERS + r) * R::WIDTH));
                }
            }
        }
    }
}

/// # Safety
/// The processor has the instruction set; source and target can be read and written.
#[inline(always)]
unsafe fn weight_gradient<R: Register>(source: *const f32, lanes: usize, target: *mut f32) {
    for channel in 0..LANES {
        // SAFETY: the caller vouches for the memory and the instruction set.
        unsafe {
            let (source, target) = (source.add(channel * lanes), target.add(channel * LANES));
            transform::weight_gradient::<R>(source, LANES * lanes, target, LANES * LANES);
        }
    }
}

/// The last touch in a form where the compiler knows everything but the memory.
///
/// # Safety
/// The processor has the instruction set; all that `touch` points at can be read and written, and null is only where
/// the constants say that nothing is looked at.
#[inline(always)]
unsafe fn touch_rows<
    R: Register,
    E: Element,
    const AFFINE: bool,
    const ADDEND: bool,
    const MASK: bool,
    const STREAM: bool,
>(
    touch: &Touch<E>,
    rows: usize,
    columns: usize,
) {
    // SAFETY: the caller vouches for the memory and the instruction set.
    unsafe {
        for part in 0..LANES / R::WIDTH {
            let lane = part * R::WIDTH;
            let zero = R::splat(0.0);
            let floor = R::splat(if touch.relu { 0.0 } else { f32::NEG_INFINITY });
            let (mut mean, mut scale, mut shift) = (zero, zero, zero);
            if AFFINE {
                mean = R::load(touch.affine[0].add(lane));
                scale = R::load(touch.affine[1].add(lane));
                shift = R::load(touch.affine[2].add(lane));
            }
            for row in 0..rows {
                for column in 0..columns {
                    let at = row * touch.row_stride + column * LANES + lane;
                    let mut value = R::load(touch.tile.add((row * TILE + column) * LANES + lane));
                    if AFFINE {
                        if touch.normalises {
                            value = value.rounded::<E>();
                        }
                        value = value.sub(mean).mul_add(scale, shift);
                    }
                    if ADDEND {
                        if AFFINE {
                            value = value.rounded::<E>();
                        }
                        value = value.add(R::load(touch.addend.add(at)));
                    }
                    if AFFINE {
                        value = floor.max(value);
                    }
                    if MASK {
                        value = value.pass_relu(R::load(touch.activation.add(at)), zero);
                    }
                    if STREAM {
                        value.stream(touch.target.add(at));
                    } else {
                        value.store(touch.target.add(at));
                    }
                }
            }
        }
    }
}

/// # Safety
/// As [`touch_rows`].
#[inline(always)]
unsafe fn touch<
    R: Register,
    E: Element,
    const AFFINE: bool,
    const ADDEND: bool,
    const MASK: bool,
    const STREAM: bool,
>(
    touch: &Touch<E>,
) {
    // SAFETY: the caller vouches for it.
    unsafe {
        if touch.rows == TILE && touch.columns == TILE {
            touch_rows::<R, E, AFFINE, ADDEND, MASK, STREAM>(touch, TILE, TILE);
        } else {
            touch_rows::<R, E, AFFINE, ADDEND, MASK, STREAM>(touch, touch.rows, touch.columns);
        }
    }
}

/// # Safety
/// The processor has the instruction set; source and target can be read and written.
#[inline(always)]
unsafe fn widen<R: Register, E: Element>(widening: &Widening<E>) {
    for row in 0..widening.rows {
        for at in (0..widening.columns * LANES).step_by(R::WIDTH) {
            // SAFETY: the caller vouches for the memory and the instruction set.
            unsafe {
                let value = R::load(widening.source.add(row * widening.row_stride + at));
                value.store(widening.target.add(row * widening.target_row_stride + at));
            }
        }
    }
}

/// Implements [`WinogradKernel`] with functions that are compiled for the instruction set.
macro_rules! winograd_kernel {
    (
        $vector:ident, $register:ty, features($($feature:literal)?), lanes at once $at_once:literal,
        columns $columns:literal: $($column:literal)+, lanes $($lanes:literal = $registers:literal registers),+
    ) => {
        impl WinogradKernel for $vector {
            const GROUP_LANES: usize = [$($lanes),+][0];
            const COLUMNS: usize = $columns;

            unsafe fn input(source: *const f32, row_stride: usize, target: *mut f32, stride: usize) {
                $(#[target_feature(enable = $feature)])?
                unsafe fn compiled(source: *const f32, row_stride: usize, target: *mut f32, stride: usize) {
                    // SAFETY: compiled for the register's instruction set; the caller vouches for the rest.
                    unsafe { transform::input::<$register>(source, row_stride, target, stride) }
                }
                // SAFETY: the caller vouches for the instruction set and the memory.
                unsafe { compiled(source, row_stride, target, stride) }
            }

            unsafe fn gradient(source: *const f32, row_stride: usize, target: *mut f32, stride: usize) {
                $(#[target_feature(enable = $feature)])?
                unsafe fn compiled(source: *const f32, row_stride: usize, target: *mut f32, stride: usize) {
                    // SAFETY: as above.
                    unsafe { transform::gradient::<$register>(source, row_stride, target, stride) }
                }
                // SAFETY: as above.
                unsafe { compiled(source, row_stride, target, stride) }
            }

            unsafe fn weights(source: *const f32, tap_stride: usize, target: *mut f32, stride: usize) {
                $(#[target_feature(enable = $feature)])?
                unsafe fn compiled(source: *const f32, tap_stride: usize, target: *mut f32, stride: usize) {
                    // SAFETY: as above.
                    unsafe { transform::weights::<$register>(source, tap_stride, target, stride) }
                }
                // SAFETY: as above.
                unsafe { compiled(source, tap_stride, target, stride) }
            }

            unsafe fn output(source: *const f32, stride: usize, target: *mut f32) {
                $(#[target_feature(enable = $feature)])?
                unsafe fn compiled(source: *const f32, stride: usize, target: *mut f32) {
                    // SAFETY: as above.
                    unsafe { transform::output::<$register>(source, stride, target) }
                }
                // SAFETY: as above.
                unsafe { compiled(source, stride, target) }
            }

            unsafe fn weight_gradient(source: *const f32, lanes: usize, target: *mut f32) {
                $(#[target_feature(enable = $feature)])?
                unsafe fn compiled(source: *const f32, lanes: usize, target: *mut f32) {
                    // SAFETY: as above.
                    unsafe { weight_gradient::<$register>(source, lanes, target) }
                }
                // SAFETY: as above.
                unsafe { compiled(source, lanes, target) }
            }

            unsafe fn product(columns: usize, lanes: usize, arguments: &Product) {
                $(#[target_feature(enable = $feature)])?
                unsafe fn compiled<const REGISTERS: usize, const COLUMNS: usize>(arguments: &Product) {
                    // SAFETY: as above.
                    unsafe { product::<$register, REGISTERS, COLUMNS>(arguments) }
                }
                macro_rules! choose {
                    ($count:literal) => {
                        match columns {
                            // SAFETY: as above.
                            $($column => unsafe { compiled::<$count, $column>(arguments) },)+
                            other => unreachable!("no product of {other} tiles"),
                        }
                    };
                }
                match lanes {
                    $($lanes => choose!($registers),)+
                    other => unreachable!("no product of {other} lanes"),
                }
            }

            unsafe fn tile_sum(lanes: usize, arguments: &TileSum) {
                $(#[target_feature(enable = $feature)])?
                unsafe fn compiled<const REGISTERS: usize>(arguments: &TileSum) {
                    // SAFETY: as above.
                    unsafe { tile_sum::<$register, REGISTERS, $at_once>(arguments) }
                }
                match lanes {
                    // SAFETY: as above.
                    $($lanes => unsafe { compiled::<$registers>(arguments) },)+
                    other => unreachable!("no sum of {other} lanes"),
                }
            }

            unsafe fn touch<E: Element>(arguments: &Touch<E>) {
                $(#[target_feature(enable = $feature)])?
                unsafe fn compiled<
                    E: Element,
                    const AFFINE: bool,
                    const ADDEND: bool,
                    const MASK: bool,
                    const STREAM: bool,
                >(
                    arguments: &Touch<E>,
                ) {
                    // SAFETY: as above.
                    unsafe { touch::<$register, E, AFFINE, ADDEND, MASK, STREAM>(arguments) }
                }
                let affine = !arguments.affine[0].is_null();
                let (addend, mask) = (!arguments.addend.is_null(), !arguments.activation.is_null());
                // SAFETY: as above, and the constants say what is null.
                unsafe {
                    match (affine, addend, mask, arguments.stream) {
                        (true, false, _, false) => compiled::<E, true, false, false, false>(arguments),
                        (true, false, _, true) => compiled::<E, true, false, false, true>(arguments),
                        (true, true, _, _) => compiled::<E, true, true, false, false>(arguments),
                        (false, false, false, false) => compiled::<E, false, false, false, false>(arguments),
                        (false, false, false, true) => compiled::<E, false, false, false, true>(arguments),
                        (false, true, false, _) => compiled::<E, false, true, false, false>(arguments),
                        (false, false, true, false) => compiled::<E, false, false, true, false>(arguments),
                        (false, false, true, true) => compiled::<E, false, false, true, true>(arguments),
                        (false, true, true, _) => compiled::<E, false, true, true, false>(arguments),
                    }
                }
            }

            unsafe fn widen<E: Element>(arguments: &Widening<E>) {
                $(#[target_feature(enable = $feature)])?
                unsafe fn compiled<E: Element>(arguments: &Widening<E>) {
                    // SAFETY: as above.
                    unsafe { widen::<$register, E>(arguments) }
                }
                // SAFETY: as above.
                unsafe { compiled(arguments) }
            }

            unsafe fn fence() {
                // SAFETY: the caller vouches for the instruction set.
                unsafe { <$register as Register>::fence() }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
winograd_kernel! {
    Avx512Vector, Avx512Vector, features("avx512f"), lanes at once 8,
    columns 14: 1 2 3 4 5 6 7 8 9 10 11 12 13 14, lanes 32 = 2 registers, 16 = 1 registers
}

#[cfg(target_arch = "x86_64")]
winograd_kernel! {
    Avx2Vector, Avx2Register, features("avx2,fma"), lanes at once 4,
    columns 6: 1 2 3 4 5 6, lanes 16 = 2 registers
}

winograd_kernel! {
    ScalarVector, ScalarVector, features(), lanes at once 2,
    columns 2: 1 2, lanes 16 = 1 registers
}
