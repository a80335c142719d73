//! A client's way from its first byte to a target that is ready, and the end.
//!
//! ```text
//! Greeting ─ password ─▶ AwaitingGrant ─ grant ─▶ ConnectingTarget ─ connected ─▶ SigningIn ─ ready ─▶ Traffic
//!     └────────── anything wrong, or too late: one error of our own, then Ended ◀──────────┘
//! ```
//!
//! Invariant: each state has only what exists then; identity is frozen with the grant; nothing of the target reaches the
//! client before the target has proved itself and the grant is there.
//! Bounds: a deadline in every state before Traffic (settings).

use crate::core::{Core, Effect};
use crate::denial::Denial;
use crate::known::Known;
use crate::leg::Leg;
use crate::record::{self, Recorder};
use crate::traffic::{Begin, Cancelled, Outs, Traffic, TrafficEnd, Waiting};
use headgate_plane::question::Asked;
use headgate_plane::{
    Answer, Credential, Effect as Ruling, Grant, QuestionKey, Refusal, RefusalKind, SessionId, SignIn, TargetTls, ToControl,
};
use headgate_postgres::backend::TransactionStatus;
use headgate_postgres::cancel::Key;
use headgate_postgres::startup::policy::{Policy as StartupPolicy, for_target};
use headgate_postgres::{
    ClientEvent, ClientHandshake, ClientTls, PeerMisbehaved, Startup, TargetEvent, TargetFailed, TargetHandshake, TargetHandshakeConfig,
    TargetReady, certificate, write,
};
use headgate_recording::BodyRef;
use rustls::pki_types::ServerName;
use std::rc::Rc;

/// A cancel request whose key nobody has is closed after this.
const CANCEL_US_MAX: u64 = 5_000_000;

enum State {
    Greeting(Box<Greeting>),
    AwaitingGrant(Box<AwaitingGrant>),
    ConnectingTarget(Box<ConnectingTarget>),
    SigningIn(Box<SigningIn>),
    /// A connection that brought a cancel request, until that is delivered.
    Cancelling,
    Traffic(Box<Traffic>),
    /// Over, but the recorder has no room for its last words yet.
    Recording(Box<Recording>),
    Ended,
}

struct Recording {
    traffic: Box<Traffic>,
    reason: String,
}

struct Greeting {
    handshake: ClientHandshake,
    startup: Option<Box<Startup>>,
    awaiting_tls: bool,
}

struct AwaitingGrant {
    startup: Box<Startup>,
}

struct ConnectingTarget {
    startup: Box<Startup>,
    grant: Box<Grant>,
    parameters: Vec<(String, String)>,
}

struct SigningIn {
    startup: Box<Startup>,
    grant: Box<Grant>,
    handshake: TargetHandshake,
    awaiting_tls: bool,
}

pub struct Session {
    id: SessionId,
    listener: usize,
    /// The client's address without port.
    address: String,
    client: Leg,
    target: Leg,
    state: State,
    deadline_us: Option<u64>,
    /// The peer is slow: what it should get waits in the socket's queue.
    pub client_congested: bool,
    pub target_congested: bool,
    opened: bool,
    /// Clear bytes that go before TLS begins.
    clear_first: Vec<u8>,
}

impl Session {
    pub fn new(core: &mut Core, listener: usize, address: String) -> Session {
        let random = u128::from_be_bytes(Core::random());
        let settings = core.listeners.get(listener);
        let tls = match settings {
            Some(l) if l.tls.is_some() && l.danger_allow_cleartext => ClientTls::DangerOptional,
            Some(l) if l.tls.is_some() => ClientTls::Required,
            Some(l) if l.danger_allow_cleartext => ClientTls::DangerOff,
            _ => ClientTls::Required,
        };
        let greeting = Greeting { handshake: ClientHandshake::new(tls), startup: None, awaiting_tls: false };
        Session {
            id: SessionId::v7(core.clock.unix_ms(), random),
            listener,
            address,
            client: Leg::default(),
            target: Leg::default(),
            state: State::Greeting(Box::new(greeting)),
            deadline_us: Some(core.clock.now_us + core.settings.handshake_ms_max * 1000),
            client_congested: false,
            target_congested: false,
            opened: false,
            clear_first: Vec::new(),
        }
    }

    pub fn id(&self) -> SessionId {
        self.id
    }

    pub fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// The target that this session is on, once it is.
    pub fn target_name(&self) -> Option<&str> {
        match &self.state {
            State::Traffic(traffic) => Some(&traffic.target.name),
            _ => None,
        }
    }

