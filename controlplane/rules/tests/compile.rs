//! `rules.toml` as operators write it, right and wrong.

use headgate_plane::{Class, ClassSet, Effect, Epoch, MaskMethod, OnHold, Weekday};
use headgate_rules::{VERBS, compile};

/// The example of the reference, whole.
const EXAMPLE: &str = r#"
[[rule]]
name = "agents read the shop"
who = { groups = ["agents"] }
target = { names = ["orders"] }
statement = { class = ["read"], relations = ["public.products", "public.orders"] }
effect = "allow"

[[rule]]
name = "schema changes in production need a DBA"
target = { environment = "production", labels = { team = ["shop", "web"] } }
statement = { class = ["ddl"] }
effect = "hold"
reviewers = { groups = ["dba"], quorum = 2 }
wait = "30m"

[[rule]]
name = "no DELETE or UPDATE without WHERE"
statement = { verbs = ["delete", "update"] }
when = "!statement.has_where"
time = { days = ["mon", "fri"], from = "08:00", to = "18:00" }
effect = "deny"
message = "add a WHERE clause"

[[mask]]
name = "contact data"
columns = ["public.customers.email", "public.customers.phone"]
detect = ["email", "payment_card", "us_ssn", "iban", "jwt", "aws_key"]
method = "partial"
unless = { groups = ["privacy-officers"] }
"#;

#[test]
fn the_example_of_the_reference_becomes_a_snapshot() {
    let snapshot = compile(EXAMPLE, Epoch(7)).expect("valid");
    assert_eq!(snapshot.epoch, Epoch(7));
    let [agents, ddl, no_where] = snapshot.rules.as_slice() else {
        panic!("three rules")
    };
    assert_eq!(agents.effect, Effect::Allow);
    assert_eq!(agents.statement.class, Some(ClassSet::of(&[Class::Read])));
    assert_eq!(
        agents.statement.sql().relations,
        ["public.products", "public.orders"]
    );
    assert_eq!(ddl.target.environments, ["production"]);
    assert_eq!(
        ddl.target.labels,
        [("team".into(), "shop".into()), ("team".into(), "web".into())]
    );
    assert_eq!(
        ddl.reviewers.as_ref().map(|r| (r.quorum, r.groups.clone())),
        Some((2, vec!["dba".into()]))
    );
    assert_eq!(ddl.wait_ms, 30 * 60_000);
    let time = no_where.time.as_ref().expect("a window");
    assert_eq!(
        (time.days.as_slice(), time.from_minute, time.to_minute),
        ([Weekday::Mon, Weekday::Fri].as_slice(), 480, 1080)
    );
    assert_eq!(no_where.message.as_deref(), Some("add a WHERE clause"));
    assert_eq!(snapshot.masks[0].method, MaskMethod::Partial);
    assert_eq!(snapshot.masks[0].detect.len(), 6);
    assert_eq!(
        compile("", Epoch(1))
            .expect("no rules is valid, and denies")
            .rules
            .len(),
        0
    );
}

/// The problem of a text with one: place, rule, message.
fn problem(text: &str) -> headgate_rules::Problem {
    let mut problems = compile(text, Epoch(1)).expect_err(text);
    assert_eq!(problems.len(), 1, "{text}: {problems:?}");
    problems.remove(0)
}

fn with_line(line: &str) -> String {
    format!("[[rule]]\nname = \"r\"\neffect = \"allow\"\n{line}\n")
}

#[test]
fn an_unknown_key_is_told_with_its_place_and_the_nearest_name() {
    let found = problem(&with_line("who = { grops = [\"a\"] }"));
    assert_eq!((found.line, found.column, found.rule.as_str()), (4, 9, "r"));
    assert!(found.message.contains("did you mean `groups`"), "{found}");
    let found = problem(
        "[[rule]]\nname = \"first\"\neffect = \"deny\"\n\n[[rule]]\nname = \"second\"\neffect = \"deny\"\nwenn = \"true\"\n",
    );
    assert_eq!((found.line, found.column, found.rule.as_str()), (8, 1, "second"));
    assert!(found.message.contains("did you mean `when`"), "{found}");
    assert_eq!(problem("[[ruel]]\n").line, 1);
    assert_eq!(problem("[[rule]\n").line, 1);
}

