//! The events of a session, as the data plane writes them into the spool and the recorder stores them.
//!
//! An event is `postcard` of [`Event`]. One session's events are in order in one spool; `seq` is dense from 0, so a
//! missing one is seen. Times are Unix microseconds by the core's clock (monotonic, anchored at start).

use headgate_plane::{Epoch, Parameter, QuestionDigest, SessionId, Who};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    pub session: SessionId,
    /// Dense in the session, from 0.
    pub seq: u32,
    pub unix_us: u64,
    pub body: Body,
}

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
        protocol: String,
        /// Process id of the target's session.
        target_pid: u32,
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
        text: Vec<u8>,
        parameters: Vec<Parameter>,
        verdict: Verdict,
        /// Rule that decided; empty when nothing allowed it.
        rule: String,
        epoch: Epoch,
        class: u16,
        verbs: Vec<String>,
        /// `schema.name`, resolved.
        relations: Vec<String>,
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
    /// A piece of a reply that its end does not hold whole: as the client received it, after masking, up to the cap.
    ReplyPart {
        statement: u32,
        bytes: Vec<u8>,
    },
    StatementEnd {
        statement: u32,
        /// From forward to the last byte of the reply.
        duration_us: u64,
        rows: u64,
        /// Of the reply as the client received it.
        bytes: u64,
        /// CommandComplete's tag; empty on error.
        tag: String,
        error: Option<RecordedError>,
        /// Values covered.
        masked: u64,
        /// Whether the parts and `reply` hold less than all.
        truncated: bool,
        /// The reply, or what follows its parts: most replies are small, and need no event of their own.
        reply: Vec<u8>,
    },
    SessionClose {
        reason: String,
        statements: u32,
        bytes_from_client: u64,
        bytes_to_client: u64,
    },
    /// Made by the recorder: whoever ran the session ended without closing it. Last event of such a session.
    SessionLost {
        reason: String,
    },
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
    ProducerOpened {
        generation: u128,
        position: u64,
    },
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
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedError {
    pub sqlstate: String,
    /// As the client received it.
    pub message: String,
}
