//! A verdict: of a text that is known, and of one that is judged anew.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use headgate_bench::{rules, statements};
use headgate_gate::sql::known::KnownTexts;
use headgate_plane::Effect;
use headgate_policy::family::sql::{Message, ResolvedRelation, ResolvedStatement};
use headgate_policy::{Asked, Compiled};
use std::hint::black_box;
use std::rc::Rc;
use std::sync::Arc;

/// As the catalog would say it.
fn resolved() -> Vec<ResolvedStatement> {
    let customers = ResolvedRelation {
        schema: "public".to_owned(),
        name: "customers".to_owned(),
        read: true,
        written: false,
    };
    vec![ResolvedStatement {
        relations: vec![customers],
        ..ResolvedStatement::default()
    }]
}

fn verdict(c: &mut Criterion) {
    let (who, target, resolved) = (statements::who(), rules::target(), resolved());
    let facts = statements::facts(statements::POINT_LITERAL);
    let what = Message {
        facts: Ok(&facts),
        resolved: &resolved,
        session: &headgate_sql::settings::BEGAN,
    };
    let asked = Asked {
        what: &what,
        text: statements::POINT_LITERAL.as_bytes(),
        parameters: None,
        who: &who,
        target: &target,
        now_unix_ms: 1_795_000_000_000,
    };

    let mut group = c.benchmark_group("judge");
    for count in [1, 20, 1000] {
        let compiled = Compiled::new(Arc::new(rules::snapshot(count))).expect("good rules");
        let context = compiled.context(&who, &target);
        let verdict = compiled.judge(&context, &asked);
        assert_eq!(
            (verdict.effect, verdict.rule_name(&compiled)),
            (Effect::Allow, rules::ALLOWS)
        );
        group.bench_function(BenchmarkId::new("rules", count), |b| {
            b.iter(|| compiled.judge(black_box(&context), black_box(&asked)))
        });
    }
    group.finish();

    let compiled = Compiled::new(Arc::new(rules::snapshot(20))).expect("good rules");
    let context = compiled.context(&who, &target);
    let verdict = Rc::new(compiled.judge(&context, &asked));
    let mut group = c.benchmark_group("known");
    for (name, text, again) in [
        (
            "by shape, another literal",
            statements::POINT_LITERAL,
            "SELECT id, name, email, note FROM customers WHERE id = 90210",
        ),
        ("by shape, parameters", statements::POINT, statements::POINT),
        (
            "by exact text, a comment",
            "SELECT id FROM customers -- all",
            "SELECT id FROM customers -- all",
        ),
    ] {
        let mut known = KnownTexts::default();
        for n in 0..1000 {
            let other = format!("SELECT c{n} FROM customers");
            known.learn(other.as_bytes(), Ok(statements::facts(&other)));
        }
        known
            .learn(text.as_bytes(), Ok(statements::facts(text)))
            .remember(context.id(), 1, Rc::clone(&verdict));
        let mut look_up = |text: &[u8]| {
            known
                .get(text)
                .and_then(|known| known.verdict(context.id(), 1))
                .map(|verdict| verdict.effect)
        };
        assert_eq!(look_up(again.as_bytes()), Some(Effect::Allow), "{name}");
        assert_eq!(look_up(b"SELECT nothing FROM customers"), None, "{name}");
        group.bench_function(name, |b| b.iter(|| look_up(black_box(again.as_bytes()))));
    }
    group.finish();
}

criterion_group!(benches, verdict);
criterion_main!(benches);
