//! Every setting of a run, resolved, with its defaults spelled out: `config.toml`.
//!
//! The defaults are the assignment's that this project began with: 10 epochs of SGD at learning rate 0.001 and
//! momentum 0.9, batches of 128, a head of 380 hidden units with dropout 0.5.

mod schedule;

pub use schedule::{OneCycle, Schedule};

use crate::error::with_nearest_name;
use crate::{FORMAT_VERSION, RunError};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// All settings of one run. `config.toml` is this structure; a file with an unknown key does not parse.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// See [`FORMAT_VERSION`].
    pub format_version: u32,
    /// Which images, and how they become tensors.
    #[serde(default)]
    pub data: DataSettings,
    /// Which network, from which weights, and which head.
    #[serde(default)]
    pub network: NetworkSettings,
    /// What is trained.
    #[serde(default)]
    pub freeze: FreezeSettings,
    /// How it is trained.
    #[serde(default)]
    pub training: TrainingSettings,
    /// How it is computed: nothing here changes a result, but for `precision` and `exact`.
    #[serde(default)]
    pub engine: EngineSettings,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            format_version: FORMAT_VERSION,
            data: DataSettings::default(),
            network: NetworkSettings::default(),
            freeze: FreezeSettings::default(),
            training: TrainingSettings::default(),
            engine: EngineSettings::default(),
        }
    }
}

/// Which images, and how they become tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataSettings {
    /// The data folder as given on the command line.
    pub root: PathBuf,
    /// Side of the square network input in pixels; the short side is first resized to `round(image_size * 256 / 224)`.
    pub image_size: usize,
    /// Augmentation of the training images.
    pub augment: Augmentation,
    /// How far the augmentation `cxr` goes; only beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cxr: Option<CxrSettings>,
    /// How many augmented views of an image there are: epoch E shows view `(E - 1) mod views + 1`. Every epoch draws
    /// anew where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub views: Option<usize>,
    /// Whether the training rows are drawn in a new order each epoch.
    pub shuffle: bool,
    /// Which training rows an epoch shows.
    pub sampler: Sampler,
    /// What happens when an image cannot be decoded.
    pub on_bad_image: OnBadImage,
    /// The positive class by name; chosen by convention where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub positive: Option<String>,
    /// The file with the key of the patients' pseudonyms; patients are written as they are where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anonymous: Option<PathBuf>,
    /// The splits of a cross-validation, in place of the data's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cross_validation: Option<CrossValidation>,
}

/// One fold of a cross-validation: whole patients, drawn from all images, whatever split they were in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrossValidation {
    /// How many folds there are, at least 3.
    pub folds: usize,
    /// The fold that is tested on, from 1; the next is validated on, and the others are trained on.
    pub held_out: usize,
    /// Decides which patient comes into which fold.
    #[serde(default)]
    pub seed: u64,
}

impl Default for DataSettings {
    fn default() -> Self {
        DataSettings {
            root: PathBuf::new(),
            image_size: 224,
            augment: Augmentation::Seed,
            cxr: None,
            views: None,
            shuffle: true,
            sampler: Sampler::Shuffled,
            on_bad_image: OnBadImage::Fail,
            positive: None,
            anonymous: None,
            cross_validation: None,
        }
    }
}

/// Augmentation of the training images; validation and test images never are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Augmentation {
    /// The fixed transform of evaluation.
    None,
    /// Rotation up to 30 degrees, random resized crop, horizontal flip: the assignment's.
    Seed,
    /// Small rotation and shift, contrast, no flip; see [`CxrSettings`].
    Cxr,
}

/// How far the augmentation `cxr` goes. All of it is drawn anew for each image.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CxrSettings {
    /// Largest rotation to either side, in degrees from 0 to 180.
    pub rotation_degrees: f32,
    /// Largest shift in each direction, as a share of the network's input, from 0 to 1; never beyond the image.
    pub shift: f32,
    /// Largest change of the contrast as a share of it, from 0 to 1: 0.2 draws factors from 0.8 to 1.2.
    pub contrast: f32,
    /// Probability of equalising the histogram of each neighbourhood (CLAHE).
    pub clahe_probability: f32,
    /// How much CLAHE may raise the contrast, at least 1; OpenCV's clip limit.
    pub clahe_limit: f32,
    /// Probability of cutting a plain border away where there is one. With one half, a border tells nothing of a class,
    /// and images with and without one are both known to the network.
    pub border_cut_probability: f32,
}

