//! What can go wrong with a query.

use headgate_recording::chunk::ChunkError;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditError {
    /// The recorder has not made its database yet.
    NotThere {
        dir: String,
    },
    /// Written in another format than this version's.
    Layout {
        dir: String,
        found: u8,
    },
    /// The reader's own directory cannot be made.
    Scratch {
        why: String,
    },
    /// RocksDB's words.
    Database {
        why: String,
    },
    /// A chunk that cannot be read: verification says more.
    Chunk {
        number: u64,
        why: ChunkError,
    },
    /// Not a cursor of ours.
    Cursor,
    /// Not a session id.
    SessionId,
    NoSuchSession,
}

impl std::fmt::Display for AuditError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            AuditError::NotThere { dir } => write!(f, "no audit database at {dir} yet"),
            AuditError::Layout { dir, found } => {
                write!(
                    f,
                    "{dir} holds recordings of format {found}, and this version reads format {}",
                    headgate_recording::keys::LAYOUT
                )
            }
            AuditError::Scratch { why } => write!(f, "the reader's scratch directory cannot be made: {why}"),
            AuditError::Database { why } => write!(f, "the audit database cannot be read: {why}"),
            AuditError::Chunk { number, why } => write!(f, "chunk {number}: {why}"),
            AuditError::Cursor => f.write_str("the cursor is not one of ours"),
            AuditError::SessionId => f.write_str("not a session id"),
            AuditError::NoSuchSession => f.write_str("no such session"),
        }
    }
}

impl std::error::Error for AuditError {}

impl From<rocksdb::Error> for AuditError {
    fn from(error: rocksdb::Error) -> Self {
        AuditError::Database {
            why: error.into_string(),
        }
    }
}
