//! What a file says about its pixels, checked: everything that decoding needs, before it begins.

use super::elements::{Element, Elements, Encoding, Tag};
use super::fault::Fault;
use super::transfer_syntax::{self, Coding};

/// Behind a preamble that may hold anything.
pub(super) const MAGIC: &[u8] = b"DICM";
/// Where it stands.
pub(super) const MAGIC_AT: usize = 128;

const TRANSFER_SYNTAX: Tag = Tag(0x0002, 0x0010);
pub(super) const PATIENT_ID: Tag = Tag(0x0010, 0x0020);
const SAMPLES_PER_PIXEL: Tag = Tag(0x0028, 0x0002);
const PHOTOMETRIC_INTERPRETATION: Tag = Tag(0x0028, 0x0004);
const NUMBER_OF_FRAMES: Tag = Tag(0x0028, 0x0008);
const ROWS: Tag = Tag(0x0028, 0x0010);
const COLUMNS: Tag = Tag(0x0028, 0x0011);
const BITS_ALLOCATED: Tag = Tag(0x0028, 0x0100);
const BITS_STORED: Tag = Tag(0x0028, 0x0101);
const HIGH_BIT: Tag = Tag(0x0028, 0x0102);
const PIXEL_REPRESENTATION: Tag = Tag(0x0028, 0x0103);
const PIXEL_PADDING_VALUE: Tag = Tag(0x0028, 0x0120);
const PIXEL_PADDING_LIMIT: Tag = Tag(0x0028, 0x0121);
const WINDOW_CENTER: Tag = Tag(0x0028, 0x1050);
const WINDOW_WIDTH: Tag = Tag(0x0028, 0x1051);
const RESCALE_INTERCEPT: Tag = Tag(0x0028, 0x1052);
const RESCALE_SLOPE: Tag = Tag(0x0028, 0x1053);
const VOI_LUT_FUNCTION: Tag = Tag(0x0028, 0x1056);
const MODALITY_LUT_SEQUENCE: Tag = Tag(0x0028, 0x3000);
const LUT_DESCRIPTOR: Tag = Tag(0x0028, 0x3002);
const LUT_DATA: Tag = Tag(0x0028, 0x3006);
const VOI_LUT_SEQUENCE: Tag = Tag(0x0028, 0x3010);
const OVERLAY_BIT_POSITION: u16 = 0x0102;
const PIXEL_DATA: Tag = Tag(0x7fe0, 0x0010);

/// Most elements that are kept, of those about pixels (group 0028; PS3.6 names some 200) as of an item. One that is empty has
/// 8 bytes in a file, and several times as many in memory.
const MOST_ELEMENTS: usize = 4096;

/// What is known of the pixels of a file.
pub(super) struct Header<'a> {
    /// The UID of the transfer syntax.
    pub syntax: &'static str,
    pub coding: Coding,
    pub encoding: Encoding,
    pub columns: u32,
    pub rows: u32,
    /// At least 1.
    pub frames: u32,
    pub samples: Samples,
    /// Whether the lowest value is white (MONOCHROME1).
    pub inverted: bool,
    pub modality: Modality<'a>,
    pub voi: Voi<'a>,
    /// Stored values, from the first to the second, that stand for no image: what the detector did not see.
    pub padding: Option<(i32, i32)>,
    pub pixels: Element<'a>,
}

/// How a sample lies in its one or two bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Samples {
    /// 1 or 2.
    pub bytes: usize,
    /// Bits that count, 1 to 16.
    pub bits: u32,
    /// Bits below them.
    pub shift: u32,
    /// Whether the highest of them is a sign.
    pub signed: bool,
    /// Whether the file says that some of the other bits hold an overlay.
    pub overlay: bool,
}

/// From stored values to those of the modality (PS3.3, C.11.1).
pub(super) enum Modality<'a> {
    Rescale { slope: f64, intercept: f64 },
    Table(Table<'a>),
}

/// From the modality's values to what is shown (PS3.3, C.11.2).
pub(super) enum Voi<'a> {
    /// The file does not say.
    None,
    Window {
        function: WindowFunction,
        center: f64,
        width: f64,
    },
    Table(Table<'a>),
}

/// The shape of a window (PS3.3, C.11.2.1.2 and C.11.2.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WindowFunction {
    Linear,
    LinearExact,
    Sigmoid,
}

/// A look-up table of the file.
pub(super) struct Table<'a> {
    /// At least one entry, of one or two bytes.
    entries: &'a [u8],
    entry_bytes: usize,
    encoding: Encoding,
    /// The value that the first entry is for.
    pub first: i32,
    /// The largest that an entry can be.
    pub largest: u16,
}

