//! What the processor can do at best, measured: the figure that every kernel's speed is read against.

use std::hint::black_box;
use std::time::Instant;

use crate::vector::{Vector, dispatch};
use crate::{Compute, LANES};

/// The numbers of independent chains that are tried. A core starts one or two multiply-adds a cycle and takes four or
/// five cycles for each, so that few chains leave it idle; but a vector of 16 lanes is one, two or four registers, and
/// more chains than registers go through memory. The best of these is right on each instruction set.
const CHAIN_COUNTS: [usize; 3] = [3, 6, 12];
/// One measurement takes about this long.
const MEASUREMENT_S: f64 = 0.05;
const MEASUREMENTS: usize = 5;

/// Each step of a chain is `x * FACTOR + ADDEND`, which converges to 2: no infinities, and no tiny numbers, which are
/// slow.
const FACTOR: f32 = 0.5;
const ADDEND: f32 = 1.0;

impl Compute {
    /// The highest speed of f32 arithmetic that all threads reach together, in 10^9 operations a second, a fused
    /// multiply-add being two: of chains of multiply-adds in registers, without a load or a store (on the scalar
    /// instruction set, which does not fuse, of a multiplication and an addition). The best of several measurements,
    /// which take about a second in all; what else runs on the machine lowers it.
    pub fn measure_ceiling(&self) -> f64 {
        CHAIN_COUNTS.into_iter().map(|chains| self.best_speed(chains)).fold(0.0, f64::max)
    }

    fn best_speed(&self, chains: usize) -> f64 {
        let mut steps = 1 << 12;
        while self.seconds(chains, steps) < MEASUREMENT_S / 2.0 {
            steps *= 2;
        }
        let best = (0..MEASUREMENTS).map(|_| self.seconds(chains, steps)).fold(f64::INFINITY, f64::min);
        (2 * LANES * chains * steps * self.threads()) as f64 / best / 1e9
    }

    /// How long all threads take for `steps` steps of `chains` chains each.
    fn seconds(&self, chains: usize, steps: usize) -> f64 {
        let begun = Instant::now();
        self.parallel(self.threads(), |_, _| {
            black_box(run(self, chains, steps));
        });
        begun.elapsed().as_secs_f64()
    }
}

/// The sum of the chains after `steps` steps, lane by lane.
fn run(compute: &Compute, chains: usize, steps: usize) -> [f32; LANES] {
    let mut sum = [0.0; LANES];
    // Chains that started alike would be computed once.
    let start: [f32; 12] = black_box(std::array::from_fn(|chain| chain as f32));
    match chains {
        3 => three_chains(compute.isa(), &start, steps, &mut sum),
        6 => six_chains(compute.isa(), &start, steps, &mut sum),
        _ => twelve_chains(compute.isa(), &start, steps, &mut sum),
    }
    sum
}

#[inline(always)]
unsafe fn chains<V: Vector, const CHAINS: usize>(start: &[f32; 12], steps: usize, sum: &mut [f32; LANES]) {
    // SAFETY: the wrapper checked the instruction set.
    let (factor, addend) = unsafe { (V::splat(FACTOR), V::splat(ADDEND)) };
    // SAFETY: as above.
    let mut values = [unsafe { V::zero() }; CHAINS];
    for chain in 0..CHAINS {
        // SAFETY: as above.
        values[chain] = unsafe { V::splat(start[chain]) };
    }
    for _ in 0..steps {
        for chain in 0..CHAINS {
            values[chain] = values[chain].mul_add(factor, addend);
        }
    }
    let mut total = values[0];
    for chain in 1..CHAINS {
        total = total.add(values[chain]);
    }
    // SAFETY: the array holds 16 floats.
    unsafe { total.store(sum.as_mut_ptr()) };
}

#[inline(always)]
unsafe fn three_chains_kernel<V: Vector>(start: &[f32; 12], steps: usize, sum: &mut [f32; LANES]) {
    // SAFETY: the caller vouches for what this asks for.
    unsafe { chains::<V, 3>(start, steps, sum) }
}

#[inline(always)]
unsafe fn six_chains_kernel<V: Vector>(start: &[f32; 12], steps: usize, sum: &mut [f32; LANES]) {
    // SAFETY: the caller vouches for what this asks for.
    unsafe { chains::<V, 6>(start, steps, sum) }
}

#[inline(always)]
unsafe fn twelve_chains_kernel<V: Vector>(start: &[f32; 12], steps: usize, sum: &mut [f32; LANES]) {
    // SAFETY: the caller vouches for what this asks for.
    unsafe { chains::<V, 12>(start, steps, sum) }
}

dispatch! { fn three_chains(start: &[f32; 12], steps: usize, sum: &mut [f32; LANES]) = three_chains_kernel }
dispatch! { fn six_chains(start: &[f32; 12], steps: usize, sum: &mut [f32; LANES]) = six_chains_kernel }
dispatch! { fn twelve_chains(start: &[f32; 12], steps: usize, sum: &mut [f32; LANES]) = twelve_chains_kernel }

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;

    #[test]
    fn every_chain_takes_every_step() {
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
            let compute = Compute::with_isa(1, isa).unwrap();
            for count in CHAIN_COUNTS {
                for steps in [0, 1, 7] {
                    // Halves and small whole numbers: every result is exact.
                    let chain = |start: usize| (0..steps).fold(start as f32, |x, _| x * FACTOR + ADDEND);
                    let expected: f32 = (0..count).map(chain).sum();
                    assert_eq!(run(&compute, count, steps), [expected; LANES], "{isa:?} {count} {steps}");
                }
            }
        }
    }
}
