//! Questions that no client waits for (`on_hold = "refuse"`): found by what they ask, and spent once, whoever sends it.

use headgate_plane::{
    Answer, Epoch, OnHold, Parameter, ParameterKind, Question, QuestionDigest, QuestionKey, QuestionNumber,
    Reviewers, SessionId, StandsFor, Who, Withdrawal,
};
use headgate_questions::{
    Desk, DeskError, DeskEventKind, QUESTIONS_LEFT_PER_PRINCIPAL_MAX, Reply, Reviewer, State,
};
use headgate_store::{MemoryStore, RocksStore, Store};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const BOOT: &str = "gate-1/1";
const DEADLINE: u64 = 61_000;

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
        let clock = Arc::new(move || clock.load(Ordering::Relaxed));
        let desk = Desk::new(store.clone(), clock, "https://gate/questions/").unwrap();
        Bench { store, now, desk }
    }

    /// The process ends and another begins on the same store.
    fn restarted(self) -> Bench {
        let Bench { store, now, desk } = self;
        drop(desk);
        Bench::over(store, now)
    }

    fn ask(&self, q: &Question) -> (QuestionNumber, Answer) {
        let (asked, answer) = self.desk.ask(BOOT, q.clone()).unwrap();
        assert_eq!(asked.key, q.key, "whoever asks is told under its own key");
        assert_eq!(
            asked.deadline_unix_ms, DEADLINE,
            "the question's deadline, not a new one"
        );
        (asked.number, answer.expect("who does not wait is answered"))
    }

    fn approve(&self, number: QuestionNumber) {
        self.desk.answer(number, &dba("bob"), Reply::Approve).unwrap();
    }

    fn state(&self, number: QuestionNumber) -> State {
        self.desk.get(number).unwrap().state
    }
}

fn dba(principal: &str) -> Reviewer {
    Reviewer::Named(Who {
        principal: principal.to_owned(),
        groups: vec!["dba".to_owned()],
        issuer: "local".to_owned(),
        ..Who::default()
    })
}

fn key(session: u128, statement: u32) -> QuestionKey {
    QuestionKey {
        session: SessionId(session),
        statement,
    }
}

fn question(key: QuestionKey) -> Question {
    sealed(Question {
        key,
        who: Who {
            principal: "alice".into(),
            chain: vec!["agent-1".into()],
            issuer: "local".into(),
            address: format!("10.0.0.{}", key.session.0 % 250),
            ..Who::default()
        },
        target: "orders".into(),
        environment: "production".into(),
        role: "orders_app".into(),
        statement: b"DELETE FROM orders WHERE id = $1".to_vec(),
        stands_for: vec![],
        parameters: vec![Parameter {
            kind: ParameterKind::Postgres {
                type_oid: 23,
                format: 0,
            },
            value: Some(b"7".to_vec()),
        }],
        open_data: false,
        settings: vec![],
        epoch: Epoch(3),
        rule: "deletes are asked for".into(),
        on_hold: OnHold::Refuse,
        reviewers: Reviewers {
            principals: vec![],
            groups: vec!["dba".into()],
            quorum: 1,
        },
        asked_unix_ms: 1_000,
        deadline_unix_ms: DEADLINE,
        digest: QuestionDigest([0; 32]),
    })
}

fn sealed(mut q: Question) -> Question {
    q.digest = q.digest_now();
    q
}

fn is_yes(answer: &Answer) -> bool {
    matches!(answer, Answer::Approved { digest, .. } if *digest == question(key(1, 1)).digest)
}

#[test]
fn the_identical_statement_of_another_session_spends_the_approval_once_and_the_third_time_asks_anew() {
    let b = Bench::new();
    let (number, answer) = b.ask(&question(key(1, 1)));
    assert_eq!(answer, Answer::NotYet);
    // Again while it is open: the same number, no second question.
    assert_eq!(b.ask(&question(key(1, 2))), (number, Answer::NotYet));
    assert_eq!(b.ask(&question(key(2, 1))), (number, Answer::NotYet));
    assert_eq!(b.desk.live_count(), 1);
    b.approve(number);
    let (same, answer) = b.ask(&question(key(2, 2)));
    assert_eq!(same, number);
    assert!(is_yes(&answer), "{answer:?}");
    assert_eq!(b.state(number), State::Claimed);
    b.desk.spent(key(2, 2)).unwrap();
    assert_eq!(b.state(number), State::Spent);
    assert_eq!(b.desk.get(number).unwrap().claim.unwrap().key, key(2, 2));
    let (next, answer) = b.ask(&question(key(2, 3)));
    assert_ne!(next, number);
    assert_eq!(answer, Answer::NotYet);
}

