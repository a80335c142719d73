//! What a bench found: paired ratios, medians with an interval, a page for `bench/record`.

use super::Peers;
use super::engines::Kind;
use crate::Result;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::process::Command;

/// Round trips below this are of cores that are near each other; above [`FAR_NS`], far.
const NEAR_NS: u64 = 120;
const FAR_NS: u64 = 250;

#[derive(Clone, Debug, Default)]
pub struct Run {
    /// `None`: the cores moved during the run, or somebody was in the way of the probe.
    pub far: Option<bool>,
    pub engine_us: f64,
    pub all_us: f64,
    pub recorder_us: f64,
    pub user_share: f64,
    pub sleeps: f64,
    pub preempted_per_s: f64,
    pub per_s: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub bytes_down: f64,
    pub sample: String,
}

fn number(value: &Value, path: &[&str]) -> f64 {
    path.iter().try_fold(value, |v, key| v.get(key)).and_then(Value::as_f64).unwrap_or(0.0)
}

fn far(value: &Value) -> Option<bool> {
    let at = |n: usize| value.get("distance_ns")?.get(n)?.as_u64();
    match (at(0)?, at(1)?) {
        (a, b) if a < NEAR_NS && b < NEAR_NS => Some(false),
        (a, b) if a > FAR_NS && b > FAR_NS => Some(true),
        _ => None,
    }
}

impl Run {
    pub fn of_loadtest(value: &Value) -> Result<Run> {
        let of = |group: &str, key: &str| number(value, &["cpu", group, key]);
        Ok(Run {
            far: far(value),
            engine_us: of("engine", "us_per_statement"),
            all_us: of("all", "us_per_statement"),
            recorder_us: of("recorder", "us_per_statement"),
            user_share: of("engine", "user_share"),
            sleeps: of("engine", "sleeps_per_statement"),
            preempted_per_s: of("engine", "preempted_per_s"),
            per_s: number(value, &["statements_per_s"]),
            p50_us: number(value, &["p50_us"]),
            p99_us: number(value, &["p99_us"]),
            bytes_down: number(value, &["bytes_down"]),
            sample: value.get("sample").and_then(Value::as_str).unwrap_or("").to_owned(),
        })
    }

    pub fn of_pgbench(value: &Value) -> Result<Run> {
        let output = value.get("output").and_then(Value::as_str).unwrap_or("");
        let behind = |label: &str| -> Option<f64> {
            let line = output.lines().find_map(|l| l.strip_prefix(label))?;
            line.split_whitespace().find_map(|word| word.split('/').next()?.parse().ok())
        };
        let count =
            behind("number of transactions actually processed:").filter(|n| *n > 0.0).ok_or_else(|| format!("pgbench: {output}"))?;
        if behind("number of failed transactions:").unwrap_or(0.0) > 0.0 {
            return Err(format!("pgbench: {output}"));
        }
        let of = |group: &str, key: &str| number(value, &["cpu", group, key]);
        Ok(Run {
            far: far(value),
            engine_us: of("engine", "us_per_statement") / count,
            all_us: of("all", "us_per_statement") / count,
            recorder_us: of("recorder", "us_per_statement") / count,
            user_share: of("engine", "user_share"),
            sleeps: of("engine", "sleeps_per_statement") / count,
            preempted_per_s: of("engine", "preempted_per_s"),
            per_s: behind("tps =").unwrap_or(0.0),
            p50_us: behind("latency average =").unwrap_or(0.0) * 1000.0,
            ..Run::default()
        })
    }

    /// Nanoseconds a KB instead of microseconds a statement.
    pub fn per_kilobyte(&mut self) {
        let kilobytes = (self.bytes_down / 1024.0).max(f64::MIN_POSITIVE);
        for value in [&mut self.engine_us, &mut self.all_us, &mut self.recorder_us] {
            *value *= 1000.0 / kilobytes;
        }
    }

    pub fn line(&self) -> String {
        let state = match self.far {
            Some(true) => "far",
            Some(false) => "near",
            None => "moved",
        };
        format!("{:>6.2} µs ({:>6.2} all) {:>8.0}/s p50 {:>7.0} µs {state}", self.engine_us, self.all_us, self.per_s, self.p50_us)
    }
}

type Place = (String, usize);

pub struct Book {
    runs: BTreeMap<Place, Vec<(usize, Kind, Run)>>,
    order: Vec<Place>,
    head: String,
    load_before: String,
}

