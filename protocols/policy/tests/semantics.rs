//! What allow, hold and deny mean, one sentence a test.

mod support;

use headgate_plane::{
    Class, ClassSet, Effect, Epoch, MaskMethod, MaskRule, RuleTarget, RuleWho, Snapshot, Who,
};
use headgate_policy::family::sql::{
    Message, ResolvedFunction, ResolvedRelation, ResolvedStatement, UNRESOLVED,
};
use headgate_policy::{Asked, Compiled, Why};
use headgate_sql::settings::{ANY, BEGAN, SessionSettings};
use headgate_sql::{Action, Facts, SettingValue, Statement, Unreadable};
use std::sync::Arc;
use support::*;

#[test]
fn without_rules_everything_is_denied() {
    let none = judge(&Compiled::none(), vec![begin()]);
    assert_eq!(
        (none.effect, none.why, none.cacheable),
        (Effect::Deny, Why::NoRules, false)
    );
    let empty = judge(&compile(Vec::new()), vec![begin()]);
    assert_eq!((empty.effect, empty.why), (Effect::Deny, Why::NothingAllows));
    let epoch_zero = Snapshot {
        epoch: Epoch(0),
        ..snapshot(vec![rule("all", Effect::Allow)])
    };
    let verdict = judge(
        &Compiled::new(Arc::new(epoch_zero)).expect("valid"),
        vec![select(&[])],
    );
    assert_eq!((verdict.effect, verdict.why), (Effect::Deny, Why::NoRules));
}

#[test]
fn deny_beats_hold_beats_allow_in_whatever_order_they_stand() {
    let all = [
        rule("a", Effect::Allow),
        rule("h", Effect::Hold),
        rule("d", Effect::Deny),
    ];
    for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [1, 2, 0]] {
        let rules = order.iter().map(|i| all[*i].clone()).collect();
        assert_eq!(effect(rules, vec![select(&[])]), Effect::Deny, "{order:?}");
    }
    assert_eq!(
        effect(vec![all[0].clone(), all[1].clone()], vec![select(&[])]),
        Effect::Hold
    );
    assert_eq!(
        effect(vec![all[1].clone(), all[0].clone()], vec![select(&[])]),
        Effect::Hold
    );
    assert_eq!(effect(vec![all[0].clone()], vec![select(&[])]), Effect::Allow);
}

#[test]
fn an_allow_rule_must_cover_every_class_verb_relation_and_function() {
    let read = allow(&[Class::Read]);
    let cte_delete = statement(&[Class::Read, Class::Write], &["select", "delete"]);
    assert_eq!(effect(vec![read.clone()], vec![select(&[])]), Effect::Allow);
    assert_eq!(effect(vec![read.clone()], vec![cte_delete]), Effect::Deny);

    let verbs = with(read.clone(), |r| r.statement.verbs = strings(&["select"]));
    assert_eq!(effect(vec![verbs.clone()], vec![select(&[])]), Effect::Allow);
    assert_eq!(
        effect(
            vec![verbs],
            vec![statement(&[Class::Read], &["explain", "select"])]
        ),
        Effect::Deny
    );

    let relations = with(read.clone(), |r| {
        r.statement.sql_mut().relations = strings(&["public.orders", "shop.*"])
    });
    assert_eq!(
        effect(
            vec![relations.clone()],
            vec![select(&["public.orders", "shop.items"])]
        ),
        Effect::Allow
    );
    assert_eq!(
        effect(
            vec![relations.clone()],
            vec![select(&["public.orders", "hr.salaries"])]
        ),
        Effect::Deny
    );
    assert_eq!(
        effect(vec![relations], vec![select(&[])]),
        Effect::Allow,
        "there is nothing to cover"
    );

    let functions = with(read.clone(), |r| {
        r.statement.sql_mut().functions = strings(&["lower"])
    });
    assert_eq!(
        effect(vec![functions.clone()], vec![calls(select(&[]), &["lower"])]),
        Effect::Allow
    );
    assert_eq!(
        effect(vec![functions], vec![calls(select(&[]), &["lower", "upper"])]),
        Effect::Deny
    );
    assert_eq!(
        effect(vec![read], vec![calls(select(&[]), &["lower"])]),
        Effect::Allow,
        "no mention needed"
    );
}

#[test]
fn allow_rules_do_not_add_up_over_a_message() {
    let rules = vec![allow(&[Class::Read]), allow(&[Class::Write])];
    assert_eq!(effect(rules.clone(), vec![select(&[])]), Effect::Allow);
    assert_eq!(
        effect(rules.clone(), vec![delete("public.a", true)]),
        Effect::Allow
    );
    assert_eq!(
        effect(rules, vec![select(&[]), delete("public.a", true)]),
        Effect::Deny
    );
}

