//! Reads targets' catalogs on connections of the gateway's own, beside the packet path.
//!
//! A load is a thread of its own for as long as it takes: it waits for its target alone. It signs in as the target's user, or
//! as the reader that the configuration names, with time limits of our own (said in the start-up packet, where they outrank
//! what was set for the role or the database), in a read-only transaction with a fixed search_path, and closes.
//!
//! Where statements change the catalog, changes follow each other: then thread and connection stay for [`Limits::linger`], and the
//! next load asks only what has changed since ([`headgate_mask::CatalogChanges`]). Not for longer: PostgreSQL drops no
//! database, and copies none, while somebody is connected to it.
//!
//! Invariants: one load of a target and its labels at a time, and who asks meanwhile gets that one's answer, unless the
//! target has changed since it began: then another follows. Each question is answered to all shards, whatever became of it.
//! A failure is an answer in words, never a catalog.
//! Bounds: [`LOADS_MAX`] threads, [`WAITING_MAX`] more that wait, [`LINGERING_MAX`] that linger, and [`Limits`] for each load.

use crate::tls::TargetConfigs;
use headgate_gate::{CatalogLoaded, CatalogWanted};
use headgate_mask::{
    Catalog, CatalogBuilder, CatalogChanges, CatalogError, Followed, Stamp, path_query, prepare_changes,
    relations_query,
};
use headgate_plane::{TargetSpec, TargetTls};
use headgate_postgres::backend::Backend;
use headgate_postgres::{
    ScramKeys, TargetEvent, TargetFailed, TargetHandshake, TargetHandshakeConfig, certificate, frame, write,
};
use rustls::pki_types::ServerName;
use std::collections::{HashMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Columns that carried a label before, and so are asked for by oid.
const LABELLED_MAX: usize = 10_000;
/// At the same time. A target that does not answer takes one of them.
const LOADS_MAX: usize = 64;
const WAITING_MAX: usize = 1024;
/// Threads that keep their connection for the next load.
const LINGERING_MAX: usize = 64;
/// Sets of labels of one target that wait for the load that runs: cores take up new rules one after the other.
const AGAIN_MAX: usize = 8;
/// A view's definition in one row is the longest that there is.
const MESSAGE_BYTES_MAX: usize = headgate_mask::catalog::RULE_BYTES_MAX + (1 << 20);
/// What [`settings`] answers with, unlike a row of a catalog.
const SETTING_COLUMNS: usize = 1;
const READ_BYTES: usize = 64 << 10;

/// Of one load.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub connect: Duration,
    /// From its begin to its end, sign-in and all.
    pub whole: Duration,
    /// Of one statement, at the target.
    pub statement: Duration,
    /// That the target sends, all together.
    pub answer_bytes: usize,
    /// So long a connection is kept for the next load, where loads follow each other.
    pub linger: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connect: Duration::from_secs(5),
            whole: Duration::from_secs(45),
            statement: Duration::from_secs(30),
            answer_bytes: 512 << 20,
            linger: Duration::from_millis(500),
        }
    }
}

#[derive(Debug, Default)]
pub struct Counters {
    pub loaded: AtomicU64,
    /// Of those, by what had changed alone.
    pub followed: AtomicU64,
    pub failed: AtomicU64,
}

type Tell = dyn Fn(CatalogLoaded) + Send + Sync;

#[derive(Clone)]
pub struct Catalogs(Arc<Shared>);

struct Shared {
    tls: Arc<TargetConfigs>,
    limits: Limits,
    tell: Box<Tell>,
    counters: Counters,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By the target's name.
    running: HashMap<String, Running>,
    waiting: VecDeque<CatalogWanted>,
    changes: HashMap<String, u64>,
    /// Changes that had been told when the last load began.
    loaded: HashMap<String, u64>,
    /// Where a load's thread waits for the next, by the target's name.
    lingering: HashMap<String, Sender<Job>>,
}

struct Job {
    wanted: CatalogWanted,
    changes: u64,
    /// The catalog changes just now: the connection is kept for a while.
    keep: bool,
}

