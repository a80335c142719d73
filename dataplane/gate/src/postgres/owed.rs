//! What the target owes, in order: a table of `(what it owes, what it said) → step`, and the queue that the table walks.
//!
//! Each message sent to the target puts in what its answer will be; the target's answers take them out again. After an
//! error in extended use the target skips to Sync, and so does this queue. A reply that the table does not expect is
//! [`Step::Unexpected`]: the session ends before a byte of it reaches the client and before anything more is sent.
//!
//! Invariants:
//! - the queue holds exactly what the target owes: [`Owed`] is its only writer;
//! - nothing is sent behind a message that may begin COPY IN before the target has said whether it does: so it is always
//!   known whether a Sync will be answered (it is not, while COPY IN reads) and who will read the next message.
//!
//! Bounds: [`OWED_MAX`]; at it the client is not read.
//! Spec: PostgreSQL, "Message Flow"; `src/backend/tcop/postgres.c`, `src/backend/commands/copyfromparse.c`.

use super::execution::ExecutionRef;
use super::names::Prepared;
use crate::postgres::denial::Denial;
use headgate_postgres::backend::{Backend, TransactionStatus};
use std::collections::VecDeque;
use std::rc::Rc;

/// How much may be owed at once.
pub const OWED_MAX: usize = 4096;

/// What the entry at the front of the queue waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owes {
    /// The queue is empty.
    Nothing,
    /// The answer to Parse.
    Parse,
    /// The answer to Bind.
    Bind,
    /// The answer to Close.
    Close,
    /// Describe of a statement: its parameters come first.
    Parameters,
    /// Describe: RowDescription or NoData.
    Columns,
    /// Execute before its first row.
    Execute,
    /// Rows, or their end.
    ExecuteRows,
    /// What COPY FROM brings after its data.
    ExecuteCopyIn,
    /// Data of COPY TO, or their end.
    ExecuteCopyOut,
    /// COPY TO's completion.
    ExecuteCopyOutEnd,
    /// A simple Query before anything was said.
    Query,
    /// Rows of a query, or their end.
    QueryRows,
    /// What a query's COPY FROM brings after its data.
    QueryCopyIn,
    /// Data of a query's COPY TO, or their end.
    QueryCopyOut,
    /// The completion of a query's COPY TO.
    QueryCopyOutEnd,
    /// One statement of it is complete.
    QueryNext,
    /// A function's result.
    Function,
    /// A function has returned, and its transaction is to be committed.
    FunctionEnd,
    /// ReadyForQuery of a Sync.
    Sync,
    /// Our own message that must fail where a refused one stood in extended use.
    Refusal,
    /// The same for a simple Query.
    QueryRefusal,
    /// It is over, or failed: only ReadyForQuery can follow.
    Ready,
}

impl Owes {
    /// Every row of the table.
    pub const ALL: [Owes; 23] = [
        Owes::Nothing,
        Owes::Parse,
        Owes::Bind,
        Owes::Close,
        Owes::Parameters,
        Owes::Columns,
        Owes::Execute,
        Owes::ExecuteRows,
        Owes::ExecuteCopyIn,
        Owes::ExecuteCopyOut,
        Owes::ExecuteCopyOutEnd,
        Owes::Query,
        Owes::QueryRows,
        Owes::QueryCopyIn,
        Owes::QueryCopyOut,
        Owes::QueryCopyOutEnd,
        Owes::QueryNext,
        Owes::Function,
        Owes::FunctionEnd,
        Owes::Sync,
        Owes::Refusal,
        Owes::QueryRefusal,
        Owes::Ready,
    ];
}

