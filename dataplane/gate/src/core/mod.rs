//! What the sessions of one core share: settings, policy, known texts, catalogs, the spool, the clock, effects.
//!
//! Invariant: owned by one thread; no lock in it. Everything that a session wants of the outside goes into `effects`,
//! which the shard drains after each call.

pub mod memory;

use crate::core::memory::Meter;
use crate::postgres::Executions;
use crate::session::side::SideCancel;
use crate::sql::callers::Callers;
use crate::sql::catalogs::{CatalogWanted, Catalogs, Labels};
use crate::sql::known::KnownTexts;
use crate::sql::sights::Sights;
use hashbrown::HashMap;
use headgate_mask::Scratch;
use headgate_plane::{Protocol, Snapshot, TargetSpec, ToControl};
use headgate_policy::{Compiled, Problem};
use headgate_postgres::ScramKeys;
use headgate_spool::Producer;
use std::rc::{Rc, Weak};
use std::sync::Arc;

/// What holds for every session of a core.
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
    /// A catalog older than this is read again when a session next needs it, and of twice this age it is used no more.
    pub catalog_age_ms_max: u64,
    /// Every statement waits until it is on disk before it is forwarded.
    pub strict: bool,
    /// The longest SQL text that is read.
    pub statement_bytes_max: usize,
    /// What one session may keep: prepared statements, portals, a long message on its way.
    pub session_bytes_max: usize,
    /// What all sessions of the core may keep; those of one principal a quarter of it.
    pub core_bytes_max: usize,
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
            statement_bytes_max: 4 << 20,
            session_bytes_max: 96 << 20,
            core_bytes_max: 1 << 30,
        }
    }
}

/// Of one listener.
#[derive(Clone)]
pub struct ListenerSettings {
    /// What its clients speak.
    pub protocol: Protocol,
    /// Without it passwords are not asked for.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Passwords may come without TLS: for loopback only.
    pub danger_allow_cleartext: bool,
    /// `user` of the start-up packet may be anything; else it must be the principal of the credential.
    pub any_user: bool,
}

impl Default for ListenerSettings {
    fn default() -> Self {
        ListenerSettings {
            protocol: Protocol::Postgres,
            tls: None,
            danger_allow_cleartext: false,
            any_user: false,
        }
    }
}

/// What a session wants of the outside.
#[derive(Debug)]
pub enum Effect {
    /// Resolve and connect; the answer comes as `target_connected` or `target_failed`.
    ConnectTarget {
        /// `host:port`.
        address: String,
    },
    /// Say this to the control plane.
    ToControl(ToControl),
    /// Parse this text in an analyst; the answer comes as `analysed`.
    Analyse {
        /// As it was sent.
        text: Arc<[u8]>,
    },
    /// The session that brings this has the cancel token that it gave to its client, from here to its end.
    KeyMade {
        /// As the protocol has it.
        token: Vec<u8>,
    },
    /// A cancel request came in: whoever has this token, on any core, cancels.
    CancelSession {
        /// As the protocol has it.
        token: Vec<u8>,
    },
    /// The target's catalog may have changed: every core marks its own as stale.
    CatalogChanged {
        /// Its name.
        target: String,
    },
    /// Cancel what the session runs at the target, on a connection of its own.
    CancelTarget(SideCancel),
    /// Read the target's catalog on a connection of the gateway's own; every core and session hears of it.
    LoadCatalog(CatalogWanted),
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
    /// The wall clock's time.
    pub fn unix_us(&self) -> u64 {
        self.anchor_unix_us + self.now_us
    }

    /// The same in milliseconds.
    pub fn unix_ms(&self) -> u64 {
        self.unix_us() / 1000
    }
}

/// Plain counters of one core, published once a second.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Sessions that were let in.
    pub sessions_opened: u64,
    /// Sessions that ended.
    pub sessions_closed: u64,
    /// Clients that were not let in.
    pub sign_ins_refused: u64,
    /// Statements that were forwarded.
    pub statements_allowed: u64,
    /// Statements that people were asked about.
    pub statements_held: u64,
    /// Statements that were refused.
    pub statements_denied: u64,
    /// Texts that no core knew.
    pub texts_analysed: u64,
    /// Rows that went to clients.
    pub rows: u64,
    /// Values that were covered.
    pub values_masked: u64,
    /// All that clients sent.
    pub bytes_from_clients: u64,
    /// All that clients were sent.
    pub bytes_to_clients: u64,
    /// How often a session waited for room in the spool.
    pub spool_waits: u64,
    /// Peers that broke their protocol.
    pub peers_misbehaved: u64,
    /// Records that found less room than was asked for: a mistake of ours, each of which ended a session.
    pub records_missed: u64,
}

impl Metrics {
    /// Under the names that Prometheus reads, without their common beginning.
    pub fn named(&self) -> [(&'static str, u64); 14] {
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
            ("headgate_records_missed_total", self.records_missed),
        ]
    }
}

/// Makes the TLS of a target.
pub type ClientTlsConfigs = dyn Fn(&TargetSpec) -> Result<Arc<rustls::ClientConfig>, String> + Send + Sync;

