//! The loops around the micro-kernel: threads, panels, caches.
//!
//! Work falls into units, a band of rows of one image each, and (where there are too few units for the threads) into
//! groups of output blocks. A thread lays out the panels of as many units as its second-level cache holds, then runs
//! through them group by group, and in chunks of source blocks, so that the weights of a chunk stay in that cache while
//! every tile uses them. None of this changes a bit: between chunks a sum rests where it is exact, in a target of f32,
//! or beside the panels.

use std::ops::Range;

use super::tile::{Initial, Row, Tile, TileVector, Touch, rows_per_tile};
use super::weight_gradient::Strip;
use super::window::{Panels, Tap, Window};
use crate::compute::Scratch;
use crate::threads::{DisjointMut, share};
#[cfg(target_arch = "x86_64")]
use crate::vector::Avx512Bf16;
use crate::vector::with_vector;
use crate::{Compute, ConvFinish, Element, Isa, LANES, ScratchNeed};

/// Floats that the panels of a thread's units may take: half of a second-level cache of a megabyte.
const PANEL_BUDGET: usize = 128 * 1024;

/// Floats of the weights of one block of outputs that a chunk may take, to rest in the second-level cache.
const WEIGHT_BUDGET: usize = 18 * 1024;

/// Floats of the panels that a chunk may take, to rest in the second-level cache beside its weights.
const SOURCE_BUDGET: usize = 48 * 1024;

/// Distances, in floats, between the elements of a target.
#[derive(Clone, Copy)]
pub(crate) struct TargetStrides {
    pub(crate) image: usize,
    pub(crate) block: usize,
    pub(crate) row: usize,
    pub(crate) column: usize,
}

impl TargetStrides {
    /// Those of a blocked map.
    pub(crate) fn blocked(blocks: usize, height: usize, width: usize) -> TargetStrides {
        let row = width * LANES;
        TargetStrides { image: blocks * height * row, block: height * row, row, column: LANES }
    }
}

/// What the sums start from, for the whole target.
#[derive(Clone, Copy)]
pub(crate) enum Start<'a> {
    Zero,
    Bias(&'a [f32]),
    Target,
}

/// `target[image, out, position] = start + sum over (in, tap) of source[image, in, position + tap] * weights[out, in,
/// tap]`.
pub(crate) struct Correlation<'a, E: Element> {
    pub(crate) window: Window,
    pub(crate) images: usize,
    pub(crate) source: &'a [E],
    pub(crate) source_blocks: usize,
    /// `[target blocks, source blocks, taps, lanes, 16]`.
    pub(crate) weights: &'a [f32],
    pub(crate) target_blocks: usize,
    pub(crate) strides: TargetStrides,
    pub(crate) start: Start<'a>,
    pub(crate) finish: Finish<'a, E>,
}

/// What happens to a sum before it is stored for the last time.
#[derive(Clone, Copy, Default)]
pub(crate) struct Finish<'a, E> {
    /// Mean, scale and shift of each target channel.
    pub(crate) normalise: Option<[&'a [f32]; 3]>,
    /// Added; laid out as the target.
    pub(crate) addend: Option<&'a [E]>,
    /// The activation whose ReLU the sum, a gradient, passes; laid out as the target.
    pub(crate) activation: Option<&'a [E]>,
    pub(crate) relu: bool,
}

impl<'a, E: Element> Finish<'a, E> {
    /// What a forward pass asks for, but for the bias.
    pub(super) fn forward(finish: &ConvFinish<'a, E>) -> Finish<'a, E> {
        let ConvFinish { normalise, residual, relu, .. } = *finish;
        Finish { normalise, addend: residual, activation: None, relu }
    }
}

impl<E: Element> Correlation<'_, E> {
    /// The last touch to a tile whose first block is `block` and whose first element lies at `offset` of the target.
    fn touch(&self, block: usize, offset: usize, target: DisjointMut<E>) -> Touch<E> {
        let Correlation { window, strides, finish, .. } = self;
        // The rows of the tile, which lie behind, decide whether anything is there at all.
        let at = |slice: Option<&[E]>| slice.map_or(std::ptr::null(), |slice| slice.as_ptr().wrapping_add(offset));
        let vector = |i: usize| {
            finish.normalise.map_or(std::ptr::null(), |vectors| vectors[i].as_ptr().wrapping_add(block * LANES))
        };
        let target = target.as_mut_ptr().wrapping_add(offset);
        // Sums cannot start from what they do not rest in: that is added last.
        let adds_target = matches!(self.start, Start::Target) && !E::IS_F32;
        Touch {
            target,
            target_column_stride: strides.column * window.classes,
            target_block_stride: strides.block,
            normalise: [0, 1, 2].map(vector),
            addend: if adds_target { target } else { at(finish.addend) },
            rounds: !adds_target,
            activation: at(finish.activation),
            relu: finish.relu,
        }
    }
}

