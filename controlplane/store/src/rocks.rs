//! The store on disk: one RocksDB, one column family per table, every batch synced.
//!
//! A value on disk is its revision (8 bytes, big endian) and then the bytes. Writers take one lock, so that a condition
//! that was checked still holds when its batch is written; readers take none.

use crate::{Batch, Entry, Expected, Store, StoreError, Table, Versioned};
use rocksdb::{
    ColumnFamily, ColumnFamilyDescriptor, DB, Direction, IteratorMode, Options, ReadOptions, WriteBatch,
    WriteOptions,
};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// A column family beside the tables, so that no caller's key can meet it: the last revision that was given out.
const REVISION_FAMILY: &str = "revision";
const REVISION_KEY: &[u8] = b"last";
const REVISION_BYTES: usize = 8;

pub struct RocksStore {
    db: DB,
    /// The last revision, and the right to write.
    revision: Mutex<u64>,
}

fn io(error: rocksdb::Error) -> StoreError {
    StoreError::Io {
        why: error.into_string(),
    }
}

impl RocksStore {
    /// Opens or creates the store in `dir`. A second opener is refused by RocksDB's own lock.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, StoreError> {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_max_background_jobs(2);
        options.set_keep_log_file_num(4);
        options.set_max_total_wal_size(64 << 20);
        let families = Table::ALL
            .into_iter()
            .map(Table::name)
            .chain([REVISION_FAMILY])
            .map(|name| {
                let mut options = Options::default();
                // State is small: ten default memtables of 64 MiB would be most of it.
                options.set_write_buffer_size(4 << 20);
                options.set_compression_type(rocksdb::DBCompressionType::Lz4);
                ColumnFamilyDescriptor::new(name, options)
            });
        let db = DB::open_cf_descriptors(&options, dir, families).map_err(io)?;
        let store = RocksStore {
            db,
            revision: Mutex::new(0),
        };
        let last = match store
            .db
            .get_cf(store.family(REVISION_FAMILY)?, REVISION_KEY)
            .map_err(io)?
        {
            None => 0,
            Some(bytes) => u64::from_be_bytes(*bytes.first_chunk().ok_or_else(|| malformed(Table::Meta))?),
        };
        *store.revision.lock().unwrap_or_else(PoisonError::into_inner) = last;
        Ok(store)
    }

    fn family(&self, name: &'static str) -> Result<&ColumnFamily, StoreError> {
        self.db.cf_handle(name).ok_or_else(|| StoreError::Io {
            why: format!("no column family {name}"),
        })
    }
}

fn malformed(table: Table) -> StoreError {
    StoreError::Malformed {
        table,
        why: "no revision before the value".into(),
    }
}

fn split(table: Table, stored: &[u8]) -> Result<Versioned, StoreError> {
    let (revision, value) = stored
        .split_first_chunk::<REVISION_BYTES>()
        .ok_or_else(|| malformed(table))?;
    Ok(Versioned {
        revision: u64::from_be_bytes(*revision),
        value: value.to_vec(),
    })
}

impl Store for RocksStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Versioned>, StoreError> {
        match self
            .db
            .get_pinned_cf(self.family(table.name())?, key)
            .map_err(io)?
        {
            None => Ok(None),
            Some(stored) => split(table, &stored).map(Some),
        }
    }

    fn scan_after(
        &self,
        table: Table,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        let from = after.filter(|after| *after >= prefix).unwrap_or(prefix);
        let mut options = ReadOptions::default();
        options.set_total_order_seek(true);
        let mode = IteratorMode::From(from, Direction::Forward);
        let mut found = Vec::new();
        for item in self.db.iterator_cf_opt(self.family(table.name())?, options, mode) {
            let (key, stored) = item.map_err(io)?;
            if found.len() >= limit || !key.starts_with(prefix) {
                break;
            }
            if after == Some(&*key) {
                continue;
            }
            let Versioned { revision, value } = split(table, &stored)?;
            found.push(Entry {
                key: key.into_vec(),
                revision,
                value,
            });
        }
        Ok(found)
    }

    fn write(&self, batch: Batch) -> Result<u64, StoreError> {
        batch.bounded()?;
        let mut last = self.revision.lock().unwrap_or_else(PoisonError::into_inner);
        for (table, key, expected) in batch.conditions {
            let found = self.get(table, &key)?.map(|v| v.revision);
            let met = match expected {
                Expected::Absent => found.is_none(),
                Expected::Revision(revision) => found == Some(revision),
            };
            if !met {
                return Err(StoreError::Conflict { table, key, found });
            }
        }
        let revision = *last + 1;
        let mut changes = WriteBatch::default();
        for (table, key, value) in batch.changes {
            let family = self.family(table.name())?;
            match value {
                None => changes.delete_cf(family, key),
                Some(value) => {
                    let mut stored = Vec::with_capacity(REVISION_BYTES + value.len());
                    stored.extend_from_slice(&revision.to_be_bytes());
                    stored.extend_from_slice(&value);
                    changes.put_cf(family, key, stored);
                }
            }
        }
        changes.put_cf(
            self.family(REVISION_FAMILY)?,
            REVISION_KEY,
            revision.to_be_bytes(),
        );
        let mut options = WriteOptions::default();
        options.set_sync(true);
        self.db.write_opt(changes, &options).map_err(io)?;
        *last = revision;
        Ok(revision)
    }
}
