//! Random peers against a random handler. What must hold at the end: each socket closed exactly once, every buffer back,
//! nothing told after a close (the script watches), and no assertion of the driver broken on the way.

use crate::script::{Mode, Seen};
use crate::world::{Limits, Make, PeerId, World, dial};
use headgate_ring::SocketId;
use std::time::Duration;

const STEPS: u32 = 250;
const SOCKETS_MAX: usize = 12;

struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }
}

struct Pair {
    peer: PeerId,
    id: SocketId,
    silent: bool,
}

pub fn over_seeds(make: Make<'_>, seeds: u64) {
    for seed in 1..=seeds {
        // HEADGATE_CHAOS_SEED moves the seeds, for long runs by hand.
        let base: u64 = std::env::var("HEADGATE_CHAOS_SEED")
            .ok()
            .and_then(|s| s.parse().ok())
            .unwrap_or(0);
        eprintln!("chaos seed {}", base + seed);
        let mut world = make(Limits {
            close_linger_ms: 200,
            ..Limits::default()
        });
        one(&mut *world, Dice(base + seed));
    }
}

fn one(world: &mut dyn World, mut dice: Dice) {
    world.tell(Box::new(|_, s| s.mode = Mode::Collect));
    let mut pairs: Vec<Pair> = Vec::new();
    let mut ids: Vec<SocketId> = Vec::new();
    for _ in 0..STEPS {
        if pairs.is_empty() || (pairs.len() < SOCKETS_MAX && dice.below(8) == 0) {
            let (peer, id) = if dice.below(3) == 0 {
                connect(world)
            } else {
                dial(world)
            };
            if dice.below(3) == 0 {
                world.deaf(peer);
            }
            pairs.push(Pair {
                peer,
                id,
                silent: false,
            });
            ids.push(id);
            continue;
        }
        let at = dice.below(pairs.len());
        let id = pairs[at].id;
        match dice.below(20) {
            0..=4 if !pairs[at].silent => world.say(pairs[at].peer, &vec![7; 1 + dice.below(300_000)]),
            5..=9 => {
                let sizes: Vec<usize> = (0..1 + dice.below(80)).map(|_| 1 + dice.below(40_000)).collect();
                world.tell(Box::new(move |io, s| {
                    sizes.iter().for_each(|n| s.send(io, id, &vec![1; *n]))
                }));
            }
            10 | 11 => world.tell(Box::new(move |io, s| s.pause(io, id))),
            12 | 13 => world.tell(Box::new(move |io, s| s.resume(io, id))),
            14 => world.pass(Duration::from_millis(3)),
            15 => {
                world.tell(Box::new(move |io, s| s.close(io, id)));
                pairs.swap_remove(at);
            }
            16 => {
                let then_abort = dice.below(2) == 0;
                world.tell(Box::new(move |io, s| {
                    s.close(io, id);
                    if then_abort {
                        s.abort(io, id);
                    }
                }));
                pairs.swap_remove(at);
            }
            17 => {
                world.tell(Box::new(move |io, s| s.abort(io, id)));
                pairs.swap_remove(at);
            }
            18 => {
                world.reset(pairs[at].peer);
                pairs[at].silent = true;
            }
            _ => {
                if !pairs[at].silent {
                    world.finish(pairs[at].peer);
                }
                pairs[at].silent = true;
            }
        }
    }
    for (n, pair) in pairs.iter().enumerate() {
        let id = pair.id;
        world.tell(Box::new(move |io, s| {
            if n % 2 == 0 {
                s.close(io, id)
            } else {
                s.abort(io, id)
            }
        }));
    }
    world.wait("every socket closed", &mut |s| {
        ids.iter().all(|id| s.times(Seen::Closed(*id)) == 1)
    });
    world.wait("every buffer back", &mut |s| s.buffers_back == s.buffers_sent);
    world.end();
}

fn connect(world: &mut dyn World) -> (PeerId, SocketId) {
    let address = world.accepting_target();
    let (sender, receiver) = std::sync::mpsc::channel();
    world.tell(Box::new(move |io, _| {
        sender.send(io.connect(address, 5_000)).unwrap()
    }));
    let peer = world.arrival();
    let id = receiver.recv_timeout(Duration::from_secs(5)).unwrap();
    world.wait("the connect", &mut |s| {
        s.seen.contains(&Seen::Connected(id, Ok(())))
    });
    (peer, id)
}