    /// Whether the client should be read.
    pub fn wants_client(&self, held_bytes_max: usize) -> bool {
        match &self.state {
            State::Ended | State::Recording(_) => false,
            _ if self.target_congested => false,
            State::Traffic(traffic) if traffic.wants_client() => true,
            // While something waits, a little is read on, so that the client's going away is seen.
            _ => self.client.carried() < held_bytes_max,
        }
    }

    pub fn wants_target(&self) -> bool {
        match &self.state {
            State::Ended | State::Recording(_) => false,
            State::Traffic(traffic) => !self.client_congested && !traffic.target_waits,
            _ => true,
        }
    }

    /// When `tick` is due, in microseconds of the core's clock. `None`: nothing happens by time alone soon.
    pub fn wants_tick(&self) -> bool {
        self.deadline_us.is_some()
            || match &self.state {
                State::Traffic(t) => t.deadline_unix_ms().is_some() || t.waiting() == Waiting::Room || t.target_waits || t.strict_until > 0,
                State::Recording(_) => true,
                _ => false,
            }
    }

    pub fn expires_unix_ms(&self) -> Option<u64> {
        match &self.state {
            State::Traffic(traffic) => Some(traffic.expires_unix_ms),
            _ => None,
        }
    }

    // ---- what comes in

    pub fn client_bytes(&mut self, core: &mut Core, bytes: &[u8]) {
        core.metrics.bytes_from_clients += bytes.len() as u64;
        match self.client.feed(bytes) {
            Ok(Some(clear)) => {
                let used = self.use_client(core, clear);
                // What is left may be the first bytes of TLS, which the leg now has to decrypt.
                let rest = clear.get(used..).unwrap_or(&[]);
                if self.client.has_tls() && !rest.is_empty() {
                    self.client_bytes(core, rest);
                } else {
                    self.client.keep(rest);
                }
            }
            Ok(None) => self.use_client_carry(core),
            Err(error) => {
                tracing::debug!(session = %self.id, error = %error.0, "client: TLS failed");
                core.metrics.peers_misbehaved += 1;
                self.end(core, "client: TLS failed", None);
            }
        }
    }

    pub fn target_bytes(&mut self, core: &mut Core, bytes: &[u8]) {
        match self.target.feed(bytes) {
            Ok(Some(clear)) => {
                let used = self.use_target(core, clear);
                let rest = clear.get(used..).unwrap_or(&[]);
                if self.target.has_tls() && !rest.is_empty() {
                    self.target_bytes(core, rest);
                } else {
                    self.target.keep(rest);
                }
            }
            Ok(None) => self.use_target_carry(core),
            Err(error) => {
                tracing::warn!(session = %self.id, error = %error.0, "target: TLS failed");
                self.fatal(core, "target: TLS failed", Denial::new("08006", "Headgate cannot reach this target safely"));
            }
        }
    }

    fn use_client_carry(&mut self, core: &mut Core) {
        let carry = self.client.take_carry();
        let used = self.use_client(core, &carry);
        self.client.put_back(carry, used);
    }

    fn use_target_carry(&mut self, core: &mut Core) {
        let carry = self.target.take_carry();
        let used = self.use_target(core, &carry);
        self.target.put_back(carry, used);
    }

    fn use_client(&mut self, core: &mut Core, clear: &[u8]) -> usize {
        let mut used = 0;
        loop {
            let rest = clear.get(used..).unwrap_or(&[]);
            match &mut self.state {
                State::Greeting(_) => match self.greet(core, rest) {
                    Ok(Some(n)) => used += n,
                    Ok(None) => return used,
                    Err(error) => {
                        self.misbehaved(core, &error);
                        return clear.len();
                    }
                },
                State::Traffic(traffic) => {
                    traffic.bytes_from_client += rest.len() as u64;
                    let before = traffic.bytes_from_client;
                    let mut outs = Outs { client: self.client.out(), target: self.target.out() };
                    let result = traffic.from_client(core, &mut outs, rest);
                    if let Ok(n) = result {
                        traffic.bytes_from_client = before - (rest.len() - n) as u64;
                        return used + n;
                    }
                    if let Err(end) = result {
                        self.traffic_ended(core, end);
                    }
                    return clear.len();
                }
                // Nothing is legal from the client between its password and our answer; what came early waits.
                State::AwaitingGrant(_) | State::ConnectingTarget(_) | State::SigningIn(_) => return used,
                State::Cancelling => return clear.len(),
                State::Ended | State::Recording(_) => return clear.len(),
            }
        }
    }

