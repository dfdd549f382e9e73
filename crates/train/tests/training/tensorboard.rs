//! Event files for TensorBoard, read back by a reader of their own.

use crate::support::{StopAfter, config, data, to_the_end, train};
use roentgen_run::RunDirectory;
use roentgen_run::history::{EpochRecord, StepRecord, read_table};
use std::path::Path;

/// A number with its tag and step.
type Scalar = (String, u64, f32);

/// CRC-32C bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}

fn checked<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (part, after) = rest.split_at_checked(length)?;
    let (crc, after) = after.split_at_checked(4)?;
    let masked = u32::from_le_bytes(crc.try_into().unwrap());
    assert_eq!(masked, crc32c(part).rotate_right(15).wrapping_add(0xa282_ead8), "checksum");
    *rest = after;
    Some(part)
}

/// The whole records of a file; what is cut short at its end is left out.
fn records(bytes: &[u8]) -> Vec<&[u8]> {
    let mut rest = bytes;
    let mut found = Vec::new();
    while let Some(length) = checked(&mut rest, 8) {
        let length = u64::from_le_bytes(length.try_into().unwrap());
        let Some(record) = checked(&mut rest, length as usize) else { break };
        found.push(record);
    }
    found
}

enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message by number; fixed ones as their bytes.
fn fields(mut message: &[u8]) -> Vec<(u64, Field<'_>)> {
    fn varint(message: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let byte = message[0];
            *message = &message[1..];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        value
    }
    let mut found = Vec::new();
    while !message.is_empty() {
        let key = varint(&mut message);
        let length = match key & 7 {
            0 => {
                found.push((key >> 3, Field::Number(varint(&mut message))));
                continue;
            }
            1 => 8,
            2 => varint(&mut message) as usize,
            5 => 4,
            other => panic!("wire type {other}"),
        };
        let (bytes, rest) = message.split_at(length);
        found.push((key >> 3, Field::Bytes(bytes)));
        message = rest;
    }
    found
}

fn bytes_of(message: &[u8], number: u64) -> Option<&[u8]> {
    fields(message).into_iter().find_map(|(found, field)| match field {
        Field::Bytes(bytes) if found == number => Some(bytes),
        _ => None,
    })
}

fn scalars(bytes: &[u8]) -> Vec<Scalar> {
    let records = records(bytes);
    assert_eq!(bytes_of(records[0], 3), Some(&b"brain.Event:2"[..]));
    let scalar = |event: &&[u8]| {
        let wall_time = f64::from_le_bytes(bytes_of(event, 1).unwrap().try_into().unwrap());
        assert!(wall_time > 1.7e9, "{wall_time}");
        let value = bytes_of(bytes_of(event, 5).unwrap(), 1).unwrap();
        let step = fields(event).iter().find_map(|(number, field)| match field {
            Field::Number(step) if *number == 2 => Some(*step),
            _ => None,
        });
        let number = f32::from_le_bytes(bytes_of(value, 2).unwrap().try_into().unwrap());
        (String::from_utf8(bytes_of(value, 1).unwrap().to_vec()).unwrap(), step.unwrap(), number)
    };
    records[1..].iter().map(scalar).collect()
}

fn file_of(run: &Path) -> Vec<u8> {
    let files: Vec<_> =
        std::fs::read_dir(run.join("tensorboard")).unwrap().flatten().map(|entry| entry.path()).collect();
    assert!(files.len() == 1 && files[0].to_str().unwrap().contains("tfevents"), "{files:?}");
    std::fs::read(&files[0]).unwrap()
}

#[test]
fn event_files_hold_the_tables_and_go_on_where_the_checkpoint_is() {
    let folder = tempfile::tempdir().unwrap();
    data(&folder.path().join("data"));
    let mut config = config(&folder.path().join("data"));
    config.freeze.unfreeze = vec!["head".into()];
    config.training.tensorboard = true;
    let run = |name: &str| folder.path().join(name);
    train(&config, &run("whole"), 2, to_the_end()).unwrap();
    let whole = scalars(&file_of(&run("whole")));
    let directory = RunDirectory::new(run("whole"));
    let steps: Vec<StepRecord> = read_table(&directory.steps_file()).unwrap();
    let epochs: Vec<EpochRecord> = read_table(&directory.history_file()).unwrap();
    let mut expected = Vec::new();
    for epoch in &epochs {
        for step in steps.iter().filter(|step| step.epoch == epoch.epoch) {
            expected.push(("step/train_loss".to_owned(), step.step, step.loss as f32));
            expected.push(("step/learning_rate".to_owned(), step.step, 0.01));
        }
        for (tag, value) in [
            ("epoch/train_loss", epoch.train_loss),
            ("epoch/valid_loss", epoch.valid_loss.unwrap()),
            ("epoch/train_accuracy", epoch.train_accuracy),
            ("epoch/valid_accuracy", epoch.valid_accuracy.unwrap()),
        ] {
            expected.push((tag.to_owned(), epoch.epoch as u64, value as f32));
        }
    }
    assert_eq!(whole, expected);

    // Stopped, and then killed while it wrote more: half a record, and one that no checkpoint counts.
    train(&config, &run("stopped"), 2, StopAfter(4)).unwrap();
    let counted = file_of(&run("stopped"));
    let mut longer = counted.clone();
    longer.extend_from_slice(&file_of(&run("whole"))[counted.len()..counted.len() + 100]);
    let path = std::fs::read_dir(run("stopped").join("tensorboard")).unwrap().flatten().next().unwrap().path();
    std::fs::write(&path, &longer).unwrap();
    assert!(scalars(&longer).len() > scalars(&counted).len());
    train(&config, &run("stopped"), 2, to_the_end()).unwrap();
    assert_eq!(scalars(&file_of(&run("stopped"))), whole);

    // Cut anywhere behind its first record, a file has the records that are whole.
    let all = file_of(&run("whole"));
    let mut last = 0;
    for end in records(&all)[0].len() + 16..all.len() {
        let found = scalars(&all[..end]);
        assert!(found.len() >= last && found[..] == whole[..found.len()]);
        last = found.len();
    }
    assert_eq!(last, whole.len() - 1);
}