#[test]
fn the_second_statement_of_a_text_is_judged_as_hard_as_the_first() {
    let rules = vec![with(allow(&[Class::Read]), |r| {
        r.statement.sql_mut().relations = strings(&["public.orders"])
    })];
    assert_eq!(
        effect(
            rules.clone(),
            vec![select(&["public.orders"]), select(&["hr.salaries"])]
        ),
        Effect::Deny
    );
    assert_eq!(
        effect(
            rules,
            vec![select(&["public.orders"]), delete("public.orders", true)]
        ),
        Effect::Deny
    );
}

#[test]
fn a_deny_rule_matches_when_any_part_of_one_statement_is_in_every_named_field() {
    let hr = with(rule("hr", Effect::Deny), |r| {
        r.statement.verbs = strings(&["delete"]);
        r.statement.sql_mut().relations = strings(&["hr.*"]);
    });
    let rules = vec![rule("all", Effect::Allow), hr];
    assert_eq!(
        effect(rules.clone(), vec![delete("hr.salaries", true)]),
        Effect::Deny
    );
    assert_eq!(
        effect(rules.clone(), vec![select(&["hr.salaries"])]),
        Effect::Allow
    );
    assert_eq!(
        effect(
            rules.clone(),
            vec![select(&["hr.salaries"]), delete("public.a", true)]
        ),
        Effect::Allow,
        "the fields are of two statements"
    );
    assert_eq!(
        effect(rules, vec![select(&["public.a"]), delete("hr.salaries", true)]),
        Effect::Deny
    );
}

#[test]
fn a_delete_without_where_is_found_behind_a_harmless_statement() {
    let no_where = with(rule("where", Effect::Deny), |r| {
        r.statement.verbs = strings(&["delete", "update"]);
        r.when = Some("!statement.has_where".into());
        r.message = Some("add a WHERE clause".into());
    });
    let compiled = compile(vec![rule("all", Effect::Allow), no_where]);
    assert_eq!(
        judge(&compiled, vec![delete("public.a", true)]).effect,
        Effect::Allow
    );
    let verdict = judge(
        &compiled,
        vec![select(&[]), delete("public.a", true), delete("public.b", false)],
    );
    assert_eq!(verdict.effect, Effect::Deny);
    assert_eq!(verdict.rule_name(&compiled), "where");
    assert_eq!(
        verdict.to_client(&compiled),
        "denied by rule \"where\": add a WHERE clause"
    );
    assert!(verdict.cacheable, "has_where is in the shape");
}

#[test]
fn transactions_catalogs_and_harmless_settings_come_with_any_allow() {
    let free = [
        begin(),
        statement(&[Class::Session], &["set"]),
        reads(
            statement(&[Class::Catalog], &["select"]),
            &["pg_catalog.pg_class"],
        ),
    ];
    let narrow = with(allow(&[Class::Write]), |r| {
        r.statement.sql_mut().relations = strings(&["public.orders"]);
        r.statement.verbs = strings(&["insert"]);
    });
    for statement in &free {
        let verdict = judge(&compile(vec![narrow.clone()]), vec![statement.clone()]);
        assert_eq!(
            (verdict.effect, verdict.why),
            (Effect::Allow, Why::ComesWithAccess),
            "{statement:?}"
        );
        let elsewhere = with(narrow.clone(), |r| r.target.names = strings(&["billing"]));
        assert_eq!(
            effect(vec![elsewhere], vec![statement.clone()]),
            Effect::Deny,
            "no allow on this target"
        );
        let taken = with(rule("no", Effect::Deny), |r| {
            r.statement.class = Some(statement.class)
        });
        assert_eq!(
            effect(vec![narrow.clone(), taken], vec![statement.clone()]),
            Effect::Deny,
            "a deny takes it away"
        );
    }
    assert_eq!(
        effect(vec![narrow], vec![]),
        Effect::Allow,
        "an empty text does nothing"
    );
    assert_eq!(effect(vec![rule("h", Effect::Hold)], vec![]), Effect::Hold);
    assert_eq!(
        effect(vec![allow(&[Class::Read])], vec![begin(), select(&[]), begin()]),
        Effect::Allow
    );
}

#[test]
fn an_empty_text_needs_access_and_meets_no_condition_on_statements() {
    let where_rule = with(rule("where", Effect::Deny), |r| {
        r.when = Some("!statement.has_where".into())
    });
    assert_eq!(
        effect(vec![rule("all", Effect::Allow), where_rule], vec![]),
        Effect::Allow
    );
    let elsewhere = with(rule("a", Effect::Allow), |r| {
        r.target.names = strings(&["billing"])
    });
    assert_eq!(effect(vec![elsewhere], vec![]), Effect::Deny);
}

