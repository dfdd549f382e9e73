//! Everything that training needs, checked and resolved from a configuration before the first image is read.

use crate::check::check;
use crate::unfreezing::{Stage, stage_of, stages};
use crate::{LearningRate, TrainError};
use roentgen_data::{Augment, ImageCache, Manifest, Split, Transform, balanced_order, epoch_order};
use roentgen_infer::{ModelDescription, Preprocessing, start_weights};
use roentgen_nn::loss::{CrossEntropy, LossKind};
use roentgen_nn::optimizer::{ParameterSettings, Rule};
use roentgen_nn::{Arithmetic, FreezePlan, FrozenBatchNorm, Head, Network, ParameterStore, architecture, group_rates};
use roentgen_run::config::{
    self, Augmentation, ClassWeights, Config, DataSettings, NamedClassWeights, Sampler, Schedule,
};
use roentgen_run::{FORMAT_VERSION, RunDirectory};
use std::path::Path;
use std::sync::Arc;

/// A run that can begin: settings, data, network, plan and start weights fit together.
pub struct Setup {
    /// The settings.
    pub config: Config,
    /// The images.
    pub manifest: Arc<Manifest>,
    /// Rows that are trained on.
    pub train_rows: Vec<usize>,
    /// Rows that each epoch is validated on; may be empty.
    pub validation_rows: Vec<usize>,
    /// The network with its head.
    pub network: Network,
    /// All that is ever trained: the plan of the last stage. It decides where the run is cut.
    pub plan: FreezePlan,
    /// What is trained when, from the first epoch on; one stage, unless layers are unfrozen on the way.
    pub stages: Vec<Stage>,
    /// The learning rates of the network's tensors that have one of their own.
    pub rates: Vec<Option<f32>>,
    /// The start weights.
    pub store: ParameterStore,
    /// Where they came from, in words.
    pub start: String,
    /// What is trained on. What is validated on is plain cross-entropy, so that rows and epochs compare.
    pub loss: CrossEntropy,
    /// The update rule.
    pub rule: Rule,
    /// SHA-256 of what the data is.
    pub data_fingerprint: String,
    /// The most memory that the compiled programs may take together, in bytes: the configuration's, where it has one.
    pub memory_limit_bytes: Option<usize>,
    /// Where decoded images are kept; `None`, as it begins, where they are decoded each time.
    pub image_cache: Option<Arc<ImageCache>>,
    /// Where everything is written.
    pub run: RunDirectory,
}

/// The augmentation of training images.
pub fn augment(settings: &DataSettings) -> Augment {
    match settings.augment {
        Augmentation::None => Augment::None,
        Augmentation::Seed => Augment::Seed,
        Augmentation::Cxr => Augment::Cxr(settings.cxr.unwrap_or_default()),
    }
}

impl Setup {
    /// Checks all that can be known wrong before the start weights are there: they may have to be downloaded first.
    ///
    /// # Errors
    /// Where a setting is out of range, a name is unknown, or the data lacks a split or class.
    pub fn check(config: &Config, manifest: &Manifest) -> Result<(), TrainError> {
        let (network, stages) = resolve(config, manifest)?;
        own_rates(config, &network, &stages).map(|_| ())
    }

    /// Checks the settings against the data and builds the network; `skip` holds rows that are left out, and
    /// `weights` the resolved weight file, or `None` for a random start.
    ///
    /// # Errors
    /// Where a setting is out of range, the data lacks a split or class, or the weights do not fit.
    pub fn new(
        config: Config,
        manifest: Arc<Manifest>,
        skip: &[usize],
        weights: Option<&Path>,
        run: RunDirectory,
    ) -> Result<Setup, TrainError> {
        let (network, stages) = resolve(&config, &manifest)?;
        let kept = |rows: Vec<usize>| -> Vec<usize> { rows.into_iter().filter(|row| !skip.contains(row)).collect() };
        let train_rows = kept(manifest.require_split(Split::Train)?);
        let validation_rows = kept(manifest.rows_of(Split::Validation));
        if train_rows.is_empty() {
            let found = "0 after leaving out those that cannot be decoded".into();
            return Err(TrainError::Setting {
                setting: "the number of training images",
                found,
                expected: "at least 1",
            });
        }
        for (label, class) in manifest.classes.iter().enumerate() {
            if !train_rows.iter().any(|row| manifest.rows[*row].label == label) {
                return Err(TrainError::Setting {
                    setting: "the number of training images of a class",
                    found: format!("0 for `{class}` after leaving out those that cannot be decoded"),
                    expected: "at least 1",
                });
            }
        }
        let rates = own_rates(&config, &network, &stages)?;
        let memory_limit_bytes = config.engine.memory_limit_mib.map(|mib| mib.saturating_mul(1 << 20));
        let mut store = ParameterStore::new(&network);
        let start = start_weights(&network, &mut store, weights, config.training.seed)?;
        let kind = match (config.training.label_smoothing, config.training.focal_gamma) {
            (0.0, 0.0) => LossKind::CrossEntropy,
            (0.0, gamma) => LossKind::Focal(gamma),
            (share, _) => LossKind::LabelSmoothing(share),
        };
        let loss = CrossEntropy { class_weights: class_weights(&config, &manifest, &train_rows)?, kind };
        let rule = optimizer_rule(&config);
        let data_fingerprint = manifest.fingerprint()?;
        Ok(Setup {
            config,
            manifest,
            train_rows,
            validation_rows,
            network,
            plan: stages[stages.len() - 1].plan.clone(),
            stages,
            rates,
            store,
            start,
            loss,
            rule,
            data_fingerprint,
            memory_limit_bytes,
            image_cache: None,
            run,
        })
    }

