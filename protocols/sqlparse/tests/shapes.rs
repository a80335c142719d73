//! Two texts of one shape have the same facts: held against the real parser.

use headgate_sql::{Unreadable, shape};
use headgate_sqlparse::facts;
use proptest::prelude::*;

/// `#` stands for a place where a value goes.
const TEMPLATES: &[&str] = &[
    "select * from t where a = #",
    "select a, b from public.t where a in (#, #, #) and b like # limit #",
    "insert into t (a, b) values (#, #), (#, #)",
    "insert into t values (#) on conflict (a) do update set b = # where t.c < # returning *",
    "update t set a = #, b = b + # where c between # and #",
    "delete from t using u where t.a = u.b and u.c > #",
    "with x as (delete from t where a = # returning *) select count(*) from x where b = #",
    "values (#, #), (#, #)",
    "select case when a = # then # else # end from t order by # offset #",
    "select interval #, date #, a::numeric(#, #), f(#, g(#)), -#, a -# from t",
    "select a#b from t#",
    "select #a, t1.c2, \"x#\" from t2 where $1 = # and d = $2",
    "select a[#], b->>#, c @> # from t as u#",
    "select * from t tablesample system (#) repeatable (#) for update",
    "select # # from t",
    "select #\n# from t",
    "select #, E# from t",
    "select # from t; delete from u where a = #",
    "select # from t;",
];

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[0-9]{1,12}",
        4 => "'[a-z ]{0,8}'",
        1 => "'[a-z\\\\'\"$;/*-]{0,6}'",
        1 => "'[é€\u{0}-\u{1f}]{0,3}'",
        1 => "[0-9]{1,3}\\.[0-9]{0,3}",
        1 => "[0-9]{1,2}[a-zA-Z_]{1,2}[0-9]?",
        1 => "\\$[0-9]?\\$?",
        1 => "[a-zA-Z]?'[a-z]{0,2}'",
        1 => "--[a-z]?|/\\*|\\*/|\\.|;|\"|'",
    ]
}

fn fill(template: &str, values: &[String]) -> String {
    let mut values = values.iter().cycle();
    let mut text = String::new();
    for piece in template.split_inclusive('#') {
        text.push_str(piece.trim_end_matches('#'));
        if piece.ends_with('#') {
            text.push_str(values.next().expect("a cycle"));
        }
    }
    text
}

fn same(a: &str, b: &str) {
    let (mut left, mut right) = (Vec::new(), Vec::new());
    let shaped = shape(a.as_bytes(), &mut left).is_some() && shape(b.as_bytes(), &mut right).is_some();
    if !shaped || left != right {
        return;
    }
    match (facts(a), facts(b)) {
        (Ok(x), Ok(y)) => assert_eq!(x, y, "\n{a}\n{b}"),
        // PostgreSQL refuses one of them for its value: nothing it does not know can be done with it.
        (Err(Unreadable::Syntax { .. }), _) | (_, Err(Unreadable::Syntax { .. })) => {}
        (x, y) => panic!("{x:?} and {y:?}:\n{a}\n{b}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn values_do_not_change_facts(
        at in 0..TEMPLATES.len(),
        left in proptest::collection::vec(value(), 1..6),
        right in proptest::collection::vec(value(), 1..6),
    ) {
        same(&fill(TEMPLATES[at], &left), &fill(TEMPLATES[at], &right));
    }

    /// Any two texts of these letters: the shape must not bring together what the parser keeps apart.
    #[test]
    fn no_two_texts_meet_in_one_shape_wrongly(
        left in "select [a1'\"$ .;,()eEuU&\\\\/*\n-]{0,14}",
        right in "[a1'$ .eE\n-]{0,6}",
        cut in 7usize..20,
    ) {
        let cut = cut.min(left.len());
        let (head, tail) = left.split_at(cut);
        same(&left, &format!("{head}{right}{tail}"));
    }
}

#[test]
fn ordinary_variants_do_share_a_shape() {
    let (mut left, mut right) = (Vec::new(), Vec::new());
    let a = shape(b"select a from t where b = 'x' and c = 12 limit 5", &mut left);
    let b = shape(b"select a from t where b = 'yy' and c = 3 limit 500", &mut right);
    assert!(a.is_some() && a == b && left == right);
    assert_eq!(a.map(|i| i.literals), Some(3));
    assert_eq!(
        facts("select a from t where b = 'x' and c = 12 limit 5"),
        facts("select a from t where b = 'yy' and c = 3 limit 500")
    );
}
