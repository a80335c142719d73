//! Every rule of a list against every statement of a list, as one golden file: `policy_matrix.out`. A change of meaning
//! shows in its diff. To accept it: `HEADGATE_BLESS=1 cargo test -p headgate-policy --test matrix`.

mod support;

use headgate_plane::{Class, ClassSet, Effect, Rule};
use headgate_sql::{Facts, Statement, Unreadable};
use std::fmt::Write as _;
use support::*;

fn rules() -> Vec<(&'static str, Vec<Rule>)> {
    let all = || rule("all", Effect::Allow);
    let narrow = |change: fn(&mut Rule)| vec![with(all(), change)];
    let beside = |effect: Effect, change: fn(&mut Rule)| vec![all(), with(rule("other", effect), change)];
    vec![
        ("no rules", vec![]),
        ("allow", vec![all()]),
        ("allow read", vec![allow(&[Class::Read])]),
        (
            "allow read, allow write",
            vec![allow(&[Class::Read]), allow(&[Class::Write])],
        ),
        ("allow read+write", vec![allow(&[Class::Read, Class::Write])]),
        ("allow opaque", vec![allow(&[Class::Opaque])]),
        (
            "allow verbs select",
            narrow(|r| r.statement.verbs = strings(&["select"])),
        ),
        (
            "allow public.orders",
            narrow(|r| r.statement.sql_mut().relations = strings(&["public.orders"])),
        ),
        (
            "allow public.*",
            narrow(|r| r.statement.sql_mut().relations = strings(&["public.*"])),
        ),
        (
            "allow lower()",
            narrow(|r| r.statement.sql_mut().functions = strings(&["lower"])),
        ),
        (
            "allow when has_where",
            narrow(|r| r.when = Some("statement.has_where".into())),
        ),
        (
            "allow unreadable",
            narrow(|r| r.statement.danger_unreadable = true),
        ),
        (
            "allow unpinned",
            narrow(|r| r.statement.sql_mut().danger_unpinned = true),
        ),
        (
            "allow settings role",
            narrow(|r| r.statement.sql_mut().settings = strings(&["role"])),
        ),
        (
            "allow, deny setting role",
            beside(Effect::Deny, |r| {
                r.statement.sql_mut().settings = strings(&["role"])
            }),
        ),
        (
            "hold setting role",
            vec![with(rule("hold", Effect::Hold), |r| {
                r.statement.sql_mut().settings = strings(&["role"])
            })],
        ),
        (
            "allow on other target",
            narrow(|r| r.target.names = strings(&["billing"])),
        ),
        ("allow other group", narrow(|r| r.who.groups = strings(&["dba"]))),
        ("hold", vec![rule("hold", Effect::Hold)]),
        (
            "hold ddl",
            vec![with(rule("hold", Effect::Hold), |r| {
                r.statement.class = Some(ClassSet::of(&[Class::Ddl]))
            })],
        ),
        (
            "allow, hold write",
            beside(Effect::Hold, |r| {
                r.statement.class = Some(ClassSet::of(&[Class::Write]))
            }),
        ),
        (
            "allow, deny ddl",
            beside(Effect::Deny, |r| {
                r.statement.class = Some(ClassSet::of(&[Class::Ddl]))
            }),
        ),
        (
            "allow, deny transaction",
            beside(Effect::Deny, |r| {
                r.statement.class = Some(ClassSet::of(&[Class::Transaction]))
            }),
        ),
        (
            "allow, deny hr.*",
            beside(Effect::Deny, |r| {
                r.statement.sql_mut().relations = strings(&["hr.*"])
            }),
        ),
        (
            "allow, deny !has_where",
            beside(Effect::Deny, |r| r.when = Some("!statement.has_where".into())),
        ),
        ("allow, deny", beside(Effect::Deny, |_| ())),
    ]
}

