//! The spool: a lock-free byte ring with one producer (a shard) and one consumer (the recorder), in a file on tmpfs that
//! outlives both of them.
//!
//! Invariant: tail <= read <= head <= written, and written - tail <= capacity. All are counts of bytes since the file was
//! made; they never wrap in practice (u64). A record is `u32 length | u32 kind | payload`, padded to 8 bytes, and is always
//! contiguous, because the ring is mapped twice, back to back.
//!
//! What survives: bytes that were published survive the death of either side. A producer that opens the file again goes on
//! after the last published byte (what it wrote and did not publish is gone) and puts an [`RecordKind::Opened`] record there, so
//! the recorder sees in order where the old sessions ended. A consumer that opens it again resumes at the tail, or where
//! its own database says.
//!
//! Waiting: a producer that finds no room, or waits for the disk, leaves a wish and goes on with something else; the release
//! that fulfils it wakes a thread of the producer's process ([`Watch`]). `wish.rs` says why no wake is lost.
//!
//! Trust: the consumer takes nothing in the file on trust. Positions are checked against its own copy, lengths against the
//! published range, and bytes are copied out before anybody parses them. One hole stays, and it is only a denial of
//! service: a producer that truncates the file kills the consumer by SIGBUS; the supervisor starts it again.
//!
//! Unsafe lives in `map.rs`, `sys.rs` and the two ends' copies; each block says why it holds.
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)
)]
#![cfg_attr(not(test), deny(clippy::panic, clippy::cast_possible_truncation))]
#![deny(missing_docs)]

mod consumer;
mod layout;
mod map;
mod producer;
mod sys;
mod wish;

/// What `wish` is made of; its test puts loom's in their place.
mod atomics {
    pub use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
}

pub use consumer::{Consumer, Pause, SpoolError, nap, park};
pub use layout::{CAPACITY_BYTES_MIN, RECORD_HEAD_BYTES, RecordKind};
pub use producer::{DurableWatch, Producer, Watch};

/// Names one spool file for ever: 16 random bytes, drawn when the file is made.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Generation(pub u128);

impl std::fmt::Debug for Generation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl std::fmt::Display for Generation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}
