//! COPY's text format: one line a row, a delimiter between fields, backslash escapes.

use super::Row;
use crate::error::MaskError;
use crate::field::Outcome;
use memchr::memchr;

#[derive(Debug)]
pub(super) struct Splitter {
    header: bool,
    /// Bytes of the carried row already searched for its end.
    searched: usize,
}

impl Splitter {
    pub(super) fn new(header: bool) -> Self {
        Splitter { header, searched: 0 }
    }

    /// Takes one row from the front of `bytes`; 0 when it is not all there.
    pub(super) fn row(
        &mut self,
        bytes: &[u8],
        row: &mut Row<'_>,
        out: &mut Vec<u8>,
    ) -> Result<usize, MaskError> {
        let Some(end) =
            memchr(b'\n', bytes.get(self.searched..).unwrap_or_default()).map(|n| n + self.searched)
        else {
            self.searched = bytes.len();
            return Ok(0);
        };
        self.searched = 0;
        let line = bytes.get(..end).unwrap_or_default();
        let untouched = std::mem::take(&mut self.header) || line == b"\\.";
        if !untouched {
            row.stats.rows += 1;
        }
        if untouched || (memchr(b'\\', line).is_none() && row.is_clean(line)) {
            out.extend_from_slice(line);
        } else {
            fields(line, row, out)?;
        }
        out.push(b'\n');
        Ok(end + 1)
    }
}

fn fields(line: &[u8], row: &mut Row<'_>, out: &mut Vec<u8>) -> Result<(), MaskError> {
    if line.is_empty() && row.plan.columns.is_empty() {
        return Ok(());
    }
    let (mut column, mut at) = (0, 0);
    loop {
        let mut end = at;
        let mut escaped = false;
        while let Some(b) = line.get(end) {
            match b {
                b'\\' => {
                    escaped = true;
                    end += 1;
                }
                b if *b == row.shape.delimiter => break,
                _ => {}
            }
            end += 1;
        }
        let end = end.min(line.len());
        let raw = line.get(at..end).unwrap_or_default();
        field(raw, escaped, column, row, out)?;
        column += 1;
        if end == line.len() {
            return row.check_count(column);
        }
        out.push(row.shape.delimiter);
        at = end + 1;
    }
}

fn field(
    raw: &[u8],
    escaped: bool,
    column: usize,
    row: &mut Row<'_>,
    out: &mut Vec<u8>,
) -> Result<(), MaskError> {
    if raw == row.shape.null {
        out.extend_from_slice(raw);
        return Ok(());
    }
    let outcome = if escaped {
        let mut value = std::mem::take(&mut row.value);
        value.clear();
        decode(raw, &mut value);
        let outcome = row.field(column, &value);
        row.value = value;
        outcome?
    } else {
        row.field(column, raw)?
    };
    match outcome {
        Outcome::Unchanged => out.extend_from_slice(raw),
        Outcome::Null => out.extend_from_slice(&row.shape.null),
        Outcome::Changed => encode(&row.new, row.shape.delimiter, out),
    }
    Ok(())
}

/// The escapes that a server writes.
fn decode(raw: &[u8], value: &mut Vec<u8>) {
    let mut bytes = raw.iter();
    while let Some(b) = bytes.next() {
        value.push(match b {
            b'\\' => match bytes.next() {
                Some(b'b') => 8,
                Some(b'f') => 12,
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                Some(b't') => b'\t',
                Some(b'v') => 11,
                Some(other) => *other,
                None => b'\\',
            },
            other => *other,
        });
    }
}

fn encode(value: &[u8], delimiter: u8, out: &mut Vec<u8>) {
    for b in value {
        let short = match b {
            8 => b'b',
            12 => b'f',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            11 => b'v',
            b'\\' => b'\\',
            b if *b == delimiter => *b,
            _ => {
                out.push(*b);
                continue;
            }
        };
        out.extend_from_slice(&[b'\\', short]);
    }
}