/// What the target said, without what belongs to no entry (notices, notifications, parameters).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// `ParseComplete`.
    ParseComplete,
    /// `BindComplete`.
    BindComplete,
    /// `CloseComplete`.
    CloseComplete,
    /// `ParameterDescription`.
    ParameterDescription,
    /// `RowDescription`.
    RowDescription,
    /// `NoData`.
    NoData,
    /// `DataRow`.
    DataRow,
    /// `CommandComplete`.
    CommandComplete,
    /// `EmptyQueryResponse`.
    EmptyQuery,
    /// `PortalSuspended`.
    PortalSuspended,
    /// `CopyInResponse`.
    CopyIn,
    /// `CopyOutResponse`.
    CopyOut,
    /// `CopyData`.
    CopyData,
    /// `CopyDone`.
    CopyDone,
    /// `FunctionCallResponse`.
    FunctionResult,
    /// `ReadyForQuery`.
    Ready,
    /// `ErrorResponse`.
    Error,
    /// An error after which the target closes.
    Fatal,
    /// Whatever has no place in a session that is signed in: authentication, keys, CopyBoth.
    Other,
}

impl Said {
    /// Every column of the table.
    pub const ALL: [Said; 19] = [
        Said::ParseComplete,
        Said::BindComplete,
        Said::CloseComplete,
        Said::ParameterDescription,
        Said::RowDescription,
        Said::NoData,
        Said::DataRow,
        Said::CommandComplete,
        Said::EmptyQuery,
        Said::PortalSuspended,
        Said::CopyIn,
        Said::CopyOut,
        Said::CopyData,
        Said::CopyDone,
        Said::FunctionResult,
        Said::Ready,
        Said::Error,
        Said::Fatal,
        Said::Other,
    ];
}

impl Said {
    /// `None`: it belongs to no entry and may come at any time.
    pub fn of(message: &Backend<'_>) -> Option<Said> {
        Some(match message {
            Backend::NoticeResponse(_)
            | Backend::NotificationResponse { .. }
            | Backend::ParameterStatus { .. } => return None,
            Backend::ParseComplete => Said::ParseComplete,
            Backend::BindComplete => Said::BindComplete,
            Backend::CloseComplete => Said::CloseComplete,
            Backend::ParameterDescription(_) => Said::ParameterDescription,
            Backend::RowDescription(_) => Said::RowDescription,
            Backend::NoData => Said::NoData,
            Backend::DataRow(_) => Said::DataRow,
            Backend::CommandComplete { .. } => Said::CommandComplete,
            Backend::EmptyQueryResponse => Said::EmptyQuery,
            Backend::PortalSuspended => Said::PortalSuspended,
            Backend::CopyInResponse(_) => Said::CopyIn,
            Backend::CopyOutResponse(_) => Said::CopyOut,
            Backend::CopyData(_) => Said::CopyData,
            Backend::CopyDone => Said::CopyDone,
            Backend::FunctionCallResponse(_) => Said::FunctionResult,
            Backend::ReadyForQuery { .. } => Said::Ready,
            // `V` is never translated; servers before 9.6 have only `S`.
            Backend::ErrorResponse(fields) => match fields.get(b'V').or_else(|| fields.get(b'S')) {
                Some(b"FATAL" | b"PANIC") => Said::Fatal,
                _ => Said::Error,
            },
            Backend::Authentication(_)
            | Backend::BackendKeyData { .. }
            | Backend::CopyBothResponse(_)
            | Backend::NegotiateProtocolVersion(_) => Said::Other,
        })
    }
}

/// What a reply means for the entry at the front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing of the kind is owed: the session ends.
    Unexpected,
    /// More is to come.
    On(Owes),
    /// The entry has its answer.
    Done,
    /// The entry has its answer, and the segment is over.
    Ready,
    /// It failed in extended use: the target skips to Sync.
    Skips,
    /// It failed; ReadyForQuery follows.
    Fails,
    /// The target closes behind it.
    Parts,
}

