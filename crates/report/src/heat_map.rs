//! A heat map laid over its image: beside a picture in a report, as a picture with its legend, or as a layer that a page
//! puts over the image itself.

use crate::ReportError;
use crate::lettering::{Lettering, fit};
use crate::png::{encode_png, encode_transparent_png};
use crate::sheet::Pixels;
use image::{Rgb, RgbImage, Rgba, RgbaImage, imageops};
use std::path::Path;

/// matplotlib's `inferno` at every sixteenth of the way (Smith and van der Walt, "A Better Default Colormap for
/// Matplotlib", SciPy 2015; CC0): perceptually even, its lightness grows with the value, also for the colour-blind and in
/// print without colour. Between the nodes it is linear, within 7 of 255 levels of the original.
const INFERNO: [[u8; 3]; 17] = [
    [0, 0, 4],
    [11, 7, 36],
    [33, 12, 74],
    [61, 9, 101],
    [87, 16, 110],
    [113, 25, 110],
    [138, 34, 106],
    [163, 44, 97],
    [188, 55, 84],
    [210, 70, 68],
    [228, 90, 49],
    [241, 115, 29],
    [249, 142, 9],
    [252, 172, 17],
    [249, 203, 53],
    [242, 234, 105],
    [252, 255, 164],
];
/// How much of the strongest colour covers the image; a place without evidence is the image itself.
const OPACITY: f64 = 0.7;
/// How bright the image stays where the network did not see it.
const UNSEEN: f64 = 0.45;
const PAPER: Rgb<u8> = Rgb([255; 3]);
const INK: [u8; 3] = [20, 20, 20];
const MARGIN: u32 = 12;
const BAR_HEIGHT: u32 = 16;
/// The legend has room for its numbers.
const LEAST_WIDTH: u32 = 360;

/// An image and the evidence for a class over it.
#[derive(Clone, Debug, PartialEq)]
pub struct HeatPicture {
    /// The image.
    pub pixels: Pixels,
    /// Its width in pixels, at least 1.
    pub width: usize,
    /// Its height in pixels, at least 1.
    pub height: usize,
    /// One value a pixel, `[height, width]`, at least 0; NaN where the model did not see the image.
    pub evidence: Vec<f32>,
    /// The value that has the strongest colour; 0 where nothing speaks for the class.
    pub largest: f32,
}

impl HeatPicture {
    /// The image with the map over it, of the image's size. Colour grows stronger with the evidence; what the model did
    /// not see is darkened.
    ///
    /// # Errors
    /// [`ReportError::TileSize`] where pixels or evidence do not fit the size.
    pub fn blended(&self) -> Result<Pixels, ReportError> {
        Ok(Pixels::Rgb(self.blend()?.into_raw()))
    }

    /// PNG of the image with the map over it, lines of text above and the legend with its range below.
    ///
    /// # Errors
    /// [`ReportError::TileSize`] where pixels or evidence do not fit the size.
    pub fn overlay_png(&self, lines: &[String]) -> Result<Vec<u8>, ReportError> {
        let picture = self.blend()?;
        let width = picture.width().max(LEAST_WIDTH) + 2 * MARGIN;
        let room = width - 2 * MARGIN;
        let lines: Vec<String> =
            lines.iter().flat_map(|line| fit(line, Lettering::CAPTION.characters_in(room), 2)).collect();
        let line_height = Lettering::CAPTION.line_height();
        let top = MARGIN + lines.len() as u32 * line_height + MARGIN / 2;
        let bar = top + picture.height() + MARGIN;
        let numbers = bar + BAR_HEIGHT + 2;
        let mut canvas = RgbImage::from_pixel(width, numbers + line_height + MARGIN / 2, PAPER);
        for (index, line) in lines.iter().enumerate() {
            Lettering::CAPTION.draw(&mut canvas, MARGIN, MARGIN + index as u32 * line_height, line, INK);
        }
        let left = (width - picture.width()) / 2;
        imageops::replace(&mut canvas, &picture, i64::from(left), i64::from(top));
        for x in 0..room {
            let colour = Rgb(colour(f64::from(x) / f64::from(room - 1)));
            (bar..bar + BAR_HEIGHT).for_each(|y| canvas.put_pixel(MARGIN + x, y, colour));
        }
        let number = if self.largest > 0.0 { format!("{:.3}", self.largest) } else { "nothing speaks for it".into() };
        let mut write = |x: u32, text: &str| Lettering::CAPTION.draw(&mut canvas, x, numbers, text, INK);
        write(MARGIN, "0");
        write(MARGIN + room - Lettering::CAPTION.width_of(&number), &number);
        encode_png(Path::new("the heat map"), &canvas)
    }