struct Running {
    labels: Arc<[String]>,
    changes: u64,
    /// What was asked for meanwhile and this load does not answer.
    again: Vec<CatalogWanted>,
}

impl Catalogs {
    /// `tell`: to all shards. It is called with a lock held and must not ask for a load itself.
    pub fn new(tls: Arc<TargetConfigs>, limits: Limits, tell: Box<Tell>) -> Catalogs {
        Catalogs(Arc::new(Shared {
            tls,
            limits,
            tell,
            counters: Counters::default(),
            state: Mutex::default(),
        }))
    }

    pub fn counters(&self) -> &Counters {
        &self.0.counters
    }

    /// One more change of the target's catalog. How many there have been.
    pub fn changed(&self, target: &str) -> u64 {
        let mut state = self.0.state();
        match state.changes.get_mut(target) {
            Some(changes) => {
                *changes += 1;
                *changes
            }
            None => {
                state.changes.insert(target.to_owned(), 1);
                1
            }
        }
    }

    /// Returns at once.
    pub fn load(&self, wanted: CatalogWanted) {
        let mut state = self.0.state();
        self.0.place(&mut state, wanted);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(self: &Arc<Self>, state: &mut State, wanted: CatalogWanted) {
        let changes = state.changes.get(&wanted.target.name).copied().unwrap_or(0);
        if let Some(running) = state.running.get_mut(&wanted.target.name) {
            let answered = running.labels == wanted.labels && running.changes == changes;
            if answered || running.again.iter().any(|again| again.labels == wanted.labels) {
                return;
            }
            if running.again.len() >= AGAIN_MAX {
                return self.refuse(&wanted, "too many rule sets wait for this target's catalog");
            }
            running.again.push(wanted);
            return;
        }
        if state.running.len() >= LOADS_MAX {
            if state
                .waiting
                .iter()
                .any(|other| other.target.name == wanted.target.name && other.labels == wanted.labels)
            {
                return;
            }
            if state.waiting.len() >= WAITING_MAX {
                return self.refuse(&wanted, "too many catalogs wait to be read");
            }
            state.waiting.push_back(wanted);
            return;
        }
        let running = Running {
            labels: Arc::clone(&wanted.labels),
            changes,
            again: Vec::new(),
        };
        let name = wanted.target.name.clone();
        state.running.insert(name.clone(), running);
        let job = Job {
            keep: state.loaded.insert(name.clone(), changes).unwrap_or(0) != changes,
            wanted,
            changes,
        };
        let job = match state.lingering.remove(&name) {
            None => job,
            // It waits for this, or takes it before it ends: it looks again once it has said that it is gone.
            Some(thread) => match thread.send(job) {
                Ok(()) => return,
                Err(back) => back.0,
            },
        };
        let (shared, wanted) = (Arc::clone(self), job.wanted.clone());
        let thread = std::thread::Builder::new()
            .name("catalog".to_owned())
            .spawn(move || shared.run(job));
        if let Err(error) = thread {
            tracing::error!(%error, "catalog: no thread for a load");
            state.running.remove(&name);
            self.refuse(&wanted, "no thread for the load");
        }
    }

    fn refuse(&self, wanted: &CatalogWanted, why: &str) {
        self.answer(wanted, 0, Duration::ZERO, Err(why.into()));
    }

    fn answer(
        &self,
        wanted: &CatalogWanted,
        changes: u64,
        took: Duration,
        result: Result<Arc<Catalog>, Arc<str>>,
    ) {
        let counter = if result.is_ok() {
            &self.counters.loaded
        } else {
            &self.counters.failed
        };
        counter.fetch_add(1, Ordering::Relaxed);
        (self.tell)(CatalogLoaded {
            target: wanted.target.name.as_str().into(),
            labels: Arc::clone(&wanted.labels),
            changes,
            took_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            result,
        });
    }

    fn run(self: Arc<Self>, mut job: Job) {
        let mut kept = None;
        loop {
            let begun = Instant::now();
            // Whoever waits is answered even where a part of this program is wrong.
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                self.load(kept.take(), &job.wanted, job.keep)
            }))
            .unwrap_or_else(|_| Err(Failed::Target("the load broke off")));
            let took = begun.elapsed();
            let name = job.wanted.target.name.as_str();
            match &result {
                Ok((catalog, _)) => {
                    let missing: Vec<&str> = catalog.missing_labels().take(10).collect();
                    tracing::debug!(target_name = name, ?took, ?missing, "catalog: read");
                }
                Err(failed) => {
                    tracing::warn!(target_name = name, ?took, why = %failed, "catalog: could not be read")
                }
            }
            let result = match result {
                Ok((catalog, keep)) => {
                    kept = keep;
                    Ok(catalog)
                }
                Err(failed) => Err(failed.words().into()),
            };
            let Some(next) = self.end(&job, took, result, kept.is_some()) else {
                return;
            };
            let came = match next.recv_timeout(self.limits.linger) {
                Err(RecvTimeoutError::Timeout) => {
                    // Who found this thread waiting has sent something by the time the lock is free.
                    self.state().lingering.remove(name);
                    next.try_recv().ok()
                }
                came => came.ok(),
            };
            match came {
                Some(next) => job = next,
                None => return,
            }
        }
    }

    /// Answers, and goes on with what was asked for meanwhile. Where the next job comes, if this thread is to wait for one.
    fn end(
        self: &Arc<Self>,
        job: &Job,
        took: Duration,
        result: Result<Arc<Catalog>, Arc<str>>,
        lingers: bool,
    ) -> Option<Receiver<Job>> {
        let name = job.wanted.target.name.as_str();
        // In one step: nobody can join a load that has been answered.
        let mut state = self.state();
        let again = state
            .running
            .remove(name)
            .map(|running| running.again)
            .unwrap_or_default();
        let next = (lingers && state.lingering.len() < LINGERING_MAX).then(|| {
            let (sender, receiver) = channel();
            state.lingering.insert(name.to_owned(), sender);
            receiver
        });
        self.answer(&job.wanted, job.changes, took, result);
        for wanted in again {
            self.place(&mut state, wanted);
        }
        while state.running.len() < LOADS_MAX
            && let Some(next) = state.waiting.pop_front()
        {
            self.place(&mut state, next);
        }
        next
    }

    /// Follows what has changed where a connection was kept; in all other cases, and in doubt, the whole is read anew.
    fn load(
        &self,
        kept: Option<Kept>,
        wanted: &CatalogWanted,
        keep: bool,
    ) -> Result<(Arc<Catalog>, Option<Kept>), Failed> {
        let until = Instant::now() + self.limits.whole;
        // A label stays with its column.
        let mut before = wanted.before.clone();
        if let Some(mut kept) = kept.filter(|kept| kept.serves(wanted)) {
            match kept.follow(&self.limits, until) {
                Ok(true) => {
                    self.counters.followed.fetch_add(1, Ordering::Relaxed);
                    return Ok((Arc::clone(&kept.catalog), Some(kept)));
                }
                Ok(false) => {}
                Err(failed) => {
                    tracing::debug!(target_name = wanted.target.name, why = %failed, "catalog: a kept connection is of no use");
                }
            }
            before = Some(kept.catalog);
        }
        let load = |early| {
            load_with(
                &self.tls,
                &self.limits,
                until,
                wanted,
                before.as_deref(),
                early,
                keep,
            )
        };
        match load(true) {
            // A pooler may not hand on settings of the start-up packet (08P01): then they are set afterwards.
            Err(Failed::SignIn(TargetFailed::Refused(refused)))
                if matches!(refused.get(b'C'), Some("08P01" | "42704")) =>
            {
                load(false)
            }
            result => result,
        }
    }
}

