//! Answers on their way: a file that a kill at any moment leaves usable.
//!
//! `OUT.part` begins with a line that says what the answers come from, and has one line for each image that was done, in
//! the order of the list, the bad ones included. So what is done is what stands there; a line that a kill cut off is
//! computed again. The table that the user asked for is written from it in the end.

use crate::arguments::Predict;
use crate::download;
use crate::failure::{Failure, Outcome};
use roentgen_infer::{FilePrediction, Model};
use roentgen_nn::{Arithmetic, Engine, Precision};
use roentgen_run::RunError;
use serde::{Deserialize, Serialize};
use std::fs::{File, TryLockError};
use std::io::{BufRead, BufReader, BufWriter, Seek, SeekFrom, Write};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Version of `OUT.part` and `OUT.about.json`.
const FORMAT_VERSION: u32 = 1;

/// A crash of the machine costs at most so much work; a kill of the process costs less.
const SYNC_INTERVAL: Duration = Duration::from_secs(5);

/// What answers come from, beside the images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    format_version: u32,
    /// Version of the program.
    roentgen: String,
    /// SHA-256 of the model or weight file.
    model_sha256: String,
    /// What a weight file alone does not say: the caller names both. `None` in what earlier versions left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    architecture: Option<String>,
    /// Side of the network's input in pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    image_size: Option<usize>,
    precision: String,
    exact: bool,
    shard: Option<String>,
    /// Of files with several frames.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    frame: Option<NonZeroU32>,
    instruction_set: String,
}

impl Origin {
    /// Of a call with the model that lies in `file`.
    pub fn new(
        arguments: &Predict,
        model: &Model,
        file: &Path,
        arithmetic: Arithmetic,
        engine: &dyn Engine,
    ) -> Outcome<Origin> {
        let description = engine.description();
        Ok(Origin {
            format_version: FORMAT_VERSION,
            roentgen: env!("CARGO_PKG_VERSION").into(),
            model_sha256: download::sha256(file)?,
            architecture: Some(model.description.architecture.clone()),
            image_size: Some(model.network.image_size()),
            precision: match arithmetic.precision {
                Precision::F32 => "f32".into(),
                Precision::Bf16 => "bf16".into(),
            },
            exact: arithmetic.exact,
            shard: arguments.shard.map(|shard| shard.to_string()),
            frame: arguments.frame,
            // The number of threads changes nothing.
            instruction_set: description.split(' ').next().unwrap_or_default().to_owned(),
        })
    }

    /// What makes answers of `other` no part of these; `None` where they go together.
    pub fn conflict(&self, other: &Origin) -> Option<&'static str> {
        fn differ<T: PartialEq>(one: Option<T>, other: Option<T>) -> bool {
            one.zip(other).is_some_and(|(one, other)| one != other)
        }
        [
            (self.format_version != other.format_version, "another version of the format"),
            (self.model_sha256 != other.model_sha256, "another model"),
            (differ(self.architecture.as_ref(), other.architecture.as_ref()), "another --arch"),
            (differ(self.image_size, other.image_size), "another --image-size"),
            (self.precision != other.precision, "another --precision"),
            (self.exact != other.exact, "another choice of --exact"),
            (self.shard != other.shard, "another --shard"),
            (self.frame != other.frame, "another --frame"),
        ]
        .into_iter()
        .find_map(|(differs, what)| differs.then_some(what))
    }

    fn warn_of_other_bits(&self, before: &Origin) {
        let words = |origin: &Origin| format!("roentgen {} with {}", origin.roentgen, origin.instruction_set);
        let (before, now) = (words(before), words(self));
        if before != now {
            eprintln!("warning: begun by {before}, and goes on by {now}: the last bits of the numbers may differ");
        }
    }
}

