//! A load from its first session to its report.

use super::crew::{CrewState, Pacer};
use super::{Drive, READ_BYTES};
use crate::cpu::{Group, Used, Watch};
use crate::error::LoadFailed;
use crate::ledger::Ledger;
use crate::peer::Role;
use crate::plan::{Load, SESSIONS_MAX};
use crate::progress::Progress;
use crate::report::{Overload, Report};
use crate::reviewer::Reviewer;
use crate::script::Script;
use crate::wire;
use mio::Events;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const GOODBYE_WAIT_MAX: Duration = Duration::from_secs(3);
const TURN_WAIT_MAX: Duration = Duration::from_millis(10);
const SECOND: Duration = Duration::from_secs(1);

impl Drive {
    pub(super) fn load(&mut self, events: &mut Events, load: &Load) -> Result<Report, LoadFailed> {
        let sessions: usize = load.crews.iter().map(|c| c.sessions).sum();
        if !(1..=SESSIONS_MAX).contains(&sessions) {
            return Err(LoadFailed::Usage(format!(
                "{sessions} sessions: from 1 to {SESSIONS_MAX} are possible"
            )));
        }
        self.prepare(load)?;
        self.open_sessions(events)?;
        if load.says_ready {
            use std::io::Write;
            let mut out = std::io::stdout().lock();
            let _ = writeln!(out, "{{\"ready\":{}}}", self.ready).and_then(|()| out.flush());
        }
        let report = self.measure(events, load, sessions)?;
        self.say_goodbye(events)?;
        Ok(report)
    }

    fn prepare(&mut self, load: &Load) -> Result<(), LoadFailed> {
        (self.endpoint, self.tls, self.on_error) =
            (Some(load.connect.clone()), load.tls.clone(), load.on_error);
        (
            self.ready,
            self.opening,
            self.refused,
            self.first_refusal,
            self.asking,
        ) = (0, 0, 0, None, false);
        let mut ledger = Ledger::new(load.crews.len());
        self.crews.clear();
        for (at, crew) in load.crews.iter().enumerate() {
            let login = crew.logins.then(|| ledger.open("login", at, crew.headline));
            let first = ledger.kinds.len();
            for work in &crew.work {
                ledger.open(&work.kind, at, crew.headline && !crew.logins);
            }
            let mut script = Script::new(at, first, crew.login.clone(), &crew.work, crew.pipeline)?;
            script.logins = login;
            script.open_loop = matches!(crew.pace, crate::plan::Pace::Open { .. });
            script.read_bytes_per_s = crew.read_bytes_per_s;
            script.victims = crew.victims;
            self.crews.push(CrewState::new(crew, script));
        }
        self.ledger = ledger;
        Ok(())
    }

    fn measure(&mut self, events: &mut Events, load: &Load, sessions: usize) -> Result<Report, LoadFailed> {
        let mut groups = load.watch.clone();
        groups.push(Group {
            name: "load".to_owned(),
            roots: vec![std::process::id()],
            alone: true,
        });
        let watch = Watch::new(&groups);
        self.asking = true;
        let now = Instant::now();
        for (state, crew) in self.crews.iter_mut().zip(&load.crews) {
            state.pacer = Pacer::new(crew.pace, now);
            state.reads_since = crew.read_bytes_per_s.map(|_| now);
        }
        for at in 0..self.peers.len() {
            if let Some(Some(peer)) = self.peers.get(at)
                && let Role::Client(_) = peer.role
            {
                self.ask(at)?;
            }
        }
        self.begin_logins()?;
        let reviewer = load.reviewer.clone().map(Reviewer::start).transpose()?;
        self.spend(events, load.warm_up, |_, _, _| {})?;
        self.ledger.restart();
        self.arrivals.clear();
        self.crews
            .iter_mut()
            .filter_map(|c| c.pacer.as_mut())
            .for_each(Pacer::restart);
        let before = watch.read();
        let started = Instant::now();
        let mut progress = load.shows_progress.then(|| Progress::new(load));
        self.spend(events, load.window, |drive, at, seconds| {
            drive.ledger.second(at, seconds);
            if let Some(progress) = &mut progress {
                progress.show(&drive.ledger, at);
            }
        })?;
        drop(progress);
        let after = watch.read();
        let seconds = started.elapsed().as_secs_f64();
        let used: BTreeMap<String, Used> = after
            .iter()
            .map(|(name, u)| {
                (
                    name.clone(),
                    u.since(before.get(name).copied().unwrap_or_default()),
                )
            })
            .collect();
        let overload = self.overload(load.window);
        let mut report = Report::new(load, sessions, seconds, &self.ledger, overload);
        report.interrupted = self.interrupted.load(Ordering::Relaxed);
        // Where errors are counted, a window with nothing else is a result as well.
        if self.has_work()
            && report.statements == 0
            && !report.interrupted
            && load.on_error == crate::client::OnError::Stop
        {
            return Err(LoadFailed::Nothing);
        }
        report.bytes_up = self.crews.first().map_or(0, |c| c.script.statement_bytes()) as f64;
        report.bytes_down = self.ledger.bytes_down.first().copied().unwrap_or(0) as f64
            / self.ledger.answers_of(0).max(1) as f64;
        report.take_cpu(&used);
        report.sessions_ready = self.ready;
        if let Some(reviewer) = reviewer {
            let notes = reviewer.finish();
            report.take_reviews(&notes, &self.arrivals, &self.ledger, started);
        }
        let sample = self.sample(events)?;
        report.sample = String::from_utf8_lossy(&sample)
            .chars()
            .filter(|c| !c.is_control())
            .collect();
        Ok(report)
    }

