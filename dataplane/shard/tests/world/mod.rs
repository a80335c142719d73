//! Shards with all that they ask of a process: a control plane that lets everybody in, an analyst in the same thread, a name
//! service that knows one name. And what a target says.
#![allow(dead_code, reason = "each test file uses its part")]

use headgate_gate::{CatalogLoaded, CatalogWanted, Clock, Core, ListenerSettings, Settings, SideCancel};
use headgate_mask::{Catalog, CatalogBuilder};
use headgate_plane::{
    Class, ClassSet, Effect as Ruling, Epoch, Grant, Rule, RuleStatement, RuleTarget, RuleWho, Secret,
    SessionId, Snapshot, TargetAuth, TargetSpec, TargetTls, ToControl, Who,
};
use headgate_postgres::backend::{Field, TransactionStatus};
use headgate_postgres::write;
use headgate_ring::sim::{PeerId, Sim};
use headgate_shard::{Asker, Holder, Inbox, Keys, Message, Owner, Services, Shard, ShareLimits, Shares};
use headgate_spool::{Consumer, Producer, Watch};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

pub const POINT: &str = "SELECT name FROM customers WHERE id = 1";
pub const BULK: &str = "SELECT note FROM customers";
/// Of one row of a large result.
const NOTE_BYTES: usize = 1000;

/// What tests vary.
#[derive(Clone, Copy)]
pub struct Setting {
    pub spool_bytes: usize,
    pub expires_unix_ms: u64,
    pub strict: bool,
}

impl Default for Setting {
    fn default() -> Self {
        Setting {
            spool_bytes: 64 << 20,
            expires_unix_ms: u64::MAX,
            strict: false,
        }
    }
}

/// The last values of the shard.
pub type Metrics = Arc<Mutex<Vec<(&'static str, u64)>>>;

/// A cancel as it would go to the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToTarget {
    pub address: SocketAddr,
    pub pid: u32,
    pub key: Vec<u8>,
}

pub struct Process {
    pub inboxes: Vec<Arc<Inbox>>,
    /// What a grant says of the target: an address, or a name.
    pub target: String,
    /// What the name service says.
    pub addresses: Vec<SocketAddr>,
    pub keys: Arc<Keys>,
    pub shares: Arc<Shares>,
    /// Who was told of a cancel.
    pub holders: Mutex<Vec<Holder>>,
    pub to_target: Mutex<Vec<ToTarget>>,
    pub owners: Mutex<Vec<Owner>>,
    pub expires_unix_ms: u64,
    pub metrics: Metrics,
}

impl Process {
    pub fn new(shards: usize, target: &str, addresses: &[SocketAddr], limits: ShareLimits) -> Arc<Process> {
        Arc::new(Process {
            inboxes: (0..shards).map(|_| Inbox::new()).collect(),
            target: target.to_owned(),
            addresses: addresses.to_vec(),
            keys: Arc::default(),
            shares: Shares::new(limits),
            holders: Mutex::default(),
            to_target: Mutex::default(),
            owners: Mutex::default(),
            expires_unix_ms: u64::MAX,
            metrics: Metrics::default(),
        })
    }

    fn tell(&self, shard: usize, message: Message) {
        self.inboxes[shard].send(message);
    }

    /// Sessions know no shard; in a process each message for a session goes to all.
    fn tell_all(&self, message: impl Fn() -> Message) {
        self.inboxes.iter().for_each(|inbox| inbox.send(message()));
    }
}