#[test]
fn of_two_at_the_same_moment_one_has_the_approval_and_the_other_asks_anew() {
    let b = Arc::new(Bench::new());
    for round in 0..20 {
        let (number, _) = b.ask(&question(key(1, round)));
        b.approve(number);
        let together: Vec<_> = (2..6)
            .map(|session| {
                let b = b.clone();
                std::thread::spawn(move || {
                    let q = question(key(session, round));
                    let (_, answer) = b.ask(&q);
                    is_yes(&answer).then(|| b.desk.spent(q.key).unwrap().number)
                })
            })
            .collect();
        let spent: Vec<_> = together
            .into_iter()
            .filter_map(|thread| thread.join().unwrap())
            .collect();
        assert_eq!(spent, [number]);
        // The others asked anew: answered with no, so that the next round begins with nothing.
        b.desk.revoke_left("bench", u64::MAX, |_| true).unwrap();
    }
}

#[test]
fn whatever_differs_is_a_question_of_its_own() {
    let b = Bench::new();
    let (number, _) = b.ask(&question(key(1, 1)));
    b.approve(number);
    let changes: [fn(&mut Question); 14] = [
        |q| q.statement = b"DELETE FROM orders WHERE id = 7".to_vec(),
        |q| q.parameters[0].value = Some(b"8".to_vec()),
        |q| q.parameters[0].value = None,
        |q| {
            q.parameters[0].kind = ParameterKind::Postgres {
                type_oid: 25,
                format: 0,
            }
        },
        |q| q.who.principal = "mallory".into(),
        |q| q.who.issuer = "https://id".into(),
        |q| q.who.chain = vec![],
        |q| q.target = "payroll".into(),
        |q| q.environment = "test".into(),
        |q| q.role = "postgres".into(),
        |q| q.rule = "another".into(),
        |q| q.open_data = true,
        |q| q.settings = vec![("search_path".into(), "evil".into())],
        |q| {
            q.stands_for = vec![StandsFor {
                text: b"DROP TABLE orders".to_vec(),
                parameters: vec![],
            }]
        },
    ];
    for (change, statement) in changes.iter().zip(2..) {
        let mut q = question(key(1, statement));
        change(&mut q);
        let (other, answer) = b.ask(&sealed(q));
        assert_ne!(other, number, "change {statement}");
        assert_eq!(answer, Answer::NotYet, "change {statement}");
    }
    assert!(
        is_yes(&b.ask(&question(key(9, 1))).1),
        "the approval is still there"
    );
    // Where it comes from is not what it is.
    assert_ne!(question(key(1, 1)).who.address, question(key(9, 1)).who.address);
}

#[test]
fn a_denial_holds_for_the_identical_statement_until_the_deadline() {
    let b = Bench::new();
    let (number, _) = b.ask(&question(key(1, 1)));
    let reason = "not on a Friday".to_owned();
    b.desk
        .answer(
            number,
            &dba("bob"),
            Reply::Deny {
                reason: reason.clone(),
            },
        )
        .unwrap();
    let no = Answer::Denied {
        reviewer: "bob".into(),
        reason,
    };
    assert_eq!(b.ask(&question(key(2, 1))), (number, no.clone()));
    let b = b.restarted();
    b.desk.expire(DEADLINE - 1).unwrap();
    assert_eq!(b.ask(&question(key(3, 1))), (number, no));
    // By the clock at once, and after the tick.
    b.now.store(DEADLINE, Ordering::Relaxed);
    let mut later = question(key(4, 1));
    later.deadline_unix_ms = DEADLINE + 60_000;
    let (anew, _) = b.desk.ask(BOOT, later).unwrap();
    assert_ne!(anew.number, number);
    assert_eq!(b.desk.expire(DEADLINE).unwrap(), 0);
}

