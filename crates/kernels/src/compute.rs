//! What every kernel runs on: an instruction set, threads, and memory of their own.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use thiserror::Error;

use crate::buffer::HUGE_PAGE;
use crate::convolution::correlate::WorkList;
use crate::threads::{DisjointMut, ThreadPool, share};
use crate::{AlignedBuffer, Isa};

/// Why there is no [`Compute`].
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ComputeError {
    /// `ROENTGEN_ISA` names an instruction set that no kernel is compiled for.
    #[error(
        "unknown instruction set `{0}` in ROENTGEN_ISA: expected scalar, avx2, avx512 or avx512bf16, or the variable unset"
    )]
    UnknownIsa(String),
    /// The processor lacks the instruction set asked for.
    #[error(
        "this processor lacks the instruction set {0}: unset ROENTGEN_ISA, or choose one that it has (scalar always runs)"
    )]
    IsaUnavailable(&'static str),
    /// Zero threads were asked for.
    #[error("0 threads cannot compute: ask for at least 1")]
    NoThreads,
    /// The system refused to start a thread.
    #[error("could not start {threads} threads ({source}): ask for fewer")]
    Threads {
        /// How many were asked for.
        threads: usize,
        /// The system's answer.
        source: std::io::Error,
    },
}

/// An instruction set, a pool of parked threads, and scratch memory for each of them.
///
/// All kernels are methods. Results have the same bits for any number of threads. After the first call with given
/// shapes a kernel allocates nothing. Several threads may share one `Compute`; their calls take turns.
pub struct Compute {
    isa: Isa,
    pool: ThreadPool,
    /// One for each thread, then one for each kind of what all threads share in a call.
    scratch: Vec<Mutex<Scratch>>,
}

impl Compute {
    /// On `threads` threads (the caller is one of them), with the instruction set that `ROENTGEN_ISA` forces, else the
    /// best that the processor has. More threads than cores work, without gain.
    ///
    /// # Errors
    /// See [`ComputeError`].
    pub fn new(threads: usize) -> Result<Compute, ComputeError> {
        Compute::with_isa(threads, Isa::forced()?.unwrap_or_else(Isa::detect))
    }

    /// As [`Compute::new`], with the instruction set given; the environment is not asked.
    ///
    /// # Errors
    /// See [`ComputeError`].
    pub fn with_isa(threads: usize, isa: Isa) -> Result<Compute, ComputeError> {
        if threads == 0 {
            return Err(ComputeError::NoThreads);
        }
        let isa = isa.checked()?;
        let pool = ThreadPool::new(threads).map_err(|source| ComputeError::Threads { threads, source })?;
        let scratch = (0..threads + Shared::COUNT).map(|_| Mutex::default()).collect();
        Ok(Compute { isa, pool, scratch })
    }

    /// The instruction set that every kernel runs on.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The number of threads, the caller included.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// Cuts `0..items` into one contiguous range per thread and calls `body` with each, on its thread and with its
    /// scratch memory. A thread without items is left out.
    ///
    /// # Panics
    /// With a panic of `body`; and where it is called from inside another `parallel`.
    pub(crate) fn parallel(&self, items: usize, body: impl Fn(Range<usize>, &mut Scratch) + Sync) {
        let threads = self.threads();
        self.pool.run(&|index| {
            let range = share(items, index, threads);
            if !range.is_empty() {
                with_scratch(&self.scratch[index], |scratch| body(range, scratch));
            }
        });
    }

    /// As [`Compute::parallel`], with several ranges for each thread, all of one length but the last, which is a multiple of
    /// `unit`: who is done with its own takes over what another has not begun. Where there are too few units for that,
    /// each thread gets one range. For bodies to which it is all the same how many items they get at a time; they find
    /// their scratch memory grown after the first call, since the first range of each thread is nobody else's.
    ///
    /// # Panics
    /// As [`Compute::parallel`].
    pub(crate) fn parallel_pieces(&self, items: usize, unit: usize, body: impl Fn(Range<usize>, &mut Scratch) + Sync) {
        let threads = self.threads();
        let units = items.div_ceil(unit);
        if threads == 1 || units < threads * FEWEST_PIECES {
            return self.parallel(items, body);
        }
        let piece = units.div_ceil(threads * MOST_PIECES) * unit;
        let pieces =
            u32::try_from(items.div_ceil(piece)).expect("fewer pieces than 2^32, threads being fewer than 2^27");
        self.pool.run_pieces(pieces, &|index, shares| {
            with_scratch(&self.scratch[index], |scratch| {
                let mut next = shares.first(index);
                while let Some(at) = next {
                    body(at * piece..items.min((at + 1) * piece), scratch);
                    next = shares.take(index);
                }
            });
        });
    }