/// The outputs of one class: what they look at and where they are.
struct Class {
    taps: Range<usize>,
    rows: Range<usize>,
    width: usize,
    column: usize,
}

/// What a thread has to do for its units, listed once and gone through for every chunk and group. Kept in the thread's
/// scratch memory, so that later calls need not allocate.
#[derive(Default)]
pub(crate) struct WorkList {
    pub(super) taps: Vec<Tap>,
    pub(super) rows: Vec<Row>,
    /// Of a correlation.
    classes: Vec<Class>,
    /// Of a weight gradient.
    pub(super) strips: Vec<Strip>,
}

impl WorkList {
    /// Lists the classes of the given units. `origin` is where a unit's panel (or, where the source is its own panel,
    /// its image) starts, from its index and its image.
    fn fill<E: Element>(
        &mut self,
        correlation: &Correlation<E>,
        bands: &Bands,
        units: Range<usize>,
        origin: impl Fn(usize, usize) -> usize,
    ) {
        let Correlation { window, strides, .. } = correlation;
        self.taps.clear();
        self.rows.clear();
        self.classes.clear();
        // For any units that may follow: an image's last band is shorter than its others.
        self.rows.reserve(units.len() * bands.rows * window.classes);
        for row_class in 0..window.classes {
            let first_row = self.rows.len();
            for (index, unit) in units.clone().enumerate() {
                let (image, rows) = bands.rows_of(unit, window);
                let first = if window.is_direct::<E>() { 0 } else { rows.start };
                for row in rows {
                    let target_row = row * window.classes + row_class;
                    if target_row < window.target_height {
                        let target = image * strides.image + target_row * strides.row;
                        self.rows.push(Row {
                            source: origin(index, image) + (row - first) * window.panel_row_stride(),
                            sums: if E::IS_F32 {
                                target
                            } else {
                                (self.rows.len() - first_row) * window.grid_width() * LANES
                            },
                            target,
                        });
                    }
                }
            }
            for column_class in 0..window.classes {
                let first_tap = self.taps.len();
                window.push_taps(row_class, column_class, &mut self.taps);
                self.classes.push(Class {
                    taps: first_tap..self.taps.len(),
                    rows: first_row..self.rows.len(),
                    width: window.class_width(column_class),
                    column: column_class,
                });
            }
        }
    }
}

impl Compute {
    /// # Panics
    /// For panels of pairs, where the instruction set has no products of pairs.
    pub(crate) fn correlate<E: Element>(&self, correlation: &Correlation<E>, target: &mut [E]) {
        if correlation.window.panels == Panels::Values {
            return with_vector!(self.isa(), V => self.correlate_with::<V, E>(correlation, target));
        }
        assert_eq!(self.isa(), Isa::Avx512Bf16, "products of bf16 pairs");
        #[cfg(target_arch = "x86_64")]
        self.correlate_with::<Avx512Bf16, E>(correlation, target);
    }

    /// What [`Compute::correlate`] asks for.
    pub(crate) fn correlate_scratch<E: Element>(
        &self,
        window: &Window,
        images: usize,
        source_blocks: usize,
    ) -> ScratchNeed {
        let bands = Bands::new(window, source_blocks);
        let units = (images * bands.count).div_ceil(self.threads()).clamp(1, bands.units_at_once);
        let (panels, sums) = bands.scratch_lens::<E>(window, source_blocks, units);
        let blocks = with_vector!(self.isa(), V => V::BLOCKS);
        ScratchNeed::of_threads(panels + blocks * sums)
    }

