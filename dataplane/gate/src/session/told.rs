//! What a session is told beside bytes: answers, revocations, ends of peers, time.

use super::{Session, State};
use crate::core::Core;
use crate::denial::Denial;
use crate::known::Known;
use crate::record;
use crate::traffic::{Cancelled, Waiting};
use headgate_plane::question::Asked;
use headgate_plane::{Answer, QuestionKey};
use std::rc::Rc;

impl Session {
    pub fn asked(&mut self, asked: &Asked) {
        if let State::Traffic(traffic) = &mut self.state {
            traffic.asked(self.client.out(), asked);
        }
    }

    pub fn answered(&mut self, core: &mut Core, key: QuestionKey, answer: Answer) {
        if let State::Traffic(traffic) = &mut self.state {
            traffic.answered(key, answer);
            self.use_client_carry(core);
        }
    }

    pub fn analysed(&mut self, core: &mut Core, known: Rc<Known>) {
        if let State::Traffic(traffic) = &mut self.state {
            traffic.analysed(known);
            self.use_client_carry(core);
        }
    }

    pub fn snapshot_changed(&mut self, core: &mut Core) {
        if let State::Traffic(traffic) = &mut self.state {
            traffic.snapshot_changed(core);
            self.use_client_carry(core);
        }
    }

    /// A cancel request for `pid` and `key` is about. `None`: it is not this session's.
    pub fn cancel(&mut self, core: &mut Core, pid: u32, key: &[u8]) -> Option<Cancelled> {
        let State::Traffic(traffic) = &mut self.state else { return None };
        if !traffic.is_key(pid, key) {
            return None;
        }
        let cancelled = traffic.cancel(core);
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
        let denial = Denial::new("57P01", "terminating connection: access was revoked").detail(reason.to_owned());
        self.fatal(core, "revoked", denial);
    }

    pub fn stopping(&mut self, core: &mut Core) {
        self.fatal(core, "Headgate stops", Denial::new("57P01", "terminating connection: Headgate stops"));
    }

    pub fn client_ended(&mut self, core: &mut Core) {
        if !self.is_ended() {
            self.end(core, "client went away", None);
        }
    }

    pub fn target_ended(&mut self, core: &mut Core) {
        if self.is_ended() {
            return;
        }
        // What the target said last (an error of its own, as 57P01) has been handed on already.
        match &self.state {
            State::Traffic(_) => self.end(core, "target went away", None),
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
        if self.deadline_us.is_some_and(|at| core.clock.now_us >= at) {
            if matches!(self.state, State::Cancelling) {
                return self.end(core, "cancel request that was not delivered in time", None);
            }
            let (reason, denial) = match &self.state {
                State::Greeting(_) => {
                    ("client: too slow to sign in", Denial::new("08P01", "Headgate waited too long for the start of the session"))
                }
                _ => ("sign-in took too long", Denial::new("57P03", "Headgate could not sign in in time")),
            };
            core.metrics.peers_misbehaved += 1;
            return self.fatal(core, reason, denial);
        }
        let State::Traffic(traffic) = &mut self.state else { return };
        if core.clock.unix_ms() >= traffic.expires_unix_ms {
            let denial = Denial::new("57P01", "terminating connection: the credential has expired").hint("Sign in again.");
            return self.fatal(core, "credential expired", denial);
        }
        let deadline = traffic.deadline_unix_ms().is_some_and(|at| core.clock.unix_ms() >= at);
        if deadline {
            traffic.deadline_passed();
        }
        if deadline || traffic.waiting() == Waiting::Room {
            traffic.retry();
            self.use_client_carry(core);
        }
        if let State::Traffic(traffic) = &mut self.state
            && traffic.target_waits
            && record::has_room(core, 0)
        {
            traffic.target_waits = false;
            self.use_target_carry(core);
        }
    }
}
