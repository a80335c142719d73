//! How long a person's yes takes to the target, and a revocation to the session, while point reads keep the core busy.
//!
//! Both are measured from outside, from before the request is written to the API: approve to the answer at the client (with the
//! statement's way to the target and back), revoke to the error or the end at the client.

use super::Peers;
use super::api::Api;
use super::engines::{Engines, Wanted};
use super::grid::twins;
use super::kind::Kind;
use super::load::{Work, loadtest};
use super::record::Page;
use super::run::Run;
use super::session::{self, Session};
use super::setup::ANALYSTS;
use super::table::{Bar, Column, Section};
use crate::Result;
use headgate_e2e::during;
use serde_json::{Value, json};
use std::process::Stdio;
use std::time::{Duration, Instant};

const SESSIONS: usize = 64;
const STATEMENT: &str = "UPDATE customers SET note = 'seen' WHERE id = 4711";
const COLUMNS: &[Column] = &[
    Column::Value("approve to answer: p50 µs", "approve_p50_us", 0),
    Column::Value("p99 µs", "approve_p99_us", 0),
    Column::Value("longest µs", "approve_max_us", 0),
    Column::Value("times", "approve_n", 0),
    Column::Value("revoke to cut: p50 µs", "revoke_p50_us", 0),
    Column::Value("p99 µs", "revoke_p99_us", 0),
    Column::Value("longest µs", "revoke_max_us", 0),
    Column::Value("times", "revoke_n", 0),
    Column::Value("statements/s beside", "per_s", 0),
];

pub fn control(peers: &Peers, page: &mut Page) -> Result<()> {
    let kinds = twins(peers, &[Kind::HeadgateMask]);
    let engines = Engines::start(&Wanted::new(peers, &kinds)?)?;
    let seconds = if peers.quick { 4 } else { 45 };
    for (title, rate) in [
        (
            "beside 64 sessions of point reads, 10,000 statements/s",
            Some("10000"),
        ),
        ("beside 64 sessions of point reads, as many as go", None),
        ("with next to nothing beside", Some("10")),
    ] {
        let mut section = Section::new(format!("A person's word, {title}"), &kinds, &[COLUMNS]);
        section.note = "From the reviewer's request at the API to the answer at the client, through the target; from the operator's revocation of a token to the error or the end at its client. \
                        Control plane, load, target and recorder share one core: where the load takes all of it, the control plane waits for its turn."
            .to_owned();
        for kind in &kinds {
            section.bars.push(limit(
                "approve to forward, p99 µs",
                *kind,
                "approve_p99_us",
                5_000.0,
            ));
            section
                .bars
                .push(limit("revoke to cut, p99 µs", *kind, "revoke_p99_us", 10_000.0));
            let mut work = Work::new("prepared", SESSIONS, seconds * 1000);
            if let Some(rate) = rate {
                work = work.with(&["--rate", rate, "--arrivals", "poisson"]);
            }
            let run = under_load(&engines, *kind, &work, Duration::from_secs(seconds))?;
            eprintln!("{}: {kind} {}", section.title, run.line());
            section.add(0, *kind, run);
        }
        page.add(&section.text());
    }
    Ok(())
}

fn limit(what: &'static str, kind: Kind, value: &'static str, limit: f64) -> Bar {
    Bar {
        what,
        kind,
        value,
        of: None,
        at_most: true,
        limit,
    }
}

fn under_load(engines: &Engines, kind: Kind, work: &Work, window: Duration) -> Result<Run> {
    let reviewer = engines.reviewer(kind)?;
    let mut load = loadtest(engines, kind, work)?;
    let load = load
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(during("loadtest"))?;
    std::thread::sleep(work.warm_up + Duration::from_millis(700));
    let until = Instant::now() + window.saturating_sub(Duration::from_millis(1200));
    let measured = times(engines, kind, reviewer, until);
    let output = load.wait_with_output().map_err(during("loadtest"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let beside =
        Run::of_loadtest(&serde_json::from_slice(&output.stdout).map_err(during("loadtest's report"))?);
    let (approve, revoke) = measured?;
    let mut run = Run::of_values([("per_s", beside.get("per_s").unwrap_or(0.0))]);
    for (mut all, [p50, p99, max, n]) in [
        (
            approve,
            ["approve_p50_us", "approve_p99_us", "approve_max_us", "approve_n"],
        ),
        (
            revoke,
            ["revoke_p50_us", "revoke_p99_us", "revoke_max_us", "revoke_n"],
        ),
    ] {
        all.sort_unstable();
        let at =
            |thousandth: usize| all.get((all.len() * thousandth / 1000).min(all.len().saturating_sub(1)));
        for (name, value) in [(p50, at(500)), (p99, at(990)), (max, all.last())] {
            run.set(name, value.map_or(0.0, |d| d.as_secs_f64() * 1e6));
        }
        run.set(n, all.len() as f64);
    }
    Ok(run)
}

fn times(
    engines: &Engines,
    kind: Kind,
    reviewer: String,
    until: Instant,
) -> Result<(Vec<Duration>, Vec<Duration>)> {
    let (mut reviewer, mut operator) = (
        Api::connect(engines, kind, Some(reviewer))?,
        Api::connect(engines, kind, None)?,
    );
    let mut asker = session::open(engines, kind)?;
    let (mut approve, mut revoke) = (Vec::new(), Vec::new());
    while Instant::now() < until {
        approve.push(approved(&mut reviewer, &mut asker)?);
        revoke.push(revoked(&mut operator, kind)?);
    }
    Ok((approve, revoke))
}

fn approved(reviewer: &mut Api, asker: &mut Session) -> Result<Duration> {
    asker.query(STATEMENT)?;
    let waits_until = Instant::now() + Duration::from_secs(10);
    let number = loop {
        let list = reviewer.call("GET", "/api/v1/questions", None)?;
        let open = list
            .pointer("/questions")
            .and_then(Value::as_array)
            .and_then(|all| all.last())
            .and_then(|q| q.get("number"));
        if let Some(number) = open {
            break number.as_str().map_or_else(|| number.to_string(), str::to_owned);
        }
        if Instant::now() > waits_until {
            return Err(format!("the statement is not held: {list}"));
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let started = Instant::now();
    reviewer.send(
        "POST",
        &format!("/api/v1/questions/{number}/answer"),
        Some(&json!({ "approve": true, "reason": "bench" })),
    )?;
    asker.answered()?;
    let took = started.elapsed();
    reviewer.answer()?;
    Ok(took)
}

fn revoked(operator: &mut Api, kind: Kind) -> Result<Duration> {
    let (token, id) = operator.mint("alice", &[ANALYSTS])?;
    let mut session = Session::open(kind, &token)?;
    let started = Instant::now();
    operator.send(
        "POST",
        "/api/v1/revocations",
        Some(&json!({ "token": id, "reason": "bench" })),
    )?;
    session.cut()?;
    let took = started.elapsed();
    operator.answer()?;
    Ok(took)
}
