//! The detectors over 64 KiB of rows, a receive buffer's worth: words, records with many near misses, rows with hits.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use headgate_bench::replies;
use headgate_mask::{Caller, DETECTOR_NAMES, Hints, Plan, Scratch};
use std::hint::black_box;

const HINTS: Hints = Hints {
    may_compute: false,
    opaque: false,
    known: true,
};
const BYTES: usize = 64 << 10;
const THREE: [&str; 3] = ["email", "payment_card", "us_ssn"];

fn scan(c: &mut Criterion) {
    let (hits, hit_rows) = replies::with_hits(BYTES);
    for (detectors, names) in [
        ("three detectors", &THREE[..]),
        ("all detectors", &DETECTOR_NAMES[..]),
    ] {
        let rule = replies::mask_rule(&[], names);
        let caller = Caller::new(
            &[&rule],
            Some(replies::catalog()),
            &headgate_mask::SearchPath::default(),
            &[7; 32],
        );
        let mut group = c.benchmark_group(detectors);
        for (name, run, columns, masked) in [
            ("words", &replies::clean_words(BYTES), 10, 0),
            ("records", &replies::clean_records(BYTES), 10, 0),
            ("a hit in each row", &hits, 4, hit_rows),
        ] {
            let plan = Plan::for_rows(&caller, &replies::text_columns(columns), HINTS);
            let (mut scratch, mut out) = (Scratch::default(), Vec::new());
            let stats = plan.mask_run(&mut scratch, run, &mut out).expect("good rows");
            assert_eq!(stats.masked, masked, "{name}");
            assert_eq!(
                out == *run,
                masked == 0,
                "{name}: clean rows are left as they are"
            );
            assert!(!String::from_utf8_lossy(&out).contains("ada.lovelace@"), "{name}");
            group.throughput(Throughput::Bytes(run.len() as u64));
            group.bench_function(name, |b| {
                b.iter(|| {
                    out.clear();
                    plan.mask_run(&mut scratch, black_box(run), &mut out)
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, scan);
criterion_main!(benches);
