//! `roentgen explain`, and the heat maps of an evaluation.

use crate::support::*;
use serde_json::Value;
use std::path::Path;

const IMAGES: [&str; 2] = ["data/test/infected/00.png", "data/test/normal/00.png"];

/// `roentgen explain` of the finished run; the last block of a ResNet has one place at 32 px, `layer3` has four.
fn explain(out: &Path, images: &[&str], more: &[&str]) -> Answer {
    let out = out.to_str().unwrap();
    let module: &[&str] =
        if more.contains(&"--module") || more.contains(&"occlusion") { &[] } else { &["--module", "layer3"] };
    roentgen(finished(), &[&["explain", "run", "--out", out], images, module, more].concat())
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Width, height and bytes a pixel of a PNG.
fn png_size(path: &Path) -> (u32, u32, usize) {
    let file = std::io::BufReader::new(std::fs::File::open(path).unwrap());
    let reader = png::Decoder::new(file).read_info().unwrap();
    let info = reader.info();
    (info.width, info.height, info.bytes_per_pixel())
}

/// A grey PNG, light on the right half.
fn right_half(path: &Path, (width, height): (u32, u32)) {
    let mut encoder = png::Encoder::new(std::fs::File::create(path).unwrap(), width, height);
    encoder.set_color(png::ColorType::Grayscale);
    let pixels: Vec<u8> = (0..width * height).map(|i| if i % width < width / 2 { 0 } else { 255 }).collect();
    encoder.write_header().and_then(|mut writer| writer.write_image_data(&pixels)).unwrap();
}

#[test]
fn an_image_gets_map_overlay_check_and_curves() {
    let folder = scratch();
    let (first, again) = (folder.path().join("first"), folder.path().join("again"));
    let more = ["--class", "infected", "--curve-steps", "4", "--json"];
    let answer = explain(&first, &IMAGES, &more).succeeds();
    let names: Vec<String> =
        contents(&first).into_keys().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    let expected = ["00-2-infected-grad-cam", "00-infected-grad-cam"]
        .map(|stem| ["-curves.svg", ".json", ".npy", ".png"].map(|ending| format!("{stem}{ending}")));
    assert_eq!(names, expected.concat(), "images of one name do not meet");

    let records: Vec<Value> = answer.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records[0], json(&first.join("00-infected-grad-cam.json")));
    assert_eq!(records[1], json(&first.join("00-2-infected-grad-cam.json")));
    let predicted = roentgen(finished(), &[&["predict", "run", "--json"], &IMAGES[..]].concat()).succeeds();
    for (record, line) in records.iter().zip(predicted.stdout.lines()) {
        let prediction: Value = serde_json::from_str(line).unwrap();
        assert_eq!((&record["predicted"], &record["logits"]), (&prediction["predicted"], &prediction["logits"]));
        assert_eq!(record["class"], "infected");
        assert_eq!(record["method"]["module"], "layer3");
        // The curves begin and end at the image itself, but for the probability's rounding to f32.
        let probability = prediction["probabilities"]["infected"].as_f64().unwrap();
        let curves = &record["curves"];
        for end in [&curves["deletion"][0], &curves["insertion"][4]] {
            assert!((end.as_f64().unwrap() - probability).abs() < 1e-6, "{record}");
        }
        assert_eq!(curves["shares"], serde_json::json!([0.0, 0.25, 0.5, 0.75, 1.0]));
        assert!(curves["deletion_area"].as_f64().unwrap() <= 1.0);
    }
    let map = std::fs::read(first.join("00-infected-grad-cam.npy")).unwrap();
    assert!(map.len() == 128 + 4 * 4 && String::from_utf8_lossy(&map).contains("'shape': (2, 2)"));
    // A small image is shown larger; the margins are 12 px.
    assert_eq!(png_size(&first.join("00-infected-grad-cam.png")).0, 448 + 24);
    assert_eq!(png_size(&first.join("00-infected-grad-cam.png")).2, 3);
    explain(&again, &IMAGES, &more).succeeds();
    let bytes = |folder: &Path| contents(folder).into_values().collect::<Vec<_>>();
    assert!(bytes(&first) == bytes(&again), "the same call writes the same bytes");
}

