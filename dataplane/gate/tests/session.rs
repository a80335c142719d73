//! The session against a real PostgreSQL: what a client sees, and what the target got.

mod common;

use common::{Gate, Postgres, rule, snapshot, tags, text, verbs};
use headgate_plane::{
    Class, ClassSet, Effect, MaskMethod, MaskRule, Rule, RuleStatement, RuleTarget, RuleWho,
};
use headgate_postgres::frontend::Kind;
use headgate_postgres::write;

fn rules() -> Vec<Rule> {
    let all = ClassSet::of(&[
        Class::Read,
        Class::Write,
        Class::Ddl,
        Class::Catalog,
        Class::Session,
        Class::Transaction,
        Class::Opaque,
    ]);
    let mut no_where = rule("no DELETE without WHERE", Effect::Deny, verbs(&["delete"]));
    no_where.when = Some("!statement.has_where".to_owned());
    vec![
        rule(
            "everything",
            Effect::Allow,
            RuleStatement {
                class: Some(all),
                ..RuleStatement::default()
            },
        ),
        rule("updates are held", Effect::Hold, verbs(&["update"])),
        rule("no truncate", Effect::Deny, verbs(&["truncate table"])),
        no_where,
    ]
}

fn batch(parts: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (what, text) in parts {
        match *what {
            "parse" => write::parse(&mut out, b"", text.as_bytes(), &[]).unwrap(),
            "bind" => write::bind(&mut out, b"", b"", &[], std::iter::empty(), &[]).unwrap(),
            "describe" => write::describe(&mut out, Kind::Portal, b"").unwrap(),
            "execute" => write::execute(&mut out, b"", 0).unwrap(),
            "sync" => write::sync(&mut out),
            other => panic!("{other}"),
        }
    }
    out
}

fn step(sql: &str) -> Vec<(&'static str, &str)> {
    vec![("parse", sql), ("bind", ""), ("describe", ""), ("execute", "")]
}

#[test]
fn a_session_runs_queries_and_a_denied_one_leaves_it_alive() {
    let postgres = Postgres::start();
    let mut gate = Gate::signed_in(postgres.port, snapshot(rules(), Vec::new()));
    let reply = gate.query("select 1 + 1 as two");
    assert_eq!(tags(&reply), b"TDCZ");
    assert!(text(&reply).contains("SELECT 1"));
    gate.query("create table t (id int primary key, v text); insert into t values (1, 'a'), (2, 'b')");
    let denied = gate.query("truncate t");
    assert_eq!(tags(&denied), b"EZ");
    assert!(
        text(&denied).contains("42501") && text(&denied).contains("no truncate"),
        "{}",
        text(&denied)
    );
    assert!(!text(&gate.sent).contains("truncate t"));
    let reply = gate.query("select count(*) from t");
    assert!(text(&reply).contains('2'));
}

#[test]
fn a_denial_inside_a_transaction_fails_it_as_the_server_would() {
    let postgres = Postgres::start();
    let mut gate = Gate::signed_in(postgres.port, snapshot(rules(), Vec::new()));
    gate.query("create table t (id int)");
    gate.query("begin");
    gate.query("insert into t values (1)");
    let denied = gate.query("delete from t");
    assert_eq!(tags(&denied), b"EZ");
    assert_eq!(denied.last(), Some(&b'E'), "the transaction has failed");
    let after = gate.query("select 1");
    assert!(text(&after).contains("25P02"), "{}", text(&after));
    gate.query("rollback");
    assert!(text(&gate.query("select count(*) from t")).contains("SELECT 1"));
    let rows = gate.query("select id from t");
    assert_eq!(tags(&rows), b"TCZ", "nothing of the transaction stayed");
}