#[test]
fn what_no_rule_can_mean_is_refused_where_it_stands() {
    for (line, place, said) in [
        (
            "statement = { class = [\"reed\"] }",
            (4, 24),
            "did you mean `read`",
        ),
        (
            "statement = { verbs = [\"DELETE\"] }",
            (4, 24),
            "did you mean `delete`",
        ),
        (
            "statement = { verbs = [\"truncate\"] }",
            (4, 24),
            "did you mean `truncate table`",
        ),
        (
            "statement = { verbs = [\"frobnicate\"] }",
            (4, 24),
            "no verb `frobnicate`",
        ),
        (
            "statement = { relations = [\"orders\"] }",
            (4, 28),
            "write `public.orders`",
        ),
        ("statement = { relations = [\"a.b*\"] }", (2, 8), "whole name"),
        ("statement = { class = [] }", (4, 23), "empty list"),
        (
            "statement = { class = [\"read\"], danger_unreadable = true }",
            (4, 53),
            "rule of its own",
        ),
        ("who = { groups = [] }", (4, 18), "empty list"),
        ("who = { groups = [\"\"] }", (4, 19), "empty name"),
        ("who = { chain = [\"agent\"] }", (4, 17), "only narrow"),
        ("who = { addresses = [\"10.0.0.0/40\"] }", (2, 8), "CIDR"),
        ("target = { environment = [] }", (4, 26), "empty"),
        ("target = { environment = 1 }", (4, 26), "a string or a list"),
        ("when = \"statement.wher\"", (4, 8), "no field `wher`"),
        ("when = \"statement.verbs ==\"", (4, 8), "when"),
        ("when = \"false\"", (4, 8), "never matches"),
        ("time = { from = \"8:00\" }", (4, 17), "not a time"),
        ("time = { days = [\"monday\"] }", (4, 18), "no day `monday`"),
        (
            "time = { from = \"08:00\", to = \"08:00\" }",
            (4, 8),
            "never open",
        ),
        ("time = {}", (4, 8), "time is empty"),
        ("wait = \"15m\"", (4, 8), "for rules with effect"),
        (
            "reviewers = { groups = [\"dba\"] }",
            (4, 13),
            "for rules with effect",
        ),
        ("data = \"open\"", (4, 8), "for rules with effect"),
        ("on_hold = \"refuse\"", (4, 11), "for rules with effect"),
        (
            "statement = { settings = [\"client_encoding\"] }",
            (4, 27),
            "cannot open it",
        ),
        (
            "statement = { settings = [\"work_mem\"] }",
            (4, 27),
            "every client's own",
        ),
        ("statement = { settings = [\"*\"] }", (4, 27), "lower case"),
        ("message = 1", (4, 11), "string"),
    ] {
        let found = problem(&with_line(line));
        assert_eq!(
            (found.line, found.column, found.rule.as_str()),
            (place.0, place.1, "r"),
            "{line}: {found}"
        );
        assert!(found.message.contains(said), "{line}: {found}");
    }
}

