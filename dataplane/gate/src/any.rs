//! A session of any protocol. The only place in the gate that lists protocols: one match for each event of a socket.

use crate::core::Core;
use crate::postgres::Postgres;
use crate::session::Session;
use crate::session::protocol::Cancelled;
use crate::sql::known::Known;
use headgate_plane::question::Asked;
use headgate_plane::{Answer, Grant, Protocol, QuestionKey, Refusal, SessionId};
use std::rc::Rc;

/// What the shard holds of each client.
pub enum AnySession {
    /// PostgreSQL's.
    Postgres(Session<Postgres>),
}

macro_rules! each {
    ($any:expr, $session:ident => $call:expr) => {
        match $any {
            AnySession::Postgres($session) => $call,
        }
    };
}

impl AnySession {
    /// A client has connected to this listener. `None`: nothing here speaks what the listener is for.
    pub fn new(core: &mut Core, listener: usize, address: String) -> Option<AnySession> {
        let protocol = core.listeners.get(listener)?.protocol;
        match protocol {
            Protocol::Postgres => Some(AnySession::Postgres(Session::new(core, listener, address))),
            Protocol::Mysql | Protocol::Http | Protocol::Kubernetes | Protocol::Mcp | Protocol::Ssh => None,
        }
    }

    /// An analyst read SQL.
    pub fn analysed(&mut self, core: &mut Core, text: &[u8], known: Rc<Known>) {
        match self {
            AnySession::Postgres(session) => session.analysed(core, text, known),
        }
    }

    /// Of the session.
    pub fn id(&self) -> SessionId {
        each!(self, session => session.id())
    }

    /// Whether it is over, and recorded to its end.
    pub fn is_ended(&self) -> bool {
        each!(self, session => session.is_ended())
    }

    /// The target that it is for, once that is known.
    pub fn target_name(&self) -> Option<&str> {
        each!(self, session => session.target_name())
    }

    /// Whether the client's bytes are worth reading, when so many may be carried.
    pub fn wants_client(&self, held_bytes_max: usize) -> bool {
        each!(self, session => session.wants_client(held_bytes_max))
    }

    /// Whether the target's bytes are worth reading.
    pub fn wants_target(&self) -> bool {
        each!(self, session => session.wants_target())
    }

    /// Whether time is to be told to it.
    pub fn wants_tick(&self) -> bool {
        each!(self, session => session.wants_tick())
    }

    /// Whether it waits for what the recorder gives back.
    pub fn waits_for_spool(&self) -> bool {
        each!(self, session => session.waits_for_spool())
    }

    /// Bytes of the spool that must be free before it goes on.
    pub fn room_wanted(&self) -> usize {
        each!(self, session => session.room_wanted())
    }

    /// Whether it waits for room in the spool, and not for the disk.
    pub fn waits_for_room(&self) -> bool {
        each!(self, session => session.waits_for_room())
    }

    /// Bytes of the client that are not used yet.
    pub fn carried(&self) -> usize {
        each!(self, session => session.carried())
    }

    /// When its credential is over.
    pub fn expires_unix_ms(&self) -> Option<u64> {
        each!(self, session => session.expires_unix_ms())
    }

    /// Whether more waits for the client than is good.
    pub fn client_congested(&self) -> bool {
        each!(self, session => session.client_congested)
    }

    /// Whether more waits for the target than is good.
    pub fn target_congested(&self) -> bool {
        each!(self, session => session.target_congested)
    }

    /// Whether each peer is slow, so that what it should get waits in its socket's queue.
    pub fn set_congested(&mut self, client: bool, target: bool) {
        each!(self, session => {
            session.client_congested = client;
            session.target_congested = target;
        });
    }

    /// The client's bytes came in.
    pub fn client_bytes(&mut self, core: &mut Core, bytes: &[u8]) {
        each!(self, session => session.client_bytes(core, bytes))
    }

    /// The target's bytes came in.
    pub fn target_bytes(&mut self, core: &mut Core, bytes: &[u8]) {
        each!(self, session => session.target_bytes(core, bytes))
    }

    /// What is to go to the client now.
    pub fn client_output(&mut self, core: &mut Core) -> Option<Vec<u8>> {
        each!(self, session => session.client_output(core))
    }

    /// What is to go to the target now.
    pub fn target_output(&mut self, core: &mut Core) -> Option<Vec<u8>> {
        each!(self, session => session.target_output(core))
    }

    /// What the control plane says of whoever it is.
    pub fn signed_in(&mut self, core: &mut Core, result: Result<Box<Grant>, Refusal>) {
        each!(self, session => session.signed_in(core, result))
    }

    /// Its principal has as many sessions as it may.
    pub fn too_many_sessions(&mut self, core: &mut Core, sessions: usize) {
        each!(self, session => session.too_many_sessions(core, sessions))
    }

    /// The target is connected.
    pub fn target_connected(&mut self, core: &mut Core) {
        each!(self, session => session.target_connected(core))
    }

    /// The target cannot be connected.
    pub fn target_failed(&mut self, core: &mut Core, why: &str) {
        each!(self, session => session.target_failed(core, why))
    }

    /// A held statement has a number.
    pub fn asked(&mut self, core: &mut Core, asked: &Asked) {
        each!(self, session => session.asked(core, asked))
    }

    /// A held statement has an answer.
    pub fn answered(&mut self, core: &mut Core, key: QuestionKey, answer: Answer) {
        each!(self, session => session.answered(core, key, answer))
    }

    /// A catalog was read anew.
    pub fn catalog_came(&mut self, core: &mut Core, target: &str) {
        each!(self, session => session.catalog_came(core, target))
    }

    /// There are new rules.
    pub fn snapshot_changed(&mut self, core: &mut Core) {
        each!(self, session => session.snapshot_changed(core))
    }

    /// A cancel with this token is about; `None`: it is not this session's.
    pub fn cancel(&mut self, core: &mut Core, token: &[u8]) -> Option<Cancelled> {
        each!(self, session => session.cancel(core, token))
    }

    /// The cancel that this connection brought was dealt with.
    pub fn cancel_done(&mut self, core: &mut Core) {
        each!(self, session => session.cancel_done(core))
    }

    /// Whoever it is may not be here any more.
    pub fn revoked(&mut self, core: &mut Core, reason: &str) {
        each!(self, session => session.revoked(core, reason))
    }

    /// The process ends.
    pub fn stopping(&mut self, core: &mut Core) {
        each!(self, session => session.stopping(core))
    }

    /// The client ended.
    pub fn client_ended(&mut self, core: &mut Core) {
        each!(self, session => session.client_ended(core))
    }

    /// The target ended.
    pub fn target_ended(&mut self, core: &mut Core) {
        each!(self, session => session.target_ended(core))
    }

    /// Time passes.
    pub fn tick(&mut self, core: &mut Core) {
        each!(self, session => session.tick(core))
    }
}
