//! Sessions in steady state, in memory: client bytes in, a synthetic target's bytes back, no sockets.
//!
//! What one statement costs the gate alone can be counted here: allocations by a test, instructions under
//! `valgrind --tool=callgrind` by `examples/steady.rs`. The bytes of a statement and of its answer are made before and
//! said again and again.

use headgate_gate::{
    CatalogLoaded, Clock, Core, Effect, ListenerSettings, PostgresSession as Session, Settings,
};
use headgate_mask::{Catalog, CatalogBuilder};
use headgate_plane::{
    Class, ClassSet, Effect as Ruling, Epoch, Grant, MaskMethod, MaskRule, Rule, RuleSql, RuleStatement,
    RuleTarget, RuleWho, Secret, Snapshot, TargetAuth, TargetSpec, TargetTls, ToControl, Who,
};
use headgate_postgres::backend::{Backend, Field, TransactionStatus};
use headgate_postgres::{frontend::Kind, write};
use headgate_spool::{Consumer, Producer};
use std::sync::Arc;

const SQL: &str = "SELECT id, name, email, note FROM customers WHERE id = ";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Simple,
    Extended,
    Prepared,
}

pub struct Steady {
    pub core: Core,
    consumer: Consumer,
    sessions: Vec<Session>,
    statement: Vec<u8>,
    /// What the target said last (to `statement`, in the end), and what the client is to get.
    reply: Vec<u8>,
    pub expected: Vec<u8>,
    _folder: tempfile::TempDir,
}

fn rules(count: usize) -> Vec<Rule> {
    let rule = |name: String, effect: Ruling, statement: RuleStatement| Rule {
        name,
        who: RuleWho::default(),
        target: RuleTarget::default(),
        statement,
        when: None,
        time: None,
        effect,
        message: None,
        reviewers: None,
        wait_ms: 60_000,
        data_open: false,
        on_hold: headgate_plane::OnHold::Wait,
    };
    let mut all: Vec<Rule> = (1..count)
        .map(|n| {
            let statement = RuleStatement::of_sql(RuleSql {
                relations: vec![format!("public.secret_{n}")],
                ..RuleSql::default()
            });
            rule(format!("nobody reads secret {n}"), Ruling::Deny, statement)
        })
        .collect();
    let class = Some(ClassSet::of(&[Class::Read]));
    let mut statement = RuleStatement {
        class,
        ..RuleStatement::default()
    };
    statement.sql_mut().relations = vec!["public.*".to_owned()];
    all.push(rule("analysts read".to_owned(), Ruling::Allow, statement));
    all
}

fn masks() -> Vec<MaskRule> {
    vec![MaskRule {
        name: "contact data".to_owned(),
        columns: vec!["public.customers.email".to_owned()],
        detect: ["email", "payment_card", "us_ssn"].map(str::to_owned).to_vec(),
        method: MaskMethod::Partial,
        who: RuleWho::default(),
        target: RuleTarget::default(),
        unless: None,
    }]
}

fn who() -> Who {
    Who {
        principal: "alice".to_owned(),
        groups: vec!["analysts".to_owned()],
        issuer: "local".to_owned(),
        ..Who::default()
    }
}

fn statement(mode: Mode) -> (Vec<u8>, Vec<u8>) {
    let (mut prepare, mut each) = (Vec::new(), Vec::new());
    let bind = |out: &mut Vec<u8>, name: &[u8]| {
        write::bind(out, b"", name, &[], [Some(&b"4711"[..])].into_iter(), &[]).expect("short");
    };
    match mode {
        Mode::Simple => write::query(&mut each, format!("{SQL}4711").as_bytes()).expect("short"),
        Mode::Extended => {
            write::parse(&mut each, b"", format!("{SQL}$1").as_bytes(), &[]).expect("short");
            bind(&mut each, b"");
            write::describe(&mut each, Kind::Portal, b"").expect("short");
        }
        Mode::Prepared => {
            write::parse(&mut prepare, b"point_read", format!("{SQL}$1").as_bytes(), &[]).expect("short");
            write::sync(&mut prepare);
            bind(&mut each, b"point_read");
        }
    }
    if mode != Mode::Simple {
        write::execute(&mut each, b"", 0).expect("short");
        write::sync(&mut each);
    }
    (prepare, each)
}