impl Table<'_> {
    /// The entry of a value; values before the first and behind the last have theirs.
    pub(super) fn entry(&self, value: f64) -> u16 {
        let count = self.entries.len() / self.entry_bytes;
        // Between two entries it is the lower one, as in pydicom; what is no number becomes 0.
        let index = ((value - f64::from(self.first)).max(0.0) as usize).min(count - 1);
        let entry = &self.entries[index * self.entry_bytes..];
        let entry = if self.entry_bytes == 1 { u16::from(entry[0]) } else { self.encoding.u16([entry[0], entry[1]]) };
        entry.min(self.largest)
    }
}

/// Whether a file begins as DICOM files do.
pub(super) fn is_dicom(bytes: &[u8]) -> bool {
    bytes.get(MAGIC_AT..MAGIC_AT + MAGIC.len()) == Some(MAGIC)
}

/// The first group, up to the elements that describe patient and image, with how those are written and the pixels coded.
fn begin(bytes: &[u8]) -> Result<(Elements<'_>, &'static str, Coding), Fault> {
    let mut elements = Elements::new(bytes, MAGIC_AT + MAGIC.len(), Encoding::EXPLICIT);
    let mut uid = None;
    while elements.next_group() == Some(TRANSFER_SYNTAX.0) {
        match elements.next()? {
            Some(element) if element.tag == TRANSFER_SYNTAX => uid = Some(text(element.value)),
            _ => {}
        }
    }
    let uid = uid.ok_or_else(|| Fault::Header(format!("no transfer syntax {TRANSFER_SYNTAX} in its first group")))?;
    let (syntax, encoding, coding) = transfer_syntax::of_uid(&uid)?;
    elements.set_encoding(encoding);
    Ok((elements, syntax, coding))
}

/// The patient of a file, of which `bytes` may be the beginning; `None` where it does not say.
pub(super) fn patient_id(bytes: &[u8]) -> Result<Option<String>, Fault> {
    let (mut elements, ..) = begin(bytes)?;
    while let Some(element) = elements.next()? {
        if element.tag >= PATIENT_ID {
            let id = (element.tag == PATIENT_ID).then(|| text(element.value));
            return Ok(id.filter(|id| !id.is_empty()));
        }
    }
    Ok(None)
}

/// Reads and checks the header of a file.
pub(super) fn read(bytes: &[u8]) -> Result<Header<'_>, Fault> {
    let (mut elements, syntax, coding) = begin(bytes)?;
    let encoding = elements.encoding();
    let mut found = Found::new(encoding);
    let mut overlay = false;
    let pixels = loop {
        let element = elements.next()?.ok_or(Fault::NoPixelData)?;
        match element.tag {
            PIXEL_DATA => break element,
            Tag(0x0028, _) => found.push(element)?,
            Tag(0x6000..=0x60ff, OVERLAY_BIT_POSITION) => overlay |= element.value.iter().any(|&byte| byte != 0),
            _ => {}
        }
    };
    let samples = samples(&found, overlay)?;
    let inverted = match found.text(PHOTOMETRIC_INTERPRETATION).as_deref() {
        Some("MONOCHROME1") => true,
        Some("MONOCHROME2") => false,
        Some(other) => {
            return Err(Fault::Unsupported(format!(
                "a DICOM image in colour (photometric interpretation {other}; expected MONOCHROME1 or MONOCHROME2)"
            )));
        }
        None => return Err(missing("photometric interpretation", PHOTOMETRIC_INTERPRETATION)),
    };
    let frames = found.decimal(NUMBER_OF_FRAMES)?.unwrap_or(1.0);
    if !(1.0..=f64::from(u32::MAX)).contains(&frames) {
        return Err(Fault::Header(format!("{frames} frames {NUMBER_OF_FRAMES}; expected at least 1")));
    }
    Ok(Header {
        syntax,
        coding,
        encoding,
        columns: found.size(COLUMNS, "columns")?,
        rows: found.size(ROWS, "rows")?,
        frames: frames as u32,
        samples,
        inverted,
        modality: match found.table(MODALITY_LUT_SEQUENCE, samples.signed)? {
            Some(table) => Modality::Table(table),
            None => Modality::Rescale {
                slope: found.decimal(RESCALE_SLOPE)?.unwrap_or(1.0),
                intercept: found.decimal(RESCALE_INTERCEPT)?.unwrap_or(0.0),
            },
        },
        voi: voi(&found)?,
        padding: padding(&found, samples)?,
        pixels,
    })
}

