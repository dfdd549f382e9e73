//! `predictions-<split>.csv`: one line an image, in the order of the manifest.

use crate::config::Precision;
use crate::directory::write_atomically;
use crate::{RunDirectory, RunError};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// A model's answers over a set of images.
#[derive(Clone, Debug, PartialEq)]
pub struct PredictionTable {
    /// Class names, in the order of the probabilities.
    pub classes: Vec<String>,
    /// One row an image.
    pub rows: Vec<Prediction>,
}

/// A model's answer for one image.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// The image, relative to the data folder, with `/` between its parts.
    pub path: String,
    /// The patient, where the manifest knows it.
    pub patient_id: Option<String>,
    /// Index of the actual class, where known.
    pub label: Option<usize>,
    /// Index of the predicted class.
    pub predicted: usize,
    /// One probability a class.
    pub probabilities: Vec<f32>,
    /// Cross-entropy of this image without class weights, where the label is known.
    pub loss: Option<f32>,
}

const EXPECTED: &str = "a table with the columns path,patient_id,label,predicted,p_<class>...,loss";

impl PredictionTable {
    /// Writes the table, atomically.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn write(&self, path: &Path) -> Result<(), RunError> {
        write_atomically(path, |file| {
            let mut writer = csv::Writer::from_writer(file);
            let mut header = vec!["path".to_owned(), "patient_id".into(), "label".into(), "predicted".into()];
            header.extend(self.classes.iter().map(|class| format!("p_{class}")));
            header.push("loss".into());
            writer.write_record(&header)?;
            for row in &self.rows {
                let mut cells = vec![
                    row.path.clone(),
                    row.patient_id.clone().unwrap_or_default(),
                    row.label.map(|label| self.classes[label].clone()).unwrap_or_default(),
                    self.classes[row.predicted].clone(),
                ];
                // The shortest text that reads back as the same f32.
                cells.extend(row.probabilities.iter().map(f32::to_string));
                cells.push(row.loss.map(|loss| loss.to_string()).unwrap_or_default());
                writer.write_record(&cells)?;
            }
            writer.flush()
        })
    }

    /// Reads a table. Columns may stand in any order; `patient_id`, `label` and `loss` may be absent, and so may
    /// `predicted`, which is then the class of the largest probability (the first of equal ones).
    ///
    /// # Errors
    /// Where the file cannot be read, lacks a column, or a line names an unknown class or no number.
    pub fn read(path: &Path) -> Result<PredictionTable, RunError> {
        let malformed = |found: String| RunError::malformed(path, found, EXPECTED);
        let file = std::fs::File::open(path).map_err(RunError::io(path, "read"))?;
        let mut reader = csv::Reader::from_reader(std::io::BufReader::new(file));
        let header = reader.headers().map_err(|e| malformed(e.to_string()))?.clone();
        let column = |name: &str| header.iter().position(|h| h.trim_start_matches('\u{feff}') == name);
        let path_column = column("path").ok_or_else(|| malformed("no column `path`".into()))?;
        let (patient_column, label_column) = (column("patient_id"), column("label"));
        let (predicted_column, loss_column) = (column("predicted"), column("loss"));
        let (class_columns, classes): (Vec<usize>, Vec<String>) = header
            .iter()
            .enumerate()
            .filter_map(|(index, name)| name.strip_prefix("p_").map(|class| (index, class.to_owned())))
            .unzip();
        if let Some(twice) = classes.iter().enumerate().find(|(index, class)| classes[..*index].contains(class)) {
            return Err(malformed(format!("two columns `p_{}`", twice.1)));
        }
        if classes.len() < 2 {
            return Err(malformed(format!("{} columns `p_<class>`", classes.len())));
        }
        let mut rows = Vec::new();
        for (index, record) in reader.records().enumerate() {
            let line = index + 2;
            let record = record.map_err(|e| malformed(format!("line {line}: {e}")))?;
            let cell = |column: Option<usize>| column.map(|c| &record[c]).filter(|text| !text.is_empty());
            let class = |name: &str| {
                classes
                    .iter()
                    .position(|c| c == name)
                    .ok_or_else(|| malformed(format!("line {line}: class `{name}`, which has no column `p_{name}`")))
            };
            let number = |text: &str| {
                let number = text.parse::<f32>().ok().filter(|number| number.is_finite());
                number.ok_or_else(|| malformed(format!("line {line}: `{text}`, which is no finite number")))
            };
            let probabilities = class_columns.iter().map(|&c| number(&record[c])).collect::<Result<Vec<_>, _>>()?;
            let predicted = match cell(predicted_column) {
                Some(name) => class(name)?,
                None => largest(&probabilities),
            };
            rows.push(Prediction {
                path: record[path_column].to_owned(),
                patient_id: cell(patient_column).map(str::to_owned),
                label: cell(label_column).map(class).transpose()?,
                predicted,
                probabilities,
                loss: cell(loss_column).map(number).transpose()?,
            });
        }
        Ok(PredictionTable { classes, rows })
    }
}

