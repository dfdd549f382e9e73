//! Settings that no training can have, found before anything is read or written.

use crate::TrainError;
use roentgen_run::config::{Augmentation, Config, CxrSettings, Optimizer, Sampler, Schedule, TrainingSettings};

/// Checks what can be checked without data or network.
pub(crate) fn check(config: &Config) -> Result<(), TrainError> {
    let training = &config.training;
    ensure(training.batch_size > 0, "the batch size", training.batch_size, "at least 1")?;
    ensure(config.data.views != Some(0), "the number of views", 0, "at least 1")?;
    let is_drawn = config.data.views.is_none() || config.data.augment != Augmentation::None;
    ensure(is_drawn, "the number of views without augmentation", "given", "none: all views would be the same")?;
    let in_order = config.data.sampler == Sampler::Balanced && !config.data.shuffle;
    ensure(!in_order, "the sampler of unshuffled images", "balanced", "shuffled, or images that are shuffled")?;
    ensure(training.epochs > 0, "the number of epochs", training.epochs, "at least 1")?;
    let rate = training.learning_rate;
    ensure(rate > 0.0 && rate.is_finite(), "the learning rate", rate, "a positive number")?;
    for rate in training.learning_rates.values() {
        ensure(*rate > 0.0 && rate.is_finite(), "the learning rate of a group", rate, "a positive number")?;
    }
    let momentum = training.momentum;
    ensure((0.0..1.0).contains(&momentum), "momentum", momentum, "at least 0 and below 1")?;
    let decay = training.weight_decay;
    ensure(decay >= 0.0 && decay.is_finite(), "weight decay", decay, "at least 0")?;
    let nesterov_fits = !training.nesterov || momentum > 0.0 && training.optimizer == Optimizer::Sgd;
    ensure(nesterov_fits, "nesterov", true, "SGD with a momentum above 0")?;
    ensure(training.max_steps != Some(0), "the largest number of steps", 0, "at least 1")?;
    if let Some(decay) = training.average_decay {
        ensure(decay > 0.0 && decay < 1.0, "the decay of the averaged weights", decay, "above 0 and below 1")?;
    }
    ensure(training.patience != Some(0), "the patience in epochs", 0, "at least 1")?;
    if let Some(norm) = training.clip_norm {
        ensure(norm > 0.0 && norm.is_finite(), "the largest norm of the gradients", norm, "a positive number")?;
    }
    let (smoothing, gamma) = (training.label_smoothing, training.focal_gamma);
    ensure((0.0..1.0).contains(&smoothing), "label smoothing", smoothing, "at least 0 and below 1")?;
    ensure(gamma >= 0.0 && gamma.is_finite(), "the focal loss's gamma", gamma, "at least 0")?;
    ensure(smoothing == 0.0 || gamma == 0.0, "label smoothing beside the focal loss", smoothing, "one of the two")?;
    let fits = config.data.cxr.is_none() || config.data.augment == Augmentation::Cxr;
    ensure(fits, "the table data.cxr beside another augmentation", "given", "augment = \"cxr\", or no such table")?;
    config.data.cxr.map_or(Ok(()), cxr)?;
    schedule(training)
}

fn cxr(cxr: CxrSettings) -> Result<(), TrainError> {
    let angle = cxr.rotation_degrees;
    ensure((0.0..=180.0).contains(&angle), "cxr's rotation in degrees", angle, "from 0 to 180")?;
    for (name, share) in [
        ("cxr's shift", cxr.shift),
        ("cxr's contrast", cxr.contrast),
        ("cxr's probability of CLAHE", cxr.clahe_probability),
        ("cxr's probability of cutting a border", cxr.border_cut_probability),
    ] {
        ensure((0.0..=1.0).contains(&share), name, share, "from 0 to 1")?;
    }
    let limit = cxr.clahe_limit;
    ensure(limit >= 1.0 && limit.is_finite(), "cxr's limit of CLAHE", limit, "at least 1")
}

fn schedule(training: &TrainingSettings) -> Result<(), TrainError> {
    let warmup = training.warmup_epochs;
    let is_shorter = warmup >= 0.0 && f64::from(warmup) < training.epochs as f64;
    ensure(is_shorter, "the warm-up in epochs", warmup, "at least 0 and fewer than the epochs of the run")?;
    match training.schedule {
        Schedule::Constant {} => Ok(()),
        Schedule::Step { every_epochs, factor } => {
            ensure(every_epochs > 0, "the epochs between two steps of the rate", every_epochs, "at least 1")?;
            ensure(factor > 0.0 && factor.is_finite(), "the factor of a step of the rate", factor, "a positive number")
        }
        Schedule::Cosine { minimal_rate } => {
            let fits = (0.0..=training.learning_rate).contains(&minimal_rate);
            ensure(fits, "the cosine's minimal rate", minimal_rate, "at least 0 and at most the learning rate")
        }
        Schedule::OneCycle(cycle) => {
            let share = cycle.pct_start;
            ensure(share > 0.0 && share < 1.0, "one-cycle's rising share", share, "above 0 and below 1")?;
            for factor in [cycle.div_factor, cycle.final_div_factor] {
                ensure(factor >= 1.0 && factor.is_finite(), "a divisor of one-cycle", factor, "at least 1")?;
            }
            let (low, high) = (cycle.base_momentum, cycle.max_momentum);
            let fits = low > 0.0 && low <= high && high < 1.0;
            let found = format!("{low} to {high}");
            ensure(fits, "one-cycle's momentum", found, "two numbers above 0 and below 1, the lower first")?;
            ensure(warmup == 0.0, "the warm-up beside one-cycle", warmup, "none: one-cycle rises by itself")
        }
    }
}

fn ensure(holds: bool, setting: &'static str, found: impl ToString, expected: &'static str) -> Result<(), TrainError> {
    if holds { Ok(()) } else { Err(TrainError::Setting { setting, found: found.to_string(), expected }) }
}
