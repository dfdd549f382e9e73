//! Curves of shares against shares: both axes go from 0 to 1.

use super::line_chart::{Mark, coordinate};
use super::ticks::Axis;
use super::{Picture, printable};
use crate::{ReportError, templates};
use serde::Serialize;

const WIDTH: f64 = 330.0;
const HEIGHT: f64 = 334.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = WIDTH - 14.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = TOP + RIGHT - LEFT;

/// A picture of one curve, or of points with intervals, beside a line to compare with. All values lie in `[0, 1]`.
#[derive(Clone, Debug)]
pub(crate) struct UnitSquare<'a> {
    pub(crate) title: &'a str,
    pub(crate) horizontal_label: &'a str,
    pub(crate) vertical_label: &'a str,
    /// The dashed line's ends.
    pub(crate) reference: [(f64, f64); 2],
    /// In the order in which it is drawn; may be empty.
    pub(crate) curve: Vec<(f64, f64)>,
    /// Points that are marked, each with the ends of its interval.
    pub(crate) points: Vec<Point>,
    /// What the picture shows, for readers who cannot see it.
    pub(crate) description: String,
}

/// A marked point.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Point {
    pub(crate) at: f64,
    pub(crate) value: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
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
    reference: String,
    curve: String,
    bars: Vec<Bar>,
    marks: Vec<(String, String)>,
}

#[derive(Serialize)]
struct Bar {
    at: String,
    low: String,
    high: String,
}

impl UnitSquare<'_> {
    /// Draws the picture.
    ///
    /// # Errors
    /// Where the template is wrong.
    pub(crate) fn draw(&self, file_name: String) -> Result<Picture, ReportError> {
        let x = |value: f64| coordinate(LEFT + value * (RIGHT - LEFT));
        let y = |value: f64| coordinate(BOTTOM - value * (BOTTOM - TOP));
        let marks = |place: &dyn Fn(f64) -> String| -> Vec<Mark> {
            let ticks = Axis::real(0.0, 1.0, 5).ticks;
            ticks.into_iter().map(|(at, label)| Mark { at: place(at), label }).collect()
        };
        let line = |points: &[(f64, f64)]| {
            let places = corners(points.iter().map(|&(at, value)| (x(at), y(value))));
            places.into_iter().map(|(x, y)| format!("{x},{y}")).collect::<Vec<_>>().join(" ")
        };
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
            columns: marks(&x),
            rows: marks(&y),
            reference: line(&self.reference),
            curve: line(&self.curve),
            bars: self.points.iter().map(|p| Bar { at: x(p.at), low: y(p.low), high: y(p.high) }).collect(),
            marks: self.points.iter().map(|p| (x(p.at), y(p.value))).collect(),
        };
        Picture::new(file_name, templates::UNIT_SQUARE, &drawing)
    }
}

/// Leaves out what changes nothing on paper: points where the one before lies, and those inside a level or an upright
/// piece. A curve over thousands of images is a staircase of few corners.
fn corners(points: impl Iterator<Item = (String, String)>) -> Vec<(String, String)> {
    let mut kept: Vec<(String, String)> = Vec::new();
    for point in points {
        if kept.last() == Some(&point) {
            continue;
        }
        if let [.., before, last] = &kept[..] {
            let level = before.1 == last.1 && last.1 == point.1;
            let upright = before.0 == last.0 && last.0 == point.0;
            if level || upright {
                kept.pop();
            }
        }
        kept.push(point);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn square(curve: Vec<(f64, f64)>, points: Vec<Point>) -> Picture {
        let chart = UnitSquare {
            title: "ROC",
            horizontal_label: "across",
            vertical_label: "up",
            reference: [(0.0, 0.0), (1.0, 1.0)],
            curve,
            points,
            description: "<rises>".into(),
        };
        chart.draw("roc.svg".into()).unwrap()
    }

    fn places(picture: &Picture, class: &str) -> Vec<(f64, f64)> {
        let document = roxmltree::Document::parse(&picture.file).unwrap();
        let line = document.descendants().find(|node| {
            node.has_tag_name("polyline") && node.attribute("class").is_some_and(|found| found.contains(class))
        });
        let Some(line) = line else { return Vec::new() };
        (line.attribute("points").unwrap().split(' '))
            .map(|pair| pair.split_once(',').unwrap())
            .map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap()))
            .collect()
    }

    #[test]
    fn the_square_is_square_and_a_staircase_keeps_its_corners_alone() {
        let steps = (0..=1000).map(|step| f64::from(step) / 1000.0);
        let curve = steps.clone().map(|x| (0.0, x * 0.5)).chain(steps.map(|x| (x, 0.5))).collect();
        let picture = square(curve, vec![]);
        assert_eq!(places(&picture, "reference"), [(LEFT, BOTTOM), (RIGHT, TOP)]);
        assert_eq!(RIGHT - LEFT, BOTTOM - TOP);
        let middle = (TOP + BOTTOM) / 2.0;
        assert_eq!(places(&picture, "curve"), [(LEFT, BOTTOM), (LEFT, middle), (RIGHT, middle)]);
        assert!(picture.inline.contains("&lt;rises&gt;") && !picture.inline.contains("xmlns"));
    }

    #[test]
    fn points_have_their_intervals_and_no_curve_is_drawn_where_there_is_none() {
        let picture = square(vec![], vec![Point { at: 0.5, value: 0.5, low: 0.25, high: 1.0 }]);
        assert!(places(&picture, "curve").is_empty());
        let document = roxmltree::Document::parse(&picture.file).unwrap();
        let bar = document.descendants().find(|node| node.attribute("class") == Some("curve training")).unwrap();
        assert_eq!(bar.attribute("y2"), Some(coordinate(TOP).as_str()));
        assert_eq!(document.descendants().filter(|node| node.has_tag_name("circle")).count(), 1);
    }
}
