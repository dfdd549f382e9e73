//! How numbers are written on pages and pictures.

/// A count with a comma at the thousands: `11,375,554`.
pub(crate) fn thousands(count: usize) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A share in `[0, 1]` as a percentage with one decimal: `92.7 %`, the space unbreakable.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.1}\u{a0}%", share * 100.0)
}

/// Four decimals, as metrics and losses are given; an exponent where that would show no digit of the value.
pub(crate) fn four_decimals(value: f64) -> String {
    if value != 0.0 && (value.abs() < 1e-3 || value.abs() >= 1e6) {
        format!("{value:.2e}")
    } else {
        format!("{value:.4}")
    }
}

/// `1 image`, `2 images`: a count with its noun; the plural is formed with an `s`.
pub(crate) fn counted(count: usize, noun: &str) -> String {
    format!("{} {noun}{}", thousands(count), if count == 1 { "" } else { "s" })
}

/// A span of time: `48 s`, `12 min 30 s`, `1 h 20 min`.
pub(crate) fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        0..=119 => format!("{whole} s"),
        120..=3599 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

/// The names in prose: `a`, `a and b`, `a, b and c`.
pub(crate) fn listed<S: AsRef<str>>(names: &[S]) -> String {
    match names {
        [] => String::new(),
        [one] => one.as_ref().to_owned(),
        [head @ .., last] => {
            let head: Vec<&str> = head.iter().map(S::as_ref).collect();
            format!("{} and {}", head.join(", "), last.as_ref())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_shares_and_spans_read_as_prose() {
        assert_eq!([0, 999, 1000, 11_375_554].map(thousands), ["0", "999", "1,000", "11,375,554"]);
        assert_eq!(percent(0.92667), "92.7\u{a0}%");
        assert_eq!(counted(1, "image"), "1 image");
        assert_eq!(counted(1500, "image"), "1,500 images");
        assert_eq!([48.4, 750.0, 4820.0].map(duration), ["48 s", "12 min 30 s", "1 h 20 min"]);
        assert_eq!(listed(&["a", "b", "c"]), "a, b and c");
    }

    #[test]
    fn small_values_keep_a_digit() {
        assert_eq!(four_decimals(0.90351), "0.9035");
        assert_eq!(four_decimals(0.000_012_3), "1.23e-5");
        assert_eq!(four_decimals(0.0), "0.0000");
    }
}
