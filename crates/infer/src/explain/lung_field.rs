//! Whether a map lies in the lungs: a mask that is given, or an estimate.

use super::HeatMap;
use roentgen_data::{Image, resize_for_display};

/// Side of the small picture in which the estimate looks for lungs.
const ESTIMATE_SIDE: usize = 96;
/// A lung fills at least this share of the picture, or the estimate gives up.
const LEAST_LUNG: f64 = 0.02;

/// Which pixels of an image are lung.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LungField {
    width: usize,
    height: usize,
    /// `[height, width]`.
    inside: Vec<bool>,
}

/// How a map's evidence lies to the lungs, in the part of the image that the network saw.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LungShare {
    /// Share of the evidence that lies in the lungs, in `[0, 1]`; `None` where there is no evidence.
    pub evidence: Option<f64>,
    /// Share of the pixels that are lung: what a map that is the same everywhere would have.
    pub area: f64,
}

impl LungField {
    /// The field that a mask shows: what is brighter than half is lung. The mask may be of another size than its image.
    pub fn from_mask(mask: &Image) -> LungField {
        let inside = mask.to_rgb8().chunks_exact(3).map(|pixel| pixel.iter().any(|&level| level > 127)).collect();
        LungField { width: mask.width(), height: mask.height(), inside }
    }

    /// A rough estimate for a frontal radiograph with light bones: in an ellipse where each lung is expected, the largest
    /// connected part that is darker than Otsu's threshold (Otsu, "A Threshold Selection Method from Gray-Level
    /// Histograms", 1979), each of its rows filled. `None` where it finds no two lungs. It knows no anatomy: a consolidated
    /// lung is bright and is missed in part, and so is a heart shadow. Where it matters, give a mask.
    pub fn estimate(image: &Image) -> Option<LungField> {
        let side = ESTIMATE_SIDE;
        let small = resize_for_display(image, side, side);
        let grey: Vec<u8> = small
            .to_rgb8()
            .chunks_exact(3)
            .map(|pixel| (pixel.iter().map(|&level| u16::from(level)).sum::<u16>() / 3) as u8)
            .collect();
        let mut inside = vec![false; side * side];
        // Left and right as seen; share of the side.
        let ellipses = [0.29, 0.71].map(|centre| ellipse(side, centre));
        let within = |position: usize| ellipses.iter().any(|ellipse| ellipse[position]);
        let threshold = otsu((0..grey.len()).filter(|&position| within(position)).map(|position| grey[position]))?;
        for ellipse in ellipses {
            let dark: Vec<bool> =
                ellipse.iter().zip(&grey).map(|(&within, &level)| within && level <= threshold).collect();
            let lung = largest_part(&dark, side);
            if (lung.len() as f64) < LEAST_LUNG * (side * side) as f64 {
                return None;
            }
            for row in 0..side {
                let columns = lung.iter().filter(|&position| position / side == row).map(|position| position % side);
                if let (Some(first), Some(last)) = (columns.clone().min(), columns.max()) {
                    inside[row * side + first..=row * side + last].fill(true);
                }
            }
        }
        Some(LungField { width: side, height: side, inside })
    }

    /// Width over height of the mask.
    pub fn aspect(&self) -> f64 {
        self.width as f64 / self.height as f64
    }

    /// How a map lies to this field, over an image of `width` x `height` pixels.
    pub fn share(&self, map: &HeatMap, width: usize, height: usize) -> LungShare {
        let (mut evidence, mut evidence_inside) = (0.0, 0.0);
        let (mut seen, mut seen_inside) = (0usize, 0usize);
        for (position, value) in map.evidence_over(width, height).into_iter().enumerate() {
            if value.is_nan() {
                continue;
            }
            // The centre of a pixel, in the mask; twice the numbers, so that halves stay whole.
            let nearest = |at: usize, count: usize, of: usize| (2 * at + 1) * of / (2 * count);
            let (x, y) = (nearest(position % width, width, self.width), nearest(position / width, height, self.height));
            evidence += f64::from(value);
            seen += 1;
            if self.inside[y * self.width + x] {
                evidence_inside += f64::from(value);
                seen_inside += 1;
            }
        }
        LungShare {
            evidence: (evidence > 0.0).then(|| evidence_inside / evidence),
            area: seen_inside as f64 / seen.max(1) as f64,
        }
    }
}

/// Where a lung is expected whose middle lies at `centre` of the width, somewhat above the middle of the height.
fn ellipse(side: usize, centre: f64) -> Vec<bool> {
    let share = |at: usize| (at as f64 + 0.5) / side as f64;
    (0..side * side)
        .map(|position| {
            let (x, y) = (share(position % side), share(position / side));
            ((x - centre) / 0.2).powi(2) + ((y - 0.47) / 0.37).powi(2) <= 1.0
        })
        .collect()
}

