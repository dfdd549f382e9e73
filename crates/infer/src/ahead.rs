//! Work that is done ahead on several threads, and taken in order.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, PoisonError, mpsc};

/// Does `work` for the numbers below `count` on `threads` threads, and hands the results to `take` in order, on this
/// thread, until it says `false`. Meanwhile at most `ahead` results are worked on or wait behind the one that is taken.
pub(crate) fn in_order<T: Send>(
    count: usize,
    threads: usize,
    ahead: usize,
    work: impl Fn(usize) -> T + Sync,
    mut take: impl FnMut(usize, T) -> bool,
) {
    let (jobs, waiting) = mpsc::channel();
    let waiting = Mutex::new(waiting);
    let (done, results) = mpsc::channel();
    std::thread::scope(|scope| {
        // Dropped on the way out, also by a panic: then the threads end, for which the scope waits.
        let (jobs, results) = (jobs, results);
        for _ in 0..threads.clamp(1, count.max(1)) {
            let (done, waiting, work) = (done.clone(), &waiting, &work);
            scope.spawn(move || {
                loop {
                    // Whoever waits for a number holds the lock, and lets it go before the work.
                    let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(number) = next else { break };
                    // A panic goes on where the result is taken: otherwise that would wait for ever.
                    let result = catch_unwind(AssertUnwindSafe(|| work(number)));
                    if done.send((number, result)).is_err() {
                        break;
                    }
                }
            });
        }
        let mut given = 0;
        let mut early = BTreeMap::new();
        for number in 0..count {
            while given < count.min(number + ahead + 1) {
                jobs.send(given).expect("the numbers' receiver outlives the scope");
                given += 1;
            }
            let result = loop {
                match early.remove(&number) {
                    Some(result) => break result,
                    None => early.extend([results.recv().expect("a sender outlives the scope")]),
                }
            };
            if !take(number, result.unwrap_or_else(|panic| resume_unwind(panic))) {
                return;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn results_come_in_order_and_not_too_many_are_ahead() {
        for threads in [1, 3, 8] {
            let (begun, mut taken) = (AtomicUsize::new(0), Vec::new());
            let work = |number: usize| {
                begun.fetch_add(1, Ordering::SeqCst);
                // Late ones overtake early ones.
                std::thread::sleep(std::time::Duration::from_micros(100 * (7 - number as u64 % 7)));
                number * number
            };
            in_order(60, threads, 5, work, |number, square| {
                assert!(begun.load(Ordering::SeqCst) <= number + 6, "{number}");
                taken.push(square);
                true
            });
            assert_eq!(taken, (0..60).map(|number| number * number).collect::<Vec<_>>());
        }
        in_order(0, 4, 5, |_| (), |_, ()| panic!("nothing was to be done"));
    }

    #[test]
    fn enough_is_enough_and_a_panic_is_passed_on() {
        let mut taken = 0;
        in_order(
            usize::MAX,
            2,
            3,
            |number| number,
            |number, _| {
                taken += 1;
                number < 9
            },
        );
        assert_eq!(taken, 10);
        let broken = || in_order(9, 2, 3, |number| assert_ne!(number, 4, "four"), |_, ()| true);
        let panic = catch_unwind(broken).unwrap_err();
        assert!(panic.downcast_ref::<String>().is_some_and(|words| words.contains("four")));
    }
}
