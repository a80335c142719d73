//! The desk's face: who may answer, what survives a restart, what is refused.

use headgate_plane::{
    Answer, Epoch, Parameter, ParameterKind, Question, QuestionDigest, QuestionKey, QuestionNumber,
    Reviewers, SessionId, StandsFor, Who, Withdrawal,
};
use headgate_questions::{
    Desk, DeskError, DeskEventKind, QUESTIONS_OPEN_PER_SESSION_MAX, Reply, Reviewer, State,
};
use headgate_store::{MemoryStore, RocksStore, Store};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

struct Bench {
    store: Arc<dyn Store>,
    now: Arc<AtomicU64>,
    desk: Desk,
}

impl Bench {
    fn new() -> Bench {
        Bench::over(Arc::new(MemoryStore::new()), Arc::new(AtomicU64::new(1_000)))
    }

    fn over(store: Arc<dyn Store>, now: Arc<AtomicU64>) -> Bench {
        let clock = now.clone();
        let desk = Desk::new(
            store.clone(),
            Arc::new(move || clock.load(Ordering::Relaxed)),
            "https://gate/questions/",
        )
        .unwrap();
        Bench { store, now, desk }
    }

    /// The process ends and another begins on the same store.
    fn restarted(self) -> Bench {
        let Bench { store, now, desk } = self;
        drop(desk);
        Bench::over(store, now)
    }

    fn ask(&self, statement: u32) -> QuestionNumber {
        self.desk.ask("gate-1/1", question(statement)).unwrap().0.number
    }
}

fn who(principal: &str, groups: &[&str], chain: &[&str]) -> Who {
    let own = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
    Who {
        principal: principal.to_owned(),
        groups: own(groups),
        chain: own(chain),
        issuer: "local".to_owned(),
        ..Who::default()
    }
}

fn dba(principal: &str) -> Reviewer {
    Reviewer::Named(who(principal, &["dba"], &[]))
}

fn question(statement: u32) -> Question {
    let mut q = Question {
        key: QuestionKey {
            session: SessionId(7),
            statement,
        },
        who: who("alice", &["dev", "dba"], &["agent-1", "agent-0"]),
        target: "orders".into(),
        environment: "production".into(),
        role: "orders_app".into(),
        statement: b"DROP TABLE orders".to_vec(),
        stands_for: vec![StandsFor {
            text: b"DROP TABLE orders_old".to_vec(),
            parameters: Vec::new(),
        }],
        parameters: vec![Parameter {
            kind: ParameterKind::Postgres {
                type_oid: 25,
                format: 0,
            },
            value: Some(b"x".to_vec()),
        }],
        open_data: false,
        settings: vec![],
        on_hold: headgate_plane::OnHold::Wait,
        epoch: Epoch(3),
        rule: "schema changes need a DBA".into(),
        reviewers: Reviewers {
            principals: vec!["carol".into(), "agent-0".into()],
            groups: vec!["dba".into()],
            quorum: 1,
        },
        asked_unix_ms: 1_000,
        deadline_unix_ms: 61_000,
        digest: QuestionDigest([0; 32]),
    };
    seal(&mut q);
    q
}

fn seal(q: &mut Question) {
    q.digest = q.digest_now();
}

#[test]
fn an_approval_reaches_the_data_plane_with_the_digest_of_what_was_shown() {
    let b = Bench::new();
    let mut news = b.desk.subscribe();
    let number = b.ask(1);
    assert_eq!(news.try_recv().unwrap().kind, DeskEventKind::Asked);
    let record = b.desk.answer(number, &dba("bob"), Reply::Approve).unwrap();
    assert_eq!(record.state, State::Approved);
    let event = news.try_recv().unwrap();
    assert_eq!(
        event.answer,
        Some(Answer::Approved {
            reviewers: vec!["bob".into()],
            digest: question(1).digest
        })
    );
    assert_eq!(b.desk.spent(question(1).key).unwrap().state, State::Spent);
    assert!(
        matches!(
            b.desk.spent(question(1).key),
            Err(DeskError::NotOpen {
                state: State::Spent,
                ..
            })
        ),
        "an approval is spent once"
    );
}

#[test]
fn a_question_whose_digest_is_not_of_its_fields_is_refused() {
    let b = Bench::new();
    for change in [
        (|q: &mut Question| q.statement = b"SELECT 1".to_vec()) as fn(&mut Question),
        |q| q.parameters[0].value = None,
        |q| q.role = "postgres".into(),
        |q| q.target = "payroll".into(),
        |q| q.who.chain.clear(),
        |q| q.epoch = Epoch(4),
        |q| q.stands_for[0].text = b"DROP TABLE payroll".to_vec(),
        |q| q.stands_for.clear(),
        |q| q.open_data = true,
        |q| q.rule = "another".into(),
        |q| q.environment = "test".into(),
    ] {
        let mut q = question(1);
        change(&mut q);
        assert_eq!(b.desk.ask("gate-1/1", q).unwrap_err(), DeskError::DigestMismatch);
    }
}