/// The level up to which values are dark: the one that leaves the most variance between dark and light. `None` where all
/// are equal.
fn otsu(levels: impl Iterator<Item = u8>) -> Option<u8> {
    let mut counts = [0u64; 256];
    levels.for_each(|level| counts[usize::from(level)] += 1);
    let all: u64 = counts.iter().sum();
    let total: u64 = counts.iter().zip(0u64..).map(|(count, level)| count * level).sum();
    let (mut dark, mut dark_total) = (0u64, 0u64);
    let mut best: Option<(f64, u8)> = None;
    for (level, &count) in (0..=u8::MAX).zip(&counts) {
        dark += count;
        dark_total += count * u64::from(level);
        let light = all - dark;
        if dark == 0 || light == 0 {
            continue;
        }
        let apart = dark_total as f64 / dark as f64 - (total - dark_total) as f64 / light as f64;
        let variance = dark as f64 * light as f64 * apart * apart;
        if best.is_none_or(|(largest, _)| variance > largest) {
            best = Some((variance, level));
        }
    }
    best.map(|(_, level)| level)
}

/// Positions of the largest part that hangs together by edges.
fn largest_part(mask: &[bool], side: usize) -> Vec<usize> {
    let mut unseen = mask.to_vec();
    let mut largest = Vec::new();
    for start in 0..mask.len() {
        if !std::mem::take(&mut unseen[start]) {
            continue;
        }
        let mut part = vec![start];
        let mut next = 0;
        while let Some(&position) = part.get(next) {
            next += 1;
            let (x, y) = (position % side, position / side);
            let neighbours = [
                (x > 0).then(|| position - 1),
                (x + 1 < side).then(|| position + 1),
                (y > 0).then(|| position - side),
                (y + 1 < side).then(|| position + side),
            ];
            for neighbour in neighbours.into_iter().flatten() {
                if std::mem::take(&mut unseen[neighbour]) {
                    part.push(neighbour);
                }
            }
        }
        if part.len() > largest.len() {
            largest = part;
        }
    }
    largest
}

#[cfg(test)]
mod tests {
    use super::*;
    use roentgen_data::Raster;

    fn grey(width: usize, height: usize, level: impl Fn(f64, f64) -> u8) -> Image {
        let samples = (0..width * height)
            .map(|i| level((i % width) as f64 / width as f64, (i / width) as f64 / height as f64))
            .collect();
        Image::Gray8(Raster::new(width, height, samples).unwrap())
    }

    /// Two dark lungs of known place in a light chest, with air to the sides and lighter ribs across.
    fn chest() -> (Image, impl Fn(f64, f64) -> bool) {
        let lung = |x: f64, y: f64| {
            [0.3, 0.7].iter().any(|centre| ((x - centre) / 0.14).powi(2) + ((y - 0.45) / 0.28).powi(2) <= 1.0)
        };
        let image = grey(300, 240, move |x, y| {
            let rib = (y * 40.0).sin() > 0.95;
            match (lung(x, y), (0.06..0.94).contains(&x)) {
                (true, _) => 60 + 30 * u8::from(rib),
                (false, true) => 170,
                (false, false) => 5,
            }
        });
        (image, lung)
    }

    #[test]
    fn the_estimate_finds_the_lungs_of_a_plain_chest() {
        let (image, lung) = chest();
        let field = LungField::estimate(&image).unwrap();
        let (mut both, mut either) = (0, 0);
        for (position, &inside) in field.inside.iter().enumerate() {
            let share = |at: usize| (at as f64 + 0.5) / ESTIMATE_SIDE as f64;
            let truth = lung(share(position % ESTIMATE_SIDE), share(position / ESTIMATE_SIDE));
            both += usize::from(truth && inside);
            either += usize::from(truth || inside);
        }
        let overlap = f64::from(both as u32) / f64::from(either as u32);
        assert!(overlap > 0.85, "intersection over union {overlap}");
        assert_eq!(LungField::estimate(&grey(50, 50, |_, _| 90)), None);
        assert_eq!(LungField::estimate(&grey(50, 50, |x, _| if x < 0.5 { 20 } else { 200 })), None);
    }

    #[test]
    fn evidence_is_shared_out_by_the_mask() {
        // Seen in full but for the border: 56 of 64 px. The mask's right half is lung.
        let field = LungField::from_mask(&grey(10, 10, |x, _| if x < 0.5 { 0 } else { 255 }));
        let map = |values: &[f32]| HeatMap { height: 1, width: 2, values: values.to_vec(), image_size: 56 };
        let share = |values: &[f32]| field.share(&map(values), 640, 640);
        assert_eq!(share(&[1.0, 1.0]), LungShare { evidence: Some(0.5), area: 0.5 });
        assert_eq!(share(&[-1.0, -1.0]).evidence, None);
        assert!(share(&[-1.0, 2.0]).evidence.unwrap() > 0.95 && share(&[2.0, -1.0]).evidence.unwrap() < 0.05);
    }
}
