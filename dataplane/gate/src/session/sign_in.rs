//! From the client's first byte to a target that is ready.
//!
//! Invariant: each step consumes its state and leaves the next, or ends the session; the target's credential stays in the
//! state of its login.

use super::protocol::{Greeted, LoggedIn, Protocol, SignInAs, Traffic};
use super::{AwaitingGrant, CANCEL_US_MAX, ConnectingTarget, LoggingIn, Session, State};
use crate::clearance::Refused;
use crate::core::{Core, Effect};
use headgate_plane::{Credential, Grant, Refusal, RefusalKind, SignIn, ToControl};
use rustls::pki_types::ServerName;

impl<P: Protocol> Session<P> {
    /// `None`: more bytes are needed. Bytes behind an end are done with.
    pub(super) fn greet(&mut self, core: &mut Core, rest: &[u8]) -> Option<usize> {
        let State::Greeting(greeting) = &mut self.state else {
            return None;
        };
        match P::greet(greeting, &mut self.client, rest) {
            Greeted::More => None,
            Greeted::Used(used) => Some(used),
            Greeted::StartTls { used } => {
                let config = core.listeners.get(self.listener).and_then(|l| l.tls.clone());
                let Some(connection) = config.and_then(|c| rustls::ServerConnection::new(c).ok()) else {
                    self.end(core, "client: TLS cannot begin", &[]);
                    return Some(rest.len());
                };
                // What says that TLS begins goes in the clear, before the leg encrypts.
                self.clear_first = std::mem::take(self.client.out());
                self.client.start_server_tls(connection);
                // What is left is TLS: the caller feeds it again.
                (used > 0).then_some(used)
            }
            Greeted::SignIn {
                used,
                opening,
                asked,
                credential,
            } => {
                self.ask_identity(core, opening, asked, credential);
                Some(used)
            }
            Greeted::Cancel { used, token } => {
                core.effects.push(Effect::CancelSession { token });
                // Closed when it is delivered: a client that sees the end sends its next statement, which a late cancel would hit.
                self.state = State::Cancelling;
                self.deadline_us = Some(core.clock.now_us + CANCEL_US_MAX);
                Some(used)
            }
            Greeted::Wrong { asked, parting } => {
                if let Some(asked) = asked {
                    self.record_refusal(core, &asked, &parting.reason);
                }
                self.part(core, *parting);
                Some(rest.len())
            }
        }
    }

    fn ask_identity(
        &mut self,
        core: &mut Core,
        opening: P::Opening,
        asked: SignInAs,
        credential: Credential,
    ) {
        let sign_in = SignIn {
            session: self.id,
            credential,
            target: asked.target.clone(),
            user: asked.user.clone(),
            address: self.address.clone(),
            application: asked.application.clone(),
            tls: self.client.has_tls(),
        };
        core.effects
            .push(Effect::ToControl(ToControl::SignIn(Box::new(sign_in))));
        self.deadline_us = Some(core.clock.now_us + core.settings.sign_in_ms_max * 1000);
        self.state = State::AwaitingGrant(Box::new(AwaitingGrant { asked, opening }));
    }

    /// The control plane's answer to the identity question.
    pub fn signed_in(&mut self, core: &mut Core, result: Result<Box<Grant>, Refusal>) {
        let State::AwaitingGrant(awaiting) = std::mem::replace(&mut self.state, State::Ended) else {
            return;
        };
        let AwaitingGrant { asked, opening } = *awaiting;
        let refused = |kind: RefusalKind, detail: &str| Refusal {
            kind,
            detail: detail.to_owned(),
        };
        let grant = match result {
            Ok(grant) if grant.session == self.id => grant,
            Ok(_) => {
                let refusal = refused(RefusalKind::Unavailable, "a grant for another session");
                return self.sign_in_refused(core, &asked, &refusal);
            }
            Err(refusal) => return self.sign_in_refused(core, &asked, &refusal),
        };
        let any_user = core
            .listeners
            .get(self.listener)
            .is_some_and(|listener| listener.any_user);
        if !any_user && asked.user != grant.who.principal {
            // Whoever holds the credential may be told whose it is.
            let principal = grant.who.principal.clone();
            let reason = format!("user \"{}\" with a credential of \"{principal}\"", asked.user);
            let user = asked.user.clone();
            return self.turn_away(
                core,
                &asked,
                &reason,
                &Refused::NotThePrincipal { user, principal },
            );
        }
        if !core.policy.context(&grant.who, &grant.target).opens() {
            let refusal = if core.policy.epoch().0 == 0 {
                refused(RefusalKind::Unavailable, "no rules have come yet")
            } else {
                refused(
                    RefusalKind::NoSuchTarget,
                    "no rule allows this identity anything on this target",
                )
            };
            return self.sign_in_refused(core, &asked, &refusal);
        }
        let admitted = match P::admit(core, opening, &grant) {
            Ok(admitted) => admitted,
            Err(parting) => {
                self.record_refusal(core, &asked, &parting.reason);
                return self.part(core, *parting);
            }
        };
        core.effects.push(Effect::ConnectTarget {
            address: grant.target.address.clone(),
        });
        self.state = State::ConnectingTarget(Box::new(ConnectingTarget {
            asked,
            grant,
            admitted,
        }));
    }