/// The table. `copy_in`: the entry is one that may begin COPY IN, and has not said otherwise yet.
#[rustfmt::skip]
#[inline]
pub const fn step(owes: Owes, said: Said, copy_in: bool) -> Step {
    use Owes as O;
    use Said as S;
    match (owes, said) {
        // A target may end a session at any time: an administrator's command, a timeout, a crash.
        (_, S::Fatal)                                                       => Step::Parts,

        (O::Parse, S::ParseComplete)                                        => Step::Done,
        (O::Bind, S::BindComplete)                                          => Step::Done,
        (O::Close, S::CloseComplete)                                        => Step::Done,
        (O::Parameters, S::ParameterDescription)                            => Step::On(O::Columns),
        (O::Columns, S::RowDescription | S::NoData)                         => Step::Done,

        (O::Execute | O::ExecuteRows, S::DataRow)                           => Step::On(O::ExecuteRows),
        (O::Execute | O::ExecuteRows, S::CommandComplete | S::PortalSuspended) => Step::Done,
        (O::Execute, S::EmptyQuery)                                         => Step::Done,
        (O::Execute, S::CopyIn) if copy_in                                  => Step::On(O::ExecuteCopyIn),
        (O::ExecuteCopyIn, S::CommandComplete)                              => Step::Done,
        (O::Execute, S::CopyOut)                                            => Step::On(O::ExecuteCopyOut),
        (O::ExecuteCopyOut, S::CopyData)                                    => Step::On(O::ExecuteCopyOut),
        (O::ExecuteCopyOut, S::CopyDone)                                    => Step::On(O::ExecuteCopyOutEnd),
        (O::ExecuteCopyOutEnd, S::CommandComplete)                          => Step::Done,

        // A rule that adds a SELECT gives rows of another form before the one completion.
        (O::Query | O::QueryNext | O::QueryRows, S::RowDescription)         => Step::On(O::QueryRows),
        (O::QueryRows, S::DataRow)                                          => Step::On(O::QueryRows),
        (O::Query | O::QueryNext, S::CopyIn) if copy_in                     => Step::On(O::QueryCopyIn),
        (O::Query | O::QueryNext, S::CopyOut)                               => Step::On(O::QueryCopyOut),
        (O::QueryCopyOut, S::CopyData)                                      => Step::On(O::QueryCopyOut),
        (O::QueryCopyOut, S::CopyDone)                                      => Step::On(O::QueryCopyOutEnd),
        (O::Query | O::QueryNext | O::QueryRows | O::QueryCopyIn | O::QueryCopyOutEnd, S::CommandComplete)
                                                                            => Step::On(O::QueryNext),
        (O::Query, S::EmptyQuery)                                           => Step::On(O::Ready),
        (O::QueryNext | O::Ready | O::Sync | O::FunctionEnd, S::Ready)      => Step::Ready,

        (O::Function, S::FunctionResult)                                    => Step::On(O::FunctionEnd),

        (O::Parse | O::Bind | O::Close | O::Parameters | O::Columns | O::Execute | O::ExecuteRows | O::ExecuteCopyIn
            | O::ExecuteCopyOut | O::ExecuteCopyOutEnd | O::Refusal, S::Error) => Step::Skips,
        // Of Sync: what the implicit transaction did could not be committed.
        (O::Query | O::QueryRows | O::QueryCopyIn | O::QueryCopyOut | O::QueryCopyOutEnd | O::QueryNext | O::QueryRefusal
            | O::Function | O::FunctionEnd | O::Sync, S::Error)             => Step::Fails,

        _                                                                   => Step::Unexpected,
    }
}

/// What an entry is about: what its answer changes.
pub enum About {
    /// Commits one names operation.
    Parse,
    /// Our own Describe; the client does not see the answer.
    OwnDescribe(Rc<Prepared>),
    /// The same of a portal: how the rows of `execution` look, and those of others that are bound to the same.
    OwnDescribePortal {
        prepared: Rc<Prepared>,
        execution: ExecutionRef,
    },
    /// Commits one names operation.
    Bind(ExecutionRef),
    DescribeStatement(Option<Rc<Prepared>>),
    DescribePortal(Option<ExecutionRef>),
    /// `operations`: so many names operations become true with it.
    Execute {
        execution: ExecutionRef,
        operations: usize,
    },
    /// Commits one names operation.
    Close,
    Sync,
    Query(ExecutionRef),
    Function(ExecutionRef),
    /// The client gets `denial` for the target's error.
    Refused {
        denial: Box<Denial>,
        execution: Option<ExecutionRef>,
    },
    /// The same for a simple Query, to ReadyForQuery.
    RefusedQuery {
        denial: Box<Denial>,
        execution: Option<ExecutionRef>,
    },
    /// Our own look-up in the catalog, to ReadyForQuery; the client sees nothing of it.
    LookUp,
}

