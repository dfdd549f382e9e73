//! `roentgen evaluate` and `roentgen report`

use crate::arguments::{Evaluate, Report};
use crate::failure::{Failure, Outcome};
use crate::{progress, resolve, search, start};
use roentgen_data::{DataError, Image, Limits, Manifest, Split, decode, resize_for_display};
use roentgen_eval::{Metrics, best_and_worst, default_positive, format_table};
use roentgen_infer::{Model, Predictor};
use roentgen_nn::{Engine, ParameterSet};
use roentgen_report::{Pixels, Sheet, Tile, write_experiment_report, write_report, write_sheets};
use roentgen_run::directory::write_atomically;
use roentgen_run::environment::Environment;
use roentgen_run::experiment_directory::ExperimentState;
use roentgen_run::predictions::PredictionTable;
use roentgen_run::{ExperimentDirectory, RunDirectory};
use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

/// Longest side of a picture on a contact sheet, in pixels.
const TILE_SIDE: usize = 224;

/// Runs `roentgen evaluate`.
pub fn run(arguments: &Evaluate) -> Outcome {
    let metrics = match (&arguments.predictions, &arguments.run) {
        (Some(file), _) => {
            let table = PredictionTable::read(file)?;
            let positive = positive_class(&table.classes, arguments.positive.as_deref())?;
            from_table(&table, file, positive)?
        }
        (None, Some(path)) => evaluate(&RunDirectory::open(path)?, arguments)?,
        (None, None) => unreachable!("the argument parser asks for one of the two"),
    };
    let mut out = std::io::stdout().lock();
    if arguments.json {
        serde_json::to_writer_pretty(&mut out, &metrics).map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else {
        write!(out, "{}", format_table(&metrics))?;
    }
    Ok(())
}

/// Runs `roentgen report`.
pub fn report(arguments: &Report) -> Outcome {
    let experiment = ExperimentDirectory::new(&arguments.run);
    let page = match experiment.state() {
        ExperimentState::Begun => write_experiment_report(&experiment)?,
        _ => write_report(&RunDirectory::open(&arguments.run)?)?,
    };
    writeln!(std::io::stdout(), "{}", page.display())?;
    Ok(())
}

/// Evaluates a run on a split and writes predictions, metrics and contact sheets into it.
pub fn evaluate(run: &RunDirectory, arguments: &Evaluate) -> Outcome<Metrics> {
    let split: Split = arguments.split.parse().map_err(|e| Failure::Call(anyhow::Error::new(e)))?;
    if split == Split::Test && arguments.data.is_none() {
        search::refuse_sealed(run)?;
    }
    let config = run.config()?;
    let mut model = Model::open(run.path())?;
    let positive = arguments.positive.as_ref().or(config.data.positive.as_ref());
    // Before the work: a class that does not exist is a wrong call.
    let positive = positive_class(&model.description.classes, positive.map(String::as_str))?;
    let engine = start::engine(arguments.threads.or(config.engine.threads))?;
    let root = arguments.data.as_ref().unwrap_or(&config.data.root);
    // Other data have their own splits.
    let cross_validation = config.data.cross_validation.filter(|_| *root == config.data.root);
    let manifest = start::manifest(root, cross_validation)?;
    let label_of = labels(&manifest, &model.description.classes, &arguments.map)?;
    let rows = manifest.require_split(split)?;
    let what = arguments.on_bad_image.map_or(config.data.on_bad_image, resolve::on_bad_image);
    let bad = start::bad_rows(&manifest, &rows, what, engine.threads())?;
    let rows: Vec<usize> = rows.into_iter().filter(|row| bad.iter().all(|(skipped, _)| skipped != row)).collect();
    if rows.is_empty() {
        return Err(Failure::work(format!("{}: no image of the split {split} can be decoded", root.display())));
    }
    let arithmetic = resolve::arithmetic_of_run(&config.engine, arguments.precision, arguments.exact);
    let bar = progress::bar(rows.len() as u64, "evaluating {wide_bar} {pos}/{len} images, {eta} left");
    let limit = config.engine.memory_limit_mib.map(|mib| mib.saturating_mul(1 << 20));
    let limit = limit.or_else(start::available_memory_bytes);
    let mut predictor = Predictor::new(&engine, &model.network, arithmetic, limit)?;
    let answers = predictor.rows(&mut model.store, ParameterSet::Live, &manifest, rows.clone(), |done| {
        bar.set_position(done as u64);
        true
    })?;
    bar.finish_and_clear();
    let predictions = answers
        .iter()
        .map(|answer| answer.to_prediction(&manifest, Some(label_of[manifest.rows[answer.row].label])))
        .collect();
    let table = PredictionTable { classes: model.description.classes.clone(), rows: predictions };
    let name = result_name(run, &manifest, root, split)?;
    let file = run.predictions_file(&name);
    let mut metrics = from_table(&table, &file, positive)?;
    if !bad.is_empty() {
        let names: Vec<String> = bad.iter().map(|(row, _)| manifest.rows[*row].path.display().to_string()).collect();
        let note = format!("{} images could not be decoded and were left out: {}.", bad.len(), names.join(", "));
        metrics.notes.push(note);
    }
    table.write(&file)?;
    write_atomically(&run.metrics_file(&name), |out| {
        serde_json::to_writer_pretty(&mut *out, &metrics)?;
        writeln!(out)
    })?;
    let sheets = sheets(&table, &manifest, &rows, arguments.images)?;
    write_sheets(run, &name, &sheets)?;
    eprintln!("wrote {} and {}", file.display(), run.metrics_file(&name).display());
    if !bad.is_empty() {
        eprintln!("skipped {} of {} images", bad.len(), bad.len() + rows.len());
    }
    Ok(metrics)
}

/// Metrics of a predictions table.
fn from_table(table: &PredictionTable, file: &Path, positive: usize) -> Outcome<Metrics> {
    let unlabelled = table.rows.iter().filter(|row| row.label.is_none()).count();
    if table.rows.is_empty() {
        return Err(Failure::work(format!("{}: the table has no rows; evaluation needs images", file.display())));
    }
    if unlabelled > 0 {
        return Err(Failure::work(format!(
            "{}: {unlabelled} of {} images have no label; evaluation needs the actual class of each",
            file.display(),
            table.rows.len()
        )));
    }
    let labels: Vec<usize> = table.rows.iter().filter_map(|row| row.label).collect();
    let predicted: Vec<usize> = table.rows.iter().map(|row| row.predicted).collect();
    let losses: Option<Vec<f32>> = table.rows.iter().map(|row| row.loss).collect();
    let metrics = Metrics::compute(&table.classes, positive, &labels, &predicted, losses.as_deref())?;
    let patients: Option<BTreeSet<&str>> = table.rows.iter().map(|row| row.patient_id.as_deref()).collect();
    Ok(match patients {
        Some(patients) => metrics.with_patients(patients.len() as u64),
        None => metrics,
    })
}

/// Index of the positive class: the one named, or by convention.
pub fn positive_class(classes: &[String], named: Option<&str>) -> Outcome<usize> {
    match named {
        Some(name) => classes.iter().position(|class| class == name).ok_or_else(|| {
            Failure::call(format!("--positive {name}: no such class; the classes are {}", classes.join(", ")))
        }),
        None => default_positive(classes).map_err(|error| Failure::Call(error.into())),
    }
}

/// For each class of the data, the class of the model that it stands for.
fn labels(manifest: &Manifest, classes: &[String], map: &[String]) -> Outcome<Vec<usize>> {
    let mut pairs = Vec::new();
    for pair in map {
        let Some((from, to)) = pair.split_once('=') else {
            return Err(Failure::call(format!("--map {pair}: expected CLASS=CLASS, the data's class and the model's")));
        };
        if !manifest.classes.iter().any(|class| class == from) {
            let known = manifest.classes.join(", ");
            return Err(Failure::call(format!("--map {pair}: the data has no class `{from}`; it has {known}")));
        }
        if !classes.iter().any(|class| class == to) {
            let known = classes.join(", ");
            return Err(Failure::call(format!("--map {pair}: the model has no class `{to}`; it has {known}")));
        }
        if let Some((_, other)) = pairs.iter().find(|(known, other)| *known == from && *other != to) {
            return Err(Failure::call(format!("--map {pair}: the class `{from}` is already mapped to `{other}`")));
        }
        pairs.push((from, to));
    }
    manifest
        .classes
        .iter()
        .map(|class| {
            let target = pairs.iter().find(|(from, _)| from == class).map_or(class.as_str(), |(_, to)| to);
            classes.iter().position(|known| known == target).ok_or_else(|| {
                Failure::call(format!(
                    "the data's class `{class}` is unknown to the model, whose classes are {}: say what it stands for \
                     with --map {class}=CLASS",
                    classes.join(", ")
                ))
            })
        })
        .collect()
}

/// `test` for the data that the run was trained on, `<folder>-<fingerprint>-test` for other data, so that none replaces
/// another.
fn result_name(run: &RunDirectory, manifest: &Manifest, root: &Path, split: Split) -> Outcome<String> {
    let own = Environment::read(&run.environment_file())?.data_fingerprint;
    let fingerprint = manifest.fingerprint()?;
    if fingerprint == own {
        return Ok(split.to_string());
    }
    let folder = std::fs::canonicalize(root).map_err(|e| Failure::work(format!("{}: {e}", root.display())))?;
    let folder = folder.file_name().map_or_else(|| "data".into(), |name| name.to_string_lossy());
    let safe: String = folder.chars().map(|c| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '_' }).collect();
    // Folders of one name may hold different data.
    let name = format!("{safe}-{}-{split}", &fingerprint[..8]);
    eprintln!("this is not the data that the run was trained on: results are kept as `{name}`");
    Ok(name)
}

