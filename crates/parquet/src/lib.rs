//! Predictions as a Parquet file (<https://parquet.apache.org/docs/file-format/>), for tables too long for CSV.
//!
//! A crate of its own, so that its dependencies come with the program's feature `parquet` only.

use parquet::basic::{LogicalType, Repetition, Type as PhysicalType};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, FloatType};
use parquet::errors::ParquetError;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{Type, TypePtr};
use std::io::{self, Write};
use std::sync::Arc;

/// Rows that are kept in memory, and stand together in the file.
const GROUP_ROWS: usize = 1 << 16;

/// A table of predictions that is being written: the columns `path` and `predicted` (UTF-8), then `p_CLASS` for each
/// class and `logit_CLASS` for each class (32-bit floats), as in the CSV table. Nothing is null, nothing is compressed.
pub struct PredictionTable<W: Write + Send> {
    writer: SerializedFileWriter<W>,
    classes: usize,
    paths: Vec<ByteArray>,
    predicted: Vec<ByteArray>,
    /// Probabilities by class, then logits by class.
    numbers: Vec<Vec<f32>>,
}

impl<W: Write + Send> PredictionTable<W> {
    /// Begins a table of these classes in `out`.
    ///
    /// # Errors
    /// Where `out` cannot be written.
    pub fn new(out: W, classes: &[String]) -> io::Result<PredictionTable<W>> {
        let writer = SerializedFileWriter::new(out, schema(classes).map_err(failed)?, Arc::default());
        Ok(PredictionTable {
            writer: writer.map_err(failed)?,
            classes: classes.len(),
            paths: Vec::new(),
            predicted: Vec::new(),
            numbers: vec![Vec::new(); 2 * classes.len()],
        })
    }

    /// Adds a row: an image, the name of the class that was predicted, and of every class its probability and its logit.
    ///
    /// # Errors
    /// Where the file cannot be written.
    ///
    /// # Panics
    /// Where there are not as many probabilities and logits as classes.
    pub fn push(&mut self, path: &str, predicted: &str, probabilities: &[f32], logits: &[f32]) -> io::Result<()> {
        assert_eq!((probabilities.len(), logits.len()), (self.classes, self.classes), "one number a class");
        self.paths.push(path.into());
        self.predicted.push(predicted.into());
        for (column, &number) in self.numbers.iter_mut().zip(probabilities.iter().chain(logits)) {
            column.push(number);
        }
        if self.paths.len() < GROUP_ROWS { Ok(()) } else { self.write_group().map_err(failed) }
    }

    /// Writes what is left, and the footer without which the file is none.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn finish(mut self) -> io::Result<()> {
        if !self.paths.is_empty() {
            self.write_group().map_err(failed)?;
        }
        self.writer.close().map(|_| ()).map_err(failed)
    }

    fn write_group(&mut self) -> Result<(), ParquetError> {
        let mut group = self.writer.next_row_group()?;
        for texts in [&mut self.paths, &mut self.predicted] {
            write_column::<ByteArrayType, W>(&mut group, texts)?;
        }
        for numbers in &mut self.numbers {
            write_column::<FloatType, W>(&mut group, numbers)?;
        }
        group.close().map(|_| ())
    }
}

/// Writes the next column of a group, and empties `values`.
fn write_column<T: DataType, W: Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    values: &mut Vec<T::T>,
) -> Result<(), ParquetError> {
    let mut column = group.next_column()?.expect("the schema has a column for each that is written");
    column.typed::<T>().write_batch(values, None, None)?;
    values.clear();
    column.close()
}

fn schema(classes: &[String]) -> Result<TypePtr, ParquetError> {
    let column = |name: String, kind: PhysicalType, meaning: Option<LogicalType>| {
        let column = Type::primitive_type_builder(&name, kind).with_repetition(Repetition::REQUIRED);
        column.with_logical_type(meaning).build().map(Arc::new)
    };
    let text = |name: &str| column(name.to_owned(), PhysicalType::BYTE_ARRAY, Some(LogicalType::String));
    let number = |name: String| column(name, PhysicalType::FLOAT, None);
    let mut columns = vec![text("path")?, text("predicted")?];
    for prefix in ["p", "logit"] {
        for class in classes {
            columns.push(number(format!("{prefix}_{class}"))?);
        }
    }
    Type::group_type_builder("predictions").with_fields(columns).build().map(Arc::new)
}

/// The system's own error where there is one, so that callers can say what a full disk means.
fn failed(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(source) => match source.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(other) => io::Error::other(other),
        },
        other => io::Error::other(other),
    }
}
