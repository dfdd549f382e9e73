//! The images of a data set: which file, which class, which split, and what is known about it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{fmt, fs};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::anonymous::PatientKey;
use crate::check::image_threads;
use crate::decode::{dicom_patient, may_be_dicom};
use crate::error::DataError;
use crate::folders;
use crate::import::Source;
use crate::listing::{self, Listing};
use crate::person::Sex;
use crate::wording::listed;

/// What a part of the data is for. The order is the order of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Split {
    /// The network learns from it.
    Train,
    /// Watched while training.
    Validation,
    /// Looked at once, in the end.
    Test,
    /// In none of the three: the data set has no splits, or none for this image. Nothing is done with it until
    /// somebody splits the data.
    Unassigned,
}

impl Split {
    /// The splits in order, without `Unassigned`, which is none.
    pub const ALL: [Split; 3] = [Split::Train, Split::Validation, Split::Test];

    /// `train`, `validation` or `test`; `unassigned`.
    pub fn name(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Validation => "validation",
            Split::Test => "test",
            Split::Unassigned => "unassigned",
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A text names no split.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no split; expected train, validation or test")]
pub struct UnknownSplit(pub String);

impl FromStr for Split {
    type Err = UnknownSplit;

    fn from_str(text: &str) -> Result<Self, UnknownSplit> {
        Split::ALL.into_iter().find(|split| split.name() == text).ok_or_else(|| UnknownSplit(text.to_owned()))
    }
}

/// One image of a data set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The file, relative to the manifest's root.
    pub path: PathBuf,
    /// Index into the manifest's classes.
    pub label: usize,
    /// The part of the data that it belongs to.
    pub split: Split,
    /// What the source of the image says that it shows, where known.
    pub finding: Option<String>,
    /// Whose image it is, where known. Unknown is not "different".
    pub patient_id: Option<String>,
    /// Where the image comes from (a hospital, a public collection), where known.
    pub source: Option<String>,
    /// How the image was taken, in the words of its source (`PA`, `AP supine`), where known.
    pub view: Option<String>,
    /// The patient's age in completed years, where known.
    pub age: Option<u16>,
    /// The patient's sex, where known.
    pub sex: Option<Sex>,
}

impl Row {
    /// An image of which nothing but its class and its split is known.
    pub fn new(path: PathBuf, label: usize, split: Split) -> Row {
        Row { path, label, split, finding: None, patient_id: None, source: None, view: None, age: None, sex: None }
    }
}

/// A patient with images in more than one split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedPatient {
    /// The patient.
    pub patient_id: String,
    /// The splits, in order, each with the patient's number of images.
    pub images: Vec<(Split, usize)>,
}

/// What is done with images that a table names and that are not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissingImages {
    /// The data set is not opened.
    Refuse,
    /// They are left out, with a warning.
    LeaveOut,
}

/// The images of a data set in a fixed order: split, class, path, as torchvision's ImageFolder has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The folder that paths are relative to.
    pub root: PathBuf,
    /// The table that says which images there are; `None` where the folders say it.
    pub table: Option<PathBuf>,
    /// The names of the classes, sorted by code point; a label is an index into them.
    pub classes: Vec<String>,
    /// The images.
    pub rows: Vec<Row>,
    /// What the user should know and what is no error: ignored files, a class that the test split lacks, rows that
    /// `manifest.csv` does not name.
    pub warnings: Vec<String>,
    /// Splits of which the table names images and none is there (see [`MissingImages::LeaveOut`]).
    pub absent_splits: Vec<Split>,
}

