//! What a reviewer with fresh eyes found in sequences, sums and doubles: each was seen to go wrong before it was put right.

mod common;

use common::{Gate, Postgres, all_classes, rule, snapshot, text};
use headgate_plane::{Effect, MaskMethod, MaskRule, Rule, RuleSql, RuleStatement, RuleTarget, RuleWho};
use headgate_postgres::frontend::Kind;
use headgate_postgres::write;
use headgate_recording::{Body, Direction};

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

fn customers(postgres: &Postgres) {
    owner(postgres).query(
        "create table customers (id int, phone text); insert into customers values (1, '0451-777'); create view v as select 'harmless'::text as x",
    );
}

fn masked(postgres: &Postgres) -> Gate {
    Gate::signed_in(
        postgres.port,
        snapshot(vec![everything()], vec![contact(&["public.customers.phone"])]),
    )
}

/// A read-only client made the gate take a name for what it no longer was.
#[test]
fn a_deallocate_whose_commit_fails_leaves_a_name_in_doubt() {
    let postgres = Postgres::start();
    customers(&postgres);
    let mut gate = masked(&postgres);
    gate.query("prepare s as select 'harmless'");
    let fails = "declare c cursor with hold for select 1/x from generate_series(0, 0) x";
    gate.query(&format!("{fails}; deallocate s"));
    gate.query(&format!(
        "{fails}; prepare s as select phone || '' from customers"
    ));
    let reply = gate.query("execute s");
    assert!(!text(&reply).contains("0451"), "{}", text(&reply));
}

/// What fails by itself in a transaction block has done nothing: a driver that resets in vain goes on with its statements.
#[test]
fn a_deallocate_that_fails_in_a_transaction_block_changes_no_name() {
    let postgres = Postgres::start();
    let mut gate = owner(&postgres);
    gate.query("prepare s as select 'still here'");
    for reset in ["deallocate all", "deallocate s", "discard all"] {
        gate.query("begin");
        gate.query("select 1/0");
        assert!(text(&gate.query(reset)).contains("25P02"));
        gate.query("rollback");
        let reply = gate.query("execute s");
        assert!(text(&reply).contains("still here"), "{reset}: {}", text(&reply));
    }
    gate.query("begin");
    assert!(text(&gate.query("discard all")).contains("25001"));
    gate.query("rollback");
    assert!(text(&gate.query("execute s")).contains("still here"));
}

/// What own DDL makes of names is not what the catalog of before says.
#[test]
fn names_that_are_on_their_way_to_mean_something_else_are_covered() {
    let rename = "alter view v rename to v0; alter table customers rename to v";
    let read = "select phone || '' as x from v";
    let mut leaks = Vec::new();
    for how in [
        "pipelined",
        "one text",
        "one batch",
        "one transaction in a batch",
        "rolled back",
        "savepoint",
        "column",
        "inherit",
    ] {
        let postgres = Postgres::start();
        customers(&postgres);
        owner(&postgres).query("create table h (id int, phone text)");
        let mut gate = masked(&postgres);
        assert!(text(&gate.query("select x from v")).contains("harmless"));
        let mut out = Vec::new();
        let ready = match how {
            "pipelined" => {
                query(&mut out, rename);
                query(&mut out, read);
                4
            }
            "one text" => {
                query(&mut out, &format!("{rename}; {read}"));
                3
            }
            "one batch" | "one transaction in a batch" => {
                for text in [
                    "alter view v rename to v0",
                    "alter table customers rename to v",
                    read,
                ] {
                    parse(&mut out, "", text);
                    bind(&mut out, "", "");
                    execute(&mut out, "", 0);
                    if how == "one batch" {
                        write::flush(&mut out);
                        gate.client(&out);
                        out.clear();
                        for _ in 0..5 {
                            gate.pump();
                        }
                    }
                }
                write::sync(&mut out);
                3
            }
            "rolled back" => {
                gate.query("begin");
                gate.query("alter table customers rename to c0; alter view v rename to customers");
                gate.query("select x from customers");
                query(&mut out, "rollback; select phone || '' as x from customers");
                6
            }
            "savepoint" => {
                gate.query("begin");
                gate.query("savepoint s");
                gate.query("alter table customers rename to c0; alter view v rename to customers");
                gate.query("select x from customers");
                gate.query("rollback to s");
                query(&mut out, "select phone || '' as x from customers");
                8
            }
            "column" => {
                query(
                    &mut out,
                    "alter table customers rename phone to p; select p || '' as x from customers",
                );
                3
            }
            _ => {
                query(
                    &mut out,
                    "alter table customers inherit h; select phone || '' as x from h",
                );
                3
            }
        };
        gate.client(&out);
        gate.until_ready(ready);
        if text(&gate.received).contains("0451") {
            leaks.push(how);
        }
    }
    assert!(leaks.is_empty(), "{leaks:?}");
}