    /// Instead of `signed_in`: the principal has as many sessions as it may.
    pub fn too_many_sessions(&mut self, core: &mut Core, sessions: usize) {
        if !matches!(self.state, State::AwaitingGrant(_)) {
            return;
        }
        let State::AwaitingGrant(awaiting) = std::mem::replace(&mut self.state, State::Ended) else {
            return;
        };
        let reason = format!("TooManySessions: the principal has {sessions}");
        self.turn_away(
            core,
            &awaiting.asked,
            &reason,
            &Refused::TooManySessions { sessions },
        );
    }

    /// The target is connected.
    pub fn target_connected(&mut self, core: &mut Core) {
        let State::ConnectingTarget(connecting) = std::mem::replace(&mut self.state, State::Ended) else {
            return;
        };
        let ConnectingTarget {
            asked,
            grant,
            admitted,
        } = *connecting;
        match P::begin_login(core, admitted, &grant, &mut self.target) {
            Ok(login) => self.state = State::LoggingIn(Box::new(LoggingIn { asked, grant, login })),
            Err(parting) => self.part(core, *parting),
        }
    }

    /// The target cannot be connected.
    pub fn target_failed(&mut self, core: &mut Core, why: &str) {
        tracing::warn!(session = %self.id, why, "target: cannot be reached");
        self.fatal(core, "target: cannot be reached", &Refused::TargetUnreachable);
    }

    /// `None`: more bytes are needed. Bytes behind an end are done with.
    pub(super) fn log_in(&mut self, core: &mut Core, rest: &[u8]) -> Option<usize> {
        let State::LoggingIn(logging_in) = &mut self.state else {
            return None;
        };
        let LoggingIn { asked, grant, login } = &mut **logging_in;
        match P::log_in(core, login, grant, &mut self.target, rest) {
            Ok(LoggedIn::More) => None,
            Ok(LoggedIn::Used(used)) => Some(used),
            Ok(LoggedIn::StartTls { used }) => {
                match tls_to(core, grant) {
                    Ok(connection) => self.target.start_client_tls(connection),
                    Err(why) => {
                        tracing::warn!(session = %self.id, why, "target: TLS cannot begin");
                        let asked = asked.clone();
                        self.record_refusal(core, &asked, &format!("target: TLS cannot begin: {why}"));
                        self.fatal(core, "target: TLS cannot begin", &Refused::TargetSignIn);
                        return Some(rest.len());
                    }
                }
                Some(used)
            }
            Ok(LoggedIn::Ready { used, begin, token }) => {
                self.target_ready(core, begin, token);
                Some(used)
            }
            Err(parting) => {
                let asked = asked.clone();
                self.record_refusal(core, &asked, &parting.reason);
                self.part(core, *parting);
                Some(rest.len())
            }
        }
    }

    fn target_ready(&mut self, core: &mut Core, begin: P::Begin, token: Vec<u8>) {
        let State::LoggingIn(logging_in) = std::mem::replace(&mut self.state, State::Ended) else {
            return;
        };
        let grant = logging_in.grant;
        core.effects.push(Effect::KeyMade { token });
        core.effects.push(Effect::ToControl(ToControl::SessionOpened {
            session: self.id,
            who: grant.who.clone(),
            target: grant.target.name.clone(),
            credential_id: grant.credential_id.clone(),
            started_unix_ms: self.id.unix_ms(),
        }));
        core.metrics.sessions_opened += 1;
        self.opened = true;
        self.deadline_us = None;
        self.open_traffic(core, grant, begin);
    }

    /// The session's first words stand in the recording before anything of the target reaches the client.
    pub(super) fn open_traffic(&mut self, core: &mut Core, grant: Box<Grant>, begin: P::Begin) {
        self.state = match P::Traffic::begin(core, self.id, grant, begin, self.client.out()) {
            Ok(traffic) => State::Traffic(Box::new(traffic)),
            Err(later) => State::Opening(Box::new(later)),
        };
        // What the client sent without waiting for our answer.
        if self.client.carried() > 0 {
            self.use_client_carry(core);
        }
    }
}

fn tls_to(core: &Core, grant: &Grant) -> Result<rustls::ClientConnection, String> {
    let spec = &grant.target;
    let config = (core.target_tls)(spec)?;
    let host = spec
        .address
        .rsplit_once(':')
        .map_or(spec.address.as_str(), |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(host).map_err(|e| e.to_string())?;
    rustls::ClientConnection::new(config, name).map_err(|e| e.to_string())
}
