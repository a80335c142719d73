//! Held statements: the list, one in full, yes and no.

use super::{list, rows, with_time};
use crate::args::{Output, QuestionsArgs, Reach};
use crate::client::{Client, query, segment};
use crate::fail::Fail;
use crate::output;
use serde_json::{Value, json};

const COLUMNS: [output::Column; 7] = [
    ("NUMBER", "/number"),
    ("STATE", "/state"),
    ("WHO", "/who/principal"),
    ("ACTOR", "/who/actor"),
    ("TARGET", "/target"),
    ("DEADLINE", "/deadline_time"),
    ("STATEMENT", "/statement"),
];

const FIELDS: [output::Column; 21] = [
    ("number", "/number"),
    ("state", "/state"),
    ("asked by", "/who/principal"),
    ("acting for them", "/who/chain"),
    ("groups", "/who/groups"),
    ("client", "/who/address"),
    ("application", "/who/application"),
    ("target", "/target"),
    ("environment", "/environment"),
    ("role", "/role"),
    ("rule", "/rule"),
    ("asked", "/asked_time"),
    ("deadline", "/deadline_time"),
    ("client meanwhile", "/on_hold"),
    ("spent by session", "/claim/session"),
    ("quorum", "/reviewers/quorum"),
    ("reviewers", "/reviewers/principals"),
    ("reviewer groups", "/reviewers/groups"),
    ("denied by", "/denied_by"),
    ("reason", "/reason"),
    ("page", "/address"),
];

pub async fn show(reach: &Reach, output: Output, args: QuestionsArgs) -> Result<(), Fail> {
    let client = Client::new(reach.way()?)?;
    if let Some(number) = &args.number {
        let question = client.get(&path(number)).await?;
        return print(output, &question);
    }
    let state = if args.all { "all" } else { "open" };
    let asked = query(&[
        ("state", Some(state.to_owned())),
        ("limit", Some(args.limit.to_string())),
    ]);
    let answer = client.get(&format!("/api/v1/questions{asked}")).await?;
    list(output, &COLUMNS, rows(&answer, "questions"))
}

pub async fn approve(reach: &Reach, output: Output, number: &str) -> Result<(), Fail> {
    let client = Client::new(reach.way()?)?;
    // What is approved is what is printed: its digest goes with the yes.
    let question = client.get(&path(number)).await?;
    let digest = question.get("digest").cloned().unwrap_or_default();
    let answered = client
        .post(
            &format!("{}/answer", path(number)),
            &json!({ "approve": true, "digest": digest }),
        )
        .await?;
    print(output, &answered)
}

pub async fn deny(reach: &Reach, output: Output, number: &str, reason: &str) -> Result<(), Fail> {
    let client = Client::new(reach.way()?)?;
    let answered = client
        .post(
            &format!("{}/answer", path(number)),
            &json!({ "approve": false, "reason": reason }),
        )
        .await?;
    print(output, &answered)
}

fn path(number: &str) -> String {
    format!("/api/v1/questions/{}", segment(number))
}

fn print(output: Output, question: &Value) -> Result<(), Fail> {
    if output != Output::Table {
        return Ok(output::one(output, &FIELDS, question)?);
    }
    output::one(output, &FIELDS, &with_time(question))?;
    for approval in rows(question, "approvals") {
        let by = approval
            .get("principal")
            .and_then(Value::as_str)
            .unwrap_or_default();
        println!("approved by      {}", output::printable(by));
    }
    println!(
        "\n{}",
        output::printable_lines(
            question
                .get("statement")
                .and_then(Value::as_str)
                .unwrap_or_default()
        )
    );
    for (number, parameter) in (1..).zip(rows(question, "parameters")) {
        println!("${number} = {}", parameter_text(parameter));
    }
    for inner in rows(question, "stands_for") {
        println!(
            "\nruns:\n{}",
            output::printable_lines(inner.get("text").and_then(Value::as_str).unwrap_or_default())
        );
        for (number, parameter) in (1..).zip(rows(inner, "parameters")) {
            println!("${number} = {}", parameter_text(parameter));
        }
    }
    for setting in rows(question, "settings") {
        let text = |key: &str| setting.get(key).and_then(Value::as_str).unwrap_or_default();
        let said = format!(
            "the session has set {} to {}: names mean what that says",
            text("name"),
            text("value")
        );
        println!("{}", output::warning(&output::printable(&said)));
    }
    if question.get("on_hold").and_then(Value::as_str) == Some("refuse") {
        println!(
            "nobody waits for this: whoever asked sends the same statement again once it is approved, once, until the deadline"
        );
    }
    if question
        .get("open_data")
        .and_then(Value::as_bool)
        .unwrap_or_default()
    {
        println!(
            "{}",
            output::warning(
                "its data is NOT shown and not bound by the approval: whatever the client sends will be stored"
            )
        );
    }
    Ok(())
}

fn parameter_text(parameter: &Value) -> String {
    match (parameter.get("text"), parameter.get("base64")) {
        (Some(Value::String(text)), _) => format!("'{}'", output::printable(text)),
        (None, Some(Value::String(bytes))) => format!("base64 {bytes}"),
        _ => "NULL".to_owned(),
    }
}
