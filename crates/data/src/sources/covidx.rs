//! COVIDx: lists of `patientid filename label [source]`, separated by spaces, and patient ids may hold one.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Collection, Found, Kind, existing, file_names};
use crate::encoding;
use crate::error::DataError;
use crate::manifest::Split;
use crate::wording::counted;

/// A line of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CovidxLine<'a> {
    /// Whose image it is, spaces included.
    pub patient_id: &'a str,
    /// The file, relative to the folder of its split.
    pub file: &'a str,
    /// As it stands there: `normal`, `pneumonia` or `COVID-19` (A), `positive` or `negative` (B).
    pub label: &'a str,
    /// The collection that it was taken from, in lists of four or five fields.
    pub source: Option<&'a str>,
}

const LABELS: [&str; 5] = ["normal", "pneumonia", "COVID-19", "positive", "negative"];

/// Reads a line from the right, because patient ids may hold spaces; `None` where it is no line of a list.
pub fn parse_covidx_line(line: &str) -> Option<CovidxLine<'_>> {
    let is_label = |text: &str| LABELS.iter().any(|label| label.eq_ignore_ascii_case(text));
    let line = line.trim();
    let (rest, last) = line.rsplit_once(char::is_whitespace)?;
    let (rest, label, source) = if is_label(last) {
        (rest, last, None)
    } else {
        let (rest, label) = rest.trim_end().rsplit_once(char::is_whitespace)?;
        (rest, label, Some(last))
    };
    let (patient_id, file) = rest.trim_end().rsplit_once(char::is_whitespace)?;
    let patient_id = patient_id.trim_end();
    (is_label(label) && !patient_id.is_empty()).then_some(CovidxLine { patient_id, file, label, source })
}

/// The split that a list's name begins with.
fn split_of(name: &str) -> Option<Split> {
    let name = name.to_lowercase();
    let prefixes = [("train", Split::Train), ("val", Split::Validation), ("test", Split::Test)];
    prefixes.into_iter().find(|(prefix, _)| name.starts_with(prefix)).map(|(_, split)| split)
}

/// The lists in a folder: `train*.txt`, `val*.txt` and `test*.txt` whose first line is one of a list.
pub(super) fn lists(dir: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut lists = Vec::new();
    for name in file_names(dir)? {
        let file = dir.join(&name);
        if split_of(&name).is_some() && name.to_lowercase().ends_with(".txt") && file.is_file() {
            // Other texts may lie there too.
            let Ok(text) = read(&file) else { continue };
            if text.lines().find(|line| !line.trim().is_empty()).is_some_and(|line| parse_covidx_line(line).is_some()) {
                lists.push(file);
            }
        }
    }
    Ok(lists)
}

fn read(file: &Path) -> Result<String, DataError> {
    let bytes = fs::read(file).map_err(|source| DataError::Unreadable { path: file.to_owned(), source })?;
    let detail = "is UTF-16; save it as UTF-8".to_owned();
    let (text, _) =
        encoding::decode(&bytes).ok_or_else(|| DataError::TableUnreadable { table: file.to_owned(), detail })?;
    Ok(text.into_owned())
}

