//! Our own parked threads: a kernel call takes microseconds, which leaves no time to start threads or to queue tasks.
//!
//! A pool runs one task at a time, on all its threads at once, with the caller as thread 0. Between tasks a worker
//! spins for a moment (the next layer's call usually follows at once), then parks.

use std::any::Any;
use std::cell::Cell;
use std::marker::PhantomData;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, Thread};

/// How often a waiting thread looks again before it parks: some tens of microseconds.
const SPINS: usize = 2000;

thread_local! {
    /// Whether this thread is inside a task: a task that starts another one would wait for itself.
    static INSIDE_TASK: Cell<bool> = const { Cell::new(false) };
}

/// A task, and the thread that waits for it.
struct Job {
    /// Alive until `pending` is 0: [`ThreadPool::run`] does not return before.
    task: *const (dyn Fn(usize) + Sync),
    caller: Thread,
}

// SAFETY: the task behind the pointer is `Sync`, so that workers may call it, and outlives the job.
unsafe impl Send for Job {}

struct Shared {
    /// Counts jobs; a change is what workers wait for.
    epoch: AtomicUsize,
    /// Workers that have not finished the present job.
    pending: AtomicUsize,
    stop: AtomicBool,
    job: Mutex<Option<Job>>,
    /// The first panic of a worker in the present job.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    spins: usize,
}

impl Shared {
    fn wait(&self, ready: impl Fn() -> bool) {
        for _ in 0..self.spins {
            if ready() {
                return;
            }
            std::hint::spin_loop();
        }
        // Parking returns at once where the wake-up came in between, and may return for no reason.
        while !ready() {
            std::thread::park();
        }
    }
}

/// Locks a mutex whose contents no panic can leave half-changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A fixed number of threads, the caller of [`ThreadPool::run`] included.
pub(crate) struct ThreadPool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Held for the length of a job: callers on different threads take turns.
    turn: Mutex<Shares>,
}

impl ThreadPool {
    /// A pool of `threads` threads, at least 1, of which one is whoever calls [`ThreadPool::run`].
    pub(crate) fn new(threads: usize) -> std::io::Result<ThreadPool> {
        // With more threads than cores, who spins keeps off the core the one it waits for.
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        let shared = Arc::new(Shared {
            epoch: AtomicUsize::new(0),
            pending: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            job: Mutex::new(None),
            panic: Mutex::new(None),
            spins: if threads <= cores { SPINS } else { 0 },
        });
        // Built up in place, so that a failing start stops and joins (in `drop`) the workers that did start.
        let mut pool = ThreadPool { shared, workers: Vec::new(), turn: Mutex::new(Shares::new(threads)) };
        for index in 1..threads {
            let shared = Arc::clone(&pool.shared);
            let name = format!("kernels-{index}");
            pool.workers.push(std::thread::Builder::new().name(name).spawn(move || work(&shared, index))?);
        }
        Ok(pool)
    }

    /// How many threads a task runs on.
    pub(crate) fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `task(0)`, ..., `task(threads - 1)`, each on its own thread, and returns when all have returned.
    ///
    /// # Panics
    /// With a task's panic, once all threads are done; and where it is called from inside a task.
    pub(crate) fn run(&self, task: &(dyn Fn(usize) + Sync)) {
        self.run_pieces(0, &|index, _| task(index));
    }

    /// As [`ThreadPool::run`], of a job that is cut into pieces, which tasks take from what they are handed.
    ///
    /// # Panics
    /// As [`ThreadPool::run`].
    pub(crate) fn run_pieces(&self, pieces: u32, task: &(dyn Fn(usize, &Shares) + Sync)) {
        assert!(!INSIDE_TASK.get(), "a parallel kernel must not be started from inside another one");
        let mut turn = lock(&self.turn);
        turn.deal(pieces);
        let shares = &*turn;
        self.run_now(&|index| task(index, shares));
    }