    fn has_work(&self) -> bool {
        self.crews
            .iter()
            .any(|c| c.script.has_work() || c.script.logins.is_some())
    }

    /// Turns for so long, and says so at the end of each second.
    fn spend(
        &mut self,
        events: &mut Events,
        window: Duration,
        mut each: impl FnMut(&mut Drive, f64, f64),
    ) -> Result<(), LoadFailed> {
        let started = Instant::now();
        let until = started + window;
        let (mut from, mut second) = (started, (started + SECOND).min(until));
        loop {
            let now = Instant::now();
            self.by_the_clock(now)?;
            let is_over = now >= until || self.interrupted.load(Ordering::Relaxed);
            if now >= second || is_over {
                each(self, (now - started).as_secs_f64(), (now - from).as_secs_f64());
                (from, second) = (now, (second + SECOND).min(until));
                if is_over {
                    return Ok(());
                }
            }
            self.turn(events, Some(TURN_WAIT_MAX))?;
        }
    }

    /// What is done because time has passed. Closed loops have nothing here.
    fn by_the_clock(&mut self, now: Instant) -> Result<(), LoadFailed> {
        for crew in 0..self.crews.len() {
            let Some(state) = self.crews.get_mut(crew) else {
                break;
            };
            if state.pacer.is_some() {
                self.start_due(crew, now)?;
            } else if state.reads_since.is_some() {
                self.read_slowly(crew, now)?;
            }
            if self.crews.get(crew).is_some_and(|state| !state.again.is_empty()) {
                self.begin_again(now)?;
            }
        }
        Ok(())
    }

    /// Starts the statements of an open loop whose time has come.
    fn start_due(&mut self, crew: usize, now: Instant) -> Result<(), LoadFailed> {
        loop {
            let Some(state) = self.crews.get_mut(crew) else {
                return Ok(());
            };
            let Some(pacer) = &mut state.pacer else {
                return Ok(());
            };
            let Some((due, turn)) = pacer.take(now, state.sessions.len()) else {
                let next = pacer.due();
                return self.timer.set(next, now).map_err(LoadFailed::io("timer"));
            };
            let at = state.sessions.get(turn).copied();
            let peer = at.and_then(|at| self.peers.get_mut(at)).and_then(Option::as_mut);
            let client = peer.and_then(|peer| {
                if let Role::Client(client) = &mut peer.role {
                    Some(client)
                } else {
                    None
                }
            });
            let is_busy = client.as_ref().is_some_and(|c| c.is_waiting());
            pacer.queue(client, due);
            if let Some(at) = at
                && !is_busy
            {
                self.ask(at)?;
            }
        }
    }

