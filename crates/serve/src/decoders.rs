//! The threads that decode images: which image is next, how many are decoded at once, of how many pixels, and for how long.
//!
//! A decoder cannot be interrupted. So an image waits for its turn outside of them, where it vanishes with its request, and
//! what is decoded keeps all that it takes until its end, also where nobody waits for it any more.
//!
//! Of the images that wait the one of the fewest pixels is next, so that one larger image holds up nobody. Each is passed by
//! [`MOST_PASSED`] others at most: then it is next, in the order in which they came, and what it lacks is kept for it. So
//! under a load that never ends the order is that in which they came, but for so many, and nobody waits much longer than in
//! it. And while decoders are at large images, one thread more takes small ones in the order in which they came, with pixels
//! of its own: nobody waits longer for what it does, and it counts as passing nobody.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// Images of the most pixels that may be decoded at the same time: one of them leaves room for others.
const LARGEST_AT_ONCE: u64 = 2;
/// A small image has at most this part of the most pixels: 4 of 64 million, which most published radiographs have.
const SMALL: u64 = 16;
/// Images that came later and may be begun before one that waits.
const MOST_PASSED: usize = 16;

pub(crate) struct Decoders {
    threads: usize,
    /// Most pixels of an image.
    largest: u64,
    state: Mutex<State>,
    looks: Arc<Semaphore>,
}

struct State {
    /// Images that were ever begun.
    begun: u64,
    /// By their number.
    at_work: BTreeMap<u64, AtWork>,
    /// In the order in which they came.
    waiting: VecDeque<Waiting>,
    /// Decoded images for which there is a place still, those that are being decoded counted as decoded.
    places: usize,
}

struct AtWork {
    since: Instant,
    pixels: u64,
    /// On the thread for small images.
    beside: bool,
}

struct Waiting {
    pixels: u64,
    /// How many have been begun on the decoders that came later: never more than of who came before.
    passed: usize,
    /// Closed where its request has gone.
    turn: oneshot::Sender<(Turn, Place)>,
}

/// The right to decode an image, from its beginning to its end.
pub(crate) struct Turn {
    decoders: Arc<Decoders>,
    number: u64,
}

/// The place of a decoded image, until its logits are computed.
pub(crate) struct Place {
    decoders: Arc<Decoders>,
}