#[test]
fn catalogs_that_hold_data_do_not_come_along_with_a_read() {
    let rules = vec![with(allow(&[Class::Read]), |r| {
        r.statement.sql_mut().relations = strings(&["public.orders"])
    })];
    let mixed = |relation: &str| {
        reads(
            statement(&[Class::Read, Class::Catalog], &["select"]),
            &["public.orders", relation],
        )
    };
    assert_eq!(
        effect(rules.clone(), vec![mixed("pg_catalog.pg_class")]),
        Effect::Allow
    );
    for held in [
        "pg_catalog.pg_stats",
        "pg_catalog.pg_authid",
        "pg_catalog.pg_stat_activity",
        "hr.pg_class",
    ] {
        assert_eq!(effect(rules.clone(), vec![mixed(held)]), Effect::Deny, "{held}");
    }
}

#[test]
fn opaque_must_be_named() {
    let opaque = statement(&[Class::Opaque], &["do"]);
    assert_eq!(
        effect(vec![rule("all", Effect::Allow)], vec![opaque.clone()]),
        Effect::Deny
    );
    assert_eq!(
        effect(vec![allow(&[Class::Read])], vec![opaque.clone()]),
        Effect::Deny
    );
    assert_eq!(
        effect(vec![allow(&[Class::Opaque])], vec![opaque.clone()]),
        Effect::Allow
    );
    let danger = with(rule("all", Effect::Allow), |r| {
        r.statement.danger_unreadable = true
    });
    assert_eq!(effect(vec![danger], vec![opaque.clone()]), Effect::Allow);
    let unpinned = with(rule("all", Effect::Allow), |r| {
        r.statement.sql_mut().danger_unpinned = true
    });
    assert_eq!(effect(vec![unpinned], vec![opaque]), Effect::Deny);
    let no_class = statement(&[], &["mystery"]);
    assert_eq!(
        effect(vec![rule("all", Effect::Allow)], vec![no_class]),
        Effect::Deny,
        "no class at all is opaque"
    );
}

#[test]
fn a_pinned_setting_is_denied_whatever_the_rules_say() {
    let set_encoding = sets("client_encoding", "SJIS");
    let compiled = compile(vec![rule("all", Effect::Allow)]);
    let verdict = judge(&compiled, vec![select(&[]), set_encoding.clone()]);
    assert_eq!(
        (verdict.effect, verdict.why.clone()),
        (
            Effect::Deny,
            Why::Pinned {
                what: "setting",
                name: "client_encoding".into()
            }
        )
    );
    assert!(verdict.to_client(&compiled).contains("client_encoding"));
    let prepared = Statement {
        action: Action::Prepare {
            name: "p".into(),
            inner: Box::new(set_encoding.clone()),
        },
        ..statement(&[Class::Session], &["prepare"])
    };
    assert_eq!(
        effect(vec![rule("all", Effect::Allow)], vec![prepared]),
        Effect::Deny
    );
    assert_eq!(
        effect(vec![rule("h", Effect::Hold)], vec![set_encoding.clone()]),
        Effect::Deny,
        "nobody can approve it"
    );
    let unpinned = with(allow(&[Class::Read]), |r| {
        r.statement.sql_mut().danger_unpinned = true
    });
    assert_eq!(
        effect(vec![unpinned.clone()], vec![set_encoding.clone()]),
        Effect::Allow
    );
    assert_eq!(
        effect(
            vec![unpinned.clone()],
            vec![set_encoding.clone(), delete("public.a", true)]
        ),
        Effect::Deny
    );
    let mut pinned_read = select(&["public.a"]);
    pinned_read.settings = sets(ANY, "x").settings;
    assert_eq!(
        effect(
            vec![allow(&[Class::Read]), unpinned.clone()],
            vec![pinned_read.clone()]
        ),
        Effect::Allow
    );
    let elsewhere = with(unpinned, |r| {
        r.statement.sql_mut().relations = strings(&["public.b"])
    });
    assert_eq!(
        effect(vec![allow(&[Class::Read]), elsewhere], vec![pinned_read]),
        Effect::Deny,
        "the rule that has the switch must be the one that covers"
    );
}

