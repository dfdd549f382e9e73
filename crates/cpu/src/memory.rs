//! One plan of memory: buffers that do not live at the same time share a place.

use roentgen_kernels::Region;

/// Where buffers start: on a cache line.
const ALIGNMENT: usize = 64;

/// A buffer to be placed: how many bytes, and from which step to which (inclusive) it holds something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lifetime {
    pub(crate) len: usize,
    pub(crate) first: usize,
    pub(crate) last: usize,
}

impl Lifetime {
    fn overlaps(&self, other: &Lifetime) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// Places buffers, largest first, each at the lowest offset that no living buffer holds; returns their regions and the
/// length of the arena. (Greedy by size; Pisarchyk and Lee, "Efficient memory management for deep neural net
/// inference", 2020, find it within a few per cent of the lower bound.)
pub(crate) fn place(buffers: &[Lifetime]) -> (Vec<Region>, usize) {
    let mut order: Vec<usize> = (0..buffers.len()).collect();
    order.sort_by_key(|&index| (std::cmp::Reverse(buffers[index].len), buffers[index].first, index));
    let mut regions = vec![Region::default(); buffers.len()];
    let mut placed: Vec<usize> = Vec::new();
    let mut end = 0;
    for index in order {
        let buffer = &buffers[index];
        let len = buffer.len.next_multiple_of(ALIGNMENT);
        let mut taken: Vec<Region> =
            placed.iter().filter(|&&other| buffers[other].overlaps(buffer)).map(|&other| regions[other]).collect();
        taken.sort_by_key(|region| region.offset);
        let mut offset = 0;
        for region in taken {
            if region.offset >= offset + len {
                break;
            }
            offset = offset.max(region.offset + region.len);
        }
        regions[index] = Region { offset, len };
        end = end.max(offset + len);
        placed.push(index);
    }
    (regions, end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lives_together_lies_apart_and_what_does_not_shares() {
        let chain: Vec<Lifetime> = (0..6).map(|step| Lifetime { len: 100, first: step, last: step + 1 }).collect();
        let (regions, end) = place(&chain);
        assert_eq!(end, 2 * 128);
        for (a, ra) in chain.iter().zip(&regions) {
            for (b, rb) in chain.iter().zip(&regions) {
                let apart = ra.offset + ra.len <= rb.offset || rb.offset + rb.len <= ra.offset;
                assert!(a == b || !a.overlaps(b) || apart, "{ra:?} {rb:?}");
            }
        }
    }

    #[test]
    fn a_gap_is_used() {
        let buffers = [
            Lifetime { len: 256, first: 0, last: 1 },
            Lifetime { len: 192, first: 0, last: 9 },
            Lifetime { len: 128, first: 2, last: 3 },
            Lifetime { len: 128, first: 2, last: 3 },
        ];
        assert_eq!(place(&buffers).1, 256 + 192);
    }
}
