//! Statements that do not wait for people (`on_hold = "refuse"`): refused with a number, or sent with an approval that lay
//! ready, before a real PostgreSQL.

mod common;

use common::{Gate, Postgres, all_classes, rule, snapshot, tags, text, verbs};
use headgate_plane::question::Asked;
use headgate_plane::{
    Answer, Effect, OnHold, Question, QuestionNumber, Rule, RuleStatement, ToControl, Withdrawal,
};
use headgate_postgres::write;
use headgate_recording::{Body, Outcome, StatementOutcome};

const UPDATE: &[u8] = b"update t set id = id + 1";

fn rules() -> Vec<Rule> {
    let everything = RuleStatement {
        class: Some(all_classes()),
        ..RuleStatement::default()
    };
    let mut held = rule("updates are asked for", Effect::Hold, verbs(&["update"]));
    held.on_hold = OnHold::Refuse;
    vec![rule("everything", Effect::Allow, everything), held]
}

fn signed_in(postgres: &Postgres) -> Gate {
    let mut gate = Gate::signed_in(postgres.port, snapshot(rules(), Vec::new()));
    gate.query("create table t (id int); insert into t values (1)");
    gate
}

/// Sends a message that asks, and returns the question.
fn asks(gate: &mut Gate, message: &[u8]) -> Question {
    let before = gate.questions.len();
    gate.client(message);
    for _ in 0..5 {
        gate.pump();
    }
    assert_eq!(gate.questions.len(), before + 1, "one question");
    gate.questions[before].clone()
}

fn simple() -> Vec<u8> {
    let mut message = Vec::new();
    write::query(&mut message, UPDATE).unwrap();
    message
}

/// The control plane says how the question stands.
fn stands(gate: &mut Gate, question: &Question, left_ms: i64, answer: Answer) {
    let now = i64::try_from(gate.core.clock.unix_ms()).unwrap();
    let asked = Asked {
        key: question.key,
        number: QuestionNumber(17),
        address: "https://gate/questions/HG-17".to_owned(),
        deadline_unix_ms: u64::try_from(now + left_ms).unwrap(),
    };
    gate.session.asked(&mut gate.core, &asked);
    gate.session.answered(&mut gate.core, question.key, answer);
    gate.settle();
}

fn approved(question: &Question) -> Answer {
    Answer::Approved {
        reviewers: vec!["bob".to_owned()],
        digest: question.digest,
    }
}

fn ready(gate: &Gate) -> usize {
    gate.tags().iter().filter(|t| **t == b'Z').count()
}

fn was_sent(gate: &Gate) -> bool {
    text(&gate.sent).contains("update t")
}

fn told_spent(gate: &Gate, question: &Question) -> bool {
    let key = question.key;
    gate.control
        .iter()
        .any(|m| matches!(m, ToControl::Spent { key: k } if *k == key))
}

fn gave_back(gate: &Gate, question: &Question) -> bool {
    let key = question.key;
    gate.control
        .iter()
        .any(|m| matches!(m, ToControl::Withdraw { key: k, .. } if *k == key))
}

/// Answers to a question and ends, of the statement with this number.
fn recorded(gate: &mut Gate, question: &Question) -> (Vec<(u64, Outcome)>, Vec<StatementOutcome>) {
    let (mut answers, mut ends) = (Vec::new(), Vec::new());
    for body in gate.records() {
        match body {
            Body::Answered {
                statement,
                question: number,
                outcome,
                digest,
                ..
            } if statement == question.key.statement => {
                assert_eq!(digest, question.digest);
                answers.push((number, outcome));
            }
            Body::StatementEnd {
                statement, outcome, ..
            } if statement == question.key.statement => ends.push(outcome),
            _ => {}
        }
    }
    (answers, ends)
}

#[test]
fn a_statement_that_does_not_wait_is_refused_at_once_with_its_number_and_the_session_lives_on() {
    let postgres = Postgres::start();
    let mut gate = signed_in(&postgres);
    let (before, count) = (gate.received.len(), ready(&gate));
    let question = asks(&mut gate, &simple());
    assert_eq!(question.on_hold, OnHold::Refuse);
    assert_eq!(
        gate.received.len(),
        before,
        "nothing is said before it is known how it stands"
    );
    stands(&mut gate, &question, 90_500, Answer::NotYet);
    gate.until_ready(count + 1);
    assert_eq!(tags(&gate.received[before..]), b"EZ");
    let said = text(&gate.received[before..]);
    for part in [
        "HG005",
        "HG-17",
        "https://gate/questions/HG-17",
        "updates are asked for",
        "identical statement",
        "90 s",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!was_sent(&gate));
    assert!(!gave_back(&gate, &question), "the question stands");
    assert!(text(&gate.query("select id from t")).contains('1'));
    let recorded = recorded(&mut gate, &question);
    assert_eq!(
        recorded,
        (vec![(17, Outcome::Left)], vec![StatementOutcome::NotRun])
    );
}

