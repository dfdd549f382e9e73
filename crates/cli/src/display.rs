//! Images as people look at them.

use roentgen_data::{Image, resize_for_display};
use roentgen_report::Pixels;

/// A picture of 8 bits whose longest side has `longest` pixels, with its width and height.
pub fn displayed(image: &Image, longest: usize) -> (Pixels, usize, usize) {
    let original = image.width().max(image.height());
    let scaled = |side: usize| (side * longest / original).max(1);
    let (width, height) = (scaled(image.width()), scaled(image.height()));
    let pixels = match resize_for_display(image, width, height) {
        Image::Gray8(raster) => Pixels::Grey(raster.samples().to_vec()),
        Image::Rgb8(raster) => Pixels::Rgb(raster.samples().to_vec()),
        Image::Gray16(_) => unreachable!("what is for display has 8 bits"),
    };
    (pixels, width, height)
}