#[test]
fn a_denial_in_a_pipeline_skips_to_sync_and_undoes_what_stood_before_it() {
    let postgres = Postgres::start();
    let mut gate = Gate::signed_in(postgres.port, snapshot(rules(), Vec::new()));
    gate.query("create table t (id int)");
    let before = gate.received.len();
    let mut parts = step("insert into t values (1)");
    parts.extend(step("truncate t"));
    parts.extend(step("insert into t values (2)"));
    parts.push(("sync", ""));
    parts.extend(step("select count(*) from t"));
    parts.push(("sync", ""));
    let ready = gate.tags().iter().filter(|t| **t == b'Z').count();
    gate.client(&batch(&parts));
    gate.until_ready(ready + 2);
    let reply = &gate.received[before..];
    assert_eq!(tags(reply), b"12nCEZ12TDCZ", "{}", text(reply));
    assert!(!text(&gate.sent).contains("truncate") && !text(&gate.sent).contains("values (2)"));
    let row = text(reply);
    assert!(
        row.contains("0SELECT 1") || row.contains("\u{1}0"),
        "the implicit transaction was undone: {row}"
    );
}

#[test]
fn a_held_statement_waits_and_runs_once_when_approved() {
    let postgres = Postgres::start();
    let mut gate = Gate::signed_in(postgres.port, snapshot(rules(), Vec::new()));
    gate.query("create table t (id int); insert into t values (1)");
    let before = gate.received.len();
    let mut message = Vec::new();
    write::query(&mut message, b"update t set id = id + 1").unwrap();
    write::query(&mut message, b"select id from t").unwrap();
    let ready = gate.tags().iter().filter(|t| **t == b'Z').count();
    gate.client(&message);
    for _ in 0..5 {
        gate.pump();
    }
    assert_eq!(tags(&gate.received[before..]), b"N", "only the notice");
    assert!(
        !text(&gate.sent).contains("update t") && !text(&gate.sent).contains("select id from t"),
        "nothing overtakes"
    );
    assert_eq!(gate.questions.len(), 1);
    assert_eq!(gate.questions[0].statement, b"update t set id = id + 1");
    gate.answer(true);
    gate.until_ready(ready + 2);
    assert_eq!(tags(&gate.received[before..]), b"NCZTDCZ");
    assert!(text(&gate.received[before..]).contains('2'));
}

#[test]
fn an_approval_of_something_else_opens_nothing() {
    let postgres = Postgres::start();
    let mut gate = Gate::signed_in(postgres.port, snapshot(rules(), Vec::new()));
    gate.query("create table t (id int)");
    let before = gate.received.len();
    let mut message = Vec::new();
    write::query(&mut message, b"update t set id = 1").unwrap();
    let ready = gate.tags().iter().filter(|t| **t == b'Z').count();
    gate.client(&message);
    gate.questions[0].digest.0[0] ^= 1;
    gate.answer(true);
    gate.until_ready(ready + 1);
    assert_eq!(tags(&gate.received[before..]), b"NEZ");
    assert!(!text(&gate.sent).contains("update t"));
}

#[test]
fn parameters_of_a_bound_statement_are_part_of_the_question() {
    let postgres = Postgres::start();
    let mut gate = Gate::signed_in(postgres.port, snapshot(rules(), Vec::new()));
    gate.query("create table t (id int); insert into t values (1)");
    let mut out = Vec::new();
    write::parse(&mut out, b"s", b"update t set id = $1", &[23]).unwrap();
    write::bind(&mut out, b"", b"s", &[0], [Some(&b"7"[..])].into_iter(), &[]).unwrap();
    write::execute(&mut out, b"", 0).unwrap();
    write::sync(&mut out);
    let ready = gate.tags().iter().filter(|t| **t == b'Z').count();
    gate.client(&out);
    assert_eq!(gate.questions[0].parameters[0].value.as_deref(), Some(&b"7"[..]));
    gate.answer(false);
    gate.until_ready(ready + 1);
    assert!(text(&gate.received).contains("not today"));
    assert!(text(&gate.query("select id from t")).contains('1'));
    assert!(!gate.sent.windows(2).any(|w| w == b"B\0"), "no Bind has left");
}

