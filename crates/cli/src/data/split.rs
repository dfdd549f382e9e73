//! `roentgen data split`

use super::output;
use crate::failure::{Failure, Outcome};
use crate::start;
use clap::{Args, ValueEnum};
use roentgen_data::{DataError, Fold, Manifest, PatientPattern, Shares, Split as Part};
use std::path::{Path, PathBuf};

/// `roentgen data split`
#[derive(Debug, Args)]
#[command(
    after_help = "The images of a patient stay together, and images of unknown patients stand for themselves. Patients \
    come from the table's column patient_id, or from the names of the files with --patient-pattern.\n\n\
    With --folds 5 --out cv.csv five tables are written, cv-1.csv to cv-5.csv: in the first, fold 1 is the test, fold 2 the \
    validation, and so on; they are the folds of `roentgen experiment --folds 5` with the same seed."
)]
pub struct Split {
    /// A table (path,label,...) or a folder of images
    data: PathBuf,
    /// Shares of training, validation and test
    #[arg(long, value_name = "TRAIN,VALIDATION,TEST", value_delimiter = ',', required_unless_present = "folds")]
    ratios: Option<Vec<f64>>,
    /// Write a table for each of so many folds of a cross-validation
    #[arg(long, value_name = "K", conflicts_with = "ratios")]
    folds: Option<usize>,
    /// Table to write; it may be the one that is read
    #[arg(long, value_name = "FILE.csv")]
    out: PathBuf,
    /// Decides which patient comes where
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// What stays together: all images of a patient, or each image alone
    #[arg(long, value_name = "WHAT", default_value = "patient")]
    group: Group,
    /// Regular expression over file names whose first group is the patient, such as '^(\d{8})_', for images whose
    /// patient the table does not say
    #[arg(long, value_name = "REGEX")]
    patient_pattern: Option<String>,
    /// Leave the test images as they are and split the others; the third share is then 0
    #[arg(long, conflicts_with = "folds")]
    keep_test: bool,
    /// What to do with an image that a table names and that is not there
    #[arg(long, value_name = "WHAT", default_value = "fail")]
    on_bad_image: crate::arguments::OnBadImage,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Group {
    /// All images of a patient.
    Patient,
    /// Each image alone: patients then stand on both sides, and figures are too good.
    Image,
}

/// Runs the command.
pub fn run(arguments: &Split) -> Outcome {
    output::expect_csv(&arguments.out)?;
    let tables: Vec<PathBuf> = match arguments.folds {
        None => vec![arguments.out.clone()],
        Some(folds) => (1..=folds).map(|fold| numbered(&arguments.out, fold)).collect(),
    };
    for table in &tables {
        output::refuse_existing(table, Some(&arguments.data))?;
    }
    let mut manifest = start::open(&arguments.data, crate::resolve::on_bad_image(arguments.on_bad_image))?;
    if let Some(pattern) = &arguments.patient_pattern {
        identify(&mut manifest, pattern)?;
    }
    let patients: Vec<Option<String>> = manifest.rows.iter().map(|row| row.patient_id.clone()).collect();
    let unknown = patients.iter().filter(|patient| patient.is_none()).count();
    match arguments.group {
        Group::Patient if unknown > 0 => eprintln!(
            "warning: the patients of {unknown} of {} images are unknown: each of these stands for itself, and whether patients \
             are disjoint is not provable",
            patients.len()
        ),
        Group::Patient => {}
        Group::Image => eprintln!(
            "warning: --group image does not look at patients: images of one patient may come into several splits, and \
             `roentgen train` will say so"
        ),
    }
    let splits = |manifest: &mut Manifest, fold: usize| -> Outcome {
        match (&arguments.ratios, arguments.folds) {
            (Some(ratios), None) => {
                let &[train, validation, test] = ratios.as_slice() else {
                    return Err(Failure::call("--ratios: expected three numbers, such as 0.7,0.15,0.15"));
                };
                let shares = Shares { train, validation, test, seed: arguments.seed, keep_test: arguments.keep_test };
                manifest.split_by_shares(shares).map_err(wrong_call)
            }
            (_, folds) => {
                let folds = folds.unwrap_or_default();
                let fold = Fold { folds, held_out: fold, seed: arguments.seed };
                manifest.cross_validate(fold).map_err(wrong_call)
            }
        }
    };
    for (number, table) in (1..).zip(&tables) {
        let mut split = manifest.clone();
        if arguments.group == Group::Image {
            // Paths are unique, and say which row is which once the rows have been sorted anew.
            split.rows.iter_mut().for_each(|row| row.patient_id = None);
        }
        splits(&mut split, number)?;
        if arguments.group == Group::Image {
            let known: std::collections::HashMap<&Path, &Option<String>> =
                manifest.rows.iter().map(|row| (row.path.as_path(), &row.patient_id)).collect();
            for row in &mut split.rows {
                row.patient_id = known.get(row.path.as_path()).and_then(|patient| (*patient).clone());
            }
        }
        output::write(&split, table)?;
        if tables.len() > 1 {
            println!("{}{}", if number > 1 { "\n" } else { "" }, table.display());
        }
        output::print_counts(&split)?;
        for part in Part::ALL.into_iter().filter(|part| !split.rows_of(*part).is_empty()) {
            if let Err(error) = split.require_every_class(part) {
                eprintln!("warning: {error}");
            }
        }
        eprintln!("wrote {}", table.display());
    }
    Ok(())
}

/// Takes patients from the names of the files.
fn identify(manifest: &mut Manifest, pattern: &str) -> Outcome {
    let regex = PatientPattern::new(pattern).map_err(wrong_call)?;
    let unknown = manifest.rows.iter().filter(|row| row.patient_id.is_none()).count();
    let identified = manifest.identify_patients(&regex);
    if identified == 0 && unknown > 0 {
        let first = manifest.rows.iter().find(|row| row.patient_id.is_none());
        let name = first.and_then(|row| row.path.file_name()).unwrap_or_default();
        return Err(Failure::call(format!(
            "--patient-pattern {pattern}: matches no file name, the first being {}",
            name.to_string_lossy()
        )));
    }
    eprintln!("patients of {identified} of {} images from the names of their files", manifest.rows.len());
    Ok(())
}

/// A setting that cannot be is a wrong call.
fn wrong_call(error: DataError) -> Failure {
    Failure::Call(error.into())
}

/// `cv.csv` becomes `cv-1.csv`.
fn numbered(out: &Path, fold: usize) -> PathBuf {
    let stem = out.file_stem().unwrap_or_default().to_string_lossy();
    out.with_file_name(format!("{stem}-{fold}.csv"))
}
