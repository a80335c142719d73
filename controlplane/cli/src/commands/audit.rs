//! Sessions, replay, audit queries, and verification without a server.

use super::{limit_query, list, moment, now_unix_ms, rows};
use crate::args::{AuditCommand, AuditQueryArgs, AuditVerifyArgs, Output, Reach};
use crate::client::{Client, query, segment};
use crate::fail::Fail;
use crate::output;
use headgate_recording::checkpoint::PublicKey;
use serde_json::Value;
use std::path::Path;
use std::process::ExitCode;

const LIVE: [output::Column; 7] = [
    ("SESSION", "/session"),
    ("WHO", "/who/principal"),
    ("CHAIN", "/who/chain"),
    ("TARGET", "/target"),
    ("ADDRESS", "/who/address"),
    ("APPLICATION", "/who/application"),
    ("STARTED", "/started_time"),
];

const PAST: [output::Column; 8] = [
    ("SESSION", "/session"),
    ("WHO", "/principal"),
    ("ACTOR", "/actor"),
    ("TARGET", "/target"),
    ("ADDRESS", "/address"),
    ("OPENED", "/opened_time"),
    ("STATE", "/state"),
    ("STATEMENTS", "/statements"),
];

const STATEMENTS: [output::Column; 10] = [
    ("TIME", "/time_time"),
    ("SESSION", "/session"),
    ("#", "/statement"),
    ("WHO", "/principal"),
    ("ACTOR", "/actor"),
    ("TARGET", "/target"),
    ("VERDICT", "/verdict"),
    ("RULE", "/rule"),
    ("OUTCOME", "/outcome_words"),
    ("TEXT", "/text"),
];

pub async fn sessions(reach: &Reach, output: Output, past: bool, limit: usize) -> Result<(), Fail> {
    let client = Client::new(reach.way()?)?;
    if past {
        let answer = client
            .get(&format!("/api/v1/sessions?past=true&limit={limit}"))
            .await?;
        return list(output, &PAST, rows(&answer, "sessions"));
    }
    let answer = client
        .get(&format!("/api/v1/sessions{}", limit_query(limit)))
        .await?;
    list(output, &LIVE, rows(&answer, "sessions"))
}

pub async fn replay(reach: &Reach, output: Output, session: &str) -> Result<(), Fail> {
    let text = Client::new(reach.way()?)?
        .text(&format!("/api/v1/sessions/{}/replay", segment(session)))
        .await?;
    match output {
        Output::Jsonl => print!("{text}"),
        Output::Json => {
            let events: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
            output::list(output, &[], &events)?;
        }
        Output::Table => {
            for line in text.lines() {
                println!("{}", event_line(&serde_json::from_str(line)?));
            }
        }
    }
    Ok(())
}

const FIRST: [&str; 11] = [
    "statement",
    "prepared",
    "principal",
    "actor",
    "chain",
    "verdict",
    "rule",
    "question",
    "outcome",
    "reviewers",
    "tag",
];

/// What became of a statement, in words; `None` where that is not recorded (yet).
fn outcome_words(row: &Value) -> Option<&'static str> {
    Some(match row.get("outcome")?.as_str()? {
        "done" => "done",
        "failed" => "failed",
        "cancelled" => "cancelled",
        "not_known" => "not known: the session ended first",
        "not_run" => "not run",
        _ => "?",
    })
}

/// One event of a replay as a person reads it.
fn event_line(event: &Value) -> String {
    let at = event.get("at_ms").and_then(Value::as_u64).unwrap_or(0);
    let kind = event.get("kind").and_then(Value::as_str).unwrap_or("?");
    let said: Vec<String> = match kind {
        // What only drives the protocol (ReadyForQuery and the like) tells a person nothing.
        "reply" => rows(event, "messages")
            .iter()
            .filter(|m| type_of(m) != "other")
            .map(message_text)
            .collect(),
        _ => {
            let text = event.get("text").and_then(Value::as_str).map(output::printable);
            let runs = rows(event, "stands_for")
                .iter()
                .filter_map(Value::as_str)
                .map(|t| format!("runs: {}", output::printable(t)));
            let outcome = (kind == "statement_end")
                .then(|| outcome_words(event))
                .flatten()
                .map(|words| format!("outcome: {words}"));
            let skipped: &[&str] = match outcome {
                Some(_) => &["at_ms", "kind", "seq", "text", "stands_for", "outcome"],
                None => &["at_ms", "kind", "seq", "text", "stands_for"],
            };
            let rest: Vec<String> = outcome.into_iter().chain(fields(event, skipped)).collect();
            text.into_iter()
                .chain(runs)
                .chain(Some(rest.join(", ")))
                .collect()
        }
    };
    format!(
        "{:>7}.{:03}  {kind:<15} {}",
        at / 1_000,
        at % 1_000,
        said.join("\n                             ")
    )
}

fn type_of(message: &Value) -> &str {
    message.get("type").and_then(Value::as_str).unwrap_or("?")
}

fn message_text(message: &Value) -> String {
    let joined = |key: &str| {
        let values = rows(message, key)
            .iter()
            .map(|v| v.as_str().map_or_else(|| "NULL".to_owned(), output::printable));
        values.collect::<Vec<_>>().join(" | ")
    };
    match type_of(message) {
        "columns" => format!("columns  {}", joined("names")),
        "row" => format!("row      {}", joined("values")),
        other => format!("{other}  {}", fields(message, &["type"]).join(", ")),
    }
}

