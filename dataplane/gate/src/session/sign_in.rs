//! From the client's first byte to a target that is ready.
//!
//! Invariant: each step consumes its state and leaves the next, or ends the session; the target's credential stays in the
//! state of its handshake.

use super::{AwaitingGrant, CANCEL_US_MAX, ConnectingTarget, Session, SigningIn, State};
use crate::core::{Core, Effect};
use crate::postgres::denial::Denial;
use crate::postgres::traffic::{Begin, Traffic};
use headgate_plane::{
    Credential, Effect as Ruling, Grant, Refusal, RefusalKind, SignIn, TargetTls, ToControl,
};
use headgate_postgres::backend::TransactionStatus;
use headgate_postgres::cancel::Key;
use headgate_postgres::startup::pins::Pins;
use headgate_postgres::startup::policy::{self, Policy as StartupPolicy, for_target};
use headgate_postgres::{
    ClientEvent, ClientHandshake, PeerMisbehaved, Startup, TargetEvent, TargetFailed, TargetHandshake,
    TargetHandshakeConfig, TargetReady, certificate, write,
};
use headgate_sql::SessionSettings;
use rustls::pki_types::ServerName;

impl Session {
    pub(super) fn greet(&mut self, core: &mut Core, rest: &[u8]) -> Result<Option<usize>, PeerMisbehaved> {
        let State::Greeting(greeting) = &mut self.state else {
            return Ok(None);
        };
        if greeting.awaiting_tls {
            if !self.client.has_tls() || self.client.is_handshaking() {
                return Ok(None);
            }
            let handshake = std::mem::replace(&mut greeting.handshake, ClientHandshake::Done);
            greeting.handshake = handshake.tls_started(self.client.alpn().as_deref())?;
            greeting.awaiting_tls = false;
        }
        let handshake = std::mem::replace(&mut greeting.handshake, ClientHandshake::Done);
        let (next, advance) = handshake.advance(rest, self.client.out())?;
        greeting.handshake = next;
        match advance.event {
            None if advance.used == 0 => return Ok(None),
            None => {}
            Some(ClientEvent::StartTls { .. }) => {
                let config = core.listeners.get(self.listener).and_then(|l| l.tls.clone());
                let config = config.ok_or(PeerMisbehaved::TlsNotOffered)?;
                let connection =
                    rustls::ServerConnection::new(config).map_err(|_| PeerMisbehaved::TlsNotOffered)?;
                // The "S" goes in the clear, before the leg encrypts.
                self.clear_first = std::mem::take(self.client.out());
                self.client.start_server_tls(connection);
                if let State::Greeting(greeting) = &mut self.state {
                    greeting.awaiting_tls = true;
                }
                // What is left is TLS: the caller feeds it again.
                return Ok(if advance.used > 0 {
                    Some(advance.used)
                } else {
                    None
                });
            }
            Some(ClientEvent::Startup(startup)) => {
                if let Err(setting) = policy::replication(&startup) {
                    // Said in place of the request for a password, which would be typed in vain.
                    self.client.out().clear();
                    self.setting_refused(core, &startup, &setting);
                } else {
                    greeting.startup = Some(startup);
                }
            }
            Some(ClientEvent::Password(password)) => {
                let used = advance.used;
                if let Some(startup) = greeting.startup.take() {
                    self.ask_identity(core, startup, password);
                }
                return Ok(Some(used));
            }
            Some(ClientEvent::Cancel { pid, key }) => {
                core.effects.push(Effect::CancelSession { pid, key });
                // Closed when it is delivered: a client that sees the end sends its next statement, which a late cancel would hit.
                self.state = State::Cancelling;
                self.deadline_us = Some(core.clock.now_us + CANCEL_US_MAX);
                return Ok(Some(advance.used));
            }
        }
        Ok(Some(advance.used))
    }

    fn ask_identity(&mut self, core: &mut Core, startup: Box<Startup>, password: headgate_plane::Secret) {
        let sign_in = SignIn {
            session: self.id,
            credential: Credential::Password(password),
            target: startup.database.clone(),
            user: startup.user.clone(),
            address: self.address.clone(),
            application: startup.parameter("application_name").unwrap_or("").to_owned(),
            tls: self.client.has_tls(),
        };
        core.effects
            .push(Effect::ToControl(ToControl::SignIn(Box::new(sign_in))));
        self.deadline_us = Some(core.clock.now_us + core.settings.sign_in_ms_max * 1000);
        self.state = State::AwaitingGrant(Box::new(AwaitingGrant { startup }));
    }

