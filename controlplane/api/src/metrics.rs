//! Counters and gauges as Prometheus reads them: the data planes' own, as they last reported, and the control plane's.
//!
//! Bounds: [`PLANES_MAX`] data planes of [`VALUES_MAX`] values; more are left out.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

const PLANES_MAX: usize = 64;
const VALUES_MAX: usize = 8_192;

#[derive(Default)]
pub struct Metrics {
    planes: Mutex<BTreeMap<String, Vec<(String, f64)>>>,
    pub sign_ins_granted: AtomicU64,
    pub sign_ins_refused: AtomicU64,
    pub questions_asked: AtomicU64,
    pub questions_refused: AtomicU64,
    pub api_calls: AtomicU64,
    pub api_calls_refused: AtomicU64,
}

impl Metrics {
    pub fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// What a data plane tells, once a second. `appliance` names it.
    pub fn report(&self, appliance: &str, mut values: Vec<(String, f64)>) {
        values.truncate(VALUES_MAX);
        let mut planes = self.planes.lock().unwrap_or_else(PoisonError::into_inner);
        if planes.len() < PLANES_MAX || planes.contains_key(appliance) {
            planes.insert(appliance.to_owned(), values);
        }
    }

    /// A data plane went away: its last values would look alive.
    pub fn gone(&self, appliance: &str) {
        self.planes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(appliance);
    }

    /// Text format 0.0.4. `gauges`: of the control plane, read by the caller just now.
    pub fn render(&self, gauges: &[(&str, f64)]) -> String {
        let mut out = String::with_capacity(16 << 10);
        let mut own = |name: &str, kind: &str, series: &[(&str, f64)]| {
            let _ = writeln!(out, "# TYPE {name} {kind}");
            for (labels, value) in series {
                let _ = writeln!(out, "{name}{labels} {value}");
            }
        };
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        let sign_ins = [
            ("{result=\"granted\"}", read(&self.sign_ins_granted)),
            ("{result=\"refused\"}", read(&self.sign_ins_refused)),
        ];
        own("headgate_controlplane_sign_ins_total", "counter", &sign_ins);
        let asked = [
            ("{result=\"asked\"}", read(&self.questions_asked)),
            ("{result=\"refused\"}", read(&self.questions_refused)),
        ];
        own("headgate_controlplane_questions_total", "counter", &asked);
        let calls = [
            ("{result=\"done\"}", read(&self.api_calls)),
            ("{result=\"refused\"}", read(&self.api_calls_refused)),
        ];
        own("headgate_controlplane_api_calls_total", "counter", &calls);
        for (name, value) in gauges {
            own(name, "gauge", &[("", *value)]);
        }
        self.render_planes(&mut out);
        out
    }

    /// All series of one name have to stand together, whichever data plane they are of.
    fn render_planes(&self, out: &mut String) {
        let planes = self.planes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut by_name: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (appliance, values) in planes.iter() {
            let appliance = escape_label(appliance);
            for (series, value) in values {
                let Some((name, labels)) = split_series(series) else {
                    continue;
                };
                let comma = if labels.is_empty() { "" } else { "," };
                by_name.entry(name).or_default().push(format!(
                    "{name}{{{labels}{comma}appliance=\"{appliance}\"}} {value}"
                ));
            }
        }
        for (name, lines) in by_name {
            let kind = if name.ends_with("_total") {
                "counter"
            } else {
                "gauge"
            };
            let _ = writeln!(out, "# TYPE {name} {kind}");
            for line in lines {
                let _ = writeln!(out, "{line}");
            }
        }
    }
}

/// `name` or `name{labels}`. `None` for what would break the text format.
fn split_series(series: &str) -> Option<(&str, &str)> {
    let (name, labels) = match series.split_once('{') {
        None => (series, ""),
        Some((name, rest)) => (name, rest.strip_suffix('}')?),
    };
    let first = name.bytes().next()?;
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b':';
    let fine = !first.is_ascii_digit() && name.bytes().all(fits) && !labels.contains(['\n', '\r', '{', '}']);
    fine.then_some((name, labels))
}

fn escape_label(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_two_data_planes_stand_together_and_a_broken_name_is_left_out() {
        let metrics = Metrics::default();
        let values = vec![
            ("headgate_statements_total{verdict=\"deny\"}".to_owned(), 3.0),
            ("headgate_sessions".to_owned(), 2.0),
            ("evil 1\nother".to_owned(), 9.0),
            ("x{a=\"}\"}".to_owned(), 9.0),
        ];
        metrics.report("gate-1", values.clone());
        metrics.report("gate-2", values);
        let text = metrics.render(&[("headgate_links", 2.0)]);
        assert!(text.contains("headgate_statements_total{verdict=\"deny\",appliance=\"gate-2\"} 3\n"));
        assert!(text.contains(
            "headgate_sessions{appliance=\"gate-1\"} 2\nheadgate_sessions{appliance=\"gate-2\"} 2\n"
        ));
        assert_eq!(text.matches("# TYPE headgate_sessions gauge").count(), 1);
        assert!(!text.contains("evil") && !text.contains(" 9"));
        metrics.gone("gate-1");
        assert!(!metrics.render(&[]).contains("gate-1"));
    }
}
