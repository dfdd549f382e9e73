//! The words of the command line.

use crate::audit::Audit;
use crate::bench::data::DataArguments;
use crate::card::Card;
use crate::completions::{Completions, Man};
use crate::explain::Explain;
use crate::export::Export;
use crate::image_cache::ImageCacheArguments;
use crate::import::Import;
use crate::recipe::Recipe;
use crate::serve::Serve;
use crate::weights::Weights;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::num::NonZeroU32;
use std::path::PathBuf;

/// Fine-tunes, evaluates and reports chest X-ray classifiers. For research, not for diagnosis.
#[derive(Debug, Parser)]
#[command(name = "roentgen", version, arg_required_else_help = true)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Generate phantom radiographs, fine-tune on them, evaluate and report: needs nothing
    Demo(Demo),
    /// Look for leaks, copies and shortcuts in a data set, before anything is trained on it
    Audit(Audit),
    /// Fine-tune a network on a folder of images
    Train(Box<Train>),
    /// Train the rows of an experiment, and compare them in tables and a report
    Experiment(Box<ExperimentArguments>),
    /// Search for what to unfreeze: successive halving on the validation loss
    Search(Box<SearchArguments>),
    /// Evaluate a run on a split: predictions, metrics with intervals, best and worst images
    Evaluate(Evaluate),
    /// Compare two evaluated runs: which differences hold, and which are noise
    Compare(Compare),
    /// Write the report of a run, an experiment or a search, one self-contained HTML page
    Report(Report),
    /// Write the model card of a run, as Markdown and JSON
    Card(Card),
    /// Classify images
    Predict(Predict),
    /// Show what in images speaks for a class: heat maps, each with its check
    Explain(Explain),
    /// Answer requests over HTTP, with a page to drop images on
    Serve(Box<Serve>),
    /// Write a model as one file that other programs open
    Export(Export),
    /// Make a run of a model that was trained elsewhere
    Import(Import),
    /// Print a network's layers under a freeze plan
    Layers(Layers),
    /// List, fetch and inspect weights
    Weights(Weights),
    /// Measure how fast this machine trains and classifies
    Bench(Bench),
    /// Print the script that completes this command line in a shell
    Completions(Completions),
    /// Print the manual page, or write one a command
    Man(Man),
    /// Prepare data sets: import published ones, split by patients, preview augmentations
    Data(crate::data::Data),
}

/// `roentgen demo`
#[derive(Debug, Args)]
pub struct Demo {
    /// Where to write the phantoms and the run
    #[arg(long, value_name = "DIR", default_value = "roentgen-demo")]
    pub out: PathBuf,
    /// Seed of phantoms, start weights and training
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Threads of the engine [default: all cores]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
}

/// `roentgen train`
#[derive(Debug, Default, Args)]
pub struct Train {
    /// Folder with train/, validation/ and test/, each with a folder a class; a table; or a published data set
    #[arg(long, value_name = "DIR|CSV")]
    pub data: Option<PathBuf>,
    /// Run directory to write
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Go on with a run from its last checkpoint
    #[arg(long, value_name = "RUN", conflicts_with_all = ["out", "config"])]
    pub resume: Option<PathBuf>,
    /// Take the settings of a config.toml; options given beside it win
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Find a learning rate instead: 100 steps at growing rates, a picture and a suggestion in the run's folder
    #[arg(long, conflicts_with = "resume")]
    pub lr_find: bool,
    /// Train although patients or identical images stand in more than one split; the report says so
    #[arg(long)]
    pub allow_leaks: bool,
    /// Settings of the run.
    #[command(flatten)]
    pub settings: Settings,
}

