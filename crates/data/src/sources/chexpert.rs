//! CheXpert: a column a finding with 1, 0, -1 or nothing; patient and view in the path.

use std::path::{Path, PathBuf};

use super::{Collection, Found, Kind, existing, header_of};
use crate::error::DataError;
use crate::manifest::Split;
use crate::person::{Sex, age_in_years};
use crate::table::{Record, Table};

const TABLES: [(&str, Split); 4] = [
    ("train.csv", Split::Train),
    ("valid.csv", Split::Validation),
    ("test.csv", Split::Test),
    ("test_labels.csv", Split::Test),
];

/// The fourteen columns of CheXpert's labeler, which MIMIC-CXR-JPG has too.
const FINDINGS: [&str; 14] = [
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
];

/// The places of those columns in a table.
pub(super) struct FindingColumns(Vec<(&'static str, Option<usize>)>);

impl FindingColumns {
    /// Pneumonia and No Finding must be there.
    pub fn of(table: &Table) -> Result<FindingColumns, DataError> {
        table.require(&["Pneumonia"])?;
        table.require(&["No Finding"])?;
        Ok(FindingColumns(FINDINGS.iter().map(|name| (*name, table.column(&[name]))).collect()))
    }

    /// The findings of a row that are present, and those that are uncertain.
    pub fn read(&self, record: Record<'_>) -> (Vec<String>, Vec<String>) {
        let with = |wanted: f64| {
            let is = |column| record.get(column).and_then(|text| text.parse::<f64>().ok()) == Some(wanted);
            self.0.iter().filter(|(_, column)| is(*column)).map(|(name, _)| (*name).to_owned()).collect()
        };
        (with(1.0), with(-1.0))
    }
}

pub(super) fn is_here(dir: &Path) -> Result<bool, DataError> {
    for (name, _) in &TABLES[..2] {
        let file = dir.join(name);
        if file.is_file() && header_of(&file)?.iter().any(|column| column == "Frontal/Lateral") {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(super) fn collect(dir: &Path) -> Result<Collection, DataError> {
    let (mut images, mut notes, mut first) = (Vec::new(), Vec::new(), None);
    for (name, split) in TABLES {
        let file = dir.join(name);
        if !file.is_file() {
            continue;
        }
        let mut table = Table::read(&file)?;
        let path = table.require(&["Path"])?;
        let findings = FindingColumns::of(&table)?;
        let column = |name| table.column(&[name]);
        let (age, sex) = (column("Age"), column("Sex"));
        let (side, projection) = (column("Frontal/Lateral"), column("AP/PA"));
        let (mut strange_ages, mut strange_sexes) = (Vec::new(), Vec::new());
        for record in table.records() {
            let Some(name) = record.get(path) else {
                images.push(Found::nameless(&file, record.line));
                continue;
            };
            let (present, uncertain) = findings.read(record);
            // The table's paths begin with the name of the published folder, which may have been renamed.
            let inside: PathBuf = Path::new(name).components().skip(1).collect();
            let lateral =
                record.get(side).map_or(name.contains("lateral"), |side| side.eq_ignore_ascii_case("lateral"));
            let patient = name.split('/').find_map(|part| part.strip_prefix("patient"));
            images.push(Found {
                path: existing(dir, [inside, PathBuf::from(name)]),
                name: name.to_owned(),
                findings: present,
                uncertain,
                patient_id: patient.map(|number| format!("{}-{number}", Kind::Chexpert)),
                source: Some("CheXpert".to_owned()),
                split: Some(split),
                view: if lateral { Some("Lateral".to_owned()) } else { record.get(projection).map(str::to_owned) },
                age: record.read(age, age_in_years, &mut strange_ages),
                sex: record.read(sex, Sex::parse, &mut strange_sexes),
                ..Found::default()
            });
        }
        table.warn_of_ages(&strange_ages);
        table.warn_of_sexes(&strange_sexes);
        notes.extend(table.warnings);
        first.get_or_insert(file);
    }
    match first {
        Some(table) => Ok(Collection { root: dir.to_owned(), table, images, notes }),
        None => Err(DataError::SourceFileMissing { dir: dir.to_owned(), expected: TABLES[0].0 }),
    }
}
