//! Statements that wait for a person: psql and psycopg, asked, approved, denied, cancelled, left.

use headgate_e2e::run::{Ran, Running};
use headgate_e2e::{Gate, Setup, World, python};
use rustix::process::Signal;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(40);

const RULES: &str = r#"
[[rule]]
name = "everything"
statement = { class = ["read", "write", "ddl", "session", "transaction", "catalog", "maintenance"] }
effect = "allow"

[[rule]]
name = "deletes wait"
statement = { verbs = ["delete"] }
effect = "hold"
reviewers = { groups = ["dba"] }

[[rule]]
name = "truncate waits two seconds"
statement = { verbs = ["truncate table"] }
effect = "hold"
wait = "2s"
reviewers = { groups = ["dba"] }
"#;

fn gate() -> &'static Gate {
    static GATE: OnceLock<Gate> = OnceLock::new();
    GATE.get_or_init(|| {
        World::shared()
            .postgres
            .sql(
                "shop",
                "SET ROLE shop_app; CREATE TABLE things (n int, test text)",
            )
            .unwrap();
        World::shared().gate(&Setup::with_rules(RULES))
    })
}

/// A row that only this test knows.
fn thing(test: &str) -> String {
    gate();
    World::shared()
        .postgres
        .sql("shop", &format!("INSERT INTO things VALUES (1, '{test}')"))
        .unwrap();
    format!("DELETE FROM things WHERE test = '{test}'")
}

fn is_there(test: &str) -> bool {
    World::shared()
        .postgres
        .sql(
            "shop",
            &format!("SELECT count(*) FROM things WHERE test = '{test}'"),
        )
        .unwrap()
        .trim()
        == "1"
}

fn alice() -> String {
    gate().token("alice", &["analysts"]).unwrap()
}

fn dana() -> String {
    gate().token("dana", &["dba"]).unwrap()
}

fn approve(number: &str) -> Ran {
    gate().headgate_as(&dana(), &["approve", number]).unwrap()
}

/// A case of `hold.py` whose statement gets this answer; the script itself says whether it went as it should.
fn answered(case: &str, yes: bool) {
    thing(case);
    let python = psycopg(case);
    let number = gate().await_question(&format!("'{case}'")).unwrap();
    let said = if yes {
        approve(&number)
    } else {
        gate()
            .headgate_as(&dana(), &["deny", &number, "--reason", "no"])
            .unwrap()
    };
    assert!(said.ok(), "{}", said.all());
    let ran = python.wait(PATIENCE).unwrap();
    assert!(ran.ok(), "{}", ran.all());
}

fn psycopg(case: &str) -> Running {
    let mut command = Command::new(python::interpreter().unwrap());
    command
        .arg(python::script("hold.py"))
        .arg(case)
        .envs(gate().environment(&alice()));
    Running::start(&mut command, "").unwrap()
}

#[test]
fn a_held_statement_says_where_it_waits_and_succeeds_once_approved() {
    let delete = thing("approved");
    let mut psql = gate().psql_beside(&alice(), &delete).unwrap();
    let number = gate().await_question("'approved'").unwrap();
    let heard = psql.await_text(&format!("held as {number}"), PATIENCE).unwrap();
    assert!(
        heard.contains(&format!("http://127.0.0.1:{}/questions/", gate().api)),
        "{heard}"
    );
    assert!(is_there("approved"), "nothing is done before the answer");
    let said = approve(&number);
    assert!(said.ok() && said.stdout.contains("approved"), "{}", said.all());
    let ran = psql.wait(PATIENCE).unwrap();
    assert!(ran.ok() && ran.stdout.contains("DELETE 1"), "{}", ran.all());
    assert!(!is_there("approved"));
}

#[test]
fn nobody_approves_their_own_statement_not_even_as_a_reviewer() {
    let delete = thing("own");
    let psql = gate().psql_beside(&dana(), &delete).unwrap();
    let number = gate().await_question("'own'").unwrap();
    let own = approve(&number);
    assert!(!own.ok(), "{}", own.all());
    let outsider = gate()
        .headgate_as(
            &gate().token("mallory", &["analysts"]).unwrap(),
            &["approve", &number],
        )
        .unwrap();
    assert!(!outsider.ok(), "{}", outsider.all());
    assert!(is_there("own"));
    let other = gate()
        .headgate_as(&gate().token("dirk", &["dba"]).unwrap(), &["approve", &number])
        .unwrap();
    assert!(other.ok(), "{}", other.all());
    assert!(psql.wait(PATIENCE).unwrap().ok());
}

