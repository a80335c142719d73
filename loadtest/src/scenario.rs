//! A scenario: endpoints, phases, crews and their mixes, from TOML to a plan.
//!
//! What is not understood is an error with its name: a misspelt key must not silently measure something else.
//! Bounds: a file of at most [`FILE_BYTES_MAX`]; [`PHASES_MAX`] phases, [`CREWS_MAX`] crews a phase.

use crate::client::OnError;
use crate::cpu::Group;
use crate::error::LoadFailed;
use crate::plan::{Arrivals, Crew, Endpoint, Load, Pace, Plan, TargetPlan};
use crate::reviewer::{Api, ReviewerPlan};
use crate::script::{Login, Parameter, Protocol, Work};
use crate::target::HELD_SQL;
use crate::tls::{Start, Tls, Trust};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

const FILE_BYTES_MAX: u64 = 4 << 20;
const PHASES_MAX: usize = 100;
const CREWS_MAX: usize = 100;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    connect: String,
    #[serde(default = "bench")]
    user: String,
    #[serde(default = "bench")]
    database: String,
    password: Option<String>,
    password_env: Option<String>,
    passwords_file: Option<PathBuf>,
    #[serde(default)]
    tls: Start,
    ca: Option<PathBuf>,
    #[serde(default)]
    tls_insecure: bool,
    server_name: Option<String>,
    #[serde(default)]
    tls_resumption: bool,
    errors: Option<OnError>,
    #[serde(default = "bulk_rows")]
    bulk_rows: u32,
    target: Option<TargetTable>,
    reviewer: Option<ReviewerTable>,
    #[serde(default)]
    statement: Vec<StatementTable>,
    #[serde(default)]
    phase: Vec<PhaseTable>,
}

fn bench() -> String {
    "bench".to_owned()
}