    fn correlate_with<V: TileVector, E: Element>(&self, correlation: &Correlation<E>, target: &mut [E]) {
        let bands = Bands::new(&correlation.window, correlation.source_blocks);
        let units = correlation.images * bands.count;
        let groups = correlation.target_blocks.div_ceil(V::BLOCKS);
        let parts = parts_per_unit(units, groups, self.threads());
        let target = DisjointMut::new(target);
        self.parallel_pieces(units * parts, bands.units_at_once * parts, |items, scratch| {
            let mut item = items.start;
            while item < items.end {
                // Whole units go together, as many as the panels hold; a unit cut among threads goes alone.
                let (unit, first) = (item / parts, item % parts);
                let whole = if first == 0 { (items.end - item) / parts } else { 0 };
                if whole > 0 {
                    let count = whole.min(bands.units_at_once);
                    run::<V, E>(correlation, &bands, unit..unit + count, 0..groups, target, scratch);
                    item += count * parts;
                } else {
                    let last = parts.min(first + items.end - item);
                    let groups = share(groups, first, parts).start..share(groups, last - 1, parts).end;
                    run::<V, E>(correlation, &bands, unit..unit + 1, groups, target, scratch);
                    item += last - first;
                }
            }
        });
    }
}

/// Into how many parts (groups of output blocks) to cut each unit so that the threads have about equal work. Few, since
/// each part lays out the panel anew.
fn parts_per_unit(units: usize, groups: usize, threads: usize) -> usize {
    let balanced = |parts: &usize| (units * parts).div_ceil(threads) * threads * 10 <= units * parts * 11;
    (1..=groups).find(balanced).unwrap_or(groups)
}

/// How images are cut into bands of grid rows.
struct Bands {
    rows: usize,
    count: usize,
    units_at_once: usize,
}

impl Bands {
    fn new(window: &Window, source_blocks: usize) -> Bands {
        let height = window.grid_height();
        let len = |rows: usize| source_blocks * window.panel_len(rows);
        let most = (1..=height).rev().find(|&rows| len(rows) <= PANEL_BUDGET).unwrap_or(1);
        let count = height.div_ceil(most);
        let rows = height.div_ceil(count);
        Bands { rows, count: height.div_ceil(rows), units_at_once: (PANEL_BUDGET / len(rows)).max(1) }
    }

    /// Floats of the panels of some units, and of their sums of one target block where these do not rest in the target.
    fn scratch_lens<E: Element>(&self, window: &Window, source_blocks: usize, units: usize) -> (usize, usize) {
        let panels = if window.is_direct::<E>() { 0 } else { units * source_blocks * window.panel_len(self.rows) };
        (panels, if E::IS_F32 { 0 } else { units * self.rows * window.grid_width() * LANES })
    }

    fn rows_of(&self, unit: usize, window: &Window) -> (usize, Range<usize>) {
        let start = unit % self.count * self.rows;
        (unit / self.count, start..(start + self.rows).min(window.grid_height()))
    }
}

