//! In which form a client would rather have its answer (RFC 9110, section 12.5.1).

use axum::http::{HeaderMap, header};

/// How much a client wants a media type: its weight, from above 0 to 1000, and how exactly the type is named, which
/// decides between equal weights. `None` where it is not acceptable; anything is where nothing is said.
///
/// Of the ranges that hold a type the most exact one counts. Parameters other than `q` tell none of the server's types
/// apart and are passed over; a weight that is no number from 0 to 1 makes its range nothing.
pub(crate) fn preference(headers: &HeaderMap, media_type: &str) -> Option<(u16, u8)> {
    let lines = headers.get_all(header::ACCEPT).iter().map(|line| String::from_utf8_lossy(line.as_bytes()));
    let lines: Vec<_> = lines.collect();
    // Line by line, so that a quote without its end takes no other line with it.
    let ranges = || lines.iter().flat_map(|line| unquoted(line, ','));
    if ranges().all(|range| range.trim().is_empty()) {
        return Some((1000, 0));
    }
    let named = ranges().filter_map(|range| {
        let mut parts = unquoted(range, ';').map(str::trim);
        let exactness = exactness(parts.next()?, media_type)?;
        let mut parameters = parts.filter_map(|part| part.split_once('='));
        let weight = parameters.find(|(name, _)| name.trim().eq_ignore_ascii_case("q"));
        let weight: f32 = weight.map_or(Ok(1.0), |(_, weight)| weight.trim().parse()).ok()?;
        (0.0..=1.0).contains(&weight).then_some((exactness, (weight * 1000.0).round() as u16))
    });
    let (exactness, weight) = named.max()?;
    (weight > 0).then_some((weight, exactness))
}

/// The parts of a text between separators that do not stand in quoted strings (RFC 9110, section 5.6.4).
fn unquoted(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |character| {
        let is_literal = std::mem::take(&mut escaped);
        match character {
            _ if is_literal => false,
            '\\' => {
                escaped = quoted;
                false
            }
            '"' => {
                quoted = !quoted;
                false
            }
            _ => character == separator && !quoted,
        }
    })
}

/// How exactly a range names a type that it holds.
fn exactness(range: &str, media_type: &str) -> Option<u8> {
    let family = media_type.split('/').next().unwrap_or_default();
    let of_family = |range: &str| range.strip_suffix("/*").is_some_and(|named| named.eq_ignore_ascii_case(family));
    match range {
        _ if range.eq_ignore_ascii_case(media_type) => Some(2),
        _ if of_family(range) => Some(1),
        "*/*" => Some(0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn what_is_wanted_most_is_known() {
        let (json, png) = ("application/json", "image/png");
        for (lines, rather) in [
            (&[][..], Some(json)),
            (&[""], Some(json)),
            (&["*/*"], Some(json)),
            (&["application/*, image/*"], Some(json)),
            (&["image/png"], Some(png)),
            (&["IMAGE/PNG;Q=0.3"], Some(png)),
            (&["image/*"], Some(png)),
            (&["image/png, */*"], Some(png)),
            (&["image/avif,image/png,image/*,*/*;q=0.8"], Some(png)),
            (&["image/png;q=0.9, application/json;q=0.1"], Some(png)),
            (&["image/png;q=0.1, application/json;q=0.9"], Some(json)),
            // The range that names it counts, not the widest or the heaviest one.
            (&["*/*, image/png;q=0.5"], Some(json)),
            (&["image/png;q=0.2, image/*, application/json;q=0.3"], Some(json)),
            (&["*/*, application/json;q=0"], Some(png)),
            // Several lines are one list.
            (&["application/json;q=0.5", "image/png;level=1 ; q=.6"], Some(png)),
            (&["image/png;q=2, image/png;q=x, application/json;q=0.1"], Some(json)),
            (&["image/png;x=\"p;q=0, \\\"\", application/json;q=0.5"], Some(png)),
            (&["image/png;q = 0.1, application/json;q=0.5"], Some(json)),
            (&["image/png;q=0.5;x=\"", "application/json"], Some(json)),
            (&["image/png;q=0.0001"], None),
            (&["text/html"], None),
            (&["*/*;q=0"], None),
            (&["*"], None),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::ACCEPT, HeaderValue::from_static(line));
            }
            let [of_json, of_png] = [json, png].map(|media_type| preference(&headers, media_type));
            let found = (of_json.or(of_png)).map(|_| if of_png > of_json { png } else { json });
            assert_eq!(found, rather, "{lines:?}");
        }
    }
}
