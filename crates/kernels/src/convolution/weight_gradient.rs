//! The gradient of a convolution's weights: the loops around its micro-kernel.
//!
//! Threads share out the pairs of (input block, group of output blocks), never the images: each weight is one chain
//! over the images in order, whatever the number of threads. A thread runs through the images in bands of a few hundred
//! positions, lays out one input block at a time, and takes all taps and its output blocks from that.

use std::ops::Range;

use super::ConvShape;
use super::correlate::TargetStrides;
use super::gradient_tile::{GradientTile, GradientVector};
use super::tile::Row;
use super::window::{Panels, Tap, Window, fill_pairs, fill_values};
use crate::compute::Scratch;
use crate::threads::DisjointMut;
#[cfg(target_arch = "x86_64")]
use crate::vector::Avx512Bf16;
use crate::vector::with_vector;
use crate::{Compute, Element, Isa, LANES, ScratchNeed, blocks};

/// Positions that a tile of weights sees between its load and its store: enough to make these cheap, few enough for
/// their inputs and gradients to rest in the first-level cache while all taps use them.
const POSITIONS_AT_ONCE: usize = 256;

/// `target[out, in, tap] += sum over (image, position) of source[image, in, position + tap] * output_gradient[image,
/// out, position]`.
pub(crate) struct WeightGradient<'a, E: Element> {
    pub(crate) window: Window,
    pub(crate) images: usize,
    pub(crate) source: &'a [E],
    pub(crate) source_blocks: usize,
    pub(crate) output_gradient: &'a [E],
    pub(crate) output_blocks: usize,
    /// Distances in the output's gradient; from column to column it is 16.
    pub(crate) strides: TargetStrides,
    pub(crate) accumulate: bool,
}

/// Neighbouring input lanes (of a planar source: taps) that one tile takes.
pub(super) struct Strip {
    /// Where lane 0 is, from a grid point of a panel.
    source: usize,
    /// Where its gradient is, in the weights of a block.
    weight: usize,
    lanes: usize,
    weight_stride: usize,
}

impl Compute {
    /// The gradient for the weights, from the input and the gradient for the output. Products are of f32 where these
    /// are, else of bf16; sums are f32.
    ///
    /// - `x`: `batch` images in the shape's input layout, [`ConvShape::input_len`] elements each
    /// - `dy`: `batch` images, blocked, [`ConvShape::output_len`] elements each
    /// - `packed_dw`: [`ConvShape::packed_gradient_len`] floats, for [`Compute::unpack_weight_gradient`]; overwritten,
    ///   or added to, image by image, where `accumulate` is set
    ///
    /// # Panics
    /// Where a length does not fit.
    pub fn conv_weight_gradient<E: Element>(
        &self,
        shape: &ConvShape,
        batch: usize,
        x: &[E],
        dy: &[E],
        packed_dw: &mut [f32],
        accumulate: bool,
    ) {
        assert_eq!(x.len(), batch * shape.input_len(), "input of {batch} x {shape:?}");
        assert_eq!(dy.len(), batch * shape.output_len(), "output gradient of {batch} x {shape:?}");
        assert_eq!(packed_dw.len(), shape.packed_gradient_len(), "packed weight gradient of {shape:?}");
        let window = Window::forward(shape, Panels::of_weight_gradient::<E>(self.isa()));
        let output_blocks = blocks(shape.out_channels);
        let gradient = WeightGradient {
            window,
            images: batch,
            source: x,
            source_blocks: shape.in_blocks(),
            output_gradient: dy,
            output_blocks,
            strides: TargetStrides::blocked(output_blocks, window.target_height, window.target_width),
            accumulate,
        };
        self.weight_gradient(&gradient, packed_dw);
    }

    pub(crate) fn conv_weight_gradient_scratch<E: Element>(&self, shape: &ConvShape) -> ScratchNeed {
        let window = Window::forward(shape, Panels::of_weight_gradient::<E>(self.isa()));
        let bands = Bands::new::<E>(&window, blocks(shape.out_channels));
        ScratchNeed::of_threads(bands.panels_len + bands.len)
    }

    /// # Panics
    /// For panels of pairs, where the instruction set has no products of pairs.
    pub(crate) fn weight_gradient<E: Element>(&self, gradient: &WeightGradient<E>, target: &mut [f32]) {
        if gradient.images == 0 && !gradient.accumulate {
            target.fill(0.0);
        }
        if gradient.window.panels == Panels::Values {
            return with_vector!(self.isa(), V => self.weight_gradient_with::<V, E>(gradient, target));
        }
        assert_eq!(self.isa(), Isa::Avx512Bf16, "products of bf16 pairs");
        #[cfg(target_arch = "x86_64")]
        self.weight_gradient_with::<Avx512Bf16, E>(gradient, target);
    }

