//! `roentgen evaluate` and `roentgen report`

use crate::arguments::{Evaluate, Report};
use crate::display::displayed;
use crate::failure::{Failure, Outcome};
use crate::scoring::{add_groups, apply_validation, positive_class, predictions, resampling, threshold_rules};
use crate::{image_cache, progress, resolve, search, start};
use roentgen_cpu::CpuEngine;
use roentgen_data::{DataError, ImageCache, Limits, Manifest, Row, Split, decode};
use roentgen_eval::{Metrics, Predictions, best_and_worst, format_table};
use roentgen_infer::explain::{ExplainError, Explainer, Method};
use roentgen_infer::{Model, Predictor};
use roentgen_nn::{Arithmetic, Engine, EngineError, ParameterSet};
use roentgen_report::{HeatPicture, Sheet, Tile, write_experiment_report, write_report, write_sheets};
use roentgen_run::config::OnBadImage;
use roentgen_run::directory::write_atomically;
use roentgen_run::environment::Environment;
use roentgen_run::experiment_directory::ExperimentState;
use roentgen_run::predictions::PredictionTable;
use roentgen_run::{Config, ExperimentDirectory, RunDirectory};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

/// Longest side of a picture on a contact sheet, in pixels.
const TILE_SIDE: usize = 224;

