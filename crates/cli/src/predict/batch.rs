//! `roentgen predict --out`: many images into one table, in the order of the list, also across kills.

use super::unfinished::{Origin, Unfinished};
use super::{Format, Printer};
use crate::failure::{Failure, Outcome};
use crate::progress::Count;
use roentgen_data::DataError;
use roentgen_infer::Predictor;
use roentgen_nn::ParameterStore;
use roentgen_run::RunError;
use roentgen_run::directory::write_atomically;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::io::Write;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

/// An image that could not be read.
#[derive(Clone)]
pub struct BadFile {
    /// The image; what of its name is no Unicode is replaced.
    path: String,
    /// Why, the path included.
    pub reason: String,
}

impl BadFile {
    /// A file, and why it could not be read.
    pub fn new(path: &Path, error: &DataError) -> BadFile {
        BadFile { path: path.to_string_lossy().into_owned(), reason: error.to_string() }
    }
}

/// What a finished table was made from: `OUT.about.json`.
#[derive(PartialEq, Serialize, Deserialize)]
struct About {
    #[serde(flatten)]
    origin: Origin,
    /// Images of the list, or of the shard.
    images: usize,
    /// How many of them could not be read.
    bad_images: usize,
    /// SHA-256 over the paths, each with a line break behind it.
    list_sha256: String,
}

/// A table to be written.
pub struct Job<'a> {
    pub out: &'a Path,
    /// Where images that cannot be read are listed; beside the table where absent.
    pub bad_files: Option<&'a Path>,
    pub classes: &'a [String],
    pub images: &'a [PathBuf],
    /// Of files with several frames.
    pub frame: Option<NonZeroU32>,
    pub origin: Origin,
}

/// The form of a table, which its name says.
enum Form {
    Text(Format),
    #[cfg(feature = "parquet")]
    Parquet,
}

/// Refuses a name that does not say the form.
pub fn check_ending(out: &Path) -> Outcome {
    form(out).map(|_| ())
}

fn form(out: &Path) -> Outcome<Form> {
    let refused = |why: &str| Failure::call(format!("--out {}: {why}", out.display()));
    match out.extension().and_then(|ending| ending.to_str()) {
        Some("csv") => Ok(Form::Text(Format::Csv)),
        Some("jsonl") => Ok(Form::Text(Format::Json)),
        #[cfg(feature = "parquet")]
        Some("parquet") => Ok(Form::Parquet),
        #[cfg(not(feature = "parquet"))]
        Some("parquet") => Err(refused(
            "this program was built without Parquet: give a name that ends in .csv or .jsonl, or install it with \
             `cargo install --path crates/cli --features parquet`",
        )),
        _ => Err(refused("expected a name that ends in .csv, .jsonl or .parquet")),
    }
}

/// A file beside another: the same name with more behind it.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

