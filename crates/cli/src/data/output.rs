//! Writing a data set's table, wherever it is to lie, and counting what it holds.

use crate::failure::{Failure, Outcome};
use roentgen_data::{Manifest, Row, Split, write_table};
use roentgen_run::directory::write_atomically;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Component, Path, PathBuf};

/// Refuses a name that is not a table's.
pub fn expect_csv(out: &Path) -> Outcome {
    if out.extension().is_none_or(|end| !end.eq_ignore_ascii_case("csv")) {
        return Err(Failure::call(format!("--out {}: expected the name of a .csv file", out.display())));
    }
    Ok(())
}

/// Refuses a table that would take the place of another file than `input`, before any work is done.
pub fn refuse_existing(out: &Path, input: Option<&Path>) -> Outcome {
    expect_csv(out)?;
    let same = |input: &Path| std::fs::canonicalize(input).ok() == std::fs::canonicalize(out).ok();
    if out.exists() && !input.is_some_and(same) {
        return Err(Failure::call(format!(
            "--out {}: exists already: give another name, or remove it first",
            out.display()
        )));
    }
    Ok(())
}

/// Writes the table of a manifest, with paths relative to the folder of the table.
pub fn write(manifest: &Manifest, out: &Path) -> Outcome {
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let canonical = |path: &Path| {
        std::fs::canonicalize(path).map_err(|error| Failure::work(format!("{}: {error}", path.display())))
    };
    let prefix = relative(&canonical(folder)?, &canonical(&manifest.root)?);
    if let Some(row) = manifest.rows.iter().find(|row| prefix.join(&row.path).to_str().is_none()) {
        let path = prefix.join(&row.path);
        return Err(Failure::work(format!("{}: the name is not UTF-8; rename it", path.display())));
    }
    write_atomically(out, |file| write_table(manifest, file, |row| slashed(&prefix.join(&row.path))))?;
    Ok(())
}

/// The way from one folder to another, both without links; absolute where there is no common beginning.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let common = from.components().zip(to.components()).take_while(|(a, b)| a == b).count();
    if common == 0 {
        return to.to_owned();
    }
    let up = from.components().skip(common).map(|_| Component::ParentDir);
    up.chain(to.components().skip(common)).collect()
}

/// A path with `/` between its parts, as tables have it on every system; what is not UTF-8 is replaced.
pub fn slashed(path: &Path) -> String {
    let text = path.to_string_lossy();
    if std::path::MAIN_SEPARATOR == '/' { text.into_owned() } else { text.replace('\\', "/") }
}

/// Prints images and patients of each split and class on stdout.
pub fn print_counts(manifest: &Manifest) -> Outcome {
    let mut out = std::io::stdout().lock();
    let width = manifest.classes.iter().map(|class| class.chars().count().max(8)).collect::<Vec<_>>();
    write!(out, "{:<12}", "")?;
    for (class, width) in manifest.classes.iter().zip(&width) {
        write!(out, "  {class:>width$}")?;
    }
    writeln!(out, "  {:>8}  {:>8}", "images", "patients")?;
    for split in Split::ALL.into_iter().chain([Split::Unassigned]) {
        let rows: Vec<&Row> = manifest.rows.iter().filter(|row| row.split == split).collect();
        if rows.is_empty() {
            continue;
        }
        write!(out, "{split:<12}")?;
        for (label, width) in width.iter().enumerate() {
            write!(out, "  {:>width$}", rows.iter().filter(|row| row.label == label).count())?;
        }
        let patients: BTreeSet<&String> = rows.iter().filter_map(|row| row.patient_id.as_ref()).collect();
        let all_known = rows.iter().all(|row| row.patient_id.is_some());
        let patients = if all_known { patients.len().to_string() } else { "unknown".to_owned() };
        writeln!(out, "  {:>8}  {patients:>8}", rows.len())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::relative;
    use std::path::Path;

    #[test]
    fn the_way_from_folder_to_folder() {
        for (from, to, way) in
            [("/a/b", "/a/b", ""), ("/a", "/a/b/c", "b/c"), ("/a/b/c", "/a/d", "../../d"), ("/x", "/y", "../y")]
        {
            assert_eq!(relative(Path::new(from), Path::new(to)), Path::new(way), "{from} {to}");
        }
    }
}