#[test]
fn a_text_without_facts_is_denied_unless_the_danger_switch_stands_alone() {
    let unreadable = Unreadable::Syntax {
        message: "syntax error at or near \"x\"".into(),
        position: 1,
    };
    let judged = |rules| judge_as(&compile(rules), &alice(), Err(&unreadable)).effect;
    let switch = with(rule("a", Effect::Allow), |r| r.statement.danger_unreadable = true);
    assert_eq!(judged(vec![rule("all", Effect::Allow)]), Effect::Deny);
    assert_eq!(
        judged(vec![rule("h", Effect::Hold)]),
        Effect::Deny,
        "nobody can approve what nobody can read"
    );
    assert_eq!(judged(vec![switch.clone()]), Effect::Allow);
    assert_eq!(
        judged(vec![with(switch.clone(), |r| r.statement.class =
            Some(ClassSet::of(&Class::ALL)))]),
        Effect::Deny
    );
    assert_eq!(
        judged(vec![with(switch.clone(), |r| r.statement.sql_mut().relations =
            strings(&["*"]))]),
        Effect::Deny
    );
    assert_eq!(
        judged(vec![
            with(switch.clone(), |r| r.when = Some("statement.has_where".into()))
        ]),
        Effect::Deny
    );
    assert_eq!(
        judged(vec![with(switch.clone(), |r| r.when =
            Some("who.principal == 'alice'".into()))]),
        Effect::Allow
    );
    let ddl = with(rule("ddl", Effect::Deny), |r| {
        r.statement.class = Some(ClassSet::of(&[Class::Ddl]))
    });
    assert_eq!(
        judged(vec![switch.clone(), ddl]),
        Effect::Deny,
        "nobody can say that it is not DDL"
    );
    assert_eq!(judged(vec![switch, rule("h", Effect::Hold)]), Effect::Hold);
    let compiled = compile(vec![rule("all", Effect::Allow)]);
    assert!(
        !judge_as(&compiled, &alice(), Err(&Unreadable::AnalystLost)).cacheable,
        "it may be read next time"
    );
    assert!(judge_as(&compiled, &alice(), Err(&unreadable)).cacheable);
}

#[test]
fn a_hold_opens_only_what_it_matches() {
    let ddl = with(rule("ddl", Effect::Hold), |r| {
        r.statement.class = Some(ClassSet::of(&[Class::Ddl]))
    });
    let rules = vec![allow(&[Class::Read]), ddl];
    assert_eq!(
        effect(rules.clone(), vec![create_table()]),
        Effect::Hold,
        "approval stands in for the allow rule"
    );
    assert_eq!(
        effect(rules.clone(), vec![begin(), create_table(), select(&[])]),
        Effect::Hold
    );
    assert_eq!(
        effect(rules.clone(), vec![create_table(), delete("public.a", true)]),
        Effect::Deny
    );
    let compiled = compile(rules);
    let verdict = judge(&compiled, vec![create_table()]);
    assert_eq!(verdict.rule, Some(1));
    assert_eq!(verdict.wait_ms(&compiled), 900_000);
    assert_eq!(verdict.reviewers(&compiled).map(|r| r.quorum), Some(1));
}

#[test]
fn a_name_that_is_not_resolved_needs_the_star_and_meets_every_deny() {
    let unresolved = select(&["orders"]);
    let listing = |names: &[&str]| {
        with(allow(&[Class::Read]), |r| {
            r.statement.sql_mut().relations = strings(names)
        })
    };
    assert_eq!(
        effect(
            vec![listing(&["public.orders", "public.*"])],
            vec![unresolved.clone()]
        ),
        Effect::Deny
    );
    assert_eq!(
        effect(vec![listing(&["*"])], vec![unresolved.clone()]),
        Effect::Allow
    );
    let hr = with(rule("hr", Effect::Deny), |r| {
        r.statement.sql_mut().relations = strings(&["hr.salaries"])
    });
    assert_eq!(effect(vec![listing(&["*"]), hr], vec![unresolved]), Effect::Deny);
}

#[test]
fn resolved_names_replace_the_written_ones_and_can_add_a_class() {
    let compiled = compile(vec![with(allow(&[Class::Read]), |r| {
        r.statement.sql_mut().relations = strings(&["public.orders"])
    })]);
    let (who, target) = (alice(), orders());
    let context = compiled.context(&who, &target);
    assert!(context.any_rule_names_resources());
    let facts = Facts {
        statements: vec![select(&["orders"])],
    };
    let relation = |schema: &str| ResolvedRelation {
        schema: schema.into(),
        name: "orders".into(),
        read: true,
        written: false,
    };
    let judged = |resolved: &[ResolvedStatement]| {
        let what = Message {
            facts: Ok(&facts),
            resolved,
            session: &BEGAN,
        };
        let asked = Asked {
            what: &what,
            text: b"",
            parameters: None,
            who: &who,
            target: &target,
            now_unix_ms: 0,
        };
        compiled.judge(&context, &asked)
    };
    let names = |schema: &str| ResolvedStatement {
        relations: vec![relation(schema)],
        ..ResolvedStatement::default()
    };
    assert_eq!(judged(&[names("public")]).effect, Effect::Allow);
    assert_eq!(judged(&[names("hr")]).effect, Effect::Deny);
    assert_eq!(judged(&[names(UNRESOLVED)]).effect, Effect::Deny);
    let opaque = ResolvedStatement {
        class_added: ClassSet::of(&[Class::Opaque]),
        ..names("public")
    };
    assert_eq!(judged(&[opaque]).effect, Effect::Deny);
    let two = judged(&[names("public"), names("public")]);
    assert_eq!(
        (two.effect, two.why, two.cacheable),
        (Effect::Deny, Why::NamesMissing, false)
    );
    assert_eq!(
        ResolvedFunction {
            schema: None,
            name: "lower".into()
        }
        .to_string(),
        "lower"
    );
}