#[derive(Debug)]
enum Failed {
    /// A name, a socket, TLS.
    Reach(String),
    SignIn(TargetFailed),
    /// An ErrorResponse to one of our statements.
    Refused {
        sqlstate: String,
        message: String,
    },
    Target(&'static str),
    Misbehaved(String),
    TookTooLong,
    Unusable(headgate_mask::CatalogError),
}

impl Failed {
    /// What anyone may read.
    fn words(&self) -> String {
        match self {
            Failed::Reach(_) => "the target cannot be reached".to_owned(),
            Failed::SignIn(_) => "the target did not let the gateway in".to_owned(),
            Failed::Refused { sqlstate, .. } => {
                format!("the target refused the query with SQLSTATE {sqlstate}")
            }
            Failed::Target(what) => (*what).to_owned(),
            Failed::Misbehaved(_) => "the target's answer cannot be read".to_owned(),
            Failed::TookTooLong => "the target did not answer in time".to_owned(),
            Failed::Unusable(error) => error.to_string(),
        }
    }
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failed::Reach(why) | Failed::Misbehaved(why) => f.write_str(why),
            Failed::SignIn(failed) => failed.fmt(f),
            Failed::Refused { sqlstate, message } => write!(f, "{sqlstate}: {message}"),
            Failed::Target(_) | Failed::TookTooLong | Failed::Unusable(_) => f.write_str(&self.words()),
        }
    }
}