/// `roentgen experiment`
#[derive(Debug, Args)]
pub struct ExperimentArguments {
    /// The experiment: rows over a common base, as TOML
    pub file: PathBuf,
    /// Folder with train/, validation/ and test/, each with a folder a class; a table; or a published data set
    #[arg(long, value_name = "DIR|CSV")]
    pub data: Option<PathBuf>,
    /// Folder for the runs, the tables and the report; one that was begun goes on
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Train each row once with each of these seeds [default: the file's, or 0]
    #[arg(long, value_name = "N,N,...", value_delimiter = ',', conflicts_with = "seed")]
    pub seeds: Option<Vec<u64>>,
    /// Cross-validate over so many folds of whole patients, drawn from all images [default: the file's, or none]
    #[arg(long, value_name = "K")]
    pub folds: Option<usize>,
    /// Train although patients or identical images stand in more than one split; the reports say so
    #[arg(long)]
    pub allow_leaks: bool,
    /// Settings of the base, over those of the file; a row's own settings stay.
    #[command(flatten)]
    pub settings: Settings,
}

/// `roentgen search`
#[derive(Debug, Args)]
pub struct SearchArguments {
    /// Folder with train/, validation/ and test/, each with a folder a class; a table; or a published data set
    #[arg(long, value_name = "DIR|CSV")]
    pub data: Option<PathBuf>,
    /// Folder for the candidates' runs and the report; one that was begun goes on
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// What is tried
    #[arg(long, value_name = "SPACE", default_value = "suffixes")]
    pub space: Space,
    /// Modules whose convolutions are tried, such as layer3,layer4 [default: all]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub among: Vec<String>,
    /// Most parameters that a candidate may train, the head's included
    #[arg(long, value_name = "N")]
    pub budget: Option<usize>,
    /// Random candidates of the space subsets [default: 16]
    #[arg(long, value_name = "N")]
    pub candidates: Option<usize>,
    /// Epochs after which candidates are compared first
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub min_epochs: usize,
    /// One of so many candidates goes on, for so many times the epochs
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub eta: usize,
    /// Candidates that are trained at full length
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub finalists: usize,
    /// Seeds of the finalists; the first is that of the search
    #[arg(long, value_name = "N,N,...", value_delimiter = ',', default_value = "0,1,2", conflicts_with = "seed")]
    pub seeds: Vec<u64>,
    /// Train although patients or identical images stand in more than one split; the reports say so
    #[arg(long)]
    pub allow_leaks: bool,
    /// Settings that all candidates have in common; --epochs is the full length.
    #[command(flatten)]
    pub settings: Settings,
}

/// Freeze plans to search over.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum Space {
    /// The head, and everything from one convolution on.
    Suffixes,
    /// The head and one convolution.
    Convolutions,
    /// The head and random sets of convolutions within --budget.
    Subsets,
}

