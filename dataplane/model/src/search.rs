//! Many cases, and the smallest of each kind of violation.

use crate::generate::{self, Case, Profile, Step};
use crate::lab::Lab;
use crate::real::{self, Postgres};
use crate::run::{Ran, Violation, run, run_real};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a search came to.
#[derive(Debug, Default)]
pub struct Found {
    pub cases: u64,
    pub messages: u64,
    pub executed: u64,
    pub held: u64,
    pub compared: u64,
    /// Why sessions were ended, by the record.
    pub ended: BTreeMap<String, u64>,
    /// By kind: how many, and the first.
    pub violations: BTreeMap<&'static str, (u64, u64, Case, Violation)>,
    /// Of all that are a failure: the seed, the kind and what was seen.
    pub each: Vec<(u64, &'static str, String)>,
}

/// Of these no more is kept than so many.
const EACH_MAX: usize = 10_000;

/// Kinds that are told and are no failure: what a mask costs beside its values is the masks' own matter.
pub fn is_noted(kind: &str) -> bool {
    kind == "masked: more than the covered values"
}

/// One case; a panic is a violation, and costs the core.
pub fn try_case(lab: &mut Lab, case: &Case) -> Result<Ran, Violation> {
    caught(lab, |lab| run(lab, case))
}

fn caught(lab: &mut Lab, run: impl FnOnce(&mut Lab) -> Result<Ran, Violation>) -> Result<Ran, Violation> {
    match catch_unwind(AssertUnwindSafe(|| run(lab))) {
        Ok(result) => result,
        Err(panic) => {
            *lab = Lab::new();
            let text = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()))
                .unwrap_or_default();
            Err(Violation {
                kind: "panic",
                detail: text,
            })
        }
    }
}

/// Runs `count` cases from seed `from` on. `each` sees every result.
pub fn search(lab: &mut Lab, from: u64, count: u64, profile: Profile) -> Found {
    let mut found = Found::default();
    for seed in from..from + count {
        let case = generate::case(seed, profile);
        let result = try_case(lab, &case);
        found.add(case, result);
    }
    found
}

/// The same behind a gate at a real server.
pub fn search_real(
    lab: &mut Lab,
    from: u64,
    count: u64,
    postgres: &mut Postgres,
    committed: &mut Vec<i64>,
) -> Found {
    let mut found = Found::default();
    for seed in from..from + count {
        let case = generate::case(seed, Profile::REAL);
        let result = caught(lab, |lab| run_real(lab, &case, postgres, committed));
        found.add(case, result);
    }
    found
}

impl Found {
    fn add(&mut self, case: Case, result: Result<Ran, Violation>) {
        self.cases += 1;
        match result {
            Ok(ran) => {
                self.messages += ran.messages as u64;
                self.executed += ran.executed as u64;
                self.held += ran.held as u64;
                self.compared += u64::from(ran.compared);
                if let Some(reason) = ran.ended {
                    *self.ended.entry(reason).or_default() += 1;
                }
            }
            Err(violation) => {
                let nth = self.cases;
                if !is_noted(violation.kind) && self.each.len() < EACH_MAX {
                    self.each
                        .push((case.seed, violation.kind, violation.detail.clone()));
                }
                let entry = self
                    .violations
                    .entry(violation.kind)
                    .or_insert_with(|| (0, nth, case, violation));
                entry.0 += 1;
            }
        }
    }
}

/// Leaves out steps as long as the same kind of violation stays.
pub fn shrink(lab: &mut Lab, case: &Case, kind: &str) -> (Case, Violation) {
    let mut best = case.clone();
    let mut last = Violation {
        kind: "model: it does not happen again",
        detail: String::new(),
    };
    let mut still = |case: &Case, last: &mut Violation| match try_case(lab, case) {
        Err(violation) if violation.kind == kind => {
            *last = violation;
            true
        }
        _ => false,
    };
    if !still(&best, &mut last) {
        return (best, last);
    }
    let mut size = best.steps.len().div_ceil(2);
    while size > 0 {
        let mut at = 0;
        while at < best.steps.len() {
            let mut fewer = best.clone();
            fewer.steps.drain(at..(at + size).min(best.steps.len()));
            // The order in which things move hangs on the seed: some are tried.
            let mut held = still(&fewer, &mut last);
            for n in 0..8 {
                if held {
                    break;
                }
                fewer.seed = best.seed.wrapping_add(n * 7919);
                held = still(&fewer, &mut last);
            }
            if held {
                best = fewer;
            } else {
                at += size;
            }
        }
        size /= 2;
    }
    (best, last)
}

/// The same for a difference between the simulated and a real server.
pub fn shrink_difference(postgres: &mut Postgres, case: &Case) -> (Case, String) {
    let mut best = case.clone();
    let mut last = String::new();
    let mut at = 0;
    while at < best.steps.len() {
        let mut fewer = best.clone();
        fewer.steps.remove(at);
        match real::compare(postgres, &fewer, &mut Vec::new()) {
            Err(why) => (best, last) = (fewer, why),
            Ok(_) => at += 1,
        }
    }
    (best, last)
}

/// A case as it is written down.
pub fn told(case: &Case, violation: &Violation) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "  {}\n    rules {} {}{}, seed {}",
        violation.kind,
        case.rules,
        if case.masked { "masked" } else { "clear" },
        if case.newest {
            ", version 18"
        } else {
            ", version 15"
        },
        case.seed
    );
    for step in &case.steps {
        let _ = match step {
            Step::Send(message) => writeln!(out, "      {message:?}"),
            other => writeln!(out, "      {other:?}"),
        };
    }
    let _ = writeln!(out, "    {}", violation.detail);
    out
}