#[test]
fn an_approval_that_lies_ready_lets_the_statement_go_and_is_told_as_spent() {
    let postgres = Postgres::start();
    let mut gate = signed_in(&postgres);
    let (before, count) = (gate.received.len(), ready(&gate));
    let question = asks(&mut gate, &simple());
    stands(&mut gate, &question, 90_000, approved(&question));
    gate.until_ready(count + 1);
    assert_eq!(tags(&gate.received[before..]), b"CZ");
    assert!(was_sent(&gate) && told_spent(&gate, &question) && !gave_back(&gate, &question));
    let recorded = recorded(&mut gate, &question);
    assert_eq!(
        recorded,
        (vec![(17, Outcome::Approved)], vec![StatementOutcome::Done])
    );
    // The next one is a statement of its own.
    let next = asks(&mut gate, &simple());
    assert_eq!(next.digest, question.digest);
    assert_ne!(next.key, question.key);
}

#[test]
fn an_approval_of_something_else_opens_nothing_and_goes_back() {
    let postgres = Postgres::start();
    let mut gate = signed_in(&postgres);
    let (before, count) = (gate.received.len(), ready(&gate));
    let question = asks(&mut gate, &simple());
    let mut other = question.clone();
    other.digest.0[0] ^= 1;
    stands(&mut gate, &question, 90_000, approved(&other));
    gate.until_ready(count + 1);
    assert_eq!(tags(&gate.received[before..]), b"EZ");
    assert!(!was_sent(&gate) && !told_spent(&gate, &question) && gave_back(&gate, &question));
}

#[test]
fn an_approval_whose_own_deadline_has_passed_is_none() {
    let postgres = Postgres::start();
    let mut gate = signed_in(&postgres);
    let count = ready(&gate);
    let question = asks(&mut gate, &simple());
    stands(&mut gate, &question, -1, approved(&question));
    gate.until_ready(count + 1);
    assert!(text(&gate.received).contains("HG002"));
    assert!(!was_sent(&gate) && !told_spent(&gate, &question));
}

#[test]
fn a_denial_reaches_it_with_its_reason() {
    let postgres = Postgres::start();
    let mut gate = signed_in(&postgres);
    let count = ready(&gate);
    let question = asks(&mut gate, &simple());
    let answer = Answer::Denied {
        reviewer: "bob".to_owned(),
        reason: "not today".to_owned(),
    };
    stands(&mut gate, &question, 90_000, answer);
    gate.until_ready(count + 1);
    let said = text(&gate.received);
    assert!(
        said.contains("HG001") && said.contains("HG-17") && said.contains("not today"),
        "{said}"
    );
    assert!(!was_sent(&gate));
}

#[test]
fn nobody_to_ask_refuses_it_and_whatever_was_set_aside_for_it_goes_back() {
    let postgres = Postgres::start();
    let mut gate = signed_in(&postgres);
    let count = ready(&gate);
    let question = asks(&mut gate, &simple());
    let answer = Answer::Unavailable {
        why: "the control plane is away".to_owned(),
    };
    gate.session.answered(&mut gate.core, question.key, answer);
    gate.settle();
    gate.until_ready(count + 1);
    // It may have been on its way: it comes too late.
    stands(&mut gate, &question, 90_000, approved(&question));
    let said = text(&gate.received);
    assert!(
        said.contains("HG004") && said.contains("control plane is away"),
        "{said}"
    );
    assert!(!was_sent(&gate) && !told_spent(&gate, &question) && gave_back(&gate, &question));
    let recorded = recorded(&mut gate, &question);
    assert_eq!(
        recorded,
        (vec![(0, Outcome::Withdrawn)], vec![StatementOutcome::NotRun])
    );
}

