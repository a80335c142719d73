//! The end: one error of our own where something was wrong, the last event of the recording, goodbyes.
//!
//! Invariants: a session that is not yet recorded to its end waits in `Recording` until there is room for it; what a target
//! says before it has proved itself reaches no client, and what it says of the credential that Headgate injects never does.

use super::{Recording, Session, State};
use crate::clearance::room::{Recorder, Room};
use crate::core::{Core, Effect};
use crate::postgres::denial::Denial;
use crate::postgres::traffic::TrafficEnd;
use headgate_plane::{Refusal, RefusalKind, TargetTls, ToControl};
use headgate_postgres::startup::MINOR_MAX;
use headgate_postgres::startup::pins::Contradiction;
use headgate_postgres::startup::policy::SettingRefused;
use headgate_postgres::{PeerMisbehaved, Report, Startup, TargetFailed, TargetRefused, write};
use headgate_recording::BodyRef;

impl Session {
    pub(super) fn traffic_ended(&mut self, core: &mut Core, end: TrafficEnd) {
        if matches!(
            end,
            TrafficEnd::TargetMisbehaved(_) | TrafficEnd::Contradicted(_) | TrafficEnd::Unrecorded
        ) {
            // Whatever has not left yet does not leave any more.
            self.target.out().clear();
        }
        match end {
            TrafficEnd::ClientMisbehaved(error) => self.misbehaved(core, &error),
            TrafficEnd::TargetMisbehaved(what) => {
                tracing::warn!(session = %self.id, what, "target misbehaved");
                core.metrics.peers_misbehaved += 1;
                let denial = Denial::new(
                    "08P01",
                    "Headgate ended the session: the target sent what it must not send",
                );
                self.fatal(core, &format!("target misbehaved: {what}"), denial);
            }
            TrafficEnd::CopyBroken(denial) => {
                core.metrics.peers_misbehaved += 1;
                let reason = format!("client misbehaved: {}", denial.message);
                self.fatal(core, &reason, denial);
            }
            TrafficEnd::Contradicted(denial) => {
                core.metrics.peers_misbehaved += 1;
                let reason = format!("target contradicts: {}", denial.message);
                self.fatal(core, &reason, denial);
            }
            TrafficEnd::Unrecorded => {
                let denial = Denial::new(
                    "58000",
                    "Headgate ended the session: it could not record what the session does",
                );
                self.fatal(core, "not recorded", denial);
            }
        }
    }

    pub(super) fn misbehaved(&mut self, core: &mut Core, error: &PeerMisbehaved) {
        tracing::info!(session = %self.id, address = %self.address, %error, "client misbehaved");
        core.metrics.peers_misbehaved += 1;
        let reason = format!("client misbehaved: {error}");
        let (code, message) = error.to_client();
        let denial = Denial::new(code, message);
        let denial = match error {
            error if error.is_silent() => return self.end(core, &reason, None),
            PeerMisbehaved::UnsupportedProtocol { major, minor } => {
                let text = format!("unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.{MINOR_MAX}");
                if *major < 3 {
                    write::error_of_protocol_2(self.client.out(), "FATAL", &text);
                    return self.end(core, &reason, None);
                }
                Denial::new(code, text)
            }
            PeerMisbehaved::OutOfPlace { tag, state: "ExpectPassword" } => {
                Denial::new(code, format!("expected password response, got message type {tag}"))
            }
            PeerMisbehaved::UnknownMessage { tag } | PeerMisbehaved::OutOfPlace { tag: tag @ b'p', .. } => {
                Denial::new(code, format!("invalid frontend message type {tag}"))
            }
            PeerMisbehaved::ClearBytesBehindSslRequest { .. } => {
                denial.detail("This could be either a client-software bug or evidence of an attempted man-in-the-middle attack.")
            }
            _ => denial,
        };
        self.fatal(core, &reason, denial);
    }

    /// A setting of the start-up packet that does not go on to the target.
    pub(super) fn setting_refused(&mut self, core: &mut Core, startup: &Startup, setting: &SettingRefused) {
        core.metrics.sign_ins_refused += 1;
        tracing::info!(session = %self.id, target_name = %startup.database, address = %self.address, %setting, "sign-in refused");
        self.record_refusal(core, startup, &setting.to_string());
        let mut denial = Denial::new(setting.sqlstate(), setting.to_string());
        denial.hint = setting.hint().map(str::to_owned);
        self.state = State::Ended;
        self.say_fatal(core, &denial);
    }

    /// `user` of the start-up packet is somebody else than the credential is for. Whoever holds the credential may be told
    /// whose it is.
    pub(super) fn not_the_principal(&mut self, core: &mut Core, startup: &Startup, principal: &str) {
        core.metrics.sign_ins_refused += 1;
        tracing::info!(session = %self.id, user = %startup.user, principal, address = %self.address, "sign-in refused: user is not the principal");
        self.record_refusal(
            core,
            startup,
            &format!("user \"{}\" with a credential of \"{principal}\"", startup.user),
        );
        let denial = Denial::new("28000", format!("user \"{}\" is not who this credential is for", startup.user)).hint(format!(
            "It is for \"{principal}\": connect with user={principal}. A listener with user = \"any\" does not look at the name."
        ));
        self.state = State::Ended;
        self.say_fatal(core, &denial);
    }