/// Settings of a run; what is not given keeps its default.
#[derive(Debug, Default, Args)]
pub struct Settings {
    /// Architecture: vgg11, vgg13, vgg16, vgg19 (each also with _bn), resnet18, resnet34 [default: resnet18]
    #[arg(long, value_name = "NAME")]
    pub arch: Option<String>,
    /// Start weights: imagenet, none, a weight file (.pth, .safetensors), or a run [default: imagenet]
    #[arg(long, value_name = "imagenet|none|FILE|RUN")]
    pub weights: Option<String>,
    /// What to train: head, all, or torchvision module names such as layer4,head [default: head]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub unfreeze: Option<Vec<String>>,
    /// Frozen batch norms: eval keeps their statistics, train goes on gathering them [default: eval]
    #[arg(long, value_name = "MODE")]
    pub frozen_bn: Option<FrozenBn>,
    /// Width of the head's hidden layer [default: 380]
    #[arg(long, value_name = "N")]
    pub hidden: Option<usize>,
    /// Dropout in the head [default: 0.5]
    #[arg(long, value_name = "P")]
    pub dropout: Option<f32>,
    /// Side of the network's input in pixels [default: 224]
    #[arg(long, value_name = "PIXELS")]
    pub image_size: Option<usize>,
    /// Augmentation of training images: seed is rotation, random crop and flip; cxr never flips [default: seed]
    #[arg(long, value_name = "KIND")]
    pub augment: Option<AugmentKind>,
    /// Augmented views of each image, shown in turn, epoch after epoch [default: new ones each epoch]
    #[arg(long, value_name = "K")]
    pub views: Option<usize>,
    /// Keep the training images in the order of the folder
    #[arg(long)]
    pub no_shuffle: bool,
    /// What to do with an image that cannot be decoded [default: fail]
    #[arg(long, value_name = "WHAT")]
    pub on_bad_image: Option<OnBadImage>,
    /// The positive class [default: infected, or the one that is not normal]
    #[arg(long, value_name = "CLASS")]
    pub positive: Option<String>,
    /// Write pseudonyms for patients, hashed with the key in this file; file names are written as they are
    #[arg(long, value_name = "KEYFILE")]
    pub anonymous: Option<PathBuf>,
    /// Passes over the training images [default: 10]
    #[arg(long, value_name = "N")]
    pub epochs: Option<usize>,
    /// Images in an optimizer step [default: 128]
    #[arg(long, value_name = "N")]
    pub batch_size: Option<usize>,
    /// Update rule [default: sgd]
    #[arg(long, value_name = "NAME")]
    pub optimizer: Option<OptimizerName>,
    /// Learning rate [default: 0.001]
    #[arg(long, visible_alias = "learning-rate", value_name = "RATE")]
    pub lr: Option<f32>,
    /// Momentum of SGD [default: 0.9]
    #[arg(long, value_name = "M")]
    pub momentum: Option<f32>,
    /// Weight decay [default: 0]
    #[arg(long, value_name = "D")]
    pub weight_decay: Option<f32>,
    /// Nesterov's momentum
    #[arg(long)]
    pub nesterov: bool,
    /// Class weights in the loss: none, balanced, or one number a class [default: none]
    #[arg(long, value_name = "none|balanced|W,W,...")]
    pub class_weights: Option<String>,
    /// Stop after so many optimizer steps
    #[arg(long, value_name = "N")]
    pub max_steps: Option<u64>,
    /// Keep the weights of the last epoch, or of the one with the lowest validation loss [default: last]
    #[arg(long, value_name = "WHICH")]
    pub select: Option<SelectName>,
    /// Seed of every random draw [default: 0]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Number format of the products [default: f32]
    #[arg(long, value_name = "FORMAT")]
    pub precision: Option<PrecisionName>,
    /// Compute convolutions directly, without Winograd's algorithm
    #[arg(long)]
    pub exact: bool,
    /// Where to compute [default: cpu]
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<DeviceName>,
    /// Threads of the engine [default: all cores]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Most memory of the compiled programs in MiB; batches are cut to keep it [default: nine tenths of what is free]
    #[arg(long, value_name = "MIB")]
    pub memory_limit: Option<usize>,
    /// Most disk space for values behind the frozen part, kept while training, in MiB; 0 keeps none [default: 4096]
    #[arg(long, value_name = "MIB")]
    pub cache_limit: Option<u64>,
    /// Where decoded images are kept.
    #[command(flatten)]
    pub image_cache: ImageCacheArguments,
    /// How to train well.
    #[command(flatten)]
    pub recipe: Recipe,
}

/// Frozen batch norms.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum FrozenBn {
    /// Stored statistics.
    Eval,
    /// The batch's statistics.
    Train,
}

/// Augmentation.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum AugmentKind {
    /// The fixed transform.
    None,
    /// The assignment's.
    Seed,
    /// Made for chest X-rays: small rotation and shift, contrast, no flip.
    Cxr,
}

/// Undecodable images.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum OnBadImage {
    /// Stop.
    Fail,
    /// Leave out and list.
    Skip,
}

/// Update rules.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum OptimizerName {
    /// Stochastic gradient descent.
    Sgd,
    /// Adam with decoupled weight decay.
    Adamw,
}

/// Which weights are kept.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum SelectName {
    /// The last epoch's.
    Last,
    /// Those of the lowest validation loss.
    Best,
}

/// Number formats.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum PrecisionName {
    /// binary32
    F32,
    /// activations, and products where that is faster, in bf16; everything else in binary32
    Bf16,
}

/// Devices.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum DeviceName {
    /// The processor.
    Cpu,
}

/// How a trained model computes: what is not given is as in its training.
#[derive(Clone, Debug, Default, Args)]
pub struct Computation {
    /// Number format of the products [default: as in training]
    #[arg(long, value_name = "FORMAT")]
    pub precision: Option<PrecisionName>,
    /// Compute convolutions directly, without Winograd's algorithm [default: as in training]
    #[arg(long)]
    pub exact: bool,
    /// Threads of the engine [default: all cores]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
}