    /// What [`ThreadPool::run`] does once it is its turn.
    fn run_now(&self, task: &(dyn Fn(usize) + Sync)) {
        if self.workers.is_empty() {
            return inside(|| task(0));
        }
        let task: *const (dyn Fn(usize) + Sync + '_) = task;
        // SAFETY: only the lifetime changes; nobody uses the pointer after this function has returned (see `Job`).
        let task =
            unsafe { std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), *const (dyn Fn(usize) + Sync)>(task) };
        *lock(&self.shared.job) = Some(Job { task, caller: std::thread::current() });
        self.shared.pending.store(self.workers.len(), Ordering::Relaxed);
        self.shared.epoch.fetch_add(1, Ordering::Release);
        for worker in &self.workers {
            worker.thread().unpark();
        }
        // SAFETY: the pointer was made from a reference that lives as long as this call.
        let own = catch_unwind(AssertUnwindSafe(|| inside(|| unsafe { (*task)(0) })));
        self.shared.wait(|| self.shared.pending.load(Ordering::Acquire) == 0);
        *lock(&self.shared.job) = None;
        let theirs = lock(&self.shared.panic).take();
        if let Some(panic) = own.err().or(theirs) {
            resume_unwind(panic);
        }
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.epoch.fetch_add(1, Ordering::Release);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A worker catches every panic of a task, so it ends without one.
            let _ = worker.join();
        }
    }
}

fn inside(task: impl FnOnce()) {
    /// Resets the mark also when the task panics.
    struct Mark;
    impl Drop for Mark {
        fn drop(&mut self) {
            INSIDE_TASK.set(false);
        }
    }
    INSIDE_TASK.set(true);
    let _mark = Mark;
    task();
}

fn work(shared: &Shared, index: usize) {
    let mut seen = 0;
    loop {
        shared.wait(|| shared.epoch.load(Ordering::Acquire) != seen);
        // No second job starts before this one is done, so exactly one epoch has passed.
        seen = seen.wrapping_add(1);
        if shared.stop.load(Ordering::Relaxed) {
            return;
        }
        let (task, caller) = match &*lock(&shared.job) {
            Some(job) => (job.task, job.caller.clone()),
            None => unreachable!("the job is set before the epoch changes and stays until every worker is done"),
        };
        // SAFETY: the caller waits for `pending`, which this worker has not lowered yet, so the task is alive.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| inside(|| unsafe { (*task)(index) }))) {
            lock(&shared.panic).get_or_insert(panic);
        }
        if shared.pending.fetch_sub(1, Ordering::AcqRel) == 1 {
            caller.unpark();
        }
    }
}

/// The part of `0..items` that belongs to thread `index` of `threads`: contiguous, in order, sizes differing by one at
/// most.
pub(crate) fn share(items: usize, index: usize, threads: usize) -> Range<usize> {
    items * index / threads..items * (index + 1) / threads
}

/// What is left of each thread's share of a job. A thread takes its own share from the front; once it is done, it helps
/// the others from the back of theirs. So the start of a job goes to the threads as [`share`] has it, and what a thread
/// wrote in the last job is in its cache in the next one; but nobody waits long where a core was slower for a moment.
///
/// The first piece of a share is nobody else's: the job waits for every thread in any case, and what a thread allocates
/// for a kind of piece it allocates in the first job of that kind.
pub(crate) struct Shares {
    pieces: u32,
    left: Vec<Left>,
}

/// The ends of a range, the first in the upper half. A cache line of its own: threads do not wait for each other's counts.
#[repr(align(64))]
struct Left(AtomicU64);

impl Shares {
    fn new(threads: usize) -> Shares {
        Shares { pieces: 0, left: (0..threads).map(|_| Left(AtomicU64::new(0))).collect() }
    }

