//! Square images of `f32` under construction.

use std::ops::Range;

use rand::Rng;

/// A square image, row by row from the top.
pub(super) struct Canvas {
    pub(super) side: usize,
    pub(super) values: Vec<f32>,
}

impl Canvas {
    /// All zero.
    pub(super) fn new(side: usize) -> Self {
        Self { side, values: vec![0.0; side * side] }
    }

    /// Sum over the pixels.
    pub(super) fn sum(&self) -> f32 {
        self.values.iter().sum()
    }

    /// Centre of a pixel as fractions of the side: column, row.
    pub(super) fn centre(&self, index: usize) -> (f32, f32) {
        let scale = self.side as f32;
        (((index % self.side) as f32 + 0.5) / scale, ((index / self.side) as f32 + 0.5) / scale)
    }

    /// Indices of the pixels in the square with centre `(column, row)` and half the side `reach`, all as fractions.
    pub(super) fn square(&self, (column, row): (f32, f32), reach: f32) -> impl Iterator<Item = usize> + use<> {
        let side = self.side;
        let columns = self.span(column - reach, column + reach);
        self.span(row - reach, row + reach).flat_map(move |row| columns.clone().map(move |column| row * side + column))
    }

    fn span(&self, from: f32, to: f32) -> Range<usize> {
        // `as` saturates: what lies before the first pixel becomes 0.
        let clip = |fraction: f32| ((fraction * self.side as f32) as usize).min(self.side);
        clip(from)..clip(to + 1.0 / self.side as f32)
    }

    /// Draws a disc with a soft edge of one pixel, keeping the larger value: strokes do not add up where they cross.
    /// Centre and radius as fractions of the side.
    pub(super) fn stamp(&mut self, centre: (f32, f32), radius: f32) {
        let scale = self.side as f32;
        for index in self.square(centre, radius + 1.0 / scale) {
            let (column, row) = self.centre(index);
            let (dx, dy) = (column - centre.0, row - centre.1);
            let value = ((radius - (dx * dx + dy * dy).sqrt()) * scale + 0.5).clamp(0.0, 1.0);
            self.values[index] = self.values[index].max(value);
        }
    }

    /// Adds noise of mean 0 whose standard deviation at a value is `deviation(value)`.
    pub(super) fn add_noise(&mut self, deviation: impl Fn(f32) -> f32, generator: &mut impl Rng) {
        for value in &mut self.values {
            // The sum of four uniform numbers is near enough to normal, and the same on every machine.
            let bits = generator.next_u64();
            let sum: u64 = (0..4).map(|part| (bits >> (16 * part)) & 0xffff).sum();
            let normal = (sum as f32 / 65_536.0 - 2.0) * 3.0f32.sqrt();
            *value += deviation(*value) * normal;
        }
    }

    /// Gaussian blur with standard deviation `sigma` in pixels, along the rows and then the columns; the border
    /// repeats.
    pub(super) fn blur(&mut self, sigma: f32) {
        let radius = (2.5 * sigma).ceil() as usize;
        let weights: Vec<f32> = (0..=2 * radius)
            .map(|tap| {
                let offset = tap as f32 - radius as f32;
                libm::expf(-0.5 * offset * offset / (sigma * sigma))
            })
            .collect();
        let total: f32 = weights.iter().sum();
        let mut padded = vec![0.0f32; self.side + 2 * radius];
        for (along, between) in [(1, self.side), (self.side, 1)] {
            for line in 0..self.side {
                for (index, value) in padded.iter_mut().enumerate() {
                    let nearest = index.saturating_sub(radius).min(self.side - 1);
                    *value = self.values[line * between + nearest * along];
                }
                for index in 0..self.side {
                    let sum: f32 = weights.iter().zip(&padded[index..]).map(|(weight, value)| weight * value).sum();
                    self.values[line * between + index * along] = sum / total;
                }
            }
        }
    }
}
