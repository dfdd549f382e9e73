//! Which elements of its source an output looks at, and the panel that lays them out for the micro-kernels.
//!
//! A forward convolution of stride s looks at every s-th row and column. Its data gradient is a convolution too, of the
//! output's gradient: the inputs fall into s x s classes by their row and column modulo s, and all inputs of a class
//! see the same taps of the kernel at the same places. Both become the same thing here: outputs on a grid, `classes` x
//! `classes` of them at each grid point, and taps at fixed offsets from the grid point.
//!
//! A *panel* is a copy of the source rows behind a band of grid rows, with the zeros of the border in place and with
//! the columns sorted by their phase (modulo the step): neighbours in the grid become neighbours in memory, so that one
//! micro-kernel without a branch serves every kernel, stride and padding. The copy costs about a hundredth of the work.

use std::ops::Range;

use super::{ConvShape, InputLayout};
use crate::element::{Slice, halves, pair};
use crate::{Bf16, Element, Isa, LANES};

/// One position of the kernel: where it is in a panel, counted from the grid point, and in the weights of a block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tap {
    pub(super) source: usize,
    pub(super) weight: usize,
}

/// Who looks at whom.
#[derive(Clone, Copy, Debug)]
enum Direction {
    /// Outputs look at inputs.
    Forward,
    /// Inputs look at the gradient for the outputs.
    Gradient,
}

/// What a panel holds for each position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Panels {
    /// The channels of a block, or one channel of a planar source, in f32.
    Values,
    /// 8 words: pairs of neighbouring channels of a block, of bf16 as they lie in memory.
    ChannelPairs,
    /// A word for each channel of a block, or one for a planar source: its bf16 in this row and in the next row of the
    /// grid.
    RowPairs,
    /// One word of a planar source, for passes of stride 1 or 2: this bf16 and its right neighbour, which two
    /// neighbouring taps look at.
    TapPairs,
}

/// The geometry of one pass; rows and columns share kernel, step and origin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    direction: Direction,
    /// What a panel holds.
    pub(super) panels: Panels,
    /// Channels side by side in the source: 16, or 1 where it is planar.
    pub(super) source_lanes: usize,
    /// Floats (or words) of a position in a panel.
    pub(super) lanes: usize,
    /// Rows of the source.
    pub(super) source_height: usize,
    /// Columns of the source.
    pub(super) source_width: usize,
    /// Rows that are computed.
    pub(super) target_height: usize,
    /// Columns that are computed.
    pub(super) target_width: usize,
    /// Outputs at each grid point, along each axis.
    pub(super) classes: usize,
    /// Rows and columns of the kernel.
    pub(super) kernel: usize,
    padding: usize,
    /// Distance of neighbouring grid points in the source.
    pub(super) step: usize,
    /// How many residues of `step` the taps fall on.
    pub(super) phases: usize,
    /// Row of the source that the panel of grid row 0 starts with.
    origin: isize,
    /// Rows of a panel, of each phase, beyond the grid rows that it serves.
    extra: usize,
}

impl Panels {
    /// Those of a forward pass over elements of a kind.
    pub(super) fn of_forward<E: Element>(isa: Isa, shape: &ConvShape) -> Panels {
        match shape.input {
            InputLayout::Blocked => Panels::of_gradient::<E>(isa),
            InputLayout::Planar if multiplies_pairs::<E>(isa) && shape.kernel > 1 && shape.stride <= 2 => {
                Panels::TapPairs
            }
            InputLayout::Planar => Panels::Values,
        }
    }

    /// Those of a data gradient from elements of a kind.
    pub(super) fn of_gradient<E: Element>(isa: Isa) -> Panels {
        if multiplies_pairs::<E>(isa) { Panels::ChannelPairs } else { Panels::Values }
    }

    /// Those of a weight gradient from elements of a kind.
    pub(super) fn of_weight_gradient<E: Element>(isa: Isa) -> Panels {
        if multiplies_pairs::<E>(isa) { Panels::RowPairs } else { Panels::Values }
    }

    fn lanes(self, source_lanes: usize) -> usize {
        match self {
            Panels::Values => source_lanes,
            Panels::ChannelPairs => source_lanes / 2,
            Panels::RowPairs | Panels::TapPairs => source_lanes,
        }
    }

    /// How many columns of the kernel one tap takes.
    pub(super) fn columns_of_tap(self) -> usize {
        if self == Panels::TapPairs { 2 } else { 1 }
    }
}

