//! One run of one engine: what was counted, by name.

use crate::Result;
use serde_json::Value;
use std::collections::BTreeMap;

/// Round trips below this are of cores that are near each other; above [`FAR_NS`], far.
const NEAR_NS: u64 = 120;
const FAR_NS: u64 = 250;

#[derive(Clone, Debug, Default)]
pub struct Run {
    /// `None`: the cores moved during the run, or somebody was in the way of the probe.
    pub far: Option<bool>,
    values: BTreeMap<&'static str, f64>,
    /// The last row, without control characters.
    pub sample: String,
}

fn number(value: &Value, path: &[&str]) -> Option<f64> {
    path.iter()
        .try_fold(value, |v, key| v.get(key))
        .and_then(Value::as_f64)
}

fn far(value: &Value) -> Option<bool> {
    let at = |n: usize| value.get("distance_ns")?.get(n)?.as_u64();
    match (at(0)?, at(1)?) {
        (a, b) if a < NEAR_NS && b < NEAR_NS => Some(false),
        (a, b) if a > FAR_NS && b > FAR_NS => Some(true),
        _ => None,
    }
}

/// Name here, and where it is in what loadtest prints.
const CPU: [(&str, &str, &str); 8] = [
    ("engine_us", "engine", "us_per_statement"),
    ("all_us", "all", "us_per_statement"),
    ("recorder_us", "recorder", "us_per_statement"),
    ("user", "engine", "user_share"),
    ("sleeps", "engine", "sleeps_per_statement"),
    ("preempted", "engine", "preempted_per_s"),
    ("busy", "engine", "busy"),
    ("load_us", "load", "us_per_statement"),
];
const LOAD: [(&str, &str); 7] = [
    ("per_s", "statements_per_s"),
    ("p50_us", "p50_us"),
    ("p99_us", "p99_us"),
    ("p999_us", "p999_us"),
    ("max_us", "max_us"),
    ("bytes_down", "bytes_down"),
    ("statements", "statements"),
];

