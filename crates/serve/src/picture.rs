//! Pictures for people: the image as it was decoded, and a heat map that lies over it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use png::{BitDepth, ColorType, Compression, Encoder};
use roentgen_data::{Image, resize_for_display};
use roentgen_infer::explain::HeatMap;

/// The longest side of a picture, in pixels.
const LONGEST_SIDE: usize = 1024;

/// How much of an overlay is heat map where the evidence is largest.
const OVERLAY_OPACITY: f32 = 0.6;

/// The picture of an image and its heat map, of one size.
pub(crate) struct Pictures {
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// Grey or RGB, `[height, width, 1 or 3]`.
    image: Vec<u8>,
    colour: ColorType,
    /// `[height, width, 4]`: transparent where there is no evidence, and where the network did not look.
    heat_map: Vec<u8>,
}

impl Pictures {
    pub(crate) fn new(image: &Image, map: &HeatMap) -> Pictures {
        let longest = image.width().max(image.height());
        let scaled = |side: usize| match longest {
            ..=LONGEST_SIDE => side,
            _ => (side * LONGEST_SIDE / longest).max(1),
        };
        let (width, height) = (scaled(image.width()), scaled(image.height()));
        let (samples, colour) = match resize_for_display(image, width, height) {
            Image::Gray8(raster) => (raster.samples().to_vec(), ColorType::Grayscale),
            Image::Rgb8(raster) => (raster.samples().to_vec(), ColorType::Rgb),
            Image::Gray16(_) => unreachable!("what is for display has 8 bits"),
        };
        let largest = map.largest();
        let heat = |value: f32| if largest > 0.0 && !value.is_nan() { (value / largest).clamp(0.0, 1.0) } else { 0.0 };
        let paint = |value| {
            let heat = heat(value);
            let [red, green, blue] = colour_of(heat);
            [red, green, blue, (heat * 255.0).round() as u8]
        };
        let heat_map = map.evidence_over(width, height).into_iter().flat_map(paint).collect();
        Pictures { width, height, image: samples, colour, heat_map }
    }

    /// The image as PNG.
    pub(crate) fn image(&self) -> Vec<u8> {
        self.encode(&self.image, self.colour)
    }

    /// The heat map as PNG with transparency.
    pub(crate) fn heat_map(&self) -> Vec<u8> {
        self.encode(&self.heat_map, ColorType::Rgba)
    }

    /// Both in one PNG.
    pub(crate) fn overlay(&self) -> Vec<u8> {
        let channels = self.image.len() / (self.width * self.height);
        let mix = |(pixel, heat): (&[u8], &[u8])| -> [u8; 3] {
            let share = f32::from(heat[3]) / 255.0 * OVERLAY_OPACITY;
            std::array::from_fn(|channel| {
                let below = f32::from(pixel[channel % channels]);
                (below + share * (f32::from(heat[channel]) - below)).round() as u8
            })
        };
        let pixels = self.image.chunks_exact(channels).zip(self.heat_map.chunks_exact(4));
        self.encode(&pixels.flat_map(mix).collect::<Vec<u8>>(), ColorType::Rgb)
    }

    fn encode(&self, samples: &[u8], colour: ColorType) -> Vec<u8> {
        let mut file = Vec::new();
        let side = |pixels| u32::try_from(pixels).expect("a picture has at most 1024 pixels a side");
        let mut encoder = Encoder::new(&mut file, side(self.width), side(self.height));
        encoder.set_color(colour);
        encoder.set_depth(BitDepth::Eight);
        encoder.set_compression(Compression::Fast);
        let written = encoder.write_header().and_then(|mut writer| writer.write_image_data(samples));
        written.expect("memory takes all that is written, and the samples fit the size");
        file
    }
}

/// A PNG as a URL that holds it.
pub(crate) fn data_url(png: &[u8]) -> String {
    format!("data:image/png;base64,{}", STANDARD.encode(png))
}

/// Matplotlib's inferno at nine places, black to pale yellow; in between, straight lines.
const INFERNO: [[u8; 3]; 9] = [
    [0, 0, 4],
    [31, 12, 72],
    [85, 15, 109],
    [136, 34, 106],
    [186, 54, 85],
    [227, 89, 51],
    [249, 140, 10],
    [249, 201, 50],
    [252, 255, 164],
];

fn colour_of(heat: f32) -> [u8; 3] {
    let at = heat * (INFERNO.len() - 1) as f32;
    let first = (at as usize).min(INFERNO.len() - 2);
    let share = at - first as f32;
    std::array::from_fn(|channel| {
        let (from, to) = (f32::from(INFERNO[first][channel]), f32::from(INFERNO[first + 1][channel]));
        (from + share * (to - from)).round() as u8
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use roentgen_data::Raster;

    #[test]
    fn evidence_covers_the_image_and_no_evidence_leaves_it() {
        // The network sees 7/8 of the short side: the outermost pixels are not covered.
        let image = Image::Gray8(Raster::new(16, 16, vec![100; 256]).unwrap());
        let map = HeatMap { height: 1, width: 2, values: vec![-3.0, 2.0], image_size: 14 };
        let pictures = Pictures::new(&image, &map);
        let heat = |x: usize, y: usize| &pictures.heat_map[(y * 16 + x) * 4..][..4];
        assert_eq!(heat(13, 8), [252, 255, 164, 255]);
        assert_eq!((heat(2, 8)[3], heat(0, 0)[3], heat(15, 8)[3]), (0, 0, 0));
        let overlay = roentgen_data::decode::decode_bytes("overlay", &pictures.overlay(), &Default::default()).unwrap();
        let rgb = overlay.to_rgb8();
        assert_eq!(rgb[..3], [100, 100, 100]);
        assert_eq!(rgb[(8 * 16 + 13) * 3..][..3], [191, 193, 138]);
    }

    #[test]
    fn large_images_are_shown_smaller_and_maps_without_evidence_are_clear() {
        let image = Image::Gray16(Raster::new(2048, 512, vec![40_000; 2048 * 512]).unwrap());
        let map = HeatMap { height: 1, width: 1, values: vec![-1.0], image_size: 32 };
        let pictures = Pictures::new(&image, &map);
        assert_eq!((pictures.width, pictures.height), (1024, 256));
        assert!(pictures.heat_map.chunks_exact(4).all(|pixel| pixel[3] == 0));
        assert!(data_url(&pictures.image()).starts_with("data:image/png;base64,iVBORw0KGgo"));
    }
}
