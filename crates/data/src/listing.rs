//! Our own table of images, `path,label` and what else is known: read as a data set, read beside folders, written.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::error::DataError;
use crate::manifest::{Manifest, Row, Split};
use crate::person::{Sex, age_in_years};
use crate::table::Table;

/// Name of the table, in a data set's folder.
pub(crate) const FILE_NAME: &str = "manifest.csv";

/// The columns, in the order in which they are written.
const COLUMNS: [&str; 9] = ["path", "split", "label", "finding", "patient_id", "source", "view", "age", "sex"];

/// A table as it says of itself; whether its images exist is another question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The rows in the order of the table, each path once.
    pub entries: Vec<Entry>,
    /// Rows that stood there twice, ages that cannot be, and the like.
    pub warnings: Vec<String>,
}

/// A row of the table. What is empty there is `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Line in the table, the header being line 1.
    pub line: u64,
    /// The file, relative to the table's folder, without a leading `./`; or absolute.
    pub path: PathBuf,
    /// The split, where the table names one.
    pub split: Option<Split>,
    /// The class.
    pub label: Option<String>,
    /// See [`Row::finding`].
    pub finding: Option<String>,
    /// See [`Row::patient_id`].
    pub patient_id: Option<String>,
    /// See [`Row::source`].
    pub source: Option<String>,
    /// See [`Row::view`].
    pub view: Option<String>,
    /// See [`Row::age`].
    pub age: Option<u16>,
    /// See [`Row::sex`].
    pub sex: Option<Sex>,
}

impl Listing {
    /// Reads the bytes of a table; `file` is for messages. A byte order mark, both kinds of line ends, quoted fields
    /// and columns in any order are fine; further columns are ignored; what is not UTF-8 is read as ISO-8859-1, with a
    /// warning. A row that stands there twice counts once, with a warning.
    ///
    /// # Errors
    /// [`DataError::TableUnreadable`], [`DataError::TableColumns`] where there is no column `path` or one that is read
    /// stands there twice, and [`DataError::TableRow`] for a row without a path, with an unknown split, or with a path
    /// of which another row says something else.
    pub fn parse(file: &Path, bytes: &[u8]) -> Result<Listing, DataError> {
        let mut table = Table::parse(file, bytes, true)?;
        let expected =
            || "path and label, and where known split, finding, patient_id, source, view, age, sex".to_owned();
        if let Some(name) = COLUMNS.iter().find(|name| table.count(name) > 1) {
            return Err(table.columns_error(format!("the column `{name}` stands there twice"), expected()));
        }
        let columns = COLUMNS.map(|name| table.header().position(|column| column == name));
        let [path, split, label, finding, patient_id, source, view, age, sex] = columns;
        if path.is_none() {
            return Err(table.columns_error("no column `path`".to_owned(), expected()));
        }
        let mut entries: Vec<Entry> = Vec::new();
        let mut place: HashMap<PathBuf, usize> = HashMap::new();
        let (mut repeated, mut ages, mut sexes) = (Vec::new(), Vec::new(), Vec::new());
        for record in table.records() {
            let text = |column| record.get(column).map(str::to_owned);
            let Some(given) = record.get(path) else {
                let problem = "the path is empty; name the image or remove the row";
                return Err(table.row_error(record, problem.to_owned()));
            };
            let split = match record.get(split) {
                None => None,
                Some("val" | "valid" | "validate") => Some(Split::Validation),
                Some(name) => Some(name.parse().map_err(|unknown| {
                    table.row_error(record, format!("{unknown}, or nothing where there is none yet"))
                })?),
            };
            let entry = Entry {
                line: record.line,
                path: PathBuf::from(given.strip_prefix("./").unwrap_or(given)),
                split,
                label: text(label),
                finding: text(finding),
                patient_id: text(patient_id),
                source: text(source),
                view: text(view),
                age: record.read(age, age_in_years, &mut ages),
                sex: record.read(sex, Sex::parse, &mut sexes),
            };
            match place.get(&entry.path) {
                None => {
                    place.insert(entry.path.clone(), entries.len());
                    entries.push(entry);
                }
                Some(&first) => {
                    let line = entries[first].line;
                    if (Entry { line, ..entry }) != entries[first] {
                        let problem =
                            format!("`{given}` stands in line {line} already, with other values; remove one row");
                        return Err(table.row_error(record, problem));
                    }
                    repeated.push(record.line);
                }
            }
        }
        table.warn_of(&repeated, "row stands there twice and counts once", "rows stand there twice and count once");
        table.warn_of_ages(&ages);
        table.warn_of_sexes(&sexes);
        Ok(Listing { entries, warnings: table.warnings })
    }

