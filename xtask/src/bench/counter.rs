//! What the processor counts of an engine while it works: `perf stat` for the middle of the window, as a rate.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// What perf prints for an event: its count is the first of the fields.
fn count(text: &str, event: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.contains(event))?;
    line.split(',').next()?.trim().parse().ok().filter(|n| *n > 0.0)
}

/// Whether the machine counts this event for us. Virtual machines often count nothing.
pub fn counts(event: &str) -> bool {
    let out = Command::new("perf")
        .args(["stat", "-x,", "-e", event, "true"])
        .stdin(Stdio::null())
        .output();
    out.is_ok_and(|out| out.status.success() && count(&String::from_utf8_lossy(&out.stderr), event).is_some())
}

/// Counts from `after` on, for `window`.
pub struct Counter {
    perf: Child,
    event: String,
    window: Duration,
}

impl Counter {
    pub fn start(event: &str, pid: u32, after: Duration, window: Duration) -> Option<Counter> {
        // perf's own delay and timeout do not add up to a known window; that of a command does.
        let perf = Command::new("sh")
            .args([
                "-c",
                "sleep \"$0\"; exec perf stat -x, -e \"$1\" -p \"$2\" sleep \"$3\"",
            ])
            .args([
                after.as_secs_f64().to_string(),
                event.to_owned(),
                pid.to_string(),
                window.as_secs_f64().to_string(),
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .ok()?;
        Some(Counter {
            perf,
            event: event.to_owned(),
            window,
        })
    }

    /// A second; `None` where nothing was counted.
    pub fn per_s(self) -> Option<f64> {
        let out = self.perf.wait_with_output().ok()?;
        Some(count(&String::from_utf8_lossy(&out.stderr), &self.event)? / self.window.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_the_first_field_of_the_events_line() {
        assert_eq!(
            count(
                "Events enabled\n1234567,,instructions,1000,100.00,,\n",
                "instructions"
            ),
            Some(1_234_567.0)
        );
        assert_eq!(
            count("<not supported>,,instructions,0,100.00,,\n", "instructions"),
            None
        );
        assert_eq!(count("", "instructions"), None);
    }
}
