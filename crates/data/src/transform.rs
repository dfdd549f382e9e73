//! From a decoded image to the numbers that the network sees: one path for training, evaluation, prediction, serving.

use std::borrow::Cow;
use std::ops::Range;

use roentgen_run::draw::ChaCha8Rng;

use crate::cxr::{self, CxrParameters};
use crate::planes::{Planes, Unit};
use crate::raster::{Image, Raster, Rectangle, eight_bit};
use crate::resize::{resize, resize_region, resize_rows};
use crate::seed::{Rotation, SeedParameters};
use roentgen_run::config::CxrSettings;

/// Mean of the channels red, green, blue over ImageNet, on the scale 0 to 1 (torchvision's weights expect it).
pub const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// Standard deviation of the channels over ImageNet, on the scale 0 to 1.
pub const IMAGENET_DEVIATION: [f32; 3] = [0.229, 0.224, 0.225];

/// What is changed at random while training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Augment {
    /// Nothing: the fixed transform.
    None,
    /// Rotation, random part, random mirror image; see [`crate::seed`].
    Seed,
    /// Small rotation and shift, contrast, and where asked for CLAHE and the cut of a border; see [`crate::cxr`].
    Cxr(CxrSettings),
}

/// The part of an image that a network sees, in pixels of that image from its upper left corner; need not be whole
/// pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seen {
    /// To the left of it.
    pub left: f64,
    /// Above it.
    pub top: f64,
    /// Its width.
    pub width: f64,
    /// Its height.
    pub height: f64,
}

/// The way from an image to a tensor of `[3, image_size, image_size]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Transform {
    /// Side of the network's input in pixels, at least 1; 224 for torchvision's weights.
    pub image_size: usize,
    /// What is changed at random while training.
    pub augment: Augment,
}

impl Transform {
    /// Writes the normalised tensor `[3, S, S]` (red, green, blue planes; (value / 255 - mean) / deviation with
    /// ImageNet's numbers) into `out`.
    ///
    /// The fixed transform is torchvision's Resize(round(S * 256 / 224)) and CenterCrop(S). An augmentation needs a
    /// generator; without one (evaluation, prediction) the fixed transform is applied, whatever `augment` says.
    ///
    /// # Panics
    /// Where `out` does not have `3 * S * S` elements.
    pub fn apply(&self, image: &Image, random: Option<&mut ChaCha8Rng>, out: &mut [f32]) {
        match (self.augment, random) {
            (Augment::Seed, Some(random)) => {
                let (width, height) = resized_size(image.width(), image.height(), self.image_size);
                self.apply_seed(image, &SeedParameters::draw(random, width, height), out);
            }
            (Augment::Cxr(settings), Some(random)) => {
                let parameters = CxrParameters::draw(&settings, random);
                self.apply_cxr(image, &settings, &parameters, out);
            }
            (Augment::None, _) | (_, None) => match image {
                Image::Gray8(raster) => self.fixed(raster, out),
                Image::Gray16(raster) => self.fixed(raster, out),
                Image::Rgb8(raster) => self.fixed(raster, out),
            },
        }
    }

    /// The augmentation with given parameters, whose crop lies within [`resized_size`]. Otherwise as
    /// [`Transform::apply`].
    ///
    /// # Panics
    /// Where `out` does not have `3 * S * S` elements, or the crop has no pixels.
    pub fn apply_seed(&self, image: &Image, parameters: &SeedParameters, out: &mut [f32]) {
        match image {
            Image::Gray8(raster) => self.seeded(raster, parameters, out),
            Image::Gray16(raster) => self.seeded(raster, parameters, out),
            Image::Rgb8(raster) => self.seeded(raster, parameters, out),
        }
    }

    /// The augmentation `cxr` with given parameters. Otherwise as [`Transform::apply`].
    ///
    /// # Panics
    /// Where `out` does not have `3 * S * S` elements.
    pub fn apply_cxr(&self, image: &Image, settings: &CxrSettings, parameters: &CxrParameters, out: &mut [f32]) {
        match image {
            Image::Gray8(raster) => cxr::apply(raster, settings, parameters, self.image_size, out),
            Image::Gray16(raster) => cxr::apply(raster, settings, parameters, self.image_size, out),
            Image::Rgb8(raster) => cxr::apply(raster, settings, parameters, self.image_size, out),
        }
    }

