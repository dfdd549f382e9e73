//! Finds the images of a data set that is laid out as torchvision's ImageFolder, once for each split.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use crate::decode::is_image_file;
use crate::error::DataError;
use crate::listing;
use crate::manifest::{Manifest, Row, Split};
use crate::wording::{counted, listed};

/// Names of the split folders; the first is the one that messages use.
const SPLIT_FOLDERS: [(Split, &[&str]); 3] =
    [(Split::Train, &["train"]), (Split::Validation, &["validation", "val", "valid"]), (Split::Test, &["test"])];

/// Ignored files that a warning names.
const MOST_NAMES: usize = 5;

/// Subfolders of a class folder that are followed; deeper ones are a link that leads back.
const DEEPEST_NESTING: usize = 16;

/// A split that exists: its folder, and the names of its class folders.
struct SplitFolder {
    split: Split,
    name: &'static str,
    classes: BTreeSet<String>,
}

/// Lists splits, classes and images under `root`, and checks that they fit together. Where there are class folders and no
/// split folders, the images are in no split.
pub(crate) fn scan(root: &Path) -> Result<Manifest, DataError> {
    let mut warnings = Vec::new();
    let mut splits = split_folders(root, &mut warnings)?;
    if splits.is_empty() {
        splits.push(class_folders(root, &mut warnings)?);
    }
    let classes: Vec<String> =
        splits.iter().flat_map(|folder| folder.classes.iter().cloned()).collect::<BTreeSet<_>>().into_iter().collect();

    let mut rows = Vec::new();
    let mut missing = Vec::new();
    for folder in &splits {
        for (label, class) in classes.iter().enumerate() {
            let class_folder = Path::new(folder.name).join(class);
            let mut found = Found::default();
            if folder.classes.contains(class) {
                collect(root, &class_folder, 0, &mut found)?;
            }
            if found.images.is_empty() {
                missing.push((folder.split, root.join(&class_folder), class.clone()));
            }
            if !found.others.is_empty() {
                warnings.push(format!(
                    "{}: {} (.png, .jpg, .jpeg, .dcm, .dicom, .ima), ignored: {}",
                    root.join(&class_folder).display(),
                    counted(found.others.len(), "file is no image", "files are no images"),
                    listed(&found.others, MOST_NAMES)
                ));
            }
            // os.walk sorted by folder, then the files of each by name: ImageFolder's order.
            found.images.sort();
            let images = found.images.into_iter().map(|(parent, name)| Path::new(&parent).join(name));
            rows.extend(images.map(|path| Row::new(path, label, folder.split)));
        }
    }
    if rows.is_empty() {
        return Err(DataError::NoImages { root: root.to_owned() });
    }
    for (split, folder, class) in missing {
        // Metrics of a split without a class are undefined, which is an answer; who trains on it asks for every class.
        warnings.push(format!(
            "{}: the {split} split has no images of the class `{class}`; metrics that need them are undefined",
            folder.display()
        ));
    }
    Ok(Manifest { root: root.to_owned(), table: None, classes, rows, warnings, absent_splits: Vec::new() })
}

/// Whether one of the split folders is there.
pub(crate) fn has_splits(root: &Path) -> Result<bool, DataError> {
    let is_split =
        |name: &OsStr| SPLIT_FOLDERS.iter().flat_map(|(_, names)| *names).any(|known| name == OsStr::new(known));
    Ok(visible_entries(root)?.iter().any(|(path, is_folder)| *is_folder && path.file_name().is_some_and(is_split)))
}

/// The split folders that exist, with the names of their class folders; whatever else stands in `root` gives a warning.
fn split_folders(root: &Path, warnings: &mut Vec<String>) -> Result<Vec<SplitFolder>, DataError> {
    let entries = visible_entries(root)?;
    let mut splits: Vec<SplitFolder> = Vec::new();
    let mut others = BTreeSet::new();
    for (path, is_folder) in &entries {
        let name = path.file_name().unwrap_or_default();
        let found = SPLIT_FOLDERS.iter().find_map(|(split, names)| {
            names.iter().find(|known| is_folder & (name == OsStr::new(known))).map(|known| (*split, *known))
        });
        let Some((split, name)) = found else {
            if name != OsStr::new(listing::FILE_NAME) {
                others.insert(name.to_string_lossy().into_owned());
            }
            continue;
        };
        if let Some(first) = splits.iter().find(|other| other.split == split) {
            return Err(DataError::SplitTwice { root: root.to_owned(), first: first.name, second: name });
        }
        splits.push(SplitFolder { split, name, classes: class_names(path, warnings)? });
    }
    if !others.is_empty() && !splits.is_empty() {
        warnings.push(format!(
            "{}: not a part of the data set, ignored: {}",
            root.display(),
            listed(&others, MOST_NAMES)
        ));
    }
    splits.sort_by_key(|folder| folder.split);
    Ok(splits)
}

