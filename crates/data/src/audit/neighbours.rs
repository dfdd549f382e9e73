//! Which images may be copies of which: the nearest ones by a short description, without comparing each with each.

use super::likeness::Likeness;
use super::placement::{Placement, placements};
use rayon::prelude::*;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Points of a description along a side, within a disc.
const GRID: usize = 12;
/// Distance of the outermost points, as a share of the side.
const EXTENT: f32 = 0.8;
/// Points farther from the middle are left out: there a rotated copy shows what its original does not have.
const RADIUS: f32 = 0.46;
/// Cells that each description is looked for in.
const CELLS_LOOKED_AT: usize = 8;
/// Rounds in which the cells find their places.
const ROUNDS: usize = 6;
/// Candidates that an image keeps.
const CANDIDATES: usize = 10;
/// How well their descriptions correlate at least: those of altered copies do by 0.9 and more.
const LEAST_CORRELATION: f32 = 0.85;

/// A pair that may be of the same exposure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Candidate {
    pub(super) first: usize,
    pub(super) second: usize,
    /// Where the second image may lie in the first.
    pub(super) placement: Placement,
    /// Correlation of the descriptions, without its sign.
    pub(super) correlation: f32,
}

/// The structure of an image at the points of a grid: of length 1, or nothing at all.
type Description = Vec<f32>;

fn points() -> Vec<(f32, f32)> {
    let position = |index: usize| EXTENT * (index as f32 / (GRID - 1) as f32 - 0.5);
    let all = (0..GRID * GRID).map(|index| (position(index % GRID), position(index / GRID)));
    all.filter(|(u, v)| u.hypot(*v) <= RADIUS).collect()
}

/// `None` where the image is flat.
fn describe(likeness: &Likeness, placement: &Placement, points: &[(f32, f32)]) -> Option<Description> {
    let at = |&(u, v): &(f32, f32)| {
        let (u, v) = placement.of(u, v);
        likeness.coarse.sample(u, v).0
    };
    let mut values: Vec<f32> = points.iter().map(at).collect();
    let mean = values.iter().sum::<f32>() / values.len() as f32;
    values.iter_mut().for_each(|value| *value -= mean);
    // Fields hold whole levels: less than one of them, over all points, is nothing.
    (dot(&values, &values) >= 1.0).then(|| normalised(values))
}

/// To length 1; `values` are not all zero.
fn normalised(mut values: Vec<f32>) -> Description {
    let length = dot(&values, &values).sqrt();
    values.iter_mut().for_each(|value| *value /= length);
    values
}

/// In eight chains, so that the compiler may use vectors.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0; 8];
    let (a, b) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = a.remainder().iter().zip(b.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a.zip(b) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums.iter().sum::<f32>() + rest
}

/// The pairs of images of which one, in some placement, resembles the other; each pair once, in the order of the
/// images. Also the number of descriptions that were compared.
///
/// The descriptions are divided into as many cells as the root of their number, and each is looked for in the nearest
/// few (J. Sivic and A. Zisserman, ICCV 2003): the work grows with the power 1.5 of the number of images. An inverted
/// image has the description of the opposite sign, so that signs are ignored throughout.
pub(super) fn candidates(likenesses: &[&Likeness], progress: &(impl Fn(usize) + Sync)) -> (Vec<Candidate>, u64) {
    let points = points();
    let whole = Placement::new(0.0, 1.0, (0.0, 0.0), false, 1.0);
    let descriptions: Vec<Option<Description>> =
        likenesses.par_iter().map(|likeness| describe(likeness, &whole, &points)).collect();
    let described: Vec<(usize, &Description)> = descriptions
        .iter()
        .enumerate()
        .filter_map(|(index, description)| Some((index, description.as_ref()?)))
        .collect();
    let compared = AtomicU64::new(0);
    let cells = Cells::new(&described, &compared);
    let done = AtomicUsize::new(0);
    let of_image = |&(first, _): &(usize, &Description)| {
        let placements = placements(likenesses[first].aspect);
        let mut best: HashMap<usize, Candidate> = HashMap::new();
        for &placement in &placements {
            let Some(query) = describe(likenesses[first], &placement, &points) else { continue };
            cells.search(&query, &compared, |second, correlation| {
                if second != first && correlation >= LEAST_CORRELATION {
                    let candidate = Candidate { first, second, placement, correlation };
                    let known = best.entry(second).or_insert(candidate);
                    if known.correlation < correlation {
                        *known = candidate;
                    }
                }
            });
        }
        let mut best: Vec<Candidate> = best.into_values().collect();
        best.sort_by(|a, b| b.correlation.total_cmp(&a.correlation).then(a.second.cmp(&b.second)));
        best.truncate(CANDIDATES);
        progress(done.fetch_add(1, Ordering::Relaxed) + 1);
        best
    };
    let mut all: Vec<Candidate> = described.par_iter().flat_map_iter(of_image).collect();
    // Found from either side: the better placement stays.
    let key = |candidate: &Candidate| (candidate.first.min(candidate.second), candidate.first.max(candidate.second));
    all.sort_by(|a, b| key(a).cmp(&key(b)).then(b.correlation.total_cmp(&a.correlation)).then(a.first.cmp(&b.first)));
    all.dedup_by_key(|candidate| key(candidate));
    (all, compared.into_inner())
}

