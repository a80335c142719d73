//! What the sessions of one core share: settings, policy, known texts, catalogs, the spool, the clock, effects.
//!
//! Invariant: owned by one thread; no lock in it. Everything that a session wants of the outside goes into `effects`,
//! which the shard drains after each call.

use crate::callers::Callers;
use crate::known::KnownTexts;
use crate::traffic::Runs;
use hashbrown::HashMap;
use headgate_mask::{Catalog, Scratch};
use headgate_plane::{Snapshot, TargetSpec, ToControl};
use headgate_policy::{Compiled, Problem};
use headgate_postgres::ScramKeys;
use headgate_spool::Producer;
use std::sync::Arc;

#[derive(Clone, Debug)]
pub struct Settings {
    /// Of one reply as the client received it, kept in the recording.
    pub reply_record_bytes: usize,
    /// The longest message of a client that is read whole.
    pub client_message_bytes_max: usize,
    /// The longest message of a target that is read whole; rows that no mask touches pass in pieces of any length.
    pub target_message_bytes_max: usize,
    /// From accept to the credential.
    pub handshake_ms_max: u64,
    /// From the credential to the client's first ReadyForQuery.
    pub sign_in_ms_max: u64,
    /// A catalog older than this is loaded again by the next session that needs it.
    pub catalog_age_ms_max: u64,
    /// Every statement waits until it is on disk before it is forwarded.
    pub strict: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            reply_record_bytes: 64 << 10,
            client_message_bytes_max: 64 << 20,
            target_message_bytes_max: 64 << 20,
            handshake_ms_max: 20_000,
            sign_in_ms_max: 30_000,
            catalog_age_ms_max: 30_000,
            strict: false,
        }
    }
}

/// Of one listener.
#[derive(Clone)]
pub struct ListenerSettings {
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Passwords may come without TLS: for loopback only.
    pub danger_allow_cleartext: bool,
}

/// What a session wants of the outside.
#[derive(Debug)]
pub enum Effect {
    /// Resolve and connect; the answer comes as `target_connected` or `target_failed`.
    ConnectTarget {
        address: String,
    },
    ToControl(ToControl),
    /// Parse this text in an analyst; the answer comes as `analysed`.
    Analyse {
        text: Arc<[u8]>,
    },
    /// The session that brings this has the cancel key that it gave to its client, from here to its end.
    KeyMade {
        pid: u32,
        key: Vec<u8>,
    },
    /// A cancel request came in: whoever has this key, on any core, cancels.
    CancelSession {
        pid: u32,
        key: Vec<u8>,
    },
    /// The target's catalog may have changed: every core marks its own as stale.
    CatalogChanged {
        target: String,
    },
}

/// Wall and monotonic time of this turn.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    /// Monotonic, any start.
    pub now_us: u64,
    /// Wall clock at `now_us` = 0, Unix microseconds. The shard sets it anew when the wall clock was set.
    pub anchor_unix_us: u64,
}

impl Clock {
    pub fn unix_us(&self) -> u64 {
        self.anchor_unix_us + self.now_us
    }

    pub fn unix_ms(&self) -> u64 {
        self.unix_us() / 1000
    }
}

/// Plain counters of one core, published once a second.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    pub sessions_opened: u64,
    pub sessions_closed: u64,
    pub sign_ins_refused: u64,
    pub statements_allowed: u64,
    pub statements_held: u64,
    pub statements_denied: u64,
    pub texts_analysed: u64,
    pub rows: u64,
    pub values_masked: u64,
    pub bytes_from_clients: u64,
    pub bytes_to_clients: u64,
    pub spool_waits: u64,
    pub peers_misbehaved: u64,
}

