//! ONNX files: their structure, read with a decoder of its own, and where Python has ONNX Runtime, what it computes.

use roentgen_cpu::CpuEngine;
use roentgen_data::{Augment, Limits, Transform, decode};
use roentgen_infer::{Model, ModelDescription, Preprocessing, write_onnx};
use roentgen_nn::{
    Arithmetic, CompileRequest, Draws, Engine, FreezePlan, Mode, ParameterSet, ParameterStore, TensorKind,
    architecture, initialise,
};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A model with a random start, and statistics as if it had been trained.
fn model(architecture: &str, image_size: usize, hidden: Option<usize>) -> Model {
    let description = ModelDescription {
        format_version: 1,
        architecture: architecture.into(),
        classes: ["infected", "normal", "other"].map(String::from).to_vec(),
        hidden,
        dropout: hidden.map(|_| 0.5),
        preprocessing: Preprocessing::imagenet(image_size),
        unfreeze: vec!["all".into()],
        frozen_batch_norm: "eval".into(),
    };
    let network = architecture::build(architecture, image_size, description.head()).unwrap();
    let mut store = ParameterStore::new(&network);
    initialise(&network, &mut store, 7, |_| true);
    for (index, spec) in network.tensors().iter().enumerate().filter(|(_, spec)| spec.kind == TensorKind::Buffer) {
        let offset = if spec.name.ends_with("var") { 0.75 } else { -0.25 };
        let values = store.tensor_mut(index).iter_mut().enumerate();
        values.for_each(|(i, value)| *value = offset + (i * 37 % 50) as f32 / 100.0);
    }
    Model { description, network, store }
}

/// One field of a message: its number, and its content as a number or as bytes.
enum Field<'a> {
    Number(u32, u64),
    Bytes(u32, &'a [u8]),
}

/// The fields of a message. Panics where the bytes are none.
fn fields(mut bytes: &[u8]) -> Vec<Field<'_>> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let length = bytes.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
        let (number, rest) = bytes.split_at(length);
        *bytes = rest;
        number.iter().rev().fold(0, |value, byte| value << 7 | u64::from(byte & 0x7f))
    }
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let field = (key >> 3) as u32;
        let length = match key & 7 {
            0 => {
                found.push(Field::Number(field, varint(&mut bytes)));
                continue;
            }
            2 => varint(&mut bytes) as usize,
            5 => 4,
            other => panic!("wire type {other}"),
        };
        let (content, rest) = bytes.split_at(length);
        found.push(Field::Bytes(field, content));
        bytes = rest;
    }
    found
}

/// The embedded messages, strings or bytes of one field.
fn all(message: &[u8], number: u32) -> Vec<&[u8]> {
    let of = |field| match field {
        Field::Bytes(found, bytes) if found == number => Some(bytes),
        _ => None,
    };
    fields(message).into_iter().filter_map(of).collect()
}

fn texts(message: &[u8], number: u32) -> Vec<String> {
    all(message, number).into_iter().map(|bytes| String::from_utf8(bytes.to_vec()).unwrap()).collect()
}

fn numbers(message: &[u8], number: u32) -> Vec<u64> {
    let of = |field| match field {
        Field::Number(found, value) if found == number => Some(value),
        _ => None,
    };
    fields(message).into_iter().filter_map(of).collect()
}

#[test]
fn a_file_holds_the_whole_graph_and_every_weight_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.onnx");
    // 64 pixels leave 2 x 2 before VGG's pooling to 7 x 7, which is then no plain pooling.
    for (name, size, hidden) in [("resnet18", 64, None), ("vgg11_bn", 64, Some(8)), ("vgg11", 224, Some(8))] {
        let model = model(name, size, hidden);
        write_onnx(&file, &model, &[("threshold".into(), "0.25".into())]).unwrap();
        let bytes = std::fs::read(&file).unwrap();
        let [graph] = all(&bytes, 7)[..] else { panic!("one graph") };

        let initializers = all(graph, 5);
        let mut known: HashSet<String> = HashSet::from(["input".into()]);
        for tensor in &initializers {
            let [ref name] = texts(tensor, 8)[..] else { panic!("one name") };
            let elements: u64 = numbers(tensor, 1).iter().product();
            assert_eq!(all(tensor, 9)[0].len() as u64, 4 * elements, "{name}");
            assert!(known.insert(name.clone()), "{name} twice");
            if let Some(index) = model.store.index_of(name) {
                let ours = model.store.tensor(ParameterSet::Live, index);
                let ours: Vec<u8> = ours.iter().flat_map(|value| value.to_le_bytes()).collect();
                assert!(all(tensor, 9)[0] == ours, "{name} has other values");
            }
        }
        for spec in model.network.tensors().iter().filter(|spec| spec.kind != TensorKind::Counter) {
            assert!(known.contains(&spec.name), "{name}: {} is missing", spec.name);
        }
        for node in all(graph, 1) {
            for input in texts(node, 1) {
                assert!(known.contains(&input), "{name}: {} has no {input}", texts(node, 3)[0]);
            }
            texts(node, 2).into_iter().for_each(|output| assert!(known.insert(output)));
        }
        let outputs: Vec<_> = all(graph, 12).into_iter().map(|output| texts(output, 1)[0].clone()).collect();
        assert_eq!(outputs, ["logits", "probabilities"]);
        assert!(outputs.iter().all(|output| known.contains(output)));
        let operators: Vec<String> = all(graph, 1).into_iter().map(|node| texts(node, 4)[0].clone()).collect();
        let count = |operator: &str| operators.iter().filter(|found| *found == operator).count();
        assert_eq!(count("Dropout"), 0);
        assert_eq!(
            (count("MatMul"), count("AveragePool")),
            match (name, size) {
                ("vgg11_bn", 64) => (2, 0),
                ("resnet18", _) => (0, 1),
                // 7 x 7 pooled to 7 x 7: nothing to do.
                _ => (0, 0),
            }
        );

        let metadata: Vec<(String, String)> =
            all(&bytes, 14).into_iter().map(|pair| (texts(pair, 1)[0].clone(), texts(pair, 2)[0].clone())).collect();
        let text = |key: &str| &metadata.iter().find(|(found, _)| found == key).unwrap().1;
        assert_eq!(text("classes"), r#"["infected","normal","other"]"#);
        assert_eq!(text("threshold"), "0.25");
        assert_eq!(serde_json::from_str::<ModelDescription>(text("roentgen")).unwrap(), model.description);
        let how: serde_json::Value = serde_json::from_str(text("preprocessing")).unwrap();
        assert_eq!((how["centre_crop"].as_u64(), how["divide_by"].as_u64()), (Some(size as u64), Some(255)));
    }
}

