//! The gate on a bench: one core for all cases, its rules, its spool, and what it recorded.

use headgate_gate::{Clock, Core, ListenerSettings, Settings};
use headgate_mask::Catalog;
use headgate_plane::{
    Class, ClassSet, Effect, Epoch, MaskMethod, MaskRule, Reviewers, Rule, RuleStatement, RuleTarget,
    RuleWho, Snapshot, TargetAuth, TargetSpec, TargetTls, Who,
};
use headgate_policy::Compiled;
use headgate_recording::Event;
use headgate_spool::{Consumer, Producer, RecordKind as Record};
use std::sync::Arc;

use crate::sql::Kind;

/// What the rules of a set say of a kind of statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ruling {
    Allow,
    Hold,
    Deny,
}

/// The sets of rules, by number: for UPDATE, for DELETE. Everything else is allowed.
pub const RULES: [(Ruling, Ruling); 3] = [
    (Ruling::Hold, Ruling::Deny),
    (Ruling::Deny, Ruling::Hold),
    (Ruling::Allow, Ruling::Allow),
];

pub fn ruling(rules: usize, kind: Kind) -> Ruling {
    match (RULES.get(rules), kind) {
        (_, Kind::Other) => Ruling::Allow,
        (Some((update, _)), Kind::Update) => *update,
        (Some((_, delete)), Kind::Delete) => *delete,
        (None, _) => Ruling::Deny,
    }
}

/// The longest text that the gate reads.
pub const STATEMENT_BYTES_MAX: usize = 4096;
/// How long a held statement waits.
pub const WAIT_MS: u64 = 60_000;
/// The column that a mask covers.
pub const LABEL: &str = "public.customers.email";

pub struct Lab {
    pub core: Core,
    consumer: Consumer,
    /// Of a simulated server.
    pub catalog: Arc<Catalog>,
    /// By whether it masks, and by number.
    compiled: [[Arc<Compiled>; RULES.len()]; 2],
    _folder: tempfile::TempDir,
}

fn rule(name: &str, effect: Effect, verb: Option<&str>) -> Rule {
    let statement = match verb {
        Some(verb) => RuleStatement {
            verbs: vec![verb.to_owned()],
            ..RuleStatement::default()
        },
        None => RuleStatement {
            class: Some(ClassSet::of(&Class::ALL)),
            ..RuleStatement::default()
        },
    };
    Rule {
        name: name.to_owned(),
        who: RuleWho::default(),
        target: RuleTarget::default(),
        statement,
        when: None,
        time: None,
        effect,
        message: None,
        reviewers: (effect == Effect::Hold).then(|| Reviewers {
            groups: vec!["dba".to_owned()],
            principals: Vec::new(),
            quorum: 1,
        }),
        wait_ms: WAIT_MS,
        data_open: effect == Effect::Hold,
        on_hold: headgate_plane::OnHold::Wait,
    }
}

fn snapshot(rules: usize, masked: bool) -> Arc<Compiled> {
    let mut all = vec![rule("everything", Effect::Allow, None)];
    for (verb, kind) in [("update", Kind::Update), ("delete", Kind::Delete)] {
        match ruling(rules, kind) {
            Ruling::Allow => {}
            Ruling::Hold => all.push(rule("it is held", Effect::Hold, Some(verb))),
            Ruling::Deny => all.push(rule("it is denied", Effect::Deny, Some(verb))),
        }
    }
    let mask = MaskRule {
        name: "contact data".to_owned(),
        who: RuleWho::default(),
        target: RuleTarget::default(),
        columns: vec![LABEL.to_owned()],
        detect: Vec::new(),
        method: MaskMethod::Redact,
        unless: None,
    };
    let masks = if masked { vec![mask] } else { Vec::new() };
    let epoch = Epoch(1 + rules as u64);
    let (compiled, problems) = Core::compile(Arc::new(Snapshot {
        epoch,
        rules: all,
        masks,
    }));
    assert!(problems.is_empty(), "model: its own rules compile: {problems:?}");
    compiled
}

impl Lab {
    /// With a gate that allows everything, whatever the set's number: an oracle that finds nothing here is none.
    pub fn danger_allow_all() -> Lab {
        let mut lab = Lab::new();
        lab.compiled = [false, true].map(|masked| std::array::from_fn(|_| snapshot(2, masked)));
        lab
    }

