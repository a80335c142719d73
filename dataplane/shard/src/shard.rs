//! The handler of a core's ring.
//!
//! Time: the monotonic clock of the ring measures; the wall clock dates. It is read again once a second, because people and
//! time servers set it. A step moves everything that is said in wall time at once: a credential or a question expires when
//! the wall says so, sooner or later than it seemed before. Events are dated by the wall clock as it is when they happen, so
//! after a step back a session's later event can bear the earlier time: their order is their number, never their time.
//! Durations and time-outs are measured, and do not see a step.
//!
//! The spool: who finds no room in it, or waits for the disk, leaves a wish there and is looked at again when
//! [`Message::SpoolMoved`] says that it was fulfilled; and in any case after [`BACKSTOP_US`], for a recorder that knows no
//! wishes. How often that was needed is counted.

use crate::inbox::{Inbox, Message};
use crate::keys::Holder;
use crate::services::{Asker, Services};
use crate::table::{Side, Slot, Table};
use headgate_gate::{AnySession, Cancelled, Core, Effect, Known, OUT_BYTES_HIGH, OUT_BYTES_LOW};
use headgate_plane::{Grant, Refusal};
use headgate_ring::{End, Handler, Io, ListenerId, SocketId};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

/// While something waits, so much of the client is read on, so that its going away is seen.
const HELD_BYTES_MAX: usize = 64 << 10;
const TARGET_CONNECT_MS_MAX: u32 = 10_000;
/// Sessions that wait for the spool are looked at so often even if nobody says that it moved.
const BACKSTOP_US: u64 = 250_000;
/// Wall and monotonic clock are not read in the same moment: a difference up to this is none. Beyond it, the clock is
/// followed; beyond the other, that is worth a line in the log.
const CLOCK_SLACK_US: u64 = 10_000;
const CLOCK_STEP_US: u64 = 1_000_000;

/// The wall clock, in Unix microseconds.
pub type WallClock = Box<dyn Fn() -> u64>;

fn realtime() -> u64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// While another address is left to try.
const TARGET_CONNECT_MS_MORE_LEFT: u32 = 3_000;

/// What was turned away, counted.
#[derive(Default)]
struct Refused {
    half_open: u64,
    principal: u64,
    cancels_unknown: u64,
}

pub struct Shard {
    index: usize,
    core: Core,
    table: Table,
    inbox: Arc<Inbox>,
    services: Arc<dyn Services>,
    ticking: Vec<usize>,
    /// Those that wait for the spool.
    spooling: Vec<usize>,
    /// When they are looked at in any case.
    backstop_us: u64,
    spool_wakes: u64,
    /// How often a session went on by the look in any case.
    spool_backstops: u64,
    stopping: bool,
    wall: WallClock,
    refused: Refused,
    /// The core's clock was set.
    anchored: bool,
}

impl Shard {
    pub fn new(index: usize, core: Core, inbox: Arc<Inbox>, services: Arc<dyn Services>) -> Shard {
        Shard {
            index,
            core,
            table: Table::default(),
            inbox,
            services,
            ticking: Vec::new(),
            spooling: Vec::new(),
            backstop_us: 0,
            spool_wakes: 0,
            spool_backstops: 0,
            stopping: false,
            refused: Refused::default(),
            wall: Box::new(realtime),
            anchored: false,
        }
    }

    /// Another wall clock than the system's: for tests, which cannot set that.
    pub fn with_wall_clock(mut self, wall: WallClock) -> Shard {
        self.wall = wall;
        self
    }

    fn set_clock(&mut self, io: &dyn Io) {
        self.core.clock.now_us = io.now_us();
        if !self.anchored {
            self.anchored = true;
            self.core.clock.anchor_unix_us = (self.wall)().saturating_sub(self.core.clock.now_us);
        }
    }

    /// Follows the wall clock, which may have been set.
    fn anchor(&mut self) {
        let before = self.core.clock.anchor_unix_us;
        let now = (self.wall)().saturating_sub(self.core.clock.now_us);
        let step = now.abs_diff(before);
        if step <= CLOCK_SLACK_US {
            return;
        }
        if step >= CLOCK_STEP_US {
            let forward = now > before;
            tracing::warn!(
                shard = self.index,
                step_ms = step / 1000,
                forward,
                "the wall clock was set; expiries and the times of events follow it"
            );
        }
        self.core.clock.anchor_unix_us = now;
    }

