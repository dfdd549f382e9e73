//! What is trained when: a freeze plan for each stage of a run, one that grows where layers are unfrozen on the way.

use crate::TrainError;
use roentgen_nn::{FreezePlan, FrozenBatchNorm, Network};
use roentgen_run::config::FreezeSettings;

/// A freeze plan, and the epoch from which it holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// From 1.
    pub from_epoch: usize,
    /// What is trained from then on.
    pub plan: FreezePlan,
}

/// The stages of a run in their order, of which the last trains all that is ever trained: each later one trains more
/// than the one before.
///
/// # Errors
/// Where a name selects nothing, or nothing that is not trained already; where an epoch is none of the run's later
/// ones.
pub(crate) fn stages(
    network: &Network,
    settings: &FreezeSettings,
    epochs: usize,
    frozen_batch_norm: FrozenBatchNorm,
) -> Result<Vec<Stage>, TrainError> {
    let plan = |names: &[String]| FreezePlan::resolve(network, names, frozen_batch_norm);
    let mut names = settings.unfreeze.clone();
    let mut stages = vec![Stage { from_epoch: 1, plan: plan(&names)? }];
    let mut later: Vec<_> = settings.unfreeze_at.iter().collect();
    later.sort_by_key(|unfreezing| unfreezing.epoch);
    for unfreezing in later {
        if !(2..=epochs).contains(&unfreezing.epoch) {
            return Err(TrainError::Setting {
                setting: "an epoch at which something is unfrozen",
                found: format!("{} of {epochs}", unfreezing.epoch),
                expected: "from 2 (what is trained from the start belongs to --unfreeze) to the last epoch",
            });
        }
        // Its names by themselves: an error is then about them.
        plan(&unfreezing.names)?;
        names.extend_from_slice(&unfreezing.names);
        let (before, after) = (&stages[stages.len() - 1], plan(&names)?);
        if after.trainable_count(network) == before.plan.trainable_count(network) {
            return Err(TrainError::Setting {
                setting: "what is unfrozen on the way",
                found: format!("{} from epoch {}, trained already", unfreezing.names.join(","), unfreezing.epoch),
                expected: "names of frozen parts",
            });
        }
        if before.from_epoch == unfreezing.epoch {
            stages.pop();
        }
        stages.push(Stage { from_epoch: unfreezing.epoch, plan: after });
    }
    Ok(stages)
}

/// The stage that an epoch, from 1, is trained in.
pub(crate) fn stage_of(stages: &[Stage], epoch: usize) -> &Stage {
    let later = stages.iter().rev().find(|stage| stage.from_epoch <= epoch);
    // The first stage begins with the first epoch.
    later.unwrap_or(&stages[0])
}
