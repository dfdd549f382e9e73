//! The part of `roentgen train`'s settings that says how to train well, beyond a rate and a number of epochs: its words
//! on the command line, and how they become a configuration.

use crate::failure::{Failure, Outcome};
use clap::{Args, ValueEnum};
use roentgen_run::Config;
use roentgen_run::config::{OneCycle, Sampler, Schedule, Unfreezing};

/// The training recipe; what is not given keeps its default.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Recipe")]
pub struct Recipe {
    /// How the learning rate goes over the run [default: constant]
    #[arg(long, value_name = "NAME")]
    pub schedule: Option<ScheduleName>,
    /// Rise linearly to the learning rate within so many epochs, or a part of one [default: 0]
    #[arg(long, value_name = "EPOCHS")]
    pub warmup: Option<f32>,
    /// step: epochs between two steps of the rate
    #[arg(long, value_name = "EPOCHS")]
    pub step_every: Option<usize>,
    /// step: what each step multiplies the rate by [default: 0.1]
    #[arg(long, value_name = "FACTOR")]
    pub step_factor: Option<f32>,
    /// cosine: what the rate falls to [default: 0]
    #[arg(long, value_name = "RATE")]
    pub min_lr: Option<f32>,
    /// one-cycle: share of the steps in which the rate rises to --lr [default: 0.3]
    #[arg(long, value_name = "SHARE")]
    pub pct_start: Option<f32>,
    /// one-cycle: the first rate is --lr divided by this [default: 25]
    #[arg(long, value_name = "FACTOR")]
    pub div_factor: Option<f32>,
    /// one-cycle: the last rate is the first divided by this [default: 10000]
    #[arg(long, value_name = "FACTOR")]
    pub final_div_factor: Option<f32>,
    /// one-cycle: momentum (AdamW: beta 1) where the rate is highest, and at both ends [default: 0.85,0.95]
    #[arg(long, value_name = "LOW,HIGH", value_parser = range)]
    pub momentum_range: Option<(f32, f32)>,
    /// Train a part of the network too from an epoch on, such as 3=layer4; may be given several times
    #[arg(long, value_name = "EPOCH=NAMES", value_parser = unfreezing)]
    pub unfreeze_at: Option<Vec<Unfreezing>>,
    /// Learning rates of their own for parts of the network, such as layer4=1e-4,head=1e-3
    #[arg(long, value_name = "NAME=RATE,...", value_delimiter = ',', value_parser = learning_rate)]
    pub lr_group: Option<Vec<(String, f32)>>,
    /// Which training images an epoch shows [default: shuffled]
    #[arg(long, value_name = "NAME")]
    pub sampler: Option<SamplerName>,
    /// Spread this share of the training target evenly over the classes [default: 0]
    #[arg(long, value_name = "SHARE")]
    pub label_smoothing: Option<f32>,
    /// Train on the focal loss with this gamma; class weights are its alpha [default: 0, which is cross-entropy]
    #[arg(long, value_name = "GAMMA")]
    pub focal_loss: Option<f32>,
    /// Scale the gradients of a step down where their norm, all together, exceeds this [default: never]
    #[arg(long, value_name = "NORM")]
    pub clip_norm: Option<f32>,
    /// Validate and keep a running average of the weights with this decay, such as 0.999 [default: none]
    #[arg(long, value_name = "DECAY")]
    pub average: Option<f32>,
    /// Stop after so many epochs without a lower validation loss [default: never]
    #[arg(long, value_name = "EPOCHS")]
    pub patience: Option<usize>,
    /// Write losses, rates and accuracies for TensorBoard too, into RUN/tensorboard
    #[arg(long)]
    pub tensorboard: bool,
}

/// Schedules of the learning rate.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum ScheduleName {
    /// The same rate throughout.
    Constant,
    /// Multiplied by a factor every few epochs.
    Step,
    /// Down along half a cosine.
    Cosine,
    /// Up, then down to almost nothing, with the momentum the other way.
    OneCycle,
}

/// Samplers.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum SamplerName {
    /// Each once.
    Shuffled,
    /// As many, drawn with replacement so that every class comes as often.
    Balanced,
}

