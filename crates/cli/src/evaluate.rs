//! `roentgen evaluate` and `roentgen report`

mod answers;
mod sheets;

use crate::arguments::{Evaluate, Report};
use crate::failure::{Failure, Outcome};
use crate::scoring::{add_groups, apply_validation, positive_class, predictions, resampling, threshold_rules};
use crate::wording::counted;
use crate::{image_cache, resolve, search, start};
use answers::{Answering, Question};
use roentgen_data::{Manifest, Row, Split};
use roentgen_eval::{Metrics, Predictions, ThresholdRule, format_table};
use roentgen_infer::ModelFile;
use roentgen_report::{SearchResults, write_experiment_report, write_report, write_sheets};
use roentgen_run::directory::write_atomically;
use roentgen_run::environment::Environment;
use roentgen_run::experiment_directory::ExperimentState;
use roentgen_run::predictions::{Computation, PredictionTable};
use roentgen_run::{Config, ExperimentDirectory, RunDirectory};
use sheets::sheets;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

/// The split that temperature and thresholds are fitted on.
const VALIDATION: &str = "validation";

/// Runs `roentgen evaluate`.
pub fn run(arguments: &Evaluate) -> Outcome {
    let metrics = match (&arguments.predictions, &arguments.run) {
        (Some(file), _) => {
            let table = PredictionTable::read(file)?;
            let positive = positive_class(&table.classes, arguments.positive.as_deref())?;
            Metrics::evaluate(&predictions(&table, file)?, positive, &resampling(0))?
        }
        (None, Some(path)) => evaluate(&[&RunDirectory::open(path)?], arguments)?.remove(0),
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
    let folder = &arguments.run;
    let experiment = ExperimentDirectory::new(folder);
    let page = if experiment.state() == ExperimentState::Begun {
        write_experiment_report(&experiment)?
    } else if SearchResults::file(folder).is_file() {
        SearchResults::read(folder)?.write(folder)?
    } else if search::is_begun(folder) {
        let path = folder.display();
        return Err(Failure::work(format!(
            "{path}: the search has not fixed its winner yet, and there is nothing to report before: go on with the \
             command that began it"
        )));
    } else {
        write_report(&RunDirectory::open(folder)?)?
    };
    writeln!(std::io::stdout(), "{}", page.display())?;
    Ok(())
}

/// A run that is evaluated.
struct Subject<'a> {
    run: &'a RunDirectory,
    config: Config,
    model: ModelFile,
    /// Index of the positive class.
    positive: usize,
}

