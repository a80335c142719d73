//! PostgreSQL's protocol 3.0 and 3.2: bytes and their meaning. Does no IO, holds no policy of statements.
//!
//! [`frame`] finds messages, [`frontend`] and [`backend`] read them in place, [`mod@write`] makes them, [`handshake`] is
//! both ends of signing in, [`startup`] knows the start-up packet, [`cancel`] the keys.
//!
//! Invariants: bytes of a peer never panic; a message that is read is read to its last byte, and one byte too many is
//! an error; lengths that are written are checked. Bounds stand beside the constants in each module.
//! Spec: PostgreSQL 18 documentation, chapter 54 "Frontend/Backend Protocol".
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)
)]
#![cfg_attr(not(test), deny(clippy::panic, clippy::cast_possible_truncation))]
#![deny(missing_docs)]

pub mod backend;
pub mod cancel;
pub mod certificate;
pub mod error;
pub mod frame;
pub mod frontend;
pub mod fuzz;
pub mod handshake;
pub mod report;
pub mod startup;
pub mod write;

pub use error::PeerMisbehaved;
pub use handshake::client::{Advance, ClientEvent, ClientHandshake, ClientTls};
pub use handshake::target::{
    ScramKeys, TargetEvent, TargetFailed, TargetHandshake, TargetHandshakeConfig, TargetReady, TargetRefused,
};
pub use report::Report;
pub use startup::Startup;