/// How predictions were computed, as far as the user decides it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Computation {
    /// Number format of the products.
    pub precision: Precision,
    /// Whether convolutions were computed directly, without Winograd's algorithm.
    pub exact: bool,
}

impl std::fmt::Display for Computation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match (self.precision, self.exact) {
            (Precision::F32, false) => "f32",
            (Precision::F32, true) => "f32, exact",
            (Precision::Bf16, false) => "bf16",
            (Precision::Bf16, true) => "bf16, exact",
        })
    }
}

impl Computation {
    /// How a run was told to compute.
    ///
    /// # Errors
    /// As [`RunDirectory::config`].
    pub fn of_run(run: &RunDirectory) -> Result<Computation, RunError> {
        let engine = run.config()?.engine;
        Ok(Computation { precision: engine.precision, exact: engine.exact })
    }

    /// How the predictions that a run has for a split were computed; `None` where it has none. Earlier versions did not
    /// write it down: theirs count as computed as the run was told to.
    ///
    /// # Errors
    /// Where a file cannot be read.
    pub fn of_predictions(run: &RunDirectory, split: &str) -> Result<Option<Computation>, RunError> {
        if !run.predictions_file(split).is_file() {
            return Ok(None);
        }
        let path = run.computation_file(split);
        if !path.is_file() {
            return Computation::of_run(run).map(Some);
        }
        let text = std::fs::read_to_string(&path).map_err(RunError::io(&path, "read"))?;
        let known = serde_json::from_str(&text);
        known.map(Some).map_err(|e| RunError::malformed(&path, e, "precision and exact; remove the file"))
    }

    /// Writes the predictions of a run for a split, computed in this way. Killed in between, the run has none.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn write_predictions(&self, run: &RunDirectory, split: &str, table: &PredictionTable) -> Result<(), RunError> {
        let file = run.predictions_file(split);
        let known = Computation::of_predictions(run, split)?;
        if known.is_some_and(|known| known != *self) {
            std::fs::remove_file(&file).map_err(RunError::io(&file, "remove"))?;
        }
        let computation_file = run.computation_file(split);
        if known != Some(*self) || !computation_file.is_file() {
            write_atomically(&computation_file, |out| {
                serde_json::to_writer(&mut *out, self)?;
                std::io::Write::write_all(out, b"\n")
            })?;
        }
        table.write(&file)
    }
}

/// Index of the largest value, the first of equal ones; 0 for an empty slice. NaN is never the largest.
pub fn largest(values: &[f32]) -> usize {
    let mut best = 0;
    for (index, value) in values.iter().enumerate() {
        if *value > values[best] || values[best].is_nan() && !value.is_nan() {
            best = index;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> PredictionTable {
        let row = |path: &str, label, probabilities: [f32; 2]| Prediction {
            path: path.into(),
            patient_id: Some("p, 1".into()),
            label,
            predicted: largest(&probabilities),
            probabilities: probabilities.to_vec(),
            loss: label.map(|l: usize| -probabilities[l].ln()),
        };
        PredictionTable {
            classes: vec!["infected".into(), "normal".into()],
            rows: vec![row("test/a \"b\".png", Some(1), [1.0 / 3.0, 2.0 / 3.0]), row("c.png", None, [0.5, 0.5])],
        }
    }

    #[test]
    fn a_table_reads_back_to_the_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("predictions-test.csv");
        table().write(&path).unwrap();
        assert_eq!(PredictionTable::read(&path).unwrap(), table());
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.csv");
        for (text, expected) in [
            ("label,p_a,p_b\n", "no column `path`"),
            ("path,p_a\n", "1 columns"),
            ("path,label,p_a,p_b\nx,c,0.1,0.9\n", "line 2: class `c`"),
            ("path,p_a,p_b\nx,0.1,0.9\ny,0.1,much\n", "line 3: `much`"),
            ("path,p_a,p_b\nx,0.1,NaN\n", "line 2: `NaN`"),
            ("path,p_a,p_b,p_a\n", "two columns `p_a`"),
        ] {
            std::fs::write(&path, text).unwrap();
            let message = PredictionTable::read(&path).unwrap_err().to_string();
            assert!(message.contains(expected) && message.contains("p.csv"), "{message}");
        }
    }

    #[test]
    fn the_first_of_equal_probabilities_is_the_largest() {
        assert_eq!(largest(&[0.5, 0.5]), 0);
        assert_eq!(largest(&[f32::NAN, 0.1, 0.2]), 2);
    }
}
