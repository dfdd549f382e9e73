//! Checkpoints: one file with weights, buffers, optimizer state and position, replaced atomically.

use crate::{Setup, Stage, TrainError};
use roentgen_nn::optimizer::Optimizer;
use roentgen_nn::weights::{StateDict, TensorToWrite, ValuesToWrite, read_safetensors_metadata, write_safetensors};
use roentgen_nn::{FreezePlan, ParameterSet, ParameterStore};
use roentgen_run::config::TrainingSettings;
use roentgen_run::directory::write_atomically;
use roentgen_run::{FORMAT_VERSION, RunError};
use serde::{Deserialize, Serialize};
use std::path::Path;

const METADATA_KEY: &str = "roentgen_checkpoint";
const LIVE: &str = "live.";
const AVERAGED: &str = "averaged.";
const OPTIMIZER: &str = "optimizer.";

/// Where a run stands. Sums are kept as numbers that read back to the bit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// See [`FORMAT_VERSION`].
    pub format_version: u32,
    /// Epochs that are done, validation included.
    pub epochs_done: usize,
    /// Optimizer steps taken in the epoch after those.
    pub steps_in_epoch: usize,
    /// Optimizer steps taken in all.
    pub step: u64,
    /// Sums over the unfinished epoch.
    pub sums: EpochSums,
    /// The best epoch so far by validation loss.
    pub best: Option<BestEpoch>,
    /// The names of the freeze plan that holds now.
    pub unfreeze: Vec<String>,
    /// Names of the trained tensors: a resumed run trains these and no others.
    pub trained: Vec<String>,
    /// SHA-256 of what the data is.
    pub data_fingerprint: String,
    /// The instruction set that computed it, and the version of the algorithms: others give other bits.
    pub instruction_set: String,
    /// Seconds that the unfinished epoch has taken.
    pub seconds_in_epoch: f64,
    /// Length of the event file for TensorBoard; 0 where there is none.
    #[serde(default)]
    pub tensorboard_bytes: u64,
}

/// Sums over the images of an epoch so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EpochSums {
    /// Weighted losses.
    pub loss: f64,
    /// Weights of the labels.
    pub weight: f64,
    /// Images classified right.
    pub correct: usize,
    /// Images.
    pub images: usize,
}

/// The epoch with the lowest validation loss.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BestEpoch {
    /// From 1.
    pub epoch: usize,
    /// Its validation loss.
    pub valid_loss: f64,
}

impl BestEpoch {
    /// Whether the patience of a run whose best epoch this is is over after an epoch, from 1.
    pub(crate) fn ends_patience(&self, epoch: usize, training: &TrainingSettings) -> bool {
        training.patience.is_some_and(|patience| epoch >= self.epoch + patience)
    }
}

impl Checkpoint {
    /// The start of a run.
    pub(crate) fn start(setup: &Setup, instruction_set: String) -> Checkpoint {
        let mut start = Checkpoint {
            format_version: FORMAT_VERSION,
            data_fingerprint: setup.data_fingerprint.clone(),
            instruction_set,
            ..Checkpoint::default()
        };
        start.record(setup, &setup.stages[0].plan);
        start
    }

    /// Takes down what is trained from now on.
    pub(crate) fn record(&mut self, setup: &Setup, plan: &FreezePlan) {
        let tensors = setup.network.tensors();
        self.unfreeze = plan.selectors().to_vec();
        self.trained = plan.trainable_tensors().map(|index| tensors[index].name.clone()).collect();
    }