/// Whether elements of a kind are multiplied in pairs.
fn multiplies_pairs<E: Element>(isa: Isa) -> bool {
    !E::IS_F32 && isa == Isa::Avx512Bf16
}

impl Window {
    /// Outputs that look at the input.
    pub(crate) fn forward(shape: &ConvShape, panels: Panels) -> Window {
        let mut window = Window {
            direction: Direction::Forward,
            panels,
            source_lanes: shape.in_lanes(),
            lanes: panels.lanes(shape.in_lanes()),
            source_height: shape.in_height,
            source_width: shape.in_width,
            target_height: shape.out_height(),
            target_width: shape.out_width(),
            classes: 1,
            kernel: shape.kernel,
            padding: shape.padding,
            step: shape.stride,
            phases: shape.kernel.min(shape.stride),
            origin: -(shape.padding as isize),
            extra: (shape.kernel - 1) / shape.stride,
        };
        window.flatten();
        window
    }

    /// Inputs that look at the gradient for the output.
    pub(super) fn gradient(shape: &ConvShape, panels: Panels) -> Window {
        let mut window = Window {
            direction: Direction::Gradient,
            panels,
            source_lanes: LANES,
            lanes: panels.lanes(LANES),
            source_height: shape.out_height(),
            source_width: shape.out_width(),
            target_height: shape.in_height,
            target_width: shape.in_width,
            classes: shape.stride,
            kernel: shape.kernel,
            padding: shape.padding,
            step: 1,
            phases: 1,
            origin: 0,
            extra: 0,
        };
        let (mut lowest, mut highest) = (isize::MAX, isize::MIN);
        for class in 0..window.classes {
            for index in 0..window.kernel {
                if let Some(shift) = window.gradient_shift(class, index) {
                    (lowest, highest) = (lowest.min(shift), highest.max(shift));
                }
            }
        }
        // Kernel position 0 meets one of the classes, so that there is a lowest and a highest.
        window.origin = lowest;
        window.extra = (highest - lowest) as usize;
        window.flatten();
        window
    }

    /// A pass that looks at single positions does not mind rows: a small map becomes one row, which fills tiles better
    /// than many short ones. A large one stays cut into rows, for the caches.
    fn flatten(&mut self) {
        const SMALL_MAP: usize = 1024;
        // Pairs of rows need rows.
        let keeps_rows = self.panels == Panels::RowPairs;
        if !keeps_rows && self.is_pointwise() && self.source_height * self.source_width <= SMALL_MAP {
            self.source_width *= self.source_height;
            self.source_height = 1;
            self.target_width *= self.target_height;
            self.target_height = 1;
        }
    }

    fn is_pointwise(&self) -> bool {
        self.kernel == 1 && self.step == 1 && self.classes == 1 && self.padding == 0
    }

    /// Whether a source of such elements is its own panel: it holds just what the panels would.
    pub(super) fn is_direct<E: Element>(&self) -> bool {
        let as_it_is = match self.panels {
            Panels::Values => E::IS_F32 && self.lanes == LANES,
            Panels::ChannelPairs => true,
            Panels::RowPairs | Panels::TapPairs => false,
        };
        as_it_is && self.is_pointwise()
    }

    /// For which row of the source, counted from the grid row, the inputs of a class meet row `index` of the kernel.
    fn gradient_shift(&self, class: usize, index: usize) -> Option<isize> {
        // Input row h = grid * stride + class meets kernel row k in output row (h + padding - k) / stride.
        let (distance, stride) = ((class + self.padding) as isize - index as isize, self.classes as isize);
        (distance.rem_euclid(stride) == 0).then(|| distance.div_euclid(stride))
    }

    /// Phase and shift, in a panel, of row (or column) `index` of the kernel, for the outputs of a class that meet it.
    fn axis_tap(&self, class: usize, index: usize) -> Option<(usize, usize)> {
        match self.direction {
            Direction::Forward => Some((index % self.step, index / self.step)),
            Direction::Gradient => self.gradient_shift(class, index).map(|shift| (0, (shift - self.origin) as usize)),
        }
    }

