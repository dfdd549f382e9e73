//! Element types of weight files, and their bytes as numbers.

use super::Values;
use super::layout::Layout;

/// How one number is stored, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ElementType {
    F16,
    BF16,
    F32,
    F64,
    Bool,
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    I64,
}

impl ElementType {
    /// Bytes of one element.
    pub(super) fn bytes(self) -> usize {
        match self {
            ElementType::Bool | ElementType::U8 | ElementType::I8 => 1,
            ElementType::F16 | ElementType::BF16 | ElementType::U16 | ElementType::I16 => 2,
            ElementType::F32 | ElementType::U32 | ElementType::I32 => 4,
            ElementType::F64 | ElementType::I64 => 8,
        }
    }

    /// The elements that `layout` selects from `storage`, row-major. The layout must have been made for at least this
    /// many elements of `storage` ([`Layout::checked`]).
    pub(super) fn decode(self, storage: &[u8], layout: &Layout) -> Values {
        match self {
            ElementType::F16 => Values::F32(gather(storage, layout, |b| half::f16::from_le_bytes(b).to_f32())),
            ElementType::BF16 => Values::F32(gather(storage, layout, |b| half::bf16::from_le_bytes(b).to_f32())),
            ElementType::F32 => Values::F32(gather(storage, layout, f32::from_le_bytes)),
            // Rounds to the nearest f32, as PyTorch's `.float()` does.
            ElementType::F64 => Values::F32(gather(storage, layout, |b| f64::from_le_bytes(b) as f32)),
            ElementType::Bool => Values::I64(gather(storage, layout, |b: [u8; 1]| i64::from(b[0] != 0))),
            ElementType::U8 => Values::I64(gather(storage, layout, |b| u8::from_le_bytes(b).into())),
            ElementType::I8 => Values::I64(gather(storage, layout, |b| i8::from_le_bytes(b).into())),
            ElementType::U16 => Values::I64(gather(storage, layout, |b| u16::from_le_bytes(b).into())),
            ElementType::I16 => Values::I64(gather(storage, layout, |b| i16::from_le_bytes(b).into())),
            ElementType::U32 => Values::I64(gather(storage, layout, |b| u32::from_le_bytes(b).into())),
            ElementType::I32 => Values::I64(gather(storage, layout, |b| i32::from_le_bytes(b).into())),
            ElementType::I64 => Values::I64(gather(storage, layout, i64::from_le_bytes)),
        }
    }
}

/// Converts the selected elements of `N` bytes each.
fn gather<const N: usize, T>(storage: &[u8], layout: &Layout, convert: impl Fn([u8; N]) -> T) -> Vec<T> {
    let (elements, _) = storage.as_chunks::<N>();
    if layout.is_contiguous() {
        let end = layout.offset + layout.elements;
        return elements[layout.offset..end].iter().map(|bytes| convert(*bytes)).collect();
    }
    let mut values = Vec::with_capacity(layout.elements);
    layout.for_each_position(|position| values.push(convert(elements[position])));
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(element: ElementType, bytes: &[u8]) -> Values {
        let count = bytes.len() / element.bytes();
        element.decode(bytes, &Layout::contiguous(&[count]).unwrap())
    }

    #[test]
    fn every_element_type_decodes_its_extremes() {
        assert_eq!(decoded(ElementType::F16, &[0x00, 0x3c, 0xff, 0x7b]), Values::F32(vec![1.0, 65504.0]));
        assert_eq!(decoded(ElementType::BF16, &[0x80, 0x3f, 0x49, 0xc0]), Values::F32(vec![1.0, -3.140625]));
        assert_eq!(decoded(ElementType::F32, &(-0.1f32).to_le_bytes()), Values::F32(vec![-0.1]));
        assert_eq!(decoded(ElementType::F64, &0.1f64.to_le_bytes()), Values::F32(vec![0.1]));
        assert_eq!(decoded(ElementType::Bool, &[0, 1, 7]), Values::I64(vec![0, 1, 1]));
        assert_eq!(decoded(ElementType::U8, &[255]), Values::I64(vec![255]));
        assert_eq!(decoded(ElementType::I8, &[255]), Values::I64(vec![-1]));
        assert_eq!(decoded(ElementType::U16, &[254, 255]), Values::I64(vec![65534]));
        assert_eq!(decoded(ElementType::I16, &[254, 255]), Values::I64(vec![-2]));
        assert_eq!(decoded(ElementType::U32, &u32::MAX.to_le_bytes()), Values::I64(vec![4294967295]));
        assert_eq!(decoded(ElementType::I32, &i32::MIN.to_le_bytes()), Values::I64(vec![-2147483648]));
        assert_eq!(decoded(ElementType::I64, &i64::MIN.to_le_bytes()), Values::I64(vec![i64::MIN]));
    }
}