#[test]
fn only_the_principal_and_the_outermost_actor_open_a_door() {
    let who = Who {
        chain: strings(&["outer", "inner"]),
        ..alice()
    };
    let facts = facts(vec![select(&[])]);
    let judged = |rules| judge_as(&compile(rules), &who, Ok(&facts)).effect;
    let for_whom = |change: fn(&mut RuleWho)| with(allow(&[Class::Read]), |r| change(&mut r.who));
    assert_eq!(
        judged(vec![for_whom(|w| w.principals = strings(&["alice"]))]),
        Effect::Allow
    );
    assert_eq!(
        judged(vec![for_whom(|w| w.groups = strings(&["staff"]))]),
        Effect::Allow
    );
    assert_eq!(
        judged(vec![for_whom(|w| w.actors = strings(&["outer"]))]),
        Effect::Allow
    );
    assert_eq!(
        judged(vec![for_whom(|w| w.actors = strings(&["inner"]))]),
        Effect::Deny
    );
    assert_eq!(
        judged(vec![for_whom(|w| w.principals = strings(&["inner"]))]),
        Effect::Deny
    );
    assert!(
        try_compile(vec![for_whom(|w| w.chain = strings(&["inner"]))]).is_err(),
        "chain alone opens nothing"
    );
    let narrowed = |chain: &[&str]| {
        let mut rule = for_whom(|w| w.groups = strings(&["staff"]));
        rule.who.chain = strings(chain);
        rule
    };
    assert_eq!(judged(vec![narrowed(&["inner"])]), Effect::Allow);
    assert_eq!(judged(vec![narrowed(&["stranger"])]), Effect::Deny);
    let no_inner = with(rule("no", Effect::Deny), |r| r.who.chain = strings(&["inner"]));
    assert_eq!(
        judged(vec![rule("all", Effect::Allow), no_inner]),
        Effect::Deny,
        "anyone in the chain narrows"
    );
}

#[test]
fn masks_cover_unless_the_caller_reads_in_clear() {
    let mask = |name: &str, unless: Option<RuleWho>| MaskRule {
        name: name.into(),
        who: RuleWho::default(),
        target: RuleTarget::default(),
        columns: strings(&["public.customers.email"]),
        detect: Vec::new(),
        method: MaskMethod::Redact,
        unless,
    };
    let staff = RuleWho {
        groups: strings(&["staff"]),
        ..RuleWho::default()
    };
    let inner = RuleWho {
        actors: strings(&["inner"]),
        ..RuleWho::default()
    };
    let masks = vec![
        mask("all", None),
        mask("staff reads", Some(staff)),
        mask("inner reads", Some(inner)),
    ];
    let compiled = Compiled::new(Arc::new(Snapshot {
        masks,
        ..snapshot(vec![])
    }))
    .expect("valid");
    let who = Who {
        chain: strings(&["outer", "inner"]),
        ..alice()
    };
    let context = compiled.context(&who, &orders());
    assert_eq!(context.masks(), [0, 2], "an inner actor does not open");
    assert_eq!(compiled.mask(2).map(|m| m.name.as_str()), Some("inner reads"));

    for unless in [
        RuleWho::default(),
        RuleWho {
            chain: strings(&["x"]),
            ..RuleWho::default()
        },
    ] {
        let masks = vec![mask("m", Some(unless))];
        assert!(
            Compiled::new(Arc::new(Snapshot {
                masks,
                ..snapshot(vec![])
            }))
            .is_err()
        );
    }
}

