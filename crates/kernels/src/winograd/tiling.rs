//! Where the tiles of a batch lie.

use super::{EXTENT, TILE};
use crate::LANES;

/// The tiles of a pass over `images` maps. A tile is numbered by image, row and column, in this order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tiling {
    pub(super) images: usize,
    /// Rows of the map that is looked at.
    pub(super) source_height: usize,
    /// Columns of the map that is looked at.
    pub(super) source_width: usize,
    /// Rows of the map that is cut into tiles.
    pub(super) target_height: usize,
    /// Columns of the map that is cut into tiles.
    pub(super) target_width: usize,
    /// Rows and columns of zeros around the source.
    pub(super) padding: usize,
}

/// A tile's image and first target row and column.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    pub(super) image: usize,
    pub(super) row: usize,
    pub(super) column: usize,
}

impl Tiling {
    fn rows(&self) -> usize {
        self.target_height.div_ceil(TILE)
    }

    fn columns(&self) -> usize {
        self.target_width.div_ceil(TILE)
    }

    /// How many tiles there are.
    pub(super) fn count(&self) -> usize {
        self.images * self.rows() * self.columns()
    }

    pub(super) fn place(&self, tile: usize) -> Place {
        let (line, column) = (tile / self.columns(), tile % self.columns());
        Place { image: line / self.rows(), row: line % self.rows() * TILE, column: column * TILE }
    }

    /// Floats of one block of one source map.
    pub(super) fn source_block_len(&self) -> usize {
        self.source_height * self.source_width * LANES
    }

    /// Floats of one block of one target map.
    pub(super) fn target_block_len(&self) -> usize {
        self.target_height * self.target_width * LANES
    }

    /// The 6 x 6 source values behind a tile: a pointer and the distance of its rows. `block` is the source block of
    /// the tile's image; values beyond its border are zeros, for which the tile is copied to `edge`.
    pub(super) fn source_of(&self, place: Place, block: &[f32], edge: &mut [f32]) -> (*const f32, usize) {
        let (height, width) = (self.source_height, self.source_width);
        if place.row >= self.padding && place.column >= self.padding {
            let (row, column) = (place.row - self.padding, place.column - self.padding);
            if row + EXTENT <= height && column + EXTENT <= width {
                return (block[(row * width + column) * LANES..].as_ptr(), width * LANES);
            }
        }
        cut_out(block, (height, width), (place.row, place.column), self.padding, EXTENT, edge);
        (edge.as_ptr(), EXTENT * LANES)
    }

    /// The 4 x 4 target values of a tile, as [`Tiling::source_of`].
    pub(super) fn target_of(&self, place: Place, block: &[f32], edge: &mut [f32]) -> (*const f32, usize) {
        let (height, width) = (self.target_height, self.target_width);
        if place.row + TILE <= height && place.column + TILE <= width {
            return (block[(place.row * width + place.column) * LANES..].as_ptr(), width * LANES);
        }
        cut_out(block, (height, width), (place.row, place.column), 0, TILE, edge);
        (edge.as_ptr(), TILE * LANES)
    }
}

/// Copies `extent` x `extent` positions of a map, the first being `padding` before `first`; beyond the border they are
/// zeros.
fn cut_out(
    map: &[f32],
    (height, width): (usize, usize),
    first: (usize, usize),
    padding: usize,
    extent: usize,
    into: &mut [f32],
) {
    // What of the copy lies inside, along an axis of `len` positions: its start in the copy, its start in the map, its
    // length.
    let inside = |first: usize, len: usize| {
        let skipped = padding.saturating_sub(first);
        let start = (first + skipped - padding).min(len);
        (skipped, start, (extent - skipped).min(len - start))
    };
    let (skipped_rows, row, rows) = inside(first.0, height);
    let (skipped_columns, column, columns) = inside(first.1, width);
    for (index, line) in into.chunks_exact_mut(extent * LANES).take(extent).enumerate() {
        if index < skipped_rows || index >= skipped_rows + rows {
            line.fill(0.0);
            continue;
        }
        let source = &map[((row + index - skipped_rows) * width + column) * LANES..][..columns * LANES];
        let (before, rest) = line.split_at_mut(skipped_columns * LANES);
        let (copied, after) = rest.split_at_mut(columns * LANES);
        before.fill(0.0);
        copied.copy_from_slice(source);
        after.fill(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every value of every tile against plain indexing.
    #[test]
    fn tiles_see_their_values_and_zeros_beyond_the_border() {
        for (height, width, padding) in [(7, 9, 1), (3, 3, 0), (12, 5, 2), (1, 1, 1)] {
            let tiling = Tiling {
                images: 2,
                source_height: height,
                source_width: width,
                target_height: height + 2 * padding - 2,
                target_width: width + 2 * padding - 2,
                padding,
            };
            let map: Vec<f32> = (0..tiling.source_block_len()).map(|i| i as f32 + 1.0).collect();
            let mut edge = vec![f32::NAN; EXTENT * EXTENT * LANES];
            for tile in 0..tiling.count() {
                let place = tiling.place(tile);
                let (pointer, stride) = tiling.source_of(place, &map, &mut edge);
                for y in 0..EXTENT {
                    for x in 0..EXTENT {
                        // SAFETY: 6 rows of 6 positions can be read from the pointer, which is in `map` or `edge`.
                        let found = unsafe { *pointer.add(y * stride + x * LANES + 3) };
                        let (row, column) = (place.row + y, place.column + x);
                        let inside =
                            (padding..height + padding).contains(&row) && (padding..width + padding).contains(&column);
                        let expected =
                            if inside { map[((row - padding) * width + column - padding) * LANES + 3] } else { 0.0 };
                        assert_eq!(found, expected, "{tiling:?}, tile {tile}, {y} {x}");
                    }
                }
            }
            assert_eq!(tiling.place(tiling.count() - 1).image, 1);
        }
    }
}
