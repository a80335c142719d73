//! A recorder that has work does not sleep: a fast producer never finds its ring full, and several share it by helpings.

mod kit;

use headgate_plane::{Epoch, Parameter, ParameterKind};
use headgate_recorder::{Counters, Settings, run_counting};
use headgate_recording::chunk::Chunk;
use headgate_recording::{BodyRef, Bytes, EventRef, Parameters, Texts, Verdict, encode_into, keys};
use headgate_spool::Producer;
use kit::*;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

fn settings(place: &Place) -> Settings {
    Settings {
        audit_dir: place.audit(),
        spool_dir: place.spools.path().to_owned(),
        key: place.dir.path().join("key"),
        linger: Duration::from_millis(100),
        sync: Duration::from_millis(100),
    }
}

/// A test that fails does not leave its recorder running.
struct StopAtEnd<'s>(&'s AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

const TEXT: &[u8] = b"SELECT id, name, email, note FROM customers WHERE id = $1 AND state = 'open'";

/// A statement's record, about 175 bytes with its head; `None` when the ring is full.
fn record(spool: &mut Producer, session: &mut Session, resources: &[String]) -> Option<usize> {
    let statement = session.statements + 1;
    let kind = ParameterKind::Postgres {
        type_oid: 23,
        format: 1,
    };
    let parameters = [Parameter {
        kind,
        value: Some(statement.to_be_bytes().to_vec()),
    }];
    let body = BodyRef::Statement {
        statement,
        prepared: 0,
        text: Bytes(TEXT),
        stands_for: Texts::NONE,
        parameters: Parameters::List(&parameters),
        verdict: Verdict::Allow,
        rule: "analysts read customers and orders",
        epoch: Epoch(3),
        class: 1,
        verbs: &[],
        resources,
    };
    let event = EventRef {
        session: session.id,
        seq: session.seq,
        unix_us: 1_795_000_000_000_000 + u64::from(session.seq),
        body,
    };
    let room = spool.reserve(event.size_bound())?;
    let used = encode_into(&event, room).expect("room as reserved");
    spool.commit(used);
    session.seq += 1;
    session.statements = statement;
    Some(used)
}

/// Records in all, and in a second: five seconds of them.
const RECORDS: u64 = 1_050_000;
const RATE: u64 = 210_000;
/// Between two publishes.
const TURN: u64 = 64;

/// The producer goes at its rate as far as machine and recorder can follow: it waits for a recorder that is behind by half
/// the ring, but only while that one works. For one that sleeps it does not wait, and then finds the ring full.
#[test]
fn a_producer_of_200_000_records_a_second_never_finds_the_ring_full() {
    let place = Place::new();
    let spool = Producer::open_or_create(&place.spool(), 64 << 20).unwrap();
    let mut plane = DataPlane::over(spool);
    let mut sessions: Vec<Session> = (0..64).map(|_| plane.open("alice", &[], "orders")).collect();
    let resources = ["public.customers".to_owned()];
    let (stop, counters, settings) = (AtomicBool::new(false), Counters::default(), settings(&place));
    let (mut written, mut bytes, mut full, mut asleep, mut busy) = (0u64, 0u64, 0u64, 0u64, 0u64);
    let mut elapsed = Duration::ZERO;
    std::thread::scope(|scope| {
        let recorder = scope.spawn(|| run_counting(&settings, &stop, &counters));
        let end = StopAtEnd(&stop);
        plane.settle();
        let begun = Instant::now();
        // A full ring is the failure; there is no need to see it a million times.
        while written < RECORDS && full == 0 {
            for _ in 0..TURN {
                let at = (written % sessions.len() as u64) as usize;
                match record(&mut plane.spool, &mut sessions[at], &resources) {
                    Some(used) => (written, bytes) = (written + 1, bytes + used as u64),
                    None => full += 1,
                }
            }
            plane.spool.publish();
            while plane.spool.free() < plane.spool.capacity() / 2 {
                if plane.spool.recorder_sleeps() {
                    asleep += 1;
                    break;
                }
                busy += 1;
                std::thread::sleep(Duration::from_micros(200));
            }
            let due = Duration::from_nanos(written * 1_000_000_000 / RATE);
            std::thread::sleep(due.saturating_sub(begun.elapsed()));
        }
        elapsed = begun.elapsed();
        for session in sessions {
            plane.close(session);
        }
        plane.settle();
        drop(end);
        recorder.join().unwrap().unwrap();
    });
    let (naps, with_work) = (
        counters.naps.load(Ordering::Relaxed),
        counters.naps_with_work.load(Ordering::Relaxed),
    );
    println!(
        "{written} records of {} bytes in {elapsed:?}: {:.0} a second; ring full {full} times, recorder behind by half a ring and \
         busy {busy} times, asleep {asleep} times; {naps} naps, {with_work} with work, {} chunks",
        bytes / written,
        written as f64 / elapsed.as_secs_f64(),
        counters.chunks.load(Ordering::Relaxed),
    );
    assert_eq!(full, 0, "the ring was full after {written} records");
    assert_eq!(asleep, 0, "the recorder slept over half a ring");
    assert_eq!(with_work, 0, "the recorder slept over records");
    assert!(naps > 0, "and it does sleep when there is nothing to do");
    let report = place.verify();
    assert!(report.ok, "{:#?}", report.findings);
    assert!(
        report.records >= written,
        "{} of {written} were recorded",
        report.records
    );
}

