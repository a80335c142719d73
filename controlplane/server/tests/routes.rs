//! Every route of the API's table, called by everybody, over real sockets. The answers are committed in `routes.out`:
//! a permission that changes shows up in a diff.

mod support;

use headgate_api::routes::ROUTES;
use serde_json::Value;
use support::Appliance;

const GOLDEN: &str = include_str!("routes.out");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_route_answers_each_role_as_the_table_says() {
    let gate = Appliance::start().await;
    let callers = [
        ("nobody", None),
        ("wrong", Some("hgt_nonsense".to_owned())),
        ("user", Some(gate.mint("alice", &["dev"], &[]).await)),
        (
            "agent",
            Some(gate.mint("carol", &["admins", "auditors"], &["agent-1"]).await),
        ),
        ("auditor", Some(gate.mint("dora", &["auditors"], &[]).await)),
        ("admin", Some(gate.mint("erin", &["admins"], &[]).await)),
    ];
    let mut out = format!("{:<44}", "");
    for (name, _) in &callers {
        out.push_str(&format!("{name:>8}"));
    }
    out.push_str("   local\n");
    for route in ROUTES {
        let path = route
            .path
            .replace("{id}", "nothing")
            .replace("{number}", "999")
            .replace("{name}", "nothing");
        // An empty object is no right body for any of them: what gets past the guard says 4xx of its own.
        let body =
            (route.method == "POST" || route.method == "PUT").then(|| Value::Object(Default::default()));
        let mut line = format!("{:<44}", format!("{} {}", route.method, route.path));
        for (_, token) in &callers {
            let (status, _) = gate
                .api(token.as_deref(), route.method, &path, body.clone())
                .await;
            line.push_str(&format!("{status:>8}"));
        }
        let (status, _) = gate.admin(route.method, &path, body).await;
        out.push_str(&format!("{line}{status:>8}\n"));
    }
    assert_eq!(out, GOLDEN, "the table now reads:\n{out}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changing_calls_are_in_the_journal_refused_ones_too_and_no_secret_is() {
    let gate = Appliance::start().await;
    let user = gate.mint("alice", &["dev"], &[]).await;
    let secret = serde_json::json!({ "value": "hunter2" });
    assert_eq!(
        gate.api(Some(&user), "PUT", "/api/v1/secrets/orders", Some(secret.clone()))
            .await
            .0,
        403
    );
    assert_eq!(
        gate.admin("PUT", "/api/v1/secrets/orders", Some(secret)).await.0,
        200
    );
    let (status, answer) = gate.admin("GET", "/api/v1/changes", None).await;
    assert_eq!(status, 200);
    let seen: Vec<(&str, &str, u64)> = answer["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| {
            (
                c["principal"].as_str().unwrap(),
                c["call"].as_str().unwrap(),
                c["status"].as_u64().unwrap(),
            )
        })
        .collect();
    let operator = format!(
        "local:{}",
        headgate_controlplane::sockets::user_name(headgate_controlplane::sockets::own_uid())
    );
    assert_eq!(
        seen,
        [
            (operator.as_str(), "POST /api/v1/tokens", 200),
            ("alice", "PUT /api/v1/secrets/{name}", 403),
            (operator.as_str(), "PUT /api/v1/secrets/{name}", 200)
        ]
    );
    let text = answer.to_string();
    assert!(!text.contains("hunter2") && !text.contains(&user));
}
