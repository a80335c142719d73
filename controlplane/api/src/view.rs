//! Questions, as JSON for people: bytes as text where they are text or a value that can be read, and as base64 where not.

use crate::caller::{Caller, Role};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use headgate_audit::ParameterKindRow;
use headgate_plane::{Parameter, StandsFor, Who};
use headgate_questions::{Approval, Desk, Record, State, may_review};
use serde::Serialize;
use utoipa::ToSchema;

/// Who is calling, as a session or a statement carries it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Identity {
    /// Who is answerable.
    pub principal: String,
    pub groups: Vec<String>,
    /// Who acts for the principal, outermost first.
    pub chain: Vec<String>,
    pub issuer: String,
    pub address: String,
    pub application: String,
}

/// The same, with the outermost actor named.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct IdentityView {
    /// The principal itself where nobody acts for it.
    pub actor: String,
    #[serde(flatten)]
    pub identity: Identity,
}

/// A question in full. What is shown is what the digest covers, uncut.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct QuestionView {
    /// `HG-17`.
    pub number: String,
    pub state: State,
    /// The page that shows it.
    pub address: String,
    pub session: String,
    pub statement_number: u32,
    pub who: IdentityView,
    pub target: String,
    pub environment: String,
    /// Role that the target sees.
    pub role: String,
    pub rule: String,
    pub epoch: u64,
    pub statement: String,
    /// What the statement runs without saying it.
    pub stands_for: Vec<StandsForView>,
    pub parameters: Vec<ParameterValue>,
    /// Data follows that is not shown.
    pub open_data: bool,
    /// What the session has set that the statement is read by.
    pub settings: Vec<SettingView>,
    /// What the client does meanwhile: `wait` or `refuse`.
    pub on_hold: String,
    pub reviewers: ReviewersView,
    pub approvals: Vec<Approval>,
    pub asked_unix_ms: u64,
    pub deadline_unix_ms: u64,
    pub changed_unix_ms: u64,
    /// SHA-256 of all that an approval binds, in hex.
    pub digest: String,
    pub you_may_answer: bool,
    /// Who spends the approval, where the statement was refused and sent again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claim: Option<ClaimView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub denied_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoked_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub withdrawn: Option<String>,
    /// Where the statement is no UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statement_base64: Option<String>,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SettingView {
    pub name: String,
    pub value: String,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ClaimView {
    pub session: String,
    pub statement_number: u32,
    pub at_unix_ms: u64,
    /// Whether it is not known if it was spent.
    pub in_doubt: bool,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ReviewersView {
    pub principals: Vec<String>,
    pub groups: Vec<String>,
    /// So many must say yes.
    pub quorum: u32,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct StandsForView {
    pub text: String,
    pub parameters: Vec<ParameterValue>,
    /// Where the text is no UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text_base64: Option<String>,
}

/// A value given beside the text: one of `null`, `text`, `base64`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ParameterValue {
    #[serde(flatten)]
    pub kind: ParameterKindRow,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub null: Option<bool>,
    /// The value as the target writes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
}

pub fn question(desk: &Desk, record: &Record, caller: &Caller) -> QuestionView {
    let q = &record.question;
    QuestionView {
        number: record.number.to_string(),
        state: record.state,
        address: desk.address(record.number),
        session: q.key.session.to_string(),
        statement_number: q.key.statement,
        who: who(&q.who),
        target: q.target.clone(),
        environment: q.environment.clone(),
        role: q.role.clone(),
        rule: q.rule.clone(),
        epoch: q.epoch.0,
        statement: text(&q.statement),
        stands_for: q.stands_for.iter().map(stands_for).collect(),
        parameters: q.parameters.iter().map(parameter).collect(),
        open_data: q.open_data,
        settings: q
            .settings
            .iter()
            .map(|(name, value)| SettingView {
                name: name.clone(),
                value: value.clone(),
            })
            .collect(),
        on_hold: q.on_hold.name().to_owned(),
        reviewers: ReviewersView {
            principals: q.reviewers.principals.clone(),
            groups: q.reviewers.groups.clone(),
            quorum: q.reviewers.quorum.max(1),
        },
        approvals: record.approvals.clone(),
        asked_unix_ms: q.asked_unix_ms,
        deadline_unix_ms: q.deadline_unix_ms,
        changed_unix_ms: record.changed_unix_ms,
        digest: format!("{:?}", q.digest),
        you_may_answer: may_review(q, &caller.reviewer()).is_ok(),
        claim: record.claim.as_ref().map(|claim| ClaimView {
            session: claim.key.session.to_string(),
            statement_number: claim.key.statement,
            at_unix_ms: claim.at_unix_ms,
            in_doubt: claim.in_doubt,
        }),
        denied_by: record.denied_by.clone(),
        reason: record.reason.clone(),
        revoked_by: record.revoked_by.clone(),
        withdrawn: record.withdrawn.map(|w| format!("{w:?}")),
        statement_base64: base64_of(&q.statement),
    }
}

pub fn who(who: &Who) -> IdentityView {
    IdentityView {
        actor: who.actor().to_owned(),
        identity: Identity {
            principal: who.principal.clone(),
            groups: who.groups.clone(),
            chain: who.chain.clone(),
            issuer: who.issuer.clone(),
            address: who.address.clone(),
            application: who.application.clone(),
        },
    }
}

/// What the statement runs without saying it.
fn stands_for(inner: &StandsFor) -> StandsForView {
    StandsForView {
        text: text(&inner.text),
        parameters: inner.parameters.iter().map(parameter).collect(),
        text_base64: base64_of(&inner.text),
    }
}

/// `text` is the value as the target writes it. A binary value of a type that is not known could read as something that it
/// is not: it stays bytes.
fn parameter(p: &Parameter) -> ParameterValue {
    let mut value = ParameterValue {
        kind: p.kind.into(),
        null: None,
        text: None,
        base64: None,
    };
    match &p.value {
        None => value.null = Some(true),
        Some(bytes) => match headgate_audit::parameter_text(p.kind, bytes) {
            Some(text) => value.text = Some(text),
            None => value.base64 = Some(STANDARD.encode(bytes)),
        },
    }
    value
}

/// Of bytes that are no text.
fn base64_of(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes)
        .is_err()
        .then(|| STANDARD.encode(bytes))
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
    use headgate_plane::ParameterKind;
    use serde_json::{Value, json};

    fn shown(type_oid: u32, format: u16, value: Option<&[u8]>) -> Value {
        let shown = parameter(&Parameter {
            kind: ParameterKind::Postgres { type_oid, format },
            value: value.map(<[u8]>::to_vec),
        });
        serde_json::to_value(shown).unwrap()
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
        let value = json!(stands_for(&StandsFor {
            text: b"delete from orders where id < $1".to_vec(),
            parameters,
        }));
        assert_eq!(
            (&value["text"], &value["parameters"][0]["text"]),
            (&"delete from orders where id < $1".into(), &"1000".into())
        );
        assert_eq!(
            json!(stands_for(&StandsFor {
                text: vec![0xff],
                parameters: vec![]
            }))["text_base64"],
            "/w=="
        );
    }
}
