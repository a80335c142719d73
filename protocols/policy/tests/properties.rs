//! What must hold for any rules and any statements.

mod support;

use headgate_plane::{Class, ClassSet, Effect, Rule, Who};
use headgate_policy::Why;
use headgate_sql::Statement;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select as one_of, subsequence};
use support::*;

fn classes() -> impl Strategy<Value = ClassSet> {
    subsequence(Class::ALL.to_vec(), 1..=3).prop_map(|c| ClassSet::of(&c))
}

fn names(all: &'static [&'static str], most: usize) -> impl Strategy<Value = Vec<String>> {
    subsequence(all.to_vec(), 0..=most).prop_map(|n| strings(&n))
}

prop_compose! {
    fn any_rule()(
        effect in one_of(vec![Effect::Allow, Effect::Allow, Effect::Hold, Effect::Deny]),
        class in proptest::option::of(classes()),
        verbs in names(&["select", "delete", "do"], 2),
        relations in names(&["public.orders", "public.*", "hr.*", "*"], 2),
        functions in names(&["lower", "app.*", "*"], 1),
        groups in names(&["staff", "dba"], 1),
        chain in names(&["agent"], 1),
        when in one_of(vec![None, Some("statement.has_where"), Some("statement.text.contains('x')"), Some("now.hour < 9"),
            Some("target.labels.none == 'x'"), Some("who.principal == 'alice'")]),
        danger in any::<(bool, bool)>(),
        settings in names(&["role", "search_path"], 2),
    ) -> Rule {
        with(rule("any", effect), |r| {
            r.statement.class = class;
            r.statement.verbs = verbs;
            r.statement.sql_mut().relations = relations;
            r.statement.sql_mut().functions = functions;
            r.statement.sql_mut().settings = settings;
            r.who.chain = if groups.is_empty() && effect == Effect::Allow { vec![] } else { chain };
            r.who.groups = groups;
            r.when = when.map(Into::into);
            r.statement.danger_unreadable = danger.0 && effect == Effect::Allow;
            r.statement.sql_mut().danger_unpinned = danger.1 && effect == Effect::Allow;
        })
    }
}

prop_compose! {
    fn any_statement()(
        class in classes(),
        verbs in names(&["select", "delete", "do"], 2),
        read in names(&["public.orders", "hr.salaries", "orders", "pg_catalog.pg_class", "pg_catalog.pg_stats"], 2),
        functions in names(&["lower", "upper", "app.f"], 2),
        has_where in any::<bool>(),
        setting in proptest::option::weighted(0.2, one_of(vec![sets("role", "admin"), sets("client_encoding", "SJIS"), sets_path(&[]), sets_path(&["x", "pg_catalog"])])),
    ) -> Statement {
        let read: Vec<&str> = read.iter().map(String::as_str).collect();
        let functions: Vec<&str> = functions.iter().map(String::as_str).collect();
        let settings = setting.map_or_else(Vec::new, |s| s.settings);
        let bare = Statement { class, verbs, has_where, settings, ..Statement::default() };
        calls(reads(bare, &read), &functions)
    }
}

prop_compose! {
    fn any_who()(groups in names(&["staff", "dba"], 2), chain in names(&["agent", "other"], 2)) -> Who {
        Who { groups, chain, ..alice() }
    }
}

fn rank(effect: Effect) -> u8 {
    match effect {
        Effect::Deny => 0,
        Effect::Hold => 1,
        Effect::Allow => 2,
    }
}

