//! A gate without sockets of its own: a test plays the client, a real PostgreSQL (or a script) the target, and this
//! harness the shard: it carries out effects at once.

#![allow(dead_code, reason = "each test file uses its part")]

pub use headgate_fixtures::Postgres;
use headgate_gate::CatalogLoaded;
use headgate_gate::{Clock, Core, Effect, ListenerSettings, PostgresSession as Session, Settings};
use headgate_mask::{Catalog, CatalogBuilder};
use headgate_plane::{
    Answer, Epoch, Grant, MaskRule, Question, Rule, Secret, Snapshot, TargetAuth, TargetSpec, TargetTls,
    ToControl, Who,
};
use headgate_plane::{Class, ClassSet, Effect as Ruling, Reviewers, RuleStatement, RuleTarget, RuleWho};
use headgate_recording::Body;
use headgate_spool::{Consumer, Producer};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub fn who() -> Who {
    Who {
        principal: "alice".to_owned(),
        groups: vec!["staff".to_owned()],
        issuer: "local".to_owned(),
        address: "127.0.0.1".to_owned(),
        ..Who::default()
    }
}

pub fn rule(name: &str, effect: Ruling, statement: RuleStatement) -> Rule {
    Rule {
        name: name.to_owned(),
        who: RuleWho::default(),
        target: RuleTarget::default(),
        statement,
        when: None,
        time: None,
        effect,
        message: None,
        reviewers: (effect == Ruling::Hold).then(|| Reviewers {
            groups: vec!["dba".to_owned()],
            principals: Vec::new(),
            quorum: 1,
        }),
        wait_ms: 60_000,
        data_open: false,
        on_hold: headgate_plane::OnHold::Wait,
    }
}

pub fn verbs(names: &[&str]) -> RuleStatement {
    RuleStatement {
        verbs: names.iter().map(|n| (*n).to_owned()).collect(),
        ..RuleStatement::default()
    }
}

pub fn all_classes() -> ClassSet {
    Class::ALL.into_iter().fold(ClassSet::EMPTY, ClassSet::with)
}

pub fn snapshot(rules: Vec<Rule>, masks: Vec<MaskRule>) -> Arc<Snapshot> {
    Arc::new(Snapshot {
        epoch: Epoch(1),
        rules,
        masks,
    })
}

pub struct Gate {
    pub core: Core,
    pub session: Session,
    port: u16,
    target: Option<TcpStream>,
    /// All that the client got.
    pub received: Vec<u8>,
    /// All that the target got.
    pub sent: Vec<u8>,
    pub questions: Vec<Question>,
    pub control: Vec<ToControl>,
    /// What came in, in order: from the client (true) or the target.
    pub log: Vec<(bool, Vec<u8>)>,
    /// Bytes that the client had when it was signed in.
    pub greeting: usize,
    consumer: Consumer,
    /// What the recorder has read.
    records: Vec<Body>,
    /// Nobody makes room in the spool.
    recorder_stopped: bool,
    grant: Arc<Mutex<Option<Grant>>>,
    /// The target is a script: nothing is connected.
    scripted: bool,
    /// What a script's target has: that of the session that it was written down from.
    pub scripted_catalog: Option<Arc<Catalog>>,
    catalog_changes: u64,
    _folder: tempfile::TempDir,
}

