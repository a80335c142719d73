//! Masks the byte stream of COPY … TO STDOUT. CopyData boundaries carry no meaning.

use crate::error::MaskError;
use crate::plan::{Plan, RunStats};
use headgate_sql::Copy;

#[derive(Debug)]
pub struct CopyMasker {
    plan: Plan,
    stats: RunStats,
}

impl CopyMasker {
    /// `plan`: of [`Plan::for_copy`]. Refuses an ENCODING other than UTF8.
    pub fn new(plan: Plan, _copy: &Copy) -> Result<CopyMasker, MaskError> {
        Ok(CopyMasker { plan, stats: RunStats::default() })
    }

    /// `payload`: of one CopyData message, without tag and length. Appends masked payload bytes to `out`, whole rows only;
    /// it may be nothing.
    pub fn data(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), MaskError> {
        if self.plan.is_pass() {
            out.extend_from_slice(payload);
            return Ok(());
        }
        Err(MaskError::Copy("not masked yet"))
    }

    /// At CopyDone.
    pub fn finish(&mut self, _out: &mut Vec<u8>) -> Result<RunStats, MaskError> {
        Ok(self.stats)
    }
}