    /// After each call into a session: its effects, its bytes, its appetite, its end.
    fn settle(&mut self, io: &mut dyn Io, at: usize) {
        if !self.core.effects.is_empty() {
            self.effects(io, at);
        }
        let Some(slot) = self.table.get(at) else { return };
        while let Some(bytes) = slot.session.client_output(&mut self.core) {
            io.send(slot.client, bytes);
        }
        if let Some(target) = slot.target {
            while let Some(bytes) = slot.session.target_output(&mut self.core) {
                io.send(target, bytes);
            }
        }
        if slot.session.is_ended() {
            self.finish(io, at);
            return;
        }
        let client_congested = congested(io, slot.client, slot.session.client_congested());
        let target_congested = slot
            .target
            .is_some_and(|t| congested(io, t, slot.session.target_congested()));
        slot.session.set_congested(client_congested, target_congested);
        let wants_client = slot.session.wants_client(HELD_BYTES_MAX);
        if wants_client == slot.client_paused {
            slot.client_paused = !wants_client;
            if wants_client {
                io.resume(slot.client)
            } else {
                io.pause(slot.client)
            }
        }
        if let Some(target) = slot.target {
            let wants_target = slot.session.wants_target();
            if wants_target == slot.target_paused {
                slot.target_paused = !wants_target;
                if wants_target {
                    io.resume(target)
                } else {
                    io.pause(target)
                }
            }
        }
        if !slot.ticking && slot.session.wants_tick() {
            slot.ticking = true;
            self.ticking.push(at);
        }
        if !slot.spooling && slot.session.waits_for_spool() {
            slot.spooling = true;
            if self.spooling.is_empty() {
                self.backstop_us = self.core.clock.now_us + BACKSTOP_US;
            }
            self.spooling.push(at);
        }
    }

    /// The spool may have what sessions wait for. How many went on.
    fn look_at_spool(&mut self, io: &mut dyn Io) -> u64 {
        let mut went_on = 0;
        for at in std::mem::take(&mut self.spooling) {
            let Some(slot) = self.table.get(at) else { continue };
            if !std::mem::take(&mut slot.spooling) || !slot.session.waits_for_spool() {
                continue;
            }
            self.with(io, at, |s, core| s.tick(core));
            went_on += u64::from(!self.table.get(at).is_some_and(|slot| slot.spooling));
        }
        went_on
    }

    fn finish(&mut self, io: &mut dyn Io, at: usize) {
        let Some(slot) = self.table.remove(at) else { return };
        self.table.unlink(slot.client);
        io.close(slot.client);
        if let Some(target) = slot.target {
            self.table.unlink(target);
            io.close(target);
        }
    }

    fn effects(&mut self, io: &mut dyn Io, at: usize) {
        let effects = std::mem::take(&mut self.core.effects);
        let Some(id) = self.table.get(at).map(|slot| slot.session.id()) else {
            return;
        };
        for effect in effects {
            match effect {
                // An address that needs no name service connects at once.
                Effect::ConnectTarget { address } => match address.parse::<SocketAddr>() {
                    Ok(address) => self.connect_one_of(io, at, &[address]),
                    Err(_) => self.services.resolve(self.index, id, address),
                },
                Effect::ToControl(message) => self.services.to_control(message),
                Effect::Analyse { text } => {
                    let seat = self
                        .table
                        .get(at)
                        .and_then(|slot| slot.seat.as_ref().map(|seat| seat.owner));
                    let owner = seat.unwrap_or_else(|| self.services.shares().owner(&id));
                    self.services.analyse(self.index, id, owner, text);
                }
                Effect::KeyMade { token } => {
                    let held = self.services.keys().hold(
                        &token,
                        Holder {
                            shard: self.index,
                            session: id,
                        },
                    );
                    if let Some(slot) = self.table.get(at) {
                        slot.key = Some(held);
                    }
                }
                Effect::CancelSession { token } => self.cancel(
                    at,
                    Asker {
                        shard: self.index,
                        session: id,
                    },
                    token,
                ),
                Effect::CatalogChanged { target } => {
                    // Before any answer to a load that began earlier is looked at.
                    let changes = self.services.catalog_changed(target.as_str().into());
                    self.core.catalog_changed(&target, changes);
                }
                Effect::LoadCatalog(wanted) => self.services.load_catalog(wanted),
                Effect::CancelTarget(cancel) => {
                    // Nobody waits for it: what becomes of the statement is heard from the target.
                    let asker = Asker {
                        shard: self.index,
                        session: id,
                    };
                    if let Some(address) = self.table.get(at).and_then(|slot| slot.address) {
                        self.services.cancel_target(asker, address, cancel);
                    }
                }
            }
        }
    }

