//! What people see of an explanation: the image as it was decoded, with the evidence over it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use roentgen_data::{Image, resize_for_display};
use roentgen_infer::explain::HeatMap;
use roentgen_report::{HeatPicture, Pixels};

/// The longest side of a picture, in pixels.
const LONGEST_SIDE: usize = 1024;

/// An image as it is shown: at most 1024 pixels a side, 8 bits.
pub(crate) struct Shown {
    pixels: Pixels,
    width: usize,
    height: usize,
}

impl Shown {
    pub(crate) fn new(image: &Image) -> Shown {
        let longest = image.width().max(image.height());
        let scaled = |side: usize| if longest > LONGEST_SIDE { (side * LONGEST_SIDE / longest).max(1) } else { side };
        let (width, height) = (scaled(image.width()), scaled(image.height()));
        let pixels = match resize_for_display(image, width, height) {
            Image::Gray8(raster) => Pixels::Grey(raster.samples().to_vec()),
            Image::Rgb8(raster) => Pixels::Rgb(raster.samples().to_vec()),
            Image::Gray16(_) => unreachable!("what is for display has 8 bits"),
        };
        Shown { pixels, width, height }
    }

    /// With a heat map over it.
    pub(crate) fn with(self, map: &HeatMap) -> HeatPicture {
        let Shown { pixels, width, height } = self;
        HeatPicture { pixels, width, height, evidence: map.evidence_over(width, height), largest: map.largest() }
    }
}

/// A PNG as a URL that holds it.
pub(crate) fn data_url(png: &[u8]) -> String {
    format!("data:image/png;base64,{}", STANDARD.encode(png))
}

#[cfg(test)]
mod tests {
    use super::*;
    use roentgen_data::Raster;

    #[test]
    fn large_images_are_shown_smaller_with_the_evidence_where_the_network_looked() {
        let image = Image::Gray16(Raster::new(2048, 512, vec![40_000; 2048 * 512]).unwrap());
        let map = HeatMap { height: 1, width: 2, values: vec![-1.0, 2.0], image_size: 56 };
        let picture = Shown::new(&image).with(&map);
        assert_eq!((picture.width, picture.height, picture.largest), (1024, 256, 2.0));
        // The middle 224 px of each side.
        let evidence = |x: usize| picture.evidence[128 * 1024 + x];
        assert!(evidence(390).is_nan() && evidence(634).is_nan());
        assert_eq!((evidence(402), evidence(620)), (0.0, 2.0));
        assert!(data_url(&picture.image_png().unwrap()).starts_with("data:image/png;base64,iVBORw0KGgo"));
    }
}