fn said(program: &str, args: &[&str]) -> String {
    let out = Command::new(program).args(args).output();
    out.map_or_else(|_| String::new(), |o| String::from_utf8_lossy(&o.stdout).lines().next().unwrap_or("").trim().to_owned())
}

fn load_average() -> String {
    std::fs::read_to_string("/proc/loadavg").map_or_else(|_| String::new(), |t| t.split_whitespace().take(3).collect::<Vec<_>>().join(" "))
}

impl Book {
    pub fn new(peers: &Peers) -> Result<Book> {
        let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpu.lines().find_map(|l| l.strip_prefix("model name")).map_or("", |m| m.trim_start_matches([' ', '\t', ':']));
        let mut head = String::new();
        let words: Vec<String> = std::env::args().skip(1).take_while(|a| a != "--inside").collect();
        let _ = writeln!(head, "# Headgate beside its peers, {}{}\n", super::date(), if peers.real { ", real PostgreSQL" } else { "" });
        let _ =
            writeln!(head, "Command: `cargo xtask {}`. Commit: {}.\n", words.join(" "), said("git", &["describe", "--always", "--dirty"]));
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let _ = writeln!(
            head,
            "Machine: {model}, {cores} cores, Linux {}. {}; {}.",
            said("uname", &["-r"]),
            said("haproxy", &["-v"]),
            said("pgbouncer", &["--version"])
        );
        let target = if peers.real { "PostgreSQL and pgbench -S" } else { "load and synthetic target (one thread)" };
        let _ = writeln!(
            head,
            "Engine alone on core 0; {target} on core 1, with Headgate's recorder, control plane and analysts; loopback, reno."
        );
        let _ = writeln!(
            head,
            "Windows of {} ms, {} rounds, engines in random order in each. CPU is what the kernel booked on all threads of the engine.",
            peers.window_ms, peers.rounds
        );
        let _ = writeln!(
            head,
            "*Ratio*: to HAProxy in the same round, cores equally far apart; median [interval, at least 90 % where there are 5 pairs or more; else all] (pairs)."
        );
        let _ = writeln!(
            head,
            "*all*: all processes of Headgate. *sleeps*: of the engine, a statement. HAProxy: tune.bufsize 65536, edge-triggered; PgBouncer: session mode, as Debian has it.\n"
        );
        Ok(Book { runs: BTreeMap::new(), order: Vec::new(), head, load_before: load_average() })
    }

    pub fn add(&mut self, round: usize, mode: &str, sessions: usize, kind: Kind, run: Run) {
        let place = (mode.to_owned(), sessions);
        if !self.order.contains(&place) {
            self.order.push(place.clone());
        }
        self.runs.entry(place).or_default().push((round, kind, run));
    }

