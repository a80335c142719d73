//! `headgate.toml`: what it may say, what is wrong with it and where. Reads files, opens no socket.
//!
//! Invariant: a [`Config`] that [`Config::load`] returned has no duplicate names, no forbidden mixture (cleartext without its
//! `danger_` word, plain http away from loopback) and every number inside its bounds.
//! [`Config::check`] looks also at the files that it names.
//! Paths are absolute, or relative to the folder that the program was started in, never to the file's: `load` has joined them.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)
)]
#![cfg_attr(not(test), deny(clippy::panic, clippy::cast_possible_truncation))]
#![deny(missing_docs)]

mod check;
mod error;
mod fields;
mod load;
mod locate;
mod model;
mod quantity;
mod target;

pub use error::{ConfigErrors, ConfigProblem};
pub use model::{
    Algorithm, Api, Appliance, Config, Cores, Dataplane, Durability, Issuer, Listener, ListenerUser, Local,
    MESSAGE_BYTES_MAX, OnHold, REPLY_RECORD_BYTES_MAX, SPOOL_BYTES_MIN, STATEMENT_BYTES_MIN, Spoken,
    TlsFiles,
};
pub use target::{PostgresTarget, Target, TargetOf};
