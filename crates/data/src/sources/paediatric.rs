//! Kermany's paediatric radiographs as Kaggle has them: an ImageFolder whose file names hold the patients.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Collection, Found, Kind, file_names};
use crate::error::DataError;
use crate::folders;
use crate::manifest::Split;

/// Files are called `person63_bacteria_306.jpeg` among the sick.
pub(super) fn is_here(dir: &Path) -> Result<bool, DataError> {
    let sick = ["train", "test", "val"].map(|split| dir.join(split).join("PNEUMONIA"));
    let Some(sick) = sick.iter().find(|folder| folder.is_dir()) else { return Ok(false) };
    let is_kind = |name: &String| patient(name).is_some_and(|(_, kind)| kind.is_some());
    Ok(file_names(sick)?.iter().any(is_kind))
}

pub(super) fn collect(dir: &Path) -> Result<Collection, DataError> {
    // The archive holds the folder once more within itself, and both are complete.
    let inner = dir.join("chest_xray");
    let scanned = folders::scan(dir)?;
    let mut notes: Vec<String> = scanned.warnings.clone();
    if fs::metadata(&inner).is_ok_and(|metadata| metadata.is_dir()) {
        notes.push(format!("{}: a second copy of the data set, ignored", inner.display()));
    }
    notes.push(
        "patients are numbered anew in the test folder: that none of its children is a training child is the publisher's word, \
         and not provable from the names"
            .to_owned(),
    );
    let image = |row: &crate::manifest::Row| {
        let name = row.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let class = scanned.classes[row.label].as_str();
        let (patient, kind) = patient(&name).unzip();
        // One pool of numbers for training and validation, another for the test.
        let pool = if row.split == Split::Test { "test" } else { "train" };
        Found {
            path: Some(row.path.clone()),
            name: row.path.display().to_string(),
            findings: vec![kind.flatten().map_or_else(|| class.to_owned(), |kind| format!("{class}/{kind}"))],
            patient_id: patient.map(|patient| format!("{}-{pool}-{patient}", Kind::Paediatric)),
            source: Some("Kermany".to_owned()),
            split: Some(row.split),
            ..Found::default()
        }
    };
    let images = scanned.rows.iter().map(image).collect();
    Ok(Collection { root: dir.to_owned(), table: PathBuf::from(dir), images, notes })
}

/// Patient and kind of pneumonia of `person63_bacteria_306.jpeg`, `IM-0115-0001.jpeg` or `NORMAL2-IM-1427-0001.jpeg`.
fn patient(file: &str) -> Option<(String, Option<&'static str>)> {
    let stem = file.rsplit_once('.')?.0;
    let all_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if let Some(rest) = stem.strip_prefix("person") {
        let mut parts = rest.split('_');
        let number = parts.next().filter(|number| all_digits(number))?;
        let kind = match parts.next()? {
            "bacteria" => "bacteria",
            "virus" => "virus",
            _ => return None,
        };
        return Some((format!("person{number}"), Some(kind)));
    }
    let (patient, exposure) = stem.rsplit_once('-')?;
    // IM-0001-0001-0002 is the second exposure of the first.
    let patient = match patient.rsplit_once('-') {
        Some((before, last)) if before.contains("IM-") && all_digits(last) => before,
        _ => patient,
    };
    (patient.contains("IM-") && all_digits(exposure)).then(|| (patient.to_owned(), None))
}

#[cfg(test)]
mod tests {
    use super::patient;

    #[test]
    fn names_hold_patients() {
        let name = |file: &str| patient(file).map(|(patient, kind)| (patient, kind.unwrap_or("")));
        assert_eq!(name("person63_bacteria_306.jpeg"), Some(("person63".into(), "bacteria")));
        assert_eq!(name("person1_virus_6.jpeg"), Some(("person1".into(), "virus")));
        assert_eq!(name("IM-0115-0001.jpeg"), Some(("IM-0115".into(), "")));
        assert_eq!(name("IM-0115-0001-0002.jpeg"), Some(("IM-0115".into(), "")));
        assert_eq!(name("NORMAL2-IM-1427-0001.jpeg"), Some(("NORMAL2-IM-1427".into(), "")));
        for other in ["a.png", "person_virus_1.jpeg", "person1_cat_1.jpeg", "x-1.png", "IM.jpeg"] {
            assert_eq!(name(other), None, "{other}");
        }
    }
}