impl Gate {
    pub fn new(port: u16, snapshot: Arc<Snapshot>) -> Gate {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spool-0");
        let spool = Producer::open_or_create(&path, 16 << 20).unwrap();
        let consumer = Consumer::open(&path).unwrap();
        let listeners = vec![ListenerSettings {
            protocol: headgate_plane::Protocol::Postgres,
            danger_allow_cleartext: true,
            ..ListenerSettings::default()
        }];
        let wall = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        let clock = Clock {
            now_us: 1,
            anchor_unix_us: u64::try_from(wall.as_micros()).unwrap(),
        };
        let mut core = Core::new(
            Settings::default(),
            listeners,
            spool,
            clock,
            Arc::new(|_| Err("no TLS here".to_owned())),
            [7; 32],
        );
        let (policy, problems) = Core::compile(snapshot);
        assert!(problems.is_empty(), "{problems:?}");
        core.policy = policy;
        let session = Session::new(&mut core, 0, "127.0.0.1".to_owned());
        Gate {
            core,
            session,
            port,
            target: None,
            received: Vec::new(),
            sent: Vec::new(),
            questions: Vec::new(),
            control: Vec::new(),
            log: Vec::new(),
            greeting: 0,
            consumer,
            records: Vec::new(),
            recorder_stopped: false,
            grant: Arc::default(),
            scripted: false,
            scripted_catalog: None,
            catalog_changes: 0,
            _folder: folder,
        }
    }

    /// A gate whose target is what the test says with [`Gate::target`].
    pub fn scripted(snapshot: Arc<Snapshot>) -> Gate {
        let mut gate = Gate::new(0, snapshot);
        gate.scripted = true;
        gate
    }

    /// What a scripted target says.
    pub fn target(&mut self, bytes: &[u8]) {
        self.session.target_bytes(&mut self.core, bytes);
        self.settle();
    }

    /// Signs in as alice; returns when the client has ReadyForQuery.
    pub fn signed_in(port: u16, snapshot: Arc<Snapshot>) -> Gate {
        Gate::signed_in_with(port, snapshot, &[])
    }

    /// The same with further parameters of the startup packet.
    pub fn signed_in_with(port: u16, snapshot: Arc<Snapshot>, more: &[(&str, &str)]) -> Gate {
        let mut gate = Gate::new(port, snapshot);
        let mut hello = Vec::new();
        let parameters = [&[("user", "alice"), ("database", "shop")], more].concat();
        headgate_postgres::write::startup(&mut hello, 0, &parameters).unwrap();
        headgate_postgres::write::password(&mut hello, b"token").unwrap();
        gate.client(&hello);
        gate.until_ready(1);
        gate.greeting = gate.received.len();
        gate
    }

    /// Another session of the same core.
    pub fn again(mut self) -> Gate {
        self.client_ended();
        self.until_ended();
        self.session = Session::new(&mut self.core, 0, "127.0.0.1".to_owned());
        self.received.clear();
        self.sent.clear();
        let mut hello = Vec::new();
        headgate_postgres::write::startup(&mut hello, 0, &[("user", "alice"), ("database", "shop")]).unwrap();
        headgate_postgres::write::password(&mut hello, b"token").unwrap();
        self.client(&hello);
        self.until_ready(1);
        self.greeting = self.received.len();
        self
    }

    /// Other rules come.
    pub fn rules(&mut self, epoch: u64, rules: Vec<Rule>, masks: Vec<MaskRule>) {
        let (policy, problems) = Core::compile(Arc::new(Snapshot {
            epoch: Epoch(epoch),
            rules,
            masks,
        }));
        assert!(problems.is_empty(), "{problems:?}");
        self.core.policy = policy;
        self.core.catalogs_follow_rules();
        self.session.snapshot_changed(&mut self.core);
        self.settle();
    }

    pub fn client_ended(&mut self) {
        self.session.client_ended(&mut self.core);
        self.settle();
    }

    pub fn tick(&mut self) {
        self.session.tick(&mut self.core);
        self.settle();
    }

    /// Nobody makes room in the spool from now on.
    pub fn stop_recorder(&mut self) {
        self.recorder_stopped = true;
    }

    /// The recorder's part: what stands in the spool is read and its room given back.
    pub fn drain_recorder(&mut self) {
        self.recorder_stopped = false;
        self.read_records();
        self.consumer.release(self.consumer.read_position());
    }

    fn read_records(&mut self) {
        self.core.spool.publish();
        let records = &mut self.records;
        while self
            .consumer
            .drain(1 << 20, |_, kind, bytes| {
                if kind == headgate_spool::RecordKind::Event {
                    records.push(headgate_recording::decode(bytes).unwrap().body);
                }
            })
            .unwrap()
            > 0
        {}
    }

