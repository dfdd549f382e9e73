//! Points over a logarithmic axis, and the frontier through those that none is better than.

use super::line_chart::{Mark, coordinate};
use super::ticks::Axis;
use super::{Picture, printable, text_width};
use crate::{ReportError, templates};
use serde::Serialize;

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 340.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = WIDTH - 16.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = HEIGHT - 46.0;

/// A picture of points: what each costs against what it is worth.
#[derive(Clone, Debug)]
pub(crate) struct Scatter<'a> {
    pub(crate) title: &'a str,
    pub(crate) horizontal_label: &'a str,
    pub(crate) vertical_label: &'a str,
    pub(crate) points: Vec<Candidate<'a>>,
    /// What the picture shows, for readers who cannot see it.
    pub(crate) description: String,
}

/// One candidate, a point.
#[derive(Clone, Debug)]
pub(crate) struct Candidate<'a> {
    pub(crate) label: &'a str,
    /// What it costs, above 0.
    pub(crate) cost: f64,
    /// What it is worth: more is better.
    pub(crate) worth: f64,
    /// Whether it is written beside the point, and drawn larger.
    pub(crate) stands_out: bool,
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
    frontier: String,
    points: Vec<Drawn<'a>>,
}

#[derive(Serialize)]
struct Drawn<'a> {
    x: String,
    y: String,
    radius: f64,
    on_frontier: bool,
    label: Option<String>,
    label_x: String,
    anchor: &'static str,
    full: &'a str,
}

/// Indices of the points that none is better than: cheaper and worth as much, or as cheap and worth more. In the order of
/// their cost.
pub(crate) fn frontier(points: &[(f64, f64)]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..points.len()).collect();
    order.sort_by(|&a, &b| points[a].0.total_cmp(&points[b].0).then(points[b].1.total_cmp(&points[a].1)));
    let mut best = f64::NEG_INFINITY;
    order.retain(|&index| {
        let is_better = points[index].1 > best;
        best = best.max(points[index].1);
        is_better
    });
    order
}

impl Scatter<'_> {
    /// Draws the picture; `None` where there is no point.
    ///
    /// # Errors
    /// Where the template is wrong.
    pub(crate) fn draw(&self, file_name: &str) -> Result<Option<Picture>, ReportError> {
        if self.points.is_empty() {
            return Ok(None);
        }
        let places: Vec<(f64, f64)> = self.points.iter().map(|point| (point.cost, point.worth)).collect();
        let on_frontier = frontier(&places);
        let fold = |of: fn(&(f64, f64)) -> f64| {
            let values = places.iter().map(of);
            (values.clone().fold(f64::INFINITY, f64::min), values.fold(f64::NEG_INFINITY, f64::max))
        };
        let (horizontal, (low, high)) = (logarithmic(fold(|place| place.0)), fold(|place| place.1));
        let vertical = Axis::real(low, high, 5);
        let x = |cost: f64| LEFT + 10.0 + horizontal.position(cost.log10()) * (RIGHT - LEFT - 20.0);
        let y = |worth: f64| BOTTOM - 6.0 - vertical.position(worth) * (BOTTOM - TOP - 12.0);
        // Steps: a worth is had from its point's cost on.
        let mut steps: Vec<String> = Vec::new();
        let mut before: Option<f64> = None;
        for &index in &on_frontier {
            let (cost, worth) = places[index];
            steps.extend(before.map(|before| format!("{},{}", coordinate(x(cost)), coordinate(y(before)))));
            steps.push(format!("{},{}", coordinate(x(cost)), coordinate(y(worth))));
            before = Some(worth);
        }
        let points = self.points.iter().enumerate().map(|(index, point)| {
            let fits = x(point.cost) + 10.0 + text_width(point.label) < RIGHT;
            Drawn {
                x: coordinate(x(point.cost)),
                y: coordinate(y(point.worth)),
                radius: if point.stands_out { 5.5 } else { 3.5 },
                on_frontier: on_frontier.contains(&index),
                label: point.stands_out.then(|| printable(point.label)),
                label_x: coordinate(x(point.cost) + if fits { 9.0 } else { -9.0 }),
                anchor: if fits { "start" } else { "end" },
                full: point.label,
            }
        });
        let drawing = Drawing {
            title: self.title,
            horizontal_label: self.horizontal_label,
            vertical_label: self.vertical_label,
            description: printable(&self.description),
            width: WIDTH,
            height: HEIGHT,
            left: LEFT,
            right: RIGHT,
            top: TOP,
            bottom: BOTTOM,
            columns: horizontal
                .ticks
                .iter()
                .map(|(at, label)| Mark { at: coordinate(x(10f64.powf(*at))), label: label.clone() })
                .collect(),
            rows: vertical
                .ticks
                .iter()
                .map(|(at, label)| Mark { at: coordinate(y(*at)), label: label.clone() })
                .collect(),
            frontier: steps.join(" "),
            points: points.collect(),
        };
        Picture::new(file_name.to_owned(), templates::SCATTER, &drawing).map(Some)
    }
}

