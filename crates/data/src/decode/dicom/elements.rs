//! The list of data elements that a DICOM file is: tag, type, length, value (PS3.5, section 7).
//!
//! Values are slices of the file: a length that lies is an error before anything is reserved for it.

use std::fmt;

use super::fault::Fault;

/// Group and element number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tag(pub u16, pub u16);

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({:04X},{:04X})", self.0, self.1)
    }
}

const ITEM: Tag = Tag(0xfffe, 0xe000);
const ITEM_END: Tag = Tag(0xfffe, 0xe00d);
const SEQUENCE_END: Tag = Tag(0xfffe, 0xe0dd);

/// The length that means: up to the delimiter.
const UNDEFINED: u32 = 0xffff_ffff;

/// Sequences within sequences that are followed; a radiograph has a handful.
const DEEPEST_NESTING: usize = 32;

/// How elements are written (PS3.5, annex A).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Encoding {
    /// Whether each element names its type.
    pub explicit: bool,
    /// Whether numbers begin with their highest byte.
    pub big_endian: bool,
}

impl Encoding {
    /// How the first group of every file is written, and most files as a whole.
    pub(super) const EXPLICIT: Encoding = Encoding { explicit: true, big_endian: false };
    /// DICOM's default, also within values of unknown type.
    pub(super) const IMPLICIT: Encoding = Encoding { explicit: false, big_endian: false };

    /// A number of two bytes.
    pub(super) fn u16(self, bytes: [u8; 2]) -> u16 {
        if self.big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) }
    }

    fn u32(self, bytes: [u8; 4]) -> u32 {
        if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    }
}

/// One element.
#[derive(Clone, Copy)]
pub(super) struct Element<'a> {
    /// Which attribute.
    pub tag: Tag,
    /// The two letters of its type where the file has them.
    pub vr: Option<[u8; 2]>,
    /// Its bytes, without the delimiter behind a value of undefined length.
    pub value: &'a [u8],
    /// Whether the length was left open: a sequence, or encapsulated pixels.
    pub open_ended: bool,
}

/// Tag, type and length: what stands before a value.
struct Head {
    tag: Tag,
    vr: Option<[u8; 2]>,
    /// `None` where it is undefined.
    length: Option<usize>,
}

/// Reads elements one after another.
#[derive(Clone)]
pub(super) struct Elements<'a> {
    bytes: &'a [u8],
    position: usize,
    encoding: Encoding,
}

impl<'a> Elements<'a> {
    /// The elements of `bytes` from `position` on.
    pub(super) fn new(bytes: &'a [u8], position: usize, encoding: Encoding) -> Elements<'a> {
        Elements { bytes, position, encoding }
    }

    /// How what is left is written.
    pub(super) fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Goes on in another encoding, as behind the first group.
    pub(super) fn set_encoding(&mut self, encoding: Encoding) {
        self.encoding = encoding;
    }

    /// The group of the next element, which is not consumed.
    pub(super) fn next_group(&self) -> Option<u16> {
        Some(self.encoding.u16(*self.bytes.get(self.position..)?.first_chunk()?))
    }

    /// The next element, or `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Element<'a>>, Fault> {
        if self.position == self.bytes.len() {
            return Ok(None);
        }
        let Head { tag, vr, length } = self.head()?;
        let start = self.position;
        let value = match length {
            Some(length) => self.take(length, tag)?,
            None => {
                self.skip_items(tag, vr, 0)?;
                // The delimiter has a tag and a length of four bytes each.
                &self.bytes[start..self.position - 8]
            }
        };
        Ok(Some(Element { tag, vr, value, open_ended: length.is_none() }))
    }

