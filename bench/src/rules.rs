//! Rules of every kind, as many as wanted, of which one allows what the benches ask.

use headgate_plane::Class;
use headgate_plane::{
    ClassSet, Effect, Epoch, Reviewers, Rule, RuleStatement, RuleTarget, RuleWho, Snapshot, TargetAuth,
    TargetSpec, TargetTls,
};

pub const ALLOWS: &str = "analysts read";

fn rule(name: String, effect: Effect) -> Rule {
    Rule {
        name,
        who: RuleWho::default(),
        target: RuleTarget::default(),
        statement: RuleStatement::default(),
        when: None,
        time: None,
        effect,
        message: None,
        reviewers: (effect == Effect::Hold).then(|| Reviewers {
            groups: vec!["dba".to_owned()],
            quorum: 1,
            ..Reviewers::default()
        }),
        wait_ms: 900_000,
        data_open: false,
        on_hold: headgate_plane::OnHold::Wait,
    }
}

/// `count` rules. All but the first are met by every caller, and none of them matches a point read.
pub fn snapshot(count: usize) -> Snapshot {
    let mut rules = Vec::new();
    let mut allow = rule(ALLOWS.to_owned(), Effect::Allow);
    allow.who.groups = vec!["analysts".to_owned()];
    allow.statement.class = Some(ClassSet::of(&[Class::Read]));
    allow.statement.sql_mut().relations = vec!["public.*".to_owned()];
    rules.push(allow);
    for n in 1..count {
        let mut one = rule(
            format!("rule {n}"),
            if n % 5 == 0 { Effect::Hold } else { Effect::Deny },
        );
        one.target.environments = vec!["production".to_owned()];
        match n % 4 {
            0 => one.statement.verbs = vec!["delete".to_owned(), "update".to_owned()],
            1 => {
                one.statement.sql_mut().relations = vec![format!("public.vault_{n}"), format!("hr.vault_{n}")]
            }
            2 => one.statement.sql_mut().functions = vec!["pg_read_file".to_owned(), format!("tools.fn_{n}")],
            _ => one.statement.class = Some(ClassSet::of(&[Class::Ddl, Class::Grant])),
        }
        rules.push(one);
    }
    Snapshot {
        epoch: Epoch(1),
        rules,
        masks: Vec::new(),
    }
}

pub fn target() -> TargetSpec {
    TargetSpec {
        name: "bench".to_owned(),
        protocol: headgate_plane::Protocol::Postgres,
        environment: "production".to_owned(),
        address: "127.0.0.1:5433".to_owned(),
        database: "bench".to_owned(),
        user: "bench".to_owned(),
        tls: TargetTls::DangerOff,
        ca: None,
        auth: TargetAuth::default(),
        labels: Vec::new(),
    }
}