impl Manifest {
    /// Opens a data set: a folder, or a table.
    ///
    /// A folder of `train`, `validation` (or `val`, `valid`) and `test` has in each a folder for each class; splits may be
    /// missing (see [`Manifest::require_split`]). The classes are the sorted names of the class folders of all splits.
    /// Images end in .png, .jpg, .jpeg, .dcm, .dicom or .ima in any case, or are known by their content (see
    /// [`is_image_file`](crate::is_image_file)), and may stand in subfolders; other files give a warning. Hidden files and
    /// folders are ignored. A `manifest.csv` in the folder adds what is known of the images, and must not contradict the
    /// folders. A folder of class folders alone, as ImageFolder has it, is a data set whose images are in no split yet.
    ///
    /// A table, or a folder with a `manifest.csv` and no split folders, has the columns `path` (relative to the table's
    /// folder, with `/`, or absolute) and `label` (the class's name) and any of `split`, `finding`, `patient_id`,
    /// `source`, `view`, `age` and `sex`, in any order; further columns are ignored, an empty field is unknown. See
    /// [`Listing`].
    ///
    /// A published collection is known by the names and columns of its files ([`Kind`](crate::sources::Kind)) and read
    /// as it lies, under the default [`Rules`](crate::Rules); what is left out, and why, is a warning.
    ///
    /// Where neither a table nor a published collection says whose a DICOM image is, its header does. Nothing is decoded.
    ///
    /// # Errors
    /// Any variant of [`DataError`] that is about folders, names or tables; [`DataError::ImagesMissing`] where a table
    /// names files that are not there.
    pub fn open(path: &Path) -> Result<Manifest, DataError> {
        Manifest::open_watched(path, MissingImages::Refuse, |_, _| {})
    }

    /// As [`Manifest::open`], but does with images that a table names and that are not there as `missing_images` says. Where
    /// headers of many files have to be read, `progress` hears after each how many of how many were, from any thread.
    ///
    /// # Errors
    /// As [`Manifest::open`]; [`DataError::ImagesMissing`] also where no image at all is there.
    pub fn open_watched(
        path: &Path,
        missing_images: MissingImages,
        progress: impl Fn(usize, usize) + Sync,
    ) -> Result<Manifest, DataError> {
        let mut manifest = Manifest::named(path, progress)?;
        let missing = manifest.missing_rows();
        if !missing.is_empty() && (missing_images == MissingImages::Refuse || missing.len() == manifest.rows.len()) {
            return Err(DataError::ImagesMissing {
                table: manifest.place().to_owned(),
                missing: missing.len(),
                images: manifest.rows.len(),
                first: manifest.missing_names(&missing),
            });
        }
        if !missing.is_empty() {
            manifest.warnings.push(format!(
                "{}: {} of {} images are not there and were left out: {}",
                manifest.place().display(),
                missing.len(),
                manifest.rows.len(),
                manifest.missing_names(&missing)
            ));
            let gone: BTreeSet<usize> = missing.into_iter().collect();
            let mut index = 0..;
            let splits = |manifest: &Manifest| manifest.rows.iter().map(|row| row.split).collect::<BTreeSet<Split>>();
            let named = splits(&manifest);
            manifest.rows.retain(|_| index.next().is_none_or(|row| !gone.contains(&row)));
            manifest.absent_splits = named.difference(&splits(&manifest)).copied().collect();
        }
        Ok(manifest)
    }

    /// The images that a folder holds or a table names.
    fn named(path: &Path, progress: impl Fn(usize, usize) + Sync) -> Result<Manifest, DataError> {
        let source = Source::detect(path)?;
        if let Some(kind) = source.kind {
            return Manifest::of_published(source, kind);
        }
        let mut manifest = Manifest::of_our_own(path)?;
        manifest.take_patients_from_headers(progress)?;
        Ok(manifest)
    }

    /// A folder of split folders, or a table.
    fn of_our_own(path: &Path) -> Result<Manifest, DataError> {
        let metadata = fs::metadata(path).map_err(|source| DataError::Unreadable { path: path.to_owned(), source })?;
        if !metadata.is_dir() {
            return match path.extension() {
                Some(end) if end.eq_ignore_ascii_case("csv") => Listing::read(path)?.into_manifest(path),
                _ => Err(DataError::NotADataSet { path: path.to_owned() }),
            };
        }
        let table = path.join(listing::FILE_NAME);
        if table.is_file() && !folders::has_splits(path)? {
            return Listing::read(&table)?.into_manifest(&table);
        }
        let mut manifest = folders::scan(path)?;
        if table.is_file() {
            listing::annotate(&mut manifest, &table)?;
        }
        Ok(manifest)
    }

    /// The manifest of a table's rows, in the order of those of folders: split, class, folder, name.
    pub(crate) fn of_table(
        table: &Path,
        classes: Vec<String>,
        rows: Vec<Row>,
        warnings: Vec<String>,
    ) -> Result<Manifest, DataError> {
        if rows.is_empty() {
            return Err(DataError::TableEmpty { table: table.to_owned() });
        }
        let folder = table.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut manifest = Manifest {
            root: folder.to_owned(),
            table: Some(table.to_owned()),
            classes,
            rows,
            warnings,
            absent_splits: Vec::new(),
        };
        manifest.sort();
        Ok(manifest)
    }

