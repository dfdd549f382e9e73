//! Models that leave and come: `export`, `import` and `card`.

use crate::support::*;
use std::path::Path;
use std::process::Command;

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).unwrap()
}

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
    for words in [
        r#"["infected","normal"]"#,
        r#""chosen_by":"Youden""#,
        "the temperature is not applied",
        r#""resize_short_side":37"#,
        "layer4.1.bn2.running_var",
    ] {
        assert!(holds(words), "{words} is not in the file");
    }
    export(&["--out", "again.onnx"]).succeeds();
    assert!(std::fs::read(folder.path().join("again.onnx")).unwrap() == bytes, "the bytes differ from call to call");

    export(&["--format", "safetensors", "--out", "model.safetensors"]).succeeds();
    let model = std::fs::read(folder.path().join("run/model.safetensors")).unwrap();
    assert!(std::fs::read(folder.path().join("model.safetensors")).unwrap() == model);
    export(&["--out", "run/model.safetensors"]).fails(2, &["that is the model itself"]);
    export(&["--out", "run"]).fails(1, &["run: cannot write"]);
    // Elsewhere nobody would know that it is a search's, which has not fixed its winner yet.
    std::fs::write(folder.path().join("run/test-sealed"), "").unwrap();
    export(&["--out", "sealed.onnx"]).fails(2, &["run: the run belongs to a search", "without the test images"]);
    let file = ["export", "model.safetensors", "--format", "onnx", "--out", "sealed.onnx"];
    roentgen(&folder.path().join("run"), &file).fails(2, &["run: the run belongs to a search"]);
    // Nor by another way to its weights.
    std::fs::create_dir_all(folder.path().join("run/checkpoint")).unwrap();
    std::fs::copy(folder.path().join("run/model.safetensors"), folder.path().join("run/checkpoint/copy.safetensors"))
        .unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink("run/model.safetensors", folder.path().join("link.safetensors")).unwrap();
    let (weights, of_arch) = ("run/model.safetensors", ["--arch", "resnet18", "--image-size", "32", "--weights"]);
    let image = "data/test/infected/00.png";
    for call in [
        &["predict", "run/checkpoint/copy.safetensors", image][..],
        #[cfg(unix)]
        &["predict", "link.safetensors", image],
        #[cfg(unix)]
        &["export", "link.safetensors", "--format", "onnx", "--out", "sealed.onnx"],
        &[&["predict"], &of_arch[..], &[weights, image]].concat(),
        &[&["import", weights, "--classes", "infected,normal", "--out", "again"], &of_arch[..4]].concat(),
    ] {
        roentgen(folder.path(), call).fails(2, &["run: the run belongs to a search"]);
    }
    assert!(!folder.path().join("sealed.onnx").exists() && !folder.path().join("again").exists());
    std::fs::remove_file(folder.path().join("run/test-sealed")).unwrap();
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