#[test]
fn two_spools_full_of_records_are_emptied_by_turns() {
    const SPOOL_BYTES: usize = 8 << 20;
    /// What `run.rs` takes of one before it looks at the other, and one record.
    const HELPING_BYTES: u64 = (128 << 10) + 256;
    let place = Place::new();
    let mut planes: Vec<DataPlane> = (0..2)
        .map(|n| {
            let path = place.spools.path().join(format!("spool-{n}"));
            DataPlane::over(Producer::open_or_create(&path, SPOOL_BYTES).unwrap())
        })
        .collect();
    let resources = ["public.customers".to_owned()];
    let mut ends = Vec::new();
    for plane in &mut planes {
        let mut session = plane.open("alice", &[], "orders");
        // Room is left for the goodbye.
        while plane.spool.free() > 64 << 10 {
            record(&mut plane.spool, &mut session, &resources).unwrap();
        }
        plane.close(session);
        plane.spool.publish();
        ends.push((plane.spool.generation().0, plane.spool.position()));
    }
    let (stop, counters, settings) = (AtomicBool::new(false), Counters::default(), settings(&place));
    std::thread::scope(|scope| {
        let recorder = scope.spawn(|| run_counting(&settings, &stop, &counters));
        let end = StopAtEnd(&stop);
        planes.iter_mut().for_each(DataPlane::settle);
        drop(end);
        recorder.join().unwrap().unwrap();
    });
    assert_eq!(counters.naps_with_work.load(Ordering::Relaxed), 0);
    let options = rocksdb::Options::default();
    let db = rocksdb::DB::open_cf_for_read_only(&options, place.audit(), keys::FAMILIES, false).unwrap();
    let mut reached = [0u64; 2];
    let mut chunks = 0;
    for entry in db.iterator_cf(db.cf_handle(keys::CHUNK).unwrap(), rocksdb::IteratorMode::Start) {
        for range in Chunk::read(&entry.unwrap().1).unwrap().header.spools {
            let at = ends
                .iter()
                .position(|(generation, _)| *generation == range.generation)
                .unwrap();
            assert_eq!(range.from, reached[at], "dense");
            reached[at] = range.to;
        }
        let done = ends
            .iter()
            .zip(reached)
            .any(|((_, end), reached)| reached >= *end);
        assert!(
            done || reached[0].abs_diff(reached[1]) <= HELPING_BYTES,
            "after chunk {chunks}: {reached:?}"
        );
        chunks += 1;
    }
    assert!(chunks > 20, "{chunks} chunks");
    assert!(
        ends.iter()
            .zip(reached)
            .all(|((_, end), reached)| reached == *end)
    );
}