/// Runs `roentgen evaluate`.
pub fn run(arguments: &Evaluate) -> Outcome {
    let metrics = match (&arguments.predictions, &arguments.run) {
        (Some(file), _) => {
            let table = PredictionTable::read(file)?;
            let positive = positive_class(&table.classes, arguments.positive.as_deref())?;
            Metrics::evaluate(&predictions(&table, file)?, positive, &resampling(0))?
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
    let config = run.config()?;
    let mut answering = Answering::new(run, &config, arguments)?;
    let classes = answering.model.description.classes.clone();
    let positive = arguments.positive.as_ref().or(config.data.positive.as_ref());
    // Before the work: a class that does not exist is a wrong call.
    let positive = positive_class(&classes, positive.map(String::as_str))?;
    let rules = threshold_rules(&arguments.thresholds)?;
    let root = arguments.data.as_ref().unwrap_or(&config.data.root);
    if root.as_os_str().is_empty() {
        return Err(Failure::call(format!("{} names no data: give the folder with --data DIR", run.path().display())));
    }
    // Other data have their own splits.
    let cross_validation = config.data.cross_validation.filter(|_| *root == config.data.root);
    let manifest = start::manifest(root, cross_validation, answering.on_bad_image, config.data.anonymous.as_deref())?;
    let name = result_name(run, &manifest, root, split)?;
    // Other data may hold the test images under another name.
    if name != Split::Train.name() && name != Split::Validation.name() {
        search::refuse_sealed(run)?;
    }
    let label_of = labels(&manifest, &classes, &arguments.map)?;
    let mut engine = config.engine.clone();
    arguments.image_cache.apply(&mut engine);
    answering.image_cache = image_cache::open(&engine);
    let Answers { table, rows, bad } = answering.split(&manifest, &label_of, split)?;
    let file = run.predictions_file(&name);
    let answers = predictions(&table, &file)?;
    table.write(&file)?;

    let generator = resampling(config.training.seed);
    let mut metrics = Metrics::evaluate(&answers, positive, &generator)?;
    if !bad.is_empty() {
        let names: Vec<String> = bad.iter().map(|(row, _)| manifest.rows[*row].path.display().to_string()).collect();
        let note = format!("{} images could not be decoded and were left out: {}.", bad.len(), names.join(", "));
        metrics.notes.push(note);
    }
    match validation(run, &config, &manifest, &mut answering)? {
        Ok(validation) => apply_validation(&mut metrics, &answers, &validation, &rules, &generator)?,
        Err(reason) => metrics.notes.push(format!("Neither temperature nor thresholds were fitted: {reason}.")),
    }
    let named = |name: fn(&Row) -> &Option<String>| -> Vec<Option<String>> {
        rows.iter().map(|&row| name(&manifest.rows[row]).clone()).collect()
    };
    add_groups(&mut metrics, "source", &named(|row| &row.source), &answers, &generator)?;
    add_groups(&mut metrics, "finding", &named(|row| &row.finding), &answers, &generator)?;
    write_atomically(&run.metrics_file(&name), |out| {
        serde_json::to_writer_pretty(&mut *out, &metrics)?;
        writeln!(out)
    })?;
    let sheets = sheets(&mut answering, &table, &manifest, &rows, arguments.images)?;
    write_sheets(run, &name, &sheets)?;
    image_cache::say_damage(answering.image_cache.as_deref());
    eprintln!("wrote {} and {}", file.display(), run.metrics_file(&name).display());
    if !bad.is_empty() {
        eprintln!("skipped {} of {} images", bad.len(), bad.len() + rows.len());
    }
    Ok(metrics)
}

/// A run's model and how it is to answer.
struct Answering {
    model: Model,
    engine: CpuEngine,
    arithmetic: Arithmetic,
    memory_limit_bytes: Option<usize>,
    on_bad_image: OnBadImage,
    image_cache: Option<Arc<ImageCache>>,
}

/// What a model answered for a split.
struct Answers {
    table: PredictionTable,
    /// The manifest's rows in the table, in its order.
    rows: Vec<usize>,
    /// Rows that were left out, with why.
    bad: Vec<(usize, DataError)>,
}

impl Answering {
    fn new(run: &RunDirectory, config: &Config, arguments: &Evaluate) -> Outcome<Answering> {
        let limit = config.engine.memory_limit_mib.map(|mib| mib.saturating_mul(1 << 20));
        Ok(Answering {
            image_cache: None,
            model: Model::open(run.path())?,
            engine: start::engine(arguments.computation.threads.or(config.engine.threads))?,
            arithmetic: resolve::arithmetic_of_run(&config.engine, &arguments.computation),
            memory_limit_bytes: limit.or_else(start::available_memory_bytes),
            on_bad_image: arguments.on_bad_image.map_or(config.data.on_bad_image, resolve::on_bad_image),
        })
    }

    /// What makes the heat maps of the best and worst images; `None`, said on stderr, where images are too small for a map
    /// or memory does not suffice: an evaluation is whole without them.
    fn explainer(&self) -> Outcome<Option<Explainer>> {
        let network = &self.model.network;
        let (arithmetic, memory) = (self.arithmetic, self.memory_limit_bytes);
        match Explainer::new(&self.engine, network, Method::GradCam, None, arithmetic, memory) {
            Ok(explainer) => Ok(Some(explainer)),
            Err(ExplainError::NoMap { module, shape, image_size }) => {
                eprintln!(
                    "note: no heat maps beside the best and worst images: at {image_size} px `{module}` gives {shape}, \
                     which is no map; `roentgen explain --module NAME` makes them of an earlier module"
                );
                Ok(None)
            }
            Err(error @ ExplainError::Engine(EngineError::Memory { .. })) => {
                eprintln!("note: no heat maps beside the best and worst images: {error}");
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Answers for a split; `label_of` says which of the model's classes each class of the data is.
    fn split(&mut self, manifest: &Arc<Manifest>, label_of: &[usize], split: Split) -> Outcome<Answers> {
        let rows = manifest.require_split(split)?;
        let cache = self.image_cache.as_deref().map(|cache| (cache, self.model.network.image_size()));
        let bad = start::bad_rows(manifest, &rows, self.on_bad_image, self.engine.threads(), cache)?;
        let rows: Vec<usize> = rows.into_iter().filter(|row| bad.iter().all(|(skipped, _)| skipped != row)).collect();
        if rows.is_empty() {
            let root = manifest.root.display();
            return Err(Failure::work(format!("{root}: no image of the split {split} can be decoded")));
        }
        let bar = progress::bar(rows.len() as u64, "evaluating {wide_bar} {pos}/{len} images, {eta} left");
        let mut predictor =
            Predictor::new(&self.engine, &self.model.network, self.arithmetic, self.memory_limit_bytes)?
                .with_image_cache(self.image_cache.clone());
        let store = &mut self.model.store;
        let answers = predictor.rows(store, ParameterSet::Live, manifest, rows.clone(), |done| {
            bar.set_position(done as u64);
            true
        })?;
        bar.finish_and_clear();
        let predictions = answers
            .iter()
            .map(|answer| answer.to_prediction(manifest, Some(label_of[manifest.rows[answer.row].label])))
            .collect();
        let table = PredictionTable { classes: self.model.description.classes.clone(), rows: predictions };
        Ok(Answers { table, rows, bad })
    }
}

/// The answers for the validation images of the data that the run was trained on: from `predictions-validation.csv`, or
/// computed and written there. That data may be what is evaluated, `manifest`, or lie where the run found it. In words,
/// why there are none: no such images, or the data is not there.
fn validation(
    run: &RunDirectory,
    config: &Config,
    manifest: &Arc<Manifest>,
    answering: &mut Answering,
) -> Outcome<Result<Predictions, String>> {
    let file = run.predictions_file(Split::Validation.name());
    if file.is_file() {
        return Ok(Ok(predictions(&PredictionTable::read(&file)?, &file)?));
    }
    let own = Environment::read(&run.environment_file())?.data_fingerprint;
    let root = &config.data.root;
    let manifest = if manifest.fingerprint()? == own {
        manifest.clone()
    } else if root.exists() {
        let (on_bad_image, anonymous) = (answering.on_bad_image, config.data.anonymous.as_deref());
        start::manifest(root, config.data.cross_validation, on_bad_image, anonymous)?
    } else {
        return Ok(Err(format!("the data that the run was trained on is not at {} any more", root.display())));
    };
    if manifest.fingerprint()? != own {
        return Ok(Err(format!("the data at {} is no longer what the run was trained on", root.display())));
    }
    if manifest.rows_of(Split::Validation).is_empty() {
        return Ok(Err("the run has no validation images".into()));
    }
    let label_of = labels(&manifest, &answering.model.description.classes, &[])?;
    let Answers { table, .. } = answering.split(&manifest, &label_of, Split::Validation)?;
    table.write(&file)?;
    eprintln!("wrote {}, on which temperature and thresholds are fitted", file.display());
    Ok(Ok(predictions(&table, &file)?))
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

/// The images that the model was surest about, right and wrong, with what spoke for the predicted class.
fn sheets(
    answering: &mut Answering,
    table: &PredictionTable,
    manifest: &Manifest,
    rows: &[usize],
    count: usize,
) -> Outcome<Vec<Sheet>> {
    let labels: Vec<usize> = table.rows.iter().filter_map(|row| row.label).collect();
    let predicted: Vec<usize> = table.rows.iter().map(|row| row.predicted).collect();
    let probabilities: Vec<f32> = table.rows.iter().flat_map(|row| row.probabilities.clone()).collect();
    let rankings = best_and_worst(&labels, &predicted, &probabilities, table.classes.len(), count)?;
    let mut explainer = match rankings.iter().any(|ranking| !ranking.best.is_empty() || !ranking.worst.is_empty()) {
        true => answering.explainer()?,
        false => None,
    };
    let store = &mut answering.model.store;
    let mut tile = |&index: &usize| -> Outcome<Tile> {
        let prediction = &table.rows[index];
        let row = &manifest.rows[rows[index]];
        let image = decode(&manifest.path_of(rows[index]), &Limits::default())?;
        let (pixels, width, height) = displayed(&image, TILE_SIDE);
        let heat_map = match &mut explainer {
            None => None,
            Some(explainer) => {
                let map = explainer.explain(store, &image, Some(prediction.predicted))?.map;
                let (evidence, largest) = (map.evidence_over(width, height), map.largest());
                Some(HeatPicture { pixels: pixels.clone(), width, height, evidence, largest }.blended()?)
            }
        };
        Ok(Tile {
            pixels,
            width,
            height,
            heat_map,
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
            best: ranking.best.iter().map(&mut tile).collect::<Result<_, _>>()?,
            worst: ranking.worst.iter().map(&mut tile).collect::<Result<_, _>>()?,
        });
    }
    Ok(sheets)
}
