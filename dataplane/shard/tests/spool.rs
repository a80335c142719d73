//! A session that waits for the spool goes on when the recorder moves, by a wake and not by a tick. Over the simulation, in
//! which time stands still unless a test lets it pass; and once over real sockets, with all the threads that a process has.

mod world;

use headgate_ring::sim::{PeerId, Sim, SimSettings, Target};
use headgate_ring::{ListenSettings, Ring, RingSettings};
use headgate_shard::{Inbox, Message, watch_spools};
use headgate_spool::Watch;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use world::{POINT, Parts, Setting, answer, hello, is_ready, parts_with, query, sign_in, talk};

fn world(setting: Setting) -> (Sim, Parts, Arc<Inbox>, (PeerId, PeerId)) {
    let address = SocketAddr::from(([10, 0, 0, 9], 5432));
    let inbox = Inbox::new();
    let mut parts = parts_with(address, Arc::clone(&inbox), setting);
    let mut sim = Sim::new(SimSettings::default());
    sim.target(address, Target::Accepts);
    let session = sign_in(&mut sim, &mut parts);
    (sim, parts, inbox, session)
}

/// Says a statement; whether it was forwarded. If so, it is answered.
fn ask(sim: &mut Sim, parts: &mut Parts, (client, target): (PeerId, PeerId)) -> bool {
    sim.say(client, &query(POINT));
    sim.run(&mut parts.shard);
    is_answered(sim, parts, (client, target))
}

/// Answers what the target has heard; whether the client has its reply. Either the statement or its reply waits for room.
fn is_answered(sim: &mut Sim, parts: &mut Parts, (client, target): (PeerId, PeerId)) -> bool {
    let asked = sim.heard(target);
    if !asked.is_empty() {
        sim.say(target, &answer(&asked, 0));
        sim.run(&mut parts.shard);
    }
    is_ready(&sim.heard(client))
}

/// Takes all that is published; what is given back is the caller's to say.
fn take(parts: &mut Parts) -> u64 {
    while parts.consumer.has_more() {
        parts.consumer.drain(1 << 20, |_, _, _| {}).unwrap();
    }
    parts.consumer.read_position()
}

fn fill(sim: &mut Sim, parts: &mut Parts, session: (PeerId, PeerId)) {
    let mut statements = 0;
    while ask(sim, parts, session) {
        statements += 1;
        assert!(statements < 10_000, "the spool never fills");
    }
    assert!(statements > 10, "only {statements} fit");
}

fn metrics(sim: &mut Sim, parts: &mut Parts, inbox: &Inbox) -> (u64, u64) {
    inbox.send(Message::Second);
    sim.run(&mut parts.shard);
    (
        parts.metric("headgate_spool_wakes_total"),
        parts.metric("headgate_spool_backstops_total"),
    )
}

const SMALL: Setting = Setting {
    spool_bytes: 1 << 16,
    expires_unix_ms: u64::MAX,
    strict: false,
};

