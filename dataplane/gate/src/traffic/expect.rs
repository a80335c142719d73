//! What the target still owes, in order.
//!
//! Each message sent to the target puts in what its answer will be; the target's answers take them out again. After an
//! error in extended use the target skips to Sync, and so does this queue.
//! Bounds: [`EXPECT_MAX`]; at it the client is not read.

use super::names::Prepared;
use super::run::RunRef;
use crate::denial::Denial;
use std::collections::VecDeque;
use std::rc::Rc;

pub const EXPECT_MAX: usize = 4096;

pub enum Expect {
    /// `1`. Commits one names operation.
    Parse,
    /// `t`, then `T` or `n`: our own Describe behind a Parse; the client does not see the answer.
    OwnDescribe(Rc<Prepared>),
    /// `2`. Commits one names operation.
    Bind(RunRef),
    /// `t`, then `T` or `n`.
    DescribeStatement(Option<Rc<Prepared>>),
    /// `T` or `n`.
    DescribePortal(Option<RunRef>),
    /// Rows, COPY, then `C`, `I` or `s`.
    Execute { run: RunRef, ops: usize },
    /// `3`. Commits one names operation.
    Close,
    /// `Z`.
    Sync,
    /// A whole simple Query, to `Z`.
    Simple(RunRef),
    /// `V`, then `Z`.
    Function(RunRef),
    /// Our own message that must fail where a denied one stood (extended use); the client gets `denial` for the target's error.
    Refused { denial: Box<Denial>, run: Option<RunRef> },
    /// The same for a simple Query, to `Z`.
    RefusedSimple { denial: Box<Denial>, run: Option<RunRef> },
    /// CopyDone or CopyFail went by: owes nothing, marks the place.
    CopyEnd,
    /// Our own catalog query, to `Z`; the client sees nothing of it.
    Catalog,
}

impl Expect {
    /// Whether this entry ends with ReadyForQuery.
    pub fn ends_segment(&self) -> bool {
        matches!(self, Expect::Sync | Expect::Simple(_) | Expect::Function(_) | Expect::RefusedSimple { .. } | Expect::Catalog)
    }

    pub fn run(&self) -> Option<&RunRef> {
        match self {
            Expect::Bind(run) | Expect::Execute { run, .. } | Expect::Simple(run) | Expect::Function(run) => Some(run),
            Expect::RefusedSimple { run, .. } | Expect::Refused { run, .. } => run.as_ref(),
            Expect::DescribePortal(run) => run.as_ref(),
            _ => None,
        }
    }
}

pub type Queue = VecDeque<Expect>;