    fn weight_gradient_with<V: GradientVector, E: Element>(&self, gradient: &WeightGradient<E>, target: &mut [f32]) {
        let groups = gradient.output_blocks.div_ceil(V::BLOCKS);
        let order = if gradient.window.is_direct::<E>() {
            TaskOrder::GroupsFirst { source_blocks: gradient.source_blocks }
        } else {
            TaskOrder::SourceBlocksFirst { groups }
        };
        let block_len = target.len() / (gradient.output_blocks * gradient.source_blocks);
        let target = DisjointMut::new(target);
        self.parallel(gradient.source_blocks * groups, |tasks, scratch| {
            run::<V, E>(gradient, tasks, order, block_len, target, scratch);
        });
    }
}

/// In which order a thread takes the pairs of source block and group of output blocks.
#[derive(Clone, Copy)]
enum TaskOrder {
    /// All groups of a source block, then the next block: each block is laid out once.
    SourceBlocksFirst { groups: usize },
    /// All source blocks of a group, then the next group: the gradient is written from front to back, which counts
    /// where it is larger than all that it is made of.
    GroupsFirst { source_blocks: usize },
}

impl TaskOrder {
    /// The source block and the group of a task.
    fn locate(self, task: usize) -> (usize, usize) {
        match self {
            TaskOrder::SourceBlocksFirst { groups } => (task / groups, task % groups),
            TaskOrder::GroupsFirst { source_blocks } => (task % source_blocks, task / source_blocks),
        }
    }
}

/// How images are cut into bands of grid rows, and what they take.
struct Bands {
    /// From one row that a tile goes through to the next: 2 where rows are paired.
    row_step: usize,
    rows: usize,
    units_at_once: usize,
    /// Floats of the panels.
    panels_len: usize,
    /// Floats of a band's gradients of one output block, as f32 or in pairs of rows.
    block_len: usize,
    /// Floats of all these; none where the gradients are f32, and stay where they are.
    len: usize,
}

impl Bands {
    fn new<E: Element>(window: &Window, output_blocks: usize) -> Bands {
        let row_step = if window.panels == Panels::RowPairs { 2 } else { 1 };
        let (height, width) = (window.grid_height(), window.grid_width());
        let rows = (POSITIONS_AT_ONCE / width).clamp(1, height).next_multiple_of(row_step);
        let units_at_once = (POSITIONS_AT_ONCE / (rows * width)).max(1);
        let block_len = rows / row_step * width * LANES;
        Bands {
            row_step,
            rows,
            units_at_once,
            panels_len: if window.is_direct::<E>() { 0 } else { units_at_once * window.panel_len(rows) },
            block_len,
            len: if E::IS_F32 { 0 } else { units_at_once * output_blocks * block_len },
        }
    }
}