#[test]
fn what_expired_lapsed_was_revoked_or_taken_back_is_asked_anew() {
    for answered in [false, true] {
        for ends in [
            |b: &Bench, _: QuestionNumber| {
                b.now.store(DEADLINE, Ordering::Relaxed);
                b.desk.expire(DEADLINE).unwrap();
            },
            |b: &Bench, n: QuestionNumber| {
                b.desk.revoke(n, "carol").unwrap();
            },
            |b: &Bench, _: QuestionNumber| {
                b.desk.revoke_session(SessionId(1), "carol").unwrap();
            },
            |b: &Bench, _: QuestionNumber| {
                let gone = |who: &Who| who.principal == "alice";
                assert_eq!(
                    b.desk.revoke_left("carol", 999, gone).unwrap(),
                    0,
                    "revoked before it asked"
                );
                assert_eq!(b.desk.revoke_left("carol", 1_000, gone).unwrap(), 1);
            },
            |b: &Bench, _: QuestionNumber| {
                b.desk.rules_are(Epoch(3)).unwrap();
                assert_eq!(b.desk.rules_are(Epoch(4)).unwrap(), 1);
                b.desk.rules_are(Epoch(3)).unwrap();
            },
        ] {
            let b = Bench::new();
            let (number, _) = b.ask(&question(key(1, 1)));
            if answered {
                b.approve(number);
            }
            ends(&b, number);
            let mut again = question(key(2, 1));
            again.deadline_unix_ms = DEADLINE * 2;
            let (asked, answer) = b.desk.ask(BOOT, again).unwrap();
            assert_ne!(asked.number, number, "{:?}", b.state(number));
            assert_eq!(answer, Some(Answer::NotYet));
            assert!(!b.state(number).is_live());
        }
    }
}

#[test]
fn the_deadline_ends_an_approval_even_before_the_tick() {
    let b = Bench::new();
    let (number, _) = b.ask(&question(key(1, 1)));
    b.approve(number);
    b.now.store(DEADLINE, Ordering::Relaxed);
    let mut late = question(key(2, 1));
    late.deadline_unix_ms = DEADLINE * 2;
    let (asked, answer) = b.desk.ask(BOOT, late).unwrap();
    assert_ne!(asked.number, number);
    assert_eq!(answer, Some(Answer::NotYet));
}

#[test]
fn a_question_by_rules_that_are_not_in_force_is_not_asked() {
    let b = Bench::new();
    b.desk.rules_are(Epoch(4)).unwrap();
    let asked = b.desk.ask(BOOT, question(key(1, 1)));
    assert_eq!(asked.unwrap_err(), DeskError::OtherRules);
    assert_eq!(b.desk.live_count(), 0);
}

#[test]
fn an_asker_that_goes_away_or_a_data_plane_that_restarts_leaves_the_question_standing() {
    let b = Bench::new();
    let (number, _) = b.ask(&question(key(1, 1)));
    assert_eq!(
        b.desk.withdraw(key(1, 1), Withdrawal::ClientGone).unwrap().state,
        State::Open
    );
    assert_eq!(b.desk.withdraw_earlier_boots("gate-1/", "gate-1/2").unwrap(), 0);
    b.approve(number);
    let b = b.restarted();
    assert!(is_yes(&b.ask(&question(key(5, 1))).1));
}

#[test]
fn a_claim_survives_a_restart_and_one_that_did_not_go_out_goes_back() {
    let dir = tempfile::tempdir().unwrap();
    let now = Arc::new(AtomicU64::new(1_000));
    let b = Bench::over(Arc::new(RocksStore::open(dir.path()).unwrap()), now);
    let (number, _) = b.ask(&question(key(1, 1)));
    b.approve(number);
    assert!(is_yes(&b.ask(&question(key(2, 1))).1));
    let b = b.restarted();
    assert_eq!(b.state(number), State::Claimed);
    let (other, answer) = b.ask(&question(key(3, 1)));
    assert_ne!(other, number, "claimed by another, it is nobody else's");
    assert_eq!(answer, Answer::NotYet);
    assert!(
        is_yes(&b.ask(&question(key(2, 1))).1),
        "to the claimer it is said again"
    );
    let mut news = b.desk.subscribe();
    b.desk.withdraw(key(2, 1), Withdrawal::Cancelled).unwrap();
    assert_eq!(news.try_recv().unwrap().kind, DeskEventKind::GivenBack);
    assert!(b.desk.spent(key(2, 1)).is_err(), "given back is not spent");
    let (same, answer) = b.ask(&question(key(3, 2)));
    assert_eq!(same, number);
    assert!(is_yes(&answer));
    let b = b.restarted();
    b.desk.spent(key(3, 2)).unwrap();
    assert_eq!(b.state(number), State::Spent);
    let b = b.restarted();
    assert_eq!(b.ask(&question(key(3, 3))), (other, Answer::NotYet));
}