impl From<std::io::Error> for Failed {
    fn from(error: std::io::Error) -> Failed {
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Failed::TookTooLong,
            _ => Failed::Reach(error.to_string()),
        }
    }
}

fn misbehaved(what: impl std::fmt::Display) -> Failed {
    Failed::Misbehaved(what.to_string())
}

fn load_with(
    tls: &TargetConfigs,
    limits: &Limits,
    until: Instant,
    wanted: &CatalogWanted,
    before: Option<&Catalog>,
    early: bool,
    keep: bool,
) -> Result<(Arc<Catalog>, Option<Kept>), Failed> {
    let mut conversation = Conversation::open(tls, limits, until, wanted, early)?;
    let mut builder = CatalogBuilder::new(&wanted.labels());
    conversation.ask(&begin(limits, wanted.role()), &mut |row| builder.row(row))?;
    let catalog = Arc::new(conversation.relations(builder, wanted, before)?);
    let kept = if keep {
        Kept::new(conversation, wanted, &catalog)
    } else {
        conversation.leave();
        None
    };
    Ok((catalog, kept))
}

/// What a load asks with.
trait Asks {
    fn labels(&self) -> Vec<&str>;
    fn role(&self) -> Option<&str>;
}

impl Asks for CatalogWanted {
    fn labels(&self) -> Vec<&str> {
        self.labels.iter().map(String::as_str).collect()
    }

    /// Sessions run as the target's own user, whoever reads for them.
    fn role(&self) -> Option<&str> {
        self.reader.as_ref().map(|_| self.target.user.as_str())
    }
}

/// A transaction in which all that is asked is of one moment. The path is asked for before it is fixed.
fn begin(limits: &Limits, role: Option<&str>) -> String {
    format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY NOT DEFERRABLE; {}; {}",
        path_query(role),
        settings(limits)
    )
}

/// A connection that has read a catalog and can say what has changed since.
struct Kept {
    conversation: Conversation,
    wanted: CatalogWanted,
    catalog: Arc<Catalog>,
    stamp: Stamp,
}

impl Kept {
    /// In the transaction in which `catalog` was read. `None`: this target cannot say what changes (a server before 13, a pooler
    /// that prepares nothing), and it is read anew each time.
    fn new(mut conversation: Conversation, wanted: &CatalogWanted, catalog: &Arc<Catalog>) -> Option<Kept> {
        let stamped = conversation
            .ask(&prepare_changes(wanted.role()), &mut |_| Ok(()))
            .and_then(|()| stamp(&mut conversation, catalog))
            .and_then(|stamp| conversation.ask("COMMIT", &mut |_| Ok(())).map(|()| stamp));
        let stamp = match stamped {
            Ok(stamp) => stamp,
            Err(failed) => {
                tracing::debug!(target_name = wanted.target.name, why = %failed, "catalog: changes cannot be followed");
                conversation.leave();
                return None;
            }
        };
        Some(Kept {
            conversation,
            wanted: wanted.clone(),
            catalog: Arc::clone(catalog),
            stamp,
        })
    }