#[test]
fn a_hold_needs_somebody_who_can_say_yes_in_time() {
    let hold = |rest: &str| format!("[[rule]]\nname = \"r\"\neffect = \"hold\"\n{rest}\n");
    for (rest, said) in [
        ("", "needs reviewers"),
        ("reviewers = {}", "names nobody"),
        ("reviewers = { groups = [\"dba\"], quorum = 0 }", "quorum of 0"),
        (
            "reviewers = { principals = [\"ann\"], quorum = 2 }",
            "cannot be met",
        ),
        (
            "reviewers = { groups = [\"dba\"] }\nwait = \"25h\"",
            "24h at most",
        ),
        (
            "reviewers = { groups = [\"dba\"] }\nwait = \"0s\"",
            "denies at once",
        ),
        (
            "reviewers = { groups = [\"dba\"] }\nwait = \"soon\"",
            "not a duration",
        ),
        (
            "reviewers = { groups = [\"dba\"] }\nstatement = { danger_unpinned = true }",
            "for allow rules",
        ),
        (
            "reviewers = { groups = [\"dba\"] }\ndata = \"shut\"",
            "\"open\" only",
        ),
        (
            "reviewers = { groups = [\"dba\"] }\non_hold = \"refused\"",
            "`refused`",
        ),
        (
            "reviewers = { groups = [\"dba\"] }\nstatement = { settings = [\"Role\"] }",
            "lower case",
        ),
    ] {
        let found = problem(&hold(rest));
        assert!(found.message.contains(said), "{rest}: {found}");
    }
    let snapshot = compile(&hold("reviewers = { groups = [\"dba\"] }"), Epoch(1)).expect("valid");
    assert_eq!(snapshot.rules[0].wait_ms, 15 * 60_000);
    assert_eq!(snapshot.rules[0].on_hold, OnHold::Wait, "said or not");
    for (word, meant) in [("wait", OnHold::Wait), ("refuse", OnHold::Refuse)] {
        let rest = format!("reviewers = {{ groups = [\"dba\"] }}\non_hold = \"{word}\"");
        let snapshot = compile(&hold(&rest), Epoch(1)).expect("valid");
        assert_eq!(snapshot.rules[0].on_hold, meant);
    }
    assert_eq!(snapshot.rules[0].reviewers.as_ref().map(|r| r.quorum), Some(1));
}

#[test]
fn a_mask_that_covers_nothing_or_spares_everybody_is_refused() {
    let mask = |rest: &str| format!("[[mask]]\nname = \"m\"\n{rest}\n");
    for (rest, said) in [
        ("", "covers nothing"),
        ("columns = [\"customers.email\"]", "schema.table.column"),
        ("detect = [\"e-mail\"]", "did you mean `email`"),
        ("detect = [\"email\"]\nmethod = \"blur\"", "no method `blur`"),
        ("detect = [\"email\"]\nunless = {}", "everybody"),
        (
            "detect = [\"email\"]\nunless = { chain = [\"agent\"] }",
            "only narrow",
        ),
        ("detect = [\"email\"]\nuntil = 1", "unknown field"),
    ] {
        let found = problem(&mask(rest));
        assert!(found.message.contains(said), "{rest}: {found}");
        assert_eq!(found.rule, "m", "{rest}");
    }
}

#[test]
fn all_problems_of_a_text_are_told_at_once_in_its_order() {
    let text = "[[rule]]\nname = \"a\"\neffect = \"alow\"\n[[rule]]\nname = \"a\"\neffect = \"hold\"\n[[mask]]\nname = \"m\"\n";
    let problems = compile(text, Epoch(1)).expect_err("three");
    let told: Vec<(usize, &str)> = problems.iter().map(|p| (p.line, p.message.as_str())).collect();
    assert_eq!(
        told.iter().map(|t| t.0).collect::<Vec<_>>(),
        [3, 5, 6, 8],
        "{told:?}"
    );
    assert!(told[0].1.contains("did you mean `allow`"));
    assert!(told[1].1.contains("has this name"));
}

