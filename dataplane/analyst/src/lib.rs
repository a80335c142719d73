//! Statements that no core has seen before are parsed here: in small processes that can do nothing else. A text says its
//! language ([`Language`]).
//!
//! PostgreSQL's parser is C that reads what an attacker wrote. So it runs in worker processes ([`run_analyst`]) that hold
//! a socket to the pool, 768 MiB of address space at most, and a dozen system calls. [`AnalystPool`] hands them texts and
//! bounds their time. A worker that dies, says nonsense or is silent costs one statement: [`Unreadable::AnalystLost`],
//! which denies. It is then killed and another one started.
//!
//! Callers have turns: one that sends a thousand new texts delays another's one text by about one text of each worker.
//! Bounds: `queue_max` texts wait, `queue_per_owner_max` of one caller, and 64 MiB of them; a text waits at most `answer_ms_max`
//! for a worker, and a worker has `answer_ms_max` for it; a request is at most [`frame::REQUEST_BYTES_MAX`], an answer at most
//! [`frame::ANSWER_BYTES_MAX`].
#![deny(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)
)]
#![cfg_attr(not(test), deny(clippy::panic, clippy::cast_possible_truncation))]

pub mod frame;
mod pool;
mod queue;
pub mod sandbox;
mod worker;

pub use frame::Language;
pub use headgate_sql::{Caps, Facts, Unreadable};
pub use pool::{AnalystPool, Done, PoolSettings};
pub use worker::run_analyst;
