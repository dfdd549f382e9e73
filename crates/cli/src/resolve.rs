//! From words to a checked configuration: what is given wins over the file, the file over the defaults.

use crate::arguments::{
    AugmentKind, Computation, DeviceName, FrozenBn, OnBadImage, OptimizerName, PrecisionName, SelectName, Settings,
};
use crate::failure::{Failure, Outcome};
use roentgen_nn::Arithmetic;
use roentgen_run::config::{self, ClassWeights, EngineSettings, NamedClassWeights};
use roentgen_run::{Config, RunDirectory, predictions};
use std::path::{Path, PathBuf};

/// Puts what was given on the command line over a configuration.
pub fn apply(settings: &Settings, data: Option<&PathBuf>, config: &mut Config) -> Outcome {
    fn set<T: Clone>(target: &mut T, given: Option<&T>) {
        if let Some(given) = given {
            *target = given.clone();
        }
    }
    if let Some(root) = data.filter(|root| root.to_str().is_none()) {
        return Err(Failure::call(format!(
            "--data {}: the name is not UTF-8 (shown with replacement characters); rename the folder, because the run's \
             files could not name it",
            root.display()
        )));
    }
    set(&mut config.data.root, data);
    set(&mut config.data.image_size, settings.image_size.as_ref());
    set(&mut config.data.augment, settings.augment.map(augmentation).as_ref());
    match (settings.augment, config.data.augment) {
        // With its parameters spelled out.
        (_, config::Augmentation::Cxr) => {
            config.data.cxr.get_or_insert_default();
        }
        // The file's were another augmentation's.
        (Some(_), _) => config.data.cxr = None,
        (None, _) => {}
    }
    if settings.views.is_some() {
        config.data.views = settings.views;
    }
    config.data.shuffle &= !settings.no_shuffle;
    set(&mut config.data.on_bad_image, settings.on_bad_image.map(on_bad_image).as_ref());
    if settings.anonymous.is_some() {
        config.data.anonymous.clone_from(&settings.anonymous);
    }
    if settings.positive.is_some() {
        config.data.positive.clone_from(&settings.positive);
    }
    set(&mut config.network.architecture, settings.arch.as_ref());
    set(&mut config.network.weights, settings.weights.as_ref());
    set(&mut config.network.hidden, settings.hidden.as_ref());
    set(&mut config.network.dropout, settings.dropout.as_ref());
    set(&mut config.freeze.unfreeze, settings.unfreeze.as_ref());
    set(&mut config.freeze.frozen_batch_norm, settings.frozen_bn.map(frozen_batch_norm).as_ref());
    let training = &mut config.training;
    set(&mut training.epochs, settings.epochs.as_ref());
    set(&mut training.batch_size, settings.batch_size.as_ref());
    set(&mut training.optimizer, settings.optimizer.map(optimizer).as_ref());
    set(&mut training.learning_rate, settings.lr.as_ref());
    if settings.momentum.is_some() && training.optimizer == config::Optimizer::Adamw {
        return Err(Failure::call(
            "--momentum is SGD's: AdamW has its own moments, leave it out or choose --optimizer sgd",
        ));
    }
    set(&mut training.momentum, settings.momentum.as_ref());
    set(&mut training.weight_decay, settings.weight_decay.as_ref());
    training.nesterov |= settings.nesterov;
    if let Some(text) = &settings.class_weights {
        training.class_weights = class_weights(text)?;
    }
    if settings.max_steps.is_some() {
        training.max_steps = settings.max_steps;
    }
    set(&mut training.select, settings.select.map(select).as_ref());
    set(&mut training.seed, settings.seed.as_ref());
    settings.recipe.apply(settings.momentum, config)?;
    set(&mut config.engine.precision, settings.precision.map(precision).as_ref());
    config.engine.exact |= settings.exact;
    set(&mut config.engine.device, settings.device.map(device).as_ref());
    if settings.threads.is_some() {
        config.engine.threads = settings.threads;
    }
    if settings.memory_limit.is_some() {
        config.engine.memory_limit_mib = settings.memory_limit;
    }
    set(&mut config.engine.cache_limit_mib, settings.cache_limit.as_ref());
    settings.image_cache.apply(&mut config.engine);
    Ok(())
}