/// A Describe between Bind and Execute took over the masks of now with the hints of before.
#[test]
fn a_portal_that_is_described_under_new_masks_is_covered_by_them() {
    let postgres = Postgres::start();
    customers(&postgres);
    let mut gate = owner(&postgres);
    let mut out = Vec::new();
    query(&mut out, "begin");
    parse(&mut out, "", "select phone || '' from customers");
    bind(&mut out, "p", "");
    write::sync(&mut out);
    gate.client(&out);
    gate.until_ready(3);
    gate.rules(2, vec![everything()], vec![contact(&["public.customers.phone"])]);
    let mut out = Vec::new();
    parse(&mut out, "", "select 1");
    write::describe(&mut out, Kind::Portal, b"p").unwrap();
    write::sync(&mut out);
    gate.client(&out);
    gate.until_ready(4);
    let mut out = Vec::new();
    execute(&mut out, "p", 0);
    write::sync(&mut out);
    gate.client(&out);
    gate.until_ready(5);
    assert!(!text(&gate.received).contains("0451"), "{}", text(&gate.received));
}

/// ParameterStatus is a channel.
#[test]
fn a_setting_that_the_target_reports_is_scanned_as_rows_are() {
    let postgres = Postgres::start();
    owner(&postgres)
        .query("create table people (mail text); insert into people values ('eve.stone@example.com')");
    let mut mask = contact(&[]);
    mask.detect = vec!["email".to_owned()];
    let mut gate = Gate::signed_in(postgres.port, snapshot(vec![everything()], vec![mask]));
    let reply = gate.query("select mail from people");
    assert!(!text(&reply).contains("eve.stone"), "{}", text(&reply));
    let told = "select set_config('application_name', mail, false) from people";
    let reply = gate.query(told);
    assert!(!text(&reply).contains("eve.stone"), "{}", text(&reply));
    gate.query("reset application_name");
    let mut out = Vec::new();
    parse(&mut out, "", told);
    bind(&mut out, "", "");
    execute(&mut out, "", 0);
    write::sync(&mut out);
    gate.client(&out);
    gate.until_ready(5);
    assert!(
        !text(&gate.received).contains("eve.stone"),
        "{}",
        text(&gate.received)
    );
}

/// Room for one reply, and several that end at once.
#[test]
fn an_error_that_takes_along_portals_read_in_part_is_recorded() {
    let postgres = Postgres::start();
    let mut gate = owner(&postgres);
    let mut out = Vec::new();
    query(&mut out, "begin");
    for portal in ["a", "b", "c", "d"] {
        parse(
            &mut out,
            "",
            "select repeat('x', 60000) from generate_series(1, 3)",
        );
        bind(&mut out, portal, "");
        execute(&mut out, portal, 1);
    }
    write::sync(&mut out);
    gate.client(&out);
    gate.until_ready(3);
    let mut out = Vec::new();
    parse(&mut out, "", "select no_such_column");
    for portal in ["a", "b", "c", "d"] {
        execute(&mut out, portal, 1);
    }
    write::sync(&mut out);
    gate.client(&out);
    gate.until_ready(4);
    assert_eq!(gate.core.metrics.records_missed, 0);
}