    /// One look-up says who has the key. A key that nobody has ends its connection, and no other core hears of it.
    fn cancel(&mut self, at: usize, asker: Asker, token: Vec<u8>) {
        let holder = self.services.keys().find(&token);
        let Some(slot) = self.table.get(at) else { return };
        match holder {
            Some(holder) => {
                // It has shown a key: it waits with its session's target, and no longer with those that nobody knows.
                slot.half_open = None;
                self.services.cancel_session(asker, holder, token.into());
            }
            None => {
                self.refused.cancels_unknown += 1;
                slot.session.cancel_done(&mut self.core);
            }
        }
    }

    /// Tries the target's addresses in turn, until one takes the connection.
    fn connect_one_of(&mut self, io: &mut dyn Io, at: usize, addresses: &[SocketAddr]) {
        if let Some(slot) = self.table.get(at) {
            slot.untried = addresses.iter().rev().copied().collect();
        }
        if !self.connect_next(io, at) {
            self.with(io, at, |s, core| s.target_failed(core, "its name has no address"));
        }
    }

    /// `false`: no address is left.
    fn connect_next(&mut self, io: &mut dyn Io, at: usize) -> bool {
        let Some(slot) = self.table.get(at) else {
            return true;
        };
        let Some(address) = slot.untried.pop() else {
            return false;
        };
        let patience_ms = if slot.untried.is_empty() {
            TARGET_CONNECT_MS_MAX
        } else {
            TARGET_CONNECT_MS_MORE_LEFT
        };
        let socket = io.connect(address, patience_ms);
        slot.target = Some(socket);
        slot.address = Some(address);
        self.table.link(socket, at, Side::Target);
        true
    }

    /// Calls into the session at `at` and settles it.
    fn with(&mut self, io: &mut dyn Io, at: usize, call: impl FnOnce(&mut AnySession, &mut Core)) {
        if let Some(slot) = self.table.get(at) {
            call(&mut slot.session, &mut self.core);
            self.settle(io, at);
        }
    }

    fn with_all(&mut self, io: &mut dyn Io, call: impl Fn(&mut AnySession, &mut Core)) {
        let places: Vec<usize> = self.table.places().collect();
        for at in places {
            self.with(io, at, &call);
        }
    }

    fn read(&mut self, io: &mut dyn Io, message: Message) {
        match message {
            // A control plane that comes back says the same again: what is held stays held, and what is known stays known.
            Message::Snapshot(policy)
                if policy.epoch().0 > 0 && policy.snapshot() == self.core.policy.snapshot() => {}
            Message::Snapshot(policy) => {
                tracing::info!(shard = self.index, epoch = policy.epoch().0, "rules applied");
                self.core.policy = policy;
                self.core.catalogs_follow_rules();
                self.with_all(io, |session, core| session.snapshot_changed(core));
            }
            Message::SignedIn { session, result } => {
                if let Some(at) = self.table.of_session(session) {
                    self.signed_in(io, at, result);
                }
            }
            Message::Asked(asked) => {
                if let Some(at) = self.table.of_session(asked.key.session) {
                    self.with(io, at, |s, core| s.asked(core, &asked));
                }
            }
            Message::Answer { key, answer } => {
                if let Some(at) = self.table.of_session(key.session) {
                    self.with(io, at, |s, core| s.answered(core, key, answer));
                }
            }
            Message::Revoke { sessions, reason } => {
                for id in sessions.iter() {
                    if let Some(at) = self.table.of_session(*id) {
                        self.with(io, at, |s, core| s.revoked(core, &reason));
                    }
                }
            }
            Message::Analysed {
                session,
                text,
                result,
            } => {
                let known: Rc<Known> = self.core.known.learn(&text, result);
                if let Some(at) = self.table.of_session(session) {
                    self.with(io, at, |s, core| s.analysed(core, &text, known));
                }
            }
            Message::Resolved { session, addresses } => {
                if let Some(at) = self.table.of_session(session) {
                    match addresses {
                        Ok(addresses) => self.connect_one_of(io, at, &addresses),
                        Err(why) => self.with(io, at, |s, core| s.target_failed(core, &why)),
                    }
                }
            }
            Message::Cancel {
                asker,
                session,
                token,
            } => {
                let found = self.table.of_session(session);
                let slot = found.and_then(|at| self.table.get(at));
                // The session may have ended since, or say that this is not its key after all: then nothing is left to do.
                let cancelled =
                    slot.and_then(|slot| Some((slot.session.cancel(&mut self.core, &token)?, slot.address)));
                match cancelled {
                    Some((Cancelled::AtTarget(cancel), Some(address))) => {
                        self.services.cancel_target(asker, address, cancel);
                    }
                    Some((Cancelled::TakenBack | Cancelled::AtTarget(_), _)) | None => {
                        self.services.cancel_done(asker)
                    }
                }
                if let Some(at) = found {
                    self.settle(io, at);
                }
            }
            Message::CancelDone { session } => {
                if let Some(at) = self.table.of_session(session) {
                    self.with(io, at, |s, core| s.cancel_done(core));
                }
            }
            Message::CatalogChanged { target, changes } => self.core.catalog_changed(&target, changes),
            Message::CatalogLoaded(loaded) => {
                self.core.catalog_loaded(&loaded);
                self.with_all(io, |session, core| session.catalog_came(core, &loaded.target));
            }
            Message::SpoolMoved => {
                self.inbox.spool_read();
                self.spool_wakes += 1;
                self.look_at_spool(io);
            }
            Message::Second => self.second(io),
            Message::Stop => {
                self.stopping = true;
                self.with_all(io, |session, core| session.stopping(core));
            }
        }
    }

