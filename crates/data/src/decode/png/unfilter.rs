//! PNG's filters, undone for two rows at a time.
//!
//! A pixel needs its left neighbour, so that a row is one chain of dependent steps, and a processor waits for each of
//! them. Two rows are two chains, of which the second needs from the first only what has just been made. The filters are
//! known to the compiler, for each pair of them.

/// Rows that are unfiltered in step.
pub(super) const ROWS: usize = 2;
const FILTERS: usize = 5;

/// Undoes the filters of rows of `width` samples of one byte, each behind the byte that names its filter. `filtered`
/// holds whole groups of [`ROWS`] rows. `None` where a filter is unknown.
pub(super) fn unfilter(filtered: &[u8], width: usize) -> Option<Vec<u8>> {
    let stride = width + 1;
    let mut samples = vec![0; filtered.len() / stride * width];
    let first = vec![0; width];
    let mut above: &[u8] = &first;
    let groups = filtered.chunks_exact(stride * ROWS).zip(samples.chunks_exact_mut(width * ROWS));
    for (filtered, samples) in groups {
        let (upper, lower) = filtered.split_at(stride);
        let undo = UNDO.get(usize::from(upper[0]))?.get(usize::from(lower[0]))?;
        let (made_upper, made_lower) = samples.split_at_mut(width);
        undo(above, [&upper[1..], &lower[1..]], [made_upper, made_lower]);
        above = &samples[width..];
    }
    Some(samples)
}

/// Undoes the filters of two rows: what stands above them, what is filtered, and where the samples go.
type Undo = fn(&[u8], [&[u8]; ROWS], [&mut [u8]; ROWS]);

/// By the filters of the upper and the lower row.
const UNDO: [[Undo; FILTERS]; FILTERS] = [below::<0>(), below::<1>(), below::<2>(), below::<3>(), below::<4>()];

const fn below<const UPPER: u8>() -> [Undo; FILTERS] {
    [undo::<UPPER, 0>, undo::<UPPER, 1>, undo::<UPPER, 2>, undo::<UPPER, 3>, undo::<UPPER, 4>]
}

fn undo<const UPPER: u8, const LOWER: u8>(above: &[u8], filtered: [&[u8]; ROWS], samples: [&mut [u8]; ROWS]) {
    let width = above.len();
    let [upper_filtered, lower_filtered] = filtered.map(|row| &row[..width]);
    let [upper_samples, lower_samples] = samples.map(|row| &mut row[..width]);
    let (mut left, mut corner) = ([0; ROWS], [0; ROWS]);
    for x in 0..width {
        let up = i32::from(above[x]);
        let upper = sample::<UPPER>(upper_filtered[x], left[0], up, corner[0]);
        let lower = sample::<LOWER>(lower_filtered[x], left[1], upper, corner[1]);
        // Each is below 256.
        (upper_samples[x], lower_samples[x]) = (upper as u8, lower as u8);
        (left, corner) = ([upper, lower], [up, upper]);
    }
}

/// A sample from what is filtered and its neighbours, all from 0 to 255.
#[inline(always)]
fn sample<const FILTER: u8>(filtered: u8, left: i32, up: i32, corner: i32) -> i32 {
    let prediction = match FILTER {
        0 => 0,
        1 => left,
        2 => up,
        3 => (left + up) >> 1,
        _ => paeth(left, up, corner),
    };
    (i32::from(filtered) + prediction) & 0xff
}

/// Of the three neighbours the one nearest to left + up - corner, in this order where several are. Computed without
/// the three distances, as Fabian Giesen's form of it in stb_image.h does.
#[inline(always)]
fn paeth(left: i32, up: i32, corner: i32) -> i32 {
    let (low, high) = (left.min(up), left.max(up));
    let threshold = 3 * corner - (left + up);
    let otherwise = if high <= threshold { low } else { corner };
    if threshold <= low { high } else { otherwise }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the specification has it (PNG, third edition, section 9.4).
    fn paeth_by_distance(left: i32, up: i32, corner: i32) -> i32 {
        let estimate = left + up - corner;
        let distance = |neighbour: i32| (estimate - neighbour).abs();
        if distance(left) <= distance(up) && distance(left) <= distance(corner) {
            left
        } else if distance(up) <= distance(corner) {
            up
        } else {
            corner
        }
    }

    /// Row after row, sample after sample.
    fn unfilter_slowly(filtered: &[u8], width: usize) -> Vec<u8> {
        let mut above = vec![0; width];
        let mut samples = Vec::new();
        for row in filtered.chunks_exact(width + 1) {
            let (mut left, mut corner) = (0, 0);
            for x in 0..width {
                let up = i32::from(above[x]);
                let prediction = match row[0] {
                    0 => 0,
                    1 => left,
                    2 => up,
                    3 => (left + up) / 2,
                    _ => paeth_by_distance(left, up, corner),
                };
                above[x] = row[1 + x].wrapping_add(prediction as u8);
                (left, corner) = (i32::from(above[x]), up);
            }
            samples.extend_from_slice(&above);
        }
        samples
    }

    #[test]
    fn paeth_is_the_nearest_of_all_neighbours() {
        for (left, up) in (0..256).flat_map(|left| (0..256).map(move |up| (left, up))) {
            assert!((0..256).all(|corner| paeth(left, up, corner) == paeth_by_distance(left, up, corner)));
        }
    }

    #[test]
    fn every_pair_of_filters_and_every_width_is_as_row_by_row() {
        for width in [1, 2, 7, 31, 100] {
            let pairs = (0..5).flat_map(|upper| (0..5).flat_map(move |lower| [upper, lower]));
            let noise = |row: usize, x: usize| ((row * 7919 + x * 104_729 + row * x * 31) >> 3) as u8;
            let filtered: Vec<u8> = pairs
                .enumerate()
                .flat_map(|(row, filter)| std::iter::once(filter).chain((0..width).map(move |x| noise(row, x))))
                .collect();
            assert_eq!(unfilter(&filtered, width).unwrap(), unfilter_slowly(&filtered, width), "width {width}");
            for row in [48, 49] {
                let mut unknown = filtered.clone();
                unknown[(width + 1) * row] = 5;
                assert!(unfilter(&unknown, width).is_none());
            }
        }
    }
}
