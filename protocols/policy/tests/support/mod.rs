//! Hand-made facts, callers and rules for the tests of the policy.
#![allow(dead_code)]

use headgate_plane::{
    Class, ClassSet, Effect, Epoch, Reviewers, Rule, RuleStatement, RuleTarget, RuleWho, Snapshot,
    TargetAuth, TargetSpec, TargetTls, Who,
};
use headgate_policy::family::sql::Message;
use headgate_policy::{Asked, Compiled, Problem, Verdict};
use headgate_sql::settings::BEGAN;
use headgate_sql::{Facts, Function, Relation, Scope, SettingChange, SettingValue, Statement, Unreadable};
use std::sync::Arc;

/// Saturday 2026-11-21 07:00:00 UTC.
pub const SATURDAY_SEVEN: u64 = 1_795_244_400_000;

pub fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|s| (*s).to_owned()).collect()
}

pub fn rule(name: &str, effect: Effect) -> Rule {
    Rule {
        name: name.to_owned(),
        who: RuleWho::default(),
        target: RuleTarget::default(),
        statement: RuleStatement::default(),
        when: None,
        time: None,
        effect,
        message: None,
        reviewers: (effect == Effect::Hold).then(|| Reviewers {
            groups: strings(&["dba"]),
            quorum: 1,
            ..Reviewers::default()
        }),
        wait_ms: 900_000,
        data_open: false,
        on_hold: headgate_plane::OnHold::Wait,
    }
}

pub fn allow(classes: &[Class]) -> Rule {
    let mut rule = rule("allow", Effect::Allow);
    rule.statement.class = Some(ClassSet::of(classes));
    rule
}

pub fn with(mut rule: Rule, change: impl FnOnce(&mut Rule)) -> Rule {
    change(&mut rule);
    rule
}

pub fn snapshot(rules: Vec<Rule>) -> Snapshot {
    Snapshot {
        epoch: Epoch(1),
        rules,
        masks: Vec::new(),
    }
}

pub fn compile(rules: Vec<Rule>) -> Compiled {
    try_compile(rules).expect("valid rules")
}

pub fn try_compile(rules: Vec<Rule>) -> Result<Compiled, Vec<Problem>> {
    Compiled::new(Arc::new(snapshot(rules)))
}

pub fn alice() -> Who {
    Who {
        principal: "alice".into(),
        groups: strings(&["staff"]),
        chain: Vec::new(),
        issuer: "local".into(),
        address: "10.1.2.3".into(),
        application: "psql".into(),
    }
}

pub fn orders() -> TargetSpec {
    TargetSpec {
        name: "orders".into(),
        protocol: headgate_plane::Protocol::Postgres,
        environment: "production".into(),
        address: "db:5432".into(),
        database: "orders".into(),
        user: "app".into(),
        tls: TargetTls::VerifyFull,
        ca: None,
        auth: TargetAuth::Scram,
        labels: vec![("team".into(), "shop".into())],
    }
}

pub fn statement(classes: &[Class], verbs: &[&str]) -> Statement {
    Statement {
        class: ClassSet::of(classes),
        verbs: strings(verbs),
        has_where: true,
        ..Statement::default()
    }
}

pub fn reads(mut statement: Statement, names: &[&str]) -> Statement {
    statement
        .relations
        .extend(names.iter().map(|name| relation(name, true, false)));
    statement
}

pub fn writes(mut statement: Statement, names: &[&str]) -> Statement {
    statement
        .relations
        .extend(names.iter().map(|name| relation(name, false, true)));
    statement
}

pub fn calls(mut statement: Statement, names: &[&str]) -> Statement {
    statement
        .functions
        .extend(names.iter().map(|name| match name.split_once('.') {
            Some((schema, name)) => Function {
                schema: Some(schema.into()),
                name: name.into(),
            },
            None => Function {
                schema: Some("pg_catalog".into()),
                name: (*name).into(),
            },
        }));
    statement
}

fn relation(name: &str, read: bool, written: bool) -> Relation {
    match name.split_once('.') {
        Some((schema, name)) => Relation {
            schema: Some(schema.into()),
            name: name.into(),
            read,
            written,
        },
        None => Relation {
            schema: None,
            name: name.into(),
            read,
            written,
        },
    }
}

pub fn select(relations: &[&str]) -> Statement {
    reads(statement(&[Class::Read], &["select"]), relations)
}

pub fn delete(relation: &str, has_where: bool) -> Statement {
    Statement {
        has_where,
        ..writes(statement(&[Class::Write], &["delete"]), &[relation])
    }
}

pub fn begin() -> Statement {
    statement(&[Class::Transaction], &["begin"])
}

pub fn create_table() -> Statement {
    writes(statement(&[Class::Ddl], &["create table"]), &["public.new"])
}

pub fn facts(statements: Vec<Statement>) -> Facts {
    Facts { statements }
}

/// Judges as alice on orders, Saturday at seven.
pub fn judge(compiled: &Compiled, statements: Vec<Statement>) -> Verdict {
    judge_as(compiled, &alice(), Ok(&facts(statements)))
}

pub fn judge_as(compiled: &Compiled, who: &Who, facts: Result<&Facts, &Unreadable>) -> Verdict {
    judge_at(compiled, who, facts, b"text", SATURDAY_SEVEN)
}

pub fn judge_at(
    compiled: &Compiled,
    who: &Who,
    facts: Result<&Facts, &Unreadable>,
    text: &[u8],
    now_unix_ms: u64,
) -> Verdict {
    let target = orders();
    let what = Message {
        facts,
        resolved: &[],
        session: &BEGAN,
    };
    let asked = Asked {
        what: &what,
        text,
        parameters: None,
        who,
        target: &target,
        now_unix_ms,
    };
    compiled.judge(&compiled.context(who, &target), &asked)
}

pub fn effect(rules: Vec<Rule>, statements: Vec<Statement>) -> Effect {
    judge(&compile(rules), statements).effect
}

/// SET name = value.
pub fn sets(name: &str, value: &str) -> Statement {
    let value = SettingValue::Text(value.into());
    let change = SettingChange {
        name: name.into(),
        value,
        scope: Scope::Session,
        certain: true,
    };
    Statement {
        settings: vec![change],
        ..statement(&[Class::Session], &["set"])
    }
}

/// SET search_path = …
pub fn sets_path(schemas: &[&str]) -> Statement {
    let mut statement = sets("search_path", "");
    statement.settings[0].value = SettingValue::Schemas(strings(schemas));
    statement
}
