//! The gradient of a bias: the sum of the output's gradient over images and positions.

use crate::vector::{Vector, dispatch};
use crate::{Compute, Element, LANES, blocks, padded};

impl Compute {
    /// Sums `dy` (`batch` images, blocked, of `positions` positions each) over images and positions, channel by
    /// channel, into `db`, [`padded`]`(channels)` floats; overwritten, or added to, image by image, where `accumulate`
    /// is set.
    ///
    /// # Panics
    /// Where a length does not fit.
    pub fn bias_gradient<E: Element>(
        &self,
        channels: usize,
        batch: usize,
        positions: usize,
        dy: &[E],
        db: &mut [f32],
        accumulate: bool,
    ) {
        assert_eq!(
            dy.len(),
            batch * padded(channels) * positions,
            "output gradient: {batch} x {channels} x {positions}"
        );
        assert_eq!(db.len(), padded(channels), "bias gradient of {channels} channels");
        let (blocks, block_len) = (blocks(channels), positions * LANES);
        self.parallel_chunks(db, LANES, |first, part, _| {
            for (i, sums) in part.chunks_exact_mut(LANES).enumerate() {
                if !accumulate {
                    sums.fill(0.0);
                }
                for image in 0..batch {
                    sum_positions(self.isa(), &dy[(image * blocks + first + i) * block_len..][..block_len], sums);
                }
            }
        });
    }
}

dispatch! {
    /// Adds the sum over the positions of one block of one image to 16 running sums.
    fn sum_positions<E>(block: &[E], sums: &mut [f32]) = sum_positions_kernel;
}

/// Four partial sums, by the position modulo four: a single one would wait for each addition, and be less exact.
#[inline(always)]
unsafe fn sum_positions_kernel<V: Vector, E: Element>(block: &[E], sums: &mut [f32]) {
    assert_eq!(sums.len(), LANES);
    // SAFETY: the caller vouches for the instruction set; every chunk has 16 numbers or a multiple of them.
    unsafe {
        let mut partial = [V::zero(); 4];
        let (fours, rest) = block.as_chunks::<{ 4 * LANES }>();
        for four in fours {
            for i in 0..4 {
                partial[i] = partial[i].add(V::load(four[i * LANES..].as_ptr()));
            }
        }
        for (i, position) in rest.as_chunks::<LANES>().0.iter().enumerate() {
            partial[i] = partial[i].add(V::load(position.as_ptr()));
        }
        let sum = partial[0].add(partial[1]).add(partial[2].add(partial[3]));
        V::load(sums.as_ptr()).add(sum).store(sums.as_mut_ptr());
    }
}
