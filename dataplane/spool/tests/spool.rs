//! Two ends of one spool: threads, processes, wrap-around, sudden deaths and hostile memory.

use headgate_spool::*;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

fn dir() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap()
}

fn until(what: &str, done: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::yield_now();
    }
}

/// Payload of a number: its own length and bytes can be checked.
fn payload(n: u64) -> Vec<u8> {
    let len = 8 + (n * 2_654_435_761 % 500) as usize;
    let mut bytes = n.to_le_bytes().to_vec();
    bytes.resize(len, n as u8);
    bytes
}

fn put(producer: &mut Producer, n: u64) -> bool {
    let bytes = payload(n);
    // More is reserved than used, as a shard does.
    let Some(room) = producer.reserve(bytes.len() + 40) else {
        return false;
    };
    room[..bytes.len()].copy_from_slice(&bytes);
    producer.commit(bytes.len());
    true
}

/// Numbers of all events that can be read now; checks each payload.
fn read(consumer: &mut Consumer, numbers: &mut Vec<u64>) -> u64 {
    let mut last = consumer.read_position();
    consumer
        .drain(1 << 20, |position, kind, bytes| {
            last = position;
            if kind == RecordKind::Event {
                let n = u64::from_le_bytes(bytes[..8].try_into().unwrap());
                assert_eq!(bytes, payload(n));
                numbers.push(n);
            }
        })
        .unwrap();
    last
}

#[test]
fn many_records_wrap_round_a_small_ring_between_two_threads() {
    let dir = dir();
    let path = dir.path().join("spool-0");
    let mut producer = Producer::open_or_create(&path, 1 << 16).unwrap();
    let mut consumer = Consumer::open(&path).unwrap();
    const COUNT: u64 = 300_000;
    let writer = std::thread::spawn(move || {
        let mut n = 0;
        while n < COUNT {
            if put(&mut producer, n) {
                n += 1;
                if n % 7 == 0 {
                    producer.publish();
                }
            } else {
                producer.publish();
                std::thread::yield_now();
            }
        }
        producer.publish();
        producer.position()
    });
    let mut numbers = Vec::new();
    while (numbers.len() as u64) < COUNT {
        let at = read(&mut consumer, &mut numbers);
        consumer.release(at);
        if !consumer.has_more() {
            park(&[&consumer], Duration::from_millis(200));
        }
    }
    assert_eq!(writer.join().unwrap(), consumer.read_position());
    assert!(numbers.iter().copied().eq(0..COUNT));
}

#[test]
fn a_parked_consumer_is_woken_by_publish_and_a_napping_one_only_by_urgent() {
    let dir = dir();
    let path = dir.path().join("spool-0");
    let mut producer = Producer::open_or_create(&path, 1 << 16).unwrap();
    let mut consumer = Consumer::open(&path).unwrap();
    let at = read(&mut consumer, &mut Vec::new());
    consumer.release(at);
    for round in 0..50 {
        let waiter = std::thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                let start = Instant::now();
                park(&[&consumer], Duration::from_secs(20));
                start.elapsed()
            });
            std::thread::sleep(Duration::from_micros(300 * (round % 5)));
            put(&mut producer, round);
            producer.publish();
            waiter.join().unwrap()
        });
        assert!(waiter < Duration::from_secs(10), "round {round}");
        let at = read(&mut consumer, &mut Vec::new());
        consumer.release(at);
    }
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| nap(&[&consumer], Duration::from_secs(3600)));
        until("it naps", || producer.recorder_sleeps());
        put(&mut producer, 1);
        producer.publish();
        assert!(producer.recorder_sleeps(), "an ordinary record ended a nap");
        producer.urgent();
        assert_eq!(
            waiter.join().unwrap(),
            Pause {
                slept: true,
                had_work: false
            }
        );
    });
    // What is there already is no reason to sleep, however long.
    assert_eq!(
        nap(&[&consumer], Duration::from_secs(3600)),
        Pause {
            slept: false,
            had_work: true
        }
    );
    assert!(consumer.is_urgent());
    let watch = producer.durable_watch();
    let waiter =
        std::thread::spawn(move || watch.wait(watch.durable_position() + 1, Duration::from_secs(20)));
    std::thread::sleep(Duration::from_millis(20));
    let at = read(&mut consumer, &mut Vec::new());
    consumer.release(at);
    consumer.set_durable(at);
    assert_eq!(waiter.join().unwrap(), at);
    assert!(!consumer.is_urgent());
    assert_eq!(
        (producer.recorded_position(), producer.durable_position()),
        (at, at)
    );
}

