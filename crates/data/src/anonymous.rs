//! Pseudonyms for patients: who holds the key can tell which patient is meant, and nobody else can.

use std::fs;
use std::path::Path;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::error::DataError;

/// Fewest bytes of a key: with less, patient numbers could be found by trying keys.
const SHORTEST_KEY: usize = 16;

/// A key for pseudonyms.
pub struct PatientKey(Hmac<Sha256>);

impl PatientKey {
    /// Reads a key: all bytes of the file, at least 16.
    ///
    /// # Errors
    /// [`DataError::Unreadable`], or [`DataError::KeyTooShort`].
    pub fn read(path: &Path) -> Result<PatientKey, DataError> {
        let key = fs::read(path).map_err(|source| DataError::Unreadable { path: path.to_owned(), source })?;
        if key.len() < SHORTEST_KEY {
            return Err(DataError::KeyTooShort { path: path.to_owned(), found: key.len(), expected: SHORTEST_KEY });
        }
        Ok(PatientKey::new(&key))
    }

    fn new(key: &[u8]) -> PatientKey {
        PatientKey(Hmac::new_from_slice(key).expect("HMAC takes keys of any length"))
    }

    /// The pseudonym of a patient: the first 16 bytes of HMAC-SHA-256 over the identity in UTF-8, in hexadecimal. Without
    /// a key, a hash of a patient number could be undone by hashing all numbers.
    pub fn pseudonym(&self, patient_id: &str) -> String {
        let hash = self.0.clone().chain_update(patient_id.as_bytes()).finalize().into_bytes();
        hash[..16].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pseudonyms_are_hmac_sha_256() {
        // RFC 4231, test cases 1, 2 and 6.
        let key = PatientKey::new(&[0x0b; 20]);
        assert_eq!(key.pseudonym("Hi There"), "b0344c61d8db38535ca8afceaf0bf12b");
        let key = PatientKey::new(b"Jefe");
        assert_eq!(key.pseudonym("what do ya want for nothing?"), "5bdcc146bf60754e6a042426089575c7");
        let key = PatientKey::new(&[0xaa; 131]);
        let text = "Test Using Larger Than Block-Size Key - Hash Key First";
        assert_eq!(key.pseudonym(text), "60e431591ee0b67f0d8a26aacbf5b77f");
    }

    #[test]
    fn a_short_key_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        fs::write(&file, b"fifteen bytes..").unwrap();
        let error = PatientKey::read(&file).err().unwrap();
        assert!(matches!(error, DataError::KeyTooShort { found: 15, expected: 16, .. }), "{error}");
        fs::write(&file, b"sixteen bytes...").unwrap();
        assert!(PatientKey::read(&file).is_ok());
        assert!(PatientKey::read(&folder.path().join("none")).is_err());
    }
}