#[test]
fn a_statement_that_waits_for_room_goes_on_at_the_release() {
    let (mut sim, mut parts, inbox, session) = world(SMALL);
    fill(&mut sim, &mut parts, session);
    let stop = AtomicBool::new(false);
    let (inboxes, now_us) = ([Arc::clone(&inbox)], sim.now_us());
    let mut watches = [parts.watch.take().expect("the watch")];
    std::thread::scope(|scope| {
        scope.spawn(|| watch_spools(&mut watches, &inboxes, &stop));
        let at = take(&mut parts);
        sim.run(&mut parts.shard);
        assert!(sim.heard(session.1).is_empty(), "read is not released");
        parts.consumer.release(at);
        // The other thread needs a moment; the shard's clock stands still all the while.
        let mut looks = 0;
        while !is_answered(&mut sim, &mut parts, session) {
            sim.run(&mut parts.shard);
            looks += 1;
            assert!(looks < 30_000, "nobody waked the session");
            std::thread::sleep(Duration::from_millis(1));
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(sim.now_us(), now_us, "no tick could have moved it");
    assert!(ask(&mut sim, &mut parts, session));
    let (wakes, backstops) = metrics(&mut sim, &mut parts, &inbox);
    assert!(
        wakes >= 1 && backstops == 0,
        "{wakes} wakes, {backstops} backstops"
    );
}

#[test]
fn a_release_that_nobody_tells_of_is_found_after_a_while_and_counted() {
    let (mut sim, mut parts, inbox, session) = world(SMALL);
    fill(&mut sim, &mut parts, session);
    let at = take(&mut parts);
    parts.consumer.release(at);
    sim.pass(200, &mut parts.shard);
    assert!(
        sim.heard(session.1).is_empty(),
        "no tick of ten milliseconds looks"
    );
    sim.pass(100, &mut parts.shard);
    assert!(is_answered(&mut sim, &mut parts, session));
    assert_eq!(metrics(&mut sim, &mut parts, &inbox), (0, 1));
    // Nobody waits: the ring is asked for no ticks, and nothing is counted.
    sim.pass(1000, &mut parts.shard);
    assert_eq!(metrics(&mut sim, &mut parts, &inbox), (0, 1));
}

#[test]
fn a_strict_statement_goes_on_when_it_is_on_disk() {
    let (mut sim, mut parts, inbox, session) = world(Setting {
        strict: true,
        ..SMALL
    });
    for round in 1..=20 {
        let now_us = sim.now_us();
        assert!(
            !ask(&mut sim, &mut parts, session),
            "round {round}: it is not on disk"
        );
        assert!(parts.consumer.is_urgent());
        let at = take(&mut parts);
        parts.consumer.release(at);
        inbox.spool_moved();
        sim.run(&mut parts.shard);
        assert!(
            sim.heard(session.1).is_empty(),
            "round {round}: room is not the disk"
        );
        parts.consumer.set_durable(at);
        let mut moved = 0;
        Watch::wait_any(parts.watch.as_mut_slice(), Duration::from_secs(60), |_| {
            moved += 1
        });
        assert_eq!(moved, 1, "round {round}");
        // However often that is said, it is one message.
        for _ in 0..3 {
            inbox.spool_moved();
        }
        sim.run(&mut parts.shard);
        assert!(is_answered(&mut sim, &mut parts, session), "round {round}");
        assert_eq!(sim.now_us(), now_us);
    }
    assert_eq!(metrics(&mut sim, &mut parts, &inbox), (40, 0));
}

/// A test that fails does not leave its threads running.
struct End<'s>(&'s Inbox, &'s AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.send(Message::Stop);
        self.1.store(true, Ordering::Relaxed);
    }
}

#[test]
fn over_real_sockets_a_recorder_that_gives_room_when_asked_is_enough() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let config = ListenSettings {
        address: "127.0.0.1:0".parse().unwrap(),
        backlog: 16,
    };
    let ring = Ring::new(RingSettings {
        listeners: vec![config],
        ..RingSettings::default()
    })
    .unwrap();
    let gate = ring.local_addresses()[0];
    let inbox = Inbox::new();
    inbox.connect(ring.wake_fd());
    let (theirs, inboxes, stop) = (Arc::clone(&inbox), [Arc::clone(&inbox)], AtomicBool::new(false));
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let shard = scope.spawn(move || {
            let Parts {
                mut shard,
                consumer,
                watch,
                metrics,
                _folder,
            } = parts_with(address, theirs, SMALL);
            send.send((consumer, watch, metrics)).unwrap();
            ring.run(&mut shard)
        });
        let (mut consumer, watch, metrics) = receive.recv().unwrap();
        let mut watches = [watch.expect("the watch")];
        let (inboxes, stop) = (&inboxes, &stop);
        scope.spawn(move || watch_spools(&mut watches, inboxes, stop));
        let recorder = scope.spawn(move || {
            let mut releases = 0u64;
            while !stop.load(Ordering::Relaxed) {
                while consumer.has_more() {
                    consumer.drain(1 << 20, |_, _, _| {}).unwrap();
                }
                // Nothing is given back before somebody waits for it.
                if consumer.is_room_wanted() {
                    releases += 1;
                    consumer.release(consumer.read_position());
                }
                std::thread::sleep(Duration::from_micros(200));
            }
            releases
        });
        let target = scope.spawn(move || world::target(&listener));
        let end = End(&inbox, stop);
        let mut client = TcpStream::connect(gate).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        client.set_nodelay(true).unwrap();
        talk(&mut client, &hello());
        // Each answer comes, although the ring is full again and again.
        (0..2000).for_each(|_| talk(&mut client, &query(POINT)));
        inbox.send(Message::Second);
        talk(&mut client, &query(POINT));
        drop((client, end));
        shard.join().unwrap().unwrap();
        target.join().unwrap();
        let releases = recorder.join().unwrap();
        let metrics = metrics.lock().unwrap();
        let metric = |name: &str| metrics.iter().find(|(n, _)| *n == name).unwrap().1;
        let (wakes, backstops) = (
            metric("headgate_spool_wakes_total"),
            metric("headgate_spool_backstops_total"),
        );
        println!("{releases} releases, {wakes} wakes, {backstops} found by the look in any case");
        assert!(releases >= 5 && wakes >= 5, "{releases} releases, {wakes} wakes");
    });
}
