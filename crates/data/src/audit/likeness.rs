//! What is kept of an image to recognise it in a changed copy: its structure, without its brightness and contrast.

use crate::raster::{Image, Raster};
use crate::resize::resize;

/// Side of the field that candidates are found with, and aligned first.
const COARSE_SIDE: usize = 32;
/// Side of the field that they are then aligned on.
const MIDDLE_SIDE: usize = 64;
/// Side of the field that decides: single ribs and vessels stand on it, which two exposures of one patient do not
/// share.
const FINE_SIDE: usize = 128;
/// Levels of an `i8` for a deviation as large as is usual in its neighbourhood.
const LEVELS: f32 = 32.0;
/// A spread below this share of the image's whole range is flat: rounding and noise, not structure.
const FLAT: f32 = 0.01;

/// An image reduced to its local structure, of about 21 kB: deviations from the local mean over the local spread. A
/// change of brightness, contrast or gamma leaves it as it is, an inversion changes its sign.
#[derive(Clone, Debug, PartialEq)]
pub struct Likeness {
    /// Width over height of the image.
    pub(super) aspect: f32,
    pub(super) coarse: Field,
    pub(super) middle: Field,
    pub(super) fine: Field,
}

/// A square of deviations, whatever the proportions of the image.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Field {
    side: usize,
    samples: Box<[i8]>,
}

impl Likeness {
    /// Reduces a decoded image.
    pub fn of(image: &Image) -> Likeness {
        let fine = plane(image, FINE_SIDE);
        let middle = halved(&fine, FINE_SIDE);
        let coarse = halved(&middle, MIDDLE_SIDE);
        Likeness {
            aspect: image.width() as f32 / image.height() as f32,
            coarse: Field::new(&coarse, COARSE_SIDE, 5.0),
            middle: Field::new(&middle, MIDDLE_SIDE, 5.0),
            fine: Field::new(&fine, FINE_SIDE, 4.0),
        }
    }

    /// Appends its bytes.
    pub(super) fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.aspect.to_le_bytes());
        for field in [&self.coarse, &self.middle, &self.fine] {
            bytes.extend(field.samples.iter().map(|sample| sample.to_le_bytes()[0]));
        }
    }

    /// The inverse of [`Likeness::write`]; `None` for anything else.
    pub(super) fn read(bytes: &[u8]) -> Option<Likeness> {
        let (aspect, mut rest) = bytes.split_first_chunk()?;
        let mut field = |side: usize| {
            let (samples, behind) = rest.split_at_checked(side * side)?;
            rest = behind;
            Some(Field { side, samples: samples.iter().map(|&sample| i8::from_le_bytes([sample])).collect() })
        };
        let [coarse, middle, fine] = [field(COARSE_SIDE)?, field(MIDDLE_SIDE)?, field(FINE_SIDE)?];
        rest.is_empty().then_some(Likeness { aspect: f32::from_le_bytes(*aspect), coarse, middle, fine })
    }
}

impl Field {
    /// The neighbourhood is a Gaussian of `sigma` samples.
    fn new(plane: &[f32], side: usize, sigma: f32) -> Field {
        // Three boxes are a Gaussian to the eye; their variances, (width^2 - 1) / 12, add up.
        let radius = ((((4.0 * sigma * sigma + 1.0).sqrt() - 1.0) / 2.0).round() as usize).max(1);
        let mean = blurred(plane, side, radius, 3);
        let deviation: Vec<f32> = plane.iter().zip(&mean).map(|(sample, mean)| sample - mean).collect();
        let squares: Vec<f32> = deviation.iter().map(|deviation| deviation * deviation).collect();
        let variance = blurred(&squares, side, radius, 3);
        let usual = variance.iter().sum::<f32>() / variance.len() as f32;
        let floor = (0.05 * usual).max(FLAT * FLAT);
        let ratio = |(deviation, variance): (&f32, &f32)| deviation / (variance + floor).sqrt();
        // What is finer than two samples is where resampling and compression differ.
        let ratios: Vec<f32> = deviation.iter().zip(&variance).map(ratio).collect();
        let samples = blurred(&ratios, side, 1, 1).into_iter().map(|ratio| (ratio * LEVELS).round() as i8).collect();
        Field { side, samples }
    }

