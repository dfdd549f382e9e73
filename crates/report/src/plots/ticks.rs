//! Where an axis is marked, and how the marks are written.

/// An axis: its ends and its marks, each with its text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Axis {
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) ticks: Vec<(f64, String)>,
}

impl Axis {
    /// An axis of real numbers that holds `low` to `high`, both finite, and ends on marks.
    pub(crate) fn real(low: f64, high: f64, most_ticks: usize) -> Axis {
        let (low, high) = if high > low { (low, high) } else { around(low) };
        let step = round_step((high - low) / most_ticks as f64);
        let (first, last) = ((low / step).floor(), (high / step).ceil());
        // A step below the numbers' own precision would give the same mark for ever.
        let count = (last - first).clamp(1.0, 2.0 * most_ticks as f64 + 2.0) as usize;
        let ticks = (0..=count).map(|index| (first + index as f64) * step).map(|value| (value, label(value, step)));
        Axis { low: first * step, high: (first + count as f64) * step, ticks: ticks.collect() }
    }

    /// An axis of whole numbers from `first` to `last`, marked at whole numbers alone; a single number stands in its
    /// middle.
    pub(crate) fn whole(first: u64, last: u64, most_ticks: usize) -> Axis {
        if first >= last {
            let value = first as f64;
            return Axis { low: value - 0.5, high: value + 0.5, ticks: vec![(value, first.to_string())] };
        }
        let step = round_step((last - first) as f64 / most_ticks as f64).max(1.0) as u64;
        let multiples = (first.div_ceil(step)..=last / step).map(|index| index * step);
        // The first epoch is always marked, unless its label would touch the next one.
        let mut marks: Vec<u64> = multiples.collect();
        if marks.first().is_none_or(|&mark| mark > first && mark - first >= step / 2) {
            marks.insert(0, first);
        }
        let ticks = marks.into_iter().map(|mark| (mark as f64, mark.to_string()));
        Axis { low: first as f64, high: last as f64, ticks: ticks.collect() }
    }

    /// Where `value` lies between the ends: 0 at the low one, 1 at the high one.
    pub(crate) fn position(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }
}

/// A range of some width around a single value.
fn around(value: f64) -> (f64, f64) {
    let margin = (value.abs() * 0.05).max(1e-3);
    (value - margin, value + margin)
}

/// The next of 1, 2, 5 times a power of ten that is not smaller than `step`.
fn round_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    [1.0, 2.0, 5.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|&round| round >= step * (1.0 - 1e-9))
        .unwrap_or(10.0 * power)
}

fn label(value: f64, step: f64) -> String {
    if !(1e-4..1e5).contains(&step) || value.abs() >= 1e6 {
        return if value == 0.0 { "0".into() } else { format!("{value:.1e}") };
    }
    let decimals = (-step.log10().floor()).max(0.0) as usize;
    // A zero that came out as -0.0 has no sign.
    format!("{:.decimals$}", value + 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, text)| text.as_str()).collect()
    }

    #[test]
    fn real_axes_end_on_round_marks() {
        assert_eq!(labels(&Axis::real(0.0, 0.69, 5)), ["0.0", "0.2", "0.4", "0.6", "0.8"]);
        assert_eq!(labels(&Axis::real(0.61, 0.66, 5)), ["0.61", "0.62", "0.63", "0.64", "0.65", "0.66"]);
        assert_eq!(labels(&Axis::real(-1.0, 1.0, 4)), ["-1.0", "-0.5", "0.0", "0.5", "1.0"]);
    }

    #[test]
    fn every_range_lies_within_its_axis() {
        for (low, high) in
            [(0.5, 0.5), (0.0, 0.0), (3.0, 1e9), (1e-7, 2e-7), (-5.0, 7.5), (1e15, 1e15 + 2.0), (0.1, 1e300)]
        {
            let axis = Axis::real(low, high, 5);
            assert!(axis.low <= low && high <= axis.high && axis.low < axis.high, "{low} to {high}: {axis:?}");
            assert!((2..=13).contains(&axis.ticks.len()), "{low} to {high}: {axis:?}");
            assert!(axis.ticks.iter().all(|(_, text)| text.len() <= 9), "{low} to {high}: {axis:?}");
        }
    }

    #[test]
    fn whole_axes_mark_whole_numbers_from_one_to_many() {
        assert_eq!(labels(&Axis::whole(1, 1, 8)), ["1"]);
        assert_eq!(labels(&Axis::whole(1, 3, 8)), ["1", "2", "3"]);
        assert_eq!(labels(&Axis::whole(1, 10, 8)), ["1", "2", "4", "6", "8", "10"]);
        assert_eq!(labels(&Axis::whole(1, 100, 8)), ["1", "20", "40", "60", "80", "100"]);
        assert_eq!(Axis::whole(1, 1, 8).position(1.0), 0.5);
    }
}
