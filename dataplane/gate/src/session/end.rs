//! The end: one error in the protocol's words where something was wrong, the last event of the recording, goodbyes.
//!
//! Invariant: a session that is not yet recorded to its end waits in `Recording` until there is room for it.

use super::protocol::{Fault, Parting, Protocol, SignInAs, Traffic};
use super::{Recording, Session, State};
use crate::clearance::room::{Recorder, Room};
use crate::clearance::{Close, Refused};
use crate::core::{Core, Effect};
use headgate_plane::{Refusal, ToControl};
use headgate_recording::BodyRef;

impl<P: Protocol> Session<P> {
    /// The protocol says that the session ends here, and with which words.
    pub(super) fn part(&mut self, core: &mut Core, parting: Parting) {
        if parting.discards {
            // Whatever has not left yet does not leave any more; what has left may be the first part of a message.
            self.target_cut |= !self.target.out().is_empty();
            self.target.out().clear();
        }
        match parting.fault {
            Fault::None => {}
            Fault::Refused => core.metrics.sign_ins_refused += 1,
            Fault::Misbehaved => core.metrics.peers_misbehaved += 1,
        }
        tracing::info!(session = %self.id, address = %self.address, reason = %parting.reason, "session ends");
        self.end(core, &parting.reason, &parting.words);
    }

    /// The control plane, or no rule at all, lets the client in.
    pub(super) fn sign_in_refused(&mut self, core: &mut Core, asked: &SignInAs, refusal: &Refusal) {
        let reason = format!("{:?}: {}", refusal.kind, refusal.detail);
        self.turn_away(core, asked, &reason, &Refused::SignIn(refusal.kind));
    }

    /// Ends a sign-in that was refused.
    pub(super) fn turn_away(&mut self, core: &mut Core, asked: &SignInAs, reason: &str, refused: &Refused) {
        core.metrics.sign_ins_refused += 1;
        tracing::info!(session = %self.id, target_name = %asked.target, user = %asked.user, address = %self.address, reason, "sign-in refused");
        self.record_refusal(core, asked, reason);
        self.fatal(core, reason, refused);
    }

    pub(super) fn record_refusal(&mut self, core: &mut Core, asked: &SignInAs, reason: &str) {
        let body = BodyRef::SignInRefused {
            target: &asked.target,
            user: &asked.user,
            address: &self.address,
            reason,
        };
        // Somebody without a session cannot be made to wait for room: without any, the log alone has it.
        if let Ok(mut room) = Room::for_body(core, &body) {
            let _ = Recorder::new(self.id).write(core, &mut room, body);
        }
    }

    pub(super) fn fatal(&mut self, core: &mut Core, reason: &str, refused: &Refused) {
        let mut words = Vec::new();
        P::refuse(refused, true, &mut words);
        self.end(core, reason, &words);
    }

    /// `words`: a whole message for the client, or nothing.
    pub(super) fn end(&mut self, core: &mut Core, reason: &str, words: &[u8]) {
        let amid_message = self.is_amid_message();
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Traffic(mut traffic) => {
                if !traffic.clearance_mut().may_send(core) {
                    // What is not on disk yet is not done any more.
                    self.target_cut |= !self.target.out().is_empty();
                    self.target.out().clear();
                }
                if !self.target_cut {
                    traffic.goodbye(self.target.out());
                }
                self.last_words(
                    core,
                    Box::new(Recording {
                        traffic,
                        reason: reason.to_owned(),
                    }),
                );
            }
            State::Recording(recording) => {
                self.state = State::Recording(recording);
                return;
            }
            _ => {}
        }
        if self.opened {
            self.opened = false;
            core.metrics.sessions_closed += 1;
            core.effects
                .push(Effect::ToControl(ToControl::SessionClosed { session: self.id }));
        }
        if !amid_message {
            self.client.out().extend_from_slice(words);
        }
        self.client.say_goodbye();
        self.target.say_goodbye();
        self.deadline_us = None;
    }

    /// Ends the recording as soon as there is room for it.
    pub(super) fn last_words(&mut self, core: &mut Core, mut recording: Box<Recording<P>>) {
        let close = Close {
            reason: &recording.reason,
            bytes_from_client: self.bytes_from_client,
            bytes_to_client: self.bytes_to_client,
        };
        if recording.traffic.close(core, close).is_err() {
            self.state = State::Recording(recording);
        }
    }

    fn is_amid_message(&self) -> bool {
        matches!(&self.state, State::Traffic(traffic) if traffic.is_amid_message())
    }

    /// The client has its last words; the session goes on for the target's sake.
    pub(super) fn say_fatal(&mut self, refused: &Refused) {
        if !self.is_amid_message() {
            P::refuse(refused, true, self.client.out());
        }
        self.client.say_goodbye();
    }
}
