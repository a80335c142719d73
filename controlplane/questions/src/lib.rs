//! The question desk: held statements on their way from "asked" to exactly one end.
//!
//! Invariants, each with a test in `tests/`:
//! - a number is given out once, for ever, and is on disk before anyone hears of it;
//! - an answer is on disk before the data plane hears of it;
//! - what is approved is what was asked: the digest is computed here again, from the question's own fields;
//! - nobody answers their own question, in whatever role of the identity chain they stand; a quorum is different people;
//! - a question that is not open, or whose deadline has come, cannot be answered;
//! - an approval that lies ready is given to one statement at a time, on disk before that one hears of it, and to no other
//!   once it may have gone out.
//!
//! Bounds: [`QUESTIONS_OPEN_MAX`], [`QUESTIONS_OPEN_PER_SESSION_MAX`], [`QUESTIONS_LEFT_PER_PRINCIPAL_MAX`], [`QUESTION_BYTES_MAX`], [`HELD_BYTES_MAX`],
//! [`QUESTIONS_KEPT_MAX`]. What goes beyond is refused by name, and a refused question is a denied statement.
#![forbid(unsafe_code)]

mod desk;
mod eligible;
mod error;
mod event;
mod record;
mod shelf;
mod standing;
mod state;

pub use desk::{Clock, Desk, Reply};
pub use eligible::{Reviewer, may_review};
pub use error::DeskError;
pub use event::{DeskEvent, DeskEventKind};
pub use record::{Approval, Claim, Record};
pub use state::{Event, NotNow, State, next};

/// Questions that may wait at the same time, over all data planes.
pub const QUESTIONS_OPEN_MAX: usize = 10_000;
/// Questions that one session may have open: a session waits for its own statement, so more than a few is an attack.
pub const QUESTIONS_OPEN_PER_SESSION_MAX: usize = 64;
/// Questions that one principal may have live that no client waits for: they outlive sessions, so they are counted by who
/// asks.
pub const QUESTIONS_LEFT_PER_PRINCIPAL_MAX: usize = 256;
/// Statement and parameters of one question together.
pub const QUESTION_BYTES_MAX: usize = 8 << 20;
/// Statements and parameters of all open questions together.
pub const HELD_BYTES_MAX: usize = 256 << 20;
/// Ended questions that are kept for the list; the recording keeps them for ever.
pub const QUESTIONS_KEPT_MAX: usize = 10_000;
/// A reason of a reviewer, in bytes. It reaches the client and the recording.
pub const REASON_BYTES_MAX: usize = 1_000;