    /// All that was recorded, of this and earlier sessions of the core.
    pub fn records(&mut self) -> Vec<Body> {
        self.read_records();
        self.records.clone()
    }

    /// Fills the spool to its brim, and stops the recorder.
    pub fn fill_spool(&mut self) {
        self.stop_recorder();
        // Records that say nothing: an event of an unknown kind.
        let mut event = Vec::new();
        let body = Body::SignInRefused {
            target: String::new(),
            user: String::new(),
            address: String::new(),
            reason: String::new(),
        };
        headgate_recording::encode(
            &headgate_recording::Event {
                session: headgate_plane::SessionId(1),
                seq: 0,
                unix_us: 1,
                body,
            },
            &mut event,
        );
        for _ in 0..2_000_000 {
            let Some(place) = self.core.spool.reserve(event.len()) else {
                return;
            };
            place.copy_from_slice(&event);
            self.core.spool.commit(event.len());
        }
        panic!("a spool without end");
    }

    pub fn until(&mut self, what: &str, done: impl Fn(&Gate) -> bool) {
        let until = Instant::now() + Duration::from_secs(20);
        while !done(self) {
            assert!(
                Instant::now() < until,
                "no {what}; got {:?}",
                String::from_utf8_lossy(&self.received)
            );
            if !self.pump() {
                self.tick();
            }
        }
    }

    pub fn until_tag(&mut self, tag: u8) {
        self.until("such tag", |gate| gate.tags().contains(&tag));
    }

    pub fn until_question(&mut self) {
        self.until("question", |gate| !gate.questions.is_empty());
    }

    pub fn until_ended(&mut self) {
        self.until("end", |gate| gate.session.is_ended());
        self.target = None;
        self.settle();
    }

    /// Plays a log again, the step at `step` cut in two at `cut`; returns what the client got after `from` steps.
    pub fn replay(
        snapshot: Arc<Snapshot>,
        catalog: Option<Arc<Catalog>>,
        log: &[(bool, Vec<u8>)],
        from: usize,
        step: usize,
        cut: usize,
    ) -> Vec<u8> {
        let mut gate = Gate::new(0, snapshot);
        gate.scripted = true;
        gate.scripted_catalog = catalog;
        let mut before = 0;
        for (at, (is_client, bytes)) in log.iter().enumerate() {
            if at == from {
                before = gate.received.len();
            }
            let (head, tail) = bytes.split_at(if at == step { cut } else { bytes.len() });
            for piece in [head, tail].into_iter().filter(|p| !p.is_empty()) {
                if *is_client {
                    gate.client(piece);
                } else {
                    gate.session.target_bytes(&mut gate.core, piece);
                    gate.settle();
                }
            }
        }
        assert!(!gate.session.is_ended(), "{}", text(&gate.received));
        gate.received[before..].to_vec()
    }

    pub fn client(&mut self, bytes: &[u8]) {
        self.log.push((true, bytes.to_vec()));
        self.session.client_bytes(&mut self.core, bytes);
        self.settle();
    }

    pub fn settle(&mut self) {
        if !self.recorder_stopped {
            self.drain_recorder();
        }
        loop {
            let effects = std::mem::take(&mut self.core.effects);
            let mut moved = !effects.is_empty();
            for effect in effects {
                self.effect(effect);
            }
            while let Some(bytes) = self.session.client_output(&mut self.core) {
                self.received.extend_from_slice(&bytes);
                moved = true;
            }
            while let Some(bytes) = self.session.target_output(&mut self.core) {
                self.sent.extend_from_slice(&bytes);
                if let Some(target) = &mut self.target {
                    let _ = target.write_all(&bytes);
                }
                moved = true;
            }
            if !moved {
                return;
            }
        }
    }

