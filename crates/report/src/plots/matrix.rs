//! The confusion matrix: counts, or each row as shares of its sum.

use super::{Picture, printable, text_width};
use crate::numerals::percent;
use crate::{ReportError, templates};
use roentgen_eval::ConfusionMatrix;
use serde::Serialize;

/// Below this a class name is cut; the full one stays as a tooltip and in the description.
const MOST_LABEL_CHARACTERS: usize = 18;
const NARROWEST: f64 = 420.0;
const CELL_HEIGHT: f64 = 58.0;
const NARROWEST_CELL: f64 = 58.0;
const WIDEST_CELL: f64 = 130.0;
/// Left of the row labels: the axis' own name, written upwards.
const AXIS_NAME: f64 = 26.0;
const TITLE: f64 = 30.0;
/// From this shade on white letters have more contrast than dark ones, on the blue as on the orange.
const WHITE_LETTERS_ABOVE: f64 = 0.8;

/// What stands in the cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Matrix {
    /// Numbers of images, shaded by their share of the largest.
    Counts,
    /// Shares of the images of each actual class, shaded by themselves.
    RowShares,
}

#[derive(Serialize)]
struct Drawing {
    title: &'static str,
    description: String,
    width: f64,
    height: f64,
    left: f64,
    top: f64,
    cell_width: f64,
    cell_height: f64,
    grid_width: f64,
    grid_height: f64,
    tilted: bool,
    columns: Vec<Label>,
    rows: Vec<Label>,
    cells: Vec<Cell>,
    number_size: f64,
}

#[derive(Serialize)]
struct Label {
    at: f64,
    text: String,
    full: String,
    detail: String,
}

#[derive(Serialize)]
struct Cell {
    x: f64,
    y: f64,
    text: String,
    /// `right` on the diagonal, else `wrong`.
    outcome: &'static str,
    shade: String,
    /// Whether the shade is dark enough for white letters.
    dark: bool,
}

impl Matrix {
    /// Draws the matrix.
    ///
    /// # Errors
    /// Where the template is wrong.
    pub(crate) fn draw(self, matrix: &ConfusionMatrix, file_name: String) -> Result<Picture, ReportError> {
        let names: Vec<String> = matrix.classes().iter().map(|name| printable(name)).collect();
        let labels: Vec<String> = names.iter().map(|name| shortened(name)).collect();
        let widest_label = labels.iter().map(|label| text_width(label)).fold(60.0, f64::max);
        let count = names.len() as f64;
        let left = AXIS_NAME + widest_label + 12.0;
        let cell_width = ((NARROWEST - left - 8.0) / count).clamp(NARROWEST_CELL, WIDEST_CELL);
        let tilted = widest_label > cell_width - 4.0;
        // Tilted by 40 degrees, a label needs this share of its length upwards, and this one to the right.
        let (up, aside) = if tilted { (0.65 * widest_label, 0.77 * widest_label) } else { (0.0, 0.0) };
        let top = TITLE + 42.0 + up;
        let overhang = (aside - cell_width / 2.0).max(0.0);

        let shares = matrix.row_normalised();
        let largest = matrix.counts().iter().flatten().copied().max().unwrap_or(0).max(1) as f64;
        let mut cells = Vec::new();
        for (row, counts) in matrix.counts().iter().enumerate() {
            for (column, &images) in counts.iter().enumerate() {
                let share = shares[row].as_ref().map(|shares| shares[column]);
                let (text, shade) = match self {
                    Matrix::Counts => (images.to_string(), images as f64 / largest),
                    Matrix::RowShares => (share.map_or_else(|| "–".into(), percent), share.unwrap_or(0.0)),
                };
                cells.push(Cell {
                    x: left + column as f64 * cell_width,
                    y: top + row as f64 * CELL_HEIGHT,
                    text,
                    outcome: if row == column { "right" } else { "wrong" },
                    shade: format!("{shade:.3}"),
                    dark: shade > WHITE_LETTERS_ABOVE,
                });
            }
        }
        let label = |index: usize, at: f64, detail: String| Label {
            at,
            text: labels[index].clone(),
            full: names[index].clone(),
            detail,
        };
        let indices = 0..names.len();
        let drawing = Drawing {
            title: self.title(),
            description: self.description(matrix, &names),
            width: (left + count * cell_width + 8.0 + overhang).max(NARROWEST).ceil(),
            height: top + count * CELL_HEIGHT + 10.0,
            left,
            top,
            cell_width,
            cell_height: CELL_HEIGHT,
            grid_width: count * cell_width,
            grid_height: count * CELL_HEIGHT,
            tilted,
            columns: indices.clone().map(|i| label(i, left + (i as f64 + 0.5) * cell_width, String::new())).collect(),
            rows: indices
                .map(|i| label(i, top + (i as f64 + 0.5) * CELL_HEIGHT, format!("n = {}", matrix.actual(i))))
                .collect(),
            number_size: number_size(&cells, cell_width),
            cells,
        };
        Picture::new(file_name, templates::MATRIX, &drawing)
    }