impl<'a> Subject<'a> {
    fn open(run: &'a RunDirectory, arguments: &Evaluate) -> Outcome<Subject<'a>> {
        let (config, model) = (run.config()?, ModelFile::open(run.path())?);
        let positive = arguments.positive.as_ref().or(config.data.positive.as_ref());
        // Before the work: a class that does not exist is a wrong call.
        let positive = positive_class(&model.description.classes, positive.map(String::as_str))?;
        Ok(Subject { run, config, model, positive })
    }

    /// The answers for the validation images that the run has, where they were computed in the same way.
    fn kept_validation(&self, computation: Computation) -> Outcome<Option<Predictions>> {
        let file = self.run.predictions_file(VALIDATION);
        match Computation::of_predictions(self.run, VALIDATION)? {
            None => Ok(None),
            Some(known) if known == computation => Ok(Some(predictions(&PredictionTable::read(&file)?, &file)?)),
            Some(known) => {
                let file = file.display();
                eprintln!("{file} was computed in {known}, this evaluation is in {computation}: it is made anew");
                Ok(None)
            }
        }
    }
}

/// Evaluates runs on a split, and writes predictions, metrics and contact sheets into them. Several runs must be of the same
/// data, classes and computation, as those that train together are: images are then decoded once for all of them, and what
/// they compute alike is computed once, as far as memory allows. The metrics stand in the order of the runs.
pub fn evaluate(runs: &[&RunDirectory], arguments: &Evaluate) -> Outcome<Vec<Metrics>> {
    let split: Split = arguments.split.parse().map_err(|e| Failure::Call(anyhow::Error::new(e)))?;
    let subjects = runs.iter().map(|run| Subject::open(run, arguments)).collect::<Outcome<Vec<Subject<'_>>>>()?;
    let Some(first) = subjects.first() else { return Ok(Vec::new()) };
    let rules = threshold_rules(&arguments.thresholds)?;
    let config = &first.config;
    let (classes, image_size) = (&first.model.description.classes, first.model.network.image_size());
    let root = arguments.data.as_ref().unwrap_or(&config.data.root);
    if root.as_os_str().is_empty() {
        let path = first.run.path().display();
        return Err(Failure::call(format!("{path} names no data: give the folder with --data DIR")));
    }
    // Other data have their own splits.
    let cross_validation = config.data.cross_validation.filter(|_| *root == config.data.root);
    let on_bad_image = arguments.on_bad_image.map_or(config.data.on_bad_image, resolve::on_bad_image);
    let manifest = start::manifest(root, cross_validation, on_bad_image, config.data.anonymous.as_deref())?;
    let name = result_name(first.run, &manifest, root, split)?;
    // Other data may hold the test images under another name.
    if name != Split::Train.name() && name != VALIDATION {
        subjects.iter().try_for_each(|subject| search::refuse_sealed_model(subject.run.path()))?;
    }
    let label_of = labels(&manifest, classes, &arguments.map)?;
    let mut engine = config.engine.clone();
    arguments.image_cache.apply(&mut engine);
    let limit = config.engine.memory_limit_mib.map(|mib| mib.saturating_mul(1 << 20));
    let answering = Answering {
        engine: start::engine(arguments.computation.threads.or(config.engine.threads))?,
        computation: resolve::computation_of_run(&config.engine, &arguments.computation),
        memory_limit_bytes: limit.or_else(start::available_memory_bytes),
        on_bad_image,
        image_cache: image_cache::open(&engine),
    };
    let question = answering.question(&manifest, label_of, split, image_size)?;
    let mut kept = Vec::new();
    for subject in &subjects {
        // What is asked for now is not taken from the last time.
        kept.push(if name == VALIDATION { None } else { subject.kept_validation(answering.computation)? });
    }
    let on_validation = match name == VALIDATION || kept.iter().all(Option::is_some) {
        true => Err(String::new()),
        false => validation_question(first, &manifest, &answering)?,
    };
    let questions: Vec<&Question> = [&question].into_iter().chain(on_validation.as_ref().ok()).collect();
    let models: Vec<&ModelFile> = subjects.iter().map(|subject| &subject.model).collect();
    let mut tables = answering.ask(&models, &questions)?.into_iter();
    let answers = tables.next().unwrap_or_default();
    let mut validation_tables = tables.next().unwrap_or_default().into_iter();

    let mut all = Vec::new();
    for ((subject, table), kept) in subjects.iter().zip(answers).zip(kept) {
        let own = validation_tables.next();
        let validation = match (kept, own, &on_validation) {
            (Some(kept), ..) => Ok(kept),
            (None, Some(table), _) => {
                answering.computation.write_predictions(subject.run, VALIDATION, &table)?;
                let file = subject.run.predictions_file(VALIDATION);
                eprintln!("wrote {}, on which temperature and thresholds are fitted", file.display());
                Ok(predictions(&table, &file)?)
            }
            (None, None, _) if name == VALIDATION => {
                Ok(predictions(&table, &subject.run.predictions_file(VALIDATION))?)
            }
            (None, None, reason) => Err(reason.as_ref().err().cloned().unwrap_or_default()),
        };
        let job = Judged { subject, name: &name, table, question: &question, validation };
        all.push(job.write(&answering, arguments, &rules)?);
    }
    Ok(all)
}

/// A run with its answers.
struct Judged<'a> {
    subject: &'a Subject<'a>,
    /// What the results are called.
    name: &'a str,
    table: PredictionTable,
    question: &'a Question,
    /// The answers for the validation images, or why there are none.
    validation: Result<Predictions, String>,
}

