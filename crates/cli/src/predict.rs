//! `roentgen predict`

mod batch;
mod unfinished;

use self::batch::{BadFile, Job};
use self::unfinished::Origin;
use crate::arguments::{Format, Predict};
use crate::failure::{Failure, Outcome};
use crate::{resolve, search, start};
use roentgen_data::{DataError, Listing, is_image_file};
use roentgen_infer::{FilePrediction, Model, Predictor};
use roentgen_run::RunDirectory;
use roentgen_run::config::EngineSettings;
use serde::{Serialize, Serializer};
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

/// Part `number` of `of`, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    number: usize,
    of: usize,
}

impl Shard {
    /// Reads `I/N`, where I is 1 to N.
    pub fn parse(text: &str) -> Result<Shard, String> {
        let numbers = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match numbers {
            Some((number, of)) if (1..=of).contains(&number) => Ok(Shard { number, of }),
            _ => Err("expected I/N with I from 1 to N, such as 1/8".into()),
        }
    }
}

impl std::fmt::Display for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

/// Runs the command: answers in the order of the files on stdout, or in a file; files that cannot be decoded on stderr,
/// or in a file, and exit code 1.
pub fn run(arguments: &Predict) -> Outcome {
    if let Some(out) = &arguments.out {
        batch::check_ending(out)?;
    }
    let (mut model, settings, file, images) = match (&arguments.arch, &arguments.weights) {
        (Some(arch), Some(file)) => {
            search::refuse_sealed_model(file)?;
            let model = Model::from_weights(arch, file, None, arguments.image_size)?;
            (model, EngineSettings::default(), file.clone(), arguments.paths.as_slice())
        }
        _ => match arguments.paths.split_first() {
            Some((run, images)) => {
                search::refuse_sealed_model(run)?;
                (Model::open(run)?, resolve::engine_settings(run)?, model_file(run), images)
            }
            None => return Err(Failure::call("no model: give a run directory, or --arch with --weights")),
        },
    };
    let mut listed = listed(images)?;
    if let Some(list) = &arguments.files_from {
        listed_in(list, &mut listed)?;
    }
    if listed.is_empty() {
        return Err(Failure::call("no images: give files or folders, or - to read a list from stdin"));
    }
    if let Some(Shard { number, of }) = arguments.shard {
        listed = listed.into_iter().skip(number - 1).step_by(of).collect();
    }
    let all = listed.len();
    let engine = start::engine(arguments.computation.threads)?;
    let arithmetic = resolve::arithmetic_of_run(&settings, &arguments.computation);
    let mut predictor = Predictor::for_images(&engine, &model.network, arithmetic, None, all)?;
    let classes = model.description.classes.clone();
    let (images, unnameable): (Vec<PathBuf>, Vec<PathBuf>) =
        listed.into_iter().partition(|path| path.to_str().is_some());
    let unnameable = unnameable.into_iter().map(|path| BadFile::new(&path.clone(), &DataError::NameNotUtf8 { path }));
    let mut bad: Vec<BadFile> = unnameable.collect();
    if let Some(out) = &arguments.out {
        let origin = Origin::new(arguments, &model, &file, arithmetic, &engine)?;
        let (bad_files, frame) = (arguments.bad_files.as_deref(), arguments.frame);
        let job = Job { out, bad_files, classes: &classes, images: &images, frame, origin };
        return job.run(&mut predictor, &mut model.store, bad);
    }
    let listed_apart = arguments.bad_files.is_some();
    let say = |bad: &BadFile| {
        if !listed_apart {
            eprintln!("error: {}", bad.reason);
        }
    };
    bad.iter().for_each(say);
    let format = if arguments.json { Format::Json } else { arguments.format };
    let mut printer = Printer::new(std::io::BufWriter::new(std::io::stdout()), format, &classes, &images);
    printer.header()?;
    let mut written = Ok(());
    predictor.files(&mut model.store, &images, arguments.frame, |answer| {
        match answer {
            Ok(prediction) => written = printer.row(&prediction),
            Err((path, error)) => {
                bad.push(BadFile::new(&path, &error));
                bad.last().into_iter().for_each(say);
            }
        }
        written.is_ok()
    })?;
    written?;
    if let Some(file) = &arguments.bad_files {
        batch::write_bad_files(file, &bad)?;
    }
    match bad.len() {
        0 => Ok(()),
        count => Err(Failure::work(format!("{count} of {all} images could not be read"))),
    }
}

/// The file that a run's model, or a model by itself, lies in.
pub fn model_file(run: &Path) -> PathBuf {
    if run.is_dir() { RunDirectory::new(run).model_file() } else { run.to_owned() }
}

/// Folders become their images, sorted; tables the images that they name; `-` becomes the lines of stdin.
pub fn listed(paths: &[PathBuf]) -> Outcome<Vec<PathBuf>> {
    let mut images = Vec::new();
    for path in paths {
        if path == Path::new("-") {
            listed_in(path, &mut images)?;
        } else if path.is_dir() {
            let before = images.len();
            search(path, &mut images)?;
            if images.len() == before {
                return Err(Failure::work(format!(
                    "{}: no image in it (.png, .jpg, .jpeg, .dcm, .dicom, .ima)",
                    path.display()
                )));
            }
        } else if path.extension().is_some_and(|end| end.eq_ignore_ascii_case("csv")) {
            let Listing { entries, warnings } = Listing::read(path)?;
            warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
            let folder = path.parent().unwrap_or(Path::new(""));
            images.extend(entries.into_iter().map(|entry| folder.join(entry.path)));
        } else {
            images.push(path.clone());
        }
    }
    Ok(images)
}

/// The lines of a file, or with `-` of stdin, each a path; empty ones are passed over.
fn listed_in(list: &Path, images: &mut Vec<PathBuf>) -> Outcome {
    let stdin = list == Path::new("-");
    let place = if stdin { "the list on stdin".into() } else { list.display().to_string() };
    let named = |error: std::io::Error| Failure::work(format!("{place} cannot be read: {error}"));
    let reader: Box<dyn BufRead> = match stdin {
        true => Box::new(std::io::stdin().lock()),
        false => Box::new(std::io::BufReader::new(std::fs::File::open(list).map_err(named)?)),
    };
    for line in reader.split(b'\n') {
        let line = line.map_err(named)?;
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        if !line.trim_ascii().is_empty() {
            images.push(path_of_bytes(line));
        }
    }
    Ok(())
}

/// A path as a list has it; on Unix any bytes are one.
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

struct Printer<'a, W: Write> {
    out: W,
    format: Format,
    classes: &'a [String],
    /// Width of the path's column.
    path_width: usize,
    /// Width of the classes' columns.
    class_width: usize,
}

/// A table shows at most so many probabilities a row; CSV and JSON show all.
const TABLE_CLASSES: usize = 6;

impl<'a, W: Write> Printer<'a, W> {
    fn new(out: W, format: Format, classes: &'a [String], images: &[PathBuf]) -> Printer<'a, W> {
        let width = |text: &str| text.chars().count();
        Printer {
            out,
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
