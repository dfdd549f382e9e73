//! `history.csv` and `steps.csv`: what training wrote down as it went.

use crate::RunError;
use crate::directory::{append, write_atomically};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::path::Path;

/// One line of `history.csv`. Losses are means over images; accuracies lie in `[0, 1]`; validation figures are absent
/// where there is no validation split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// From 1.
    pub epoch: usize,
    /// Mean over the epoch's training images of the loss that is trained on, each as its batch saw it.
    pub train_loss: f64,
    /// Mean cross-entropy over the validation images after the epoch, in evaluation mode: without class weights, label
    /// smoothing or focusing, whatever is trained on, so that it compares between epochs, between runs, and with the
    /// mean loss of an evaluation.
    pub valid_loss: Option<f64>,
    /// Share of the training images that their batch classified right.
    pub train_accuracy: f64,
    /// Share of the validation images classified right.
    pub valid_accuracy: Option<f64>,
    /// Learning rate of the epoch's last step.
    pub learning_rate: f64,
    /// Wall time of the epoch with its validation, in seconds.
    pub seconds: f64,
    /// Training images per second.
    pub images_per_s: f64,
    /// Why training ended with this epoch, where it ended early. Tables of before this column have none.
    #[serde(default)]
    pub note: Option<String>,
}

/// The `f64` that prints as a setting was written: 0.01, and not 0.009999999776482582.
pub fn as_written(setting: f32) -> f64 {
    // The shortest decimal text of an f32 is always a number.
    setting.to_string().parse().unwrap_or_else(|_| f64::from(setting))
}

/// One line of `steps.csv`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// From 1, over all epochs.
    pub step: u64,
    /// From 1.
    pub epoch: usize,
    /// Mean loss of the batch, before the update.
    pub loss: f64,
}

/// Writes a whole table, atomically. An empty table has its header.
///
/// # Errors
/// Where the system refuses.
pub fn write_table<T: Serialize>(path: &Path, header: &[&str], rows: &[T]) -> Result<(), RunError> {
    write_atomically(path, |file| {
        let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(file);
        writer.write_record(header)?;
        for row in rows {
            writer.serialize(row)?;
        }
        writer.flush()
    })
}

/// Adds rows to a table that [`write_table`] began.
///
/// # Errors
/// Where the system refuses; the table then holds none of the rows.
pub fn append_rows<T: Serialize>(path: &Path, rows: &[T]) -> Result<(), RunError> {
    let text = || -> std::io::Result<Vec<u8>> {
        let mut text = Vec::new();
        let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(&mut text);
        for row in rows {
            writer.serialize(row)?;
        }
        writer.flush()?;
        drop(writer);
        Ok(text)
    };
    append(path, &text().map_err(RunError::io(path, "write"))?)
}

/// Reads a table. A last line that a kill cut short is not a row.
///
/// # Errors
/// Where the file cannot be read, or a line is not of the table's form.
pub fn read_table<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, RunError> {
    let mut text = std::fs::read_to_string(path).map_err(RunError::io(path, "read"))?;
    text.truncate(text.rfind('\n').map_or(0, |end| end + 1));
    csv::Reader::from_reader(text.as_bytes())
        .deserialize()
        .collect::<Result<_, _>>()
        .map_err(|e| RunError::malformed(path, e, "a table as `roentgen train` writes it"))
}

/// The columns of `history.csv`.
pub const HISTORY_HEADER: [&str; 9] = [
    "epoch",
    "train_loss",
    "valid_loss",
    "train_accuracy",
    "valid_accuracy",
    "learning_rate",
    "seconds",
    "images_per_s",
    "note",
];

/// The columns of `steps.csv`.
pub const STEPS_HEADER: [&str; 3] = ["step", "epoch", "loss"];

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn tables_survive_a_round_trip_and_a_line_cut_short() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("steps.csv");
        let rows: Vec<StepRecord> = (1..4).map(|step| StepRecord { step, epoch: 1, loss: 1.0 / step as f64 }).collect();
        write_table(&path, &STEPS_HEADER, &rows[..1]).unwrap();
        append_rows(&path, &rows[1..]).unwrap();
        assert_eq!(read_table::<StepRecord>(&path).unwrap(), rows);
        std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"4,1,0.2").unwrap();
        assert_eq!(read_table::<StepRecord>(&path).unwrap(), rows);
    }

    #[test]
    fn settings_print_as_they_were_written() {
        for (setting, text) in [(0.01f32, "0.01"), (0.001, "0.001"), (3e-7, "0.0000003")] {
            assert_eq!(as_written(setting).to_string(), text);
            assert_eq!(as_written(setting) as f32, setting);
        }
        assert!(as_written(f32::NAN).is_nan());
    }

    #[test]
    fn an_epoch_without_validation_has_empty_cells() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.csv");
        let row = EpochRecord {
            epoch: 1,
            train_loss: 0.5,
            valid_loss: None,
            train_accuracy: 0.75,
            valid_accuracy: None,
            learning_rate: 0.001,
            seconds: 2.0,
            images_per_s: 10.0,
            note: None,
        };
        write_table(&path, &HISTORY_HEADER, std::slice::from_ref(&row)).unwrap();
        assert!(std::fs::read_to_string(&path).unwrap().contains("0.5,,0.75,,"));
        assert_eq!(read_table::<EpochRecord>(&path).unwrap(), [row]);
    }

    #[test]
    fn a_history_of_before_the_notes_still_opens() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.csv");
        std::fs::write(&path, format!("{}\n1,0.5,,0.75,,0.001,2,10\n", HISTORY_HEADER[..8].join(","))).unwrap();
        let rows = read_table::<EpochRecord>(&path).unwrap();
        assert_eq!((rows.len(), &rows[0].note), (1, &None));
    }
}