    /// PNG of the image alone, to lay [`HeatPicture::layer_png`] over.
    ///
    /// # Errors
    /// [`ReportError::TileSize`] where pixels or evidence do not fit the size.
    pub fn image_png(&self) -> Result<Vec<u8>, ReportError> {
        self.check()?;
        encode_png(Path::new("the image under a heat map"), &self.pixels.to_rgb(self.width, self.height))
    }

    /// PNG with transparency of the map alone, of the image's size: laid over the image it gives
    /// [`HeatPicture::blended`], but what the model did not see stays as it is.
    ///
    /// # Errors
    /// [`ReportError::TileSize`] where pixels or evidence do not fit the size.
    pub fn layer_png(&self) -> Result<Vec<u8>, ReportError> {
        self.check()?;
        let mut layer = RgbaImage::new(self.width as u32, self.height as u32);
        for (pixel, &evidence) in layer.pixels_mut().zip(&self.evidence) {
            let share = self.share(evidence).unwrap_or(0.0);
            let [red, green, blue] = colour(share);
            *pixel = Rgba([red, green, blue, (255.0 * opacity(share)).round() as u8]);
        }
        encode_transparent_png(Path::new("the heat map"), &layer)
    }

    fn blend(&self) -> Result<RgbImage, ReportError> {
        self.check()?;
        let mut picture = self.pixels.to_rgb(self.width, self.height);
        for (pixel, &evidence) in picture.pixels_mut().zip(&self.evidence) {
            match self.share(evidence) {
                Some(share) => mix(pixel, colour(share), opacity(share)),
                None => mix(pixel, [0; 3], 1.0 - UNSEEN),
            }
        }
        Ok(picture)
    }

    /// The evidence as a share of the largest, in `[0, 1]`; `None` for what the model did not see.
    fn share(&self, evidence: f32) -> Option<f64> {
        let largest = f64::from(self.largest);
        let share = if largest > 0.0 { (f64::from(evidence) / largest).clamp(0.0, 1.0) } else { 0.0 };
        (!evidence.is_nan()).then_some(share)
    }

    fn check(&self) -> Result<(), ReportError> {
        self.pixels.check("the image under a heat map", self.width, self.height)?;
        let (found, expected) = (self.evidence.len(), self.width * self.height);
        if found == expected {
            return Ok(());
        }
        let path = "the evidence of a heat map".to_owned();
        Err(ReportError::TileSize { path, found, expected, width: self.width, height: self.height })
    }
}

/// How much of the colour of a share of the evidence covers the image.
fn opacity(share: f64) -> f64 {
    OPACITY * share
}

/// The colour of a share in `[0, 1]`.
fn colour(share: f64) -> [u8; 3] {
    let at = share * (INFERNO.len() - 1) as f64;
    let node = (at as usize).min(INFERNO.len() - 2);
    let between = at - node as f64;
    std::array::from_fn(|channel| {
        let (low, high) = (f64::from(INFERNO[node][channel]), f64::from(INFERNO[node + 1][channel]));
        (low + between * (high - low)).round() as u8
    })
}

