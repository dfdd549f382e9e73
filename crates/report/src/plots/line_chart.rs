//! Curves over epochs or steps.

use super::ticks::Axis;
use super::{Picture, printable, text_width};
use crate::{ReportError, templates};
use serde::Serialize;

const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 290.0;
/// Where the curves begin, unless the labels before them need more.
const LEFT: f64 = 62.0;
/// What the vertical axis's name and the gaps about its labels take.
const BESIDE_LABELS: f64 = 28.0;
const RIGHT: f64 = WIDTH - 14.0;
const TOP: f64 = 56.0;
const BOTTOM: f64 = HEIGHT - 44.0;
/// The first line of the legend, and from one line to the next.
const LEGEND: f64 = 36.0;
const LEGEND_LINE: f64 = 20.0;
/// With more points than this, markers would run into each other.
const MOST_MARKERS: usize = 30;

/// One picture of curves over a common horizontal axis of whole numbers.
#[derive(Clone, Debug)]
pub(crate) struct LineChart<'a> {
    pub(crate) title: &'a str,
    pub(crate) horizontal_label: &'a str,
    pub(crate) vertical_label: &'a str,
    pub(crate) scale: Scale,
    pub(crate) series: Vec<Series<'a>>,
    /// What the picture shows, for readers who cannot see it.
    pub(crate) description: String,
}

/// What the vertical axis measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    /// Any real numbers from 0 up; the axis begins at 0 unless that would flatten the curves.
    Loss,
    /// Shares in `[0, 1]`, written as percentages.
    Share,
}

/// One curve.
#[derive(Clone, Debug)]
pub(crate) struct Series<'a> {
    pub(crate) label: &'a str,
    pub(crate) role: Role,
    /// In the order of the horizontal axis. A value that is not finite leaves a gap.
    pub(crate) points: Vec<(u64, f64)>,
}

/// Which colour, dash and marker a curve has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Training,
    Validation,
    /// One of several that are alike, by number; colours and dashes repeat after [`Role::NUMBERS`].
    Numbered(usize),
}

impl Role {
    /// How many numbered curves can be told apart.
    pub(crate) const NUMBERS: usize = 8;
}

/// The class of the style sheet.
impl Serialize for Role {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Role::Training => serializer.serialize_str("training"),
            Role::Validation => serializer.serialize_str("validation"),
            Role::Numbered(number) => serializer.collect_str(&format_args!("number-{}", number % Role::NUMBERS)),
        }
    }
}

#[derive(Serialize)]
struct Drawing<'a> {
    title: &'a str,
    horizontal_label: &'a str,
    vertical_label: &'a str,
    description: String,
    width: f64,
    height: f64,
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
    columns: Vec<Mark>,
    rows: Vec<Mark>,
    legend: Vec<LegendEntry<'a>>,
    curves: Vec<Curve>,
}

/// A place on an axis and the text that stands there.
#[derive(Serialize)]
pub(super) struct Mark {
    pub(super) at: String,
    pub(super) label: String,
}

#[derive(Serialize)]
struct LegendEntry<'a> {
    role: Role,
    label: &'a str,
    x: String,
    y: f64,
}

#[derive(Serialize)]
struct Curve {
    role: Role,
    lines: Vec<String>,
    markers: Vec<(String, String)>,
}

