//! Where the tiles of a batch lie.

use super::kernel::{Widening, WinogradKernel};
use super::{EXTENT, TILE};
use crate::{ConvShape, Element, LANES};

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
    /// Outputs, cut into tiles, look at inputs.
    pub(super) fn forward(shape: &ConvShape, images: usize) -> Tiling {
        Tiling {
            images,
            source_height: shape.in_height,
            source_width: shape.in_width,
            target_height: shape.out_height(),
            target_width: shape.out_width(),
            padding: shape.padding,
        }
    }

    /// Inputs, cut into tiles, look at the gradient for the outputs.
    pub(super) fn backward(shape: &ConvShape, images: usize) -> Tiling {
        Tiling {
            images,
            source_height: shape.out_height(),
            source_width: shape.out_width(),
            target_height: shape.in_height,
            target_width: shape.in_width,
            padding: 2 - shape.padding,
        }
    }

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

    /// Elements of one block of one source map.
    pub(super) fn source_block_len(&self) -> usize {
        self.source_height * self.source_width * LANES
    }

    /// Elements of one block of one target map.
    pub(super) fn target_block_len(&self) -> usize {
        self.target_height * self.target_width * LANES
    }

    /// The 6 x 6 source values behind a tile, as f32: a pointer and the distance of its rows. `block` is the source
    /// block of the tile's image; what is not f32, or beyond its border, where values are zeros, is copied to `edge`.
    pub(super) fn source_of<K: WinogradKernel, E: Element>(
        &self,
        place: Place,
        block: &[E],
        edge: &mut [f32],
    ) -> (*const f32, usize) {
        let map = Map { values: block, height: self.source_height, width: self.source_width };
        map.square::<K>((place.row, place.column), self.padding, EXTENT, edge)
    }

    /// The 4 x 4 target values of a tile, as [`Tiling::source_of`].
    pub(super) fn target_of<K: WinogradKernel, E: Element>(
        &self,
        place: Place,
        block: &[E],
        edge: &mut [f32],
    ) -> (*const f32, usize) {
        let map = Map { values: block, height: self.target_height, width: self.target_width };
        map.square::<K>((place.row, place.column), 0, TILE, edge)
    }
}

/// One block of one image.
struct Map<'a, E> {
    values: &'a [E],
    height: usize,
    width: usize,
}

impl<E: Element> Map<'_, E> {
    /// `extent` x `extent` positions, the first being `padding` before `first`; beyond the border they are zeros.
    fn square<K: WinogradKernel>(
        &self,
        first: (usize, usize),
        padding: usize,
        extent: usize,
        edge: &mut [f32],
    ) -> (*const f32, usize) {
        // What lies inside, along an axis of `len` positions: its start in the square, its start in the map, its length.
        let inside = |first: usize, len: usize| {
            let skipped = padding.saturating_sub(first);
            let start = (first + skipped - padding).min(len);
            (skipped, start, (extent - skipped).min(len - start))
        };
        let (skipped_rows, row, rows) = inside(first.0, self.height);
        let (skipped_columns, column, columns) = inside(first.1, self.width);
        let is_whole = rows == extent && columns == extent;
        let row_stride = self.width * LANES;
        let edge = &mut edge[..extent * extent * LANES];
        let line = extent * LANES;
        if rows > 0 && columns > 0 {
            let source = &self.values[(row * self.width + column) * LANES..];
            if is_whole && E::IS_F32 {
                return (source.as_ptr().cast(), row_stride);
            }
            if !is_whole {
                edge.fill(0.0);
            }
            let widening = Widening {
                source: source[..(rows - 1) * row_stride + columns * LANES].as_ptr(),
                row_stride,
                rows,
                columns,
                target: edge[skipped_rows * line + skipped_columns * LANES..].as_mut_ptr(),
                target_row_stride: line,
            };
            // SAFETY: `Compute` runs on instruction sets that the processor has. The rows of the source lie within the
            // slice whose length was just checked; those of the target within `edge`, since what was skipped and what
            // is inside make at most `extent` along both axes.
            unsafe { K::widen(&widening) };
        } else {
            edge.fill(0.0);
        }
        (edge.as_ptr(), line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vector::ScalarVector;

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
                let (pointer, stride) = tiling.source_of::<ScalarVector, f32>(place, &map, &mut edge);
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
