//! The augmentation `seed`: rotation, a random part of the image, a random mirror image.
//!
//! torchvision's RandomRotation(30), RandomResizedCrop(S) and RandomHorizontalFlip with their defaults (version 0.29),
//! in the order of the assignment that this project started from. What is drawn stands in one struct, so that the same
//! parameters can be given to torchvision's functions and the pixels compared.

use rand::{Rng, RngExt};

use crate::raster::{Raster, Rectangle};

/// Largest rotation in degrees, to either side.
const LARGEST_ANGLE_DEGREES: f64 = 30.0;
/// Smallest and largest area of the crop as a part of the image's.
const AREA: (f64, f64) = (0.08, 1.0);
/// Smallest and largest width over height of the crop.
const ASPECT: (f64, f64) = (3.0 / 4.0, 4.0 / 3.0);
/// Draws of a crop before the fallback.
const CROP_TRIES: usize = 10;

/// What one application of the augmentation draws.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SeedParameters {
    /// Rotation about the centre, counter-clockwise, -30 to 30 degrees.
    pub angle_degrees: f64,
    /// The part of the rotated image that is scaled to the network's size.
    pub crop: Rectangle,
    /// Whether the result is mirrored left to right, with probability one half.
    pub flip: bool,
}

impl SeedParameters {
    /// Draws angle, crop and flip, in this order, for an image whose short side has been resized: `width` x `height`.
    pub fn draw(random: &mut impl Rng, width: usize, height: usize) -> Self {
        let angle_degrees = random.random_range(-LARGEST_ANGLE_DEGREES..LARGEST_ANGLE_DEGREES);
        let crop = draw_crop(random, width, height);
        let flip = random.random_range(0.0..1.0) < 0.5;
        Self { angle_degrees, crop, flip }
    }
}

/// RandomResizedCrop.get_params: area uniform, aspect ratio uniform in the logarithm, ten tries, then the largest
/// central part whose aspect ratio is allowed.
fn draw_crop(random: &mut impl Rng, width: usize, height: usize) -> Rectangle {
    // Python's round() takes ties to even.
    let round = |value: f64| value.round_ties_even() as usize;
    let area = (width * height) as f64;
    for _ in 0..CROP_TRIES {
        let target_area = area * random.random_range(AREA.0..AREA.1);
        let aspect = random.random_range(ASPECT.0.ln()..ASPECT.1.ln()).exp();
        let crop_width = round((target_area * aspect).sqrt());
        let crop_height = round((target_area / aspect).sqrt());
        if (1..=width).contains(&crop_width) && (1..=height).contains(&crop_height) {
            // u64, so that 32- and 64-bit machines draw the same.
            let top = random.random_range(0..=(height - crop_height) as u64) as usize;
            let left = random.random_range(0..=(width - crop_width) as u64) as usize;
            return Rectangle { left, top, width: crop_width, height: crop_height };
        }
    }
    let aspect = width as f64 / height as f64;
    let (crop_width, crop_height) = if aspect < ASPECT.0 {
        (width, round(width as f64 / ASPECT.0))
    } else if aspect > ASPECT.1 {
        (round(height as f64 * ASPECT.1), height)
    } else {
        (width, height)
    };
    Rectangle {
        left: (width - crop_width) / 2,
        top: (height - crop_height) / 2,
        width: crop_width,
        height: crop_height,
    }
}

/// A rotation about the centre that keeps the image's size. Nearest neighbour, zero outside: Pillow's `Image.rotate`
/// without `expand`, whose matrix has 16 fractional bits (`affine_fixed` in Geometry.c).
pub(crate) struct Rotation {
    size: (usize, usize),
    /// Source column of pixel (0, 0), and what a step to the right and one down add to it.
    column: [i64; 3],
    /// The same of the source row.
    row: [i64; 3],
}

impl Rotation {
    /// Counter-clockwise, of an image of `size` (width, height).
    pub(crate) fn new(size: (usize, usize), angle_degrees: f64) -> Rotation {
        let (width, height) = (size.0 as f64, size.1 as f64);
        let angle = -angle_degrees.rem_euclid(360.0).to_radians();
        let round15 = |value: f64| (value * 1e15).round() / 1e15;
        let (cosine, sine) = (round15(angle.cos()), round15(angle.sin()));
        // Source column = cosine x + sine y + column_shift; source row = -sine x + cosine y + row_shift.
        let column_shift = cosine * (-width / 2.0) + sine * (-height / 2.0) + width / 2.0;
        let row_shift = -sine * (-width / 2.0) + cosine * (-height / 2.0) + height / 2.0;
        // Pixel centres lie at one half.
        let fixed = |value: f64| (value * 65536.0 + 0.5).floor() as i64;
        Rotation {
            size,
            column: [fixed(column_shift + cosine * 0.5 + sine * 0.5), fixed(cosine), fixed(sine)],
            row: [fixed(row_shift - sine * 0.5 + cosine * 0.5), fixed(-sine), fixed(cosine)],
        }
    }

