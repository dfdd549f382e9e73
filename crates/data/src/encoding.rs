//! Text of tables as programs really write it: with or without a byte order mark, in UTF-8 or ISO-8859-1.

use std::borrow::Cow;

/// What bytes say, without a byte order mark, and whether they had to be read as ISO-8859-1 because they are no UTF-8.
/// `None` for UTF-16, which spreadsheets call "Unicode text".
pub(crate) fn decode(bytes: &[u8]) -> Option<(Cow<'_, str>, bool)> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return None;
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    Some(match std::str::from_utf8(bytes) {
        Ok(text) => (Cow::Borrowed(text), false),
        // The first 256 code points of Unicode are ISO-8859-1.
        Err(_) => (Cow::Owned(bytes.iter().map(|&byte| char::from(byte)).collect()), true),
    })
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn what_programs_write() {
        assert_eq!(decode("ä,b".as_bytes()).unwrap(), ("ä,b".into(), false));
        assert_eq!(decode(b"\xef\xbb\xbfa").unwrap(), ("a".into(), false));
        assert_eq!(decode(b"artefact 38\xb0C, 98\xa0%").unwrap(), ("artefact 38°C, 98\u{a0}%".into(), true));
        assert!(decode(b"\xff\xfea\0").is_none());
    }
}
