//! Published collections and tables of our own become one data set: rules give classes, and what is left out is
//! counted.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::error::DataError;
use crate::listing;
use crate::manifest::{Manifest, MissingImages, Row, Split};
use crate::rules::Rules;
use crate::sources::{Collection, Found, Kind, out_of_scope};
use crate::wording::{counted, listed};

/// A data set to import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// What it is; `None` for a data set that [`Manifest::open`] knows as ours: a table, or a folder of split folders.
    /// Its labels, patients and splits stay as they are.
    pub kind: Option<Kind>,
    /// The folder, or the table.
    pub place: PathBuf,
}

impl Source {
    /// Finds out what lies there. A folder with a `manifest.csv` is ours, whatever else is in it.
    ///
    /// # Errors
    /// [`DataError::Unreadable`].
    pub fn detect(place: &Path) -> Result<Source, DataError> {
        let is_list =
            |path: &Path| path.is_file() && path.extension().is_some_and(|end| end.eq_ignore_ascii_case("txt"));
        let kind = match place {
            place if is_list(place) => Some(Kind::Covidx),
            place if place.is_dir() && !place.join(listing::FILE_NAME).is_file() => Kind::detect(place)?,
            _ => None,
        };
        Ok(Source { kind, place: place.to_owned() })
    }
}

/// An image that did not become a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// Number of its source, from 0.
    pub source: usize,
    /// What the source calls it.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// What became of some sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The data set.
    pub manifest: Manifest,
    /// Images that each source named, repetitions included.
    pub named: Vec<usize>,
    /// Images of each source that became rows.
    pub kept: Vec<usize>,
    /// Everything else: each named image is a row or stands here.
    pub dropped: Vec<Dropped>,
}

impl Imported {
    /// How many images of a source were left out for each reason, most frequent first.
    pub fn reasons(&self, source: usize) -> Vec<(&str, usize)> {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for dropped in self.dropped.iter().filter(|dropped| dropped.source == source) {
            *counts.entry(&dropped.reason).or_default() += 1;
        }
        let mut counts: Vec<(&str, usize)> = counts.into_iter().collect();
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        counts
    }
}

/// An image with its class, on its way into the manifest.
struct Item {
    path: PathBuf,
    class: String,
    row: Row,
}

/// Reads the tables of the sources, gives every image the class that the rules say, and leaves out what is no frontal
/// radiograph, has no class, is not there, repeats another row, or contradicts one. Patient ids begin with the name of
/// their source, so that numbers of different sources do not meet; COVIDx's have the names of the collections that it
/// was made from. Those of our own tables stay as they are: one that stands in several is taken for one patient, with a
/// warning, because two tables may be parts of one hospital or two hospitals that both count from 1. Nothing is decoded.
///
/// # Errors
/// [`DataError::NothingImported`] where nothing is left, [`DataError::SeveralLists`], [`DataError::SourceFileMissing`],
/// and any variant about files and tables.
pub fn import(sources: &[Source], rules: &Rules) -> Result<Imported, DataError> {
    import_watched(sources, rules, |_, _| {})
}

/// As [`import()`]. Where headers of many files have to be read, `progress` hears after each how many of how many were, from
/// any thread; for each source anew.
///
/// # Errors
/// As [`import()`].
pub fn import_watched(
    sources: &[Source],
    rules: &Rules,
    progress: impl Fn(usize, usize) + Sync,
) -> Result<Imported, DataError> {
    let mut all = Merged::default();
    for source in sources {
        match source.kind {
            Some(kind) => all.add_published(kind.collect(&source.place)?, rules)?,
            None => all.add_ours(Manifest::open_watched(&source.place, MissingImages::Refuse, &progress)?)?,
        }
    }
    let kinds: BTreeSet<Kind> = sources.iter().filter_map(|source| source.kind).collect();
    for (one, other, why) in OVERLAPS {
        if kinds.contains(&one) && kinds.contains(&other) {
            all.warnings.push(format!("{one} and {other} hold the same radiographs: {why}"));
        }
    }
    for (finding, class) in rules.findings() {
        if *rules != Rules::default() && !all.findings.iter().any(|found| Rules::names(finding, found)) {
            all.warnings.push(format!("rules: no image has the finding `{finding}` of the class `{class}`"));
        }
    }
    all.finish(sources)
}

/// Collections that were made from one another.
const OVERLAPS: [(Kind, Kind, &str); 6] = [
    (Kind::Rsna, Kind::Nih, "RSNA's were taken from NIH's, under other names"),
    (Kind::Covidx, Kind::Rsna, "COVIDx was made from RSNA's, under the same names"),
    (Kind::Covidx, Kind::CovidChestxray, "COVIDx was made from it, and its patients have the same ids here"),
    (Kind::Covidx, Kind::Figure1, "COVIDx was made from it, and its patients have the same ids here"),
    (Kind::Covidx, Kind::Actualmed, "COVIDx was made from it, and its patients have the same ids here"),
    (Kind::Covidx, Kind::Nih, "COVIDx was made from RSNA's, which were taken from NIH's"),
];

