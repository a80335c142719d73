//! `when` and `time`: what they see, what they cost a verdict's life in a cache, and that doubt never helps the caller.

mod support;

use headgate_plane::{Class, Effect, TimeWindow, Weekday};
use headgate_policy::{CEL_LIST_MAX, CEL_LIST_MAX_NESTED, CEL_TEXT_BYTES_MAX, WHEN_BYTES_MAX};
use headgate_sql::Statement;
use support::*;

fn when(source: &str) -> headgate_plane::Rule {
    with(rule("when", Effect::Allow), |r| r.when = Some(source.into()))
}

#[test]
fn a_condition_sees_every_documented_field() {
    let facts = facts(vec![Statement {
        columns: strings(&["id", "name"]),
        parameters: 2,
        has_limit: true,
        ..calls(
            writes(select(&["public.orders"]), &["public.log"]),
            &["lower", "app.f"],
        )
    }]);
    for (source, holds) in [
        ("statement.class == ['read']", true),
        ("'select' in statement.verbs", true),
        ("statement.relations == ['public.orders', 'public.log']", true),
        ("statement.relations_read == ['public.orders']", true),
        (
            "statement.relations_written.exists(r, r.startsWith('public.l'))",
            true,
        ),
        ("statement.columns.all(c, c in ['id', 'name'])", true),
        ("statement.functions == ['lower', 'app.f']", true),
        ("statement.has_where && statement.has_limit", true),
        ("statement.statements == 1 && statement.parameters == 2", true),
        ("statement.text.matches('^SELECT .*orders')", true),
        ("size(statement.columns) > 2", false),
        (
            "who.principal == 'alice' && who.actor == 'alice' && who.issuer == 'local'",
            true,
        ),
        ("'staff' in who.groups && who.chain == []", true),
        ("who.address.startsWith('10.') && who.application == 'psql'", true),
        (
            "target.name == 'orders' && target.database == 'orders' && target.protocol == 'postgres'",
            true,
        ),
        (
            "target.environment == 'production' && target.labels.team == 'shop'",
            true,
        ),
        ("has(target.labels.tier)", false),
        ("now.weekday == 'sat' && now.hour == 7 && now.minute == 0", true),
        (
            "now.year == 2026 && now.month == 11 && now.day == 21 && now.unix == 1795244400",
            true,
        ),
    ] {
        let compiled = try_compile(vec![when(source)]).unwrap_or_else(|p| panic!("{source}: {p:?}"));
        let verdict = judge_at(
            &compiled,
            &alice(),
            Ok(&facts),
            b"SELECT 1 FROM orders",
            SATURDAY_SEVEN,
        );
        assert_eq!(verdict.effect == Effect::Allow, holds, "{source}");
        let volatile = source.contains("now.") || source.contains("text") || source.contains("parameters");
        assert_eq!(verdict.cacheable, !volatile, "{source}");
    }
}

#[test]
fn a_condition_that_can_never_work_is_refused_when_it_is_compiled() {
    for (source, said) in [
        ("", "empty"),
        ("statement.", "when"),
        ("user.name == 'x'", "no variable `user`"),
        ("statement.where", "no field `where`"),
        ("statement", "through its fields"),
        ("statement['text'] == 'x'", "through its fields"),
        (".statement['text'] == 'x'", "through its fields"),
        ("statement.verbs.contians('x')", "no function `contians`"),
        ("statement.verbs.contains('x')", "contains"),
        ("statement.parameters + 1", "true or false"),
        (
            "statement.verbs.exists(who, who == 'x')",
            "cannot be called `who`",
        ),
        ("Thing{a: 1} == 1", "type"),
        ("[1].all(a, [1].all(b, [1].all(c, true)))", "deep"),
    ] {
        let problems = try_compile(vec![when(source)])
            .err()
            .unwrap_or_else(|| panic!("{source} was accepted"));
        assert_eq!(problems[0].rule, "when");
        assert!(
            problems[0].reason.contains(said),
            "{source}: {}",
            problems[0].reason
        );
    }
    let long = format!("statement.has_where || '{}' == ''", "x".repeat(WHEN_BYTES_MAX));
    assert!(try_compile(vec![when(&long)]).is_err());
    assert!(try_compile(vec![when(&format!("{}true{}", "(".repeat(500), ")".repeat(500)))]).is_err());
    assert!(try_compile(vec![when(&format!("{}true", "!".repeat(1000)))]).is_err());
}

