//! Questions, as JSON for people: bytes as text where they are text or a value that can be read, and as base64 where not.

use crate::caller::{Caller, Role};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use headgate_plane::{Parameter, ParameterKind, StandsFor, Who};
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
        "stands_for": q.stands_for.iter().map(stands_for).collect::<Vec<_>>(),
        "parameters": q.parameters.iter().map(parameter).collect::<Vec<_>>(),
        "open_data": q.open_data,
        "settings": q.settings.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect::<Vec<_>>(),
        "on_hold": q.on_hold.name(),
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
        (
            "statement_base64",
            std::str::from_utf8(&q.statement)
                .is_err()
                .then(|| STANDARD.encode(&q.statement)),
        ),
    ];
    if let Some(object) = value.as_object_mut() {
        if let Some(claim) = &record.claim {
            object.insert(
                "claim".to_owned(),
                json!({
                    "session": claim.key.session.to_string(),
                    "statement_number": claim.key.statement,
                    "at_unix_ms": claim.at_unix_ms,
                    "in_doubt": claim.in_doubt,
                }),
            );
        }
        object.extend(
            optional
                .into_iter()
                .filter_map(|(key, v)| Some((key.to_owned(), Value::String(v?)))),
        );
    }
    value
}

pub fn who(who: &Who) -> Value {
    json!({
        "principal": who.principal, "actor": who.actor(), "chain": who.chain, "groups": who.groups, "issuer": who.issuer,
        "address": who.address, "application": who.application,
    })
}

/// What the statement runs without saying it.
fn stands_for(inner: &StandsFor) -> Value {
    let mut value = json!({
        "text": text(&inner.text),
        "parameters": inner.parameters.iter().map(parameter).collect::<Vec<_>>(),
    });
    if std::str::from_utf8(&inner.text).is_err() {
        value["text_base64"] = STANDARD.encode(&inner.text).into();
    }
    value
}

/// `text` is the value as the target writes it. A binary value of a type that is not known could read as something that it
/// is not: it stays bytes.
fn parameter(p: &Parameter) -> Value {
    let mut value = match p.kind {
        ParameterKind::Postgres { type_oid, format } => {
            json!({ "protocol": "postgres", "type_oid": type_oid, "format": format })
        }
    };
    match &p.value {
        None => value["null"] = true.into(),
        Some(bytes) => match headgate_audit::parameter_text(p.kind, bytes) {
            Some(text) => value["text"] = text.into(),
            None => value["base64"] = STANDARD.encode(bytes).into(),
        },
    }
    value
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

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(type_oid: u32, format: u16, value: Option<&[u8]>) -> Value {
        parameter(&Parameter {
            kind: ParameterKind::Postgres { type_oid, format },
            value: value.map(<[u8]>::to_vec),
        })
    }

    #[test]
    fn a_binary_value_is_shown_as_the_target_writes_it() {
        // P4: psycopg's `where id = 12`.
        assert_eq!(
            shown(21, 1, Some(&[0, 12])),
            json!({ "protocol": "postgres", "type_oid": 21, "format": 1, "text": "12" })
        );
        assert_eq!(shown(25, 0, Some(b"x"))["text"], "x");
        assert_eq!(shown(25, 0, None)["null"], true);
        // A type that is not known, though its bytes are text.
        assert_eq!(shown(0, 1, Some(b"12"))["base64"], "MTI=");
        assert_eq!(shown(23, 1, Some(&[0, 12]))["base64"], "AAw=");
        assert_eq!(shown(25, 0, Some(&[0xff]))["base64"], "/w==");
    }

    #[test]
    fn what_a_statement_stands_for_is_shown_with_its_values() {
        let parameters = vec![Parameter {
            kind: ParameterKind::Postgres {
                type_oid: 23,
                format: 1,
            },
            value: Some(vec![0, 0, 3, 232]),
        }];
        let value = stands_for(&StandsFor {
            text: b"delete from orders where id < $1".to_vec(),
            parameters,
        });
        assert_eq!(
            (&value["text"], &value["parameters"][0]["text"]),
            (&"delete from orders where id < $1".into(), &"1000".into())
        );
        assert_eq!(
            stands_for(&StandsFor {
                text: vec![0xff],
                parameters: vec![]
            })["text_base64"],
            "/w=="
        );
    }
}