pub(super) fn collect(place: &Path) -> Result<Collection, DataError> {
    let (root, lists) = if place.is_file() {
        let folder = place.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        (folder.to_owned(), vec![place.to_owned()])
    } else {
        (place.to_owned(), lists(place)?)
    };
    let split_of = |list: &PathBuf| split_of(&list.file_name().unwrap_or_default().to_string_lossy());
    let (mut images, mut notes) = (Vec::new(), Vec::new());
    for (index, list) in lists.iter().enumerate() {
        if let Some(first) = lists[..index].iter().find(|first| split_of(first) == split_of(list)) {
            return Err(DataError::SeveralLists { first: first.clone(), second: list.clone() });
        }
        let (mut misspelt, mut unreadable) = (0, Vec::new());
        for (number, line) in (1..).zip(read(list)?.lines()).filter(|(_, line)| !line.trim().is_empty()) {
            let Some(CovidxLine { patient_id, file, label, source }) = parse_covidx_line(line) else {
                unreadable.push(number);
                continue;
            };
            // 199 lines of train_COVIDx8A.txt and its relatives.
            misspelt += usize::from(source == Some("rnsa"));
            let source = source.map(|source| if source == "rnsa" { "rsna" } else { source });
            let split = split_of(list);
            let folder = split.map(|split| match split {
                Split::Validation => "val",
                other => other.name(),
            });
            let of_split = folder.map(|folder| [format!("{folder}/{file}"), format!("data/{folder}/{file}")]);
            let candidates = of_split.into_iter().flatten().chain([format!("images/{file}"), file.to_owned()]);
            images.push(Found {
                path: existing(&root, candidates.map(PathBuf::from)),
                name: file.to_owned(),
                findings: vec![finding(label)],
                patient_id: patient(patient_id, source),
                source: Some(source.unwrap_or("COVIDx").to_owned()),
                split,
                ..Found::default()
            });
        }
        if misspelt > 0 {
            notes.push(format!("{}: the source `rnsa` was read as `rsna`, {misspelt} times", list.display()));
        }
        if let Some(first) = unreadable.first() {
            notes.push(format!(
                "{}: {} lines are not `patientid filename label [source]` and were passed over, the first being line {first}",
                list.display(),
                unreadable.len()
            ));
        }
    }
    if images.iter().any(|image| image.source.as_deref() == Some("rsna")) {
        notes.push(
            "images from rsna have an id each, which is no patient's: whether their patients are disjoint is not provable"
                .to_owned(),
        );
    }
    let negative = images.iter().filter(|image| image.findings[0] == "COVID-19 negative").count();
    if negative > 0 {
        notes.push(format!(
            "{} `negative`, which in these lists is normal or another pneumonia: no class of the default rules; rules of your \
             own can name `COVID-19 negative`",
            counted(negative, "image is", "images are")
        ));
    }
    Ok(Collection { table: lists.first().cloned().unwrap_or_else(|| root.clone()), root, images, notes })
}

/// The finding that a label stands for.
fn finding(label: &str) -> String {
    match label.to_lowercase().as_str() {
        "positive" => "COVID-19".to_owned(),
        "negative" => "COVID-19 negative".to_owned(),
        _ => label.to_owned(),
    }
}

/// The patient under the name that the source's own importer gives, so that merged sources agree; `None` where the list
/// has an id for each image.
fn patient(id: &str, source: Option<&str>) -> Option<String> {
    match source {
        Some("rsna") => None,
        Some("cohen") => Some(format!("{}-{id}", Kind::CovidChestxray)),
        Some("actmed") => Some(format!("{}-{id}", Kind::Actualmed)),
        Some("fig1") => Some(super::cohen::figure1_patient(id)),
        other => Some(format!("{}-{id}", other.unwrap_or("covidx"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_from_the_right() {
        let line = |text| parse_covidx_line(text).map(|line| (line.patient_id, line.file, line.label, line.source));
        assert_eq!(line("3 a.jpeg pneumonia cohen"), Some(("3", "a.jpeg", "pneumonia", Some("cohen"))));
        assert_eq!(
            line("419639-003251 M-0.png positive ricord"),
            Some(("419639-003251", "M-0.png", "positive", Some("ricord")))
        );
        assert_eq!(line("a b c.png COVID-19 bimcv\r"), Some(("a b", "c.png", "COVID-19", Some("bimcv"))));
        assert_eq!(line("a b c.png normal"), Some(("a b", "c.png", "normal", None)));
        assert_eq!(line("7 c.png normal"), Some(("7", "c.png", "normal", None)));
        for text in ["", "normal", "c.png normal", "7 c.png healthy", "7 c.png healthy rsna", " c.png normal rsna"] {
            assert_eq!(line(text), None, "{text}");
        }
    }
}
