//! What was changed through the API, by whom, and what was refused: kept in the store, in order, on disk before the
//! caller hears "done".
//!
//! Never here: secrets, tokens, passwords, statements. Bounds: [`ENTRIES_MAX`]; the oldest go.

use headgate_store::{Batch, Store, StoreError, StoreJson, Table, read_json, write_json};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, PoisonError};

const ENTRIES_MAX: u64 = 100_000;
const PREFIX: &[u8] = b"journal/";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Change {
    pub number: u64,
    pub unix_ms: u64,
    pub principal: String,
    pub address: String,
    pub credential_id: Option<String>,
    /// `POST /api/v1/tokens`.
    pub call: String,
    /// What it was about: a name, an id, a number.
    pub subject: String,
    /// HTTP status that was answered.
    pub status: u16,
}

pub struct Journal {
    store: Arc<dyn Store>,
    /// The next number, and the right to write.
    next: Mutex<u64>,
}

#[derive(Default, Serialize, Deserialize)]
struct Head {
    next: u64,
}

const HEAD_KEY: &[u8] = b"journal.head";

impl Journal {
    pub fn open(store: Arc<dyn Store>) -> Result<Journal, StoreError> {
        let head: Head = store
            .get_json(Table::Meta, HEAD_KEY)?
            .map(|(_, head)| head)
            .unwrap_or_default();
        Ok(Journal {
            store,
            next: Mutex::new(head.next.max(1)),
        })
    }

    /// `change.number` is given here.
    pub fn write(&self, mut change: Change) -> Result<(), StoreError> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        change.number = *next;
        let mut batch = Batch::new()
            .put(
                Table::Outbox,
                key(change.number),
                write_json(Table::Outbox, &change)?,
            )
            .put(
                Table::Meta,
                HEAD_KEY,
                write_json(
                    Table::Meta,
                    &Head {
                        next: change.number + 1,
                    },
                )?,
            );
        if let Some(oldest) = change.number.checked_sub(ENTRIES_MAX) {
            batch = batch.delete(Table::Outbox, key(oldest));
        }
        self.store.write(batch)?;
        *next = change.number + 1;
        Ok(())
    }

    /// In order, beginning after `after`.
    pub fn list(&self, after: u64, limit: usize) -> Result<Vec<Change>, StoreError> {
        let from = key(after);
        let entries = self.store.scan_after(Table::Outbox, PREFIX, Some(&from), limit)?;
        entries
            .iter()
            .map(|e| read_json(Table::Outbox, &e.value))
            .collect()
    }
}

fn key(number: u64) -> Vec<u8> {
    [PREFIX, &number.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use headgate_store::MemoryStore;

    #[test]
    fn the_journal_goes_on_after_a_restart() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let change = |call: &str| Change {
            number: 0,
            unix_ms: 1,
            principal: "alice".into(),
            address: "local".into(),
            credential_id: None,
            call: call.into(),
            subject: "orders".into(),
            status: 200,
        };
        Journal::open(store.clone())
            .unwrap()
            .write(change("PUT /a"))
            .unwrap();
        let journal = Journal::open(store).unwrap();
        journal.write(change("PUT /b")).unwrap();
        let calls: Vec<_> = journal
            .list(0, 10)
            .unwrap()
            .into_iter()
            .map(|c| (c.number, c.call))
            .collect();
        assert_eq!(calls, [(1, "PUT /a".to_owned()), (2, "PUT /b".to_owned())]);
        assert_eq!(journal.list(1, 10).unwrap().len(), 1);
    }
}