impl Run {
    /// Counted where the distance of the cores does not matter.
    pub fn of_values(values: impl IntoIterator<Item = (&'static str, f64)>) -> Run {
        Run {
            far: Some(false),
            values: values.into_iter().collect(),
            sample: String::new(),
        }
    }

    pub fn of_loadtest(value: &Value) -> Run {
        let mut run = Run {
            far: far(value),
            ..Run::default()
        };
        for (name, group, key) in CPU {
            if let Some(found) = number(value, &["cpu", group, key]) {
                run.set(name, found);
            }
        }
        for (name, key) in LOAD {
            if let Some(found) = number(value, &[key]) {
                run.set(name, found);
            }
        }
        if let Some(kinds) = value.get("kinds").and_then(Value::as_object) {
            let bulk: f64 = kinds
                .values()
                .filter(|k| k.get("crew").and_then(Value::as_str) == Some("large results"))
                .filter_map(|k| number(k, &["crew_bytes_down_per_s"]))
                .sum();
            run.set("bulk_bytes_per_s", bulk);
        }
        run.sample = value
            .get("sample")
            .and_then(Value::as_str)
            .unwrap_or("")
            .to_owned();
        run
    }

    /// `value`: of `loadtest watch`. `latencies_us`: of each transaction, from pgbench's own log.
    pub fn of_pgbench(value: &Value, mut latencies_us: Vec<u64>) -> Result<Run> {
        let output = value.get("output").and_then(Value::as_str).unwrap_or("");
        let behind = |label: &str| -> Option<f64> {
            let line = output.lines().find_map(|l| l.strip_prefix(label))?;
            line.split_whitespace()
                .find_map(|word| word.split('/').next()?.parse().ok())
        };
        let count = behind("number of transactions actually processed:")
            .filter(|n| *n > 0.0)
            .ok_or_else(|| format!("pgbench: {output}"))?;
        if behind("number of failed transactions:").unwrap_or(0.0) > 0.0 {
            return Err(format!("pgbench: {output}"));
        }
        let mut run = Run {
            far: far(value),
            ..Run::default()
        };
        for (name, group, key) in CPU {
            // `watch` knows no statements, and counts the whole run as one.
            let each = if key.ends_with("_per_statement") {
                count
            } else {
                1.0
            };
            if let Some(found) = number(value, &["cpu", group, key]) {
                run.set(name, found / each);
            }
        }
        run.set("per_s", behind("tps =").unwrap_or(0.0));
        latencies_us.sort_unstable();
        for (name, of_thousand) in [("p50_us", 500), ("p99_us", 990), ("p999_us", 999)] {
            if let Some(at) = latencies_us.get(latencies_us.len() * of_thousand / 1000) {
                run.set(name, *at as f64);
            }
        }
        Ok(run)
    }

    pub fn get(&self, name: &str) -> Option<f64> {
        self.values.get(name).copied()
    }

    pub fn set(&mut self, name: &'static str, value: f64) {
        self.values.insert(name, value);
    }

    /// What the recorder had left to do when the window ended was done for its statements, too. `recorder_us_per_s`: its CPU from
    /// before the run until it had nothing left, by the length of the run. The larger of the two figures holds.
    pub fn add_backlog(&mut self, recorder_us_per_s: f64) {
        let (Some(in_window), Some(all), Some(per_s)) =
            (self.get("recorder_us"), self.get("all_us"), self.get("per_s"))
        else {
            return;
        };
        let whole = recorder_us_per_s / per_s.max(1.0);
        if whole > in_window {
            self.set("recorder_us", whole);
            self.set("all_us", all - in_window + whole);
        }
    }

    /// Nanoseconds a KB instead of microseconds a statement.
    pub fn per_kilobyte(&mut self) {
        let kilobytes = (self.get("bytes_down").unwrap_or(0.0) / 1024.0).max(f64::MIN_POSITIVE);
        for name in ["engine_us", "all_us", "recorder_us"] {
            if let Some(value) = self.values.get_mut(name) {
                *value *= 1000.0 / kilobytes;
            }
        }
        let per_s = self.get("per_s").unwrap_or(0.0);
        self.set("mb_per_s", per_s * kilobytes / 1024.0);
    }

    pub fn line(&self) -> String {
        let state = match self.far {
            Some(true) => "far",
            Some(false) => "near",
            None => "moved",
        };
        let mut line = String::new();
        for (name, value) in &self.values {
            if !matches!(
                *name,
                "user"
                    | "sleeps"
                    | "preempted"
                    | "busy"
                    | "bytes_down"
                    | "statements"
                    | "max_us"
                    | "load_us"
                    | "bulk_bytes_per_s"
            ) {
                line += &if *value < 100.0 {
                    format!("{name} {value:.2}  ")
                } else {
                    format!("{name} {value:.0}  ")
                };
            }
        }
        line + state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_whose_cores_moved_is_of_no_state() {
        let of = |a: u64, b: u64| far(&serde_json::json!({ "distance_ns": [a, b] }));
        assert_eq!(of(60, 70), Some(false));
        assert_eq!(of(360, 390), Some(true));
        assert_eq!(of(60, 390), None);
        assert_eq!(far(&serde_json::json!({ "distance_ns": [null, 60] })), None);
    }

    #[test]
    fn pgbench_is_read_with_its_latencies() {
        let value = serde_json::json!({
            "output": "number of transactions actually processed: 2000\nnumber of failed transactions: 0 (0.000%)\nlatency average = 0.500 ms\ntps = 31000.5 (without initial connection time)\n",
            "cpu": { "engine": { "us_per_statement": 20000.0, "busy": 0.5 } }, "distance_ns": [60, 60],
        });
        let run = Run::of_pgbench(&value, (1..=1000).rev().collect()).expect("it is read");
        let of = |name| run.get(name).expect(name);
        assert_eq!(
            (
                of("engine_us"),
                of("busy"),
                of("per_s"),
                of("p50_us"),
                of("p99_us")
            ),
            (10.0, 0.5, 31000.5, 501.0, 991.0)
        );
        assert!(Run::of_pgbench(&serde_json::json!({ "output": "connection refused" }), Vec::new()).is_err());
    }

    #[test]
    fn what_the_recorder_did_after_the_window_counts() {
        let mut run = Run::of_values([("recorder_us", 1.0), ("all_us", 12.0), ("per_s", 1000.0)]);
        run.add_backlog(900.0);
        assert_eq!(
            (run.get("recorder_us"), run.get("all_us")),
            (Some(1.0), Some(12.0))
        );
        run.add_backlog(2500.0);
        assert_eq!(
            (run.get("recorder_us"), run.get("all_us")),
            (Some(2.5), Some(13.5))
        );
    }

    #[test]
    fn bulk_is_counted_by_the_kilobyte() {
        let mut run = Run::of_values([
            ("engine_us", 2048.0),
            ("bytes_down", 4096.0 * 1024.0),
            ("per_s", 10.0),
        ]);
        run.per_kilobyte();
        assert_eq!(
            (run.get("engine_us"), run.get("mb_per_s")),
            (Some(500.0), Some(40.0))
        );
    }
}
