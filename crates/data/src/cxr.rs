//! The augmentation `cxr`: what differs between two radiographs of one chest.
//!
//! A patient stands a little turned and aside, exposures differ in contrast, and some archives leave a plain border
//! around the image. No image is mirrored: the heart has a side. Small angles and shifts, and some change of contrast,
//! are what published chest X-ray classifiers use (COVID-Net: 10 degrees, a tenth of the side); each is a setting.

use std::borrow::Cow;
use std::ops::Range;

use rand::{Rng, RngExt};
use roentgen_run::config::CxrSettings;

use crate::clahe::equalise;
use crate::planes::{Planes, Tone, Unit};
use crate::raster::{Raster, Rectangle};
use crate::resize::{resize, resize_rows};
use crate::seed::Rotation;
use crate::transform::resized_size;

/// What one application of the augmentation draws.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CxrParameters {
    /// Rotation about the centre, counter-clockwise, in degrees.
    pub angle_degrees: f64,
    /// Shift of the network's view to the right and down, as a share of its side.
    pub shift: (f64, f64),
    /// Factor of all differences from the mean.
    pub contrast: f64,
    /// Whether the histogram of each neighbourhood is equalised.
    pub equalises: bool,
    /// Whether a plain border is cut away where there is one.
    pub cuts_border: bool,
}

impl CxrParameters {
    /// Draws everything, in the order of the fields, whatever the settings: they do not change each other's draws.
    pub fn draw(settings: &CxrSettings, random: &mut impl Rng) -> CxrParameters {
        let mut symmetric = |largest: f32| f64::from(largest) * random.random_range(-1.0..1.0);
        let angle_degrees = symmetric(settings.rotation_degrees);
        let shift = (symmetric(settings.shift), symmetric(settings.shift));
        let contrast = 1.0 + symmetric(settings.contrast);
        let mut happens = |probability: f32| random.random_range(0.0..1.0) < f64::from(probability);
        let equalises = happens(settings.clahe_probability);
        let cuts_border = happens(settings.border_cut_probability);
        CxrParameters { angle_degrees, shift, contrast, equalises, cuts_border }
    }
}

/// Applies it: resized as ever, border, CLAHE, rotation (nearest neighbour, zero outside), the square that the fixed
/// transform takes, shifted, then contrast.
pub(crate) fn apply<T: Unit, const CHANNELS: usize>(
    raster: &Raster<T, CHANNELS>,
    settings: &CxrSettings,
    parameters: &CxrParameters,
    size: usize,
    out: &mut [f32],
) {
    let to = resized_size(raster.width(), raster.height(), size);
    let mut image = Cow::Borrowed(raster);
    if to != (raster.width(), raster.height()) {
        image = Cow::Owned(resize(raster, to.0, to.1));
    }
    let whole = Rectangle { left: 0, top: 0, width: to.0, height: to.1 };
    let content = if parameters.cuts_border { content(&image) } else { whole };
    if parameters.equalises {
        image = Cow::Owned(equalise(&image, settings.clahe_limit.into()));
    }
    let crop = view(content, parameters.shift, size);
    let rotation = Rotation::new(to, parameters.angle_degrees);
    let read = |y: usize, columns: Range<usize>, row: &mut [T]| {
        rotation.read_row(&image, whole, (crop.left + columns.start, crop.top + y), row);
    };
    let sum: f64 = image.samples().iter().map(|sample| f64::from(sample.unit())).sum();
    let tone = Tone { mean: (sum / image.samples().len() as f64) as f32, contrast: parameters.contrast as f32 };
    let mut planes = Planes::new(size, false, out).with_tone(tone);
    let write = |y, row: &[T]| planes.write::<T, CHANNELS>(y, row);
    let all = Rectangle { left: 0, top: 0, width: size, height: size };
    resize_rows::<T, CHANNELS>((crop.width, crop.height), (size, size), all, read, write);
}

/// The square of the network's size in the middle of the content, or the largest that fits, shifted as far as it goes.
fn view(content: Rectangle, shift: (f64, f64), size: usize) -> Rectangle {
    let side = size.min(content.width).min(content.height);
    let place = |start: usize, room: usize, shift: f64| {
        let middle = room as f64 / 2.0 + shift * side as f64;
        start + middle.round_ties_even().clamp(0.0, room as f64) as usize
    };
    Rectangle {
        left: place(content.left, content.width - side, shift.0),
        top: place(content.top, content.height - side, shift.1),
        width: side,
        height: side,
    }
}