#[test]
fn contexts_share_an_id_only_when_nothing_tells_them_apart() {
    let staff = with(allow(&[Class::Read]), |r| r.who.groups = strings(&["staff"]));
    let compiled = compile(vec![staff.clone()]);
    let bob = Who {
        principal: "bob".into(),
        application: "dbeaver".into(),
        ..alice()
    };
    let stranger = Who {
        groups: vec![],
        ..alice()
    };
    let id = |compiled: &Compiled, who: &Who| compiled.context(who, &orders()).id();
    assert_eq!(id(&compiled, &alice()), id(&compiled, &bob));
    assert_ne!(id(&compiled, &alice()), id(&compiled, &stranger));
    assert!(!compiled.context(&stranger, &orders()).opens());

    let sees = compile(vec![with(staff.clone(), |r| {
        r.when = Some("who.principal == 'alice'".into())
    })]);
    assert_ne!(id(&sees, &alice()), id(&sees, &bob));
    let dbeaver = Who {
        application: "dbeaver".into(),
        ..alice()
    };
    assert_eq!(
        id(&sees, &alice()),
        id(&sees, &dbeaver),
        "the condition does not see the application"
    );
    let again = compile(vec![staff]);
    assert_ne!(
        id(&compiled, &alice()),
        id(&again, &alice()),
        "another snapshot shares nothing"
    );

    let target = orders();
    let facts = facts(vec![select(&[])]);
    let who = alice();
    let what = Message {
        facts: Ok(&facts),
        resolved: &[],
        session: &BEGAN,
    };
    let asked = Asked {
        what: &what,
        text: b"",
        parameters: None,
        who: &who,
        target: &target,
        now_unix_ms: 0,
    };
    let newer = Compiled::new(Arc::new(Snapshot {
        epoch: Epoch(2),
        ..snapshot(vec![rule("all", Effect::Allow)])
    }))
    .expect("valid");
    assert_eq!(
        newer.judge(&again.context(&who, &target), &asked).why,
        Why::OtherEpoch
    );
}

#[test]
fn a_setting_passes_when_it_changes_nothing_or_hides_or_a_rule_names_it() {
    let read = allow(&[Class::Read]);
    let opens = |names: &[&str]| {
        with(allow(&[Class::Read]), |r| {
            r.statement.sql_mut().settings = strings(names)
        })
    };
    let reset = |name: &str| {
        let mut statement = sets(name, "");
        statement.settings[0].value = SettingValue::Default;
        statement
    };
    // Statement, in a session that has set nothing, under: no rule for it, a rule that names search_path and role.
    let table = [
        (sets_path(&[]), Effect::Allow, Effect::Allow),
        (sets_path(&["public"]), Effect::Allow, Effect::Allow),
        (sets_path(&["$user", "public"]), Effect::Allow, Effect::Allow),
        (sets_path(&["public", "$user"]), Effect::Deny, Effect::Allow),
        (sets_path(&["shop"]), Effect::Deny, Effect::Allow),
        (sets_path(&["public", "pg_catalog"]), Effect::Deny, Effect::Allow),
        (reset("search_path"), Effect::Allow, Effect::Allow),
        (sets("role", "none"), Effect::Allow, Effect::Allow),
        (sets("role", "admin"), Effect::Deny, Effect::Allow),
        (reset("role"), Effect::Allow, Effect::Allow),
        (sets("session_authorization", "bob"), Effect::Deny, Effect::Deny),
        (reset("session_authorization"), Effect::Allow, Effect::Allow),
        (sets("client_encoding", "UTF8"), Effect::Allow, Effect::Allow),
        (sets("client_encoding", "LATIN1"), Effect::Deny, Effect::Deny),
        (reset(ANY), Effect::Allow, Effect::Allow),
        (sets(ANY, "x"), Effect::Deny, Effect::Deny),
        (sets("work_mem", "1GB"), Effect::Allow, Effect::Allow),
        (sets("row_security", "on"), Effect::Allow, Effect::Allow),
        (sets("row_security", "off"), Effect::Deny, Effect::Deny),
    ];
    for (statement, plain, opened) in table {
        let said = format!("{:?}", statement.settings);
        assert_eq!(
            effect(vec![read.clone()], vec![statement.clone()]),
            plain,
            "{said}"
        );
        assert_eq!(
            effect(vec![opens(&["search_path", "role"])], vec![statement.clone()]),
            opened,
            "{said}"
        );
        assert_eq!(
            effect(
                vec![read.clone(), opens(&["search_path", "role"])],
                vec![statement]
            ),
            opened,
            "{said}"
        );
    }
    let verdict = judge(&compile(vec![read.clone()]), vec![sets_path(&["shop"])]);
    assert_eq!(
        (verdict.why, verdict.cacheable),
        (
            Why::NotOpened {
                what: "setting",
                name: "search_path".into()
            },
            false
        )
    );
    assert!(
        try_compile(vec![opens(&["client_encoding"])]).is_err(),
        "no rule opens it, so none may seem to"
    );
    assert!(try_compile(vec![opens(&["Search_Path"])]).is_err());
}