#[test]
fn an_imported_model_is_a_run_like_others() {
    let folder = evaluated();
    // Weights that say nothing of themselves: the tensors alone, as `safetensors.torch.save_file` writes them.
    let arguments = ["run/model.safetensors", "--arch", "resnet18", "--image-size", "32"];
    let import = |more: &[&str]| roentgen(folder.path(), &[&["import"], &arguments[..], more].concat());
    let classes = ["--classes", "infected,normal"];
    let answer = import(&[&classes[..], &["--data", "data", "--out", "imported"]].concat()).succeeds();
    assert_eq!(answer.stdout, "imported\n");

    let predict = |run: &str| roentgen(folder.path(), &["predict", run, "data/test", "--json"]).succeeds().stdout;
    assert_eq!(predict("imported"), predict("run"));
    // On the data that it was trained on, evaluation fits thresholds as it does for the run itself.
    let evaluate = |run: &str| roentgen(folder.path(), &["evaluate", run, "--json"]).succeeds().stdout;
    let metrics = evaluate("imported");
    assert_eq!(metrics, evaluate("run"));
    assert!(metrics.contains("\"thresholds\""), "{metrics}");
    roentgen(folder.path(), &["report", "imported"]).succeeds();
    let page = read(folder.path().join("imported/report.html"));
    for words in ["the weights were imported", "roentgen import run", "imported from"] {
        assert!(page.contains(words), "`{words}` is not on the page");
    }
    assert!(!page.contains("Learning rate") && !page.contains("learning rate 0.001"));
    roentgen(folder.path(), &["train", "--resume", "imported"]).fails(2, &["--weights imported"]);
    // The command that the card prints makes it again, with the positive class that was named.
    import(&["--classes", "a,b", "--positive", "b", "--out", "named"]).succeeds();
    roentgen(folder.path(), &["card", "named"]).succeeds();
    let card = read(folder.path().join("named/model-card.md"));
    let command = card.lines().find_map(|line| line.strip_prefix("roentgen import ")).unwrap();
    let words: Vec<&str> = std::iter::once("import").chain(command.split(' ')).collect();
    assert_eq!(roentgen(folder.path(), &words).succeeds().stdout, "named-again\n");

    // Without its data, other data are evaluated by name.
    import(&[&classes[..], &["--out", "bare"]].concat()).succeeds();
    roentgen(folder.path(), &["evaluate", "bare"]).fails(2, &["bare names no data", "--data DIR"]);
    roentgen(folder.path(), &["card", "bare"]).succeeds();
    let text = read(folder.path().join("bare/model-card.md"));
    assert!(text.contains("Not known: the run names no data.") && !text.contains("Fingerprint"), "{text}");
    let answer = roentgen(folder.path(), &["evaluate", "bare", "--data", "data"]).succeeds();
    assert!(answer.stderr.contains("this is not the data that the run was trained on"), "{}", answer.stderr);
    let runs = ["--weights", "bare", "--data", "data", "--out", "fine", "--image-size", "32", "--hidden", "24"];
    let answer = roentgen(folder.path(), &[&["train", "--epochs", "1"], &runs[..]].concat()).succeeds();
    assert!(read(folder.path().join("fine/environment.json")).contains("head included"), "{}", answer.stderr);
}

#[test]
fn mistakes_of_an_import_leave_nothing_behind() {
    let folder = scratch();
    copy_finished(folder.path());
    let before = contents(folder.path());
    let import = |more: &[&str]| {
        let arguments = ["import", "run/model.safetensors", "--image-size", "32", "--out", "imported"];
        roentgen(folder.path(), &[&arguments[..], more].concat())
    };
    let named = |classes: &str| import(&["--arch", "resnet18", "--classes", classes]);
    named("infected,normal,other").fails(2, &["the head has 2 outputs, and 3 classes are named"]);
    named("infected,infected").fails(2, &["`infected` is named twice"]);
    named("infected").fails(2, &["expected at least two names"]);
    named("infected,").fails(2, &["expected at least two names"]);
    import(&["--arch", "resnet18"]).fails(2, &["--classes"]);
    import(&["--arch", "resnet81", "--classes", "infected,normal"]).fails(2, &["resnet18"]);
    import(&["--arch", "resnet34", "--classes", "infected,normal"]).fails(1, &["do not fit resnet34"]);
    import(&["--arch", "vgg16", "--classes", "infected,normal"]).fails(1, &["do not fit vgg16", "resnet18"]);
    named("a,b").fails(2, &["positive"]);
    import(&["--arch", "resnet18", "--classes", "ill,normal", "--data", "data"]).fails(2, &["its class `infected`"]);
    assert_same(&before, &contents(folder.path()));
    let arguments =
        ["run/model.safetensors", "--arch", "resnet18", "--classes", "infected,normal", "--image-size", "32"];
    roentgen(folder.path(), &[&["import"], &arguments[..], &["--out", "run"]].concat())
        .fails(2, &["run: something stands there already"]);
    assert_same(&before, &contents(folder.path()));
}

