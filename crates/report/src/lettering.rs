//! Text as pixels, for the captions of a contact sheet.
//!
//! Noto Sans Mono, rasterised ahead of time (SIL Open Font License), covers Latin scripts. A character that it lacks is
//! drawn as the replacement character, so that a file name of any script stays countable and nothing panics.

use image::{Rgb, RgbImage};
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

/// One of the letterings of a sheet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lettering {
    weight: FontWeight,
    size: RasterHeight,
}

impl Lettering {
    /// For titles.
    pub(crate) const TITLE: Lettering = Lettering { weight: FontWeight::Bold, size: RasterHeight::Size20 };
    /// For captions.
    pub(crate) const CAPTION: Lettering = Lettering { weight: FontWeight::Regular, size: RasterHeight::Size16 };

    /// Height of a line in pixels, with a little air.
    pub(crate) fn line_height(self) -> u32 {
        self.size.val() as u32 + 2
    }

    /// How many characters fit into `width` pixels.
    pub(crate) fn characters_in(self, width: u32) -> usize {
        width as usize / get_raster_width(self.weight, self.size)
    }

    /// Width of a text in pixels.
    pub(crate) fn width_of(self, text: &str) -> u32 {
        (text.chars().count() * get_raster_width(self.weight, self.size)) as u32
    }

    /// Draws one line in `ink` with its upper left corner at `(x, y)`. What lies outside the canvas is cut off.
    pub(crate) fn draw(self, canvas: &mut RgbImage, x: u32, y: u32, text: &str, ink: [u8; 3]) {
        let advance = get_raster_width(self.weight, self.size) as u32;
        for (index, character) in text.chars().enumerate() {
            let Some(glyph) = get_raster(character, self.weight, self.size)
                .or_else(|| get_raster(char::REPLACEMENT_CHARACTER, self.weight, self.size))
            else {
                continue;
            };
            let left = x + index as u32 * advance;
            for (row, coverages) in (y..canvas.height()).zip(glyph.rows()) {
                for (column, &coverage) in (left..canvas.width()).zip(coverages) {
                    blend(canvas.get_pixel_mut(column, row), ink, coverage);
                }
            }
        }
    }
}

fn blend(pixel: &mut Rgb<u8>, ink: [u8; 3], coverage: u8) {
    for (channel, ink) in pixel.0.iter_mut().zip(ink) {
        let mixed = u32::from(ink) * u32::from(coverage) + u32::from(*channel) * (255 - u32::from(coverage));
        *channel = ((mixed + 127) / 255) as u8;
    }
}

/// Breaks `text` into at most `lines` lines of at most `width` characters. What does not fit is left out in the middle,
/// because the ends of file names tell them apart. Control characters become the replacement
/// character.
pub(crate) fn fit(text: &str, width: usize, lines: usize) -> Vec<String> {
    let (width, lines) = (width.max(4), lines.max(1));
    let drawable = |c: char| match c {
        // The font has no glyph of its own for it.
        '\u{a0}' => ' ',
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    let mut characters: Vec<char> = text.chars().map(drawable).collect();
    let room = width * lines;
    if characters.len() > room {
        let kept = room - 3;
        let tail = characters.split_off(characters.len() - kept / 2);
        characters.truncate(kept - kept / 2);
        characters.extend("...".chars());
        characters.extend(tail);
    }
    characters.chunks(width).map(|line| line.iter().collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_keep_both_ends() {
        assert_eq!(fit("short.png", 12, 1), ["short.png"]);
        assert_eq!(fit("abcdefghij", 4, 3), ["abcd", "efgh", "ij"]);
        let cut = fit("00000193_with_a_very_long_tail_019.jpg", 10, 2).concat();
        assert!(cut.chars().count() == 20 && cut.starts_with("00000193_") && cut.ends_with("_019.jpg"), "{cut}");
        assert_eq!(fit("a\nb", 8, 1), ["a\u{fffd}b"]);
        assert_eq!(fit("p\u{a0}= 1", 8, 1), ["p = 1"]);
    }

    #[test]
    fn every_script_leaves_ink_and_is_clipped_at_the_edge() {
        let mut drawn = Vec::new();
        for text in ["a", "é", "胸", "\u{301}"] {
            let mut canvas = RgbImage::from_pixel(12, 12, Rgb([255; 3]));
            Lettering::CAPTION.draw(&mut canvas, 6, 2, &text.repeat(3), [0; 3]);
            assert!(canvas.pixels().any(|p| p.0[0] < 128), "{text:?} left no ink");
            drawn.push(canvas);
        }
        assert!(drawn[0] != drawn[1] && drawn[1] != drawn[2], "different letters are drawn differently");
    }
}
