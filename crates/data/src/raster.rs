//! Pixels in memory: one type for all decoded images, whatever file they came from.

/// A rectangle of pixels, row by row from the top left, the `CHANNELS` samples of a pixel side by side
/// (`[height, width, CHANNELS]`). Width and height are at least 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raster<T, const CHANNELS: usize> {
    width: usize,
    height: usize,
    samples: Vec<T>,
}

impl<T: Copy, const CHANNELS: usize> Raster<T, CHANNELS> {
    /// Takes over `samples`, `[height, width, CHANNELS]`. `None` where a side is zero or the length does not fit.
    pub fn new(width: usize, height: usize, samples: Vec<T>) -> Option<Self> {
        let expected = width.checked_mul(height)?.checked_mul(CHANNELS)?;
        (expected > 0 && samples.len() == expected).then_some(Self { width, height, samples })
    }

    /// Makes the samples row by row: `fill_row(y, row)` gets each row, `[width, CHANNELS]`, filled with `start`.
    ///
    /// # Panics
    /// Where a side is zero: an image has pixels.
    pub(crate) fn from_rows(width: usize, height: usize, start: T, mut fill_row: impl FnMut(usize, &mut [T])) -> Self {
        assert!(width > 0 && height > 0, "an image of {width} x {height} pixels");
        let mut samples = vec![start; width * height * CHANNELS];
        for (y, row) in samples.chunks_exact_mut(width * CHANNELS).enumerate() {
            fill_row(y, row);
        }
        Self { width, height, samples }
    }

    /// Width in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// All samples, `[height, width, CHANNELS]`.
    pub fn samples(&self) -> &[T] {
        &self.samples
    }

    /// The samples of row `y`, `[width, CHANNELS]`.
    pub fn row(&self, y: usize) -> &[T] {
        let stride = self.width * CHANNELS;
        &self.samples[y * stride..(y + 1) * stride]
    }
}

/// A decoded image. Grey ones keep one channel: the network's three are equal and are made at the very end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Image {
    /// 8-bit grey, 0 black to 255 white.
    Gray8(Raster<u8, 1>),
    /// 16-bit grey, 0 black to 65535 white.
    Gray16(Raster<u16, 1>),
    /// 8-bit red, green, blue.
    Rgb8(Raster<u8, 3>),
}

impl Image {
    /// Width in pixels.
    pub fn width(&self) -> usize {
        match self {
            Image::Gray8(raster) => raster.width(),
            Image::Gray16(raster) => raster.width(),
            Image::Rgb8(raster) => raster.width(),
        }
    }

    /// Height in pixels.
    pub fn height(&self) -> usize {
        match self {
            Image::Gray8(raster) => raster.height(),
            Image::Gray16(raster) => raster.height(),
            Image::Rgb8(raster) => raster.height(),
        }
    }

    /// Whether nearly nothing is to be seen: a grey image of 16 bits whose samples all lie in the lowest eighth of their
    /// range, most likely 10 or 12 bits that were stored without being spread over 16.
    pub fn is_dim(&self) -> bool {
        match self {
            Image::Gray8(_) | Image::Rgb8(_) => false,
            Image::Gray16(raster) => raster.samples().iter().all(|&sample| sample < 1 << 13),
        }
    }

    /// The image as red, green and blue, `[height, width, 3]`; 16-bit grey is divided by 257 and rounded.
    pub fn to_rgb8(&self) -> Vec<u8> {
        match self {
            Image::Gray8(raster) => raster.samples().iter().flat_map(|&grey| [grey; 3]).collect(),
            Image::Gray16(raster) => raster.samples().iter().flat_map(|&grey| [eight_bit(grey); 3]).collect(),
            Image::Rgb8(raster) => raster.samples().to_vec(),
        }
    }

    /// An RGB image, or a grey one where the three channels are equal everywhere: most radiographs that are stored in
    /// colour are grey, and one channel is a third of the work.
    pub(crate) fn from_rgb(raster: Raster<u8, 3>) -> Image {
        if raster.samples.chunks_exact(3).all(|pixel| pixel[0] == pixel[1] && pixel[1] == pixel[2]) {
            let samples = raster.samples.chunks_exact(3).map(|pixel| pixel[0]).collect();
            Image::Gray8(Raster { width: raster.width, height: raster.height, samples })
        } else {
            Image::Rgb8(raster)
        }
    }
}

/// 0 to 65535 onto 0 to 255: divided by 257, rounded to the nearest.
pub(crate) fn eight_bit(sample: u16) -> u8 {
    // At most (65535 + 128) / 257 = 255.
    ((u32::from(sample) + 128) / 257) as u8
}

/// A rectangle of pixels in an image: a crop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rectangle {
    /// Columns to the left of it.
    pub left: usize,
    /// Rows above it.
    pub top: usize,
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raster_has_as_many_samples_as_its_size_says() {
        assert!(Raster::<u8, 3>::new(2, 2, vec![0; 12]).is_some());
        assert!(Raster::<u8, 3>::new(2, 2, vec![0; 11]).is_none());
        assert!(Raster::<u8, 1>::new(0, 2, vec![]).is_none());
        assert!(Raster::<u8, 1>::new(usize::MAX, 2, vec![]).is_none());
    }

    #[test]
    fn equal_channels_become_grey_and_unequal_ones_stay() {
        let grey = Raster::new(2, 1, vec![7, 7, 7, 9, 9, 9]).unwrap();
        assert_eq!(Image::from_rgb(grey), Image::Gray8(Raster::new(2, 1, vec![7, 9]).unwrap()));
        let colour = Raster::new(2, 1, vec![7, 7, 7, 9, 9, 8]).unwrap();
        assert_eq!(Image::from_rgb(colour.clone()), Image::Rgb8(colour));
    }

    #[test]
    fn sixteen_bits_to_eight_is_division_by_257() {
        for sample in 0..=u16::MAX {
            assert_eq!(eight_bit(sample), (f64::from(sample) / 257.0).round() as u8);
        }
    }
}