    /// Deals pieces `0..pieces` to the threads.
    fn deal(&mut self, pieces: u32) {
        self.pieces = pieces;
        for index in 0..self.left.len() {
            let share = self.share(index);
            let rest = (share.start + 1).min(share.end);
            *self.left[index].0.get_mut() = (rest as u64) << 32 | share.end as u64;
        }
    }

    fn share(&self, thread: usize) -> Range<usize> {
        share(self.pieces as usize, thread, self.left.len())
    }

    /// The first piece of a thread's own share, to be asked for once; `None` where it has none.
    pub(crate) fn first(&self, thread: usize) -> Option<usize> {
        self.share(thread).next()
    }

    /// The next piece for a thread; `None` once all are taken.
    pub(crate) fn take(&self, thread: usize) -> Option<usize> {
        let threads = self.left.len();
        let own = take_from(&self.left[thread].0, |start, end| (start, start + 1, end));
        own.or_else(|| {
            let mut others = (1..threads).map(|offset| &self.left[(thread + offset) % threads].0);
            others.find_map(|left| take_from(left, |start, end| (end - 1, start, end - 1)))
        })
    }
}

/// Takes one piece of what is left; `cut` tells which, and what is left then, of a range that is not empty. The number
/// alone is agreed on: what the pieces are made of was written before the job, and is read after it.
fn take_from(left: &AtomicU64, cut: impl Fn(u64, u64) -> (u64, u64, u64)) -> Option<usize> {
    let ends = |left: u64| (left >> 32, left & u64::from(u32::MAX));
    let before = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
        let (start, end) = ends(left);
        let (_, start, end) = (start < end).then(|| cut(start, end))?;
        Some(start << 32 | end)
    });
    let (start, end) = ends(before.ok()?);
    Some(cut(start, end).0 as usize)
}

/// A slice that several threads write, each in a part of its own.
#[derive(Clone, Copy)]
pub(crate) struct DisjointMut<'a, E = f32> {
    start: *mut E,
    len: usize,
    slice: PhantomData<&'a mut [E]>,
}

// SAFETY: all access goes through `part`, whose callers vouch that parts in use at the same time are disjoint.
unsafe impl<E: Send> Send for DisjointMut<'_, E> {}
// SAFETY: as above.
unsafe impl<E: Send> Sync for DisjointMut<'_, E> {}

impl<'a, E> DisjointMut<'a, E> {
    pub(crate) fn new(slice: &'a mut [E]) -> Self {
        DisjointMut { start: slice.as_mut_ptr(), len: slice.len(), slice: PhantomData }
    }

    /// The elements in `range`.
    ///
    /// # Safety
    /// No other part that is in use, on whatever thread, overlaps the range.
    ///
    /// # Panics
    /// Where the range leaves the slice.
    pub(crate) unsafe fn part(&self, range: Range<usize>) -> &'a mut [E] {
        assert!(range.start <= range.end && range.end <= self.len, "{range:?} of a slice of {}", self.len);
        // SAFETY: in bounds (asserted) of a slice that is borrowed exclusively for 'a; the caller vouches for the rest.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }

    /// The first element, for kernels that write through pointers: the caller keeps to the bounds and to a part that no
    /// other thread touches.
    pub(crate) fn as_mut_ptr(&self) -> *mut E {
        self.start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_runs_each_task_once() {
        for threads in [1, 2, 3, 9] {
            let pool = ThreadPool::new(threads).unwrap();
            let counts: Vec<AtomicUsize> = (0..threads).map(|_| AtomicUsize::new(0)).collect();
            for _ in 0..200 {
                pool.run(&|index| {
                    counts[index].fetch_add(1, Ordering::Relaxed);
                });
            }
            assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 200));
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let pool = ThreadPool::new(3).unwrap();
        for culprit in 0..3 {
            let run = || pool.run(&|index| assert!(index != culprit, "thread {index} fell"));
            let panic = catch_unwind(AssertUnwindSafe(run)).unwrap_err();
            assert_eq!(panic.downcast_ref::<String>().unwrap(), &format!("thread {culprit} fell"));
            let total = AtomicUsize::new(0);
            pool.run(&|index| {
                total.fetch_add(index, Ordering::Relaxed);
            });
            assert_eq!(total.load(Ordering::Relaxed), 3);
        }
    }

