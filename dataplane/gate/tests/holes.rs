//! Holes that were once shown against the running product, each with what is right now. The kinds are searched by
//! `model`; these are the inputs that began it. `G1` and the like are their names in the list of cases.

mod common;

use common::{Gate, Postgres, all_classes, rule, snapshot, tags, text, value, verbs};
use headgate_plane::{
    Answer, Effect, MaskMethod, MaskRule, Rule, RuleSql, RuleStatement, RuleTarget, RuleWho, ToControl,
    Withdrawal,
};
use headgate_postgres::frontend::Kind;
use headgate_postgres::write;
use headgate_recording::{Body, Direction, StatementOutcome, StreamOutcome, Verdict};

fn everything() -> Rule {
    rule(
        "everything",
        Effect::Allow,
        RuleStatement {
            class: Some(all_classes()),
            ..RuleStatement::default()
        },
    )
}

fn contact(columns: &[&str]) -> MaskRule {
    MaskRule {
        name: "contact".to_owned(),
        who: RuleWho::default(),
        target: RuleTarget::default(),
        columns: columns.iter().map(|c| (*c).to_owned()).collect(),
        detect: Vec::new(),
        method: MaskMethod::Redact,
        unless: None,
    }
}

fn owner(postgres: &Postgres) -> Gate {
    Gate::signed_in(postgres.port, snapshot(vec![everything()], Vec::new()))
}

fn query(out: &mut Vec<u8>, text: &str) {
    write::query(out, text.as_bytes()).unwrap();
}

fn parse(out: &mut Vec<u8>, name: &str, text: &str) {
    write::parse(out, name.as_bytes(), text.as_bytes(), &[]).unwrap();
}

fn bind(out: &mut Vec<u8>, portal: &str, name: &str) {
    write::bind(
        out,
        portal.as_bytes(),
        name.as_bytes(),
        &[],
        std::iter::empty(),
        &[],
    )
    .unwrap();
}

fn execute(out: &mut Vec<u8>, portal: &str, rows: i32) {
    write::execute(out, portal.as_bytes(), rows).unwrap();
}

/// G1: a COPY that fails in the middle, with a Sync amid its data.
#[test]
fn a_sync_amid_copy_data_that_fail_ends_the_session_and_nothing_held_runs() {
    let postgres = Postgres::start();
    owner(&postgres).query("create table t (i int); create table precious (a int)");
    let rules = vec![
        everything(),
        rule("ddl is held", Effect::Hold, verbs(&["drop table"])),
    ];
    let mut gate = Gate::signed_in(postgres.port, snapshot(rules, Vec::new()));
    let mut out = Vec::new();
    parse(&mut out, "s", "select 1");
    write::sync(&mut out);
    gate.client(&out);
    gate.until_ready(2);
    let mut out = Vec::new();
    parse(&mut out, "", "copy t from stdin");
    bind(&mut out, "", "");
    execute(&mut out, "", 0);
    write::flush(&mut out);
    gate.client(&out);
    gate.until_tag(b'G');
    let mut out = Vec::new();
    write::copy_data(&mut out, b"x\n").unwrap();
    write::sync(&mut out);
    write::copy_done(&mut out);
    query(&mut out, "select pg_sleep(0.1)");
    write::close(&mut out, Kind::Statement, b"s").unwrap();
    parse(&mut out, "s", "drop table precious");
    write::sync(&mut out);
    query(&mut out, "select 0");
    bind(&mut out, "", "s");
    execute(&mut out, "", 0);
    write::sync(&mut out);
    gate.client(&out);
    gate.until_ended();
    assert!(
        text(&gate.received).contains("Sync stood amid its data"),
        "{}",
        text(&gate.received)
    );
    assert!(gate.questions.is_empty());
    assert_eq!(
        value(&owner(&postgres).query("select count(*) from precious")),
        "0"
    );
}

/// G2: the same in a simple Query.
#[test]
fn a_statement_amid_copy_data_ends_the_session_before_a_byte_of_it() {
    let postgres = Postgres::start();
    owner(&postgres).query("create table t (i int); create table customers (phone text); insert into customers values ('0451-777')");
    let mut gate = Gate::signed_in(
        postgres.port,
        snapshot(vec![everything()], vec![contact(&["public.customers.phone"])]),
    );
    let mut out = Vec::new();
    query(&mut out, "copy t from stdin");
    gate.client(&out);
    gate.until_tag(b'G');
    let mut out = Vec::new();
    write::copy_data(&mut out, b"x\n").unwrap();
    write::sync(&mut out);
    query(&mut out, "select phone||'' from customers");
    query(&mut out, "select 1");
    gate.client(&out);
    gate.until_ended();
    assert!(!text(&gate.received).contains("0451"), "{}", text(&gate.received));
    assert!(!text(&gate.sent).contains("from customers"));
}

#[test]
fn a_copy_that_fails_is_followed_by_what_the_server_answers() {
    let postgres = Postgres::start();
    owner(&postgres).query("create table t (i int)");
    let mut gate = owner(&postgres);
    // Extended, with the Sync before the data, as tokio-postgres does it.
    let mut out = Vec::new();
    parse(&mut out, "", "copy t from stdin");
    bind(&mut out, "", "");
    execute(&mut out, "", 0);
    write::sync(&mut out);
    gate.client(&out);
    gate.until_tag(b'G');
    let mut out = Vec::new();
    write::copy_data(&mut out, b"x\n").unwrap();
    write::copy_done(&mut out);
    write::sync(&mut out);
    query(&mut out, "select 'after'");
    gate.client(&out);
    gate.until_ready(3);
    assert_eq!(
        tags(&gate.received[gate.greeting..]),
        b"12GEZTDCZ",
        "{}",
        text(&gate.received)
    );
    // Simple, and data that still come behind the error are what the server ignores.
    let before = gate.received.len();
    let mut out = Vec::new();
    query(&mut out, "copy t from stdin");
    write::copy_data(&mut out, b"1\n").unwrap();
    write::copy_fail(&mut out, b"changed my mind").unwrap();
    write::copy_data(&mut out, b"2\n").unwrap();
    write::copy_done(&mut out);
    query(&mut out, "select count(*) from t");
    gate.client(&out);
    gate.until_ready(5);
    assert_eq!(
        tags(&gate.received[before..]),
        b"GEZTDCZ",
        "{}",
        text(&gate.received[before..])
    );
    assert!(text(&gate.received[before..]).contains("changed my mind"));
}

