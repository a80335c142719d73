//! What a run found, as JSON. Times are microseconds.

use crate::client::Mode;
use crate::cpu::Used;
use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::BTreeMap;

#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub mode: String,
    pub sessions: usize,
    pub seconds: f64,
    pub statements: u64,
    pub rows: u64,
    pub statements_per_s: f64,
    /// Of a statement, on the client's wire.
    pub bytes_up: f64,
    pub bytes_down: f64,
    pub p50_us: f64,
    pub p90_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub max_us: f64,
    /// By group.
    pub cpu: BTreeMap<String, Cpu>,
    /// Round trip of a cache line between load and engine, before and after; `None`: not asked, or no answer in time.
    pub distance_ns: [Option<u64>; 2],
    /// The last row, without control characters.
    pub sample: String,
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

impl Report {
    pub fn new(mode: Mode, sessions: usize, seconds: f64, statements: u64, rows: u64, latency_ns: &Histogram<u64>) -> Report {
        let at = |quantile: f64| round(latency_ns.value_at_quantile(quantile) as f64 / 1_000.0);
        Report {
            mode: format!("{mode:?}").to_lowercase(),
            sessions,
            seconds: round(seconds),
            statements,
            rows,
            statements_per_s: round(statements as f64 / seconds),
            bytes_up: 0.0,
            bytes_down: 0.0,
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: round(latency_ns.max() as f64 / 1_000.0),
            cpu: BTreeMap::new(),
            distance_ns: [None, None],
            sample: String::new(),
        }
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
    used.iter().map(|(name, used)| (name.clone(), each(used))).collect()
}