    #[test]
    fn callers_on_several_threads_take_turns() {
        let pool = ThreadPool::new(2).unwrap();
        let total = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        pool.run(&|_| {
                            total.fetch_add(1, Ordering::Relaxed);
                        });
                    }
                });
            }
        });
        assert_eq!(total.load(Ordering::Relaxed), 800);
    }

    #[test]
    #[should_panic(expected = "inside another one")]
    fn a_task_inside_a_task_is_refused() {
        let pool = ThreadPool::new(2).unwrap();
        pool.run(&|_| pool.run(&|_| {}));
    }

    #[test]
    fn own_pieces_come_first_then_the_last_ones_of_others() {
        for (pieces, threads) in [(0, 1), (5, 1), (1, 3), (64, 2), (65, 4)] {
            let mut shares = Shares::new(threads);
            shares.deal(pieces as u32);
            let mut left = Vec::new();
            for index in 0..threads {
                let own = share(pieces, index, threads);
                assert_eq!(shares.first(index), own.clone().next());
                // One stays for those who help.
                for piece in own.clone().skip(1).take(own.len().saturating_sub(2)) {
                    assert_eq!(shares.take(index), Some(piece));
                }
                left.extend(own.skip(1).last());
            }
            let rest: Vec<usize> = std::iter::from_fn(|| shares.take(0)).collect();
            assert_eq!(rest, left);
        }
    }

    #[test]
    fn every_piece_is_taken_once_whoever_takes_it() {
        const THREADS: usize = 4;
        let pool = ThreadPool::new(THREADS).unwrap();
        for pieces in [0, 1, THREADS, 1_000] {
            let taken: Vec<AtomicUsize> = (0..pieces).map(|_| AtomicUsize::new(0)).collect();
            pool.run_pieces(pieces as u32, &|index, shares| {
                // All but one begin with the others' pieces, so that they meet at the same shares.
                let helped = if index == 0 { None } else { shares.take((index + 1) % THREADS) };
                let own = std::iter::from_fn(|| shares.take(index));
                for piece in shares.first(index).into_iter().chain(helped).chain(own) {
                    taken[piece].fetch_add(1, Ordering::Relaxed);
                }
            });
            assert!(taken.iter().all(|times| times.load(Ordering::Relaxed) == 1), "{pieces} pieces: {taken:?}");
        }
    }

    #[test]
    fn a_panic_in_a_piece_reaches_the_caller_and_the_pool_goes_on() {
        let pool = ThreadPool::new(2).unwrap();
        let work = |bad: usize| {
            let done = AtomicUsize::new(0);
            let result = catch_unwind(AssertUnwindSafe(|| {
                pool.run_pieces(64, &|index, shares| {
                    let mut next = shares.first(index);
                    while let Some(piece) = next {
                        assert_ne!(piece, bad, "a bad piece");
                        done.fetch_add(1, Ordering::Relaxed);
                        next = shares.take(index);
                    }
                });
            }));
            (result.is_ok(), done.load(Ordering::Relaxed))
        };
        assert_eq!(work(70), (true, 64));
        for bad in [0, 31, 32, 63] {
            assert!(!work(bad).0, "piece {bad}");
        }
        assert_eq!(work(70), (true, 64), "after panics");
    }

    #[test]
    fn shares_cover_everything_once_in_order() {
        for (items, threads) in [(0, 3), (1, 4), (7, 3), (100, 7)] {
            let all: Vec<usize> = (0..threads).flat_map(|index| share(items, index, threads)).collect();
            assert_eq!(all, (0..items).collect::<Vec<_>>());
        }
    }
}