impl Default for CxrSettings {
    fn default() -> CxrSettings {
        CxrSettings {
            rotation_degrees: 7.0,
            shift: 0.05,
            contrast: 0.2,
            clahe_probability: 0.0,
            clahe_limit: 2.0,
            border_cut_probability: 0.5,
        }
    }
}

/// Which training rows an epoch shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sampler {
    /// Each row once; in a new order unless `shuffle` is off.
    Shuffled,
    /// As many draws as there are rows, with replacement, every class with the same probability. A row that comes twice
    /// in an epoch is augmented, and dropped out, alike both times: draws are a function of epoch and row.
    Balanced,
}

/// What happens when an image cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnBadImage {
    /// Stop with an error that names the file.
    Fail,
    /// Leave it out, and list it in the report.
    Skip,
}

/// Which network, from which weights, and which head.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkSettings {
    /// Architecture by torchvision's name, such as `resnet18` or `vgg16_bn`.
    pub architecture: String,
    /// `imagenet`, `none` (a seeded random start), a weight file, or a run directory.
    pub weights: String,
    /// Width of the head's hidden layer; 0 for torchvision's own head, which only imported models have.
    pub hidden: usize,
    /// Dropout probability before the head's last layer, in `[0, 1)`.
    pub dropout: f32,
}

impl Default for NetworkSettings {
    fn default() -> Self {
        NetworkSettings { architecture: "resnet18".into(), weights: "imagenet".into(), hidden: 380, dropout: 0.5 }
    }
}

/// What is trained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FreezeSettings {
    /// `head`, `all`, or torchvision module names such as `layer4` and `features.10`.
    pub unfreeze: Vec<String>,
    /// How a batch norm without trainable parameters behaves while training.
    pub frozen_batch_norm: FrozenBatchNorm,
    /// What is trained too from a later epoch on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unfreeze_at: Vec<Unfreezing>,
}

/// What is trained too from an epoch on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unfreezing {
    /// From 2.
    pub epoch: usize,
    /// `all`, or torchvision module names.
    pub names: Vec<String>,
}

impl Default for FreezeSettings {
    fn default() -> Self {
        FreezeSettings {
            unfreeze: vec!["head".into()],
            frozen_batch_norm: FrozenBatchNorm::Eval,
            unfreeze_at: Vec::new(),
        }
    }
}

/// How a batch norm without trainable parameters behaves while training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FrozenBatchNorm {
    /// It normalises with its stored statistics and keeps them.
    Eval,
    /// It normalises with the batch's statistics and updates the stored ones, as PyTorch does unless told otherwise.
    Train,
}

/// How the network is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainingSettings {
    /// Passes over the training rows; 0 for a model that was imported, about whose training nothing is known here.
    pub epochs: usize,
    /// Images in one optimiser step.
    pub batch_size: usize,
    /// The update rule.
    pub optimizer: Optimizer,
    /// Learning rate: where the schedule starts from; with one-cycle, its highest.
    pub learning_rate: f32,
    /// How the rate goes over the run.
    pub schedule: Schedule,
    /// Epochs, or a part of one, in which the rate rises linearly from nothing; 0 for none.
    pub warmup_epochs: f32,
    /// SGD's momentum.
    pub momentum: f32,
    /// Weight decay: added to the gradient in SGD, decoupled in AdamW.
    pub weight_decay: f32,
    /// Nesterov's form of SGD's momentum.
    pub nesterov: bool,
    /// Learning rates of their own for parts of the network, by the names of a freeze plan; of several that select a
    /// parameter the most specific holds. A rate keeps its ratio to `learning_rate` throughout the schedule.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub learning_rates: BTreeMap<String, f32>,
    /// Weights of the classes in the loss.
    pub class_weights: ClassWeights,
    /// Largest L2 norm of all gradients together: larger ones are scaled down to it. Unbounded where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f32>,
    /// Share of the training target that is spread evenly over the classes, in `[0, 1)`; 0 for none.
    pub label_smoothing: f32,
    /// Gamma of the focal loss, which is trained on where it is above 0.
    pub focal_gamma: f32,
    /// Stop after so many optimiser steps in all, for comparisons.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_steps: Option<u64>,
    /// Decay, in `(0, 1)`, of a running average of the weights, from the start weights on: validation and the model
    /// then have the averaged weights. None is kept where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub average_decay: Option<f32>,
    /// Stop after so many epochs without a lower validation loss; never where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<usize>,
    /// Which epoch's weights become `model.safetensors`.
    pub select: Select,
    /// Whether losses, rates and accuracies are written as TensorBoard's event files too.
    pub tensorboard: bool,
    /// Seed of every random draw.
    pub seed: u64,
}

