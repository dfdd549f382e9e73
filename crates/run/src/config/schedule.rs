//! How the learning rate goes over a run.

use serde::{Deserialize, Serialize};

/// How the learning rate goes over a run. `learning_rate` is the rate that it starts from; with one-cycle, the highest.
/// In `config.toml` this is the table `[training.schedule]`; a parameter of another schedule does not parse.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Schedule {
    /// The same rate throughout. (Braces, because serde lets a plain variant pass with unknown keys beside it.)
    Constant {},
    /// `torch.optim.lr_scheduler.StepLR`, stepped once an epoch.
    Step {
        /// Epochs between two steps.
        every_epochs: usize,
        /// What each step multiplies the rate by; torch's `gamma`.
        #[serde(default = "step_factor")]
        factor: f32,
    },
    /// `torch.optim.lr_scheduler.CosineAnnealingLR`, stepped with each optimizer step, to the end of the run.
    Cosine {
        /// What the rate falls to; torch's `eta_min`.
        #[serde(default)]
        minimal_rate: f32,
    },
    /// `torch.optim.lr_scheduler.OneCycleLR` with cosine annealing in two phases (Smith and Topin 2018).
    OneCycle(OneCycle),
}

impl Default for Schedule {
    fn default() -> Self {
        Schedule::Constant {}
    }
}

impl Schedule {
    /// The default of [`Schedule::Step`]'s factor, torch's.
    pub const STEP_FACTOR: f32 = 0.1;

    /// Whether the rate of a step depends on how long the whole run is, so that a run cannot be made longer.
    pub fn spans_the_run(&self) -> bool {
        matches!(self, Schedule::Cosine { .. } | Schedule::OneCycle(_))
    }
}

fn step_factor() -> f32 {
    Schedule::STEP_FACTOR
}

/// The parameters of one-cycle, with torch's names and defaults.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OneCycle {
    /// Share of the steps in which the rate rises, in `(0, 1)`.
    pub pct_start: f32,
    /// The first rate is the highest divided by this.
    pub div_factor: f32,
    /// The last rate is the first divided by this.
    pub final_div_factor: f32,
    /// Momentum (with AdamW, beta 1) where the rate is highest.
    pub base_momentum: f32,
    /// Momentum at both ends.
    pub max_momentum: f32,
}

impl Default for OneCycle {
    fn default() -> Self {
        OneCycle { pct_start: 0.3, div_factor: 25.0, final_div_factor: 1e4, base_momentum: 0.85, max_momentum: 0.95 }
    }
}