#[test]
fn several_copies_in_one_query_each_get_their_data() {
    let postgres = Postgres::start();
    owner(&postgres).query("create table a (i int); create table b (i int)");
    let mut gate = owner(&postgres);
    let mut out = Vec::new();
    query(&mut out, "copy a from stdin; select 'between'; copy b from stdin");
    for data in [&b"1\n"[..], b"2\n"] {
        write::copy_data(&mut out, data).unwrap();
        write::copy_done(&mut out);
    }
    query(
        &mut out,
        "select (select sum(i) from a) * 10 + (select sum(i) from b)",
    );
    gate.client(&out);
    gate.until_ready(3);
    assert_eq!(
        tags(&gate.received[gate.greeting..]),
        b"GCTDCGCZTDCZ",
        "{}",
        text(&gate.received)
    );
    assert_eq!(
        value(&gate.query("select (select sum(i) from a) * 10 + (select sum(i) from b)")),
        "12"
    );
}

/// G3: the target says that it reads otherwise than the judge.
#[test]
fn a_pin_that_the_target_reports_otherwise_ends_the_session() {
    let postgres = Postgres::start();
    owner(&postgres).query(
        "create view v2 as select * from pg_settings; create table salaries (who text, eur int); insert into salaries values ('eve', 4711)",
    );
    let mut salaries = rule(
        "salaries",
        Effect::Deny,
        RuleStatement::of_sql(RuleSql {
            relations: vec!["public.salaries".to_owned()],
            ..RuleSql::default()
        }),
    );
    salaries.message = None;
    let mut gate = Gate::signed_in(postgres.port, snapshot(vec![everything(), salaries], Vec::new()));
    let mut out = Vec::new();
    query(
        &mut out,
        "update v2 set setting = 'off' where name = 'standard_conforming_strings'",
    );
    query(&mut out, "select 'a\\', ' , who, eur from salaries --'");
    gate.client(&out);
    gate.until_ended();
    assert!(!text(&gate.received).contains("4711"), "{}", text(&gate.received));
    assert!(
        text(&gate.received).contains("57P01")
            && text(&gate.received).contains("standard_conforming_strings"),
        "{}",
        text(&gate.received)
    );
    let records = gate.records();
    assert!(
        records.iter().any(|r| matches!(r, Body::SessionClose { reason, .. } if reason.contains("standard_conforming_strings"))),
        "{records:?}"
    );
}

/// G4: every kind of message, with a spool that has less and less room.
#[test]
fn nothing_goes_to_the_target_that_was_not_recorded() {
    let postgres = Postgres::start();
    owner(&postgres).query("create table log (n int); create table notes (body text)");
    let long: String = (0..300)
        .map(|n| format!(" or exists(select from rel_{n:06})"))
        .collect();
    let long = format!("insert into log select $1::int where true or false and (false{long})");
    owner(&postgres).query(
        &(0..300)
            .map(|n| format!("create table rel_{n:06} (i int);"))
            .collect::<String>(),
    );
    let mut gate = owner(&postgres);
    let mut out = Vec::new();
    parse(&mut out, "s", &long);
    write::sync(&mut out);
    gate.client(&out);
    gate.until_ready(2);
    let mut sent = 0;
    gate.stop_recorder();
    // Until the session waits: whatever was forwarded by then must stand in the recording.
    for _ in 0..4_000 {
        let mut out = Vec::new();
        write::bind(&mut out, b"", b"s", &[], [Some(&b"1"[..])].into_iter(), &[]).unwrap();
        execute(&mut out, "", 0);
        write::sync(&mut out);
        gate.client(&out);
        for _ in 0..3 {
            gate.pump();
        }
        sent += 1;
        if gate.session.waits_for_room() {
            break;
        }
    }
    assert!(
        gate.session.waits_for_room(),
        "the spool was to be full after {sent} statements"
    );
    let rows: usize = value(&owner(&postgres).query("select count(*) from log"))
        .parse()
        .unwrap();
    let records = gate.records();
    let statements = records
        .iter()
        .filter(|r| matches!(r, Body::Statement { text, .. } if text == long.as_bytes()))
        .count();
    assert!(
        rows <= statements,
        "{rows} rows were inserted, {statements} statements recorded"
    );
    assert!(statements > 0);
    // With room again it goes on, and every statement is there.
    gate.drain_recorder();
    gate.tick();
    for _ in 0..50 {
        gate.pump();
    }
    assert!(!gate.session.is_ended(), "{}", text(&gate.received));
}

/// G5, G14: what EXECUTE stands for is shown and bound.
#[test]
fn a_reviewer_sees_what_execute_runs() {
    let postgres = Postgres::start();
    owner(&postgres).query("create table orders (id int); insert into orders values (1), (2000)");
    let rules = vec![
        everything(),
        rule("deletes are held", Effect::Hold, verbs(&["delete"])),
    ];
    let mut gate = Gate::signed_in(postgres.port, snapshot(rules, Vec::new()));
    let mut out = Vec::new();
    parse(&mut out, "refresh_cache", "delete from orders where id < $1");
    write::sync(&mut out);
    query(&mut out, "execute refresh_cache(1000)");
    gate.client(&out);
    gate.until_question();
    let question = gate.questions.last().unwrap().clone();
    assert_eq!(question.statement, b"execute refresh_cache(1000)");
    assert_eq!(question.stands_for[0].text, b"delete from orders where id < $1");
    gate.answer(true);
    gate.until_ready(3);
    assert_eq!(
        value(&gate.query("select id from orders")),
        "2000",
        "one was deleted"
    );
    let records = gate.records();
    let held = records.iter().find_map(|r| match r {
        Body::Statement {
            verdict: Verdict::Hold,
            stands_for,
            ..
        } => Some(stands_for.clone()),
        _ => None,
    });
    assert_eq!(held.unwrap(), [b"delete from orders where id < $1"]);
}