#[test]
fn a_producer_that_finds_no_room_ends_the_nap() {
    let dir = dir();
    let path = dir.path().join("spool-0");
    let mut producer = Producer::open_or_create(&path, 1 << 16).unwrap();
    let mut consumer = Consumer::open(&path).unwrap();
    let at = read(&mut consumer, &mut Vec::new());
    consumer.release(at);
    while producer.reserve(1000).is_some() {
        producer.commit(1000);
    }
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let start = Instant::now();
            nap(&[&consumer], Duration::from_secs(20));
            start.elapsed()
        });
        until("it naps", || producer.recorder_sleeps());
        // What is free is free without a word.
        assert!(producer.has_free(8) && !waiter.is_finished());
        assert!(!producer.has_free(2000));
        assert!(
            waiter.join().unwrap() < Duration::from_secs(10),
            "the nap was slept to its end"
        );
    });
    // What was committed is published with it.
    assert!(consumer.has_more());
}

/// Which watches moved within a moment; empty when none did.
fn moved(watches: &mut [Watch], wait: Duration) -> Vec<usize> {
    let mut places = Vec::new();
    Watch::wait_any(watches, wait, |at| places.push(at));
    places
}

const NOW: Duration = Duration::ZERO;
const LONG: Duration = Duration::from_secs(60);

#[test]
fn a_release_wakes_who_waits_for_room_once_it_is_enough() {
    let dir = dir();
    let mut ends: Vec<(Producer, Consumer)> = (0..3)
        .map(|n| {
            let path = dir.path().join(format!("spool-{n}"));
            (
                Producer::open_or_create(&path, 1 << 16).unwrap(),
                Consumer::open(&path).unwrap(),
            )
        })
        .collect();
    let mut watches: Vec<Watch> = ends.iter().map(|(producer, _)| producer.watch()).collect();
    let (producer, consumer) = &mut ends[1];
    while producer.reserve(1000).is_some() {
        producer.commit(1000);
    }
    let free = producer.free();
    assert!(!producer.has_free(9_000), "of a full ring");
    // Somebody else needs less, but more than one record's room.
    assert!(!producer.wait_for_free(free + 2 * 1008));
    let mut ends_of_records = Vec::new();
    consumer
        .drain(1 << 16, |position, _, _| ends_of_records.push(position))
        .unwrap();
    assert!(consumer.is_room_wanted());
    // The first is that of opening, of 24 bytes, then each is 1008.
    consumer.release(ends_of_records[1]);
    assert!(
        moved(&mut watches, NOW).is_empty(),
        "one record is not enough for either"
    );
    assert!(consumer.is_room_wanted());
    consumer.release(ends_of_records[2]);
    assert_eq!(moved(&mut watches, LONG), [1]);
    assert!(producer.has_free(free + 2 * 1008));
    assert!(
        moved(&mut watches, NOW).is_empty() && !consumer.is_room_wanted(),
        "a wish is fulfilled once"
    );
    // Who needs more says so again, and is waked by another thread's release.
    assert!(!producer.has_free(9_000));
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| moved(&mut watches, LONG));
        consumer.release(ends_of_records[20]);
        assert_eq!(waiter.join().unwrap(), [1]);
    });
    assert!(producer.has_free(9_000));
    // What can never be is not waited for.
    assert!(!producer.has_free((1 << 16) + 1) && !consumer.is_room_wanted());
    consumer.release(*ends_of_records.last().unwrap());
    assert!(moved(&mut watches, NOW).is_empty());
}

