//! Asks loadtest or pgbench for one run of one engine.

use super::counter::Counter;
use super::engines::Engines;
use super::kind::Kind;
use super::run::Run;
use super::{ENGINE_CORE, LOAD_CORE, TARGET_PORT, database, pinned};
use crate::Result;
use headgate_e2e::during;
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Large results are read by so many, whatever `--sessions` says.
pub const BULK_SESSIONS: usize = 8;
/// Tries of a run whose cores moved, or that failed, before it is left out.
const TRIES_MAX: usize = 3;
/// How often, and how long, the recorder is waited for after a run.
const DRAIN_TURNS_MAX: usize = 30;
const DRAIN_TURN: Duration = Duration::from_millis(150);

/// The work of one run.
#[derive(Clone, Debug)]
pub struct Work {
    /// Of loadtest, or of pgbench.
    pub mode: String,
    pub sessions: usize,
    pub tls: bool,
    /// pgbench -S at a real PostgreSQL.
    pub real: bool,
    pub window: Duration,
    pub warm_up: Duration,
    /// More for loadtest.
    pub more: Vec<String>,
    /// Before it is left out.
    pub tries: usize,
}

impl Work {
    pub fn new(mode: &str, sessions: usize, window_ms: u64) -> Work {
        Work {
            mode: mode.to_owned(),
            sessions,
            tls: false,
            real: false,
            window: Duration::from_millis(window_ms),
            warm_up: Duration::from_millis(window_ms.min(300)),
            more: Vec::new(),
            tries: TRIES_MAX,
        }
    }

    pub fn with(mut self, more: &[&str]) -> Work {
        self.more.extend(more.iter().map(|word| (*word).to_owned()));
        self
    }

    pub fn over_tls(mut self) -> Work {
        self.tls = true;
        self
    }

    pub fn of_database(mut self) -> Work {
        self.real = true;
        self
    }

    pub fn is_bulk(&self) -> bool {
        self.mode == "bulk"
    }
}

/// One run whose cores did not move meanwhile; `None` if there was none in so many tries.
pub fn settled(engines: &Engines, kind: Kind, work: &Work) -> Result<Option<Run>> {
    let mut why = String::new();
    for _ in 0..work.tries {
        match once(engines, kind, work) {
            Ok(run) if run.far.is_some() => return Ok(Some(run)),
            Ok(_) => {}
            Err(failed) => {
                why = failed;
                std::thread::sleep(Duration::from_millis(1500));
            }
        }
    }
    if why.is_empty() {
        Ok(None)
    } else {
        Err(format!("{kind}: {why}\n{}", engines.log(kind)))
    }
}

pub fn once(engines: &Engines, kind: Kind, work: &Work) -> Result<Run> {
    let run = if work.real {
        of_pgbench(engines, kind, work)?
    } else {
        of_loadtest(engines, kind, work)?
    };
    if kind.covers() && !work.real && !work.is_bulk() && run.sample.contains("ada.lovelace") {
        return Err(format!("the e-mail address was not masked: {}", run.sample));
    }
    Ok(run)
}

fn beside(engines: &Engines, kind: Kind, subcommand: &str) -> Result<Command> {
    let mut command = pinned(LOAD_CORE, &engines.loadtest());
    command.arg(subcommand);
    command.args([
        "--core",
        &LOAD_CORE.to_string(),
        "--engine-core",
        &ENGINE_CORE.to_string(),
    ]);
    for group in engines.groups(kind)? {
        command.arg("--watch").arg(group);
    }
    Ok(command)
}

/// loadtest at this engine, not started.
pub fn loadtest(engines: &Engines, kind: Kind, work: &Work) -> Result<Command> {
    let mut command = beside(engines, kind, "run")?;
    let port = if work.tls { kind.tls_port() } else { kind.port() };
    command.args(["--connect", &format!("127.0.0.1:{port}")]);
    command.args(["--target", &format!("127.0.0.1:{TARGET_PORT}")]);
    command.args(["--sessions", &work.sessions.to_string(), "--mode", &work.mode]);
    command.args([
        "--window-ms",
        &work.window.as_millis().to_string(),
        "--warm-up-ms",
        &work.warm_up.as_millis().to_string(),
    ]);
    if work.tls {
        // HAProxy cannot answer an SSLRequest, and PgBouncer of Debian 12 knows no other way.
        command
            .args([
                "--tls",
                if kind.is_haproxy() { "direct" } else { "negotiate" },
                "--ca",
            ])
            .arg(&engines.authority.root);
        command.args(["--server-name", "localhost"]);
    }
    command
        .args(&work.more)
        .env("HEADGATE_LOADTEST_PASSWORD", engines.password(kind));
    Ok(command)
}

