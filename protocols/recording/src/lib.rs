//! What a recording is made of: events, their chain, checkpoints, and the order of keys in the audit database.
//! Does no IO.
#![forbid(unsafe_code)]

pub mod event;

pub use event::{Body, Event, Outcome, RecordedError, Verdict};