#[test]
fn a_mask_says_where_the_lungs_are() {
    let folder = scratch();
    let masks = folder.path().join("masks");
    std::fs::create_dir(&masks).unwrap();
    right_half(&masks.join("00.png"), (16, 16));
    let share = |images: &[&str], mask: &Path| {
        let out = tempfile::tempdir_in(folder.path()).unwrap();
        let more = ["--json", "--curve-steps", "0", "--method", "occlusion", "--mask", mask.to_str().unwrap()];
        let answer = explain(out.path(), images, &more).succeeds();
        let record: Value = serde_json::from_str(answer.stdout.lines().next().unwrap()).unwrap();
        assert_eq!(record["curves"], Value::Null);
        record["lung_field"].clone()
    };
    let found = share(&IMAGES[..1], &masks.join("00.png"));
    // The centre crop takes columns 2 to 33 of 37, in the image's pixels 3 to 37: 17 of these 35 lie in the right half.
    assert_eq!(found["share_of_area"].as_f64(), Some(17.0 / 35.0));
    assert!((0.0..=1.0).contains(&found["share_of_evidence"].as_f64().unwrap()), "{found}");
    assert!(found["source"].as_str().unwrap().starts_with("mask "));
    // Of images of one name none takes the other's mask: a folder of the image's own comes first.
    let all = ["--method", "occlusion", "--mask", masks.to_str().unwrap()];
    let out = folder.path().join("refused");
    explain(&out, &IMAGES, &all).fails(2, &["00.png is the mask of data/test/infected/00.png and of", "normal/00.png"]);
    assert_eq!(share(&[IMAGES[0], IMAGES[0]], &masks)["share_of_evidence"], found["share_of_evidence"]);
    std::fs::create_dir(masks.join("infected")).unwrap();
    right_half(&masks.join("infected/00.png"), (18, 18));
    let of_folder = share(&IMAGES, &masks);
    assert_eq!(of_folder["source"], format!("mask {}", masks.join("infected/00.png").display()));

    let file = masks.join("00.png");
    explain(&out, &IMAGES, &["--mask", file.to_str().unwrap()]).fails(2, &["one mask for 2 images", "a folder"]);
    let narrow = folder.path().join("narrow.png");
    right_half(&narrow, (8, 16));
    explain(&out, &IMAGES[..1], &["--mask", narrow.to_str().unwrap()])
        .fails(1, &["narrow.png", "0.50", "1.00", "give the one that belongs to it"]);
    assert!(!out.exists());
}

#[test]
fn calls_that_cannot_be_answered() {
    let folder = scratch();
    let out = folder.path().join("out");
    let image = &IMAGES[..1];
    explain(&out, image, &["--class", "sick"]).fails(2, &["--class sick", "infected, normal"]);
    explain(&out, image, &["--module", "layer9"]).fails(2, &["layer9", "nearest"]);
    explain(&out, image, &["--module", "layer4"]).fails(2, &["`layer4` gives 512 at 32 px, which is no map"]);
    explain(&out, image, &["--steps", "3"]).fails(2, &["--steps says nothing to --method grad-cam"]);
    explain(&out, image, &["--method", "occlusion", "--patch", "33"]).fails(2, &["patch is 33", "1 to 32"]);
    explain(&out, image, &["--method", "occlusion", "--module", "layer3"]).fails(2, &["takes no module"]);
    explain(&out, image, &["--method", "gradcam"]).fails(2, &["gradcam", "hires-cam"]);
    assert!(!out.exists(), "a wrong call writes nothing");
    // One bad image costs no other.
    let answer = explain(&out, &["data/missing.png", IMAGES[0]], &["--curve-steps", "0"]);
    let answer = answer.fails(1, &["data/missing.png", "1 of 2 images could not be explained"]);
    assert_eq!(answer.stdout.lines().count(), 2, "{}", answer.stdout);
    assert_eq!(contents(&out).len(), 3);
}

#[test]
fn names_that_run_into_class_names_do_not_meet() {
    let folder = scratch();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (run, out, images) = (path("covid"), path("out"), [path("x.png"), path("x-non.png")]);
    for image in &images {
        std::fs::copy(finished().join(IMAGES[0]), image).unwrap();
    }
    let model = ["import", "--arch", "resnet18", "--image-size", "32", "run/model.safetensors"];
    roentgen(
        finished(),
        &[&model[..], &["--classes", "covid,non-covid", "--positive", "covid", "--out", &run]].concat(),
    )
    .succeeds();
    let more = ["--module", "layer3", "--curve-steps", "0", "--out", &out];
    let answer = roentgen(finished(), &[&["explain", &run, &images[0], &images[1]], &more[..]].concat()).succeeds();
    assert_eq!(answer.stdout.lines().count(), 3);
    let mut names = std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(
        names.by_ref().filter(|name| name.starts_with("x-non-2-")).count() == 3,
        "`x-non` of `covid` is `x` of `non-covid`"
    );
    assert_eq!(contents(Path::new(&out)).len(), 6);
}

