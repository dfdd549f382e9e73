//! `roentgen train`

use crate::arguments::Train;
use crate::failure::{Failure, Outcome};
use crate::leaks::Decoded;
use crate::progress::TrainingProgress;
use crate::wording::counted;
use crate::{image_cache, interrupt, leaks, lr_find, resolve, start};
use roentgen_data::{ImageCache, Manifest};
use roentgen_nn::Engine;
use roentgen_run::config::FrozenBatchNorm;
use roentgen_run::directory::RunState;
use roentgen_run::environment::Environment;
use roentgen_run::{Config, RunDirectory};
use roentgen_train::{Checkpoint, Setup, TrainError};
use std::collections::BTreeSet;
use std::fs::File;
use std::rc::Rc;
use std::sync::Arc;

/// Runs the command.
pub fn run(arguments: &Train) -> Outcome {
    let (config, run, resumes) = match &arguments.resume {
        Some(path) => resumed(arguments, RunDirectory::open(path)?)?,
        None => begun(arguments)?,
    };
    if arguments.lr_find {
        return lr_find::run(config, &run, arguments.allow_leaks);
    }
    let outcome = train(config, run.clone(), resumes, arguments.allow_leaks, &[])?;
    match outcome {
        roentgen_train::Outcome::Finished { epoch } => {
            eprintln!("wrote {} (weights of epoch {epoch})", run.model_file().display());
            let path = run.path().display();
            eprintln!("next: roentgen evaluate {path} && roentgen report {path}");
            Ok(())
        }
        roentgen_train::Outcome::Interrupted { steps_done } => Err(Failure::work(format!(
            "stopped after step {steps_done}; everything so far is saved: go on with `roentgen train --resume {}`",
            run.path().display()
        ))),
    }
}

/// A new run: its folder must not hold one that would be lost.
fn begun(arguments: &Train) -> Outcome<(Config, RunDirectory, bool)> {
    let mut config = match &arguments.config {
        Some(file) => Config::read(file)?,
        None => Config::default(),
    };
    resolve::apply(&arguments.settings, arguments.data.as_ref(), &mut config)?;
    if config.data.root.as_os_str().is_empty() {
        return Err(Failure::call("no data: give the folder with --data DIR"));
    }
    let Some(out) = &arguments.out else {
        return Err(Failure::call("no place for the run: give a folder with --out DIR"));
    };
    let run = RunDirectory::new(out);
    let path = out.display();
    match run.state() {
        RunState::Absent | RunState::Started => Ok((config, run, false)),
        RunState::Resumable => Err(Failure::call(format!(
            "{path}: an unfinished run stands there: go on with `roentgen train --resume {path}`, or give another --out"
        ))),
        RunState::Finished => Err(Failure::call(format!(
            "{path}: a finished run stands there: give another --out, or train it longer with `roentgen train --resume \
             {path} --epochs N`"
        ))),
        RunState::Foreign => Err(Failure::call(format!(
            "{path}: the folder holds something that is no run: give a new or empty folder with --out"
        ))),
    }
}

