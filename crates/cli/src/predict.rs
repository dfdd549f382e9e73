//! `roentgen predict`

use crate::arguments::{Format, Predict};
use crate::failure::{Failure, Outcome};
use crate::{resolve, start};
use roentgen_data::{DataError, is_image_file};
use roentgen_infer::{FilePrediction, Model, Predictor};
use serde::{Serialize, Serializer};
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

/// Runs the command: answers on stdout in the order of the files; files that cannot be decoded on stderr, and exit code
/// 1.
pub fn run(arguments: &Predict) -> Outcome {
    let (mut model, images) = match (&arguments.arch, &arguments.weights) {
        (Some(arch), Some(file)) => (Model::stock(arch, file, arguments.image_size)?, arguments.paths.as_slice()),
        _ => match arguments.paths.split_first() {
            Some((run, images)) => (Model::open(run)?, images),
            None => unreachable!("the argument parser asks for at least one path"),
        },
    };
    let listed = listed(images)?;
    let all = listed.len();
    if all == 0 {
        return Err(Failure::call("no images: give files or folders, or - to read a list from stdin"));
    }
    let engine = start::engine(arguments.threads)?;
    let arithmetic = resolve::arithmetic(arguments.precision, arguments.exact);
    let mut predictor = Predictor::new(&engine, &model.network, arithmetic, None)?;
    let classes = model.description.classes.clone();
    let format = if arguments.json { Format::Json } else { arguments.format };
    let (images, unnameable): (Vec<PathBuf>, Vec<PathBuf>) =
        listed.into_iter().partition(|path| path.to_str().is_some());
    let mut failed = unnameable.len();
    for path in unnameable {
        eprintln!("error: {}", DataError::NameNotUtf8 { path });
    }
    let mut printer = Printer::new(format, &classes, &images);
    printer.header()?;
    let mut written = Ok(());
    predictor.files(&mut model.store, &images, arguments.frame, |answer| {
        match answer {
            Ok(prediction) => written = printer.row(&prediction),
            Err((_, error)) => {
                failed += 1;
                eprintln!("error: {error}");
            }
        }
        written.is_ok()
    })?;
    written?;
    if failed > 0 {
        return Err(Failure::work(format!("{failed} of {all} images could not be read")));
    }
    Ok(())
}

/// Folders become their images, sorted; `-` becomes the lines of stdin.
fn listed(paths: &[PathBuf]) -> Outcome<Vec<PathBuf>> {
    let mut images = Vec::new();
    for path in paths {
        if path == Path::new("-") {
            for line in std::io::stdin().lock().split(b'\n') {
                let line = line.map_err(|e| Failure::work(format!("the list on stdin cannot be read: {e}")))?;
                let line = line.strip_suffix(b"\r").unwrap_or(&line);
                if !line.trim_ascii().is_empty() {
                    images.push(path_of_bytes(line));
                }
            }
        } else if path.is_dir() {
            let before = images.len();
            search(path, &mut images)?;
            if images.len() == before {
                return Err(Failure::work(format!(
                    "{}: no image in it (.png, .jpg, .jpeg, .dcm, .dicom, .ima)",
                    path.display()
                )));
            }
        } else {
            images.push(path.clone());
        }
    }
    Ok(images)
}

/// A path as a list on stdin has it; on Unix any bytes are one.
#[cfg(unix)]
fn path_of_bytes(bytes: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    PathBuf::from(std::ffi::OsStr::from_bytes(bytes))
}

#[cfg(not(unix))]
fn path_of_bytes(bytes: &[u8]) -> PathBuf {
    PathBuf::from(String::from_utf8_lossy(bytes).into_owned())
}

fn search(folder: &Path, images: &mut Vec<PathBuf>) -> Outcome {
    let named = |error: std::io::Error| Failure::work(format!("{}: cannot be read: {error}", folder.display()));
    let mut entries: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(named)? {
        entries.push(entry.map_err(named)?.path());
    }
    entries.sort();
    for entry in entries {
        // A link to a folder may lead back here; links to files are followed.
        if entry.is_dir() && !entry.is_symlink() {
            search(&entry, images)?;
        } else if entry.is_file() && is_image_file(&entry) {
            images.push(entry);
        }
    }
    Ok(())
}

