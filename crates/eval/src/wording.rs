//! Numbers and tables as text.

/// `0.92667` as `92.7 %`.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// `0.0123`, or `< 0.0001` below what four decimals show.
pub fn p_value(p: f64) -> String {
    if p < 0.0001 { "< 0.0001".into() } else { format!("{p:.4}") }
}

/// `1 image`, `2 images`.
pub(crate) fn counted(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// Where a column's text stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// One line for each row, columns two spaces apart, widths counted in characters, no spaces at the end of a line.
/// Every row has as many cells as `alignment`.
pub(crate) fn align_columns(rows: &[Vec<String>], alignment: &[Align]) -> Vec<String> {
    let mut widths = vec![0; alignment.len()];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |row: &Vec<String>| {
        let cells: Vec<String> = (row.iter().zip(&widths).zip(alignment))
            .map(|((cell, &width), align)| match align {
                Align::Left => format!("{cell:<width$}"),
                Align::Right => format!("{cell:>width$}"),
            })
            .collect();
        cells.join("  ").trim_end().to_string()
    };
    rows.iter().map(line).collect()
}
