//! What a JPEG 2000 codestream says of itself (ISO 15444-1, annex A), checked before the decoder takes memory for it: some
//! hundred bytes can announce hundreds of components, a tile for each pixel, or pixels without end.

use super::fault::Fault;

/// The markers SOC and SIZ, with which every codestream begins.
const BEGINNING: &[u8] = b"\xff\x4f\xff\x51";
const COD: u8 = 0x52;
const COC: u8 = 0x53;
const SOT: u8 = 0x90;
const SOD: u8 = 0x93;
const EOC: u8 = 0xd9;

/// Pixels that one byte can stand for at most. The format sets no bound, for what is flat costs nothing; radiographs are
/// compressed a hundredfold at most, and have noise everywhere.
const EXPANSION: u64 = 1024;

/// What is known of a stream that can be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Codestream {
    pub width: u32,
    pub height: u32,
    /// Whether samples have a sign.
    pub signed: bool,
}

/// The sizes in the segment SIZ.
struct Sizes {
    image: [u32; 2],
    tile: [u32; 2],
    /// Columns and rows of tiles.
    tiles: [u32; 2],
}

/// Reads the headers of a stream of one component, all of whose tiles must be there.
pub(super) fn check(bytes: &[u8]) -> Result<Codestream, Fault> {
    if !bytes.starts_with(BEGINNING) {
        return Err(damaged("does not begin as one"));
    }
    let mut reader = Reader { bytes, position: 2 };
    let (_, siz) = reader.segment()?;
    let (sizes, signed) = sizes(siz)?;
    let [width, height] = sizes.image;
    if u64::from(width) * u64::from(height) > EXPANSION * bytes.len() as u64 {
        return Err(Fault::Truncated(format!(
            "its JPEG 2000 stream has {} bytes for {width} x {height} pixels",
            bytes.len()
        )));
    }
    let marker = loop {
        let (marker, body) = reader.segment()?;
        match marker {
            SOT => break body,
            COD => packets(body, &sizes, bytes.len())?,
            COC => return Err(own_coding()),
            _ => {}
        }
    };
    tiles(reader, marker, sizes.tiles)?;
    Ok(Codestream { width, height, signed })
}

fn sizes(siz: &[u8]) -> Result<(Sizes, bool), Fault> {
    let Some(&components) = siz.get(34..).and_then(<[u8]>::first_chunk) else {
        return Err(damaged("is too short to have a size"));
    };
    if u16::from_be_bytes(components) != 1 || siz.len() != 39 {
        return Err(damaged("is in colour, and its header says grey"));
    }
    let word = |at: usize| u32::from_be_bytes([siz[at], siz[at + 1], siz[at + 2], siz[at + 3]]);
    let both = |at: usize| [word(at), word(at + 4)];
    let (end, origin, tile, first) = (both(2), both(10), both(18), both(26));
    let mut sizes = Sizes { image: [0; 2], tile, tiles: [0; 2] };
    for axis in 0..2 {
        let is_sound = tile[axis] > 0 && first[axis] <= origin[axis] && origin[axis] < end[axis];
        if !is_sound || siz[37..] != [1, 1] {
            return Err(damaged("has a size that cannot be"));
        }
        sizes.image[axis] = end[axis] - origin[axis];
        sizes.tiles[axis] = (end[axis] - first[axis]).div_ceil(tile[axis]);
    }
    Ok((sizes, siz[36] & 0x80 != 0))
}

/// A packet, of which there is one for each layer, resolution and precinct of a tile, has at least a byte.
fn packets(cod: &[u8], sizes: &Sizes, bytes: usize) -> Result<(), Fault> {
    let &[style, _, high, low, _, levels, _, _, _, _, ref precincts @ ..] = cod else {
        return Err(damaged("has no coding style"));
    };
    let layers = u64::from(u16::from_be_bytes([high, low]));
    if layers == 0 || levels > 32 || (style & 1 != 0 && precincts.len() <= usize::from(levels)) {
        return Err(damaged("has a coding style that cannot be"));
    }
    let mut packets = 0_u64;
    for resolution in 0..=levels {
        let size = if style & 1 != 0 { precincts[usize::from(resolution)] } else { 0xff };
        let along = |axis: usize, exponent: u8| {
            let side = sizes.tile[axis].min(sizes.image[axis]);
            u64::from(side).checked_shr(u32::from(levels - resolution) + u32::from(exponent)).unwrap_or(0).max(1)
        };
        packets += along(0, size & 15) * along(1, size >> 4);
    }
    let tiles = u64::from(sizes.tiles[0]) * u64::from(sizes.tiles[1]);
    if packets.saturating_mul(layers).saturating_mul(tiles) > bytes as u64 {
        return Err(Fault::Truncated(format!("its JPEG 2000 stream of {bytes} bytes cannot hold its packets")));
    }
    Ok(())
}

