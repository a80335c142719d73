//! One step of the simulation: in random order, some sockets do one thing each; then ticks, then the turn ends.

use super::peers::Target;
use super::{Sim, State};
use crate::core::DISCARD_BYTES_MAX;
use crate::seam::{End, Handler, Io, SocketId};

/// A handler that never comes to rest is a bug of its own.
const STEPS_MAX: u64 = 50_000_000;
/// As the ring: a paused socket learns of a RST only by a look now and then.
const LOOK_US: u64 = 1_000_000;

impl Sim {
    /// One turn. `false` if nothing happened.
    pub fn step(&mut self, handler: &mut (impl Handler + ?Sized)) -> bool {
        self.steps += 1;
        assert!(
            self.steps < STEPS_MAX,
            "the handler never rests: seed and step {:?}",
            self.seed_and_step()
        );
        let mut did = self.accept_and_wake(handler);
        let sockets = self.core.sockets.len();
        let first = self.core.dice.up_to(sockets);
        for turn in 0..sockets {
            let at = (first + turn) % sockets;
            if self.core.dice.roll().is_multiple_of(4) && sockets > 1 {
                // Not this turn; `did` keeps the run going if it had something to do.
                did |= self.core.sockets[at].state != State::Free && self.has_work(at);
                continue;
            }
            did |= self.act(handler, at);
        }
        for peer in 0..self.core.peers.len() {
            did |= self.core.peer_reads(peer);
        }
        did |= self.tell(handler);
        did |= self.tick(handler);
        handler.submitting();
        did |= handler.turn_ended(&mut self.core);
        did | self.tell(handler)
    }

    fn accept_and_wake(&mut self, handler: &mut (impl Handler + ?Sized)) -> bool {
        let mut did = false;
        if self.core.wakes > 0 {
            // Wakes between two turns are one.
            self.core.wakes = 0;
            handler.woken(&mut self.core);
            did = true;
        }
        for at in 0..self.core.peers.len() {
            let Some(listener) = self.core.peers[at].dials.take() else {
                continue;
            };
            did = true;
            let peer = super::PeerId(at);
            if self.core.count(true) >= self.core.config.sockets_max {
                self.core.peers[at].fin = true;
                continue;
            }
            let id = self.core.insert(peer, State::Open, true);
            self.core.peers[at].socket = Some(id);
            let address = self.core.peers[at].address;
            handler.accepted(&mut self.core, listener, id, address);
        }
        did
    }

    fn has_work(&self, at: usize) -> bool {
        let socket = &self.core.sockets[at];
        let peer = &self.core.peers[socket.peer.0];
        let room = self.core.config.window_bytes > peer.to_peer.len();
        let may_receive = !socket.paused || socket.slack > 0;
        match socket.state {
            State::Free => false,
            State::Connecting { fails_at_us } => fails_at_us == u64::MAX || fails_at_us <= self.core.now_us,
            State::Closing { until_us } => {
                let over = self.core.now_us >= until_us || peer.reset_at_us.is_some();
                let sends = !socket.queue.is_empty() && room;
                let ends = socket.queue.is_empty() && (!peer.fin || peer.finished);
                over || sends || ends || !peer.to_handler.is_empty()
            }
            State::Open => {
                !socket.broken
                    && ((!socket.queue.is_empty() && room)
                        || (may_receive && !peer.to_handler.is_empty())
                        || (!socket.paused
                            && !socket.finished
                            && (peer.finished || peer.reset_at_us.is_some())))
            }
        }
    }

    fn act(&mut self, handler: &mut (impl Handler + ?Sized), at: usize) -> bool {
        match self.core.sockets[at].state {
            State::Free => false,
            State::Connecting { fails_at_us } => self.act_connecting(handler, at, fails_at_us),
            State::Open => {
                // Either order: a reply may be taken before or after the next bytes come.
                let takes_first = self.core.dice.roll().is_multiple_of(2);
                let mut did = takes_first && self.take(handler, at);
                did |= self.deliver(handler, at);
                did || (!takes_first && self.take(handler, at))
            }
            State::Closing { until_us } => self.act_closing(handler, at, until_us),
        }
    }

    fn id(&self, at: usize) -> SocketId {
        SocketId {
            slot: at as u32,
            generation: self.core.sockets[at].generation,
        }
    }

    fn act_connecting(&mut self, handler: &mut (impl Handler + ?Sized), at: usize, fails_at_us: u64) -> bool {
        let Some(address) = self.core.sockets[at].target else {
            return false;
        };
        let target = self
            .core
            .targets
            .get(&address)
            .copied()
            .unwrap_or(Target::Refuses(libc::ECONNREFUSED));
        let id = self.id(at);
        let errno = match target {
            Target::Accepts => {
                let peer = self.core.sockets[at].peer;
                self.core.sockets[at].state = State::Open;
                self.core.peers[peer.0].socket = Some(id);
                self.core.arrivals.push_back((address, peer));
                handler.connected(&mut self.core, id, Ok(()));
                return true;
            }
            Target::Refuses(errno) => errno,
            Target::Silent if self.core.now_us >= fails_at_us => libc::ETIMEDOUT,
            Target::Silent => return false,
        };
        self.core.free(at);
        handler.connected(&mut self.core, id, Err(errno));
        true
    }