impl LineChart<'_> {
    /// Draws the chart; `None` where no curve has a finite value.
    ///
    /// # Errors
    /// Where the template is wrong.
    pub(crate) fn draw(&self, file_name: &str) -> Result<Option<Picture>, ReportError> {
        self.draw_over(file_name, |first, last| Axis::whole(first, last, 8))
    }

    /// As [`LineChart::draw`], over an axis of one's own that begins and ends with the first and last number.
    ///
    /// # Errors
    /// Where the template is wrong.
    pub(crate) fn draw_over(
        &self,
        file_name: &str,
        axis: impl Fn(u64, u64) -> Axis,
    ) -> Result<Option<Picture>, ReportError> {
        let values = || self.series.iter().flat_map(|series| &series.points).filter(|(_, value)| value.is_finite());
        let Some((first, last)) = values().map(|&(x, _)| x).min().zip(values().map(|&(x, _)| x).max()) else {
            return Ok(None);
        };
        let low = values().fold(f64::INFINITY, |low, &(_, value)| low.min(value));
        let high = values().fold(f64::NEG_INFINITY, |high, &(_, value)| high.max(value));
        let horizontal = axis(first, last);
        let vertical = self.scale.axis(low, high);
        let widest = vertical.ticks.iter().map(|(_, label)| text_width(label)).fold(0.0, f64::max);
        let left = LEFT.max(BESIDE_LABELS + widest);
        let legend = self.legend(left);
        // A longer legend moves everything below it down.
        let shift = legend.last().map_or(0.0, |entry| entry.y - LEGEND);
        let (top, bottom) = (TOP + shift, BOTTOM + shift);
        let x = |value: f64| left + 8.0 + horizontal.position(value) * (RIGHT - left - 16.0);
        let y = |value: f64| bottom - vertical.position(value) * (bottom - top);

        let drawing = Drawing {
            title: self.title,
            horizontal_label: self.horizontal_label,
            vertical_label: self.vertical_label,
            description: printable(&self.description),
            width: WIDTH,
            height: HEIGHT + shift,
            left,
            right: RIGHT,
            top,
            bottom,
            columns: horizontal
                .ticks
                .iter()
                .map(|(at, label)| Mark { at: coordinate(x(*at)), label: label.clone() })
                .collect(),
            rows: vertical
                .ticks
                .iter()
                .map(|(at, label)| Mark { at: coordinate(y(*at)), label: label.clone() })
                .collect(),
            legend,
            curves: self.series.iter().map(|series| series.curve(&x, &y)).collect(),
        };
        Picture::new(file_name.to_owned(), templates::LINE_CHART, &drawing).map(Some)
    }

    /// The entries from left to right, in as many lines as they need.
    fn legend(&self, left: f64) -> Vec<LegendEntry<'_>> {
        let (mut x, mut y) = (left, LEGEND);
        let mut entries = Vec::new();
        for Series { label, role, .. } in &self.series {
            let width = 34.0 + text_width(label);
            if x > left && x + width > WIDTH {
                (x, y) = (left, y + LEGEND_LINE);
            }
            entries.push(LegendEntry { role: *role, label, x: coordinate(x), y });
            x += width + 16.0;
        }
        entries
    }
}

impl Scale {
    fn axis(self, low: f64, high: f64) -> Axis {
        match self {
            // A curve that stays in the upper two thirds would be flattened by an axis from 0.
            Scale::Loss => Axis::real(if low > 0.0 && low < 0.35 * high { 0.0 } else { low }, high, 5),
            Scale::Share => {
                let mut axis = Axis::real(low, high, 5);
                // Below 0 % and above 100 % there is nothing.
                let within = |value: f64| (-1e-9..=1.0 + 1e-9).contains(&value);
                axis.ticks.retain(|(value, _)| within(*value));
                (axis.low, axis.high) = (axis.low.max(0.0), axis.high.min(1.0));
                let fine = axis.ticks.windows(2).any(|pair| pair[1].0 - pair[0].0 < 0.0099);
                for (value, label) in &mut axis.ticks {
                    *label = if fine { format!("{:.1} %", *value * 100.0) } else { format!("{:.0} %", *value * 100.0) };
                }
                axis
            }
        }
    }
}

impl Series<'_> {
    fn curve(&self, x: &impl Fn(f64) -> f64, y: &impl Fn(f64) -> f64) -> Curve {
        let runs: Vec<&[(u64, f64)]> =
            self.points.split(|(_, value)| !value.is_finite()).filter(|run| !run.is_empty()).collect();
        let place = |&(at, value): &(u64, f64)| (coordinate(x(at as f64)), coordinate(y(value)));
        let line = |run: &&[(u64, f64)]| {
            let places: Vec<String> = run.iter().map(place).map(|(x, y)| format!("{x},{y}")).collect();
            places.join(" ")
        };
        // A point without neighbours makes no line and would be lost without its marker.
        let marked = |run: &&&[(u64, f64)]| run.len() == 1 || self.points.len() <= MOST_MARKERS;
        Curve {
            role: self.role,
            lines: runs.iter().map(line).collect(),
            markers: runs.iter().filter(marked).flat_map(|run| run.iter().map(place)).collect(),
        }
    }
}

