//! The images of a data set: which file, which class, which split, and what is known about it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use sha2::{Digest, Sha256};

use crate::anonymous::PatientKey;
use crate::decode::dicom_patient;
use crate::error::DataError;
use crate::folders;
use crate::table;

/// What a part of the data is for. The order is the order of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Split {
    /// The network learns from it.
    Train,
    /// Watched while training.
    Validation,
    /// Looked at once, in the end.
    Test,
}

impl Split {
    /// All splits in order.
    pub const ALL: [Split; 3] = [Split::Train, Split::Validation, Split::Test];

    /// `train`, `validation` or `test`.
    pub fn name(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Validation => "validation",
            Split::Test => "test",
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
}

/// A patient with images in more than one split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedPatient {
    /// The patient.
    pub patient_id: String,
    /// The splits, in order, each with the patient's number of images.
    pub images: Vec<(Split, usize)>,
}

/// The images of a data set in a fixed order: split, class, path, as torchvision's ImageFolder has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The folder that paths are relative to.
    pub root: PathBuf,
    /// The names of the classes, sorted by code point; a label is an index into them.
    pub classes: Vec<String>,
    /// The images.
    pub rows: Vec<Row>,
    /// What the user should know and what is no error: ignored files, a class that the test split lacks, rows that
    /// `manifest.csv` does not name.
    pub warnings: Vec<String>,
}

impl Manifest {
    /// Opens a folder of `train`, `validation` (or `val`, `valid`) and `test`, each with a folder for each class, and
    /// reads `manifest.csv` beside them where it exists.
    ///
    /// Splits may be missing (see [`Manifest::require_split`]). The classes are the sorted names of the class folders
    /// of all splits. Images end in .png, .jpg, .jpeg, .dcm, .dicom or .ima in any case, or are known by their content
    /// (see [`is_image_file`](crate::is_image_file)), and may stand in subfolders; other files give a warning. Hidden files and folders are
    /// ignored. Nothing is decoded.
    ///
    /// Without a table, the patients of DICOM images are those that their headers name.
    ///
    /// The table has a header with the columns `path` (relative to the folder, with `/`), `split`, `label` (the class's
    /// name), `finding`, `patient_id` and `source` in any order; all but `path` may be missing, further columns are
    /// ignored, an empty field is unknown.
    ///
    /// # Errors
    /// Any variant of [`DataError`] that is about folders, names or tables.
    pub fn open(dir: &Path) -> Result<Manifest, DataError> {
        let mut manifest = folders::scan(dir)?;
        let table = dir.join(table::FILE_NAME);
        if table.is_file() {
            table::annotate(&mut manifest, &table)?;
        } else {
            manifest.take_patients_from_headers();
        }
        Ok(manifest)
    }

    fn take_patients_from_headers(&mut self) {
        for row in &mut self.rows {
            row.patient_id = dicom_patient(&self.root.join(&row.path));
        }
        let unknown = self.rows.iter().filter(|row| row.patient_id.is_none()).count();
        if (1..self.rows.len()).contains(&unknown) {
            self.warnings.push(format!(
                "{}: {unknown} of {} images have no header that names a patient; whose they are is unknown",
                self.root.display(),
                self.rows.len()
            ));
        }
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
    /// [`DataError::SplitMissing`] where the split has none.
    pub fn require_split(&self, split: Split) -> Result<Vec<usize>, DataError> {
        let rows = self.rows_of(split);
        if rows.is_empty() {
            let found = Split::ALL.into_iter().filter(|&other| self.rows.iter().any(|row| row.split == other));
            let found = found.map(Split::name).collect::<Vec<_>>().join(", ");
            return Err(DataError::SplitMissing { root: self.root.clone(), split, found });
        }
        Ok(rows)
    }

    /// Checks that a split has images of every class, or none at all.
    ///
    /// # Errors
    /// [`DataError::ClassMissing`] for the first class that it lacks.
    pub fn require_every_class(&self, split: Split) -> Result<(), DataError> {
        let rows = self.rows_of(split);
        let Some(first) = rows.first() else { return Ok(()) };
        for (label, class) in self.classes.iter().enumerate() {
            if !rows.iter().any(|row| self.rows[*row].label == label) {
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
            [class] => Err(DataError::OneClass { root: self.root.clone(), class: class.clone() }),
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

    /// SHA-256 over paths and file sizes: what makes images the same, whatever is known of them and whichever split they
    /// are in.
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

    /// The patients that stand in more than one split, sorted. Images of unknown patients are not counted: whether
    /// they are disjoint is not provable.
    pub fn patients_across_splits(&self) -> Vec<SharedPatient> {
        let mut images: BTreeMap<&str, BTreeMap<Split, usize>> = BTreeMap::new();
        for row in &self.rows {
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

/// Names for a message, at most five of them.
pub(crate) fn listed(names: &BTreeSet<String>) -> String {
    if names.is_empty() {
        return "nothing".to_owned();
    }
    let mut shown: Vec<String> = names.iter().take(5).map(|name| format!("`{name}`")).collect();
    if names.len() > 5 {
        shown.push(format!("and {} more", names.len() - 5));
    }
    shown.join(", ")
}