/// The folders of a data set that has a folder for each class and no splits: at least two with images. A folder of data
/// sets is none.
fn class_folders(root: &Path, warnings: &mut Vec<String>) -> Result<SplitFolder, DataError> {
    let mut classes = class_names(root, warnings)?;
    let no_splits =
        |found: &BTreeSet<String>| Err(DataError::NoSplits { root: root.to_owned(), found: listed(found, MOST_NAMES) });
    for class in classes.clone() {
        if has_splits(&root.join(&class))? {
            return no_splits(&classes);
        }
        let mut found = Found::default();
        collect(root, Path::new(&class), 0, &mut found)?;
        if found.images.is_empty() {
            classes.remove(&class);
        }
    }
    if classes.len() < 2 {
        let entries = visible_entries(root)?;
        let names = entries.iter().filter_map(|(path, _)| path.file_name());
        return no_splits(&names.map(|name| name.to_string_lossy().into_owned()).collect());
    }
    Ok(SplitFolder { split: Split::Unassigned, name: "", classes })
}

fn class_names(split_folder: &Path, warnings: &mut Vec<String>) -> Result<BTreeSet<String>, DataError> {
    let mut classes = BTreeSet::new();
    let mut others = BTreeSet::new();
    for (path, is_folder) in visible_entries(split_folder)? {
        let name = path.file_name().unwrap_or_default();
        if is_folder {
            let name = name.to_str().ok_or_else(|| DataError::NameNotUtf8 { path: path.clone() })?;
            classes.insert(name.to_owned());
        } else {
            others.insert(name.to_string_lossy().into_owned());
        }
    }
    if !others.is_empty() {
        warnings.push(format!(
            "{}: {} beside the class folders, ignored: {}",
            split_folder.display(),
            counted(others.len(), "file stands", "files stand"),
            listed(&others, MOST_NAMES)
        ));
    }
    Ok(classes)
}

/// The files of a class folder.
#[derive(Default)]
struct Found {
    /// Folder relative to the root, and file name: sorted, this is the order of the rows.
    images: Vec<(String, String)>,
    /// Files that are no images.
    others: BTreeSet<String>,
}

/// Collects the files of `folder` (relative to `root`) and of the folders in it.
fn collect(root: &Path, folder: &Path, depth: usize, found: &mut Found) -> Result<(), DataError> {
    if depth > DEEPEST_NESTING {
        return Err(DataError::NestedTooDeep { path: root.join(folder), limit: DEEPEST_NESTING });
    }
    for (path, is_folder) in visible_entries(&root.join(folder))? {
        let name = path.file_name().unwrap_or_default();
        if is_folder {
            collect(root, &folder.join(name), depth + 1, found)?;
        } else if is_image_file(&path) {
            let (Some(folder), Some(name)) = (folder.to_str(), name.to_str()) else {
                return Err(DataError::NameNotUtf8 { path });
            };
            found.images.push((folder.to_owned(), name.to_owned()));
        } else {
            found.others.insert(name.to_string_lossy().into_owned());
        }
    }
    Ok(())
}

/// The entries of a folder whose names do not start with a dot, sorted, each with whether it is a folder; links are
/// followed. Hidden ones are what editors, notebooks (`.ipynb_checkpoints`) and file managers leave behind.
fn visible_entries(folder: &Path) -> Result<Vec<(PathBuf, bool)>, DataError> {
    let unreadable = |path: &Path, source| DataError::Unreadable { path: path.to_owned(), source };
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).map_err(|source| unreadable(folder, source))? {
        let path = entry.map_err(|source| unreadable(folder, source))?.path();
        if path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")) {
            continue;
        }
        let metadata = fs::metadata(&path).map_err(|source| unreadable(&path, source))?;
        entries.push((path, metadata.is_dir()));
    }
    entries.sort();
    Ok(entries)
}