impl Default for TrainingSettings {
    fn default() -> Self {
        TrainingSettings {
            epochs: 10,
            batch_size: 128,
            optimizer: Optimizer::Sgd,
            learning_rate: 0.001,
            schedule: Schedule::default(),
            warmup_epochs: 0.0,
            momentum: 0.9,
            weight_decay: 0.0,
            nesterov: false,
            learning_rates: BTreeMap::new(),
            class_weights: ClassWeights::Named(NamedClassWeights::None),
            clip_norm: None,
            label_smoothing: 0.0,
            focal_gamma: 0.0,
            max_steps: None,
            average_decay: None,
            patience: None,
            select: Select::Last,
            tensorboard: false,
            seed: 0,
        }
    }
}

/// The update rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Optimizer {
    /// Stochastic gradient descent with momentum, PyTorch's form.
    Sgd,
    /// Adam with decoupled weight decay (Loshchilov and Hutter 2019), betas 0.9 and 0.999, epsilon 1e-8.
    Adamw,
}

/// Weights of the classes in the loss.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ClassWeights {
    /// A rule.
    Named(NamedClassWeights),
    /// One positive weight a class, in the order of the classes.
    List(Vec<f32>),
}

/// A rule for class weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NamedClassWeights {
    /// Every image counts the same.
    None,
    /// `n / (classes * n_class)` over the training rows, scikit-learn's "balanced".
    Balanced,
}

/// Which epoch's weights become `model.safetensors`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Select {
    /// The last epoch's.
    Last,
    /// Those of the epoch with the lowest validation loss.
    Best,
}

/// How it is computed: nothing here changes a result, but for `precision`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EngineSettings {
    /// The device; `cpu`.
    pub device: Device,
    /// Number format of the products.
    pub precision: Precision,
    /// Whether convolutions are computed directly, without Winograd's algorithm.
    pub exact: bool,
    /// Threads of the engine; all cores where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    /// Upper bound of the engine's memory in MiB; unbounded where absent. Batches are cut into micro-batches to keep
    /// it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_limit_mib: Option<usize>,
    /// The most that values behind a frozen prefix may take on disk while training, in MiB; 0 keeps none.
    pub cache_limit_mib: u64,
    /// Where decoded images are kept for all runs: a folder, or `off`; the user's cache folder where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_cache: Option<String>,
    /// The most that decoded images may take on disk, in MiB; 4096 where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_cache_limit_mib: Option<u64>,
}

impl Default for EngineSettings {
    fn default() -> Self {
        EngineSettings {
            device: Device::Cpu,
            precision: Precision::F32,
            exact: false,
            threads: None,
            memory_limit_mib: None,
            cache_limit_mib: 4096,
            image_cache: None,
            image_cache_limit_mib: None,
        }
    }
}

/// Where the engine runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Device {
    /// The machine's processor.
    Cpu,
}

/// Number format of the products.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// IEEE 754 binary32.
    F32,
    /// Mixed: bf16 where that is faster, with sums, statistics, loss, weights and optimizer in binary32.
    Bf16,
}

impl Config {
    /// Reads `config.toml`, or any file of its form.
    ///
    /// # Errors
    /// Where the file cannot be read, holds an unknown key or a value of the wrong type (with the line), or states a
    /// newer format version.
    pub fn read(path: &Path) -> Result<Config, RunError> {
        let text = std::fs::read_to_string(path).map_err(RunError::io(path, "read"))?;
        Config::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Config, RunError> {
        #[derive(Deserialize)]
        struct Version {
            format_version: u32,
        }
        let expected = "a configuration as `roentgen train` writes it (config.toml)";
        let version: Version =
            toml::from_str(text).map_err(|e| RunError::malformed(path, with_nearest_name(e), expected))?;
        if version.format_version > FORMAT_VERSION {
            let found = version.format_version;
            return Err(RunError::NewerFormat { path: path.to_owned(), found, supported: FORMAT_VERSION });
        }
        toml::from_str(text).map_err(|e| RunError::malformed(path, with_nearest_name(e), expected))
    }

    /// The settings that differ in another configuration, in alphabetical order: the name as in `config.toml`, what it is
    /// here, and what it is there (`none` where it is not set).
    pub fn differences(&self, other: &Config) -> Vec<(String, String, String)> {
        let (here, there) = (settings_by_name(self), settings_by_name(other));
        let names: BTreeSet<&String> = here.keys().chain(there.keys()).collect();
        let value = |settings: &BTreeMap<String, String>, name| settings.get(name).cloned().unwrap_or("none".into());
        let pairs = names.into_iter().map(|name| (name.clone(), value(&here, name), value(&there, name)));
        pairs.filter(|(_, here, there)| here != there).collect()
    }

    /// Whether the model was trained elsewhere and imported: the training settings then say nothing about it.
    pub fn is_imported(&self) -> bool {
        self.training.epochs == 0
    }

    /// The text of `config.toml`.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).expect("a configuration holds nothing that TOML cannot say")
    }
}