    /// Cuts `target` into contiguous parts, each made of whole chunks of `chunk` elements, and calls `body(index of its
    /// first chunk, part, scratch)` with each, on the threads. Each chunk is taken to be much work.
    ///
    /// # Panics
    /// Where `target` is not made of whole chunks, and as [`Compute::parallel`].
    pub(crate) fn parallel_chunks<E: Send>(
        &self,
        target: &mut [E],
        chunk: usize,
        body: impl Fn(usize, &mut [E], &mut Scratch) + Sync,
    ) {
        self.parallel_parts(target, chunk, 1, body);
    }

    /// As [`Compute::parallel_chunks`], with `body(index of its first element, part)`, where each element is little work.
    ///
    /// # Panics
    /// As [`Compute::parallel_chunks`].
    pub(crate) fn parallel_elements<E: Send>(
        &self,
        target: &mut [E],
        chunk: usize,
        body: impl Fn(usize, &mut [E]) + Sync,
    ) {
        self.parallel_parts(target, chunk, FEWEST_ELEMENTS / chunk, |first, part, _| body(first * chunk, part));
    }

    /// As [`Compute::parallel_chunks`], with parts that are worth it from `unit` chunks on.
    fn parallel_parts<E: Send>(
        &self,
        target: &mut [E],
        chunk: usize,
        unit: usize,
        body: impl Fn(usize, &mut [E], &mut Scratch) + Sync,
    ) {
        assert!(chunk > 0 && target.len().is_multiple_of(chunk), "{} elements in chunks of {chunk}", target.len());
        let (chunks, target) = (target.len() / chunk, DisjointMut::new(target));
        self.parallel_pieces(chunks, unit, |range, scratch| {
            // SAFETY: the ranges are disjoint, and each is asked for once.
            let part = unsafe { target.part(range.start * chunk..range.end * chunk) };
            body(range.start, part, scratch);
        });
    }

    /// Cuts slices of the same length at the same places into blocks of `block` elements, the last of which may be
    /// shorter, and calls `body(where the block starts, its part of each slice)` once for each, on the threads. A slice
    /// may be empty instead: so are its parts then.
    ///
    /// # Panics
    /// Where a slice that is not empty is shorter than another, or `block` is 0; with a panic of `body`; and where several
    /// blocks are asked for from inside another kernel.
    pub fn for_each_block<const SLICES: usize>(
        &self,
        block: usize,
        slices: [&mut [f32]; SLICES],
        body: &(dyn Fn(usize, [&mut [f32]; SLICES]) + Sync),
    ) {
        let len = slices.iter().map(|slice| slice.len()).max().unwrap_or(0);
        let lens = slices.each_ref().map(|slice| slice.len());
        assert!(
            lens.iter().all(|other| [0, len].contains(other)),
            "slices of {lens:?} elements cut at the same places"
        );
        let slices = slices.map(DisjointMut::new);
        let run = |blocks: Range<usize>| {
            for start in blocks.map(|index| index * block) {
                let end = len.min(start + block);
                // SAFETY: blocks are disjoint, and each is asked for once.
                let part = |index: usize| unsafe { slices[index].part(start.min(lens[index])..end.min(lens[index])) };
                body(start, std::array::from_fn(part));
            }
        };
        let blocks = len.div_ceil(block);
        // What one thread does alone need not wake the others.
        if blocks <= 1 { run(0..blocks) } else { self.parallel_pieces(blocks, 1, |blocks, _| run(blocks)) }
    }

    /// Bytes of scratch memory that it holds at present.
    pub fn scratch_bytes_held(&self) -> usize {
        self.scratch.iter().map(|scratch| with_scratch(scratch, |scratch| scratch.buffer.bytes())).sum()
    }

    /// Calls `body` with scratch memory that no thread owns: what one parallel phase writes there, the next can read.
    /// Who is called with one kind in use must take another.
    pub(crate) fn with_shared_scratch<R>(&self, kind: Shared, body: impl FnOnce(&mut Scratch) -> R) -> R {
        with_scratch(&self.scratch[self.threads() + kind as usize], body)
    }
}