impl About {
    /// What is owed first.
    const fn owes(&self) -> Owes {
        match self {
            About::Parse => Owes::Parse,
            About::OwnDescribe(_) | About::DescribeStatement(_) => Owes::Parameters,
            About::Bind(_) => Owes::Bind,
            About::DescribePortal(_) | About::OwnDescribePortal { .. } => Owes::Columns,
            About::Execute { .. } => Owes::Execute,
            About::Close => Owes::Close,
            About::Sync => Owes::Sync,
            About::Query(_) | About::LookUp => Owes::Query,
            About::Function(_) => Owes::Function,
            About::Refused { .. } => Owes::Refusal,
            About::RefusedQuery { .. } => Owes::QueryRefusal,
        }
    }

    /// A simple Query, whoever's.
    const fn is_query(&self) -> bool {
        matches!(self, About::Query(_) | About::RefusedQuery { .. } | About::LookUp)
    }

    /// Whether ReadyForQuery ends it.
    const fn ends_segment(&self) -> bool {
        matches!(
            self,
            About::Sync | About::Query(_) | About::Function(_) | About::RefusedQuery { .. } | About::LookUp
        )
    }

    pub fn execution(&self) -> Option<&ExecutionRef> {
        match self {
            About::Bind(execution)
            | About::Execute { execution, .. }
            | About::Query(execution)
            | About::Function(execution) => Some(execution),
            About::RefusedQuery { execution, .. }
            | About::Refused { execution, .. }
            | About::DescribePortal(execution) => execution.as_ref(),
            _ => None,
        }
    }
}

/// Where the session stands with COPY FROM STDIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyIn {
    /// Nobody reads COPY data: what comes of it is ignored, as the target does.
    Closed,
    /// The last message sent may begin one: nothing is sent behind it before the target has said so. `many`: of several
    /// statements in one Query.
    Awaited { many: bool },
    /// The target reads COPY data.
    Open(Reading),
}

/// What came while the target reads COPY data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Of several statements in one Query.
    pub many: bool,
    /// Data was sent.
    data: bool,
    /// So many Syncs came, which a reading target ignores: they were not sent.
    syncs: u32,
}

/// What the client's Sync means now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncIs {
    /// To be sent, and answered.
    Owed,
    /// Ignored: the target reads COPY data.
    Ignored,
}

/// A COPY that failed while the target was reading: what has to be done about Syncs that were not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyFailed {
    /// So many are sent now: no data were sent at all, so the target has not read them as part of those.
    Send(u32),
    /// Not known.
    Unclear,
}

struct Entry {
    owes: Owes,
    about: About,
}

/// What the target owes, and what follows from it. Fields of every statement's way first.
pub struct Owed {
    queue: VecDeque<Entry>,
    /// Number of the segment that is being sent, and of the last one that is over. A segment is everything up to one
    /// ReadyForQuery.
    segment: u64,
    segments_done: u64,
    status: TransactionStatus,
    /// The target skips to Sync, or will: what the client sends before one is not sent on.
    skipping: bool,
    /// The target said that it closes.
    parting: bool,
    /// Messages of extended use were sent since ReadyForQuery was last asked for: they are an implicit transaction, which a
    /// simple Query would end.
    unsynced: bool,
    copy_in: CopyIn,
    /// Simple Queries in the queue.
    queries: usize,
    /// A Sync came behind COPY data and was not sent: should the COPY fail, it is not known whether the target would have
    /// answered it.
    sync_amid_data: bool,
}

impl Default for Owed {
    fn default() -> Owed {
        Owed {
            queue: VecDeque::new(),
            segment: 1,
            segments_done: 0,
            status: TransactionStatus::Idle,
            skipping: false,
            parting: false,
            unsynced: false,
            copy_in: CopyIn::Closed,
            queries: 0,
            sync_amid_data: false,
        }
    }
}

