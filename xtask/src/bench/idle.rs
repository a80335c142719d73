//! Memory of sessions that are signed in and do nothing. Each figure is of engines that were started for it: memory that a
//! process had once may stay with it.

use super::engines::{Engines, Wanted};
use super::grid::chosen;
use super::kind::Kind;
use super::load::{Work, loadtest};
use super::memory::{Memory, kernel};
use super::record::Page;
use super::run::Run;
use super::table::{Bar, Column, Section};
use super::{Peers, Seed};
use crate::Result;
use headgate_e2e::during;
use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;
use std::time::Duration;

const SESSIONS: usize = 9_500;
const ROUNDS_MAX: usize = 3;
const COLUMNS: &[Column] = &[
    Column::Value("PSS KB a session", "pss_kb", 2),
    Column::Value("of it shared", "shared_kb", 2),
    Column::Ratio("× haproxy", "pss_kb", Kind::Haproxy),
    Column::Value("all KB", "all_kb", 2),
    Column::Value("kernel KB, both ends", "kernel_kb", 2),
    Column::Value("before MB", "before_mb", 1),
    Column::Value("all before MB", "all_before_mb", 1),
];

pub fn idle(peers: &Peers, page: &mut Page) -> Result<()> {
    let (sessions, rounds) = if peers.quick { (2_000, 1) } else { (SESSIONS, peers.rounds.min(ROUNDS_MAX)) };
    let mut seed = Seed::new();
    for tls in [false, true] {
        let kinds = chosen(peers, &[Kind::Direct, Kind::Haproxy, Kind::Pgbouncer, Kind::Headgate, Kind::HeadgateMask]);
        let kinds: Vec<Kind> = kinds.into_iter().filter(|kind| !tls || *kind != Kind::Direct).collect();
        let mut section = Section::new(format!("{sessions} idle sessions, {}", if tls { "TLS 1.3" } else { "no TLS" }), &kinds, &[COLUMNS]);
        section.note = "Growth of the engine's memory (PSS) from none to all sessions, by sessions, of an engine fresh for it; *all*: all processes of Headgate. \
                        *kernel*: growth of the machine's slab and socket buffers, with the sockets of load and target. PgBouncer has no session at the target yet."
            .to_owned();
        let limit = if tls { 20.0 } else { 5.0 };
        for kind in kinds.iter().filter(|kind| kind.is_headgate()) {
            section.bars.push(Bar { what: "PSS KB a session", kind: *kind, value: "pss_kb", of: None, at_most: true, limit });
        }
        for round in 0..rounds {
            let mut order = kinds.clone();
            seed.shuffle(&mut order);
            for kind in order {
                let run = once(peers, kind, sessions, tls)?;
                eprintln!("round {} {}: {kind} {}", round + 1, section.title, run.line());
                section.add(round, kind, run);
            }
        }
        page.add(&section.text());
    }
    Ok(())
}

fn once(peers: &Peers, kind: Kind, sessions: usize, tls: bool) -> Result<Run> {
    let engines = Engines::start(&Wanted::new(peers, &[kind])?)?;
    std::thread::sleep(Duration::from_secs(1));
    let (before, all_before, kernel_before) = (Memory::of_forwarder(&engines, kind)?, Memory::of_all(&engines, kind), kernel());
    let mut work = Work::new("idle", sessions, 4_000);
    work.tls = tls;
    let mut child = loadtest(&engines, kind, &work)?.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(during("loadtest"))?;
    let mut lines = BufReader::new(child.stdout.take().ok_or("loadtest has no output")?);
    let mut line = String::new();
    lines.read_line(&mut line).map_err(during("loadtest"))?;
    let ready = serde_json::from_str::<serde_json::Value>(&line).ok().and_then(|v| v.get("ready")?.as_u64());
    // What the logins left to be done is done.
    std::thread::sleep(Duration::from_millis(2_500));
    let (after, all_after, kernel_after) = (Memory::of_forwarder(&engines, kind)?, Memory::of_all(&engines, kind), kernel());
    let mut rest = String::new();
    lines.read_to_string(&mut rest).map_err(during("loadtest"))?;
    let ended = child.wait_with_output().map_err(during("loadtest"))?;
    if !ended.status.success() || ready != Some(sessions as u64) {
        return Err(format!("{kind}: {line}{}\n{}", String::from_utf8_lossy(&ended.stderr), engines.log(kind)));
    }
    let each = |after: f64, before: f64| (after - before) / 1024.0 / sessions as f64;
    let mut run = Run::of_values([("kernel_kb", each(kernel_after, kernel_before))]);
    if kind != Kind::Direct {
        run.set("pss_kb", each(after.pss, before.pss));
        run.set("shared_kb", each(after.shared, before.shared));
        run.set("all_kb", each(all_after.pss, all_before.pss));
        run.set("before_mb", before.pss / 1024.0 / 1024.0);
        run.set("all_before_mb", all_before.pss / 1024.0 / 1024.0);
    }
    Ok(run)
}
