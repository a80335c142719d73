//! Statements that do not wait for a person (`on_hold = "refuse"`): psql and psycopg, refused with a number, approved by
//! somebody else, and sent again.

use headgate_e2e::run::{Ran, Running, run, send};
use headgate_e2e::{Gate, Setup, World, python};
use rustix::process::Signal;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

const RULES: &str = r#"
[[rule]]
name = "everything"
statement = { class = ["read", "write", "ddl", "session", "transaction", "catalog", "maintenance"] }
effect = "allow"

[[rule]]
name = "deletes are asked for"
statement = { verbs = ["delete"] }
effect = "hold"
on_hold = "refuse"
reviewers = { groups = ["dba"] }
message = "name the ticket"

[[rule]]
name = "truncate is asked for, for a moment"
statement = { verbs = ["truncate table"] }
effect = "hold"
on_hold = "refuse"
wait = "5s"
reviewers = { groups = ["dba"] }
"#;

/// Of the tests that leave the processes and rules alone.
fn shared() -> &'static Gate {
    static GATE: OnceLock<Gate> = OnceLock::new();
    GATE.get_or_init(own)
}

fn own() -> Gate {
    let things = "SET ROLE shop_app; CREATE TABLE IF NOT EXISTS things (n int, test text)";
    World::shared().postgres.sql("shop", things).unwrap();
    World::shared().gate(&Setup::with_rules(RULES))
}

/// A row that only this test knows, and the statement that takes it away.
fn thing(test: &str) -> String {
    World::shared()
        .postgres
        .sql("shop", &format!("INSERT INTO things VALUES (1, '{test}')"))
        .unwrap();
    format!("DELETE FROM things WHERE test = '{test}'")
}

fn is_there(test: &str) -> bool {
    let count = format!("SELECT count(*) FROM things WHERE test = '{test}'");
    World::shared().postgres.sql("shop", &count).unwrap().trim() == "1"
}

fn alice(gate: &Gate) -> String {
    gate.token("alice", &["analysts"]).unwrap()
}

fn approve(gate: &Gate, number: &str) -> Ran {
    let dana = gate.token("dana", &["dba"]).unwrap();
    gate.headgate_as(&dana, &["approve", number]).unwrap()
}

/// One statement in a session of its own, with all that psql says of an error; the session must live on.
fn psql(gate: &Gate, token: &str, statement: &str) -> Ran {
    let args = [
        "-v",
        "ON_ERROR_STOP=0",
        "-c",
        "\\set VERBOSITY verbose",
        "-c",
        statement,
        "-c",
        "SELECT 'alive'",
    ];
    let ran = run(&mut gate.psql_command(token, &args), "", PATIENCE).unwrap();
    assert!(ran.stdout.contains("alive"), "{}", ran.all());
    ran
}

/// The number that an HG005 names.
fn refused(ran: &Ran) -> String {
    assert!(ran.stderr.contains("HG005"), "{}", ran.all());
    let at = ran.stderr.find("HG-").unwrap_or_else(|| panic!("{}", ran.all()));
    let number: String = ran.stderr[at + 3..]
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    format!("HG-{number}")
}

fn psycopg(gate: &Gate, case: &str, test: &str) -> Ran {
    let mut command = Command::new(python::interpreter().unwrap());
    command
        .arg(python::script("refuse.py"))
        .args([case, test])
        .envs(gate.environment(&alice(gate)));
    let ran = Running::start(&mut command, "").unwrap().wait(PATIENCE).unwrap();
    assert!(ran.ok(), "{}", ran.all());
    ran
}

fn number_of(ran: &Ran) -> String {
    ran.stdout.lines().next().unwrap_or_default().to_owned()
}

