//! A client that does not read holds what is its own, and nobody up. Over the simulation.

mod world;

use headgate_gate::OUT_BYTES_HIGH;
use headgate_ring::PAUSE_SLACK_BYTES;
use headgate_ring::sim::{PeerId, Sim, SimSettings, Target};
use headgate_shard::Inbox;
use std::net::SocketAddr;
use world::{BULK, POINT, Parts, answer, is_ready, parts, query, sign_in};

const BULK_ROWS: usize = 12_000;
/// The longest piece that a socket hands over at once.
const CHUNK_BYTES_MAX: usize = 64 << 10;

/// The statement goes to the target, and the target has said all of its answer; its length.
fn ask(sim: &mut Sim, parts: &mut Parts, (client, target): (PeerId, PeerId), text: &str) -> usize {
    sim.say(client, &query(text));
    sim.run(&mut parts.shard);
    let asked = sim.heard(target);
    let reply = answer(&asked, BULK_ROWS);
    sim.say(target, &reply);
    sim.run(&mut parts.shard);
    reply.len()
}

#[test]
fn a_client_that_does_not_read_is_held_to_its_bound_and_its_neighbour_is_served() {
    for seed in 1..=8 {
        let address = SocketAddr::from(([10, 0, 0, 9], 5432));
        let inbox = Inbox::new();
        let mut parts = parts(address, inbox);
        let config = SimSettings {
            seed,
            ..SimSettings::default()
        };
        let window = config.window_bytes;
        let mut sim = Sim::new(config);
        sim.target(address, Target::Accepts);
        let slow = sign_in(&mut sim, &mut parts);
        let quick = sign_in(&mut sim, &mut parts);
        sim.reads(slow.0, false);
        let all = ask(&mut sim, &mut parts, slow, BULK);
        let taken = all - sim.untaken(slow.1);
        // What the kernel holds for the client, what waits here, what comes after a pause, and the rest of the chunk that
        // crosses the mark, which is looked at behind it.
        let bound = window + OUT_BYTES_HIGH + PAUSE_SLACK_BYTES + CHUNK_BYTES_MAX;
        assert!(all > 2 * bound, "the result is large enough to show it");
        assert!(
            taken <= bound,
            "seed {seed}: {taken} bytes were taken of the target, {bound} is the bound"
        );
        for _ in 0..20 {
            let length = ask(&mut sim, &mut parts, quick, POINT);
            let reply = sim.heard(quick.0);
            assert!(
                is_ready(&reply) && reply.len() == length,
                "seed {seed}: the neighbour is served"
            );
        }
        assert_eq!(
            all - sim.untaken(slow.1),
            taken,
            "seed {seed}: and nothing more was taken for who does not read"
        );
        sim.reads(slow.0, true);
        sim.run(&mut parts.shard);
        let reply = sim.heard(slow.0);
        assert!(
            is_ready(&reply) && reply.len() == all,
            "seed {seed}: {} of {all} bytes came once it read",
            reply.len()
        );
    }
}
