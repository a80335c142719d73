//! One function for each command. Each prints its answer, or fails with a sentence and what to do next.

mod audit;
mod health;
mod identity;
mod questions;
mod rules;

use crate::args::{Cli, Command, Output};
use crate::client::{Client, query};
use crate::fail::Fail;
use crate::output;
use crate::supervise;
use serde_json::Value;
use std::io::{IsTerminal, Read};
use std::process::ExitCode;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

pub async fn run(cli: Cli) -> Result<ExitCode, Fail> {
    let Cli {
        reach,
        output,
        command,
    } = cli;
    match command {
        Command::Run(args) => return supervise::run(&reach, args).await,
        Command::Controlplane => {
            let ran = headgate_controlplane::run(&reach.config_path(), |_| {}).await;
            ran.map_err(|error| Fail::new(error.to_string()))?;
        }
        Command::Check => return health::check(&reach),
        Command::Doctor => return health::doctor(&reach).await,
        Command::Login(args) => identity::login(&reach, args).await?,
        Command::Token(command) => identity::token(&reach, output, command).await?,
        Command::User(command) => identity::user(command)?,
        Command::Secret(command) => identity::secret(&reach, output, command).await?,
        Command::Questions(args) => questions::show(&reach, output, args).await?,
        Command::Approve { number } => questions::approve(&reach, output, &number).await?,
        Command::Deny { number, reason } => questions::deny(&reach, output, &number, &reason).await?,
        Command::Sessions { past, limit } => audit::sessions(&reach, output, past, limit).await?,
        Command::Replay { session } => audit::replay(&reach, output, &session).await?,
        Command::Audit(command) => return audit::audit(&reach, output, command).await,
        Command::Rules(command) => return rules::rules(&reach, output, command).await,
        Command::Revoke(args) => identity::revoke(&reach, args).await?,
        Command::Targets => {
            let answer = Client::new(reach.way()?)?.get("/api/v1/targets").await?;
            let columns = [
                ("NAME", "/name"),
                ("PROTOCOL", "/protocol"),
                ("ENVIRONMENT", "/environment"),
                ("ADDRESS", "/address"),
                ("DATABASE", "/database"),
                ("SECRET", "/secret"),
                ("SECRET IS THERE", "/secret_is_there"),
            ];
            output::list(output, &columns, rows(&answer, "targets"))?;
        }
        Command::Metrics => print!("{}", Client::new(reach.way()?)?.text("/api/v1/metrics").await?),
    }
    Ok(ExitCode::SUCCESS)
}

/// The list in an answer.
fn rows<'a>(answer: &'a Value, name: &str) -> &'a [Value] {
    answer
        .get(name)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// Adds `…_time` beside each `…_unix_ms` (and `…_us`) that is not 0, for tables; JSON stays as the API gave it.
fn with_times(rows: &[Value]) -> Vec<Value> {
    rows.iter().map(with_time).collect()
}

fn with_time(row: &Value) -> Value {
    let mut row = row.clone();
    if let Some(object) = row.as_object_mut() {
        let times: Vec<(String, String)> = object
            .iter()
            .filter_map(|(key, value)| {
                let number = value.as_u64().filter(|n| *n > 0)?;
                match (key.strip_suffix("_unix_ms"), key.strip_suffix("_us")) {
                    (Some(name), _) => Some((format!("{name}_time"), output::time(number))),
                    (None, Some(name)) if !name.contains("duration") => {
                        Some((format!("{name}_time"), output::time(number / 1_000)))
                    }
                    _ => None,
                }
            })
            .collect();
        object.extend(times.into_iter().map(|(key, text)| (key, Value::String(text))));
    }
    row
}

fn list(output: Output, columns: &[output::Column], rows: &[Value]) -> Result<(), Fail> {
    match output {
        Output::Table => output::list(output, columns, &with_times(rows))?,
        Output::Json | Output::Jsonl => output::list(output, columns, rows)?,
    }
    Ok(())
}

/// A password or secret: asked for at a terminal, else the whole of standard input without its last line break.
fn read_secret(prompt: &str, from_stdin: bool) -> Result<String, Fail> {
    const SECRET_BYTES_MAX: u64 = 64 << 10;
    let secret = if !from_stdin && std::io::stdin().is_terminal() {
        rpassword::prompt_password(prompt)?
    } else {
        let mut text = String::new();
        std::io::stdin()
            .lock()
            .take(SECRET_BYTES_MAX + 1)
            .read_to_string(&mut text)?;
        if text.len() as u64 > SECRET_BYTES_MAX {
            return Err(Fail::new(format!(
                "standard input holds more than {SECRET_BYTES_MAX} bytes"
            )));
        }
        let line = text.strip_suffix('\n').unwrap_or(&text);
        line.strip_suffix('\r').unwrap_or(line).to_owned()
    };
    if secret.is_empty() {
        Err(Fail::new("nothing was entered"))
    } else {
        Ok(secret)
    }
}

/// RFC 3339 (`2026-11-21T07:00:00Z`), `2026-11-21`, or `15m`, `8h`, `7d` before now; in Unix milliseconds.
fn moment(text: &str, now_unix_ms: u64) -> Result<u64, Fail> {
    if let Ok(seconds) = crate::args::parse_duration(text) {
        return Ok(now_unix_ms.saturating_sub(seconds.saturating_mul(1_000)));
    }
    let wrong = || {
        Fail::usage(format!(
            "`{text}` is no time: write 2026-11-21T07:00:00Z, or 15m, 8h, 7d for so long ago"
        ))
    };
    let whole = if text.contains(['T', ' ']) {
        text.replacen(' ', "T", 1)
    } else {
        format!("{text}T00:00:00Z")
    };
    let moment = OffsetDateTime::parse(&whole, &Rfc3339).map_err(|_| wrong())?;
    u64::try_from(moment.unix_timestamp_nanos() / 1_000_000).map_err(|_| wrong())
}

fn now_unix_ms() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

fn limit_query(limit: usize) -> String {
    query(&[("limit", Some(limit.to_string()))])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_as_they_are_written() {
        for ms in [
            0,
            951_782_400_000,
            1_795_244_400_000,
            4_102_444_799_000,
            1_709_164_800_000,
        ] {
            assert_eq!(moment(&output::time(ms), 0).unwrap(), ms, "{}", output::time(ms));
        }
        assert_eq!(moment("15m", 1_000_000).unwrap(), 100_000);
        assert_eq!(moment("2026-11-21", 0).unwrap(), 1_795_219_200_000);
        assert_eq!(moment("2026-11-21 08:00:00+01:00", 0).unwrap(), 1_795_244_400_000);
        for wrong in [
            "",
            "yesterday",
            "2026-02-29",
            "2026-13-01",
            "2026-11-21T07:00",
            "2026-11-21T07:00:00",
            "2026-11-21T25:00:00Z",
            "1969-12-31",
            "-1-1-1",
            "0d",
        ] {
            assert_eq!(moment(wrong, 0).unwrap_err().code, 2, "{wrong}");
        }
    }

    #[test]
    fn tables_show_times_and_json_stays_as_it_was() {
        let row =
            serde_json::json!({ "started_unix_ms": 1_795_244_400_000_u64, "ended_us": 0, "duration_us": 5 });
        let shown = with_time(&row);
        assert_eq!(shown["started_time"], "2026-11-21T07:00:00Z");
        assert!(shown.get("ended_time").is_none() && shown.get("duration_time").is_none());
    }
}
