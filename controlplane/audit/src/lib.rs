//! Reads the audit database: statements, sessions, replay, and verification with the public key alone.
//!
//! The database belongs to the recorder; here it is opened as a RocksDB secondary, which sees new chunks within about the
//! recorder's linger plus [`store::CATCH_UP_MIN`]. Calls block on disk and CPU: run them off an async runtime's threads.
//! Bounds: a page has at most [`PAGE_ROWS_MAX`] rows and opens a bounded number of chunks.
#![forbid(unsafe_code)]

mod error;
mod find;
mod load;
mod render;
mod replay;
mod sessions;
mod statements;
pub mod store;
mod transcript;
mod types;
mod verify;

pub use error::AuditError;
pub use transcript::parameter_text;
pub use types::*;
pub use verify::{Finding, VerifyReport, verify, verify_against};

use std::path::Path;

/// The audit database, for queries. Shared between threads as it is.
pub struct Audit {
    pub(crate) store: store::Store,
}

impl Audit {
    /// `dir` is the recorder's database; `scratch_dir` is this reader's own, for RocksDB's notes, and must not be shared
    /// with another reader. The database need not be there yet: queries say so until it is.
    pub fn open(dir: &Path, scratch_dir: &Path) -> Result<Audit, AuditError> {
        std::fs::create_dir_all(scratch_dir).map_err(|e| AuditError::Scratch { why: e.to_string() })?;
        Ok(Audit {
            store: store::Store::new(dir, scratch_dir),
        })
    }

    /// The newest checkpoint, a signed note, to be kept elsewhere; `None` before the first.
    pub fn latest_checkpoint(&self) -> Result<Option<String>, AuditError> {
        self.store.view()?.latest_checkpoint()
    }

    /// Checkpoints, newest first: size and note.
    pub fn checkpoints(&self, limit: usize) -> Result<Vec<(u64, String)>, AuditError> {
        self.store.view()?.checkpoints(limit.min(PAGE_ROWS_MAX))
    }
}
