//! The threads that decode images: how many images they hold at once, of how many pixels, and for how long.
//!
//! A decoder cannot be interrupted. So an image waits for its turn outside of them, where it vanishes with its request, and
//! what is decoded keeps all that it takes until its end, also where nobody waits for it any more.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Images of the most pixels that may be decoded at the same time: one of them leaves room for others.
const LARGEST_AT_ONCE: u64 = 2;

pub(crate) struct Decoders {
    threads: usize,
    turns: Arc<Semaphore>,
    largest: u64,
    pixels: Arc<Semaphore>,
    /// Since when each turn is taken, by its number.
    at_work: Mutex<BTreeMap<u64, Instant>>,
}

/// The right to decode an image.
pub(crate) struct Turn {
    decoders: Arc<Decoders>,
    number: u64,
    /// For its pixels, once they are known.
    room: Option<OwnedSemaphorePermit>,
    _turn: OwnedSemaphorePermit,
}

impl Decoders {
    /// `threads` decoders for images of at most `largest` pixels.
    pub(crate) fn new(threads: usize, largest: u64) -> Decoders {
        let all = usize::try_from(largest.saturating_mul(LARGEST_AT_ONCE)).unwrap_or(usize::MAX);
        Decoders {
            threads,
            turns: Arc::new(Semaphore::new(threads)),
            largest,
            pixels: Arc::new(Semaphore::new(all.min(Semaphore::MAX_PERMITS))),
            at_work: Mutex::default(),
        }
    }

    fn at_work(&self) -> MutexGuard<'_, BTreeMap<u64, Instant>> {
        // Instants are whole whatever panicked beside them.
        self.at_work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a decoder.
    pub(crate) async fn turn(self: &Arc<Decoders>) -> Turn {
        let turn = self.turns.clone().acquire_owned().await.expect("nobody closes this semaphore");
        let mut at_work = self.at_work();
        let number = at_work.last_key_value().map_or(0, |(number, _)| number + 1);
        at_work.insert(number, Instant::now());
        Turn { decoders: self.clone(), number, room: None, _turn: turn }
    }

    /// Images that are being decoded.
    pub(crate) fn images(&self) -> usize {
        self.at_work().len()
    }

    /// Those of them that have been for longer than `limit`.
    pub(crate) fn overdue(&self, limit: Duration) -> usize {
        self.at_work().values().filter(|begun| begun.elapsed() > limit).count()
    }

    /// Whether all decoders have been at one image each for longer than `limit`.
    pub(crate) fn all_overdue(&self, limit: Duration) -> bool {
        self.overdue(limit) >= self.threads
    }
}

impl Turn {
    /// Waits until there is room for an image of so many pixels. Of more than the largest there is none: it is refused
    /// before its pixels take memory.
    pub(crate) async fn make_room(&mut self, pixels: u64) {
        let wanted = u32::try_from(pixels.min(self.decoders.largest)).unwrap_or(u32::MAX);
        let room = self.decoders.pixels.clone().acquire_many_owned(wanted).await;
        self.room = Some(room.expect("nobody closes this semaphore"));
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.decoders.at_work().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::{Context, Poll, Waker};

    /// The value of a future that need not wait; `None` where it would.
    fn now<T>(future: impl Future<Output = T>) -> Option<T> {
        match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    #[test]
    fn turns_and_pixels_are_bounded() {
        let decoders = Arc::new(Decoders::new(3, 100));
        let mut turns: Vec<Turn> = (0..3).map(|_| now(decoders.turn()).unwrap()).collect();
        assert!(now(decoders.turn()).is_none(), "a fourth decoder");
        assert_eq!(decoders.images(), 3);
        // Refused by its header: room for the largest is enough.
        assert!(now(turns[0].make_room(u64::MAX)).is_some());
        assert!(now(turns[1].make_room(60)).is_some());
        assert!(now(turns[2].make_room(60)).is_none(), "220 of 200 pixels");
        turns.remove(0);
        assert!(now(turns[1].make_room(60)).is_some());
        assert_eq!(decoders.images(), 2);
        assert!(now(decoders.turn()).is_some());
    }

    #[test]
    fn it_is_seen_when_all_are_overdue() {
        let decoders = Arc::new(Decoders::new(2, 100));
        let one = now(decoders.turn()).unwrap();
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(decoders.overdue(Duration::ZERO), 1);
        assert!(!decoders.all_overdue(Duration::ZERO));
        let other = now(decoders.turn()).unwrap();
        std::thread::sleep(Duration::from_millis(2));
        assert!(decoders.all_overdue(Duration::ZERO) && !decoders.all_overdue(Duration::from_secs(3600)));
        drop((one, other));
        assert_eq!(decoders.overdue(Duration::ZERO), 0);
    }
}