/// What of the settings may change when a run goes on: its length, and how it is computed. Anything else would make it
/// another run.
pub fn only_resumable(settings: &Settings) -> Outcome {
    let allowed = Settings {
        epochs: settings.epochs,
        threads: settings.threads,
        memory_limit: settings.memory_limit,
        cache_limit: settings.cache_limit,
        image_cache: settings.image_cache.clone(),
        ..Settings::default()
    };
    // Both are plain data without order: their printed forms differ where they do.
    if format!("{settings:?}") == format!("{allowed:?}") {
        return Ok(());
    }
    Err(Failure::call(
        "--resume goes on with the settings of the run; beside it only --data, --epochs, --threads, --memory-limit, \
         --cache-limit, --cache, --image-cache-limit and --allow-leaks can be given: for other settings begin a run with \
         --config RUN/config.toml --out DIR",
    ))
}

fn class_weights(text: &str) -> Outcome<ClassWeights> {
    match text {
        "none" => Ok(ClassWeights::Named(NamedClassWeights::None)),
        "balanced" => Ok(ClassWeights::Named(NamedClassWeights::Balanced)),
        list => {
            let numbers: Result<Vec<f32>, _> = list.split(',').map(|number| number.trim().parse()).collect();
            numbers.map(ClassWeights::List).map_err(|_| {
                Failure::call(format!("--class-weights is `{list}`; expected none, balanced, or numbers such as 1,2.5"))
            })
        }
    }
}

/// The configuration's word for it.
pub fn augmentation(given: AugmentKind) -> config::Augmentation {
    match given {
        AugmentKind::None => config::Augmentation::None,
        AugmentKind::Seed => config::Augmentation::Seed,
        AugmentKind::Cxr => config::Augmentation::Cxr,
    }
}

/// The configuration's word for it.
pub fn on_bad_image(given: OnBadImage) -> config::OnBadImage {
    match given {
        OnBadImage::Fail => config::OnBadImage::Fail,
        OnBadImage::Skip => config::OnBadImage::Skip,
    }
}

fn frozen_batch_norm(given: FrozenBn) -> config::FrozenBatchNorm {
    match given {
        FrozenBn::Eval => config::FrozenBatchNorm::Eval,
        FrozenBn::Train => config::FrozenBatchNorm::Train,
    }
}

fn optimizer(given: OptimizerName) -> config::Optimizer {
    match given {
        OptimizerName::Sgd => config::Optimizer::Sgd,
        OptimizerName::Adamw => config::Optimizer::Adamw,
    }
}

fn select(given: SelectName) -> config::Select {
    match given {
        SelectName::Last => config::Select::Last,
        SelectName::Best => config::Select::Best,
    }
}

/// The number format that the command line names.
pub fn precision(given: PrecisionName) -> config::Precision {
    match given {
        PrecisionName::F32 => config::Precision::F32,
        PrecisionName::Bf16 => config::Precision::Bf16,
    }
}

/// What the engine is asked for.
pub fn arithmetic(given: PrecisionName, exact: bool) -> Arithmetic {
    roentgen_infer::arithmetic(precision(given), exact)
}

/// How a run computes, with what the command line says otherwise.
pub fn computation_of_run(run: &EngineSettings, given: &Computation) -> predictions::Computation {
    predictions::Computation {
        precision: given.precision.map_or(run.precision, precision),
        exact: run.exact || given.exact,
    }
}

/// The arithmetic of a run, with what the command line says otherwise.
pub fn arithmetic_of_run(run: &EngineSettings, given: &Computation) -> Arithmetic {
    let predictions::Computation { precision, exact } = computation_of_run(run, given);
    roentgen_infer::arithmetic(precision, exact)
}

/// How a run was told to compute; the defaults for a model file, which does not say.
pub fn engine_settings(model: &Path) -> Outcome<EngineSettings> {
    match model.is_dir() {
        true => Ok(RunDirectory::open(model)?.config()?.engine),
        false => Ok(EngineSettings::default()),
    }
}

fn device(given: DeviceName) -> config::Device {
    match given {
        DeviceName::Cpu => config::Device::Cpu,
    }
}