#[test]
fn a_card_says_what_is_known_and_marks_what_is_not() {
    let folder = evaluated();
    let answer = roentgen(folder.path(), &["card", "run"]).succeeds();
    assert_eq!(answer.stdout, "run/model-card.md\nrun/model-card.json\n");
    assert!(answer.stderr.contains("run/card.toml: intended_use, out_of_scope"), "{}", answer.stderr);
    let text = read(folder.path().join("run/model-card.md"));
    for words in [
        "| train | 12 | 12 | 24 |",
        "Patients are unknown",
        "The data were not audited: no `audit.json` lies in the run. `roentgen audit --data data --json > run/audit.json`",
        "| Trained | every layer |",
        "| infected (positive) | 1.0000",
        "Calibration: expected calibration error",
        "| Youden |",
        "**Open, to be written by a person** (`intended_use` in `card.toml`)",
        "roentgen train --config run/config.toml --out run-again",
        "(external validation)",
    ] {
        assert!(text.contains(words), "`{words}` is not in\n{text}");
    }
    assert!(!text.contains("\n\n\n"), "{text}");
    let document =
        || -> serde_json::Value { serde_json::from_str(&read(folder.path().join("run/model-card.json"))).unwrap() };
    let metrics: serde_json::Value = serde_json::from_str(&read(folder.path().join("run/metrics-test.json"))).unwrap();
    assert_eq!(document()["metrics"]["test"], metrics);
    assert!(document()["statements"]["contact"].is_null() && document()["audit"].is_null());

    // Sources that give the class away are shown and said.
    let mut table = "path,source\n".to_owned();
    for path in contents(&folder.path().join("data")).into_keys() {
        let path = path.strip_prefix(folder.path().join("data")).unwrap().to_str().unwrap().to_owned();
        table += &format!("{path},{}\n", if path.contains("infected/1") { "clinic|a" } else { "city" });
    }
    std::fs::write(folder.path().join("data/manifest.csv"), table).unwrap();
    let import = ["import", "run/model.safetensors", "--arch", "resnet18", "--classes", "infected,normal"];
    let place = ["--image-size", "32", "--data", "data", "--out", "sources"];
    roentgen(folder.path(), &[import, place].concat()).succeeds();
    roentgen(folder.path(), &["card", "sources"]).succeeds();
    let text = read(folder.path().join("sources/model-card.md"));
    for words in [
        "| train | city | 10 | 12 |\n| train | clinic\\|a | 2 | 0 |\n",
        "All 2 images of the source `clinic|a` are `infected`",
        "trained elsewhere",
    ] {
        assert!(text.contains(words), "`{words}` is not in\n{text}");
    }

    // An audit is told by what it found, and whether it is of the same data.
    let audit = roentgen(folder.path(), &["audit", "--data", "data", "--json"]).stdout;
    let audit: serde_json::Value = serde_json::from_str(&audit).unwrap();
    let with_audit = |audit: &serde_json::Value| {
        std::fs::write(folder.path().join("sources/audit.json"), audit.to_string()).unwrap();
        roentgen(folder.path(), &["card", "sources"]).succeeds();
        read(folder.path().join("sources/model-card.md"))
    };
    let text = with_audit(&audit);
    let told = text.lines().find(|line| line.starts_with("- shortcuts: ")).unwrap();
    let all = audit["shortcuts"].as_array().unwrap().len();
    assert!(told.starts_with(&format!("- shortcuts: none of {all} is suspicious; the most telling is ")), "{told}");
    assert!(told.contains(", which tells ") && told.contains("by AUROC 0."), "{told}");
    assert!(!text.contains("- method") && !text.contains("other data, or of other splits"), "{text}");
    let mut other = audit;
    other["shortcuts"][1]["suspicious"] = true.into();
    other["data_fingerprint"] = "0".into();
    let text = with_audit(&other);
    assert!(text.contains(&format!("- shortcuts: 1 of {all} suspicious; the most telling is ")), "{text}");
    assert!(text.contains("- warning: the audit is of other data, or of other splits"), "{text}");

    // People's words come in, and stay when the card is written again.
    let file = folder.path().join("run/card.toml");
    let filled = read(&file).replace("contact = \"\"", "contact = \"Radiology, room 3\"");
    std::fs::write(&file, &filled).unwrap();
    std::fs::write(
        folder.path().join("run/audit.json"),
        r#"{"images": 40, "findings": [{"level": "leak", "summary": "2 patients"}]}"#,
    )
    .unwrap();
    roentgen(folder.path(), &["card", "run"]).succeeds();
    assert_eq!(read(&file), filled);
    let text = read(folder.path().join("run/model-card.md"));
    assert!(
        ["\nRadiology, room 3\n", "\n- findings: 1 in all\n- leak: 2 patients\n- images: 40\n"]
            .iter()
            .all(|words| text.contains(words)),
        "{text}"
    );
    assert_eq!(document()["statements"]["contact"], "Radiology, room 3");
    assert_eq!(document()["audit"]["images"], 40);
    std::fs::write(&file, "intended = 1").unwrap();
    roentgen(folder.path(), &["card", "run"]).fails(1, &["card.toml", "intended_use"]);
}
