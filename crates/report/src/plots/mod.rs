//! Pictures as SVG: once as a file that stands alone, once as the element that the page carries.
//!
//! Text stays text, so that it can be searched, selected and read aloud. Training and validation differ in colour, dash
//! and marker, in a pair of colours that the common colour blindnesses keep apart (Okabe and Ito 2008).

mod line_chart;
mod matrix;
mod scatter;
mod ticks;
mod unit_square;

pub(crate) use line_chart::{LineChart, Role, Scale, Series};
pub(crate) use matrix::Matrix;
pub(crate) use scatter::{Candidate, Scatter, frontier};
pub(crate) use ticks::Axis;
pub(crate) use unit_square::{Point, UnitSquare};

use crate::{ReportError, templates};
use roentgen_run::RunDirectory;
use roentgen_run::directory::write_atomically;
use serde::Serialize;
use std::io::Write;
use std::path::Path;

/// A picture in both its forms.
#[derive(Debug)]
pub(crate) struct Picture {
    file_name: String,
    file: String,
    /// The `svg` element for the page, which brings the style.
    pub(crate) inline: String,
}

/// What every picture's template gets.
#[derive(Serialize)]
struct PictureContext<'a, T> {
    /// Whether the picture is a file of its own, with name space, size, style and background.
    standalone: bool,
    #[serde(flatten)]
    drawing: &'a T,
}

impl Picture {
    fn new(
        file_name: String,
        template: (&'static str, &'static str),
        drawing: &impl Serialize,
    ) -> Result<Picture, ReportError> {
        let render = |standalone| templates::render(template, PictureContext { standalone, drawing });
        Ok(Picture { file_name, file: render(true)?, inline: render(false)? })
    }

    /// Writes the picture into the run's `plots/`.
    pub(crate) fn write(&self, run: &RunDirectory) -> Result<(), ReportError> {
        self.write_into(&run.plots_folder())
    }

    /// Writes the picture into a folder.
    pub(crate) fn write_into(&self, folder: &Path) -> Result<(), ReportError> {
        self.write_as(&folder.join(&self.file_name))
    }

    /// Writes the picture under a name of its own.
    pub(crate) fn write_as(&self, path: &Path) -> Result<(), ReportError> {
        Ok(write_atomically(path, |file| file.write_all(self.file.as_bytes()))?)
    }
}

/// Text that XML can hold: control characters, which it forbids even escaped, become the replacement character.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') { '\u{fffd}' } else { c }).collect()
}

/// Width of `text` in the plots' font, in their units. An estimate on the wide side: the reader's font is not known.
fn text_width(text: &str) -> f64 {
    text.chars().map(|c| if c.is_ascii() { 7.2 } else { 10.0 }).sum()
}