#[test]
fn an_evaluation_error_never_helps_the_caller() {
    let fails = "target.labels.tier == 'one'";
    assert_eq!(effect(vec![when(fails)], vec![select(&[])]), Effect::Deny);
    let deny = with(rule("deny", Effect::Deny), |r| r.when = Some(fails.into()));
    assert_eq!(
        effect(vec![rule("all", Effect::Allow), deny.clone()], vec![select(&[])]),
        Effect::Deny
    );
    let hold = with(deny, |r| r.effect = Effect::Hold);
    assert_eq!(
        effect(vec![rule("all", Effect::Allow), hold], vec![select(&[])]),
        Effect::Hold
    );
}

#[test]
fn what_is_too_large_to_look_at_never_helps_the_caller() {
    let sees_text = "statement.text.contains('secret')";
    let deny = with(rule("deny", Effect::Deny), |r| r.when = Some(sees_text.into()));
    let compiled = compile(vec![rule("all", Effect::Allow), deny]);
    let facts_small = facts(vec![select(&[])]);
    let text = |n: usize| vec![b'x'; n];
    let judged = |n| judge_at(&compiled, &alice(), Ok(&facts_small), &text(n), 0).effect;
    assert_eq!(judged(CEL_TEXT_BYTES_MAX), Effect::Allow);
    assert_eq!(judged(CEL_TEXT_BYTES_MAX + 1), Effect::Deny);

    let columns = |n: usize| Statement {
        columns: (0..n).map(|i| format!("c{i}")).collect(),
        ..select(&[])
    };
    let one = "!statement.columns.exists(c, c == 'secret')";
    assert_eq!(
        effect(vec![when(one)], vec![columns(CEL_LIST_MAX)]),
        Effect::Allow
    );
    assert_eq!(
        effect(vec![when(one)], vec![columns(CEL_LIST_MAX + 1)]),
        Effect::Deny
    );
    let two = "statement.columns.all(a, statement.columns.exists(b, a == b))";
    assert_eq!(
        effect(vec![when(two)], vec![columns(CEL_LIST_MAX_NESTED)]),
        Effect::Allow
    );
    assert_eq!(
        effect(vec![when(two)], vec![columns(CEL_LIST_MAX_NESTED + 1)]),
        Effect::Deny
    );
}

#[test]
fn an_allow_condition_must_hold_for_every_statement_that_needs_it() {
    let rules = vec![when("statement.has_where")];
    assert_eq!(
        effect(
            rules.clone(),
            vec![delete("public.a", true), delete("public.b", true)]
        ),
        Effect::Allow
    );
    assert_eq!(
        effect(
            rules.clone(),
            vec![delete("public.a", true), delete("public.b", false)]
        ),
        Effect::Deny
    );
    let bare_begin = Statement {
        has_where: false,
        ..begin()
    };
    assert_eq!(
        effect(rules, vec![bare_begin, delete("public.a", true)]),
        Effect::Allow,
        "BEGIN comes with access"
    );
}

#[test]
fn a_verdict_keeps_in_a_cache_unless_a_rule_that_looks_at_time_or_text_was_reached() {
    let night = with(rule("night", Effect::Deny), |r| {
        r.statement.class = Some(headgate_plane::ClassSet::of(&[Class::Ddl]));
        r.time = Some(TimeWindow {
            days: vec![],
            from_minute: 1200,
            to_minute: 360,
        });
    });
    let compiled = compile(vec![rule("all", Effect::Allow), night]);
    assert!(
        judge(&compiled, vec![select(&[])]).cacheable,
        "the rule is of DDL and was not reached"
    );
    let ddl = judge(&compiled, vec![create_table()]);
    assert_eq!((ddl.effect, ddl.cacheable), (Effect::Allow, false));
}

#[test]
fn a_time_window_opens_and_shuts_a_rule() {
    let weekend = TimeWindow {
        days: vec![Weekday::Sat, Weekday::Sun],
        from_minute: 0,
        to_minute: 1440,
    };
    let open = with(rule("weekend", Effect::Allow), |r| r.time = Some(weekend.clone()));
    assert_eq!(effect(vec![open.clone()], vec![select(&[])]), Effect::Allow);
    let monday = SATURDAY_SEVEN + 2 * 86_400_000;
    let compiled = compile(vec![open]);
    assert_eq!(
        judge_at(&compiled, &alice(), Ok(&facts(vec![select(&[])])), b"", monday).effect,
        Effect::Deny
    );
    let never = TimeWindow {
        days: vec![],
        from_minute: 60,
        to_minute: 60,
    };
    assert!(try_compile(vec![with(rule("never", Effect::Deny), |r| r.time = Some(never))]).is_err());
}
