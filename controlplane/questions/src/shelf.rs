//! Where questions lie on disk: table `questions`, one value per number, and the next number in `meta`.
//!
//! A value is a format byte and a postcard body: statements are bytes, and JSON would make four of each.

use crate::error::DeskError;
use crate::record::Record;
use headgate_plane::QuestionNumber;
use headgate_store::{Batch, Store, StoreError, Table};
use std::sync::Arc;

const FORMAT: u8 = 4;
const NEXT_NUMBER_KEY: &[u8] = b"questions.next";
/// Records read at once while starting.
const PAGE: usize = 32;

pub(crate) struct Shelf {
    store: Arc<dyn Store>,
}

impl From<StoreError> for DeskError {
    fn from(error: StoreError) -> Self {
        DeskError::Store(error.to_string())
    }
}

impl Shelf {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Shelf { store }
    }

    /// The number that the next question gets; the first is 1.
    pub(crate) fn next_number(&self) -> Result<u64, DeskError> {
        match self.store.get(Table::Meta, NEXT_NUMBER_KEY)? {
            None => Ok(1),
            Some(found) => {
                let bytes = found
                    .value
                    .first_chunk::<8>()
                    .ok_or_else(|| DeskError::Store("the next number cannot be read".into()))?;
                Ok(u64::from_be_bytes(*bytes).max(1))
            }
        }
    }

    /// A new question and the number after it, in one step: a number is never on disk without being used up.
    pub(crate) fn put_new(&self, record: &Record) -> Result<(), DeskError> {
        let next = record.number.0.saturating_add(1).to_be_bytes();
        let batch = Batch::new()
            .put(Table::Questions, key(record.number), write(record)?)
            .put(Table::Meta, NEXT_NUMBER_KEY, next);
        self.store.write(batch)?;
        Ok(())
    }

    pub(crate) fn put(&self, record: &Record) -> Result<(), DeskError> {
        self.store
            .put(Table::Questions, &key(record.number), &write(record)?)?;
        Ok(())
    }

    pub(crate) fn get(&self, number: QuestionNumber) -> Result<Option<Record>, DeskError> {
        match self.store.get(Table::Questions, &key(number))? {
            None => Ok(None),
            Some(found) => read(&found.value).map(Some),
        }
    }

    pub(crate) fn delete(&self, number: QuestionNumber) -> Result<(), DeskError> {
        Ok(self.store.delete(Table::Questions, &key(number))?)
    }

    /// Every record, in order of numbers.
    pub(crate) fn each(&self, mut see: impl FnMut(Record)) -> Result<(), DeskError> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = self
                .store
                .scan_after(Table::Questions, b"", after.as_deref(), PAGE)?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.key.clone());
            for entry in &page {
                see(read(&entry.value)?);
            }
        }
    }
}

fn key(number: QuestionNumber) -> [u8; 8] {
    number.0.to_be_bytes()
}

fn write(record: &Record) -> Result<Vec<u8>, DeskError> {
    postcard::to_extend(record, vec![FORMAT])
        .map_err(|e| DeskError::Store(format!("a question cannot be written: {e}")))
}

fn read(value: &[u8]) -> Result<Record, DeskError> {
    let wrong = |why: String| DeskError::Store(format!("a stored question cannot be read: {why}"));
    match value.split_first() {
        Some((&FORMAT, body)) => postcard::from_bytes(body).map_err(|e| wrong(e.to_string())),
        Some((format, _)) => Err(wrong(format!("format {format} is unknown"))),
        None => Err(wrong("it is empty".into())),
    }
}