/// What the sessions of one core share.
pub struct Core {
    /// What holds for all.
    pub settings: Settings,
    /// In the order of the configuration.
    pub listeners: Vec<ListenerSettings>,
    /// The rules of now.
    pub policy: Arc<Compiled>,
    /// What is known of texts.
    pub known: KnownTexts,
    /// What is known of targets' names.
    pub catalogs: Catalogs,
    /// Goes up whenever a catalog came.
    pub catalog_version: u64,
    /// Where records go.
    pub spool: Producer,
    /// The time of this turn.
    pub clock: Clock,
    /// Makes the TLS of a target.
    pub target_tls: Arc<ClientTlsConfigs>,
    /// Of `hash` and `tokenize` masks; the same on every core of the appliance.
    pub mask_key: [u8; 32],
    /// Memory that is lent for a call.
    pub scratch: Scratch,
    /// Counters.
    pub metrics: Metrics,
    /// What sessions want of the outside, in order.
    pub effects: Vec<Effect>,
    /// Of the targets' passwords.
    pub(crate) scram_keys: ScramKeys,
    pub(crate) callers: Callers,
    pub(crate) labels: Labels,
    pub(crate) executions: Executions,
    pub(crate) sights: Sights,
    /// Grows with whatever happens to a catalog of this core: what a session saw before is looked at again.
    pub(crate) catalog_events: u64,
    /// What all sessions keep, and what those of each principal do.
    meter: Rc<Meter>,
    principals: HashMap<Box<str>, Weak<Meter>>,
    buffers: Vec<Vec<u8>>,
}

/// Buffers kept for reuse, and the largest that is kept.
const BUFFERS_MAX: usize = 256;
const BUFFER_BYTES_MAX: usize = 256 << 10;
/// With so many principals, those without sessions are forgotten.
const PRINCIPALS_SWEPT_AT: usize = 4096;

impl Core {
    /// Without a session yet.
    pub fn new(
        settings: Settings,
        listeners: Vec<ListenerSettings>,
        spool: Producer,
        clock: Clock,
        target_tls: Arc<ClientTlsConfigs>,
        mask_key: [u8; 32],
    ) -> Core {
        let meter = Meter::new(settings.core_bytes_max, None);
        // A small spool keeps less of a reply: the end of any statement must fit into it with room to spare.
        let mut settings = settings;
        settings.reply_record_bytes = settings.reply_record_bytes.min(spool.capacity() / 16);
        Core {
            settings,
            listeners,
            policy: Arc::new(Compiled::none()),
            known: KnownTexts::default(),
            catalogs: Catalogs::new(),
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
            labels: Labels::default(),
            executions: Executions::default(),
            sights: Sights::default(),
            catalog_events: 0,
            meter,
            principals: HashMap::new(),
            buffers: Vec::new(),
        }
    }

    /// The meter of a new session of `principal`.
    pub(crate) fn meter_of(&mut self, principal: &str) -> Rc<Meter> {
        let shared = self.principals.get(principal).and_then(Weak::upgrade);
        let shared = shared.unwrap_or_else(|| {
            if self.principals.len() >= PRINCIPALS_SWEPT_AT {
                self.principals.retain(|_, meter| meter.strong_count() > 0);
            }
            let meter = Meter::new(self.settings.core_bytes_max / 4, Some(Rc::clone(&self.meter)));
            self.principals.insert(principal.into(), Rc::downgrade(&meter));
            meter
        });
        Meter::new(self.settings.session_bytes_max, Some(shared))
    }

    /// Bytes that sessions keep, and that are kept of known texts.
    pub fn kept_bytes(&self) -> (u64, u64) {
        (self.meter.used() as u64, self.known.bytes() as u64)
    }

    /// A snapshot that does not compile is one that refuses, never one that is absent.
    pub fn compile(snapshot: Arc<Snapshot>) -> (Arc<Compiled>, Vec<Problem>) {
        match Compiled::new(snapshot) {
            Ok(compiled) => (Arc::new(compiled), Vec::new()),
            Err(problems) => (Arc::new(Compiled::none()), problems),
        }
    }

    /// An empty buffer.
    pub fn buffer(&mut self) -> Vec<u8> {
        self.buffers.pop().unwrap_or_default()
    }

    /// Gives `buffer` memory if it has none.
    pub fn lend(&mut self, buffer: &mut Vec<u8>) {
        if buffer.capacity() == 0 {
            *buffer = self.buffer();
        }
    }

    /// Takes a buffer back.
    pub fn recycle(&mut self, mut buffer: Vec<u8>) {
        if self.buffers.len() < BUFFERS_MAX && buffer.capacity() > 0 && buffer.capacity() <= BUFFER_BYTES_MAX
        {
            buffer.clear();
            self.buffers.push(buffer);
        }
    }

    /// Bytes that nobody can guess.
    #[expect(
        clippy::expect_used,
        reason = "the system's generator failing is nothing to go on from: keys could be guessed"
    )]
    pub fn random<const N: usize>() -> [u8; N] {
        let mut bytes = [0; N];
        aws_lc_rs::rand::fill(&mut bytes).expect("gate: the system gives random bytes");
        bytes
    }
}