#[test]
fn masked_columns_are_covered_whatever_their_alias_in_both_formats() {
    let postgres = Postgres::start();
    let mask = MaskRule {
        name: "contact".to_owned(),
        who: RuleWho::default(),
        target: RuleTarget::default(),
        columns: vec!["public.people.email".to_owned()],
        detect: vec!["email".to_owned()],
        method: MaskMethod::Partial,
        unless: None,
    };
    let mut setup = Gate::signed_in(postgres.port, snapshot(rules(), Vec::new()));
    setup.query("create table people (id int, email text, note text)");
    setup.query("insert into people values (1, 'bob@example.org', 'write to carol@example.net'), (2, null, 'nothing')");
    let mut gate = Gate::signed_in(postgres.port, snapshot(rules(), vec![mask]));
    for sql in [
        "select * from people",
        "select email as harmless from people",
        "select lower(email) from people",
        "select p from people p",
        "select string_agg(email, ',') from people",
        "select e || '' from (select email as e from people) x",
        "copy people to stdout",
        "copy (select email from people) to stdout with (format csv)",
        "select email::int from people where id = 1",
        "declare c cursor with hold for select email from people; fetch all from c; close c",
    ] {
        let reply = text(&gate.query(sql));
        assert!(!reply.contains("bob@example.org"), "{sql}: {reply}");
        assert!(!reply.contains("carol@example.net"), "{sql}: {reply}");
    }
    let reply = text(&gate.query("select id, note from people where id = 2"));
    assert!(reply.contains("nothing"), "{reply}");
    // Execute without Describe, in binary.
    let mut out = Vec::new();
    write::parse(&mut out, b"", b"select email, id from people order by id", &[]).unwrap();
    write::bind(&mut out, b"", b"", &[], std::iter::empty(), &[1]).unwrap();
    write::execute(&mut out, b"", 0).unwrap();
    write::sync(&mut out);
    let before = gate.received.len();
    let ready = gate.tags().iter().filter(|t| **t == b'Z').count();
    gate.client(&out);
    gate.until_ready(ready + 1);
    assert_eq!(
        tags(&gate.received[before..]),
        b"12DDCZ",
        "our own Describe stays unseen"
    );
    assert!(!text(&gate.received[before..]).contains("bob@example.org"));
}

#[test]
fn copy_in_works_in_simple_and_extended_use() {
    let postgres = Postgres::start();
    let mut gate = Gate::signed_in(postgres.port, snapshot(rules(), Vec::new()));
    gate.query("create table t (id int)");
    let ready = gate.tags().iter().filter(|t| **t == b'Z').count();
    let mut out = Vec::new();
    write::query(&mut out, b"copy t from stdin").unwrap();
    write::copy_data(&mut out, b"1\n2\n").unwrap();
    write::copy_done(&mut out);
    gate.client(&out);
    gate.until_ready(ready + 1);
    assert!(text(&gate.received).contains("COPY 2"));
    // As pgjdbc does it: Sync comes before the data and is skipped by the server.
    let mut out = batch(&[
        ("parse", "copy t from stdin"),
        ("bind", ""),
        ("execute", ""),
        ("sync", ""),
    ]);
    write::copy_data(&mut out, b"3\n").unwrap();
    write::copy_done(&mut out);
    write::sync(&mut out);
    gate.client(&out);
    gate.until_ready(ready + 2);
    assert!(text(&gate.received).contains("COPY 1"));
    assert!(text(&gate.query("select sum(id) from t")).contains('6'));
}

#[test]
fn a_query_hidden_in_a_supposed_copy_stream_is_judged() {
    let postgres = Postgres::start();
    let mut gate = Gate::signed_in(postgres.port, snapshot(rules(), Vec::new()));
    gate.query("create table t (id int); insert into t values (1)");
    let ready = gate.tags().iter().filter(|t| **t == b'Z').count();
    let mut out = Vec::new();
    write::query(&mut out, b"copy nosuch from stdin").unwrap();
    write::copy_data(&mut out, b"1\n").unwrap();
    write::query(&mut out, b"truncate t").unwrap();
    write::copy_done(&mut out);
    gate.client(&out);
    gate.until_ready(ready + 2);
    assert!(!text(&gate.sent).contains("truncate"));
    assert!(text(&gate.query("select count(*) from t")).contains('1'));
}

