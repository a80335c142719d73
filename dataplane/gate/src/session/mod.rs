//! A client's way from its first byte to a target that is ready, its traffic, and the end. Written once for every protocol.
//!
//! ```text
//! Greeting ─ credential ─▶ AwaitingGrant ─ grant ─▶ ConnectingTarget ─ connected ─▶ LoggingIn ─ ready ─▶ Traffic
//!     └────────── anything wrong, or too late: one error in the protocol's words, then Ended ◀──────────┘
//! ```
//!
//! Invariant: each state has only what exists then; identity is frozen with the grant; nothing of the target reaches the
//! client before the target has proved itself and the grant is there.
//! Never here: a protocol's bytes, a language.
//! Bounds: a deadline in every state before Traffic (settings).

mod end;
mod events;
pub mod leg;
pub mod protocol;
pub mod side;
mod sign_in;

pub use protocol::Protocol;

use crate::clearance::doors::Doors;
use crate::clearance::{Refused, Waiting};
use crate::core::{Core, ListenerSettings};
use headgate_plane::{Grant, SessionId};
use leg::Leg;
use protocol::{SignInAs, Traffic};

/// A connection with a cancel request is closed after this, whatever became of it: a server gives up earlier and says so.
const CANCEL_US_MAX: u64 = 10_000_000;

enum State<P: Protocol> {
    Greeting(Box<P::Greeting>),
    AwaitingGrant(Box<AwaitingGrant<P>>),
    ConnectingTarget(Box<ConnectingTarget<P>>),
    LoggingIn(Box<LoggingIn<P>>),
    /// A connection that brought a cancel request, until that is delivered.
    Cancelling,
    /// Signed in at the target; the recorder has no room for the session's first words yet.
    Opening(Box<(Box<Grant>, P::Begin)>),
    Traffic(Box<P::Traffic>),
    /// Over, but the recorder has no room for its last words yet.
    Recording(Box<Recording<P>>),
    Ended,
}

struct AwaitingGrant<P: Protocol> {
    asked: SignInAs,
    opening: P::Opening,
}

struct ConnectingTarget<P: Protocol> {
    asked: SignInAs,
    grant: Box<Grant>,
    admitted: P::Admitted,
}

struct LoggingIn<P: Protocol> {
    asked: SignInAs,
    grant: Box<Grant>,
    login: P::Login,
}

struct Recording<P: Protocol> {
    traffic: Box<P::Traffic>,
    reason: String,
}

/// One client on one target, from accept to close.
pub struct Session<P: Protocol> {
    id: SessionId,
    listener: usize,
    /// The client's address without port.
    address: String,
    client: Leg,
    target: Leg,
    state: State<P>,
    deadline_us: Option<u64>,
    /// The peer is slow: what it should get waits in the socket's queue.
    pub client_congested: bool,
    /// The driver's word that more waits for the target than is good.
    pub target_congested: bool,
    opened: bool,
    /// A message for the target was cut: nothing behind it would be read as what it is, not even a goodbye.
    target_cut: bool,
    /// Clear bytes that go before TLS begins.
    clear_first: Vec<u8>,
    /// Revoked or expired while a statement runs: the client has its last words and gets nothing more; the session ends, for
    /// this reason, when the target has said what became of the statement.
    severed: Option<&'static str>,
    /// Of traffic, in the clear.
    bytes_from_client: u64,
    bytes_to_client: u64,
}