    /// The same target, with the same credentials and for the same labels.
    fn serves(&self, wanted: &CatalogWanted) -> bool {
        let readers = match (&self.wanted.reader, &wanted.reader) {
            (None, None) => true,
            (Some(one), Some(other)) => {
                one.user == other.user && one.secret.danger_reveal() == other.secret.danger_reveal()
            }
            _ => false,
        };
        readers
            && self.wanted.target == wanted.target
            && self.wanted.secret.danger_reveal() == wanted.secret.danger_reveal()
            && self.wanted.labels == wanted.labels
    }

    /// False: settings that sessions begin with have changed, which this one does not see.
    fn follow(&mut self, limits: &Limits, until: Instant) -> Result<bool, Failed> {
        let Kept {
            conversation,
            wanted,
            catalog,
            stamp: since,
        } = self;
        conversation.again(limits, until);
        let Some(query) = catalog.changes_query(Some(since)) else {
            return Ok(false);
        };
        let mut changes = CatalogChanges::new(catalog);
        let begin = begin(limits, wanted.role());
        conversation.ask(&format!("{begin}; {query}"), &mut |row| changes.row(row))?;
        let path = changes.path();
        match changes.follow(since) {
            Some(Followed::To(now, stamp)) => (*catalog, *since) = (Arc::new(now), stamp),
            Some(Followed::ReadAnew { here: false }) => return Ok(false),
            Some(Followed::ReadAnew { here: true }) => {
                let builder = CatalogBuilder::with_path(&wanted.labels(), path);
                *catalog = Arc::new(conversation.relations(builder, wanted, Some(&**catalog))?);
                *since = stamp(conversation, catalog)?;
            }
            None => return Err(cut_off()),
        }
        conversation.ask("COMMIT", &mut |_| Ok(()))?;
        Ok(true)
    }
}

fn cut_off() -> Failed {
    Failed::Target("the target's answer was cut off")
}

/// Of the transaction in which `catalog` was read.
fn stamp(conversation: &mut Conversation, catalog: &Arc<Catalog>) -> Result<Stamp, Failed> {
    let query = catalog
        .changes_query(None)
        .ok_or(Failed::Target("a label has too many dots"))?;
    let mut changes = CatalogChanges::new(catalog);
    conversation.ask(&query, &mut |row| changes.row(row))?;
    changes.stamp().ok_or_else(cut_off)
}

/// For the rest of the transaction; those that this version of the server has.
fn settings(limits: &Limits) -> String {
    let statement = limits.statement.as_millis();
    format!(
        "SELECT pg_catalog.set_config(s.name, v.value, true) FROM (VALUES \
         ('search_path'::pg_catalog.text, 'pg_catalog'::pg_catalog.text), ('statement_timeout', '{statement}'), \
         ('lock_timeout', '{statement}'), ('transaction_timeout', '0'), ('idle_in_transaction_session_timeout', '0'), \
         ('jit', 'off'), ('plan_cache_mode', 'force_generic_plan')) AS v(name, value) \
         JOIN pg_catalog.pg_settings s ON s.name OPERATOR(pg_catalog.=) v.name"
    )
}

/// A socket on which every step ends by a time.
struct Timed {
    stream: TcpStream,
    until: Instant,
}

impl Timed {
    fn rest(&self) -> std::io::Result<Duration> {
        let rest = self.until.saturating_duration_since(Instant::now());
        if rest.is_zero() {
            Err(ErrorKind::TimedOut.into())
        } else {
            Ok(rest)
        }
    }
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.stream.set_read_timeout(Some(self.rest()?))?;
        self.stream.read(buffer)
    }
}

impl Write for Timed {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        self.stream.set_write_timeout(Some(self.rest()?))?;
        self.stream.write(buffer)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

enum Line {
    Plain(Timed),
    Tls(Box<rustls::StreamOwned<rustls::ClientConnection, Timed>>),
}

impl Line {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Line::Plain(line) => line.read(buffer),
            Line::Tls(line) => line.read(buffer),
        }
    }

    fn say(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Line::Plain(line) => line.write_all(bytes),
            Line::Tls(line) => line.write_all(bytes).and_then(|()| line.flush()),
        }
    }
}

struct Conversation {
    line: Line,
    /// What came, of which `used` bytes are done with.
    came: Vec<u8>,
    used: usize,
    bytes_left: usize,
}

