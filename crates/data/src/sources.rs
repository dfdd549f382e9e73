//! Published collections of radiographs where they lie: each has tables of its own, and traps of its own.

mod chexpert;
mod cohen;
mod covidx;
mod mimic;
mod nih;
mod paediatric;
mod rsna;
mod views;

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use crate::error::DataError;
use crate::manifest::Split;
use crate::person::Sex;
use crate::table::Table;

pub use covidx::{CovidxLine, parse_covidx_line};
pub(crate) use views::out_of_scope;

/// A published collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// COVIDx lists, `train*.txt` and `test*.txt`, versions A and B.
    Covidx,
    /// ieee8023/covid-chestxray-dataset, early and late columns.
    CovidChestxray,
    /// Figure 1 COVID-19 Chest X-ray Dataset Initiative.
    Figure1,
    /// Actualmed COVID-19 Chest X-ray Dataset Initiative.
    Actualmed,
    /// RSNA Pneumonia Detection Challenge.
    Rsna,
    /// NIH ChestX-ray14.
    Nih,
    /// CheXpert, full or small.
    Chexpert,
    /// MIMIC-CXR-JPG.
    Mimic,
    /// Kermany's paediatric radiographs, as Kaggle has them.
    Paediatric,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 9] = [
        Kind::Covidx,
        Kind::CovidChestxray,
        Kind::Figure1,
        Kind::Actualmed,
        Kind::Rsna,
        Kind::Nih,
        Kind::Chexpert,
        Kind::Mimic,
        Kind::Paediatric,
    ];

    /// The name on the command line, and the beginning of patient ids.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Covidx => "covidx",
            Kind::CovidChestxray => "covid-chestxray",
            Kind::Figure1 => "figure1",
            Kind::Actualmed => "actualmed",
            Kind::Rsna => "rsna",
            Kind::Nih => "nih",
            Kind::Chexpert => "chexpert",
            Kind::Mimic => "mimic",
            Kind::Paediatric => "paediatric",
        }
    }

    /// Which of them a folder holds, by the names and headers of its files; `None` where it holds none.
    ///
    /// # Errors
    /// [`DataError::Unreadable`].
    pub fn detect(dir: &Path) -> Result<Option<Kind>, DataError> {
        for kind in Kind::ALL {
            let found = match kind {
                Kind::Covidx => !covidx::lists(dir)?.is_empty(),
                Kind::CovidChestxray | Kind::Figure1 | Kind::Actualmed => cohen::kind(dir)? == Some(kind),
                Kind::Rsna => rsna::is_here(dir),
                Kind::Nih => nih::table(dir).is_some(),
                Kind::Chexpert => chexpert::is_here(dir)?,
                Kind::Mimic => mimic::is_here(dir)?,
                Kind::Paediatric => paediatric::is_here(dir)?,
            };
            if found {
                return Ok(Some(kind));
            }
        }
        Ok(None)
    }

    /// Everything that the tables in the folder (for COVIDx, also the list itself) say.
    pub(crate) fn collect(self, place: &Path) -> Result<Collection, DataError> {
        match self {
            Kind::Covidx => covidx::collect(place),
            Kind::CovidChestxray | Kind::Figure1 | Kind::Actualmed => cohen::collect(place, self),
            Kind::Rsna => rsna::collect(place),
            Kind::Nih => nih::collect(place),
            Kind::Chexpert => chexpert::collect(place),
            Kind::Mimic => mimic::collect(place),
            Kind::Paediatric => paediatric::collect(place),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Kind {
    type Err = DataError;

    fn from_str(text: &str) -> Result<Kind, DataError> {
        Kind::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(|| DataError::Setting {
            setting: "the kind of data set",
            found: text.to_owned(),
            expected: "covidx, covid-chestxray, figure1, actualmed, rsna, nih, chexpert, mimic or paediatric",
        })
    }
}

/// What the tables of a collection say, before rules make classes of it.
pub(crate) struct Collection {
    /// The folder that paths are relative to.
    pub root: PathBuf,
    /// The table that messages name.
    pub table: PathBuf,
    /// Every image that the tables name, each once for each time that they do.
    pub images: Vec<Found>,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// An image as the tables describe it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Found {
    /// Relative to the root; `None` where no such file is there.
    pub path: Option<PathBuf>,
    /// What the table calls it.
    pub name: String,
    /// Findings that are present; parts of one are separated by `/`, the general before the special.
    pub findings: Vec<String>,
    /// Findings of which the table says that they are uncertain.
    pub uncertain: Vec<String>,
    pub patient_id: Option<String>,
    pub source: Option<String>,
    pub split: Option<Split>,
    pub view: Option<String>,
    pub modality: Option<String>,
    pub age: Option<u16>,
    pub sex: Option<Sex>,
    /// Whether the table's row names no file, so that `name` is the row's.
    pub nameless: bool,
}

impl Found {
    /// A row that names no file.
    fn nameless(table: &Path, line: u64) -> Found {
        let table = table.file_name().unwrap_or_default().to_string_lossy();
        Found { name: format!("{table}, line {line}"), nameless: true, ..Found::default() }
    }
}

/// The first of these paths, relative to `root`, that is a file. A table has no say over files outside of its folder: what
/// is absolute, or leads upwards, is none.
fn existing(root: &Path, candidates: impl IntoIterator<Item = PathBuf>) -> Option<PathBuf> {
    let is_inside =
        |path: &PathBuf| path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    candidates.into_iter().filter(is_inside).find(|path| root.join(path).is_file())
}

/// The table, where one of these names is there.
fn first_table(dir: &Path, names: &[&str]) -> Option<PathBuf> {
    names.iter().map(|name| dir.join(name)).find(|path| path.is_file())
}

/// The columns of a table, without reading the rest; empty where it cannot be read as text.
fn header_of(file: &Path) -> Result<Vec<String>, DataError> {
    use std::io::Read;
    let unreadable = |source| DataError::Unreadable { path: file.to_owned(), source };
    let mut start = Vec::new();
    std::fs::File::open(file).map_err(unreadable)?.take(1 << 16).read_to_end(&mut start).map_err(unreadable)?;
    let end = start.iter().position(|&byte| byte == b'\n').unwrap_or(start.len());
    let table = Table::parse(file, &start[..end], false);
    Ok(table.map(|table| table.header().map(str::to_owned).collect()).unwrap_or_default())
}

/// The names of the files in a folder, sorted; nothing where it cannot be listed.
fn file_names(dir: &Path) -> Result<Vec<String>, DataError> {
    let unreadable = |source| DataError::Unreadable { path: dir.to_owned(), source };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(unreadable)? {
        names.extend(entry.map_err(unreadable)?.file_name().into_string());
    }
    names.sort();
    Ok(names)
}
