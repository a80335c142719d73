//! The recorder: drains the spools, chains, packs and seals what is in them, and keeps it in RocksDB.
//!
//! It owns the audit directory and the signing key, and runs as its own process and user: what parses hostile bytes
//! cannot write the history. Nothing is taken from a spool for good before it is in RocksDB's write-ahead log, so either
//! side can be killed at any moment. When the database cannot be written, nothing is released: the spools fill, and the
//! sessions wait. Nothing is ever dropped.
//!
//! The way: `spools` finds and drains; `pack` applies each event to its session and to the chunk in the making; `store`
//! writes the chunk, its summary, the sessions' rows, the spools' positions and the tree's edge as one batch; `run` is the
//! loop that says when.
#![forbid(unsafe_code)]

pub mod args;
mod error;
mod key;
mod pack;
mod recover;
mod run;
mod spools;
mod store;

pub use error::RecorderError;
pub use key::load_or_create as load_or_create_key;
pub use run::{run, run_counting};

/// How the recorder runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// RocksDB's directory.
    pub audit_dir: std::path::PathBuf,
    /// Where the spools are: files named `spool-*`, there now or later.
    pub spool_dir: std::path::PathBuf,
    /// Ed25519 key, PKCS#8; made if absent. The public key is written beside it, with `.pub` added.
    pub key: std::path::PathBuf,
    /// The longest time that a record waits for its chunk to fill.
    pub linger: std::time::Duration,
    /// Between two syncs of the write-ahead log, when nothing is urgent.
    pub sync: std::time::Duration,
}

/// What a recorder did so far; for tests and for people.
#[derive(Debug, Default)]
pub struct Counters {
    /// Chunks written.
    pub chunks: std::sync::atomic::AtomicU64,
    /// How often it slept.
    pub naps: std::sync::atomic::AtomicU64,
    /// How often of these something was published and not read when it lay down. Always 0: it is looked at in the same
    /// breath as the decision to sleep.
    pub naps_with_work: std::sync::atomic::AtomicU64,
}