impl Metrics {
    pub fn named(&self) -> [(&'static str, u64); 13] {
        [
            ("headgate_sessions_opened_total", self.sessions_opened),
            ("headgate_sessions_closed_total", self.sessions_closed),
            ("headgate_sign_ins_refused_total", self.sign_ins_refused),
            ("headgate_statements_allowed_total", self.statements_allowed),
            ("headgate_statements_held_total", self.statements_held),
            ("headgate_statements_denied_total", self.statements_denied),
            ("headgate_texts_analysed_total", self.texts_analysed),
            ("headgate_rows_total", self.rows),
            ("headgate_values_masked_total", self.values_masked),
            ("headgate_bytes_from_clients_total", self.bytes_from_clients),
            ("headgate_bytes_to_clients_total", self.bytes_to_clients),
            ("headgate_spool_waits_total", self.spool_waits),
            ("headgate_peers_misbehaved_total", self.peers_misbehaved),
        ]
    }
}

/// A target's catalog as this core last saw it.
#[derive(Default)]
pub struct CatalogSlot {
    pub catalog: Option<Arc<Catalog>>,
    /// Grows with each load; part of the key of cached verdicts.
    pub version: u64,
    pub loaded_us: u64,
    pub stale: bool,
}

pub type ClientTlsConfigs = dyn Fn(&TargetSpec) -> Result<Arc<rustls::ClientConfig>, String> + Send + Sync;

pub struct Core {
    pub settings: Settings,
    pub listeners: Vec<ListenerSettings>,
    pub policy: Arc<Compiled>,
    pub known: KnownTexts,
    pub catalogs: HashMap<String, CatalogSlot>,
    pub catalog_version: u64,
    pub spool: Producer,
    pub clock: Clock,
    pub target_tls: Arc<ClientTlsConfigs>,
    /// Of `hash` and `tokenize` masks; the same on every core of the appliance.
    pub mask_key: [u8; 32],
    pub scratch: Scratch,
    pub metrics: Metrics,
    pub effects: Vec<Effect>,
    /// Of the targets' passwords.
    pub(crate) scram_keys: ScramKeys,
    pub(crate) callers: Callers,
    pub(crate) runs: Runs,
    buffers: Vec<Vec<u8>>,
}

/// Buffers kept for reuse, and the largest that is kept.
const BUFFERS_MAX: usize = 256;
const BUFFER_BYTES_MAX: usize = 256 << 10;

impl Core {
    pub fn new(
        settings: Settings,
        listeners: Vec<ListenerSettings>,
        spool: Producer,
        clock: Clock,
        target_tls: Arc<ClientTlsConfigs>,
        mask_key: [u8; 32],
    ) -> Core {
        Core {
            settings,
            listeners,
            policy: Arc::new(Compiled::none()),
            known: KnownTexts::default(),
            catalogs: HashMap::new(),
            catalog_version: 0,
            spool,
            clock,
            target_tls,
            mask_key,
            scratch: Scratch::default(),
            metrics: Metrics::default(),
            effects: Vec::new(),
            scram_keys: ScramKeys::default(),
            callers: Callers::default(),
            runs: Runs::default(),
            buffers: Vec::new(),
        }
    }

    /// A snapshot that does not compile is one that refuses, never one that is absent.
    pub fn compile(snapshot: Arc<Snapshot>) -> (Arc<Compiled>, Vec<Problem>) {
        match Compiled::new(snapshot) {
            Ok(compiled) => (Arc::new(compiled), Vec::new()),
            Err(problems) => (Arc::new(Compiled::none()), problems),
        }
    }

    pub fn buffer(&mut self) -> Vec<u8> {
        self.buffers.pop().unwrap_or_default()
    }

    /// Gives `buffer` memory if it has none.
    pub fn lend(&mut self, buffer: &mut Vec<u8>) {
        if buffer.capacity() == 0 {
            *buffer = self.buffer();
        }
    }

    pub fn recycle(&mut self, mut buffer: Vec<u8>) {
        if self.buffers.len() < BUFFERS_MAX && buffer.capacity() > 0 && buffer.capacity() <= BUFFER_BYTES_MAX {
            buffer.clear();
            self.buffers.push(buffer);
        }
    }

    pub fn random<const N: usize>() -> [u8; N] {
        let mut bytes = [0; N];
        // The system's generator failing is not something to go on from: keys would be guessable.
        aws_lc_rs::rand::fill(&mut bytes).expect("gate: the system gives random bytes");
        bytes
    }

    pub fn mark_catalog_stale(&mut self, target: &str) {
        if let Some(slot) = self.catalogs.get_mut(target) {
            slot.stale = true;
        }
    }

    /// Keeps a freshly loaded catalog and gives it a version.
    pub fn keep_catalog(&mut self, target: &str, catalog: Option<Arc<Catalog>>) -> u64 {
        self.catalog_version += 1;
        let version = self.catalog_version;
        let loaded_us = self.clock.now_us;
        let slot = CatalogSlot { catalog, version, loaded_us, stale: false };
        self.catalogs.insert(target.to_owned(), slot);
        version
    }
}
