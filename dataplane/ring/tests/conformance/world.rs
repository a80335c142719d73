//! What a rule needs of a driver and its far ends.

use crate::script::{Command, Seen, State};
use headgate_ring::End;
use std::net::SocketAddr;
use std::time::Duration;

pub struct Limits {
    pub sockets_max: usize,
    pub close_linger_ms: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            sockets_max: 1024,
            close_linger_ms: 5_000,
        }
    }
}

pub type PeerId = usize;
pub type Make<'a> = &'a mut dyn FnMut(Limits) -> Box<dyn World>;

pub trait World {
    fn dial(&mut self) -> PeerId;
    /// Says all in the background: the peer does not wait for the handler to take it.
    fn say(&mut self, peer: PeerId, bytes: &[u8]);
    fn finish(&mut self, peer: PeerId);
    fn reset(&mut self, peer: PeerId);
    /// The peer takes no bytes until it hears again.
    fn deaf(&mut self, peer: PeerId);
    /// Exactly `count` bytes, or fewer if the handler's side ends before.
    fn hear(&mut self, peer: PeerId, count: usize) -> Vec<u8>;
    /// All bytes up to the end, and how it came.
    fn hear_end(&mut self, peer: PeerId) -> (Vec<u8>, End);
    fn accepting_target(&mut self) -> SocketAddr;
    fn refusing_target(&mut self) -> SocketAddr;
    fn silent_target(&mut self) -> SocketAddr;
    /// The oldest connection to the accepting target.
    fn arrival(&mut self) -> PeerId;
    /// Runs a command inside the handler, by a wake.
    fn tell(&mut self, command: Command);
    /// Lets things happen until `until` says so; fails after a bound in time.
    fn wait(&mut self, what: &str, until: &mut dyn FnMut(&State) -> bool);
    /// Lets time pass.
    fn pass(&mut self, time: Duration);
    fn look(&mut self, at: &mut dyn FnMut(&State));
    /// Ends the driver and checks what holds at every end.
    fn end(&mut self);
}

/// Dials and waits for the accept; clients must dial one after the other for the ids to fit.
pub fn dial(world: &mut dyn World) -> (PeerId, headgate_ring::SocketId) {
    let mut before = 0;
    world.look(&mut |s| before = s.accepted.len());
    let peer = world.dial();
    world.wait("an accept", &mut |s| s.accepted.len() > before);
    let mut id = None;
    world.look(&mut |s| id = s.accepted.get(before).copied());
    (peer, id.expect("it was accepted"))
}

pub fn saw(world: &mut dyn World, seen: Seen) {
    world.wait(&format!("{seen:?}"), &mut |s| s.seen.contains(&seen));
}