/// What became of one image.
#[derive(Serialize, Deserialize)]
struct Entry {
    path: String,
    /// The logits' bits: JSON has no NaN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    logits: Option<Vec<u32>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// `OUT.part`, open and locked.
pub struct Unfinished {
    path: PathBuf,
    file: BufWriter<File>,
    /// Images whose lines stand in the file.
    pub done: usize,
    /// How many of them could not be read.
    pub bad: usize,
    synced: Instant,
}

impl Unfinished {
    /// Opens the file of an earlier call that was killed, or begins one. `images` is the whole list.
    ///
    /// # Errors
    /// Where another process is writing it, or it belongs to another model, other settings or another list.
    pub fn open(path: PathBuf, origin: &Origin, images: &[PathBuf]) -> Outcome<Unfinished> {
        let refused = |why: String| {
            Failure::call(format!("{}: {why}: remove it to begin anew, or give another --out", path.display()))
        };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        if let Some(folder) = folder {
            std::fs::create_dir_all(folder).map_err(|source| failed(folder, "create the folder", source))?;
        }
        let mut options = File::options();
        let file = options.read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(|source| failed(&path, "write", source))?;
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            return Err(Failure::call(format!("{}: another process is writing it", path.display())));
        }
        let header = serde_json::to_string(origin).expect("an origin is plain data") + "\n";
        let mut lines = Lines { reader: BufReader::new(&file), path: &path, line: Vec::new() };
        let (mut end, mut done, mut bad) = (0, 0, 0);
        match lines.next()? {
            // Killed within the first write.
            Some(line) if !line.ends_with(b"\n") && header.as_bytes().starts_with(line) => {}
            Some(line) => {
                end = line.len() as u64;
                let before: Origin = serde_json::from_slice(line)
                    .map_err(|_| refused("not what an unfinished `roentgen predict --out` leaves".into()))?;
                if let Some(what) = origin.conflict(&before) {
                    return Err(refused(format!("an unfinished call stands there, with {what}")));
                }
                origin.warn_of_other_bits(&before);
            }
            None => {}
        }
        while end > 0
            && let Some(line) = lines.next()?
            // A line without its end is of a killed process, one that makes no sense of a crash of the machine.
            && let Some(entry) = line.ends_with(b"\n").then(|| serde_json::from_slice::<Entry>(line).ok()).flatten()
        {
            if images.get(done).and_then(|image| image.to_str()) != Some(&entry.path) {
                let now = images.get(done).map_or("nothing".into(), |image| image.display().to_string());
                return Err(refused(format!(
                    "the list of images has changed since it was begun: image {} was {}, and is {now}",
                    done + 1,
                    entry.path
                )));
            }
            end += line.len() as u64;
            done += 1;
            bad += usize::from(entry.error.is_some());
        }
        file.set_len(end).map_err(|source| failed(&path, "shorten", source))?;
        let mut file = BufWriter::new(file);
        let begun = file.seek(SeekFrom::Start(end)).and_then(|_| match end {
            0 => file.write_all(header.as_bytes()),
            _ => Ok(()),
        });
        begun.map_err(|source| failed(&path, "write", source))?;
        Ok(Unfinished { path, file, done, bad, synced: Instant::now() })
    }

    /// Adds an answer, or why there is none, for the next image.
    pub fn push(&mut self, path: &Path, answer: Result<Vec<f32>, String>) -> Outcome {
        let (logits, error) = match answer {
            Ok(logits) => (Some(logits.into_iter().map(f32::to_bits).collect()), None),
            Err(error) => (None, Some(error)),
        };
        self.done += 1;
        self.bad += usize::from(error.is_some());
        let entry = Entry { path: path.to_string_lossy().into_owned(), logits, error };
        let line = serde_json::to_string(&entry).expect("an entry is plain data") + "\n";
        self.file.write_all(line.as_bytes()).map_err(|source| failed(&self.path, "write", source))?;
        if self.synced.elapsed() >= SYNC_INTERVAL { self.sync() } else { Ok(()) }
    }

    /// Everything so far reaches the disk.
    pub fn sync(&mut self) -> Outcome {
        self.synced = Instant::now();
        let synced = self.file.flush().and_then(|()| self.file.get_ref().sync_data());
        synced.map_err(|source| failed(&self.path, "write", source))
    }

    /// Hands out all that became of the images, from the first on: an answer, or path and reason. Everything must have
    /// been synced.
    pub fn replay(
        &self,
        mut each: impl FnMut(Result<FilePrediction, (String, String)>) -> std::io::Result<()>,
    ) -> std::io::Result<()> {
        let unreadable = |what: String| std::io::Error::other(format!("{}: {what}", self.path.display()));
        let file = File::open(&self.path).map_err(|error| unreadable(error.to_string()))?;
        for line in BufReader::new(file).lines().skip(1) {
            let Entry { path, logits, error } =
                serde_json::from_str(&line?).map_err(|error| unreadable(error.to_string()))?;
            each(match (logits, error) {
                (Some(bits), _) => Ok(FilePrediction::new(path.into(), bits.into_iter().map(f32::from_bits).collect())),
                (None, reason) => Err((path, reason.unwrap_or_default())),
            })?;
        }
        Ok(())
    }

    /// Removes the file: what it held stands elsewhere now.
    pub fn remove(self) -> Outcome {
        std::fs::remove_file(&self.path).map_err(|source| failed(&self.path, "remove", source))
    }
}

/// Lines with their ends, one at a time.
struct Lines<'a> {
    reader: BufReader<&'a File>,
    path: &'a Path,
    line: Vec<u8>,
}

impl Lines<'_> {
    fn next(&mut self) -> Outcome<Option<&[u8]>> {
        self.line.clear();
        let read = self.reader.read_until(b'\n', &mut self.line);
        read.map_err(|source| failed(self.path, "read", source))?;
        Ok((!self.line.is_empty()).then_some(self.line.as_slice()))
    }
}

/// The system's refusal, with what a user can do about it.
fn failed(path: &Path, action: &'static str, source: std::io::Error) -> Failure {
    RunError::Io { path: path.to_owned(), action, source }.into()
}
