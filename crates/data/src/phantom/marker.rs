//! Side markers as technicians burn them into a radiograph.

use rand::{Rng, RngExt};

/// Letters on a grid of 5 columns and 7 rows; the highest of 5 bits is the left column.
const LETTER_L: [u8; 7] = [0b10000, 0b10000, 0b10000, 0b10000, 0b10000, 0b10000, 0b11111];
const LETTER_R: [u8; 7] = [0b11110, 0b10001, 0b10001, 0b11110, 0b10100, 0b10010, 0b10001];

/// Burned-in text with an optional underline.
pub(super) struct Marker {
    /// `L`, otherwise `R`.
    pub(super) left: bool,
    /// Top left corner as a fraction of the image's side.
    pub(super) x: f32,
    /// See `x`.
    pub(super) y: f32,
    /// Side of one cell of the letter's grid as a fraction of the image's side.
    pub(super) cell: f32,
    /// Brightness, 0..1.
    pub(super) brightness: f32,
    /// A bar below the letter.
    pub(super) underlined: bool,
}

impl Marker {
    /// Draws a marker at either side of the image, in its upper third, on either shoulder whatever its letter says:
    /// real ones are now and then on the wrong side.
    pub(super) fn draw(generator: &mut impl Rng) -> Self {
        let cell = generator.random_range(0.008..0.014);
        let inset = generator.random_range(0.05..0.12);
        Self {
            left: generator.random_bool(0.5),
            x: if generator.random_bool(0.5) { inset } else { 1.0 - inset - 5.0 * cell },
            y: generator.random_range(0.05..0.35),
            cell,
            brightness: generator.random_range(0.8..1.0),
            underlined: generator.random_bool(0.3),
        }
    }

    /// Brightness that the marker gives to the point `(x, y)`, both 0..1 over the image, where it covers it.
    pub(super) fn covers(&self, x: f32, y: f32) -> Option<f32> {
        let (column, row) = ((x - self.x) / self.cell, (y - self.y) / self.cell);
        if !(0.0..5.0).contains(&column) || !(0.0..9.0).contains(&row) {
            return None;
        }
        let letter = if self.left { &LETTER_L } else { &LETTER_R };
        let set = match row as usize {
            row @ 0..=6 => (letter[row] >> (4 - column as usize)) & 1 == 1,
            8 => self.underlined,
            _ => false,
        };
        set.then_some(self.brightness)
    }
}