fn samples(found: &Found, overlay: bool) -> Result<Samples, Fault> {
    let per_pixel = found.number(SAMPLES_PER_PIXEL)?.unwrap_or(1);
    if per_pixel != 1 {
        return Err(Fault::Unsupported(format!("a DICOM image in colour ({per_pixel} samples per pixel)")));
    }
    let allocated = found.number(BITS_ALLOCATED)?.ok_or_else(|| missing("bits allocated", BITS_ALLOCATED))?;
    if !matches!(allocated, 8 | 16) {
        return Err(Fault::Unsupported(format!("a DICOM image with {allocated} bits allocated (expected 8 or 16)")));
    }
    let bits = found.number(BITS_STORED)?.unwrap_or(allocated);
    if !(1..=allocated).contains(&bits) {
        return Err(Fault::Header(format!(
            "{bits} bits stored {BITS_STORED} of {allocated} allocated {BITS_ALLOCATED}; expected 1 to {allocated}"
        )));
    }
    let high = found.number(HIGH_BIT)?.unwrap_or(bits - 1);
    if !(bits - 1..allocated).contains(&high) {
        return Err(Fault::Header(format!(
            "the high bit {HIGH_BIT} is {high}, with {bits} bits stored of {allocated}; expected {}",
            bits - 1
        )));
    }
    let signed = match found.number(PIXEL_REPRESENTATION)?.unwrap_or(0) {
        0 => false,
        1 => true,
        other => {
            return Err(Fault::Header(format!(
                "the pixel representation {PIXEL_REPRESENTATION} is {other}; expected 0 or 1"
            )));
        }
    };
    let shift = u32::from(high + 1 - bits);
    Ok(Samples { bytes: usize::from(allocated) / 8, bits: u32::from(bits), shift, signed, overlay })
}

/// The look-up table where there is one, else the first window: the order that PS3.3, C.11.2 leaves open and pydicom has.
fn voi<'a>(found: &Found<'a>) -> Result<Voi<'a>, Fault> {
    // Its input is what the modality's step gives, which may be negative; its first value says so by its type.
    if let Some(table) = found.table(VOI_LUT_SEQUENCE, found.signed_modality()?)? {
        return Ok(Voi::Table(table));
    }
    let (Some(center), Some(width)) = (found.decimal(WINDOW_CENTER)?, found.decimal(WINDOW_WIDTH)?) else {
        return Ok(Voi::None);
    };
    let function = match found.text(VOI_LUT_FUNCTION).as_deref() {
        None | Some("" | "LINEAR") => WindowFunction::Linear,
        Some("LINEAR_EXACT") => WindowFunction::LinearExact,
        Some("SIGMOID") => WindowFunction::Sigmoid,
        Some(other) => {
            return Err(Fault::Header(format!(
                "the window's function {VOI_LUT_FUNCTION} is `{other}`; expected LINEAR, LINEAR_EXACT or SIGMOID"
            )));
        }
    };
    let narrowest = if function == WindowFunction::Linear { 1.0 } else { f64::MIN_POSITIVE };
    if width < narrowest {
        return Err(Fault::Header(format!("the window's width {WINDOW_WIDTH} is {width}; expected at least 1")));
    }
    Ok(Voi::Window { function, center, width })
}

fn padding(found: &Found, samples: Samples) -> Result<Option<(i32, i32)>, Fault> {
    let signed = |number: u16| if samples.signed { i32::from(number as i16) } else { i32::from(number) };
    let Some(value) = found.number(PIXEL_PADDING_VALUE)?.map(signed) else { return Ok(None) };
    let limit = found.number(PIXEL_PADDING_LIMIT)?.map_or(value, signed);
    Ok(Some((value.min(limit), value.max(limit))))
}

fn missing(what: &str, tag: Tag) -> Fault {
    Fault::Header(format!("no {what} {tag}"))
}

/// Text without the spaces and zeros that fill it up. Other than ASCII it is taken for UTF-8 or else for Latin-1: equal
/// texts stay equal, and different ones different, whatever the file's character set.
fn text(value: &[u8]) -> String {
    let text = match std::str::from_utf8(value) {
        Ok(text) => text.to_owned(),
        Err(_) => value.iter().map(|&byte| char::from(byte)).collect(),
    };
    text.trim_matches([' ', '\0']).to_owned()
}

/// The elements of a group, or of an item.
struct Found<'a> {
    elements: Vec<Element<'a>>,
    encoding: Encoding,
}

