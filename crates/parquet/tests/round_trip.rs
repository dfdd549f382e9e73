//! What is written is read back by the library's reader, across groups of rows.

use bytes::Bytes;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::RowAccessor;
use roentgen_parquet::PredictionTable;
use std::io::{self, Write};

fn classes() -> Vec<String> {
    vec!["normal".into(), "COVID-19, early".into()]
}

#[test]
fn rows_come_back_in_order_and_to_the_bit() {
    let rows = 70_000;
    let mut bytes = Vec::new();
    let mut table = PredictionTable::new(&mut bytes, &classes()).unwrap();
    let numbers = |row: usize| [row as f32 / 7.0, f32::from_bits(row as u32 * 31)];
    for row in 0..rows {
        let [probability, logit] = numbers(row);
        let predicted = &classes()[row % 2];
        table.push(&format!("röntgen/{row}.png"), predicted, &[probability, 0.5], &[logit, -0.0]).unwrap();
    }
    table.finish().unwrap();

    let reader = SerializedFileReader::new(Bytes::from(bytes)).unwrap();
    assert!(reader.metadata().num_row_groups() > 1, "memory is bounded");
    let schema = reader.metadata().file_metadata().schema();
    let names: Vec<&str> = schema.get_fields().iter().map(|field| field.name()).collect();
    let expected = ["path", "predicted", "p_normal", "p_COVID-19, early", "logit_normal", "logit_COVID-19, early"];
    assert_eq!(names, expected);
    let mut count = 0;
    for (index, row) in reader.get_row_iter(None).unwrap().enumerate() {
        let row = row.unwrap();
        assert_eq!(row.get_string(0).unwrap(), &format!("röntgen/{index}.png"));
        assert_eq!(row.get_string(1).unwrap(), &classes()[index % 2]);
        let read = [2, 3, 4, 5].map(|column| row.get_float(column).unwrap().to_bits());
        let [probability, logit] = numbers(index);
        assert_eq!(read, [probability, 0.5, logit, -0.0].map(f32::to_bits), "row {index}");
        count += 1;
    }
    assert_eq!(count, rows);
}

#[test]
fn an_empty_table_is_a_table() {
    let mut bytes = Vec::new();
    PredictionTable::new(&mut bytes, &classes()).unwrap().finish().unwrap();
    let reader = SerializedFileReader::new(Bytes::from(bytes)).unwrap();
    assert_eq!(reader.metadata().file_metadata().num_rows(), 0);
}

#[test]
fn the_error_of_the_system_comes_through() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::StorageFull.into())
        }
    }
    let written = PredictionTable::new(Full, &classes()).and_then(|mut table| {
        table.push("a.png", "normal", &[0.5, 0.5], &[0.0, 0.0])?;
        table.finish()
    });
    assert_eq!(written.unwrap_err().kind(), io::ErrorKind::StorageFull);
}