/// G6: nobody approves data that nobody has seen, unless the rule says so.
#[test]
fn a_held_copy_from_is_refused_unless_its_rule_opens_the_data() {
    let postgres = Postgres::start();
    owner(&postgres).query("create table notes (body text)");
    let held = |open| {
        let mut held = rule("copies are held", Effect::Hold, verbs(&["copy from"]));
        held.data_open = open;
        snapshot(vec![everything(), held], Vec::new())
    };
    let mut gate = Gate::signed_in(postgres.port, held(false));
    let reply = gate.query("copy notes from stdin");
    assert!(text(&reply).contains("data = \"open\""), "{}", text(&reply));
    assert!(gate.questions.is_empty());
    let mut gate = Gate::signed_in(postgres.port, held(true));
    let mut out = Vec::new();
    query(&mut out, "copy notes from stdin");
    write::copy_data(&mut out, b"hello\n").unwrap();
    write::copy_done(&mut out);
    gate.client(&out);
    gate.until_question();
    assert!(gate.questions[0].open_data);
    gate.answer(true);
    gate.until_ready(2);
    assert!(text(&gate.query("select body from notes")).contains("hello"));
}

/// G7: what one session may keep has a bound in bytes.
#[test]
fn prepared_statements_have_a_budget_in_bytes() {
    let postgres = Postgres::start();
    let mut gate = owner(&postgres);
    gate.core.settings.session_bytes_max = 4 << 20;
    let mut gate = gate.again();
    let mut refused = None;
    for n in 0..400 {
        let mut out = Vec::new();
        parse(
            &mut out,
            &format!("s{n}"),
            &format!("select {n} /* {} */", "x".repeat(100_000)),
        );
        write::sync(&mut out);
        let before = gate.received.len();
        gate.client(&out);
        gate.until_ready(n + 2);
        if tags(&gate.received[before..]).contains(&b'E') {
            refused = Some((n, text(&gate.received[before..])));
            break;
        }
    }
    let (n, words) = refused.expect("a budget of 4 MiB");
    assert!((10..60).contains(&n) && words.contains("53200"), "{n}: {words}");
    // It lives, and with room again it goes on.
    gate.query("deallocate all");
    let mut out = Vec::new();
    parse(&mut out, "again", "select 1");
    write::sync(&mut out);
    let before = gate.received.len();
    gate.client(&out);
    gate.until_ready(n + 4);
    assert_eq!(tags(&gate.received[before..]), b"1Z");
}

/// G8: data of COPY IN stand in the recording, up to the cap, and all of it by digest.
#[test]
fn data_of_copy_in_is_recorded() {
    let postgres = Postgres::start();
    owner(&postgres).query("create table notes (body text)");
    let mut gate = owner(&postgres);
    let mut out = Vec::new();
    query(&mut out, "copy notes from stdin");
    for line in [&b"the canary sings\n"[..], b"and again\n"] {
        write::copy_data(&mut out, line).unwrap();
    }
    write::copy_done(&mut out);
    gate.client(&out);
    gate.until_ready(2);
    let records = gate.records();
    let data: Vec<u8> = records
        .iter()
        .filter_map(|r| match r {
            Body::Stream {
                direction: Direction::ToTarget,
                bytes,
                ..
            } => Some(bytes.clone()),
            _ => None,
        })
        .flatten()
        .collect();
    assert_eq!(data, b"the canary sings\nand again\n");
    let end = records.iter().find_map(|r| match r {
        Body::StreamEnd {
            bytes,
            rows,
            truncated,
            outcome,
            digest,
            ..
        } => Some((*bytes, *rows, *truncated, *outcome, *digest)),
        _ => None,
    });
    let digest: [u8; 32] = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &data)
        .as_ref()
        .try_into()
        .unwrap();
    assert_eq!(
        end.unwrap(),
        (data.len() as u64, 2, false, StreamOutcome::Done, digest)
    );
}

/// G9: what prepares a statement is recorded, bound or not.
#[test]
fn a_parse_that_is_never_bound_is_recorded_once() {
    let postgres = Postgres::start();
    let mut gate = owner(&postgres);
    let mut out = Vec::new();
    for _ in 0..3 {
        parse(&mut out, "", "select 'never bound'");
        write::sync(&mut out);
    }
    gate.client(&out);
    gate.until_ready(4);
    let records = gate.records();
    let prepared = records
        .iter()
        .filter(|r| matches!(r, Body::Prepared { text, .. } if text == b"select 'never bound'"))
        .count();
    assert_eq!(prepared, 1, "once for a name and text: {records:?}");
}

/// G10: a question falls away with the batch that it stood in.
#[test]
fn a_held_bind_whose_batch_fails_is_withdrawn() {
    let postgres = Postgres::start();
    owner(&postgres).query("create table t (id int)");
    let rules = vec![
        everything(),
        rule("updates are held", Effect::Hold, verbs(&["update"])),
    ];
    let mut gate = Gate::signed_in(postgres.port, snapshot(rules, Vec::new()));
    let mut out = Vec::new();
    parse(&mut out, "", "select 1/0 from pg_sleep(0.2)");
    bind(&mut out, "", "");
    execute(&mut out, "", 0);
    write::flush(&mut out);
    parse(&mut out, "u", "update t set id = 1");
    bind(&mut out, "u", "u");
    execute(&mut out, "u", 0);
    write::sync(&mut out);
    gate.client(&out);
    gate.until_question();
    gate.until_ready(2);
    assert!(
        gate.control
            .iter()
            .any(|m| matches!(m, ToControl::Withdraw { .. })),
        "{:?}",
        gate.control
    );
    assert!(
        !text(&gate.received).contains("UPDATE"),
        "{}",
        text(&gate.received)
    );
}

