//! Finding messages in a receive buffer, and reading a Bind.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use headgate_bench::{replies, statements};
use headgate_postgres::frame;
use headgate_postgres::frontend::Frontend;
use std::hint::black_box;

const FRAME_BYTES_MAX: usize = 1 << 20;

/// Walks over whole messages; how many there were.
fn walk(mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while let Some(header) = frame::peek(bytes, FRAME_BYTES_MAX).expect("good frames") {
        match bytes.get(header.len..) {
            Some(rest) => bytes = rest,
            None => break,
        }
        count += 1;
    }
    count
}

fn framing(c: &mut Criterion) {
    let mut group = c.benchmark_group("framing");
    for (name, block, messages) in [
        (
            "walk over 64 prepared statements",
            statements::prepared(64),
            3 * 64,
        ),
        ("walk over 64 replies", replies::prepared(64), 4 * 64),
        (
            "walk over 64 KiB of rows",
            replies::clean_words(64 << 10),
            replies::clean_words(64 << 10).len() / (7 + 10 * 24),
        ),
    ] {
        assert_eq!(walk(&block), messages, "{name}");
        group.throughput(Throughput::Bytes(block.len() as u64));
        group.bench_function(name, |b| b.iter(|| walk(black_box(&block))));
    }
    group.finish();

    let mut group = c.benchmark_group("read");
    for (name, message, parameters) in [
        ("Bind with one parameter", statements::prepared(1), 1),
        ("Bind with eight parameters", statements::wide_bind(), 8),
    ] {
        let (header, body) = frame::split(&message, FRAME_BYTES_MAX)
            .expect("a good frame")
            .expect("a whole one");
        let read = |body: &[u8]| match Frontend::decode(header.tag, body) {
            Ok(Frontend::Bind(bind)) => bind.parameters().count(),
            other => panic!("{other:?}"),
        };
        assert_eq!(read(body), parameters, "{name}");
        group.throughput(Throughput::Elements(1));
        group.bench_function(name, |b| b.iter(|| read(black_box(body))));
    }
    group.finish();
}

criterion_group!(benches, framing);
criterion_main!(benches);
