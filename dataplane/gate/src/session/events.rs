//! What happens to a session beside bytes: answers, revocations, ends of peers, time.

use super::protocol::{Cancelled, Note, Protocol, Traffic};
use super::{Session, State};
use crate::clearance::{Refused, Waiting};
use crate::core::Core;
use headgate_plane::question::Asked;
use headgate_plane::{Answer, QuestionKey};

/// How long a severed session waits to hear what became of its statement.
const SEVERED_US_MAX: u64 = 10_000_000;
/// How long what a client had sent before it went away may take; then it is cancelled at the target.
const GONE_US_MAX: u64 = 30_000_000;

/// What an analyst says of a text, for sessions of this protocol.
pub(crate) type AnalysisOf<P> = <<P as Protocol>::Traffic as Traffic>::Analysis;

impl<P: Protocol> Session<P> {
    /// A held statement has a number.
    pub fn asked(&mut self, core: &mut Core, asked: &Asked) {
        self.note(core, Note::Asked(asked));
    }

    /// A held statement has an answer.
    pub fn answered(&mut self, core: &mut Core, key: QuestionKey, answer: Answer) {
        self.note(core, Note::Answered(key, answer));
    }

    /// An analyst read `text`.
    pub fn analysed(&mut self, core: &mut Core, text: &[u8], analysis: AnalysisOf<P>) {
        self.note(core, Note::Analysed(text, analysis));
    }

    /// The catalog of a target has been read again, or could not be: the core says which.
    pub fn catalog_came(&mut self, core: &mut Core, target: &str) {
        self.note(core, Note::CatalogCame { target });
        if let State::Traffic(traffic) = &mut self.state
            && traffic.target_waits()
        {
            traffic.target_goes_on();
            self.use_target_carry(core);
            self.settle(core);
        }
    }

    /// There are new rules.
    pub fn snapshot_changed(&mut self, core: &mut Core) {
        self.note(core, Note::RulesChanged);
    }

    fn note(&mut self, core: &mut Core, note: Note<'_, AnalysisOf<P>>) {
        if let State::Traffic(traffic) = &mut self.state
            && traffic.note(core, self.client.out(), note)
        {
            self.use_client_carry(core);
            self.settle(core);
        }
    }

    /// A cancel request with this token is about. `None`: it is not this session's.
    pub fn cancel(&mut self, core: &mut Core, token: &[u8]) -> Option<Cancelled> {
        let State::Traffic(traffic) = &mut self.state else {
            return None;
        };
        let cancelled = traffic.cancel(core.clock.now_us, token)?;
        self.use_client_carry(core);
        Some(cancelled)
    }

    /// The cancel that this connection asked for has been delivered: it closes, which is how a client knows.
    pub fn cancel_done(&mut self, core: &mut Core) {
        if matches!(self.state, State::Cancelling) {
            self.end(core, "cancel request", &[]);
        }
    }

    /// Whoever it is may not be here any more.
    pub fn revoked(&mut self, core: &mut Core, reason: &str) {
        let reason = reason.to_owned();
        self.sever(core, "revoked", &Refused::Revoked { reason });
    }

    /// The client is cut off at once. What runs at the target is cancelled, and the session waits a little to hear what became
    /// of it, for the recording.
    fn sever(&mut self, core: &mut Core, reason: &'static str, refused: &Refused) {
        let waits = match &mut self.state {
            State::Traffic(_) if self.severed.is_some() => return,
            // What is not on disk yet has not begun, and does not begin any more.
            State::Traffic(traffic) => traffic.sever(core) && traffic.clearance_mut().may_send(core),
            _ => false,
        };
        if !waits {
            return self.fatal(core, reason, refused);
        }
        self.severed = Some(reason);
        self.deadline_us = Some(core.clock.now_us + SEVERED_US_MAX);
        self.say_fatal(refused);
    }

    /// The process ends.
    pub fn stopping(&mut self, core: &mut Core) {
        self.fatal(core, "Headgate stops", &Refused::Stopping);
    }

    /// The client ended.
    pub fn client_ended(&mut self, core: &mut Core) {
        match &mut self.state {
            State::Ended => {}
            State::Traffic(traffic) if self.severed.is_none() && !traffic.lane().client_is_gone() => {
                // What it had sent is done, as the server would do it; it may only have closed its own direction.
                traffic.client_gone();
                self.deadline_us = Some(core.clock.now_us + GONE_US_MAX);
                self.use_client_carry(core);
                self.settle(core);
            }
            // Severed, or gone before: the session ends by itself.
            State::Traffic(_) => {}
            _ => self.end(core, "client went away", &[]),
        }
    }

    /// The target ended.
    pub fn target_ended(&mut self, core: &mut Core) {
        if self.is_ended() {
            return;
        }
        // What the target said last (an error of its own, as 57P01) has been handed on already.
        match &self.state {
            State::Traffic(traffic) => {
                let reason = match self.severed {
                    Some(reason) => reason,
                    None if traffic.lane().client_is_gone() => "client went away",
                    None if traffic.target_closed_in_order() => "target ended the session",
                    None => "target went away",
                };
                self.end(core, reason, &[]);
            }
            _ => self.target_failed(core, "it closed the connection during sign-in"),
        }
    }

    /// Time passes.
    pub fn tick(&mut self, core: &mut Core) {
        if matches!(self.state, State::Recording(_)) {
            if let State::Recording(recording) = std::mem::replace(&mut self.state, State::Ended) {
                self.last_words(core, recording);
            }
            return;
        }
        if matches!(self.state, State::Opening(_)) {
            if let State::Opening(begin) = std::mem::replace(&mut self.state, State::Ended) {
                let (grant, begin) = *begin;
                self.open_traffic(core, grant, begin);
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
                return self.end(core, reason, &[]);
            }
            if matches!(self.state, State::Cancelling) {
                return self.end(core, "cancel request that was not delivered in time", &[]);
            }
            core.metrics.peers_misbehaved += 1;
            return match &self.state {
                State::Greeting(greeting) if !P::may_be_told(greeting) => {
                    self.end(core, "client: too slow to sign in", &[])
                }
                State::Greeting(_) => self.fatal(core, "client: too slow to sign in", &Refused::SignInSlow),
                _ => self.fatal(core, "sign-in took too long", &Refused::SignInLate),
            };
        }
        let State::Traffic(traffic) = &mut self.state else {
            return;
        };
        if core.clock.unix_ms() >= traffic.clearance().expires_unix_ms() {
            return self.sever(core, "credential expired", &Refused::CredentialExpired);
        }
        let lane = traffic.lane_mut();
        let deadline = lane
            .deadline_unix_ms()
            .is_some_and(|at| core.clock.unix_ms() >= at);
        if deadline {
            lane.time_passes();
        }
        if deadline || lane.waiting == Waiting::Room {
            lane.retry();
            self.use_client_carry(core);
        }
        if let State::Traffic(traffic) = &mut self.state
            && traffic.target_waits()
        {
            traffic.target_goes_on();
            self.use_target_carry(core);
        }
        self.settle(core);
    }
}
