//! What the API really answers, held against its own document, over real sockets. Every component is closed for this test: a
//! field that the document does not name fails it, as does one that is missing.

mod support;

use boon::{Compiler, Schemas};
use headgate_api::routes::{ROUTES, Route};
use headgate_api::schema::Gives;
use headgate_audit::{ReplayEvent, SessionSummary, StatementRow};
use headgate_plane::ToControl;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use support::{Appliance, question, session_id};

const AT: &str = "http://gate/api/openapi.json";

/// The names of components that stand in an `allOf`: other fields come beside theirs.
fn parts<'a>(value: &'a Value, out: &mut BTreeSet<&'a str>) {
    match value {
        Value::Object(fields) => {
            for part in fields
                .get("allOf")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
            {
                out.extend(
                    part["$ref"]
                        .as_str()
                        .and_then(|r| r.strip_prefix("#/components/schemas/")),
                );
            }
            fields.values().for_each(|v| parts(v, out));
        }
        Value::Array(items) => items.iter().for_each(|v| parts(v, out)),
        _ => {}
    }
}

/// The document with every component closed that stands for itself.
fn closed(mut document: Value) -> Value {
    let open: BTreeSet<String> = {
        let mut open = BTreeSet::new();
        parts(&document, &mut open);
        open.into_iter().map(str::to_owned).collect()
    };
    let components = document["components"]["schemas"]
        .as_object_mut()
        .expect("components");
    for (name, schema) in components {
        let holds_fields = schema.get("properties").is_some() || schema.get("allOf").is_some();
        if holds_fields && !open.contains(name) {
            schema["unevaluatedProperties"] = false.into();
        }
    }
    document
}

struct Checked {
    document: Value,
    /// What was held against the document, and whether it had anything in it.
    seen: BTreeMap<String, usize>,
}

impl Checked {
    fn validate(&self, pointer: &str, value: &Value, what: &str) {
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        compiler
            .add_resource(AT, self.document.clone())
            .expect("a document");
        let schema = compiler.compile(&format!("{AT}#{pointer}"), &mut schemas);
        let schema = schema.unwrap_or_else(|e| panic!("{what}: {e:#}"));
        if let Err(why) = schemas.validate(value, schema) {
            panic!("{what}: {why:#}\n{value:#}");
        }
    }

    fn component(&self, name: &str, value: &Value) {
        self.validate(&format!("/components/schemas/{name}"), value, name);
    }

    fn answer(&mut self, route: &Route, status: u16, value: &Value) {
        let name = format!("{} {}", route.method, route.path);
        let path = route
            .path
            .replace('/', "~1")
            .replace('{', "%7B")
            .replace('}', "%7D");
        let pointer = format!(
            "/paths/{path}/{}/responses/{status}/content/application~1json/schema",
            route.method.to_lowercase()
        );
        self.validate(&pointer, value, &format!("{name}, {status}"));
        *self.seen.entry(name).or_default() += 1;
    }
}