#[test]
fn identical_statements_of_two_sessions_have_one_digest_and_an_approval_each() {
    let b = Bench::new();
    let mut elsewhere = question(1);
    elsewhere.key = QuestionKey {
        session: SessionId(8),
        statement: 5,
    };
    seal(&mut elsewhere);
    assert_eq!(elsewhere.digest, question(1).digest);
    let first = b.ask(1);
    let (second, _) = b.desk.ask("gate-1/1", elsewhere.clone()).unwrap();
    assert_ne!(second.number, first);
    b.desk.answer(first, &dba("bob"), Reply::Approve).unwrap();
    assert!(
        matches!(
            b.desk.spent(elsewhere.key),
            Err(DeskError::NotOpen {
                state: State::Open,
                ..
            })
        ),
        "the other one's yes is not its own"
    );
    b.desk.spent(question(1).key).unwrap();
}

#[test]
fn asking_again_with_the_same_key_finds_the_question_and_its_answer() {
    let b = Bench::new();
    let number = b.ask(1);
    assert_eq!(b.ask(1), number);
    b.desk
        .answer(
            number,
            &dba("bob"),
            Reply::Deny {
                reason: "not today".into(),
            },
        )
        .unwrap();
    let (asked, answer) = b.desk.ask("gate-1/1", question(1)).unwrap();
    assert_eq!(asked.number, number);
    assert_eq!(
        answer,
        Some(Answer::Denied {
            reviewer: "bob".into(),
            reason: "not today".into()
        })
    );
    let mut other = question(1);
    other.statement = b"DROP TABLE customers".to_vec();
    seal(&mut other);
    assert_eq!(
        b.desk.ask("gate-1/1", other).unwrap_err(),
        DeskError::KeyReused { number }
    );
}

#[test]
fn nobody_of_the_askers_chain_can_answer_in_any_role() {
    let b = Bench::new();
    let number = b.ask(1);
    let own = [
        who("alice", &["dba"], &[]),
        who("Alice", &["dba"], &[]),
        who("local:alice", &["dba"], &[]),
        who("alice", &["dba"], &["another-agent"]),
        who("agent-1", &["dba"], &[]),
        who("agent-0", &[], &[]),
        who("bob", &["dba"], &["agent-1"]),
        who("bob", &["dba"], &["x", "alice"]),
    ];
    for reviewer in own {
        for reply in [
            Reply::Approve,
            Reply::Deny {
                reason: String::new(),
            },
        ] {
            let named = b
                .desk
                .answer(number, &Reviewer::Named(reviewer.clone()), reply.clone());
            assert_eq!(named.unwrap_err(), DeskError::OwnQuestion, "{reviewer:?}");
            let operator = b
                .desk
                .answer(number, &Reviewer::Operator(reviewer.clone()), reply);
            assert_eq!(operator.unwrap_err(), DeskError::OwnQuestion, "{reviewer:?}");
        }
    }
}

#[test]
fn an_agent_that_acts_for_a_reviewer_is_not_the_reviewer() {
    let b = Bench::new();
    let number = b.ask(1);
    let through = Reviewer::Named(who("bob", &["dba"], &["bobs-agent"]));
    assert_eq!(
        b.desk.answer(number, &through, Reply::Approve).unwrap_err(),
        DeskError::ThroughAnActor {
            actor: "bobs-agent".into()
        }
    );
}

#[test]
fn only_those_whom_the_question_names_answer() {
    let b = Bench::new();
    let number = b.ask(1);
    for stranger in [
        who("mallory", &["dev"], &[]),
        who("mallory", &["DBA"], &[]),
        who("Carol", &[], &[]),
        who("", &["dba"], &[]),
    ] {
        let answer = b.desk.answer(number, &Reviewer::Named(stranger), Reply::Approve);
        assert_eq!(answer.unwrap_err(), DeskError::NotAReviewer);
    }
    b.desk
        .answer(number, &Reviewer::Named(who("carol", &[], &[])), Reply::Approve)
        .unwrap();
    let number = b.ask(2);
    b.desk
        .answer(
            number,
            &Reviewer::Operator(who("local:root", &[], &[])),
            Reply::Approve,
        )
        .unwrap();
}

#[test]
fn a_quorum_is_of_different_people() {
    let b = Bench::new();
    let mut q = question(1);
    q.reviewers.quorum = 2;
    let number = b.desk.ask("gate-1/1", q).unwrap().0.number;
    assert_eq!(
        b.desk.answer(number, &dba("bob"), Reply::Approve).unwrap().state,
        State::Open
    );
    for again in ["bob", "BOB", " bob "] {
        assert_eq!(
            b.desk.answer(number, &dba(again), Reply::Approve).unwrap_err(),
            DeskError::AlreadyVoted
        );
    }
    assert_eq!(
        b.desk
            .answer(number, &dba("carol"), Reply::Approve)
            .unwrap()
            .state,
        State::Approved
    );
}