#[test]
fn taken_back_while_it_waits_for_room_it_does_not_go() {
    let postgres = Postgres::start();
    let mut gate = signed_in(&postgres);
    let count = ready(&gate);
    let question = asks(&mut gate, &simple());
    gate.stop_recorder();
    gate.fill_spool();
    stands(&mut gate, &question, 90_000, approved(&question));
    assert!(!was_sent(&gate), "not recorded, not done");
    let by = "carol".to_owned();
    gate.session
        .answered(&mut gate.core, question.key, Answer::Revoked { by });
    gate.drain_recorder();
    gate.tick();
    gate.until_ready(count + 1);
    assert!(text(&gate.received).contains("HG003"));
    assert!(!was_sent(&gate) && !told_spent(&gate, &question));
}

#[test]
fn in_a_pipeline_it_stands_in_its_place_and_what_follows_is_skipped_to_sync() {
    let postgres = Postgres::start();
    let mut gate = signed_in(&postgres);
    let (before, count) = (gate.received.len(), ready(&gate));
    let mut message = Vec::new();
    let mut step = |sql: &[u8]| {
        write::parse(&mut message, b"", sql, &[]).unwrap();
        write::bind(&mut message, b"", b"", &[], std::iter::empty(), &[]).unwrap();
        write::execute(&mut message, b"", 0).unwrap();
    };
    step(b"select 1");
    step(UPDATE);
    step(b"insert into t values (2)");
    write::sync(&mut message);
    write::query(&mut message, b"select count(*) from t").unwrap();
    let question = asks(&mut gate, &message);
    stands(&mut gate, &question, 90_000, Answer::NotYet);
    gate.until_ready(count + 2);
    assert_eq!(tags(&gate.received[before..]), b"12DC1EZTDCZ");
    let recorded = recorded(&mut gate, &question);
    assert_eq!(recorded.1, [StatementOutcome::NotRun]);

    // The same, in a transaction: failed as by any error.
    gate.query("begin");
    let count = ready(&gate);
    let question = asks(&mut gate, &simple());
    stands(&mut gate, &question, 90_000, Answer::NotYet);
    gate.until_ready(count + 1);
    assert!(text(&gate.query("select 1")).contains("25P02"));
    gate.query("rollback");
    assert!(text(&gate.query("select id from t")).contains('1'), "nothing ran");
}

#[test]
fn other_rules_ask_anew_and_the_old_claim_goes_back() {
    let postgres = Postgres::start();
    let mut gate = signed_in(&postgres);
    let count = ready(&gate);
    let question = asks(&mut gate, &simple());
    gate.rules(2, rules(), Vec::new());
    assert_eq!(gate.questions.len(), 2, "asked anew");
    let anew = gate.questions[1].clone();
    assert_eq!(anew.epoch.0, 2);
    assert_ne!(anew.digest, question.digest);
    assert!(gave_back(&gate, &question));
    stands(&mut gate, &question, 90_000, approved(&question));
    assert!(!was_sent(&gate), "an answer to the old one is for nobody");
    stands(&mut gate, &anew, 90_000, Answer::NotYet);
    gate.until_ready(count + 1);
    assert!(!was_sent(&gate));
}

#[test]
fn a_client_that_goes_away_meanwhile_leaves_nothing_claimed() {
    let postgres = Postgres::start();
    let mut gate = signed_in(&postgres);
    let question = asks(&mut gate, &simple());
    gate.client_ended();
    gate.until_ended();
    stands(&mut gate, &question, 90_000, approved(&question));
    assert!(!was_sent(&gate));
    assert!(gate.control.iter().any(|m| matches!(
        m,
        ToControl::Withdraw { key, why: Withdrawal::ClientGone } if *key == question.key
    )));
}

#[test]
fn what_names_mean_is_part_of_the_question() {
    let postgres = Postgres::start();
    let mut gate = signed_in(&postgres);
    let mut ask = |before: &str| {
        if !before.is_empty() {
            gate.query(before);
        }
        let count = ready(&gate);
        let question = asks(&mut gate, &simple());
        stands(&mut gate, &question, 90_000, Answer::NotYet);
        gate.until_ready(count + 1);
        (question.digest, question.settings)
    };
    let began = ask("");
    let narrowed = ask("set search_path = public");
    let back = ask("reset search_path");
    assert!(began.1.is_empty());
    assert_eq!(narrowed.1, [("search_path".to_owned(), "\"public\"".to_owned())]);
    assert_ne!(narrowed.0, began.0);
    assert_eq!(back, began);

    // On its way when the statement comes: what it leaves is asked about.
    let mut message = Vec::new();
    write::query(&mut message, b"set search_path = public").unwrap();
    message.extend_from_slice(&simple());
    let question = asks(&mut gate, &message);
    assert_eq!(question.settings, narrowed.1);
    assert_eq!(question.digest, narrowed.0);
}