    /// The target is not what the judge takes it for.
    pub(super) fn contradicted(&mut self, core: &mut Core, startup: &Startup, contradiction: &Contradiction) {
        tracing::warn!(session = %self.id, target_name = %startup.database, "sign-in ended: {contradiction}");
        core.metrics.peers_misbehaved += 1;
        self.record_refusal(core, startup, &contradiction.to_string());
        // Nothing that a client does mends it, but for an encoding that it asked for.
        let code = if contradiction.name.ends_with("_encoding") {
            "22023"
        } else {
            "08004"
        };
        let denial = Denial::new(code, format!("Headgate ended the sign-in: {contradiction}"))
            .hint(contradiction.hint());
        self.fatal(core, &format!("target: {contradiction}"), denial);
    }

    pub(super) fn target_refused(&mut self, core: &mut Core, failed: &TargetFailed) {
        tracing::warn!(session = %self.id, %failed, "target: sign-in failed");
        let reason = format!("target: {failed}");
        let mut words = Vec::new();
        let hidden = Denial::new("08004", "Headgate could not sign in to this target")
            .hint("Its operators see the reason in Headgate's log.");
        match (failed, &self.state) {
            (TargetFailed::Refused(refused), State::SigningIn(signing)) => {
                let (grant, startup) = (&signing.grant, signing.startup.clone());
                // A trigger on login may speak of what is covered: doubt masks.
                let free = core.policy.context(&grant.who, &grant.target).masks().is_empty();
                let proved = refused.authenticated || grant.target.tls == TargetTls::VerifyFull;
                if !write_refusal(refused, proved, free, &mut words) {
                    hidden.write_fatal(&mut words);
                }
                self.record_refusal(core, &startup, &reason);
            }
            _ => hidden.write_fatal(&mut words),
        }
        self.end_with(core, &reason, Some(&words));
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
        let body = BodyRef::SignInRefused {
            target: &startup.database,
            user: &startup.user,
            address: &self.address,
            reason,
        };
        // Somebody without a session cannot be made to wait for room: without any, the log alone has it.
        if let Ok(mut room) = Room::for_body(core, &body) {
            let _ = Recorder::new(self.id).write(core, &mut room, body);
        }
    }

    pub(super) fn fatal(&mut self, core: &mut Core, reason: &str, denial: Denial) {
        self.end(core, reason, Some(denial));
    }

    pub(super) fn end(&mut self, core: &mut Core, reason: &str, denial: Option<Denial>) {
        let words = denial.map(|denial| {
            let mut words = Vec::new();
            denial.write_fatal(&mut words);
            words
        });
        self.end_with(core, reason, words.as_deref());
    }

    /// `words` is a whole ErrorResponse.
    fn end_with(&mut self, core: &mut Core, reason: &str, words: Option<&[u8]>) {
        let words = words.filter(|_| !self.is_amid_message());
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Traffic(traffic) => {
                write::terminate(self.target.out());
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
        if let Some(words) = words {
            self.client.out().extend_from_slice(words);
        }
        self.client.say_goodbye();
        self.target.say_goodbye();
        self.deadline_us = None;
    }

    /// Ends the recording as soon as there is room for it.
    pub(super) fn last_words(&mut self, core: &mut Core, mut recording: Box<Recording>) {
        if recording.traffic.end(core, &recording.reason).is_err() {
            self.state = State::Recording(recording);
        }
    }

    fn is_amid_message(&self) -> bool {
        matches!(&self.state, State::Traffic(traffic) if traffic.is_amid_message())
    }

    pub(super) fn say_fatal(&mut self, _core: &mut Core, denial: &Denial) {
        if !self.is_amid_message() {
            denial.write_fatal(self.client.out());
        }
        self.client.say_goodbye();
    }
}

/// What a target that has not proved itself is believed: that it has no room, or not yet. Its words are not shown.
const WITHOUT_PROOF: [(&str, &str); 2] = [
    ("53300", "the target takes no more connections at the moment"),
    ("57P03", "the target does not take connections at the moment"),
];

/// The target's refusal as the client may read it: its own SQLSTATE, on which clients decide whether to try again. `false`: it
/// may not be shown.
fn write_refusal(refused: &TargetRefused, proved: bool, free: bool, out: &mut Vec<u8>) -> bool {
    let code = refused.sqlstate();
    // Class 28 speaks of the credential that Headgate injects.
    if code.starts_with("28") {
        return false;
    }
    if !proved {
        let Some((code, words)) = WITHOUT_PROOF.iter().find(|(known, _)| *known == code) else {
            return false;
        };
        Report::fatal(code, words).write_error(out);
        return true;
    }
    let mut report = Report::fatal(code, "the target refused the session");
    if free {
        report.message = refused.get(b'M').unwrap_or(report.message);
        report.detail = refused.get(b'D');
        report.hint = refused.get(b'H');
    }
    report.write_error(out);
    true
}
