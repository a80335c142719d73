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

use headgate_plane::{Epoch, Parameter, Protocol, QuestionDigest, SessionId, Who};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    pub session: SessionId,
    /// Dense in the session, from 0.
    pub seq: u32,
    pub unix_us: u64,
    pub body: Body,
}

/// What happened. Texts of others are cut to the bounds of [`crate::bounds`] when they are written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Body {
    /// First event of every session that got past the identity check.
    SessionOpen {
        who: Who,
        target: String,
        environment: String,
        role: String,
        credential_id: String,
        epoch: Epoch,
        /// What the session speaks: parameters say it for themselves; data and replies are that protocol's bytes.
        protocol: Protocol,
        /// The target's own name for its session, such as a process id; empty where there is none.
        target_session: String,
    },
    /// Somebody who was not let in. A session of one event.
    SignInRefused {
        target: String,
        user: String,
        address: String,
        reason: String,
    },
    /// Written before the statement is forwarded, or instead of forwarding it.
    Statement {
        /// Number of the statement in the session, from 1.
        statement: u32,
        /// The [`Body::Prepared`] of the session that the text is of; 0 where it was not prepared.
        prepared: u32,
        /// The text as it was sent, or as it was prepared.
        text: Vec<u8>,
        /// What `text` runs without saying it (EXECUTE, FETCH), in order.
        stands_for: Vec<Vec<u8>>,
        parameters: Vec<Parameter>,
        verdict: Verdict,
        /// Rule that decided; empty when nothing allowed it.
        rule: String,
        epoch: Epoch,
        class: u16,
        verbs: Vec<String>,
        /// Full names, resolved: `schema.name` of a relation.
        resources: Vec<String>,
    },
    /// A held statement's answer: written before the statement is forwarded.
    Answered {
        statement: u32,
        question: u64,
        outcome: Outcome,
        reviewers: Vec<String>,
        reason: String,
        digest: QuestionDigest,
    },
    /// A piece of a statement's data, up to the cap. To the client: its reply as far as the statement's end does not hold
    /// it, after masking. To the target: what follows the statement (COPY IN, a body, stdin), as the client sent it, written
    /// before it is forwarded.
    Stream {
        statement: u32,
        direction: Direction,
        /// Of the first byte, among all bytes of that direction: where pieces are left out, it says how many.
        offset: u64,
        bytes: Vec<u8>,
    },
    StatementEnd {
        statement: u32,
        outcome: StatementOutcome,
        /// From forward to the last byte of the reply.
        duration_us: u64,
        rows: u64,
        /// Of the reply as the client received it.
        bytes: u64,
        /// The target's word of completion; empty on error.
        tag: String,
        error: Option<RecordedError>,
        /// Values covered.
        masked: u64,
        /// Whether the pieces and `reply` hold less than all.
        truncated: bool,
        /// The reply, or what follows its pieces: most replies are small, and need no event of their own.
        reply: Vec<u8>,
    },
    SessionClose {
        reason: String,
        statements: u32,
        bytes_from_client: u64,
        bytes_to_client: u64,
    },
    /// Made by the recorder: whoever ran the session ended without closing it. Last event of such a session.
    SessionLost { reason: String },
    /// Made by the recorder about itself, in a session of its own: one per run.
    Recorder(RecorderNote),
    /// A changing call of the control plane's API, in a session of its own: one per run of the control plane.
    Admin {
        who: Who,
        action: String,
        subject: String,
        detail: String,
        accepted: bool,
    },
    /// A text under a name, judged: what prepares a statement. Once for each name and text: one that comes again as it was
    /// writes nothing. Written before it is forwarded, or instead of it.
    Prepared {
        /// Dense in the session, from 1.
        prepared: u32,
        /// As the target keeps it; empty for the unnamed one.
        name: Vec<u8>,
        text: Vec<u8>,
        verdict: Verdict,
        rule: String,
        epoch: Epoch,
        class: u16,
        verbs: Vec<String>,
        resources: Vec<String>,
    },
    /// The end of a direction's data: always for data to the target, and for a reply that is more than its pieces hold and
    /// whose whole is to be known by its digest.
    StreamEnd {
        statement: u32,
        direction: Direction,
        /// Of all the data, recorded or not.
        bytes: u64,
        /// Messages, lines or rows, as the protocol counts its data.
        rows: u64,
        /// SHA-256 of all the data, recorded or not.
        digest: [u8; 32],
        /// Whether the pieces hold less than all.
        truncated: bool,
        outcome: StreamOutcome,
        /// Why it failed, in the words of whoever said so; else empty.
        reason: String,
    },
    /// An event of a later version: kept and hashed, not read. Never written by this one.
    #[serde(skip)]
    Unknown {
        kind: u8,
        /// The record's bytes after the kind.
        bytes: Vec<u8>,
    },
}

/// Which way data goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Direction {
    ToTarget,
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
        version: String,
        host: String,
        process: u32,
        chunks: u64,
    },
    SpoolOpened {
        name: String,
        generation: u128,
        position: u64,
    },
    /// A producer opened the spool: sessions of the one before it, if still open, are lost.
    ProducerOpened { generation: u128, position: u64 },
    /// The spool holds less than the database expects, or cannot be read on.
    Gap {
        generation: u128,
        from: u64,
        to: u64,
        reason: String,
    },
    /// Bytes that are no event, kept as they came.
    Malformed {
        generation: u128,
        position: u64,
        bytes: Vec<u8>,
    },
    /// An event that does not follow from the ones before it in its session.
    OutOfOrder {
        session: SessionId,
        expected: u32,
        found: u32,
    },
    /// Last event of a run that ended in order.
    Stopped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    Allow,
    Hold,
    Deny,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    Approved,
    Denied,
    Expired,
    Revoked,
    Withdrawn,
    /// Nobody waits any more, and the question stays open: the client was told its number (`on_hold = "refuse"`).
    Left,
    /// The approval was spent by the identical statement sent elsewhere.
    SpentElsewhere,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedError {
    /// The protocol's own: an SQLSTATE in PostgreSQL.
    pub code: String,
    /// As the client received it.
    pub message: String,
}
