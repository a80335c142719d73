//! Questions, as JSON for people: bytes as text where they are text, and as base64 where they are not.

use crate::caller::{Caller, Role};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use headgate_plane::{Parameter, Who};
use headgate_questions::{Desk, Record, may_review};
use serde_json::{Value, json};

/// The whole question. What is shown is what the digest covers, uncut.
pub fn question(desk: &Desk, record: &Record, caller: &Caller) -> Value {
    let q = &record.question;
    let mut value = json!({
        "number": record.number.to_string(),
        "state": record.state.name(),
        "address": desk.address(record.number),
        "session": q.key.session.to_string(),
        "statement_number": q.key.statement,
        "who": who(&q.who),
        "target": q.target,
        "environment": q.environment,
        "role": q.role,
        "rule": q.rule,
        "epoch": q.epoch.0,
        "statement": text(&q.statement),
        "parameters": q.parameters.iter().map(parameter).collect::<Vec<_>>(),
        "open_data": q.open_data,
        "reviewers": { "principals": q.reviewers.principals, "groups": q.reviewers.groups, "quorum": q.reviewers.quorum.max(1) },
        "approvals": record.approvals,
        "asked_unix_ms": q.asked_unix_ms,
        "deadline_unix_ms": q.deadline_unix_ms,
        "changed_unix_ms": record.changed_unix_ms,
        "digest": format!("{:?}", q.digest),
        "you_may_answer": may_review(q, &caller.reviewer()).is_ok(),
    });
    let optional = [
        ("denied_by", record.denied_by.clone()),
        ("reason", record.reason.clone()),
        ("revoked_by", record.revoked_by.clone()),
        ("withdrawn", record.withdrawn.map(|w| format!("{w:?}"))),
        ("statement_base64", std::str::from_utf8(&q.statement).is_err().then(|| STANDARD.encode(&q.statement))),
    ];
    if let Some(object) = value.as_object_mut() {
        object.extend(optional.into_iter().filter_map(|(key, v)| Some((key.to_owned(), Value::String(v?)))));
    }
    value
}

pub fn who(who: &Who) -> Value {
    json!({
        "principal": who.principal, "actor": who.actor(), "chain": who.chain, "groups": who.groups, "issuer": who.issuer,
        "address": who.address, "application": who.application,
    })
}

fn parameter(p: &Parameter) -> Value {
    match &p.value {
        None => json!({ "type_oid": p.type_oid, "format": p.format, "null": true }),
        Some(bytes) => match std::str::from_utf8(bytes) {
            // A binary value that happens to be UTF-8 would read as something that it is not.
            Ok(text) if p.format == 0 => json!({ "type_oid": p.type_oid, "format": p.format, "text": text }),
            _ => json!({ "type_oid": p.type_oid, "format": p.format, "base64": STANDARD.encode(bytes) }),
        },
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Who may see a question: who asked it, who may answer it, and who may read everything.
pub fn may_see(record: &Record, caller: &Caller) -> bool {
    if caller.role >= Role::Auditor || caller.operator {
        return true;
    }
    if caller.role == Role::Anonymous || caller.who.principal.is_empty() {
        return false;
    }
    let asker = &record.question.who;
    let same = asker.principal == caller.who.principal && asker.issuer == caller.who.issuer;
    same || may_review(&record.question, &caller.reviewer()).is_ok()
}
