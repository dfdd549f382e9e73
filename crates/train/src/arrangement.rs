//! How runs that train together are fed: where each is cut, and what is kept on disk.

use crate::feed::{Feed, prefix_request};
use crate::{Setup, TrainError, micro_batch};
use roentgen_nn::{CompileRequest, Engine, EngineError, FreezePlan, Mode, ValueId};
use roentgen_run::config::{Augmentation, DataSettings};

/// Images that programs in evaluation mode take at once, where memory suffices: no result depends on it.
const EVALUATED_AT_ONCE: usize = 16;

/// Where runs that train together are cut, and what of the values there is kept on disk.
pub(crate) struct Arrangement {
    /// The entries of each run's training program.
    pub(crate) train_cuts: Vec<Vec<ValueId>>,
    /// The entries of each run's program for validation.
    pub(crate) validation_cuts: Vec<Vec<ValueId>>,
    /// The cycle of augmented views; `None` where every epoch draws anew.
    pub(crate) views: Option<usize>,
    /// Whether the values that are trained on are kept on disk.
    pub(crate) keep_train: bool,
    /// Whether the values that are validated on are kept on disk.
    pub(crate) keep_validation: bool,
    /// What is kept on disk takes so many bytes.
    pub(crate) bytes_on_disk: u64,
    /// What the values that are trained on would take, where they repeat and only the limit keeps them off the disk.
    pub(crate) over_limit: Option<u64>,
    /// Images of a batch that each run's training program takes at once.
    pub(crate) trained_at_once: Vec<usize>,
    /// Images that the programs in evaluation mode take at once: of the prefix, and for validation.
    pub(crate) evaluated_at_once: usize,
}

/// After how many epochs the images of a run repeat: 1 where nothing is drawn, `None` where every epoch draws anew.
pub(crate) fn cycle(setup: &Setup) -> Option<usize> {
    match setup.config.data.augment {
        Augmentation::None => Some(1),
        Augmentation::Seed | Augmentation::Cxr => setup.config.data.views,
    }
}

/// Arranges runs of one group.
///
/// # Errors
/// Where the runs do not fit together, or the memory does not suffice.
pub(crate) fn arrange(setups: &[&Setup], engine: &dyn Engine) -> Result<Arrangement, TrainError> {
    refuse_strangers(setups)?;
    match arrange_behind_prefix(setups, engine, true) {
        // A run alone can do without a program for the prefix.
        Err(EngineError::Memory { .. }) if setups.len() == 1 => Ok(arrange_behind_prefix(setups, engine, false)?),
        other => Ok(other?),
    }
}

fn arrange_behind_prefix(setups: &[&Setup], engine: &dyn Engine, may_keep: bool) -> Result<Arrangement, EngineError> {
    let first = setups[0];
    let image = first.network.input();
    let cuts: Vec<Vec<ValueId>> = setups.iter().map(|setup| setup.plan.cut(&setup.network)).collect();
    let alone = setups.len() == 1;
    let views = cycle(first);
    let epochs = setups.iter().map(|setup| setup.config.training.epochs).max().unwrap_or(0);
    let union = cuts.concat();
    // Who needs the image itself is served as well by values that are computed on the way.
    let can_keep = may_keep && !union.contains(&image);
    let limit = first.cache_limit_bytes();
    let bytes = |views: Option<usize>, images: usize| {
        Feed::new(first, engine, first.train_transform(), views, &union, 1).bytes_on_disk(images)
    };
    let train_bytes = bytes(views, first.train_rows.len());
    let repeats = can_keep && views.is_some_and(|views| epochs > views);
    let keep_train = repeats && train_bytes <= limit;
    let taken = if keep_train { train_bytes } else { 0 };
    let validation_bytes = bytes(Some(1), first.validation_rows.len());
    let keep_validation =
        can_keep && epochs > 1 && !first.validation_rows.is_empty() && taken + validation_bytes <= limit;
    let cut_or_whole = |cut: bool| if cut { cuts.clone() } else { vec![vec![image]; setups.len()] };
    let train_cuts = cut_or_whole(!alone || keep_train);
    let validation_cuts = cut_or_whole(!alone || keep_validation);

    // Beside the training programs: the numbers of each run and of the prefix, a program for the prefix in each feed, one
    // for validation in each run, and what one batch has at the cuts.
    let frozen = FreezePlan::frozen(&first.network);
    let prefixes: Vec<Vec<ValueId>> = [&train_cuts, &validation_cuts]
        .into_iter()
        .map(|cuts| not_the_image(&cuts.concat(), image))
        .filter(|cuts| !cuts.is_empty())
        .collect();
    let validated = if first.validation_rows.is_empty() { 0 } else { setups.len() };
    let each = |id: &ValueId| 4 * first.network.value(*id).shape.elements();
    let waiting: usize = not_the_image(&train_cuts.concat(), image).iter().map(each).sum();
    let beside = |images: usize| -> Result<usize, EngineError> {
        let mut bytes =
            waiting * micro_batch::batch_size(first) + setups.iter().map(|setup| numbers(setup)).sum::<usize>();
        if !prefixes.is_empty() {
            bytes += 4 * first.network.parameter_count();
        }
        for cuts in &prefixes {
            bytes += engine.memory_bytes(&prefix_request(first, &frozen, cuts, images))?;
        }
        for (setup, cut) in setups.iter().zip(&validation_cuts).take(validated) {
            bytes +=
                engine.memory_bytes(&validation_request(setup, &FreezePlan::frozen(&setup.network), cut, images))?;
        }
        Ok(bytes)
    };
    let runs: Vec<(&Setup, &[ValueId])> =
        setups.iter().zip(&train_cuts).map(|(setup, cut)| (*setup, cut.as_slice())).collect();
    let mut evaluated_at_once = EVALUATED_AT_ONCE;
    let trained_at_once = loop {
        let sizes = match first.memory_limit_bytes {
            None => micro_batch::sizes(&runs, engine, None, 0),
            Some(limit) => micro_batch::sizes(&runs, engine, Some(limit), beside(evaluated_at_once)?),
        };
        match sizes {
            Err(EngineError::Memory { .. }) if evaluated_at_once > 1 => evaluated_at_once /= 2,
            other => break other?,
        }
    };
    Ok(Arrangement {
        train_cuts,
        validation_cuts,
        views,
        keep_train,
        keep_validation,
        bytes_on_disk: taken + if keep_validation { validation_bytes } else { 0 },
        over_limit: (repeats && !keep_train).then_some(train_bytes),
        trained_at_once,
        evaluated_at_once,
    })
}