fn statements() -> Vec<(&'static str, Result<Vec<Statement>, Unreadable>)> {
    vec![
        ("(empty)", Ok(vec![])),
        ("begin", Ok(vec![begin()])),
        ("set", Ok(vec![statement(&[Class::Session], &["set"])])),
        ("set role", Ok(vec![sets("role", "admin")])),
        ("set search_path = ''", Ok(vec![sets_path(&[])])),
        ("set client_encoding", Ok(vec![sets("client_encoding", "SJIS")])),
        (
            "select pg_class",
            Ok(vec![reads(
                statement(&[Class::Catalog], &["select"]),
                &["pg_catalog.pg_class"],
            )]),
        ),
        ("select 1", Ok(vec![select(&[])])),
        ("select public.orders", Ok(vec![select(&["public.orders"])])),
        ("select orders", Ok(vec![select(&["orders"])])),
        ("select hr.salaries", Ok(vec![select(&["hr.salaries"])])),
        ("select upper()", Ok(vec![calls(select(&[]), &["upper"])])),
        (
            "explain select",
            Ok(vec![statement(&[Class::Read], &["explain", "select"])]),
        ),
        (
            "select+pg_class",
            Ok(vec![reads(
                statement(&[Class::Read, Class::Catalog], &["select"]),
                &["public.orders", "pg_catalog.pg_class"],
            )]),
        ),
        (
            "select+pg_stats",
            Ok(vec![reads(
                statement(&[Class::Read, Class::Catalog], &["select"]),
                &["public.orders", "pg_catalog.pg_stats"],
            )]),
        ),
        (
            "with delete select",
            Ok(vec![writes(
                statement(&[Class::Read, Class::Write], &["select", "delete"]),
                &["public.orders"],
            )]),
        ),
        ("delete where", Ok(vec![delete("public.orders", true)])),
        ("delete", Ok(vec![delete("public.orders", false)])),
        ("create table", Ok(vec![create_table()])),
        (
            "begin; select; delete",
            Ok(vec![
                begin(),
                select(&["public.orders"]),
                delete("public.orders", false),
            ]),
        ),
        (
            "create table; delete",
            Ok(vec![create_table(), delete("public.orders", true)]),
        ),
        ("select; set role", Ok(vec![select(&[]), sets("role", "admin")])),
        ("do", Ok(vec![statement(&[Class::Opaque], &["do"])])),
        ("(no class)", Ok(vec![statement(&[], &["mystery"])])),
        (
            "(syntax error)",
            Err(Unreadable::Syntax {
                message: "syntax error".into(),
                position: 1,
            }),
        ),
        ("(analyst lost)", Err(Unreadable::AnalystLost)),
    ]
}

#[test]
fn the_matrix_of_rules_and_statements_is_as_committed() {
    let mut out = String::from(
        "Rules down, statements across. A allow, a allow because it comes with access, H hold, D deny by rule,\n\
         n nothing allows, u unreadable, p pinned setting, s setting not opened, - no rules. `!` after it: not cacheable.\n\n",
    );
    let statements = statements();
    for (number, (name, _)) in statements.iter().enumerate() {
        let _ = writeln!(out, "{number:2} {name}");
    }
    let _ = write!(out, "\n{:26}", "");
    for number in 0..statements.len() {
        let _ = write!(out, "{number:3}");
    }
    out.push('\n');
    for (name, rules) in rules() {
        let compiled = compile(rules);
        let _ = write!(out, "{name:26}");
        for (_, statements) in &statements {
            let facts = statements.as_ref().map(|s| Facts {
                statements: s.clone(),
            });
            let verdict = judge_as(&compiled, &alice(), facts.as_ref().map_err(|e| *e));
            let letter = match (verdict.effect, &verdict.why) {
                (Effect::Allow, headgate_policy::Why::ComesWithAccess) => "a",
                (Effect::Allow, _) => "A",
                (Effect::Hold, _) => "H",
                (Effect::Deny, headgate_policy::Why::RuleMatched) => "D",
                (Effect::Deny, headgate_policy::Why::NothingAllows) => "n",
                (Effect::Deny, headgate_policy::Why::Unreadable { .. }) => "u",
                (Effect::Deny, headgate_policy::Why::Pinned { .. }) => "p",
                (Effect::Deny, headgate_policy::Why::NotOpened { .. }) => "s",
                (Effect::Deny, _) => "-",
            };
            let _ = write!(out, " {letter}{}", if verdict.cacheable { " " } else { "!" });
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/policy_matrix.out");
    if std::env::var_os("HEADGATE_BLESS").is_some() {
        std::fs::write(path, &out).expect("the golden file can be written");
    }
    let committed = std::fs::read_to_string(path).expect("tests/policy_matrix.out is committed");
    assert!(
        committed == out,
        "the policy means something else now; run with HEADGATE_BLESS=1 and read the diff:\n{out}"
    );
}