fn run<V: GradientVector, E: Element>(
    gradient: &WeightGradient<E>,
    tasks: Range<usize>,
    order: TaskOrder,
    block_len: usize,
    target: DisjointMut,
    scratch: &mut Scratch,
) {
    let WeightGradient { window, source_blocks, strides, .. } = gradient;
    let source_block_len = window.source_height * window.source_width * window.source_lanes;
    let height = window.grid_height();
    let Bands { row_step, rows: band_rows, units_at_once, panels_len, block_len: band_block_len, len: band_len } =
        Bands::new::<E>(window, gradient.output_blocks);

    let bands = height.div_ceil(band_rows);
    let units = gradient.images * bands;
    let panel_len = window.panel_len(band_rows);
    let direct = window.is_direct::<E>();
    let Scratch { buffer, work } = scratch;
    let (panels, band) = buffer.prefix(panels_len + band_len).split_at_mut(panels_len);
    work.taps.clear();
    window.push_taps(0, 0, &mut work.taps);
    list_strips(window, &work.taps, V::LANES_AT_ONCE, &mut work.strips);

    for first_unit in (0..units).step_by(units_at_once) {
        let units = first_unit..(first_unit + units_at_once).min(units);
        let rows_of = |unit: usize| {
            let start = unit % bands * band_rows;
            (unit / bands, start..(start + band_rows).min(height))
        };
        work.rows.clear();
        for (index, unit) in units.clone().enumerate() {
            let (image, rows) = rows_of(unit);
            let band_unit = index * gradient.output_blocks * band_block_len;
            if !E::IS_F32 {
                lay_out_gradients(gradient, image, rows.clone(), band_block_len, &mut band[band_unit..]);
            }
            for row in rows.clone().step_by(row_step) {
                work.rows.push(Row {
                    source: if direct {
                        image * source_blocks * source_block_len + row * window.panel_row_stride()
                    } else {
                        index * panel_len + (row - rows.start) * window.panel_row_stride()
                    },
                    target: if E::IS_F32 {
                        image * strides.image + row * strides.row
                    } else {
                        band_unit + (row - rows.start) / row_step * window.grid_width() * LANES
                    },
                    ..Row::default()
                });
            }
        }
        let mut laid_out = None;
        for task in tasks.clone() {
            let (source_block, group) = order.locate(task);
            if !direct && laid_out.replace(source_block) != Some(source_block) {
                for (unit, panel) in units.clone().zip(panels.chunks_exact_mut(panel_len)) {
                    let (image, rows) = rows_of(unit);
                    let block = &gradient.source[(image * source_blocks + source_block) * source_block_len..];
                    window.fill_panel(&block[..source_block_len], rows, panel);
                }
            }
            let source: *const f32 = if direct {
                gradient.source[source_block * source_block_len..].as_ptr().cast()
            } else {
                panels.as_ptr()
            };
            let block = group * V::BLOCKS;
            let blocks = V::BLOCKS.min(gradient.output_blocks - block);
            for strip in &work.strips {
                let (output_gradient, block_stride): (*const f32, usize) = if E::IS_F32 {
                    (gradient.output_gradient[block * strides.block..].as_ptr().cast(), strides.block)
                } else {
                    (band[block * band_block_len..].as_ptr(), band_block_len)
                };
                let weight = (block * source_blocks + source_block) * block_len + strip.weight;
                let tile = GradientTile {
                    rows: &work.rows,
                    columns: window.grid_width(),
                    source: source.wrapping_add(strip.source),
                    output_gradient,
                    output_gradient_block_stride: block_stride,
                    target: target.as_mut_ptr().wrapping_add(weight),
                    target_lane_stride: strip.weight_stride,
                    target_block_stride: source_blocks * block_len,
                    accumulate: gradient.accumulate || first_unit > 0,
                };
                // SAFETY: `Compute` runs on instruction sets that the processor has. The callers of `weight_gradient`
                // assert the lengths of source, gradient and target against the shape that the window was made of, so
                // that rows, strips and blocks lie within them (or within the panels), and no other thread has this
                // pair of source block and group.
                unsafe { V::gradient_tile(window.lanes, strip.lanes, blocks, &tile) };
            }
        }
    }
}

/// Lays out a band of the output's gradient, of all blocks of an image: as f32, `[blocks, rows, columns, 16]`, or in
/// pairs of rows, of which the last may have zeros beside it.
fn lay_out_gradients<E: Element>(
    gradient: &WeightGradient<E>,
    image: usize,
    rows: Range<usize>,
    block_len: usize,
    into: &mut [f32],
) {
    let row_len = gradient.window.grid_width() * LANES;
    for (block, into) in into.chunks_exact_mut(block_len).take(gradient.output_blocks).enumerate() {
        let map = &gradient.output_gradient[image * gradient.strides.image + block * gradient.strides.block..];
        let row = |row: usize| rows.contains(&row).then(|| &map[row * gradient.strides.row..][..row_len]);
        if gradient.window.panels == Panels::RowPairs {
            for (first, words) in rows.clone().step_by(2).zip(into.chunks_exact_mut(row_len)) {
                fill_pairs(row(first), row(first + 1), LANES, LANES, words);
            }
        } else {
            for (row, values) in rows.clone().filter_map(row).zip(into.chunks_exact_mut(row_len)) {
                fill_values(row, LANES, LANES, values);
            }
        }
    }
}

/// Cuts the input lanes of all taps into strips of at most `at_once` that are neighbours in a panel. In a planar source
/// the neighbours are taps of one row and phase.
fn list_strips(window: &Window, taps: &[Tap], at_once: usize, strips: &mut Vec<Strip>) {
    strips.clear();
    if window.lanes > 1 {
        for tap in taps {
            for lane in (0..window.lanes).step_by(at_once) {
                let (source, weight) = (tap.source + lane, tap.weight + lane * LANES);
                strips.push(Strip { source, weight, lanes: at_once, weight_stride: LANES });
            }
        }
        return;
    }
    for row in taps.chunks_exact(window.kernel) {
        for phase in 0..window.phases {
            let of_phase = row[phase..].iter().step_by(window.step);
            let count = of_phase.len();
            for (index, tap) in of_phase.enumerate().step_by(at_once) {
                let (lanes, weight_stride) = (at_once.min(count - index), window.step * LANES);
                strips.push(Strip { source: tap.source, weight: tap.weight, lanes, weight_stride });
            }
        }
    }
}
