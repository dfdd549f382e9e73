//! The secret that requests show.

use sha2::{Digest, Sha256};
use std::path::Path;
use subtle::ConstantTimeEq;

use crate::ServeError;

/// The least characters of a token.
const SHORTEST: usize = 16;

/// A bearer token (RFC 6750). Only its digest is kept.
#[derive(Clone)]
pub struct Token {
    digest: [u8; 32],
}

impl Token {
    /// Reads the token from a file that holds nothing else; white space around it does not count.
    ///
    /// # Errors
    /// Where the file cannot be read, or holds fewer than 16 characters or others than a header can carry.
    pub fn read(file: &Path) -> Result<Token, ServeError> {
        let refuse = |found: String| ServeError::Token { file: file.to_owned(), found };
        let text = std::fs::read_to_string(file).map_err(|error| refuse(error.to_string()))?;
        Token::new(text.trim()).ok_or_else(|| {
            refuse(match text.trim() {
                "" => "the file is empty".into(),
                token if token.len() < SHORTEST => format!("{} characters", token.len()),
                _ => "characters that a header cannot carry".into(),
            })
        })
    }

    /// A token of at least 16 visible ASCII characters.
    pub fn new(token: &str) -> Option<Token> {
        let carried = token.bytes().all(|byte| byte.is_ascii_graphic());
        (token.len() >= SHORTEST && carried).then(|| Token { digest: digest(token) })
    }

    /// Whether this is the token. How long the answer takes tells nothing about it: digests of one length are compared,
    /// all bytes of them.
    pub fn is(&self, shown: &str) -> bool {
        self.digest.ct_eq(&digest(shown)).into()
    }
}

fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// Not even its digest.
impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_itself_alone() {
        let token = Token::new("correct-horse-battery").unwrap();
        assert!(token.is("correct-horse-battery"));
        for other in ["", "correct-horse-batterz", "correct-horse-battery ", "correct-horse-batteryx"] {
            assert!(!token.is(other), "{other}");
        }
        assert_eq!(format!("{token:?}"), "Token");
        assert!(Token::new("short").is_none() && Token::new("sixteen characters with blanks").is_none());
    }

    #[test]
    fn a_file_is_refused_with_what_it_holds() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        let refused = |text: &str| {
            std::fs::write(&file, text).unwrap();
            Token::read(&file).unwrap_err().to_string()
        };
        assert!(refused("\n").contains("the file is empty"));
        assert!(refused("short\n").contains("5 characters"));
        assert!(refused("sixteen characters, ümlaut").contains("a header cannot carry"));
        std::fs::write(&file, "correct-horse-battery\n").unwrap();
        assert!(Token::read(&file).unwrap().is("correct-horse-battery"));
        assert!(Token::read(&folder.path().join("absent")).unwrap_err().to_string().contains("absent"));
    }
}