impl<'a> Found<'a> {
    fn new(encoding: Encoding) -> Found<'a> {
        Found { elements: Vec::new(), encoding }
    }

    fn push(&mut self, element: Element<'a>) -> Result<(), Fault> {
        if self.elements.len() == MOST_ELEMENTS {
            return Err(Fault::Damaged(format!(
                "more than {MOST_ELEMENTS} elements stand in group 0028 or an item of it"
            )));
        }
        self.elements.push(element);
        Ok(())
    }

    /// An attribute with a value; the first, where it stands there twice.
    fn get(&self, tag: Tag) -> Option<&Element<'a>> {
        self.elements.iter().find(|element| element.tag == tag && !element.value.is_empty())
    }

    /// A number of two bytes; the first of several.
    fn number(&self, tag: Tag) -> Result<Option<u16>, Fault> {
        let Some(element) = self.get(tag) else { return Ok(None) };
        let Some(bytes) = element.value.first_chunk() else {
            return Err(Fault::Damaged(format!("element {tag} has {} byte, a number has 2", element.value.len())));
        };
        Ok(Some(self.encoding.u16(*bytes)))
    }

    fn size(&self, tag: Tag, what: &str) -> Result<u32, Fault> {
        match self.number(tag)? {
            Some(size @ 1..) => Ok(u32::from(size)),
            Some(0) => Err(Fault::Header(format!("0 {what} {tag}; expected at least 1"))),
            None => Err(missing(what, tag)),
        }
    }

    fn text(&self, tag: Tag) -> Option<String> {
        self.get(tag).map(|element| text(element.value))
    }

    /// A number in decimal digits; the first of several.
    fn decimal(&self, tag: Tag) -> Result<Option<f64>, Fault> {
        let Some(all) = self.text(tag) else { return Ok(None) };
        let first = all.split('\\').next().unwrap_or_default().trim();
        if first.is_empty() {
            return Ok(None);
        }
        match first.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Some(number)),
            _ => Err(Fault::Header(format!("element {tag} is `{}`; expected a number", first.escape_debug()))),
        }
    }

    /// Whether the modality's values can be negative, so that a two-byte number for one of them has a sign.
    fn signed_modality(&self) -> Result<bool, Fault> {
        let signed = self.number(PIXEL_REPRESENTATION)? == Some(1);
        Ok(self.get(MODALITY_LUT_SEQUENCE).is_none() && signed)
    }

    /// The table in the first item of a sequence. `signed`: whether its first value has a sign where its type is not
    /// written beside it.
    fn table(&self, tag: Tag, signed: bool) -> Result<Option<Table<'a>>, Fault> {
        let Some(sequence) = self.get(tag) else { return Ok(None) };
        let Some(item) = Elements::new(sequence.value, 0, self.encoding).next_item()? else { return Ok(None) };
        let mut inner = Elements::new(item, 0, self.encoding);
        let mut found = Found::new(self.encoding);
        while let Some(element) = inner.next()? {
            found.push(element)?;
        }
        let descriptor =
            found.get(LUT_DESCRIPTOR).ok_or_else(|| missing("look-up table's descriptor", LUT_DESCRIPTOR))?;
        let &[a, b, c, d, e, f] = descriptor.value else {
            return Err(Fault::Header(format!(
                "the descriptor {LUT_DESCRIPTOR} of a look-up table has {} bytes; expected 6",
                descriptor.value.len()
            )));
        };
        // 65536 entries do not fit into two bytes and are written as 0.
        let count = match self.encoding.u16([a, b]) {
            0 => 1 << 16,
            count => usize::from(count),
        };
        let first = self.encoding.u16([c, d]);
        let signed = match descriptor.vr.as_ref() {
            Some(b"SS") => true,
            Some(b"US") => false,
            _ => signed,
        };
        let bits = self.encoding.u16([e, f]);
        if !(1..=16).contains(&bits) {
            return Err(Fault::Header(format!("a look-up table {LUT_DESCRIPTOR} of {bits} bits; expected 8 to 16")));
        }
        let data = found.get(LUT_DATA).ok_or_else(|| missing("look-up table's entries", LUT_DATA))?.value;
        // Tables of 8 bits come with a byte or with two for each entry.
        let entry_bytes = if data.len() >= count * 2 { 2 } else { 1 };
        if bits > 8 && entry_bytes == 1 || data.len() < count {
            return Err(Fault::Header(format!(
                "a look-up table of {count} entries of {bits} bits has {} bytes {LUT_DATA}",
                data.len()
            )));
        }
        Ok(Some(Table {
            entries: &data[..count * entry_bytes],
            entry_bytes,
            encoding: self.encoding,
            first: if signed { i32::from(first as i16) } else { i32::from(first) },
            largest: ((1u32 << bits) - 1) as u16,
        }))
    }
}
