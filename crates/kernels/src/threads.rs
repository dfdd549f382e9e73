//! Our own parked threads: a kernel call takes microseconds, which leaves no time to start threads or to queue tasks.
//!
//! A pool runs one task at a time, on all its threads at once, with the caller as thread 0. Between tasks a worker
//! spins for a moment (the next layer's call usually follows at once), then parks.

use std::any::Any;
use std::cell::Cell;
use std::marker::PhantomData;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
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
    turn: Mutex<()>,
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
        let mut pool = ThreadPool { shared, workers: Vec::new(), turn: Mutex::new(()) };
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
        assert!(!INSIDE_TASK.get(), "a parallel kernel must not be started from inside another one");
        if self.workers.is_empty() {
            return inside(|| task(0));
        }
        let _turn = lock(&self.turn);
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
    fn shares_cover_everything_once_in_order() {
        for (items, threads) in [(0, 3), (1, 4), (7, 3), (100, 7)] {
            let all: Vec<usize> = (0..threads).flat_map(|index| share(items, index, threads)).collect();
            assert_eq!(all, (0..items).collect::<Vec<_>>());
        }
    }
}
