//! The page in a real browser: drop, result, slider, keyboard, phone, screen reader, token.

use crate::chromium::{Chromium, program};
use crate::support::*;
use roentgen_eval::{AppliedThreshold, Metrics, Predictions, RankedScores, ThresholdRule};
use roentgen_run::draw::{Purpose, stream};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Writes `metrics-test.json` with a threshold, as an evaluation does.
fn write_evaluation(run: &Path) {
    let probabilities: Vec<f32> = (0..40).flat_map(|i| [i as f32 / 40.0, 1.0 - i as f32 / 40.0]).collect();
    let labels: Vec<usize> = (0..40).map(|i| usize::from(i * 7 % 11 > i / 4)).collect();
    let predicted: Vec<usize> = (0..40).map(|i| usize::from(i < 20)).collect();
    let predictions = Predictions::new(CLASSES.map(Into::into).to_vec(), labels, predicted, probabilities).unwrap();
    let generator = |resample| stream(0, Purpose::Bootstrap, 0, resample);
    let mut metrics = Metrics::evaluate(&predictions, 0, &generator).unwrap();
    let ranked = RankedScores::new(&predictions.scores(0), &predictions.is_of(0)).unwrap();
    let youden = ThresholdRule::Youden.choose(&ranked).unwrap();
    metrics.thresholds.push(AppliedThreshold::apply(youden, "validation", 40, &predictions, 0, &generator).unwrap());
    std::fs::write(run.join("metrics-test.json"), serde_json::to_string(&metrics).unwrap()).unwrap();
}

