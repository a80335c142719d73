//! Rules: check, explain, test, status, reload. The first three work on files, without a running Headgate.

use super::{now_unix_ms, rows, with_time};
use crate::args::{Output, Reach, RulesCommand};
use crate::client::Client;
use crate::fail::Fail;
use crate::output;
use headgate_plane::{Epoch, Snapshot, Who};
use headgate_rules::Problem;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub async fn rules(reach: &Reach, output: Output, command: RulesCommand) -> Result<ExitCode, Fail> {
    match command {
        RulesCommand::Check { file } => check(&rules_file(reach, file)?),
        RulesCommand::Explain {
            sql,
            principal,
            groups,
            chain,
            target,
            rules,
        } => {
            let who = Who {
                principal,
                groups,
                chain,
                issuer: "local".to_owned(),
                ..Who::default()
            };
            explain(reach, output, &sql, who, &target, rules.as_deref()).await
        }
        RulesCommand::Test { cases, rules } => test(output, &rules_file(reach, rules)?, &cases),
        RulesCommand::Status => {
            let answer = Client::new(reach.way()?)?.get("/api/v1/rules").await?;
            status(output, answer.get("status").unwrap_or(&Value::Null))
        }
        RulesCommand::Reload => {
            let answer = Client::new(reach.way()?)?
                .post("/api/v1/rules/reload", &json!({}))
                .await?;
            status(output, answer.get("status").unwrap_or(&Value::Null))
        }
    }
}

fn rules_file(reach: &Reach, given: Option<PathBuf>) -> Result<PathBuf, Fail> {
    match given {
        Some(file) => Ok(file),
        None => Ok(reach.load_config()?.appliance.rules),
    }
}

/// Reads and compiles; every problem is printed with its place.
pub fn compile(file: &Path) -> Result<Snapshot, Fail> {
    let text = std::fs::read_to_string(file).map_err(|e| Fail::new(format!("{}: {e}", file.display())))?;
    headgate_rules::compile(&text, Epoch(1)).map_err(|problems| problems_fail(file, &problems))
}

fn problems_fail(file: &Path, problems: &[Problem]) -> Fail {
    let lines: Vec<String> = problems.iter().map(|p| format!("  {p}")).collect();
    Fail::new(format!("{} is not right:\n{}", file.display(), lines.join("\n")))
}

fn check(file: &Path) -> Result<ExitCode, Fail> {
    let snapshot = compile(file)?;
    println!(
        "{} is right: {} rules, {} masks",
        file.display(),
        snapshot.rules.len(),
        snapshot.masks.len()
    );
    Ok(ExitCode::SUCCESS)
}

async fn explain(
    reach: &Reach,
    output: Output,
    sql: &str,
    who: Who,
    target: &str,
    file: Option<&Path>,
) -> Result<ExitCode, Fail> {
    let (text, explanation) = match file {
        None => {
            let body = json!({
                "statement": sql, "principal": who.principal, "groups": who.groups, "chain": who.chain, "issuer": who.issuer,
                "target": target,
            });
            let answer = Client::new(reach.way()?)?
                .post("/api/v1/rules/explain", &body)
                .await?;
            let text = answer
                .get("text")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned();
            (text, answer.get("explanation").cloned().unwrap_or_default())
        }
        Some(file) => {
            let snapshot = compile(file)?;
            let config = reach.load_config()?;
            let spec = config
                .target(target)
                .map(headgate_config::Target::spec)
                .ok_or_else(|| {
                    let names: Vec<&str> = config.targets.iter().map(|t| t.name.as_str()).collect();
                    Fail::new(format!("the configuration has no target `{target}`"))
                        .hint(format!("it has: {}", names.join(", ")))
                })?;
            let explained = headgate_rules::explain(&snapshot, sql, &who, &spec, "public", now_unix_ms());
            let explanation = explained.map_err(|problems| problems_fail(file, &problems))?;
            (explanation.to_string(), serde_json::to_value(&explanation)?)
        }
    };
    if output == Output::Table {
        println!("{}", output::printable_lines(text.trim_end()));
    } else {
        output::one(output, &[], &explanation)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// 0 when every case passes, 1 when one fails.
fn test(output: Output, rules: &Path, cases: &Path) -> Result<ExitCode, Fail> {
    let snapshot = compile(rules)?;
    let text = std::fs::read_to_string(cases).map_err(|e| Fail::new(format!("{}: {e}", cases.display())))?;
    let results =
        headgate_rules::run_cases(&snapshot, &text).map_err(|problems| problems_fail(cases, &problems))?;
    let failed: Vec<_> = results.iter().filter(|r| !r.passed).collect();
    if output == Output::Table {
        for result in &results {
            let mark = if result.passed { "ok    " } else { "FAILED" };
            println!("{mark}  {}", output::printable(&result.name));
        }
        for result in &failed {
            println!(
                "\n{}: expected {}, got {}",
                output::printable(&result.name),
                result.expected,
                result.got
            );
            println!("{}", output::printable_lines(result.detail.trim_end()));
        }
        println!("\n{} cases, {} failed", results.len(), failed.len());
    } else {
        let values: Vec<Value> = results
            .iter()
            .map(serde_json::to_value)
            .collect::<Result<_, _>>()?;
        output::list(output, &[], &values)?;
    }
    Ok(if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// 0 when the file on disk is what is in force, 1 when it is not.
fn status(output: Output, status: &Value) -> Result<ExitCode, Fail> {
    let fields = [
        ("epoch", "/epoch"),
        ("rules", "/rules"),
        ("masks", "/masks"),
        ("file", "/path"),
        ("in force since", "/applied_time"),
        ("file read", "/read_time"),
    ];
    let problems = rows(status, "problems");
    if output == Output::Table {
        output::one(output, &fields, &with_time(status))?;
        if !problems.is_empty() {
            println!("\nThe file on disk is not in force:");
        }
        for problem in problems {
            let problem: Vec<String> = ["line", "column", "rule", "message"]
                .iter()
                .filter_map(|key| {
                    let value = problem.get(key)?;
                    let text = value
                        .as_str()
                        .map_or_else(|| value.to_string(), output::printable);
                    (!text.is_empty() && text != "0").then(|| format!("{key} {text}"))
                })
                .collect();
            println!("  {}", problem.join(", "));
        }
    } else {
        output::one(output, &fields, status)?;
    }
    Ok(if problems.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