fn row(method: &str, path: &str) -> &'static Route {
    let found = ROUTES.iter().find(|r| r.method == method && r.path == path);
    found.unwrap_or_else(|| panic!("no route {method} {path}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_api_answers_is_what_its_document_says() {
    let gate = Appliance::start().await;
    let (status, document) = gate.admin("GET", "/api/openapi.json", None).await;
    assert_eq!(status, 200);
    let mut checked = Checked {
        document: closed(document),
        seen: BTreeMap::new(),
    };

    // Something of everything: a secret, a session, a question, a revoked token, a change that was refused.
    let mut plane = gate.data_plane(1).await;
    let put = json!({ "value": "s3cret" });
    let (status, answer) = gate.admin("PUT", "/api/v1/secrets/orders", Some(put)).await;
    assert_eq!(status, 200);
    checked.answer(row("PUT", "/api/v1/secrets/{name}"), status, &answer);
    let user = gate.mint("alice", &["agents"], &["agent-1"]).await;
    plane
        .say(&ToControl::SessionOpened {
            session: session_id(1),
            who: question(session_id(1), 1, "").who,
            target: "orders".into(),
            credential_id: "tok_1".into(),
            started_unix_ms: 1,
        })
        .await;
    let mut asked = question(session_id(1), 1, "DROP TABLE t");
    let parameter = |type_oid, format, value: Option<&[u8]>| headgate_plane::Parameter {
        kind: headgate_plane::ParameterKind::Postgres { type_oid, format },
        value: value.map(<[u8]>::to_vec),
    };
    asked.parameters = vec![
        parameter(23, 1, Some(&[0, 0, 0, 1])),
        parameter(0, 1, Some(&[255])),
        parameter(25, 0, None),
    ];
    asked.stands_for = vec![headgate_plane::StandsFor {
        text: vec![255],
        parameters: asked.parameters.clone(),
    }];
    asked.digest = asked.digest_now();
    plane.say(&ToControl::Ask(Box::new(asked))).await;
    plane.hear_news().await;

    let call = async |checked: &mut Checked, method: &str, pattern: &str, path: &str, body: Option<Value>| {
        let (status, answer) = gate.admin(method, path, body).await;
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        checked.answer(row(method, pattern), status, &answer);
        answer
    };
    for path in [
        "/api/v1/login",
        "/api/v1/whoami",
        "/api/v1/questions",
        "/api/v1/sessions",
        "/api/v1/changes",
        "/api/v1/rules",
        "/api/v1/targets",
        "/api/v1/tokens",
        "/api/v1/secrets",
    ] {
        let answer = call(&mut checked, "GET", path, path, None).await;
        let lists = answer
            .as_object()
            .into_iter()
            .flatten()
            .filter_map(|(name, v)| Some((name, v.as_array()?)));
        for (name, list) in lists.filter(|(name, _)| *name != "issuers") {
            assert!(
                !list.is_empty(),
                "{path}: `{name}` has something to hold against the document"
            );
        }
    }
    let number = call(
        &mut checked,
        "GET",
        "/api/v1/questions",
        "/api/v1/questions",
        None,
    )
    .await["questions"][0]["number"]
        .as_str()
        .expect("a number")
        .to_owned();
    let of = |rest: &str| format!("/api/v1/questions/{number}{rest}");
    call(&mut checked, "GET", "/api/v1/questions/{number}", &of(""), None).await;
    let answer = json!({ "approve": true });
    call(
        &mut checked,
        "POST",
        "/api/v1/questions/{number}/answer",
        &of("/answer"),
        Some(answer),
    )
    .await;
    call(
        &mut checked,
        "POST",
        "/api/v1/questions/{number}/revoke",
        &of("/revoke"),
        None,
    )
    .await;
    let one = format!("/api/v1/sessions/{}", session_id(1));
    let (_, sessions) = gate.admin("GET", "/api/v1/sessions", None).await;
    let id = sessions["sessions"][0]["session"]
        .as_str()
        .unwrap_or(&one)
        .to_owned();
    call(
        &mut checked,
        "GET",
        "/api/v1/sessions/{id}",
        &format!("/api/v1/sessions/{id}"),
        None,
    )
    .await;
    call(
        &mut checked,
        "POST",
        "/api/v1/rules/reload",
        "/api/v1/rules/reload",
        Some(json!({})),
    )
    .await;
    let explain = json!({ "statement": "DROP TABLE t", "principal": "alice", "groups": ["agents"], "target": "orders" });
    call(
        &mut checked,
        "POST",
        "/api/v1/rules/explain",
        "/api/v1/rules/explain",
        Some(explain),
    )
    .await;
    let mint = json!({ "principal": "nightly", "ttl_seconds": 60 });
    let made = call(
        &mut checked,
        "POST",
        "/api/v1/tokens",
        "/api/v1/tokens",
        Some(mint),
    )
    .await;
    let (parent, id) = (
        made["token"].as_str().expect("a token"),
        made["info"]["id"].as_str().expect("an id"),
    );
    let child = json!({ "act_as": "agent-2", "ttl_seconds": 30 });
    let (status, answer) = gate
        .api(Some(parent), "POST", "/api/v1/tokens/child", Some(child))
        .await;
    checked.answer(row("POST", "/api/v1/tokens/child"), status, &answer);
    call(
        &mut checked,
        "DELETE",
        "/api/v1/tokens/{id}",
        &format!("/api/v1/tokens/{id}"),
        None,
    )
    .await;
    call(
        &mut checked,
        "POST",
        "/api/v1/revocations",
        "/api/v1/revocations",
        Some(json!({ "principal": "mallory" })),
    )
    .await;
    let list = call(
        &mut checked,
        "GET",
        "/api/v1/revocations",
        "/api/v1/revocations",
        None,
    )
    .await;
    assert!(
        list["revocations"].as_array().is_some_and(|l| l.len() == 2),
        "{list}"
    );
    let (status, _) = gate.admin("DELETE", "/api/v1/secrets/orders", None).await;
    assert_eq!(status, 204);

    // Refusals, of every origin.
    for (token, method, path) in [
        (None, "GET", "/api/v1/whoami"),
        (Some(user.as_str()), "GET", "/api/v1/secrets"),
        (None, "GET", "/api/v1/nothing"),
    ] {
        let (status, answer) = gate.api(token, method, path, None).await;
        assert!(status >= 400, "{path}");
        checked.component("ErrorAnswer", &answer);
    }
    recorded_rows(&checked);

    let not_called: Vec<_> = ROUTES
        .iter()
        .filter(|r| matches!(r.gives, Gives::Json(_)))
        .map(|r| format!("{} {}", r.method, r.path))
        .filter(|name| !checked.seen.contains_key(name))
        .collect();
    assert_eq!(
        not_called,
        [
            // Each needs a provider or a user of Headgate's own: their answers are `TokenMade` too.
            "POST /api/v1/login/local",
            "POST /api/v1/login/device",
            "POST /api/v1/login/device/poll",
            // Nothing is recorded here: their rows are held against the document one by one.
            "GET /api/v1/statements",
            "GET /api/v1/checkpoints",
        ]
    );
}

/// A row goes through its type, so that a field it lacks, or has too much, cannot hide.
fn recorded_rows(checked: &Checked) {
    let parameter = json!({ "protocol": "postgres", "type_oid": 23, "format": 1, "value": null });
    let statement: StatementRow = serde_json::from_value(json!({
        "session": "s", "statement": 1, "time_us": 2, "principal": "alice", "actor": "alice", "chain": [], "target": "orders",
        "environment": "", "role": "app", "prepared": 0, "text": "select $1", "stands_for": ["x"], "parameters": [parameter],
        "verdict": "hold", "rule": "", "epoch": 1, "class": ["read"], "verbs": ["select"], "resources": [],
        "answer": "spent_elsewhere", "question": "HG-1", "reviewers": [], "reason": "", "ended": true, "outcome": "not_known",
        "duration_us": 1, "rows": 1, "bytes": 1, "tag": "SELECT 1", "error": { "code": "42P01", "message": "no" },
        "masked": 0, "truncated": false
    }))
    .expect("a row");
    checked.component("StatementRow", &json!(statement));
    let session: SessionSummary = serde_json::from_value(json!({
        "session": "s", "principal": "alice", "groups": [], "actor": "alice", "chain": [], "issuer": "local", "address": "",
        "application": "", "credential_id": "tok_1", "target": "orders", "environment": "", "role": "app",
        "protocol": "postgres", "target_session": "12", "opened_us": 1, "state": "lost", "ended_us": 0, "reason": "",
        "statements": 0, "bytes_from_client": 0, "bytes_to_client": 0, "chain_head": null
    }))
    .expect("a row");
    checked.component("SessionSummary", &json!(session));
    for what in [
        json!({ "kind": "session_open", "principal": "a", "actor": "a", "chain": [], "target": "t", "role": "r" }),
        json!({ "kind": "reply", "statement": 1, "bytes": 3, "messages": [
            { "type": "row", "values": ["a", null] }, { "type": "error", "code": "1", "message": "x" }, { "type": "cut", "bytes": 1 }] }),
        json!({ "kind": "data_end", "statement": 1, "direction": "to_target", "bytes": 1, "rows": 1, "digest": "00",
            "truncated": false, "outcome": "cut", "reason": "" }),
        json!({ "kind": "unknown", "event_kind": 99, "bytes": 1 }),
    ] {
        let mut event = what;
        event["at_ms"] = 1.into();
        event["seq"] = 2.into();
        let event: ReplayEvent = serde_json::from_value(event).expect("an event");
        checked.component("ReplayEvent", &json!(event));
    }
}

#[test]
fn a_document_that_says_less_or_more_than_an_answer_is_caught() {
    let part = json!({ "type": "object", "required": ["a"], "properties": { "a": { "type": "string" } } });
    let document = closed(json!({ "components": { "schemas": { "Part": part } } }));
    let checked = Checked {
        document,
        seen: BTreeMap::new(),
    };
    checked.component("Part", &json!({ "a": "x" }));
    for wrong in [json!({}), json!({ "a": 1 }), json!({ "a": "x", "b": 1 })] {
        let caught =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| checked.component("Part", &wrong)));
        assert!(caught.is_err(), "{wrong}");
    }
}
