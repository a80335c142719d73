//! What a run found, as JSON. Times are microseconds.
//!
//! The figures at the top are those of the headline: all statements, or the point reads where a load has something beside them, or the
//! logins. Each kind of statement has its own under `kinds`.

use crate::cpu::Used;
use crate::ledger::{Kind, Ledger, Second};
use crate::plan::Load;
use crate::reviewer::Notes;
use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The quantiles of the curve in a page.
const CURVE: [f64; 16] = [
    0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975, 0.99, 0.995, 0.999, 0.9995, 0.9999, 0.99995, 0.99999, 1.0,
];

#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub mode: String,
    pub sessions: usize,
    /// Signed in at the end of the window.
    pub sessions_ready: usize,
    pub seconds: f64,
    pub statements: u64,
    pub rows: u64,
    pub statements_per_s: f64,
    /// Of a statement of the first crew, on the client's wire.
    pub bytes_up: f64,
    pub bytes_down: f64,
    #[serde(flatten)]
    pub latency: Latency,
    pub kinds: BTreeMap<String, KindReport>,
    /// What was said, and how often.
    pub errors: BTreeMap<String, u64>,
    pub sessions_lost: u64,
    /// Somebody pressed Ctrl-C; the figures are of what was measured until then.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub interrupted: bool,
    /// Of open loops.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overload: Option<Overload>,
    /// From sending a reviewer's yes to the statement's arrival at the synthetic target in this process; where there is none, to the
    /// end of its answer at the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approve_to_forward: Option<Spans>,
    /// From sending the end of a session to the moment at which its client sees it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoke_to_cut: Option<Spans>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub reviewer_failures: BTreeMap<String, u64>,
    /// By group.
    pub cpu: BTreeMap<String, Cpu>,
    /// Round trip of a cache line between load and engine, before and after; `None`: not asked, or no answer in time.
    pub distance_ns: [Option<u64>; 2],
    /// The last row, without control characters.
    pub sample: String,
}

#[derive(Clone, Debug, Serialize)]
pub struct Latency {
    pub p50_us: f64,
    pub p90_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub max_us: f64,
}

/// Times between two events.
#[derive(Clone, Debug, Serialize)]
pub struct Spans {
    pub count: usize,
    /// `target` or `client`: where the second of the two was seen.
    pub seen_at: &'static str,
    #[serde(flatten)]
    pub latency: Latency,
}

impl Spans {
    fn of(spans: &[Duration], seen_at: &'static str) -> Spans {
        let mut sorted: Vec<Duration> = spans.to_vec();
        sorted.sort_unstable();
        let at = |quantile: f64| {
            let place = (sorted.len() as f64 * quantile).ceil().max(1.0) as usize - 1;
            round(
                sorted
                    .get(place)
                    .or(sorted.last())
                    .map_or(0.0, |d| d.as_secs_f64() * 1e6),
            )
        };
        let latency = Latency {
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: at(1.0),
        };
        Spans {
            count: sorted.len(),
            seen_at,
            latency,
        }
    }
}

#[derive(Clone, Debug, Serialize)]
pub struct KindReport {
    pub crew: String,
    pub statements: u64,
    pub statements_per_s: f64,
    pub rows: u64,
    pub errors: u64,
    /// Of its whole crew, a second.
    pub crew_bytes_down_per_s: f64,
    #[serde(flatten)]
    pub latency: Latency,
    /// Quantile and microseconds.
    pub curve: Vec<(f64, f64)>,
    pub by_second: Vec<Second>,
}

/// What an open loop could not do in its window. Latencies are of what was answered: where this is overloaded, they are too good.
#[derive(Clone, Debug, Serialize)]
pub struct Overload {
    pub overloaded: bool,
    /// Statements whose time had come, not sent by the end of the window.
    pub waiting: u64,
    pub waiting_max: u64,
    /// Never sent: the backlog was full, or their session was lost.
    pub not_sent: u64,
    pub oldest_wait_ms: f64,
}

#[derive(Clone, Debug, Serialize)]
pub struct Cpu {
    pub us_per_statement: f64,
    /// Of the CPU, by the kernel's ticks.
    pub user_share: f64,
    pub sleeps_per_statement: f64,
    pub preempted_per_s: f64,
    /// Of one core.
    pub busy: f64,
    pub threads: u64,
    pub cpu_ns: u64,
}

fn round(value: f64) -> f64 {
    (value * 10_000.0).round() / 10_000.0
}