impl Owed {
    /// A message with this answer was sent.
    #[inline]
    pub fn sent(&mut self, about: About) {
        let ends = about.ends_segment();
        self.skipping |= matches!(about, About::Refused { .. });
        self.queries += usize::from(about.is_query());
        self.queue.push_back(Entry {
            owes: about.owes(),
            about,
        });
        self.unsynced = !ends;
        if ends {
            self.segment += 1;
            self.skipping = false;
        }
    }

    /// Nothing is at stake at the target: it owes nothing, no transaction is open, nor an implicit one.
    #[inline]
    pub fn is_at_rest(&self) -> bool {
        self.queue.is_empty() && !self.unsynced && self.status == TransactionStatus::Idle
    }

    /// Between two statements: a message of our own disturbs nothing.
    #[inline]
    pub fn is_between(&self) -> bool {
        self.queue.is_empty() && !self.unsynced
    }

    /// The message sent last may begin COPY IN.
    pub fn may_copy_in(&mut self, many: bool) {
        self.copy_in = CopyIn::Awaited { many };
    }

    /// What `said` means for the front. Nothing has changed yet: [`Self::advance`], [`Self::skip`] and [`Self::part`] do.
    #[inline]
    pub fn step(&self, said: Said) -> Step {
        if self.parting {
            return Step::Unexpected;
        }
        let awaited = matches!(self.copy_in, CopyIn::Awaited { .. }) && self.queue.len() == 1;
        step(
            self.queue.front().map_or(Owes::Nothing, |e| e.owes),
            said,
            awaited,
        )
    }

    #[inline]
    pub fn front(&self) -> Option<&About> {
        self.queue.front().map(|e| &e.about)
    }

    /// The front waits for something else now.
    #[inline]
    pub fn advance(&mut self, owes: Owes) {
        if let Some(front) = self.queue.front_mut() {
            front.owes = owes;
        }
        // COPY IN is the last entry's affair: nothing is sent behind one that may begin it.
        if self.queue.len() != 1 {
            return;
        }
        match owes {
            Owes::ExecuteCopyIn | Owes::QueryCopyIn => {
                let many = matches!(self.copy_in, CopyIn::Awaited { many: true });
                self.copy_in = CopyIn::Open(Reading {
                    many,
                    ..Reading::default()
                });
            }
            // A failed statement, or one without text, is followed by no COPY.
            Owes::Ready => self.copy_in = CopyIn::Closed,
            // Rows, or the end of a single statement: it is no COPY IN.
            Owes::QueryNext | Owes::ExecuteRows
                if matches!(self.copy_in, CopyIn::Awaited { many: false }) =>
            {
                self.copy_in = CopyIn::Closed;
            }
            _ => {}
        }
    }

    /// The front has its answer. `status` is that of ReadyForQuery, where the front ends with it.
    #[inline]
    pub fn done(&mut self, status: Option<TransactionStatus>) -> Option<About> {
        let front = self.queue.pop_front()?;
        self.queries -= usize::from(front.about.is_query());
        if let Some(status) = status {
            self.segments_done += 1;
            self.status = status;
        }
        if self.queue.is_empty() {
            self.emptied();
        }
        Some(front.about)
    }

    fn emptied(&mut self) {
        // It begins again where its memory does: with one statement at a time, a session then touches the same lines for each.
        self.queue.clear();
        self.copy_in = CopyIn::Closed;
        self.sync_amid_data = false;
    }

    /// How many entries an error at the front takes with it.
    pub fn skipped_count(&self) -> usize {
        self.queue
            .iter()
            .position(|e| matches!(e.about, About::Sync))
            .unwrap_or(self.queue.len())
    }

    /// The front failed in extended use: takes out the front, and then all that the target skips, one a call.
    pub fn skip(&mut self) -> Option<About> {
        match self.queue.front() {
            Some(front) if !matches!(front.about, About::Sync) => {
                let entry = self.queue.pop_front()?;
                self.queries -= usize::from(entry.about.is_query());
                if entry.about.ends_segment() {
                    self.segments_done += 1;
                }
                if self.queue.is_empty() {
                    self.emptied();
                }
                Some(entry.about)
            }
            Some(_) => None,
            None => {
                self.skipping = true;
                None
            }
        }
    }

