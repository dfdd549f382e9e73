//! Models that leave and come: `export`.

use crate::support::*;
use std::process::Command;

/// A finished run that has been evaluated on its test images.
fn evaluated() -> tempfile::TempDir {
    let folder = scratch();
    copy_finished(folder.path());
    roentgen(folder.path(), &["evaluate", "run"]).succeeds();
    folder
}

#[test]
fn an_exported_model_says_what_it_needs_and_gives_the_same_logits() {
    let folder = evaluated();
    let export = |arguments: &[&str]| roentgen(folder.path(), &[&["export", "run"], arguments].concat());
    let answer = export(&["--out", "model.onnx"]).succeeds();
    assert_eq!((answer.stdout.as_str(), answer.stderr.as_str()), ("model.onnx\n", ""));
    let bytes = std::fs::read(folder.path().join("model.onnx")).unwrap();
    let holds = |words: &str| bytes.windows(words.len()).any(|window| window == words.as_bytes());
    for words in
        [r#"["infected","normal"]"#, r#""chosen_by":"Youden""#, r#""resize_short_side":37"#, "layer4.1.bn2.running_var"]
    {
        assert!(holds(words), "{words} is not in the file");
    }
    export(&["--out", "again.onnx"]).succeeds();
    assert!(std::fs::read(folder.path().join("again.onnx")).unwrap() == bytes, "the bytes differ from call to call");

    export(&["--format", "safetensors", "--out", "model.safetensors"]).succeeds();
    let model = std::fs::read(folder.path().join("run/model.safetensors")).unwrap();
    assert!(std::fs::read(folder.path().join("model.safetensors")).unwrap() == model);
    export(&["--out", "run/model.safetensors"]).fails(2, &["that is the model itself"]);
    export(&["--out", "run"]).fails(1, &["run: cannot write"]);
    assert!(std::fs::read(folder.path().join("run/model.safetensors")).unwrap() == model);
    // A model file by itself has no evaluation beside it.
    let answer = roentgen(folder.path(), &["export", "model.safetensors", "--out", "b.onnx"]).succeeds();
    assert!(answer.stderr.contains("the file will hold no threshold"), "{}", answer.stderr);

    let python = std::env::var_os("ROENTGEN_PYTHON").unwrap_or_else(|| "python3".into());
    let has_runtime = Command::new(&python).args(["-c", "import onnxruntime, PIL"]).output();
    if !has_runtime.is_ok_and(|output| output.status.success()) {
        println!("skipped: {} has no onnxruntime and Pillow; ROENTGEN_PYTHON names another Python", python.display());
        return;
    }
    let lines = roentgen(folder.path(), &["predict", "run", "data", "--json"]).succeeds().stdout;
    let list = folder.path().join("lines.jsonl");
    std::fs::write(&list, lines).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../reference/check_onnx.py");
    let mut check = Command::new(&python);
    check.current_dir(folder.path()).arg(script).arg("model.onnx").stdin(std::fs::File::open(list).unwrap());
    let answer = Answer::of(check.output().unwrap()).succeeds();
    assert!(answer.stdout.contains("40 images of 32 px"), "{}", answer.stdout);
}