    fn effect(&mut self, effect: Effect) {
        match effect {
            Effect::ConnectTarget { .. } if self.scripted => self.session.target_connected(&mut self.core),
            Effect::ConnectTarget { address } => {
                let stream = TcpStream::connect(address).unwrap();
                stream.set_nodelay(true).unwrap();
                stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
                self.target = Some(stream);
                self.session.target_connected(&mut self.core);
            }
            Effect::Analyse { text } => {
                let facts = match std::str::from_utf8(&text) {
                    Ok(text) => headgate_sqlparse::facts(text),
                    Err(_) => Err(headgate_sql::Unreadable::NotUtf8),
                };
                let known = self.core.known.learn(&text, facts);
                self.session.analysed(&mut self.core, &text, known);
            }
            Effect::ToControl(ToControl::SignIn(ask)) => {
                let grant = Grant {
                    session: ask.session,
                    who: who(),
                    target: TargetSpec {
                        name: "shop".to_owned(),
                        protocol: headgate_plane::Protocol::Postgres,
                        environment: "test".to_owned(),
                        address: format!("127.0.0.1:{}", self.port),
                        database: "postgres".to_owned(),
                        user: "postgres".to_owned(),
                        tls: TargetTls::DangerOff,
                        ca: None,
                        auth: TargetAuth::Scram,
                        labels: Vec::new(),
                    },
                    target_secret: Secret::new(""),
                    catalog_reader: None,
                    epoch: Epoch(1),
                    expires_unix_ms: u64::MAX,
                    credential_id: "t1".to_owned(),
                };
                *self.grant.lock().unwrap() = Some(grant.clone());
                self.session.signed_in(&mut self.core, Ok(Box::new(grant)));
            }
            Effect::ToControl(ToControl::Ask(question)) => self.questions.push(*question),
            Effect::ToControl(other) => self.control.push(other),
            Effect::CatalogChanged { target } => {
                self.catalog_changes += 1;
                self.core.catalog_changed(&target, self.catalog_changes);
            }
            Effect::LoadCatalog(wanted) => {
                let result = if self.scripted {
                    self.scripted_catalog.clone().ok_or("none".into())
                } else {
                    load_catalog(self.port, &wanted.labels, wanted.before.as_deref())
                };
                if let Ok(catalog) = &result {
                    self.scripted_catalog = Some(Arc::clone(catalog));
                }
                let loaded = CatalogLoaded {
                    target: wanted.target.name.as_str().into(),
                    labels: wanted.labels,
                    changes: self.catalog_changes,
                    took_us: 0,
                    result,
                };
                self.core.catalog_loaded(&loaded);
                self.session.catalog_came(&mut self.core, &loaded.target);
            }
            Effect::CancelTarget(mut cancel) => {
                let mut request = Vec::new();
                cancel.dialogue.advance(&[], &mut request);
                TcpStream::connect(("127.0.0.1", self.port))
                    .unwrap()
                    .write_all(&request)
                    .unwrap();
            }
            Effect::CancelSession { .. } | Effect::KeyMade { .. } => {}
        }
    }

    /// Takes what the target says for a moment.
    pub fn pump(&mut self) -> bool {
        let mut buffer = [0; 65536];
        let Some(target) = &mut self.target else {
            return false;
        };
        match target.read(&mut buffer) {
            Ok(0) => {
                self.session.target_ended(&mut self.core);
                self.target = None;
            }
            Ok(n) => {
                self.log.push((false, buffer[..n].to_vec()));
                self.session.target_bytes(&mut self.core, &buffer[..n]);
            }
            Err(_) => return false,
        }
        self.settle();
        true
    }

    /// Until the client has got so many ReadyForQuery in all.
    pub fn until_ready(&mut self, count: usize) {
        let until = Instant::now() + Duration::from_secs(20);
        while self.tags().iter().filter(|t| **t == b'Z').count() < count {
            assert!(
                Instant::now() < until,
                "no ReadyForQuery; got {:?}",
                String::from_utf8_lossy(&self.received)
            );
            assert!(
                !self.session.is_ended(),
                "ended; got {:?}",
                String::from_utf8_lossy(&self.received)
            );
            self.pump();
        }
    }