#[test]
fn a_denial_reaches_the_client_with_its_reason_and_the_session_lives_on() {
    let delete = thing("denied");
    let mut command = gate().psql_command(
        &alice(),
        &[
            "-v",
            "ON_ERROR_STOP=0",
            "-c",
            "\\set VERBOSITY verbose",
            "-c",
            &delete,
            "-c",
            "SELECT 'alive'",
        ],
    );
    let psql = Running::start(&mut command, "").unwrap();
    let number = gate().await_question("'denied'").unwrap();
    let no = gate()
        .headgate_as(&dana(), &["deny", &number, "--reason", "not on a Friday"])
        .unwrap();
    assert!(no.ok(), "{}", no.all());
    let ran = psql.wait(PATIENCE).unwrap();
    assert!(
        ran.stderr.contains("HG001") && ran.stderr.contains("not on a Friday") && ran.stderr.contains("dana"),
        "{}",
        ran.all()
    );
    assert!(ran.stdout.contains("alive"), "{}", ran.all());
    assert!(is_there("denied"));
}

#[test]
fn nobody_answers_and_the_deadline_denies() {
    let psql = gate().psql_beside(&alice(), "TRUNCATE things_of_nobody").unwrap();
    let ran = psql.wait(PATIENCE).unwrap();
    assert!(
        !ran.ok() && ran.stderr.contains("before its deadline"),
        "{}",
        ran.all()
    );
    assert!(ran.took < Duration::from_secs(15), "{:?}", ran.took);
}

#[test]
fn a_cancel_takes_the_question_back() {
    let delete = thing("cancelled");
    let psql = gate().psql_beside(&alice(), &delete).unwrap();
    let number = gate().await_question("'cancelled'").unwrap();
    psql.signal(Signal::INT);
    let ran = psql.wait(PATIENCE).unwrap();
    assert!(
        ran.stderr.contains("canceling statement due to user request"),
        "{}",
        ran.all()
    );
    let late = approve(&number);
    assert!(!late.ok(), "a withdrawn question takes no answer: {}", late.all());
    assert!(is_there("cancelled"));
}

#[test]
fn after_a_cancel_the_session_lives_on() {
    thing("driver-cancel");
    let ran = psycopg("driver-cancel").wait(PATIENCE).unwrap();
    assert!(ran.ok(), "{}", ran.all());
    assert!(is_there("driver-cancel"));
}

#[test]
fn a_client_that_goes_away_withdraws_its_question() {
    let delete = thing("gone");
    let psql = gate().psql_beside(&alice(), &delete).unwrap();
    let number = gate().await_question("'gone'").unwrap();
    psql.signal(Signal::KILL);
    headgate_e2e::run::until("the question is withdrawn", PATIENCE, || {
        !gate().questions().unwrap().contains(&number)
    })
    .unwrap();
    assert!(!approve(&number).ok());
    assert!(is_there("gone"));
}

#[test]
fn an_approval_is_spent_once() {
    let delete = thing("once");
    let mut command = gate().psql_command(&alice(), &["-c", &delete, "-c", &delete]);
    let mut psql = Running::start(&mut command, "").unwrap();
    let first = gate().await_question("'once'").unwrap();
    assert!(approve(&first).ok());
    psql.await_text("DELETE 1", PATIENCE).unwrap();
    let second = gate().await_question("'once'").unwrap();
    assert_ne!(first, second, "the same text asks again");
    assert!(approve(&second).ok());
    let ran = psql.wait(PATIENCE).unwrap();
    assert!(ran.ok() && ran.stdout.contains("DELETE 0"), "{}", ran.all());
}

#[test]
fn the_reviewer_sees_the_parameters_of_a_prepared_statement() {
    thing("parameters");
    let python = psycopg("parameters");
    let number = gate().await_question("test = $1").unwrap();
    let shown = gate().headgate_as(&dana(), &["questions", &number]).unwrap();
    assert!(shown.stdout.contains("'parameters'"), "{}", shown.all());
    assert!(approve(&number).ok());
    let ran = python.wait(PATIENCE).unwrap();
    assert!(ran.ok(), "{}", ran.all());
    assert!(!is_there("parameters"));
}

#[test]
fn a_pipeline_waits_at_the_held_statement_and_goes_on_in_order() {
    answered("pipeline", true);
}

#[test]
fn a_pipeline_whose_held_statement_is_denied_skips_to_its_sync() {
    answered("pipeline-denied", false);
    assert!(is_there("pipeline-denied"));
}

#[test]
fn inside_a_transaction_a_denial_fails_the_transaction_as_an_error_does() {
    answered("transaction", false);
    assert!(is_there("transaction"));
}

#[test]
fn inside_a_transaction_an_approved_statement_can_still_be_rolled_back() {
    answered("rollback", true);
    assert!(is_there("rollback"));
}