#[test]
fn a_place_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    let message = write_onnx(&folder.path().join("file/model.onnx"), &model("resnet18", 32, Some(4)), &[]).unwrap_err();
    assert!(message.to_string().contains("a file stands where a folder is needed"), "{message}");
}

/// Normalised images, `[3, S, S]` each: radiographs where they are, else a pattern.
fn inputs(size: usize) -> Vec<f32> {
    let shared = std::env::var_os("ROENTGEN_SHARED")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared")), PathBuf::from);
    let transform = Transform { image_size: size, augment: Augment::None };
    let mut files = Vec::new();
    for class in ["infected", "normal"] {
        let entries = std::fs::read_dir(shared.join("data/cxr/test").join(class));
        files.extend(entries.into_iter().flatten().flatten().map(|entry| entry.path()).take(2));
    }
    if files.is_empty() {
        println!("skipped: radiographs, because the shared data is absent; a pattern instead");
        return (0..3 * transform.tensor_len()).map(|i| (i * 7919 % 400) as f32 / 100.0 - 2.0).collect();
    }
    let mut inputs = vec![0.0; files.len() * transform.tensor_len()];
    for (file, tensor) in files.iter().zip(inputs.chunks_exact_mut(transform.tensor_len())) {
        transform.apply(&decode(file, &Limits::default()).unwrap(), None, tensor);
    }
    inputs
}

/// Our logits of normalised images.
fn logits(model: &mut Model, inputs: &[f32]) -> Vec<f32> {
    let count = inputs.len() / (3 * model.network.image_size().pow(2));
    let plan = FreezePlan::frozen(&model.network);
    let mut request = CompileRequest::whole(&model.network, &plan, Mode::Evaluate, count);
    request.arithmetic = Arithmetic::default();
    let mut program = CpuEngine::new(2).unwrap().compile(&request).unwrap();
    let draws = Draws { seed: 0, epoch: 0, rows: &vec![0; count] };
    program.forward(&mut model.store, ParameterSet::Live, &[inputs], count, draws).unwrap();
    let mut logits = Vec::new();
    program.read(model.network.output(), &mut logits).unwrap();
    logits
}

fn write(path: &Path, values: &[f32]) {
    std::fs::write(path, values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>()).unwrap();
}

#[test]
fn onnx_runtime_gives_our_logits_for_every_architecture() {
    let python = std::env::var_os("ROENTGEN_PYTHON").unwrap_or_else(|| "python3".into());
    let has_runtime = Command::new(&python).args(["-c", "import onnxruntime"]).output();
    if !has_runtime.is_ok_and(|output| output.status.success()) {
        println!("skipped: {} has no onnxruntime; name a Python that has it by ROENTGEN_PYTHON", python.display());
        return;
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../reference/check_onnx.py");
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    // Odd sizes too: windows of poolings that overlap, and rows that a stride leaves over.
    let all = architecture::names().map(|name| (name, 64, Some(8)));
    for (name, size, hidden) in all.chain([("vgg11", 300, Some(8)), ("resnet18", 75, None), ("resnet18", 224, None)]) {
        let mut model = model(name, size, hidden);
        write_onnx(&place("model.onnx"), &model, &[]).unwrap();
        let inputs = inputs(size);
        write(&place("inputs.f32"), &inputs);
        write(&place("logits.f32"), &logits(&mut model, &inputs));
        let files = ["inputs.f32", "logits.f32"].map(place);
        let output = Command::new(&python).arg(script).arg(place("model.onnx")).arg("--tensors").args(files).output();
        let output = output.unwrap();
        let [stdout, stderr] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
        assert!(output.status.success(), "{name} at {size}: {stdout}{stderr}");
        println!("{name}: {}", stdout.lines().nth(1).unwrap_or_default());
    }
}