impl Services for Process {
    fn to_control(&self, message: ToControl) {
        let ToControl::SignIn(ask) = message else { return };
        let grant = Grant {
            session: ask.session,
            who: Who {
                principal: ask.user,
                groups: vec!["staff".to_owned()],
                issuer: "local".to_owned(),
                ..Who::default()
            },
            target: TargetSpec {
                name: ask.target,
                protocol: headgate_plane::Protocol::Postgres,
                environment: "test".to_owned(),
                address: self.target.clone(),
                database: "shop".to_owned(),
                user: "shop".to_owned(),
                tls: TargetTls::DangerOff,
                ca: None,
                auth: TargetAuth::Scram,
                labels: Vec::new(),
            },
            target_secret: Secret::new(""),
            catalog_reader: None,
            epoch: Epoch(1),
            expires_unix_ms: self.expires_unix_ms,
            credential_id: "t1".to_owned(),
        };
        self.tell_all(|| Message::SignedIn {
            session: ask.session,
            result: Ok(Box::new(grant.clone())),
        });
    }
    fn analyse(&self, shard: usize, session: SessionId, owner: Owner, text: Arc<[u8]>) {
        self.owners.lock().unwrap().push(owner);
        let result = headgate_sqlparse::facts(std::str::from_utf8(&text).expect("ours"));
        self.tell(
            shard,
            Message::Analysed {
                session,
                text,
                result,
            },
        );
    }
    fn resolve(&self, shard: usize, session: SessionId, address: String) {
        assert_eq!(address, self.target, "an address needs no name service");
        self.tell(
            shard,
            Message::Resolved {
                session,
                addresses: Ok(self.addresses.clone().into()),
            },
        );
    }
    fn keys(&self) -> &Arc<Keys> {
        &self.keys
    }
    fn shares(&self) -> &Arc<Shares> {
        &self.shares
    }
    fn cancel_session(&self, asker: Asker, holder: Holder, token: Arc<[u8]>) {
        self.holders.lock().unwrap().push(holder);
        self.tell(
            holder.shard,
            Message::Cancel {
                asker,
                session: holder.session,
                token,
            },
        );
    }
    fn cancel_target(&self, asker: Asker, address: SocketAddr, cancel: SideCancel) {
        let (pid, key) = cancel.token.split_first_chunk::<4>().unwrap();
        let (pid, key) = (u32::from_be_bytes(*pid), key.to_vec());
        self.to_target
            .lock()
            .unwrap()
            .push(ToTarget { address, pid, key });
        self.cancel_done(asker);
    }
    fn cancel_done(&self, asker: Asker) {
        self.tell(
            asker.shard,
            Message::CancelDone {
                session: asker.session,
            },
        );
    }
    fn catalog_changed(&self, _target: Arc<str>) -> u64 {
        1
    }
    fn load_catalog(&self, wanted: CatalogWanted) {
        let result = Ok(catalog(&wanted.labels));
        let target: Arc<str> = wanted.target.name.as_str().into();
        self.tell_all(|| {
            let (target, labels, result) = (Arc::clone(&target), Arc::clone(&wanted.labels), result.clone());
            Message::CatalogLoaded(CatalogLoaded {
                target,
                labels,
                changes: 1,
                took_us: 0,
                result,
            })
        });
    }
    fn metrics(&self, _shard: usize, values: &[(&'static str, u64)]) {
        *self.metrics.lock().unwrap() = values.to_vec();
    }
}

/// What a shard needs beside its ring. Made on the thread that runs it.
pub struct Parts {
    pub shard: Shard,
    /// Nobody takes what is recorded, unless the test does.
    pub consumer: Consumer,
    pub watch: Option<Watch>,
    pub metrics: Metrics,
    pub _folder: tempfile::TempDir,
}

impl Parts {
    pub fn metric(&self, name: &str) -> u64 {
        self.metrics
            .lock()
            .unwrap()
            .iter()
            .find(|(n, _)| *n == name)
            .expect("a metric of that name")
            .1
    }
}

pub fn parts(target: SocketAddr, inbox: Arc<Inbox>) -> Parts {
    parts_with(target, inbox, Setting::default())
}

pub fn parts_with(target: SocketAddr, inbox: Arc<Inbox>, setting: Setting) -> Parts {
    let mut process = Process::new(0, &target.to_string(), &[], ShareLimits::default());
    let own = Arc::get_mut(&mut process).unwrap();
    own.inboxes.push(inbox);
    own.expires_unix_ms = setting.expires_unix_ms;
    parts_of(&process, 0, setting)
}

/// One shard of several.
pub fn parts_of(process: &Arc<Process>, index: usize, setting: Setting) -> Parts {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spool-0");
    let spool = Producer::open_or_create(&path, setting.spool_bytes).unwrap();
    let consumer = Consumer::open(&path).unwrap();
    let watch = Some(spool.watch());
    let listeners = vec![ListenerSettings {
        protocol: headgate_plane::Protocol::Postgres,
        tls: None,
        danger_allow_cleartext: true,
        ..ListenerSettings::default()
    }];
    let no_tls = Arc::new(|_: &TargetSpec| Err("no TLS here".to_owned()));
    let mut core = Core::new(
        Settings {
            strict: setting.strict,
            ..Settings::default()
        },
        listeners,
        spool,
        Clock::default(),
        no_tls,
        [7; 32],
    );
    let reads = Rule {
        name: "reads".to_owned(),
        who: RuleWho::default(),
        target: RuleTarget::default(),
        statement: RuleStatement {
            class: Some(ClassSet::of(&[Class::Read])),
            ..RuleStatement::default()
        },
        when: None,
        time: None,
        effect: Ruling::Allow,
        message: None,
        reviewers: None,
        wait_ms: 1000,
        data_open: false,
        on_hold: headgate_plane::OnHold::Wait,
    };
    let (policy, problems) = Core::compile(Arc::new(Snapshot {
        epoch: Epoch(1),
        rules: vec![reads],
        masks: Vec::new(),
    }));
    assert!(problems.is_empty(), "{problems:?}");
    core.policy = policy;
    let (inbox, services) = (Arc::clone(&process.inboxes[index]), Arc::clone(process));
    let metrics = Arc::clone(&process.metrics);
    Parts {
        shard: Shard::new(index, core, inbox, services),
        consumer,
        watch,
        metrics,
        _folder: folder,
    }
}

pub fn hello() -> Vec<u8> {
    let mut out = Vec::new();
    write::startup(&mut out, 0, &[("user", "alice"), ("database", "shop")]).unwrap();
    write::password(&mut out, b"token").unwrap();
    out
}

/// A client and its target, greeted.
pub fn sign_in(sim: &mut Sim, parts: &mut Parts) -> (PeerId, PeerId) {
    let (client, target, _) = greeted(sim, parts);
    (client, target)
}

pub fn query(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    write::query(&mut out, text.as_bytes()).unwrap();
    out
}

/// The target's answer to whole messages; a large result has `bulk_rows`.
pub fn answer(asked: &[u8], bulk_rows: usize) -> Vec<u8> {
    let mut out = Vec::new();
    if asked.first() == Some(&0) {
        write::authentication_ok(&mut out);
        write::parameter_status(&mut out, b"client_encoding", b"UTF8").unwrap();
        write::parameter_status(&mut out, b"server_encoding", b"UTF8").unwrap();
        write::parameter_status(&mut out, b"standard_conforming_strings", b"on").unwrap();
        write::backend_key_data(&mut out, 7, &[1, 2, 3, 4]).unwrap();
        write::ready_for_query(&mut out, TransactionStatus::Idle);
        return out;
    }
    let mut rest = asked;
    while let Ok(Some((header, body))) = headgate_postgres::frame::split(rest, 1 << 20) {
        let text = String::from_utf8_lossy(body.strip_suffix(&[0]).unwrap_or(body)).into_owned();
        rest = &rest[header.len..];
        let (rows, value) = match text.as_str() {
            BULK => (bulk_rows, vec![b'x'; NOTE_BYTES]),
            POINT => (1, b"Ada".to_vec()),
            other => panic!("{} {other}", char::from(header.tag)),
        };
        let field = Field {
            name: b"v",
            table_oid: 16_400,
            column: 2,
            type_oid: 25,
            type_size: -1,
            type_modifier: -1,
            format: 0,
        };
        write::row_description(&mut out, [field].into_iter()).unwrap();
        for _ in 0..rows {
            write::data_row(&mut out, [Some(value.as_slice())].into_iter()).unwrap();
        }
        write::command_complete(&mut out, format!("SELECT {rows}").as_bytes()).unwrap();
        write::ready_for_query(&mut out, TransactionStatus::Idle);
    }
    out
}

/// What a look at the target's catalog would find.
fn catalog(labels: &[String]) -> Arc<Catalog> {
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    let mut builder = CatalogBuilder::new(&labels);
    let rows = [
        [Some("s"), Some("1"), Some("pg_catalog"), None, None, None],
        [Some("s"), Some("2"), Some("public"), None, None, None],
        [
            Some("r"),
            Some("16400"),
            Some("public"),
            Some("customers"),
            Some("r"),
            None,
        ],
        [
            Some("a"),
            Some("16400"),
            Some("1"),
            Some("name"),
            Some("25"),
            Some(""),
        ],
        [
            Some("a"),
            Some("16400"),
            Some("2"),
            Some("note"),
            Some("25"),
            Some(""),
        ],
        [Some("z"), Some("headgate-mask-1"), None, None, None, None],
    ];
    for row in rows {
        builder.row(&row.map(|value| value.map(str::as_bytes))).unwrap();
    }
    Arc::new(builder.finish())
}

/// Serves one session until it ends.
pub fn target(listener: &TcpListener) {
    let (mut stream, _) = listener.accept().unwrap();
    let (mut asked, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        asked.extend_from_slice(&buffer[..length]);
        // The start-up packet comes whole; of other messages the length says so.
        let is_whole = asked[0] == 0
            || matches!(headgate_postgres::frame::split(&asked, 1 << 20), Ok(Some((header, _))) if header.len == asked.len());
        if asked[0] == b'X' {
            return;
        }
        if is_whole {
            stream.write_all(&answer(&asked, 0)).unwrap();
            asked.clear();
        }
    }
}

/// Says it and hears the answer.
pub fn talk(client: &mut TcpStream, asked: &[u8]) {
    client.write_all(asked).unwrap();
    let (mut reply, mut buffer) = (Vec::new(), [0; 4096]);
    while !is_ready(&reply) {
        let length = client.read(&mut buffer).unwrap();
        assert!(length > 0, "ended after {}", String::from_utf8_lossy(&reply));
        reply.extend_from_slice(&buffer[..length]);
    }
}

pub fn is_ready(reply: &[u8]) -> bool {
    reply.ends_with(&[b'Z', 0, 0, 0, 5, b'I'])
}

/// As [`sign_in`]; and how the client was greeted.
pub fn greeted(sim: &mut Sim, parts: &mut Parts) -> (PeerId, PeerId, Vec<u8>) {
    let client = sim.dial(0);
    sim.say(client, &hello());
    sim.run(&mut parts.shard);
    let (_, target) = sim.arrival().expect("the session asks for its target");
    let asked = sim.heard(target);
    sim.say(target, &answer(&asked, 0));
    sim.run(&mut parts.shard);
    // The first session of a core asks for the catalog before its client is greeted.
    let asked = sim.heard(target);
    if !asked.is_empty() {
        sim.say(target, &answer(&asked, 0));
        sim.run(&mut parts.shard);
    }
    let welcome = sim.heard(client);
    assert!(is_ready(&welcome), "{}", String::from_utf8_lossy(&welcome));
    (client, target, welcome)
}

/// The process id and key that a client was greeted with.
pub fn key_of(welcome: &[u8]) -> (u32, Vec<u8>) {
    let mut rest = welcome;
    while let Ok(Some((header, body))) = headgate_postgres::frame::split(rest, 1 << 20) {
        if header.tag == b'K' {
            return (
                u32::from_be_bytes(body[..4].try_into().unwrap()),
                body[4..].to_vec(),
            );
        }
        rest = &rest[header.len..];
    }
    panic!("no BackendKeyData in {}", String::from_utf8_lossy(welcome));
}
