//! covid-chestxray-dataset and its two sisters: a `metadata.csv` each, with columns that say which it is.

use std::path::{Path, PathBuf};

use super::{Collection, Found, Kind, existing, header_of};
use crate::error::DataError;
use crate::person::{Sex, age_in_years};
use crate::table::Table;

const TABLE: &str = "metadata.csv";
const ENDINGS: [&str; 3] = ["jpg", "png", "jpeg"];

/// Which of the three a folder holds. Actualmed calls the file `imagename`, covid-chestxray-dataset `filename`, Figure
/// 1 not at all.
pub(super) fn kind(dir: &Path) -> Result<Option<Kind>, DataError> {
    let table = dir.join(TABLE);
    if !table.is_file() {
        return Ok(None);
    }
    let header = header_of(&table)?;
    let has = |name: &str| header.iter().any(|column| column.eq_ignore_ascii_case(name));
    Ok(match () {
        () if !(has("patientid") && has("finding")) => None,
        () if has("imagename") => Some(Kind::Actualmed),
        () if has("filename") => Some(Kind::CovidChestxray),
        () if has("pO2 saturation") => Some(Kind::Figure1),
        () => None,
    })
}

pub(super) fn collect(dir: &Path, kind: Kind) -> Result<Collection, DataError> {
    let file = dir.join(TABLE);
    let mut table = Table::read(&file)?;
    let patient = table.require(&["patientid"])?;
    let finding = table.require(&["finding"])?;
    let name = match kind {
        Kind::Figure1 => patient,
        Kind::Actualmed => table.require(&["imagename"])?,
        _ => table.require(&["filename"])?,
    };
    let column = |name| table.column(&[name]);
    let (view, modality, folder) = (column("view"), column("modality"), column("folder"));
    let (age, sex) = (column("age"), column("sex"));
    let (mut images, mut strange_ages, mut strange_sexes) = (Vec::new(), Vec::new(), Vec::new());
    for record in table.records() {
        let Some(name) = record.get(name) else {
            images.push(Found::nameless(&file, record.line));
            continue;
        };
        let folder = record.get(folder).unwrap_or("images");
        let path = match kind {
            Kind::Figure1 => existing(dir, ENDINGS.map(|end| Path::new(folder).join(format!("{name}.{end}")))),
            _ => existing(dir, [Path::new(folder).join(name), PathBuf::from(name)]),
        };
        let id = record.get(patient);
        images.push(Found {
            path,
            name: name.to_owned(),
            // Early tables list findings, `COVID-19, ARDS`; late ones nest them, `Pneumonia/Viral/COVID-19`.
            findings: record
                .get(finding)
                .map(|text| text.split(',').map(|part| part.trim().to_owned()).collect())
                .unwrap_or_default(),
            patient_id: id.map(|id| match kind {
                Kind::Figure1 => figure1_patient(id),
                _ => format!("{kind}-{id}"),
            }),
            source: Some(source(kind).to_owned()),
            view: record.get(view).map(str::to_owned),
            modality: record.get(modality).map(str::to_owned),
            age: record.read(age, age_in_years, &mut strange_ages),
            sex: record.read(sex, Sex::parse, &mut strange_sexes),
            ..Found::default()
        });
    }
    table.warn_of_ages(&strange_ages);
    table.warn_of_sexes(&strange_sexes);
    Ok(Collection { root: dir.to_owned(), table: file, images, notes: table.warnings })
}

fn source(kind: Kind) -> &'static str {
    match kind {
        Kind::Figure1 => "Figure 1",
        Kind::Actualmed => "Actualmed",
        _ => "covid-chestxray-dataset",
    }
}

/// Figure 1 numbers the images of a patient with a letter behind the number: COVID-00003a and COVID-00003b are one.
pub(super) fn figure1_patient(id: &str) -> String {
    let number = id.trim_end_matches(|c: char| c.is_ascii_lowercase());
    format!("{}-{}", Kind::Figure1, if number.ends_with(|c: char| c.is_ascii_digit()) { number } else { id })
}