    fn use_target(&mut self, core: &mut Core, clear: &[u8]) -> usize {
        let mut used = 0;
        loop {
            let rest = clear.get(used..).unwrap_or(&[]);
            match &mut self.state {
                State::SigningIn(_) => match self.sign_in_at_target(core, rest) {
                    Ok(Some(n)) => used += n,
                    Ok(None) => return used,
                    Err(failed) => {
                        self.target_refused(core, &failed);
                        return clear.len();
                    }
                },
                State::Traffic(traffic) => {
                    let mut outs = Outs { client: self.client.out(), target: self.target.out() };
                    let result = traffic.from_target(core, &mut outs, rest);
                    match result {
                        Ok(n) => {
                            used += n;
                            // Answers can free what waits at the front.
                            if n > 0 && traffic.waiting() == Waiting::No && self.client.carried() > 0 {
                                self.use_client_carry(core);
                            }
                            return used;
                        }
                        Err(end) => {
                            self.traffic_ended(core, end);
                            return clear.len();
                        }
                    }
                }
                _ => return clear.len(),
            }
        }
    }

    /// One step of the client's handshake: `Some(used)` to go on, `None` for more bytes.
    fn greet(&mut self, core: &mut Core, rest: &[u8]) -> Result<Option<usize>, PeerMisbehaved> {
        let State::Greeting(greeting) = &mut self.state else { return Ok(None) };
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
                let connection = rustls::ServerConnection::new(config).map_err(|_| PeerMisbehaved::TlsNotOffered)?;
                // The "S" goes in the clear, before the leg encrypts.
                self.clear_first = std::mem::take(self.client.out());
                self.client.start_server_tls(connection);
                if let State::Greeting(greeting) = &mut self.state {
                    greeting.awaiting_tls = true;
                }
                // What is left is TLS: the caller feeds it again.
                return Ok(if advance.used > 0 { Some(advance.used) } else { None });
            }
            Some(ClientEvent::Startup(startup)) => greeting.startup = Some(startup),
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
        core.effects.push(Effect::ToControl(ToControl::SignIn(Box::new(sign_in))));
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
                let refusal = Refusal { kind: RefusalKind::Unavailable, detail: "a grant for another session".to_owned() };
                return self.refused(core, &startup, &refusal);
            }
            Err(refusal) => return self.refused(core, &startup, &refusal),
        };
        let context = core.policy.context(&grant.who, &grant.target);
        if !context.opens() {
            let (kind, detail) = if core.policy.epoch().0 == 0 {
                (RefusalKind::Unavailable, "no rules have come yet")
            } else {
                (RefusalKind::NoSuchTarget, "no rule allows this identity anything on this target")
            };
            return self.refused(core, &startup, &Refusal { kind, detail: detail.to_owned() });
        }
        let allow_unpinned = context
            .rules()
            .iter()
            .any(|i| core.policy.rule(*i).is_some_and(|rule| rule.effect == Ruling::Allow && rule.statement.danger_unpinned));
        let policy = StartupPolicy { allow_search_path: false, allow_unpinned };
        let parameters = match for_target(&startup, policy) {
            Ok(parameters) => parameters,
            Err(setting) => {
                let denial = Denial::new(setting.sqlstate(), setting.to_string());
                self.state = State::Ended;
                self.record_refusal(core, &startup, &setting.to_string());
                return self.say_fatal(core, &denial);
            }
        };
        core.effects.push(Effect::ConnectTarget { address: grant.target.address.clone() });
        self.state = State::ConnectingTarget(Box::new(ConnectingTarget { startup, grant, parameters }));
    }

    pub fn target_connected(&mut self, core: &mut Core) {
        let State::ConnectingTarget(connecting) = std::mem::replace(&mut self.state, State::Ended) else {
            return;
        };
        let ConnectingTarget { startup, grant, parameters } = *connecting;
        let config = TargetHandshakeConfig {
            tls: grant.target.tls != TargetTls::DangerOff,
            user: grant.target.user.clone(),
            database: grant.target.database.clone(),
            parameters,
            password: grant.target_secret.clone(),
            auth: grant.target.auth,
            minor: headgate_postgres::startup::MINOR_MAX,
        };
        match TargetHandshake::start(config, self.target.out()) {
            Ok(handshake) => {
                self.state = State::SigningIn(Box::new(SigningIn { startup, grant, handshake, awaiting_tls: false }));
            }
            Err(failed) => {
                tracing::warn!(session = %self.id, %failed, "target: handshake cannot begin");
                self.fatal(core, "target: handshake", Denial::new("08006", "Headgate cannot sign in to this target"));
            }
        }
    }

    pub fn target_failed(&mut self, core: &mut Core, why: &str) {
        tracing::warn!(session = %self.id, why, "target: cannot be reached");
        let denial = Denial::new("08001", "Headgate cannot reach this target").hint("Its operators see the reason in Headgate's log.");
        self.fatal(core, "target: cannot be reached", denial);
    }

    fn sign_in_at_target(&mut self, core: &mut Core, rest: &[u8]) -> Result<Option<usize>, TargetFailed> {
        let State::SigningIn(signing) = &mut self.state else { return Ok(None) };
        if signing.awaiting_tls {
            if self.target.is_handshaking() {
                return Ok(None);
            }
            let binding = self.target.peer_certificate().and_then(|c| certificate::tls_server_end_point(&c));
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
                let host = spec.address.rsplit_once(':').map_or(spec.address.as_str(), |(host, _)| host);
                let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
                let name = ServerName::try_from(host).map_err(|e| failed(e.to_string()))?;
                let connection = rustls::ClientConnection::new(config, name).map_err(|e| failed(e.to_string()))?;
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
        let State::SigningIn(signing) = std::mem::replace(&mut self.state, State::Ended) else { return };
        let SigningIn { startup, grant, .. } = *signing;
        let own_key = Key::new(startup.minor, Core::random());
        let mut welcome = Vec::with_capacity(512);
        write::authentication_ok(&mut welcome);
        for (name, value) in &ready.parameters {
            // They came in a message of this very form and have no zero.
            let _ = write::parameter_status(&mut welcome, name.as_bytes(), value.as_bytes());
        }
        let _ = write::backend_key_data(&mut welcome, ready.pid, own_key.as_bytes());
        write::ready_for_query(&mut welcome, TransactionStatus::Idle);
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
            recorder: Recorder::new(self.id),
            target_pid: ready.pid,
            target_key: ready.key,
            own_key,
            welcome,
            notices: ready.notices,
        };
        let traffic = Traffic::begin(core, begin, self.target.out(), self.client.out());
        self.state = State::Traffic(Box::new(traffic));
    }

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
                return self.end(core, "cancel request that found nobody", None);
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

    // ---- what goes out

    pub fn client_output(&mut self, core: &mut Core) -> Option<Vec<u8>> {
        if !self.clear_first.is_empty() {
            return Some(std::mem::take(&mut self.clear_first));
        }
        if let State::Traffic(traffic) = &mut self.state {
            traffic.bytes_to_client += self.client.out_len() as u64;
        }
        let output = self.client.take_output(|| core.buffer());
        let output = output.ok().flatten();
        if let Some(bytes) = &output {
            core.metrics.bytes_to_clients += bytes.len() as u64;
        }
        output
    }

    pub fn target_output(&mut self, core: &mut Core) -> Option<Vec<u8>> {
        if let State::Traffic(traffic) = &mut self.state
            && traffic.strict_until > 0
        {
            if core.spool.durable_position() < traffic.strict_until {
                return None;
            }
            traffic.strict_until = 0;
        }
        self.target.take_output(|| core.buffer()).ok().flatten()
    }

    // ---- the end

    fn traffic_ended(&mut self, core: &mut Core, end: TrafficEnd) {
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

    fn misbehaved(&mut self, core: &mut Core, error: &PeerMisbehaved) {
        tracing::info!(session = %self.id, address = %self.address, %error, "client misbehaved");
        core.metrics.peers_misbehaved += 1;
        let (code, message) = error.to_client();
        self.fatal(core, &format!("client misbehaved: {error}"), Denial::new(code, message));
    }

    fn target_refused(&mut self, core: &mut Core, failed: &TargetFailed) {
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

    fn refused(&mut self, core: &mut Core, startup: &Startup, refusal: &Refusal) {
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

    fn record_refusal(&mut self, core: &mut Core, startup: &Startup, reason: &str) {
        if !record::has_room(core, 4096) {
            core.metrics.spool_waits += 1;
            return;
        }
        let body = BodyRef::SignInRefused { target: &startup.database, user: &startup.user, address: &self.address, reason };
        Recorder::new(self.id).write(core, body);
    }

    fn fatal(&mut self, core: &mut Core, reason: &str, denial: Denial) {
        self.end(core, reason, Some(denial));
    }

    fn end(&mut self, core: &mut Core, reason: &str, denial: Option<Denial>) {
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
    fn last_words(&mut self, core: &mut Core, mut recording: Box<Recording>) {
        if record::has_room(core, 0) {
            recording.traffic.end(core, &recording.reason);
        } else {
            core.metrics.spool_waits += 1;
            self.state = State::Recording(recording);
        }
    }

    fn say_fatal(&mut self, _core: &mut Core, denial: &Denial) {
        denial.write_fatal(self.client.out());
        self.client.say_goodbye();
    }
}