    /// The control plane's answer to the identity question.
    pub fn signed_in(&mut self, core: &mut Core, result: Result<Box<Grant>, Refusal>) {
        let State::AwaitingGrant(awaiting) = std::mem::replace(&mut self.state, State::Ended) else {
            return;
        };
        let startup = awaiting.startup;
        let grant = match result {
            Ok(grant) if grant.session == self.id => grant,
            Ok(_) => {
                let refusal = Refusal {
                    kind: RefusalKind::Unavailable,
                    detail: "a grant for another session".to_owned(),
                };
                return self.refused(core, &startup, &refusal);
            }
            Err(refusal) => return self.refused(core, &startup, &refusal),
        };
        let any_user = core
            .listeners
            .get(self.listener)
            .is_some_and(|listener| listener.any_user);
        if !any_user && startup.user != grant.who.principal {
            return self.not_the_principal(core, &startup, &grant.who.principal);
        }
        let context = core.policy.context(&grant.who, &grant.target);
        if !context.opens() {
            let (kind, detail) = if core.policy.epoch().0 == 0 {
                (RefusalKind::Unavailable, "no rules have come yet")
            } else {
                (
                    RefusalKind::NoSuchTarget,
                    "no rule allows this identity anything on this target",
                )
            };
            return self.refused(
                core,
                &startup,
                &Refusal {
                    kind,
                    detail: detail.to_owned(),
                },
            );
        }
        let allow_unpinned = context.rules().iter().any(|i| {
            core.policy
                .rule(*i)
                .is_some_and(|rule| rule.effect == Ruling::Allow && rule.statement.danger_unpinned)
        });
        // A path that only hides needs no rule; any other one that names the setting.
        let opens_path = context.rules().iter().any(|i| {
            let names = |rule: &headgate_plane::Rule| {
                rule.effect == Ruling::Allow && rule.statement.settings.iter().any(|s| s == "search_path")
            };
            core.policy.rule(*i).is_some_and(names)
        });
        let asked = for_target(
            &startup,
            StartupPolicy {
                allow_search_path: true,
                allow_unpinned,
            },
        )
        .unwrap_or_default();
        let narrows =
            path_of(&asked).is_none_or(|path| SessionSettings::default().startup_search_path_narrows(path));
        let policy = StartupPolicy {
            allow_search_path: opens_path || narrows,
            allow_unpinned,
        };
        let parameters = match for_target(&startup, policy) {
            Ok(parameters) => parameters,
            Err(setting) => return self.setting_refused(core, &startup, &setting),
        };
        let settings =
            path_of(&parameters).map_or_else(SessionSettings::default, SessionSettings::beginning_with);
        let pins = (!allow_unpinned).then(|| Pins::of(&parameters));
        core.effects.push(Effect::ConnectTarget {
            address: grant.target.address.clone(),
        });
        self.state = State::ConnectingTarget(Box::new(ConnectingTarget {
            startup,
            grant,
            parameters,
            pins,
            settings,
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
        core.metrics.sign_ins_refused += 1;
        tracing::info!(session = %self.id, address = %self.address, sessions, "sign-in refused: too many sessions of this principal");
        self.record_refusal(
            core,
            &awaiting.startup,
            &format!("TooManySessions: the principal has {sessions}"),
        );
        let denial = Denial::new(
            "53300",
            format!("Headgate: too many sessions of this principal ({sessions} are open)"),
        )
        .hint("End sessions that are no longer used; the bound is sessions_per_principal_max.");
        self.say_fatal(core, &denial);
    }

    pub fn target_connected(&mut self, core: &mut Core) {
        let State::ConnectingTarget(connecting) = std::mem::replace(&mut self.state, State::Ended) else {
            return;
        };
        let ConnectingTarget {
            startup,
            grant,
            parameters,
            pins,
            settings,
        } = *connecting;
        let config = TargetHandshakeConfig {
            tls: grant.target.tls != TargetTls::DangerOff,
            user: grant.target.user.clone(),
            database: grant.target.database.clone(),
            parameters,
            password: grant.target_secret.clone(),
            scram_keys: core.scram_keys.clone(),
            auth: grant.target.auth,
            minor: headgate_postgres::startup::MINOR_MAX,
        };
        match TargetHandshake::start(config, self.target.out()) {
            Ok(handshake) => {
                self.state = State::SigningIn(Box::new(SigningIn {
                    startup,
                    grant,
                    pins,
                    settings,
                    handshake,
                    awaiting_tls: false,
                }));
            }
            Err(failed) => {
                tracing::warn!(session = %self.id, %failed, "target: handshake cannot begin");
                self.fatal(
                    core,
                    "target: handshake",
                    Denial::new("08006", "Headgate cannot sign in to this target"),
                );
            }
        }
    }

    pub fn target_failed(&mut self, core: &mut Core, why: &str) {
        tracing::warn!(session = %self.id, why, "target: cannot be reached");
        let denial = Denial::new("08001", "Headgate cannot reach this target")
            .hint("Its operators see the reason in Headgate's log.");
        self.fatal(core, "target: cannot be reached", denial);
    }

    pub(super) fn sign_in_at_target(
        &mut self,
        core: &mut Core,
        rest: &[u8],
    ) -> Result<Option<usize>, TargetFailed> {
        let State::SigningIn(signing) = &mut self.state else {
            return Ok(None);
        };
        if signing.awaiting_tls {
            if self.target.is_handshaking() {
                return Ok(None);
            }
            let binding = self
                .target
                .peer_certificate()
                .and_then(|c| certificate::tls_server_end_point(&c));
            let handshake = std::mem::replace(&mut signing.handshake, TargetHandshake::Done);
            signing.handshake = handshake.tls_started(binding, self.target.out())?;
            signing.awaiting_tls = false;
        }
        let handshake = std::mem::replace(&mut signing.handshake, TargetHandshake::Done);
        let (next, advance) = handshake.advance(rest, self.target.out())?;
        signing.handshake = next;
        match advance.event {
            None if advance.used == 0 => Ok(None),
            None => Ok(Some(advance.used)),
            Some(TargetEvent::StartTls) => {
                let spec = &signing.grant.target;
                let failed = |what: String| TargetFailed::Scram { what };
                let config = (core.target_tls)(spec).map_err(failed)?;
                let host = spec
                    .address
                    .rsplit_once(':')
                    .map_or(spec.address.as_str(), |(host, _)| host);
                let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
                let name = ServerName::try_from(host).map_err(|e| failed(e.to_string()))?;
                let connection =
                    rustls::ClientConnection::new(config, name).map_err(|e| failed(e.to_string()))?;
                self.target.start_client_tls(connection);
                signing.awaiting_tls = true;
                Ok(Some(advance.used))
            }
            Some(TargetEvent::Ready(ready)) => {
                self.target_ready(core, *ready);
                Ok(Some(advance.used))
            }
        }
    }

    fn target_ready(&mut self, core: &mut Core, ready: TargetReady) {
        let State::SigningIn(signing) = std::mem::replace(&mut self.state, State::Ended) else {
            return;
        };
        let SigningIn {
            startup,
            grant,
            pins,
            settings,
            ..
        } = *signing;
        if let Some(Err(contradiction)) = pins.map(|pins| pins.verify(&ready.parameters)) {
            return self.contradicted(core, &startup, &contradiction);
        }
        let own_key = Key::new(startup.minor, Core::random());
        let mut welcome = Vec::with_capacity(512);
        write::authentication_ok(&mut welcome);
        for (name, value) in &ready.parameters {
            // They came in a message of this very form and have no zero.
            let _ = write::parameter_status(&mut welcome, name.as_bytes(), value.as_bytes());
        }
        let _ = write::backend_key_data(&mut welcome, ready.pid, own_key.as_bytes());
        write::ready_for_query(&mut welcome, TransactionStatus::Idle);
        core.effects.push(Effect::KeyMade {
            pid: ready.pid,
            key: own_key.as_bytes().to_vec(),
        });
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
        let begin = Begin {
            grant,
            session: self.id,
            target_pid: ready.pid,
            target_key: ready.key,
            own_key,
            welcome,
            pins,
            settings,
            notices: ready.notices,
        };
        self.open_traffic(core, begin);
    }

    /// The session's first words stand in the recording before anything of the target reaches the client.
    pub(super) fn open_traffic(&mut self, core: &mut Core, begin: Begin) {
        self.state = match Traffic::begin(core, begin, self.client.out()) {
            Ok(traffic) => State::Traffic(Box::new(traffic)),
            Err(begin) => State::Opening(Box::new(begin)),
        };
    }
}

/// The search path that a session begins with, where the client sets one: the last counts.
fn path_of(settings: &[(String, String)]) -> Option<&str> {
    settings
        .iter()
        .rev()
        .find(|(name, _)| name.eq_ignore_ascii_case("search_path"))
        .map(|(_, value)| value.as_str())
}