/// An axis of logarithms to base 10, marked at 1, 2 and 5 times powers of ten, and no closer than a reader can tell.
fn logarithmic((low, high): (f64, f64)) -> Axis {
    let (low, high) = (low.log10(), high.log10());
    let (low, high) = if high - low < 0.1 { (low - 0.15, high + 0.15) } else { (low, high) };
    let factors: &[f64] = if high - low < 2.5 { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let powers = low.floor() as i32..=high.ceil() as i32;
    let marks = powers.flat_map(|power| factors.iter().map(move |factor| factor * 10f64.powi(power)));
    let within = marks.filter(|mark| (low - 1e-9..=high + 1e-9).contains(&mark.log10()));
    Axis { low, high, ticks: within.map(|mark| (mark.log10(), short(mark))).collect() }
}

/// `500`, `20 k`, `5 M`.
fn short(value: f64) -> String {
    match value {
        _ if value >= 1e6 => format!("{} M", value / 1e6),
        _ if value >= 1e3 => format!("{} k", value / 1e3),
        _ => format!("{value}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frontier_holds_what_none_is_better_than() {
        let points = [(10.0, 0.8), (5.0, 0.7), (20.0, 0.8), (7.0, 0.6), (30.0, 0.9), (5.0, 0.5)];
        assert_eq!(frontier(&points), [1, 0, 4]);
        assert_eq!(frontier(&[]), [0usize; 0]);
    }

    #[test]
    fn points_lie_within_the_frame_and_the_chosen_are_named() {
        let point = |label, cost, worth, stands_out| Candidate { label, cost, worth, stands_out };
        for points in [
            vec![point("only", 3.0, 0.5, true)],
            vec![point("head", 2e5, 0.7, false), point("from-layer4", 8e6, 0.9, true), point("all", 1.1e7, 0.9, false)],
        ] {
            let scatter =
                Scatter { title: "t", horizontal_label: "x", vertical_label: "y", points, description: "<d>".into() };
            let picture = scatter.draw("frontier.svg").unwrap().unwrap();
            let document = roxmltree::Document::parse(&picture.file).unwrap();
            let circles: Vec<_> = document.descendants().filter(|node| node.has_tag_name("circle")).collect();
            assert_eq!(circles.len(), scatter.points.len());
            for circle in circles {
                let place = |name: &str| circle.attribute(name).unwrap().parse::<f64>().unwrap();
                assert!((LEFT..=RIGHT).contains(&place("cx")) && (TOP..=BOTTOM).contains(&place("cy")));
            }
            let named = scatter.points.iter().find(|point| point.stands_out).unwrap().label;
            assert!(picture.inline.contains(&format!(">{named}<")) && !picture.inline.contains("NaN"));
        }
    }
}