/// `roentgen evaluate`
#[derive(Debug, Default, Args)]
pub struct Evaluate {
    /// Run directory
    #[arg(required_unless_present = "predictions")]
    pub run: Option<PathBuf>,
    /// Data set, a folder or a table [default: the one that the run was trained on]
    #[arg(long, value_name = "DIR|CSV")]
    pub data: Option<PathBuf>,
    /// train, validation or test
    #[arg(long, default_value = "test")]
    pub split: String,
    /// Compute from a predictions table alone
    #[arg(long, value_name = "FILE")]
    #[arg(conflicts_with_all = ["run", "data", "split", "map", "images", "on_bad_image", "precision", "exact", "threads"])]
    #[arg(conflicts_with_all = ["at_sensitivity", "cost_miss", "cost_false_alarm", "prevalence"])]
    pub predictions: Option<PathBuf>,
    /// Read a class of the data as a class of the model, such as PNEUMONIA=infected; may be given several times
    #[arg(long, value_name = "CLASS=CLASS")]
    pub map: Vec<String>,
    /// The positive class
    #[arg(long, value_name = "CLASS")]
    pub positive: Option<String>,
    /// How thresholds are chosen on the validation images.
    #[command(flatten)]
    pub thresholds: Thresholds,
    /// Best and worst images of each class on the contact sheets
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub images: usize,
    /// What to do with an image that cannot be decoded [default: as in training]
    #[arg(long, value_name = "WHAT")]
    pub on_bad_image: Option<OnBadImage>,
    /// Where decoded images are kept.
    #[command(flatten)]
    pub image_cache: ImageCacheArguments,
    /// Print the metrics as JSON
    #[arg(long)]
    pub json: bool,
    /// How the model computes.
    #[command(flatten)]
    pub computation: Computation,
}

/// How thresholds are chosen, besides Youden's.
#[derive(Clone, Copy, Debug, Args)]
pub struct Thresholds {
    /// Choose a threshold of at least this sensitivity on the validation images
    #[arg(long, value_name = "SHARE", default_value_t = 0.95)]
    pub at_sensitivity: f64,
    /// Choose a threshold by cost: what a missed positive image costs [default: 1 beside --cost-false-alarm]
    #[arg(long, value_name = "COST")]
    pub cost_miss: Option<f64>,
    /// Choose a threshold by cost: what a false alarm costs [default: 1 beside --cost-miss]
    #[arg(long, value_name = "COST")]
    pub cost_false_alarm: Option<f64>,
    /// Share of positive images where a threshold by cost will be used [default: that of the validation images]
    #[arg(long, value_name = "SHARE")]
    pub prevalence: Option<f64>,
}

impl Default for Thresholds {
    fn default() -> Thresholds {
        Thresholds { at_sensitivity: 0.95, cost_miss: None, cost_false_alarm: None, prevalence: None }
    }
}

/// `roentgen compare`
#[derive(Debug, Args)]
pub struct Compare {
    /// Run directory
    pub first: PathBuf,
    /// Another one, evaluated on the same images
    pub second: PathBuf,
    /// What both were evaluated on: train, validation, test, or the name of other data's results
    #[arg(long, default_value = "test")]
    pub split: String,
    /// The positive class
    #[arg(long, value_name = "CLASS")]
    pub positive: Option<String>,
    /// Print the comparison as JSON
    #[arg(long)]
    pub json: bool,
}

/// `roentgen report`
#[derive(Debug, Args)]
pub struct Report {
    /// Run directory, or the folder of an experiment or a search
    pub run: PathBuf,
}

