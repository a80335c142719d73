//! What one caller may have, and that nobody else feels it. Over the simulation, in which all clients have one address.

mod world;

use headgate_ring::sim::{Sim, SimSettings, Target};
use headgate_shard::ShareLimits;
use std::sync::Arc;
use world::{POINT, Parts, Process, Setting, answer, hello, is_ready, parts_of, query, sign_in};

const ADDRESS: &str = "10.0.0.9:5432";

fn core(limits: ShareLimits) -> (Arc<Process>, Sim, Parts) {
    let process = Process::new(1, ADDRESS, &[], limits);
    let mut sim = Sim::new(SimSettings::default());
    sim.target(ADDRESS.parse().unwrap(), Target::Accepts);
    let parts = parts_of(&process, 0, Setting::default());
    (process, sim, parts)
}

#[test]
fn half_open_connections_have_a_bound_that_sessions_do_not_count_for() {
    let (process, mut sim, mut parts) = core(ShareLimits {
        half_open_per_address_max: 3,
        ..ShareLimits::default()
    });
    // Sessions first: they do not count.
    let sessions: Vec<_> = (0..5).map(|_| sign_in(&mut sim, &mut parts)).collect();
    assert_eq!(process.shares.half_open_count(), 0);
    let silent: Vec<_> = (0..3).map(|_| sim.dial(0)).collect();
    sim.run(&mut parts.shard);
    assert_eq!(process.shares.half_open_count(), 3);
    for _ in 0..4 {
        let one_more = sim.dial(0);
        sim.run(&mut parts.shard);
        assert!(sim.end_of(one_more).is_some());
        assert_eq!(sim.heard(one_more), b"", "closed before any work is done for it");
    }
    assert!(silent.iter().all(|peer| sim.end_of(*peer).is_none()));
    // Those who are in work on.
    let (client, target) = sessions[0];
    sim.say(client, &query(POINT));
    sim.run(&mut parts.shard);
    let asked = sim.heard(target);
    sim.say(target, &answer(&asked, 0));
    sim.run(&mut parts.shard);
    assert!(is_ready(&sim.heard(client)));
    // And one that goes makes room for one that signs in.
    sim.finish(silent[0]);
    sim.run(&mut parts.shard);
    sign_in(&mut sim, &mut parts);
    assert_eq!(process.shares.half_open_count(), 2);
}

#[test]
fn a_principal_with_all_its_sessions_is_told_so_with_53300_and_may_come_again_when_one_has_ended() {
    let (process, mut sim, mut parts) = core(ShareLimits {
        sessions_per_principal_max: 2,
        ..ShareLimits::default()
    });
    let (first, _) = sign_in(&mut sim, &mut parts);
    sign_in(&mut sim, &mut parts);
    let refused = sim.dial(0);
    sim.say(refused, &hello());
    sim.run(&mut parts.shard);
    let said = String::from_utf8_lossy(&sim.heard(refused)).into_owned();
    assert!(
        said.contains("53300") && said.contains("too many sessions of this principal"),
        "{said}"
    );
    assert!(sim.arrival().is_none(), "the target does not hear of it");
    assert_eq!(process.shares.half_open_count(), 0);
    sim.finish(first);
    sim.run(&mut parts.shard);
    sign_in(&mut sim, &mut parts);
}

#[test]
fn sessions_of_one_principal_share_its_turn_with_the_analysts() {
    let (process, mut sim, mut parts) = core(ShareLimits::default());
    for n in 0..2 {
        let (client, _) = sign_in(&mut sim, &mut parts);
        sim.say(client, &query(&format!("SELECT name AS n{n} FROM customers")));
        sim.run(&mut parts.shard);
    }
    let owners = process.owners.lock().unwrap();
    assert!(owners.len() >= 2);
    assert!(owners.iter().all(|owner| *owner == owners[0]));
}