    /// Settings that can run, and hardly mean what they do together: a sentence each, which says what to choose.
    pub fn warnings(&self) -> Vec<String> {
        let Config { data, training, .. } = &self.config;
        let weights_balance = training.class_weights == ClassWeights::Named(NamedClassWeights::Balanced);
        let mut warnings = Vec::new();
        if data.sampler == Sampler::Balanced && weights_balance {
            warnings.push(
                "the balanced sampler and the balanced class weights both make up for rare classes, which so count twice \
                 over: choose --sampler balanced or --class-weights balanced, not both"
                    .into(),
            );
        }
        warnings
    }

    /// Optimizer steps in an epoch.
    pub fn steps_in_epoch(&self) -> usize {
        self.train_rows.len().div_ceil(self.config.training.batch_size)
    }

    /// Optimizer steps in the whole run.
    pub fn steps_total(&self) -> u64 {
        let training = &self.config.training;
        let all = (training.epochs * self.steps_in_epoch()) as u64;
        training.max_steps.map_or(all, |most| all.min(most))
    }

    /// The training rows of an epoch, from 1, in their order.
    pub(crate) fn epoch_order(&self, epoch: usize) -> Vec<usize> {
        let (data, seed, epoch) = (&self.config.data, self.config.training.seed, epoch as u64);
        match data.sampler {
            Sampler::Shuffled => epoch_order(&self.train_rows, seed, epoch, data.shuffle),
            Sampler::Balanced => balanced_order(&self.train_rows, |row| self.manifest.rows[row].label, seed, epoch),
        }
    }

    /// The stage that an epoch, from 1, is trained in.
    pub fn stage(&self, epoch: usize) -> &Stage {
        stage_of(&self.stages, epoch)
    }

    /// What the optimizer does with a parameter.
    pub(crate) fn parameter_settings(&self, name: &str) -> ParameterSettings {
        let training = &self.config.training;
        let own = self.network.tensors().iter().zip(&self.rates).find(|(tensor, _)| tensor.name == name);
        ParameterSettings {
            learning_rate_factor: own.and_then(|(_, rate)| *rate).map_or(1.0, |rate| rate / training.learning_rate),
            weight_decay: training.weight_decay,
        }
    }

    /// The learning rate over the run.
    pub fn learning_rate(&self) -> LearningRate {
        LearningRate::new(&self.config.training, self.steps_in_epoch(), self.steps_total())
    }

    /// The most that values behind a frozen prefix may take on disk, in bytes; 0 keeps none.
    pub(crate) fn cache_limit_bytes(&self) -> u64 {
        self.config.engine.cache_limit_mib.saturating_mul(1 << 20)
    }

    /// How products are computed.
    pub fn arithmetic(&self) -> Arithmetic {
        roentgen_infer::arithmetic(self.config.engine.precision, self.config.engine.exact)
    }

    /// The transform of training images.
    pub fn train_transform(&self) -> Transform {
        Transform { image_size: self.config.data.image_size, augment: augment(&self.config.data) }
    }