/// Pieces of a thread's share where threads help each other: the most, so that to take one costs nothing beside it; and
/// the fewest, so that the wait for the last one is a small part of the job.
const MOST_PIECES: usize = 32;
const FEWEST_PIECES: usize = 8;

/// Elements of a piece at least, where each is little work: as many as a thread goes through in some microseconds.
const FEWEST_ELEMENTS: usize = 4096;

/// Kinds of scratch memory that threads share.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shared {
    /// Partial sums, and vectors with a value per channel.
    Vectors,
    /// Inputs in another form.
    Inputs,
    /// Weights in another form.
    Weights,
}

impl Shared {
    pub(crate) const COUNT: usize = 3;
}

fn with_scratch<R>(scratch: &Mutex<Scratch>, body: impl FnOnce(&mut Scratch) -> R) -> R {
    // A panic leaves nothing half-changed that matters: nobody relies on what scratch memory holds.
    body(&mut scratch.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Memory that keeps its size from call to call, so that only the first call with given shapes allocates.
#[derive(Default)]
pub(crate) struct Scratch {
    pub(crate) buffer: GrowingBuffer,
    /// What a convolution lists for itself.
    pub(crate) work: WorkList,
}

impl Scratch {
    /// `len` floats, aligned to 64 bytes, that hold whatever an earlier call left there.
    pub(crate) fn floats(&mut self, len: usize) -> &mut [f32] {
        self.buffer.prefix(len)
    }
}

/// Floats of a huge page.
const HUGE_PAGE_LEN: usize = HUGE_PAGE / size_of::<f32>();

/// Floats for which ordinary pages do.
const SMALL_LEN: usize = 16 * 1024;

/// A buffer that is replaced by a larger one when more is asked of it than it has.
#[derive(Default)]
pub(crate) struct GrowingBuffer(AlignedBuffer);

impl GrowingBuffer {
    /// The first `len` floats, with whatever an earlier use left there.
    pub(crate) fn prefix(&mut self, len: usize) -> &mut [f32] {
        if self.0.len() < len {
            self.0 = AlignedBuffer::new(GrowingBuffer::grown_len(len));
        }
        &mut self.0[..len]
    }

    fn bytes(&self) -> usize {
        size_of_val(&self.0[..])
    }

    /// How many floats a buffer gets that is to have `len`: whole huge pages, since scratch memory is where a thread
    /// works, with many streams side by side.
    pub(crate) fn grown_len(len: usize) -> usize {
        if len > SMALL_LEN { len.next_multiple_of(HUGE_PAGE_LEN) } else { len }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn chunks_reach_every_thread_once_and_in_order() {
        for threads in [1, 2, 5] {
            let compute = Compute::with_isa(threads, Isa::Scalar).unwrap();
            for chunks in [0, 1, 4, 13] {
                let mut target = vec![0.0; chunks * 3];
                compute.parallel_chunks(&mut target, 3, |first, part, _| {
                    for (i, chunk) in part.chunks_mut(3).enumerate() {
                        chunk.iter_mut().for_each(|value| *value += (first + i) as f32);
                    }
                });
                assert!(target.iter().enumerate().all(|(i, &value)| value == (i / 3) as f32));
            }
        }
    }

    #[test]
    fn who_is_done_helps() {
        let compute = Compute::with_isa(2, Isa::Scalar).unwrap();
        let done = AtomicUsize::new(0);
        compute.parallel_pieces(100, 1, |items, _| {
            if items.contains(&0) {
                // All others, of which half are dealt to this thread, must come to an end without it.
                let all_others = 100 - items.len();
                let waits = (0..50_000_000).take_while(|_| {
                    std::thread::yield_now();
                    done.load(Ordering::Relaxed) < all_others
                });
                assert!(waits.count() < 50_000_000, "nobody helped");
            }
            done.fetch_add(items.len(), Ordering::Relaxed);
        });
        assert_eq!(done.load(Ordering::Relaxed), 100);
    }

    #[test]
    fn no_threads_is_an_error() {
        assert!(matches!(Compute::with_isa(0, Isa::Scalar), Err(ComputeError::NoThreads)));
    }

    #[test]
    fn scratch_is_kept() {
        let mut scratch = Scratch::default();
        scratch.floats(100)[99] = 7.0;
        scratch.floats(10);
        assert_eq!(scratch.floats(100)[99], 7.0);
    }
}