    pub fn text(&self, kinds: &[Kind], idle: &[(Kind, f64)]) -> String {
        let mut text = self.head.clone();
        let _ = writeln!(
            text,
            "Load average before and after (1, 5, 15 minutes; the bench itself is about 2): {}; {}.\n",
            self.load_before,
            load_average()
        );
        for place in &self.order {
            let Some(runs) = self.runs.get(place) else { continue };
            let _ = writeln!(text, "## {}, {} sessions\n", place.0, place.1);
            let unit = if place.0 == "bulk" { "ns/KB" } else { "µs" };
            let _ = writeln!(
                text,
                "| engine | CPU {unit} | ratio | all {unit} | ratio of all | recorder {unit} | user | sleeps | statements/s | p50 µs | p99 µs |"
            );
            let _ = writeln!(text, "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
            for kind in kinds {
                let own: Vec<&Run> = runs.iter().filter(|(_, k, _)| k == kind).map(|(_, _, r)| r).collect();
                if own.is_empty() {
                    continue;
                }
                let of = |f: fn(&Run) -> f64| median(own.iter().map(|r| f(r)).collect());
                let paired = |f: fn(&Run) -> f64| ratios(runs, *kind, f);
                let headgate = kind.is_headgate();
                let shown = |wanted: bool, text: String| if wanted { text } else { String::new() };
                let measured = *kind != Kind::Direct;
                let _ = writeln!(
                    text,
                    "| {} | {} | {} | {} | {} | {} | {} | {} | {:.0} | {:.0} | {:.0} |",
                    kind.name(),
                    shown(measured, format!("{:.2}", of(|r| r.engine_us))),
                    shown(measured && *kind != Kind::Haproxy, paired(|r| r.engine_us)),
                    shown(headgate, format!("{:.2}", of(|r| r.all_us))),
                    shown(headgate, paired(|r| r.all_us)),
                    shown(headgate, format!("{:.2}", of(|r| r.recorder_us))),
                    shown(measured, format!("{:.0} %", of(|r| r.user_share) * 100.0)),
                    shown(measured, format!("{:.3}", of(|r| r.sleeps))),
                    of(|r| r.per_s),
                    of(|r| r.p50_us),
                    of(|r| r.p99_us),
                );
            }
            let far = runs.iter().filter(|(_, _, r)| r.far == Some(true)).count();
            let preempted = median(runs.iter().map(|(_, _, r)| r.preempted_per_s).collect());
            let _ = writeln!(
                text,
                "\nRuns with the cores near / far: {} / {far}. The engine was taken off its core {preempted:.0} times a second (median).\n",
                runs.len() - far
            );
        }
        let idle: Vec<String> = idle.iter().map(|(kind, busy)| format!("{} {busy:.1}", kind.name())).collect();
        let _ = writeln!(text, "All engines run the whole time. Idle, in thousandths of a core: {}.", idle.join(", "));
        text
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match (values.get(values.len() / 2), values.get(values.len().saturating_sub(1) / 2)) {
        (Some(a), Some(b)) => (a + b) / 2.0,
        _ => 0.0,
    }
}

/// Of one engine to HAProxy, in the same round and state.
fn ratios(runs: &[(usize, Kind, Run)], kind: Kind, f: fn(&Run) -> f64) -> String {
    let mut all = Vec::new();
    for (round, _, run) in runs.iter().filter(|(_, k, _)| *k == kind) {
        let base = runs.iter().find(|(r, k, base)| r == round && *k == Kind::Haproxy && base.far == run.far);
        if let Some((_, _, base)) = base
            && base.engine_us > 0.0
        {
            all.push(f(run) / base.engine_us);
        }
    }
    if all.is_empty() {
        return "no pairs".to_owned();
    }
    all.sort_by(f64::total_cmp);
    let cut = interval_cut(all.len());
    let (low, high) = (all.get(cut).copied().unwrap_or(0.0), all.get(all.len() - 1 - cut).copied().unwrap_or(0.0));
    let n = all.len();
    format!("{:.2} [{low:.2}–{high:.2}] ({n})", median(all))
}

/// How many values may be cut off at each end, so that the median is between the rest in at least nine of ten cases (sign test).
fn interval_cut(n: usize) -> usize {
    let mut cut = 0;
    let mut tail = 0.5f64.powi(i32::try_from(n).unwrap_or(i32::MAX));
    let mut term = tail;
    for k in 1..n / 2 {
        term *= (n - k + 1) as f64 / k as f64;
        tail += term;
        if 2.0 * tail > 0.1 {
            break;
        }
        cut = k;
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_that_of_the_sign_test() {
        // Of 8 pairs, the second smallest and second largest hold the median in 93 %.
        assert_eq!(interval_cut(8), 1);
        assert_eq!(interval_cut(5), 0);
        assert_eq!(interval_cut(12), 2);
        assert_eq!(interval_cut(1), 0);
    }

    #[test]
    fn a_run_whose_cores_moved_is_of_no_state() {
        let of = |a: u64, b: u64| far(&serde_json::json!({ "distance_ns": [a, b] }));
        assert_eq!(of(60, 70), Some(false));
        assert_eq!(of(360, 390), Some(true));
        assert_eq!(of(60, 390), None);
        assert_eq!(far(&serde_json::json!({ "distance_ns": [null, 60] })), None);
    }

    #[test]
    fn ratios_are_of_one_round_and_one_state() {
        let run = |far: bool, us: f64| Run { far: Some(far), engine_us: us, ..Run::default() };
        let runs = vec![
            (0, Kind::Haproxy, run(false, 10.0)),
            (0, Kind::Relay, run(false, 9.0)),
            (1, Kind::Haproxy, run(true, 13.0)),
            (1, Kind::Relay, run(false, 9.0)),
        ];
        assert_eq!(ratios(&runs, Kind::Relay, |r| r.engine_us), "0.90 [0.90–0.90] (1)");
    }

    #[test]
    fn pgbench_is_read() {
        let value = serde_json::json!({
            "output": "number of transactions actually processed: 2000\nnumber of failed transactions: 0 (0.000%)\nlatency average = 0.500 ms\ntps = 31000.5 (without initial connection time)\n",
            "cpu": { "engine": { "us_per_statement": 20000.0 } }, "distance_ns": [60, 60],
        });
        let run = Run::of_pgbench(&value).expect("it is read");
        assert_eq!((run.engine_us, run.per_s, run.p50_us), (10.0, 31000.5, 500.0));
    }
}