    /// Source position of a pixel, with 16 fractional bits: column and row.
    fn position(&self, x: usize, y: usize) -> (i64, i64) {
        let at = |[start, per_x, per_y]: [i64; 3]| start + x as i64 * per_x + y as i64 * per_y;
        (at(self.column), at(self.row))
    }

    /// The part of the source that the pixels of `crop` come from; all of the source where none does.
    pub(crate) fn source_of(&self, crop: Rectangle) -> Rectangle {
        // The map is linear, also in its fixed-point numbers: its extremes lie at the corners.
        let (right, bottom) = (crop.left + crop.width - 1, crop.top + crop.height - 1);
        let corners = [(crop.left, crop.top), (right, crop.top), (crop.left, bottom), (right, bottom)]
            .map(|(x, y)| self.position(x, y));
        let range = |positions: [i64; 4], size: usize| {
            let [smallest, .., largest] = sorted(positions);
            let clip = |position: i64| (position >> 16).clamp(0, size as i64) as usize;
            (clip(smallest), clip(largest + (1 << 16)))
        };
        let (left, right) = range(corners.map(|corner| corner.0), self.size.0);
        let (top, bottom) = range(corners.map(|corner| corner.1), self.size.1);
        if left == right || top == bottom {
            return Rectangle { left: 0, top: 0, width: self.size.0, height: self.size.1 };
        }
        Rectangle { left, top, width: right - left, height: bottom - top }
    }

    /// Fills `out` with the pixels of row `y` of the rotated image, from column `left` on. `source` is the part `held`
    /// of the image, in which [`Rotation::source_of`] these pixels lies.
    pub(crate) fn read_row<T: Copy + Default, const CHANNELS: usize>(
        &self,
        source: &Raster<T, CHANNELS>,
        held: Rectangle,
        (left, y): (usize, usize),
        out: &mut [T],
    ) {
        let (column, row) = self.position(left, y);
        let (mut column, mut row) = (column - ((held.left as i64) << 16), row - ((held.top as i64) << 16));
        let (width, height) = (source.width(), source.height());
        for pixel in out.chunks_exact_mut(CHANNELS) {
            // A negative position becomes a huge one and is outside like any other.
            let (from_x, from_y) = ((column >> 16) as usize, (row >> 16) as usize);
            if from_x < width && from_y < height {
                let start = (from_y * width + from_x) * CHANNELS;
                pixel.copy_from_slice(&source.samples()[start..start + CHANNELS]);
            } else {
                pixel.fill(T::default());
            }
            column += self.column[1];
            row += self.row[1];
        }
    }
}

fn sorted(mut positions: [i64; 4]) -> [i64; 4] {
    positions.sort_unstable();
    positions
}

#[cfg(test)]
mod tests {
    use super::*;
    use roentgen_run::draw::{Purpose, stream};

    const DRAWS: u64 = 20_000;

    fn draws(width: usize, height: usize) -> impl Iterator<Item = SeedParameters> {
        (0..DRAWS).map(move |item| SeedParameters::draw(&mut stream(1, Purpose::Augment, 0, item), width, height))
    }

    /// Kolmogorov-Smirnov distance of the values from the uniform distribution on 0 to 1; below 1.63 / sqrt(n) in 99
    /// of 100 cases.
    fn distance_from_uniform(mut values: Vec<f64>) -> f64 {
        values.sort_by(f64::total_cmp);
        let n = values.len() as f64;
        let distances = values
            .iter()
            .enumerate()
            .map(|(rank, value)| ((rank as f64 + 1.0) / n - value).abs().max((value - rank as f64 / n).abs()));
        distances.fold(0.0, f64::max)
    }

    #[test]
    fn angles_are_uniform_and_flips_are_half() {
        let angles = draws(256, 256).map(|drawn| (drawn.angle_degrees + 30.0) / 60.0).collect();
        assert!(distance_from_uniform(angles) < 1.95 / (DRAWS as f64).sqrt());
        let flips = draws(256, 256).filter(|drawn| drawn.flip).count() as f64 / DRAWS as f64;
        assert!((flips - 0.5).abs() < 4.0 * 0.5 / (DRAWS as f64).sqrt(), "{flips}");
    }

