//! A cancel finds its session by key, on whichever core that is, and disturbs nobody else. Over the simulation.

mod world;

use headgate_postgres::write;
use headgate_ring::sim::{PeerId, Sim, SimSettings, Target};
use headgate_shard::ShareLimits;
use std::net::SocketAddr;
use std::sync::Arc;
use world::{Parts, Process, Setting, ToTarget, greeted, key_of, parts_of};

const ADDRESS: &str = "10.0.0.9:5432";

/// Two cores of one process.
fn two() -> (Arc<Process>, [(Sim, Parts); 2]) {
    let process = Process::new(2, ADDRESS, &[], ShareLimits::default());
    let core = |index: usize| {
        let mut sim = Sim::new(SimSettings {
            seed: 1 + index as u64,
            ..SimSettings::default()
        });
        sim.target(ADDRESS.parse().unwrap(), Target::Accepts);
        (sim, parts_of(&process, index, Setting::default()))
    };
    let cores = [core(0), core(1)];
    (process, cores)
}

fn ask_for_a_cancel(sim: &mut Sim, parts: &mut Parts, pid: u32, key: &[u8]) -> PeerId {
    let peer = sim.dial(0);
    let mut request = Vec::new();
    write::cancel_request(&mut request, pid, key).unwrap();
    sim.say(peer, &request);
    sim.run(&mut parts.shard);
    peer
}

#[test]
fn a_cancel_that_arrives_on_another_core_reaches_its_session_there_and_no_other() {
    let (process, mut cores) = two();
    let [(here, parts_here), (there, parts_there)] = &mut cores;
    let (_, _, first) = greeted(here, parts_here);
    let (_, _, second) = greeted(here, parts_here);
    assert_ne!(key_of(&first), key_of(&second));
    let (pid, key) = key_of(&second);
    let asker = ask_for_a_cancel(there, parts_there, pid, &key);
    let holders = process.holders.lock().unwrap().clone();
    assert_eq!(holders.len(), 1);
    assert_eq!(holders[0].shard, 0);
    assert_eq!(
        there.end_of(asker),
        None,
        "it is closed when the cancel is delivered"
    );
    here.run(&mut parts_here.shard);
    let told = ToTarget {
        address: ADDRESS.parse().unwrap(),
        pid: 7,
        key: vec![1, 2, 3, 4],
    };
    assert_eq!(
        *process.to_target.lock().unwrap(),
        [told],
        "with the target's own key"
    );
    there.run(&mut parts_there.shard);
    assert!(there.end_of(asker).is_some());
    assert_eq!(there.heard(asker), b"");
}

#[test]
fn a_thousand_cancels_that_nobody_knows_are_closed_at_once_and_no_core_hears_of_them() {
    let (process, mut cores) = two();
    let [(here, parts_here), (there, parts_there)] = &mut cores;
    let (_, _, welcome) = greeted(here, parts_here);
    let (pid, key) = key_of(&welcome);
    for n in 0..1000_u32 {
        let mut wrong = key.clone();
        wrong[(n % 4) as usize] ^= 1 + (n % 255) as u8;
        let asker = ask_for_a_cancel(there, parts_there, pid, &wrong);
        assert!(
            there.end_of(asker).is_some(),
            "not after five seconds: no time has passed"
        );
        assert_eq!(there.heard(asker), b"");
    }
    assert!(process.holders.lock().unwrap().is_empty(), "nobody was told");
    assert!(process.to_target.lock().unwrap().is_empty());
    assert_eq!(process.shares.half_open_count(), 0);
    // The right one works all the same.
    ask_for_a_cancel(there, parts_there, pid, &key);
    assert_eq!(process.holders.lock().unwrap().len(), 1);
}

#[test]
fn a_key_ends_with_its_session_and_a_cancel_that_comes_too_late_is_closed() {
    let (process, mut cores) = two();
    let [(here, parts_here), (there, parts_there)] = &mut cores;
    let (client, _, welcome) = greeted(here, parts_here);
    let (pid, key) = key_of(&welcome);
    assert_eq!(process.keys.len(), 1);
    // It is on its way to the other core while the session there ends.
    let late = ask_for_a_cancel(there, parts_there, pid, &key);
    here.finish(client);
    here.run(&mut parts_here.shard);
    assert!(process.keys.is_empty());
    there.run(&mut parts_there.shard);
    assert!(there.end_of(late).is_some());
    let unknown = ask_for_a_cancel(there, parts_there, pid, &key);
    assert!(there.end_of(unknown).is_some());
    assert_eq!(
        process.holders.lock().unwrap().len(),
        1,
        "the first alone was known"
    );
}

#[test]
fn addresses_of_a_name_are_tried_in_turn_and_a_cancel_goes_where_the_session_is() {
    let [refuses, silent, works]: [SocketAddr; 3] =
        [1, 2, 3].map(|n| SocketAddr::from(([10, 0, 1, n], 5432)));
    let process = Process::new(
        1,
        "db.test:5432",
        &[refuses, silent, works],
        ShareLimits::default(),
    );
    let mut sim = Sim::new(SimSettings::default());
    sim.target(refuses, Target::Refuses(111));
    sim.target(silent, Target::Silent);
    sim.target(works, Target::Accepts);
    let mut parts = parts_of(&process, 0, Setting::default());
    let client = sim.dial(0);
    sim.say(client, &world::hello());
    sim.run(&mut parts.shard);
    assert!(sim.arrival().is_none());
    sim.pass(4_000, &mut parts.shard);
    let (address, target) = sim.arrival().expect("the third one");
    assert_eq!(address, works);
    for _ in 0..2 {
        let asked = sim.heard(target);
        sim.say(target, &world::answer(&asked, 0));
        sim.run(&mut parts.shard);
    }
    let (pid, key) = key_of(&sim.heard(client));
    ask_for_a_cancel(&mut sim, &mut parts, pid, &key);
    assert_eq!(process.to_target.lock().unwrap()[0].address, works);
}

#[test]
fn a_name_none_of_whose_addresses_works_is_an_error_once_all_were_tried() {
    let addresses: Vec<SocketAddr> = (1..4).map(|n| SocketAddr::from(([10, 0, 1, n], 5432))).collect();
    let process = Process::new(1, "db.test:5432", &addresses, ShareLimits::default());
    let mut sim = Sim::new(SimSettings::default());
    addresses
        .iter()
        .for_each(|address| sim.target(*address, Target::Refuses(111)));
    let mut parts = parts_of(&process, 0, Setting::default());
    let client = sim.dial(0);
    sim.say(client, &world::hello());
    sim.run(&mut parts.shard);
    let said = String::from_utf8_lossy(&sim.heard(client)).into_owned();
    assert!(said.contains("08001"), "{said}");
}
