//! A whole data set of phantoms on disk: which images, in which split and class, written all or not at all.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use rand::seq::SliceRandom;
use rayon::prelude::*;
use roentgen_run::draw::{self, Purpose};

use super::scene::Scene;
use super::{Grain, part, patient_of};
use crate::manifest::Split;

/// Sides of an image in pixels that a set may have.
pub const SIDES: std::ops::RangeInclusive<usize> = 32..=2048;

/// What to generate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PhantomSet {
    /// Decides every image and the order of the classes.
    pub seed: u64,
    /// Images to learn from, 2 or more; half of them, rounded down, are infected. The same holds for the other splits.
    pub train: usize,
    /// Images to watch while training.
    pub validation: usize,
    /// Images to judge the result by.
    pub test: usize,
    /// Side of the square images in pixels, within [`SIDES`].
    pub size: usize,
}

/// One phantom of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PhantomRow {
    /// Number of the phantom: with the set's seed it says all about the image but the class.
    pub item: u64,
    /// Split.
    pub split: Split,
    /// Class.
    pub infected: bool,
    /// Number of the patient, who is in this split alone.
    pub patient: u64,
    /// Grain of the opacities where infected.
    pub grain: Option<Grain>,
}

impl PhantomRow {
    /// `infected` or `normal`.
    pub fn label(&self) -> &'static str {
        if self.infected { "infected" } else { "normal" }
    }

    /// What a reader would find: `mottled opacity`, `reticular opacity` or `normal`.
    pub fn finding(&self) -> &'static str {
        match self.grain {
            Some(Grain::Mottled) => "mottled opacity",
            Some(Grain::Reticular) => "reticular opacity",
            None => "normal",
        }
    }

    /// Path below the set's folder with `/` between its parts, such as `train/infected/phantom-000123.png`.
    pub fn path(&self) -> String {
        format!("{}/{}/phantom-{:06}.png", self.split.name(), self.label(), self.item)
    }

    /// The manifest's name of the patient.
    pub fn patient_id(&self) -> String {
        format!("phantom-patient-{:06}", self.patient)
    }
}

