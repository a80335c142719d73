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
use super::{Peers, Seed, until};
use crate::Result;
use headgate_e2e::during;
use std::process::Stdio;
use std::time::Duration;

const SESSIONS: usize = 9_500;
const ROUNDS_MAX: usize = 2;
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
    let (sessions, rounds) = if peers.quick {
        (2_000, 1)
    } else {
        (SESSIONS, peers.rounds.min(ROUNDS_MAX))
    };
    let mut seed = Seed::new();
    for (tls, prepared) in [(false, false), (true, false), (false, true)] {
        let kinds = chosen(
            peers,
            &[
                Kind::Direct,
                Kind::Haproxy,
                Kind::Pgbouncer,
                Kind::Headgate,
                Kind::HeadgateMask,
            ],
        );
        let kinds: Vec<Kind> = kinds
            .into_iter()
            .filter(|kind| !tls || *kind != Kind::Direct)
            .collect();
        let how = if tls { "TLS 1.3" } else { "no TLS" };
        let title = format!(
            "{sessions} idle sessions, {how}{}",
            if prepared {
                ", each with a prepared statement"
            } else {
                ""
            }
        );
        let mut section = Section::new(title, &kinds, &[COLUMNS]);
        section.note = "Growth of the engine's memory (PSS) from none to all sessions, by sessions, of an engine fresh for it; *all*: all processes of Headgate. \
                        *kernel*: growth of the machine's slab and socket buffers, with the sockets of load and target."
            .to_owned();
        if !prepared {
            section.note += " PgBouncer has no session at the target until a client asks something.";
        }
        let limit = if tls { 20.0 } else { 5.0 };
        for kind in kinds.iter().filter(|kind| kind.is_headgate()) {
            section.bars.push(Bar {
                what: "PSS KB a session",
                kind: *kind,
                value: "pss_kb",
                of: None,
                at_most: true,
                limit,
            });
        }
        for round in 0..rounds {
            let mut order = kinds.clone();
            seed.shuffle(&mut order);
            for kind in order {
                let run = once(peers, kind, sessions, tls, prepared)?;
                eprintln!("round {} {}: {kind} {}", round + 1, section.title, run.line());
                section.add(round, kind, run);
            }
        }
        page.add(&section.text());
    }
    Ok(())
}

fn once(peers: &Peers, kind: Kind, sessions: usize, tls: bool, prepared: bool) -> Result<Run> {
    let engines = Engines::start(&Wanted::new(peers, &[kind])?)?;
    std::thread::sleep(Duration::from_secs(1));
    let (before, all_before, kernel_before) = (
        Memory::of_forwarder(&engines, kind)?,
        Memory::of_all(&engines, kind),
        kernel(),
    );
    let mut work = if prepared {
        Work::new("prepared", sessions, 6_000).with(&["--rate", "1"])
    } else {
        Work::new("idle", sessions, 4_000)
    };
    work.tls = tls;
    let mut load = loadtest(&engines, kind, &work)?
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(during("loadtest"))?;
    // Those of the load are there once they have said so, or once the engine's port has as many.
    let port = if tls { kind.tls_port() } else { kind.port() };
    let all_there = until("all sessions are there", Duration::from_secs(120), || {
        established(port) >= sessions || load.try_wait().is_ok_and(|ended| ended.is_some())
    });
    // What the logins left to be done is done.
    std::thread::sleep(Duration::from_millis(2_500));
    let there = established(port);
    let (after, all_after, kernel_after) = (
        Memory::of_forwarder(&engines, kind)?,
        Memory::of_all(&engines, kind),
        kernel(),
    );
    let ended = load.wait_with_output().map_err(during("loadtest"))?;
    if !ended.status.success() || all_there.is_err() || there < sessions {
        return Err(format!(
            "{kind}: {there} sessions; {}\n{}",
            String::from_utf8_lossy(&ended.stderr),
            engines.log(kind)
        ));
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

/// Connections that this port of ours has, from `/proc/net/tcp`: local address, remote address, state.
fn established(port: u16) -> usize {
    let wanted = format!(":{port:04X}");
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let is = |line: &&str| {
        let mut words = line.split_whitespace().skip(1);
        words.next().is_some_and(|local| local.ends_with(&wanted)) && words.nth(1) == Some("01")
    };
    table.lines().filter(is).count()
}