    /// Samples along a side.
    pub(super) fn side(&self) -> usize {
        self.side
    }

    /// The sample of column `x` and row `y`.
    pub(super) fn at(&self, x: usize, y: usize) -> f32 {
        f32::from(self.samples[y * self.side + x])
    }

    /// The value at `(u, v)`, `[-0.5, 0.5]` each from the left upper corner to the right lower one, between the four
    /// samples around, and its derivatives by `u` and `v`. Beyond the border stands the border.
    pub(super) fn sample(&self, u: f32, v: f32) -> (f32, f32, f32) {
        let last = (self.side - 1) as f32;
        let scaled = |position: f32| ((position + 0.5) * self.side as f32 - 0.5).clamp(0.0, last - 0.001);
        let (x, y) = (scaled(u), scaled(v));
        let (left, top) = (x as usize, y as usize);
        let (right_share, lower_share) = (x - left as f32, y - top as f32);
        let start = top * self.side + left;
        let [a, b] = [self.samples[start], self.samples[start + 1]].map(f32::from);
        let [c, d] = [self.samples[start + self.side], self.samples[start + self.side + 1]].map(f32::from);
        let (upper, lower) = (a + right_share * (b - a), c + right_share * (d - c));
        let value = upper + lower_share * (lower - upper);
        let by_u = (b - a) + lower_share * ((d - c) - (b - a));
        (value, by_u * self.side as f32, (lower - upper) * self.side as f32)
    }
}

/// The image as a square of grey values from 0 to 1.
fn plane(image: &Image, side: usize) -> Vec<f32> {
    let scaled = |raster: Raster<u8, 3>| {
        let light = |pixel: &[u8]| pixel.iter().map(|&sample| f32::from(sample)).sum::<f32>() / (3.0 * 255.0);
        raster.samples().chunks_exact(3).map(light).collect()
    };
    match image {
        Image::Gray8(raster) => resize(raster, side, side).samples().iter().map(|&s| f32::from(s) / 255.0).collect(),
        // Many files of 16 bits use 12 of them or fewer: their own range is what counts.
        Image::Gray16(raster) => {
            let whitest = raster.samples().iter().copied().max().unwrap_or(0).max(1);
            resize(raster, side, side).samples().iter().map(|&s| f32::from(s) / f32::from(whitest)).collect()
        }
        Image::Rgb8(raster) => scaled(resize(raster, side, side)),
    }
}

/// Means over squares of `2 * radius + 1`, `times` over; beyond the border stands the border.
fn blurred(plane: &[f32], side: usize, radius: usize, times: usize) -> Vec<f32> {
    let mut from = plane.to_vec();
    let mut line = vec![0.0; side];
    let share = 1.0 / (2 * radius + 1) as f32;
    for _ in 0..times {
        for (start, step) in (0..side).map(|row| (row * side, 1)).chain((0..side).map(|column| (column, side))) {
            for (index, sample) in line.iter_mut().enumerate() {
                *sample = from[start + index * step];
            }
            let at = |index: isize| line[index.clamp(0, side as isize - 1) as usize];
            let reach = radius as isize;
            let mut sum: f32 = (-reach..=reach).map(at).sum();
            for index in 0..side {
                from[start + index * step] = sum * share;
                let index = index as isize;
                sum += at(index + reach + 1) - at(index - reach);
            }
        }
    }
    from
}

/// Means of two by two.
fn halved(plane: &[f32], side: usize) -> Vec<f32> {
    let half = side / 2;
    let mean = |index: usize| {
        let start = index / half * 2 * side + index % half * 2;
        (plane[start] + plane[start + 1] + plane[start + side] + plane[start + side + 1]) / 4.0
    };
    (0..half * half).map(mean).collect()
}