    /// Number of elements of a tensor, `3 * S * S`.
    pub fn tensor_len(&self) -> usize {
        3 * self.image_size * self.image_size
    }

    /// What the fixed transform leaves of an image of `width` x `height` pixels.
    pub fn seen(&self, width: usize, height: usize) -> Seen {
        let ((resized_width, resized_height), crop) = self.fixed_crop(width, height);
        // The long side is rounded down to whole pixels: the two scales are a little apart.
        let (across, down) = (width as f64 / resized_width as f64, height as f64 / resized_height as f64);
        Seen {
            left: crop.left as f64 * across,
            top: crop.top as f64 * down,
            width: crop.width as f64 * across,
            height: crop.height as f64 * down,
        }
    }

    /// The size of the resized image and the centre crop in it.
    fn fixed_crop(&self, width: usize, height: usize) -> ((usize, usize), Rectangle) {
        let size = self.image_size;
        let (width, height) = resized_size(width, height, size);
        // CenterCrop's int(round(... / 2)), ties to even. It never pads here: the short side is at least S.
        let start = |side: usize| ((side - size) as f64 / 2.0).round_ties_even() as usize;
        ((width, height), Rectangle { left: start(width), top: start(height), width: size, height: size })
    }

    fn fixed<T: Unit, const CHANNELS: usize>(&self, raster: &Raster<T, CHANNELS>, out: &mut [f32]) {
        let (resized, crop) = self.fixed_crop(raster.width(), raster.height());
        let read = |y: usize, columns: Range<usize>, row: &mut [T]| {
            row.copy_from_slice(&raster.row(y)[columns.start * CHANNELS..columns.end * CHANNELS]);
        };
        let mut planes = Planes::new(self.image_size, false, out);
        let write = |y, row: &[T]| planes.write::<T, CHANNELS>(y, row);
        resize_rows::<T, CHANNELS>((raster.width(), raster.height()), resized, crop, read, write);
    }

    /// One pass from the resized image to `out`: rows of the crop are rotated as the second resizing asks for them, and
    /// what it makes goes out normalised and mirrored.
    fn seeded<T: Unit, const CHANNELS: usize>(
        &self,
        raster: &Raster<T, CHANNELS>,
        &SeedParameters { angle_degrees, crop, flip }: &SeedParameters,
        out: &mut [f32],
    ) {
        let size = self.image_size;
        let (from, to) = ((raster.width(), raster.height()), resized_size(raster.width(), raster.height(), size));
        let rotation = Rotation::new(to, angle_degrees);
        let (resized, held) = if from == to {
            (Cow::Borrowed(raster), Rectangle { left: 0, top: 0, width: to.0, height: to.1 })
        } else {
            let held = rotation.source_of(crop);
            (Cow::Owned(resize_region(raster, to, held)), held)
        };
        let read = |y: usize, columns: Range<usize>, row: &mut [T]| {
            rotation.read_row(&resized, held, (crop.left + columns.start, crop.top + y), row);
        };
        let mut planes = Planes::new(size, flip, out);
        let write = |y, row: &[T]| planes.write::<T, CHANNELS>(y, row);
        let whole = Rectangle { left: 0, top: 0, width: size, height: size };
        resize_rows::<T, CHANNELS>((crop.width, crop.height), (size, size), whole, read, write);
    }
}

/// Width and height after torchvision's Resize(round(`image_size` * 256 / 224)): the short side gets this length, the
/// long side int(length * long / short).
pub fn resized_size(width: usize, height: usize, image_size: usize) -> (usize, usize) {
    let short = short_side(image_size);
    if width <= height { (short, short * height / width) } else { (short * width / height, short) }
}