    /// Appends the taps of the outputs at (row class, column class), in the order of the kernel's rows and columns.
    pub(super) fn push_taps(&self, row_class: usize, column_class: usize, taps: &mut Vec<Tap>) {
        for row in 0..self.kernel {
            let Some((row_phase, row_shift)) = self.axis_tap(row_class, row) else { continue };
            let step = self.panels.columns_of_tap();
            for column in (0..self.kernel).step_by(step) {
                let Some((phase, shift)) = self.axis_tap(column_class, column) else { continue };
                let phase = phase % self.column_phases();
                taps.push(Tap {
                    source: (row_shift * self.phases + row_phase) * self.panel_row_len()
                        + (phase * self.phase_width() + shift) * self.lanes,
                    weight: (row * self.kernel.div_ceil(step) + column / step) * self.lanes * LANES,
                });
            }
        }
    }

    /// Rows of the grid.
    pub(super) fn grid_height(&self) -> usize {
        self.target_height.div_ceil(self.classes)
    }

    /// Columns of the grid.
    pub(super) fn grid_width(&self) -> usize {
        self.target_width.div_ceil(self.classes)
    }

    /// Columns of the grid that have an output of the class.
    pub(super) fn class_width(&self, column_class: usize) -> usize {
        self.target_width.saturating_sub(column_class).div_ceil(self.classes)
    }

    /// Floats from one grid row to the next in a panel.
    pub(super) fn panel_row_stride(&self) -> usize {
        self.phases * self.panel_row_len()
    }

    /// Floats of a panel of one source block that serves `rows` grid rows.
    pub(super) fn panel_len(&self, rows: usize) -> usize {
        (rows + self.extra) * self.panel_row_stride()
    }

    fn phase_width(&self) -> usize {
        self.grid_width() + self.extra
    }

    fn panel_row_len(&self) -> usize {
        self.column_phases() * self.phase_width() * self.lanes
    }

    /// How many residues of `step` the columns are sorted by. A pair of columns covers both residues of 2.
    fn column_phases(&self) -> usize {
        if self.panels == Panels::TapPairs { 1 } else { self.phases }
    }

    /// Copies what the grid rows `rows` look at, of one block of one image, into a panel.
    pub(super) fn fill_panel<E: Element>(&self, source: &[E], rows: Range<usize>, panel: &mut [f32]) {
        let grid_rows = rows.start..rows.end + self.extra;
        let places = grid_rows.flat_map(|row| (0..self.phases).map(move |phase| (row, phase)));
        let row_len = self.source_width * self.source_lanes;
        let source_row = |row: usize, phase: usize| {
            let index = (row * self.step + phase) as isize + self.origin;
            let inside = (0..self.source_height as isize).contains(&index);
            inside.then(|| &source[index as usize * row_len..][..row_len])
        };
        for ((row, phase), target) in places.zip(panel.chunks_exact_mut(self.panel_row_len())) {
            let first = source_row(row, phase);
            let second = if self.panels == Panels::RowPairs { source_row(row + 1, phase) } else { None };
            if first.is_none() && second.is_none() {
                target.fill(0.0);
            } else if let (Panels::TapPairs, Some(Slice::Bf16(source))) = (self.panels, first.map(E::slice)) {
                self.fill_neighbours(source, target);
            } else {
                self.fill_panel_row(first, second, target);
            }
        }
    }

    /// Fills a row of a panel from a row of the source and, where rows are paired, from the next row of the grid;
    /// `None` is a row beyond the border.
    fn fill_panel_row<E: Element>(&self, first_row: Option<&[E]>, second_row: Option<&[E]>, target: &mut [f32]) {
        let (lanes, width) = (self.lanes, self.phase_width());
        for (phase, target) in target.chunks_exact_mut(width * lanes).enumerate() {
            // Column i of the panel is column `i * step + first` of the source.
            let (first, step) = (phase as isize + self.origin, self.step as isize);
            let start = (-first).max(0).div_euclid(step) + isize::from((-first).max(0).rem_euclid(step) > 0);
            let end = (self.source_width as isize - first + step - 1).div_euclid(step);
            let (start, end) = (start.min(width as isize) as usize, end.clamp(0, width as isize) as usize);
            let end = end.max(start);
            target[..start * lanes].fill(0.0);
            target[end * lanes..].fill(0.0);
            if start == end {
                continue;
            }
            let from = (start as isize * step + first) as usize * self.source_lanes;
            let [first_row, second_row] = [first_row, second_row].map(|row| row.map(|row| &row[from..]));
            self.fill_run(first_row, second_row, &mut target[start * lanes..end * lanes]);
        }
    }