#[derive(Default)]
struct Merged {
    items: Vec<(usize, Item)>,
    named: Vec<usize>,
    dropped: Vec<Dropped>,
    findings: BTreeSet<String>,
    warnings: Vec<String>,
    table: Option<PathBuf>,
    /// The patients of our own tables, with the number of tables that they stand in.
    own_patients: BTreeMap<String, usize>,
    own_tables: Vec<String>,
}

impl Merged {
    fn add_published(&mut self, collection: Collection, rules: &Rules) -> Result<(), DataError> {
        let Collection { root, table, images, notes } = collection;
        let source = self.named.len();
        self.named.push(images.len());
        self.warnings.extend(notes);
        self.table.get_or_insert(table);
        let root = canonical(&root)?;
        let mut seen: HashMap<PathBuf, usize> = HashMap::new();
        let mut contradicted: BTreeMap<usize, String> = BTreeMap::new();
        let repeats: Vec<bool> = images
            .iter()
            .enumerate()
            .map(|(index, image)| {
                let Some(path) = &image.path else { return false };
                let first = *seen.entry(path.clone()).or_insert(index);
                if first != index && images[first] != *image {
                    let reason = "two rows say different things of it".to_owned();
                    contradicted.extend([(first, reason.clone()), (index, reason)]);
                }
                first != index
            })
            .collect();
        for (index, image) in images.into_iter().enumerate() {
            self.findings.extend(image.findings.iter().chain(&image.uncertain).cloned());
            let verdict = match contradicted.remove(&index) {
                Some(reason) => Err(reason),
                None if image.nameless => Err("its row names no file".to_owned()),
                None if repeats[index] => Err("repeats an earlier row".to_owned()),
                None => class_of(&image, rules),
            };
            match (verdict, image.path.clone()) {
                (Ok(class), Some(path)) => {
                    let item = Item { path: root.join(path), class, row: row(image) };
                    self.items.push((source, item));
                }
                (Ok(_), None) => self.drop(source, image.name, "the image file is not there".to_owned()),
                (Err(reason), _) => self.drop(source, image.name, reason),
            }
        }
        Ok(())
    }

    /// A data set of ours: what it says stays.
    fn add_ours(&mut self, manifest: Manifest) -> Result<(), DataError> {
        let source = self.named.len();
        self.named.push(manifest.rows.len());
        let root = canonical(&manifest.root)?;
        self.table.get_or_insert_with(|| manifest.place().to_owned());
        self.own_tables.push(manifest.place().display().to_string());
        let patients: BTreeSet<&String> = manifest.rows.iter().filter_map(|row| row.patient_id.as_ref()).collect();
        for patient in patients {
            *self.own_patients.entry(patient.clone()).or_default() += 1;
        }
        self.warnings.extend(manifest.warnings);
        for row in manifest.rows {
            let item = Item { path: root.join(&row.path), class: manifest.classes[row.label].clone(), row };
            self.items.push((source, item));
        }
        Ok(())
    }

    fn drop(&mut self, source: usize, name: String, reason: String) {
        self.dropped.push(Dropped { source, name, reason });
    }

    fn finish(mut self, sources: &[Source]) -> Result<Imported, DataError> {
        let mut paths = BTreeSet::new();
        let mut items = Vec::with_capacity(self.items.len());
        for (source, item) in std::mem::take(&mut self.items) {
            if paths.insert(item.path.clone()) {
                items.push((source, item));
            } else {
                let name = item.path.display().to_string();
                self.drop(source, name, "stands in an earlier source already".to_owned());
            }
        }
        let shared: BTreeSet<String> =
            self.own_patients.iter().filter(|(_, tables)| **tables > 1).map(|(patient, _)| patient.clone()).collect();
        if !shared.is_empty() {
            self.warnings.push(format!(
                "{} in more than one of {}, where the same id is taken for the same patient: {}; where it is not, as where \
                 two hospitals both count from 1, give patients ids of their own in each table",
                counted(shared.len(), "patient stands", "patients stand"),
                self.own_tables.join(", "),
                listed(&shared, 5)
            ));
        }
        let classes: BTreeSet<&String> = items.iter().map(|(_, item)| &item.class).collect();
        let classes: Vec<String> = classes.into_iter().cloned().collect();
        let kept =
            (0..sources.len()).map(|index| items.iter().filter(|(source, _)| *source == index).count()).collect();
        let root = match sources {
            [source] if source.place.is_dir() => Some(source.place.clone()),
            _ => None,
        };
        let common = common_folder(items.iter().map(|(_, item)| item.path.as_path()));
        let base = match &root {
            Some(root) => canonical(root)?,
            None => common.clone(),
        };
        let rows = items.into_iter().map(|(_, item)| Row {
            path: item.path.strip_prefix(&base).map_or(item.path.clone(), Path::to_owned),
            // The classes were gathered from these items a moment ago.
            label: classes.binary_search(&item.class).unwrap_or_default(),
            ..item.row
        });
        let mut manifest = Manifest {
            root: root.unwrap_or(common),
            table: self.table,
            classes: classes.clone(),
            rows: rows.collect(),
            absent_splits: Vec::new(),
            warnings: self.warnings,
        };
        manifest.sort();
        manifest.warnings.extend(telling_sources(&manifest));
        let imported = Imported { manifest, named: self.named, kept, dropped: self.dropped };
        if imported.manifest.rows.is_empty() {
            let reasons: Vec<String> = (0..sources.len())
                .flat_map(|source| imported.reasons(source))
                .take(8)
                .map(|(reason, count)| format!("{count} because {reason}"))
                .collect();
            return Err(DataError::NothingImported {
                place: sources.first().map(|source| source.place.clone()).unwrap_or_default(),
                named: imported.named.iter().sum(),
                reasons: reasons.join(", "),
            });
        }
        Ok(imported)
    }
}

