//! Whether CPU per statement stays the same with many sessions and with many rules.

use super::engines::{Engines, Wanted};
use super::grid::chosen;
use super::kind::Kind;
use super::load::{Work, settled};
use super::record::Page;
use super::run::Run;
use super::table::{Bar, Column, Section};
use super::{Peers, Seed};
use crate::Result;

/// How many; their CPU; its ratio to that of 16, and what the bar of that is called.
const SESSIONS: [(usize, &str, &str, &str); 5] = [
    (16, "us_16", "", ""),
    (64, "us_64", "x_64", "CPU at 64 sessions to that at 16"),
    (256, "us_256", "x_256", "CPU at 256 sessions to that at 16"),
    (1024, "us_1024", "x_1024", "CPU at 1,024 sessions to that at 16"),
    (4096, "us_4096", "x_4096", "CPU at 4,096 sessions to that at 16"),
];
const BY_SESSIONS: &[Column] = &[
    Column::Value("16: CPU µs", "us_16", 2),
    Column::Value("64", "us_64", 2),
    Column::Value("256", "us_256", 2),
    Column::Value("1,024", "us_1024", 2),
    Column::Value("4,096", "us_4096", 2),
    Column::Value("64 / 16", "x_64", 2),
    Column::Value("256 / 16", "x_256", 2),
    Column::Value("1,024 / 16", "x_1024", 2),
    Column::Value("4,096 / 16", "x_4096", 2),
];
const BY_RULES: &[Column] = &[Column::Value("CPU µs", "engine_us", 2), Column::Ratio("× 1 rule", "engine_us", Kind::Rules1)];

pub fn flat(peers: &Peers, page: &mut Page) -> Result<()> {
    let kinds = chosen(peers, &[Kind::Haproxy, Kind::Rules1, Kind::Rules20, Kind::Rules1000]);
    let engines = Engines::start(&Wanted::new(peers, &kinds)?)?;
    let of_sessions: Vec<Kind> = kinds.iter().copied().filter(|kind| matches!(kind, Kind::Haproxy | Kind::Rules20)).collect();
    let mut sessions = Section::new("CPU per statement by sessions, prepared", &of_sessions, &[BY_SESSIONS]);
    sessions.note =
        "Ratios are of runs of one round, cores equally far apart. haproxy: what the kernel's sockets alone make of it.".to_owned();
    for (_, _, value, what) in SESSIONS.into_iter().filter(|(_, _, value, _)| !value.is_empty()) {
        for (at_most, limit) in [(true, 1.1), (false, 0.9)] {
            sessions.bars.push(Bar { what, kind: Kind::Rules20, value, of: None, at_most, limit });
        }
    }
    let of_rules: Vec<Kind> = kinds.iter().copied().filter(|kind| kind.is_headgate()).collect();
    let mut rules = Section::new("CPU per statement by rules, prepared, 64 sessions", &of_rules, &[BY_RULES]);
    for kind in of_rules.iter().filter(|kind| **kind != Kind::Rules1) {
        rules.bars.push(Bar::ratio("CPU", *kind, "engine_us", Kind::Rules1, 1.1));
        rules.bars.push(Bar { at_most: false, ..Bar::ratio("CPU", *kind, "engine_us", Kind::Rules1, 0.9) });
    }
    let mut seed = Seed::new();
    for round in 0..peers.rounds {
        let mut order = of_sessions.clone();
        seed.shuffle(&mut order);
        for kind in order {
            let mut all = Run::of_values([]);
            let mut first: Option<Run> = None;
            for (count, us, times, _) in SESSIONS {
                let Some(run) = settled(&engines, kind, &Work::new("prepared", count, peers.window_ms))? else { continue };
                eprintln!("round {} {count} sessions: {kind} {}", round + 1, run.line());
                let own = run.get("engine_us").unwrap_or(0.0);
                all.set(us, own);
                if let Some(base) = first.as_ref().filter(|base| base.far == run.far).and_then(|base| base.get("engine_us")) {
                    all.set(times, own / base);
                }
                if count == 16 {
                    first = Some(run);
                }
            }
            sessions.add(round, kind, all);
        }
        let mut order = of_rules.clone();
        seed.shuffle(&mut order);
        for kind in order {
            let run = settled(&engines, kind, &Work::new("prepared", 64, peers.window_ms))?;
            eprintln!("round {} {}: {kind} {}", round + 1, rules.title, run.as_ref().map_or("left out".to_owned(), Run::line));
            if let Some(run) = run {
                rules.add(round, kind, run);
            }
        }
    }
    page.add(&sessions.text());
    page.add(&rules.text());
    Ok(())
}
