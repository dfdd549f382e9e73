//! Age and sex as tables write them.

use std::fmt;

/// Sex as a table or a file's header gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sex {
    /// `F`.
    Female,
    /// `M`.
    Male,
    /// `O`, DICOM's third value.
    Other,
}

impl Sex {
    /// From `F`, `female`, `M`, `male`, `O` or `other` in any case; `None` for anything else, as `unknown`.
    pub fn parse(text: &str) -> Option<Sex> {
        match text.trim().to_ascii_lowercase().as_str() {
            "f" | "female" => Some(Sex::Female),
            "m" | "male" => Some(Sex::Male),
            "o" | "other" => Some(Sex::Other),
            _ => None,
        }
    }
}

impl fmt::Display for Sex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Sex::Female => "F",
            Sex::Male => "M",
            Sex::Other => "O",
        })
    }
}

/// Nobody became older; tables hold ages such as 414, which are slips of a pen.
const OLDEST: f64 = 122.0;

/// Age in completed years. Understands years (`57`, `57.0`, `50+`, which counts as 50) and DICOM's age strings (`058Y`,
/// `013M`, `006W`, `021D`); `None` for anything else, and for more than 122 years.
pub fn age_in_years(text: &str) -> Option<u16> {
    let text = text.trim();
    let (digits, years) = match text.char_indices().last()? {
        (end, 'Y' | 'y' | '+') => (&text[..end], 1.0),
        (end, 'M' | 'm') => (&text[..end], 1.0 / 12.0),
        (end, 'W' | 'w') => (&text[..end], 7.0 / 365.25),
        (end, 'D' | 'd') => (&text[..end], 1.0 / 365.25),
        _ => (text, 1.0),
    };
    // Rust's parser of numbers also takes `inf`, `nan` and signs.
    if !digits.chars().all(|c| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let age = digits.parse::<f64>().ok()? * years;
    (age <= OLDEST).then_some(age as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_as_tables_write_them() {
        for (text, years) in
            [("57", 57), ("57.0", 57), ("50+", 50), ("058Y", 58), ("013M", 1), ("021D", 0), (" 0 ", 0), ("122", 122)]
        {
            assert_eq!(age_in_years(text), Some(years), "{text}");
        }
        for text in ["", "414", "414Y", "-3", "nan", "inf", "old", "Y", "1e1", "5 to 6"] {
            assert_eq!(age_in_years(text), None, "{text}");
        }
    }

    #[test]
    fn sexes_as_tables_write_them() {
        for (text, sex) in [("F", "F"), ("female", "F"), ("Male", "M"), ("m ", "M"), ("O", "O")] {
            assert_eq!(Sex::parse(text).unwrap().to_string(), sex);
        }
        assert_eq!(Sex::parse("Unknown"), None);
    }
}
