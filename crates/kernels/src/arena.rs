//! One buffer for all values of a program, handed out in views that are checked to be disjoint.

use std::ops::Range;

use crate::{AlignedBuffer, Element};

/// A part of an [`Arena`], in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Region {
    /// Where it starts. A multiple of 64 keeps vectors on one cache line each.
    pub offset: usize,
    /// How many bytes it has.
    pub len: usize,
}

impl Region {
    /// The first `len` bytes of this region: the part that a smaller batch uses.
    ///
    /// # Panics
    /// Where the region is shorter.
    pub fn prefix(self, len: usize) -> Region {
        assert!(len <= self.len, "a prefix of {len} bytes of {self:?}");
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

/// One aligned buffer whose parts are lent out as slices. Who plans the regions may reuse memory as they like, for either
/// kind of element: what is checked, at every view, is that nobody writes to what somebody else sees.
#[derive(Debug, Default)]
pub struct Arena {
    buffer: AlignedBuffer,
}

impl Arena {
    /// An arena of `bytes` bytes, rounded up to whole floats, all zero.
    pub fn new(bytes: usize) -> Arena {
        Arena { buffer: AlignedBuffer::new(bytes.div_ceil(size_of::<f32>())) }
    }

    /// How many bytes it has.
    pub fn bytes(&self) -> usize {
        size_of_val(&self.buffer[..])
    }

    /// One region to read.
    ///
    /// # Panics
    /// Where the region leaves the arena or is not made of whole elements.
    pub fn read<E: Element>(&self, region: Region) -> &[E] {
        self.check::<E>(region);
        // SAFETY: the region lies in the buffer, whose bytes are initialised and, whatever they are, valid elements, at a
        // place that is aligned for them: checked above.
        unsafe {
            let start = self.buffer.as_ptr().byte_add(region.offset).cast();
            std::slice::from_raw_parts(start, region.len / size_of::<E>())
        }
    }

    /// One region to write.
    ///
    /// # Panics
    /// As [`Arena::read`].
    pub fn write<E: Element>(&mut self, region: Region) -> &mut [E] {
        let ([], [region]) = self.view::<E, E, 0, 1>([], [region]);
        region
    }

    /// Several regions at once, some to read and some to write. Reads may overlap each other.
    ///
    /// # Panics
    /// Where a region to write overlaps any other region, and as [`Arena::read`].
    pub fn view<X: Element, Y: Element, const R: usize, const W: usize>(
        &mut self,
        reads: [Region; R],
        writes: [Region; W],
    ) -> ([&[X]; R], [&mut [Y]; W]) {
        for (i, &write) in writes.iter().enumerate() {
            self.check::<Y>(write);
            for &other in &writes[..i] {
                assert!(!write.overlaps(other), "two regions to write overlap: {write:?} and {other:?}");
            }
            for &read in &reads {
                assert!(!write.overlaps(read), "{write:?}, to be written, overlaps {read:?}, to be read");
            }
        }
        for &read in &reads {
            self.check::<X>(read);
        }
        let start = self.buffer.as_mut_ptr();
        // SAFETY: each region lies in the buffer, which is borrowed exclusively for the views' lifetime, no region to
        // write overlaps another region, and all are aligned for their elements, whose every bit pattern is valid: all
        // checked above.
        unsafe {
            (
                reads.map(|region| {
                    let start = start.byte_add(region.offset).cast_const().cast();
                    std::slice::from_raw_parts(start, region.len / size_of::<X>())
                }),
                writes.map(|region| {
                    let start = start.byte_add(region.offset).cast();
                    std::slice::from_raw_parts_mut(start, region.len / size_of::<Y>())
                }),
            )
        }
    }

    fn check<E: Element>(&self, region: Region) {
        let end = region.offset.checked_add(region.len);
        assert!(end.is_some_and(|end| end <= self.bytes()), "{region:?} leaves an arena of {} bytes", self.bytes());
        let is_whole = region.offset.is_multiple_of(align_of::<E>()) && region.len.is_multiple_of(size_of::<E>());
        assert!(is_whole, "{region:?} is not made of whole elements of {} bytes", size_of::<E>());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Bf16;

    /// Both in floats.
    fn region(offset: usize, len: usize) -> Region {
        Region { offset: 4 * offset, len: 4 * len }
    }

    fn view<const R: usize, const W: usize>(reads: [Region; R], writes: [Region; W]) {
        Arena::new(256).view::<f32, f32, R, W>(reads, writes);
    }

    #[test]
    fn views_reach_their_own_regions() {
        let mut arena = Arena::new(256);
        arena.write(region(0, 16)).fill(1.0f32);
        let ([a, b], [c, d]) =
            arena.view::<f32, f32, 2, 2>([region(0, 16), region(8, 4)], [region(16, 16), region(32, 32)]);
        assert_eq!((a.len(), b), (16, &[1.0; 4][..]));
        c.fill(2.0);
        d.fill(3.0);
        assert_eq!(*arena.read::<f32>(region(15, 18)), *[[1.0].as_slice(), &[2.0; 16], &[3.0]].concat());
    }

    #[test]
    fn both_kinds_of_elements_share_the_bytes() {
        let mut arena = Arena::new(62);
        assert_eq!(arena.bytes(), 64);
        let odd = Region { offset: 2, len: 6 };
        let ([floats], [numbers]) = arena.view::<f32, Bf16, 1, 1>([region(2, 3)], [odd]);
        assert_eq!((floats, numbers.len()), (&[0.0; 3][..], 3));
        numbers.fill(Bf16::from_f32(1.0));
        assert_eq!(*arena.read::<f32>(region(1, 2)), [f32::from_bits(0x3f80_3f80), 0.0]);
    }

    #[test]
    fn an_empty_region_overlaps_nothing() {
        view([region(4, 0)], [region(0, 32)]);
    }

    #[test]
    #[should_panic(expected = "overlaps")]
    fn a_write_over_a_read_is_refused() {
        view([region(0, 17)], [region(16, 16)]);
    }

    #[test]
    #[should_panic(expected = "two regions to write overlap")]
    fn a_write_over_a_write_is_refused() {
        view([], [region(0, 17), region(16, 16)]);
    }

    #[test]
    #[should_panic(expected = "leaves an arena")]
    fn a_region_beyond_the_end_is_refused() {
        view([], [region(48, 17)]);
    }

    #[test]
    #[should_panic(expected = "leaves an arena")]
    fn a_region_that_wraps_around_is_refused() {
        Arena::new(256).read::<f32>(Region { offset: usize::MAX, len: 2 });
    }

    #[test]
    #[should_panic(expected = "whole elements of 4 bytes")]
    fn a_region_between_floats_is_refused() {
        Arena::new(256).read::<f32>(Region { offset: 2, len: 4 });
    }
}
