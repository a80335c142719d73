//! The events of a session, as the data plane writes them into the spool and the recorder stores them: format 3, told in
//! docs/recording.md.
//!
//! An event is `postcard` of [`Event`], and fills its record: whoever does not know its kind knows its length, and skips
//! it. One session's events are in order in one spool; `seq` is dense from 0, so a missing one is seen. Times are Unix
//! microseconds by the core's clock (monotonic, anchored at start).
//!
//! Signed and kept for ever: kinds, arms and outcomes are added at the end and never change their place or their fields.
//! What only a recorder may say is an arm of [`RecorderNote`], never a kind of its own: recorders take kinds that they do
//! not know from a spool, and notes they do not.

pub use crate::table::{Body, EventKind, KIND_NUMBER_MAX};
use headgate_plane::SessionId;
use serde::{Deserialize, Serialize};

/// One thing that happened in a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// In which.
    pub session: SessionId,
    /// Dense in the session, from 0.
    pub seq: u32,
    /// When, in Unix microseconds.
    pub unix_us: u64,
    /// What.
    pub body: Body,
}

/// Which way data goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Direction {
    /// From the client.
    ToTarget,
    /// To the client, covered.
    ToClient,
}

/// How a direction's data ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum StreamOutcome {
    /// Whoever sent it said that it is whole.
    Done,
    /// Whoever sent it gave up (CopyFail), or whoever got it wanted no more.
    Failed,
    /// The session ended before either.
    Cut,
}

/// What became of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum StatementOutcome {
    /// The target said that it is complete.
    Done,
    /// The target said that it failed.
    Failed,
    /// The target said that it was cancelled, or it was taken back while it was held.
    Cancelled,
    /// The session ended before the target's answer: whether it took effect is not known.
    Cut,
    /// It never ran: refused by Headgate, or skipped by the target after an error before it.
    NotRun,
}

impl StatementOutcome {
    /// For a person.
    pub fn words(self) -> &'static str {
        match self {
            StatementOutcome::Done => "done",
            StatementOutcome::Failed => "failed",
            StatementOutcome::Cancelled => "cancelled",
            StatementOutcome::Cut => "not known: the session ended first",
            StatementOutcome::NotRun => "not run",
        }
    }
}

/// What the recorder has to say for itself. A generation names a spool file for ever.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RecorderNote {
    /// First event of a run.
    Started {
        /// Of the recorder's program.
        version: String,
        /// Where it runs.
        host: String,
        /// Its process id.
        process: u32,
        /// How many chunks there were already.
        chunks: u64,
    },
    /// A spool file is drained from now on.
    SpoolOpened {
        /// Of the file.
        name: String,
        /// Which file it is, for ever.
        generation: u128,
        /// From where on.
        position: u64,
    },
    /// A producer opened the spool: sessions of the one before it, if still open, are lost.
    ProducerOpened {
        /// Which spool file.
        generation: u128,
        /// Where its records begin.
        position: u64,
    },
    /// The spool holds less than the database expects, or cannot be read on.
    Gap {
        /// Which spool file.
        generation: u128,
        /// The first byte that is missing.
        from: u64,
        /// Behind the last one.
        to: u64,
        /// What the recorder saw.
        reason: String,
    },
    /// Bytes that are no event, kept as they came.
    Malformed {
        /// Which spool file.
        generation: u128,
        /// Of the first byte.
        position: u64,
        /// As they came.
        bytes: Vec<u8>,
    },
    /// An event that does not follow from the ones before it in its session.
    OutOfOrder {
        /// Whose it says it is.
        session: SessionId,
        /// The number that was due.
        expected: u32,
        /// The number that it has.
        found: u32,
    },
    /// Last event of a run that ended in order.
    Stopped,
}

/// What the rules said, as it is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It may run.
    Allow,
    /// People are asked.
    Hold,
    /// It may not run.
    Deny,
}

/// How a question ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Enough people said yes.
    Approved,
    /// Somebody said no.
    Denied,
    /// Nobody answered in time.
    Expired,
    /// The yes was taken back.
    Revoked,
    /// Whoever asked went away, or cancelled.
    Withdrawn,
    /// Nobody waits any more, and the question stays open: the client was told its number (`on_hold = "refuse"`).
    Left,
    /// The approval was spent by the identical statement sent elsewhere.
    SpentElsewhere,
}

/// An error that ended a statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedError {
    /// The protocol's own: an SQLSTATE in PostgreSQL.
    pub code: String,
    /// As the client received it.
    pub message: String,
}
