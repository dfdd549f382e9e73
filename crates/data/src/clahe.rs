//! Contrast-limited adaptive histogram equalisation (Zuiderveld 1994), as OpenCV 4's `createCLAHE` computes it.
//!
//! The image is divided into 8 x 8 tiles; the grey levels of each are spread evenly, by no more than the limit lets
//! them, and a pixel gets the mean of what the four nearest tiles would make of it.

use crate::planes::Unit;
use crate::raster::Raster;

/// Tiles along each side (OpenCV's default).
const TILES: usize = 8;
const LEVELS: usize = 256;

/// What a tile makes of each level.
type Map = [u8; LEVELS];

/// Equalises each channel by itself. `limit` bounds how often a level may count, as a multiple of the mean over all
/// levels; the rest is spread over all of them. What comes out has 8 bits, also of deeper samples.
pub(crate) fn equalise<T: Unit, const CHANNELS: usize>(
    raster: &Raster<T, CHANNELS>,
    limit: f64,
) -> Raster<T, CHANNELS> {
    let (width, height) = (raster.width(), raster.height());
    // Tiles are alike; what the last ones lack is mirrored about the last pixel.
    let tile = (width.div_ceil(TILES), height.div_ceil(TILES));
    let mirrored = |at: usize, side: usize| if at < side { at } else { (2 * (side - 1)).saturating_sub(at) };
    let mut maps = vec![[[0; LEVELS]; TILES * TILES]; CHANNELS];
    for (channel, maps) in maps.iter_mut().enumerate() {
        for (index, map) in maps.iter_mut().enumerate() {
            let (left, top) = (index % TILES * tile.0, index / TILES * tile.1);
            let mut counts = [0; LEVELS];
            for y in top..top + tile.1 {
                let row = raster.row(mirrored(y, height));
                for x in left..left + tile.0 {
                    counts[usize::from(row[mirrored(x, width) * CHANNELS + channel].level())] += 1;
                }
            }
            *map = map_of(&mut counts, tile.0 * tile.1, limit);
        }
    }
    let (columns, rows) = (neighbours(width, tile.0), neighbours(height, tile.1));
    Raster::from_rows(width, height, T::default(), |y, out| {
        let (above, below, down) = rows[y];
        let pixels = out.chunks_exact_mut(CHANNELS).zip(raster.row(y).chunks_exact(CHANNELS)).zip(&columns);
        for ((out, pixel), &(left, right, across)) in pixels {
            for channel in 0..CHANNELS {
                let level = usize::from(pixel[channel].level());
                let at = |row: usize, column: usize| f32::from(maps[channel][row * TILES + column][level]);
                let between = |row| at(row, left) * (1.0 - across) + at(row, right) * across;
                let value = between(above) * (1.0 - down) + between(below) * down;
                out[channel] = T::of_level(value.round_ties_even() as u8);
            }
        }
    })
}

/// Spreads what is above the limit over all levels, and the levels over the range.
fn map_of(counts: &mut [usize; LEVELS], pixels: usize, limit: f64) -> Map {
    let limit = ((limit * pixels as f64 / LEVELS as f64) as usize).max(1);
    let excess: usize = counts.iter().map(|count| count.saturating_sub(limit)).sum();
    let (each, rest) = (excess / LEVELS, excess % LEVELS);
    counts.iter_mut().for_each(|count| *count = (*count).min(limit) + each);
    if let Some(step) = LEVELS.checked_div(rest) {
        counts.iter_mut().step_by(step.max(1)).take(rest).for_each(|count| *count += 1);
    }
    let scale = (LEVELS - 1) as f32 / pixels as f32;
    let mut sum = 0;
    counts.map(|count| {
        sum += count;
        (sum as f32 * scale).round_ties_even() as u8
    })
}

/// For each pixel of a side the tiles whose centres it lies between, and how far it is from the first to the second.
fn neighbours(side: usize, tile: usize) -> Vec<(usize, usize, f32)> {
    let inverse = 1.0 / tile as f32;
    let place = |at: usize| {
        let position = at as f32 * inverse - 0.5;
        let first = position.floor();
        let clip = |index: f32| (index.max(0.0) as usize).min(TILES - 1);
        (clip(first), clip(first + 1.0), position - first)
    };
    (0..side).map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::{Limits, decode};
    use crate::raster::Image;
    use std::path::Path;

    const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");

    /// `reference/preprocess_fixtures.py` wrote them.
    #[test]
    fn grey_levels_are_opencvs() {
        for (name, limit) in [("grey8", 2.0), ("wide", 2.0), ("bit1", 40.0)] {
            let path = Path::new(FIXTURES).join("images").join(format!("{name}.png"));
            let Image::Gray8(raster) = decode(&path, &Limits::default()).unwrap() else { panic!("{name} is not grey") };
            let expected = std::fs::read(format!("{FIXTURES}/clahe/{name}.raw")).unwrap();
            let found = equalise(&raster, limit);
            assert_ne!(found, raster);
            assert!(found.samples() == expected, "{name}");
        }
    }

    #[test]
    fn deep_samples_are_as_shallow_ones_and_channels_are_apart() {
        let samples: Vec<u8> = (0..40 * 30).map(|index| (index * index / 97 % 251) as u8).collect();
        let shallow = Raster::<u8, 1>::new(40, 30, samples.clone()).unwrap();
        let deep = samples.iter().map(|&sample| u16::from(sample) * 257).collect();
        let deep = Raster::<u16, 1>::new(40, 30, deep).unwrap();
        let expected = equalise(&shallow, 2.0);
        assert!(equalise(&deep, 2.0).samples().iter().zip(expected.samples()).all(|(d, s)| *d == u16::from(*s) * 257));
        let colour = samples.iter().flat_map(|&sample| [sample, 255 - sample, 7]).collect();
        let colour = equalise(&Raster::<u8, 3>::new(40, 30, colour).unwrap(), 2.0);
        assert!(colour.samples().chunks_exact(3).zip(expected.samples()).all(|(pixel, sample)| pixel[0] == *sample));
    }
}