/// A run that goes on, perhaps longer than it was meant to.
fn resumed(arguments: &Train, run: RunDirectory) -> Outcome<(Config, RunDirectory, bool)> {
    resolve::only_resumable(&arguments.settings)?;
    let mut config = run.config()?;
    if config.is_imported() {
        let path = run.path().display();
        return Err(Failure::call(format!(
            "{path}: an imported model has no training to go on with: begin a run from it with --weights {path} --out DIR"
        )));
    }
    let planned_epochs = config.training.epochs;
    resolve::apply(&arguments.settings, arguments.data.as_ref(), &mut config)?;
    let path = run.path().display();
    match run.state() {
        RunState::Absent | RunState::Foreign => unreachable!("an opened run has a config.toml"),
        RunState::Started => {
            eprintln!("{path}: no checkpoint yet; starting from the beginning");
            Ok((config, run, false))
        }
        RunState::Resumable | RunState::Finished => {
            let checkpoint = Checkpoint::read(&run.last_checkpoint_file())?;
            let done = checkpoint.epochs_done;
            let finished = run.state() == RunState::Finished;
            if let Some(steps) = config.training.max_steps.filter(|most| finished && checkpoint.step >= *most) {
                return Err(Failure::call(format!(
                    "{path}: the run is finished ({steps} steps, its --max-steps): begin a longer one with --config \
                     {path}/config.toml --out DIR"
                )));
            }
            if finished && checkpoint.stopped_early(&config.training) {
                return Err(Failure::call(format!(
                    "{path}: the run is finished (stopped early after epoch {done}, its --patience over): begin a longer one \
                     with --config {path}/config.toml --patience N --out DIR"
                )));
            }
            if finished && done >= config.training.epochs {
                return Err(Failure::call(format!(
                    "{path}: the run is finished ({done} epochs): train it longer with --epochs N, N above {done}"
                )));
            }
            if config.training.epochs < done || config.training.epochs == done && checkpoint.steps_in_epoch > 0 {
                return Err(Failure::call(format!(
                    "{path}: {done} epochs are done{}, and --epochs is {}: a run cannot become shorter",
                    if checkpoint.steps_in_epoch > 0 { " and another is begun" } else { "" },
                    config.training.epochs
                )));
            }
            if config.training.epochs != planned_epochs && config.training.schedule.spans_the_run() {
                return Err(Failure::call(format!(
                    "{path}: its learning rate is planned over {planned_epochs} epochs, so that its steps would have been \
                     others in a run of {}: leave --epochs out, or begin that run with --config {path}/config.toml \
                     --epochs {} --out DIR",
                    config.training.epochs, config.training.epochs
                )));
            }
            Ok((config, run, true))
        }
    }
}

/// Trains a configuration in a run directory; `notices` stand at the top of the report.
pub fn train(
    config: Config,
    run: RunDirectory,
    resumes: bool,
    allow_leaks: bool,
    notices: &[String],
) -> Outcome<roentgen_train::Outcome> {
    // `None` also where there is no folder yet.
    let held = run.lock()?;
    let engine = start::engine(config.engine.threads)?;
    let data = Data::open(&config, allow_leaks, None, &engine)?;
    let mut ready = Ready::new(config, run.clone(), resumes, &data, notices, &engine)?;
    // What cannot run leaves the folder as it was.
    roentgen_train::check_together(&[&ready.setup], &engine)?;
    let _held = ready.claim(held)?;
    // Before this there is nothing to save, and Ctrl-C ends the program as usual.
    let stop = interrupt::flag();
    let setup = &mut ready.setup;
    let trained: Vec<String> =
        setup.stages.iter().map(|stage| stage.plan.trainable_count(&setup.network).to_string()).collect();
    eprintln!(
        "{} on {} ({} for validation), {}: training {} of {} parameters, {} on {} threads",
        setup.network.architecture(),
        counted(setup.train_rows.len(), "image", "images"),
        setup.validation_rows.len(),
        ready.environment.start,
        trained.join(", later "),
        setup.network.parameter_count(),
        engine.description(),
        engine.threads(),
    );
    if setup.validation_rows.is_empty() {
        eprintln!("note: there is no validation split; nothing says when to stop");
    }
    roentgen_train::fit(setup, &engine, &mut TrainingProgress::new(stop)).map_err(|error| {
        let resumable = run.last_checkpoint_file().is_file() && !matches!(error, TrainError::NotFinite { .. });
        let failure = Failure::from(error);
        if resumable {
            eprintln!("note: the last checkpoint is kept: `roentgen train --resume {}`", run.path().display());
        }
        failure
    })
}

/// A data set that can be trained on, and what was seen of its images.
pub struct Data {
    /// The images.
    pub manifest: Arc<Manifest>,
    /// Which of them are identical, and which cannot be decoded.
    pub decoded: Rc<Decoded>,
    image_cache: Option<Arc<ImageCache>>,
}

impl Data {
    /// Opens the data of a configuration, whose settings must fit them, and checks it for leaks. `known` is what was seen
    /// of the same folder before.
    pub fn open(config: &Config, allow_leaks: bool, known: Option<Rc<Decoded>>, engine: &dyn Engine) -> Outcome<Data> {
        let data = &config.data;
        let manifest =
            start::manifest(&data.root, data.cross_validation, data.on_bad_image, data.anonymous.as_deref())?;
        Setup::check(config, &manifest)?;
        if !allow_leaks {
            leaks::check_patients(&manifest)?;
        }
        let image_cache = image_cache::open(&config.engine);
        let is_known = known.is_some();
        let decoded = match known {
            Some(decoded) => decoded,
            None => {
                let cache = image_cache.as_deref().map(|cache| (cache, config.data.image_size));
                Decoded::look(&manifest, config.data.on_bad_image, engine.threads(), cache)?
            }
        };
        decoded.refuse_bad_images(&manifest)?;
        leaks::check(&manifest, &decoded, allow_leaks)?;
        if !is_known {
            leaks::say_what_was_not_looked_for(&manifest);
        }
        Ok(Data { manifest, decoded, image_cache })
    }
}