    /// Fills a row of a panel of neighbours: word i holds the columns `i * step + origin` and the one behind it.
    fn fill_neighbours(&self, source: &[Bf16], words: &mut [f32]) {
        let value = |column: isize| {
            let inside = usize::try_from(column).ok().and_then(|column| source.get(column));
            inside.copied().unwrap_or_default()
        };
        let (origin, step) = (self.origin, self.step as isize);
        // Words whose both columns are inside.
        let start = ((-origin).max(0) + step - 1) / step;
        let end = (source.len() as isize - 1 - origin + step - 1) / step;
        let (start, end) = (start.min(words.len() as isize) as usize, end.clamp(0, words.len() as isize) as usize);
        let end = end.max(start);
        for (index, word) in words.iter_mut().enumerate() {
            if index < start || index >= end {
                let column = index as isize * step + origin;
                *word = pair(value(column), value(column + 1));
            }
        }
        let inside = &mut words[start..end];
        if !inside.is_empty() {
            let source = &source[(start as isize * step + origin) as usize..];
            if step == 2 {
                // Neighbours are pairs already.
                let numbers = halves(inside);
                numbers.copy_from_slice(&source[..numbers.len()]);
            } else {
                for ((word, first), second) in inside.iter_mut().zip(source).zip(&source[1..]) {
                    *word = pair(*first, *second);
                }
            }
        }
    }

    /// Every `step`-th position, from the first on.
    fn fill_run<E: Element>(&self, first: Option<&[E]>, second: Option<&[E]>, target: &mut [f32]) {
        let stride = self.step * self.source_lanes;
        match (self.panels, first.map(E::slice), second.map(E::slice)) {
            (Panels::Values, Some(Slice::F32(source)), _) if self.step == 1 => {
                target.copy_from_slice(&source[..target.len()]);
            }
            (Panels::Values, Some(Slice::F32(source)), _) => fill_values(source, self.lanes, stride, target),
            (Panels::Values, Some(Slice::Bf16(source)), _) => fill_values(source, self.lanes, stride, target),
            (Panels::ChannelPairs, Some(Slice::Bf16(source)), _) => {
                for (block, place) in source.chunks(stride).zip(halves(target).as_chunks_mut::<LANES>().0) {
                    place.copy_from_slice(&block[..LANES]);
                }
            }
            (Panels::RowPairs, ..) => fill_pairs(first, second, self.lanes, stride, target),
            (panels, ..) => unreachable!("{panels:?} of {}", std::any::type_name::<E>()),
        }
    }
}

/// Copies the positions of a run, `stride` apart in it, as f32.
pub(super) fn fill_values<E: Element>(source: &[E], lanes: usize, stride: usize, target: &mut [f32]) {
    if lanes == 1 {
        for (value, place) in source.iter().step_by(stride).zip(target) {
            *place = value.to_f32();
        }
        return;
    }
    for (block, place) in source.chunks(stride).zip(target.as_chunks_mut::<LANES>().0) {
        let block = &block[..LANES];
        for lane in 0..LANES {
            place[lane] = block[lane].to_f32();
        }
    }
}

/// A position of zeros.
const ZEROS: [Bf16; LANES] = [Bf16::from_bits(0); LANES];

/// Pairs the positions of two runs of bf16, `stride` apart in them; `None` is a run of zeros.
pub(super) fn fill_pairs<E: Element>(
    first: Option<&[E]>,
    second: Option<&[E]>,
    lanes: usize,
    stride: usize,
    target: &mut [f32],
) {
    // A run of zeros is one position, again and again.
    let [first, second] = [first, second].map(|run| match run.map(E::slice) {
        Some(Slice::Bf16(run)) => (run, stride),
        _ => (&ZEROS[..], 0),
    });
    if lanes == 1 { pair_positions::<1>(first, second, target) } else { pair_positions::<LANES>(first, second, target) }
}

fn pair_positions<const LANE_COUNT: usize>(
    (first, first_stride): (&[Bf16], usize),
    (second, second_stride): (&[Bf16], usize),
    target: &mut [f32],
) {
    for (index, words) in target.as_chunks_mut::<LANE_COUNT>().0.iter_mut().enumerate() {
        let first = &first[index * first_stride..][..LANE_COUNT];
        let second = &second[index * second_stride..][..LANE_COUNT];
        for lane in 0..LANE_COUNT {
            words[lane] = pair(first[lane], second[lane]);
        }
    }
}