#[test]
fn an_approval_that_a_lost_data_plane_had_is_taken_as_spent() {
    let b = Bench::new();
    let (number, _) = b.ask(&question(key(1, 1)));
    b.approve(number);
    assert!(is_yes(&b.ask(&question(key(2, 1))).1));
    assert_eq!(b.desk.withdraw_earlier_boots("gate-2/", "gate-2/7").unwrap(), 0);
    assert_eq!(b.desk.withdraw_earlier_boots("gate-1/", "gate-1/2").unwrap(), 1);
    assert_eq!(b.state(number), State::Spent);
    assert!(b.desk.get(number).unwrap().claim.unwrap().in_doubt);
    assert_ne!(b.ask(&question(key(3, 1))).0, number);
}

#[test]
fn taken_back_while_it_is_claimed_reaches_the_claimer_and_a_spend_under_way_still_lands() {
    let b = Bench::new();
    let (number, _) = b.ask(&question(key(1, 1)));
    let mut news = b.desk.subscribe();
    b.approve(number);
    assert_eq!(news.try_recv().unwrap().answer, None, "nobody waits for it");
    b.ask(&question(key(2, 1)));
    b.desk.revoke(number, "carol").unwrap();
    let last = std::iter::from_fn(|| news.try_recv().ok()).last().unwrap();
    assert_eq!(last.key, key(2, 1));
    assert_eq!(last.answer, Some(Answer::Revoked { by: "carol".into() }));
    assert!(b.desk.withdraw(key(2, 1), Withdrawal::Cancelled).is_err());
    assert_eq!(b.state(number), State::TakenBack, "it does not lie ready again");
    b.desk.spent(key(2, 1)).unwrap();
    assert_eq!(b.state(number), State::Spent);
}

#[test]
fn only_the_claimer_can_say_that_it_was_spent() {
    let b = Bench::new();
    let (number, _) = b.ask(&question(key(1, 1)));
    b.approve(number);
    assert!(matches!(
        b.desk.spent(key(1, 1)),
        Err(DeskError::NotOpen {
            state: State::Approved,
            ..
        })
    ));
    b.ask(&question(key(2, 1)));
    assert!(b.desk.spent(key(1, 1)).is_err());
    b.desk.spent(key(2, 1)).unwrap();
}

#[test]
fn who_waits_has_a_question_of_its_own() {
    let b = Bench::new();
    let (number, _) = b.ask(&question(key(1, 1)));
    b.approve(number);
    let mut waits = question(key(2, 1));
    waits.on_hold = OnHold::Wait;
    let (asked, answer) = b.desk.ask(BOOT, waits).unwrap();
    assert_ne!(asked.number, number);
    assert_eq!(answer, None);
}

#[test]
fn one_principal_cannot_fill_the_desk_through_many_sessions() {
    let b = Bench::new();
    for n in 0..QUESTIONS_LEFT_PER_PRINCIPAL_MAX as u32 {
        let mut q = question(key(u128::from(n), 1));
        q.statement = format!("DELETE FROM orders WHERE id = {n}").into_bytes();
        b.ask(&sealed(q));
    }
    let beyond = b.desk.ask(BOOT, question(key(9_999, 1)));
    assert_eq!(
        beyond.unwrap_err(),
        DeskError::TooManyOfPrincipal {
            max: QUESTIONS_LEFT_PER_PRINCIPAL_MAX
        }
    );
    let mut other = question(key(9_999, 2));
    other.who.principal = "erin".into();
    b.ask(&sealed(other));
}

/// Enough for choices; the seed is the case.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// What one statement of a data plane has become.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    Has(QuestionNumber),
    /// Forwarded, and not yet told.
    Forwarded(QuestionNumber),
    /// Given back, and taken back by the desk.
    Back,
    Over,
}

