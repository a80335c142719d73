//! What other threads tell a shard. Lock-free; the eventfd is written only when the shard has not been told yet.

use crate::services::Asker;
use crossbeam::queue::SegQueue;
use headgate_gate::CatalogLoaded;
use headgate_plane::question::Asked;
use headgate_plane::{Answer, Grant, QuestionKey, Refusal, SessionId};
use headgate_policy::Compiled;
use headgate_ring::WakeFd;
use headgate_sql::{Facts, Unreadable};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

pub enum Message {
    Snapshot(Arc<Compiled>),
    SignedIn {
        session: SessionId,
        result: Result<Box<Grant>, Refusal>,
    },
    Asked(Asked),
    Answer {
        key: QuestionKey,
        answer: Answer,
    },
    Revoke {
        sessions: Arc<[SessionId]>,
        reason: Arc<str>,
    },
    Analysed {
        session: SessionId,
        text: Arc<[u8]>,
        result: Result<Facts, Unreadable>,
    },
    /// In the order in which they are tried.
    Resolved {
        session: SessionId,
        addresses: Result<Arc<[SocketAddr]>, String>,
    },
    /// To the shard that `session`, the key's holder, is on.
    Cancel {
        asker: Asker,
        session: SessionId,
        token: Arc<[u8]>,
    },
    CancelDone {
        session: SessionId,
    },
    /// The spool has room again, or more of it is on disk. Sent by [`Inbox::spool_moved`].
    SpoolMoved,
    /// So many changes of this target's catalog have been told.
    CatalogChanged {
        target: Arc<str>,
        changes: u64,
    },
    CatalogLoaded(CatalogLoaded),
    /// Comes once a second: expiry, metrics.
    Second,
    Stop,
}

/// Bounds: none of its own. Senders are bounded: one message per sign-in, question, analysis or resolution that a session
/// waits for, and per change of rules; one at a time for the spool.
#[derive(Default)]
pub struct Inbox {
    queue: SegQueue<Message>,
    told: AtomicBool,
    /// A `SpoolMoved` is on its way that was not read.
    spool_moved: AtomicBool,
    wake: OnceLock<WakeFd>,
}

impl Inbox {
    pub fn new() -> Arc<Inbox> {
        Arc::new(Inbox::default())
    }

    /// The ring's eventfd, once the ring is there. What was sent before is found at the first turn.
    pub fn connect(&self, wake: WakeFd) {
        let _ = self.wake.set(wake);
        wake.wake();
    }

    pub fn send(&self, message: Message) {
        self.queue.push(message);
        // The swap is after the push and before the shard's look, so one of the two sides sees the other.
        if !self.told.swap(true, Ordering::SeqCst)
            && let Some(wake) = self.wake.get()
        {
            wake.wake();
        }
    }

    /// However often the recorder moves before the shard looks, the shard looks once.
    pub fn spool_moved(&self) {
        if !self.spool_moved.swap(true, Ordering::AcqRel) {
            self.send(Message::SpoolMoved);
        }
    }

    /// Before the shard looks: what moves from here on is another message. The swap reads what the callers that were
    /// spared wrote, so the look sees what they saw.
    pub(crate) fn spool_read(&self) {
        self.spool_moved.swap(false, Ordering::AcqRel);
    }

    pub(crate) fn begin_reading(&self) {
        self.told.store(false, Ordering::SeqCst);
    }

    pub(crate) fn next(&self) -> Option<Message> {
        self.queue.pop()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}