#[test]
fn a_sync_wakes_who_waits_for_the_disk_and_nobody_else() {
    let dir = dir();
    let path = dir.path().join("spool-0");
    let mut producer = Producer::open_or_create(&path, 1 << 16).unwrap();
    let mut consumer = Consumer::open(&path).unwrap();
    let mut watches = [producer.watch()];
    put(&mut producer, 1);
    let first = producer.position();
    producer.publish();
    let at = read(&mut consumer, &mut Vec::new());
    consumer.release(at);
    consumer.set_durable(at);
    assert!(moved(&mut watches, NOW).is_empty(), "nobody asked");
    assert!(producer.wait_for_durable(first));
    put(&mut producer, 2);
    let second = producer.position();
    assert!(!producer.wait_for_durable(second) && consumer.is_urgent());
    put(&mut producer, 3);
    let third = producer.position();
    assert!(!producer.wait_for_durable(third));
    for position in [second, third] {
        let at = read(&mut consumer, &mut Vec::new());
        consumer.release(at);
        consumer.set_durable(position);
        // The farther wish does not hide the nearer one.
        assert_eq!(moved(&mut watches, LONG), [0]);
        assert!(producer.wait_for_durable(position));
    }
    assert!(!consumer.is_urgent());
    consumer.set_durable(third);
    assert!(moved(&mut watches, NOW).is_empty());
}

#[test]
fn hostile_wishes_and_wakes_move_no_position() {
    let dir = dir();
    let path = dir.path().join("spool-0");
    let mut producer = Producer::open_or_create(&path, 1 << 16).unwrap();
    let mut consumer = Consumer::open(&path).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    let mut watches = [producer.watch()];
    for word in [1, 8, 24, 1 << 40, u64::MAX, 0x8000_0000_0000_0001] {
        // The wish for room lies in the sixth line, that for the disk beside the head, the count of wakes behind the tail.
        file.write_all_at(&word.to_le_bytes(), 640).unwrap();
        file.write_all_at(&word.to_le_bytes(), 136).unwrap();
        file.write_all_at(&word.to_le_bytes()[..4], 256 + 20).unwrap();
        put(&mut producer, 7);
        producer.publish();
        let mut numbers = Vec::new();
        let at = read(&mut consumer, &mut numbers);
        assert_eq!(numbers, [7], "word {word:#x}");
        consumer.is_room_wanted();
        consumer.release(at);
        consumer.set_durable(at);
        moved(&mut watches, NOW);
        assert_eq!(
            (producer.recorded_position(), producer.durable_position()),
            (at, at)
        );
        assert!(producer.has_free(1 << 15) && consumer.held_bytes() == 0);
    }
    // A tail that lies beyond what was written gives no room that is not there.
    while producer.reserve(1000).is_some() {
        producer.commit(1000);
    }
    file.write_all_at(&u64::MAX.to_le_bytes(), 256).unwrap();
    assert!(producer.free() <= producer.capacity());
    assert!(producer.reserve(producer.capacity()).is_none());
}

/// What a file of before these words were there has in their place: zeroes. A consumer that does not know them leaves them
/// so, and one that does finds no wish.
#[test]
fn a_spool_of_before_wishes_is_gone_on_with() {
    let dir = dir();
    let path = dir.path().join("spool-0");
    let mut producer = Producer::open_or_create(&path, 1 << 16).unwrap();
    put(&mut producer, 1);
    producer.publish();
    drop(producer);
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&[0; 4], 256 + 20).unwrap();
    file.write_all_at(&[0; 8], 640).unwrap();
    let mut producer = Producer::open_or_create(&path, 1 << 16).unwrap();
    let mut consumer = Consumer::open(&path).unwrap();
    let mut numbers = Vec::new();
    let at = read(&mut consumer, &mut numbers);
    assert!(!consumer.is_room_wanted());
    consumer.release(at);
    put(&mut producer, 2);
    producer.publish();
    read(&mut consumer, &mut numbers);
    assert_eq!(numbers, [1, 2]);
    // Another magic is another layout.
    file.write_all_at(b"HGSPOOL2", 0).unwrap();
    drop((producer, consumer));
    assert_eq!(
        Consumer::open(&path).err().unwrap().kind(),
        ErrorKind::InvalidData
    );
    assert_eq!(
        Producer::open_or_create(&path, 1 << 16).err().unwrap().kind(),
        ErrorKind::InvalidData
    );
}