/// Random lives: statements asked, answered, forwarded, given back; both planes killed at any point; time, rules and
/// revocations between. Whatever happens, an approval lets one statement out, and only while it held.
#[test]
fn no_life_of_a_question_lets_two_statements_out() {
    let (mut forwards, mut approvals, mut restarts) = (0, 0, 0);
    for seed in 1..=3_000u64 {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut b = Bench::new();
        let mut boot = 1;
        let mut epoch = 3;
        let mut statement = 0;
        let mut ways: HashMap<QuestionKey, Way> = HashMap::new();
        let mut out: HashMap<QuestionNumber, u32> = HashMap::new();
        let mut log = String::new();
        b.desk.rules_are(Epoch(epoch)).unwrap();
        for _ in 0..40 {
            let now = b.now.load(Ordering::Relaxed);
            let step = random.below(100);
            log.push_str(&format!("\n{step} at {now}"));
            let numbers: Vec<_> = b.desk.live().iter().map(|r| r.number).collect();
            let any = |random: &mut Random| {
                let at = random.below(numbers.len().max(1) as u64) as usize;
                numbers.get(at).copied()
            };
            match step {
                0..40 => {
                    statement += 1;
                    let mut q = question(key(u128::from(random.below(3)), statement));
                    // Two texts, so that questions mix.
                    if random.below(3) == 0 {
                        q.parameters[0].value = Some(b"8".to_vec());
                    }
                    q.epoch = Epoch(epoch);
                    q.asked_unix_ms = now;
                    q.deadline_unix_ms = now + 60_000;
                    let q = sealed(q);
                    let (asked, answer) = b.desk.ask(&format!("gate-1/{boot}"), q.clone()).unwrap();
                    let shown = b.desk.get(asked.number).unwrap().question;
                    assert_eq!(shown.digest, q.digest, "seed {seed}{log}");
                    if let Some(Answer::Approved { digest, .. }) = answer {
                        assert_eq!(digest, q.digest);
                        assert!(now < asked.deadline_unix_ms, "seed {seed}{log}");
                        assert_eq!(shown.epoch, Epoch(epoch), "seed {seed}{log}");
                        ways.insert(q.key, Way::Has(asked.number));
                    }
                }
                40..60 => {
                    if let Some(number) = any(&mut random)
                        && b.desk.answer(number, &dba("bob"), Reply::Approve).is_ok()
                    {
                        approvals += 1;
                    }
                }
                60..63 => {
                    if let Some(number) = any(&mut random) {
                        let reason = String::new();
                        let _ = b.desk.answer(number, &dba("bob"), Reply::Deny { reason });
                    }
                }
                63..66 => {
                    if let Some(number) = any(&mut random) {
                        let _ = b.desk.revoke(number, "carol");
                    }
                }
                66..85 => {
                    // One statement goes a step on: out, told, or back.
                    let mut keys: Vec<_> = ways.keys().copied().collect();
                    keys.sort();
                    let Some(key) = keys.get(random.below(keys.len().max(1) as u64) as usize) else {
                        continue;
                    };
                    let way = ways[key];
                    let next = match way {
                        Way::Has(number) if random.below(3) > 0 => {
                            let times = out.entry(number).or_default();
                            *times += 1;
                            forwards += 1;
                            assert_eq!(*times, 1, "seed {seed}: {number} let two out{log}");
                            Way::Forwarded(number)
                        }
                        Way::Has(_) => {
                            // Not where it was revoked or has lapsed meanwhile.
                            match b.desk.withdraw(*key, Withdrawal::Skipped) {
                                Ok(_) => Way::Back,
                                Err(_) => Way::Over,
                            }
                        }
                        Way::Forwarded(number) => {
                            let record = b
                                .desk
                                .spent(*key)
                                .unwrap_or_else(|e| panic!("seed {seed}: {e}{log}"));
                            assert_eq!((record.number, record.state), (number, State::Spent));
                            Way::Over
                        }
                        Way::Back => {
                            assert!(b.desk.spent(*key).is_err(), "seed {seed}{log}");
                            Way::Back
                        }
                        Way::Over => Way::Over,
                    };
                    ways.insert(*key, next);
                }
                85..90 => {
                    restarts += 1;
                    b = b.restarted();
                    b.desk.rules_are(Epoch(epoch)).unwrap();
                }
                90..93 => {
                    // The data plane is killed: what it had it may have sent, and it tells nothing.
                    boot += 1;
                    for way in ways.values_mut() {
                        if let Way::Has(number) = way {
                            *out.entry(*number).or_default() += 1;
                        }
                        *way = Way::Over;
                    }
                    b.desk
                        .withdraw_earlier_boots("gate-1/", &format!("gate-1/{boot}"))
                        .unwrap();
                }
                93..97 => {
                    b.now.fetch_add(25_000, Ordering::Relaxed);
                    let now = b.now.load(Ordering::Relaxed);
                    b.desk.expire(now).unwrap();
                }
                _ => {
                    epoch += 1;
                    b.desk.rules_are(Epoch(epoch)).unwrap();
                }
            }
            assert!(out.values().all(|times| *times <= 1), "seed {seed}{log}");
            for (key, way) in &ways {
                let (Way::Has(number) | Way::Forwarded(number)) = way else {
                    continue;
                };
                let record = b.desk.get(*number).unwrap();
                assert_eq!(record.claim.map(|c| c.key), Some(*key), "seed {seed}{log}");
            }
        }
    }
    // The lives are lively: a test that reaches nothing shows nothing.
    assert!(
        forwards > 1_000 && approvals > 5_000 && restarts > 3_000,
        "{forwards} {approvals} {restarts}"
    );
}