impl Judged<'_> {
    /// Writes predictions, metrics and contact sheets into the run.
    fn write(&self, answering: &Answering, arguments: &Evaluate, rules: &[ThresholdRule]) -> Outcome<Metrics> {
        let Subject { run, config, model, positive } = self.subject;
        let (name, Question { manifest, rows, bad, .. }) = (self.name, self.question);
        let file = run.predictions_file(name);
        let answers = predictions(&self.table, &file)?;
        answering.computation.write_predictions(run, name, &self.table)?;
        let generator = resampling(config.training.seed);
        let mut metrics = Metrics::evaluate(&answers, *positive, &generator)?;
        if !bad.is_empty() {
            let names: Vec<String> =
                bad.iter().map(|(row, _)| manifest.rows[*row].path.display().to_string()).collect();
            let left_out = counted(
                bad.len(),
                "image could not be decoded and was left out",
                "images could not be decoded and were left out",
            );
            let note = format!("{left_out}: {}.", names.join(", "));
            metrics.notes.push(note);
        }
        match &self.validation {
            Ok(validation) => apply_validation(&mut metrics, &answers, validation, rules, &generator)?,
            Err(reason) => metrics.notes.push(format!("Neither temperature nor thresholds were fitted: {reason}.")),
        }
        let named = |name: fn(&Row) -> &Option<String>| -> Vec<Option<String>> {
            rows.iter().map(|&row| name(&manifest.rows[row]).clone()).collect()
        };
        add_groups(&mut metrics, "source", &named(|row| &row.source), &answers, &generator)?;
        add_groups(&mut metrics, "finding", &named(|row| &row.finding), &answers, &generator)?;
        write_atomically(&run.metrics_file(name), |out| {
            serde_json::to_writer_pretty(&mut *out, &metrics)?;
            writeln!(out)
        })?;
        write_sheets(run, name, &sheets(answering, model, &self.table, self.question, arguments.images)?)?;
        eprintln!("wrote {} and {}", file.display(), run.metrics_file(name).display());
        if !bad.is_empty() {
            eprintln!("skipped {} of {} images", bad.len(), bad.len() + rows.len());
        }
        Ok(metrics)
    }
}

/// The validation images of the data that a run was trained on. That data may be what is evaluated, `manifest`, or lie
/// where the run found it. In words, why there are none: no such images, or the data is not there.
fn validation_question(
    subject: &Subject<'_>,
    manifest: &Arc<Manifest>,
    answering: &Answering,
) -> Outcome<Result<Question, String>> {
    let Subject { run, config, model, .. } = subject;
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
    let label_of = labels(&manifest, &model.description.classes, &[])?;
    answering.question(&manifest, label_of, Split::Validation, model.network.image_size()).map(Ok)
}

/// Evaluates finished runs of one data set and computation on a split and writes their reports, where that is not done yet.
/// One outcome a run: what is wrong with one leaves the others alone.
pub fn evaluate_once(runs: &[&RunDirectory], split: &str) -> Vec<Outcome> {
    let is_done = |run: &RunDirectory| run.metrics_file(split).is_file() && run.report_file().is_file();
    let write = |runs: &[&RunDirectory]| -> Outcome {
        evaluate(runs, &Evaluate { split: split.into(), images: 8, ..Evaluate::default() })?;
        runs.iter().try_for_each(|run| Ok(write_report(run).map(|_| ())?))
    };
    let open: Vec<&RunDirectory> = runs.iter().copied().filter(|run| !is_done(run)).collect();
    if open.len() > 1 {
        // Whom an error is about is seen below.
        let _ = write(&open);
    }
    runs.iter().map(|run| if is_done(run) { Ok(()) } else { write(&[run]) }).collect()
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
