//! psql (libpq), unmodified, over TLS.

use headgate_e2e::run::{Ran, run};
use headgate_e2e::{Gate, World};
use rustix::process::Signal;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(40);

fn token() -> String {
    World::open_gate().token("alice", &["analysts"]).unwrap()
}

/// What psql says of a script that it does not leave at an error.
fn past_errors(gate: &Gate, script: &str) -> Ran {
    let mut psql = gate.psql_command(&token(), &["-q", "-v", "ON_ERROR_STOP=0", "-f", "-"]);
    run(&mut psql, script, PATIENCE).unwrap()
}

#[test]
fn a_query_comes_back_over_tls_that_the_client_verified() {
    let gate = World::open_gate();
    let answer = gate
        .psql(
            &token(),
            "SELECT 1 + 1; SELECT count(*) FROM customers; SELECT current_user;",
        )
        .unwrap()
        .good()
        .unwrap();
    assert_eq!(answer.lines().collect::<Vec<_>>(), ["2", "160", "shop_app"]);
    let about = run(
        &mut gate.psql_command(&token(), &["-c", "\\conninfo"]),
        "",
        PATIENCE,
    )
    .unwrap()
    .good()
    .unwrap();
    assert!(about.contains("TLSv1.3"), "{about}");
}

#[test]
fn the_catalogue_commands_of_psql_work() {
    let gate = World::open_gate();
    let script = "\\d\n\\d customers\n\\dt+\n\\di\n\\df\n\\du\n\\l\n\\dn\n\\sf pg_catalog.now\n";
    let answer = gate.psql(&token(), script).unwrap().good().unwrap();
    for words in [
        "customers",
        "id|integer||not null|",
        "customers_pkey",
        "shop_app",
        "FUNCTION pg_catalog.now()",
    ] {
        assert!(answer.contains(words), "{words}: {answer}");
    }
}

#[test]
fn copy_goes_in_and_comes_out_as_it_was() {
    let gate = World::open_gate();
    let rows: String = (1..=20_000)
        .map(|n| format!("{n}\tline {n} with \\\\ and \\t\n"))
        .collect();
    let file = gate.write("rows.tsv", &rows).unwrap();
    let out = gate.folder.join("out.tsv");
    let script = format!(
        "CREATE TEMP TABLE copied (n int, t text);\n\\copy copied FROM '{}'\nSELECT count(*), max(n) FROM copied;\n\\copy (SELECT * FROM copied ORDER BY n) TO '{}'\n",
        file.display(),
        out.display()
    );
    let answer = gate.psql(&token(), &script).unwrap().good().unwrap();
    assert!(answer.contains("20000|20000"), "{answer}");
    assert!(
        std::fs::read_to_string(out).unwrap() == rows,
        "the bytes that came out are those that went in"
    );
}

#[test]
fn a_copy_that_fails_half_way_leaves_the_session_usable() {
    let gate = World::open_gate();
    let script = "CREATE TEMP TABLE copied (n int);\nCOPY copied FROM STDIN;\n1\nnot a number\n3\n\\.\nSELECT 'still here';\n";
    let ran = past_errors(gate, script);
    assert!(
        ran.stderr.contains("invalid input syntax for type integer"),
        "{}",
        ran.all()
    );
    assert!(ran.stdout.contains("still here"), "{}", ran.all());
}

#[test]
fn an_error_comes_with_code_and_position_and_the_session_lives_on() {
    let gate = World::open_gate();
    let script = "\\set VERBOSITY verbose\nSELECT no_such_column FROM customers;\nSELECT 1/0;\nSELEC 1;\nSELECT 'after';\n";
    let ran = past_errors(gate, script);
    for words in [
        "42703",
        "22012",
        "42601",
        "LINE 1: SELECT no_such_column",
        "LINE 1: SELEC 1;",
    ] {
        assert!(ran.stderr.contains(words), "{words}: {}", ran.all());
    }
    assert!(ran.stdout.contains("after"), "{}", ran.all());
}

#[test]
fn a_transaction_is_rolled_back_and_another_is_committed() {
    let gate = World::open_gate();
    let script = "CREATE TABLE kept (n int);\nBEGIN;\nINSERT INTO kept VALUES (1);\nROLLBACK;\nBEGIN;\nINSERT INTO kept VALUES (2);\n\
                  SAVEPOINT s;\nINSERT INTO kept VALUES (3);\nROLLBACK TO s;\nCOMMIT;\nSELECT array_agg(n) FROM kept;\nDROP TABLE kept;\n";
    let answer = gate.psql(&token(), script).unwrap().good().unwrap();
    assert!(answer.contains("{2}"), "{answer}");
}

#[test]
fn statements_of_a_failed_transaction_are_refused_until_its_end() {
    let gate = World::open_gate();
    let script = "BEGIN;\nSELECT 1/0;\nSELECT 2;\nROLLBACK;\nSELECT 'fresh';\n";
    let ran = past_errors(gate, script);
    assert!(
        ran.stderr.contains("current transaction is aborted"),
        "{}",
        ran.all()
    );
    assert!(ran.stdout.contains("fresh"), "{}", ran.all());
}

#[test]
fn ctrl_c_in_psql_cancels_the_running_statement() {
    let gate = World::open_gate();
    // psql leaves its script at Ctrl-C; that the session lives on is shown by the drivers.
    let psql = gate.psql_beside(&token(), "SELECT pg_sleep(60)").unwrap();
    let postgres = &World::shared().postgres;
    headgate_e2e::run::until("the statement runs", PATIENCE, || {
        postgres
            .sql(
                "postgres",
                "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND state = 'active' AND pid <> pg_backend_pid()",
            )
            .unwrap()
            .trim()
            != "0"
    })
    .unwrap();
    psql.signal(Signal::INT);
    let ran = psql.wait(PATIENCE).unwrap();
    assert!(
        ran.stderr.contains("canceling statement due to user request"),
        "{}",
        ran.all()
    );
    assert!(ran.took < Duration::from_secs(20), "{:?}", ran.took);
}

#[test]
fn a_notification_bears_the_process_id_that_the_session_knows_itself_by() {
    let gate = World::open_gate();
    let answer = gate
        .psql(
            &token(),
            "LISTEN bell;\nNOTIFY bell, 'ding';\nSELECT 'pid', pg_backend_pid();\n",
        )
        .unwrap()
        .good()
        .unwrap();
    let pid = answer
        .lines()
        .find_map(|line| line.strip_prefix("pid|"))
        .unwrap_or_else(|| panic!("{answer}"));
    assert!(answer.contains("\"bell\" with payload \"ding\""), "{answer}");
    assert!(
        answer.contains(&format!("server process with PID {pid}")),
        "{answer}"
    );
}

#[test]
fn a_large_result_and_a_large_statement_pass() {
    let gate = World::open_gate();
    let answer = gate
        .psql(&token(), "SELECT md5(string_agg(n::text, ',')) FROM generate_series(1, 300000) n;\nSELECT repeat('x', 3000000);\n")
        .unwrap()
        .good()
        .unwrap();
    assert_eq!(answer.trim().lines().nth(1).map(str::len), Some(3_000_000));
    let long = format!("SELECT length('{}');", "y".repeat(200_000));
    assert_eq!(
        gate.psql(&token(), &long).unwrap().good().unwrap().trim(),
        "200000"
    );
}
