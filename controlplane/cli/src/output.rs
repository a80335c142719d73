//! Lists, in the three forms. Text from elsewhere (statements, names) loses its control characters before a terminal
//! sees it: a statement must not be able to repaint the screen of the person who approves it.

use crate::args::Output;
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;
use std::io::Write;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A column: its heading, and where its value is in a row (`/who/principal`).
pub type Column = (&'static str, &'static str);

/// Prints rows. For JSON the rows are printed whole, columns or not.
pub fn list(output: Output, columns: &[Column], rows: &[Value]) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    match output {
        Output::Json => {
            serde_json::to_writer_pretty(&mut out, rows)?;
            writeln!(out)
        }
        Output::Jsonl => rows.iter().try_for_each(|row| writeln!(out, "{row}")),
        Output::Table => writeln!(out, "{}", table(columns, rows)),
    }
}

/// Prints one object: as it is, or field by field.
pub fn one(output: Output, fields: &[Column], row: &Value) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    match output {
        Output::Json => {
            serde_json::to_writer_pretty(&mut out, row)?;
            writeln!(out)
        }
        Output::Jsonl => writeln!(out, "{row}"),
        Output::Table => {
            let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
            for (name, pointer) in fields {
                let text = cell(row.pointer(pointer));
                if !text.is_empty() {
                    writeln!(out, "{name:width$}  {text}")?;
                }
            }
            Ok(())
        }
    }
}

fn table(columns: &[Column], rows: &[Value]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(columns.iter().map(|(name, _)| *name));
    for row in rows {
        table.add_row(
            columns
                .iter()
                .map(|(_, pointer)| shorten(&cell(row.pointer(pointer)))),
        );
    }
    table
}

/// The text of a value, in one line.
fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(s)) => printable(s),
        Some(Value::Array(items)) => items.iter().map(|i| cell(Some(i))).collect::<Vec<_>>().join(", "),
        Some(other) => printable(&other.to_string()),
    }
}

const CELL_CHARS_MAX: usize = 200;

fn shorten(text: &str) -> String {
    if text.chars().count() <= CELL_CHARS_MAX {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(CELL_CHARS_MAX).collect();
    cut.push('…');
    cut
}

/// What cannot be seen, or changes how its neighbours are seen, is written as an escape.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let reorders = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200b}'..='\u{200f}' | '\u{feff}');
        if c == '\n' || c == '\t' {
            out.push(' ');
        } else if c.is_control() || reorders {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// As [`printable`], but line breaks stay: for a statement that is shown in full.
pub fn printable_lines(text: &str) -> String {
    text.split('\n')
        .map(|line| printable(line.trim_end_matches('\r')))
        .collect::<Vec<_>>()
        .join("\n")
}

/// In red where a person reads it.
pub fn warning(text: &str) -> String {
    if std::io::IsTerminal::is_terminal(&std::io::stdout()) {
        format!("\x1b[1;31m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

/// Unix milliseconds as RFC 3339 in UTC, to the second.
pub fn time(unix_ms: u64) -> String {
    i64::try_from(unix_ms / 1_000)
        .ok()
        .and_then(|s| OffsetDateTime::from_unix_timestamp(s).ok()?.format(&Rfc3339).ok())
        .unwrap_or_else(|| format!("{unix_ms} ms after 1970"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_cannot_repaint_the_reviewers_screen() {
        let nasty = "DROP TABLE t;\u{1b}[2K\rSELECT 1 \u{202e}x";
        let shown = printable(nasty);
        assert!(!shown.contains('\u{1b}') && !shown.contains('\r') && !shown.contains('\u{202e}'));
        assert!(shown.contains("DROP TABLE t;"));
    }

    #[test]
    fn times_are_written_as_rfc_3339() {
        assert_eq!(time(0), "1970-01-01T00:00:00Z");
        assert_eq!(time(951_782_400_000), "2000-02-29T00:00:00Z");
        assert_eq!(time(1_795_244_400_000), "2026-11-21T07:00:00Z");
    }
}