/// A line of JSON: keys in this order, numbers as the shortest text that reads back as the same f32.
#[derive(Serialize)]
struct Answer<'a> {
    path: &'a str,
    predicted: &'a str,
    probabilities: ByClass<'a>,
    logits: &'a [f32],
}

/// An object from class to number, in the order of the classes.
struct ByClass<'a> {
    classes: &'a [String],
    values: &'a [f32],
}

impl Serialize for ByClass<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.classes.iter().zip(self.values))
    }
}

struct Printer<'a> {
    out: std::io::BufWriter<std::io::Stdout>,
    format: Format,
    classes: &'a [String],
    /// Width of the path's column.
    path_width: usize,
    /// Width of the classes' columns.
    class_width: usize,
}

/// A table shows at most so many probabilities a row; CSV and JSON show all.
const TABLE_CLASSES: usize = 6;

impl<'a> Printer<'a> {
    fn new(format: Format, classes: &'a [String], images: &[PathBuf]) -> Printer<'a> {
        let width = |text: &str| text.chars().count();
        Printer {
            out: std::io::BufWriter::new(std::io::stdout()),
            format,
            classes,
            path_width: images.iter().map(|path| width(&path.to_string_lossy())).max().unwrap_or(0).max(4),
            class_width: classes.iter().map(|class| width(class)).max().unwrap_or(0).max(9),
        }
    }

    fn header(&mut self) -> std::io::Result<()> {
        match self.format {
            Format::Table => {
                let (path, class) = (self.path_width, self.class_width);
                write!(self.out, "{:path$}  {:class$}", "path", "predicted")?;
                if self.classes.len() <= TABLE_CLASSES {
                    self.classes.iter().try_for_each(|name| write!(self.out, "  {name:>class$}"))?;
                } else {
                    write!(self.out, "  probability")?;
                }
                writeln!(self.out)
            }
            Format::Csv => {
                let mut cells = vec!["path".to_owned(), "predicted".to_owned()];
                cells.extend(self.classes.iter().map(|class| format!("p_{class}")));
                cells.extend(self.classes.iter().map(|class| format!("logit_{class}")));
                self.csv(&cells)
            }
            Format::Json => Ok(()),
        }
    }

    fn row(&mut self, prediction: &FilePrediction) -> std::io::Result<()> {
        let name = &self.classes[prediction.predicted];
        let path = prediction.path.to_string_lossy();
        match self.format {
            Format::Table => {
                let (path_width, class) = (self.path_width, self.class_width);
                write!(self.out, "{path:path_width$}  {name:class$}")?;
                if self.classes.len() <= TABLE_CLASSES {
                    let probabilities = &prediction.probabilities;
                    probabilities.iter().try_for_each(|p| write!(self.out, "  {p:>class$.4}"))?;
                } else {
                    write!(self.out, "  {:>11.4}", prediction.probabilities[prediction.predicted])?;
                }
                writeln!(self.out)?;
            }
            Format::Csv => {
                let mut cells = vec![path.into_owned(), name.clone()];
                cells.extend(prediction.probabilities.iter().map(f32::to_string));
                cells.extend(prediction.logits.iter().map(f32::to_string));
                self.csv(&cells)?;
            }
            Format::Json => {
                let answer = Answer {
                    path: &path,
                    predicted: name,
                    probabilities: ByClass { classes: self.classes, values: &prediction.probabilities },
                    logits: &prediction.logits,
                };
                serde_json::to_writer(&mut self.out, &answer)?;
                writeln!(self.out)?;
            }
        }
        // Whoever reads a long list sees it grow.
        self.out.flush()
    }

    fn csv(&mut self, cells: &[String]) -> std::io::Result<()> {
        let mut writer = csv::Writer::from_writer(&mut self.out);
        writer.write_record(cells)?;
        writer.flush()
    }
}
