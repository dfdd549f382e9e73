//! RSNA Pneumonia Detection Challenge: one row for each box, so that an image may have several.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use super::{Collection, Found, existing, first_table};
use crate::error::DataError;
use crate::table::Table;

const TABLES: [&str; 2] = ["stage_2_train_labels.csv", "stage_1_train_labels.csv"];
const DETAILS: [&str; 2] = ["stage_2_detailed_class_info.csv", "stage_1_detailed_class_info.csv"];
const FOLDERS: [&str; 4] = ["stage_2_train_images", "stage_1_train_images", "images", ""];
const ENDINGS: [&str; 4] = ["png", "jpg", "jpeg", "dcm"];

pub(super) fn is_here(dir: &Path) -> bool {
    first_table(dir, &TABLES).is_some()
}

pub(super) fn collect(dir: &Path) -> Result<Collection, DataError> {
    let Some(file) = first_table(dir, &TABLES) else {
        return Err(DataError::SourceFileMissing { dir: dir.to_owned(), expected: TABLES[0] });
    };
    let table = Table::read(&file)?;
    let (id, target) = (table.require(&["patientId"])?, table.require(&["Target"])?);
    let mut notes = Vec::new();
    let classes = match first_table(dir, &DETAILS) {
        Some(details) => details_of(&details)?,
        None => {
            notes.push(format!(
                "{} is not there: of images without opacities nobody says whether they are normal, and they are left out",
                DETAILS[0]
            ));
            HashMap::new()
        }
    };
    let mut targets: BTreeMap<&str, bool> = BTreeMap::new();
    let mut nameless = Vec::new();
    for record in table.records() {
        let Some(id) = record.get(id) else {
            nameless.push(Found::nameless(&file, record.line));
            continue;
        };
        *targets.entry(id).or_default() |= record.get(target) == Some("1");
    }
    let boxes = table.records().count() - targets.len() - nameless.len();
    notes.extend(table.warnings.iter().cloned());
    notes.push(format!("{}: {boxes} further rows are further boxes of the same images", file.display()));
    notes.push(
        "patientId is the id of an image, not of a patient (NIH has several images of many): whether patients are disjoint is \
         not provable"
            .to_owned(),
    );
    let folders: Vec<&str> = FOLDERS.into_iter().filter(|folder| dir.join(folder).is_dir()).collect();
    let image = |(id, target): (&str, bool)| {
        let candidates = folders
            .iter()
            .flat_map(|folder| ENDINGS.iter().map(move |end| Path::new(folder).join(format!("{id}.{end}"))))
            .collect::<Vec<PathBuf>>();
        let finding = match (target, classes.get(id)) {
            (true, _) => Some("pneumonia".to_owned()),
            (false, class) => class.cloned(),
        };
        Found {
            path: existing(dir, candidates),
            name: id.to_owned(),
            findings: finding.into_iter().collect(),
            source: Some("RSNA".to_owned()),
            ..Found::default()
        }
    };
    let images = targets.into_iter().map(image).chain(nameless).collect();
    Ok(Collection { root: dir.to_owned(), table: file.clone(), images, notes })
}

/// `Normal`, `Lung Opacity` or `No Lung Opacity / Not Normal` of each image.
fn details_of(file: &Path) -> Result<HashMap<String, String>, DataError> {
    let table = Table::read(file)?;
    let (id, class) = (table.require(&["patientId"])?, table.require(&["class"])?);
    let pair = |record: crate::table::Record<'_>| {
        // The slash is no nesting.
        Some((record.get(id)?.to_owned(), record.get(class)?.replace(" / ", ", ")))
    };
    Ok(table.records().filter_map(pair).collect())
}