impl Job<'_> {
    /// Predicts what is not done yet, then writes the table, whole or not at all. `unnameable` are files of the list
    /// whose names no table can hold.
    pub fn run(self, predictor: &mut Predictor, store: &mut ParameterStore, unnameable: Vec<BadFile>) -> Outcome {
        let all = self.images.len() + unnameable.len();
        let part = beside(self.out, ".part");
        self.check_bad_file(&part)?;
        if self.out.exists() && !part.exists() {
            return self.finished_before(all);
        }
        let mut unfinished = Unfinished::open(part, &self.origin, self.images)?;
        if unfinished.done > 0 {
            eprintln!("going on after image {} of {}", unfinished.done, self.images.len());
        }
        let progress = Count::of_images("predicting", self.images.len());
        progress.begin(self.images.len(), unfinished.done);
        let mut pushed = Ok(());
        predictor.files(store, &self.images[unfinished.done..], self.frame, |answer| {
            pushed = match answer {
                Ok(prediction) => unfinished.push(&prediction.path, Ok(prediction.logits)),
                Err((path, error)) => unfinished.push(&path, Err(error.to_string())),
            };
            progress.done(unfinished.done);
            pushed.is_ok()
        })?;
        pushed?;
        unfinished.sync()?;
        drop(progress);
        self.write(&unfinished, &unnameable)?;
        let bad = unfinished.bad + unnameable.len();
        unfinished.remove()?;
        self.conclude(all, bad)
    }

    /// The table last: where it stands, the others do.
    fn write(&self, unfinished: &Unfinished, unnameable: &[BadFile]) -> Outcome {
        let mut bad = unnameable.to_vec();
        let read = unfinished.replay(|answer| {
            bad.extend(answer.err().map(|(path, reason)| BadFile { path, reason }));
            Ok(())
        });
        read.map_err(|source| RunError::Io { path: beside(self.out, ".part"), action: "read", source })?;
        write_bad_files(&self.bad_file(), &bad)?;
        let about = About {
            origin: self.origin.clone(),
            images: self.images.len() + unnameable.len(),
            bad_images: bad.len(),
            list_sha256: self.list_sha256(),
        };
        write_atomically(&self.about_file(), |file| {
            serde_json::to_writer_pretty(&mut *file, &about)?;
            writeln!(file)
        })?;
        let form = form(self.out)?;
        write_atomically(self.out, |file| match form {
            Form::Text(format) => {
                let mut printer = Printer::new(file, format, self.classes, &[]);
                printer.header()?;
                unfinished.replay(|answer| answer.map_or(Ok(()), |prediction| printer.row(&prediction)))
            }
            #[cfg(feature = "parquet")]
            Form::Parquet => {
                let mut table = roentgen_parquet::PredictionTable::new(file, self.classes)?;
                unfinished.replay(|answer| {
                    let Ok(prediction) = answer else { return Ok(()) };
                    // Names that are no Unicode were set apart before.
                    let (path, class) = (prediction.path.to_string_lossy(), &self.classes[prediction.predicted]);
                    table.push(&path, class, &prediction.probabilities, &prediction.logits)
                })?;
                table.finish()
            }
        })?;
        Ok(())
    }

    /// A table that is whole already: well where it is this call's.
    fn finished_before(&self, all: usize) -> Outcome {
        let refused = |why: &str| {
            let out = self.out.display();
            Failure::call(format!("--out {out}: {why}: remove it, or give another name"))
        };
        let text = std::fs::read_to_string(self.about_file());
        let text =
            text.map_err(|_| refused("a file stands there that no call of `roentgen predict --out` finished"))?;
        let about: About = serde_json::from_str(&text)
            .map_err(|_| refused("its .about.json is not what `roentgen predict --out` writes"))?;
        if let Some(what) = self.origin.conflict(&about.origin) {
            return Err(refused(&format!("a finished table stands there, with {what}")));
        }
        if (about.images, &about.list_sha256) != (all, &self.list_sha256()) {
            return Err(refused("a finished table stands there, of another list of images"));
        }
        eprintln!("it was finished before");
        self.conclude(all, about.bad_images)
    }

    fn conclude(&self, all: usize, bad: usize) -> Outcome {
        eprintln!("{}: {} of {all} images", self.out.display(), all - bad);
        match bad {
            0 => Ok(()),
            _ => {
                let list = self.bad_file();
                Err(Failure::work(format!("{bad} of {all} images could not be read: {} lists them", list.display())))
            }
        }
    }

    fn bad_file(&self) -> PathBuf {
        self.bad_files.map_or_else(|| beside(self.out, ".bad.csv"), Path::to_owned)
    }

    /// Refuses one file for two things, of which the later would be all that is left.
    fn check_bad_file(&self, part: &Path) -> Outcome {
        let bad = self.bad_file();
        if [self.out, part, &self.about_file()].contains(&bad.as_path()) {
            let (bad, out) = (bad.display(), self.out.display());
            return Err(Failure::call(format!(
                "--bad-files {bad}: --out {out} writes this file itself: give another name"
            )));
        }
        Ok(())
    }

    fn about_file(&self) -> PathBuf {
        beside(self.out, ".about.json")
    }

    fn list_sha256(&self) -> String {
        let mut digest = Sha256::new();
        for image in self.images {
            digest.update(image.as_os_str().as_encoded_bytes());
            digest.update(b"\n");
        }
        digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Writes the list of images that could not be read, a header alone where all could.
pub fn write_bad_files(path: &Path, bad: &[BadFile]) -> Outcome {
    write_atomically(path, |file| {
        let mut table = csv::Writer::from_writer(file);
        table.write_record(["path", "reason"])?;
        bad.iter().try_for_each(|BadFile { path, reason }| table.write_record([path, reason]))?;
        table.flush()
    })?;
    Ok(())
}