/// Computes the given groups of target blocks of the given units.
fn run<V: TileVector, E: Element>(
    correlation: &Correlation<E>,
    bands: &Bands,
    units: Range<usize>,
    groups: Range<usize>,
    target: DisjointMut<E>,
    scratch: &mut Scratch,
) {
    let Correlation { window, source_blocks, strides, .. } = correlation;
    let image_len = source_blocks * window.source_height * window.source_width * window.source_lanes;
    let direct = window.is_direct::<E>();
    let panel_len = window.panel_len(bands.rows);
    let unit_len = source_blocks * panel_len;
    let Scratch { buffer, work } = scratch;
    let (panels_len, sums_block_len) = bands.scratch_lens::<E>(window, *source_blocks, units.len());
    let (panels, sums) = buffer.prefix(panels_len + V::BLOCKS * sums_block_len).split_at_mut(panels_len);
    if !direct {
        for (unit, panels) in units.clone().zip(panels.chunks_exact_mut(unit_len)) {
            let (image, rows) = bands.rows_of(unit, window);
            let blocks = correlation.source[image * image_len..][..image_len].chunks_exact(image_len / source_blocks);
            for (block, panel) in blocks.zip(panels.chunks_exact_mut(panel_len)) {
                window.fill_panel(block, rows.clone(), panel);
            }
        }
    }
    // Words of an image, where it is its own panel.
    let image_words = image_len * size_of::<E>() / size_of::<f32>();
    work.fill(correlation, bands, units, |index, image| if direct { image * image_words } else { index * unit_len });
    let (source, source_block_stride): (*const f32, usize) = if direct {
        (correlation.source.as_ptr().cast(), image_words / source_blocks)
    } else {
        (panels.as_ptr(), panel_len)
    };
    let weight_source_stride = correlation.weights.len() / (correlation.target_blocks * source_blocks);
    let weight_target_stride = weight_source_stride * source_blocks;
    let panels_len = panel_len * bands.units_at_once;
    let chunk = (WEIGHT_BUDGET / weight_source_stride).min(SOURCE_BUDGET / panels_len).max(1);

    for group in groups {
        let block = group * V::BLOCKS;
        let blocks = V::BLOCKS.min(correlation.target_blocks - block);
        for class in &work.classes {
            let offset = block * strides.block + class.column * strides.column;
            let touch = correlation.touch(block, offset, target);
            for first in (0..*source_blocks).step_by(chunk) {
                let chunk = chunk.min(source_blocks - first);
                let weights = &correlation.weights[block * weight_target_stride + first * weight_source_stride..];
                let tile = Tile {
                    taps: &work.taps[class.taps.clone()],
                    source: source.wrapping_add(first * source_block_stride),
                    source_blocks: chunk,
                    source_block_stride,
                    weights: weights.as_ptr(),
                    weight_source_stride,
                    weight_target_stride,
                    sums: if E::IS_F32 { touch.target.cast() } else { sums.as_mut_ptr() },
                    sums_column_stride: if E::IS_F32 { touch.target_column_stride } else { LANES },
                    sums_block_stride: if E::IS_F32 { touch.target_block_stride } else { sums_block_len },
                    initial: match correlation.start {
                        _ if first > 0 => Initial::Sums,
                        Start::Target if E::IS_F32 => Initial::Sums,
                        Start::Zero | Start::Target => Initial::Zero,
                        Start::Bias(bias) => Initial::Bias(bias[block * LANES..].as_ptr()),
                    },
                };
                let touch = (first + chunk == *source_blocks && touch.is_needed()).then_some(&touch);
                let rows = &work.rows[class.rows.clone()];
                // SAFETY: `Compute` runs on instruction sets that the processor has. The callers of `correlate` assert
                // the lengths of source, weights, target and what is laid out as they are against the shape that the
                // window was made of, so that every row, tap and block listed here lies within them (or within the
                // panels, or the sums), and no other thread has these units and groups.
                unsafe { run_tiles::<V, E>(window.lanes, class.width, blocks, rows, &tile, touch) };
            }
        }
    }
}

/// Cuts rows of `width` columns into tiles of about equal width.
///
/// # Safety
/// As [`TileVector::tile`] and [`TileVector::touch`], for every row and `width` columns.
unsafe fn run_tiles<V: TileVector, E: Element>(
    lanes: usize,
    width: usize,
    blocks: usize,
    rows: &[Row],
    tile: &Tile,
    touch: Option<&Touch<E>>,
) {
    let at_once = rows_per_tile::<V>(width);
    let pieces = width.div_ceil(V::COLUMNS);
    let target_column_stride = touch.map_or(0, |touch| touch.target_column_stride);
    let mut rest = rows;
    while !rest.is_empty() {
        // Four short rows, or two, or one: what is left over is taken in smaller steps.
        let count = [4, 2, 1].into_iter().find(|&count| count <= at_once && count <= rest.len()).unwrap_or(1);
        let (now, later) = rest.split_at(count);
        for piece in 0..pieces {
            let columns = share(width, piece, pieces);
            let mut shifted = [Row::default(); 4];
            for (shifted, row) in shifted.iter_mut().zip(now) {
                shifted.source = row.source + columns.start * lanes;
                shifted.sums = row.sums + columns.start * tile.sums_column_stride;
                shifted.target = row.target + columns.start * target_column_stride;
            }
            let shifted = &shifted[..count];
            // SAFETY: the caller vouches for these rows and columns.
            unsafe {
                V::tile(lanes, columns.len(), blocks, shifted, tile);
                if let Some(touch) = touch {
                    V::touch(columns.len(), blocks, shifted, tile, touch);
                }
            }
        }
        rest = later;
    }
}
