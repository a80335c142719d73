//! Parts that are the same work for each engine: small statements, TLS, a real database, bulk, flatness.

use super::engines::{Engines, Wanted};
use super::kind::Kind;
use super::load::{BULK_SESSIONS, Work, settled};
use super::record::Page;
use super::run::Run;
use super::table::{Bar, Column, Section};
use super::{Peers, Seed};
use crate::Result;
use std::time::Duration;

const CPU: &[Column] = &[
    Column::Value("CPU µs", "engine_us", 2),
    Column::Ratio("× haproxy", "engine_us", Kind::Haproxy),
    Column::Ratio("× relay", "engine_us", Kind::Relay),
    Column::Ratio("× pgbouncer", "engine_us", Kind::Pgbouncer),
    Column::Value("all µs", "all_us", 2),
    Column::Ratio("all × haproxy", "all_us", Kind::Haproxy),
    Column::Value("recorder µs", "recorder_us", 2),
    Column::Share("user", "user"),
    Column::Value("sleeps", "sleeps", 3),
    Column::Value("instructions", "counted", 0),
];

const LATENCY: &[Column] = &[
    Column::Value("statements/s", "per_s", 0),
    Column::Ratio("× haproxy", "per_s", Kind::Haproxy),
    Column::Ratio("× pgbouncer", "per_s", Kind::Pgbouncer),
    Column::Ratio("× direct", "per_s", Kind::Direct),
    Column::Value("p50 µs", "p50_us", 0),
    Column::Value("p99 µs", "p99_us", 0),
    Column::Value("p99.9 µs", "p999_us", 0),
    Column::Ratio("p99 × haproxy", "p99_us", Kind::Haproxy),
    Column::Ratio("p99 × pgbouncer", "p99_us", Kind::Pgbouncer),
    Column::Ratio("p99 × direct", "p99_us", Kind::Direct),
];

const BULK: &[Column] = &[
    Column::Value("CPU ns/KB", "engine_us", 1),
    Column::Ratio("× haproxy", "engine_us", Kind::Haproxy),
    Column::Ratio("× haproxy-stock", "engine_us", Kind::HaproxyStock),
    Column::Ratio("× relay", "engine_us", Kind::Relay),
    Column::Ratio("× pgbouncer", "engine_us", Kind::Pgbouncer),
    Column::Value("all ns/KB", "all_us", 1),
    Column::Ratio("all × haproxy", "all_us", Kind::Haproxy),
    Column::Share("user", "user"),
    Column::Value("MB/s", "mb_per_s", 0),
];

const BULK_WINDOW_MS: u64 = 1000;

/// A row of works, and who does them.
pub struct Grid {
    pub kinds: Vec<Kind>,
    pub cells: Vec<(Section, Work)>,
    pub real: bool,
    pub scram: bool,
}

impl Grid {
    /// Against the synthetic target, with a token as password.
    pub fn new(kinds: Vec<Kind>, cells: Vec<(Section, Work)>) -> Grid {
        Grid {
            kinds,
            cells,
            real: false,
            scram: false,
        }
    }
}

/// Rounds over the cells, engines in random order in each.
pub fn walk(grid: &mut Grid, peers: &Peers, page: &mut Page) -> Result<()> {
    let wanted = Wanted {
        real: grid.real,
        scram: grid.scram,
        ..Wanted::new(peers, &grid.kinds)?
    };
    let mut engines = Engines::start(&wanted)?;
    let mut seed = Seed::new();
    for round in 0..peers.rounds {
        if round > 0 && round % peers.fresh.max(1) == 0 {
            drop(engines);
            engines = Engines::start(&wanted)?;
        }
        for (section, work) in &mut grid.cells {
            let mut order = grid.kinds.clone();
            seed.shuffle(&mut order);
            for kind in order {
                match settled(&engines, kind, work) {
                    Ok(run) => {
                        eprintln!(
                            "round {} {}: {kind} {}",
                            round + 1,
                            section.title,
                            run.as_ref().map_or("left out".to_owned(), Run::line)
                        );
                        if let Some(run) = run {
                            section.add(round, kind, run);
                        }
                    }
                    // The others are worth their figures all the same.
                    Err(why) => {
                        eprintln!("round {} {}: {kind} failed: {why}", round + 1, section.title);
                        section.failed(kind, &why);
                    }
                }
            }
        }
    }
    for (section, _) in &grid.cells {
        page.add(&section.text());
    }
    let failures: usize = grid.cells.iter().map(|(section, _)| section.failures()).sum();
    let idle: Vec<String> = engines
        .idle(Duration::from_secs(2))?
        .iter()
        .map(|(kind, busy)| format!("{kind} {busy:.1}"))
        .collect();
    page.add(&format!(
        "All engines run the whole time. Idle, in thousandths of a core: {}.\n\n",
        idle.join(", ")
    ));
    if failures == 0 {
        Ok(())
    } else {
        Err(format!("{failures} runs failed"))
    }
}