/// A run that could begin or go on, of which nothing is written yet.
pub struct Ready {
    /// Settings, data, network and weights.
    pub setup: Setup,
    /// What will be written about where it runs.
    pub environment: Environment,
}

impl Ready {
    /// Brings a configuration and its data together; a run that `resumes` takes its weights from its checkpoint.
    pub fn new(
        config: Config,
        run: RunDirectory,
        resumes: bool,
        data: &Data,
        notices: &[String],
        engine: &dyn Engine,
    ) -> Outcome<Ready> {
        let skip: Vec<usize> = data.decoded.bad.iter().map(|(row, _)| *row).collect();
        let weights = match resumes {
            true => None,
            false => start::weight_file(&config.network.weights, &config.network.architecture)?,
        };
        let mut setup = Setup::new(config, data.manifest.clone(), &skip, weights.as_deref(), run)?;
        setup.image_cache.clone_from(&data.image_cache);
        let run = &setup.run;
        let warnings = setup.warnings();
        start::warn_once(&warnings);
        let mut environment = environment(&setup, engine, &data.decoded, notices);
        environment.warnings.extend(warnings);
        if resumes {
            let checkpoint = Checkpoint::read(&run.last_checkpoint_file())?;
            // Before config.toml is written again: --data may name other data.
            checkpoint.check(&setup)?;
            warn_of_other_bits(&checkpoint.instruction_set, &engine.bits());
            // Where the run began, and what was said of it then, does not change by going on.
            let known = Environment::read(&run.environment_file())?;
            environment.start = known.start;
            let new = std::mem::replace(&mut environment.warnings, known.warnings);
            environment.warnings.extend(new);
            let mut seen = BTreeSet::new();
            environment.warnings.retain(|warning| seen.insert(warning.clone()));
        }
        if setup.memory_limit_bytes.is_none() {
            setup.memory_limit_bytes = start::available_memory_bytes();
        }
        if !setup.network.ids().any(|id| setup.plan.batch_norm(id).is_some())
            && setup.config.freeze.frozen_batch_norm == FrozenBatchNorm::Train
        {
            eprintln!("note: {} has no batch norm; --frozen-bn train changes nothing", setup.network.architecture());
        }
        Ok(Ready { setup, environment })
    }

    /// Makes the run's folder and writes what is known before the first step. Returns its lock, `held` where it is one.
    pub fn claim(&self, held: Option<File>) -> Outcome<Option<File>> {
        let run = &self.setup.run;
        run.create(&self.setup.config)?;
        let held = if held.is_some() { held } else { run.lock()? };
        self.environment.write(&run.environment_file())?;
        Ok(held)
    }
}

fn warn_of_other_bits(before: &str, now: &str) {
    if before != now {
        eprintln!("warning: the run began on {before} and goes on on {now}: the last bits of its numbers will differ");
    }
}

fn environment(setup: &Setup, engine: &dyn Engine, decoded: &Decoded, notices: &[String]) -> Environment {
    let manifest = &setup.manifest;
    let start::Counts { images, sources, patients } = start::counts(manifest, &decoded.bad);
    let across = manifest.patients_across_splits();
    Environment {
        version: env!("CARGO_PKG_VERSION").into(),
        instruction_set: engine.description(),
        threads: engine.threads(),
        platform: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        data_fingerprint: setup.data_fingerprint.clone(),
        classes: manifest.classes.clone(),
        images,
        sources,
        patients,
        patients_in_several_splits: across.into_iter().map(|leak| leak.patient_id).collect(),
        identical_in_several_splits: decoded.identical_across_splits(manifest),
        trainable_parameters: setup.plan.trainable_count(&setup.network),
        parameters: setup.network.parameter_count(),
        start: setup.start.clone(),
        skipped_images: start::skipped(manifest, &decoded.bad),
        warnings: notices.iter().chain(&manifest.warnings).cloned().collect(),
    }
}