/// G11: an approval that waits for room can be taken back, and expires.
#[test]
fn an_approval_that_waits_for_room_can_be_taken_back() {
    let postgres = Postgres::start();
    owner(&postgres).query("create table t (id int); insert into t values (1)");
    let rules = vec![
        everything(),
        rule("updates are held", Effect::Hold, verbs(&["update"])),
    ];
    for late in [false, true] {
        let mut gate = Gate::signed_in(postgres.port, snapshot(rules.clone(), Vec::new()));
        let mut out = Vec::new();
        query(&mut out, "update t set id = 99");
        gate.client(&out);
        gate.until_question();
        gate.fill_spool();
        gate.answer(true);
        assert!(gate.session.waits_for_room());
        assert!(!text(&gate.sent).contains("id = 99"));
        let key = gate.questions[0].key;
        if late {
            gate.core.clock.now_us += 61_000_000;
        } else {
            gate.session
                .answered(&mut gate.core, key, Answer::Revoked { by: "bob".to_owned() });
        }
        gate.drain_recorder();
        gate.tick();
        gate.until_ready(2);
        assert!(
            text(&gate.received).contains(if late { "HG002" } else { "HG003" }),
            "{}",
            text(&gate.received)
        );
        assert!(!text(&gate.sent).contains("id = 99"));
    }
    assert_eq!(value(&owner(&postgres).query("select id from t")), "1");
}

/// G13: names that are one to the server are one here.
#[test]
fn a_name_is_what_the_server_makes_of_it() {
    let postgres = Postgres::start();
    owner(&postgres).query("create table orders (id int); insert into orders values (1)");
    let rules = vec![
        everything(),
        rule("deletes are held", Effect::Hold, verbs(&["delete"])),
    ];
    let mut gate = Gate::signed_in(postgres.port, snapshot(rules, Vec::new()));
    let name = |last: &str| format!("{}{last}", "a".repeat(63));
    let mut out = Vec::new();
    parse(&mut out, &name("1"), "select 1");
    write::sync(&mut out);
    write::close(&mut out, Kind::Statement, name("2").as_bytes()).unwrap();
    parse(&mut out, &name("3"), "delete from orders where true");
    write::sync(&mut out);
    bind(&mut out, "", &name("1"));
    execute(&mut out, "", 0);
    write::sync(&mut out);
    gate.client(&out);
    gate.until_question();
    assert_eq!(gate.questions[0].statement, b"delete from orders where true");
    gate.answer(false);
    gate.until_ready(4);
    assert_eq!(value(&owner(&postgres).query("select id from orders")), "1");
}

/// Wire and SQL names are compared with what the server has, over lengths around its limit and characters of several bytes.
#[test]
fn names_of_wire_and_sql_are_the_servers() {
    let postgres = Postgres::start();
    owner(&postgres).query("create table hit (n int)");
    let rules = vec![
        everything(),
        rule("deletes are held", Effect::Hold, verbs(&["delete"])),
    ];
    let mut gate = Gate::signed_in(postgres.port, snapshot(rules, Vec::new()));
    let mut ready = 1;
    let stems: Vec<String> = (60..66)
        .flat_map(|n| {
            [
                String::from("a").repeat(n),
                format!("{}é", "a".repeat(n)),
                format!("{}日本", "b".repeat(n - 2)),
            ]
        })
        .collect();
    for (n, stem) in stems.iter().enumerate() {
        for (m, other) in stems.iter().enumerate() {
            // By SQL or wire prepared, by wire or SQL run: where the server finds a statement, the gate must know the same one.
            let mut out = Vec::new();
            query(&mut out, "deallocate all");
            if (n + m) % 2 == 0 {
                query(&mut out, &format!("prepare \"{stem}\" as select {n}"));
                bind(&mut out, "", other);
                execute(&mut out, "", 0);
            } else {
                parse(&mut out, stem, &format!("select {n}"));
                write::sync(&mut out);
                query(&mut out, &format!("execute \"{other}\""));
            }
            write::sync(&mut out);
            ready += 3;
            if (n + m) % 2 == 1 {
                ready += 1;
            }
            gate.client(&out);
            gate.until_ready(ready);
        }
    }
    for record in gate.records() {
        if let Body::StatementEnd {
            error: Some(error), ..
        } = &record
        {
            assert!(error.code == "26000", "{error:?}");
        }
    }
    assert!(!gate.session.is_ended());
}

/// G16: a portal that goes on under new masks is covered by them.
#[test]
fn a_portal_half_read_goes_on_under_the_masks_of_now() {
    let postgres = Postgres::start();
    owner(&postgres)
        .query("create table people (id int, nick text); insert into people select n, 'secret' || n from generate_series(1, 40) n");
    let mut gate = owner(&postgres);
    let mut out = Vec::new();
    query(&mut out, "begin");
    parse(&mut out, "", "select nick from people");
    bind(&mut out, "p", "");
    execute(&mut out, "p", 10);
    write::sync(&mut out);
    gate.client(&out);
    gate.until_ready(3);
    assert!(text(&gate.received).contains("secret10"));
    gate.rules(2, vec![everything()], vec![contact(&["public.people.nick"])]);
    let before = gate.received.len();
    let mut out = Vec::new();
    execute(&mut out, "p", 10);
    write::sync(&mut out);
    gate.client(&out);
    gate.until_ready(4);
    let reply = &gate.received[before..];
    assert!(!text(reply).contains("secret"), "{}", text(reply));
    assert_eq!(
        tags(reply).iter().filter(|t| **t == b'D').count(),
        10,
        "{}",
        text(reply)
    );
}

/// G18: SQL and wire share one name space.
#[test]
fn a_statement_of_sql_prepare_is_bound_by_wire() {
    let postgres = Postgres::start();
    owner(&postgres)
        .query("create table people (id int, nick text); insert into people values (1, 'secretnick')");
    for masks in [Vec::new(), vec![contact(&["public.people.nick"])]] {
        let masked = !masks.is_empty();
        let mut gate = Gate::signed_in(postgres.port, snapshot(vec![everything()], masks));
        let mut out = Vec::new();
        query(&mut out, "prepare p as select id, nick from people");
        bind(&mut out, "", "p");
        execute(&mut out, "", 0);
        write::sync(&mut out);
        gate.client(&out);
        gate.until_ready(3);
        assert_eq!(
            tags(&gate.received[gate.greeting..]),
            b"CZ2DCZ",
            "{}",
            text(&gate.received)
        );
        assert_eq!(text(&gate.received).contains("secretnick"), !masked);
    }
}