/// Goes from part to part of the tiles; `first` is the segment SOT that the reader stands behind.
fn tiles<'a>(mut reader: Reader<'a>, mut first: &'a [u8], [columns, rows]: [u32; 2]) -> Result<(), Fault> {
    let count = u64::from(columns) * u64::from(rows);
    // The number of a tile has two bytes.
    if count > u64::from(u16::MAX) {
        return Err(damaged("has more tiles than can be numbered"));
    }
    // Of each tile the parts that were seen, and the number of parts that one of them announced.
    let mut seen = vec![(0_u16, 0_u16); count as usize];
    loop {
        let &[high, low, a, b, c, d, _, parts] = first else { return Err(damaged("has a tile without a length")) };
        let start = reader.position - 12;
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        let Some(tile) = seen.get_mut(usize::from(u16::from_be_bytes([high, low]))) else {
            return Err(damaged("has a tile that lies outside of the image"));
        };
        *tile = (tile.0.saturating_add(1), tile.1.max(u16::from(parts)));
        loop {
            match reader.marker()? {
                SOD => break,
                COD | COC => return Err(own_coding()),
                _ => reader.body()?,
            };
        }
        // No length: the tile goes to the end.
        if length == 0 {
            break;
        }
        if start + length < reader.position || start + length > reader.bytes.len() {
            return Err(Fault::Truncated("its JPEG 2000 stream ends within a tile".to_owned()));
        }
        reader.position = start + length;
        // Streams that lack the end itself, and nothing else, are in use.
        if reader.bytes.len() - reader.position < 2 || reader.bytes[reader.position..].starts_with(&[0xff, EOC]) {
            break;
        }
        match reader.segment()? {
            (SOT, body) => first = body,
            _ => return Err(damaged("has something else where a tile begins")),
        }
    }
    let whole = seen.iter().filter(|(parts, announced)| *parts > 0 && parts >= announced).count();
    if whole < seen.len() {
        return Err(Fault::Truncated(format!("its JPEG 2000 stream holds {whole} of {} tiles", seen.len())));
    }
    Ok(())
}

/// From marker to marker.
struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    fn marker(&mut self) -> Result<u8, Fault> {
        match self.bytes.get(self.position..).and_then(<[u8]>::first_chunk) {
            Some(&[0xff, marker]) => {
                self.position += 2;
                Ok(marker)
            }
            Some(_) => Err(damaged("has no marker where one must stand")),
            None => Err(Fault::Truncated("its JPEG 2000 stream ends in its header".to_owned())),
        }
    }

    /// What stands behind a marker, without its length.
    fn body(&mut self) -> Result<&'a [u8], Fault> {
        let rest = &self.bytes[self.position..];
        let length = rest.first_chunk().map_or(0, |length| usize::from(u16::from_be_bytes(*length)));
        let body = rest.get(2..length);
        self.position += length;
        body.ok_or_else(|| Fault::Truncated("its JPEG 2000 stream ends in its header".to_owned()))
    }

    fn segment(&mut self) -> Result<(u8, &'a [u8]), Fault> {
        let marker = self.marker()?;
        Ok((marker, self.body()?))
    }
}

fn damaged(what: &str) -> Fault {
    Fault::Damaged(format!("its JPEG 2000 stream {what}"))
}

/// With one component a tile's own style, or a component's, has no use; and what it announces is bounded nowhere.
fn own_coding() -> Fault {
    Fault::Unsupported("JPEG 2000 in DICOM whose tiles or components have a coding style of their own".to_owned())
}