#[test]
fn a_skipped_parse_does_not_change_what_a_name_means() {
    let postgres = Postgres::start();
    let mut gate = Gate::signed_in(postgres.port, snapshot(rules(), Vec::new()));
    gate.query("create table t (id int); insert into t values (1)");
    let ready = gate.tags().iter().filter(|t| **t == b'Z').count();
    let mut out = Vec::new();
    // "s" is a held UPDATE at the target; then an error, behind which Parse of a harmless "s" is skipped.
    write::parse(&mut out, b"s", b"update t set id = 99", &[]).unwrap();
    write::sync(&mut out);
    write::parse(&mut out, b"", b"select no such syntax here", &[]).unwrap();
    write::close(&mut out, Kind::Statement, b"s").unwrap();
    write::parse(&mut out, b"s", b"select 1", &[]).unwrap();
    write::sync(&mut out);
    write::bind(&mut out, b"", b"s", &[], std::iter::empty(), &[]).unwrap();
    write::execute(&mut out, b"", 0).unwrap();
    write::sync(&mut out);
    gate.client(&out);
    gate.until_ready(ready + 2);
    for _ in 0..5 {
        gate.pump();
    }
    assert_eq!(gate.questions.len(), 1, "Bind of s is the UPDATE, and is held");
    gate.answer(false);
    gate.until_ready(ready + 3);
    assert!(text(&gate.query("select id from t")).contains('1'));
}

#[test]
fn every_split_of_the_clients_bytes_gives_the_same_replies() {
    let postgres = Postgres::start();
    let mut parts = step("select 1");
    parts.extend(step("truncate nothing"));
    parts.push(("sync", ""));
    let mut bytes = batch(&parts);
    write::query(&mut bytes, b"select 'x'; select 2").unwrap();
    let mut whole = None;
    for cut in 0..bytes.len() {
        let mut gate = Gate::signed_in(postgres.port, snapshot(rules(), Vec::new()));
        let before = gate.received.len();
        gate.client(&bytes[..cut]);
        gate.client(&bytes[cut..]);
        gate.until_ready(3);
        let reply = gate.received[before..].to_vec();
        assert_eq!(whole.get_or_insert_with(|| reply.clone()), &reply, "cut at {cut}");
    }
}

#[test]
fn an_error_at_commit_quotes_no_masked_value() {
    let postgres = Postgres::start();
    let mask = MaskRule {
        name: "contact".to_owned(),
        who: RuleWho::default(),
        target: RuleTarget::default(),
        columns: vec!["public.people.nick".to_owned()],
        detect: Vec::new(),
        method: MaskMethod::Redact,
        unless: None,
    };
    let mut setup = Gate::signed_in(postgres.port, snapshot(rules(), Vec::new()));
    setup.query("create table people (id int, nick text unique deferrable initially deferred)");
    setup.query("insert into people values (1, 'secretnick')");
    let mut gate = Gate::signed_in(postgres.port, snapshot(rules(), vec![mask]));
    gate.query("begin");
    gate.query("insert into people select 2, nick from people");
    let reply = text(&gate.query("commit"));
    assert!(
        reply.contains("23505") && !reply.contains("secretnick"),
        "{reply}"
    );
}

