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

struct Step {
    sessions: usize,
    /// Names of its CPU, of that to the CPU of 16 sessions, and of that to HAProxy's.
    us: &'static str,
    times: &'static str,
    to_haproxy: &'static str,
    bar: &'static str,
}

const STEPS: [Step; 5] = [
    Step {
        sessions: 16,
        us: "us_16",
        times: "",
        to_haproxy: "h_16",
        bar: "",
    },
    Step {
        sessions: 64,
        us: "us_64",
        times: "x_64",
        to_haproxy: "h_64",
        bar: "CPU at 64 sessions to that at 16",
    },
    Step {
        sessions: 256,
        us: "us_256",
        times: "x_256",
        to_haproxy: "h_256",
        bar: "CPU at 256 sessions to that at 16",
    },
    Step {
        sessions: 1024,
        us: "us_1024",
        times: "x_1024",
        to_haproxy: "h_1024",
        bar: "CPU at 1,024 sessions to that at 16",
    },
    Step {
        sessions: 4096,
        us: "us_4096",
        times: "x_4096",
        to_haproxy: "h_4096",
        bar: "CPU at 4,096 sessions to that at 16",
    },
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
const TO_HAPROXY: &[Column] = &[
    Column::Value("16: × haproxy", "h_16", 2),
    Column::Value("64", "h_64", 2),
    Column::Value("256", "h_256", 2),
    Column::Value("1,024", "h_1024", 2),
    Column::Value("4,096", "h_4096", 2),
];
const BY_RULES: &[Column] = &[
    Column::Value("CPU µs", "engine_us", 2),
    Column::Ratio("× 1 rule", "engine_us", Kind::Rules1),
];

pub fn flat(peers: &Peers, page: &mut Page) -> Result<()> {
    let kinds = chosen(
        peers,
        &[Kind::Haproxy, Kind::Rules1, Kind::Rules20, Kind::Rules1000],
    );
    let engines = Engines::start(&Wanted::new(peers, &kinds)?)?;
    let of_sessions: Vec<Kind> = kinds
        .iter()
        .copied()
        .filter(|kind| matches!(kind, Kind::Haproxy | Kind::Rules20))
        .collect();
    let mut sessions = Section::new(
        "CPU per statement by sessions, prepared",
        &of_sessions,
        &[BY_SESSIONS, TO_HAPROXY],
    );
    sessions.note =
        "Ratios are of runs of one round, cores equally far apart. haproxy: what the kernel's sockets alone make of it.".to_owned();
    for step in STEPS.iter().filter(|step| !step.bar.is_empty()) {
        for (at_most, limit) in [(true, 1.1), (false, 0.9)] {
            sessions.bars.push(Bar {
                what: step.bar,
                kind: Kind::Rules20,
                value: step.times,
                of: None,
                at_most,
                limit,
            });
        }
    }
    let of_rules: Vec<Kind> = kinds.iter().copied().filter(|kind| kind.is_headgate()).collect();
    let mut rules = Section::new(
        "CPU per statement by rules, prepared, 64 sessions",
        &of_rules,
        &[BY_RULES],
    );
    for kind in of_rules.iter().filter(|kind| **kind != Kind::Rules1) {
        rules
            .bars
            .push(Bar::ratio("CPU", *kind, "engine_us", Kind::Rules1, 1.1));
        rules.bars.push(Bar {
            at_most: false,
            ..Bar::ratio("CPU", *kind, "engine_us", Kind::Rules1, 0.9)
        });
    }
    let mut seed = Seed::new();
    for round in 0..peers.rounds {
        let mut done: Vec<(Kind, usize, Run)> = Vec::new();
        for step in &STEPS {
            let mut order = of_sessions.clone();
            seed.shuffle(&mut order);
            for kind in order {
                let run = settled(
                    &engines,
                    kind,
                    &Work::new("prepared", step.sessions, peers.window_ms),
                )?;
                let line = run.as_ref().map_or("left out".to_owned(), Run::line);
                eprintln!("round {} {} sessions: {kind} {line}", round + 1, step.sessions);
                done.extend(run.map(|run| (kind, step.sessions, run)));
            }
        }
        for kind in &of_sessions {
            sessions.add(round, *kind, by_sessions(*kind, &done));
        }
        let mut order = of_rules.clone();
        seed.shuffle(&mut order);
        for kind in order {
            let run = settled(&engines, kind, &Work::new("prepared", 64, peers.window_ms))?;
            eprintln!(
                "round {} {}: {kind} {}",
                round + 1,
                rules.title,
                run.as_ref().map_or("left out".to_owned(), Run::line)
            );
            if let Some(run) = run {
                rules.add(round, kind, run);
            }
        }
    }
    page.add(&sessions.text());
    page.add(&rules.text());
    Ok(())
}

/// One round's runs as one, with ratios of those whose cores were equally far apart.
fn by_sessions(kind: Kind, done: &[(Kind, usize, Run)]) -> Run {
    let find = |kind: Kind, sessions: usize| {
        done.iter()
            .find(|(k, n, _)| *k == kind && *n == sessions)
            .map(|(_, _, run)| run)
    };
    let us = |run: &Run| run.get("engine_us").filter(|us| *us > 0.0);
    let mut all = Run::of_values([]);
    for step in &STEPS {
        let Some((own, own_us)) = find(kind, step.sessions).and_then(|run| Some((run, us(run)?))) else {
            continue;
        };
        all.set(step.us, own_us);
        for (name, base) in [
            (step.times, find(kind, 16)),
            (step.to_haproxy, find(Kind::Haproxy, step.sessions)),
        ] {
            if let Some(base) = base.filter(|base| base.far == own.far).and_then(us)
                && !name.is_empty()
                && !(kind == Kind::Haproxy && name == step.to_haproxy)
            {
                all.set(name, own_us / base);
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_by_sessions_are_of_cores_equally_far() {
        let run = |us: f64, far: bool| {
            let mut run = Run::of_values([("engine_us", us)]);
            run.far = Some(far);
            run
        };
        let done = [
            (Kind::Haproxy, 16, run(10.0, false)),
            (Kind::Rules20, 16, run(9.0, false)),
            (Kind::Haproxy, 64, run(12.0, true)),
            (Kind::Rules20, 64, run(9.9, false)),
        ];
        let all = by_sessions(Kind::Rules20, &done);
        assert_eq!((all.get("h_16"), all.get("h_64")), (Some(0.9), None));
        assert!((all.get("x_64").expect("both near") - 1.1).abs() < 1e-9);
        assert_eq!(by_sessions(Kind::Haproxy, &done).get("h_16"), None);
    }
}