    /// What the model will say of itself.
    pub fn description(&self) -> ModelDescription {
        ModelDescription {
            format_version: FORMAT_VERSION,
            architecture: self.config.network.architecture.clone(),
            classes: self.manifest.classes.clone(),
            hidden: Some(self.config.network.hidden),
            dropout: Some(self.config.network.dropout),
            preprocessing: Preprocessing::imagenet(self.config.data.image_size),
            unfreeze: {
                let freeze = &self.config.freeze;
                let later = freeze.unfreeze_at.iter().flat_map(|unfreezing| &unfreezing.names);
                freeze.unfreeze.iter().chain(later).cloned().collect()
            },
            frozen_batch_norm: match self.config.freeze.frozen_batch_norm {
                config::FrozenBatchNorm::Eval => "eval".into(),
                config::FrozenBatchNorm::Train => "train".into(),
            },
        }
    }
}

/// The update rule that a configuration names.
pub fn optimizer_rule(config: &Config) -> Rule {
    let training = &config.training;
    match training.optimizer {
        config::Optimizer::Sgd => {
            // One-cycle moves the momentum; where it begins, it is highest.
            let momentum = match training.schedule {
                Schedule::OneCycle(cycle) => cycle.max_momentum,
                _ => training.momentum,
            };
            Rule::Sgd { momentum, nesterov: training.nesterov }
        }
        config::Optimizer::Adamw => Rule::AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 },
    }
}

/// The class weights that a configuration asks for, one a class.
///
/// # Errors
/// Where a list has another length than the classes, or a weight is not positive.
pub fn class_weights(
    config: &Config,
    manifest: &Manifest,
    train_rows: &[usize],
) -> Result<Option<Vec<f32>>, TrainError> {
    let classes = manifest.classes.len();
    match &config.training.class_weights {
        ClassWeights::Named(NamedClassWeights::None) => Ok(None),
        ClassWeights::Named(NamedClassWeights::Balanced) => {
            let mut counts = vec![0usize; classes];
            train_rows.iter().for_each(|row| counts[manifest.rows[*row].label] += 1);
            let balanced = |count: &usize| train_rows.len() as f32 / (classes * count.max(&1)) as f32;
            Ok(Some(counts.iter().map(balanced).collect()))
        }
        ClassWeights::List(weights)
            if weights.len() == classes && weights.iter().all(|w| *w > 0.0 && w.is_finite()) =>
        {
            Ok(Some(weights.clone()))
        }
        ClassWeights::List(weights) => Err(TrainError::Setting {
            setting: "class weights",
            found: format!("{weights:?} for the classes {:?}", manifest.classes),
            expected: "one positive number a class",
        }),
    }
}

/// The network and its stages of training, from settings that were checked.
fn resolve(config: &Config, manifest: &Manifest) -> Result<(Network, Vec<Stage>), TrainError> {
    check(config)?;
    manifest.require_two_classes()?;
    manifest.require_split(Split::Train)?;
    manifest.require_every_class(Split::Train)?;
    manifest.require_every_class(Split::Validation)?;
    if manifest.rows_of(Split::Validation).is_empty() {
        if config.training.select == config::Select::Best {
            let found = "best, and there is no validation split to choose by".into();
            return Err(TrainError::Setting { setting: "the epoch to keep", found, expected: "last" });
        }
        if let Some(patience) = config.training.patience {
            let found = format!("{patience} epochs, and there is no validation split to judge by");
            return Err(TrainError::Setting { setting: "the patience", found, expected: "none" });
        }
    }
    if let Some(positive) = config.data.positive.as_ref().filter(|positive| !manifest.classes.contains(positive)) {
        return Err(TrainError::UnknownPositive { found: positive.clone(), classes: manifest.classes.join(", ") });
    }
    // Their values need the training rows; that a list fits the classes shows without.
    class_weights(config, manifest, &[])?;
    let head = Head::Replaced {
        hidden: config.network.hidden,
        dropout: config.network.dropout,
        classes: manifest.classes.len(),
    };
    let network = architecture::build(&config.network.architecture, config.data.image_size, head)?;
    let frozen = match config.freeze.frozen_batch_norm {
        config::FrozenBatchNorm::Eval => FrozenBatchNorm::Stored,
        config::FrozenBatchNorm::Train => FrozenBatchNorm::Batch,
    };
    let stages = stages(&network, &config.freeze, config.training.epochs, frozen)?;
    Ok((network, stages))
}

/// The learning rates of tensors that have one of their own.
fn own_rates(config: &Config, network: &Network, stages: &[Stage]) -> Result<Vec<Option<f32>>, TrainError> {
    let groups = config.training.learning_rates.iter().map(|(name, rate)| (name.as_str(), *rate));
    Ok(group_rates(network, &stages[stages.len() - 1].plan, groups)?)
}