#[test]
fn a_folder_with_maps_of_something_else_is_refused() {
    let folder = scratch();
    let out = folder.path().join("out");
    let first = ["--class", "infected", "--curve-steps", "2"];
    explain(&out, &IMAGES, &first).succeeds();
    // Beside them there is room for other classes and methods.
    explain(&out, &IMAGES, &["--class", "normal", "--curve-steps", "0"]).succeeds();
    explain(&out, &IMAGES[..1], &["--class", "infected", "--curve-steps", "2", "--method", "hires-cam"]).succeeds();
    // The same call makes again what a kill left unwritten.
    let before = contents(&out);
    std::fs::remove_file(out.join("00-infected-grad-cam.png")).unwrap();
    explain(&out, &IMAGES, &first).succeeds();
    assert_same(&before, &contents(&out));

    let refused = |images: &[&str], more: &[&str], what: &str| {
        let words = ["out: 00-infected-grad-cam.json is there already", what, "name another folder"];
        let answer = explain(&out, images, more).fails(2, &words);
        assert_eq!(answer.stdout, "");
        assert_same(&before, &contents(&out));
    };
    let swapped = [IMAGES[1], IMAGES[0]];
    refused(&swapped, &first, "of another image");
    // The class is not known before the model has answered.
    refused(&swapped, &["--curve-steps", "2"], "of another image");
    refused(&IMAGES, &[&first[..], &["--module", "layer2"]].concat(), "of another --module");
    refused(&IMAGES, &[&first[..], &["--precision", "bf16"]].concat(), "of another --precision");
    refused(&IMAGES, &["--class", "infected", "--curve-steps", "3"], "of another number of --curve-steps");
    let mask = folder.path().join("00.png");
    right_half(&mask, (16, 16));
    refused(&IMAGES[..1], &[&first[..], &["--mask", mask.to_str().unwrap()]].concat(), "of another --mask");
    // Another model under the same name.
    copy_finished(folder.path());
    let model = folder.path().join("run/model.safetensors");
    let mut bytes = std::fs::read(&model).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&model, bytes).unwrap();
    let call = [&["explain", "run", "--out", "out", "--module", "layer3"], &IMAGES[..], &first].concat();
    roentgen(folder.path(), &call).fails(2, &["00-infected-grad-cam.json", "of another model"]);
    assert_same(&before, &contents(&out));
    // Whose a map is that no JSON file names, nobody knows.
    std::fs::remove_file(out.join("00-infected-grad-cam.json")).unwrap();
    let words = ["00-infected-grad-cam.npy is there already, of something that no JSON file beside it names"];
    explain(&out, &IMAGES, &first).fails(2, &words);
}

#[test]
fn predictions_and_maps_follow_the_arithmetic_of_the_run() {
    let folder = scratch();
    copy_finished(folder.path());
    let call = |command: &str, more: &[&str]| {
        let words: &[&str] = match command {
            "explain" => &["explain", "run", "--module", "layer3", "--curve-steps", "0", "--out", "out", "--json"],
            _ => &["predict", "run", "--json"],
        };
        let answer = roentgen(folder.path(), &[words, &IMAGES[..1], more].concat()).succeeds().stdout;
        let _ = std::fs::remove_dir_all(folder.path().join("out"));
        answer
    };
    let before = ["predict", "explain"].map(|command| call(command, &[]));
    let bf16 = ["predict", "explain"].map(|command| call(command, &["--precision", "bf16"]));
    let file = folder.path().join("run/config.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("precision = \"f32\""), "{text}");
    std::fs::write(&file, text.replace("precision = \"f32\"", "precision = \"bf16\"")).unwrap();
    assert_eq!(["predict", "explain"].map(|command| call(command, &[])), bf16);
    assert_eq!(["predict", "explain"].map(|command| call(command, &["--precision", "f32"])), before);
    assert!(before.iter().zip(&bf16).all(|(one, other)| one != other), "bf16 changes nothing here");
}

#[test]
fn an_evaluation_lays_heat_maps_beside_its_images() {
    let folder = scratch();
    data_set(folder.path());
    let settings = ["--image-size", "64", "--weights", "none", "--hidden", "24", "--batch-size", "8", "--epochs", "1"];
    let train = [&["train", "--data", "data", "--out", "run"], &settings[..]].concat();
    roentgen(folder.path(), &train).succeeds();
    let answer = roentgen(folder.path(), &["evaluate", "run", "--images", "2"]).succeeds();
    assert!(!answer.stderr.contains("no heat maps"), "{}", answer.stderr);
    let plots = folder.path().join("run/plots");
    for class in ["infected", "normal"] {
        let (images, maps) = (format!("images-test-{class}.png"), format!("heat-maps-test-{class}.png"));
        assert_eq!(png_size(&plots.join(images)).0, png_size(&plots.join(&maps)).0);
        assert_eq!(png_size(&plots.join(maps)).2, 3, "a map has colours");
    }
    roentgen(folder.path(), &["report", "run"]).succeeds();
    let page = std::fs::read_to_string(folder.path().join("run/report.html")).unwrap();
    assert!(page.contains("its heat map (Grad-CAM)") && page.contains("Heat map over the same image"));
}
