//! A model as it is served: opened once, and unchanged by what happens on the disk until a reload.

use crate::threshold::{Decision, evaluation};
use crate::{ModelSource, ServeError, Settings};
use bytes::Bytes;
use roentgen_data::{Augment, Transform};
use roentgen_eval::default_positive;
use roentgen_infer::{Model, arithmetic};
use roentgen_nn::Arithmetic;
use roentgen_run::environment::Environment;
use roentgen_run::{Config, RunDirectory};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// What requests need of a model, beside the program that the inference thread holds.
pub(crate) struct Served {
    pub(crate) name: String,
    pub(crate) classes: Vec<String>,
    pub(crate) transform: Transform,
    /// `None` where no class is positive: several classes, and none by a name that says so.
    pub(crate) decision: Option<Decision>,
    /// SHA-256 of the weight file, in hexadecimal.
    pub(crate) sha256: String,
    /// The answer of `/v1/models/NAME`.
    pub(crate) description: Value,
    /// `report.html`, where the run has one.
    pub(crate) report: Option<Bytes>,
}

/// A model that is to be compiled.
pub(crate) struct Opened {
    pub(crate) served: Served,
    pub(crate) model: Model,
    pub(crate) arithmetic: Arithmetic,
}

/// Opens a run or a weight file and reads all that is said of it.
///
/// # Errors
/// Where a file is missing, broken, or replaced while it is read, and of a run of a search that has not chosen its winner.
pub(crate) fn open(source: &ModelSource, settings: &Settings) -> Result<Opened, ServeError> {
    let run = source.path.is_dir().then(|| RunDirectory::open(&source.path)).transpose()?;
    let file = run.as_ref().map_or_else(|| source.path.clone(), RunDirectory::model_file);
    // The model first: where there is none, its error says what to do.
    let before = sha256(&file);
    let model = Model::open(&source.path)?;
    let sha256 = match (before, sha256(&file)) {
        (Ok(before), Ok(after)) if before == after => after,
        _ => {
            let found = "the file was replaced while it was read".to_owned();
            return Err(ServeError::File { file, found, advice: "try again" });
        }
    };
    let config = run.as_ref().map(RunDirectory::config).transpose()?;
    let evaluation = run.as_ref().map(evaluation).transpose()?.flatten();
    let classes = model.description.classes.clone();
    if let (Some(run), Some((name, metrics))) = (&run, &evaluation)
        && metrics.classes() != classes
    {
        return Err(ServeError::File {
            file: run.metrics_file(name),
            found: format!("classes {}; the model has {}", metrics.classes().join(", "), classes.join(", ")),
            advice: "run `roentgen evaluate` again",
        });
    }
    let positive = positive(config.as_ref(), &classes);
    let metrics = evaluation.as_ref().map(|(_, metrics)| metrics);
    let decision =
        positive.map(|positive| Decision::new(&source.path, settings.threshold, metrics, positive)).transpose()?;
    let engine = config.as_ref().map(|config| config.engine.clone()).unwrap_or_default();
    let image_size = model.description.preprocessing.crop;
    let mut description = json!({
        "name": source.name,
        "architecture": model.description.architecture,
        "image_size": image_size,
        "classes": classes,
        "positive": decision.as_ref().map(|decision| &classes[decision.positive]),
        "threshold": decision.as_ref().map(|decision| decision.threshold),
        "threshold_source": decision.as_ref().map(|decision| &decision.source),
        "weights_sha256": sha256,
    });
    let report = run.as_ref().and_then(|run| std::fs::read(run.report_file()).ok()).map(Bytes::from);
    description["report"] = report.is_some().into();
    if let Some(run) = &run {
        let environment: Option<Environment> =
            run.environment_file().is_file().then(|| Environment::read(&run.environment_file())).transpose()?;
        description["trained"] = model.description.unfreeze.join(", ").into();
        description["images"] = json!(environment.as_ref().map(|environment| &environment.images));
        description["patients"] = json!(environment.as_ref().and_then(|environment| environment.patients.as_ref()));
        description["warnings"] = json!(environment.as_ref().map(|environment| &environment.warnings));
        description["card"] = json_file(&run.path().join("model-card.json"))?.unwrap_or_default();
    }
    if let Some((name, metrics)) = &evaluation {
        description["evaluated_on"] = name.as_str().into();
        description["metrics"] = json!(metrics);
    }
    // Last: a search may have sealed the run while it was read.
    if let Some(sealed) = RunDirectory::sealed_at(&source.path) {
        return Err(ServeError::File {
            file: sealed.seal_file(),
            found: "the run belongs to a search, which chooses its winner without the test images".to_owned(),
            advice: "serve its winner after the choice, or train the run by itself",
        });
    }
    let served = Served {
        name: source.name.clone(),
        transform: Transform { image_size, augment: Augment::None },
        classes,
        decision,
        sha256,
        description,
        report,
    };
    let precision = settings.precision.unwrap_or(engine.precision);
    Ok(Opened { served, model, arithmetic: arithmetic(precision, settings.exact || engine.exact) })
}

/// The positive class: the one that the run names, or by convention.
fn positive(config: Option<&Config>, classes: &[String]) -> Option<usize> {
    let named = config.and_then(|config| config.data.positive.as_ref());
    match named {
        Some(named) => classes.iter().position(|class| class == named),
        None => default_positive(classes).ok(),
    }
}

/// Reads a file of JSON where it is there.
fn json_file(file: &Path) -> Result<Option<Value>, ServeError> {
    if !file.is_file() {
        return Ok(None);
    }
    let broken =
        |found: String| ServeError::File { file: file.to_owned(), found, advice: "write it again or remove it" };
    let text = std::fs::read_to_string(file).map_err(|error| broken(error.to_string()))?;
    serde_json::from_str(&text).map(Some).map_err(|error| broken(error.to_string()))
}

fn sha256(file: &Path) -> std::io::Result<String> {
    let (mut file, mut digest, mut part) = (File::open(file)?, Sha256::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut part)? {
            0 => break,
            read => digest.update(&part[..read]),
        }
    }
    Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
