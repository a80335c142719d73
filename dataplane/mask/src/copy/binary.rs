//! COPY's binary format: a header, then rows of length-prefixed fields as in DataRow, then a trailer.

use super::{ROW_BYTES_MAX, Row};
use crate::error::MaskError;
use crate::prefilter;
use crate::rows::rewrite_fields;

const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";
const HEAD: usize = 19;
/// Its lower half may hold flags that change nothing; the upper half may not (bit 16: OIDs in the rows).
const CRITICAL_FLAGS: u32 = 0xffff_0000;

#[derive(Debug, Default)]
pub(super) struct Splitter {
    headed: bool,
    done: bool,
}

impl Splitter {
    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    /// Takes the header, one row or the trailer from the front of `bytes`; 0 when it is not all there.
    pub(super) fn row(
        &mut self,
        bytes: &[u8],
        row: &mut Row<'_>,
        out: &mut Vec<u8>,
    ) -> Result<usize, MaskError> {
        if self.done {
            return if bytes.is_empty() {
                Ok(0)
            } else {
                Err(MaskError::Copy("data after the trailer"))
            };
        }
        if !self.headed {
            return self.header(bytes, out);
        }
        let Some(count) = bytes.first_chunk::<2>().map(|c| i16::from_be_bytes(*c)) else {
            return Ok(0);
        };
        if count == -1 {
            self.done = true;
            out.extend_from_slice(&count.to_be_bytes());
            return Ok(2);
        }
        let fields = usize::try_from(count).map_err(|_| MaskError::Copy("a negative number of fields"))?;
        row.check_count(fields)?;
        let mut end = 2;
        for column in 0..fields {
            let Some(length) = bytes
                .get(end..)
                .and_then(|b| b.first_chunk::<4>())
                .map(|l| i32::from_be_bytes(*l))
            else {
                return Ok(0);
            };
            let length = if length == -1 {
                0
            } else {
                usize::try_from(length).map_err(|_| MaskError::FieldLength { column })?
            };
            end = end.saturating_add(4).saturating_add(length);
            if end > ROW_BYTES_MAX {
                return Err(MaskError::RowTooLong {
                    bytes: end,
                    max: ROW_BYTES_MAX,
                });
            }
        }
        let Some(whole) = bytes.get(..end) else {
            return Ok(0);
        };
        row.stats.rows += 1;
        out.extend_from_slice(&count.to_be_bytes());
        let Some(caller) = &row.plan.caller else {
            return Err(MaskError::Copy("no plan"));
        };
        row.scratch.candidates.clear();
        prefilter::candidates(caller.inner.kinds, whole, 0, end, &mut row.scratch.candidates);
        let (columns, mut head) = (&row.plan.columns, 0);
        row.stats.masked +=
            rewrite_fields(columns, &caller.inner, &mut row.scratch, &mut head, whole, 2, out)?;
        Ok(end)
    }

    fn header(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<usize, MaskError> {
        let Some(head) = bytes.first_chunk::<HEAD>() else {
            return Ok(0);
        };
        let [s @ .., f0, f1, f2, f3, e0, e1, e2, e3] = head;
        if s != SIGNATURE {
            return Err(MaskError::Copy("no signature of the binary format"));
        }
        if u32::from_be_bytes([*f0, *f1, *f2, *f3]) & CRITICAL_FLAGS != 0 {
            return Err(MaskError::Copy("unknown critical flags"));
        }
        // An extension of the header would be passed unread: none is defined.
        if u32::from_be_bytes([*e0, *e1, *e2, *e3]) != 0 {
            return Err(MaskError::Copy("an extension of the header"));
        }
        self.headed = true;
        out.extend_from_slice(head);
        Ok(HEAD)
    }
}