/// The class of an image, or why it is left out.
fn class_of(image: &Found, rules: &Rules) -> Result<String, String> {
    match out_of_scope(image.modality.as_deref(), image.view.as_deref(), rules.frontal_only) {
        Some(reason) => Err(reason),
        None => rules.class_of(&image.findings, &image.uncertain).map(str::to_owned),
    }
}

fn row(image: Found) -> Row {
    Row {
        finding: (!image.findings.is_empty()).then(|| image.findings.join(", ")),
        patient_id: image.patient_id,
        source: image.source,
        view: image.view,
        age: image.age,
        sex: image.sex,
        ..Row::new(PathBuf::new(), 0, image.split.unwrap_or(Split::Unassigned))
    }
}

fn canonical(path: &Path) -> Result<PathBuf, DataError> {
    fs::canonicalize(path).map_err(|source| DataError::Unreadable { path: path.to_owned(), source })
}

/// The deepest folder that holds all of these files.
fn common_folder<'a>(mut paths: impl Iterator<Item = &'a Path>) -> PathBuf {
    let Some(first) = paths.next() else { return PathBuf::from(".") };
    let mut common: Vec<Component<'_>> = first.parent().unwrap_or(first).components().collect();
    for path in paths {
        let same = common.iter().zip(path.components()).take_while(|(a, b)| **a == *b).count();
        common.truncate(same);
    }
    common.into_iter().collect()
}

/// Splits in which the source alone tells the class: a score there says which hospital an image is from.
fn telling_sources(manifest: &Manifest) -> Vec<String> {
    let mut warnings = Vec::new();
    for split in Split::ALL.into_iter().chain([Split::Unassigned]) {
        let mut classes_of: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for row in manifest.rows.iter().filter(|row| row.split == split) {
            let source = row.source.as_deref().unwrap_or("unknown");
            classes_of.entry(source).or_default().insert(&manifest.classes[row.label]);
        }
        let all: BTreeSet<&str> = classes_of.values().flatten().copied().collect();
        if all.len() > 1 && classes_of.values().all(|classes| classes.len() == 1) {
            let pairs: Vec<String> = classes_of
                .iter()
                .map(|(source, classes)| format!("{} from {source}", classes.first().copied().unwrap_or_default()))
                .collect();
            warnings.push(format!(
                "in the {split} images the source alone tells the class ({}): what a model scores there says little",
                pairs.join(", ")
            ));
        }
    }
    warnings
}

impl Manifest {
    /// A published collection where it lies, with the default rules; what was left out is a warning.
    pub(crate) fn of_published(source: Source, kind: Kind) -> Result<Manifest, DataError> {
        let imported = import(std::slice::from_ref(&source), &Rules::default())?;
        let mut summary = format!(
            "{}: {kind}, {} of {} images (classes {})",
            source.place.display(),
            imported.kept[0],
            imported.named[0],
            imported.manifest.classes.join(", ")
        );
        let reasons: Vec<String> =
            imported.reasons(0).into_iter().map(|(reason, count)| format!("{reason}: {count}")).collect();
        if !reasons.is_empty() {
            let more = if reasons.len() > 6 { format!("; {} more reasons", reasons.len() - 6) } else { String::new() };
            let first = &reasons[..reasons.len().min(6)];
            summary += &format!("; left out: {}{more}; `roentgen data import` lists them all", first.join("; "));
        }
        let mut manifest = imported.manifest;
        manifest.warnings.insert(0, summary);
        Ok(manifest)
    }
}