fn verdict(rules: &[Rule], who: &Who, statements: &[Statement]) -> headgate_policy::Verdict {
    judge_as(&compile(rules.to_vec()), who, Ok(&facts(statements.to_vec())))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn adding_a_deny_rule_never_opens(
        rules in vec(any_rule(), 0..5), extra in any_rule(), at in any::<prop::sample::Index>(),
        who in any_who(), statements in vec(any_statement(), 0..3),
    ) {
        let before = verdict(&rules, &who, &statements);
        let mut more = rules.clone();
        let extra = with(extra, |r| {
            r.effect = Effect::Deny;
            r.statement.sql_mut().danger_unpinned = false;
            r.statement.danger_unreadable = false;
        });
        more.insert(at.index(rules.len() + 1), extra);
        let after = verdict(&more, &who, &statements);
        prop_assert!(rank(after.effect) <= rank(before.effect), "{before:?} became {after:?}");
    }

    #[test]
    fn adding_an_allow_rule_never_closes(
        rules in vec(any_rule(), 0..5), extra in any_rule(), who in any_who(), statements in vec(any_statement(), 0..3),
    ) {
        let before = verdict(&rules, &who, &statements);
        let mut more = rules.clone();
        let mut extra = extra;
        extra.effect = Effect::Allow;
        if extra.who.groups.is_empty() { extra.who.chain.clear(); }
        more.push(extra);
        let after = verdict(&more, &who, &statements);
        prop_assert!(rank(after.effect) >= rank(before.effect), "{before:?} became {after:?}");
    }

    #[test]
    fn without_allow_and_hold_rules_everything_is_denied(
        rules in vec(any_rule(), 0..5), who in any_who(), statements in vec(any_statement(), 0..3),
    ) {
        let denies: Vec<Rule> = rules.into_iter().filter(|r| r.effect == Effect::Deny).collect();
        prop_assert_eq!(verdict(&denies, &who, &statements).effect, Effect::Deny);
    }

    #[test]
    fn a_longer_message_is_never_allowed_more(
        rules in vec(any_rule(), 0..5), who in any_who(), statements in vec(any_statement(), 1..3), extra in any_statement(),
    ) {
        let short = verdict(&rules, &who, &statements);
        let mut longer = statements.clone();
        longer.push(extra);
        let long = verdict(&rules, &who, &longer);
        prop_assert!(long.effect != Effect::Allow || short.effect == Effect::Allow, "{short:?} became {long:?}");
    }

    #[test]
    fn the_order_of_rules_never_changes_the_effect(
        rules in vec(any_rule(), 0..6), who in any_who(), statements in vec(any_statement(), 0..3),
    ) {
        let mut turned = rules.clone();
        turned.reverse();
        prop_assert_eq!(verdict(&rules, &who, &statements).effect, verdict(&turned, &who, &statements).effect);
    }

    #[test]
    fn a_pinned_setting_passes_only_by_a_rule_with_the_switch(
        rules in vec(any_rule(), 0..5), who in any_who(), statements in vec(any_statement(), 1..3),
    ) {
        let compiled = compile(rules);
        let verdict = judge_as(&compiled, &who, Ok(&facts(statements.clone())));
        let touches = |name: &str| statements.iter().any(|s| s.settings.iter().any(|c| c.name == name));
        if verdict.effect == Effect::Allow && (touches("client_encoding") || touches("role")) {
            let rule = verdict.matched(&compiled).expect("not without a rule");
            let names_role = rule.statement.sql().settings.contains(&"role".to_owned());
            prop_assert!(rule.statement.sql().danger_unpinned || (names_role && !touches("client_encoding")));
        }
    }

    #[test]
    fn a_cacheable_verdict_is_the_same_at_any_time_and_for_any_text(
        rules in vec(any_rule(), 0..5), who in any_who(), statements in vec(any_statement(), 0..3),
    ) {
        let compiled = compile(rules);
        let facts = facts(statements);
        let now = judge_at(&compiled, &who, Ok(&facts), b"text", SATURDAY_SEVEN);
        let later = judge_at(&compiled, &who, Ok(&facts), b"none", SATURDAY_SEVEN + 5 * 3_600_000);
        if now.cacheable {
            prop_assert_eq!(&now, &later);
        }
    }

    #[test]
    fn callers_with_one_context_id_get_one_verdict(
        rules in vec(any_rule(), 0..5), one in any_who(), two in any_who(), statements in vec(any_statement(), 0..3),
    ) {
        let compiled = compile(rules);
        let facts = facts(statements);
        if compiled.context(&one, &orders()).id() == compiled.context(&two, &orders()).id() {
            prop_assert_eq!(judge_as(&compiled, &one, Ok(&facts)), judge_as(&compiled, &two, Ok(&facts)));
        }
    }

    #[test]
    fn any_condition_is_refused_or_evaluated_and_never_panics(source in "[a-z.()!&|'<=>\\[\\]0-9 ]{0,40}") {
        let when = with(rule("when", Effect::Deny), |r| r.when = Some(source));
        if let Ok(compiled) = try_compile(vec![when]) {
            let verdict = judge(&compiled, vec![select(&[])]);
            prop_assert!(matches!(verdict.why, Why::RuleMatched | Why::NothingAllows));
        }
    }
}
