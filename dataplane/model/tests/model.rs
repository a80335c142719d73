//! The short form of `cargo xtask model`: random conversations against the simulated server and a real one.

use headgate_model::real::{self, Postgres};
use headgate_model::search::{self, Found};
use headgate_model::{Lab, Profile, generate};
use std::path::PathBuf;

/// The newest that Debian's packages have put here.
fn installed() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL is installed");
    let number = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.ok()?;
        Some((
            entry.file_name().to_str()?.parse::<u32>().ok()?,
            entry.path().join("bin"),
        ))
    };
    let bins = versions
        .filter_map(number)
        .filter(|(_, bin)| bin.join("initdb").is_file());
    bins.max().expect("PostgreSQL is installed").1
}

/// Fails with the smallest case of each kind of violation.
fn holds(found: &Found, lab: &mut Lab) {
    let mut told = String::new();
    for (kind, (count, _, case, violation)) in &found.violations {
        if search::is_noted(kind) {
            continue;
        }
        let (small, again) = search::shrink(lab, case, kind);
        told += &format!(
            "{count} × {}",
            search::told(
                &small,
                if again.detail.is_empty() {
                    violation
                } else {
                    &again
                }
            )
        );
    }
    assert!(
        told.is_empty(),
        "{} of {} cases:\n{told}",
        found.violations.values().map(|v| v.0).sum::<u64>(),
        found.cases
    );
}

#[test]
fn what_the_gate_believes_is_what_a_simulated_server_does() {
    let mut lab = Lab::new();
    let found = search::search(&mut lab, 1, 20_000, Profile::SIMULATED);
    holds(&found, &mut lab);
    // The search is no use where it does nothing.
    assert!(
        found.executed > 20_000 && found.held > 500 && found.compared > 10_000,
        "{found:?}"
    );
}

#[test]
fn what_the_gate_believes_is_what_a_real_server_does() {
    let mut postgres = Postgres::start(&installed()).expect("a server");
    let mut lab = Lab::new();
    let mut committed = Vec::new();
    let found = search::search_real(&mut lab, 1, 300, &mut postgres, &mut committed);
    holds(&found, &mut lab);
    committed.sort_unstable();
    assert_eq!(
        postgres.committed().expect("rows"),
        committed,
        "what was committed"
    );
    assert!(found.executed > 300 && found.compared > 100, "{found:?}");
}

#[test]
fn the_simulated_server_is_like_a_real_one() {
    let mut postgres = Postgres::start(&installed()).expect("a server");
    let mut committed = Vec::new();
    for seed in 1_000..1_300 {
        let case = generate::case(seed, Profile::REAL);
        if let Err(why) = real::compare(&mut postgres, &case, &mut committed) {
            panic!("seed {seed}: {why}\n{:?}", case.steps);
        }
    }
    committed.sort_unstable();
    assert_eq!(
        postgres.committed().expect("rows"),
        committed,
        "what was committed"
    );
}

/// The canary: a gate that lets everything through is found out.
#[test]
fn a_gate_that_allows_everything_is_found_out() {
    let mut lab = Lab::danger_allow_all();
    let found = search::search(&mut lab, 1, 500, Profile::SIMULATED);
    for kind in [
        "executed: it was denied",
        "executed: it was held, and nobody approved it",
    ] {
        assert!(
            found.violations.contains_key(kind),
            "{kind} is not among {:?}",
            found.violations.keys()
        );
    }
}