fn fields(object: &Value, skipped: &[&str]) -> Vec<String> {
    let Some(object) = object.as_object() else {
        return Vec::new();
    };
    let mut shown: Vec<(&String, &Value)> = object
        .iter()
        .filter(|(key, value)| !skipped.contains(&key.as_str()) && !is_empty(value))
        .collect();
    // What says most comes first; the rest as it stands.
    let rank = |key: &str| {
        FIRST
            .iter()
            .position(|first| *first == key)
            .unwrap_or(FIRST.len())
    };
    shown.sort_by_key(|(key, _)| rank(key));
    shown
        .into_iter()
        .map(|(key, value)| match value {
            Value::String(text) => format!("{key}: {}", output::printable(text)),
            other => format!("{key}: {}", output::printable(&other.to_string())),
        })
        .collect()
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Number(number) => number.as_u64() == Some(0),
        Value::Bool(set) => !set,
        _ => false,
    }
}

pub async fn audit(reach: &Reach, output: Output, command: AuditCommand) -> Result<ExitCode, Fail> {
    match command {
        AuditCommand::Query(args) => {
            statements(reach, output, *args).await?;
            Ok(ExitCode::SUCCESS)
        }
        AuditCommand::Verify(args) => verify(reach, output, &args),
    }
}

/// Asks page after page until the limit: a page may be short and go on.
async fn statements(reach: &Reach, output: Output, args: AuditQueryArgs) -> Result<(), Fail> {
    let client = Client::new(reach.way()?)?;
    let now = now_unix_ms();
    let us = |text: Option<String>| {
        text.map(|t| moment(&t, now).map(|ms| ms.saturating_mul(1_000).to_string()))
            .transpose()
    };
    let filter = [
        ("from_us", us(args.since)?),
        ("to_us", us(args.until)?),
        ("session", args.session),
        ("principal", args.principal),
        ("actor", args.actor),
        ("anyone", args.anyone),
        ("target", args.target),
        ("resource", args.resource),
        ("verdict", args.verdict),
        ("rule", args.rule),
        ("text", args.text),
        ("code", args.code),
    ];
    let mut found: Vec<Value> = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let mut asked = filter.to_vec();
        asked.push(("limit", Some((args.limit - found.len()).min(1_000).to_string())));
        asked.push(("cursor", cursor.take()));
        let answer = client
            .get(&format!("/api/v1/statements{}", query(&asked)))
            .await?;
        found.extend(rows(&answer, "statements").iter().cloned());
        cursor = answer.get("next").and_then(Value::as_str).map(ToOwned::to_owned);
        if cursor.is_none() || found.len() >= args.limit {
            break;
        }
    }
    found.truncate(args.limit);
    // The newest stands last, where the eye is; the newest were asked for.
    found.reverse();
    if output == Output::Table {
        for row in &mut found {
            let words = outcome_words(row);
            if let (Some(words), Some(row)) = (words, row.as_object_mut()) {
                row.insert("outcome_words".to_owned(), words.into());
            }
        }
    }
    list(output, &STATEMENTS, &found)
}

/// Offline, with the public key alone. 0 when all holds, 1 when something was changed, cut off or cannot be read.
fn verify(reach: &Reach, output: Output, args: &AuditVerifyArgs) -> Result<ExitCode, Fail> {
    let data = || reach.load_config().map(|config| config.appliance.data);
    let dir = match &args.audit_dir {
        Some(dir) => dir.clone(),
        None => data()?.join("audit"),
    };
    let key_file = match &args.public_key {
        Some(file) => file.clone(),
        None => data()?.join("recorder.key.pub"),
    };
    let read = |file: &Path| {
        std::fs::read_to_string(file).map_err(|e| Fail::new(format!("{}: {e}", file.display())))
    };
    let key = PublicKey::parse(read(&key_file)?.trim())
        .map_err(|e| Fail::new(format!("{}: {e}", key_file.display())))?;
    let kept: Vec<String> = args
        .checkpoints
        .iter()
        .map(|file| read(file))
        .collect::<Result<_, _>>()?;
    let report = headgate_audit::verify_against(&dir, &key, &kept).map_err(|e| Fail::new(e.to_string()))?;
    if output != Output::Table {
        output::one(output, &[], &serde_json::to_value(&report)?)?;
    } else {
        println!(
            "{}",
            if report.ok {
                "ok: nothing was changed, removed or reordered"
            } else {
                "BROKEN"
            }
        );
        println!(
            "chunks       {} ({} under the newest good checkpoint)",
            report.chunks, report.sealed_chunks
        );
        println!("records      {}", report.records);
        println!(
            "sessions     {} ({} without an end)",
            report.sessions, report.open_sessions
        );
        println!("checkpoints  {}", report.checkpoints);
        for finding in &report.findings {
            let chunk = finding.chunk.map(|n| format!("chunk {n}: ")).unwrap_or_default();
            let session = finding
                .session
                .as_ref()
                .map(|s| format!("session {s}: "))
                .unwrap_or_default();
            println!("  {chunk}{session}{}", output::printable(&finding.what));
        }
        if report.findings_not_listed > 0 {
            println!("  and {} more", report.findings_not_listed);
        }
        if args.checkpoints.is_empty() {
            println!(
                "A tail that was cut off together with its checkpoints shows only against one kept elsewhere: --checkpoint FILE"
            );
        }
    }
    Ok(if report.ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
