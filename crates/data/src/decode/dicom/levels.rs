//! From stored values to shades of grey: modality, values of interest, polarity (PS3.4, annex N.2).
//!
//! All of it is a function of the stored value, of which there are at most 65536: it is computed once for each.

use super::fault::Fault;
use super::header::{Header, Modality, Voi, WindowFunction};
use crate::raster::{Image, Raster};

/// The image of a frame's stored samples, 0 black to white, in 8 bits where nothing was computed and 8 are stored, else
/// in 16.
pub(super) fn image(header: &Header, mut samples: Vec<u16>) -> Result<Image, Fault> {
    let levels = levels(header, &samples)?;
    samples.iter_mut().for_each(|sample| *sample = levels[usize::from(*sample)]);
    let (width, height) = (header.columns as usize, header.rows as usize);
    let fits = "the frame has rows x columns samples, and neither is 0";
    Ok(if header.samples.bits == 8 && is_full_range(header) {
        // Each level is the stored value times 257, or 65535 less that.
        let samples = samples.into_iter().map(|level| (level / 257) as u8).collect();
        Image::Gray8(Raster::new(width, height, samples).expect(fits))
    } else {
        Image::Gray16(Raster::new(width, height, samples).expect(fits))
    })
}

/// Whether a file without window or table is shown over all the values that its bits can hold: so it is with 8 bits or
/// less, which were made for showing. More bits are rarely all in use, and go from the smallest value of the frame to
/// its largest, as viewers show them.
fn is_full_range(header: &Header) -> bool {
    matches!((&header.voi, &header.modality), (Voi::None, Modality::Rescale { .. })) && header.samples.bits <= 8
}

/// The level of each stored value.
fn levels(header: &Header, samples: &[u16]) -> Result<Vec<u16>, Fault> {
    let count = 1usize << header.samples.bits;
    let modality = |stored: usize| modality(header, signed(header, stored));
    let share: Box<dyn Fn(f64) -> f64> = match &header.voi {
        Voi::Table(table) => Box::new(|value| f64::from(table.entry(value)) / f64::from(table.largest)),
        &Voi::Window { function, center, width } => Box::new(move |value| window(function, center, width, value)),
        Voi::None => {
            let mut shown = vec![is_full_range(header); count];
            if !is_full_range(header) {
                samples.iter().for_each(|&sample| shown[usize::from(sample)] = true);
                if let Some((first, last)) = header.padding {
                    let is_padding = |stored: usize| (first..=last).contains(&signed(header, stored));
                    (0..count).filter(|&stored| is_padding(stored)).for_each(|stored| shown[stored] = false);
                }
            }
            let values = (0..count).filter(|&stored| shown[stored]).map(modality);
            let (low, high) =
                values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
            if is_full_range(header) && low == high {
                return Err(Fault::Header("its rescale slope (0028,1053) is 0; expected another".to_owned()));
            }
            // A frame of one value is black: nothing can be seen in it.
            let range = if high > low { high - low } else { f64::INFINITY };
            Box::new(move |value| (value - low) / range)
        }
    };
    let level = |stored| {
        let share = share(modality(stored)).clamp(0.0, 1.0);
        // A value that is no number becomes 0.
        ((if header.inverted { 1.0 - share } else { share }) * 65535.0).round() as u16
    };
    Ok((0..count).map(level).collect())
}

/// The number that stored bits stand for.
fn signed(header: &Header, stored: usize) -> i32 {
    let value = stored as i32;
    let sign = 1 << (header.samples.bits - 1);
    if header.samples.signed && value & sign != 0 { value - 2 * sign } else { value }
}

fn modality(header: &Header, stored: i32) -> f64 {
    match &header.modality {
        Modality::Rescale { slope, intercept } => f64::from(stored) * slope + intercept,
        Modality::Table(table) => f64::from(table.entry(f64::from(stored))),
    }
}

/// The share of the output range, 0 to 1, that a window gives a value.
fn window(function: WindowFunction, center: f64, width: f64, value: f64) -> f64 {
    let linear = |center: f64, width: f64| match value {
        below if below <= center - width / 2.0 => 0.0,
        above if above > center + width / 2.0 => 1.0,
        between => (between - center) / width + 0.5,
    };
    match function {
        WindowFunction::Linear => linear(center - 0.5, width - 1.0),
        WindowFunction::LinearExact => linear(center, width),
        // libm: the same bits on every system.
        WindowFunction::Sigmoid => 1.0 / (1.0 + libm::exp(-4.0 * (value - center) / width)),
    }
}