#[test]
fn a_full_ring_refuses_and_takes_again_after_release() {
    let dir = dir();
    let path = dir.path().join("spool-0");
    let mut producer = Producer::open_or_create(&path, 1).unwrap();
    assert_eq!(producer.capacity(), CAPACITY_BYTES_MIN);
    assert!(producer.reserve(CAPACITY_BYTES_MIN).is_none());
    let mut n = 0;
    while put(&mut producer, n) {
        n += 1;
    }
    assert!(producer.free() < 600);
    producer.publish();
    let mut consumer = Consumer::open(&path).unwrap();
    let mut numbers = Vec::new();
    let at = read(&mut consumer, &mut numbers);
    assert!(!put(&mut producer, n), "read is not released");
    consumer.release(at);
    assert!(put(&mut producer, n));
    assert!(numbers.iter().copied().eq(0..n));
}

#[test]
fn each_end_is_held_once_and_reopening_goes_on_without_what_was_not_published() {
    let dir = dir();
    let path = dir.path().join("spool-0");
    let mut producer = Producer::open_or_create(&path, 1 << 16).unwrap();
    assert_eq!(
        Producer::open_or_create(&path, 1 << 16).err().unwrap().kind(),
        ErrorKind::ResourceBusy
    );
    let mut consumer = Consumer::open(&path).unwrap();
    assert_eq!(
        Consumer::open(&path).err().unwrap().kind(),
        ErrorKind::ResourceBusy
    );
    assert!(consumer.producer_is_there().unwrap() && producer.recorder_is_there().unwrap());
    put(&mut producer, 1);
    producer.publish();
    put(&mut producer, 2);
    drop(producer);
    assert!(!consumer.producer_is_there().unwrap());
    let mut producer = Producer::open_or_create(&path, 1 << 16).unwrap();
    put(&mut producer, 3);
    producer.publish();
    let mut seen = Vec::new();
    consumer
        .drain(1 << 20, |_, kind, bytes| seen.push((kind, bytes[0])))
        .unwrap();
    let kinds: Vec<RecordKind> = seen.iter().map(|s| s.0).collect();
    assert_eq!(
        kinds,
        [
            RecordKind::Opened,
            RecordKind::Event,
            RecordKind::Opened,
            RecordKind::Event
        ]
    );
    assert_eq!((seen[1].1, seen[3].1), (1, 3));
    // Nothing was released: a new consumer reads all of it again.
    drop(consumer);
    let mut consumer = Consumer::open(&path).unwrap();
    let mut numbers = Vec::new();
    let at = read(&mut consumer, &mut numbers);
    assert_eq!(numbers, [1, 3]);
    drop(consumer);
    let mut consumer = Consumer::open(&path).unwrap();
    consumer.seek(at).unwrap();
    assert!(!consumer.has_more());
    assert!(consumer.seek(at + 8).is_err() && consumer.seek(0).is_err());
}

#[test]
fn hostile_words_in_the_file_are_named_and_nothing_is_read_beyond() {
    let hostile = |at: u64, word: &[u8]| {
        let dir = dir();
        let path = dir.path().join("spool-0");
        let mut producer = Producer::open_or_create(&path, 1 << 16).unwrap();
        put(&mut producer, 1);
        producer.publish();
        let mut consumer = Consumer::open(&path).unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(word, at).unwrap();
        let mut result = consumer.drain(1 << 20, |_, _, _| {});
        if result.is_ok() {
            result = consumer.drain(1 << 20, |_, _, _| {});
        }
        result
    };
    // The head is in the second line of 128 bytes; the first record begins after the header's page.
    let far = (1u64 << 40).to_le_bytes();
    assert!(matches!(
        hostile(128, &far),
        Err(SpoolError::HeadOutOfRange { .. })
    ));
    assert!(matches!(
        hostile(128, &u64::MAX.to_le_bytes()),
        Err(SpoolError::HeadOutOfRange { .. })
    ));
    assert!(matches!(
        hostile(4096, &u32::MAX.to_le_bytes()),
        Err(SpoolError::RecordTooLong { position: 0, .. })
    ));
    assert!(matches!(
        hostile(4096, &60_000u32.to_le_bytes()),
        Err(SpoolError::RecordTooLong { .. })
    ));
    assert!(matches!(
        hostile(4100, &[1, 2, 3, 4]),
        Err(SpoolError::UnknownKind { position: 0, .. })
    ));
    // After the first record (8 + 16 bytes) comes the second.
    assert!(matches!(
        hostile(4096 + 24, &[0xff; 4]),
        Err(SpoolError::RecordTooLong { position: 24, .. })
    ));
}