fn bulk_rows() -> u32 {
    20_000
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct TargetTable {
    listen: SocketAddr,
    password: Option<String>,
    #[serde(default)]
    latency_us: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ReviewerTable {
    api: String,
    token_env: Option<String>,
    admin_token_env: Option<String>,
    #[serde(default = "answer_after_ms")]
    answer_after_ms: u64,
    #[serde(default = "revokes_per_s")]
    revokes_per_s: f64,
}

fn answer_after_ms() -> u64 {
    10
}

fn revokes_per_s() -> f64 {
    10.0
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct StatementTable {
    name: String,
    sql: String,
    #[serde(default)]
    parameters: Vec<ParameterValue>,
    protocol: Option<Protocol>,
    /// An answer without a row is a mistake.
    #[serde(default)]
    wants_rows: bool,
    #[serde(default)]
    held: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ParameterValue {
    Text(String),
    Number(i64),
    Made(MadeTable),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
enum MadeTable {
    Int([i64; 2]),
    OneOf(Vec<String>),
    Letters(usize),
    /// `true`; there is no other.
    Sequence(bool),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct PhaseTable {
    name: String,
    seconds: f64,
    #[serde(default = "warm_up")]
    warm_up_seconds: f64,
    #[serde(default)]
    crew: Vec<CrewTable>,
}

fn warm_up() -> f64 {
    1.0
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct CrewTable {
    name: String,
    sessions: usize,
    /// Statements and their weights.
    #[serde(default)]
    mix: BTreeMap<String, u32>,
    #[serde(default)]
    protocol: Protocol,
    pipeline: Option<usize>,
    rate: Option<f64>,
    #[serde(default)]
    arrivals: Arrivals,
    #[serde(default)]
    logins: bool,
    read_bytes_per_s: Option<u64>,
    #[serde(default)]
    ended_by_reviewer: bool,
}

/// Where things are that a scenario does not know.
#[derive(Default)]
pub struct Here {
    pub folder: PathBuf,
    pub watch: Vec<Group>,
    pub shows_progress: bool,
    /// In place of the file's.
    pub connect: Option<Endpoint>,
}

fn wrong(what: impl Into<String>) -> LoadFailed {
    LoadFailed::Usage(what.into())
}

fn from_env(name: &str) -> Result<String, LoadFailed> {
    std::env::var(name).map_err(|_| wrong(format!("the scenario wants the environment variable {name}")))
}

/// Reads a scenario's file.
pub fn read(path: &Path, mut here: Here) -> Result<Plan, LoadFailed> {
    let bad = |what: &dyn std::fmt::Display| wrong(format!("{}: {what}", path.display()));
    if std::fs::metadata(path).map_err(|e| bad(&e))?.len() > FILE_BYTES_MAX {
        return Err(bad(&"a scenario of more than 4 MB"));
    }
    let text = std::fs::read_to_string(path).map_err(|e| bad(&e))?;
    here.folder = path.parent().map_or_else(PathBuf::new, Path::to_path_buf);
    parse(&text, &here).map_err(|e| bad(&e))
}

pub fn parse(text: &str, here: &Here) -> Result<Plan, LoadFailed> {
    let file: File = toml::from_str(text).map_err(|e| wrong(e.to_string().trim_end().to_owned()))?;
    let connect = match &here.connect {
        Some(connect) => connect.clone(),
        None => file
            .connect
            .parse::<Endpoint>()
            .map_err(|e| wrong(format!("connect: {e}")))?,
    };
    if file.phase.is_empty() || file.phase.len() > PHASES_MAX {
        return Err(wrong(format!(
            "{} phases: a scenario has from 1 to {PHASES_MAX}, each as [[phase]]",
            file.phase.len()
        )));
    }
    let trust = match (&file.ca, file.tls_insecure) {
        (Some(_), true) => return Err(wrong("ca and tls-insecure do not go together")),
        (_, true) => Trust::DangerAnybody,
        (Some(ca), false) => Trust::File(here.folder.join(ca)),
        (None, false) => Trust::System,
    };
    let tls = Tls::new(
        file.tls,
        &trust,
        file.server_name.as_deref().unwrap_or(&connect.host),
        file.tls_resumption,
    )?;
    let login = Login {
        user: file.user.clone(),
        database: file.database.clone(),
        passwords: passwords(&file, here)?,
    };
    let reviewer = file
        .reviewer
        .as_ref()
        .map(|r| reviewer(r, &file.statement))
        .transpose()?;
    let mut loads = Vec::new();
    for phase in &file.phase {
        let crews = crews(phase, &file, &login)?;
        let needs_reviewer = crews.iter().any(|c| c.victims || c.work.iter().any(|w| w.held));
        if needs_reviewer && reviewer.is_none() {
            return Err(wrong(format!(
                "phase {}: held statements and ended-by-reviewer want a [reviewer]",
                phase.name
            )));
        }
        let ends = crews.iter().any(|c| c.victims);
        loads.push(Load {
            name: phase.name.clone(),
            connect: connect.clone(),
            tls: tls.clone(),
            crews,
            warm_up: seconds("warm-up-seconds", phase.warm_up_seconds, 0.0)?,
            window: seconds("seconds", phase.seconds, 0.05)?,
            watch: here.watch.clone(),
            on_error: file.errors.unwrap_or(OnError::Count),
            reviewer: reviewer.clone().filter(|_| needs_reviewer).map(|mut plan| {
                plan.revokes_per_s = if ends { plan.revokes_per_s } else { 0.0 };
                plan
            }),
            shows_progress: here.shows_progress,
            says_ready: false,
        });
    }
    let target = file.target.map(|t| TargetPlan {
        listen: t.listen,
        password: t.password,
        latency: Duration::from_micros(t.latency_us),
    });
    Ok(Plan { target, loads })
}

fn seconds(name: &str, value: f64, least: f64) -> Result<Duration, LoadFailed> {
    if (least..=86_400.0).contains(&value) {
        Ok(Duration::from_secs_f64(value))
    } else {
        Err(wrong(format!("{name} = {value}: from {least} to 86400")))
    }
}

fn passwords(file: &File, here: &Here) -> Result<Vec<String>, LoadFailed> {
    match (&file.password, &file.password_env, &file.passwords_file) {
        (None, None, None) => Ok(vec![String::new()]),
        (Some(password), None, None) => Ok(vec![password.clone()]),
        (None, Some(name), None) => Ok(vec![from_env(name)?]),
        (None, None, Some(path)) => passwords_of(&here.folder.join(path)),
        _ => Err(wrong("one of password, password-env, passwords-file")),
    }
}

const PASSWORDS_BYTES_MAX: u64 = 256 << 20;

/// One a line.
pub fn passwords_of(path: &Path) -> Result<Vec<String>, LoadFailed> {
    let bad = |what: &dyn std::fmt::Display| wrong(format!("passwords in {}: {what}", path.display()));
    if std::fs::metadata(path).map_err(|e| bad(&e))?.len() > PASSWORDS_BYTES_MAX {
        return Err(bad(&"more than 256 MB"));
    }
    let text = std::fs::read_to_string(path).map_err(|e| bad(&e))?;
    let all: Vec<String> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect();
    if all.is_empty() {
        Err(bad(&"there is none"))
    } else {
        Ok(all)
    }
}

fn reviewer(table: &ReviewerTable, statements: &[StatementTable]) -> Result<ReviewerPlan, LoadFailed> {
    if !(0.0..=10_000.0).contains(&table.revokes_per_s) {
        return Err(wrong(format!(
            "revokes-per-s = {}: from 0 to 10000",
            table.revokes_per_s
        )));
    }
    let token = |name: &Option<String>| name.as_deref().map(from_env).transpose();
    let mut held_sql = vec![HELD_SQL.to_owned()];
    held_sql.extend(statements.iter().filter(|s| s.held).map(|s| s.sql.clone()));
    Ok(ReviewerPlan {
        api: table
            .api
            .parse::<Api>()
            .map_err(|e| wrong(format!("reviewer: {e}")))?,
        token: token(&table.token_env)?,
        admin_token: token(&table.admin_token_env)?,
        answer_after: Duration::from_millis(table.answer_after_ms),
        revokes_per_s: table.revokes_per_s,
        held_sql,
    })
}

fn parameter(value: &ParameterValue) -> Result<Parameter, LoadFailed> {
    Ok(match value {
        ParameterValue::Text(text) => Parameter::Fixed(text.clone()),
        ParameterValue::Number(number) => Parameter::Fixed(number.to_string()),
        ParameterValue::Made(MadeTable::Int([from, to])) if from <= to => Parameter::Int(*from, *to),
        ParameterValue::Made(MadeTable::Int(_)) => {
            return Err(wrong("int = [from, to]: from is more than to"));
        }
        ParameterValue::Made(MadeTable::OneOf(texts)) if texts.is_empty() => {
            return Err(wrong("one-of: of nothing"));
        }
        ParameterValue::Made(MadeTable::OneOf(texts)) => Parameter::OneOf(texts.clone()),
        ParameterValue::Made(MadeTable::Letters(count)) if *count > 100_000 => {
            return Err(wrong("letters: at most 100000"));
        }
        ParameterValue::Made(MadeTable::Letters(count)) => Parameter::Letters(*count),
        ParameterValue::Made(MadeTable::Sequence(true)) => Parameter::Sequence,
        ParameterValue::Made(MadeTable::Sequence(false)) => {
            return Err(wrong("sequence = true, or something else"));
        }
    })
}

/// A statement by its name: one of the file's own, or built in.
fn work(name: &str, protocol: Protocol, file: &File) -> Result<Work, LoadFailed> {
    if let Some(own) = file.statement.iter().find(|s| s.name == name) {
        if own.held {
            return Ok(Work {
                kind: own.name.clone(),
                ..Work::held(&own.sql)
            });
        }
        let parameters = own
            .parameters
            .iter()
            .map(parameter)
            .collect::<Result<Vec<_>, _>>()?;
        let protocol = own.protocol.unwrap_or(if parameters.is_empty() {
            protocol
        } else {
            Protocol::Prepared
        });
        return Ok(Work {
            parameters,
            wants_rows: own.wants_rows,
            ..Work::new(&own.name, &own.sql, protocol)
        });
    }
    match name {
        "point" => Ok(Work::point(protocol)),
        "write" => Ok(Work::write(if protocol == Protocol::Simple {
            Protocol::Extended
        } else {
            protocol
        })),
        "bulk" => Ok(Work::bulk(file.bulk_rows)),
        "held" => Ok(Work::held(HELD_SQL)),
        _ => Err(wrong(format!(
            "{name}: no [[statement]] has this name, and built in are only point, write, bulk and held"
        ))),
    }
}

fn crews(phase: &PhaseTable, file: &File, login: &Login) -> Result<Vec<Crew>, LoadFailed> {
    if phase.crew.is_empty() || phase.crew.len() > CREWS_MAX {
        return Err(wrong(format!(
            "phase {}: from 1 to {CREWS_MAX} crews, each as [[phase.crew]]",
            phase.name
        )));
    }
    let are_all_logins = phase.crew.iter().all(|c| c.logins);
    let crew = |table: &CrewTable| -> Result<Crew, LoadFailed> {
        let bad = |what: &str| wrong(format!("phase {}, crew {}: {what}", phase.name, table.name));
        let mut all = Vec::new();
        for (name, weight) in table.mix.iter().filter(|(_, weight)| **weight > 0) {
            all.push(Work {
                weight: *weight,
                ..work(name, table.protocol, file).map_err(|e| bad(&e.to_string()))?
            });
        }
        if table.ended_by_reviewer && (!all.is_empty() || table.logins) {
            return Err(bad("sessions that the reviewer ends have no mix"));
        }
        let pace = match table.rate {
            None => Pace::Closed,
            Some(_) if all.is_empty() || table.logins => {
                return Err(bad("a rate is for crews that send statements"));
            }
            Some(per_s) if per_s > 0.0 && per_s <= 1e7 => Pace::Open {
                per_s,
                arrivals: table.arrivals,
            },
            Some(_) => return Err(bad("rate: more than 0 and at most 10000000 a second")),
        };
        let pipeline = table.pipeline.unwrap_or(1);
        if !(1..=10_000).contains(&pipeline) {
            return Err(bad("pipeline: from 1 to 10000"));
        }
        Ok(Crew {
            pipeline,
            pace,
            logins: table.logins,
            read_bytes_per_s: table.read_bytes_per_s.map(|n| n.max(1)),
            victims: table.ended_by_reviewer,
            headline: table.read_bytes_per_s.is_none() && (are_all_logins || !table.logins),
            ..Crew::new(&table.name, table.sessions, login.clone(), all)
        })
    };
    phase.crew.iter().map(crew).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_a_scenario() {
        let plan = parse(include_str!("../scenarios/synthetic.toml"), &Here::default()).expect("the example");
        assert!(plan.target.is_some() && plan.loads.len() >= 2);
        assert!(
            plan.loads
                .iter()
                .flat_map(|l| &l.crews)
                .any(|c| matches!(c.pace, Pace::Open { .. }))
        );
    }

    #[test]
    fn what_is_not_understood_is_named() {
        let head = "connect = \"127.0.0.1:1\"\n";
        let phase = "[[phase]]\nname = \"p\"\nseconds = 1\n[[phase.crew]]\nname = \"c\"\nsessions = 1\n";
        for (text, says) in [
            (format!("{head}conect = 1\n"), "conect"),
            (head.to_owned(), "phases"),
            (format!("{head}{phase}mix = {{ piont = 1 }}\n"), "piont"),
            (format!("{head}{phase}mix = {{ held = 1 }}\n"), "[reviewer]"),
            (format!("{head}{phase}rate = 5\n"), "rate"),
            (
                format!("{head}ca = \"x\"\ntls-insecure = true\n{phase}"),
                "tls-insecure",
            ),
            (
                format!("{head}password-env = \"LOADTEST_THAT_NOBODY_SET\"\n{phase}"),
                "LOADTEST_THAT_NOBODY_SET",
            ),
        ] {
            let said = parse(&text, &Here::default()).expect_err(&text).to_string();
            assert!(said.contains(says), "{says}: {said}");
        }
    }

    #[test]
    fn own_statements_have_their_parameters() {
        let text = "connect = \"127.0.0.1:1\"\n[[statement]]\nname = \"own\"\nsql = \"SELECT $1, $2, $3\"\nparameters = [7, { int = [1, 9] }, { one-of = [\"a\"] }]\n\
                    [[phase]]\nname = \"p\"\nseconds = 1\n[[phase.crew]]\nname = \"c\"\nsessions = 2\nmix = { own = 3, point = 1 }\npipeline = 4\n";
        let plan = parse(text, &Here::default()).expect("a scenario");
        let crew = &plan.loads[0].crews[0];
        let own = crew.work.iter().find(|w| w.kind == "own").expect("own");
        assert_eq!(
            own.parameters,
            [
                Parameter::Fixed("7".into()),
                Parameter::Int(1, 9),
                Parameter::OneOf(vec!["a".into()])
            ]
        );
        assert_eq!(
            (own.weight, crew.pipeline, own.protocol),
            (3, 4, Protocol::Prepared)
        );
    }
}