#[test]
fn a_table_made_in_the_same_transaction_is_doubt() {
    let postgres = Postgres::start();
    let mask = MaskRule {
        name: "contact".to_owned(),
        who: RuleWho::default(),
        target: RuleTarget::default(),
        columns: vec!["public.people.nick".to_owned()],
        detect: Vec::new(),
        method: MaskMethod::Redact,
        unless: None,
    };
    let mut setup = Gate::signed_in(postgres.port, snapshot(rules(), Vec::new()));
    setup.query("create table people (id int, nick text); insert into people values (1, 'secretnick')");
    let mut gate = Gate::signed_in(postgres.port, snapshot(rules(), vec![mask]));
    gate.query("begin");
    gate.query("alter table people rename to persons");
    gate.query("alter table persons rename nick to harmless");
    for sql in [
        "select harmless from persons",
        "copy persons to stdout",
        "select harmless || '' from persons",
    ] {
        let reply = text(&gate.query(sql));
        assert!(!reply.contains("secretnick"), "{sql}: {reply}");
    }
    gate.query("rollback");
    assert!(!text(&gate.query("select nick from people")).contains("secretnick"));
}

#[test]
fn every_split_of_the_targets_bytes_gives_the_same_reply() {
    let postgres = Postgres::start();
    let mask = MaskRule {
        name: "contact".to_owned(),
        who: RuleWho::default(),
        target: RuleTarget::default(),
        columns: vec!["public.people.nick".to_owned()],
        detect: vec!["email".to_owned(), "payment_card".to_owned()],
        method: MaskMethod::Partial,
        unless: None,
    };
    let rules = snapshot(rules(), vec![mask]);
    let mut setup = Gate::signed_in(postgres.port, snapshot(self::rules(), Vec::new()));
    setup.query("create table people (id int, nick text, note text)");
    setup.query("insert into people values (1, 'secretnick', 'card 4111 1111 1111 1111 ok'), (2, null, 'bob@example.org')");
    let mut gate = Gate::signed_in(postgres.port, rules.clone());
    let from = gate.log.len();
    gate.query("select * from people; copy people (id, note) to stdout; select nick::int from people");
    let mut out = Vec::new();
    write::parse(&mut out, b"", b"select note, nick from people order by id", &[]).unwrap();
    write::bind(&mut out, b"", b"", &[], std::iter::empty(), &[1]).unwrap();
    write::execute(&mut out, b"", 1).unwrap();
    write::execute(&mut out, b"", 0).unwrap();
    write::sync(&mut out);
    let ready = gate.tags().iter().filter(|t| **t == b'Z').count();
    gate.client(&out);
    gate.until_ready(ready + 1);
    let log = std::mem::take(&mut gate.log);
    let catalog = gate.scripted_catalog.clone();
    let whole = Gate::replay(rules.clone(), catalog.clone(), &log, from, usize::MAX, 0);
    for clear in ["secretnick", "1111 1111", "bob@example.org"] {
        assert!(!text(&whole).contains(clear), "{clear} in {}", text(&whole));
    }
    for step in from..log.len() {
        for cut in 1..log[step].1.len() {
            assert_eq!(
                Gate::replay(rules.clone(), catalog.clone(), &log, from, step, cut),
                whole,
                "step {step} cut at {cut}"
            );
        }
    }
}

#[test]
fn a_pipeline_longer_than_the_queue_does_not_stall() {
    let postgres = Postgres::start();
    let mut gate = Gate::signed_in(postgres.port, snapshot(rules(), Vec::new()));
    gate.query("create table t (id int)");
    let ready = gate.tags().iter().filter(|t| **t == b'Z').count();
    let mut parts = Vec::new();
    for _ in 0..4_000 {
        parts.extend(step("insert into t values (1)"));
    }
    parts.push(("sync", ""));
    gate.client(&batch(&parts));
    gate.until_ready(ready + 1);
    assert!(text(&gate.query("select count(*) from t")).contains("4000"));
}

