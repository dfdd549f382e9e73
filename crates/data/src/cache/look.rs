//! What an audit sees of an image as a file.
//!
//! Little-endian: 8 bytes of magic, version (u32), CRC-32 of all other bytes (u32); then the [`Look`] as it writes itself.

use super::header::Header;
use crate::audit::Look;

/// Version of this form, and of what is seen: to be raised with either.
pub(super) const VERSION: u32 = 2;
const HEADER: Header = Header { magic: *b"roentlok", version: VERSION, fields: 0, of: "what was seen of an image" };

/// The file of what was seen, written into `bytes`.
pub(super) fn write(look: &Look, bytes: &mut Vec<u8>) {
    HEADER.begin(bytes);
    bytes.extend([0; 4]);
    look.write(bytes);
    HEADER.seal(bytes);
}

/// What was seen, of a file.
///
/// # Errors
/// In words, what is wrong with it.
pub fn read(bytes: &[u8]) -> Result<Look, String> {
    let (_, look) = HEADER.open(bytes)?;
    Look::read(look).ok_or_else(|| "it does not hold what was seen of an image".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::Limits;

    #[test]
    fn what_was_seen_comes_back_and_damage_is_seen_in_every_byte() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/images/grey.jpg");
        let seen = Look::at("grey.jpg", &std::fs::read(file).unwrap(), &Limits::default()).unwrap();
        let mut bytes = vec![7; 5];
        write(&seen, &mut bytes);
        assert_eq!(read(&bytes), Ok(seen));
        for at in (0..bytes.len()).filter(|at| at % 97 == 0 || *at < 200) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            assert!(read(&damaged).is_err(), "byte {at}");
            assert!(read(&bytes[..at]).is_err(), "cut at {at}");
        }
        bytes.push(0);
        assert!(read(&bytes).is_err(), "one byte too many");
    }
}
