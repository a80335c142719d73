//! What a session is told beside bytes: answers, revocations, ends of peers, time.

use super::{Session, State};
use crate::core::Core;
use crate::postgres::denial::Denial;
use crate::postgres::traffic::{Cancelled, Waiting};
use crate::sql::known::Known;
use headgate_plane::question::Asked;
use headgate_plane::{Answer, QuestionKey};
use std::rc::Rc;

/// How long a severed session waits to hear what became of its statement.
const SEVERED_US_MAX: u64 = 10_000_000;
/// How long what a client had sent before it went away may take; then it is cancelled at the target.
const GONE_US_MAX: u64 = 30_000_000;

impl Session {
    pub fn asked(&mut self, core: &mut Core, asked: &Asked) {
        if let State::Traffic(traffic) = &mut self.state {
            traffic.asked(self.client.out(), asked);
            self.use_client_carry(core);
        }
    }

    pub fn answered(&mut self, core: &mut Core, key: QuestionKey, answer: Answer) {
        if let State::Traffic(traffic) = &mut self.state {
            traffic.answered(key, answer);
            self.use_client_carry(core);
            self.settle(core);
        }
    }

    /// An analyst read `text`.
    pub fn analysed(&mut self, core: &mut Core, text: &[u8], known: Rc<Known>) {
        if let State::Traffic(traffic) = &mut self.state {
            traffic.analysed(text, known);
            self.use_client_carry(core);
            self.settle(core);
        }
    }

    /// The catalog of a target has been read again, or could not be: the core says which.
    pub fn catalog_came(&mut self, core: &mut Core, target: &str) {
        if let State::Traffic(traffic) = &mut self.state
            && traffic.target.name == target
        {
            traffic.catalog_came(core);
            self.use_client_carry(core);
            self.settle(core);
        }
    }

    pub fn snapshot_changed(&mut self, core: &mut Core) {
        if let State::Traffic(traffic) = &mut self.state {
            traffic.snapshot_changed(core);
            self.use_client_carry(core);
            self.settle(core);
        }
    }

    /// A cancel request for `pid` and `key` is about. `None`: it is not this session's.
    pub fn cancel(&mut self, core: &mut Core, pid: u32, key: &[u8]) -> Option<Cancelled> {
        let State::Traffic(traffic) = &mut self.state else {
            return None;
        };
        if !traffic.is_key(pid, key) {
            return None;
        }
        let cancelled = traffic.cancel(core.clock.now_us);
        self.use_client_carry(core);
        Some(cancelled)
    }

    /// The cancel that this connection asked for has been delivered: it closes, which is how a client knows.
    pub fn cancel_done(&mut self, core: &mut Core) {
        if matches!(self.state, State::Cancelling) {
            self.end(core, "cancel request", None);
        }
    }

    pub fn revoked(&mut self, core: &mut Core, reason: &str) {
        let denial =
            Denial::new("57P01", "terminating connection: access was revoked").detail(reason.to_owned());
        self.sever(core, "revoked", denial);
    }

    /// The client is cut off at once. What runs at the target is cancelled, and the session waits a little to hear what became
    /// of it, for the recording.
    fn sever(&mut self, core: &mut Core, reason: &'static str, denial: Denial) {
        let runs = match &mut self.state {
            State::Traffic(_) if self.severed.is_some() => return,
            State::Traffic(traffic) => traffic.sever(core),
            _ => false,
        };
        if !runs {
            return self.fatal(core, reason, denial);
        }
        self.severed = Some(reason);
        self.deadline_us = Some(core.clock.now_us + SEVERED_US_MAX);
        self.say_fatal(core, &denial);
    }

    pub fn stopping(&mut self, core: &mut Core) {
        self.fatal(
            core,
            "Headgate stops",
            Denial::new("57P01", "terminating connection: Headgate stops"),
        );
    }

    pub fn client_ended(&mut self, core: &mut Core) {
        match &mut self.state {
            State::Ended => {}
            State::Traffic(traffic) if self.severed.is_none() && !traffic.client_is_gone() => {
                // What it had sent is done, as the server would do it; it may only have closed its own direction.
                traffic.client_gone();
                self.deadline_us = Some(core.clock.now_us + GONE_US_MAX);
                self.use_client_carry(core);
                self.settle(core);
            }
            // Severed, or gone before: the session ends by itself.
            State::Traffic(_) => {}
            _ => self.end(core, "client went away", None),
        }
    }

    pub fn target_ended(&mut self, core: &mut Core) {
        if self.is_ended() {
            return;
        }
        // What the target said last (an error of its own, as 57P01) has been handed on already.
        match &self.state {
            State::Traffic(traffic) => {
                let reason = match self.severed {
                    Some(reason) => reason,
                    None if traffic.client_is_gone() => "client went away",
                    None if traffic.target_closed_in_order() => "target ended the session",
                    None => "target went away",
                };
                self.end(core, reason, None);
            }
            _ => self.target_failed(core, "it closed the connection during sign-in"),
        }
    }

    pub fn tick(&mut self, core: &mut Core) {
        if matches!(self.state, State::Recording(_)) {
            if let State::Recording(recording) = std::mem::replace(&mut self.state, State::Ended) {
                self.last_words(core, recording);
            }
            return;
        }
        if matches!(self.state, State::Opening(_)) {
            if let State::Opening(begin) = std::mem::replace(&mut self.state, State::Ended) {
                self.open_traffic(core, *begin);
            }
            return;
        }
        if self.deadline_us.is_some_and(|at| core.clock.now_us >= at) {
            if let State::Traffic(traffic) = &mut self.state {
                // A client that went away: what it left running is cancelled at last, and what became of it heard.
                if self.severed.is_none() && traffic.sever(core) {
                    self.severed = Some("client went away");
                    self.deadline_us = Some(core.clock.now_us + SEVERED_US_MAX);
                    return;
                }
                let reason = self.severed.unwrap_or("client went away");
                return self.end(core, reason, None);
            }
            if matches!(self.state, State::Cancelling) {
                return self.end(core, "cancel request that was not delivered in time", None);
            }
            let (reason, denial) = match &self.state {
                // As PostgreSQL: before its start-up packet a peer is not told anything that it could not read.
                State::Greeting(greeting) if greeting.startup.is_none() => {
                    core.metrics.peers_misbehaved += 1;
                    return self.end(core, "client: too slow to sign in", None);
                }
                State::Greeting(_) => (
                    "client: too slow to sign in",
                    Denial::new("57014", "canceling authentication due to timeout"),
                ),
                _ => (
                    "sign-in took too long",
                    Denial::new("57P03", "Headgate could not sign in in time"),
                ),
            };
            core.metrics.peers_misbehaved += 1;
            return self.fatal(core, reason, denial);
        }
        let State::Traffic(traffic) = &mut self.state else {
            return;
        };
        if core.clock.unix_ms() >= traffic.expires_unix_ms {
            let denial = Denial::new("57P01", "terminating connection: the credential has expired")
                .hint("Sign in again.");
            return self.sever(core, "credential expired", denial);
        }
        let deadline = traffic
            .deadline_unix_ms()
            .is_some_and(|at| core.clock.unix_ms() >= at);
        if deadline {
            traffic.time_passes();
        }
        if deadline || traffic.waiting() == Waiting::Room {
            traffic.retry();
            self.use_client_carry(core);
        }
        if let State::Traffic(traffic) = &mut self.state
            && traffic.target_waits
        {
            traffic.target_waits = false;
            self.use_target_carry(core);
        }
        self.settle(core);
    }
}