    pub fn answer(&mut self, approve: bool) {
        let question = self.questions.last().unwrap();
        let key = question.key;
        let answer = if approve {
            Answer::Approved {
                reviewers: vec!["bob".to_owned()],
                digest: question.digest,
            }
        } else {
            Answer::Denied {
                reviewer: "bob".to_owned(),
                reason: "not today".to_owned(),
            }
        };
        self.session.answered(&mut self.core, key, answer);
        self.settle();
    }

    pub fn query(&mut self, text: &str) -> Vec<u8> {
        let before = self.received.len();
        let ready = self.tags().iter().filter(|t| **t == b'Z').count();
        let mut message = Vec::new();
        headgate_postgres::write::query(&mut message, text.as_bytes()).unwrap();
        self.client(&message);
        self.until_ready(ready + 1);
        self.received[before..].to_vec()
    }

    pub fn tags(&self) -> Vec<u8> {
        tags(&self.received)
    }
}

/// The first value of the first row.
pub fn value(mut bytes: &[u8]) -> String {
    while let Ok(Some((header, body))) = headgate_postgres::frame::split(bytes, 1 << 30) {
        if let Ok(headgate_postgres::backend::Backend::DataRow(mut values)) =
            headgate_postgres::backend::Backend::decode(header.tag, body)
        {
            return text(values.next().flatten().unwrap_or(b"NULL"));
        }
        bytes = &bytes[header.len..];
    }
    panic!("no row in {}", text(bytes))
}

/// The tags of whole messages.
pub fn tags(mut bytes: &[u8]) -> Vec<u8> {
    let mut tags = Vec::new();
    while let Ok(Some((header, _))) = headgate_postgres::frame::split(bytes, 1 << 30) {
        tags.push(header.tag);
        bytes = &bytes[header.len..];
    }
    tags
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// As the gateway's own connection does it: nothing of a client's session has a say in it.
pub fn load_catalog(
    port: u16,
    labels: &[String],
    before: Option<&Catalog>,
) -> Result<Arc<Catalog>, Arc<str>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).map_err(|e| e.to_string())?;
    let mut out = Vec::new();
    headgate_postgres::write::startup(&mut out, 0, &[("user", "postgres"), ("database", "postgres")])
        .unwrap();
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    let kept: Vec<_> = before.into_iter().flat_map(Catalog::labelled).collect();
    headgate_postgres::write::query(&mut out, headgate_mask::path_query(None).as_bytes()).unwrap();
    headgate_postgres::write::query(
        &mut out,
        headgate_mask::relations_query(&labels, None, &kept).as_bytes(),
    )
    .unwrap();
    stream.write_all(&out).map_err(|e| e.to_string())?;
    let mut builder = CatalogBuilder::new(&labels);
    let (mut buffer, mut piece, mut ready) = (Vec::new(), [0; 65536], 0);
    while ready < 3 {
        let n = stream.read(&mut piece).map_err(|e| e.to_string())?;
        if n == 0 {
            return Err("closed".into());
        }
        buffer.extend_from_slice(&piece[..n]);
        let mut used = 0;
        while let Ok(Some((header, body))) = headgate_postgres::frame::split(&buffer[used..], 1 << 30) {
            match headgate_postgres::backend::Backend::decode(header.tag, body).unwrap() {
                headgate_postgres::backend::Backend::DataRow(values) => builder
                    .row(&values.collect::<Vec<_>>())
                    .map_err(|e| e.to_string())?,
                headgate_postgres::backend::Backend::ReadyForQuery { .. } => ready += 1,
                headgate_postgres::backend::Backend::ErrorResponse(fields) => {
                    return Err(String::from_utf8_lossy(fields.message().unwrap_or(b""))
                        .into_owned()
                        .into());
                }
                _ => {}
            }
            used += header.len;
        }
        buffer.drain(..used);
    }
    Ok(Arc::new(builder.finish()))
}