fn of_loadtest(engines: &Engines, kind: Kind, work: &Work) -> Result<Run> {
    // Its start is a guess, signing in takes its time: the middle of the window is meant.
    let counter = match (&engines.wanted.count, engines.forwarder(kind)?) {
        (Some(event), Some(pid)) => {
            Counter::start(event, pid, work.warm_up + work.window / 4, work.window / 2)
        }
        _ => None,
    };
    let recorder = engines.recorder(kind)?;
    let recorder_before = recorder.map(cpu_us);
    let value = report(&mut loadtest(engines, kind, work)?)?;
    let mut run = Run::of_loadtest(&value);
    if let (Some(pid), Some(before)) = (recorder, recorder_before)
        && work.mode != "logins"
    {
        run.add_backlog((drained(pid) - before) / (work.warm_up + work.window).as_secs_f64());
    }
    if let (Some(per_s), Some(statements)) = (counter.and_then(Counter::per_s), run.get("per_s")) {
        run.set("counted", per_s / statements);
    }
    if work.is_bulk() {
        run.per_kilobyte();
    }
    Ok(run)
}

fn of_pgbench(engines: &Engines, kind: Kind, work: &Work) -> Result<Run> {
    let log = engines.folder.join("pgbench");
    let _ = std::fs::remove_dir_all(&log);
    std::fs::create_dir_all(&log).map_err(during("pgbench's log"))?;
    let mut command = beside(engines, kind, "watch")?;
    let seconds = work.window.as_millis().div_ceil(1000).max(2).to_string();
    command.arg("--").arg(database::pgbench()?);
    command.args([
        "-S",
        "-n",
        "-j",
        "1",
        "-c",
        &work.sessions.to_string(),
        "-T",
        &seconds,
        "-M",
        &work.mode,
        "-l",
    ]);
    command
        .args([
            "-h",
            "127.0.0.1",
            "-p",
            &kind.port().to_string(),
            "-U",
            "bench",
            "bench",
        ])
        .current_dir(&log);
    command
        .env("PGPASSWORD", engines.password(kind))
        .env("PGSSLMODE", "disable")
        .env("PGGSSENCMODE", "disable");
    let value = report(&mut command)?;
    Run::of_pgbench(&value, latencies(&log)?)
}

fn report(command: &mut Command) -> Result<Value> {
    let output = command.output().map_err(during("loadtest"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    serde_json::from_slice(&output.stdout).map_err(during("loadtest's report"))
}

/// Microseconds of each transaction: the third word of each line of pgbench's log.
fn latencies(folder: &Path) -> Result<Vec<u64>> {
    let mut all = Vec::new();
    for file in std::fs::read_dir(folder)
        .map_err(during("pgbench's log"))?
        .flatten()
    {
        let text = std::fs::read_to_string(file.path()).map_err(during("pgbench's log"))?;
        all.extend(
            text.lines()
                .filter_map(|line| line.split(' ').nth(2)?.parse::<u64>().ok()),
        );
    }
    Ok(all)
}

/// CPU of all threads of a process, by the kernel's books.
fn cpu_us(pid: u32) -> f64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    let of = |text: String| text.split_whitespace().next().and_then(|n| n.parse::<f64>().ok());
    tasks
        .filter_map(|task| of(std::fs::read_to_string(task.path().join("schedstat")).ok()?))
        .sum::<f64>()
        / 1e3
}

/// The same, once the process has hardly anything left to do.
fn drained(pid: u32) -> f64 {
    let mut last = cpu_us(pid);
    for _ in 0..DRAIN_TURNS_MAX {
        std::thread::sleep(DRAIN_TURN);
        let now = cpu_us(pid);
        // One part in a hundred of a core is its idle life.
        if now - last < DRAIN_TURN.as_secs_f64() * 1e6 / 100.0 {
            return now;
        }
        last = now;
    }
    last
}