#[test]
fn a_refused_statement_runs_once_when_it_is_sent_again_after_approval() {
    let gate = shared();
    let delete = thing("once");
    let first = psql(gate, &alice(gate), &delete);
    let number = refused(&first);
    for said in [
        &format!("http://127.0.0.1:{}/questions/{number}", gate.api),
        "deletes are asked for",
        "name the ticket",
        "identical statement",
        "was not run",
    ] {
        assert!(first.stderr.contains(said), "{said}: {}", first.all());
    }
    // Still open: the same number. Its client is gone: it stands.
    assert_eq!(refused(&psql(gate, &alice(gate), &delete)), number);
    assert!(gate.questions().unwrap().contains(&number));
    let mine = gate.token("alice", &["dba"]).unwrap();
    assert!(!gate.headgate_as(&mine, &["approve", &number]).unwrap().ok());
    assert!(is_there("once"));
    let yes = approve(gate, &number);
    assert!(yes.ok() && yes.stdout.contains("refuse"), "{}", yes.all());
    assert!(is_there("once"), "an approval runs nothing by itself");
    // Not for somebody else.
    let bob = gate.token("bob", &["analysts"]).unwrap();
    assert_ne!(refused(&psql(gate, &bob, &delete)), number);
    let second = psql(gate, &alice(gate), &delete);
    assert!(second.stdout.contains("DELETE 1"), "{}", second.all());
    assert!(!is_there("once"));
    let third = refused(&psql(gate, &alice(gate), &delete));
    assert_ne!(third, number, "spent is spent");

    // Each of the three is recorded with the number, and how it ended.
    let rows = gate
        .audit(&["--principal", "alice", "--text", "test = 'once'"], |rows| {
            rows.len() >= 4 && rows.iter().all(|row| row["outcome"].is_string())
        })
        .unwrap();
    let of = |number: &str| -> Vec<(String, String)> {
        rows.iter()
            .filter(|row| row["question"] == number)
            .map(|row| {
                let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
                (text("answer"), text("outcome"))
            })
            .collect()
    };
    let mut all = of(&number);
    all.sort();
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(
        all,
        [
            pair("approved", "done"),
            pair("left", "not_run"),
            pair("left", "not_run")
        ],
        "{rows:#?}"
    );
    assert_eq!(of(&third), [pair("left", "not_run")], "{rows:#?}");
}

#[test]
fn a_driver_is_refused_with_its_parameters_and_another_value_is_another_question() {
    let gate = shared();
    thing("driver");
    let number = number_of(&psycopg(gate, "number", "driver"));
    let dana = gate.token("dana", &["dba"]).unwrap();
    let shown = gate.headgate_as(&dana, &["questions", &number]).unwrap();
    assert!(
        shown.stdout.contains("'driver'") && shown.stdout.contains("sends the same statement again"),
        "{}",
        shown.all()
    );
    assert!(approve(gate, &number).ok());
    psycopg(gate, "runs", "driver");
    assert!(!is_there("driver"));
}

#[test]
fn of_eight_sessions_at_the_same_moment_one_spends_the_approval() {
    let gate = shared();
    for round in ["race-1", "race-2", "race-3"] {
        let delete = thing(round);
        let number = refused(&psql(gate, &alice(gate), &delete));
        assert!(approve(gate, &number).ok());
        psycopg(gate, "race", round);
        assert!(!is_there(round));
    }
}

#[test]
fn a_denial_holds_for_the_identical_statement_in_every_session() {
    let gate = shared();
    let delete = thing("denied");
    let number = refused(&psql(gate, &alice(gate), &delete));
    let dana = gate.token("dana", &["dba"]).unwrap();
    let no = ["deny", &number, "--reason", "not on a Friday"];
    assert!(gate.headgate_as(&dana, &no).unwrap().ok());
    for _ in 0..2 {
        let ran = psql(gate, &alice(gate), &delete);
        for said in ["HG001", &number, "not on a Friday", "dana"] {
            assert!(ran.stderr.contains(said), "{said}: {}", ran.all());
        }
    }
    assert!(is_there("denied"));
}

#[test]
fn after_the_deadline_it_asks_anew_and_the_old_question_takes_no_answer() {
    let gate = shared();
    let token = alice(gate);
    let truncate = "TRUNCATE things_of_nobody";
    let open = refused(&psql(gate, &token, truncate));
    headgate_e2e::run::until("the deadline has come", PATIENCE, || {
        !gate.questions().unwrap().contains(&open)
    })
    .unwrap();
    assert!(!approve(gate, &open).ok());
    let approved = refused(&psql(gate, &token, truncate));
    assert_ne!(approved, open);
    assert!(approve(gate, &approved).ok());
    headgate_e2e::run::until("the approval has lapsed", PATIENCE, || {
        !gate.questions().unwrap().contains(&approved)
    })
    .unwrap();
    let anew = refused(&psql(gate, &token, truncate));
    assert!(anew != open && anew != approved);
}

#[test]
fn an_approval_that_is_taken_back_is_not_spent() {
    let gate = shared();
    let delete = thing("taken-back");
    let number = refused(&psql(gate, &alice(gate), &delete));
    assert!(approve(gate, &number).ok());
    let dana = gate.token("dana", &["dba"]).unwrap();
    let back = gate
        .headgate_as(&dana, &["revoke", "--question", &number])
        .unwrap();
    assert!(back.ok(), "{}", back.all());
    assert_ne!(refused(&psql(gate, &alice(gate), &delete)), number);
    assert!(is_there("taken-back"));
}