fn truncated(path: &Path, bytes: u64) -> ErrorKind {
    std::fs::OpenOptions::new()
        .write(true)
        .open(path)
        .unwrap()
        .set_len(bytes)
        .unwrap();
    Consumer::open(path).err().unwrap().kind()
}

#[test]
fn a_file_that_is_no_spool_is_refused() {
    let dir = dir();
    let path = dir.path().join("spool-0");
    drop(Producer::open_or_create(&path, 1 << 16).unwrap());
    assert_eq!(truncated(&path, 4096 + (1 << 17)), ErrorKind::InvalidData);
    assert_eq!(truncated(&path, 100), ErrorKind::InvalidData);
    std::fs::write(&path, vec![0; 4096 + (1 << 16)]).unwrap();
    assert_eq!(
        Consumer::open(&path).err().unwrap().kind(),
        ErrorKind::InvalidData
    );
}

const CHILD: &str = "HEADGATE_SPOOL_TEST_PATH";

/// Not a test by itself: the producer's process of the next one.
#[test]
fn child_producer() {
    let Ok(path) = std::env::var(CHILD) else { return };
    let path = Path::new(&path);
    let until = Instant::now() + Duration::from_secs(60);
    // The kernel may need a moment to let the lock of a killed producer go.
    let mut producer = loop {
        match Producer::open_or_create(path, 1 << 18) {
            Ok(producer) => break producer,
            Err(error) if error.kind() == ErrorKind::ResourceBusy => {
                std::thread::sleep(Duration::from_millis(1))
            }
            Err(error) => panic!("{error}"),
        }
    };
    // Numbers go up in each life; where a life began is told by `Opened`.
    let mut n = 0;
    while Instant::now() < until {
        if put(&mut producer, n) {
            n += 1;
            if n % 5 == 0 {
                producer.publish();
            }
        } else {
            producer.publish();
        }
    }
}

fn child(path: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_producer", "--nocapture"])
        .env(CHILD, path)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn a_producer_killed_in_mid_write_leaves_only_whole_records() {
    let dir = dir();
    let path = dir.path().join("spool-0");
    drop(Producer::open_or_create(&path, 1 << 18).unwrap());
    let stop = AtomicBool::new(false);
    let (lives, records) = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut consumer = Consumer::open(&path).unwrap();
            let (mut lives, mut records, mut next) = (0u32, 0u64, 0u64);
            loop {
                let stopping = stop.load(Ordering::SeqCst);
                let mut last = consumer.read_position();
                let moved = consumer
                    .drain(1 << 16, |position, kind, bytes| {
                        last = position;
                        if kind == RecordKind::Opened {
                            lives += 1;
                            next = 0;
                            return;
                        }
                        assert_eq!(bytes, payload(next), "record {next} of life {lives}");
                        next += 1;
                        records += 1;
                    })
                    .unwrap();
                consumer.release(last);
                if moved == 0 {
                    if stopping {
                        return (lives, records);
                    }
                    park(&[&consumer], Duration::from_millis(5));
                }
                // The consumer dies too, now and then: it forgets all and reads on from the shared tail.
                if records % 1000 == 7 {
                    drop(consumer);
                    consumer = Consumer::open(&path).unwrap();
                }
            }
        });
        for life in 0..8u64 {
            let mut child = child(&path);
            std::thread::sleep(Duration::from_millis(150 + life * 13));
            child.kill().unwrap();
            child.wait().unwrap();
        }
        stop.store(true, Ordering::SeqCst);
        reader.join().unwrap()
    });
    assert!(lives >= 3, "{lives} lives");
    assert!(records > 1000, "{records} records");
}