#[test]
fn every_verb_that_the_parser_tells_can_be_named() {
    let mut readable = 0;
    for sql in [
        "select 1",
        "table t",
        "values (1)",
        "select * into x from t",
        "insert into t values (1) on conflict do nothing",
        "update t set a = 1",
        "delete from t",
        "merge into t using s on true when matched then delete",
        "with d as (delete from t returning *) select * from d",
        "explain analyze delete from t",
        "prepare p as select 1",
        "execute p",
        "deallocate all",
        "declare c cursor for select 1",
        "fetch all from c",
        "move c",
        "close c",
        "copy t to stdout",
        "copy t from stdin",
        "begin",
        "start transaction",
        "commit",
        "end",
        "rollback",
        "abort",
        "savepoint s",
        "release s",
        "rollback to s",
        "prepare transaction 'x'",
        "commit prepared 'x'",
        "rollback prepared 'x'",
        "set a.b = 1",
        "set transaction isolation level serializable",
        "reset all",
        "show all",
        "discard all",
        "listen c",
        "unlisten *",
        "notify c",
        "load 'x'",
        "lock table t",
        "set constraints all deferred",
        "do 'x'",
        "call p()",
        "checkpoint",
        "vacuum t",
        "analyze t",
        "cluster t",
        "reindex table t",
        "refresh materialized view v",
        "truncate t",
        "grant select on t to r",
        "revoke select on t from r",
        "grant a to b",
        "revoke a from b",
        "alter default privileges grant select on tables to r",
        "create role r",
        "create user r",
        "alter role r login",
        "alter role r set a.b = 1",
        "drop role r",
        "drop owned by r",
        "reassign owned by a to b",
        "create policy p on t",
        "alter policy p on t to r",
        "drop policy p on t",
        "comment on table t is 'x'",
        "security label on table t is 'x'",
        "import foreign schema s from server f into x",
        "alter system set a = 1",
        "create table t (a int)",
        "create table t as select 1",
        "create view v as select 1",
        "create materialized view v as select 1",
        "create schema s",
        "create index on t (a)",
        "create sequence s",
        "alter sequence s restart",
        "create domain d as int",
        "alter domain d drop default",
        "create type t as (a int)",
        "create type t as enum ('a')",
        "alter type t add value 'b'",
        "create statistics s on a, b from t",
        "create tablespace x location '/x'",
        "drop tablespace x",
        "alter table t add column b int",
        "alter table t rename to u",
        "alter table t owner to r",
        "alter table t set schema s",
        "create database d",
        "drop database d",
        "alter database d set a.b = 1",
        "create function f() returns int language sql as 'select 1'",
        "create procedure p() language sql as 'select 1'",
        "alter function f() immutable",
        "drop function f",
        "create aggregate a (int) (sfunc = f, stype = int)",
        "create operator + (function = f, leftarg = int)",
        "create trigger t before insert on t execute function f()",
        "create event trigger e on ddl_command_start execute function f()",
        "create rule r as on select to t do instead nothing",
        "create extension e",
        "alter extension e update",
        "drop extension e",
        "create language l",
        "create cast (int as t) without function",
        "create conversion c for 'a' to 'b' from f",
        "create access method m type index handler h",
        "create operator class o for type int using btree as operator 1 <",
        "create foreign data wrapper w",
        "create server s foreign data wrapper w",
        "create foreign table f (a int) server s",
        "create user mapping for r server s",
        "drop user mapping for r server s",
        "create publication p",
        "create subscription s connection 'x' publication p",
        "alter subscription s disable",
        "drop subscription s",
        "drop table t",
        "drop view v",
        "drop index i",
        "drop schema s cascade",
        "drop owned by r",
        "drop type t",
        "drop sequence s",
        "drop trigger t on t",
        "drop rule r on t",
        "drop cast (int as t)",
        "drop operator + (int, int)",
        "drop aggregate a(int)",
        "drop materialized view v",
        "drop foreign table f",
        "drop server s",
        "create text search configuration c (parser = p)",
        "create collation c (locale = 'C')",
        "create transform for t language l (from sql with function f(internal))",
    ] {
        let facts = headgate_rules::read(sql).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
        readable += 1;
        for verb in facts.statements.iter().flat_map(|s| &s.verbs) {
            assert!(
                VERBS.contains(&verb.as_str()),
                "{sql}: `{verb}` is not among the known verbs"
            );
        }
    }
    assert!(readable > 130, "only {readable} of the statements are readable");
}