impl Decoders {
    /// `threads` decoders for images of at most `largest` pixels, of which `ahead` may be decoded and not yet computed.
    pub(crate) fn new(threads: usize, largest: u64, ahead: usize) -> Decoders {
        let state = State { begun: 0, at_work: BTreeMap::new(), waiting: VecDeque::new(), places: ahead };
        Decoders { threads, largest, state: Mutex::new(state), looks: Arc::new(Semaphore::new(1)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics between two changes that belong together.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the right to look at a header: one at a time, so that it never waits for a thread.
    pub(crate) async fn look(&self) -> OwnedSemaphorePermit {
        self.looks.clone().acquire_owned().await.expect("nobody closes this semaphore")
    }

    /// Waits for a decoder for an image of so many pixels, and for a place for what comes of it. An image of more than the
    /// largest is refused by its header, and waits like the largest.
    pub(crate) async fn turn(self: &Arc<Decoders>, pixels: u64) -> (Turn, Place) {
        let (turn, given) = oneshot::channel();
        self.state().waiting.push_back(Waiting { pixels: pixels.min(self.largest), passed: 0, turn });
        self.advance();
        given.await.expect("who waits leaves the queue with a turn")
    }

    /// Gives turns as long as there are any to give.
    fn advance(self: &Arc<Decoders>) {
        loop {
            let next = self.state().next(self.threads, self.largest);
            let Some((number, waiting)) = next else { return };
            let given = (Turn { decoders: self.clone(), number }, Place { decoders: self.clone() });
            // Where the request has gone in this moment, both come back here, and are given back by being dropped.
            drop(waiting.send(given));
        }
    }

    /// Images that are being decoded.
    pub(crate) fn images(&self) -> usize {
        self.state().at_work.len()
    }

    /// Those of them that have been for longer than `limit`.
    pub(crate) fn overdue(&self, limit: Duration) -> usize {
        self.state().at_work.values().filter(|work| work.since.elapsed() > limit).count()
    }

    /// Whether all decoders have been at one image each for longer than `limit`, whatever the thread for small ones does.
    pub(crate) fn all_overdue(&self, limit: Duration) -> bool {
        let state = self.state();
        let overdue = state.at_work.values().filter(|work| !work.beside && work.since.elapsed() > limit);
        overdue.count() >= self.threads
    }
}

impl State {
    /// Takes the next image from the queue, and all that it needs; `None` where nobody can be begun.
    fn next(&mut self, threads: usize, largest: u64) -> Option<(u64, oneshot::Sender<(Turn, Place)>)> {
        self.waiting.retain(|image| !image.turn.is_closed());
        if self.places == 0 {
            return None;
        }
        let small = largest / SMALL;
        let on_decoders = || self.at_work.values().filter(|work| !work.beside);
        let taken: u64 = on_decoders().map(|work| work.pixels).sum();
        let room = largest.saturating_mul(LARGEST_AT_ONCE) - taken;
        let decoder = on_decoders().count() < threads;
        let beside = on_decoders().any(|work| work.pixels > small) && self.at_work.values().all(|work| !work.beside);
        let shortest = (0..self.waiting.len()).min_by_key(|&index| self.waiting[index].pixels)?;
        let index = if self.waiting[0].passed < MOST_PASSED { shortest } else { 0 };
        let (index, beside) = if decoder && self.waiting[index].pixels <= room {
            (index, false)
        } else if beside {
            (self.waiting.iter().position(|image| image.pixels <= small)?, true)
        } else {
            return None;
        };
        if !beside {
            self.waiting.range_mut(..index).for_each(|image| image.passed += 1);
        }
        let Waiting { pixels, turn, .. } = self.waiting.remove(index)?;
        let number = self.begun;
        self.begun += 1;
        self.places -= 1;
        self.at_work.insert(number, AtWork { since: Instant::now(), pixels, beside });
        Some((number, turn))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.decoders.state().at_work.remove(&self.number);
        self.decoders.advance();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.decoders.state().places += 1;
        self.decoders.advance();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    /// An image that came: it waits, or is at work.
    struct Came {
        asks: Pin<Box<dyn Future<Output = (Turn, Place)>>>,
        turn: Option<Turn>,
        place: Option<Place>,
    }

    impl Came {
        fn is_begun(&mut self) -> bool {
            if self.place.is_none()
                && let Poll::Ready((turn, place)) = self.asks.as_mut().poll(&mut Context::from_waker(Waker::noop()))
            {
                (self.turn, self.place) = (Some(turn), Some(place));
            }
            self.place.is_some()
        }

        /// Nobody waits for what comes of it.
        fn finish(mut self) {
            assert!(self.is_begun());
        }
    }

    /// Decoders for images of 160 pixels, of which 10 are few.
    fn decoders(threads: usize) -> Arc<Decoders> {
        Arc::new(Decoders::new(threads, 160, 64))
    }

    fn come(decoders: &Arc<Decoders>, pixels: u64) -> Came {
        let decoders = decoders.clone();
        let mut came = Came { asks: Box::pin(async move { decoders.turn(pixels).await }), turn: None, place: None };
        came.is_begun();
        came
    }

    #[test]
    fn threads_and_pixels_are_bounded() {
        let decoders = decoders(3);
        // Refused by its header: what the largest takes is enough.
        let bomb = come(&decoders, u64::MAX);
        let mut second = come(&decoders, 100);
        let mut third = come(&decoders, 100);
        assert!(second.is_begun() && !third.is_begun(), "360 of 320 pixels");
        let mut fourth = come(&decoders, 20);
        let mut fifth = come(&decoders, 20);
        assert!(fourth.is_begun() && !fifth.is_begun(), "a fourth image on three threads");
        assert_eq!(decoders.images(), 3);
        bomb.finish();
        assert!(fifth.is_begun() && !third.is_begun());
        second.finish();
        assert!(third.is_begun());
        drop((third, fourth, fifth));
        assert_eq!(decoders.images(), 0);
    }

    #[test]
    fn small_images_pass_large_ones_and_take_nothing_from_them() {
        let decoders = decoders(2);
        let (first, mut second) = (come(&decoders, 160), come(&decoders, 160));
        let mut third = come(&decoders, 160);
        assert!(second.is_begun() && !third.is_begun());
        // However many come, one at a time; not those that are not small.
        for _ in 0..3 * MOST_PASSED {
            let (mut one, mut other, mut larger) = (come(&decoders, 10), come(&decoders, 10), come(&decoders, 11));
            assert!(one.is_begun() && !other.is_begun() && !larger.is_begun());
            one.finish();
            assert!(other.is_begun() && !larger.is_begun());
        }
        // Among small ones the smallest does not go first, which would leave another waiting as long as they come.
        let (one, mut other, mut smallest) = (come(&decoders, 5), come(&decoders, 10), come(&decoders, 5));
        one.finish();
        assert!(other.is_begun() && !smallest.is_begun());
        drop((other, smallest));
        let mut small = come(&decoders, 10);
        assert!(small.is_begun());
        // A decoder goes to who came first, also while the thread for small ones is at work.
        first.finish();
        assert!(third.is_begun());
        drop((second, third, small));
        // Where nothing large is decoded, there is no further thread.
        let _busy = [come(&decoders, 10), come(&decoders, 10)];
        assert!(!come(&decoders, 10).is_begun());
        assert_eq!(decoders.images(), 2);
    }

    #[test]
    fn images_of_any_size_pass_larger_ones_and_each_of_those_so_many_times_at_most() {
        let decoders = decoders(1);
        let mut at_work = come(&decoders, 160);
        // One more of the middle size comes with each that is begun, so that some always wait.
        let mut waiting: VecDeque<Came> = (0..100).map(|index| come(&decoders, 100 + index % 60)).collect();
        for _ in 0..MOST_PASSED {
            let middle = come(&decoders, 80);
            at_work.finish();
            at_work = middle;
            assert!(at_work.is_begun() && waiting.iter_mut().all(|larger| !larger.is_begun()));
        }
        let mut late = Vec::new();
        while let Some(mut larger) = waiting.pop_front() {
            late.push(come(&decoders, 80));
            at_work.finish();
            assert!(larger.is_begun() && waiting.iter_mut().chain(&mut late).all(|other| !other.is_begun()));
            at_work = larger;
        }
    }

    #[test]
    fn an_image_without_room_is_passed_by_so_many_and_no_more() {
        let decoders = decoders(4);
        let _at_work = [come(&decoders, 160), come(&decoders, 100)];
        let mut large = come(&decoders, 160);
        for _ in 0..MOST_PASSED {
            come(&decoders, 60).finish();
            assert!(!large.is_begun());
        }
        let mut late = come(&decoders, 60);
        assert!(!late.is_begun(), "room is kept for the one that waits");
        // Small ones need nothing of that room.
        let small = come(&decoders, 10);
        small.finish();
        assert!(!late.is_begun());
        // With its request goes what is kept for it.
        drop(large);
        come(&decoders, 10).finish();
        assert!(late.is_begun());
    }

    #[test]
    fn who_goes_is_not_begun_and_holds_up_nobody() {
        let decoders = decoders(1);
        let first = come(&decoders, 100);
        let (gone, mut last) = (come(&decoders, 100), come(&decoders, 100));
        // It has its turn, and its request goes before it is seen.
        let given = come(&decoders, 100);
        drop(gone);
        first.finish();
        assert!(last.is_begun());
        assert_eq!(decoders.images(), 1);
        last.finish();
        assert_eq!(decoders.images(), 1);
        drop(given);
        assert_eq!(decoders.images(), 0);
        assert!(come(&decoders, 100).is_begun());
    }

    #[test]
    fn decoded_images_have_their_places_until_they_are_computed() {
        let decoders = Arc::new(Decoders::new(2, 100, 2));
        let (mut one, mut other, mut third) = (come(&decoders, 50), come(&decoders, 50), come(&decoders, 50));
        assert!(one.is_begun() && other.is_begun() && !third.is_begun());
        (one.turn, other.turn) = (None, None);
        assert_eq!(decoders.images(), 0);
        assert!(!third.is_begun(), "a third decoded image");
        one.place = None;
        assert!(third.is_begun());
    }

    #[test]
    fn it_is_seen_when_all_are_overdue() {
        let decoders = decoders(2);
        let one = come(&decoders, 100);
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(decoders.overdue(Duration::ZERO), 1);
        let small = come(&decoders, 10);
        let beside = come(&decoders, 10);
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(decoders.overdue(Duration::ZERO), 3);
        assert!(decoders.all_overdue(Duration::ZERO) && !decoders.all_overdue(Duration::from_secs(3600)));
        drop(small);
        assert_eq!(decoders.overdue(Duration::ZERO), 2);
        assert!(!decoders.all_overdue(Duration::ZERO), "an image of any size would be begun");
        drop((one, beside));
        assert_eq!(decoders.overdue(Duration::ZERO), 0);
    }
}
