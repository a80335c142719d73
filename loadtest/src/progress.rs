//! One line on standard error that says how it goes, written anew each second.

use crate::ledger::{Kind, Ledger};
use crate::plan::Load;
use std::fmt::Write as _;
use std::io::Write as _;

const KINDS_MAX: usize = 3;
const COLUMNS_MAX: usize = 160;

pub struct Progress {
    name: String,
    seconds: f64,
}

/// 1234567 as 1,234,567.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Microseconds in the unit that reads best.
pub fn time(us: f64) -> String {
    match us {
        us if us <= 0.0 => "–".to_owned(),
        us if us < 1_000.0 => format!("{us:.0} µs"),
        us if us < 10_000.0 => format!("{:.2} ms", us / 1_000.0),
        us if us < 100_000.0 => format!("{:.1} ms", us / 1_000.0),
        us if us < 1_000_000.0 => format!("{:.0} ms", us / 1_000.0),
        us => format!("{:.2} s", us / 1_000_000.0),
    }
}

/// The same for a round figure: without zeros at the end.
pub fn mark(us: f64) -> String {
    let (value, unit) = match us {
        us if us < 1_000.0 => (us, "µs"),
        us if us < 1_000_000.0 => (us / 1_000.0, "ms"),
        us => (us / 1_000_000.0, "s"),
    };
    let text = format!("{value:.2}");
    format!("{} {unit}", text.trim_end_matches('0').trim_end_matches('.'))
}

fn kind(out: &mut String, kind: &Kind) {
    let Some(second) = kind.seconds.last() else { return };
    let per_s = (second.answered as f64 / second.seconds.max(f64::MIN_POSITIVE)).round();
    let _ = write!(
        out,
        "  {} {}/s p50 {} p99 {}",
        kind.name,
        grouped(per_s as u64),
        time(second.p50_us),
        time(second.p99_us)
    );
}

impl Progress {
    pub fn new(load: &Load) -> Progress {
        Progress {
            name: load.name.clone(),
            seconds: load.window.as_secs_f64(),
        }
    }

    /// `at`: seconds since the window began.
    pub fn show(&mut self, ledger: &Ledger, at: f64) {
        let mut line = format!("{} {at:.0}/{:.0} s", self.name, self.seconds);
        for one in ledger.kinds.iter().take(KINDS_MAX) {
            kind(&mut line, one);
        }
        let errors: u64 = ledger.errors.values().sum();
        if errors > 0 {
            let _ = write!(line, "  errors {}", grouped(errors));
        }
        let line: String = line.chars().take(COLUMNS_MAX).collect();
        let mut out = std::io::stderr().lock();
        let _ = write!(out, "\r\x1b[2K{line}").and_then(|()| out.flush());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        let _ = std::io::stderr().lock().write_all(b"\r\x1b[2K");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_well() {
        assert_eq!(
            [20.0, 1_000.0, 2_500.0, 10_000_000.0].map(mark),
            ["20 µs", "1 ms", "2.5 ms", "10 s"]
        );
        assert_eq!(
            (grouped(7), grouped(1_000), grouped(1_234_567)),
            ("7".into(), "1,000".into(), "1,234,567".into())
        );
        assert_eq!(
            [0.0, 12.4, 1_234.0, 45_678.0, 456_789.0, 12_345_678.0].map(time),
            ["–", "12 µs", "1.23 ms", "45.7 ms", "457 ms", "12.35 s"]
        );
    }
}