#[test]
fn a_rule_that_says_only_settings_opens_nothing_else() {
    let only = with(rule("path", Effect::Allow), |r| {
        r.statement.sql_mut().settings = strings(&["search_path"])
    });
    assert_eq!(
        effect(vec![only.clone()], vec![sets_path(&["shop"])]),
        Effect::Allow
    );
    assert_eq!(effect(vec![only.clone()], vec![select(&[])]), Effect::Deny);
    assert_eq!(
        effect(
            vec![only, allow(&[Class::Read])],
            vec![sets_path(&["shop"]), select(&[])]
        ),
        Effect::Deny,
        "allow rules do not add up"
    );
}

#[test]
fn deny_and_hold_rules_meet_settings_by_name() {
    let naming = |effect: Effect, name: &str| {
        with(rule("s", effect), |r| {
            r.statement.sql_mut().settings = strings(&[name])
        })
    };
    let all = rule("all", Effect::Allow);
    assert_eq!(
        effect(
            vec![all.clone(), naming(Effect::Deny, "statement_timeout")],
            vec![sets("statement_timeout", "0")]
        ),
        Effect::Deny
    );
    assert_eq!(
        effect(
            vec![all.clone(), naming(Effect::Deny, "statement_timeout")],
            vec![sets("work_mem", "0")]
        ),
        Effect::Allow
    );
    assert_eq!(
        effect(
            vec![all.clone(), naming(Effect::Deny, "statement_timeout")],
            vec![sets(ANY, "0")]
        ),
        Effect::Deny,
        "it may be that one"
    );
    assert_eq!(
        effect(
            vec![all.clone(), naming(Effect::Deny, "statement_timeout")],
            vec![select(&[])]
        ),
        Effect::Allow
    );
    assert_eq!(
        effect(vec![naming(Effect::Hold, "role")], vec![sets("role", "admin")]),
        Effect::Hold,
        "a yes opens what the rule names"
    );
    assert_eq!(
        effect(
            vec![all.clone(), rule("h", Effect::Hold)],
            vec![sets("role", "admin")]
        ),
        Effect::Deny,
        "and nothing else"
    );
    assert_eq!(
        effect(
            vec![naming(Effect::Hold, "client_encoding")],
            vec![sets("client_encoding", "SJIS")]
        ),
        Effect::Deny
    );
}

#[test]
fn the_next_statement_of_a_text_is_judged_by_what_the_first_one_set() {
    let rules = vec![with(allow(&[Class::Read]), |r| {
        r.statement.sql_mut().settings = strings(&["search_path"])
    })];
    let bare = reads(statement(&[Class::Catalog], &["select"]), &["pg_class"]);
    let shadowed = sets_path(&["evil", "pg_catalog"]);
    assert_eq!(
        effect(rules.clone(), vec![bare.clone(), shadowed.clone()]),
        Effect::Allow
    );
    let only_public = vec![with(rules[0].clone(), |r| {
        r.statement.sql_mut().relations = strings(&["public.*"])
    })];
    assert_eq!(
        effect(only_public.clone(), vec![bare.clone(), shadowed.clone()]),
        Effect::Allow,
        "it comes along as a catalog"
    );
    assert_eq!(
        effect(only_public, vec![shadowed.clone(), bare]),
        Effect::Deny,
        "it may be evil.pg_class"
    );
    let mut lower = select(&[]);
    lower.functions.push(headgate_sql::Function {
        schema: None,
        name: "lower".into(),
    });
    assert_eq!(effect(rules.clone(), vec![lower.clone()]), Effect::Allow);
    assert_eq!(
        effect(rules.clone(), vec![shadowed, lower]),
        Effect::Deny,
        "it may be evil.lower"
    );
    // Hiding once more what is hidden already is free; showing it again is not.
    assert_eq!(
        effect(vec![allow(&[Class::Read])], vec![sets_path(&[]), sets_path(&[])]),
        Effect::Allow
    );
    assert_eq!(
        effect(
            vec![allow(&[Class::Read])],
            vec![sets_path(&[]), sets_path(&["public"])]
        ),
        Effect::Deny
    );
    let commit = Statement {
        action: Action::Commit,
        ..statement(&[Class::Transaction], &["commit"])
    };
    let verdict = judge(&compile(rules), vec![commit, select(&[])]);
    assert!(!verdict.cacheable, "what the transaction leaves is the session's");
}