    /// Who has proved who it is takes a seat of its principal, and is no longer among those that nobody knows.
    fn signed_in(&mut self, io: &mut dyn Io, at: usize, result: Result<Box<Grant>, Refusal>) {
        let seat = match &result {
            Ok(grant) => self
                .services
                .shares()
                .seat(&grant.who.issuer, &grant.who.principal)
                .map(Some),
            Err(_) => Ok(None),
        };
        match seat {
            Ok(seat) => {
                if let Some(slot) = self.table.get(at)
                    && seat.is_some()
                {
                    slot.half_open = None;
                    slot.seat = seat;
                }
                self.with(io, at, |s, core| s.signed_in(core, result));
            }
            Err(sessions) => {
                self.refused.principal += 1;
                self.with(io, at, |s, core| s.too_many_sessions(core, sessions));
            }
        }
    }

    fn second(&mut self, io: &mut dyn Io) {
        self.anchor();
        let now = self.core.clock.unix_ms();
        let expired: Vec<usize> = {
            let places: Vec<usize> = self.table.places().collect();
            places
                .into_iter()
                .filter(|at| {
                    self.table
                        .get(*at)
                        .and_then(|s| s.session.expires_unix_ms())
                        .is_some_and(|e| e <= now)
                })
                .collect()
        };
        for at in expired {
            self.with(io, at, |s, core| s.tick(core));
        }
        self.core.known.trim();
        let mut values = self.core.metrics.named().to_vec();
        let (sessions, texts) = self.core.kept_bytes();
        values.push(("headgate_sessions_bytes", sessions));
        values.push(("headgate_texts_bytes", texts));
        values.push(("headgate_sessions", self.table.len() as u64));
        values.push(("headgate_half_open_refused_total", self.refused.half_open));
        values.push((
            "headgate_sessions_of_principal_refused_total",
            self.refused.principal,
        ));
        values.push(("headgate_cancels_unknown_total", self.refused.cancels_unknown));
        values.push(("headgate_spool_free_bytes", self.core.spool.free() as u64));
        values.push(("headgate_spool_wakes_total", self.spool_wakes));
        values.push(("headgate_spool_backstops_total", self.spool_backstops));
        self.services.metrics(self.index, &values);
    }
}

/// Whether too much waits for this peer. Only then the shard wants to hear that it has gone.
fn congested(io: &mut dyn Io, socket: SocketId, before: bool) -> bool {
    let now = io.queued(socket) > if before { OUT_BYTES_LOW } else { OUT_BYTES_HIGH };
    if now && !before {
        io.tell_sent(socket);
    }
    now
}

