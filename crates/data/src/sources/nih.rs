//! NIH ChestX-ray14: one row an image, labels joined by `|`, images in one folder or in twelve.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::{Collection, Found, Kind, existing, file_names, first_table};
use crate::error::DataError;
use crate::manifest::Split;
use crate::person::{Sex, age_in_years};
use crate::table::Table;

/// The table, by the names under which it and its sample are published.
pub(super) fn table(dir: &Path) -> Option<PathBuf> {
    first_table(dir, &["Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv", "sample_labels.csv"])
}

pub(super) fn collect(dir: &Path) -> Result<Collection, DataError> {
    let Some(file) = table(dir) else {
        return Err(DataError::SourceFileMissing { dir: dir.to_owned(), expected: "Data_Entry_2017.csv" });
    };
    let mut table = Table::read(&file)?;
    let name = table.require(&["Image Index"])?;
    let labels = table.require(&["Finding Labels"])?;
    let patient = table.require(&["Patient ID"])?;
    let (age, sex) = (table.column(&["Patient Age"]), table.column(&["Patient Gender", "Patient Sex"]));
    let view = table.column(&["View Position"]);
    let lists = official_split(dir)?;
    let numbered = (1..=12).flat_map(|part| [format!("images_{part:03}/images"), format!("images_{part:03}")]);
    let folders: Vec<PathBuf> = ["images".to_owned(), "sample/images".to_owned(), String::new()]
        .into_iter()
        .chain(numbered)
        .map(PathBuf::from)
        .filter(|folder| dir.join(folder).is_dir())
        .collect();
    // Each folder is listed once: on a network disk, looking for each image in up to twelve takes minutes. The first wins.
    let mut folder_of: HashMap<String, &Path> = HashMap::new();
    for folder in folders.iter().rev() {
        folder_of.extend(file_names(&dir.join(folder))?.into_iter().map(|name| (name, folder.as_path())));
    }
    let (mut images, mut strange_ages, mut strange_sexes) = (Vec::new(), Vec::new(), Vec::new());
    for record in table.records() {
        let Some(name) = record.get(name) else {
            images.push(Found::nameless(&file, record.line));
            continue;
        };
        images.push(Found {
            path: existing(dir, folder_of.get(name).map(|folder| folder.join(name))),
            name: name.to_owned(),
            findings: record
                .get(labels)
                .map(|text| text.split('|').map(|part| part.trim().to_owned()).collect())
                .unwrap_or_default(),
            // 193 in the table is 00000193 in the names of the files.
            patient_id: record.get(patient).map(|id| format!("{}-{id:0>8}", Kind::Nih)),
            source: Some("ChestX-ray14".to_owned()),
            split: lists.get(name).copied(),
            view: record.get(view).map(str::to_owned),
            age: record.read(age, age_in_years, &mut strange_ages),
            sex: record.read(sex, Sex::parse, &mut strange_sexes),
            ..Found::default()
        });
    }
    table.warn_of_ages(&strange_ages);
    table.warn_of_sexes(&strange_sexes);
    let mut notes = table.warnings;
    if !lists.is_empty() {
        notes.push(
            "the published lists know training and test images; `roentgen data split --keep-test` makes a validation split"
                .to_owned(),
        );
    }
    Ok(Collection { root: dir.to_owned(), table: file, images, notes })
}

/// The published split, where its lists are there.
fn official_split(dir: &Path) -> Result<HashMap<String, Split>, DataError> {
    let mut lists = HashMap::new();
    for (name, split) in [("train_val_list.txt", Split::Train), ("test_list.txt", Split::Test)] {
        let file = dir.join(name);
        if file.is_file() {
            let bytes = fs::read(&file).map_err(|source| DataError::Unreadable { path: file, source })?;
            let text = String::from_utf8_lossy(&bytes);
            lists.extend(text.lines().map(|line| (line.trim().to_owned(), split)));
        }
    }
    Ok(lists)
}
