//! Work on the numbers of a training step that goes element by element, on the threads of an engine.

/// What is done with a block: where it starts, and the same part of each slice.
pub type BlockBody<'a> = &'a (dyn Fn(usize, [&mut [f32]; 3]) + Sync);

/// Elements of a block: few enough that threads share out a layer evenly, many enough that a call for each costs
/// nothing.
pub const BLOCK: usize = 1 << 14;

/// Who does the work: the threads of an engine, or [`CallingThread`].
pub trait Workers {
    /// Cuts slices of the same length at the same places into blocks of [`BLOCK`] elements, the last of which may be
    /// shorter, and calls `body` once for each block, on any thread and in any order. A slice may be empty instead: so
    /// are its parts then. Allocates nothing.
    ///
    /// Where blocks are cut depends on the length alone, so that sums over a block have the same bits on any number of
    /// threads.
    ///
    /// # Panics
    /// Where two slices that are not empty have different lengths, and with a panic of `body`.
    fn for_each_block(&self, slices: [&mut [f32]; 3], body: BlockBody<'_>);
}

/// The thread that calls, alone: for tests, and where there is no engine.
#[derive(Clone, Copy, Debug)]
pub struct CallingThread;

impl Workers for CallingThread {
    fn for_each_block(&self, slices: [&mut [f32]; 3], body: BlockBody<'_>) {
        let len = slices.iter().map(|slice| slice.len()).max().unwrap_or(0);
        let mut rests = slices.map(|slice| {
            assert!(slice.is_empty() || slice.len() == len, "a slice of {} beside one of {len}", slice.len());
            slice
        });
        for start in (0..len).step_by(BLOCK) {
            let parts = rests.each_mut().map(|rest| {
                let at = BLOCK.min(rest.len());
                let (part, others) = std::mem::take(rest).split_at_mut(at);
                *rest = others;
                part
            });
            body(start, parts);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_reach_every_element_once_and_empty_slices_stay_empty() {
        for len in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 7] {
            let (mut numbers, mut counts) = (vec![0.0; len], vec![0.0; len]);
            CallingThread.for_each_block([&mut numbers, &mut [], &mut counts], &|start, [numbers, none, counts]| {
                assert!(none.is_empty() && numbers.len() <= BLOCK && start.is_multiple_of(BLOCK));
                for (index, (number, count)) in numbers.iter_mut().zip(counts).enumerate() {
                    *number = (start + index) as f32;
                    *count += 1.0;
                }
            });
            assert!(numbers.iter().enumerate().all(|(index, number)| *number == index as f32));
            assert!(counts.iter().all(|count| *count == 1.0));
        }
    }

    #[test]
    #[should_panic(expected = "a slice of 4 beside one of 5")]
    fn slices_of_different_lengths_are_refused() {
        CallingThread.for_each_block([&mut [0.0; 4], &mut [0.0; 5], &mut []], &|_, _| {});
    }
}
