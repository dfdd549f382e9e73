//! Which elements of a storage make up a tensor. Everything here comes from a file and is checked before use.

/// Sizes, strides and offset that lie inside a storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Sizes of the axes.
    pub(super) shape: Vec<usize>,
    /// Distance between neighbours along each axis, in elements.
    strides: Vec<usize>,
    /// Where the first element lies, in elements.
    pub(super) offset: usize,
    /// The product of the sizes.
    pub(super) elements: usize,
}

impl Layout {
    /// Checks numbers of a file against a storage of `storage_elements`. The error is the problem in words.
    ///
    /// A tensor with more elements than its storage (`Tensor.expand`) is refused: no network has such parameters, and
    /// a file of a few bytes could ask for any amount of memory.
    pub(super) fn checked(
        shape: &[i128],
        strides: &[i128],
        offset: i128,
        storage_elements: usize,
    ) -> Result<Layout, String> {
        let as_sizes = |numbers: &[i128]| -> Option<Vec<usize>> {
            numbers.iter().map(|number| isize::try_from(*number).ok().and_then(|n| usize::try_from(n).ok())).collect()
        };
        if shape.len() != strides.len() {
            return Err(format!("{} sizes but {} strides", shape.len(), strides.len()));
        }
        let (Some(shape), Some(strides), Ok(offset)) = (as_sizes(shape), as_sizes(strides), usize::try_from(offset))
        else {
            return Err(format!("impossible numbers: shape {shape:?}, strides {strides:?}, offset {offset}"));
        };
        let out_of_range = || {
            format!(
                "shape {shape:?} with strides {strides:?} at offset {offset} does not fit \
                 its storage of {storage_elements} elements"
            )
        };
        let elements = element_count(&shape).ok_or_else(out_of_range)?;
        let mut last = offset;
        for (size, stride) in shape.iter().zip(&strides) {
            let reach = size.saturating_sub(1).checked_mul(*stride).ok_or_else(out_of_range)?;
            last = last.checked_add(reach).ok_or_else(out_of_range)?;
        }
        if elements > storage_elements || (elements > 0 && last >= storage_elements) {
            return Err(out_of_range());
        }
        Ok(Layout { shape, strides, offset, elements })
    }

    /// The row-major layout of a whole storage; `None` where the sizes overflow.
    pub(super) fn contiguous(shape: &[usize]) -> Option<Layout> {
        let elements = element_count(shape)?;
        let mut strides = vec![1usize; shape.len()];
        for axis in (1..shape.len()).rev() {
            strides[axis - 1] = strides[axis].saturating_mul(shape[axis].max(1));
        }
        Some(Layout { shape: shape.to_vec(), strides, offset: 0, elements })
    }

    /// Whether the elements lie side by side in row-major order. Strides along axes of size 1 mean nothing.
    pub(super) fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        self.elements == 0
            || self.shape.iter().zip(&self.strides).rev().all(|(size, stride)| {
                let fits = *size == 1 || *stride == expected;
                expected *= size;
                fits
            })
    }

    /// Calls `visit` with the storage position of every element, in row-major order.
    pub(super) fn for_each_position(&self, mut visit: impl FnMut(usize)) {
        let mut index = vec![0; self.shape.len()];
        let mut position = self.offset;
        for _ in 0..self.elements {
            visit(position);
            for axis in (0..index.len()).rev() {
                index[axis] += 1;
                position += self.strides[axis];
                if index[axis] < self.shape[axis] {
                    break;
                }
                position -= self.strides[axis] * self.shape[axis];
                index[axis] = 0;
            }
        }
    }
}

/// The product of the sizes. `None` where the sizes other than zero overflow, even if a zero makes the product zero:
/// whoever multiplies a part of them later must not overflow either.
fn element_count(shape: &[usize]) -> Option<usize> {
    let nonzero =
        shape.iter().filter(|size| **size > 0).try_fold(1usize, |product, size| product.checked_mul(*size))?;
    let nonzero = isize::try_from(nonzero).ok()?.unsigned_abs();
    Some(if shape.contains(&0) { 0 } else { nonzero })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn positions(layout: &Layout) -> Vec<usize> {
        let mut seen = Vec::new();
        layout.for_each_position(|position| seen.push(position));
        seen
    }

    #[test]
    fn positions_follow_strides_and_offset() {
        let transposed = Layout::checked(&[3, 2], &[1, 3], 1, 7).unwrap();
        assert_eq!(positions(&transposed), [1, 4, 2, 5, 3, 6]);
        assert!(!transposed.is_contiguous());
        let odd_stride_of_one = Layout::checked(&[2, 1, 3], &[3, 77, 1], 4, 10).unwrap();
        assert!(odd_stride_of_one.is_contiguous());
        assert_eq!(positions(&odd_stride_of_one), [4, 5, 6, 7, 8, 9]);
        assert_eq!(positions(&Layout::checked(&[], &[], 6, 7).unwrap()), [6]);
        assert_eq!(positions(&Layout::checked(&[4, 0], &[1, 1], 900, 7).unwrap()), [0; 0]);
    }

    #[test]
    fn hostile_numbers_are_refused() {
        let big = i128::from(i64::MAX);
        for (shape, strides, offset, storage_elements) in [
            (vec![2, 3], vec![3, 1], 1, 6),
            (vec![2], vec![6], 0, 6),
            (vec![-1], vec![1], 0, 6),
            (vec![1], vec![-1], 0, 6),
            (vec![1], vec![1], -1, 6),
            (vec![1], vec![1], 6, 6),
            (vec![1], vec![1], i128::MAX, 6),
            (vec![big, big], vec![1, 1], 0, 6),
            (vec![big, big, 0], vec![1, 1, 1], 0, 6),
            (vec![2, 2], vec![big, big], 0, 6),
            (vec![2], vec![1], big, 6),
            (vec![1_000_000_000], vec![0], 0, 6),
            (vec![2, 3], vec![1], 0, 6),
            (vec![1], vec![1], 0, 0),
        ] {
            let result = Layout::checked(&shape, &strides, offset, storage_elements);
            assert!(result.is_err(), "{shape:?} {strides:?} {offset} in {storage_elements}: {result:?}");
        }
    }
}