/// C10: a client that sends and leaves.
#[test]
fn what_came_before_goodbye_is_done() {
    let postgres = Postgres::start();
    owner(&postgres).query("create table t (id int)");
    for (n, goodbye) in [(1, true), (2, false)] {
        let mut gate = owner(&postgres);
        let before = gate.received.len();
        let mut out = Vec::new();
        query(
            &mut out,
            &format!("insert into t values ({n}) returning 'inserted'"),
        );
        if goodbye {
            write::terminate(&mut out);
        }
        gate.client(&out);
        if !goodbye {
            gate.client_ended();
        }
        gate.until_ended();
        assert!(
            text(&gate.received[before..]).contains("inserted"),
            "{}",
            text(&gate.received[before..])
        );
        let records = gate.records();
        assert!(
            records.iter().any(|r| matches!(
                r,
                Body::StatementEnd {
                    outcome: StatementOutcome::Done,
                    ..
                }
            )),
            "{records:?}"
        );
    }
    assert_eq!(value(&owner(&postgres).query("select sum(id) from t")), "3");
}

/// C14: a message beyond a bound is refused in its place, and its bytes are not kept.
#[test]
fn a_statement_that_is_too_long_is_refused_in_its_place() {
    let postgres = Postgres::start();
    let mut gate = owner(&postgres);
    let mut out = Vec::new();
    query(&mut out, &format!("select 1 /* {} */", "x".repeat(17_000_000)));
    query(&mut out, "select 'next'");
    for piece in out.chunks(60_000) {
        gate.client(piece);
        assert!(gate.session.carried() < 200_000, "what is refused is not kept");
    }
    gate.until_ready(3);
    assert_eq!(tags(&gate.received[gate.greeting..]), b"EZTDCZ");
    assert!(
        text(&gate.received).contains("54000") && text(&gate.received).contains("next"),
        "{}",
        text(&gate.received)
    );
}

/// P3: a session that is revoked while a statement runs.
#[test]
fn a_revoked_session_is_cancelled_at_the_target_and_the_record_says_what_became_of_it() {
    let postgres = Postgres::start();
    let mut gate = owner(&postgres);
    let mut out = Vec::new();
    query(&mut out, "select pg_sleep(20)");
    gate.client(&out);
    gate.pump();
    gate.session.revoked(&mut gate.core, "left the company");
    gate.settle();
    gate.until_ended();
    let records = gate.records();
    let end = records.iter().find_map(|r| match r {
        Body::StatementEnd { outcome, error, .. } => Some((*outcome, error.clone())),
        _ => None,
    });
    let (outcome, error) = end.unwrap();
    assert_eq!(outcome, StatementOutcome::Cancelled, "{error:?}");
    assert!(text(&gate.received).contains("57P01") && text(&gate.received).contains("revoked"));
}

#[test]
fn the_clients_going_away_withdraws_a_question() {
    let postgres = Postgres::start();
    owner(&postgres).query("create table t (id int)");
    let rules = vec![
        everything(),
        rule("updates are held", Effect::Hold, verbs(&["update"])),
    ];
    let mut gate = Gate::signed_in(postgres.port, snapshot(rules, Vec::new()));
    let mut out = Vec::new();
    query(&mut out, "update t set id = 1");
    gate.client(&out);
    gate.until_question();
    gate.client_ended();
    gate.until_ended();
    assert!(
        gate.control.iter().any(|m| matches!(
            m,
            ToControl::Withdraw {
                why: Withdrawal::ClientGone,
                ..
            }
        )),
        "{:?}",
        gate.control
    );
}

/// S8 and the like: a malformed message fails in its place, with the server's words, and the session lives.
#[test]
fn a_malformed_message_fails_as_it_would_at_the_server() {
    let postgres = Postgres::start();
    let mut gate = owner(&postgres);
    let mut out = Vec::new();
    parse(&mut out, "", "select $1::text");
    // Bind with format code 7.
    write::message(&mut out, b'B', |out| {
        out.extend_from_slice(b"\0\0\0\x01\0\x07\0\x01\0\0\0\x01x\0\0");
        Ok(())
    })
    .unwrap();
    execute(&mut out, "", 0);
    write::sync(&mut out);
    // Sync with a body.
    write::message(&mut out, b'S', |out| {
        out.push(0);
        Ok(())
    })
    .unwrap();
    query(&mut out, "select 'alive'");
    gate.client(&out);
    gate.until_ready(4);
    assert_eq!(
        tags(&gate.received[gate.greeting..]),
        b"1EZEZTDCZ",
        "{}",
        text(&gate.received)
    );
    assert!(
        text(&gate.received).contains("22023") && text(&gate.received).contains("08P01"),
        "{}",
        text(&gate.received)
    );
}

/// A statement that may change what names mean holds up the next one until it is answered, and no longer.
#[test]
fn a_portal_read_in_part_or_twice_holds_up_nothing() {
    let postgres = Postgres::start();
    owner(&postgres).query(
        "create table people (id int, nick text); create function numbers() returns setof int language sql as 'select generate_series(1, 9)'",
    );
    let mut gate = Gate::signed_in(
        postgres.port,
        snapshot(vec![everything()], vec![contact(&["public.people.nick"])]),
    );
    let mut out = Vec::new();
    query(&mut out, "begin");
    parse(&mut out, "", "select * from numbers()");
    bind(&mut out, "p", "");
    execute(&mut out, "p", 3);
    write::sync(&mut out);
    query(&mut out, "select count(*) from people");
    execute(&mut out, "p", 0);
    execute(&mut out, "p", 0);
    write::sync(&mut out);
    query(&mut out, "select count(*) from people");
    gate.client(&out);
    gate.until_ready(6);
    assert!(!gate.session.is_ended(), "{}", text(&gate.received));
}