    fn title(self) -> &'static str {
        match self {
            Matrix::Counts => "Images",
            Matrix::RowShares => "Share of each actual class",
        }
    }

    fn description(self, matrix: &ConfusionMatrix, names: &[String]) -> String {
        let shares = matrix.row_normalised();
        let mut text = match self {
            Matrix::Counts => "Confusion matrix in images.".to_owned(),
            Matrix::RowShares => "Confusion matrix in shares of each actual class.".to_owned(),
        };
        for (row, actual) in names.iter().enumerate() {
            let cells = names.iter().enumerate().map(|(column, predicted)| {
                let value = match self {
                    Matrix::Counts => matrix.counts()[row][column].to_string(),
                    Matrix::RowShares => {
                        shares[row].as_ref().map_or_else(|| "undefined".into(), |s| percent(s[column]))
                    }
                };
                format!("{value} predicted {predicted}")
            });
            text += &format!(" Actual {actual}: {}.", cells.collect::<Vec<_>>().join(", "));
        }
        text
    }
}

/// The size at which the longest number fits its cell; a digit is about 0.62 of it wide.
fn number_size(cells: &[Cell], cell_width: f64) -> f64 {
    let longest = cells.iter().map(|cell| cell.text.chars().count()).max().unwrap_or(1) as f64;
    ((cell_width - 8.0) / (0.62 * longest)).clamp(6.0, 16.0).floor()
}

fn shortened(name: &str) -> String {
    if name.chars().count() <= MOST_LABEL_CHARACTERS {
        return name.to_owned();
    }
    name.chars().take(MOST_LABEL_CHARACTERS - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(names: &[&str], counts: &[&[u64]]) -> ConfusionMatrix {
        let names = names.iter().map(|name| name.to_string()).collect();
        ConfusionMatrix::from_counts(names, counts.iter().map(|row| row.to_vec()).collect()).unwrap()
    }

    #[test]
    fn rows_are_actual_and_every_cell_shows_its_number() {
        let matrix = matrix(&["infected", "normal"], &[&[515, 100], &[10, 875]]);
        let picture = Matrix::Counts.draw(&matrix, "m.svg".into()).unwrap();
        let document = roxmltree::Document::parse(&picture.file).unwrap();
        let mut cells: Vec<(f64, f64, &str)> = (document.descendants())
            .filter(|node| node.attribute("class").is_some_and(|class| class.starts_with("number")))
            .map(|node| {
                let place = |name| node.attribute(name).unwrap().parse().unwrap();
                (place("y"), place("x"), node.text().unwrap())
            })
            .collect();
        cells.sort_by(|a, b| a.partial_cmp(b).unwrap());
        assert_eq!(cells.iter().map(|cell| cell.2).collect::<Vec<_>>(), ["515", "100", "10", "875"]);
        let shares = Matrix::RowShares.draw(&matrix, "m.svg".into()).unwrap().inline;
        for share in ["83.7\u{a0}%", "16.3\u{a0}%", "1.1\u{a0}%", "98.9\u{a0}%"] {
            assert!(shares.contains(share), "{share} is missing");
        }
    }

    #[test]
    fn any_name_any_number_of_classes_and_empty_rows_make_valid_xml() {
        let names: Vec<String> =
            (0..14).map(|i| format!("<class & \"{i}\" with a very long name \u{1} 胸部")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let counts: Vec<Vec<u64>> =
            (0..14).map(|row| (0..14).map(|c| if row == 3 { 0 } else { row * c }).collect()).collect();
        let counts: Vec<&[u64]> = counts.iter().map(Vec::as_slice).collect();
        let matrix = matrix(&names, &counts);
        for kind in [Matrix::Counts, Matrix::RowShares] {
            let picture = kind.draw(&matrix, "m.svg".into()).unwrap();
            let document = roxmltree::Document::parse(&picture.file).unwrap();
            let root = document.root_element();
            assert!(
                root.attribute("aria-label").unwrap().contains("<class & \"13\" with a very long name \u{fffd} 胸部")
            );
            let width: f64 = root.attribute("viewBox").unwrap().split(' ').nth(2).unwrap().parse().unwrap();
            for rectangle in document.descendants().filter(|node| node.has_tag_name("rect")) {
                let side = |name| rectangle.attribute(name).unwrap().parse::<f64>().unwrap();
                assert!(side("x") >= 0.0 && side("x") + side("width") <= width);
            }
        }
        assert!(Matrix::RowShares.draw(&matrix, "m.svg".into()).unwrap().inline.contains(">–</text>"));
    }
}
