//! How much may be in the server at once: images, explanations, and bytes of bodies.

use crate::Limits;
use crate::refusal::Refusal;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bodies are counted in blocks of so many bytes.
const BLOCK: usize = 16 << 10;

/// Explanations that are made or on the way to their readers: a picture is a thousand times as long as a prediction,
/// and slow readers of many must not hold up the predictions of others.
const EXPLANATIONS: usize = 64;

pub(crate) struct Admission {
    limits: Limits,
    images: Arc<Semaphore>,
    explanations: Arc<Semaphore>,
    drawing: Arc<Semaphore>,
    blocks: Arc<Semaphore>,
}

impl Admission {
    /// `drawing` explanations may be drawn at the same time.
    pub(crate) fn new(limits: Limits, drawing: usize) -> Admission {
        Admission {
            limits,
            images: Arc::new(Semaphore::new(limits.queue)),
            explanations: Arc::new(Semaphore::new(EXPLANATIONS)),
            drawing: Arc::new(Semaphore::new(drawing)),
            blocks: Arc::new(Semaphore::new(limits.all_bodies_bytes / BLOCK)),
        }
    }

    /// Places for the images of a request: all of them at once, or none.
    pub(crate) fn images(&self, count: usize) -> Result<OwnedSemaphorePermit, Refusal> {
        let wanted = u32::try_from(count).unwrap_or(u32::MAX);
        self.images.clone().try_acquire_many_owned(wanted).map_err(|_| {
            let waiting = self.waiting_images();
            Refusal::busy(format!(
                "{waiting} images are waiting; with {count} more they were over {}",
                self.limits.queue
            ))
        })
    }

    /// Room for an explanation, from its image to the last byte of its answer.
    pub(crate) fn explanation(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        let refuse = |_| Refusal::busy(format!("{EXPLANATIONS} explanations are made or not yet read"));
        self.explanations.clone().try_acquire_owned().map_err(refuse)
    }

    /// The right to draw an explanation; waits until there is one.
    pub(crate) async fn drawing(&self) -> OwnedSemaphorePermit {
        self.drawing.clone().acquire_owned().await.expect("nobody closes this semaphore")
    }

    /// Room for a body that has grown to `bytes`, beside what it `held` already.
    pub(crate) fn grow(&self, held: &mut Option<OwnedSemaphorePermit>, bytes: usize) -> Result<(), Refusal> {
        let have = held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = bytes.div_ceil(BLOCK).saturating_sub(have);
        if more == 0 {
            return Ok(());
        }
        let wanted = u32::try_from(more).unwrap_or(u32::MAX);
        let permit = self.blocks.clone().try_acquire_many_owned(wanted).map_err(|_| {
            let most = self.limits.all_bodies_bytes;
            Refusal::busy(format!("the images of all requests together are more than {most} bytes"))
        })?;
        match held {
            Some(held) => held.merge(permit),
            None => *held = Some(permit),
        }
        Ok(())
    }

    /// Images in the server.
    pub(crate) fn waiting_images(&self) -> usize {
        self.limits.queue - self.images.available_permits()
    }

    /// Bytes of bodies in the server, in whole blocks.
    pub(crate) fn body_bytes(&self) -> usize {
        (self.limits.all_bodies_bytes / BLOCK - self.blocks.available_permits()) * BLOCK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_full_refuses_until_something_is_given_back() {
        let limits = Limits { queue: 3, all_bodies_bytes: 2 * BLOCK, ..Limits::default() };
        let admission = Admission::new(limits, 1);
        let two = admission.images(2).unwrap();
        assert!(admission.images(2).is_err());
        assert_eq!(admission.waiting_images(), 2);
        drop(two);
        assert!(admission.images(3).is_ok());
        let mut held = None;
        admission.grow(&mut held, 1).unwrap();
        admission.grow(&mut held, BLOCK).unwrap();
        assert_eq!(admission.body_bytes(), BLOCK);
        admission.grow(&mut held, BLOCK + 1).unwrap();
        assert_eq!(admission.body_bytes(), 2 * BLOCK);
        assert!(admission.grow(&mut held, 2 * BLOCK + 1).is_err());
        drop(held);
        assert_eq!(admission.body_bytes(), 0);
    }
}
