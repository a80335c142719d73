//! A store without a disk, for the tests of crates that keep something in one. The oracle of [`crate::RocksStore`].

use crate::{Batch, Entry, Expected, Store, StoreError, Table, Versioned};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Debug, Default)]
pub struct MemoryStore {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    revision: u64,
    entries: BTreeMap<(Table, Vec<u8>), Versioned>,
}

impl MemoryStore {
    pub fn new() -> Self {
        MemoryStore::default()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // No code panics between two halves of a change, so what a poisoned lock guards is whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Versioned>, StoreError> {
        Ok(self.lock().entries.get(&(table, key.to_vec())).cloned())
    }

    fn scan_after(
        &self,
        table: Table,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        let inner = self.lock();
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded((table, after.to_vec())),
            _ => Bound::Included((table, prefix.to_vec())),
        };
        let found = inner.entries.range((from, Bound::Unbounded));
        Ok(found
            .take_while(|((t, key), _)| *t == table && key.starts_with(prefix))
            .take(limit)
            .map(|((_, key), v)| Entry {
                key: key.clone(),
                revision: v.revision,
                value: v.value.clone(),
            })
            .collect())
    }

    fn write(&self, batch: Batch) -> Result<u64, StoreError> {
        batch.bounded()?;
        let mut inner = self.lock();
        for (table, key, expected) in batch.conditions {
            let found = inner.entries.get(&(table, key.clone())).map(|v| v.revision);
            let met = match expected {
                Expected::Absent => found.is_none(),
                Expected::Revision(revision) => found == Some(revision),
            };
            if !met {
                return Err(StoreError::Conflict { table, key, found });
            }
        }
        inner.revision += 1;
        let revision = inner.revision;
        for (table, key, value) in batch.changes {
            match value {
                Some(value) => inner.entries.insert((table, key), Versioned { revision, value }),
                None => inner.entries.remove(&(table, key)),
            };
        }
        Ok(revision)
    }
}
