//! A run directory as training and evaluation leave it, with numbers and pictures of the test's choice.

use roentgen_eval::{
    AppliedThreshold, Clusters, ConfusionMatrix, GroupTable, Metrics, Predictions, RankedScores, TemperatureScaling,
    ThresholdRule, fit_temperature,
};
use roentgen_report::{Pixels, Sheet, Tile};
use roentgen_run::draw::{Purpose, stream};
use roentgen_run::environment::{Environment, SkippedImage};
use roentgen_run::history::{EpochRecord, HISTORY_HEADER, STEPS_HEADER, StepRecord, write_table};
use roentgen_run::predictions::{Prediction, PredictionTable, largest};
use roentgen_run::{Config, RunDirectory};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Names as an unkind manifest has them: special to HTML, to file systems and to fonts.
pub const UNKIND_NAMES: [&str; 3] = ["<b>COVID-19 & co", "no \"finding\"/normal", "胸部 çé'"];

/// A run of two classes with validation, six epochs, and patients that nobody leaked.
pub fn environment(classes: &[&str]) -> Environment {
    let images = |counts: [usize; 3]| classes.iter().map(|class| class.to_string()).zip(counts).collect();
    Environment {
        version: "0.1.0".into(),
        instruction_set: "avx512f".into(),
        threads: 2,
        platform: "linux x86_64".into(),
        data_fingerprint: "5d41402abc4b2a76b9719d911017c592ae5b1f3c6a7d8e9f0011223344556677".into(),
        classes: classes.iter().map(|class| class.to_string()).collect(),
        images: BTreeMap::from([
            ("test".into(), images([615, 885, 37])),
            ("train".into(), images([4920, 7080, 210])),
            ("validation".into(), images([600, 900, 41])),
        ]),
        sources: None,
        patients: Some(BTreeMap::from([("test".into(), 1203), ("train".into(), 9411), ("validation".into(), 1188)])),
        patients_in_several_splits: vec![],
        identical_in_several_splits: vec![],
        trainable_parameters: 195_702,
        parameters: 11_372_214,
        start: "seeded random start".into(),
        skipped_images: vec![],
        warnings: vec![],
    }
}

pub fn history(epochs: usize, validation: bool) -> Vec<EpochRecord> {
    let epoch = |epoch: usize| {
        let progress = epoch as f64;
        EpochRecord {
            epoch,
            train_loss: 0.62 / progress.powf(0.6) + 0.01 * (progress * 2.3).sin(),
            valid_loss: validation
                .then(|| 0.58 / progress.powf(0.5) + 0.004 * progress + 0.012 * (progress * 1.7).cos()),
            train_accuracy: 0.95 - 0.3 / progress,
            valid_accuracy: validation.then(|| 0.93 - 0.22 / progress),
            learning_rate: 0.001,
            seconds: 48.2,
            images_per_s: 12.5,
            note: None,
        }
    };
    (1..=epochs).map(epoch).collect()
}

/// Writes a run with `epochs` epochs of five steps each.
pub fn write_run(path: &Path, environment: &Environment, epochs: usize, validation: bool) -> RunDirectory {
    let run = RunDirectory::new(path);
    let mut config = Config::default();
    config.data.root = PathBuf::from("data/my x-rays");
    config.training.epochs = epochs;
    run.create(&config).unwrap();
    environment.write(&run.environment_file()).unwrap();
    write_table(&run.history_file(), &HISTORY_HEADER, &history(epochs, validation)).unwrap();
    let steps: Vec<StepRecord> = (1..=epochs as u64 * 5)
        .map(|step| StepRecord { step, epoch: (step as usize - 1) / 5 + 1, loss: 0.69 / (step as f64).sqrt() })
        .collect();
    write_table(&run.steps_file(), &STEPS_HEADER, &steps).unwrap();
    run
}

pub fn write_metrics(run: &RunDirectory, split: &str, classes: &[&str], counts: &[&[u64]]) -> Metrics {
    let classes = classes.iter().map(|class| class.to_string()).collect();
    let matrix = ConfusionMatrix::from_counts(classes, counts.iter().map(|row| row.to_vec()).collect()).unwrap();
    let metrics = Metrics::from_matrix(matrix, 0, Some(0.234567)).unwrap();
    std::fs::write(run.metrics_file(split), serde_json::to_string_pretty(&metrics).unwrap()).unwrap();
    metrics
}

