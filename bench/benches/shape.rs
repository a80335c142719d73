//! The shape of a text, the lexer before the parser, and the parser itself, which an analyst runs on a text not seen before.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use headgate_bench::statements::{JOIN, POINT_LITERAL};
use headgate_sql::{Caps, precheck, shape};
use std::hint::black_box;

fn shapes(c: &mut Criterion) {
    for (name, text, literals, relations) in [("a point read", POINT_LITERAL, 1, 1), ("a join", JOIN, 5, 2)] {
        let mut group = c.benchmark_group(name);
        group.throughput(Throughput::Bytes(text.len() as u64));

        let mut out = Vec::new();
        assert_eq!(
            shape(text.as_bytes(), &mut out).map(|info| info.literals),
            Some(literals),
            "{name}"
        );
        let own = out.clone();
        shape(
            text.replace("4711", "12").replace("north", "west").as_bytes(),
            &mut out,
        )
        .expect("it has a shape");
        assert_eq!(own, out, "{name}: another literal is the same shape");
        group.bench_function("shape", |b| {
            b.iter(|| shape(black_box(text.as_bytes()), &mut out))
        });

        precheck(text.as_bytes(), &Caps::default()).expect("it is within the caps");
        group.bench_function("precheck", |b| {
            b.iter(|| precheck(black_box(text.as_bytes()), &Caps::default()))
        });

        let facts = headgate_sqlparse::facts(text).expect("it is SQL");
        assert_eq!(
            facts.statements.iter().map(|s| s.relations.len()).sum::<usize>(),
            relations,
            "{name}"
        );
        group.bench_function("parse", |b| b.iter(|| headgate_sqlparse::facts(black_box(text))));
        group.finish();
    }
}

criterion_group!(benches, shapes);
criterion_main!(benches);