#[test]
fn one_no_ends_a_question_that_has_a_yes() {
    let b = Bench::new();
    let mut q = question(1);
    q.reviewers.quorum = 2;
    let number = b.desk.ask("gate-1/1", q).unwrap().0.number;
    b.desk.answer(number, &dba("bob"), Reply::Approve).unwrap();
    b.desk
        .answer(number, &dba("carol"), Reply::Deny { reason: "no".into() })
        .unwrap();
    assert!(matches!(
        b.desk.answer(number, &dba("dave"), Reply::Approve),
        Err(DeskError::NotOpen { .. })
    ));
}

#[test]
fn the_deadline_denies_even_before_the_tick() {
    let b = Bench::new();
    let number = b.ask(1);
    b.now.store(61_000, Ordering::Relaxed);
    assert_eq!(
        b.desk.answer(number, &dba("bob"), Reply::Approve).unwrap_err(),
        DeskError::DeadlinePassed { number }
    );
    let mut news = b.desk.subscribe();
    assert_eq!(b.desk.expire(61_000).unwrap(), 1);
    assert_eq!(news.try_recv().unwrap().answer, Some(Answer::Expired));
    assert_eq!(b.desk.get(number).unwrap().state, State::Expired);
}

#[test]
fn an_unspent_approval_lapses_at_the_deadline_and_a_late_report_of_its_spending_is_kept() {
    let b = Bench::new();
    let number = b.ask(1);
    b.desk.answer(number, &dba("bob"), Reply::Approve).unwrap();
    b.desk.expire(60_999).unwrap();
    assert_eq!(b.desk.get(number).unwrap().state, State::Approved);
    b.desk.expire(61_000).unwrap();
    assert_eq!(b.desk.get(number).unwrap().state, State::Lapsed);
    assert_eq!(b.desk.spent(question(1).key).unwrap().state, State::Spent);
}

#[test]
fn an_approval_can_be_taken_back_until_it_is_spent() {
    let b = Bench::new();
    let mut news = b.desk.subscribe();
    let number = b.ask(1);
    b.desk.answer(number, &dba("bob"), Reply::Approve).unwrap();
    b.desk.revoke(number, "carol").unwrap();
    let last = std::iter::from_fn(|| news.try_recv().ok()).last().unwrap();
    assert_eq!(last.answer, Some(Answer::Revoked { by: "carol".into() }));
    let number = b.ask(2);
    b.desk.answer(number, &dba("bob"), Reply::Approve).unwrap();
    b.desk.spent(question(2).key).unwrap();
    assert!(matches!(
        b.desk.revoke(number, "carol"),
        Err(DeskError::NotOpen {
            state: State::Spent,
            ..
        })
    ));
}

#[test]
fn a_restart_keeps_open_questions_their_votes_and_the_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let now = Arc::new(AtomicU64::new(1_000));
    let b = Bench::over(Arc::new(RocksStore::open(dir.path()).unwrap()), now);
    let mut q = question(1);
    q.reviewers.quorum = 2;
    let first = b.desk.ask("gate-1/1", q).unwrap().0.number;
    b.desk.answer(first, &dba("bob"), Reply::Approve).unwrap();
    let second = b.ask(2);
    b.desk.withdraw(question(2).key, Withdrawal::Cancelled).unwrap();
    let b = b.restarted();
    assert_eq!(b.desk.live().len(), 1);
    assert_eq!(
        b.desk.answer(first, &dba("bob"), Reply::Approve).unwrap_err(),
        DeskError::AlreadyVoted
    );
    assert_eq!(
        b.desk.answer(first, &dba("carol"), Reply::Approve).unwrap().state,
        State::Approved
    );
    assert_eq!(b.desk.get(second).unwrap().state, State::Withdrawn);
    assert_eq!(b.ask(3), QuestionNumber(second.0 + 1));
}

#[test]
fn a_new_boot_of_the_data_plane_withdraws_what_its_earlier_boots_asked() {
    let b = Bench::new();
    let number = b.ask(1);
    assert_eq!(b.desk.withdraw_earlier_boots("gate-1/", "gate-1/1").unwrap(), 0);
    assert_eq!(b.desk.withdraw_earlier_boots("gate-2/", "gate-2/9").unwrap(), 0);
    assert_eq!(b.desk.withdraw_earlier_boots("gate-1/", "gate-1/2").unwrap(), 1);
    assert_eq!(b.desk.get(number).unwrap().state, State::Withdrawn);
}

#[test]
fn one_session_cannot_fill_the_desk() {
    let b = Bench::new();
    for statement in 0..QUESTIONS_OPEN_PER_SESSION_MAX as u32 {
        b.ask(statement);
    }
    let beyond = b.desk.ask("gate-1/1", question(9_999));
    assert_eq!(
        beyond.unwrap_err(),
        DeskError::TooManyOfSession {
            max: QUESTIONS_OPEN_PER_SESSION_MAX
        }
    );
    assert_eq!(
        b.desk.revoke_session(SessionId(7), "root").unwrap(),
        QUESTIONS_OPEN_PER_SESSION_MAX
    );
    assert_eq!(b.desk.live_count(), 0);
}