/// Writes metrics with all that predictions, validation and groups add, and the predictions that they are of: 40
/// images, every second of the first class, by patients of two.
pub fn write_evaluation(run: &RunDirectory, split: &str, classes: &[&str]) -> Metrics {
    let names: Vec<String> = classes.iter().map(|class| class.to_string()).collect();
    let row = |index: usize| {
        let of_first = ((index * 7 + 3) % 19) as f32 / 32.0 + 0.375 * (1 - index % 2) as f32;
        let mut probabilities = vec![(1.0 - of_first) / (classes.len() - 1) as f32; classes.len()];
        probabilities[0] = of_first;
        Prediction {
            path: format!("{split}/{index:02}.png"),
            patient_id: Some(format!("p{}", index / 2)),
            label: Some(index % 2),
            predicted: largest(&probabilities),
            probabilities,
            loss: None,
        }
    };
    let table = PredictionTable { classes: names.clone(), rows: (0..40).map(row).collect() };
    table.write(&run.predictions_file(split)).unwrap();
    let patients: Vec<Option<&str>> = table.rows.iter().map(|row| row.patient_id.as_deref()).collect();
    let predictions = Predictions::new(
        names,
        table.rows.iter().filter_map(|row| row.label).collect(),
        table.rows.iter().map(|row| row.predicted).collect(),
        table.rows.iter().flat_map(|row| row.probabilities.clone()).collect(),
    )
    .and_then(|predictions| predictions.with_clusters(Clusters::of_patients(&patients)))
    .unwrap();
    let generator = |resample| stream(0, Purpose::Bootstrap, 0, resample);
    let mut metrics = Metrics::evaluate(&predictions, 0, &generator).unwrap();
    let temperature = fit_temperature(&predictions).unwrap();
    metrics.temperature = Some(TemperatureScaling::apply(&predictions, temperature, "validation", 40).unwrap());
    let ranked = RankedScores::new(&predictions.scores(0), &predictions.is_of(0)).unwrap();
    let threshold = ThresholdRule::Youden.choose(&ranked).unwrap();
    let applied = AppliedThreshold::apply(threshold, "validation", 40, &predictions, 0, &generator).unwrap();
    metrics.thresholds.push(applied);
    let hospitals: Vec<Option<String>> = (0..40).map(|i| Some(["<east>", "west"][i / 20].to_owned())).collect();
    metrics.groups.extend(GroupTable::new("source", &hospitals, &predictions, 0, &generator).unwrap());
    std::fs::write(run.metrics_file(split), serde_json::to_string_pretty(&metrics).unwrap()).unwrap();
    metrics
}

/// A grey picture that no mirroring maps to itself.
pub fn wedge(width: usize, height: usize) -> Pixels {
    Pixels::Grey((0..width * height).map(|at| ((at % width) * 255 / width) as u8).collect())
}

pub fn tile(pixels: Pixels, (width, height): (usize, usize), path: &str, actual: &str, predicted: &str) -> Tile {
    Tile {
        pixels,
        width,
        height,
        heat_map: None,
        path: path.into(),
        patient_id: None,
        probability: 0.98765,
        actual: actual.into(),
        predicted: predicted.into(),
        caption: vec![],
    }
}

/// Sheets of two classes with real X-rays, eight best and eight worst each, or `None` (said on stdout) where the shared
/// data is not there. Predictions are made up: the first half of the images counts as right.
pub fn sheets_of_real_images() -> Option<Vec<Sheet>> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared");
    let shared = std::env::var_os("ROENTGEN_SHARED").map_or_else(|| PathBuf::from(default), PathBuf::from);
    let root = shared.join("data/cxr");
    if !root.is_dir() {
        println!("skipped: no X-rays at {}; set ROENTGEN_SHARED to the folder that holds data/cxr", root.display());
        return None;
    }
    let classes = ["infected", "normal"];
    let sheet = |class: &str| {
        let folder = root.join("test").join(class);
        let mut names: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        let tiles = names.iter().take(16).enumerate().map(|(index, name)| {
            let picture = image::open(folder.join(name)).unwrap().to_luma8();
            let size = (picture.width() as usize, picture.height() as usize);
            let name = name.to_str().unwrap();
            let predicted = if index < 8 { class } else { classes[usize::from(class == classes[0])] };
            let pixels = Pixels::Grey(picture.into_raw());
            Tile {
                patient_id: name.split('_').next().map(|id| format!("nih-{id}")),
                probability: 0.999 - 0.01 * (index % 8) as f32,
                ..tile(pixels, size, &format!("test/{class}/{name}"), class, predicted)
            }
        });
        let mut best: Vec<Tile> = tiles.collect();
        let worst = best.split_off(best.len().min(8));
        Sheet { class: class.into(), best, worst }
    };
    Some(classes.into_iter().map(sheet).collect())
}

pub fn skipped(path: &str, reason: &str) -> SkippedImage {
    SkippedImage { path: path.into(), reason: reason.into() }
}
