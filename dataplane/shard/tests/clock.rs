//! The wall clock may be set at any time: expiries and the dates of events follow it within a second.

mod world;

use headgate_recording::EventView;
use headgate_ring::sim::{PeerId, Sim, SimSettings, Target};
use headgate_shard::{Inbox, Message};
use headgate_spool::RecordKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use world::{POINT, Parts, Setting, answer, is_ready, parts_with, query, sign_in};

const BASE_MS: u64 = 1_800_000_000_000;
const HOUR_MS: u64 = 3_600_000;

struct World {
    sim: Sim,
    parts: Parts,
    inbox: Arc<Inbox>,
    /// Unix microseconds that the shard reads.
    wall: Arc<AtomicU64>,
    wall_ms: u64,
}

impl World {
    fn new() -> World {
        let address = SocketAddr::from(([10, 0, 0, 9], 5432));
        let inbox = Inbox::new();
        let setting = Setting {
            expires_unix_ms: BASE_MS + HOUR_MS,
            ..Setting::default()
        };
        let mut parts = parts_with(address, Arc::clone(&inbox), setting);
        let wall = Arc::new(AtomicU64::new(BASE_MS * 1000));
        let read = Arc::clone(&wall);
        parts.shard = parts
            .shard
            .with_wall_clock(Box::new(move || read.load(Ordering::Relaxed)));
        let mut sim = Sim::new(SimSettings::default());
        sim.target(address, Target::Accepts);
        World {
            sim,
            parts,
            inbox,
            wall,
            wall_ms: BASE_MS,
        }
    }

    /// A second goes by, on both clocks.
    fn second(&mut self) {
        self.sim.pass(1000, &mut self.parts.shard);
        self.wall_ms += 1000;
        self.wall.store(self.wall_ms * 1000, Ordering::Relaxed);
        self.inbox.send(Message::Second);
        self.sim.run(&mut self.parts.shard);
    }

    fn ask(&mut self, (client, target): (PeerId, PeerId)) {
        self.sim.say(client, &query(POINT));
        self.sim.run(&mut self.parts.shard);
        let asked = self.sim.heard(target);
        self.sim.say(target, &answer(&asked, 0));
        self.sim.run(&mut self.parts.shard);
        assert!(is_ready(&self.sim.heard(client)));
    }

    /// Number and wall time in milliseconds of each event since the last call.
    fn events(&mut self) -> Vec<(u32, u64)> {
        let mut events = Vec::new();
        while self.parts.consumer.has_more() {
            let each = |_, kind, record: &[u8]| {
                if kind == RecordKind::Event {
                    let event = EventView::read(record).unwrap();
                    events.push((event.seq, event.unix_us / 1000));
                }
            };
            self.parts.consumer.drain(1 << 20, each).unwrap();
        }
        events
    }
}

#[test]
fn a_credential_expires_within_a_second_of_a_step_forward() {
    let mut world = World::new();
    let session = sign_in(&mut world.sim, &mut world.parts);
    for _ in 0..3 {
        world.second();
        world.ask(session);
    }
    // To one second before its end: it lives.
    world.wall_ms = BASE_MS + HOUR_MS - 2000;
    world.second();
    world.ask(session);
    world.wall_ms += 2 * HOUR_MS;
    world.second();
    let words = world.sim.heard(session.0);
    let words = String::from_utf8_lossy(&words);
    assert!(
        words.contains("57P01") && words.contains("credential has expired"),
        "{words}"
    );
    assert!(world.sim.end_of(session.0).is_some());
}

#[test]
fn a_step_back_dates_what_follows_and_keeps_its_order() {
    let mut world = World::new();
    let session = sign_in(&mut world.sim, &mut world.parts);
    world.second();
    world.ask(session);
    let before = world.events();
    assert!(
        before.len() >= 3
            && before
                .iter()
                .all(|(_, at)| (BASE_MS..BASE_MS + 2000).contains(at)),
        "{before:?}"
    );
    world.wall_ms -= 24 * HOUR_MS;
    let back = world.wall_ms;
    world.second();
    world.ask(session);
    let after = world.events();
    assert!(
        after.len() >= 2 && after.iter().all(|(_, at)| (back..back + 2000).contains(at)),
        "{after:?}"
    );
    // The numbers go on; by the wall the credential is now good for a day longer.
    let numbers: Vec<u32> = before.iter().chain(&after).map(|(seq, _)| *seq).collect();
    assert!(numbers.iter().copied().eq(0..numbers.len() as u32), "{numbers:?}");
    world.wall_ms += 24 * HOUR_MS;
    world.second();
    world.ask(session);
    world.wall_ms += HOUR_MS;
    world.second();
    assert!(world.sim.end_of(session.0).is_some());
}

#[test]
fn what_a_turn_takes_is_no_step() {
    let mut world = World::new();
    let session = sign_in(&mut world.sim, &mut world.parts);
    world.events();
    // The wall is read a little after the turn began: five milliseconds more each time, and none of it adds up.
    for round in 0..20 {
        world.second();
        world.wall.fetch_add(5_000, Ordering::Relaxed);
        world.inbox.send(Message::Second);
        world.sim.run(&mut world.parts.shard);
        world.ask(session);
        let events = world.events();
        let now = world.wall_ms;
        assert!(
            events.len() >= 2 && events.iter().all(|(_, at)| *at == now),
            "round {round}: {events:?}, {now}"
        );
    }
}
