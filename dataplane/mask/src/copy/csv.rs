//! COPY's CSV format: quotes, escapes, newlines inside quotes.

use super::{Row, Shape};
use crate::error::MaskError;
use crate::field::Outcome;

#[derive(Debug)]
pub(super) struct Splitter {
    header: bool,
    /// Bytes of the carried row already looked at, and where that left off.
    searched: usize,
    quoted: bool,
    escaped: bool,
}

impl Splitter {
    pub(super) fn new(header: bool) -> Self {
        Splitter {
            header,
            searched: 0,
            quoted: false,
            escaped: false,
        }
    }

    /// Takes one row from the front of `bytes`; 0 when it is not all there.
    pub(super) fn row(
        &mut self,
        bytes: &[u8],
        row: &mut Row<'_>,
        out: &mut Vec<u8>,
    ) -> Result<usize, MaskError> {
        let Some(end) = self.end(bytes, row.shape) else {
            return Ok(0);
        };
        let line = bytes.get(..end).unwrap_or_default();
        let header = std::mem::take(&mut self.header);
        if !header {
            row.stats.rows += 1;
        }
        if header || (!line.contains(&row.shape.quote) && row.is_clean(line)) {
            out.extend_from_slice(line);
        } else {
            fields(line, row, out)?;
        }
        out.push(b'\n');
        Ok(end + 1)
    }

    fn end(&mut self, bytes: &[u8], shape: &Shape) -> Option<usize> {
        for (i, b) in bytes.iter().enumerate().skip(self.searched) {
            if self.escaped {
                self.escaped = false;
            } else if self.quoted && *b == shape.escape && shape.escape != shape.quote {
                self.escaped = true;
            } else if *b == shape.quote {
                // A doubled quote closes and opens again.
                self.quoted = !self.quoted;
            } else if *b == b'\n' && !self.quoted {
                self.searched = 0;
                return Some(i);
            }
        }
        self.searched = bytes.len();
        None
    }
}

fn fields(line: &[u8], row: &mut Row<'_>, out: &mut Vec<u8>) -> Result<(), MaskError> {
    if line.is_empty() && row.plan.columns.is_empty() {
        return Ok(());
    }
    let (mut column, mut at) = (0, 0);
    let mut value = std::mem::take(&mut row.value);
    loop {
        value.clear();
        let (end, was_quoted) = decode(line, at, row.shape, &mut value);
        let raw = line.get(at..end).unwrap_or_default();
        let is_null = !was_quoted && raw == row.shape.null;
        match if is_null {
            Outcome::Unchanged
        } else {
            row.field(column, &value)?
        } {
            Outcome::Unchanged => out.extend_from_slice(raw),
            Outcome::Null => out.extend_from_slice(&row.shape.null),
            Outcome::Changed => encode(&row.new, was_quoted, row.shape, out),
        }
        column += 1;
        if end >= line.len() {
            row.value = value;
            return row.check_count(column);
        }
        out.push(row.shape.delimiter);
        at = end + 1;
    }
}

/// Decodes the field at `at`; answers where it ends and whether any of it was quoted.
fn decode(line: &[u8], at: usize, shape: &Shape, value: &mut Vec<u8>) -> (usize, bool) {
    let (mut pos, mut quoted, mut any) = (at, false, false);
    while let Some(b) = line.get(pos).copied() {
        let next = line.get(pos + 1).copied();
        if quoted && b == shape.escape && (next == Some(shape.quote) || next == Some(shape.escape)) {
            value.extend(next);
            pos += 2;
            continue;
        }
        if b == shape.quote {
            quoted = !quoted;
            any = true;
        } else if b == shape.delimiter && !quoted {
            return (pos, any);
        } else {
            value.push(b);
        }
        pos += 1;
    }
    (line.len(), any)
}

fn encode(value: &[u8], was_quoted: bool, shape: &Shape, out: &mut Vec<u8>) {
    let special = |b: &u8| *b == shape.delimiter || *b == shape.quote || matches!(b, b'\n' | b'\r');
    if !was_quoted && !value.iter().any(special) && value != shape.null && value != b"\\." {
        out.extend_from_slice(value);
        return;
    }
    out.push(shape.quote);
    for b in value {
        if *b == shape.quote || *b == shape.escape {
            out.push(shape.escape);
        }
        out.push(*b);
    }
    out.push(shape.quote);
}
