//! How many images go through a training program at once, under a memory bound.

use crate::{Setup, Stage};
use roentgen_nn::{BatchNormMode, CompileRequest, Engine, EngineError, FreezePlan, Mode, ValueId};

/// Images in a step: the batch size, or all training images where they are fewer.
pub(crate) fn batch_size(setup: &Setup) -> usize {
    setup.config.training.batch_size.min(setup.train_rows.len())
}

/// The training program of a plan from `entries` on that takes `images` images at once. Where that is not the whole
/// batch, its backward passes continue one another.
pub(crate) fn request<'a>(
    setup: &'a Setup,
    plan: &'a FreezePlan,
    entries: &[ValueId],
    images: usize,
) -> CompileRequest<'a> {
    CompileRequest {
        arithmetic: setup.arithmetic(),
        entries: entries.to_vec(),
        micro_batches: images < batch_size(setup),
        ..CompileRequest::whole(&setup.network, plan, Mode::Train, images)
    }
}

/// How many images of a batch each of some runs takes at once, all their training programs and `beside` bytes together
/// under a limit of bytes: all images, or as many as fit, the same number for all, since each is slow with few. A batch is
/// only cut where no batch norm looks at the whole of it.
///
/// # Errors
/// Where the memory does not suffice even so: the error names the memory needed. Where the last batch of an epoch is
/// one image whose map has one position left at a batch norm in training mode.
pub(crate) fn sizes(
    runs: &[(&Setup, &[ValueId])],
    engine: &dyn Engine,
    limit: Option<usize>,
    beside: usize,
) -> Result<Vec<usize>, EngineError> {
    for (setup, _) in runs {
        refuse_single_values(setup)?;
    }
    // An earlier stage may take more than the last: its frozen layers keep transformed weights.
    let needed = |run: usize, images: usize| {
        let (setup, entries) = runs[run];
        let of_stage = |stage: &Stage| engine.memory_bytes(&request(setup, &stage.plan, entries, images));
        setup.stages.iter().map(of_stage).try_fold(0, |most, bytes| Ok::<_, EngineError>(most.max(bytes?)))
    };
    let sizes_within = |bound: usize| -> Vec<usize> {
        let size =
            |setup: &Setup| batch_size(setup).min(if setup.plan.depends_on_batch() { usize::MAX } else { bound });
        runs.iter().map(|(setup, _)| size(setup)).collect()
    };
    let total = |sizes: &[usize]| -> Result<usize, EngineError> {
        (0..runs.len()).try_fold(beside, |sum, run| Ok(sum + needed(run, sizes[run])?))
    };
    let whole = runs.iter().map(|(setup, _)| batch_size(setup)).max().unwrap_or(1);
    let Some(limit) = limit else { return Ok(sizes_within(whole)) };
    if total(&sizes_within(whole))? <= limit {
        return Ok(sizes_within(whole));
    }
    let (mut fits, mut exceeds) = (0, whole);
    while exceeds - fits > 1 {
        let middle = fits.midpoint(exceeds);
        if total(&sizes_within(middle))? <= limit { fits = middle } else { exceeds = middle }
    }
    if fits > 0 {
        return Ok(sizes_within(fits));
    }
    let sizes = sizes_within(1);
    let total = total(&sizes)?;
    let uncut = runs.iter().position(|(setup, _)| setup.plan.depends_on_batch());
    let run = uncut.unwrap_or(0);
    let setup = runs[run].0;
    let advice = match uncut {
        Some(_) => {
            "a batch norm in training mode looks at the whole batch, so it cannot be cut: lower --batch-size or \
             --image-size, or raise --memory-limit"
        }
        None => "lower --image-size, unfreeze less, or raise --memory-limit",
    };
    Err(EngineError::Memory {
        architecture: setup.network.architecture().into(),
        image_size: setup.network.image_size(),
        batch: sizes[run],
        needed_mib: total.div_ceil(1 << 20),
        limit_mib: limit >> 20,
        advice: advice.into(),
    })
}

/// A variance of one value is none.
fn refuse_single_values(setup: &Setup) -> Result<(), EngineError> {
    let (images, batch_size) = (setup.train_rows.len(), batch_size(setup));
    let last_batch = if images.is_multiple_of(batch_size) { batch_size } else { images % batch_size };
    let single = setup.network.ids().find(|id| {
        let positions = setup.network.value(*id).shape.positions();
        setup.plan.batch_norm(*id) == Some(BatchNormMode::Batch) && last_batch * positions == 1
    });
    match single {
        Some(id) => Err(EngineError::OneValuePerChannel { name: setup.network.value(id).name.clone() }),
        None => Ok(()),
    }
}