/// Why no set was written.
#[derive(Debug, thiserror::Error)]
pub enum PhantomError {
    /// The images would be too small to show anything, or too large.
    #[error("phantoms of {found} x {found} pixels: expected a side of {} to {}", SIDES.start(), SIDES.end())]
    Side {
        /// The side asked for.
        found: usize,
    },
    /// A split would lack a class.
    #[error("{found} phantom(s) in split {split}: expected 2 or more, so that both classes occur")]
    TooFew {
        /// The split.
        split: Split,
        /// The number asked for.
        found: usize,
    },
    /// Files could be lost or mixed.
    #[error("{}: exists and is not an empty folder; name a new folder for the phantoms, or remove this one", .path.display())]
    Occupied {
        /// The folder asked for.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("{}: cannot {action}: {source}", .path.display())]
    Io {
        /// File or folder.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl PhantomSet {
    /// The set of the demonstration run: enough images for a small network to learn from within two minutes on two
    /// cores.
    pub fn demo(seed: u64) -> Self {
        Self { seed, train: 600, validation: 100, test: 200, size: 192 }
    }

    /// Images in `split`.
    pub fn count(&self, split: Split) -> usize {
        match split {
            Split::Train => self.train,
            Split::Validation => self.validation,
            Split::Test => self.test,
            Split::Unassigned => 0,
        }
    }

    /// The rows of the set in the order of its manifest, drawn without writing anything.
    ///
    /// # Errors
    ///
    /// [`PhantomError::Side`] and [`PhantomError::TooFew`].
    pub fn rows(&self) -> Result<Vec<PhantomRow>, PhantomError> {
        if !SIDES.contains(&self.size) {
            return Err(PhantomError::Side { found: self.size });
        }
        let mut rows = Vec::new();
        let mut first = 0;
        for split in Split::ALL {
            let count = self.count(split);
            if count < 2 {
                return Err(PhantomError::TooFew { split, found: count });
            }
            let mut infected: Vec<bool> = (0..count).map(|index| index < count / 2).collect();
            infected.shuffle(&mut draw::stream(self.seed, Purpose::Phantom, part::CLASSES, split as u64));
            rows.extend((first..).zip(infected).map(|(item, infected)| PhantomRow {
                item,
                split,
                infected,
                patient: patient_of(self.seed, item),
                grain: infected.then(|| Scene::draw(self.seed, item).grain()),
            }));
            // Two images of a patient are an even item and the next: from an even start no patient spans two splits.
            first = (first + count as u64).next_multiple_of(2);
        }
        Ok(rows)
    }
}

/// Draws the set into the folder `dir`: `train|validation|test`/`infected|normal`/`phantom-NNNNNN.png` (8-bit grey) and
/// `manifest.csv` with the columns `path,split,label,finding,patient_id,source`. Returns the manifest's rows.
///
/// Everything is written to a hidden folder beside `dir`, which gets its name in the end: whatever interrupts the work,
/// `dir` holds the whole set or does not exist. Parents are created; an empty `dir` is replaced. Images are drawn on
/// rayon's current pool; the files do not depend on its size.
///
/// # Errors
///
/// A wrong [`PhantomSet`], a `dir` that holds something, or a file system that refuses; then nothing of the set
/// remains.
pub fn generate(dir: &Path, set: &PhantomSet) -> Result<Vec<PhantomRow>, PhantomError> {
    let rows = set.rows()?;
    if occupied(dir)? {
        return Err(PhantomError::Occupied { path: dir.to_owned() });
    }
    let parent = match dir.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(parent).map_err(failed(parent, "create the folder"))?;
    // Removed with all it holds when it goes out of scope.
    let workplace = tempfile::Builder::new()
        .prefix(".phantoms-unfinished-")
        .tempdir_in(parent)
        .map_err(failed(parent, "create a folder in it"))?;
    let draft = workplace.path().join("set");
    for split in Split::ALL {
        for label in ["infected", "normal"] {
            let folder = draft.join(split.name()).join(label);
            fs::create_dir_all(&folder).map_err(failed(&folder, "create the folder"))?;
        }
    }
    rows.par_iter().try_for_each(|row| {
        let path = draft.join(row.path());
        let pixels = super::draw_radiograph(set.seed, row.item, row.infected, set.size);
        write_png(&path, &pixels, set.size).map_err(failed(&path, "write the image"))
    })?;
    let manifest = draft.join("manifest.csv");
    write_manifest(&manifest, &rows).map_err(failed(&manifest, "write the manifest"))?;
    if dir.exists() {
        fs::remove_dir(dir).map_err(failed(dir, "replace the empty folder"))?;
    }
    fs::rename(&draft, dir).map_err(failed(dir, "put the finished set in place"))?;
    Ok(rows)
}

/// Whether something would be lost if `dir` became the set.
fn occupied(dir: &Path) -> Result<bool, PhantomError> {
    match fs::read_dir(dir) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        // A file in its place; not so where already a parent of it is a file.
        Err(error) if error.kind() == io::ErrorKind::NotADirectory && dir.symlink_metadata().is_ok() => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(false),
        Err(error) => Err(failed(dir, "list the folder")(error)),
    }
}

fn failed<'a>(path: &'a Path, action: &'static str) -> impl FnOnce(io::Error) -> PhantomError + 'a {
    move |source| PhantomError::Io { path: path.to_owned(), action, source }
}

fn write_png(path: &Path, pixels: &[u8], size: usize) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    // The side is within `SIDES`, far below the limit of u32.
    let mut encoder = png::Encoder::new(&mut file, size as u32, size as u32);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(pixels)?;
    writer.finish()?;
    file.flush()
}

fn write_manifest(path: &Path, rows: &[PhantomRow]) -> io::Result<()> {
    let mut table = csv::Writer::from_path(path)?;
    table.write_record(["path", "split", "label", "finding", "patient_id", "source"])?;
    for row in rows {
        let (path, patient) = (row.path(), row.patient_id());
        table.write_record([&path, row.split.name(), row.label(), row.finding(), &patient, "phantom"])?;
    }
    table.flush()
}
