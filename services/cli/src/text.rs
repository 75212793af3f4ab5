//! How values look to people: tables, times, sizes. Text that a person typed is shown without
//! control characters, so that a hostile name cannot move the cursor or forge a line.

use std::fmt::Write as _;

/// A table with a heading, columns aligned, two spaces apart.
#[must_use]
pub fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = headings.iter().map(|heading| heading.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = line(&widths, headings.iter().copied());
    for row in rows {
        out.push_str(&line(&widths, row.iter().map(String::as_str)));
    }
    out
}

fn line<'a>(widths: &[usize], cells: impl Iterator<Item = &'a str>) -> String {
    let mut line = String::new();
    for (cell, width) in cells.zip(widths) {
        // Padding by characters: `{:<width$}` does the same for text without wide characters. A line break
        // in a cell would look like a row.
        let cell = safe(cell).replace('\n', "·");
        write!(line, "{cell:<width$}  ").ok();
    }
    format!("{}\n", line.trim_end())
}

/// Pairs of a name and a value, one a line, values aligned; empty values are left out.
#[must_use]
pub fn fields(pairs: &[(&str, String)]) -> String {
    let shown: Vec<_> = pairs.iter().filter(|(_, value)| !value.is_empty()).collect();
    let width = shown.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    // A further line of a value is set in, so that none looks like a field.
    let further = format!("\n{}", " ".repeat(width + 2));
    let value = |text: &str| safe(text.trim_end_matches('\n')).replace('\n', &further);
    shown.iter().map(|(name, text)| format!("{name:<width$}  {}\n", value(text))).collect()
}

/// An instant in UTC, to the second; empty for 0 (not given).
#[must_use]
pub fn time(micros: i64) -> String {
    match jiff::Timestamp::from_microsecond(micros) {
        Ok(at) if micros != 0 => at.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
        _ => String::new(),
    }
}

/// An instant in UTC, time of day alone, to the millisecond.
#[must_use]
pub fn clock(micros: i64) -> String {
    jiff::Timestamp::from_microsecond(micros)
        .map(|at| at.strftime("%H:%M:%S%.3f").to_string())
        .unwrap_or_default()
}

/// A number of bytes in binary units.
#[must_use]
pub fn size(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}

/// Text from elsewhere, fit for a terminal: control characters and those that turn the direction of
/// writing are shown as `·`; line breaks stay.
#[must_use]
pub fn safe(text: &str) -> String {
    let hostile = |c: char| {
        (c.is_control() && c != '\n' && c != '\t')
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
    };
    text.chars().map(|c| if hostile(c) { '·' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = vec![vec!["a".to_owned(), "long one".to_owned()], vec!["bcd".to_owned(), "é".to_owned()]];
        assert_eq!(table(&["id", "name"], &rows), "id   name\na    long one\nbcd  é\n");
        assert_eq!(
            fields(&[("a", "1".into()), ("none", String::new()), ("long", "2".into())]),
            "a     1\nlong  2\n"
        );
    }

    #[test]
    fn times_and_sizes_read_well() {
        assert_eq!(time(0), "");
        assert_eq!(time(1_700_000_000_000_000), "2023-11-14 22:13:20Z");
        assert_eq!(time(i64::MAX), "");
        assert_eq!(clock(1_700_000_000_123_456), "22:13:20.123");
        assert_eq!(size(3 * 1024 * 1024), "3.00 MiB");
    }

    #[test]
    fn hostile_text_is_defused() {
        assert_eq!(safe("a\u{1b}[31mb\u{202e}c\r\nd"), "a·[31mb·c·\nd");
        let rows = vec![vec!["a\nb".to_owned(), "c\u{0}".to_owned()]];
        assert_eq!(table(&["id", "name"], &rows), "id   name\na·b  c·\n");
        let forged = fields(&[("name", "x\nstate  forged".to_owned()), ("to", "ca".to_owned())]);
        assert_eq!(forged, "name  x\n      state  forged\nto    ca\n");
    }
}
