//! The mask plan: making it, and covering one column of a row.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use headgate_bench::replies;
use headgate_mask::{Caller, Hints, Plan, Scratch};
use std::hint::black_box;

const HINTS: Hints = Hints {
    may_compute: false,
    opaque: false,
    known: true,
};

fn mask(c: &mut Criterion) {
    let rule = replies::mask_rule(&[replies::LABEL], &[]);
    let caller = Caller::new(
        &[&rule],
        Some(replies::catalog()),
        &headgate_mask::SearchPath::default(),
        &[7; 32],
    );
    let columns = replies::point_columns();

    let mut group = c.benchmark_group("mask plan");
    let plan = Plan::for_rows(&caller, &columns, HINTS);
    assert!(!plan.is_pass());
    group.bench_function("make, four columns", |b| {
        b.iter(|| Plan::for_rows(black_box(&caller), black_box(&columns), HINTS))
    });

    for rows in [1usize, 64] {
        let run = replies::point(rows);
        let (mut scratch, mut out) = (Scratch::default(), Vec::new());
        let stats = plan.mask_run(&mut scratch, &run, &mut out).expect("good rows");
        assert_eq!((stats.rows, stats.masked), (rows as u64, rows as u64));
        let text = String::from_utf8_lossy(&out);
        assert!(
            !text.contains("ada.lovelace") && text.contains("Ada Lovelace") && text.contains("@"),
            "{text}"
        );
        group.throughput(Throughput::Elements(rows as u64));
        group.bench_function(format!("cover one column of {rows} rows"), |b| {
            b.iter(|| {
                out.clear();
                plan.mask_run(&mut scratch, black_box(&run), &mut out)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, mask);
criterion_main!(benches);
