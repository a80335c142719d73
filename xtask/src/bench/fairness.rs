//! What others do to point reads on the same core: large results, and a reader that does not read.

use super::engines::{Engines, Wanted};
use super::grid::chosen;
use super::kind::Kind;
use super::load::{Work, loadtest, settled};
use super::memory::Memory;
use super::record::Page;
use super::run::Run;
use super::table::{Bar, Column, Section};
use super::{Peers, Seed};
use crate::Result;
use headgate_e2e::during;
use std::process::Stdio;
use std::time::Duration;

const POINT: usize = 16;
const BULK: usize = 4;
const SLOW: usize = 4;
const COLUMNS: &[Column] = &[
    Column::Value("p50 alone µs", "alone_p50_us", 0),
    Column::Value("p99 alone µs", "alone_us", 0),
    Column::Value("p50 beside µs", "beside_p50_us", 0),
    Column::Value("p99 beside µs", "beside_us", 0),
    Column::Value("p99 beside / alone", "times", 2),
    Column::Ratio("of haproxy's", "times", Kind::Haproxy),
    Column::Value("statements/s alone", "alone_per_s", 0),
    Column::Value("beside", "beside_per_s", 0),
    Column::Value("large results MB/s", "bulk_mb_per_s", 0),
];
const SLOW_COLUMNS: &[Column] = &[
    Column::Value("PSS KB a slow reader", "slow_kb", 0),
    Column::Value("p99 alone µs", "alone_us", 0),
    Column::Value("p99 beside µs", "beside_us", 0),
    Column::Value("p99 beside / alone", "times", 2),
    Column::Value("statements/s alone", "alone_per_s", 0),
    Column::Value("beside", "beside_per_s", 0),
];

pub fn fairness(peers: &Peers, page: &mut Page) -> Result<()> {
    let kinds = chosen(
        peers,
        &[
            Kind::Direct,
            Kind::Haproxy,
            Kind::HaproxyAgain,
            Kind::Headgate,
            Kind::HeadgateMask,
        ],
    );
    let engines = Engines::start(&Wanted::new(peers, &kinds)?)?;
    let mut seed = Seed::new();
    for (title, rate) in [
        ("closed loop", None),
        ("open loop, 2,000 statements/s", Some("2000")),
    ] {
        let mut section = Section::new(
            format!("{POINT} sessions of point reads beside {BULK} large results, {title}"),
            &kinds,
            &[COLUMNS],
        );
        section.note =
            "Load and target read and write the large results in the thread of the point reads: *direct* shows what that alone does."
                .to_owned();
        section.bars = times_bars(&kinds, 3.0);
        for round in 0..peers.rounds {
            let mut order = kinds.clone();
            seed.shuffle(&mut order);
            for kind in order {
                let open = |work: Work| {
                    if let Some(rate) = rate {
                        work.with(&["--rate", rate, "--arrivals", "poisson"])
                    } else {
                        work
                    }
                };
                let alone = settled(
                    &engines,
                    kind,
                    &open(Work::new("prepared", POINT, peers.window_ms)),
                )?;
                let mixed = Work::new("mixed", POINT + BULK, peers.window_ms)
                    .with(&["--bulk-sessions", &BULK.to_string()]);
                let beside = settled(&engines, kind, &open(mixed))?;
                if let (Some(alone), Some(beside)) = (alone, beside) {
                    let run = pair(&alone, &beside);
                    eprintln!("round {} {}: {kind} {}", round + 1, section.title, run.line());
                    section.add(round, kind, run);
                }
            }
        }
        page.add(&section.text());
    }
    slow(peers, page, &engines, &kinds, &mut seed)
}

fn times_bars(kinds: &[Kind], limit: f64) -> Vec<Bar> {
    let headgates = kinds.iter().filter(|kind| kind.is_headgate());
    headgates
        .map(|kind| Bar {
            what: "p99 beside / alone",
            kind: *kind,
            value: "times",
            of: None,
            at_most: true,
            limit,
        })
        .collect()
}

fn pair(alone: &Run, beside: &Run) -> Run {
    let of = |run: &Run, name: &str| run.get(name).unwrap_or(0.0);
    Run::of_values([
        ("alone_p50_us", of(alone, "p50_us")),
        ("alone_us", of(alone, "p99_us")),
        ("beside_p50_us", of(beside, "p50_us")),
        ("beside_us", of(beside, "p99_us")),
        ("times", of(beside, "p99_us") / of(alone, "p99_us").max(1.0)),
        ("alone_per_s", of(alone, "per_s")),
        ("beside_per_s", of(beside, "per_s")),
        ("bulk_mb_per_s", of(beside, "bulk_bytes_per_s") / 1024.0 / 1024.0),
    ])
}

/// Clients that ask for a very large result and hardly read it.
fn slow(peers: &Peers, page: &mut Page, engines: &Engines, kinds: &[Kind], seed: &mut Seed) -> Result<()> {
    let mut section = Section::new(
        format!("{POINT} sessions of point reads beside {SLOW} slow readers"),
        kinds,
        &[SLOW_COLUMNS],
    );
    section.note =
        "Each asks for 250 MB and reads 64 KB a second. Memory: of the engine, in the middle of the window, more than before it."
            .to_owned();
    section.bars = times_bars(kinds, 1.5);
    for round in 0..peers.rounds.min(4) {
        let mut order = kinds.to_vec();
        seed.shuffle(&mut order);
        for kind in order {
            let Some(alone) = settled(engines, kind, &Work::new("prepared", POINT, peers.window_ms))? else {
                continue;
            };
            let slow = [
                "--slow-sessions",
                &SLOW.to_string(),
                "--slow-bytes-per-s",
                "65536",
                "--bulk-rows",
                "1000000",
            ];
            let work = Work::new("prepared", POINT, peers.window_ms).with(&slow);
            let before = Memory::of_forwarder(engines, kind)?;
            let mut load = loadtest(engines, kind, &work)?;
            let load = load
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .map_err(during("loadtest"))?;
            std::thread::sleep(work.warm_up + work.window / 2 + Duration::from_millis(50));
            let during_it = Memory::of_forwarder(engines, kind)?;
            let output = load.wait_with_output().map_err(during("loadtest"))?;
            if !output.status.success() {
                return Err(format!("{kind}: {}", String::from_utf8_lossy(&output.stderr)));
            }
            let beside = Run::of_loadtest(
                &serde_json::from_slice(&output.stdout).map_err(during("loadtest's report"))?,
            );
            let mut run = pair(&alone, &beside);
            if kind != Kind::Direct {
                run.set("slow_kb", (during_it.pss - before.pss) / 1024.0 / SLOW as f64);
            }
            eprintln!("round {} {}: {kind} {}", round + 1, section.title, run.line());
            section.add(round, kind, run);
        }
    }
    page.add(&section.text());
    Ok(())
}