/// The image without rows and columns at its sides that are plain: black or white, or nearly one grey. At most a
/// quarter of a side goes at each end, so that a dark lung is not taken for a border.
fn content<T: Unit, const CHANNELS: usize>(image: &Raster<T, CHANNELS>) -> Rectangle {
    /// Levels of 256 that a plain row may span: JPEG leaves ripples.
    const RIPPLE: u8 = 8;
    let plain = |samples: &mut dyn Iterator<Item = T>| {
        let (low, high) = samples.fold((u8::MAX, 0), |(low, high), sample| {
            let level = sample.level();
            (level.min(low), level.max(high))
        });
        high - low <= RIPPLE
    };
    let row = |y: usize| plain(&mut image.row(y).iter().copied());
    let stride = image.width() * CHANNELS;
    let column = |x: usize| {
        let pixels = image.samples().chunks_exact(stride);
        plain(&mut pixels.flat_map(|row| row[x * CHANNELS..(x + 1) * CHANNELS].iter().copied()))
    };
    let ends = |side: usize, is_plain: &dyn Fn(usize) -> bool| {
        let first = (0..side / 4).take_while(|&at| is_plain(at)).count();
        let last = (0..side / 4).take_while(|&at| is_plain(side - 1 - at)).count();
        (first, side - first - last)
    };
    let ((left, width), (top, height)) = (ends(image.width(), &column), ends(image.height(), &row));
    Rectangle { left, top, width, height }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raster::Image;
    use crate::transform::{Augment, IMAGENET_DEVIATION, IMAGENET_MEAN, Transform};
    use roentgen_run::draw::{Purpose, stream};

    const STILL: CxrParameters =
        CxrParameters { angle_degrees: 0.0, shift: (0.0, 0.0), contrast: 1.0, equalises: false, cuts_border: false };

    fn picture(width: usize, height: usize) -> Raster<u8, 1> {
        Raster::from_rows(width, height, 0, |y, row| {
            for (x, sample) in row.iter_mut().enumerate() {
                *sample = (40 + (x * 5 + y * 3) % 150) as u8;
            }
        })
    }

    /// The red plane as levels.
    fn levels(raster: &Raster<u8, 1>, parameters: &CxrParameters, size: usize) -> Vec<f32> {
        let mut out = vec![f32::NAN; 3 * size * size];
        apply(raster, &CxrSettings::default(), parameters, size, &mut out);
        let plane = out[..size * size].iter();
        plane.map(|value| (value * IMAGENET_DEVIATION[0] + IMAGENET_MEAN[0]) * 255.0).collect()
    }

    #[test]
    fn without_any_change_it_is_the_fixed_transform() {
        for (width, height) in [(64, 64), (80, 64), (200, 130)] {
            let raster = picture(width, height);
            let (mut found, mut expected) = (vec![0.0; 3 * 56 * 56], vec![1.0; 3 * 56 * 56]);
            apply(&raster, &CxrSettings::default(), &STILL, 56, &mut found);
            Transform { image_size: 56, augment: Augment::None }.apply(&Image::Gray8(raster), None, &mut expected);
            assert!(found.iter().zip(&expected).all(|(one, other)| (one - other).abs() < 1e-5));
        }
    }

    #[test]
    fn draws_are_uniform_within_their_settings_and_independent_of_each_other() {
        let settings = CxrSettings { clahe_probability: 0.25, ..CxrSettings::default() };
        let draw =
            |settings: &CxrSettings, item| CxrParameters::draw(settings, &mut stream(1, Purpose::Augment, 0, item));
        let drawn: Vec<CxrParameters> = (0..20_000).map(|item| draw(&settings, item)).collect();
        let check = |name: &str, value: fn(&CxrParameters) -> f64, low: f64, high: f64| {
            let values = drawn.iter().map(value);
            assert!(values.clone().all(|value| (low..=high).contains(&value)), "{name}");
            let mean = values.clone().sum::<f64>() / drawn.len() as f64;
            let deviation = (values.map(|value| (value - mean).powi(2)).sum::<f64>() / drawn.len() as f64).sqrt();
            // The mean of 20,000 draws deviates by less than 1 % of the range, and a uniform deviation is 1 / sqrt(12).
            assert!((mean - (low + high) / 2.0).abs() < 0.01 * (high - low), "{name}: {mean}");
            assert!((deviation / (high - low) - 12f64.powf(-0.5)).abs() < 0.01, "{name}: {deviation}");
        };
        check("angle", |drawn| drawn.angle_degrees, -7.0, 7.0);
        check("shift to the right", |drawn| drawn.shift.0, -0.05, 0.05);
        check("shift down", |drawn| drawn.shift.1, -0.05, 0.05);
        check("contrast", |drawn| drawn.contrast, 0.8, 1.2);
        let share = |of: fn(&CxrParameters) -> bool| drawn.iter().filter(|drawn| of(drawn)).count() as f64 / 20_000.0;
        assert!((share(|drawn| drawn.equalises) - 0.25).abs() < 0.013);
        assert!((share(|drawn| drawn.cuts_border) - 0.5).abs() < 0.015);
        let other = CxrSettings { rotation_degrees: 0.0, contrast: 0.0, ..settings };
        for (item, drawn) in drawn.iter().enumerate().take(100) {
            let expected = CxrParameters { angle_degrees: 0.0, contrast: 1.0, ..*drawn };
            assert_eq!(draw(&other, item as u64), expected);
        }
    }

    #[test]
    fn a_shift_moves_the_view_and_stops_at_the_edge() {
        let raster = picture(80, 64);
        let still = levels(&raster, &STILL, 56);
        let moved = levels(&raster, &CxrParameters { shift: (2.0 / 56.0, -1.0 / 56.0), ..STILL }, 56);
        for (y, x) in (1..56).flat_map(|y| (0..54).map(move |x| (y, x))) {
            assert_eq!(moved[y * 56 + x], still[(y - 1) * 56 + x + 2]);
        }
        let far = view(Rectangle { left: 0, top: 0, width: 80, height: 64 }, (1.0, -1.0), 56);
        assert_eq!(far, Rectangle { left: 24, top: 0, width: 56, height: 56 });
    }

    #[test]
    fn contrast_turns_about_the_mean_and_stays_in_range() {
        let raster = picture(64, 64);
        let mean = raster.samples().iter().map(|&sample| f64::from(sample)).sum::<f64>() / (64.0 * 64.0);
        let still = levels(&raster, &STILL, 56);
        for contrast in [0.5, 1.2, 9.0] {
            let changed = levels(&raster, &CxrParameters { contrast, ..STILL }, 56);
            for (found, level) in changed.iter().zip(&still) {
                let expected = (mean + contrast * (f64::from(*level) - mean)).clamp(0.0, 255.0);
                assert!((f64::from(*found) - expected).abs() < 0.01, "{found} of {expected}");
            }
        }
    }

    #[test]
    fn a_plain_border_is_found_and_a_dark_quarter_is_not_all_of_it() {
        let inner = picture(40, 50);
        let framed = Raster::<u8, 1>::from_rows(64, 64, 0, |y, row| {
            row.fill(3);
            row[5] = 9;
            if (6..56).contains(&y) {
                row[10..50].copy_from_slice(inner.row(y - 6));
            }
        });
        assert_eq!(content(&framed), Rectangle { left: 10, top: 6, width: 40, height: 50 });
        assert_eq!(content(&inner), Rectangle { left: 0, top: 0, width: 40, height: 50 });
        let flat = Raster::<u8, 1>::new(40, 20, vec![7; 800]).unwrap();
        assert_eq!(content(&flat), Rectangle { left: 10, top: 5, width: 20, height: 10 });
        // Nothing of the frame is left in the view, which is scaled up to the network's size.
        let cut = levels(&framed, &CxrParameters { cuts_border: true, ..STILL }, 56);
        assert!(cut.iter().all(|level| *level > 39.0), "{cut:?}");
        assert!(levels(&framed, &STILL, 56).iter().any(|level| *level < 10.0));
    }
}
