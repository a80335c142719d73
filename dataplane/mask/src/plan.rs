//! The mask plan of one result: an action per column, and the rewriting of its rows.

use crate::caller::Caller;
use crate::error::MaskError;
use headgate_plane::MaskMethod;
use headgate_sql::{Copy, Statement};

/// One column as RowDescription tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ColumnOrigin<'a> {
    pub name: &'a str,
    pub table_oid: u32,
    pub column: i16,
    pub type_oid: u32,
    /// 0 text, 1 binary. Of a portal: what Bind asked for, not what RowDescription of the statement says.
    pub format: u16,
}

/// What is known of the statement that makes the rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// [`crate::Exposure::may_compute`] of the statement (of all statements of one simple Query).
    pub may_compute: bool,
    /// Its class has `opaque`.
    pub opaque: bool,
    /// False: its facts are not known. Everything not plainly from an unlabelled column is covered.
    pub known: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnAction {
    Pass,
    Scan,
    Mask(MaskMethod),
    Null,
}

#[derive(Clone, Debug)]
pub struct Plan {
    columns: Vec<ColumnAction>,
    caller: Option<Caller>,
}

/// Working memory of [`Plan::mask_run`]; one per core or session, used again and again.
#[derive(Debug, Default)]
pub struct Scratch {}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunStats {
    pub rows: u64,
    /// Fields that were changed.
    pub masked: u64,
}

impl Plan {
    /// Covers nothing, whatever the rows.
    pub fn pass() -> Plan {
        Plan { columns: Vec::new(), caller: None }
    }

    pub fn for_rows(caller: &Caller, origins: &[ColumnOrigin<'_>], _hints: Hints) -> Plan {
        if caller.is_free() {
            return Plan::pass();
        }
        Plan { columns: vec![ColumnAction::Null; origins.len()], caller: Some(caller.clone()) }
    }

    /// For the CopyOutResponse of `copy`; `statement` is the COPY's own facts, `None` if not known.
    pub fn for_copy(caller: &Caller, _copy: &Copy, _statement: Option<&Statement>, columns: usize) -> Plan {
        if caller.is_free() {
            return Plan::pass();
        }
        Plan { columns: vec![ColumnAction::Null; columns], caller: Some(caller.clone()) }
    }

    /// True: rows may be forwarded as they are.
    pub fn is_pass(&self) -> bool {
        self.caller.is_none()
    }

    pub fn columns(&self) -> &[ColumnAction] {
        &self.columns
    }

    /// `run`: one or more complete DataRow messages, tags and lengths included. Appends them, masked, to `out`.
    pub fn mask_run(&self, _scratch: &mut Scratch, run: &[u8], out: &mut Vec<u8>) -> Result<RunStats, MaskError> {
        if self.is_pass() {
            out.extend_from_slice(run);
            return Ok(RunStats::default());
        }
        Err(MaskError::NotARow { at: 0 })
    }
}
