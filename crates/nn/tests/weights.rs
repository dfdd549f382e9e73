//! Weight files of every form, by their values: what PyTorch reads from a file is what we read from it.
//!
//! Files and values come from `reference/weight_fixtures.py`.

use roentgen_nn::weights::{
    StateDict, TensorToWrite, Values, ValuesToWrite, WriteError, read_safetensors_metadata, write_safetensors,
};
use serde_json::Value;
use std::path::{Path, PathBuf};

fn fixture(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/weights")).join(name)
}

fn expected() -> serde_json::Map<String, Value> {
    let text = std::fs::read_to_string(fixture("expected.json")).unwrap();
    match serde_json::from_str(&text).unwrap() {
        Value::Object(files) => files,
        other => panic!("expected.json is {other}"),
    }
}

#[test]
fn every_form_reads_as_pytorch_reads_it() {
    let files = expected();
    assert!(files.len() >= 18, "only {} files in expected.json", files.len());
    for (file, expected) in &files {
        let state = StateDict::open(&fixture(file)).unwrap();
        let expected = expected.as_array().unwrap();
        let names: Vec<&str> = state.tensors.iter().map(|(name, _)| name.as_str()).collect();
        let expected_names: Vec<&str> = expected.iter().map(|entry| entry["name"].as_str().unwrap()).collect();
        assert_eq!(names, expected_names, "{file}");
        for entry in expected {
            let name = entry["name"].as_str().unwrap();
            let tensor = state.get(name).unwrap();
            let shape: Vec<usize> = serde_json::from_value(entry["shape"].clone()).unwrap();
            assert_eq!(tensor.shape, shape, "{file}: {name}");
            let values = match entry["kind"].as_str().unwrap() {
                // The f64 of the JSON is an f32 written out, so the conversion is exact.
                "f32" => {
                    let numbers: Vec<f64> = serde_json::from_value(entry["values"].clone()).unwrap();
                    Values::F32(numbers.into_iter().map(|number| number as f32).collect())
                }
                "i64" => Values::I64(serde_json::from_value(entry["values"].clone()).unwrap()),
                other => panic!("{other}"),
            };
            assert_eq!(tensor.values, values, "{file}: {name}");
            assert_eq!(tensor.values.len(), shape.iter().product::<usize>(), "{file}: {name}");
        }
    }
}

#[test]
fn the_format_is_told_by_content_and_not_by_name() {
    let folder = tempfile::tempdir().unwrap();
    for (source, name) in
        [("zip_plain.pth", "weights.safetensors"), ("old_plain.pth", "weights"), ("plain.safetensors", "weights.pth")]
    {
        let file = folder.path().join(name);
        std::fs::copy(fixture(source), &file).unwrap();
        assert_eq!(StateDict::open(&file).unwrap(), StateDict::open(&fixture(source)).unwrap(), "{source}");
    }
}

/// A state dict's tensors as the writer takes them.
fn to_write(state: &StateDict) -> Vec<TensorToWrite<'_>> {
    state
        .tensors
        .iter()
        .map(|(name, tensor)| TensorToWrite { name, shape: &tensor.shape, values: (&tensor.values).into() })
        .collect()
}

#[test]
fn what_is_written_as_safetensors_reads_back() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.safetensors");
    for (source, expected) in expected() {
        let state = StateDict::open(&fixture(&source)).unwrap();
        let metadata = format!(r#"{{"architecture":"{source}","classes":["b","a"]}}"#);
        let mut bytes = Vec::new();
        write_safetensors(&mut bytes, &to_write(&state), Some(("roentgen", &metadata))).unwrap();
        std::fs::write(&file, &bytes).unwrap();
        let read = StateDict::open(&file).unwrap();
        assert_eq!(read.tensors.len(), expected.as_array().unwrap().len());
        for (name, tensor) in &state.tensors {
            assert_eq!(read.get(name), Some(tensor), "{source}: {name}");
        }
        let read_metadata = read_safetensors_metadata(&file).unwrap();
        assert_eq!(read_metadata.into_iter().collect::<Vec<_>>(), [("roentgen".to_owned(), metadata)]);
    }
}

