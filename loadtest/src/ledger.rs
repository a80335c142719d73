//! What was counted: by kind of statement, by second, and what went wrong.
//!
//! Bounds: one histogram a kind for the running second and one for the whole; at most [`ERRORS_MAX`] different errors and
//! [`SECONDS_MAX`] seconds are told apart.

use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::time::Instant;

const ERRORS_MAX: usize = 100;
const SECONDS_MAX: usize = 24 * 3_600;
const LATENCY_NS_MAX: u64 = 600_000_000_000;

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(100, LATENCY_NS_MAX, 3).expect("constant bounds that the library takes")
}

/// A second of one kind.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Second {
    /// Seconds since the window began, at its end.
    pub at: f64,
    pub seconds: f64,
    pub answered: u64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub max_us: f64,
}

pub struct Kind {
    pub name: String,
    pub crew: usize,
    /// Counts for the head of the report.
    pub headline: bool,
    pub rows: u64,
    pub errors: u64,
    running: Histogram<u64>,
    pub whole: Histogram<u64>,
    pub seconds: Vec<Second>,
}

pub struct Ledger {
    pub kinds: Vec<Kind>,
    /// By crew.
    pub bytes_down: Vec<u64>,
    pub errors: BTreeMap<String, u64>,
    /// Sessions that were refused or cut.
    pub sessions_lost: u64,
    /// The clock, read once for all answers of one read.
    pub now: Option<Instant>,
    /// A session of the first crew keeps its next row.
    pub wants_sample: bool,
    pub sample: Vec<u8>,
    /// The session that was read has just signed in.
    pub became_ready: bool,
    /// Held statements that were answered, by their numbers.
    pub held_answered: Vec<(u64, Instant)>,
    /// Sessions that were there to be ended and were, by their numbers.
    pub cuts: Vec<(u64, Instant)>,
    /// Parameters that count up.
    pub sequence: u64,
}

impl Ledger {
    pub fn new(crews: usize) -> Ledger {
        Ledger {
            kinds: Vec::new(),
            bytes_down: vec![0; crews],
            errors: BTreeMap::new(),
            sessions_lost: 0,
            now: None,
            wants_sample: false,
            sample: Vec::new(),
            became_ready: false,
            held_answered: Vec::new(),
            cuts: Vec::new(),
            sequence: 0,
        }
    }

    /// A kind's place.
    pub fn open(&mut self, name: &str, crew: usize, headline: bool) -> usize {
        let kind = Kind {
            name: name.to_owned(),
            crew,
            headline,
            rows: 0,
            errors: 0,
            running: histogram(),
            whole: histogram(),
            seconds: Vec::new(),
        };
        self.kinds.push(kind);
        self.kinds.len() - 1
    }

    pub fn clock(&mut self) -> Instant {
        *self.now.get_or_insert_with(Instant::now)
    }

    pub fn answered(&mut self, kind: usize, since: Instant, rows: u64) {
        let ns = self.clock().saturating_duration_since(since).as_nanos();
        if let Some(kind) = self.kinds.get_mut(kind) {
            kind.rows += rows;
            kind.running
                .saturating_record(u64::try_from(ns).unwrap_or(u64::MAX));
        }
    }

    pub fn failed(&mut self, kind: Option<usize>, what: String) {
        if let Some(kind) = kind.and_then(|k| self.kinds.get_mut(k)) {
            kind.errors += 1;
        }
        let what = if self.errors.len() < ERRORS_MAX || self.errors.contains_key(&what) {
            what
        } else {
            "other errors".to_owned()
        };
        *self.errors.entry(what).or_default() += 1;
    }

    /// The running second is over.
    pub fn second(&mut self, at: f64, seconds: f64) {
        for kind in &mut self.kinds {
            let us = |ns: u64| ns as f64 / 1_000.0;
            let (p50, p99) = (
                kind.running.value_at_quantile(0.5),
                kind.running.value_at_quantile(0.99),
            );
            let max_us = us(if kind.running.is_empty() {
                0
            } else {
                kind.running.max()
            });
            if kind.seconds.len() < SECONDS_MAX {
                kind.seconds.push(Second {
                    at,
                    seconds,
                    answered: kind.running.len(),
                    p50_us: us(p50),
                    p99_us: us(p99),
                    max_us,
                });
            }
            // Both were made with the same bounds.
            let _ = kind.whole.add(&kind.running);
            kind.running.reset();
        }
    }

    /// Forgets what was counted while it warmed up.
    pub fn restart(&mut self) {
        for kind in &mut self.kinds {
            (kind.rows, kind.errors) = (0, 0);
            kind.running.reset();
            kind.whole.reset();
            kind.seconds.clear();
        }
        self.bytes_down.fill(0);
        self.errors.clear();
        self.held_answered.clear();
        self.cuts.clear();
        self.sessions_lost = 0;
    }

    /// Answers of a crew in the seconds that are over.
    pub fn answers_of(&self, crew: usize) -> u64 {
        self.kinds
            .iter()
            .filter(|k| k.crew == crew)
            .map(|k| k.whole.len())
            .sum()
    }

    /// All kinds that count for the head of the report: how many, rows, latencies.
    pub fn headline(&self) -> (u64, u64, Histogram<u64>) {
        let mut all = histogram();
        let mut rows = 0;
        for kind in self.kinds.iter().filter(|k| k.headline) {
            rows += kind.rows;
            let _ = all.add(&kind.whole);
        }
        (all.len(), rows, all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_goes_into_the_whole_and_a_restart_forgets_it() {
        let mut ledger = Ledger::new(1);
        let kind = ledger.open("point", 0, true);
        let since = Instant::now();
        for _ in 0..10 {
            ledger.answered(kind, since, 2);
        }
        assert_eq!(ledger.headline().0, 0, "the second is not over");
        ledger.second(1.0, 1.0);
        let (count, rows, _) = ledger.headline();
        assert_eq!((count, rows, ledger.kinds[0].seconds[0].answered), (10, 20, 10));
        ledger.restart();
        assert_eq!(ledger.headline().0, 0);
    }

    #[test]
    fn endless_different_errors_do_not_fill_the_memory() {
        let mut ledger = Ledger::new(1);
        for n in 0..1_000 {
            ledger.failed(None, format!("error {n}"));
        }
        assert_eq!(ledger.errors.len(), ERRORS_MAX + 1);
        assert_eq!(ledger.errors.values().sum::<u64>(), 1_000);
    }
}