/// Every setting as `table.key`, with its value as TOML has it.
fn settings_by_name(config: &Config) -> BTreeMap<String, String> {
    fn gather(prefix: &str, value: &toml::Value, into: &mut BTreeMap<String, String>) {
        match value {
            toml::Value::Table(table) => {
                for (key, value) in table {
                    gather(&if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") }, value, into);
                }
            }
            // Every number with a fraction is an f32 here: its shortest form is what the user wrote.
            toml::Value::Float(value) => {
                into.insert(prefix.to_owned(), (*value as f32).to_string());
            }
            value => {
                into.insert(prefix.to_owned(), value.to_string());
            }
        }
    }
    let table = toml::Value::try_from(config).expect("a configuration holds nothing that TOML cannot say");
    let mut settings = BTreeMap::new();
    gather("", &table, &mut settings);
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_name_each_setting_once() {
        let mut other = Config::default();
        assert_eq!(Config::default().differences(&other), []);
        other.training.epochs = 2;
        other.data.views = Some(3);
        let owned = |(a, b, c): (&str, &str, &str)| (a.to_owned(), b.to_owned(), c.to_owned());
        let expected = [("data.views", "none", "3"), ("training.epochs", "10", "2")].map(owned);
        assert_eq!(Config::default().differences(&other), expected);
    }

    #[test]
    fn defaults_survive_a_round_trip_and_are_spelled_out() {
        let text = Config::default().to_toml();
        assert_eq!(Config::parse(Path::new("config.toml"), &text).unwrap(), Config::default());
        for line in
            ["learning_rate = 0.001", "momentum = 0.9", "batch_size = 128", "hidden = 380", "augment = \"seed\""]
        {
            assert!(text.contains(line), "{line} is missing from\n{text}");
        }
    }

    #[test]
    fn a_file_of_before_the_schedules_parses_and_a_parameter_of_another_schedule_does_not() {
        let parse = |text: &str| Config::parse(Path::new("c.toml"), &format!("format_version = 1\n{text}"));
        assert_eq!(parse("[training]\nlearning_rate = 0.001\n").unwrap(), Config::default());
        let step = parse("[training.schedule]\nkind = \"step\"\nevery_epochs = 3\n").unwrap().training.schedule;
        assert_eq!(step, Schedule::Step { every_epochs: 3, factor: 0.1 });
        let cycle = parse("[training.schedule]\nkind = \"one-cycle\"\ndiv_factor = 10\n").unwrap();
        let expected = OneCycle { div_factor: 10.0, ..OneCycle::default() };
        assert_eq!(cycle.training.schedule, Schedule::OneCycle(expected));
        assert_eq!(Config::parse(Path::new("c.toml"), &cycle.to_toml()).unwrap(), cycle);
        for (kind, key) in [("constant", "minimal_rate"), ("cosine", "factor"), ("one-cycle", "minimal_rate")] {
            let message = parse(&format!("[training.schedule]\nkind = \"{kind}\"\n{key} = 0.5\n")).unwrap_err();
            assert!(message.to_string().contains(key), "{message}");
        }
    }

    #[test]
    fn unknown_keys_and_newer_versions_are_refused_with_their_place() {
        let unknown = "format_version = 1\n[training]\nepoch = 3\n";
        let message = Config::parse(Path::new("c.toml"), unknown).unwrap_err().to_string();
        assert!(message.contains("c.toml") && message.contains("epoch"), "{message}");
        let newer = "format_version = 99\nsomething_new = 1\n";
        let message = Config::parse(Path::new("c.toml"), newer).unwrap_err().to_string();
        assert!(message.contains("version 99"), "{message}");
    }
}