#[test]
fn a_header_whose_length_looks_like_another_format_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.safetensors");
    // Lengths 0x0280 to 0x0580 begin with the two bytes of a pickle.
    for length in [0x0280, 0x0380, 0x0480, 0x0580] {
        let tensor = TensorToWrite { name: "w", shape: &[1], values: ValuesToWrite::F32(&[0.5]) };
        let empty = {
            let mut bytes = Vec::new();
            write_safetensors(&mut bytes, &[tensor], Some(("k", ""))).unwrap();
            bytes.len() - 8 - 4
        };
        let mut bytes = Vec::new();
        write_safetensors(&mut bytes, &[tensor], Some(("k", &"x".repeat(length - empty)))).unwrap();
        assert_eq!(bytes[..2], (length as u16).to_le_bytes());
        std::fs::write(&file, &bytes).unwrap();
        assert_eq!(StateDict::open(&file).unwrap().get("w").unwrap().values, Values::F32(vec![0.5]));
    }
}

#[test]
fn written_bytes_do_not_depend_on_the_order_given() {
    let state = StateDict::open(&fixture("zip_element_types.pth")).unwrap();
    let mut tensors = to_write(&state);
    let mut first = Vec::new();
    write_safetensors(&mut first, &tensors, Some(("key", "value"))).unwrap();
    tensors.reverse();
    let mut second = Vec::new();
    write_safetensors(&mut second, &tensors, Some(("key", "value"))).unwrap();
    assert_eq!(first, second);

    // Written by the first program that wrote this format. Never changed: the bytes of a model file are promised.
    let mut small = Vec::new();
    let tensors = [
        TensorToWrite { name: "fc.bias", shape: &[2], values: ValuesToWrite::F32(&[1.0, -2.0]) },
        TensorToWrite { name: "bn1.num_batches_tracked", shape: &[], values: ValuesToWrite::I64(&[3]) },
    ];
    write_safetensors(&mut small, &tensors, Some(("roentgen", "{}"))).unwrap();
    let header = concat!(
        r#"{"__metadata__":{"roentgen":"{}"},"#,
        r#""bn1.num_batches_tracked":{"dtype":"I64","shape":[],"data_offsets":[0,8]},"#,
        r#""fc.bias":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}"#
    );
    let mut expected = (header.len().next_multiple_of(8) as u64).to_le_bytes().to_vec();
    expected.extend(format!("{header:<width$}", width = header.len().next_multiple_of(8)).bytes());
    expected.extend(3i64.to_le_bytes());
    expected.extend(1.0f32.to_le_bytes());
    expected.extend((-2.0f32).to_le_bytes());
    assert_eq!(small, expected);
}

#[test]
fn what_cannot_be_written_is_said() {
    let tensor = |name, shape, values| TensorToWrite { name, shape, values: ValuesToWrite::F32(values) };
    let wrong_shape = write_safetensors(Vec::new(), &[tensor("w", &[2, 2], &[1.0, 2.0])], None).unwrap_err();
    assert!(matches!(&wrong_shape, WriteError::Shape { name, found: 2, .. } if name == "w"), "{wrong_shape}");
    let overflow = write_safetensors(Vec::new(), &[tensor("w", &[usize::MAX, 2], &[1.0])], None).unwrap_err();
    assert!(matches!(overflow, WriteError::Shape { .. }), "{overflow}");
    let twice = write_safetensors(Vec::new(), &[tensor("w", &[1], &[1.0]), tensor("w", &[1], &[1.0])], None);
    assert!(matches!(twice.unwrap_err(), WriteError::Twice(name) if name == "w"));
    let mut full_disk = [0u8; 20];
    let full = write_safetensors(&mut full_disk[..], &[tensor("w", &[1], &[1.0])], None).unwrap_err();
    assert!(matches!(full, WriteError::Write(_)), "{full}");
}