/// Length of an image's short side before the crop: round(`image_size` * 256 / 224).
pub(crate) fn short_side(image_size: usize) -> usize {
    // 256 / 224 is 8 / 7; a half cannot occur, so that the rounding rule does not matter.
    (16 * image_size + 7) / 14
}

/// The image as every transform for `image_size` resizes it first. Once more changes nothing.
pub(crate) fn resized(image: Image, image_size: usize) -> Image {
    let to = resized_size(image.width(), image.height(), image_size);
    match image {
        image if to == (image.width(), image.height()) => image,
        Image::Gray8(raster) => Image::Gray8(resize(&raster, to.0, to.1)),
        Image::Gray16(raster) => Image::Gray16(resize(&raster, to.0, to.1)),
        Image::Rgb8(raster) => Image::Rgb8(resize(&raster, to.0, to.1)),
    }
}

/// Resizes to exactly `width` x `height` for a picture that people look at: bilinear with antialias, 8 bits, grey
/// stays grey ([`Image::Gray8`] or [`Image::Rgb8`]).
///
/// # Panics
/// Where `width` or `height` is 0.
pub fn resize_for_display(image: &Image, width: usize, height: usize) -> Image {
    match image {
        Image::Gray8(raster) => Image::Gray8(resize(raster, width, height)),
        Image::Gray16(raster) => {
            let resized = resize(raster, width, height);
            Image::Gray8(Raster::from_rows(width, height, 0, |y, row| {
                for (sample, &deep) in row.iter_mut().zip(resized.row(y)) {
                    *sample = eight_bit(deep);
                }
            }))
        }
        Image::Rgb8(raster) => Image::Rgb8(resize(raster, width, height)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use roentgen_run::draw::{Purpose, stream};

    #[test]
    fn the_short_side_follows_the_crop() {
        assert_eq!(resized_size(1024, 1024, 224), (256, 256));
        assert_eq!(resized_size(357, 326, 224), (280, 256));
        assert_eq!(resized_size(326, 357, 64), (73, 79));
        for size in 1..2000 {
            let short = (size as f64 * 256.0 / 224.0).round() as usize;
            assert_eq!(resized_size(5, 5, size), (short, short));
            assert!(short >= size, "the crop of {size} would have to pad");
        }
    }

    #[test]
    fn augmentation_without_a_generator_is_the_fixed_transform() {
        let image = Image::Gray8(Raster::new(9, 8, (0..72).collect()).unwrap());
        let mut none = vec![0.0; 3 * 5 * 5];
        let mut seed = none.clone();
        let mut random = none.clone();
        Transform { image_size: 5, augment: Augment::None }.apply(&image, None, &mut none);
        let transform = Transform { image_size: 5, augment: Augment::Seed };
        transform.apply(&image, None, &mut seed);
        transform.apply(&image, Some(&mut stream(0, Purpose::Augment, 0, 0)), &mut random);
        assert_eq!(none, seed);
        assert_ne!(none, random);
    }

    #[test]
    fn grey_is_repeated_and_sixteen_bits_meet_eight() {
        let samples: Vec<u8> = (0..=255).collect();
        let shallow = Image::Gray8(Raster::new(16, 16, samples.clone()).unwrap());
        let deep = samples.iter().map(|&sample| u16::from(sample) * 257).collect();
        let deep = Image::Gray16(Raster::new(16, 16, deep).unwrap());
        let transform = Transform { image_size: 14, augment: Augment::None };
        let (mut first, mut second) = (vec![0.0; 588], vec![0.0; 588]);
        transform.apply(&shallow, None, &mut first);
        transform.apply(&deep, None, &mut second);
        for (index, (one, other)) in first.iter().zip(&second).enumerate() {
            assert!((one - other).abs() < 1e-5);
            let channel = index / 196;
            let level = (one * IMAGENET_DEVIATION[channel] + IMAGENET_MEAN[channel]) * 255.0;
            let red = (first[index % 196] * IMAGENET_DEVIATION[0] + IMAGENET_MEAN[0]) * 255.0;
            assert!((level - red).abs() < 1e-3);
        }
        let shown = resize_for_display(&deep, 16, 16);
        assert_eq!(shown, shallow);
    }
}