/// Of these, those that were asked for; the one that ratios are of always. With `--compare`, their twins beside.
pub fn chosen(peers: &Peers, kinds: &[Kind]) -> Vec<Kind> {
    let all: Vec<Kind> = kinds
        .iter()
        .copied()
        .filter(|k| {
            *k == Kind::Haproxy
                || peers.engines.is_empty()
                || peers.engines.iter().any(|name| name == k.name())
        })
        .collect();
    twins(peers, &all)
}

/// And with `--compare`, the twins beside.
pub fn twins(peers: &Peers, kinds: &[Kind]) -> Vec<Kind> {
    let mut all = kinds.to_vec();
    if peers.compare.is_some() {
        all.extend(kinds.iter().filter_map(|kind| kind.twin()));
    }
    all
}

/// Of each Headgate that takes part.
fn bars(kinds: &[Kind], of: impl Fn(Kind) -> Vec<Bar>) -> Vec<Bar> {
    [
        Kind::Headgate,
        Kind::HeadgateMask,
        Kind::HeadgateB,
        Kind::HeadgateMaskB,
        Kind::HeadgateSpin,
    ]
    .into_iter()
    .filter(|kind| kinds.contains(kind))
    .flat_map(of)
    .collect()
}

pub fn small(peers: &Peers, page: &mut Page) -> Result<()> {
    let kinds = chosen(
        peers,
        &[
            Kind::Direct,
            Kind::Relay,
            Kind::Haproxy,
            Kind::HaproxyAgain,
            Kind::Pgbouncer,
            Kind::Headgate,
            Kind::HeadgateMask,
        ],
    );
    let mut cells = Vec::new();
    for mode in peers.modes.iter().filter(|mode| *mode != "bulk") {
        for sessions in &peers.sessions {
            let mut section = Section::new(format!("{mode}, {sessions} sessions"), &kinds, &[CPU, LATENCY]);
            if mode == "prepared" {
                section.bars = bars(&kinds, |kind| {
                    vec![
                        Bar::ratio("CPU of the data plane", kind, "engine_us", Kind::Haproxy, 1.0),
                        Bar::ratio("CPU of the data plane", kind, "engine_us", Kind::Relay, 1.1),
                        Bar::ratio("CPU of all processes", kind, "all_us", Kind::Haproxy, 1.15),
                    ]
                });
            }
            if mode == "prepared" && *sessions == 64 {
                section.bars.extend(bars(&kinds, |kind| {
                    vec![
                        Bar {
                            at_most: false,
                            ..Bar::ratio("statements/s", kind, "per_s", Kind::Haproxy, 0.95)
                        },
                        Bar::ratio("p99", kind, "p99_us", Kind::Haproxy, 2.0),
                    ]
                }));
            }
            cells.push((section, Work::new(mode, *sessions, peers.window_ms)));
        }
    }
    walk(&mut Grid::new(kinds, cells), peers, page)
}

