//! The model test of the gate: random conversations between a client and a target, and what both saw, did and recorded.
//!
//! ```text
//! generate ─ case ─▶ run ─┬─ client's bytes, cut anywhere ─▶ gate ─▶ server (simulated from the manual, or real)
//!                         └─ afterwards: oracle ◀─ records, replies, what the server did, what it would do without a gate
//! ```
//!
//! Nothing of the product depends on this crate. It uses the gate by its public face alone, and reads and writes
//! PostgreSQL's messages with code of its own.
//!
//! Bounds: a case is some dozens of messages; a core and its spool serve all cases of a thread.
#![forbid(unsafe_code)]

pub mod fuzz;
pub mod generate;
pub mod lab;
pub mod message;
pub mod oracle;
pub mod real;
pub mod run;
pub mod search;
pub mod server;
pub mod sql;

pub use generate::{Case, Profile, Step};
pub use lab::Lab;
pub use run::{Ran, run};