    /// What was withheld from a COPY that failed while the target was reading. To be asked before [`Self::advance`] or
    /// [`Self::skip`].
    pub fn copy_failed(&self) -> CopyFailed {
        match self.copy_in {
            _ if self.sync_amid_data => CopyFailed::Unclear,
            CopyIn::Open(Reading {
                syncs, data: false, ..
            }) => CopyFailed::Send(syncs),
            // What stood before the data was read with them.
            CopyIn::Open(_) | CopyIn::Closed | CopyIn::Awaited { .. } => CopyFailed::Send(0),
        }
    }

    /// The target said that it closes: everything else is out of place from now on.
    pub fn part(&mut self) {
        self.parting = true;
    }

    pub fn is_parting(&self) -> bool {
        self.parting
    }

    /// Takes out what is left, at the end of the session.
    pub fn take_next(&mut self) -> Option<About> {
        let entry = self.queue.pop_front()?;
        self.queries -= usize::from(entry.about.is_query());
        Some(entry.about)
    }

    /// How many simple Queries have not been answered to their end.
    #[inline]
    pub fn queries(&self) -> usize {
        self.queries
    }

    // ---- COPY IN

    pub fn copy_in(&self) -> CopyIn {
        self.copy_in
    }

    /// A Sync came from the client.
    pub fn sync_is(&self) -> SyncIs {
        if matches!(self.copy_in, CopyIn::Open(_)) {
            SyncIs::Ignored
        } else {
            SyncIs::Owed
        }
    }

    /// A Sync was not sent, since the target reads COPY data.
    pub fn withheld_sync(&mut self) {
        if let CopyIn::Open(reading) = &mut self.copy_in {
            reading.syncs = reading.syncs.saturating_add(1);
            self.sync_amid_data |= reading.data;
        }
    }

    /// COPY data was sent.
    #[inline]
    pub fn copy_data_sent(&mut self) {
        if let CopyIn::Open(reading) = &mut self.copy_in {
            reading.data = true;
        }
    }

    /// CopyDone or CopyFail was sent: the target reads no further.
    pub fn copy_end_sent(&mut self) {
        if let CopyIn::Open(reading) = self.copy_in {
            self.copy_in = if reading.many {
                CopyIn::Awaited { many: true }
            } else {
                CopyIn::Closed
            };
        }
    }

    // ---- questions

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// `spool_bytes`: of the spool, into which the ends of all must fit at once when an error takes them along.
    #[inline]
    pub fn is_full(&self, spool_bytes: usize) -> bool {
        self.queue.len() >= OWED_MAX.min((spool_bytes / 8 / crate::clearance::SHORT_END_BYTES_MAX).max(8))
    }

    pub fn len(&self) -> usize {
        self.queue.len()
    }

    #[inline]
    pub fn segment(&self) -> u64 {
        self.segment
    }

    #[inline]
    pub fn segments_done(&self) -> u64 {
        self.segments_done
    }

    #[inline]
    pub fn status(&self) -> TransactionStatus {
        self.status
    }

    #[inline]
    pub fn is_skipping(&self) -> bool {
        self.skipping
    }

    pub fn executions(&self) -> impl Iterator<Item = &ExecutionRef> {
        self.queue.iter().filter_map(|e| e.about.execution())
    }