fn mix(pixel: &mut Rgb<u8>, colour: [u8; 3], opacity: f64) {
    for (channel, colour) in pixel.0.iter_mut().zip(colour) {
        *channel = (f64::from(*channel) * (1.0 - opacity) + f64::from(colour) * opacity).round() as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(evidence: Vec<f32>, largest: f32) -> HeatPicture {
        let count = evidence.len();
        HeatPicture { pixels: Pixels::Grey(vec![100; count]), width: count, height: 1, evidence, largest }
    }

    #[test]
    fn lightness_grows_with_the_share() {
        // Rec. 709 weights of the linear channels: lightness is monotone in luminance.
        let linear = |channel: u8| (f64::from(channel) / 255.0).powf(2.2);
        let luminance =
            |[red, green, blue]: [u8; 3]| 0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue);
        let shares = (0..=100).map(|percent| luminance(colour(f64::from(percent) / 100.0)));
        let shares: Vec<f64> = shares.collect();
        assert!(shares.windows(2).all(|pair| pair[1] > pair[0]), "{shares:?}");
        assert_eq!((colour(0.0), colour(1.0)), (INFERNO[0], INFERNO[16]));
    }

    #[test]
    fn no_evidence_leaves_the_image_and_what_was_not_seen_is_dark() {
        let heat = picture(vec![0.0, 2.0, f32::NAN, 9.0], 2.0);
        let Pixels::Rgb(bytes) = heat.blended().unwrap() else { unreachable!("a blend is in colour") };
        assert_eq!(bytes[..3], [100; 3]);
        // 30 % of the image and 70 % of the last colour; beyond the range the same.
        assert_eq!(bytes[3..6], [206, 209, 145]);
        assert_eq!(bytes[6..9], [45; 3]);
        assert_eq!(bytes[9..], [206, 209, 145]);
        let nothing = picture(vec![0.0, 0.0], 0.0);
        assert_eq!(nothing.blended().unwrap(), Pixels::Rgb(vec![100; 6]));
    }

    #[test]
    fn the_layer_over_the_image_is_the_blend() {
        let heat = picture(vec![0.0, 0.5, 1.0, f32::NAN], 1.0);
        let layer = image::load_from_memory(&heat.layer_png().unwrap()).unwrap().to_rgba8();
        let blended = heat.blend().unwrap();
        for (pixel, expected) in layer.pixels().zip(blended.pixels()).take(3) {
            let mut under = Rgb([100; 3]);
            mix(&mut under, [pixel.0[0], pixel.0[1], pixel.0[2]], f64::from(pixel.0[3]) / 255.0);
            assert!(under.0.iter().zip(expected.0).all(|(&a, b)| a.abs_diff(b) <= 1), "{under:?} {expected:?}");
        }
        assert_eq!(layer.get_pixel(3, 0).0[3], 0);
        let image = image::load_from_memory(&heat.image_png().unwrap()).unwrap();
        assert_eq!(image.to_luma8().into_raw(), [100; 4]);
    }

    #[test]
    fn the_overlay_has_its_legend_and_says_its_range() {
        let overlay = |largest| {
            let heat = HeatPicture {
                pixels: Pixels::Grey(vec![100; 400 * 30]),
                width: 400,
                height: 30,
                evidence: vec![1.0; 400 * 30],
                largest,
            };
            image::load_from_memory(&heat.overlay_png(&["line".into()]).unwrap()).unwrap().to_rgb8()
        };
        let found = overlay(1.0);
        let bar = 12 + 18 + 6 + 30 + 12;
        assert_eq!((found.get_pixel(12, bar).0, found.get_pixel(411, bar).0), (INFERNO[0], INFERNO[16]));
        let other = overlay(1.5);
        let below = |picture: &RgbImage| imageops::crop_imm(picture, 0, bar + 16, 424, 20).to_image();
        assert_ne!(below(&found), below(&other), "the number of the range is written");
    }

    #[test]
    fn evidence_of_another_size_is_refused() {
        let mut heat = picture(vec![0.0; 4], 1.0);
        heat.evidence.pop();
        let error = heat.blended().unwrap_err().to_string();
        assert!(error.contains("evidence") && error.contains('3') && error.contains('4'), "{error}");
    }
}