impl Conversation {
    fn open(
        tls: &TargetConfigs,
        limits: &Limits,
        until: Instant,
        wanted: &CatalogWanted,
        early: bool,
    ) -> Result<Conversation, Failed> {
        let target = &*wanted.target;
        let stream = connect(target, limits, until)?;
        stream.set_nodelay(true)?;
        let mut conversation = Conversation {
            line: Line::Plain(Timed { stream, until }),
            came: Vec::new(),
            used: 0,
            bytes_left: limits.answer_bytes,
        };
        conversation.sign_in(tls, limits, wanted, early)?;
        Ok(conversation)
    }

    fn sign_in(
        &mut self,
        tls: &TargetConfigs,
        limits: &Limits,
        wanted: &CatalogWanted,
        early: bool,
    ) -> Result<(), Failed> {
        let target = &*wanted.target;
        let (user, password) = match &wanted.reader {
            Some(reader) => (&reader.user, &reader.secret),
            None => (&target.user, &wanted.secret),
        };
        let mut parameters = vec![
            ("application_name", "headgate catalog".to_owned()),
            ("client_encoding", "UTF8".to_owned()),
        ];
        if early {
            let statement = limits.statement.as_millis().to_string();
            parameters.push(("standard_conforming_strings", "on".to_owned()));
            parameters.push(("default_transaction_isolation", "read committed".to_owned()));
            parameters.push(("default_transaction_read_only", "on".to_owned()));
            parameters.push(("idle_in_transaction_session_timeout", "0".to_owned()));
            parameters.push(("lock_timeout", statement.clone()));
            parameters.push(("statement_timeout", statement));
        }
        let config = TargetHandshakeConfig {
            tls: target.tls != TargetTls::DangerOff,
            user: user.clone(),
            database: target.database.clone(),
            parameters: parameters
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            password: password.clone(),
            scram_keys: ScramKeys::default(),
            auth: target.auth,
            minor: 0,
        };
        let mut out = Vec::new();
        let mut handshake = TargetHandshake::start(config, &mut out).map_err(Failed::SignIn)?;
        loop {
            if !out.is_empty() {
                self.line.say(&out)?;
                out.clear();
            }
            let (next, advance) = handshake
                .advance(self.came.get(self.used..).unwrap_or_default(), &mut out)
                .map_err(Failed::SignIn)?;
            handshake = next;
            self.used += advance.used;
            match advance.event {
                Some(TargetEvent::Ready(_)) => return Ok(()),
                Some(TargetEvent::StartTls) => {
                    let binding = self.start_tls(tls, target)?;
                    handshake = handshake.tls_started(binding, &mut out).map_err(Failed::SignIn)?;
                }
                None if advance.used == 0 && out.is_empty() => self.read()?,
                None => {}
            }
        }
    }

    /// The channel binding of the target's certificate.
    fn start_tls(&mut self, tls: &TargetConfigs, target: &TargetSpec) -> Result<Option<Vec<u8>>, Failed> {
        let Line::Plain(plain) = &mut self.line else {
            return Err(misbehaved("TLS inside TLS"));
        };
        let host = target
            .address
            .rsplit_once(':')
            .map_or(target.address.as_str(), |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host).map_err(|e| Failed::Reach(e.to_string()))?;
        let config = tls.of(target).map_err(Failed::Reach)?;
        let mut connection =
            rustls::ClientConnection::new(config, name).map_err(|e| Failed::Reach(e.to_string()))?;
        while connection.is_handshaking() {
            connection.complete_io(plain)?;
        }
        let binding = connection
            .peer_certificates()
            .and_then(|chain| chain.first())
            .and_then(|c| certificate::tls_server_end_point(c));
        let timed = Timed {
            stream: plain.stream.try_clone()?,
            until: plain.until,
        };
        self.line = Line::Tls(Box::new(rustls::StreamOwned::new(connection, timed)));
        Ok(binding)
    }