#[test]
fn inside_a_transaction_it_is_an_error_as_any_and_in_a_pipeline_it_stands_in_its_place() {
    let gate = shared();
    thing("transaction");
    let number = number_of(&psycopg(gate, "transaction", "transaction"));
    assert!(number.starts_with("HG-"), "{number}");
    assert!(is_there("transaction"));
    thing("pipeline");
    psycopg(gate, "pipeline", "pipeline");
    assert!(is_there("pipeline"));
}

#[test]
fn under_another_search_path_the_same_text_is_another_statement() {
    let gate = shared();
    let delete = thing("path");
    let number = refused(&psql(gate, &alice(gate), &delete));
    assert!(approve(gate, &number).ok());
    let args = [
        "-v",
        "ON_ERROR_STOP=0",
        "-c",
        "\\set VERBOSITY verbose",
        "-c",
        "SET search_path = public",
        "-c",
        &delete,
    ];
    let ran = run(&mut gate.psql_command(&alice(gate), &args), "", PATIENCE).unwrap();
    let other = refused(&ran);
    assert_ne!(other, number);
    let dana = gate.token("dana", &["dba"]).unwrap();
    let shown = gate.headgate_as(&dana, &["questions", &other]).unwrap();
    assert!(shown.stdout.contains("search_path"), "{}", shown.all());
    let ran = psql(gate, &alice(gate), &delete);
    assert!(ran.stdout.contains("DELETE 1"), "{}", ran.all());
}

#[test]
fn an_approval_outlives_both_planes_and_is_spent_once_and_new_rules_end_it() {
    let gate = own();
    let token = alice(&gate);
    let delete = thing("restarts");
    let number = refused(&psql(&gate, &token, &delete));
    let old = gate.kill("controlplane").unwrap();
    gate.await_restart("controlplane", old, PATIENCE).unwrap();
    headgate_e2e::run::until("the API answers", PATIENCE, || gate.questions().is_ok()).unwrap();
    assert!(approve(&gate, &number).ok());
    let old = gate.kill("controlplane").unwrap();
    gate.await_restart("controlplane", old, PATIENCE).unwrap();
    let old = gate.kill("headgate-dataplane").unwrap();
    gate.await_restart("headgate-dataplane", old, PATIENCE).unwrap();
    headgate_e2e::run::until("the gate is ready", PATIENCE, || {
        gate.http("/readyz").is_ok_and(|(status, _)| status == 200)
            && std::net::TcpStream::connect(("127.0.0.1", gate.port)).is_ok()
    })
    .unwrap();
    let ran = psql(&gate, &token, &delete);
    assert!(ran.stdout.contains("DELETE 1"), "{}\n{}", ran.all(), gate.log());
    let third = refused(&psql(&gate, &token, &delete));
    assert_ne!(third, number);

    // An approval under other rules is none.
    assert!(approve(&gate, &third).ok());
    gate.write("rules.toml", &format!("{RULES}\n# changed\n"))
        .unwrap();
    gate.headgate(&["rules", "reload"], "").unwrap().good().unwrap();
    let anew = refused(&psql(&gate, &token, &delete));
    assert_ne!(anew, third);
}

#[test]
fn while_the_control_plane_does_not_answer_it_is_refused_and_the_approval_is_kept() {
    let gate = own();
    let token = alice(&gate);
    let delete = thing("stopped");
    let number = refused(&psql(&gate, &token, &delete));
    assert!(approve(&gate, &number).ok());
    // A session that is there already.
    let mut held = gate.psql_command(
        &token,
        &[
            "-v",
            "ON_ERROR_STOP=0",
            "-c",
            "\\set VERBOSITY verbose",
            "-f",
            "-",
        ],
    );
    let folder = gate.folder.join("stopped");
    let script = format!(
        "SELECT 'here';\n\\! touch '{0}.begun'; while [ ! -e '{0}.go' ]; do sleep 0.05; done\n{delete};\nSELECT 'alive';\n",
        folder.display()
    );
    let psql_beside = Running::start(&mut held, &script).unwrap();
    headgate_e2e::run::until("the session is there", PATIENCE, || {
        folder.with_extension("begun").exists()
    })
    .unwrap();
    let control = gate.pid_of("controlplane").unwrap();
    send(control, Signal::STOP);
    std::fs::write(folder.with_extension("go"), "").unwrap();
    let ran = psql_beside.wait(PATIENCE).unwrap();
    send(control, Signal::CONT);
    assert!(
        ran.stderr.contains("HG004") && ran.stdout.contains("alive"),
        "{}",
        ran.all()
    );
    assert!(is_there("stopped"));
    // What it had claimed meanwhile comes back, and is spent by the next.
    headgate_e2e::run::until("it can be spent", PATIENCE, || {
        psql(&gate, &token, &delete).stdout.contains("DELETE 1")
    })
    .unwrap();
    assert!(!is_there("stopped"));
}