const OID: u32 = 16_385;
const COLUMNS: [(&str, u32); 4] = [("id", 23), ("name", 25), ("email", 25), ("note", 25)];
const EMAIL: &str = "ada.lovelace@example.com";

fn described(out: &mut Vec<u8>, table_oid: u32, columns: &[(&str, u32)]) {
    let field = |(n, (name, type_oid)): (usize, &(&'static str, u32))| Field {
        name: name.as_bytes(),
        table_oid,
        column: if table_oid == 0 {
            0
        } else {
            i16::try_from(n + 1).expect("few")
        },
        type_oid: *type_oid,
        type_size: -1,
        type_modifier: -1,
        format: 0,
    };
    let columns: Vec<(&'static str, u32)> = columns
        .iter()
        .map(|(n, t)| (COLUMNS.iter().find(|c| c.0 == *n).map_or("a", |c| c.0), *t))
        .collect();
    write::row_description(out, columns.iter().enumerate().map(field)).expect("short");
}

fn row(out: &mut Vec<u8>, values: &[Option<&str>]) {
    write::data_row(out, values.iter().map(|v| v.map(str::as_bytes))).expect("short");
}

/// What a target says: to sign-in, to the catalog's query, to a statement.
fn answer(asked: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    if asked.first() == Some(&0) {
        write::authentication_ok(&mut out);
        write::parameter_status(&mut out, b"server_encoding", b"UTF8").expect("short");
        write::parameter_status(&mut out, b"client_encoding", b"UTF8").expect("short");
        write::parameter_status(&mut out, b"standard_conforming_strings", b"on").expect("short");
        write::backend_key_data(&mut out, 7, &[1, 2, 3, 4]).expect("short");
    }
    let mut rest = asked;
    while let Ok(Some((header, body))) = headgate_postgres::frame::split(rest, 1 << 20) {
        match header.tag {
            b'P' => write::parse_complete(&mut out),
            b'D' => {
                if body.first() == Some(&b'S') {
                    write::parameter_description(&mut out, &[23]).expect("short");
                }
                described(&mut out, OID, &COLUMNS);
            }
            b'B' => write::bind_complete(&mut out),
            b'E' => point_read(&mut out),
            b'S' => {}
            b'Q' if body.starts_with(SQL.as_bytes()) => {
                described(&mut out, OID, &COLUMNS);
                point_read(&mut out);
            }
            b'Q' => catalog(&mut out, body),
            other => panic!("{other}"),
        }
        rest = &rest[header.len..];
    }
    write::ready_for_query(&mut out, TransactionStatus::Idle);
    out
}

fn point_read(out: &mut Vec<u8>) {
    let note =
        "The quick brown fox jumps over the lazy dog; pack my box with five dozen liquor jugs. ".repeat(3);
    row(
        out,
        &[Some("4711"), Some("Ada Lovelace"), Some(EMAIL), note.get(..190)],
    );
    write::command_complete(out, b"SELECT 1").expect("short");
}

fn catalog(out: &mut Vec<u8>, query: &[u8]) {
    let oid = OID.to_string();
    described(out, 0, &[("a", 25); 6]);
    row(out, &[Some("s"), Some("1"), Some("pg_catalog"), None, None, None]);
    row(out, &[Some("s"), Some("2"), Some("public"), None, None, None]);
    row(
        out,
        &[
            Some("r"),
            Some(&oid),
            Some("public"),
            Some("customers"),
            Some("r"),
            None,
        ],
    );
    let label = "public.customers.email";
    if String::from_utf8_lossy(query).contains(label) {
        row(out, &[Some("l"), Some(&oid), Some("3"), Some(label), None, None]);
    }
    for (n, (name, type_oid)) in (1..).zip(COLUMNS) {
        let (n, type_oid): (i32, String) = (n, type_oid.to_string());
        row(
            out,
            &[
                Some("a"),
                Some(&oid),
                Some(&n.to_string()),
                Some(name),
                Some(&type_oid),
                Some(""),
            ],
        );
    }
    for type_oid in ["18", "19", "25", "1042", "1043"] {
        row(out, &[Some("t"), Some(type_oid), None, None, None, None]);
    }
    row(out, &[Some("z"), Some("headgate-mask-1"), None, None, None, None]);
    write::command_complete(out, b"SELECT 13").expect("short");
}

/// The catalog of which the target's rows tell.
fn made_catalog(labels: &[String]) -> Arc<Catalog> {
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    let mut rows = Vec::new();
    catalog(&mut rows, labels.join(" ").as_bytes());
    let mut builder = CatalogBuilder::new(&labels);
    let mut rest = &rows[..];
    while let Ok(Some((header, body))) = headgate_postgres::frame::split(rest, 1 << 20) {
        if let Ok(Backend::DataRow(values)) = Backend::decode(header.tag, body) {
            builder.row(&values.collect::<Vec<_>>()).expect("ours");
        }
        rest = &rest[header.len..];
    }
    Arc::new(builder.finish())
}

impl Steady {
    pub fn new(mode: Mode, masked: bool, rule_count: usize, sessions: usize) -> Steady {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("spool-0");
        let spool = Producer::open_or_create(&path, 8 << 20).expect("a spool");
        let consumer = Consumer::open(&path).expect("its other end");
        let listeners = vec![ListenerSettings {
            protocol: headgate_plane::Protocol::Postgres,
            danger_allow_cleartext: true,
            ..ListenerSettings::default()
        }];
        let clock = Clock {
            now_us: 1,
            anchor_unix_us: 1_700_000_000_000_000,
        };
        let mut core = Core::new(
            Settings::default(),
            listeners,
            spool,
            clock,
            Arc::new(|_| Err("no TLS here".to_owned())),
            [7; 32],
        );
        let masks = if masked { masks() } else { Vec::new() };
        let (policy, problems) = Core::compile(Arc::new(Snapshot {
            epoch: Epoch(1),
            rules: rules(rule_count),
            masks,
        }));
        assert!(problems.is_empty(), "{problems:?}");
        core.policy = policy;
        let (prepare, statement) = statement(mode);
        let mut steady = Steady {
            core,
            consumer,
            sessions: Vec::new(),
            statement,
            reply: Vec::new(),
            expected: Vec::new(),
            _folder: folder,
        };
        let mut hello = Vec::new();
        write::startup(&mut hello, 0, &[("user", "alice"), ("database", "bench")]).expect("short");
        write::password(&mut hello, b"token").expect("short");
        for at in 0..sessions {
            let session = Session::new(&mut steady.core, 0, "127.0.0.1".to_owned());
            steady.sessions.push(session);
            for bytes in [&hello, &prepare] {
                if !bytes.is_empty() {
                    let got = steady.talk(at, bytes);
                    assert!(
                        got.ends_with(&[b'Z', 0, 0, 0, 5, b'I']),
                        "{}",
                        String::from_utf8_lossy(&got)
                    );
                }
            }
            steady.drain();
        }
        // Twice by way of the target, so that everything is known that will be known.
        let statement = steady.statement.clone();
        for at in (0..sessions).chain(0..sessions) {
            steady.expected = steady.talk(at, &statement);
        }
        let got = String::from_utf8_lossy(&steady.expected).into_owned();
        assert!(
            got.contains("jumps over") && got.contains(EMAIL) != masked,
            "{got}"
        );
        steady
    }

    fn effect(core: &mut Core, session: &mut Session, effect: Effect) {
        match effect {
            Effect::ConnectTarget { .. } => session.target_connected(core),
            Effect::Analyse { text } => {
                let facts = headgate_sqlparse::facts(std::str::from_utf8(&text).expect("ours"));
                let known = core.known.learn(&text, facts);
                session.analysed(core, &text, known);
            }
            Effect::ToControl(ToControl::SignIn(ask)) => {
                let target = TargetSpec {
                    name: "bench".to_owned(),
                    protocol: headgate_plane::Protocol::Postgres,
                    environment: "production".to_owned(),
                    address: "127.0.0.1:1".to_owned(),
                    database: "bench".to_owned(),
                    user: "bench".to_owned(),
                    tls: TargetTls::DangerOff,
                    ca: None,
                    auth: TargetAuth::Scram,
                    labels: Vec::new(),
                };
                let grant = Grant {
                    session: ask.session,
                    who: who(),
                    target,
                    target_secret: Secret::new(""),
                    catalog_reader: None,
                    epoch: Epoch(1),
                    expires_unix_ms: u64::MAX,
                    credential_id: "t1".to_owned(),
                };
                session.signed_in(core, Ok(Box::new(grant)));
            }
            Effect::LoadCatalog(wanted) => {
                let result = Ok(made_catalog(&wanted.labels));
                let target = wanted.target.name.as_str().into();
                let loaded = CatalogLoaded {
                    target,
                    labels: wanted.labels,
                    changes: 0,
                    took_us: 0,
                    result,
                };
                core.catalog_loaded(&loaded);
                session.catalog_came(core, &loaded.target);
            }
            Effect::ToControl(_)
            | Effect::KeyMade { .. }
            | Effect::CancelSession { .. }
            | Effect::CancelTarget { .. }
            | Effect::CatalogChanged { .. } => {}
        }
    }

    /// With a target behind it, until nothing moves; returns what the client got.
    fn talk(&mut self, at: usize, bytes: &[u8]) -> Vec<u8> {
        let Steady {
            core,
            sessions,
            reply,
            ..
        } = self;
        let session = &mut sessions[at];
        let mut received = Vec::new();
        session.client_bytes(core, bytes);
        loop {
            let effects = std::mem::take(&mut core.effects);
            let mut moved = !effects.is_empty();
            for effect in effects {
                Steady::effect(core, session, effect);
            }
            while let Some(out) = session.client_output(core) {
                received.extend_from_slice(&out);
                moved = true;
            }
            while let Some(out) = session.target_output(core) {
                *reply = answer(&out);
                session.target_bytes(core, reply);
                moved = true;
            }
            if !moved {
                assert!(!session.is_ended(), "{}", String::from_utf8_lossy(&received));
                return received;
            }
        }
    }

    /// One statement in each session, as a shard would see it: all questions, then all answers.
    pub fn round(&mut self) {
        let Steady {
            core,
            sessions,
            statement,
            reply,
            expected,
            ..
        } = self;
        for session in sessions.iter_mut() {
            core.clock.now_us += 10;
            session.client_bytes(core, statement);
            while let Some(out) = session.target_output(core) {
                core.recycle(out);
            }
            assert!(core.effects.is_empty());
        }
        core.spool.publish();
        for session in sessions.iter_mut() {
            core.clock.now_us += 10;
            session.target_bytes(core, reply);
            while let Some(out) = session.client_output(core) {
                assert!(out == *expected, "{}", String::from_utf8_lossy(&out));
                core.recycle(out);
            }
        }
        core.spool.publish();
    }

    /// The recorder's part: events read and their room given back. Returns how many there were.
    pub fn drain(&mut self) -> u64 {
        self.core.spool.publish();
        let mut events = 0;
        while self
            .consumer
            .drain(1 << 20, |_, _, _| events += 1)
            .is_ok_and(|n| n > 0)
        {}
        self.consumer.release(self.consumer.read_position());
        events
    }
}
