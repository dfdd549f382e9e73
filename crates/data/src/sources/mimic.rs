//! MIMIC-CXR-JPG: three tables, of images, of studies (whose images share their labels), and of splits.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::chexpert::FindingColumns;
use super::{Collection, Found, Kind, existing, file_names};
use crate::error::DataError;
use crate::manifest::Split;
use crate::table::Table;

/// The table whose name ends so, as in `mimic-cxr-2.0.0-metadata.csv`.
fn table(dir: &Path, end: &'static str) -> Result<Option<PathBuf>, DataError> {
    let name = file_names(dir)?.into_iter().find(|name| name.starts_with("mimic-cxr-") && name.ends_with(end));
    Ok(name.map(|name| dir.join(name)))
}

pub(super) fn is_here(dir: &Path) -> Result<bool, DataError> {
    // Packed tables count: the error then says to unpack them.
    Ok(table(dir, "-metadata.csv")?.is_some() || table(dir, "-metadata.csv.gz")?.is_some())
}

pub(super) fn collect(dir: &Path) -> Result<Collection, DataError> {
    let required =
        |end, expected| table(dir, end)?.ok_or_else(|| DataError::SourceFileMissing { dir: dir.to_owned(), expected });
    let file = required("-metadata.csv", "mimic-cxr-2.0.0-metadata.csv (unpack it with gunzip)")?;
    let labels = Table::read(&required("-chexpert.csv", "mimic-cxr-2.0.0-chexpert.csv (unpack it with gunzip)")?)?;
    let mut notes = labels.warnings.clone();
    let (subject, study) = (labels.require(&["subject_id"])?, labels.require(&["study_id"])?);
    let findings = FindingColumns::of(&labels)?;
    // Subject and study; present and uncertain.
    type Key<'a> = (&'a str, &'a str);
    let mut of_study: HashMap<Key<'_>, (Vec<String>, Vec<String>)> = HashMap::new();
    for record in labels.records() {
        if let (Some(subject), Some(study)) = (record.get(subject), record.get(study)) {
            of_study.insert((subject, study), findings.read(record));
        }
    }
    let splits = match table(dir, "-split.csv")? {
        Some(file) => splits(&file)?,
        None => {
            notes.push("mimic-cxr-2.0.0-split.csv is not there: the images have no splits".to_owned());
            HashMap::new()
        }
    };
    let images = Table::read(&file)?;
    let (dicom, subject) = (images.require(&["dicom_id"])?, images.require(&["subject_id"])?);
    let (study, view) = (images.require(&["study_id"])?, images.require(&["ViewPosition"])?);
    notes.extend(images.warnings.iter().cloned());
    let mut found = Vec::new();
    for record in images.records() {
        let (Some(dicom), Some(subject), Some(study)) = (record.get(dicom), record.get(subject), record.get(study))
        else {
            found.push(Found::nameless(&file, record.line));
            continue;
        };
        let (present, uncertain) = of_study.get(&(subject, study)).cloned().unwrap_or_default();
        let group = subject.get(..2).unwrap_or(subject);
        let relative = format!("p{group}/p{subject}/s{study}/{dicom}.jpg");
        found.push(Found {
            path: existing(dir, [format!("files/{relative}"), relative.clone()].map(PathBuf::from)),
            name: relative,
            findings: present,
            uncertain,
            patient_id: Some(format!("{}-{subject}", Kind::Mimic)),
            source: Some("MIMIC-CXR".to_owned()),
            split: splits.get(dicom).copied(),
            view: record.get(view).map(str::to_owned),
            ..Found::default()
        });
    }
    Ok(Collection { root: dir.to_owned(), table: file, images: found, notes })
}

/// The split of each image; the table calls the second one `validate`.
fn splits(file: &Path) -> Result<HashMap<String, Split>, DataError> {
    let table = Table::read(file)?;
    let (dicom, split) = (table.require(&["dicom_id"])?, table.require(&["split"])?);
    let mut splits = HashMap::new();
    for record in table.records() {
        let (Some(dicom), Some(name)) = (record.get(dicom), record.get(split)) else { continue };
        let split = match name {
            "validate" => Split::Validation,
            name => name.parse().map_err(|unknown| table.row_error(record, format!("{unknown}")))?,
        };
        splits.insert(dicom.to_owned(), split);
    }
    Ok(splits)
}
