//! Rules tried out: cases in TOML, for `headgate rules test`.
//!
//! ```toml
//! [[case]]
//! name = "agents cannot read salaries"
//! as = "alice"
//! groups = ["agents"]
//! actor = "shop-agent"
//! target = "orders"
//! environment = "production"
//! sql = "select * from hr.salaries"
//! expect = "deny"
//! rule = "nobody reads salaries"
//! ```

use crate::explain::{compiled, explain_facts};
use crate::known::{DAYS, EFFECTS, named};
use crate::problem::{Problem, Problems};
use crate::read::read;
use crate::values::minute_of_day;
use headgate_plane::{Snapshot, TargetAuth, TargetSpec, TargetTls, Who};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use toml::Spanned;

/// Monday 2026-11-23 00:00:00 UTC: the week in which `at` is told.
const MONDAY_UNIX_MS: u64 = 1_795_392_000_000;
const DAY_MS: u64 = 86_400_000;
const MINUTE_MS: u64 = 60_000;
const AT_DEFAULT: &str = "wed 12:00";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileText {
    #[serde(default)]
    case: Vec<CaseText>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseText {
    name: String,
    /// The principal.
    #[serde(rename = "as")]
    principal: String,
    #[serde(default)]
    groups: Vec<String>,
    actor: Option<String>,
    /// Actors further in, after `actor`.
    #[serde(default)]
    chain: Vec<String>,
    #[serde(default)]
    issuer: String,
    #[serde(default)]
    address: String,
    #[serde(default)]
    application: String,
    target: String,
    #[serde(default)]
    environment: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    /// Where names without a schema are taken to be.
    #[serde(default = "public")]
    search_path: String,
    /// `mon 09:30`, UTC.
    at: Option<Spanned<String>>,
    sql: String,
    expect: Spanned<String>,
    rule: Option<String>,
}

fn public() -> String {
    "public".to_owned()
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CaseResult {
    pub name: String,
    pub passed: bool,
    pub expected: String,
    pub got: String,
    /// The rule that decided, if one did.
    pub rule: Option<String>,
    /// Why, in words; for a failed case all that the rules said.
    pub detail: String,
}

/// `Err`: the cases cannot be read, or the snapshot does not compile. A failed case is a result.
pub fn run_cases(snapshot: &Snapshot, cases_toml: &str) -> Result<Vec<CaseResult>, Vec<Problem>> {
    let mut problems = Problems::new(cases_toml);
    let file: FileText = match toml::from_str(cases_toml) {
        Ok(file) => file,
        Err(error) => {
            problems.add_toml(&error);
            return Err(problems.list);
        }
    };
    if file.case.is_empty() {
        problems.add("", 0..0, "there is no [[case]]");
    }
    let times: Vec<u64> = file
        .case
        .iter()
        .map(|case| {
            if let Err(message) = named("verdict", case.expect.as_ref(), EFFECTS) {
                problems.add(&case.name, case.expect.span(), message);
            }
            let at = case.at.as_ref().map_or(AT_DEFAULT, |at| at.as_ref());
            moment(at).unwrap_or_else(|message| {
                problems.add(&case.name, case.at.as_ref().map_or(0..0, Spanned::span), message);
                0
            })
        })
        .collect();
    if !problems.list.is_empty() {
        return Err(problems.into_sorted());
    }
    let compiled = compiled(snapshot)?;
    Ok(file
        .case
        .iter()
        .zip(times)
        .map(|(case, now)| run(&compiled, case, now))
        .collect())
}

fn run(compiled: &headgate_policy::Compiled, case: &CaseText, now_unix_ms: u64) -> CaseResult {
    let who = Who {
        principal: case.principal.clone(),
        groups: case.groups.clone(),
        chain: case.actor.iter().chain(&case.chain).cloned().collect(),
        issuer: case.issuer.clone(),
        address: case.address.clone(),
        application: case.application.clone(),
    };
    let target = TargetSpec {
        name: case.target.clone(),
        protocol: headgate_plane::Protocol::Postgres,
        environment: case.environment.clone(),
        address: String::new(),
        database: case.target.clone(),
        user: String::new(),
        tls: TargetTls::default(),
        ca: None,
        auth: TargetAuth::default(),
        labels: case.labels.clone().into_iter().collect(),
    };
    let explanation = explain_facts(
        compiled,
        &case.sql,
        &read(&case.sql),
        &who,
        &target,
        &case.search_path,
        now_unix_ms,
    );
    let as_expected = explanation.verdict == *case.expect.as_ref();
    let by_rule = case.rule.is_none() || case.rule == explanation.rule;
    let passed = as_expected && by_rule;
    CaseResult {
        name: case.name.clone(),
        passed,
        expected: match &case.rule {
            Some(rule) => format!("{} by \"{rule}\"", case.expect.as_ref()),
            None => case.expect.as_ref().clone(),
        },
        got: explanation.verdict.clone(),
        detail: if passed {
            explanation.why.clone()
        } else {
            explanation.to_string()
        },
        rule: explanation.rule,
    }
}

/// `mon 09:30` in a fixed week.
fn moment(at: &str) -> Result<u64, String> {
    let (day, time) = at
        .split_once(' ')
        .ok_or_else(|| format!("`{at}` is not a day and a time, as in mon 09:30"))?;
    named("day", day, DAYS)?;
    let days = DAYS.iter().position(|(name, _)| *name == day).unwrap_or(0) as u64;
    Ok(MONDAY_UNIX_MS + days * DAY_MS + u64::from(minute_of_day(time)?) * MINUTE_MS)
}