    /// Brings the rows into their order: split, class, folder, name.
    pub(crate) fn sort(&mut self) {
        self.rows.sort_by_cached_key(|row| {
            (row.split, row.label, row.path.parent().map(Path::to_owned), row.path.file_name().map(OsStr::to_owned))
        });
    }

    /// What says which images there are: the table, or the folder. For messages.
    pub fn place(&self) -> &Path {
        self.table.as_deref().unwrap_or(&self.root)
    }

    /// Rows whose file is not there. Folders were listed a moment ago: they are not asked again.
    fn missing_rows(&self) -> Vec<usize> {
        match self.table {
            Some(_) => (0..self.rows.len()).filter(|&row| !self.path_of(row).is_file()).collect(),
            None => Vec::new(),
        }
    }

    /// The first ten of them, ready to print.
    fn missing_names(&self, rows: &[usize]) -> String {
        let names = rows.iter().map(|&row| self.rows[row].path.display().to_string()).collect();
        listed(&names, 10)
    }

    /// Asks the headers of DICOM files whose they are, where nothing else says it. RSNA's challenge has the ids of images
    /// there, which are no patients.
    fn take_patients_from_headers(&mut self, progress: impl Fn(usize, usize) + Sync) -> Result<(), DataError> {
        let is_unknown = |row: &Row| {
            row.patient_id.is_none() && !row.source.as_deref().is_some_and(|source| source.eq_ignore_ascii_case("rsna"))
        };
        let Manifest { root, rows, .. } = self;
        let mut unknown: Vec<&mut Row> =
            rows.iter_mut().filter(|row| is_unknown(row) && may_be_dicom(&row.path)).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let (all, done) = (unknown.len(), AtomicUsize::new(0));
        image_threads(threads)?.install(|| {
            unknown.par_iter_mut().for_each(|row| {
                row.patient_id = dicom_patient(&root.join(&row.path));
                progress(done.fetch_add(1, Ordering::Relaxed) + 1, all);
            });
        });
        let found = unknown.iter().any(|row| row.patient_id.is_some());
        let unknown = self.rows.iter().filter(|row| row.patient_id.is_none()).count();
        if found && unknown > 0 {
            self.warnings.push(format!(
                "{}: the patients of {unknown} of {} images are unknown: neither a table nor a DICOM header names them",
                self.place().display(),
                self.rows.len()
            ));
        }
        Ok(())
    }

    /// Puts pseudonyms in the place of the patients, wherever they will be written. Paths stay as they are.
    pub fn anonymize(&mut self, key: &PatientKey) {
        for patient in self.rows.iter_mut().filter_map(|row| row.patient_id.as_mut()) {
            *patient = key.pseudonym(patient);
        }
    }

    /// The row numbers of a split, ascending.
    pub fn rows_of(&self, split: Split) -> Vec<usize> {
        (0..self.rows.len()).filter(|&row| self.rows[row].split == split).collect()
    }

    /// As [`Manifest::rows_of`], for a caller that needs images there.
    ///
    /// # Errors
    /// [`DataError::SplitMissing`] where the split has none, [`DataError::NotSplit`] where no split has any.
    pub fn require_split(&self, split: Split) -> Result<Vec<usize>, DataError> {
        let rows = self.rows_of(split);
        if rows.is_empty() {
            let place = self.place().to_owned();
            let found = Split::ALL.into_iter().filter(|&other| self.rows.iter().any(|row| row.split == other));
            let found = found.map(Split::name).collect::<Vec<_>>().join(", ");
            return Err(match found.is_empty() {
                true => DataError::NotSplit { place, split },
                false => DataError::SplitMissing { place, split, found },
            });
        }
        Ok(rows)
    }