#[test]
fn a_session_that_ends_with_portals_read_in_part_is_recorded_to_its_end() {
    let postgres = Postgres::start();
    let mut gate = owner(&postgres);
    let mut out = Vec::new();
    query(&mut out, "begin");
    for portal in ["a", "b", "c", "d"] {
        parse(
            &mut out,
            "",
            "select repeat('x', 60000) from generate_series(1, 3)",
        );
        bind(&mut out, portal, "");
        execute(&mut out, portal, 1);
    }
    write::sync(&mut out);
    gate.client(&out);
    gate.until_ready(3);
    gate.client_ended();
    gate.until_ended();
    assert_eq!(gate.core.metrics.records_missed, 0);
    let records = gate.records();
    let ends = records
        .iter()
        .filter(|r| matches!(r, Body::StatementEnd { .. }))
        .count();
    assert_eq!(ends, 5);
}

/// Under strict durability nothing leaves before it is on disk, whatever ends the session.
#[test]
fn what_is_not_on_disk_yet_does_not_leave_with_the_goodbye() {
    let postgres = Postgres::start();
    for how in 0..3 {
        let mut gate = owner(&postgres);
        gate.core.settings.strict = true;
        let mut out = Vec::new();
        query(&mut out, "create table not_on_disk (i int)");
        gate.client(&out);
        assert!(!text(&gate.sent).contains("not_on_disk"));
        match how {
            0 => gate.client(b"?\0\0\0\x04"),
            1 => gate.session.stopping(&mut gate.core),
            _ => gate.session.revoked(&mut gate.core, "left the company"),
        }
        gate.settle();
        assert!(gate.session.is_ended());
        assert!(!text(&gate.sent).contains("not_on_disk"), "{}", text(&gate.sent));
    }
}

/// A text that prepares much kept itself once for each statement.
#[test]
fn what_sql_prepares_has_the_budget_of_what_is_parsed() {
    let postgres = Postgres::start();
    let mut gate = owner(&postgres);
    gate.core.settings.session_bytes_max = 4 << 20;
    let mut gate = gate.again();
    let mut many: String = (0..500).map(|n| format!("prepare s{n} as select {n};")).collect();
    many.push_str(&format!("/* {} */", "x".repeat(100_000)));
    let mut out = Vec::new();
    query(&mut out, &many);
    gate.client(&out);
    let (kept, _) = gate.core.kept_bytes();
    assert!(kept <= 4 << 20, "{kept} bytes are kept");
}

/// The shared catalog does not have what a transaction has.
#[test]
fn what_a_transaction_changed_is_looked_up_again_when_the_catalog_is_another_one() {
    let postgres = Postgres::start();
    customers(&postgres);
    let held = rule(
        "sleepers are held",
        Effect::Hold,
        RuleStatement::of_sql(RuleSql {
            functions: vec!["pg_sleep".to_owned()],
            ..RuleSql::default()
        }),
    );
    let mut gate = Gate::signed_in(
        postgres.port,
        snapshot(
            vec![everything(), held],
            vec![contact(&["public.customers.phone"])],
        ),
    );
    gate.query("select 1 from customers");
    let labels = gate.core.catalog_labels();
    let before = common::load_catalog(postgres.port, &labels, None).unwrap();
    gate.query("begin");
    gate.query("alter view v rename to v0");
    gate.query("alter table customers rename to v");
    let mut out = Vec::new();
    query(&mut out, "select phone || '' as x from v, pg_sleep(0)");
    gate.client(&out);
    gate.until_question();
    // The catalog that all share comes anew; it does not have what the transaction has.
    let target = "shop".to_owned();
    gate.core.catalog_changed(&target, 7);
    let loaded = headgate_gate::CatalogLoaded {
        target: target.as_str().into(),
        labels,
        changes: 7,
        took_us: 0,
        result: Ok(before),
    };
    gate.core.catalog_loaded(&loaded);
    gate.session.catalog_came(&mut gate.core, &target);
    gate.settle();
    gate.answer(true);
    gate.until_ready(6);
    assert!(!text(&gate.received).contains("0451"), "{}", text(&gate.received));
}