pub fn tls(peers: &Peers, page: &mut Page) -> Result<()> {
    let kinds = chosen(
        peers,
        &[
            Kind::Haproxy,
            Kind::HaproxyAgain,
            Kind::Pgbouncer,
            Kind::Headgate,
            Kind::HeadgateMask,
        ],
    );
    let mut cells = Vec::new();
    for sessions in &peers.sessions {
        let mut section = Section::new(
            format!("prepared over TLS 1.3, {sessions} sessions"),
            &kinds,
            &[CPU, LATENCY],
        );
        section.note =
            "TLS between client and engine, none behind it. HAProxy is reached by direct TLS, the others by SSLRequest; one certificate for all, ECDSA P-256.".to_owned();
        section.bars = bars(&kinds, |kind| {
            vec![Bar::ratio(
                "CPU of the data plane",
                kind,
                "engine_us",
                Kind::Haproxy,
                1.0,
            )]
        });
        cells.push((
            section,
            Work::new("prepared", *sessions, peers.window_ms).over_tls(),
        ));
    }
    walk(&mut Grid::new(kinds, cells), peers, page)
}

pub fn real(peers: &Peers, page: &mut Page) -> Result<()> {
    let kinds = chosen(
        peers,
        &[
            Kind::Direct,
            Kind::Relay,
            Kind::Haproxy,
            Kind::HaproxyAgain,
            Kind::Pgbouncer,
            Kind::Headgate,
            Kind::HeadgateMask,
            Kind::HeadgateSpin,
        ],
    );
    let mut cells = Vec::new();
    for mode in ["simple", "extended", "prepared"] {
        let mut section = Section::new(
            format!("pgbench -S, {mode}, 16 sessions, real PostgreSQL"),
            &kinds,
            &[LATENCY, CPU],
        );
        section.note = "Latencies are of pgbench's own log of each transaction. headgate-spin: headgate-mask with spin_us = 20; its core looks for work before it sleeps, which its CPU shows.".to_owned();
        section.bars = bars(&kinds, |kind| {
            vec![
                Bar {
                    at_most: false,
                    ..Bar::ratio("statements/s", kind, "per_s", Kind::Pgbouncer, 1.0)
                },
                Bar::ratio("p99", kind, "p99_us", Kind::Pgbouncer, 1.0),
            ]
        });
        cells.push((section, Work::new(mode, 16, peers.window_ms).of_database()));
    }
    let mut grid = Grid::new(kinds, cells);
    grid.real = true;
    walk(&mut grid, peers, page)
}

pub fn bulk(peers: &Peers, page: &mut Page) -> Result<()> {
    let kinds = chosen(
        peers,
        &[
            Kind::Relay,
            Kind::Haproxy,
            Kind::HaproxyAgain,
            Kind::HaproxyStock,
            Kind::Pgbouncer,
            Kind::PgbouncerLarge,
            Kind::Headgate,
            Kind::HeadgatePassed,
            Kind::HeadgateMask,
        ],
    );
    let mut section = Section::new(
        format!("bulk: ten text columns, {BULK_SESSIONS} sessions"),
        &kinds,
        &[BULK],
    );
    section.note = "headgate-passed: a mask rule is there and lets this caller pass; headgate-mask: three detectors read every column, and find nothing. pgbouncer-64k: pkt_buf 65536.".to_owned();
    section.bars = [Kind::Headgate, Kind::HeadgatePassed, Kind::HeadgateB]
        .map(|kind| Bar::ratio("CPU, passed", kind, "engine_us", Kind::Haproxy, 1.1))
        .into_iter()
        .chain(
            [Kind::HeadgateMask, Kind::HeadgateMaskB]
                .into_iter()
                .flat_map(|kind| {
                    [
                        Bar::ratio("CPU, all columns scanned", kind, "engine_us", Kind::Haproxy, 2.0),
                        Bar::ratio(
                            "CPU, all columns scanned",
                            kind,
                            "engine_us",
                            Kind::HaproxyStock,
                            1.0,
                        ),
                    ]
                }),
        )
        .collect();
    // A window holds some results of each session, of the slowest engine, too.
    let cells = vec![(
        section,
        Work::new("bulk", BULK_SESSIONS, peers.window_ms.max(BULK_WINDOW_MS)),
    )];
    walk(&mut Grid::new(kinds, cells), peers, page)
}