#[test]
fn the_sql_table_and_its_older_places_say_the_same() {
    let one = rules(
        "[[rule]]\nname = \"r\"\neffect = \"allow\"\nstatement = { class = [\"read\"], relations = [\"public.a\"], functions = [\"lower\"], settings = [\"role\"], danger_unpinned = true }\n",
    );
    let two = rules(
        "[[rule]]\nname = \"r\"\neffect = \"allow\"\nstatement = { class = [\"read\"] }\nsql = { relations = [\"public.a\"], functions = [\"lower\"], settings = [\"role\"], danger_unpinned = true }\n",
    );
    assert_eq!(one, two);
    let problem = problem(&with_line(
        "statement = { relations = [\"a.b\"] }\nsql = { relations = [\"a.b\"] }",
    ));
    assert!(problem.message.contains("give it once"), "{problem}");
    let columns = rules("[[rule]]\nname = \"r\"\neffect = \"deny\"\nsql = { columns = [\"email\"] }\n");
    assert_eq!(columns.rules[0].statement.sql().columns, ["email"]);
    let mask = rules("[[mask]]\nname = \"m\"\nsql = { columns = [\"public.a.b\"] }\n");
    let older = rules("[[mask]]\nname = \"m\"\ncolumns = [\"public.a.b\"]\n");
    assert_eq!(mask, older);
}

#[test]
fn a_rule_that_means_more_than_databases_is_asked_for_its_protocols() {
    let rule = |rest: &str| format!("[[rule]]\nname = \"r\"\n{rest}\n");
    for (text, said) in [
        (
            rule("effect = \"allow\"\nstatement = { class = [\"command\"] }"),
            "name target.protocols",
        ),
        (
            rule(
                "effect = \"allow\"\nstatement = { class = [\"read\", \"call\"] }\ntarget = { environment = \"test\" }",
            ),
            "class `call` is of no database's statement",
        ),
        (
            rule("effect = \"deny\"\nstatement = { verbs = [\"exec\"] }"),
            "name target.protocols",
        ),
        (
            rule("effect = \"deny\"\nstatement = { resources = [\"orders\"] }"),
            "target.protocols",
        ),
        (
            rule("effect = \"deny\"\ntarget = { protocols = [\"postgras\"] }"),
            "did you mean `postgres`?",
        ),
        (
            rule("effect = \"deny\"\ntarget = { protocols = [] }"),
            "empty list",
        ),
        (
            rule("effect = \"deny\"\ntarget = { protocols = [\"ssh\"] }\nsql = { relations = [\"a.b\"] }"),
            "speaks of sql",
        ),
        (
            rule("effect = \"deny\"\ntarget = { protocols = [\"ssh\"] }\nwhen = \"!sql.has_where\""),
            "speaks of sql",
        ),
    ] {
        let problem = problem(&text);
        assert!(problem.message.contains(said), "{text}{problem}");
    }
    for fine in [
        rule("effect = \"allow\"\nstatement = { class = [\"command\"] }\ntarget = { protocols = [\"ssh\"] }"),
        rule("effect = \"allow\"\nstatement = { class = [\"command\"] }\ntarget = { names = [\"jump\"] }"),
        rule("effect = \"deny\"\nstatement = { class = [\"command\"] }"),
        rule(
            "effect = \"deny\"\nstatement = { verbs = [\"exec\"] }\ntarget = { protocols = [\"ssh\", \"postgres\"] }",
        ),
        rule(
            "effect = \"deny\"\nstatement = { resources = [\"/etc/*\"] }\ntarget = { protocols = [\"ssh\"] }",
        ),
    ] {
        rules(&fine);
    }
}

fn rules(text: &str) -> headgate_plane::Snapshot {
    compile(text, Epoch(1)).unwrap_or_else(|problems| panic!("{text}{problems:?}"))
}
