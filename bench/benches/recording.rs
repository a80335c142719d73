//! A statement's events: encoding them, chaining them, and packing a chunk of them as the recorder does.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use headgate_bench::statements;
use headgate_recording::chain::Chain;
use headgate_recording::chunk::{Builder, Chunk, ChunkFacts};
use headgate_recording::sessions::{Piece, Sessions};
use headgate_recording::summary::Summarizer;
use headgate_recording::{Event, OutlineReader, decode, encode, encode_into};
use std::hint::black_box;

const SESSIONS: u32 = 64;
const STATEMENTS: u32 = 16;

fn encoded(event: &Event) -> Vec<u8> {
    let mut out = Vec::new();
    encode(event, &mut out);
    out
}

/// All of what the recorder does with a chunk's records but for writing it; its value.
fn pack(records: &[Vec<u8>], sessions: &mut Sessions, packing: &mut zstd::bulk::Compressor<'_>) -> Vec<u8> {
    let (mut builder, mut summarizer, mut reader) = (
        Builder::default(),
        Summarizer::default(),
        OutlineReader::default(),
    );
    for record in records {
        let outline = reader.read(record).expect("an event");
        let applied = sessions.apply(1, &Piece::of_outline(record, &outline));
        builder.add(record, &outline, applied.number);
        let facts = sessions.get(outline.session).map(|live| &*live.facts);
        summarizer.add_outline(&outline, &mut reader, applied.number, facts);
    }
    black_box(summarizer.finish(0));
    let about = ChunkFacts {
        reply_hashes: sessions.close(),
        ..ChunkFacts::default()
    };
    builder
        .finish(about, &mut |bytes| packing.compress(bytes))
        .expect("it packs")
        .value
}

fn recording(c: &mut Criterion) {
    let [asked, ended] = statements::statement(1);
    let of = |seq, body| Event {
        session: statements::session(1),
        seq,
        unix_us: 1_795_000_000_000_000,
        body,
    };
    let (asked, ended) = (of(1, asked), of(2, ended));

    let mut group = c.benchmark_group("recording");
    let mut room = vec![0; 4096];
    let mut write = |events: [&Event; 2]| {
        let mut bytes = 0;
        for event in events {
            let borrowed = event.borrowed().expect("a data plane's event");
            let bound = borrowed.size_bound();
            bytes += encode_into(&borrowed, room.get_mut(..bound).expect("room for it")).expect("it fits");
        }
        bytes
    };
    let records = [encoded(&asked), encoded(&ended)];
    assert_eq!(
        write([&asked, &ended]),
        records.iter().map(Vec::len).sum::<usize>()
    );
    assert_eq!(
        records.each_ref().map(|r| decode(r).expect("an event")),
        [asked.clone(), ended.clone()]
    );
    group.throughput(Throughput::Elements(1));
    group.bench_function("encode a statement and its end", |b| {
        b.iter(|| write(black_box([&asked, &ended])))
    });

    let mut chain = Chain::start(statements::session(1));
    let start = chain.head;
    let mut add = || {
        let mut link = chain.link();
        for record in &records {
            link.add(black_box(record), &[]);
        }
        chain.close(link, None);
        (chain.head, chain.count)
    };
    let (first, second) = (add(), add());
    assert!(first.0 != start && second.0 != first.0 && second.1 == 4);
    group.bench_function("a link over a statement and its end", |b| b.iter(&mut add));

    let records: Vec<Vec<u8>> = statements::events(SESSIONS, STATEMENTS)
        .iter()
        .map(encoded)
        .collect();
    let mut packing = zstd::bulk::Compressor::new(1).expect("zstd");
    let mut sessions = Sessions::default();
    let value = pack(&records, &mut sessions, &mut packing);
    let chunk = Chunk::read(&value).expect("a chunk");
    let rows = chunk
        .rows(&|bytes, len| zstd::bulk::decompress(bytes, len).ok())
        .expect("its columns")
        .rows;
    assert_eq!((rows.len(), sessions.len()), (records.len(), SESSIONS as usize));
    group.throughput(Throughput::Elements(u64::from(SESSIONS * STATEMENTS)));
    group.bench_function("pack 1024 statements of 64 sessions", |b| {
        b.iter_batched(
            Sessions::default,
            |mut sessions| pack(black_box(&records), &mut sessions, &mut packing),
            criterion::BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(benches, recording);
criterion_main!(benches);