/// A tenth of a unit is finer than any screen shows.
pub(super) fn coordinate(value: f64) -> String {
    format!("{:.1}", value + 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(scale: Scale, points: Vec<(u64, f64)>) -> LineChart<'static> {
        LineChart {
            title: "Loss",
            horizontal_label: "epoch",
            vertical_label: "loss",
            scale,
            series: vec![Series { label: "training", role: Role::Training, points }],
            description: "<falls>".into(),
        }
    }

    #[test]
    fn points_lie_within_the_frame_and_are_all_drawn() {
        for scale in [Scale::Loss, Scale::Share] {
            for count in [1, 2, 30, 100] {
                let points: Vec<_> = (1..=count).map(|epoch| (epoch, 1.0 / epoch as f64)).collect();
                let picture = chart(scale, points).draw("loss.svg").unwrap().unwrap();
                let document = roxmltree::Document::parse(&picture.file).unwrap();
                let line = document.descendants().find(|node| node.has_tag_name("polyline")).unwrap();
                let places: Vec<(f64, f64)> = (line.attribute("points").unwrap().split(' '))
                    .map(|pair| pair.split_once(',').unwrap())
                    .map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap()))
                    .collect();
                assert_eq!(places.len(), count as usize);
                assert!(places.iter().all(|(x, y)| (LEFT..=RIGHT).contains(x) && (TOP..=BOTTOM).contains(y)));
                assert!(places.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1), "{places:?}");
                let markers = document.descendants().filter(|node| node.has_tag_name("circle")).count();
                assert_eq!(markers, if count <= 30 { count as usize } else { 0 } + 1, "one more in the legend");
            }
        }
    }

    #[test]
    fn long_numbers_do_not_run_into_the_name_of_their_axis() {
        let left_of = |low: f64, high: f64| {
            let picture = chart(Scale::Loss, vec![(1, low), (2, high)]).draw("loss.svg").unwrap().unwrap();
            let document = roxmltree::Document::parse(&picture.file).unwrap();
            let rows = document.descendants().filter(|node| node.attribute("class") == Some("row"));
            let lefts = rows.map(|row| {
                row.attribute("x").unwrap().parse::<f64>().unwrap() - text_width(row.text().unwrap_or_default())
            });
            lefts.fold(f64::INFINITY, f64::min)
        };
        // The name is written upwards, and ends 4 units right of 14.
        for (low, high) in [(0.5, 0.9), (0.6712, 0.6893), (0.50312, 0.50315)] {
            assert!(left_of(low, high) > 18.0, "{} for {low} to {high}", left_of(low, high));
        }
    }

    #[test]
    fn a_long_legend_takes_several_lines_above_the_curves() {
        let labels: Vec<String> = (0..6).map(|number| format!("a row of the table, number {number}")).collect();
        let mut chart = chart(Scale::Loss, Vec::new());
        let numbered = |(number, label): (usize, &String)| (number, label.clone().leak() as &'static str);
        chart.series = (labels.iter().enumerate().map(numbered))
            .map(|(number, label)| Series { label, role: Role::Numbered(number), points: vec![(1, 0.5), (2, 0.4)] })
            .collect();
        let legend = chart.legend(LEFT);
        assert!(legend.windows(2).all(|pair| pair[0].y <= pair[1].y) && legend[5].y > legend[0].y);
        let below = legend[5].y;
        let picture = chart.draw("loss.svg").unwrap().unwrap();
        let document = roxmltree::Document::parse(&picture.file).unwrap();
        let lines = document.descendants().filter(|node| node.has_tag_name("polyline"));
        let highest = lines
            .flat_map(|line| line.attribute("points").unwrap().split(' ').collect::<Vec<_>>())
            .map(|pair| pair.split_once(',').unwrap().1.parse::<f64>().unwrap())
            .fold(f64::INFINITY, f64::min);
        assert!(highest > below);
        assert!(picture.inline.contains("number-5"));
    }

    #[test]
    fn values_that_are_not_finite_leave_a_gap() {
        let points = vec![(1, 0.5), (2, f64::NAN), (3, 0.4), (4, f64::INFINITY), (5, 0.3), (6, 0.2)];
        let picture = chart(Scale::Loss, points).draw("loss.svg").unwrap().unwrap();
        assert_eq!(picture.inline.matches("<polyline").count(), 3);
        assert!(!picture.inline.contains("NaN") && !picture.inline.contains("inf"));
        assert!(chart(Scale::Loss, vec![(1, f64::NAN)]).draw("loss.svg").unwrap().is_none());
        assert!(chart(Scale::Loss, vec![]).draw("loss.svg").unwrap().is_none());
    }

    #[test]
    fn the_page_gets_no_address_and_the_file_its_name_space() {
        let picture = chart(Scale::Loss, vec![(1, 0.5)]).draw("loss.svg").unwrap().unwrap();
        assert!(!picture.inline.contains("://") && !picture.inline.contains("<style"));
        assert!(picture.file.contains("xmlns=") && picture.file.contains("<style"));
        assert!(picture.inline.contains("&lt;falls&gt;"));
    }

    #[test]
    fn shares_never_leave_the_hundred() {
        for (low, high) in [(0.0, 1.0), (0.93, 0.999), (1.0, 1.0), (0.0, 0.0), (0.5, 0.5)] {
            let axis = Scale::Share.axis(low, high);
            assert!(axis.low >= 0.0 && axis.high <= 1.0 && axis.low <= low && high <= axis.high, "{axis:?}");
            assert!(axis.ticks.len() >= 2, "{axis:?}");
        }
    }
}