/// The program that a run is validated with, from a cut to the logits. `plan` is [`FreezePlan::frozen`].
pub(crate) fn validation_request<'a>(
    setup: &'a Setup,
    plan: &'a FreezePlan,
    cut: &[ValueId],
    images: usize,
) -> CompileRequest<'a> {
    CompileRequest {
        entries: cut.to_vec(),
        arithmetic: setup.arithmetic(),
        ..CompileRequest::whole(&setup.network, plan, Mode::Evaluate, images)
    }
}

/// Bytes of a run's parameters, their average where one is kept, gradients and optimizer.
fn numbers(setup: &Setup) -> usize {
    let trained = setup.plan.trainable_count(&setup.network);
    let copies = 1 + usize::from(setup.config.training.average_decay.is_some());
    4 * (copies * setup.network.parameter_count() + trained * (1 + setup.rule.state_per_parameter()))
}

fn not_the_image(values: &[ValueId], image: ValueId) -> Vec<ValueId> {
    let mut values: Vec<ValueId> = values.iter().copied().filter(|id| *id != image).collect();
    values.sort_unstable();
    values.dedup();
    values
}

/// Runs of one group see the same batches and compute the same prefix.
fn refuse_strangers(setups: &[&Setup]) -> Result<(), TrainError> {
    let first = setups[0];
    let drawn = |data: &DataSettings| (data.augment, data.cxr, data.views);
    for setup in &setups[1..] {
        let (a, b) = (&first.config, &setup.config);
        let same = [
            ("data", first.data_fingerprint == setup.data_fingerprint && first.train_rows == setup.train_rows),
            ("validation data", first.validation_rows == setup.validation_rows),
            ("architecture", first.network.architecture() == setup.network.architecture()),
            ("image size", a.data.image_size == b.data.image_size),
            ("augmentation", drawn(&a.data) == drawn(&b.data)),
            ("order of images", a.data.shuffle == b.data.shuffle && a.training.seed == b.training.seed),
            ("sampler", a.data.sampler == b.data.sampler),
            ("batch size", a.training.batch_size == b.training.batch_size),
            ("width of a frozen head", frozen_as_in(first, setup)),
            ("arithmetic", first.arithmetic() == setup.arithmetic()),
        ];
        if let Some((what, _)) = same.iter().find(|(_, same)| !same) {
            return Err(TrainError::Setting {
                setting: "a run that is to train together with another",
                found: format!(
                    "{} beside {}, with another {what}",
                    setup.run.path().display(),
                    first.run.path().display()
                ),
                expected: "the same data, image size, augmentation, seed, sampler, batch size, architecture, frozen layers and \
                           arithmetic",
            });
        }
    }
    Ok(())
}

/// Whether what a run has before its cut has the shapes that it has in another: part of the head may be frozen, and heads
/// are of any width.
fn frozen_as_in(other: &Setup, setup: &Setup) -> bool {
    let behind = setup.network.tensors_behind(&setup.plan.cut(&setup.network));
    let (theirs, ours) = (other.network.tensors(), setup.network.tensors());
    behind.into_iter().all(|tensor| theirs[tensor].shape == ours[tensor].shape)
}