    fn read(&mut self) -> Result<(), Failed> {
        self.came.drain(..self.used);
        self.used = 0;
        let start = self.came.len();
        self.came.resize(start + READ_BYTES, 0);
        let read = loop {
            match self.line.read(self.came.get_mut(start..).unwrap_or_default()) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        let n = *read.as_ref().unwrap_or(&0);
        self.came.truncate(start + n);
        match read? {
            0 => Err(Failed::Reach("the target closed the connection".to_owned())),
            n => {
                self.bytes_left = self
                    .bytes_left
                    .checked_sub(n)
                    .ok_or(Failed::Target("the target's answer is too long"))?;
                Ok(())
            }
        }
    }

    /// The whole, in the transaction that has begun.
    fn relations(
        &mut self,
        mut builder: CatalogBuilder,
        wanted: &CatalogWanted,
        before: Option<&Catalog>,
    ) -> Result<Catalog, Failed> {
        let kept: Vec<_> = before
            .into_iter()
            .flat_map(Catalog::labelled)
            .take(LABELLED_MAX)
            .collect();
        let query = relations_query(&wanted.labels(), wanted.role(), &kept);
        self.ask(&query, &mut |row| builder.row(row))?;
        let catalog = builder.finish();
        if catalog.is_whole() {
            Ok(catalog)
        } else {
            Err(cut_off())
        }
    }

    /// For another load.
    fn again(&mut self, limits: &Limits, until: Instant) {
        self.bytes_left = limits.answer_bytes;
        match &mut self.line {
            Line::Plain(timed) => timed.until = until,
            Line::Tls(line) => line.sock.until = until,
        }
    }

    /// A simple Query, to its ReadyForQuery. Rows go to `each`, but those of one column, which are our own settings.
    #[expect(clippy::type_complexity, reason = "a row, and why it is no row of a catalog")]
    fn ask(
        &mut self,
        text: &str,
        each: &mut dyn FnMut(&[Option<&[u8]>]) -> Result<(), CatalogError>,
    ) -> Result<(), Failed> {
        let mut out = Vec::new();
        write::query(&mut out, text.as_bytes()).map_err(misbehaved)?;
        self.line.say(&out)?;
        loop {
            let rest = self.came.get(self.used..).unwrap_or_default();
            let Some((header, body)) = frame::split(rest, MESSAGE_BYTES_MAX).map_err(misbehaved)? else {
                self.read()?;
                continue;
            };
            let len = header.len;
            match Backend::decode(header.tag, body).map_err(misbehaved)? {
                Backend::DataRow(values) => {
                    let fields: Vec<Option<&[u8]>> = values.collect();
                    if fields.len() != SETTING_COLUMNS {
                        each(&fields).map_err(Failed::Unusable)?;
                    }
                }
                Backend::ErrorResponse(fields) => {
                    let text = |field: Option<&[u8]>| {
                        String::from_utf8_lossy(field.unwrap_or_default()).into_owned()
                    };
                    return Err(Failed::Refused {
                        sqlstate: text(fields.sqlstate()),
                        message: text(fields.message()),
                    });
                }
                Backend::ReadyForQuery { .. } => {
                    self.used += len;
                    return Ok(());
                }
                Backend::RowDescription(_)
                | Backend::CommandComplete { .. }
                | Backend::NoticeResponse(_)
                | Backend::NotificationResponse { .. }
                | Backend::ParameterStatus { .. } => {}
                _ => {
                    return Err(misbehaved(format!(
                        "{:?} does not belong to the answer of a query",
                        char::from(header.tag)
                    )));
                }
            }
            self.used += len;
        }
    }

    fn leave(mut self) {
        let mut out = Vec::new();
        write::terminate(&mut out);
        // It has said all that was asked of it.
        let _ = self.line.say(&out);
    }
}

fn connect(target: &TargetSpec, limits: &Limits, until: Instant) -> Result<TcpStream, Failed> {
    let addresses = target
        .address
        .to_socket_addrs()
        .map_err(|e| Failed::Reach(format!("{}: {e}", target.address)))?;
    let mut last = Failed::Reach(format!("{}: no address", target.address));
    for address in addresses {
        let wait = limits
            .connect
            .min(until.saturating_duration_since(Instant::now()));
        if wait.is_zero() {
            return Err(Failed::TookTooLong);
        }
        match TcpStream::connect_timeout(&address, wait) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error.into(),
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests;
