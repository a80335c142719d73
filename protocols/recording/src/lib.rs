//! What a recording is made of: events, their chain, chunks, the tree over them, checkpoints, and the order of keys in
//! the audit database. Does no IO.
//!
//! The way of an event: the data plane encodes it (`codec`) into the spool; the recorder adds it to its session's `chain`
//! (`outline` tells it as much as it must know) and to a `chunk`; the chunk's hash is a leaf of the `tree`; the tree's root is signed in a `checkpoint`. Whoever has the
//! public key and the database checks all of it again.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)
)]
#![cfg_attr(not(test), deny(clippy::panic, clippy::cast_possible_truncation))]
#![deny(missing_docs)]

pub mod bounds;
pub mod chain;
pub mod checkpoint;
pub mod chunk;
pub mod codec;
pub mod columns;
pub mod event;
mod hot;
pub mod keys;
pub mod outline;
pub mod producer;
pub mod rows;
pub mod sessions;
pub mod summary;
mod table;
pub mod tree;
mod varint;
pub mod view;

pub use codec::{CodecError, EVENT_BYTES_MAX, decode, encode, encode_into};
pub use event::{
    Body, Direction, Event, Outcome, RecordedError, RecorderNote, StatementOutcome, StreamOutcome, Verdict,
};
pub use outline::{Outline, OutlineReader, What};
pub use producer::{BodyRef, Bytes, ErrorRef, EventRef, ParameterSource, Parameters, Texts};
pub use view::{BodyView, EventView, ParameterView};