    /// Lets each slow reader have what its rate has earned since the last time.
    fn read_slowly(&mut self, crew: usize, now: Instant) -> Result<(), LoadFailed> {
        let Some(state) = self.crews.get_mut(crew) else {
            return Ok(());
        };
        let (Some(since), Some(rate)) = (state.reads_since, state.script.read_bytes_per_s) else {
            return Ok(());
        };
        let earned = now.saturating_duration_since(since).as_secs_f64() * rate as f64;
        // Less is a waste of system calls, unless the rate is that low.
        if earned < 1_024.0_f64.min(rate as f64 / 10.0).max(1.0) {
            return Ok(());
        }
        state.reads_since = Some(now);
        let places = state.sessions.clone();
        for at in places {
            let mut left = earned as usize;
            while left > 0 {
                let most = left.min(READ_BYTES);
                left -= most;
                if !self.read_once(at, most)? {
                    break;
                }
            }
        }
        Ok(())
    }

    /// What an open loop could not do.
    fn overload(&self, window: Duration) -> Option<Overload> {
        let paced: Vec<(&CrewState, &Pacer)> = self
            .crews
            .iter()
            .filter_map(|c| c.pacer.as_ref().map(|p| (c, p)))
            .collect();
        if paced.is_empty() {
            return None;
        }
        let now = Instant::now();
        let oldest = self
            .clients()
            .filter(|c| paced.iter().any(|(state, _)| state.script.crew == c.crew))
            .filter_map(|c| {
                let waits = [c.waits_since(), c.due.front().copied()];
                waits.into_iter().flatten().min()
            });
        let oldest = oldest
            .min()
            .map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let waiting: usize = paced.iter().map(|(_, p)| p.waiting).sum();
        let not_sent: u64 = paced.iter().map(|(_, p)| p.not_sent).sum();
        Some(Overload {
            waiting: waiting as u64,
            waiting_max: paced.iter().map(|(_, p)| p.waiting_max as u64).sum(),
            not_sent,
            oldest_wait_ms: oldest.as_secs_f64() * 1_000.0,
            // A tenth of the window behind is no longer a hiccup.
            overloaded: not_sent > 0 || (waiting > 0 && oldest > window / 10),
        })
    }

    /// Lets what is on its way come back, and takes leave: an engine that finds its target gone, or a statement broken
    /// off, may hold that against the next run.
    fn say_goodbye(&mut self, events: &mut Events) -> Result<(), LoadFailed> {
        self.asking = false;
        self.on_error = crate::client::OnError::Count;
        let until = Instant::now() + GOODBYE_WAIT_MAX;
        // A slow reader would take its time.
        while Instant::now() < until && self.clients().any(|c| c.is_waiting() && !self.is_slow(c.crew)) {
            self.turn(events, Some(TURN_WAIT_MAX))?;
        }
        for at in 0..self.peers.len() {
            if let Some(Some(peer)) = self.peers.get_mut(at)
                && let Role::Client(_) = peer.role
            {
                wire::message(&mut peer.out, b'X', |_| {});
                peer.close();
                self.remove(at);
            }
        }
        let until = Instant::now() + GOODBYE_WAIT_MAX;
        let targets = |drive: &Drive| drive.peers.iter().flatten().count();
        while Instant::now() < until && self.listener.is_some() && targets(self) > 0 {
            let before = targets(self);
            self.turn(events, Some(Duration::from_millis(50)))?;
            // Some engines keep their connections to the target.
            if targets(self) == before && events.is_empty() {
                break;
            }
        }
        Ok(())
    }

    fn is_slow(&self, crew: usize) -> bool {
        self.crews
            .get(crew)
            .is_some_and(|c| c.script.read_bytes_per_s.is_some())
    }

    /// The bytes of one more row, after the window.
    fn sample(&mut self, events: &mut Events) -> Result<Vec<u8>, LoadFailed> {
        if !self.crews.first().is_some_and(|c| c.script.has_work()) {
            return Ok(Vec::new());
        }
        self.ledger.wants_sample = true;
        let until = Instant::now() + Duration::from_secs(1);
        while self.ledger.sample.is_empty() && Instant::now() < until {
            self.turn(events, Some(TURN_WAIT_MAX))?;
            self.by_the_clock(Instant::now())?;
        }
        self.ledger.wants_sample = false;
        Ok(std::mem::take(&mut self.ledger.sample))
    }
}