/// The images that the model was surest about, right and wrong.
fn sheets(table: &PredictionTable, manifest: &Manifest, rows: &[usize], count: usize) -> Outcome<Vec<Sheet>> {
    let labels: Vec<usize> = table.rows.iter().filter_map(|row| row.label).collect();
    let predicted: Vec<usize> = table.rows.iter().map(|row| row.predicted).collect();
    let probabilities: Vec<f32> = table.rows.iter().flat_map(|row| row.probabilities.clone()).collect();
    let rankings = best_and_worst(&labels, &predicted, &probabilities, table.classes.len(), count)?;
    let tile = |&index: &usize| -> Result<Tile, DataError> {
        let prediction = &table.rows[index];
        let row = &manifest.rows[rows[index]];
        let image = decode(&manifest.path_of(rows[index]), &Limits::default())?;
        let longest = image.width().max(image.height());
        let scaled = |side: usize| (side * TILE_SIDE / longest).max(1);
        let (width, height) = (scaled(image.width()), scaled(image.height()));
        let pixels = match resize_for_display(&image, width, height) {
            Image::Gray8(raster) => Pixels::Grey(raster.samples().to_vec()),
            Image::Rgb8(raster) => Pixels::Rgb(raster.samples().to_vec()),
            Image::Gray16(_) => unreachable!("what is for display has 8 bits"),
        };
        Ok(Tile {
            pixels,
            width,
            height,
            path: prediction.path.clone(),
            patient_id: prediction.patient_id.clone(),
            probability: prediction.probabilities[prediction.predicted],
            actual: table.classes[labels[index]].clone(),
            predicted: table.classes[prediction.predicted].clone(),
            caption: row.finding.iter().filter(|finding| **finding != table.classes[labels[index]]).cloned().collect(),
        })
    };
    let mut sheets = Vec::new();
    for (class, ranking) in table.classes.iter().zip(rankings) {
        sheets.push(Sheet {
            class: class.clone(),
            best: ranking.best.iter().map(tile).collect::<Result<_, _>>()?,
            worst: ranking.worst.iter().map(tile).collect::<Result<_, _>>()?,
        });
    }
    Ok(sheets)
}