#[test]
fn what_a_session_has_is_what_a_change_is_held_against() {
    let compiled = compile(vec![allow(&[Class::Read])]);
    let (who, target) = (alice(), orders());
    let context = compiled.context(&who, &target);
    let judged = |session: &SessionSettings, statement: Statement| {
        let facts = facts(vec![statement]);
        let what = Message {
            facts: Ok(&facts),
            resolved: &[],
            session,
        };
        let asked = Asked {
            what: &what,
            text: b"",
            parameters: None,
            who: &who,
            target: &target,
            now_unix_ms: 0,
        };
        compiled.judge(&context, &asked).effect
    };
    let shop = SessionSettings::beginning_with("shop, public");
    assert_eq!(judged(&shop, sets_path(&["shop"])), Effect::Allow);
    assert_eq!(judged(&shop, sets_path(&["shop", "public"])), Effect::Allow);
    assert_eq!(judged(&shop, sets_path(&["public", "shop"])), Effect::Deny);
    assert_eq!(judged(&BEGAN, sets_path(&["shop"])), Effect::Deny);
    let mut admin = BEGAN.clone();
    admin.apply(&sets("role", "admin").settings);
    assert_eq!(judged(&admin, sets("role", "admin")), Effect::Allow);
    assert_eq!(judged(&admin, sets("role", "none")), Effect::Allow);
    assert_eq!(judged(&admin, sets("role", "other")), Effect::Deny);
}

#[test]
fn open_data_is_a_word_of_hold_rules() {
    let open = |effect: Effect| with(rule("copy", effect), |r| r.data_open = true);
    let compiled = compile(vec![open(Effect::Hold)]);
    let verdict = judge(&compiled, vec![statement(&[Class::Write], &["copy from"])]);
    assert_eq!(
        (verdict.effect, verdict.data_open(&compiled)),
        (Effect::Hold, true)
    );
    let plain = compile(vec![rule("copy", Effect::Hold)]);
    assert!(!judge(&plain, vec![select(&[])]).data_open(&plain));
    assert!(
        try_compile(vec![open(Effect::Allow)]).is_err() && try_compile(vec![open(Effect::Deny)]).is_err()
    );
}

#[test]
fn columns_are_covered_by_name_and_a_star_may_be_any() {
    let columns = |names: &[&str], unnamed: bool| Statement {
        columns: strings(names),
        unnamed_columns: unnamed,
        ..select(&["public.customers"])
    };
    let narrow = with(allow(&[Class::Read]), |r| {
        r.statement.sql_mut().columns = strings(&["id", "name"])
    });
    let all = with(allow(&[Class::Read]), |r| {
        r.statement.sql_mut().columns = strings(&["*"])
    });
    for (rule, statement, expected) in [
        (&narrow, columns(&["id"], false), Effect::Allow),
        (&narrow, columns(&["id", "email"], false), Effect::Deny),
        (&narrow, columns(&["id"], true), Effect::Deny),
        (&all, columns(&["email"], true), Effect::Allow),
    ] {
        assert_eq!(
            effect(vec![rule.clone()], vec![statement.clone()]),
            expected,
            "{statement:?}"
        );
    }
    let no_email = with(rule("email", Effect::Deny), |r| {
        r.statement.sql_mut().columns = strings(&["email"])
    });
    for (statement, expected) in [
        (columns(&["id"], false), Effect::Allow),
        (columns(&["email"], false), Effect::Deny),
        (columns(&[], true), Effect::Deny),
        (calls(columns(&[], false), &["public.email"]), Effect::Deny),
    ] {
        let rules = vec![rule("all", Effect::Allow), no_email.clone()];
        assert_eq!(effect(rules, vec![statement.clone()]), expected, "{statement:?}");
    }
    for bad in ["customers.email", "e*", ""] {
        let rule = with(rule("bad", Effect::Deny), |r| {
            r.statement.sql_mut().columns = strings(&[bad])
        });
        assert!(try_compile(vec![rule]).is_err(), "{bad}");
    }
}

#[test]
fn resources_of_sql_are_its_relations() {
    let rules = |names: &[&str]| {
        vec![with(allow(&[Class::Read]), |r| {
            r.statement.resources = strings(names)
        })]
    };
    assert_eq!(
        effect(rules(&["public.*"]), vec![select(&["public.orders"])]),
        Effect::Allow
    );
    assert_eq!(
        effect(rules(&["public.*"]), vec![select(&["hr.salaries"])]),
        Effect::Deny
    );
    assert_eq!(
        effect(rules(&["public.*"]), vec![select(&["orders"])]),
        Effect::Deny,
        "not resolved"
    );
    let deny = with(rule("hr", Effect::Deny), |r| {
        r.statement.resources = strings(&["hr.*"])
    });
    let both = vec![rule("all", Effect::Allow), deny];
    assert_eq!(effect(both.clone(), vec![select(&["hr.salaries"])]), Effect::Deny);
    assert_eq!(effect(both, vec![select(&["public.orders"])]), Effect::Allow);
}