    /// As [`Listing::parse`], from the file.
    ///
    /// # Errors
    /// As [`Listing::parse`], and [`DataError::Unreadable`].
    pub fn read(file: &Path) -> Result<Listing, DataError> {
        let bytes = fs::read(file).map_err(|source| DataError::Unreadable { path: file.to_owned(), source })?;
        Listing::parse(file, &bytes)
    }

    /// The data set of the table alone: every row needs a label.
    pub(crate) fn into_manifest(self, file: &Path) -> Result<Manifest, DataError> {
        let classes: BTreeSet<&String> = self.entries.iter().filter_map(|entry| entry.label.as_ref()).collect();
        let classes: Vec<String> = classes.into_iter().cloned().collect();
        let mut rows = Vec::with_capacity(self.entries.len());
        for entry in self.entries {
            let Some(label) = entry.label.as_ref().and_then(|label| classes.binary_search(label).ok()) else {
                let problem =
                    "no label; the table needs a column `label`, and in it the class of each image".to_owned();
                return Err(DataError::TableRow { table: file.to_owned(), line: entry.line, problem });
            };
            let split = entry.split.unwrap_or(Split::Unassigned);
            let mut row = Row::new(entry.path.clone(), label, split);
            entry.describe(&mut row);
            rows.push(row);
        }
        Manifest::of_table(file, classes, rows, self.warnings)
    }
}

impl Entry {
    /// Puts what the table knows into the row of its image.
    fn describe(self, row: &mut Row) {
        row.finding = self.finding;
        row.patient_id = self.patient_id;
        row.source = self.source;
        row.view = self.view;
        row.age = self.age;
        row.sex = self.sex;
    }
}

/// Adds what the table knows to the rows of a manifest of folders. Every row of the table must be the row of an image,
/// in the split and class that its folder says; images that the table does not name stay as they are, with a warning.
pub(crate) fn annotate(manifest: &mut Manifest, file: &Path) -> Result<(), DataError> {
    let listing = Listing::read(file)?;
    manifest.warnings.extend(listing.warnings);
    let row_of: HashMap<PathBuf, usize> =
        manifest.rows.iter().enumerate().map(|(index, row)| (row.path.clone(), index)).collect();
    let named = listing.entries.len();
    for entry in listing.entries {
        let path = entry.path.display();
        let line = entry.line;
        let wrong = |problem: String| DataError::TableRow { table: file.to_owned(), line, problem };
        let Some(&index) = row_of.get(&entry.path) else {
            return Err(wrong(format!(
                "`{path}` is no image of this data set; expected a path such as `{}`, relative to the table; \
                 add the file or remove the row",
                manifest.rows[0].path.display()
            )));
        };
        let row = &mut manifest.rows[index];
        if let Some(split) = entry.split.filter(|split| *split != row.split) {
            return Err(wrong(format!(
                "split `{split}`, but `{path}` lies in the split `{}`; correct the table or move the file",
                row.split
            )));
        }
        let class = &manifest.classes[row.label];
        if let Some(label) = entry.label.as_ref().filter(|label| *label != class) {
            return Err(wrong(format!(
                "label `{label}`, but `{path}` lies in the folder of the class `{class}`; correct the table or move the file",
            )));
        }
        entry.describe(row);
    }
    let unnamed = manifest.rows.len() - named;
    if unnamed > 0 {
        manifest.warnings.push(format!(
            "{}: does not name {unnamed} of {} images; of these is known what their files say",
            file.display(),
            manifest.rows.len()
        ));
    }
    Ok(())
}

/// Writes the table of a manifest. `path_of` gives the path of a row as it is to stand there; columns that know nothing
/// are left out.
///
/// # Errors
/// What the writer says.
pub fn write_table(manifest: &Manifest, out: impl Write, path_of: impl Fn(&Row) -> String) -> io::Result<()> {
    let known = |value: &Option<String>| value.clone().unwrap_or_default();
    let fields = |row: &Row| -> [String; COLUMNS.len()] {
        [
            path_of(row),
            if row.split == Split::Unassigned { String::new() } else { row.split.to_string() },
            manifest.classes[row.label].clone(),
            known(&row.finding),
            known(&row.patient_id),
            known(&row.source),
            known(&row.view),
            row.age.map(|age| age.to_string()).unwrap_or_default(),
            row.sex.map(|sex| sex.to_string()).unwrap_or_default(),
        ]
    };
    let rows: Vec<_> = manifest.rows.iter().map(fields).collect();
    let used: Vec<usize> =
        (0..COLUMNS.len()).filter(|&column| column < 1 || rows.iter().any(|row| !row[column].is_empty())).collect();
    let mut writer = csv::Writer::from_writer(out);
    writer.write_record(used.iter().map(|&column| COLUMNS[column]))?;
    for row in &rows {
        writer.write_record(used.iter().map(|&column| &row[column]))?;
    }
    writer.flush()
}