impl Recipe {
    /// Puts what was given over a configuration. `momentum` is `--momentum`, which one-cycle has no use for.
    pub fn apply(&self, momentum: Option<f32>, config: &mut Config) -> Outcome {
        if let Some(sampler) = self.sampler {
            config.data.sampler = match sampler {
                SamplerName::Shuffled => Sampler::Shuffled,
                SamplerName::Balanced => Sampler::Balanced,
            };
        }
        if let Some(unfreeze_at) = &self.unfreeze_at {
            config.freeze.unfreeze_at.clone_from(unfreeze_at);
        }
        let training = &mut config.training;
        training.schedule = self.schedule(training.schedule)?;
        if let Some(warmup) = self.warmup {
            training.warmup_epochs = warmup;
        }
        training.label_smoothing = self.label_smoothing.unwrap_or(training.label_smoothing);
        training.focal_gamma = self.focal_loss.unwrap_or(training.focal_gamma);
        training.clip_norm = self.clip_norm.or(training.clip_norm);
        training.average_decay = self.average.or(training.average_decay);
        training.tensorboard |= self.tensorboard;
        training.patience = self.patience.or(training.patience);
        if let Some(groups) = &self.lr_group {
            training.learning_rates = groups.iter().cloned().collect();
            if training.learning_rates.len() < groups.len() {
                return Err(Failure::call("--lr-group names a part of the network twice: keep one rate for it"));
            }
        }
        if momentum.is_some() && matches!(training.schedule, Schedule::OneCycle(_)) {
            return Err(Failure::call(
                "--momentum has no meaning with --schedule one-cycle, which moves it: give --momentum-range LOW,HIGH",
            ));
        }
        Ok(())
    }

    fn schedule(&self, before: Schedule) -> Outcome<Schedule> {
        let kind = self.schedule.unwrap_or(match before {
            Schedule::Constant {} => ScheduleName::Constant,
            Schedule::Step { .. } => ScheduleName::Step,
            Schedule::Cosine { .. } => ScheduleName::Cosine,
            Schedule::OneCycle(_) => ScheduleName::OneCycle,
        });
        let parameters = [
            ("--step-every", self.step_every.is_some(), ScheduleName::Step),
            ("--step-factor", self.step_factor.is_some(), ScheduleName::Step),
            ("--min-lr", self.min_lr.is_some(), ScheduleName::Cosine),
            ("--pct-start", self.pct_start.is_some(), ScheduleName::OneCycle),
            ("--div-factor", self.div_factor.is_some(), ScheduleName::OneCycle),
            ("--final-div-factor", self.final_div_factor.is_some(), ScheduleName::OneCycle),
            ("--momentum-range", self.momentum_range.is_some(), ScheduleName::OneCycle),
        ];
        let word = |name: ScheduleName| name.to_possible_value().map_or_else(String::new, |v| v.get_name().to_owned());
        if let Some((flag, _, owner)) = parameters.iter().find(|(_, given, owner)| *given && *owner != kind) {
            return Err(Failure::call(format!(
                "{flag} belongs to --schedule {}, and the schedule is {}: leave it out, or choose that schedule",
                word(*owner),
                word(kind)
            )));
        }
        Ok(match (kind, before) {
            (ScheduleName::Constant, _) => Schedule::Constant {},
            (ScheduleName::Step, before) => {
                let (every, factor) = match before {
                    Schedule::Step { every_epochs, factor } => (Some(every_epochs), factor),
                    _ => (None, Schedule::STEP_FACTOR),
                };
                let Some(every_epochs) = self.step_every.or(every) else {
                    return Err(Failure::call("--schedule step needs to know when: give --step-every EPOCHS"));
                };
                Schedule::Step { every_epochs, factor: self.step_factor.unwrap_or(factor) }
            }
            (ScheduleName::Cosine, before) => {
                let known = if let Schedule::Cosine { minimal_rate } = before { minimal_rate } else { 0.0 };
                Schedule::Cosine { minimal_rate: self.min_lr.unwrap_or(known) }
            }
            (ScheduleName::OneCycle, before) => {
                let known = if let Schedule::OneCycle(cycle) = before { cycle } else { OneCycle::default() };
                let (base_momentum, max_momentum) =
                    self.momentum_range.unwrap_or((known.base_momentum, known.max_momentum));
                Schedule::OneCycle(OneCycle {
                    pct_start: self.pct_start.unwrap_or(known.pct_start),
                    div_factor: self.div_factor.unwrap_or(known.div_factor),
                    final_div_factor: self.final_div_factor.unwrap_or(known.final_div_factor),
                    base_momentum,
                    max_momentum,
                })
            }
        })
    }
}

/// `LOW,HIGH`.
fn range(text: &str) -> Result<(f32, f32), String> {
    let numbers = text.split_once(',').and_then(|(low, high)| Some((low.parse().ok()?, high.parse().ok()?)));
    numbers.ok_or_else(|| "expected LOW,HIGH, such as 0.85,0.95".to_owned())
}

/// `NAME=RATE`.
fn learning_rate(group: &str) -> Result<(String, f32), String> {
    let parts = group.split_once('=').and_then(|(name, rate)| Some((name.to_owned(), rate.parse().ok()?)));
    parts.ok_or_else(|| "expected NAME=RATE, such as layer4=1e-4".to_owned())
}

/// `EPOCH=NAMES`.
fn unfreezing(text: &str) -> Result<Unfreezing, String> {
    let parts = text.split_once('=').and_then(|(epoch, names)| Some((epoch.parse().ok()?, names)));
    let (epoch, names) = parts.ok_or("expected EPOCH=NAMES, such as 3=layer4")?;
    Ok(Unfreezing { epoch, names: names.split(',').map(str::to_owned).collect() })
}
