//! `manifest.csv`: patient, finding and source of the images that stand in the folders.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use csv::{ErrorKind, ReaderBuilder, StringRecord, Trim};

use crate::error::DataError;
use crate::manifest::{Manifest, Split, listed};

/// Name of the table, in the data set's folder.
pub(crate) const FILE_NAME: &str = "manifest.csv";

/// The columns that are read.
const COLUMNS: [&str; 6] = ["path", "split", "label", "finding", "patient_id", "source"];

/// Adds what the table knows to the manifest's rows. Every row of the table must be the row of an image, in the split
/// and class that its folder says; images that the table does not name stay unknown, with a warning.
pub(crate) fn annotate(manifest: &mut Manifest, table: &Path) -> Result<(), DataError> {
    let text = fs::read(table).map_err(|source| DataError::Unreadable { path: table.to_owned(), source })?;
    let unreadable = |error: csv::Error| describe(table, &text, error);
    // The reader skips a byte order mark and takes both kinds of line ends.
    let mut reader = ReaderBuilder::new().trim(Trim::Headers).from_reader(text.as_slice());
    let columns = columns(table, reader.headers().map_err(unreadable)?)?;
    let row_of: HashMap<PathBuf, usize> =
        manifest.rows.iter().enumerate().map(|(index, row)| (row.path.clone(), index)).collect();
    // The position in the table of each row's record.
    let mut named: HashMap<usize, u64> = HashMap::new();

    for record in reader.records() {
        let record = record.map_err(unreadable)?;
        let position = record.position().map_or(0, csv::Position::byte);
        let wrong =
            |problem: String| DataError::TableRow { table: table.to_owned(), line: line_at(&text, position), problem };
        let field = |column: &str| {
            let text = record.get(*columns.get(column)?)?.trim();
            (!text.is_empty()).then_some(text)
        };

        let path = field("path").ok_or_else(|| wrong("the path is empty; name the image or remove the row".into()))?;
        let relative = path.strip_prefix("./").unwrap_or(path);
        let Some(&index) = row_of.get(Path::new(relative)) else {
            return Err(wrong(format!(
                "`{path}` is no image of this data set; expected a path such as `{}`, relative to the table; \
                 add the file or remove the row",
                manifest.rows[0].path.display()
            )));
        };
        if let Some(first) = named.insert(index, position) {
            let first = line_at(&text, first);
            return Err(wrong(format!("`{path}` stands in line {first} already; remove one of the two rows")));
        }
        let row = &mut manifest.rows[index];
        if let Some(text) = field("split") {
            let split = match text {
                "val" | "valid" => Some(Split::Validation),
                other => other.parse().ok(),
            };
            if split != Some(row.split) {
                return Err(wrong(format!(
                    "split `{text}`, but `{path}` lies in the split `{}`; correct the table or move the file",
                    row.split
                )));
            }
        }
        if let Some(text) = field("label")
            && text != manifest.classes[row.label]
        {
            return Err(wrong(format!(
                "label `{text}`, but `{path}` lies in the folder of the class `{}`; correct the table or move the file",
                manifest.classes[row.label]
            )));
        }
        row.finding = field("finding").map(str::to_owned);
        row.patient_id = field("patient_id").map(str::to_owned);
        row.source = field("source").map(str::to_owned);
    }

    let unnamed = manifest.rows.len() - named.len();
    if unnamed > 0 {
        manifest.warnings.push(format!(
            "{}: does not name {unnamed} of {} images; their patients are unknown",
            table.display(),
            manifest.rows.len()
        ));
    }
    Ok(())
}

/// The line of the record that the reader placed at byte `position`. The reader's own line numbers are one too small
/// behind CRLF, because the record starts for it at the line feed.
fn line_at(text: &[u8], position: u64) -> u64 {
    let rest = text.get(position as usize..).unwrap_or_default();
    let blank = rest.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    let start = text.len() - rest.len() + blank;
    1 + text[..start].iter().filter(|&&byte| byte == b'\n').count() as u64
}

fn describe(table: &Path, text: &[u8], error: csv::Error) -> DataError {
    let line = |position: &Option<csv::Position>| line_at(text, position.as_ref().map_or(0, csv::Position::byte));
    let detail = match error.kind() {
        ErrorKind::UnequalLengths { pos, expected_len, len } => {
            format!("line {} has {len} columns, the header has {expected_len}", line(pos))
        }
        ErrorKind::Utf8 { pos, .. } => format!("line {} is not UTF-8", line(pos)),
        _ => error.to_string(),
    };
    DataError::TableUnreadable { table: table.to_owned(), detail }
}

/// Position of each column that is read and present.
fn columns(table: &Path, header: &StringRecord) -> Result<HashMap<&'static str, usize>, DataError> {
    let wrong = |problem: String| {
        let found: BTreeSet<String> = header.iter().map(str::to_owned).collect();
        DataError::TableColumns { table: table.to_owned(), problem, found: listed(&found) }
    };
    let mut columns = HashMap::new();
    for name in COLUMNS {
        let mut positions = header.iter().enumerate().filter(|(_, column)| *column == name);
        if let Some((position, _)) = positions.next() {
            columns.insert(name, position);
        }
        if positions.next().is_some() {
            return Err(wrong(format!("the column `{name}` stands there twice")));
        }
    }
    if !columns.contains_key("path") {
        return Err(wrong("no column `path`".to_owned()));
    }
    Ok(columns)
}
