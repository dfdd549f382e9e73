//! Tables of comma-separated values: encodings, line ends, quotes, and where in the file a row stands.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use csv::{ErrorKind, Position, ReaderBuilder, StringRecord, Trim};

use crate::encoding;
use crate::error::DataError;
use crate::wording::{counted, listed};

/// A table that is read.
pub(crate) struct Table {
    file: PathBuf,
    header: StringRecord,
    records: Vec<StringRecord>,
    /// The line of each record; a quoted field may hold line ends.
    lines: Vec<u64>,
    /// What the user should know and what is no error.
    pub warnings: Vec<String>,
}

/// A row of a table.
#[derive(Clone, Copy)]
pub(crate) struct Record<'a> {
    /// Its line in the file, the header being line 1.
    pub line: u64,
    fields: &'a StringRecord,
}

impl<'a> Record<'a> {
    /// The field without space around it; `None` where it is empty, or where there is no such column.
    pub fn get(&self, column: Option<usize>) -> Option<&'a str> {
        self.fields.get(column?).map(str::trim).filter(|text| !text.is_empty())
    }

    /// The field as `parse` understands it; where it does not, the line is noted in `strange`.
    pub fn read<T>(
        &self,
        column: Option<usize>,
        parse: impl Fn(&str) -> Option<T>,
        strange: &mut Vec<u64>,
    ) -> Option<T> {
        let value = parse(self.get(column)?);
        if value.is_none() {
            strange.push(self.line);
        }
        value
    }
}

impl Table {
    /// Reads a table that somebody else publishes: rows may be shorter or longer than the header, with a warning.
    pub fn read(file: &Path) -> Result<Table, DataError> {
        let bytes = fs::read(file).map_err(|source| DataError::Unreadable { path: file.to_owned(), source })?;
        Table::parse(file, &bytes, false)
    }

    /// Reads the bytes of a table; a `strict` one has as many fields in each row as in the header, another gives a
    /// warning where it has not.
    pub fn parse(file: &Path, bytes: &[u8], strict: bool) -> Result<Table, DataError> {
        let unreadable = |detail: String| DataError::TableUnreadable { table: file.to_owned(), detail };
        let Some((text, latin)) = encoding::decode(bytes) else {
            return Err(unreadable("is UTF-16, which spreadsheets call Unicode text; save it as CSV in UTF-8".into()));
        };
        let mut reader = ReaderBuilder::new().trim(Trim::Headers).flexible(!strict).from_reader(text.as_bytes());
        let mut lines = Lines { text: text.as_bytes(), position: 0, line: 1 };
        let mut describe = |error: csv::Error| {
            let mut line = |position: &Option<Position>| lines.at(position.as_ref().map_or(0, Position::byte));
            unreadable(match error.kind() {
                ErrorKind::UnequalLengths { pos, expected_len, len } => {
                    format!("line {} has {len} columns, the header has {expected_len}", line(pos))
                }
                _ => error.to_string(),
            })
        };
        let header = reader.headers().map_err(&mut describe)?.clone();
        let records = reader.records().collect::<Result<Vec<_>, _>>().map_err(&mut describe)?;
        let lines: Vec<u64> =
            records.iter().map(|record| lines.at(record.position().map_or(0, Position::byte))).collect();
        let mut warnings = Vec::new();
        if latin {
            warnings.push(format!("{}: is not UTF-8 and was read as ISO-8859-1", file.display()));
        }
        let uneven: Vec<u64> = records
            .iter()
            .zip(&lines)
            .filter(|(record, _)| record.len() != header.len())
            .map(|(_, line)| *line)
            .collect();
        let mut table = Table { file: file.to_owned(), header, records, lines, warnings };
        let differ = "more or fewer columns than the header";
        table.warn_of(&uneven, &format!("row has {differ}"), &format!("rows have {differ}"));
        Ok(table)
    }

    /// Warns of rows, which stand in these lines, in the words for one and for several; not where there are none.
    pub fn warn_of(&mut self, lines: &[u64], one: &str, several: &str) {
        let place = match lines {
            [] => return,
            [line] => format!("in line {line}"),
            [first, ..] => format!("the first in line {first}"),
        };
        let count = counted(lines.len(), one, several);
        self.warnings.push(format!("{}: {count}, {place}", self.file.display()));
    }

    /// Counts rows whose sex could not be read.
    pub fn warn_of_sexes(&mut self, lines: &[u64]) {
        self.warn_of(
            lines,
            "entry of the column sex is none of F, M and O and is taken as unknown",
            "entries of the column sex are none of F, M and O and are taken as unknown",
        );
    }

    /// Warns of ages that [`Record::read`] noted.
    pub fn warn_of_ages(&mut self, lines: &[u64]) {
        self.warn_of(lines, "age cannot be and is taken as unknown", "ages cannot be and are taken as unknown");
    }

    /// The rows in order.
    pub fn records(&self) -> impl Iterator<Item = Record<'_>> {
        self.records.iter().zip(&self.lines).map(|(fields, &line)| Record { line, fields })
    }

    /// The position of a column, whatever its case; the first of these names that there is.
    pub fn column(&self, names: &[&str]) -> Option<usize> {
        names.iter().find_map(|name| self.header.iter().position(|column| column.eq_ignore_ascii_case(name)))
    }

    /// As [`Table::column`], where there must be one.
    pub fn require(&self, names: &[&str]) -> Result<Option<usize>, DataError> {
        match self.column(names) {
            None => Err(self.columns_error(format!("no column `{}`", names[0]), format!("the column `{}`", names[0]))),
            found => Ok(found),
        }
    }

    /// How often a column stands in the header.
    pub fn count(&self, name: &str) -> usize {
        self.header.iter().filter(|column| *column == name).count()
    }

    /// The names of the columns.
    pub fn header(&self) -> impl Iterator<Item = &str> {
        self.header.iter()
    }

    /// An error about the columns.
    pub fn columns_error(&self, problem: String, expected: String) -> DataError {
        let found: BTreeSet<String> = self.header.iter().map(str::to_owned).collect();
        let separated_otherwise =
            self.header.len() == 1 && [';', '\t'].iter().any(|separator| self.header[0].contains(*separator));
        let hint = if separated_otherwise { "; save the table with commas between the columns" } else { "" };
        DataError::TableColumns {
            table: self.file.clone(),
            problem,
            found: listed(&found, 12),
            expected: expected + hint,
        }
    }

    /// An error about a row.
    pub fn row_error(&self, record: Record<'_>, problem: String) -> DataError {
        DataError::TableRow { table: self.file.clone(), line: record.line, problem }
    }
}

/// Counts lines up to positions that only grow. The reader's own line numbers are one too small behind CRLF, because
/// the record starts for it at the line feed.
struct Lines<'a> {
    text: &'a [u8],
    position: usize,
    line: u64,
}

impl Lines<'_> {
    /// The line of the record that the reader placed at byte `position`.
    fn at(&mut self, position: u64) -> u64 {
        let rest = self.text.get(position as usize..).unwrap_or_default();
        let blank = rest.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let start = self.text.len() - rest.len() + blank;
        let passed = self.text.get(self.position..start).unwrap_or_default();
        self.line += passed.iter().filter(|&&byte| byte == b'\n').count() as u64;
        self.position = start.max(self.position);
        self.line
    }
}
