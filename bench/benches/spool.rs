//! Pushing a turn's records into the spool, publishing once, and draining them.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use headgate_spool::{Consumer, Producer, RecordKind};
use std::hint::black_box;

/// Records of one turn of the loop, each as long as a small statement's event.
const RECORDS: usize = 64;
const RECORD_BYTES: usize = 300;
const SPOOL_BYTES: usize = 1 << 20;

fn push(producer: &mut Producer, record: &[u8]) {
    for _ in 0..RECORDS {
        let room = producer.reserve(record.len()).expect("the consumer keeps up");
        room.copy_from_slice(record);
        producer.commit(record.len());
    }
    producer.publish();
}

/// Takes everything; how many events, and the sum of their first bytes.
fn pop(consumer: &mut Consumer) -> (usize, usize) {
    let (mut count, mut sum, mut end) = (0, 0, consumer.read_position());
    while consumer.has_more() {
        consumer
            .drain(SPOOL_BYTES, |position, kind, payload| {
                end = position;
                if kind == RecordKind::Event {
                    count += 1;
                    sum += usize::from(payload.first().copied().unwrap_or(0));
                }
            })
            .expect("a sound spool");
    }
    consumer.release(end);
    (count, sum)
}

fn spool(c: &mut Criterion) {
    let folder = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
    let path = folder.path().join("spool-0");
    let mut producer = Producer::open_or_create(&path, SPOOL_BYTES).expect("a spool");
    let mut consumer = Consumer::open(&path).expect("the same spool");
    let record = vec![7u8; RECORD_BYTES];
    push(&mut producer, &record);
    assert_eq!(pop(&mut consumer), (RECORDS, 7 * RECORDS));

    let mut group = c.benchmark_group("spool");
    group.throughput(Throughput::Elements(RECORDS as u64));
    group.bench_function("push 64 records, publish, drain", |b| {
        b.iter(|| {
            push(&mut producer, black_box(&record));
            pop(&mut consumer)
        });
    });
    group.finish();
}

criterion_group!(benches, spool);
criterion_main!(benches);
