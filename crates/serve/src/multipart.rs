//! The parts of a `multipart/form-data` body (RFC 7578, RFC 2046 section 5.1) that lies in memory as a whole.
//!
//! Our own, because a body is bounded and read before anything is done with it: what libraries for streams bring along
//! (a table of character sets above all) costs more to build than the rest of the server.

use bytes::Bytes;
use memchr::memmem;

/// Most bytes of a part's head.
const LONGEST_HEAD: usize = 8 << 10;

/// A field of the form.
#[derive(Debug, PartialEq)]
pub(crate) struct Part {
    pub(crate) name: String,
    /// The file's name as the client has it; for messages and answers alone.
    pub(crate) file_name: Option<String>,
    pub(crate) bytes: Bytes,
}

/// The boundary that a content type names; `None` for another type.
pub(crate) fn boundary(content_type: &str) -> Option<Result<String, String>> {
    let (kind, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    Some(match parameter(parameters, "boundary") {
        Some(boundary) if (1..=70).contains(&boundary.len()) => Ok(boundary),
        _ => Err(format!("`{content_type}` without a boundary of 1 to 70 characters")),
    })
}

/// Splits a body into at most `most` parts.
///
/// # Errors
/// In words, what is wrong with the body.
pub(crate) fn parts(body: &Bytes, boundary: &str, most: usize) -> Result<Vec<Part>, String> {
    let delimiter = format!("\r\n--{boundary}");
    // The first delimiter may stand at the very start.
    let first = &delimiter.as_bytes()[2..];
    let mut at = if body.starts_with(first) {
        first.len()
    } else {
        memmem::find(body, delimiter.as_bytes()).ok_or("a body that lacks its boundary")? + delimiter.len()
    };
    let finder = memmem::Finder::new(delimiter.as_bytes());
    let mut parts = Vec::new();
    loop {
        let rest = &body[at..];
        if rest.starts_with(b"--") {
            return Ok(parts);
        }
        // Blanks may follow a delimiter.
        let blanks = rest.iter().take_while(|byte| **byte == b' ' || **byte == b'\t').count();
        if !rest[blanks..].starts_with(b"\r\n") {
            return Err("a body that ends within a part, or a boundary with something behind it".into());
        }
        if parts.len() == most {
            return Err(format!("more than {most} parts"));
        }
        let start = at + blanks + 2;
        let searched = &body[start..body.len().min(start + LONGEST_HEAD)];
        let head = memmem::find(searched, b"\r\n\r\n").ok_or("a part whose head does not end")?;
        let content = start + head + 4;
        // The delimiter's line break may be the one that ends an empty part's head.
        let end = content - 2 + finder.find(&body[content - 2..]).ok_or("a body that ends within a part")?;
        let (name, file_name) = disposition(&body[start..start + head])?;
        parts.push(Part { name, file_name, bytes: body.slice(content.min(end)..end.max(content.min(end))) });
        at = end + delimiter.len();
    }
}

/// The names in a part's `Content-Disposition: form-data; name="images"; filename="a.png"`.
fn disposition(head: &[u8]) -> Result<(String, Option<String>), String> {
    let head = std::str::from_utf8(head).map_err(|_| "a part whose head is not UTF-8")?;
    let lines = head.split("\r\n").filter_map(|line| line.split_once(':'));
    let mut dispositions = lines.filter(|(field, _)| field.eq_ignore_ascii_case("content-disposition"));
    let value = dispositions.next().map(|(_, value)| value).ok_or("a part without Content-Disposition")?;
    let (kind, parameters) = value.split_once(';').unwrap_or((value, ""));
    let name = parameter(parameters, "name");
    match name {
        Some(name) if kind.trim().eq_ignore_ascii_case("form-data") => Ok((name, parameter(parameters, "filename"))),
        _ => Err("a part whose Content-Disposition is not form-data with a name".into()),
    }
}

/// The value of `; key=value; key="quoted value"`. In quotation marks a backslash goes before what it stands for.
fn parameter(parameters: &str, wanted: &str) -> Option<String> {
    let mut rest = parameters;
    loop {
        rest = rest.trim_start_matches([';', ' ', '\t']);
        let (key, after) = rest.split_once('=')?;
        let mut value = String::new();
        if let Some(quoted) = after.strip_prefix('"') {
            let mut characters = quoted.char_indices();
            loop {
                match characters.next()? {
                    (at, '"') => {
                        rest = &quoted[at + 1..];
                        break;
                    }
                    // Browsers send %22 for a quotation mark, and single backslashes as they are.
                    (_, '\\') if characters.as_str().starts_with(['"', '\\']) => value.push(characters.next()?.1),
                    (_, character) => value.push(character),
                }
            }
        } else {
            let end = after.find(';').unwrap_or(after.len());
            value.push_str(after[..end].trim());
            rest = &after[end..];
        }
        if key.trim().eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &[u8]) -> Result<Vec<Part>, String> {
        parts(&Bytes::copy_from_slice(body), "XX", 3)
    }

    fn part(name: &str, file_name: Option<&str>, bytes: &[u8]) -> Part {
        Part { name: name.into(), file_name: file_name.map(Into::into), bytes: Bytes::copy_from_slice(bytes) }
    }

    #[test]
    fn boundaries_are_found_in_any_order() {
        let found = |text| boundary(text).map(Result::ok);
        assert_eq!(found("multipart/form-data; charset=utf-8; boundary=abc"), Some(Some("abc".into())));
        assert_eq!(found("Multipart/Form-Data;boundary=\"a;\\\"b\""), Some(Some("a;\"b".into())));
        assert_eq!(found("image/png; boundary=abc"), None);
        assert_eq!(found("multipart/form-data"), Some(None));
        assert_eq!(found("multipart/form-data; boundary=\"open"), Some(None));
    }

    #[test]
    fn parts_keep_every_byte() {
        let body =
            b"preamble\r\n--XX  \r\nContent-Disposition: form-data; name=\"images\"; filename=\"a \\\"b\\\".png\"\r\n\
            Content-Type: image/png\r\n\r\n\x89PNG\r\n--X\r\n\r\n--XX\r\n\
            content-disposition: form-data; name=note\r\n\r\n\r\n--XX--\r\nepilogue";
        let expected = [part("images", Some("a \"b\".png"), b"\x89PNG\r\n--X\r\n"), part("note", None, b"")];
        assert_eq!(read(body).unwrap(), expected);
        assert_eq!(read(b"--XX--").unwrap(), []);
        // An empty part whose head's last line break begins the delimiter.
        let tight = b"--XX\r\nContent-Disposition: form-data; name=a\r\n\r\n--XX--";
        assert_eq!(read(tight).unwrap(), [part("a", None, b"")]);
    }

    #[test]
    fn broken_bodies_are_refused() {
        let one = "--XX\r\nContent-Disposition: form-data; name=a\r\n\r\nx\r\n";
        for (body, word) in [
            (String::new(), "lacks its boundary"),
            ("--XX".into(), "ends within"),
            (one.to_owned(), "ends within a part"),
            (format!("{one}--XX"), "ends within"),
            (format!("{one}--XXX\r\n"), "something behind it"),
            ("--XX\r\nContent-Disposition: form-data; name=a".into(), "head does not end"),
            (format!("--XX\r\nA: {}\r\n\r\nx\r\n--XX--", "b".repeat(9000)), "head does not end"),
            ("--XX\r\nContent-Type: a\r\n\r\nx\r\n--XX--".into(), "without Content-Disposition"),
            ("--XX\r\nContent-Disposition: attachment; name=a\r\n\r\nx\r\n--XX--".into(), "not form-data"),
            (format!("{}--XX--", one.repeat(4)), "more than 3 parts"),
        ] {
            let error = read(body.as_bytes()).unwrap_err();
            assert!(error.contains(word), "{body:?}: {error}");
        }
    }

    #[test]
    fn no_cut_and_no_changed_byte_panics() {
        let body = b"--XX\r\nContent-Disposition: form-data; name=\"a\"; filename=\"b\"\r\n\r\nx\r\n--XX--";
        for end in 0..body.len() {
            let _ = read(&body[..end]);
            for byte in [b'\r', b'\n', b'-', b'"', b'\\', b'X', 0xff] {
                let mut changed = body.to_vec();
                changed[end] = byte;
                let _ = read(&changed);
            }
        }
    }
}