    /// The run that the front is about.
    #[inline]
    pub fn front_execution(&self) -> Option<&ExecutionRef> {
        self.front().and_then(About::execution)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write;

    /// Every state against every reply, with and without leave for COPY IN: a changed row shows in the diff of the golden
    /// file. `HEADGATE_BLESS=1` writes it anew.
    #[test]
    fn the_table_is_as_it_was_read() {
        let mut text = String::new();
        for copy_in in [false, true] {
            let _ = writeln!(
                text,
                "# {}",
                if copy_in {
                    "the entry may begin COPY IN"
                } else {
                    "the entry begins no COPY IN"
                }
            );
            for owes in Owes::ALL {
                for said in Said::ALL {
                    let step = step(owes, said, copy_in);
                    if step != Step::Unexpected && said != Said::Fatal {
                        let _ = writeln!(
                            text,
                            "{:<18} {:<21} {step:?}",
                            format!("{owes:?}"),
                            format!("{said:?}")
                        );
                    }
                }
            }
        }
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/postgres/owed_table.txt");
        if std::env::var_os("HEADGATE_BLESS").is_some() {
            std::fs::write(path, &text).unwrap();
        }
        assert_eq!(text, std::fs::read_to_string(path).unwrap_or_default());
    }

    #[test]
    fn a_fatal_error_ends_it_in_every_state_and_nothing_owed_takes_nothing_else() {
        for copy_in in [false, true] {
            for owes in Owes::ALL {
                assert_eq!(step(owes, Said::Fatal, copy_in), Step::Parts);
            }
            for said in Said::ALL {
                assert_eq!(
                    step(Owes::Nothing, said, copy_in) == Step::Parts,
                    said == Said::Fatal,
                    "{said:?}"
                );
                assert_eq!(
                    step(Owes::Sync, said, copy_in) == Step::Ready,
                    said == Said::Ready,
                    "{said:?}"
                );
            }
        }
    }

    #[test]
    fn an_error_takes_along_what_stands_before_sync() {
        let mut owed = Owed::default();
        for about in [About::Parse, About::Close, About::Sync, About::Parse] {
            owed.sent(about);
        }
        assert_eq!((owed.step(Said::Error), owed.skipped_count()), (Step::Skips, 2));
        assert!(matches!(owed.skip(), Some(About::Parse)) && matches!(owed.skip(), Some(About::Close)));
        assert!(
            owed.skip().is_none() && !owed.is_skipping(),
            "Sync is in the queue: nothing more is skipped"
        );
        assert_eq!(owed.step(Said::Ready), Step::Ready);
        owed.done(Some(TransactionStatus::Idle));
        assert_eq!(owed.step(Said::Error), Step::Skips);
        while owed.skip().is_some() {}
        assert!(
            owed.is_skipping(),
            "what comes is skipped until the client sends Sync"
        );
        owed.sent(About::Sync);
        assert!(!owed.is_skipping());
    }

    #[test]
    fn a_second_copy_in_is_awaited_while_the_first_ends() {
        let mut owed = Owed::default();
        let query = || About::Query(ExecutionRef::default());
        owed.sent(query());
        owed.may_copy_in(false);
        assert_eq!(owed.step(Said::CopyIn), Step::On(Owes::QueryCopyIn));
        owed.advance(Owes::QueryCopyIn);
        owed.copy_data_sent();
        owed.copy_end_sent();
        owed.sent(query());
        owed.may_copy_in(false);
        assert_eq!(
            owed.step(Said::CopyIn),
            Step::Unexpected,
            "the first has had its own"
        );
        owed.advance(Owes::QueryNext);
        owed.done(Some(TransactionStatus::Idle));
        assert_eq!(owed.step(Said::CopyIn), Step::On(Owes::QueryCopyIn));
    }

    #[test]
    fn a_sync_before_all_data_is_the_targets_own_to_ignore() {
        let mut owed = Owed::default();
        owed.sent(About::Execute {
            execution: ExecutionRef::default(),
            operations: 0,
        });
        owed.may_copy_in(false);
        owed.advance(Owes::ExecuteCopyIn);
        owed.withheld_sync();
        assert_eq!(
            owed.copy_failed(),
            CopyFailed::Send(1),
            "nothing was read: it would have been answered"
        );
        owed.copy_data_sent();
        assert_eq!(
            owed.copy_failed(),
            CopyFailed::Send(0),
            "it was read before the data"
        );
        owed.withheld_sync();
        assert_eq!(owed.copy_failed(), CopyFailed::Unclear);
    }
}
