//! A deterministic driver of the seam: virtual peers, virtual time, one seed.
//!
//! The same seed and the same calls give the same run. It splits and coalesces bytes, lets peers' windows fill, delivers
//! a random part of the slack after a pause, reorders what sockets do among each other, and never nests calls. Tests play
//! the peers: [`Sim::dial`] is a client, [`Sim::target`] says how an address behaves when the handler connects to it.
//! Time stands still in [`Sim::run`] and moves in [`Sim::pass`]. Not for production: it panics, with its seed, on misuse.

mod io;
mod peers;
mod steps;

pub use peers::{PeerId, Target};

use crate::seam::{End, Handler, ListenerId, SocketId};
use peers::Peer;
use std::collections::{HashMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};

/// How the simulation cuts bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunks {
    /// Anything from one byte to all there is.
    Random,
    /// One byte at a time, both ways.
    Ones,
    /// As much as there is, up to 64 KiB.
    Whole,
}

/// How a simulation is made.
#[derive(Clone, Debug)]
pub struct SimSettings {
    /// The same seed makes the same run.
    pub seed: u64,
    /// How bytes are cut.
    pub chunks: Chunks,
    /// As in a real ring.
    pub sockets_max: usize,
    /// As in a real ring.
    pub tick_ms: u32,
    /// As in a real ring.
    pub close_linger_ms: u32,
    /// What the kernel holds for a peer that does not read.
    pub window_bytes: usize,
}

impl Default for SimSettings {
    fn default() -> Self {
        SimSettings {
            seed: 1,
            chunks: Chunks::Random,
            sockets_max: 1024,
            tick_ms: 10,
            close_linger_ms: 5_000,
            window_bytes: 256 << 10,
        }
    }
}

/// SplitMix64: small, seeded, good enough to stir with.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// `0..=most`, small values as likely as large ones.
    fn up_to(&mut self, most: usize) -> usize {
        let most = if self.roll().is_multiple_of(2) {
            most
        } else {
            most.min(16)
        };
        (self.roll() % (most as u64 + 1)) as usize
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    Connecting { fails_at_us: u64 },
    Open,
    Closing { until_us: u64 },
}

struct Socket {
    generation: u32,
    state: State,
    peer: PeerId,
    accepted: bool,
    paused: bool,
    /// Bytes that may still arrive after a pause.
    slack: usize,
    finished: bool,
    broken: bool,
    queue: VecDeque<Vec<u8>>,
    queue_bytes: usize,
    front_sent: usize,
    /// The handler waits for the queue to be empty.
    tell_sent: bool,
    discarded: usize,
    target: Option<SocketAddr>,
}

/// What handlers see as `Io`.
struct Core {
    config: SimSettings,
    dice: Dice,
    now_us: u64,
    sockets: Vec<Socket>,
    peers: Vec<Peer>,
    targets: HashMap<SocketAddr, Target>,
    arrivals: VecDeque<(SocketAddr, PeerId)>,
    closed: VecDeque<SocketId>,
    sent: VecDeque<SocketId>,
    failed: VecDeque<(SocketId, i32)>,
    spent: Vec<Vec<u8>>,
    wakes: u32,
    refused: u32,
}

/// A driver without a kernel: the same rules, time and order by a seed.
pub struct Sim {
    core: Core,
    steps: u64,
    next_tick_us: Option<u64>,
}

impl Sim {
    /// Begins at time 0.
    pub fn new(config: SimSettings) -> Self {
        let core = Core {
            dice: Dice(config.seed),
            config,
            now_us: 0,
            sockets: Vec::new(),
            peers: Vec::new(),
            targets: HashMap::new(),
            arrivals: VecDeque::new(),
            closed: VecDeque::new(),
            sent: VecDeque::new(),
            failed: VecDeque::new(),
            spent: Vec::new(),
            wakes: 0,
            refused: 0,
        };
        Sim {
            core,
            steps: 0,
            next_tick_us: None,
        }
    }

    /// For the message of a failing test.
    pub fn seed_and_step(&self) -> (u64, u64) {
        (self.core.config.seed, self.steps)
    }

    /// The simulation's time.
    pub fn now_us(&self) -> u64 {
        self.core.now_us
    }

    /// A client dials a listener; it is accepted in a later step.
    pub fn dial(&mut self, listener: ListenerId) -> PeerId {
        let number = self.core.peers.len();
        let port = 1024 + (number % 60_000) as u16;
        let address = SocketAddr::from((Ipv4Addr::new(10, 0, (number / 60_000) as u8, 1), port));
        self.core.add_peer(Some(listener), address)
    }

    /// How `address` treats the handler's connects. Unknown addresses refuse.
    pub fn target(&mut self, address: SocketAddr, target: Target) {
        self.core.targets.insert(address, target);
    }

    /// The oldest connection of the handler to a target that no test has taken yet.
    pub fn arrival(&mut self) -> Option<(SocketAddr, PeerId)> {
        self.core.arrivals.pop_front()
    }

    /// Wakes the core, as a write to its eventfd would.
    pub fn wake(&mut self) {
        self.core.wakes += 1;
    }

    /// The peer sends; its own buffer has no bound.
    pub fn say(&mut self, peer: PeerId, bytes: &[u8]) {
        let peer = self.core.peer(peer);
        assert!(!peer.finished, "a peer that has finished says nothing");
        peer.to_handler.extend(bytes);
    }

    /// How much of what it said the handler has not been given yet.
    pub fn untaken(&self, peer: PeerId) -> usize {
        self.core
            .peers
            .get(peer.0)
            .map_or(0, |peer| peer.to_handler.len())
    }

    /// FIN after what it said.
    pub fn finish(&mut self, peer: PeerId) {
        self.core.peer(peer).finished = true;
    }

    /// RST: what was under way both ways is lost, all or in part.
    pub fn reset(&mut self, peer: PeerId) {
        let keep = self.core.dice.roll() as usize;
        let now_us = self.core.now_us;
        let peer = self.core.peer(peer);
        let keep = keep % (peer.to_handler.len() + 1);
        peer.to_handler.truncate(keep);
        peer.reset_at_us = Some(now_us);
        peer.to_peer.clear();
    }

    /// Whether the peer takes bytes off its window. It does unless told otherwise.
    pub fn reads(&mut self, peer: PeerId, reads: bool) {
        self.core.peer(peer).reads = reads;
    }

    /// Takes what the peer has read.
    pub fn heard(&mut self, peer: PeerId) -> Vec<u8> {
        std::mem::take(&mut self.core.peer(peer).heard)
    }

    /// How the handler's side ended, once the peer has read up to it.
    pub fn end_of(&self, peer: PeerId) -> Option<End> {
        self.core.peers.get(peer.0).and_then(|p| p.end)
    }

    /// Steps until nothing more can happen at this point of time.
    pub fn run(&mut self, handler: &mut (impl Handler + ?Sized)) {
        let mut idle = 0;
        while idle < 2 {
            idle = if self.step(handler) { 0 } else { idle + 1 };
        }
    }

    /// Lets virtual time pass, tick by tick, running all that becomes due.
    pub fn pass(&mut self, ms: u64, handler: &mut (impl Handler + ?Sized)) {
        let until_us = self.core.now_us + ms * 1_000;
        self.run(handler);
        while self.core.now_us < until_us {
            self.core.now_us = (self.core.now_us + u64::from(self.core.config.tick_ms) * 1_000).min(until_us);
            self.run(handler);
        }
    }
}