    #[test]
    fn crops_lie_inside_and_keep_area_and_aspect() {
        for (width, height) in [(256, 256), (256, 341), (400, 256)] {
            for SeedParameters { crop, .. } in draws(width, height) {
                assert!(crop.left + crop.width <= width && crop.top + crop.height <= height, "{crop:?}");
                let area = (crop.width * crop.height) as f64 / (width * height) as f64;
                assert!((0.078..=1.0).contains(&area), "{crop:?}");
                let aspect = crop.width as f64 / crop.height as f64;
                assert!((0.74..=1.36).contains(&aspect), "{crop:?}");
            }
        }
    }

    #[test]
    fn small_crops_are_uniform_in_area_log_aspect_and_place() {
        // Below half the area nearly every draw is accepted whatever its aspect ratio, so that area and aspect keep
        // their own distributions; rounding to whole pixels is small beside the bound in an image of 4096 x 4096.
        let side = 4096;
        let small: Vec<_> = draws(side, side)
            .map(|drawn| drawn.crop)
            .filter(|crop| ((crop.width * crop.height) as f64) < 0.5 * (side * side) as f64)
            .collect();
        let bound = 1.95 / (small.len() as f64).sqrt();
        let of = |value: &dyn Fn(&Rectangle) -> f64| distance_from_uniform(small.iter().map(value).collect());
        assert!(of(&|crop| ((crop.width * crop.height) as f64 / (side * side) as f64 - 0.08) / 0.42) < bound + 0.001);
        let log_ratio = (4.0f64 / 3.0).ln();
        assert!(of(&|crop| ((crop.width as f64 / crop.height as f64).ln() / log_ratio + 1.0) / 2.0) < bound + 0.001);
        assert!(of(&|crop| crop.left as f64 / (side - crop.width) as f64) < bound + 0.001);
        assert!(of(&|crop| crop.top as f64 / (side - crop.height) as f64) < bound + 0.001);
    }

    #[test]
    fn an_elongated_image_falls_back_to_its_centre() {
        // No crop of at least 8 % of this area with an allowed aspect ratio is as narrow as the image.
        let tall = Rectangle { left: 0, top: 250 - 7, width: 10, height: 13 };
        let wide = Rectangle { left: 250 - 7, top: 0, width: 13, height: 10 };
        assert!(draws(10, 500).all(|drawn| drawn.crop == tall));
        assert!(draws(500, 10).all(|drawn| drawn.crop == wide));
    }

    fn rotate(image: &Raster<u8, 1>, angle_degrees: f64, crop: Rectangle, held: Rectangle) -> Vec<u8> {
        let rotation = Rotation::new((9, 7), angle_degrees);
        let part = Raster::<u8, 1>::from_rows(held.width, held.height, 0, |y, row| {
            row.copy_from_slice(&image.row(held.top + y)[held.left..held.left + held.width]);
        });
        let mut out = vec![99; crop.width * crop.height];
        for (y, row) in out.chunks_exact_mut(crop.width).enumerate() {
            rotation.read_row(&part, held, (crop.left, crop.top + y), row);
        }
        out
    }

    #[test]
    fn a_rotation_by_zero_is_a_crop() {
        let image = Raster::<u8, 1>::new(9, 7, (0..63).collect()).unwrap();
        let crop = Rectangle { left: 1, top: 1, width: 2, height: 2 };
        assert_eq!(Rotation::new((9, 7), 0.0).source_of(crop), crop);
        assert_eq!(rotate(&image, 0.0, crop, crop), [10, 11, 19, 20]);
    }

    #[test]
    fn the_part_that_a_crop_comes_from_is_enough() {
        let image = Raster::<u8, 1>::new(9, 7, (1..64).collect()).unwrap();
        let whole = Rectangle { left: 0, top: 0, width: 9, height: 7 };
        for angle_degrees in [-30.0, -11.5, 0.0, 3.0, 29.9] {
            for (left, top) in [(0, 0), (2, 3), (7, 5)] {
                for (width, height) in [(1, 1), (2, 1), (9 - left, 7 - top)] {
                    let crop = Rectangle { left, top, width, height };
                    let held = Rotation::new((9, 7), angle_degrees).source_of(crop);
                    let expected = rotate(&image, angle_degrees, crop, whole);
                    assert_eq!(rotate(&image, angle_degrees, crop, held), expected, "{angle_degrees}, {crop:?}");
                }
            }
        }
    }
}
