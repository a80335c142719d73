//! A crew while it runs: which sessions it has, and when its next statement starts.
//!
//! An open loop deals statements out in turn: the n-th goes to session n modulo their number, as so many independent clients would
//! send it. A session that is busy lets it wait, and that wait counts. Bound: [`BACKLOG_MAX`] statements wait; what comes on top is
//! not sent, and counted.

use crate::client::Client;
use crate::plan::{Arrivals, Crew, Pace};
use crate::script::{Dice, Script};
use std::time::{Duration, Instant};

pub const BACKLOG_MAX: usize = 200_000;

pub struct CrewState {
    pub wanted: usize,
    pub script: Script,
    /// Places of its open sessions.
    pub sessions: Vec<usize>,
    /// Logins begun, which also number the sessions.
    pub begun: usize,
    pub pacer: Option<Pacer>,
    /// Slow readers: how many bytes all of them may have read by now is told from this moment.
    pub reads_since: Option<Instant>,
    /// Sessions to be opened again, and when.
    pub again: Vec<Instant>,
}

impl CrewState {
    pub fn new(crew: &Crew, script: Script) -> CrewState {
        CrewState {
            wanted: crew.sessions,
            script,
            sessions: Vec::new(),
            begun: 0,
            pacer: None,
            reads_since: None,
            again: Vec::new(),
        }
    }
}

/// Deals statements out by the clock.
pub struct Pacer {
    every: f64,
    arrivals: Arrivals,
    dice: Dice,
    start: Instant,
    /// Seconds after `start`.
    next: f64,
    turn: usize,
    /// Statements whose time has come and that were not sent.
    pub waiting: usize,
    pub waiting_max: usize,
    pub not_sent: u64,
}

impl Pacer {
    pub fn new(pace: Pace, start: Instant) -> Option<Pacer> {
        let Pace::Open { per_s, arrivals } = pace else {
            return None;
        };
        Some(Pacer {
            every: 1.0 / per_s,
            arrivals,
            dice: Dice::new(17),
            start,
            next: 0.0,
            turn: 0,
            waiting: 0,
            waiting_max: 0,
            not_sent: 0,
        })
    }

    pub fn due(&self) -> Instant {
        self.start + Duration::from_secs_f64(self.next)
    }

    /// The next statement's time, if it has come, and whose turn it is among `sessions`.
    pub fn take(&mut self, now: Instant, sessions: usize) -> Option<(Instant, usize)> {
        let due = self.due();
        if due > now {
            return None;
        }
        self.next += match self.arrivals {
            Arrivals::Constant => self.every,
            Arrivals::Poisson => -self.dice.share().ln() * self.every,
        };
        self.turn += 1;
        Some((due, if sessions == 0 { 0 } else { self.turn % sessions }))
    }

    /// Puts a statement into a session's line, if there is room.
    pub fn queue(&mut self, client: Option<&mut Client>, due: Instant) {
        match client {
            Some(client) if self.waiting < BACKLOG_MAX => {
                client.due.push_back(due);
                self.waiting += 1;
                self.waiting_max = self.waiting_max.max(self.waiting);
            }
            _ => self.not_sent += 1,
        }
    }

    pub fn restart(&mut self) {
        self.waiting_max = self.waiting;
        self.not_sent = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(arrivals: Arrivals) -> (usize, Vec<usize>) {
        let start = Instant::now();
        let mut pacer = Pacer::new(
            Pace::Open {
                per_s: 1_000.0,
                arrivals,
            },
            start,
        )
        .expect("an open loop");
        let (mut count, mut by_session) = (0, vec![0; 3]);
        while let Some((due, session)) = pacer.take(start + Duration::from_secs(4), 3) {
            assert!(due >= start);
            count += 1;
            by_session[session] += 1;
        }
        (count, by_session)
    }

    #[test]
    fn an_open_loop_starts_as_many_as_its_rate_says_and_deals_them_out_in_turn() {
        let (constant, by_session) = count(Arrivals::Constant);
        assert!((3_999..=4_002).contains(&constant), "{constant}");
        assert!(
            by_session.iter().all(|n| (1_333..=1_334).contains(n)),
            "{by_session:?}"
        );
        let (poisson, _) = count(Arrivals::Poisson);
        assert!((3_600..4_400).contains(&poisson), "{poisson}");
    }
}