impl Latency {
    fn of(ns: &Histogram<u64>) -> Latency {
        let at = |quantile: f64| us(ns.value_at_quantile(quantile));
        Latency {
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: us(if ns.is_empty() { 0 } else { ns.max() }),
        }
    }
}

fn us(ns: u64) -> f64 {
    round(ns as f64 / 1_000.0)
}

impl KindReport {
    fn new(kind: &Kind, load: &Load, ledger: &Ledger, seconds: f64) -> KindReport {
        let curve = if kind.whole.is_empty() {
            Vec::new()
        } else {
            CURVE.map(|q| (q, us(kind.whole.value_at_quantile(q)))).to_vec()
        };
        KindReport {
            crew: load
                .crews
                .get(kind.crew)
                .map_or(String::new(), |c| c.name.clone()),
            statements: kind.whole.len(),
            statements_per_s: round(kind.whole.len() as f64 / seconds),
            rows: kind.rows,
            errors: kind.errors,
            crew_bytes_down_per_s: round(
                ledger.bytes_down.get(kind.crew).copied().unwrap_or(0) as f64 / seconds,
            ),
            latency: Latency::of(&kind.whole),
            curve,
            by_second: kind.seconds.clone(),
        }
    }
}

impl Report {
    pub fn new(
        load: &Load,
        sessions: usize,
        seconds: f64,
        ledger: &Ledger,
        overload: Option<Overload>,
    ) -> Report {
        let (statements, rows, latency_ns) = ledger.headline();
        let mut kinds = BTreeMap::new();
        for kind in &ledger.kinds {
            let report = KindReport::new(kind, load, ledger, seconds);
            let is_alone = ledger.kinds.iter().filter(|k| k.name == kind.name).count() == 1;
            let name = if is_alone {
                kind.name.clone()
            } else {
                format!("{}/{}", report.crew, kind.name)
            };
            kinds.insert(name, report);
        }
        Report {
            mode: load.name.clone(),
            sessions,
            sessions_ready: 0,
            seconds: round(seconds),
            statements,
            rows,
            statements_per_s: round(statements as f64 / seconds),
            bytes_up: 0.0,
            bytes_down: 0.0,
            latency: Latency::of(&latency_ns),
            kinds,
            errors: ledger.errors.clone(),
            sessions_lost: ledger.sessions_lost,
            interrupted: false,
            overload,
            approve_to_forward: None,
            revoke_to_cut: None,
            reviewer_failures: BTreeMap::new(),
            cpu: BTreeMap::new(),
            distance_ns: [None, None],
            sample: String::new(),
        }
    }

    /// `since`: when the window began.
    pub fn take_reviews(
        &mut self,
        notes: &Notes,
        arrivals: &[(u64, Instant)],
        ledger: &Ledger,
        since: Instant,
    ) {
        let (ends, seen_at) = if arrivals.is_empty() {
            (&ledger.held_answered[..], "client")
        } else {
            (arrivals, "target")
        };
        let spans = Notes::spans(&notes.answered, ends, since);
        self.approve_to_forward = (!spans.is_empty()).then(|| Spans::of(&spans, seen_at));
        let spans = Notes::spans(&notes.revoked, &ledger.cuts, since);
        self.revoke_to_cut = (!spans.is_empty()).then(|| Spans::of(&spans, "client"));
        self.reviewer_failures = notes.failures.clone();
    }

    pub fn take_cpu(&mut self, used: &BTreeMap<String, Used>) {
        self.cpu = cpu(used, self.statements, self.seconds);
    }
}

pub fn cpu(used: &BTreeMap<String, Used>, statements: u64, seconds: f64) -> BTreeMap<String, Cpu> {
    let each = |used: &Used| {
        let count = statements.max(1) as f64;
        let ticks = (used.user_ticks + used.system_ticks).max(1) as f64;
        Cpu {
            us_per_statement: round(used.cpu_ns as f64 / 1_000.0 / count),
            user_share: round(used.user_ticks as f64 / ticks),
            sleeps_per_statement: round(used.sleeps as f64 / count),
            preempted_per_s: round(used.preempted as f64 / seconds),
            busy: round(used.cpu_ns as f64 / 1e9 / seconds),
            threads: used.threads,
            cpu_ns: used.cpu_ns,
        }
    };
    used.iter()
        .map(|(name, used)| (name.clone(), each(used)))
        .collect()
}
