//! How many images go through the network at once, under a memory bound.

use crate::Setup;
use roentgen_nn::{BatchNormMode, CompileRequest, Engine, EngineError, Mode};

/// How many images of a batch a run takes at once: all of them, or fewer to keep its memory limit.
///
/// # Errors
/// Where the memory does not suffice, or the last batch of an epoch is one image whose map has one position left at a
/// batch norm in training mode.
pub fn of(setup: &Setup, engine: &dyn Engine) -> Result<usize, EngineError> {
    let images = setup.train_rows.len();
    let batch_size = setup.config.training.batch_size.min(images);
    let last_batch = if images.is_multiple_of(batch_size) { batch_size } else { images % batch_size };
    let single = setup.network.ids().find(|id| {
        let positions = setup.network.value(*id).shape.positions();
        setup.plan.batch_norm(*id) == Some(BatchNormMode::Batch) && last_batch * positions == 1
    });
    if let Some(id) = single {
        return Err(EngineError::OneValuePerChannel { name: setup.network.value(id).name.clone() });
    }
    size(setup, engine, batch_size)
}

/// The training program that takes `images` images at once. Where that is not the whole batch, its backward passes
/// continue one another.
pub fn request(setup: &Setup, batch_size: usize, images: usize) -> CompileRequest<'_> {
    CompileRequest {
        arithmetic: setup.arithmetic(),
        micro_batches: images < batch_size,
        ..CompileRequest::whole(&setup.network, &setup.plan, Mode::Train, images)
    }
}

/// The largest number of images, at most `batch_size`, whose training program keeps the limit. A batch is only cut
/// where no batch norm looks at the whole of it.
///
/// # Errors
/// Where even one image, or a batch that may not be cut, needs more: the error names the memory needed.
fn size(setup: &Setup, engine: &dyn Engine, batch_size: usize) -> Result<usize, EngineError> {
    let (network, plan) = (&setup.network, &setup.plan);
    let needed = |images| engine.memory_bytes(&request(setup, batch_size, images));
    let Some(limit) = setup.memory_limit_bytes else { return Ok(batch_size) };
    if needed(batch_size)? <= limit {
        return Ok(batch_size);
    }
    let too_much = |batch: usize, needed: usize, advice: &str| EngineError::Memory {
        architecture: network.architecture().into(),
        image_size: network.image_size(),
        batch,
        needed_mib: needed.div_ceil(1 << 20),
        limit_mib: limit >> 20,
        advice: advice.into(),
    };
    if plan.depends_on_batch() {
        let advice = "a batch norm in training mode looks at the whole batch, so it cannot be cut: lower --batch-size or \
                      --image-size, or raise --memory-limit";
        return Err(too_much(batch_size, needed(batch_size)?, advice));
    }
    if needed(1)? > limit {
        return Err(too_much(1, needed(1)?, "lower --image-size, unfreeze less, or raise --memory-limit"));
    }
    let (mut fits, mut exceeds) = (1, batch_size);
    while exceeds - fits > 1 {
        let middle = fits.midpoint(exceeds);
        if needed(middle)? <= limit { fits = middle } else { exceeds = middle }
    }
    Ok(fits)
}
