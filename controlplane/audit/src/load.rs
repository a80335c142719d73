//! Chunks and summaries in memory, with small caches: a join looks at the same few chunks again and again.

use crate::error::AuditError;
use crate::store::View;
use headgate_plane::SessionId;
use headgate_recording::chunk::{Chunk, ChunkError, ChunkHeader};
use headgate_recording::columns::Row;
use headgate_recording::keys;
use headgate_recording::rows::{SessionRow, Summary};
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

/// By key, and the keys in the order in which they came.
type Entries<K, V> = (HashMap<K, Arc<V>>, VecDeque<K>);

/// Forgets what came first.
pub(crate) struct Cache<K, V> {
    inner: Mutex<Entries<K, V>>,
    entries_max: usize,
}

impl<K: Copy + Eq + Hash, V> Cache<K, V> {
    fn new(entries_max: usize) -> Self {
        Cache {
            inner: Mutex::new((HashMap::new(), VecDeque::new())),
            entries_max,
        }
    }

    fn get_or<E>(&self, key: K, make: impl FnOnce() -> Result<Option<V>, E>) -> Result<Option<Arc<V>>, E> {
        if let Some(found) = self
            .inner
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .0
            .get(&key)
        {
            return Ok(Some(Arc::clone(found)));
        }
        let Some(made) = make()?.map(Arc::new) else {
            return Ok(None);
        };
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let (map, order) = &mut *inner;
        if map.insert(key, Arc::clone(&made)).is_none() {
            order.push_back(key);
        }
        if order.len() > self.entries_max
            && let Some(oldest) = order.pop_front()
        {
            map.remove(&oldest);
        }
        Ok(Some(made))
    }
}

pub(crate) struct Caches {
    chunks: Cache<u64, Loaded>,
    summaries: Cache<u64, Summary>,
    /// Only what does not change after opening is read from these.
    sessions: Cache<SessionId, SessionRow>,
    /// Large: a search in data reads those of one chunk for many statements.
    replies: Cache<u64, Vec<u8>>,
}

impl Default for Caches {
    fn default() -> Self {
        Caches {
            chunks: Cache::new(48),
            summaries: Cache::new(4096),
            sessions: Cache::new(8192),
            replies: Cache::new(2),
        }
    }
}

/// A chunk without its replies.
pub(crate) struct Loaded {
    pub header: ChunkHeader,
    pub rows: Vec<Row>,
    pub bodies: Vec<u8>,
}

pub(crate) fn unpack(bytes: &[u8], len: usize) -> Option<Vec<u8>> {
    zstd::bulk::decompress(bytes, len).ok()
}

impl Loaded {
    pub fn read(value: &[u8]) -> Result<Loaded, ChunkError> {
        let chunk = Chunk::read(value)?;
        Ok(Loaded {
            rows: chunk.rows(&unpack)?.rows,
            bodies: chunk.bodies(&unpack)?,
            header: chunk.header,
        })
    }
}

impl Caches {
    pub fn chunk(&self, view: &View, number: u64) -> Result<Option<Arc<Loaded>>, AuditError> {
        self.chunks.get_or(number, || {
            let Some(value) = view.get(keys::CHUNK, &keys::chunk(number))? else {
                return Ok(None);
            };
            Loaded::read(&value)
                .map(Some)
                .map_err(|why| AuditError::Chunk { number, why })
        })
    }

    pub fn summary(&self, view: &View, number: u64) -> Result<Option<Arc<Summary>>, AuditError> {
        self.summaries.get_or(number, || view.summary(number))
    }

    pub fn replies(&self, view: &View, number: u64) -> Result<Option<Arc<Vec<u8>>>, AuditError> {
        self.replies.get_or(number, || replies(view, number).map(Some))
    }

    pub fn session(&self, view: &View, id: SessionId) -> Result<Option<Arc<SessionRow>>, AuditError> {
        self.sessions.get_or(id, || view.session(id))
    }
}

/// The replies and the data of a chunk; not cached: a replay reads them once.
pub(crate) fn replies(view: &View, number: u64) -> Result<Vec<u8>, AuditError> {
    let why = |why| AuditError::Chunk { number, why };
    let value = view
        .get(keys::CHUNK, &keys::chunk(number))?
        .ok_or(why(ChunkError::Header))?;
    let chunk = Chunk::read(&value).map_err(why)?;
    let replies = view.get(keys::RESP, &keys::chunk(number))?;
    chunk.replies(replies.as_deref(), &unpack).map_err(why)
}