impl<P: Protocol> Session<P> {
    /// A client has connected to this listener.
    pub fn new(core: &mut Core, listener: usize, address: String) -> Session<P> {
        let random = u128::from_be_bytes(Core::random());
        let greeting = match core.listeners.get(listener) {
            Some(settings) => P::greeting(settings),
            None => P::greeting(&ListenerSettings::default()),
        };
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
            target_cut: false,
            clear_first: Vec::new(),
            severed: None,
            bytes_from_client: 0,
            bytes_to_client: 0,
        }
    }

    /// Which.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// Whether it is over, and recorded to its end.
    pub fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// The target that this session is on, once it is.
    pub fn target_name(&self) -> Option<&str> {
        match &self.state {
            State::Traffic(traffic) => Some(&traffic.clearance().target().name),
            _ => None,
        }
    }

    /// Whether the client should be read.
    pub fn wants_client(&self, held_bytes_max: usize) -> bool {
        match &self.state {
            State::Ended | State::Recording(_) => false,
            _ if self.target_congested => false,
            // What it sends may be answered by us alone: who reads no answers is asked for no more questions.
            _ if self.client_congested => false,
            State::Traffic(traffic) if traffic.wants_client() => true,
            State::Traffic(traffic) if traffic.lane().client_is_gone() => false,
            // While something waits, a little is read on, so that the client's going away is seen.
            _ => self.client.carried() < held_bytes_max,
        }
    }

    /// Whether the target's bytes are worth reading.
    pub fn wants_target(&self) -> bool {
        match &self.state {
            State::Ended | State::Recording(_) => false,
            State::Traffic(traffic) => !self.client_congested && !traffic.target_waits(),
            _ => true,
        }
    }

    /// Whether `tick` is to be called now and then, because something happens by time alone soon.
    pub fn wants_tick(&self) -> bool {
        self.deadline_us.is_some()
            || matches!(&self.state, State::Traffic(t) if t.lane().deadline_unix_ms().is_some())
    }

    /// Whether `tick` is to be called when the spool moved: it has room again, or more of it is on disk. The wish for that
    /// is left with the spool by whoever did not find it there.
    pub fn waits_for_spool(&self) -> bool {
        match &self.state {
            State::Traffic(t) => {
                t.lane().waiting == Waiting::Room || t.target_waits() || t.clearance().waits_for_disk()
            }
            State::Recording(_) | State::Opening(_) => true,
            _ => false,
        }
    }

    /// Bytes that must be free in the spool before this session goes on; 0: it does not wait for that.
    pub fn room_wanted(&self) -> usize {
        match &self.state {
            State::Traffic(t) if t.lane().waiting == Waiting::Room || t.target_waits() => {
                t.lane().room_wanted()
            }
            State::Recording(_) | State::Opening(_) => 1,
            _ => 0,
        }
    }

    /// Whether it waits for room in the spool.
    pub fn waits_for_room(&self) -> bool {
        self.room_wanted() > 0
    }

    /// Bytes of the client that came and are not used yet.
    pub fn carried(&self) -> usize {
        self.client.carried()
    }

    /// When its credential is over.
    pub fn expires_unix_ms(&self) -> Option<u64> {
        match &self.state {
            State::Traffic(traffic) => Some(traffic.clearance().expires_unix_ms()),
            _ => None,
        }
    }

    // ---- what comes in

    /// The client's bytes came in.
    pub fn client_bytes(&mut self, core: &mut Core, bytes: &[u8]) {
        self.take_client_bytes(core, bytes);
        self.settle(core);
    }

    /// The target's bytes came in.
    pub fn target_bytes(&mut self, core: &mut Core, bytes: &[u8]) {
        self.take_target_bytes(core, bytes);
        self.settle(core);
    }

    /// A client that has left, and to whom nothing is owed any more: the session is over.
    fn settle(&mut self, core: &mut Core) {
        let State::Traffic(traffic) = &mut self.state else {
            return;
        };
        if traffic.leave_if_gone(self.target.out()) {
            let reason = match self.severed {
                Some(reason) => reason,
                None if traffic.lane().client_is_gone() => "client went away",
                None => "client said goodbye",
            };
            self.end(core, reason, &[]);
        }
    }

    fn take_client_bytes(&mut self, core: &mut Core, bytes: &[u8]) {
        core.metrics.bytes_from_clients += bytes.len() as u64;
        match self.client.feed(core, bytes) {
            Ok(Some(clear)) => {
                let used = self.use_client(core, clear);
                // What is left may be the first bytes of TLS, which the leg now has to decrypt.
                let rest = clear.get(used..).unwrap_or(&[]);
                if self.client.has_tls() && !rest.is_empty() {
                    self.take_client_bytes(core, rest);
                } else {
                    self.client.keep(core, rest);
                }
            }
            Ok(None) => self.use_client_carry(core),
            Err(error) => {
                tracing::debug!(session = %self.id, error = %error.0, "client: TLS failed");
                core.metrics.peers_misbehaved += 1;
                self.end(core, "client: TLS failed", &[]);
            }
        }
    }

    fn take_target_bytes(&mut self, core: &mut Core, bytes: &[u8]) {
        match self.target.feed(core, bytes) {
            Ok(Some(clear)) => {
                let used = self.use_target(core, clear);
                let rest = clear.get(used..).unwrap_or(&[]);
                if self.target.has_tls() && !rest.is_empty() {
                    self.take_target_bytes(core, rest);
                } else {
                    self.target.keep(core, rest);
                }
            }
            Ok(None) => self.use_target_carry(core),
            Err(error) => {
                tracing::warn!(session = %self.id, error = %error.0, "target: TLS failed");
                self.fatal(core, "target: TLS failed", &Refused::TargetUnsafe);
            }
        }
    }

    fn use_client_carry(&mut self, core: &mut Core) {
        let carry = self.client.take_carry();
        let used = self.use_client(core, &carry);
        self.client.put_back(core, carry, used);
    }

    fn use_target_carry(&mut self, core: &mut Core) {
        let carry = self.target.take_carry();
        let used = self.use_target(core, &carry);
        self.target.put_back(core, carry, used);
    }

    fn use_client(&mut self, core: &mut Core, clear: &[u8]) -> usize {
        let mut used = 0;
        loop {
            let rest = clear.get(used..).unwrap_or(&[]);
            match &mut self.state {
                State::Greeting(_) => match self.greet(core, rest) {
                    Some(n) => used += n,
                    None => return used,
                },
                State::Traffic(traffic) => {
                    self.target.lend_out(core);
                    let mut doors = Doors::new(self.client.out(), self.target.out());
                    // Counted before anything can end the session: its last record says what had come by then.
                    self.bytes_from_client += rest.len() as u64;
                    match traffic.from_client(core, &mut doors, rest) {
                        Ok(n) => {
                            self.bytes_from_client -= (rest.len() - n) as u64;
                            return used + n;
                        }
                        Err(parting) => self.part(core, *parting),
                    }
                    return clear.len();
                }
                // Nothing is legal from the client between its credential and our answer; what came early waits.
                State::AwaitingGrant(_)
                | State::ConnectingTarget(_)
                | State::LoggingIn(_)
                | State::Opening(_) => return used,
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
                State::LoggingIn(_) => match self.log_in(core, rest) {
                    Some(n) => used += n,
                    None => return used,
                },
                State::Traffic(traffic) => {
                    self.client.lend_out(core);
                    let severed = self.severed.is_some();
                    let start = self.client.out_len();
                    let mut doors = Doors::new(self.client.out(), self.target.out());
                    let result = traffic.from_target(core, &mut doors, rest);
                    if severed {
                        self.client.out().truncate(start);
                    }
                    match result {
                        Ok(n) => {
                            used += n;
                            // Answers can free what waits at the front.
                            if n > 0 && traffic.lane().waiting == Waiting::No && self.client.carried() > 0 {
                                self.use_client_carry(core);
                            }
                            return used;
                        }
                        Err(parting) => {
                            self.part(core, *parting);
                            return clear.len();
                        }
                    }
                }
                _ => return clear.len(),
            }
        }
    }

    // ---- what goes out

    /// What is to go to the client now.
    pub fn client_output(&mut self, core: &mut Core) -> Option<Vec<u8>> {
        if !self.clear_first.is_empty() {
            return Some(std::mem::take(&mut self.clear_first));
        }
        if matches!(self.state, State::Traffic(_)) {
            self.bytes_to_client += self.client.out_len() as u64;
        }
        let output = self.client.take_output(core);
        let output = output.ok().flatten();
        if let Some(bytes) = &output {
            core.metrics.bytes_to_clients += bytes.len() as u64;
        }
        output
    }

    /// What is to go to the target now.
    pub fn target_output(&mut self, core: &mut Core) -> Option<Vec<u8>> {
        if let State::Traffic(traffic) = &mut self.state
            && !traffic.clearance_mut().may_send(core)
        {
            return None;
        }
        self.target.take_output(core).ok().flatten()
    }
}
