//! Which session a socket belongs to, and where a session is.

use crate::keys::KeyHeld;
use crate::shares::{HalfOpen, Seat};
use headgate_gate::AnySession;
use headgate_plane::SessionId;
use headgate_ring::SocketId;
use std::collections::HashMap;
use std::net::SocketAddr;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Client,
    Target,
}

pub struct Slot {
    pub session: AnySession,
    pub client: SocketId,
    pub target: Option<SocketId>,
    /// Where the target is, or is being tried: cancels go there too.
    pub address: Option<SocketAddr>,
    /// Other addresses of the target, the next one last.
    pub untried: Vec<SocketAddr>,
    /// Until the sign-in is over, one way or the other.
    pub half_open: Option<HalfOpen>,
    /// From the sign-in on.
    pub seat: Option<Seat>,
    /// Of the session's cancels.
    pub key: Option<KeyHeld>,
    pub client_paused: bool,
    pub target_paused: bool,
    /// It is on the list of those that want ticks.
    pub ticking: bool,
    /// It is on the list of those that wait for the spool.
    pub spooling: bool,
}

#[derive(Default)]
pub struct Table {
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
    /// By the socket's slot: its generation, its session's slot and side.
    sockets: Vec<Option<(u32, usize, Side)>>,
    ids: HashMap<SessionId, usize>,
}

impl Table {
    pub fn insert(&mut self, slot: Slot) -> usize {
        let id = slot.session.id();
        let client = slot.client;
        let at = self.free.pop().unwrap_or(self.slots.len());
        if at == self.slots.len() {
            self.slots.push(Some(slot));
        } else if let Some(place) = self.slots.get_mut(at) {
            *place = Some(slot);
        }
        self.ids.insert(id, at);
        self.link(client, at, Side::Client);
        at
    }

    pub fn link(&mut self, socket: SocketId, at: usize, side: Side) {
        let place = socket.slot as usize;
        if self.sockets.len() <= place {
            self.sockets.resize(place + 1, None);
        }
        if let Some(entry) = self.sockets.get_mut(place) {
            *entry = Some((socket.generation, at, side));
        }
    }

    pub fn unlink(&mut self, socket: SocketId) {
        if let Some(entry) = self.sockets.get_mut(socket.slot as usize)
            && entry.is_some_and(|(generation, _, _)| generation == socket.generation)
        {
            *entry = None;
        }
    }

    pub fn of_socket(&self, socket: SocketId) -> Option<(usize, Side)> {
        let (generation, at, side) = (*self.sockets.get(socket.slot as usize)?)?;
        (generation == socket.generation).then_some((at, side))
    }

    pub fn of_session(&self, id: SessionId) -> Option<usize> {
        self.ids.get(&id).copied()
    }

    pub fn get(&mut self, at: usize) -> Option<&mut Slot> {
        self.slots.get_mut(at)?.as_mut()
    }

    pub fn remove(&mut self, at: usize) -> Option<Slot> {
        let slot = self.slots.get_mut(at)?.take()?;
        self.free.push(at);
        self.ids.remove(&slot.session.id());
        Some(slot)
    }

    pub fn places(&self) -> impl Iterator<Item = usize> + use<'_> {
        self.slots
            .iter()
            .enumerate()
            .filter_map(|(at, slot)| slot.as_ref().map(|_| at))
    }

    pub fn len(&self) -> usize {
        self.ids.len()
    }
}
