//! The pictures of the pairs on the page of an audit.

use crate::failure::Outcome;
use roentgen_data::{DataError, Image, Limits, Manifest, decode, resize_for_display};
use roentgen_report::Pixels;
use roentgen_report::audit::{Audit, AuditedImage, PAIRS_PICTURED, Thumbnail};

/// Longest side of a thumbnail in pixels.
const SIDE: usize = 160;

/// Thumbnails of the first pairs, decoded again: while all images are looked at, which ones will be shown is not known.
pub fn of_pairs(manifest: &Manifest, audit: &Audit) -> Outcome<Vec<[Thumbnail; 2]>> {
    let pairs = audit.near_duplicates.iter().take(PAIRS_PICTURED);
    let pictures = pairs.map(|pair| Ok([thumbnail(manifest, &pair.first)?, thumbnail(manifest, &pair.second)?]));
    Ok(pictures.collect::<Result<_, DataError>>()?)
}

fn thumbnail(manifest: &Manifest, image: &AuditedImage) -> Result<Thumbnail, DataError> {
    let image = decode(&manifest.root.join(&image.path), &Limits::default())?;
    let longest = image.width().max(image.height());
    let scaled = |side: usize| (side * SIDE / longest).max(1);
    let (width, height) = (scaled(image.width()), scaled(image.height()));
    let pixels = match resize_for_display(&image, width, height) {
        Image::Gray8(raster) => Pixels::Grey(raster.samples().to_vec()),
        Image::Rgb8(raster) => Pixels::Rgb(raster.samples().to_vec()),
        Image::Gray16(_) => unreachable!("what is for display has 8 bits"),
    };
    Ok(Thumbnail { pixels, width, height })
}