/// Another session, past the gate, puts a new table in a known one's place: the catalog's names say nothing of it.
#[test]
fn rows_of_a_table_newer_than_the_catalog_wait_for_it() {
    let postgres = Postgres::start();
    let setup = owner(&postgres).query(
        "create table people (email text); create table plain (word text); insert into plain values ('old')",
    );
    assert!(!tags(&setup).contains(&b'E'), "{}", text(&setup));
    let mut gate = Gate::signed_in(
        postgres.port,
        snapshot(vec![everything()], vec![contact(&["public.people.email"])]),
    );
    assert_eq!(value(&gate.query("select word from plain")), "old");
    // Another session, of which this gate hears nothing.
    owner(&postgres).query("alter table plain rename to earlier; create table plain (word text); insert into plain values ('new')");
    assert_eq!(value(&gate.query("select word from plain")), "new", "not NULL");
    owner(&postgres)
        .query("drop table plain; create table plain (word text); insert into plain values ('newer')");
    let (mut out, before) = (Vec::new(), gate.received.len());
    parse(&mut out, "", "select word from plain");
    bind(&mut out, "", "");
    execute(&mut out, "", 0);
    write::sync(&mut out);
    let ready = gate.tags().iter().filter(|t| **t == b'Z').count();
    gate.client(&out);
    gate.until_ready(ready + 1);
    assert_eq!(
        value(&gate.received[before..]),
        "newer",
        "by the extended protocol, which is described for us"
    );
    // What takes the labelled table's place is not known to be harmless before the catalog says so.
    owner(&postgres)
        .query("drop table people; create table people (email text); insert into people values ('a@b.c')");
    assert_ne!(value(&gate.query("select email from people")), "a@b.c");
}

/// pgjdbc's `PreparedStatementTest.testSingleQuotes` never ended: what follows a text that may be a COPY waits for the answer,
/// and the server waited for the Sync.
#[test]
fn a_text_that_nobody_can_read_is_answered_by_the_extended_protocol() {
    let postgres = Postgres::start();
    let danger = RuleStatement {
        danger_unreadable: true,
        families: vec![headgate_plane::RuleFamily::Sql(RuleSql {
            danger_unpinned: true,
            ..RuleSql::default()
        })],
        ..RuleStatement::default()
    };
    let mut gate = Gate::signed_in(
        postgres.port,
        snapshot(vec![rule("everything", Effect::Allow, danger)], Vec::new()),
    );
    gate.query("set standard_conforming_strings to off");
    let (mut out, before) = (Vec::new(), gate.received.len());
    parse(&mut out, "", r"select 'quoted \' single quote'");
    bind(&mut out, "", "");
    execute(&mut out, "", 0);
    write::sync(&mut out);
    let ready = gate.tags().iter().filter(|t| **t == b'Z').count();
    gate.client(&out);
    gate.until_ready(ready + 1);
    assert_eq!(value(&gate.received[before..]), "quoted ' single quote");
    assert_eq!(value(&gate.query("select 1")), "1", "the session goes on");
}

/// What EXECUTE returns is what its name means when it is bound, whatever that was when the text was prepared.
#[test]
fn a_name_that_means_something_else_by_now_is_covered_by_what_it_means() {
    let postgres = Postgres::start();
    owner(&postgres).query(
        "create table customers (id int, email text); insert into customers values (4711, 'canary@example.org')",
    );
    let mut gate = Gate::signed_in(
        postgres.port,
        snapshot(vec![everything()], vec![contact(&["public.customers.email"])]),
    );
    let mut out = Vec::new();
    query(&mut out, "prepare w1 as select id from customers");
    parse(&mut out, "x", "execute w1");
    parse(&mut out, "y", "execute w2");
    write::sync(&mut out);
    query(&mut out, "deallocate w1");
    query(&mut out, "prepare w1 as select email from customers");
    // What `y` stands for was not there when it was prepared: it had no rows then.
    parse(&mut out, "w2", "select id from customers");
    write::sync(&mut out);
    gate.client(&out);
    gate.until_ready(6);
    for (name, shows) in [("x", "canary"), ("y", "4711")] {
        let before = gate.received.len();
        let ready = tags(&gate.received).iter().filter(|t| **t == b'Z').count();
        let mut out = Vec::new();
        bind(&mut out, "", name);
        execute(&mut out, "", 0);
        write::sync(&mut out);
        gate.client(&out);
        gate.until_ready(ready + 1);
        let said = &gate.received[before..];
        assert_eq!(tags(said), b"2DCZ", "{}", text(said));
        assert_eq!(text(said).contains(shows), name == "y", "{}", text(said));
    }
}

/// A Bind that fails says why it failed, not why our own question about it did.
#[test]
fn what_a_client_sees_of_a_bind_that_fails_is_the_binds_own_error() {
    let postgres = Postgres::start();
    owner(&postgres).query("create table customers (id int, email text)");
    let mut gate = Gate::signed_in(
        postgres.port,
        snapshot(vec![everything()], vec![contact(&["public.customers.email"])]),
    );
    let mut out = Vec::new();
    query(&mut out, "prepare w2 as select email from customers");
    query(&mut out, "begin");
    query(&mut out, "select 1/0");
    write::bind(&mut out, b"", b"w2", &[], [Some(&b"1"[..])].into_iter(), &[]).unwrap();
    write::sync(&mut out);
    gate.client(&out);
    gate.until_ready(5);
    let received = text(&gate.received);
    assert!(
        received.contains("C08P01") && !received.contains("C25P02"),
        "{received}"
    );
}

/// A goodbye behind half a message would be read as its other half.
#[test]
fn half_a_message_of_copy_data_is_followed_by_nothing() {
    let postgres = Postgres::start();
    owner(&postgres).query("create table t (i int)");
    for client_goes in [true, false] {
        let mut gate = owner(&postgres);
        let mut out = Vec::new();
        query(&mut out, "copy t from stdin");
        gate.client(&out);
        gate.until_tag(b'G');
        gate.client(b"d\0\0\0\x0c123");
        for _ in 0..3 {
            gate.pump();
        }
        if client_goes {
            gate.client_ended();
        } else {
            gate.session.stopping(&mut gate.core);
        }
        gate.pump();
        assert!(gate.session.is_ended(), "client_goes: {client_goes}");
        assert!(
            gate.sent.ends_with(b"d\0\0\0\x0c123"),
            "client_goes: {client_goes}: {}",
            text(&gate.sent)
        );
    }
}

