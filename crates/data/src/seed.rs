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

/// Rotates about the centre without changing the size, and returns the part `crop` of the result. Nearest neighbour,
/// zero outside: Pillow's `Image.rotate` without `expand`, whose matrix has 16 fractional bits (`affine_fixed` in
/// Geometry.c).
pub(crate) fn rotate_and_crop<T: Copy + Default, const CHANNELS: usize>(
    source: &Raster<T, CHANNELS>,
    angle_degrees: f64,
    crop: Rectangle,
) -> Raster<T, CHANNELS> {
    let (width, height) = (source.width() as f64, source.height() as f64);
    let angle = -angle_degrees.rem_euclid(360.0).to_radians();
    let round15 = |value: f64| (value * 1e15).round() / 1e15;
    let (cosine, sine) = (round15(angle.cos()), round15(angle.sin()));
    // Source column = cosine x + sine y + column_shift; source row = -sine x + cosine y + row_shift.
    let column_shift = cosine * (-width / 2.0) + sine * (-height / 2.0) + width / 2.0;
    let row_shift = -sine * (-width / 2.0) + cosine * (-height / 2.0) + height / 2.0;
    // Pixel centres lie at one half.
    let fixed = |value: f64| (value * 65536.0 + 0.5).floor() as i64;
    let (column_per_x, column_per_y) = (fixed(cosine), fixed(sine));
    let (row_per_x, row_per_y) = (fixed(-sine), fixed(cosine));
    let column_start = fixed(column_shift + cosine * 0.5 + sine * 0.5);
    let row_start = fixed(row_shift - sine * 0.5 + cosine * 0.5);

    Raster::from_rows(crop.width, crop.height, T::default(), |y, out| {
        let y = (crop.top + y) as i64;
        let mut column = column_start + y * column_per_y + crop.left as i64 * column_per_x;
        let mut row = row_start + y * row_per_y + crop.left as i64 * row_per_x;
        for pixel in out.chunks_exact_mut(CHANNELS) {
            // A negative position becomes a huge one and is outside like any other.
            let (from_x, from_y) = ((column >> 16) as usize, (row >> 16) as usize);
            if from_x < source.width() && from_y < source.height() {
                pixel.copy_from_slice(&source.row(from_y)[from_x * CHANNELS..(from_x + 1) * CHANNELS]);
            }
            column += column_per_x;
            row += row_per_x;
        }
    })
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

    #[test]
    fn a_rotation_by_zero_is_a_crop() {
        let image = Raster::<u8, 1>::new(4, 3, (0..12).collect()).unwrap();
        let crop = Rectangle { left: 1, top: 1, width: 2, height: 2 };
        assert_eq!(rotate_and_crop(&image, 0.0, crop).samples(), [5, 6, 9, 10]);
    }
}