    /// The stage that the optimizer is in: that of the last step. A new one begins with the first step of its epoch.
    pub(crate) fn stage<'a>(&self, setup: &'a Setup) -> &'a Stage {
        setup.stage(self.epochs_done + usize::from(self.steps_in_epoch > 0))
    }

    /// Whether the run ended because its validation loss did not fall for as many epochs as its patience.
    pub fn stopped_early(&self, training: &TrainingSettings) -> bool {
        self.epochs_done < training.epochs
            && self.best.is_some_and(|best| best.ends_patience(self.epochs_done, training))
    }

    /// Writes weights, averaged ones where they are kept, optimizer state and position.
    pub(crate) fn write(
        &self,
        path: &Path,
        store: &ParameterStore,
        plan: &FreezePlan,
        optimizer: &Optimizer,
    ) -> Result<(), RunError> {
        let parts = [
            (LIVE, store.state_dict(ParameterSet::Live)),
            (AVERAGED, store.averaged_state(plan)),
            (OPTIMIZER, optimizer.state()),
        ];
        let all = || parts.iter().flat_map(|(prefix, dict)| dict.tensors.iter().map(move |tensor| (prefix, tensor)));
        let names: Vec<String> = all().map(|(prefix, (name, _))| format!("{prefix}{name}")).collect();
        let metadata = serde_json::to_string(self).expect("a position is plain data");
        write_atomically(path, |file| {
            let tensors: Vec<TensorToWrite<'_>> = (names.iter().zip(all()))
                .map(|(name, (_, (_, tensor)))| TensorToWrite {
                    name,
                    shape: &tensor.shape,
                    values: ValuesToWrite::from(&tensor.values),
                })
                .collect();
            write_safetensors(file, &tensors, Some((METADATA_KEY, &metadata))).map_err(std::io::Error::from)
        })
    }

    /// Reads the position alone.
    ///
    /// # Errors
    /// Where the file cannot be read, or is no checkpoint.
    pub fn read(path: &Path) -> Result<Checkpoint, TrainError> {
        let wrong = |found: String| TrainError::Checkpoint {
            file: path.to_owned(),
            found,
            expected: "a checkpoint as `roentgen train` writes it".into(),
        };
        let metadata = read_safetensors_metadata(path)?;
        let text = metadata.get(METADATA_KEY).ok_or_else(|| wrong(format!("no metadata `{METADATA_KEY}`")))?;
        // A newer version may hold other fields: it is looked at alone.
        #[derive(Deserialize)]
        struct Version {
            format_version: u32,
        }
        let version: Version = serde_json::from_str(text).map_err(|e| wrong(e.to_string()))?;
        if version.format_version > FORMAT_VERSION {
            let (path, found) = (path.to_owned(), version.format_version);
            return Err(RunError::NewerFormat { path, found, supported: FORMAT_VERSION }.into());
        }
        serde_json::from_str(text).map_err(|e| wrong(e.to_string()))
    }

    /// Checks that this position, read from the setup's run, belongs to its freeze plan and data.
    ///
    /// # Errors
    /// [`TrainError::Checkpoint`] where it does not.
    pub fn check(&self, setup: &Setup) -> Result<(), TrainError> {
        let file = setup.run.last_checkpoint_file();
        let mut ours = Checkpoint::start(setup, String::new());
        ours.record(setup, &self.stage(setup).plan);
        if self.trained != ours.trained {
            let found = format!("it trains {} ({} tensors)", self.unfreeze.join(","), self.trained.len());
            let expected = format!("{} ({} tensors), as config.toml says", ours.unfreeze.join(","), ours.trained.len());
            return Err(TrainError::Checkpoint { file, found, expected });
        }
        if self.data_fingerprint != ours.data_fingerprint {
            let found = "it was trained on other data (the fingerprint of classes, files, labels and sizes differs)";
            let expected = "the data that the run began with: give its folder with --data".into();
            return Err(TrainError::Checkpoint { file, found: found.into(), expected });
        }
        Ok(())
    }

    /// Reads the rest of the run's last checkpoint, whose position this is, into store and optimizer, after checking
    /// that it belongs to the setup. The optimizer is that of [`Checkpoint::stage`].
    pub(crate) fn restore(
        &self,
        setup: &Setup,
        store: &mut ParameterStore,
        optimizer: &mut Optimizer,
    ) -> Result<(), TrainError> {
        let path = &setup.run.last_checkpoint_file();
        self.check(setup)?;
        let mut live = StateDict::default();
        let mut averaged = StateDict::default();
        let mut state = StateDict::default();
        for (name, tensor) in StateDict::open(path)?.tensors {
            if let Some(name) = name.strip_prefix(LIVE) {
                live.tensors.push((name.to_owned(), tensor));
            } else if let Some(name) = name.strip_prefix(AVERAGED) {
                averaged.tensors.push((name.to_owned(), tensor));
            } else if let Some(name) = name.strip_prefix(OPTIMIZER) {
                state.tensors.push((name.to_owned(), tensor));
            }
        }
        let network = &setup.network;
        let fitted = live.fit(path, network.architecture(), &store.expected(), network.head_module(), false)?;
        store.take(&fitted.tensors);
        if setup.config.training.average_decay.is_some()
            && let Err(tensor) = store.restore_average(&averaged, &self.stage(setup).plan)
        {
            return Err(TrainError::Checkpoint {
                file: path.clone(),
                found: format!("no averaged weights `{tensor}` of the right size"),
                expected: "those that `average_decay` in config.toml asks for".into(),
            });
        }
        if let Err(tensor) = optimizer.restore(&state) {
            return Err(TrainError::Checkpoint {
                file: path.clone(),
                found: format!("no optimizer state `{tensor}` of the right size"),
                expected: "the optimizer that config.toml names".into(),
            });
        }
        Ok(())
    }
}