/// The end of a statement that was read in part is not the error of an Execute that came too late for it.
#[test]
fn a_statement_read_in_part_ends_with_its_portal() {
    let postgres = Postgres::start();
    let mut gate = owner(&postgres);
    let mut out = Vec::new();
    parse(&mut out, "", "select n from generate_series(1, 5) n");
    bind(&mut out, "", "");
    execute(&mut out, "", 2);
    write::flush(&mut out);
    gate.client(&out);
    gate.until_tag(b's');
    // The second Execute is on its way before anybody has heard that the Sync has taken its portal.
    let mut out = Vec::new();
    write::sync(&mut out);
    execute(&mut out, "", 0);
    write::sync(&mut out);
    query(&mut out, "select 'after'");
    gate.client(&out);
    gate.until_ready(4);
    assert_eq!(
        tags(&gate.received[gate.greeting..]),
        b"12DDsZEZTDCZ",
        "{}",
        text(&gate.received)
    );
    let records = gate.records();
    let first = records
        .iter()
        .find_map(|r| match r {
            Body::StatementEnd {
                statement: 1,
                outcome,
                rows,
                error,
                ..
            } => Some((*outcome, *rows, error.clone())),
            _ => None,
        })
        .unwrap();
    assert_eq!(first, (StatementOutcome::Done, 2, None));
}

/// A target that reads COPY data ignores a Flush with a body, and one that has failed answers it: nobody knows which.
#[test]
fn a_malformed_flush_amid_copy_data_ends_the_session() {
    let postgres = Postgres::start();
    owner(&postgres).query("create table t (i int)");
    let mut gate = owner(&postgres);
    let mut out = Vec::new();
    query(&mut out, "copy t from stdin");
    gate.client(&out);
    gate.until_tag(b'G');
    let mut out = Vec::new();
    write::copy_data(&mut out, b"x\n").unwrap();
    write::message(&mut out, b'H', |out| {
        out.push(0);
        Ok(())
    })
    .unwrap();
    gate.client(&out);
    gate.until_ended();
    assert!(
        text(&gate.received).contains("unexpected message type 0x48 during COPY"),
        "{}",
        text(&gate.received)
    );
}

/// PostgreSQL's process dies, and all its sessions with it, of a Describe of a FETCH whose cursor has gone.
#[test]
fn a_describe_that_kills_the_server_is_refused() {
    let postgres = Postgres::start();
    for masks in [Vec::new(), vec![contact(&["public.customers.email"])]] {
        let mut gate = Gate::signed_in(postgres.port, snapshot(vec![everything()], masks));
        let mut out = Vec::new();
        query(&mut out, "begin");
        query(&mut out, "declare c cursor for select 1");
        parse(&mut out, "f", "fetch all from c");
        write::describe(&mut out, Kind::Statement, b"f").unwrap();
        write::sync(&mut out);
        query(&mut out, "commit");
        write::describe(&mut out, Kind::Statement, b"f").unwrap();
        write::sync(&mut out);
        // In one pipeline, which the server answers at its Sync.
        query(&mut out, "begin");
        query(&mut out, "declare c cursor for select 1");
        bind(&mut out, "q", "f");
        parse(&mut out, "", "close c");
        bind(&mut out, "", "");
        execute(&mut out, "", 0);
        write::describe(&mut out, Kind::Portal, b"q").unwrap();
        write::sync(&mut out);
        query(&mut out, "rollback");
        // A cursor that is there is described, WITH HOLD behind its transaction, too.
        query(&mut out, "declare c cursor with hold for select 1");
        write::describe(&mut out, Kind::Statement, b"f").unwrap();
        write::sync(&mut out);
        query(&mut out, "select 'alive'");
        gate.client(&out);
        gate.until_ready(13);
        assert_eq!(
            tags(&gate.received[gate.greeting..]),
            b"CZCZ1tTZCZEZCZCZ212CEZCZCZtTZTDCZ",
            "{}",
            text(&gate.received)
        );
        assert_eq!(text(&gate.received).matches("C34000").count(), 2);
    }
}

/// EXECUTE is looked up by the server when its portal runs: what was judged at Bind must still be what it means.
#[test]
fn a_name_that_changes_between_bind_and_execute_runs_nothing() {
    let postgres = Postgres::start();
    owner(&postgres).query("create table orders (id int); insert into orders values (1), (2)");
    let rules = vec![
        everything(),
        rule("deletes are held", Effect::Hold, verbs(&["delete"])),
    ];
    for pipelined in [true, false] {
        let mut gate = Gate::signed_in(postgres.port, snapshot(rules.clone(), Vec::new()));
        let mut out = Vec::new();
        query(&mut out, "begin");
        parse(&mut out, "w", "select 1");
        parse(&mut out, "u", "execute w");
        bind(&mut out, "p", "u");
        if !pipelined {
            write::sync(&mut out);
            gate.client(&out);
            gate.until_ready(3);
            out.clear();
        }
        write::close(&mut out, Kind::Statement, b"w").unwrap();
        parse(&mut out, "w", "delete from orders");
        execute(&mut out, "p", 0);
        write::sync(&mut out);
        query(&mut out, "commit");
        gate.client(&out);
        gate.until_ready(if pipelined { 4 } else { 5 });
        assert!(
            text(&gate.received).contains("CHG004"),
            "{}",
            text(&gate.received)
        );
        assert_eq!(value(&owner(&postgres).query("select count(*) from orders")), "2");
    }
}

