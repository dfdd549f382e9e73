//! From samples to what the network sees: normalised planes, written row by row.

use crate::raster::eight_bit;
use crate::resize::Sample;
use crate::transform::{IMAGENET_DEVIATION, IMAGENET_MEAN};

/// A sample type with a way to what the network sees.
pub(crate) trait Unit: Sample {
    /// 0 to 1, in f32 as torchvision's ToTensor divides.
    fn unit(self) -> f32;
    /// The nearest of 256 levels.
    fn level(self) -> u8;
    /// One of 256 levels.
    fn of_level(level: u8) -> Self;
    /// What the network sees of the sample in a channel.
    fn normalised(self, channel: usize) -> f32 {
        normalise(self.unit(), channel)
    }
}

const fn normalise(unit: f32, channel: usize) -> f32 {
    (unit - IMAGENET_MEAN[channel]) / IMAGENET_DEVIATION[channel]
}

/// What the network sees of each 8-bit sample in each channel: two divisions less for each of its inputs.
static NORMALISED: [[f32; 256]; 3] = {
    let mut table = [[0.0; 256]; 3];
    let mut index = 0;
    while index < 3 * 256 {
        let (channel, sample) = (index / 256, index % 256);
        table[channel][sample] = normalise(sample as f32 / 255.0, channel);
        index += 1;
    }
    table
};

impl Unit for u8 {
    fn unit(self) -> f32 {
        f32::from(self) / 255.0
    }

    fn level(self) -> u8 {
        self
    }

    fn of_level(level: u8) -> u8 {
        level
    }

    fn normalised(self, channel: usize) -> f32 {
        NORMALISED[channel][usize::from(self)]
    }
}

impl Unit for u16 {
    fn unit(self) -> f32 {
        // 1/257 onto the scale of 8 bits, then 1/255.
        f32::from(self) / 65535.0
    }

    fn level(self) -> u8 {
        eight_bit(self)
    }

    fn of_level(level: u8) -> u16 {
        u16::from(level) * 257
    }
}

/// A change of contrast, on the scale 0 to 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tone {
    /// The value that stays.
    pub(crate) mean: f32,
    /// Factor of the differences from it.
    pub(crate) contrast: f32,
}

/// The normalised planes `[3, S, S]` of an image, filled row by row.
pub(crate) struct Planes<'a> {
    size: usize,
    flip: bool,
    tone: Option<Tone>,
    planes: [&'a mut [f32]; 3],
}

impl<'a> Planes<'a> {
    /// Over `out`; rows are mirrored with `flip`.
    ///
    /// # Panics
    /// Where `out` does not have `3 * size * size` elements.
    pub(crate) fn new(size: usize, flip: bool, out: &'a mut [f32]) -> Planes<'a> {
        assert_eq!(out.len(), 3 * size * size, "the output holds [3, {size}, {size}]");
        let (red, rest) = out.split_at_mut(size * size);
        let (green, blue) = rest.split_at_mut(size * size);
        Planes { size, flip, tone: None, planes: [red, green, blue] }
    }

    /// Changes the contrast of what is written.
    pub(crate) fn with_tone(self, tone: Tone) -> Planes<'a> {
        Planes { tone: Some(tone), ..self }
    }

    /// Writes row `y` from pixels `[S, CHANNELS]`; a single channel is repeated.
    pub(crate) fn write<T: Unit, const CHANNELS: usize>(&mut self, y: usize, pixels: &[T]) {
        for (channel, plane) in self.planes.iter_mut().enumerate() {
            let row = &mut plane[y * self.size..(y + 1) * self.size];
            let samples = pixels.chunks_exact(CHANNELS).map(|pixel| pixel[channel % CHANNELS]);
            match self.tone {
                None => row.iter_mut().zip(samples).for_each(|(value, sample)| *value = sample.normalised(channel)),
                Some(Tone { mean, contrast }) => {
                    for (value, sample) in row.iter_mut().zip(samples) {
                        let unit = mean + contrast * (sample.unit() - mean);
                        *value = normalise(unit.clamp(0.0, 1.0), channel);
                    }
                }
            }
            if self.flip {
                row.reverse();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_the_bits_of_the_formula() {
        for (channel, sample) in (0..3).flat_map(|channel| (0..=255u8).map(move |sample| (channel, sample))) {
            assert_eq!(sample.normalised(channel).to_bits(), normalise(sample.unit(), channel).to_bits());
        }
    }
}
