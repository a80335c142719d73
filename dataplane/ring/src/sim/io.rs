//! What the handler asks of the simulation. Only state changes here; what follows is told by later steps.

use super::peers::Target;
use super::{Chunks, Core, PeerId, Socket, State};
use crate::seam::{Io, PAUSE_SLACK_BYTES, SocketId};
use std::collections::VecDeque;
use std::net::SocketAddr;

impl Core {
    /// How much of `most` moves at once: at least one byte of something.
    pub(super) fn portion(&mut self, most: usize) -> usize {
        match self.config.chunks {
            Chunks::Random => (1 + self.dice.up_to(64 << 10)).min(most),
            Chunks::Ones => most.min(1),
            Chunks::Whole => most.min(64 << 10),
        }
    }

    pub(super) fn insert(&mut self, peer: PeerId, state: State, accepted: bool) -> SocketId {
        let fresh = |generation| Socket {
            generation,
            state,
            peer,
            accepted,
            paused: false,
            slack: 0,
            finished: false,
            broken: false,
            queue: VecDeque::new(),
            queue_bytes: 0,
            front_sent: 0,
            tell_sent: false,
            discarded: 0,
            target: None,
        };
        let at = self
            .sockets
            .iter()
            .position(|s| s.state == State::Free)
            .unwrap_or(self.sockets.len());
        let generation = self.sockets.get(at).map_or(1, |s| s.generation.wrapping_add(1));
        if at == self.sockets.len() {
            self.sockets.push(fresh(generation));
        } else {
            self.sockets[at] = fresh(generation);
        }
        SocketId {
            slot: u32::try_from(at).expect("fewer sockets than 2^32"),
            generation,
        }
    }

    pub(super) fn free(&mut self, at: usize) {
        let socket = &mut self.sockets[at];
        socket.state = State::Free;
        socket.queue_bytes = 0;
        self.spent.extend(socket.queue.drain(..));
    }

    pub(super) fn count(&self, accepted: bool) -> usize {
        self.sockets
            .iter()
            .filter(|s| s.state != State::Free && s.accepted == accepted)
            .count()
    }

    fn refuse(&mut self, errno: i32) -> SocketId {
        self.refused += 1;
        let id = SocketId {
            slot: u32::MAX,
            generation: self.refused,
        };
        self.failed.push_back((id, errno));
        id
    }
}

impl Io for Core {
    fn connect(&mut self, address: SocketAddr, timeout_ms: u32) -> SocketId {
        if self.count(false) >= self.config.sockets_max {
            return self.refuse(libc::EMFILE);
        }
        let target = self
            .targets
            .get(&address)
            .copied()
            .unwrap_or(Target::Refuses(libc::ECONNREFUSED));
        // The far end exists once it is accepted; until then nothing reads there.
        let peer = self.add_peer(None, address);
        let fails_at_us = if target == Target::Silent {
            self.now_us + u64::from(timeout_ms) * 1_000
        } else {
            u64::MAX
        };
        let id = self.insert(peer, State::Connecting { fails_at_us }, false);
        self.sockets[id.slot as usize].target = Some(address);
        id
    }

    fn send(&mut self, socket: SocketId, buffer: Vec<u8>) {
        match self.slot_of(socket) {
            Some(at)
                if !buffer.is_empty()
                    && !self.sockets[at].broken
                    && matches!(self.sockets[at].state, State::Open | State::Connecting { .. }) =>
            {
                let socket = &mut self.sockets[at];
                socket.queue_bytes += buffer.len();
                socket.queue.push_back(buffer);
            }
            _ => self.spent.push(buffer),
        }
    }

    fn queued(&self, socket: SocketId) -> usize {
        self.slot_of(socket).map_or(0, |at| self.sockets[at].queue_bytes)
    }

    fn tell_sent(&mut self, socket: SocketId) {
        if let Some(at) = self.slot_of(socket)
            && matches!(self.sockets[at].state, State::Open | State::Connecting { .. })
        {
            if self.sockets[at].queue.is_empty() {
                self.sent.push_back(socket);
            } else {
                self.sockets[at].tell_sent = true;
            }
        }
    }

    fn pause(&mut self, socket: SocketId) {
        if let Some(at) = self.slot_of(socket)
            && !self.sockets[at].paused
            && !matches!(self.sockets[at].state, State::Closing { .. })
        {
            let under_way = self.peers[self.sockets[at].peer.0].to_handler.len();
            let slack = self.dice.up_to(under_way.min(PAUSE_SLACK_BYTES));
            self.sockets[at].paused = true;
            self.sockets[at].slack = slack;
        }
    }

    fn resume(&mut self, socket: SocketId) {
        if let Some(at) = self.slot_of(socket) {
            self.sockets[at].paused = false;
            self.sockets[at].slack = 0;
        }
    }

    fn close(&mut self, socket: SocketId) {
        let Some(at) = self.slot_of(socket) else { return };
        match self.sockets[at].state {
            State::Open => {
                let until_us = self.now_us + u64::from(self.config.close_linger_ms) * 1_000;
                self.sockets[at].paused = false;
                self.sockets[at].state = State::Closing { until_us };
            }
            State::Connecting { .. } => self.abort(socket),
            State::Free | State::Closing { .. } => {}
        }
    }

    fn abort(&mut self, socket: SocketId) {
        let Some(at) = self.slot_of(socket) else { return };
        let peer = self.sockets[at].peer;
        self.reset_peer(peer);
        self.free(at);
        self.closed.push_back(socket);
    }

    fn now_us(&self) -> u64 {
        self.now_us
    }

    fn tick_ms(&self) -> u32 {
        self.config.tick_ms
    }
}