/// The same of a cursor: its rows are covered by what was judged.
#[test]
fn a_cursor_that_changes_between_bind_and_execute_shows_nothing() {
    let postgres = Postgres::start();
    owner(&postgres).query(
        "create table customers (id int, email text); insert into customers values (1, 'canary@example.org')",
    );
    let mut gate = Gate::signed_in(
        postgres.port,
        snapshot(vec![everything()], vec![contact(&["public.customers.email"])]),
    );
    let mut out = Vec::new();
    query(&mut out, "begin; declare c cursor for select id from customers");
    parse(&mut out, "", "fetch all from c");
    bind(&mut out, "p", "");
    parse(&mut out, "", "close c");
    bind(&mut out, "", "");
    execute(&mut out, "", 0);
    parse(
        &mut out,
        "",
        "declare c cursor for select email || '' from customers",
    );
    bind(&mut out, "", "");
    execute(&mut out, "", 0);
    execute(&mut out, "p", 0);
    write::sync(&mut out);
    gate.client(&out);
    gate.until_ready(3);
    let received = text(&gate.received);
    assert!(
        !received.contains("canary") && received.contains("CHG004"),
        "{received}"
    );
}

/// A statement whose Execute was skipped has not ended: its portal may still run.
#[test]
fn a_portal_whose_execute_was_skipped_may_run_later_and_is_recorded() {
    let postgres = Postgres::start();
    owner(&postgres).query("create table log (n int)");
    let mut gate = owner(&postgres);
    let mut out = Vec::new();
    query(&mut out, "begin");
    parse(&mut out, "", "insert into log values (4711)");
    bind(&mut out, "p", "");
    write::sync(&mut out);
    query(&mut out, "savepoint a");
    gate.client(&out);
    gate.until_ready(4);
    let mut out = Vec::new();
    parse(&mut out, "", "no sql at all");
    execute(&mut out, "p", 0);
    write::sync(&mut out);
    query(&mut out, "rollback to a");
    execute(&mut out, "p", 0);
    write::sync(&mut out);
    query(&mut out, "commit");
    gate.client(&out);
    gate.until_ready(8);
    assert_eq!(value(&owner(&postgres).query("select n from log")), "4711");
    let records = gate.records();
    let insert = records
        .iter()
        .find_map(|r| match r {
            Body::Statement { statement, text, .. } if text.starts_with(b"insert") => Some(*statement),
            _ => None,
        })
        .unwrap();
    let ends: Vec<_> = records
        .iter()
        .filter_map(|r| match r {
            Body::StatementEnd {
                statement,
                outcome,
                tag,
                ..
            } if *statement == insert => Some((*outcome, tag.as_str())),
            _ => None,
        })
        .collect();
    assert_eq!(ends, [(StatementOutcome::Done, "INSERT 0 1")]);
}

/// A Query drops the statement without a name: nobody is asked about what the server will not find.
#[test]
fn a_query_on_its_way_takes_the_unnamed_statement_along() {
    let postgres = Postgres::start();
    owner(&postgres).query("create table orders (id int)");
    let rules = vec![
        everything(),
        rule("deletes are held", Effect::Hold, verbs(&["delete"])),
    ];
    let mut gate = Gate::signed_in(postgres.port, snapshot(rules, Vec::new()));
    let mut out = Vec::new();
    parse(&mut out, "", "delete from orders");
    write::sync(&mut out);
    gate.client(&out);
    gate.until_ready(2);
    let mut out = Vec::new();
    query(&mut out, "select 1");
    bind(&mut out, "", "");
    write::sync(&mut out);
    gate.client(&out);
    gate.until_ready(4);
    assert!(gate.questions.is_empty());
    assert!(
        text(&gate.received).contains("C26000"),
        "{}",
        text(&gate.received)
    );
}

/// A CLOSE that fails in the query that declares: the cursor's execution is the one that speaks.
#[test]
fn a_close_that_fails_behind_its_own_declare_is_an_error_like_any_other() {
    let postgres = Postgres::start();
    let mut gate = owner(&postgres);
    let mut out = Vec::new();
    query(&mut out, "commit; declare c cursor for select 1; close d");
    query(&mut out, "select 'alive'");
    gate.client(&out);
    gate.until_ready(3);
    assert!(text(&gate.received).contains("alive"), "{}", text(&gate.received));
}

/// A function call ends a pipeline's implicit transaction: its commit may fail behind the function's result.
#[test]
fn a_commit_that_fails_behind_a_function_call_is_an_error_like_any_other() {
    let postgres = Postgres::start();
    owner(&postgres).query("create table late (n int unique deferrable initially deferred)");
    let mut gate = owner(&postgres);
    let mut out = Vec::new();
    parse(&mut out, "", "insert into late values (1), (1)");
    bind(&mut out, "", "");
    execute(&mut out, "", 0);
    // int4pl(1, 2), in text.
    write::message(&mut out, b'F', |out| {
        out.extend_from_slice(b"\0\0\0\xb1\0\0\0\x02\0\0\0\x011\0\0\0\x012\0\0");
        Ok(())
    })
    .unwrap();
    query(&mut out, "select 'alive'");
    gate.client(&out);
    gate.until_ready(3);
    assert_eq!(
        tags(&gate.received[gate.greeting..]),
        b"12CVEZTDCZ",
        "{}",
        text(&gate.received)
    );
}

/// A Query that fails in a transaction leaves a portal without a name whose statements are freed memory to PostgreSQL: its
/// Execute kills the server now and then, and never gets there.
#[test]
fn what_a_failed_query_leaves_behind_is_not_executed() {
    let postgres = Postgres::start();
    let mut gate = owner(&postgres);
    let mut out = Vec::new();
    query(&mut out, "begin");
    parse(&mut out, "", "select 1");
    bind(&mut out, "", "");
    write::sync(&mut out);
    query(&mut out, "select 1/(n-1) from generate_series(1, 2) n");
    execute(&mut out, "", 0);
    write::sync(&mut out);
    query(&mut out, "rollback");
    gate.client(&out);
    gate.until_ready(6);
    assert_eq!(
        tags(&gate.received[gate.greeting..]),
        b"CZ12ZTEZEZCZ",
        "{}",
        text(&gate.received)
    );
    assert!(text(&gate.received).contains("C34000"));
    let mut execute_unnamed = Vec::new();
    execute(&mut execute_unnamed, "", 0);
    assert!(
        !gate
            .sent
            .windows(execute_unnamed.len())
            .any(|w| w == execute_unnamed)
    );
}