    /// Checks that a split has images of every class, or none at all.
    ///
    /// # Errors
    /// [`DataError::ClassMissing`] or [`DataError::ClassNotListed`] for the first class that it lacks.
    pub fn require_every_class(&self, split: Split) -> Result<(), DataError> {
        let rows = self.rows_of(split);
        let Some(first) = rows.first() else { return Ok(()) };
        for (label, class) in self.classes.iter().enumerate() {
            if !rows.iter().any(|row| self.rows[*row].label == label) {
                if let Some(table) = &self.table {
                    return Err(DataError::ClassNotListed { table: table.clone(), split, class: class.clone() });
                }
                // The folder as it is called here: `val` and `valid` are validation splits too.
                let split_folder = self.rows[*first].path.components().next();
                let folder = split_folder.map_or_else(|| self.root.clone(), |name| self.root.join(name));
                return Err(DataError::ClassMissing { folder: folder.join(class), class: class.clone() });
            }
        }
        Ok(())
    }

    /// Checks that there is something to tell apart.
    ///
    /// # Errors
    /// [`DataError::OneClass`] where there is only one class.
    pub fn require_two_classes(&self) -> Result<(), DataError> {
        match self.classes.as_slice() {
            [class] => Err(DataError::OneClass { root: self.place().to_owned(), class: class.clone() }),
            _ => Ok(()),
        }
    }

    /// The file of a row.
    pub fn path_of(&self, row: usize) -> PathBuf {
        self.root.join(&self.rows[row].path)
    }

    /// SHA-256 in hexadecimal over classes, paths, labels, splits, patients and file sizes: what makes two data sets
    /// the same to an experiment, without reading the images.
    ///
    /// # Errors
    /// [`DataError::Unreadable`] where a file has gone.
    pub fn fingerprint(&self) -> Result<String, DataError> {
        let mut hash = Sha256::new();
        // Each field carries its length, so that no two different lists give the same bytes.
        let mut add = |field: &[u8]| {
            hash.update((field.len() as u64).to_le_bytes());
            hash.update(field);
        };
        add(&(self.classes.len() as u64).to_le_bytes());
        self.classes.iter().for_each(|class| add(class.as_bytes()));
        for (index, row) in self.rows.iter().enumerate() {
            let path = self.path_of(index);
            let size = path.metadata().map_err(|source| DataError::Unreadable { path, source })?.len();
            add(row.path.as_os_str().as_encoded_bytes());
            add(&(row.label as u64).to_le_bytes());
            add(row.split.name().as_bytes());
            add(&[u8::from(row.patient_id.is_some())]);
            add(row.patient_id.as_deref().unwrap_or("").as_bytes());
            add(&size.to_le_bytes());
        }
        Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// SHA-256 over paths and file sizes: what makes images the same, whatever is known of them and whichever split
    /// they are in.
    ///
    /// # Errors
    /// [`DataError::Unreadable`] where a file has gone.
    pub fn images_fingerprint(&self) -> Result<[u8; 32], DataError> {
        let mut hash = Sha256::new();
        for (index, row) in self.rows.iter().enumerate() {
            let path = self.path_of(index);
            let size = path.metadata().map_err(|source| DataError::Unreadable { path, source })?.len();
            let name = row.path.as_os_str().as_encoded_bytes();
            hash.update((name.len() as u64).to_le_bytes());
            hash.update(name);
            hash.update(size.to_le_bytes());
        }
        Ok(hash.finalize().into())
    }

    /// Whether two of these rows stand in different splits. What is in none ([`Split::Unassigned`]) is neither trained
    /// nor tested on, so that it tells nobody anything.
    pub fn across_splits(&self, rows: &[usize]) -> bool {
        let mut splits = rows.iter().map(|&row| self.rows[row].split).filter(|split| *split != Split::Unassigned);
        splits.next().is_some_and(|first| splits.any(|other| other != first))
    }

    /// The patients that stand in more than one split, sorted. Images of unknown patients are not counted: whether
    /// they are disjoint is not provable; nor are images in no split.
    pub fn patients_across_splits(&self) -> Vec<SharedPatient> {
        let mut images: BTreeMap<&str, BTreeMap<Split, usize>> = BTreeMap::new();
        for row in self.rows.iter().filter(|row| row.split != Split::Unassigned) {
            if let Some(patient) = &row.patient_id {
                *images.entry(patient).or_default().entry(row.split).or_default() += 1;
            }
        }
        let shared = images.into_iter().filter(|(_, splits)| splits.len() > 1);
        shared
            .map(|(patient, splits)| SharedPatient {
                patient_id: patient.to_owned(),
                images: splits.into_iter().collect(),
            })
            .collect()
    }
}
