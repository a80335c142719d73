//! Masks the byte stream of COPY … TO STDOUT. CopyData boundaries carry no meaning: the stream is cut into rows here.
//!
//! Bounds: one row, at most [`ROW_BYTES_MAX`], is carried from one payload to the next; a longer one is an error.

mod binary;
mod csv;
mod text;

use crate::error::MaskError;
use crate::field::{Outcome, apply_alone};
use crate::plan::{ColumnAction, Plan};
use crate::prefilter;
use crate::rows::{RunStats, Scratch};
use headgate_sql::{Copy, CopyFormat};

/// The longest row that is masked.
pub const ROW_BYTES_MAX: usize = 16 << 20;

/// Covers the data of COPY TO STDOUT as it comes, in pieces of any length.
#[derive(Debug)]
pub struct CopyMasker {
    plan: Plan,
    shape: Shape,
    rows: Rows,
    carry: Vec<u8>,
    stats: RunStats,
}

/// How the statement said the rows are written.
#[derive(Debug)]
struct Shape {
    delimiter: u8,
    quote: u8,
    escape: u8,
    null: Vec<u8>,
}

#[derive(Debug)]
enum Rows {
    Text(text::Splitter),
    Csv(csv::Splitter),
    Binary(binary::Splitter),
}

/// What every format needs to write one row.
struct Row<'a> {
    plan: &'a Plan,
    shape: &'a Shape,
    stats: &'a mut RunStats,
    scratch: Scratch,
    value: Vec<u8>,
    new: Vec<u8>,
}

impl CopyMasker {
    /// `plan`: of [`Plan::for_copy`], or of [`Plan::for_rows`] with the format's code. Refuses an ENCODING other than UTF8.
    pub fn new(plan: Plan, copy: &Copy) -> Result<CopyMasker, MaskError> {
        let utf8 = |name: &str| {
            ["utf8", "utf-8", "unicode"]
                .iter()
                .any(|n| n.eq_ignore_ascii_case(name))
        };
        if !plan.is_pass()
            && copy.format != CopyFormat::Binary
            && copy.encoding.as_deref().is_some_and(|e| !utf8(e))
        {
            return Err(MaskError::Copy("an encoding other than UTF8 cannot be masked"));
        }
        let rows = match copy.format {
            CopyFormat::Text => Rows::Text(text::Splitter::new(copy.header)),
            CopyFormat::Csv => Rows::Csv(csv::Splitter::new(copy.header)),
            CopyFormat::Binary => Rows::Binary(binary::Splitter::default()),
        };
        let shape = Shape {
            delimiter: copy.delimiter,
            quote: copy.quote,
            escape: copy.escape,
            null: copy.null.clone(),
        };
        Ok(CopyMasker {
            plan,
            shape,
            rows,
            carry: Vec::new(),
            stats: RunStats::default(),
        })
    }

    /// `payload`: of one CopyData message, without tag and length. Appends masked payload bytes to `out`, whole rows only;
    /// it may be nothing.
    pub fn data(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), MaskError> {
        if self.plan.is_pass() {
            out.extend_from_slice(payload);
            return Ok(());
        }
        self.carry.extend_from_slice(payload);
        let mut row = Row {
            plan: &self.plan,
            shape: &self.shape,
            stats: &mut self.stats,
            scratch: Scratch::default(),
            value: Vec::new(),
            new: Vec::new(),
        };
        let mut at = 0;
        loop {
            let rest = self.carry.get(at..).unwrap_or_default();
            let used = match &mut self.rows {
                Rows::Text(s) => s.row(rest, &mut row, out)?,
                Rows::Csv(s) => s.row(rest, &mut row, out)?,
                Rows::Binary(s) => s.row(rest, &mut row, out)?,
            };
            if used == 0 {
                break;
            }
            at += used;
        }
        self.carry.drain(..at.min(self.carry.len()));
        if self.carry.len() > ROW_BYTES_MAX {
            return Err(MaskError::RowTooLong {
                bytes: self.carry.len(),
                max: ROW_BYTES_MAX,
            });
        }
        Ok(())
    }

    /// At CopyDone. A stream that ends inside a row is an error; nothing of that row was given out.
    pub fn finish(&mut self, _out: &mut Vec<u8>) -> Result<RunStats, MaskError> {
        let ended = match &self.rows {
            Rows::Binary(s) => s.is_done(),
            Rows::Text(_) | Rows::Csv(_) => true,
        };
        if !self.plan.is_pass() && (!self.carry.is_empty() || !ended) {
            return Err(MaskError::Copy("the data ends inside a row"));
        }
        Ok(self.stats)
    }
}

impl Row<'_> {
    /// No field of this row can change: it may be copied as it is.
    fn is_clean(&mut self, row: &[u8]) -> bool {
        let Some(caller) = self.plan.caller.as_ref().filter(|_| !self.plan.every_row) else {
            return false;
        };
        self.scratch.candidates.clear();
        prefilter::candidates(
            caller.inner.kinds,
            row,
            0,
            row.len(),
            &mut self.scratch.candidates,
        );
        self.scratch.candidates.is_empty()
    }

    /// Masks one decoded field; its new value is in `new` when it changed.
    fn field(&mut self, column: usize, value: &[u8]) -> Result<Outcome, MaskError> {
        let found = column + 1;
        let wrong = MaskError::FieldCount {
            planned: self.plan.columns.len(),
            found,
        };
        let action: ColumnAction = *self.plan.columns.get(column).ok_or(wrong)?;
        let Some(caller) = &self.plan.caller else {
            return Ok(Outcome::Unchanged);
        };
        self.new.clear();
        let outcome = apply_alone(&caller.inner, action, value, &mut self.scratch, &mut self.new);
        self.stats.masked += u64::from(outcome != Outcome::Unchanged);
        Ok(outcome)
    }

    fn check_count(&self, found: usize) -> Result<(), MaskError> {
        let planned = self.plan.columns.len();
        if planned == found {
            Ok(())
        } else {
            Err(MaskError::FieldCount { planned, found })
        }
    }
}