impl Handler for Shard {
    fn accepted(&mut self, io: &mut dyn Io, listener: ListenerId, socket: SocketId, peer: SocketAddr) {
        self.set_clock(io);
        if self.stopping {
            io.abort(socket);
            return;
        }
        let address = peer.ip().to_canonical();
        // Before any work is done for it. The next one is accepted all the same.
        let Some(half_open) = self.services.shares().half_open(address) else {
            self.refused.half_open += 1;
            io.abort(socket);
            return;
        };
        let Some(session) = AnySession::new(&mut self.core, listener as usize, address.to_string()) else {
            io.abort(socket);
            return;
        };
        let slot = Slot {
            session,
            client: socket,
            target: None,
            address: None,
            untried: Vec::new(),
            half_open: Some(half_open),
            seat: None,
            key: None,
            client_paused: false,
            target_paused: false,
            ticking: false,
            spooling: false,
        };
        let at = self.table.insert(slot);
        self.settle(io, at);
    }

    fn connected(&mut self, io: &mut dyn Io, socket: SocketId, result: Result<(), i32>) {
        self.set_clock(io);
        let Some((at, _)) = self.table.of_socket(socket) else {
            return;
        };
        match result {
            Ok(()) => self.with(io, at, |s, core| s.target_connected(core)),
            Err(errno) => {
                self.table.unlink(socket);
                let tried = self.table.get(at).and_then(|slot| {
                    slot.target = None;
                    slot.address.take()
                });
                let why = std::io::Error::from_raw_os_error(errno).to_string();
                let why = tried.map_or_else(|| why.clone(), |address| format!("{address}: {why}"));
                if self.connect_next(io, at) {
                    tracing::info!(why, "target: its next address is tried");
                } else {
                    self.with(io, at, |s, core| s.target_failed(core, &why));
                }
            }
        }
    }

    fn received(&mut self, io: &mut dyn Io, socket: SocketId, bytes: &[u8]) {
        self.set_clock(io);
        match self.table.of_socket(socket) {
            Some((at, Side::Client)) => self.with(io, at, |s, core| s.client_bytes(core, bytes)),
            Some((at, Side::Target)) => self.with(io, at, |s, core| s.target_bytes(core, bytes)),
            None => {}
        }
    }

    fn ended(&mut self, io: &mut dyn Io, socket: SocketId, end: End) {
        self.set_clock(io);
        let Some((at, side)) = self.table.of_socket(socket) else {
            return;
        };
        tracing::trace!(?side, ?end, "peer ended");
        match side {
            Side::Client => self.with(io, at, |s, core| s.client_ended(core)),
            Side::Target => self.with(io, at, |s, core| s.target_ended(core)),
        }
    }

    fn sent(&mut self, io: &mut dyn Io, socket: SocketId) {
        if let Some((at, _)) = self.table.of_socket(socket) {
            self.settle(io, at);
        }
    }

    fn recycle(&mut self, buffer: Vec<u8>) {
        self.core.recycle(buffer);
    }

    fn closed(&mut self, _io: &mut dyn Io, socket: SocketId) {
        self.table.unlink(socket);
    }

    fn woken(&mut self, io: &mut dyn Io) {
        self.set_clock(io);
        self.inbox.begin_reading();
        while let Some(message) = self.inbox.next() {
            self.read(io, message);
        }
    }

    fn tick(&mut self, io: &mut dyn Io) {
        self.set_clock(io);
        let due = std::mem::take(&mut self.ticking);
        for at in due {
            if let Some(slot) = self.table.get(at) {
                slot.ticking = false;
                // What wanted the tick may be over since.
                if slot.session.wants_tick() {
                    self.with(io, at, |s, core| s.tick(core));
                }
            }
        }
        if !self.spooling.is_empty() && self.core.clock.now_us >= self.backstop_us {
            self.backstop_us = self.core.clock.now_us + BACKSTOP_US;
            self.spool_backstops += self.look_at_spool(io);
        }
    }

    fn wants_ticks(&self) -> bool {
        !self.ticking.is_empty() || !self.spooling.is_empty()
    }

    /// What is recorded is with the recorder before what it records is with the kernel.
    fn submitting(&mut self) {
        self.core.spool.publish();
    }

    fn turn_ended(&mut self, io: &mut dyn Io) -> bool {
        if self.inbox.is_empty() {
            return false;
        }
        self.woken(io);
        true
    }

    fn wants_stop(&self) -> bool {
        self.stopping && self.table.len() == 0
    }
}
