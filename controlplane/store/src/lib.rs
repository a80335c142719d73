//! The control plane's own state: small tables of bytes, with revisions, conditions and atomic batches.
//!
//! Invariant: a batch happens whole or not at all, and is on disk when [`Store::write`] returns (RocksDB, synced WAL).
//! Revisions grow by one with each batch, over all tables, and never repeat, not even after a restart.
//! The set of tables is fixed: a new one is added at the end of [`Table`], none is ever removed.
//! Bounds: KEY_BYTES_MAX, VALUE_BYTES_MAX; a scan names its limit.
#![forbid(unsafe_code)]

mod memory;
mod rocks;

pub use memory::MemoryStore;
pub use rocks::RocksStore;

use serde::{Serialize, de::DeserializeOwned};
use std::fmt;

pub const KEY_BYTES_MAX: usize = 4 << 10;
pub const VALUE_BYTES_MAX: usize = 16 << 20;

/// One column family each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Table {
    /// Counters, format versions.
    Meta,
    Tokens,
    Revocations,
    Secrets,
    /// Applied rule sets by epoch.
    Rules,
    Questions,
    Grants,
    Sessions,
    /// What happened to the control plane itself, before the recorder has it.
    Outbox,
}

impl Table {
    pub const ALL: [Table; 9] = [
        Table::Meta,
        Table::Tokens,
        Table::Revocations,
        Table::Secrets,
        Table::Rules,
        Table::Questions,
        Table::Grants,
        Table::Sessions,
        Table::Outbox,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Table::Meta => "meta",
            Table::Tokens => "tokens",
            Table::Revocations => "revocations",
            Table::Secrets => "secrets",
            Table::Rules => "rules",
            Table::Questions => "questions",
            Table::Grants => "grants",
            Table::Sessions => "sessions",
            Table::Outbox => "outbox",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned {
    /// Of the batch that wrote it.
    pub revision: u64,
    pub value: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: Vec<u8>,
    pub revision: u64,
    pub value: Vec<u8>,
}

/// What must be so for a batch to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    Absent,
    Revision(u64),
}

#[derive(Clone, Debug, Default)]
pub struct Batch {
    conditions: Vec<(Table, Vec<u8>, Expected)>,
    /// `None` deletes.
    changes: Vec<(Table, Vec<u8>, Option<Vec<u8>>)>,
}

impl Batch {
    pub fn new() -> Self {
        Batch::default()
    }

    #[must_use]
    pub fn require(mut self, table: Table, key: impl Into<Vec<u8>>, expected: Expected) -> Self {
        self.conditions.push((table, key.into(), expected));
        self
    }

    #[must_use]
    pub fn put(mut self, table: Table, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        self.changes.push((table, key.into(), Some(value.into())));
        self
    }

    #[must_use]
    pub fn delete(mut self, table: Table, key: impl Into<Vec<u8>>) -> Self {
        self.changes.push((table, key.into(), None));
        self
    }

    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    fn bounded(&self) -> Result<(), StoreError> {
        let keys = self
            .conditions
            .iter()
            .map(|(_, key, _)| key)
            .chain(self.changes.iter().map(|(_, key, _)| key));
        for key in keys {
            if key.is_empty() || key.len() > KEY_BYTES_MAX {
                return Err(StoreError::KeyLength { bytes: key.len() });
            }
        }
        for (_, _, value) in &self.changes {
            if let Some(value) = value
                && value.len() > VALUE_BYTES_MAX
            {
                return Err(StoreError::ValueTooLong { bytes: value.len() });
            }
        }
        Ok(())
    }
}

/// Blocks: call it from a thread that may wait for the disk, or accept the millisecond.
pub trait Store: Send + Sync {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Versioned>, StoreError>;

    /// Keys that begin with `prefix` and are greater than `after`, in byte order, at most `limit`.
    fn scan_after(
        &self,
        table: Table,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError>;

    /// All conditions are met, then all changes happen, in one step. Returns the batch's revision.
    fn write(&self, batch: Batch) -> Result<u64, StoreError>;

    fn scan(&self, table: Table, prefix: &[u8], limit: usize) -> Result<Vec<Entry>, StoreError> {
        self.scan_after(table, prefix, None, limit)
    }

    fn put(&self, table: Table, key: &[u8], value: &[u8]) -> Result<u64, StoreError> {
        self.write(Batch::new().put(table, key, value))
    }

    /// [`StoreError::Conflict`] when `expected` is not so.
    fn put_if(&self, table: Table, key: &[u8], expected: Expected, value: &[u8]) -> Result<u64, StoreError> {
        self.write(Batch::new().require(table, key, expected).put(table, key, value))
    }

    fn delete(&self, table: Table, key: &[u8]) -> Result<(), StoreError> {
        self.write(Batch::new().delete(table, key)).map(|_| ())
    }
}

/// JSON values over any store.
pub trait StoreJson: Store {
    fn get_json<T: DeserializeOwned>(
        &self,
        table: Table,
        key: &[u8],
    ) -> Result<Option<(u64, T)>, StoreError> {
        match self.get(table, key)? {
            None => Ok(None),
            Some(found) => Ok(Some((found.revision, read_json(table, &found.value)?))),
        }
    }

    fn put_json<T: Serialize>(&self, table: Table, key: &[u8], value: &T) -> Result<u64, StoreError> {
        self.put(table, key, &write_json(table, value)?)
    }
}

impl<S: Store + ?Sized> StoreJson for S {}

pub fn read_json<T: DeserializeOwned>(table: Table, value: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(value).map_err(|error| StoreError::Malformed {
        table,
        why: error.to_string(),
    })
}

pub fn write_json<T: Serialize>(table: Table, value: &T) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(|error| StoreError::Malformed {
        table,
        why: error.to_string(),
    })
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// A condition of the batch was not met; nothing was changed. `found`: the revision that is there.
    Conflict {
        table: Table,
        key: Vec<u8>,
        found: Option<u64>,
    },
    KeyLength {
        bytes: usize,
    },
    ValueTooLong {
        bytes: usize,
    },
    /// A stored value cannot be read.
    Malformed {
        table: Table,
        why: String,
    },
    /// The disk or RocksDB.
    Io {
        why: String,
    },
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Conflict { table, found, .. } => {
                write!(
                    f,
                    "an entry of {} was changed by someone else (revision {found:?})",
                    table.name()
                )
            }
            StoreError::KeyLength { bytes } => {
                write!(f, "a key of {bytes} bytes is not between 1 and {KEY_BYTES_MAX}")
            }
            StoreError::ValueTooLong { bytes } => {
                write!(f, "a value of {bytes} bytes is longer than {VALUE_BYTES_MAX}")
            }
            StoreError::Malformed { table, why } => {
                write!(f, "an entry of {} cannot be read: {why}", table.name())
            }
            StoreError::Io { why } => write!(f, "the control plane's store: {why}"),
        }
    }
}

impl std::error::Error for StoreError {}
