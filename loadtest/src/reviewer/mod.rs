//! The robot reviewer: says yes to held statements, and ends sessions, by Headgate's admin API.
//!
//! It has a thread of its own, so that the loop does not wait for it. What it notes are moments; whoever runs the loop has the
//! others (when a statement reached the target, when a session was cut), and [`Notes::spans`] puts them together.
//! Bounds: [`NOTES_MAX`] moments, [`ANSWERING_MAX`] answers at once.

pub mod http;
mod robot;

use crate::error::LoadFailed;
pub use http::Api;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::watch;

const NOTES_MAX: usize = 1_000_000;
const ANSWERING_MAX: usize = 256;
/// Which application a session is whose end is to be measured; its number follows.
pub const VICTIM: &str = "loadtest-victim-";

#[derive(Clone, Debug)]
pub struct ReviewerPlan {
    pub api: Api,
    /// Of a reviewer of the held statements. None: the operator, through the admin socket.
    pub token: Option<String>,
    /// Of an administrator, for ending sessions.
    pub admin_token: Option<String>,
    /// From when a question is heard of to its answer.
    pub answer_after: Duration,
    /// Sessions ended in a second; 0: none.
    pub revokes_per_s: f64,
    /// How held statements of this load begin; their number follows.
    pub held_sql: Vec<String>,
}

/// Moments, by the statement's or session's number.
#[derive(Debug, Default)]
pub struct Notes {
    pub answered: HashMap<u64, Instant>,
    pub revoked: HashMap<u64, Instant>,
    pub failures: BTreeMap<String, u64>,
}

impl Notes {
    fn failed(&mut self, what: String) {
        if self.failures.len() < 50 || self.failures.contains_key(&what) {
            *self.failures.entry(what).or_default() += 1;
        }
    }

    /// How long each took, of those whose beginning and end are both known, and lie behind `since`.
    pub fn spans(begun: &HashMap<u64, Instant>, ended: &[(u64, Instant)], since: Instant) -> Vec<Duration> {
        let span = |(number, end): &(u64, Instant)| {
            let begin = begun.get(number).filter(|begin| **begin >= since)?;
            Some(end.saturating_duration_since(*begin))
        };
        ended.iter().filter_map(span).collect()
    }
}

pub struct Reviewer {
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
    notes: Arc<Mutex<Notes>>,
}

impl Reviewer {
    pub fn start(plan: ReviewerPlan) -> Result<Reviewer, LoadFailed> {
        let (stop, stopped) = watch::channel(false);
        let notes = Arc::new(Mutex::new(Notes::default()));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(LoadFailed::io("the reviewer"))?;
        let theirs = Arc::clone(&notes);
        let thread = std::thread::Builder::new()
            .name("reviewer".to_owned())
            .spawn(move || {
                runtime.block_on(robot::run(plan, theirs, stopped));
            });
        Ok(Reviewer {
            stop,
            thread: Some(thread.map_err(LoadFailed::io("the reviewer"))?),
            notes,
        })
    }

    /// What it has noted; it stops.
    pub fn finish(mut self) -> Notes {
        self.halt();
        std::mem::take(&mut self.notes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn halt(&mut self) {
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Reviewer {
    fn drop(&mut self) {
        self.halt();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_both_ends_in_the_window_has_a_span() {
        let since = Instant::now();
        let after = |ms| since + Duration::from_millis(ms);
        let begun = HashMap::from([
            (1, after(5)),
            (2, after(6)),
            (3, since - Duration::from_millis(1)),
        ]);
        let spans = Notes::spans(&begun, &[(1, after(8)), (3, after(8)), (4, after(9))], since);
        assert_eq!(spans, [Duration::from_millis(3)]);
    }
}