/// `roentgen predict`
#[derive(Debug, Args)]
pub struct Predict {
    /// Run directory or model file (unless --arch is given), then images or folders; - reads a list from stdin
    #[arg(required_unless_present = "files_from", value_name = "RUN IMAGE")]
    pub paths: Vec<PathBuf>,
    /// Also the images that a file lists, one path a line; - reads the list from stdin
    #[arg(long, value_name = "FILE|-")]
    pub files_from: Option<PathBuf>,
    /// Only part I of N of the images, for job arrays: image I, I + N, I + 2N, ... of the list, counted from 1
    #[arg(long, value_name = "I/N", value_parser = crate::predict::Shard::parse)]
    pub shard: Option<crate::predict::Shard>,
    /// Write the answers to a file that ends in .csv, .jsonl or .parquet; a call that was killed goes on where it was
    #[arg(long, value_name = "FILE", conflicts_with_all = ["format", "json"])]
    pub out: Option<PathBuf>,
    /// Write the images that could not be read, with the reasons, to a file [default with --out: FILE.bad.csv]
    #[arg(long, value_name = "FILE")]
    pub bad_files: Option<PathBuf>,
    /// Use a stock model of this architecture
    #[arg(long, value_name = "NAME", requires = "weights")]
    pub arch: Option<String>,
    /// The stock model's weight file
    #[arg(long, value_name = "FILE", requires = "arch")]
    pub weights: Option<PathBuf>,
    /// Side of the network's input in pixels, for a stock model
    #[arg(long, value_name = "PIXELS", default_value_t = 224, requires = "arch")]
    pub image_size: usize,
    /// Frame of DICOM files that have several, counted from 1
    #[arg(long, value_name = "N")]
    pub frame: Option<NonZeroU32>,
    /// Form of the answer
    #[arg(long, value_name = "FORM", default_value = "table")]
    pub format: Format,
    /// One JSON object a line, as --format json
    #[arg(long, conflicts_with = "format")]
    pub json: bool,
    /// How the model computes.
    #[command(flatten)]
    pub computation: Computation,
}

/// Form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum Format {
    /// Columns for the eye.
    Table,
    /// Comma-separated values.
    Csv,
    /// One object a line.
    Json,
}

/// `roentgen layers`
#[derive(Debug, Args)]
pub struct Layers {
    /// Architecture
    pub arch: String,
    /// What to train
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = "head")]
    pub unfreeze: Vec<String>,
    /// Frozen batch norms
    #[arg(long, value_name = "MODE", default_value = "eval")]
    pub frozen_bn: FrozenBn,
    /// Side of the network's input in pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 224)]
    pub image_size: usize,
    /// Width of the head's hidden layer
    #[arg(long, value_name = "N", default_value_t = 380)]
    pub hidden: usize,
    /// Number of classes
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub classes: usize,
    /// Print instead where a training program keeps everything, when, and what it takes
    #[arg(long)]
    pub memory: bool,
    /// Images in an optimizer step, for --memory
    #[arg(long, value_name = "N", default_value_t = 128, requires = "memory")]
    pub batch_size: usize,
    /// Number format of the activations, for --memory
    #[arg(long, value_name = "FORMAT", default_value = "f32", requires = "memory")]
    pub precision: PrecisionName,
    /// Plan for direct convolutions, without Winograd's algorithm, for --memory
    #[arg(long, requires = "memory")]
    pub exact: bool,
}

/// `roentgen bench`
#[derive(Debug, Args)]
pub struct Bench {
    /// Architecture
    #[arg(long, value_name = "NAME", default_value = "resnet18")]
    pub arch: String,
    /// Images in a pass
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub batch_size: usize,
    /// Side of the network's input in pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 224)]
    pub image_size: usize,
    /// What the training step trains
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = "all")]
    pub unfreeze: Vec<String>,
    /// Number format of the products
    #[arg(long, value_name = "FORMAT", default_value = "f32")]
    pub precision: PrecisionName,
    /// Compute convolutions directly, without Winograd's algorithm
    #[arg(long)]
    pub exact: bool,
    /// Threads of the engine [default: all cores]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Timed repetitions of each pass, after one that is not counted
    #[arg(long, value_name = "N", default_value_t = 9)]
    pub rounds: usize,
    /// Show also where the time goes, stage by stage
    #[arg(long)]
    pub layers: bool,
    /// Images in place of a network.
    #[command(flatten)]
    pub data: DataArguments,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}
