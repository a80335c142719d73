//! The simulation, over seeds and ways of cutting.

use crate::script::{Command, Script, State};
use crate::world::{Limits, Make, PeerId, World};
use headgate_ring::End;
use headgate_ring::sim::{Chunks, PeerId as SimPeer, Sim, SimSettings, Target};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

pub struct Simulated {
    sim: Sim,
    script: Script,
    peers: Vec<SimPeer>,
    heard: Vec<Vec<u8>>,
}

const SEEDS: u64 = 12;

pub fn over_seeds(rule: fn(Make<'_>)) {
    for seed in 1..=SEEDS {
        let chunks = if seed == SEEDS {
            Chunks::Whole
        } else {
            Chunks::Random
        };
        let mut make = |limits: Limits| -> Box<dyn World> {
            let config = SimSettings {
                seed,
                chunks,
                sockets_max: limits.sockets_max,
                close_linger_ms: limits.close_linger_ms,
                ..SimSettings::default()
            };
            Box::new(Simulated {
                sim: Sim::new(config),
                script: Script::default(),
                peers: vec![],
                heard: vec![],
            })
        };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| rule(&mut make))) {
            eprintln!("in simulation with seed {seed}, {chunks:?}");
            resume_unwind(panic);
        }
    }
}

impl Simulated {
    fn add(&mut self, peer: SimPeer) -> PeerId {
        self.peers.push(peer);
        self.heard.push(Vec::new());
        self.peers.len() - 1
    }

    fn run(&mut self) {
        self.sim.run(&mut self.script);
    }

    fn drain(&mut self, peer: PeerId) {
        self.sim.reads(self.peers[peer], true);
        self.run();
        let heard = self.sim.heard(self.peers[peer]);
        self.heard[peer].extend(heard);
    }
}

impl World for Simulated {
    fn dial(&mut self) -> PeerId {
        let peer = self.sim.dial(0);
        self.add(peer)
    }

    fn say(&mut self, peer: PeerId, bytes: &[u8]) {
        self.sim.say(self.peers[peer], bytes);
    }

    fn finish(&mut self, peer: PeerId) {
        self.sim.finish(self.peers[peer]);
    }

    fn reset(&mut self, peer: PeerId) {
        self.sim.reset(self.peers[peer]);
    }

    fn deaf(&mut self, peer: PeerId) {
        self.sim.reads(self.peers[peer], false);
    }

    fn hear(&mut self, peer: PeerId, count: usize) -> Vec<u8> {
        self.drain(peer);
        let count = count.min(self.heard[peer].len());
        self.heard[peer].drain(..count).collect()
    }

    fn hear_end(&mut self, peer: PeerId) -> (Vec<u8>, End) {
        self.drain(peer);
        let end = self
            .sim
            .end_of(self.peers[peer])
            .expect("the handler's side has ended");
        (std::mem::take(&mut self.heard[peer]), end)
    }

    fn accepting_target(&mut self) -> SocketAddr {
        let address = SocketAddr::from(([10, 1, 0, 1], 5432));
        self.sim.target(address, Target::Accepts);
        address
    }

    fn refusing_target(&mut self) -> SocketAddr {
        SocketAddr::from(([10, 1, 0, 2], 5432))
    }

    fn silent_target(&mut self) -> SocketAddr {
        let address = SocketAddr::from(([10, 1, 0, 3], 5432));
        self.sim.target(address, Target::Silent);
        address
    }

    fn arrival(&mut self) -> PeerId {
        self.run();
        let (_, peer) = self.sim.arrival().expect("the handler connected");
        self.add(peer)
    }

    fn tell(&mut self, command: Command) {
        self.script.with(|s| s.commands.push_back(command));
        self.sim.wake();
        self.run();
    }

    fn wait(&mut self, what: &str, until: &mut dyn FnMut(&State) -> bool) {
        self.run();
        // Up to ten seconds of virtual time.
        for _ in 0..1_000 {
            if self.script.with(|s| until(s)) {
                return;
            }
            self.sim.pass(10, &mut self.script);
        }
        self.script
            .with(|s| panic!("no {what} in time; wrongs {:?}, seen {:?}", s.wrongs, s.seen));
    }

    fn pass(&mut self, time: Duration) {
        self.sim.pass(time.as_millis() as u64, &mut self.script);
    }

    fn look(&mut self, at: &mut dyn FnMut(&State)) {
        self.run();
        self.script.with(|s| at(s));
    }

    fn end(&mut self) {
        self.run();
        self.script.with(|s| {
            assert_eq!(s.wrongs, Vec::<String>::new());
        });
    }
}
