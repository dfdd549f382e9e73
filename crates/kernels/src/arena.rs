//! One buffer for all values of a program, handed out in views that are checked to be disjoint.

use std::ops::Range;

use crate::{AlignedBuffer, LANES};

/// A part of an [`Arena`], in floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Region {
    /// Where it starts. A multiple of 16 keeps it aligned to 64 bytes.
    pub offset: usize,
    /// How many floats it has.
    pub len: usize,
}

impl Region {
    /// The first `len` floats of this region: the part that a smaller batch uses.
    ///
    /// # Panics
    /// Where the region is shorter.
    pub fn prefix(self, len: usize) -> Region {
        assert!(len <= self.len, "a prefix of {len} floats of {self:?}");
        Region { offset: self.offset, len }
    }

    fn range(self) -> Range<usize> {
        self.offset..self.offset.saturating_add(self.len)
    }

    fn overlaps(self, other: Region) -> bool {
        let (a, b) = (self.range(), other.range());
        self.len > 0 && other.len > 0 && a.start < b.end && b.start < a.end
    }
}

/// One aligned buffer whose parts are lent out as slices. Who plans the regions may reuse memory as they like: what is
/// checked, at every view, is that nobody writes to what somebody else sees.
#[derive(Debug, Default)]
pub struct Arena {
    buffer: AlignedBuffer,
}

impl Arena {
    /// An arena of `len` floats, all zero.
    pub fn new(len: usize) -> Arena {
        Arena { buffer: AlignedBuffer::new(len.next_multiple_of(LANES)) }
    }

    /// How many floats it has.
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// One region to read.
    ///
    /// # Panics
    /// Where the region leaves the arena.
    pub fn read(&self, region: Region) -> &[f32] {
        self.check(region);
        &self.buffer[region.range()]
    }

    /// One region to write.
    ///
    /// # Panics
    /// Where the region leaves the arena.
    pub fn write(&mut self, region: Region) -> &mut [f32] {
        self.check(region);
        &mut self.buffer[region.range()]
    }

    /// Several regions at once, some to read and some to write. Reads may overlap each other.
    ///
    /// # Panics
    /// Where a region to write overlaps any other region, or a region leaves the arena.
    pub fn view<const R: usize, const W: usize>(
        &mut self,
        reads: [Region; R],
        writes: [Region; W],
    ) -> ([&[f32]; R], [&mut [f32]; W]) {
        for (i, &write) in writes.iter().enumerate() {
            self.check(write);
            for &other in &writes[..i] {
                assert!(!write.overlaps(other), "two regions to write overlap: {write:?} and {other:?}");
            }
            for &read in &reads {
                assert!(!write.overlaps(read), "{write:?}, to be written, overlaps {read:?}, to be read");
            }
        }
        for &read in &reads {
            self.check(read);
        }
        let start = self.buffer.as_mut_ptr();
        // SAFETY: each region lies in the buffer, which is borrowed exclusively for the views' lifetime, and no region
        // to write overlaps another region: all checked above.
        unsafe {
            (
                reads.map(|region| std::slice::from_raw_parts(start.add(region.offset), region.len)),
                writes.map(|region| std::slice::from_raw_parts_mut(start.add(region.offset), region.len)),
            )
        }
    }

    fn check(&self, region: Region) {
        let end = region.offset.checked_add(region.len);
        assert!(end.is_some_and(|end| end <= self.len()), "{region:?} leaves an arena of {} floats", self.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(offset: usize, len: usize) -> Region {
        Region { offset, len }
    }

    #[test]
    fn views_reach_their_own_regions() {
        let mut arena = Arena::new(64);
        arena.write(region(0, 16)).fill(1.0);
        let ([a, b], [c, d]) = arena.view([region(0, 16), region(8, 4)], [region(16, 16), region(32, 32)]);
        assert_eq!((a.len(), b), (16, &[1.0; 4][..]));
        c.fill(2.0);
        d.fill(3.0);
        assert_eq!(arena.read(region(15, 18)), [[1.0].as_slice(), &[2.0; 16], &[3.0]].concat());
    }

    #[test]
    fn an_empty_region_overlaps_nothing() {
        Arena::new(32).view([region(4, 0)], [region(0, 32)]);
    }

    #[test]
    #[should_panic(expected = "overlaps")]
    fn a_write_over_a_read_is_refused() {
        Arena::new(64).view([region(0, 17)], [region(16, 16)]);
    }

    #[test]
    #[should_panic(expected = "two regions to write overlap")]
    fn a_write_over_a_write_is_refused() {
        Arena::new(64).view([], [region(0, 17), region(16, 16)]);
    }

    #[test]
    #[should_panic(expected = "leaves an arena")]
    fn a_region_beyond_the_end_is_refused() {
        Arena::new(64).view([], [region(48, 17)]);
    }

    #[test]
    #[should_panic(expected = "leaves an arena")]
    fn a_region_that_wraps_around_is_refused() {
        Arena::new(64).read(region(usize::MAX, 2));
    }
}
