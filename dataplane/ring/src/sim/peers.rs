//! The far ends of the simulated sockets.

use super::{Core, State};
use crate::seam::{End, ListenerId, SocketId};
use std::collections::VecDeque;
use std::net::SocketAddr;

/// A far end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerId(pub usize);

/// How an address behaves that is dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// It takes the connection.
    Accepts,
    /// With this errno.
    Refuses(i32),
    /// Never answers: the connect times out.
    Silent,
}

pub(super) struct Peer {
    /// Dialled and not yet accepted.
    pub dials: Option<ListenerId>,
    pub address: SocketAddr,
    pub socket: Option<SocketId>,
    pub to_handler: VecDeque<u8>,
    pub finished: bool,
    pub reset_at_us: Option<u64>,
    pub to_peer: VecDeque<u8>,
    /// FIN comes behind the bytes of `to_peer`.
    pub fin: bool,
    pub reads: bool,
    pub heard: Vec<u8>,
    pub end: Option<End>,
}

impl Core {
    pub(super) fn add_peer(&mut self, dials: Option<ListenerId>, address: SocketAddr) -> PeerId {
        self.peers.push(Peer {
            dials,
            address,
            socket: None,
            to_handler: VecDeque::new(),
            finished: false,
            reset_at_us: None,
            to_peer: VecDeque::new(),
            fin: false,
            reads: true,
            heard: Vec::new(),
            end: None,
        });
        PeerId(self.peers.len() - 1)
    }

    pub(super) fn peer(&mut self, peer: PeerId) -> &mut Peer {
        self.peers.get_mut(peer.0).expect("a peer of this simulation")
    }

    /// The handler's side is gone without a FIN.
    pub(super) fn reset_peer(&mut self, peer: PeerId) {
        let peer = self.peer(peer);
        peer.to_peer.clear();
        peer.to_handler.clear();
        peer.end.get_or_insert(End::Broken(libc::ECONNRESET));
    }

    /// The peer takes bytes off its window, and sees FIN behind the last; it then hangs up, as clients do.
    pub(super) fn peer_reads(&mut self, at: usize) -> bool {
        let most = self.peers[at].to_peer.len();
        let count = self.portion(most);
        let peer = &mut self.peers[at];
        if !peer.reads || peer.end.is_some() {
            return false;
        }
        peer.heard.extend(peer.to_peer.drain(..count));
        if peer.fin && peer.to_peer.is_empty() {
            peer.end = Some(End::Finished);
            peer.finished = true;
            return true;
        }
        count > 0
    }

    pub(super) fn slot_of(&self, id: SocketId) -> Option<usize> {
        let at = usize::try_from(id.slot).ok()?;
        self.sockets
            .get(at)
            .filter(|s| s.state != State::Free && s.generation == id.generation)?;
        Some(at)
    }
}
