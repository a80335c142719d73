//! The secondary instance of RocksDB: opened late, caught up before queries, opened again after any error.

use crate::error::AuditError;
use headgate_plane::SessionId;
use headgate_recording::keys;
use headgate_recording::rows::{SessionRow, Summary, from_bytes};
use rocksdb::{ColumnFamilyDescriptor, DB, Direction, IteratorMode, Options};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between two looks at what the recorder wrote.
pub const CATCH_UP_MIN: Duration = Duration::from_millis(200);

type KeyValue = (Box<[u8]>, Box<[u8]>);

pub(crate) struct Store {
    dir: PathBuf,
    scratch: PathBuf,
    open: Mutex<Option<(Arc<View>, Instant)>>,
    pub caches: crate::load::Caches,
}

/// One opening of the database.
pub(crate) struct View {
    pub db: DB,
}

fn options() -> Options {
    let mut options = Options::default();
    options.set_max_open_files(-1);
    options.set_keep_log_file_num(2);
    options
}

fn families() -> Vec<ColumnFamilyDescriptor> {
    keys::FAMILIES
        .iter()
        .map(|name| ColumnFamilyDescriptor::new(*name, Options::default()))
        .collect()
}

impl View {
    pub fn secondary(dir: &Path, scratch: &Path) -> Result<View, AuditError> {
        if !dir.join("CURRENT").exists() {
            return Err(AuditError::NotThere {
                dir: dir.display().to_string(),
            });
        }
        let view = View {
            db: DB::open_cf_descriptors_as_secondary(&options(), dir, scratch, families())?,
        };
        // Rows of another format would be passed over without a word.
        match view.get(keys::META, keys::LAYOUT_KEY)?.as_deref() {
            None | Some([keys::LAYOUT]) => Ok(view),
            Some(other) => {
                let found = other.first().copied().unwrap_or_default();
                Err(AuditError::Layout {
                    dir: dir.display().to_string(),
                    found,
                })
            }
        }
    }

    pub fn get(&self, family: &str, key: &[u8]) -> Result<Option<Vec<u8>>, AuditError> {
        match self.db.cf_handle(family) {
            Some(handle) => Ok(self.db.get_cf(handle, key)?),
            None => Err(AuditError::Database {
                why: format!("no column family {family}"),
            }),
        }
    }

    /// Keys and values of a family from `start`, up or down.
    pub fn scan<'v>(
        &'v self,
        family: &str,
        start: &[u8],
        direction: Direction,
    ) -> Result<impl Iterator<Item = Result<KeyValue, AuditError>> + 'v, AuditError> {
        let handle = self.db.cf_handle(family).ok_or_else(|| AuditError::Database {
            why: format!("no column family {family}"),
        })?;
        Ok(self
            .db
            .iterator_cf(handle, IteratorMode::From(start, direction))
            .map(|entry| entry.map_err(AuditError::from)))
    }

    /// Number of the newest chunk.
    pub fn last_chunk(&self) -> Result<Option<u64>, AuditError> {
        let mut down = self.scan(keys::CHUNK, &keys::chunk(u64::MAX), Direction::Reverse)?;
        Ok(down
            .next()
            .transpose()?
            .and_then(|(key, _)| keys::chunk_number(&key)))
    }

    pub fn session(&self, id: SessionId) -> Result<Option<SessionRow>, AuditError> {
        Ok(self
            .get(keys::SESS, &keys::session(id))?
            .and_then(|bytes| from_bytes(&bytes)))
    }

    pub fn summary(&self, number: u64) -> Result<Option<Summary>, AuditError> {
        Ok(self
            .get(keys::IDX, &keys::summary(number))?
            .and_then(|bytes| from_bytes(&bytes)))
    }

    pub fn latest_checkpoint(&self) -> Result<Option<String>, AuditError> {
        Ok(self.checkpoints(1)?.pop().map(|(_, note)| note))
    }

    pub fn checkpoints(&self, limit: usize) -> Result<Vec<(u64, String)>, AuditError> {
        let mut found = Vec::new();
        for entry in self.scan(keys::META, &keys::checkpoint(u64::MAX), Direction::Reverse)? {
            let (key, value) = entry?;
            let Some(size) = keys::checkpoint_size(&key) else {
                break;
            };
            if found.len() >= limit {
                break;
            }
            found.push((size, String::from_utf8_lossy(&value).into_owned()));
        }
        Ok(found)
    }
}

impl Store {
    pub fn new(dir: &Path, scratch: &Path) -> Store {
        let (dir, scratch) = (dir.to_owned(), scratch.to_owned());
        Store {
            dir,
            scratch,
            open: Mutex::new(None),
            caches: crate::load::Caches::default(),
        }
    }

    /// The database, at most [`CATCH_UP_MIN`] behind.
    pub fn view(&self) -> Result<Arc<View>, AuditError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((view, caught_up)) = open.as_mut() {
            if caught_up.elapsed() < CATCH_UP_MIN {
                return Ok(Arc::clone(view));
            }
            match view.db.try_catch_up_with_primary() {
                Ok(()) => {
                    *caught_up = Instant::now();
                    return Ok(Arc::clone(view));
                }
                // A secondary that failed once stays behind for ever: open it anew.
                Err(error) => {
                    tracing::warn!(%error, "audit: the secondary cannot catch up; opening it again")
                }
            }
        }
        *open = None;
        let view = Arc::new(View::secondary(&self.dir, &self.scratch)?);
        *open = Some((Arc::clone(&view), Instant::now()));
        Ok(view)
    }
}