/// Two radiographs where the shared data is, else two discs; and a file that is no image.
fn files(folder: &Path) -> (Vec<PathBuf>, PathBuf) {
    let shared = std::env::var_os("ROENTGEN_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from);
    let mut images: Vec<PathBuf> = Vec::new();
    for class in CLASSES {
        let entries = std::fs::read_dir(shared.join("data/cxr/test").join(class)).into_iter().flatten().flatten();
        images.extend(entries.map(|entry| entry.path()).min());
    }
    if images.len() < CLASSES.len() {
        images = (0..2).map(|variant| folder.join(format!("disc {variant}.png"))).collect();
        images.iter().enumerate().for_each(|(i, path)| std::fs::write(path, disc(200, 30 * i)).unwrap());
    }
    // Nowhere in it may a line end.
    let text = folder.join(format!("{}notes.txt", "of_one_word_".repeat(8)));
    std::fs::write(&text, "no image").unwrap();
    // A browser opens absolute paths alone.
    (images.iter().map(|path| path.canonicalize().unwrap()).collect(), text.canonicalize().unwrap())
}

fn evaluated_run(folder: &Path) -> PathBuf {
    let path = folder.join("evaluated");
    write_run(&path, 1);
    write_evaluation(&path);
    let card = json!({
        "limits": ["It was made for a test."],
        "statements": { "intended_use": "To be looked at.", "contact": null },
    });
    std::fs::write(path.join("model-card.json"), card.to_string()).unwrap();
    std::fs::write(path.join("report.html"), "<!doctype html><title>the report</title><p>Curves").unwrap();
    path
}

/// Names of the controls, as a screen reader says them, with their roles.
fn controls(browser: &mut Chromium) -> Vec<(String, String)> {
    let tree = browser.call("Accessibility.getFullAXTree", json!({}));
    let text = |value: &Value| value["value"].as_str().unwrap_or_default().to_owned();
    let nodes = tree["nodes"].as_array().unwrap().iter().filter(|node| node["ignored"] != true);
    let roles = ["button", "slider", "combobox", "textbox", "link", "image", "table", "alert"];
    let known = nodes.map(|node| (text(&node["role"]), text(&node["name"])));
    known.filter(|(role, _)| roles.contains(&role.as_str())).collect()
}

#[test]
fn the_page_shows_what_is_dropped_on_it() {
    let Some(program) = program() else {
        println!("skipped: no Chromium in /usr/bin, and ROENTGEN_CHROMIUM does not name one");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let run = evaluated_run(folder.path());
    let (images, text) = files(folder.path());
    let serving = Serving::of(&[("evaluated", &run), ("other", self::run())], settings());
    let mut browser = Chromium::start(&program);
    browser.resize(1280, 900);
    let url = format!("http://{}/", serving.address);
    browser.open(&url);
    browser.wait_for("document.querySelectorAll('#card-body table').length === 3");
    let card = browser.value("document.querySelector('#card').innerText");
    for words in ["Accuracy", "Sensitivity at the threshold", "made for a test", "To be looked at.", "not answered yet"]
    {
        assert!(card.as_str().unwrap().contains(words), "{words}: {card}");
    }

    // What is dropped is classified and explained; the newest stands on top.
    browser.drop_files("#drop", &images);
    browser.wait_for("document.querySelectorAll('.result .controls:not([hidden])').length === 2");
    assert_eq!(browser.value("document.querySelector('#status').textContent"), "2 of 2 images done");
    let first = images[0].file_name().unwrap().to_str().unwrap();
    assert_eq!(browser.value("document.querySelectorAll('.result h2')[1].textContent"), first);
    let answer = serving.post("/v1/predict", "image/png", &std::fs::read(&images[0]).unwrap()).succeeds().json();
    let prediction = &answer["predictions"][0];
    let percent = |share: &Value| format!("{:.1} %", 100.0 * share.as_f64().unwrap());
    let verdict = format!(
        "infected {} {} the threshold of {}.",
        percent(&prediction["probabilities"]["infected"]),
        if prediction["reaches_threshold"] == true { "reaches" } else { "stays below" },
        percent(&prediction["threshold"]),
    );
    assert_eq!(browser.value("document.querySelectorAll('.verdict')[1].textContent"), verdict);
    assert_eq!(browser.value("document.querySelector('.by').textContent"), "Model: evaluated");
    let source = browser.value("document.querySelector('.source').textContent");
    assert_eq!(source, "Threshold: Youden, chosen on 40 validation images.");
    // A probability and its threshold never read alike, and none is above 100 %.
    let compared = |browser: &mut Chromium, probability: f64, threshold: f64| {
        let reaches = probability >= threshold;
        let prediction = format!(
            "{{ probabilities: {{ ill: {probability} }}, positive: 'ill', threshold: {threshold}, \
             reaches_threshold: {reaches} }}"
        );
        browser.value(&format!("compared({prediction}).join('')"))
    };
    for (probability, threshold, words) in [
        (0.9999, 0.99998, "ill 99.990 % stays below the threshold of 99.998 %."),
        (0.5, 0.25, "ill 50.0 % reaches the threshold of 25.0 %."),
        (0.5, 0.5, "ill 50.0 % reaches the threshold of 50.0 %."),
        (0.5, 1.0001, "ill 50.0 %; the threshold lies above 100 %: no image is called ill."),
    ] {
        assert_eq!(compared(&mut browser, probability, threshold), words);
    }
    let least = browser.value("[0.99998, 0.00001, 0.25, 1, 0].map(least).join()");
    assert_eq!(least, "0.99998,0.00001,0.2500,1.0000,0.0000");
    let counts = "imageCounts({ images: { test: { ill: 1 }, train: { ill: 2, well: 3 } }, patients: { test: 5 } })";
    assert_eq!(browser.value(counts), "train: 2 ill, 3 well; test: 1 ill (5 patients)");
    // The heat map lies over the whole picture.
    let boxes = browser.value(
        "['.image', '.heat'].map((name) => { const b = document.querySelector(name).getBoundingClientRect(); \
         return [b.x, b.y, b.width, b.height].map(Math.round).join(); })",
    );
    assert_eq!(boxes[0], boxes[1]);
    browser.wait_for("document.querySelector('.heat').naturalWidth > 0");

    // The slider, by keyboard.
    browser.value("document.querySelector('.opacity').focus()");
    assert_eq!(browser.value("document.querySelector('.heat').style.opacity"), "1");
    browser.press("ArrowLeft", 37);
    browser.press("ArrowLeft", 37);
    assert_eq!(browser.value("document.querySelector('.heat').style.opacity"), "0.9");
    assert_eq!(browser.value("document.querySelector('output').textContent"), "90 %");
    // The other class's evidence.
    let before = browser.value("document.querySelector('.heat').src");
    browser.value(
        "(() => { const s = document.querySelector('.class'); s.selectedIndex = 1 - s.selectedIndex; \
         s.dispatchEvent(new Event('change')); })()",
    );
    browser.wait_for(&format!("document.querySelector('.heat').src !== {before}"));
    assert_eq!(browser.value("document.querySelector('.heat').style.opacity"), "0.9");

    // A map that does not come leaves none of another class, and one that comes late takes the place of no other.
    browser.value("window.kept = call; call = () => Promise.reject(new Refused(503, 'a full server', '')); null");
    let choose = |name: &str| {
        format!(
            "(() => {{ const s = document.querySelector('.class'); s.value = '{name}'; \
             s.dispatchEvent(new Event('change')); }})()"
        )
    };
    browser.value(&choose("infected"));
    browser.wait_for("document.querySelector('.where[aria-live=polite]').textContent === 'No heat map: a full server'");
    assert_eq!(browser.value("document.querySelector('.heat').hidden"), true);
    browser.value(
        "const late = new Promise((resolve) => { window.release = resolve; }); \
         call = async (path, options) => { \
           const answer = await kept(path, options); \
           if (path.includes('class=infected')) { window.held = true; await late; } \
           return answer; }; null",
    );
    browser.value(&choose("infected"));
    browser.value(&choose("normal"));
    browser.wait_for("window.held && !document.querySelector('.heat').hidden");
    browser.value("release(); new Promise((resolve) => setTimeout(resolve)).then(() => null)");
    assert_eq!(browser.value("document.querySelector('.class').value"), "normal");
    let shown = browser.value("document.querySelector('.where').textContent");
    assert!(shown.as_str().unwrap().contains("normal"), "{shown}");
    // While it waits, no other map stands under the new name.
    browser.value("call = () => new Promise(() => {}); null");
    browser.value(&choose("infected"));
    assert_eq!(browser.value("document.querySelector('.heat').hidden"), true);
    assert_eq!(browser.value("document.querySelector('.where').textContent"), "waiting\u{2026}");
    browser.value("call = kept; null");
    let broken = browser.value(
        "(async () => { const real = fetch; window.fetch = async () => new Response('{\"a\":'); \
         try { await call('v1/models'); } catch (refused) { return `${refused.found}; ${refused.expected}`; } \
         finally { window.fetch = real; } })()",
    );
    assert_eq!(broken, "an answer that breaks off; a whole one: try again");

    // A file that is no image, chosen in the field.
    browser.choose_files("#files", std::slice::from_ref(&text));
    browser.wait_for("document.querySelector('.result.failed [role=alert]')");
    let said = browser.value("document.querySelector('.result.failed').innerText");
    let said = said.as_str().unwrap();
    assert!(
        said.contains("notes.txt") && said.contains("no image") && said.contains("Expected a radiograph"),
        "{said}"
    );

    // Every control has a name.
    let controls = controls(&mut browser);
    assert!(controls.iter().all(|(role, name)| !name.is_empty() || role == "alert"), "{controls:?}");
    for wanted in ["slider: Heat map", "combobox: Evidence for", "combobox: Model", "table: Probabilities"] {
        assert!(controls.iter().any(|(role, name)| format!("{role}: {name}") == wanted), "{wanted}: {controls:?}");
    }
    // The first stops of the Tab key reach the field for files, whose label shows the focus.
    browser.value("document.activeElement.blur(); window.getSelection().removeAllRanges(); scrollTo(0, 0)");
    browser.open(&url);
    browser.wait_for("!document.querySelector('#model-row').hidden");
    let mut stops = Vec::new();
    for _ in 0..2 {
        browser.press("Tab", 9);
        stops.push(browser.value("document.activeElement.id"));
    }
    assert_eq!(stops, ["model", "files"]);
    let outlined = "getComputedStyle(document.querySelector('#drop .button')).outlineStyle";
    assert_eq!(browser.value(outlined), "solid");

    // Screenshots, and the width of a phone.
    let pictures = Path::new(env!("CARGO_TARGET_TMPDIR"));
    browser.drop_files("#drop", &images);
    browser.wait_for("document.querySelectorAll('.result .controls:not([hidden])').length === 2");
    browser.wait_for("[...document.querySelectorAll('.heat')].every((heat) => heat.naturalWidth > 0)");
    browser.screenshot(&pictures.join("page-desktop.png"));
    browser.resize(390, 844);
    browser.choose_files("#files", &[text]);
    browser.wait_for("document.querySelector('.result.failed .found')");
    let reason = "no image of another class than `lung_opacity_or_infiltrate`";
    browser.value(&format!(
        "document.querySelector('#card td').replaceChildren(estimate({{ value: null, reason: '{reason}' }}))"
    ));
    assert_eq!(browser.value("document.documentElement.scrollWidth"), 390);
    browser.screenshot(&pictures.join("page-phone.png"));

    // Nothing else was asked, nothing was kept, nothing was broken or forbidden.
    let kept = "[document.cookie, localStorage.length, sessionStorage.length].join()";
    assert_eq!(browser.value(kept), ",0,0");
    assert_eq!(browser.value("indexedDB.databases().then((all) => all.length)"), 0);
    for event in &browser.events {
        let parameters = &event["params"];
        match event["method"].as_str().unwrap_or_default() {
            "Network.requestWillBeSent" => {
                let asked = parameters["request"]["url"].as_str().unwrap();
                assert!(asked.starts_with(&url) || asked.starts_with("data:"), "{asked}");
            }
            "Runtime.exceptionThrown" => panic!("{parameters}"),
            "Log.entryAdded" => {
                // The refusal of the text file.
                let text = parameters["entry"]["text"].as_str().unwrap();
                assert!(text.contains("status of 415"), "{parameters}");
            }
            _ => {}
        }
    }
}

#[test]
fn a_folder_gives_the_files_in_it() {
    let Some(program) = program() else {
        println!("skipped: no Chromium in /usr/bin, and ROENTGEN_CHROMIUM does not name one");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let set = folder.path().canonicalize().unwrap().join("set");
    std::fs::create_dir_all(set.join("inner")).unwrap();
    std::fs::create_dir(folder.path().join("empty")).unwrap();
    for (index, name) in ["b.png", "a.png", "inner/c.png", ".hidden"].into_iter().enumerate() {
        std::fs::write(set.join(name), disc(80, index)).unwrap();
    }
    let serving = Serving::start(settings());
    let mut browser = Chromium::start(&program);
    browser.open(&format!("http://{}/", serving.address));
    browser.wait_for("!document.querySelector('#ask').hidden");
    browser.drop_files("#drop", &[set]);
    browser.wait_for("document.querySelector('#status').textContent === '3 of 3 images done'");
    let names = browser.value("[...document.querySelectorAll('.result h2')].map((title) => title.textContent).join()");
    // The newest on top.
    assert_eq!(names, "c.png,b.png,a.png");
    browser.drop_files("#drop", &[folder.path().canonicalize().unwrap().join("empty")]);
    browser.wait_for("document.querySelector('#status').textContent === 'There are no files in this folder.'");
}

#[test]
fn a_file_that_is_too_large_is_said_to_be() {
    let Some(program) = program() else {
        println!("skipped: no Chromium in /usr/bin, and ROENTGEN_CHROMIUM does not name one");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().canonicalize().unwrap().join("large.png");
    std::fs::write(&file, vec![7; 40 << 20]).unwrap();
    let serving = Serving::start(settings());
    let mut browser = Chromium::start(&program);
    browser.open(&format!("http://{}/", serving.address));
    browser.wait_for("!document.querySelector('#ask').hidden");
    browser.drop_files("#drop", &[file]);
    browser.wait_for("document.querySelector('.result.failed [role=alert]')");
    let said = browser.value("document.querySelector('.result.failed').innerText");
    // The answer comes while the browser is sending still; it must be read, not taken for a server that is gone.
    assert!(said.as_str().unwrap().contains("at most 4194304 bytes"), "{said}");
}

#[test]
fn the_address_of_the_page_chooses_a_frame() {
    let Some(program) = program() else {
        println!("skipped: no Chromium in /usr/bin, and ROENTGEN_CHROMIUM does not name one");
        return;
    };
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/tests/fixtures/dicom/frames/native.dcm");
    let file = [file.canonicalize().unwrap()];
    let serving = Serving::start(settings());
    let mut browser = Chromium::start(&program);
    let mut classified = |words: &str| {
        browser.open(&format!("http://{}/{words}", serving.address));
        browser.wait_for("!document.querySelector('#ask').hidden");
        browser.drop_files("#drop", &file);
        browser.wait_for("document.querySelector('#status').textContent.startsWith('1 of 1 image done')");
        browser.value("document.querySelector('.result').innerText").as_str().unwrap().to_owned()
    };
    let said = classified("");
    assert!(said.contains("3 frames") && said.contains("add ?frame=N to the address"), "{said}");
    let answer = serving.post("/v1/predict?frame=2", "application/dicom", &std::fs::read(&file[0]).unwrap());
    let infected = &answer.succeeds().json()["predictions"][0]["probabilities"]["infected"];
    let said = classified("?frame=2");
    assert!(said.contains(&format!("{:.1} %", 100.0 * infected.as_f64().unwrap())), "{said}");
    assert!(said.contains("Evidence for"), "{said}");
}

#[test]
fn the_page_asks_for_the_token() {
    let Some(program) = program() else {
        println!("skipped: no Chromium in /usr/bin, and ROENTGEN_CHROMIUM does not name one");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let run = evaluated_run(folder.path());
    let (images, _) = files(folder.path());
    let serving = Serving::of(&[("evaluated", &run)], with_token(settings()));
    let mut browser = Chromium::start(&program);
    browser.open(&format!("http://{}/", serving.address));
    let enter = |browser: &mut Chromium, token: &str| {
        browser.wait_for("document.activeElement.id === 'token'");
        browser.call("Input.insertText", json!({ "text": token }));
        browser.value("document.querySelector('#token-form').requestSubmit()");
    };
    enter(&mut browser, "another-token-than-it-has");
    browser.wait_for("document.querySelector('#token-refused').textContent.includes('not the token')");
    assert_eq!(browser.value("document.querySelector('#ask').hidden"), true);
    enter(&mut browser, TOKEN);
    browser.wait_for("!document.querySelector('#ask').hidden && document.querySelector('#card-body form')");
    browser.drop_files("#drop", &images[..1]);
    browser.wait_for("document.querySelector('.result .controls:not([hidden])')");
    // The report opens in a tab of its own.
    browser.value("document.querySelector('#card-body form').requestSubmit()");
    let mut tries = 0;
    loop {
        let targets = browser.call("Target.getTargets", json!({}));
        let pages = targets["targetInfos"].as_array().unwrap();
        let page = pages.iter().find(|page| page["url"].as_str().unwrap().ends_with("/v1/models/evaluated/report"));
        if page.is_some_and(|page| page["title"] == "the report") {
            break;
        }
        tries += 1;
        assert!(tries < 500, "{targets}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
