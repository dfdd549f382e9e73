//! A heat map and where it lies in the image.

use roentgen_data::{Augment, Transform};

/// One number a place; the raw map, with its sign.
#[derive(Clone, Debug, PartialEq)]
pub struct HeatMap {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// `[height, width]`, row by row from the top left: what speaks for the class is positive.
    pub values: Vec<f32>,
    /// Side of the network's input in pixels: the centre crop that the map spans.
    pub image_size: usize,
}

impl HeatMap {
    /// The largest evidence for the class, or 0 where there is none.
    pub fn largest(&self) -> f32 {
        self.values.iter().fold(0.0, |largest, &value| largest.max(value))
    }

    /// The map over the network's input, `[S, S]` with `S` the image size, with its sign: bilinear between the centres of
    /// places.
    pub fn relevance(&self) -> Vec<f32> {
        let size = self.image_size;
        self.sampled((size, size), |position| position)
    }

    /// The evidence for the class over a whole image of `width` x `height` pixels, `[height, width]`: as
    /// [`HeatMap::relevance`], but negative values, which speak against the class, are 0. Where the centre crop hides the
    /// image from the network, the value is NaN.
    pub fn evidence_over(&self, width: usize, height: usize) -> Vec<f32> {
        let transform = Transform { image_size: self.image_size, augment: Augment::None };
        let seen = transform.seen(width, height);
        let side = self.image_size as f64;
        let mut values = self.sampled((width, height), |(x, y)| {
            ((x - seen.left) / seen.width * side, (y - seen.top) / seen.height * side)
        });
        // Not `max`, which would make 0 of NaN.
        values.iter_mut().filter(|value| **value < 0.0).for_each(|value| *value = 0.0);
        values
    }

    /// The values at the centres of a grid of `width` x `height` pixels; `to_input` takes a point of the grid to
    /// the network's input, both measured in pixels from the upper left corner.
    fn sampled(&self, (width, height): (usize, usize), to_input: impl Fn((f64, f64)) -> (f64, f64)) -> Vec<f32> {
        let side = self.image_size as f64;
        let mut values = Vec::with_capacity(width * height);
        for row in 0..height {
            for column in 0..width {
                let (x, y) = to_input((column as f64 + 0.5, row as f64 + 0.5));
                let seen = (0.0..side).contains(&x) && (0.0..side).contains(&y);
                values.push(if seen { self.between(x / side, y / side) } else { f32::NAN });
            }
        }
        values
    }

    /// The value at a point, `x` and `y` in `[0, 1)` of the width and the height: bilinear, and constant from the outermost
    /// centres to the border.
    fn between(&self, x: f64, y: f64) -> f32 {
        let neighbours = |at: f64, count: usize| {
            let at = (at * count as f64 - 0.5).clamp(0.0, (count - 1) as f64);
            let first = at as usize;
            (first, (first + 1).min(count - 1), at - first as f64)
        };
        let (left, right, across) = neighbours(x, self.width);
        let (upper, lower, down) = neighbours(y, self.height);
        let value = |row: usize, column: usize| f64::from(self.values[row * self.width + column]);
        let in_row = |row| value(row, left) * (1.0 - across) + value(row, right) * across;
        (in_row(upper) * (1.0 - down) + in_row(lower) * down) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(values: &[f32], width: usize, image_size: usize) -> HeatMap {
        HeatMap { height: values.len() / width, width, values: values.to_vec(), image_size }
    }

    #[test]
    fn values_stand_at_the_centres_of_places() {
        let map = map(&[0.0, 4.0, -4.0, 0.0], 2, 4);
        // Centres at 1 and 3 pixels; pixels at 0.5, 1.5, 2.5, 3.5.
        let relevance = map.relevance();
        assert_eq!(relevance[..4], [0.0, 1.0, 3.0, 4.0]);
        assert_eq!(relevance[4..8], [-1.0, 0.0, 2.0, 3.0]);
        assert_eq!(relevance[12..], [-4.0, -3.0, -1.0, 0.0]);
        assert_eq!(map.largest(), 4.0);
    }

    #[test]
    fn over_an_image_the_map_lies_where_the_network_looked() {
        // 56 px: resized to 64 on the short side, 56 from the centre: an eighth of the short side is cut off.
        let map = map(&[1.0], 1, 56);
        let (width, height) = (320, 160);
        let over = map.evidence_over(width, height);
        let seen = |x: usize, y: usize| !over[y * width + x].is_nan();
        // The square seen is 140 px wide, in the middle.
        assert!(seen(160, 80) && seen(91, 11) && seen(228, 148));
        assert!(!seen(88, 80) && !seen(231, 80) && !seen(160, 8) && !seen(160, 151));
        assert_eq!(over.iter().filter(|value| !value.is_nan()).count(), 140 * 140);
        let against = self::map(&[-1.0], 1, 56).evidence_over(width, height);
        assert!(against.iter().all(|value| value.is_nan() || *value == 0.0));
    }
}