/// Descriptions in cells around middles.
struct Cells<'a> {
    middles: Vec<Description>,
    members: Vec<Vec<(usize, &'a Description)>>,
}

impl<'a> Cells<'a> {
    fn new(described: &[(usize, &'a Description)], compared: &AtomicU64) -> Cells<'a> {
        let count = (described.len() as f64).sqrt().ceil() as usize;
        // Any start serves; evenly spread over the data set it is the same each time.
        let mut middles: Vec<Description> =
            (0..count).map(|cell| described[cell * described.len() / count].1.clone()).collect();
        let mut nearest = Vec::new();
        for round in 0..=ROUNDS {
            nearest = described.par_iter().map(|(_, description)| nearest_middle(&middles, description)).collect();
            compared.fetch_add((described.len() * count) as u64, Ordering::Relaxed);
            if round == ROUNDS {
                break;
            }
            let mut sums = vec![vec![0.0; middles.first().map_or(0, Vec::len)]; count];
            for ((_, description), &(cell, sign)) in described.iter().zip(&nearest) {
                sums[cell].iter_mut().zip(description.iter()).for_each(|(sum, value)| *sum += sign * value);
            }
            for (middle, sum) in middles.iter_mut().zip(sums) {
                // A cell that lost all its members keeps its place.
                if sum.iter().any(|value| *value != 0.0) {
                    *middle = normalised(sum);
                }
            }
        }
        let mut members = vec![Vec::new(); count];
        for (&described, &(cell, _)) in described.iter().zip(&nearest) {
            members[cell].push(described);
        }
        Cells { middles, members }
    }

    fn search(&self, query: &[f32], compared: &AtomicU64, mut found: impl FnMut(usize, f32)) {
        let mut nearness: Vec<(f32, usize)> =
            self.middles.iter().enumerate().map(|(cell, middle)| (dot(query, middle).abs(), cell)).collect();
        let looked_at = CELLS_LOOKED_AT.min(nearness.len());
        if looked_at < nearness.len() {
            nearness.select_nth_unstable_by(looked_at, |a, b| b.0.total_cmp(&a.0));
        }
        let mut count = nearness.len();
        for &(_, cell) in &nearness[..looked_at] {
            count += self.members[cell].len();
            for (index, description) in &self.members[cell] {
                found(*index, dot(query, description).abs());
            }
        }
        compared.fetch_add(count as u64, Ordering::Relaxed);
    }
}

/// The nearest middle, and the sign of the correlation with it.
fn nearest_middle(middles: &[Description], description: &[f32]) -> (usize, f32) {
    let mut best = (0, 0.0_f32);
    for (cell, middle) in middles.iter().enumerate() {
        let correlation = dot(middle, description);
        if correlation.abs() > best.1.abs() {
            best = (cell, correlation);
        }
    }
    (best.0, best.1.signum())
}
