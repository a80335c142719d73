//! The end: one error of our own where something was wrong, the last event of the recording, goodbyes.
//!
//! Invariant: a session that is not yet recorded to its end waits in `Recording` until there is room for it.

use super::{Recording, Session, State};
use crate::core::{Core, Effect};
use crate::denial::Denial;
use crate::record::{self, Recorder};
use crate::traffic::TrafficEnd;
use headgate_plane::{Refusal, RefusalKind, ToControl};
use headgate_postgres::{PeerMisbehaved, Startup, TargetFailed, write};
use headgate_recording::BodyRef;

impl Session {
    pub(super) fn traffic_ended(&mut self, core: &mut Core, end: TrafficEnd) {
        match end {
            TrafficEnd::Terminated => self.end(core, "client said goodbye", None),
            TrafficEnd::ClientMisbehaved(error) => self.misbehaved(core, &error),
            TrafficEnd::TargetMisbehaved(what) => {
                tracing::warn!(session = %self.id, what, "target misbehaved");
                core.metrics.peers_misbehaved += 1;
                let denial = Denial::new("08P01", "Headgate ended the session: the target sent what it must not send");
                self.fatal(core, &format!("target misbehaved: {what}"), denial);
            }
            TrafficEnd::TooMuch(denial) => self.fatal(core, "beyond a bound", denial),
        }
    }

    pub(super) fn misbehaved(&mut self, core: &mut Core, error: &PeerMisbehaved) {
        tracing::info!(session = %self.id, address = %self.address, %error, "client misbehaved");
        core.metrics.peers_misbehaved += 1;
        let (code, message) = error.to_client();
        self.fatal(core, &format!("client misbehaved: {error}"), Denial::new(code, message));
    }

    pub(super) fn target_refused(&mut self, core: &mut Core, failed: &TargetFailed) {
        tracing::warn!(session = %self.id, %failed, "target: sign-in failed");
        let denial = match failed {
            // After the target has proved itself its own words help (too many connections, database missing).
            TargetFailed::Refused(refused) if refused.authenticated => {
                Denial::new("08004", format!("the target refused the session: {}", refused.get(b'M').unwrap_or("")))
            }
            _ => Denial::new("08004", "Headgate could not sign in to this target").hint("Its operators see the reason in Headgate's log."),
        };
        self.fatal(core, &format!("target: {failed}"), denial);
    }

    pub(super) fn refused(&mut self, core: &mut Core, startup: &Startup, refusal: &Refusal) {
        core.metrics.sign_ins_refused += 1;
        tracing::info!(session = %self.id, target_name = %startup.database, address = %self.address, kind = ?refusal.kind, detail = %refusal.detail, "sign-in refused");
        self.record_refusal(core, startup, &format!("{:?}: {}", refusal.kind, refusal.detail));
        let code = match refusal.kind {
            RefusalKind::BadCredential => "28P01",
            RefusalKind::NoSuchTarget => "3D000",
            RefusalKind::Unavailable | RefusalKind::Misconfigured => "57P03",
        };
        let mut denial = Denial::new(code, refusal.kind.to_client());
        if refusal.kind == RefusalKind::BadCredential {
            denial = denial.hint("The password is a token of `headgate login` or `headgate token mint`, or a JWT of a trusted issuer.");
        }
        self.state = State::Ended;
        self.say_fatal(core, &denial);
    }

    pub(super) fn record_refusal(&mut self, core: &mut Core, startup: &Startup, reason: &str) {
        if !record::has_room(core, 4096) {
            core.metrics.spool_waits += 1;
            return;
        }
        let body = BodyRef::SignInRefused { target: &startup.database, user: &startup.user, address: &self.address, reason };
        Recorder::new(self.id).write(core, body);
    }

    pub(super) fn fatal(&mut self, core: &mut Core, reason: &str, denial: Denial) {
        self.end(core, reason, Some(denial));
    }

    pub(super) fn end(&mut self, core: &mut Core, reason: &str, denial: Option<Denial>) {
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Traffic(traffic) => {
                write::terminate(self.target.out());
                self.last_words(core, Box::new(Recording { traffic, reason: reason.to_owned() }));
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
            core.effects.push(Effect::ToControl(ToControl::SessionClosed { session: self.id }));
        }
        if let Some(denial) = denial {
            self.say_fatal(core, &denial);
        } else {
            self.client.say_goodbye();
        }
        self.target.say_goodbye();
        self.deadline_us = None;
    }

    /// Ends the recording as soon as there is room for it.
    pub(super) fn last_words(&mut self, core: &mut Core, mut recording: Box<Recording>) {
        if record::has_room(core, 0) {
            recording.traffic.end(core, &recording.reason);
        } else {
            core.metrics.spool_waits += 1;
            self.state = State::Recording(recording);
        }
    }

    pub(super) fn say_fatal(&mut self, _core: &mut Core, denial: &Denial) {
        denial.write_fatal(self.client.out());
        self.client.say_goodbye();
    }
}