#[test]
fn a_prepared_statement_whose_table_was_exchanged_is_covered_anew() {
    let postgres = Postgres::start();
    let mask = MaskRule {
        name: "contact".to_owned(),
        who: RuleWho::default(),
        target: RuleTarget::default(),
        columns: vec!["public.people.nick".to_owned()],
        detect: Vec::new(),
        method: MaskMethod::Redact,
        unless: None,
    };
    let mut setup = Gate::signed_in(postgres.port, snapshot(rules(), Vec::new()));
    setup.query("create table people (id int, nick text); insert into people values (1, 'secretnick')");
    setup.query("create table plain (id int, nick text); insert into plain values (1, 'harmless')");
    let mut gate = Gate::signed_in(postgres.port, snapshot(rules(), vec![mask]));
    let run = |gate: &mut Gate, parse: bool| {
        let mut out = Vec::new();
        if parse {
            write::parse(&mut out, b"s", b"select nick from plain", &[]).unwrap();
        }
        write::bind(&mut out, b"", b"s", &[], std::iter::empty(), &[]).unwrap();
        write::execute(&mut out, b"", 0).unwrap();
        write::sync(&mut out);
        let (before, ready) = (
            gate.received.len(),
            gate.tags().iter().filter(|t| **t == b'Z').count(),
        );
        gate.client(&out);
        gate.until_ready(ready + 1);
        text(&gate.received[before..])
    };
    assert!(run(&mut gate, true).contains("harmless"));
    gate.query("alter table plain rename to other; alter table people rename to plain");
    let reply = run(&mut gate, false);
    assert!(!reply.contains("secretnick"), "{reply}");
}

#[test]
fn a_notice_of_the_targets_sign_in_reaches_only_who_may_read_everything() {
    let postgres = Postgres::start();
    let long = "x".repeat(65);
    let free = Gate::signed_in_with(
        postgres.port,
        snapshot(rules(), Vec::new()),
        &[("application_name", &long)],
    );
    let tags = free.tags();
    let at = |tag| tags.iter().rposition(|t| *t == tag);
    assert!(
        text(&free.received).contains("will be truncated"),
        "{}",
        text(&free.received)
    );
    // Its place is the server's own: behind AuthenticationOk, before the parameters.
    assert!(at(b'R') < at(b'N') && at(b'N') < tags.iter().position(|t| *t == b'S'));

    let mask = MaskRule {
        name: "contact".to_owned(),
        who: RuleWho::default(),
        target: RuleTarget::default(),
        columns: vec!["public.people.nick".to_owned()],
        detect: Vec::new(),
        method: MaskMethod::Redact,
        unless: None,
    };
    let masked = Gate::signed_in_with(
        postgres.port,
        snapshot(rules(), vec![mask]),
        &[("application_name", &long)],
    );
    assert!(!text(&masked.received).contains("will be truncated"));
}

#[test]
fn a_cursor_of_a_held_statement_is_not_read_by_execute() {
    let postgres = Postgres::start();
    let mut rules = rules();
    rules.push(rule("cursors are held", Effect::Hold, verbs(&["declare cursor"])));
    let mut gate = Gate::signed_in(postgres.port, snapshot(rules, Vec::new()));
    gate.query("create table setup (id int)");
    let ready = |gate: &Gate| gate.tags().iter().filter(|t| **t == b'Z').count();
    let before = ready(&gate);
    let mut out = Vec::new();
    write::query(&mut out, b"begin").unwrap();
    write::query(&mut out, b"declare c cursor for select id from setup").unwrap();
    gate.client(&out);
    gate.until_ready(before + 1);
    assert!(!gate.questions.is_empty());
    gate.answer(true);
    gate.until_ready(before + 2);
    let mut out = Vec::new();
    write::execute(&mut out, b"c", 0).unwrap();
    write::sync(&mut out);
    gate.client(&out);
    gate.until_ready(before + 3);
    let last = text(&gate.received);
    assert!(last.contains("FETCH"), "{last}");
}

#[test]
fn a_query_sent_with_the_password_is_answered() {
    let postgres = Postgres::start();
    let mut gate = Gate::new(postgres.port, snapshot(rules(), Vec::new()));
    let mut hello = Vec::new();
    write::startup(&mut hello, 0, &[("user", "alice"), ("database", "shop")]).unwrap();
    write::password(&mut hello, b"token").unwrap();
    write::query(&mut hello, b"select 4711").unwrap();
    gate.client(&hello);
    gate.until_ready(2);
    assert!(text(&gate.received).contains("4711"), "{}", text(&gate.received));
}