    /// The kernel takes a part of the queue into the peer's window.
    fn take(&mut self, handler: &mut (impl Handler + ?Sized), at: usize) -> bool {
        let id = self.id(at);
        let Some(at) = self.core.slot_of(id) else {
            return false;
        };
        if self.core.sockets[at].queue.is_empty() || self.core.sockets[at].broken {
            return false;
        }
        let peer = self.core.sockets[at].peer.0;
        if self.core.peers[peer].reset_at_us.is_some() {
            // While unpaused the receiving side tells, after the last bytes.
            return self.core.sockets[at].paused && self.break_socket(handler, at, libc::EPIPE);
        }
        let room = self
            .core
            .config
            .window_bytes
            .saturating_sub(self.core.peers[peer].to_peer.len());
        let mut count = self.core.portion(room);
        if count == 0 {
            return false;
        }
        while count > 0
            && let Some(front) = self.core.sockets[at].queue.front()
        {
            let skip = self.core.sockets[at].front_sent;
            let now = count.min(front.len() - skip);
            self.core.peers[peer].to_peer.extend(&front[skip..skip + now]);
            let whole = skip + now == front.len();
            let socket = &mut self.core.sockets[at];
            count -= now;
            socket.queue_bytes -= now;
            socket.front_sent = if whole { 0 } else { skip + now };
            if whole && let Some(buffer) = socket.queue.pop_front() {
                self.core.spent.push(buffer);
            }
        }
        let socket = &mut self.core.sockets[at];
        if socket.queue.is_empty() && std::mem::take(&mut socket.tell_sent) && socket.state == State::Open {
            handler.sent(&mut self.core, id);
        }
        true
    }

    fn deliver(&mut self, handler: &mut (impl Handler + ?Sized), at: usize) -> bool {
        let id = self.id(at);
        // What came before may have closed it.
        let Some(at) = self
            .core
            .slot_of(id)
            .filter(|at| self.core.sockets[*at].state == State::Open)
        else {
            return false;
        };
        let (peer, paused, slack) = {
            let socket = &self.core.sockets[at];
            (socket.peer.0, socket.paused, socket.slack)
        };
        if self.core.sockets[at].broken
            || self.core.sockets[at].finished && self.core.peers[peer].reset_at_us.is_none()
        {
            return false;
        }
        let most = self.core.peers[peer]
            .to_handler
            .len()
            .min(if paused { slack } else { usize::MAX });
        if most > 0 && !self.core.sockets[at].finished {
            let count = self.core.portion(most);
            let bytes: Vec<u8> = self.core.peers[peer].to_handler.drain(..count).collect();
            self.core.sockets[at].slack -= if paused { count } else { 0 };
            handler.received(&mut self.core, id, &bytes);
            return true;
        }
        if let Some(reset_at_us) = self.core.peers[peer].reset_at_us {
            let told = !paused || self.core.now_us >= reset_at_us + LOOK_US;
            return told && self.break_socket(handler, at, libc::ECONNRESET);
        }
        if !paused && self.core.peers[peer].finished {
            self.core.sockets[at].finished = true;
            handler.ended(&mut self.core, id, End::Finished);
            return true;
        }
        false
    }

    fn break_socket(&mut self, handler: &mut (impl Handler + ?Sized), at: usize, errno: i32) -> bool {
        let id = self.id(at);
        let socket = &mut self.core.sockets[at];
        socket.broken = true;
        socket.queue_bytes = 0;
        socket.front_sent = 0;
        self.core.spent.extend(socket.queue.drain(..));
        handler.ended(&mut self.core, id, End::Broken(errno));
        true
    }

    fn act_closing(&mut self, handler: &mut (impl Handler + ?Sized), at: usize, until_us: u64) -> bool {
        let id = self.id(at);
        let peer = self.core.sockets[at].peer;
        let gone = self.core.peers[peer.0].reset_at_us.is_some() || self.core.sockets[at].broken;
        if gone || self.core.now_us >= until_us {
            self.core.reset_peer(peer);
            self.core.free(at);
            self.core.closed.push_back(id);
            return true;
        }
        let mut did = self.take(handler, at);
        let dropped = std::mem::take(&mut self.core.peers[peer.0].to_handler).len();
        self.core.sockets[at].discarded += dropped;
        did |= dropped > 0;
        if self.core.sockets[at].queue.is_empty() {
            did |= !std::mem::replace(&mut self.core.peers[peer.0].fin, true);
            if self.core.peers[peer.0].finished || self.core.sockets[at].discarded > DISCARD_BYTES_MAX {
                self.core.free(at);
                self.core.closed.push_back(id);
                did = true;
            }
        }
        did
    }

    /// What no socket's own step tells.
    fn tell(&mut self, handler: &mut (impl Handler + ?Sized)) -> bool {
        let mut did = false;
        loop {
            for mut buffer in std::mem::take(&mut self.core.spent) {
                buffer.clear();
                handler.recycle(buffer);
            }
            if let Some(id) = self.core.closed.pop_front() {
                handler.closed(&mut self.core, id);
            } else if let Some(id) = self.core.sent.pop_front() {
                if self
                    .core
                    .slot_of(id)
                    .is_some_and(|at| self.core.sockets[at].state == State::Open)
                {
                    handler.sent(&mut self.core, id);
                }
            } else if let Some((id, errno)) = self.core.failed.pop_front() {
                handler.connected(&mut self.core, id, Err(errno));
            } else {
                return did;
            }
            did = true;
        }
    }

    fn tick(&mut self, handler: &mut (impl Handler + ?Sized)) -> bool {
        let every_us = u64::from(self.core.tick_ms()) * 1_000;
        let now_us = self.core.now_us;
        match (handler.wants_ticks(), self.next_tick_us) {
            (false, _) => self.next_tick_us = None,
            (true, Some(due)) if due > now_us => {}
            (true, due) => {
                self.next_tick_us = Some(now_us + every_us);
                if due.is_some() {
                    handler.tick(&mut self.core);
                    return true;
                }
            }
        }
        false
    }
}
