//! The audit database for writing. One batch per chunk; the write-ahead log is on, always.
//!
//! Invariant: chunk n is there exactly when the edge's size is above n; both, and everything derived from the chunk, come
//! in one batch. A write that failed is tried again on a database opened anew, and only if it did not land after all.

use crate::RecorderError;
use headgate_plane::SessionId;
use headgate_recording::keys;
use headgate_recording::rows::{SessionRow, from_bytes};
use headgate_recording::tree::Edge;
use rocksdb::{
    ColumnFamilyDescriptor, DB, DBCompressionType, IteratorMode, Options, WriteBatch, WriteOptions,
};
use std::path::{Path, PathBuf};

pub struct Store {
    dir: PathBuf,
    db: Option<DB>,
}

fn options() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_paranoid_checks(true);
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_max_total_wal_size(512 << 20);
    options.set_max_open_files(-1);
    options.set_max_background_jobs(2);
    options.set_keep_log_file_num(4);
    options.set_max_log_file_size(8 << 20);
    options
}

fn families() -> Vec<ColumnFamilyDescriptor> {
    let family = |name: &&'static str| {
        let mut options = Options::default();
        // Chunks are packed already.
        let packed = [keys::CHUNK, keys::RESP].contains(name);
        options.set_compression_type(if packed {
            DBCompressionType::None
        } else {
            DBCompressionType::Lz4
        });
        options.set_write_buffer_size(if packed { 64 << 20 } else { 16 << 20 });
        ColumnFamilyDescriptor::new(*name, options)
    };
    keys::FAMILIES.iter().map(family).collect()
}

/// What goes into one batch.
#[derive(Default)]
pub struct Batch {
    puts: Vec<(&'static str, Vec<u8>, Vec<u8>)>,
}

impl Batch {
    pub fn put(&mut self, family: &'static str, key: &[u8], value: Vec<u8>) {
        self.puts.push((family, key.to_vec(), value));
    }
}

impl Store {
    pub fn open(dir: &Path) -> Result<Store, RecorderError> {
        std::fs::create_dir_all(dir)?;
        let mut store = Store {
            dir: dir.to_owned(),
            db: None,
        };
        store.reopen()?;
        match store.get(keys::META, keys::LAYOUT_KEY)?.as_deref() {
            None => {
                let mut batch = Batch::default();
                batch.put(keys::META, keys::LAYOUT_KEY, vec![keys::LAYOUT]);
                store.write(&batch, true)?;
            }
            Some([keys::LAYOUT]) => {}
            Some(other) => {
                let found = other.first().copied().unwrap_or_default();
                let what = format!(
                    "{} holds recordings of format {found}, and this version writes format {}: keep that directory, and name a new one",
                    dir.display(),
                    keys::LAYOUT
                );
                return Err(RecorderError::Unfit { what });
            }
        }
        Ok(store)
    }

    /// Lets go of a database in error and opens it again.
    pub fn reopen(&mut self) -> Result<(), RecorderError> {
        self.db = None;
        self.db = Some(DB::open_cf_descriptors(&options(), &self.dir, families())?);
        Ok(())
    }

    fn db(&self) -> Result<&DB, RecorderError> {
        self.db.as_ref().ok_or_else(|| RecorderError::Database {
            why: "not open".to_owned(),
        })
    }

    pub fn get(&self, family: &str, key: &[u8]) -> Result<Option<Vec<u8>>, RecorderError> {
        let db = self.db()?;
        match db.cf_handle(family) {
            Some(handle) => Ok(db.get_cf(handle, key)?),
            None => Err(RecorderError::Database {
                why: format!("no column family {family}"),
            }),
        }
    }

    pub fn write(&self, batch: &Batch, sync: bool) -> Result<(), RecorderError> {
        let db = self.db()?;
        let mut writes = WriteBatch::default();
        for (family, key, value) in &batch.puts {
            let handle = db.cf_handle(family).ok_or_else(|| RecorderError::Database {
                why: format!("no column family {family}"),
            })?;
            writes.put_cf(handle, key, value);
        }
        let mut how = WriteOptions::default();
        how.set_sync(sync);
        Ok(db.write_opt(writes, &how)?)
    }

    /// Everything written so far is on disk afterwards.
    pub fn sync(&self) -> Result<(), RecorderError> {
        Ok(self.db()?.flush_wal(true)?)
    }

    pub fn edge(&self) -> Result<Edge, RecorderError> {
        let Some(bytes) = self.get(keys::META, keys::EDGE)? else {
            return Ok(Edge::default());
        };
        from_bytes(&bytes)
            .filter(Edge::is_sound)
            .ok_or_else(|| RecorderError::Unfit {
                what: "the tree's edge cannot be read".to_owned(),
            })
    }

    /// Number that the next chunk gets.
    pub fn next_chunk(&self) -> Result<u64, RecorderError> {
        let db = self.db()?;
        let handle = db.cf_handle(keys::CHUNK).ok_or_else(|| RecorderError::Database {
            why: "no chunks".to_owned(),
        })?;
        match db.iterator_cf(handle, IteratorMode::End).next() {
            None => Ok(0),
            Some(entry) => keys::chunk_number(&entry?.0)
                .map(|n| n + 1)
                .ok_or_else(|| RecorderError::Unfit {
                    what: "a chunk's key cannot be read".to_owned(),
                }),
        }
    }

    pub fn session(&self, id: SessionId) -> Result<Option<SessionRow>, RecorderError> {
        Ok(self
            .get(keys::SESS, &keys::session(id))?
            .and_then(|bytes| from_bytes(&bytes)))
    }
}
