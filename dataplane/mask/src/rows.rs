//! Rewrites runs of DataRow messages.
//!
//! The prefilter goes over the run in blocks, framing bytes included. A row without a proposed position and without a
//! column that changes in every row is copied in one span with its neighbours; its fields are not walked. All others are
//! walked field by field and written with new lengths.
//!
//! Bounds: working memory is at most eight bytes per byte of the longest row plus one block; the output of a row is at
//! most `i32::MAX` bytes.

use crate::caller::CallerInner;
use crate::error::MaskError;
use crate::field::{Hit, Outcome, apply};
use crate::plan::{ColumnAction, Plan};
use crate::prefilter;

/// Bytes that the prefilter goes ahead of the rows.
const BLOCK: usize = 16 << 10;
/// Tag, length, number of fields.
const ROW_HEAD: usize = 7;

/// Working memory of [`Plan::mask_run`]; one per core or session, used again and again.
#[derive(Debug, Default)]
pub struct Scratch {
    pub(crate) candidates: Vec<usize>,
    pub(crate) hits: Vec<Hit>,
    value: Vec<u8>,
}

/// What covering a run of rows came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunStats {
    /// How many rows there were.
    pub rows: u64,
    /// Fields that were changed.
    pub masked: u64,
}

impl Plan {
    /// `run`: one or more complete DataRow messages, tags and lengths included. Appends them, masked, to `out`. On an error
    /// nothing that was appended is unmasked, but the last row may be incomplete: the session must end.
    pub fn mask_run(
        &self,
        scratch: &mut Scratch,
        run: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<RunStats, MaskError> {
        let Some(caller) = &self.caller else {
            out.extend_from_slice(run);
            return Ok(RunStats::default());
        };
        let inner = &*caller.inner;
        let mut stats = RunStats::default();
        out.reserve(run.len());
        scratch.candidates.clear();
        let (mut at, mut copied, mut scanned, mut head) = (0, 0, 0, 0);
        while at < run.len() {
            let end = self.row_end(run, at)?;
            if self.scans && scanned < end {
                scratch.candidates.drain(..head.min(scratch.candidates.len()));
                head = 0;
                let to = run.len().min(end.max(scanned.saturating_add(BLOCK)));
                prefilter::candidates(inner.kinds, run, scanned, to, &mut scratch.candidates);
                scanned = to;
            }
            while scratch.candidates.get(head).is_some_and(|c| *c < at) {
                head += 1;
            }
            stats.rows += 1;
            if self.every_row || scratch.candidates.get(head).is_some_and(|c| *c < end) {
                out.extend_from_slice(run.get(copied..at).unwrap_or_default());
                stats.masked += self.rewrite(inner, scratch, &mut head, run, at..end, out)?;
                copied = end;
            }
            at = end;
        }
        out.extend_from_slice(run.get(copied..).unwrap_or_default());
        Ok(stats)
    }

    fn row_end(&self, run: &[u8], at: usize) -> Result<usize, MaskError> {
        let [b'D', l0, l1, l2, l3, c0, c1] = *run
            .get(at..)
            .and_then(|r| r.first_chunk::<ROW_HEAD>())
            .ok_or(MaskError::NotARow { at })?
        else {
            return Err(MaskError::NotARow { at });
        };
        let length =
            usize::try_from(i32::from_be_bytes([l0, l1, l2, l3])).map_err(|_| MaskError::NotARow { at })?;
        let end = at + 1 + length;
        if length < 6 || end > run.len() {
            return Err(MaskError::NotARow { at });
        }
        let found = usize::from(u16::from_be_bytes([c0, c1]));
        if found != self.columns.len() {
            return Err(MaskError::FieldCount {
                planned: self.columns.len(),
                found,
            });
        }
        Ok(end)
    }

    fn rewrite(
        &self,
        inner: &CallerInner,
        scratch: &mut Scratch,
        head: &mut usize,
        run: &[u8],
        row: std::ops::Range<usize>,
        out: &mut Vec<u8>,
    ) -> Result<u64, MaskError> {
        let begun = out.len();
        out.extend_from_slice(run.get(row.start..row.start + ROW_HEAD).unwrap_or_default());
        let fields = run.get(..row.end).unwrap_or_default();
        let masked = rewrite_fields(
            &self.columns,
            inner,
            scratch,
            head,
            fields,
            row.start + ROW_HEAD,
            out,
        )?;
        let bytes = out.len() - begun - 1;
        let length = i32::try_from(bytes).map_err(|_| MaskError::RowTooLong {
            bytes,
            max: i32::MAX as usize,
        })?;
        if let Some(slot) = out.get_mut(begun + 1..begun + 5) {
            slot.copy_from_slice(&length.to_be_bytes());
        }
        Ok(masked)
    }
}

/// Walks the length-prefixed fields in `bytes[at..]`, which they must fill, and appends them, masked. `head` indexes the
/// first candidate (positions in `bytes`) not yet used.
pub(crate) fn rewrite_fields(
    columns: &[ColumnAction],
    inner: &CallerInner,
    scratch: &mut Scratch,
    head: &mut usize,
    bytes: &[u8],
    mut at: usize,
    out: &mut Vec<u8>,
) -> Result<u64, MaskError> {
    let Scratch {
        candidates,
        hits,
        value: new,
    } = scratch;
    let mut masked = 0;
    let mut copied = at;
    for (column, action) in columns.iter().enumerate() {
        let wrong = MaskError::FieldLength { column };
        let length = i32::from_be_bytes(
            *bytes
                .get(at..)
                .and_then(|b| b.first_chunk::<4>())
                .ok_or(wrong.clone())?,
        );
        let start = at + 4;
        if length == -1 {
            at = start;
            continue;
        }
        let end = start + usize::try_from(length).map_err(|_| wrong.clone())?;
        let value = bytes.get(start..end).ok_or(wrong)?;
        while candidates.get(*head).is_some_and(|c| *c < start) {
            *head += 1;
        }
        let mut last = *head;
        while candidates.get(last).is_some_and(|c| *c < end) {
            last += 1;
        }
        let own = candidates.get(*head..last).unwrap_or_default();
        *head = last;
        new.clear();
        let outcome = apply(inner, *action, value, own.iter().map(|c| c - start), hits, new);
        if outcome != Outcome::Unchanged {
            masked += 1;
            out.extend_from_slice(bytes.get(copied..at).unwrap_or_default());
            if outcome == Outcome::Null {
                out.extend_from_slice(&(-1i32).to_be_bytes());
            } else {
                let length = i32::try_from(new.len()).map_err(|_| MaskError::RowTooLong {
                    bytes: new.len(),
                    max: i32::MAX as usize,
                })?;
                out.extend_from_slice(&length.to_be_bytes());
                out.extend_from_slice(new);
            }
            copied = end;
        }
        at = end;
    }
    if at != bytes.len() {
        return Err(MaskError::FieldLength {
            column: columns.len(),
        });
    }
    out.extend_from_slice(bytes.get(copied..).unwrap_or_default());
    Ok(masked)
}