    /// The content of the next item of a sequence or of encapsulated pixels, or `None` at the end.
    pub(super) fn next_item(&mut self) -> Result<Option<&'a [u8]>, Fault> {
        if self.position == self.bytes.len() {
            return Ok(None);
        }
        let Head { tag, length, .. } = self.head()?;
        match (tag, length) {
            (SEQUENCE_END, _) => Ok(None),
            (ITEM, Some(length)) => self.take(length, ITEM).map(Some),
            (ITEM, None) => {
                let start = self.position;
                self.skip_open_item(0)?;
                Ok(Some(&self.bytes[start..self.position - 8]))
            }
            (other, _) => Err(Fault::Damaged(format!("element {other} stands where an item was expected"))),
        }
    }

    /// Bytes read so far, for offsets into encapsulated pixels.
    pub(super) fn position(&self) -> usize {
        self.position
    }

    fn take(&mut self, length: usize, tag: Tag) -> Result<&'a [u8], Fault> {
        let rest = &self.bytes[self.position..];
        let value = rest.get(..length).ok_or_else(|| {
            Fault::Truncated(format!("element {tag} says that it has {length} bytes, and {} are left", rest.len()))
        })?;
        self.position += length;
        Ok(value)
    }

    fn number<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let found = self.bytes.get(self.position..).and_then(<[u8]>::first_chunk).copied();
        let found = found.ok_or_else(|| Fault::Truncated("it ends within a tag or a length".to_owned()))?;
        self.position += N;
        Ok(found)
    }

    fn head(&mut self) -> Result<Head, Fault> {
        let tag = Tag(self.encoding.u16(self.number()?), self.encoding.u16(self.number()?));
        // Items and delimiters never have a type.
        let vr = match self.encoding.explicit && tag.0 != 0xfffe {
            true => Some(self.number::<2>()?),
            false => None,
        };
        let length = match vr.as_ref() {
            Some(letters) if !letters.iter().all(u8::is_ascii_uppercase) => {
                return Err(Fault::Damaged(format!("element {tag} has no type but the bytes {letters:02x?}")));
            }
            Some(
                b"OB" | b"OD" | b"OF" | b"OL" | b"OV" | b"OW" | b"SQ" | b"SV" | b"UC" | b"UN" | b"UR" | b"UT" | b"UV",
            ) => {
                self.number::<2>()?;
                self.encoding.u32(self.number()?)
            }
            Some(_) => u32::from(self.encoding.u16(self.number()?)),
            None => self.encoding.u32(self.number()?),
        };
        Ok(Head { tag, vr, length: (length != UNDEFINED).then_some(length as usize) })
    }

    /// Moves behind the delimiter of a sequence of undefined length.
    fn skip_items(&mut self, tag: Tag, vr: Option<[u8; 2]>, depth: usize) -> Result<(), Fault> {
        if depth > DEEPEST_NESTING {
            return Err(Fault::Damaged(format!("element {tag} stands more than {DEEPEST_NESTING} sequences deep")));
        }
        let outer = self.encoding;
        if vr == Some(*b"UN") {
            // What a writer did not know it copied in DICOM's default encoding (PS3.5, section 6.2.2, note 2).
            self.encoding = Encoding::IMPLICIT;
        }
        loop {
            let head = self.head()?;
            match (head.tag, head.length) {
                (SEQUENCE_END, _) => break,
                (ITEM, Some(length)) => {
                    self.take(length, ITEM)?;
                }
                (ITEM, None) => self.skip_open_item(depth)?,
                (other, _) => {
                    return Err(Fault::Damaged(format!("element {other} stands in {tag}, where an item was expected")));
                }
            }
        }
        self.encoding = outer;
        Ok(())
    }

    /// Moves behind the delimiter of an item of undefined length.
    fn skip_open_item(&mut self, depth: usize) -> Result<(), Fault> {
        loop {
            let Head { tag, vr, length } = self.head()?;
            match (tag, length) {
                (ITEM_END, _) => return Ok(()),
                (_, Some(length)) => {
                    self.take(length, tag)?;
                }
                (_, None) => self.skip_items(tag, vr, depth + 1)?,
            }
        }
    }
}