    pub fn new() -> Lab {
        let folder = tempfile::tempdir().expect("model: a folder");
        let path = folder.path().join("spool-0");
        let spool = Producer::open_or_create(&path, 4 << 20).expect("model: a spool");
        let consumer = Consumer::open(&path).expect("model: its other end");
        let listeners = vec![ListenerSettings {
            protocol: headgate_plane::Protocol::Postgres,
            danger_allow_cleartext: true,
            ..ListenerSettings::default()
        }];
        let clock = Clock {
            now_us: 1,
            anchor_unix_us: 1_700_000_000_000_000,
        };
        let core = Core::new(
            Settings {
                statement_bytes_max: STATEMENT_BYTES_MAX,
                ..Settings::default()
            },
            listeners,
            spool,
            clock,
            Arc::new(|_| Err("no TLS here".to_owned())),
            [7; 32],
        );
        let compiled = [false, true].map(|masked| [0, 1, 2].map(|rules| snapshot(rules, masked)));
        Lab {
            core,
            consumer,
            catalog: Arc::new(catalog()),
            compiled,
            _folder: folder,
        }
    }

    pub fn set_rules(&mut self, rules: usize, masked: bool) {
        self.core.policy = self.compiled[usize::from(masked)][rules].clone();
        self.core.catalogs_follow_rules();
    }

    /// Nothing of the case before is left: neither its records nor its wishes, nor what it had learned of the target.
    pub fn clean(&mut self) {
        self.core.effects.clear();
        self.core.catalogs.clear();
        self.recorded(&mut Vec::new());
    }

    /// What was recorded since the last call.
    pub fn recorded(&mut self, events: &mut Vec<Event>) {
        self.core.spool.publish();
        if !self.consumer.has_more() {
            return;
        }
        let take = |_, kind, bytes: &[u8]| {
            if kind == Record::Event {
                events.push(headgate_recording::decode(bytes).expect("model: an event can be read"));
            }
        };
        let mut take = take;
        while self
            .consumer
            .drain(1 << 20, &mut take)
            .expect("model: the spool can be read")
            > 0
        {}
        let position = self.consumer.read_position();
        self.consumer.set_durable(position);
        self.consumer.release(position);
    }
}

impl Default for Lab {
    fn default() -> Self {
        Lab::new()
    }
}

pub fn who() -> Who {
    Who {
        principal: "alice".to_owned(),
        groups: vec!["staff".to_owned()],
        issuer: "local".to_owned(),
        ..Who::default()
    }
}

pub fn target(address: String) -> TargetSpec {
    TargetSpec {
        name: "shop".to_owned(),
        protocol: headgate_plane::Protocol::Postgres,
        environment: "test".to_owned(),
        address,
        database: "postgres".to_owned(),
        user: "postgres".to_owned(),
        tls: TargetTls::DangerOff,
        ca: None,
        auth: TargetAuth::Scram,
        labels: Vec::new(),
    }
}

/// The answer of a simulated database to the gate's question for the catalog, as fields of rows.
pub fn catalog_rows() -> Vec<[Option<String>; 6]> {
    let text = |s: &str| Some(s.to_owned());
    let mut rows = vec![
        [text("s"), text("1"), text("pg_catalog"), None, None, None],
        [text("s"), text("2"), text("public"), None, None, None],
        [text("n"), text("11"), text("pg_catalog"), text("u"), None, None],
        [text("n"), text("2200"), text("public"), text("u"), None, None],
    ];
    type Column = (&'static str, u32);
    let tables: [(u32, &str, &[Column]); 5] = [
        (
            crate::server::CUSTOMERS,
            "customers",
            &[("id", 23), ("email", 25)],
        ),
        (16_390, "log", &[("n", 23)]),
        (16_391, "late", &[("n", 23)]),
        (16_392, "t", &[("i", 23)]),
        (16_393, "settings", &[("name", 25), ("setting", 25)]),
    ];
    for (oid, name, columns) in tables {
        let oid = Some(oid.to_string());
        rows.push([
            text("r"),
            oid.clone(),
            text("public"),
            text(name),
            text("r"),
            None,
        ]);
        for (at, (column, kind)) in columns.iter().enumerate() {
            rows.push([
                text("a"),
                oid.clone(),
                Some((at + 1).to_string()),
                text(column),
                Some(kind.to_string()),
                text(""),
            ]);
        }
    }
    rows.push([
        text("l"),
        Some(crate::server::CUSTOMERS.to_string()),
        text("2"),
        text(LABEL),
        None,
        None,
    ]);
    for kind in [18, 19, 25, 1042, 1043] {
        rows.push([text("t"), Some(kind.to_string()), None, None, None, None]);
    }
    rows.push([text("z"), text("headgate-mask-1"), None, None, None, None]);
    rows
}

/// The same as a catalog that is there.
pub fn catalog() -> Catalog {
    let mut builder = headgate_mask::CatalogBuilder::new(&[LABEL]);
    for row in catalog_rows() {
        let fields: Vec<Option<&[u8]>> = row.iter().map(|f| f.as_deref().map(str::as_bytes)).collect();
        builder.row(&fields).expect("model: its own catalog can be read");
    }
    builder.finish()
}
