//! Reads targets' catalogs on connections of the gateway's own, beside the packet path.
//!
//! A load is a thread of its own for as long as it takes: it waits for its target alone. It signs in as the target's user, or
//! as the reader that the configuration names, with time limits of our own (said in the start-up packet, where they outrank
//! what was set for the role or the database), in a read-only transaction with a fixed search_path, and closes.
//!
//! Invariants: one load of a target and its labels at a time, and who asks meanwhile gets that one's answer, unless the
//! target has changed since it began: then another follows. Each question is answered to all shards, whatever became of it.
//! A failure is an answer in words, never a catalog.
//! Bounds: [`LOADS_MAX`] threads, [`WAITING_MAX`] more that wait, and [`Limits`] for each of them.

use crate::tls::TargetConfigs;
use headgate_gate::{CatalogLoaded, CatalogWanted};
use headgate_mask::{Catalog, CatalogBuilder, path_query, relations_query};
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
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Columns that carried a label before, and so are asked for by oid.
const LABELLED_MAX: usize = 10_000;
/// At the same time. A target that does not answer takes one of them.
const LOADS_MAX: usize = 64;
const WAITING_MAX: usize = 1024;
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
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connect: Duration::from_secs(5),
            whole: Duration::from_secs(45),
            statement: Duration::from_secs(30),
            answer_bytes: 512 << 20,
        }
    }
}

#[derive(Debug, Default)]
pub struct Counters {
    pub loaded: AtomicU64,
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
        let (shared, sent) = (Arc::clone(self), wanted.clone());
        let thread = std::thread::Builder::new()
            .name("catalog".to_owned())
            .spawn(move || shared.run(&sent, changes));
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

    fn run(self: Arc<Self>, wanted: &CatalogWanted, changes: u64) {
        let begun = Instant::now();
        // Whoever waits is answered even where a part of this program is wrong.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            load(&self.tls, &self.limits, wanted)
        }))
        .unwrap_or_else(|_| Err(Failed::Target("the load broke off")));
        let took = begun.elapsed();
        let name = wanted.target.name.as_str();
        match &result {
            Ok(catalog) => {
                let missing: Vec<&str> = catalog.missing_labels().take(10).collect();
                tracing::debug!(target_name = name, ?took, ?missing, "catalog: read");
            }
            Err(failed) => {
                tracing::warn!(target_name = name, ?took, why = %failed, "catalog: could not be read")
            }
        }
        let result = result.map(Arc::new).map_err(|failed| failed.words().into());
        // In one step: nobody can join a load that has been answered.
        let mut state = self.state();
        let again = state
            .running
            .remove(name)
            .map(|running| running.again)
            .unwrap_or_default();
        self.answer(wanted, changes, took, result);
        for wanted in again {
            self.place(&mut state, wanted);
        }
        while state.running.len() < LOADS_MAX
            && let Some(next) = state.waiting.pop_front()
        {
            self.place(&mut state, next);
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

fn load(tls: &TargetConfigs, limits: &Limits, wanted: &CatalogWanted) -> Result<Catalog, Failed> {
    let until = Instant::now() + limits.whole;
    match load_with(tls, limits, until, wanted, true) {
        // A pooler may not hand on settings of the start-up packet (08P01): then they are set afterwards.
        Err(Failed::SignIn(TargetFailed::Refused(refused)))
            if matches!(refused.get(b'C'), Some("08P01" | "42704")) =>
        {
            load_with(tls, limits, until, wanted, false)
        }
        result => result,
    }
}

fn load_with(
    tls: &TargetConfigs,
    limits: &Limits,
    until: Instant,
    wanted: &CatalogWanted,
    early: bool,
) -> Result<Catalog, Failed> {
    let mut conversation = Conversation::open(tls, limits, until, wanted, early)?;
    let labels: Vec<&str> = wanted.labels.iter().map(String::as_str).collect();
    // Sessions run as the target's own user, whoever reads for them.
    let role = wanted.reader.as_ref().map(|_| wanted.target.user.as_str());
    let mut builder = CatalogBuilder::new(&labels);
    // The path is asked for before it is fixed.
    let begin = "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY NOT DEFERRABLE";
    conversation.ask(
        &format!("{begin}; {}; {}", path_query(role), settings(limits)),
        &mut builder,
    )?;
    let kept: Vec<_> = wanted
        .before
        .iter()
        .flat_map(|before| before.labelled())
        .take(LABELLED_MAX)
        .collect();
    conversation.ask(&relations_query(&labels, role, &kept), &mut builder)?;
    conversation.leave();
    let catalog = builder.finish();
    if catalog.is_whole() {
        Ok(catalog)
    } else {
        Err(Failed::Target("the target's answer was cut off"))
    }
}

/// For the rest of the transaction; those that this version of the server has.
fn settings(limits: &Limits) -> String {
    let statement = limits.statement.as_millis();
    format!(
        "SELECT pg_catalog.set_config(s.name, v.value, true) FROM (VALUES \
         ('search_path'::pg_catalog.text, 'pg_catalog'::pg_catalog.text), ('statement_timeout', '{statement}'), \
         ('lock_timeout', '{statement}'), ('transaction_timeout', '0'), ('idle_in_transaction_session_timeout', '0'), \
         ('jit', 'off')) AS v(name, value) \
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

    /// A simple Query, to its ReadyForQuery. Rows go to `builder`, but those of one column, which are our own settings.
    fn ask(&mut self, text: &str, builder: &mut CatalogBuilder) -> Result<(), Failed> {
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
                        builder.row(&fields).map_err(Failed::Unusable)?;
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