/// As an opaque statement may.
#[test]
fn a_function_call_may_have_set_where_names_are_looked_for() {
    let postgres = Postgres::start();
    owner(&postgres).query(
        "create schema hr; create table hr.salaries (who text); insert into hr.salaries values ('eve')",
    );
    let salaries = rule(
        "salaries",
        Effect::Deny,
        RuleStatement::of_sql(RuleSql {
            relations: vec!["hr.salaries".to_owned()],
            ..RuleSql::default()
        }),
    );
    let mut gate = Gate::signed_in(postgres.port, snapshot(vec![everything(), salaries], Vec::new()));
    assert!(text(&gate.query("select who from hr.salaries")).contains("42501"));
    let mut out = Vec::new();
    write::message(&mut out, b'F', |out| {
        // set_config('search_path', 'hr', false)
        out.extend_from_slice(&2078u32.to_be_bytes());
        out.extend_from_slice(b"\0\0\0\x03\0\0\0\x0bsearch_path\0\0\0\x02hr\0\0\0\x01f\0\0");
        Ok(())
    })
    .unwrap();
    gate.client(&out);
    gate.until_ready(3);
    assert!(text(&gate.sent).contains("search_path"));
    let reply = gate.query("select who from salaries");
    assert!(text(&reply).contains("42501"), "{}", text(&reply));
}

#[test]
fn data_of_a_copy_waits_for_the_disk_as_statements_do() {
    let postgres = Postgres::start();
    customers(&postgres);
    let mut gate = owner(&postgres);
    let mut out = Vec::new();
    query(&mut out, "copy customers from stdin");
    gate.client(&out);
    gate.until_tag(b'G');
    gate.core.settings.strict = true;
    let mut out = Vec::new();
    write::copy_data(&mut out, b"2\tcanary\n").unwrap();
    gate.client(&out);
    assert!(!text(&gate.sent).contains("canary"));
}

#[test]
fn a_client_that_reads_no_refusals_is_not_read_either() {
    let postgres = Postgres::start();
    let mut gate = owner(&postgres);
    let mut out = Vec::new();
    query(&mut out, "no such words");
    // Refused here, without the target: what is to go to the client grows with what it sends.
    let before = gate.sent.len();
    gate.client(&out);
    assert_eq!(gate.sent.len(), before);
    assert!(gate.session.wants_client(1 << 20));
    gate.session.client_congested = true;
    assert!(!gate.session.wants_client(1 << 20));
    assert!(!gate.session.wants_target());
}

#[test]
fn replies_of_portals_read_in_part_count_as_the_sessions_memory() {
    let postgres = Postgres::start();
    let mut gate = owner(&postgres);
    gate.core.settings.session_bytes_max = 2 << 20;
    let mut gate = gate.again();
    let mut out = Vec::new();
    query(&mut out, "begin");
    for n in 0..100 {
        parse(
            &mut out,
            "",
            "select repeat('x', 60000) from generate_series(1, 3)",
        );
        bind(&mut out, &format!("p{n}"), "");
        execute(&mut out, &format!("p{n}"), 1);
    }
    write::sync(&mut out);
    query(&mut out, "rollback");
    query(&mut out, "select 1");
    gate.client(&out);
    gate.until_ready(5);
    // The ends of what is gone are recorded before the next message.
    gate.query("select 2");
    let records = gate.records();
    let kept: usize = records
        .iter()
        .map(|r| match r {
            Body::Stream {
                direction: Direction::ToClient,
                bytes,
                ..
            } => bytes.len(),
            _ => 0,
        })
        .sum();
    assert!(
        (1..=2 << 20).contains(&kept),
        "{kept} bytes of replies were kept at once"
    );
}
