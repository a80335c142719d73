//! The line protocol through the parts that all protocols share: judged, held, permitted, recorded, ended, without a line of
//! theirs that knows it.

use headgate_gate::session::Session;
use headgate_gate::{Clock, Core, Effect, ListenerSettings, Settings};
use headgate_line::Line;
use headgate_plane::question::Asked;
use headgate_plane::{
    Answer, Effect as Ruling, Epoch, Grant, MaskRule, Protocol, Question, QuestionNumber, Reviewers, Rule,
    RuleStatement, RuleTarget, Secret, Snapshot, TargetAuth, TargetSpec, TargetTls, ToControl, Who,
};
use headgate_recording::{Body, Outcome, StatementOutcome, Verdict};
use headgate_spool::{Consumer, Producer, RecordKind};
use std::sync::Arc;

fn rule(name: &str, effect: Ruling, tools: &[&str]) -> Rule {
    Rule {
        name: name.to_owned(),
        who: Default::default(),
        target: RuleTarget {
            protocols: vec![Protocol::Mcp],
            ..RuleTarget::default()
        },
        statement: RuleStatement {
            resources: tools.iter().map(|t| (*t).to_owned()).collect(),
            ..RuleStatement::default()
        },
        when: None,
        time: None,
        effect,
        message: None,
        reviewers: (effect == Ruling::Hold).then(Reviewers::default),
        wait_ms: 60_000,
        data_open: false,
        on_hold: Default::default(),
    }
}

fn rules() -> Vec<Rule> {
    vec![
        rule("tools are called", Ruling::Allow, &["weather", "delete"]),
        rule("deleting is asked about", Ruling::Hold, &["delete"]),
        rule("no shell", Ruling::Deny, &["shell"]),
    ]
}

struct Gate {
    core: Core,
    session: Session<Line>,
    consumer: Consumer,
    client: String,
    target: String,
    questions: Vec<Question>,
    records: Vec<Body>,
    _folder: tempfile::TempDir,
}

impl Gate {
    fn new(rules: Vec<Rule>, masks: Vec<MaskRule>) -> Gate {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spool-0");
        let spool = Producer::open_or_create(&path, 1 << 20).unwrap();
        let consumer = Consumer::open(&path).unwrap();
        let listener = ListenerSettings {
            protocol: Protocol::Mcp,
            danger_allow_cleartext: true,
            ..ListenerSettings::default()
        };
        let clock = Clock {
            now_us: 1,
            anchor_unix_us: 1_700_000_000_000_000,
        };
        let settings = Settings::default();
        let no_tls = Arc::new(|_: &TargetSpec| Err("no TLS here".to_owned()));
        let mut core = Core::new(settings, vec![listener], spool, clock, no_tls, [7; 32]);
        let session = Session::new(&mut core, 0, "127.0.0.1".to_owned());
        let mut gate = Gate {
            core,
            session,
            consumer,
            client: String::new(),
            target: String::new(),
            questions: Vec::new(),
            records: Vec::new(),
            _folder: folder,
        };
        gate.rules(1, rules, masks);
        gate
    }

    /// Alice on the target `tools`, signed in.
    fn signed_in() -> Gate {
        let mut gate = Gate::new(rules(), Vec::new());
        gate.client_says("hello alice tools token\n");
        gate.target_says("+ t-1\n");
        assert_eq!(gate.heard(), "+ welcome\n");
        assert_eq!(gate.told(), "hello app secret\n");
        gate
    }

    fn rules(&mut self, epoch: u64, rules: Vec<Rule>, masks: Vec<MaskRule>) {
        let (policy, problems) = Core::compile(Arc::new(Snapshot {
            epoch: Epoch(epoch),
            rules,
            masks,
        }));
        assert!(problems.is_empty(), "{problems:?}");
        self.core.policy = policy;
        self.session.snapshot_changed(&mut self.core);
        self.settle();
    }

    fn client_says(&mut self, text: &str) {
        self.session.client_bytes(&mut self.core, text.as_bytes());
        self.settle();
    }

    fn target_says(&mut self, text: &str) {
        self.session.target_bytes(&mut self.core, text.as_bytes());
        self.settle();
    }

    /// What the client has heard since it was last asked.
    fn heard(&mut self) -> String {
        std::mem::take(&mut self.client)
    }

    /// What the target was told.
    fn told(&mut self) -> String {
        std::mem::take(&mut self.target)
    }

    fn settle(&mut self) {
        loop {
            let effects = std::mem::take(&mut self.core.effects);
            while let Some(bytes) = self.session.client_output(&mut self.core) {
                self.client.push_str(std::str::from_utf8(&bytes).unwrap());
            }
            while let Some(bytes) = self.session.target_output(&mut self.core) {
                self.target.push_str(std::str::from_utf8(&bytes).unwrap());
            }
            if effects.is_empty() {
                return;
            }
            effects.into_iter().for_each(|effect| self.effect(effect));
        }
    }

    fn effect(&mut self, effect: Effect) {
        match effect {
            Effect::ConnectTarget { .. } => self.session.target_connected(&mut self.core),
            Effect::ToControl(ToControl::SignIn(asked)) => {
                let grant = Grant {
                    session: asked.session,
                    who: Who {
                        principal: asked.user.clone(),
                        ..Who::default()
                    },
                    target: TargetSpec {
                        name: asked.target.clone(),
                        protocol: Protocol::Mcp,
                        environment: "test".to_owned(),
                        address: "127.0.0.1:1".to_owned(),
                        database: String::new(),
                        user: "app".to_owned(),
                        tls: TargetTls::DangerOff,
                        ca: None,
                        auth: TargetAuth::default(),
                        labels: Vec::new(),
                    },
                    target_secret: Secret::new("secret"),
                    catalog_reader: None,
                    epoch: Epoch(1),
                    expires_unix_ms: u64::MAX,
                    credential_id: "c-1".to_owned(),
                };
                self.session.signed_in(&mut self.core, Ok(Box::new(grant)));
            }
            Effect::ToControl(ToControl::Ask(question)) => {
                let asked = Asked {
                    key: question.key,
                    number: QuestionNumber(7),
                    address: "https://gate/7".to_owned(),
                    deadline_unix_ms: question.deadline_unix_ms,
                };
                self.questions.push(*question);
                self.session.asked(&mut self.core, &asked);
            }
            _ => {}
        }
    }

    fn answer(&mut self, answer: Answer) {
        let key = self.questions.last().unwrap().key;
        self.session.answered(&mut self.core, key, answer);
        self.settle();
    }

    fn approve(&mut self) {
        let digest = self.questions.last().unwrap().digest;
        self.answer(Answer::Approved {
            reviewers: vec!["dana".to_owned()],
            digest,
        });
    }

    fn records(&mut self) -> &[Body] {
        self.core.spool.publish();
        let records = &mut self.records;
        let mut keep = |_: u64, kind: RecordKind, bytes: &[u8]| {
            if kind == RecordKind::Event {
                records.push(headgate_recording::decode(bytes).unwrap().body);
            }
        };
        while self.consumer.drain(1 << 20, |a, b, c| keep(a, b, c)).unwrap() > 0 {}
        &self.records
    }

    fn statements(&mut self) -> Vec<(Verdict, Vec<String>)> {
        self.records()
            .iter()
            .filter_map(|body| match body {
                Body::Statement {
                    verdict, resources, ..
                } => Some((*verdict, resources.clone())),
                _ => None,
            })
            .collect()
    }

    fn ends(&mut self) -> Vec<StatementOutcome> {
        self.records()
            .iter()
            .filter_map(|body| match body {
                Body::StatementEnd { outcome, .. } => Some(*outcome),
                _ => None,
            })
            .collect()
    }
}

#[test]
fn what_the_rules_allow_goes_and_its_reply_comes_and_both_are_recorded() {
    let mut gate = Gate::signed_in();
    gate.client_says("call weather oslo\n");
    assert_eq!(
        (gate.told().as_str(), gate.heard().as_str()),
        ("call weather oslo\n", "")
    );
    gate.target_says("= rain\n");
    assert_eq!(gate.heard(), "= rain\n");
    assert_eq!(gate.statements(), [(Verdict::Allow, vec!["weather".to_owned()])]);
    assert_eq!(gate.ends(), [StatementOutcome::Done]);
    gate.client_says("bye\n");
    assert_eq!(gate.told(), "bye\nbye\n");
    assert!(gate.session.is_ended());
    assert!(matches!(
        gate.records().last(),
        Some(Body::SessionClose { statements: 1, .. })
    ));
}

#[test]
fn what_a_rule_denies_and_what_none_allows_never_leaves() {
    let mut gate = Gate::signed_in();
    gate.client_says("call shell rm\ncall unknown x\ncall weather oslo\n");
    assert_eq!(gate.told(), "call weather oslo\n");
    let heard = gate.heard();
    assert!(
        heard.starts_with("! denied denied by rule \"no shell\"\n! denied no rule allows it\n"),
        "{heard}"
    );
    assert_eq!(gate.ends(), [StatementOutcome::NotRun, StatementOutcome::NotRun]);
}

#[test]
fn what_is_held_goes_when_it_is_approved_and_once() {
    let mut gate = Gate::signed_in();
    gate.client_says("call delete all\ncall weather oslo\n");
    assert_eq!(gate.told(), "", "nothing behind it moves");
    assert_eq!(gate.heard(), "~ held\n~ held as HG-7 at https://gate/7\n");
    gate.approve();
    assert_eq!(gate.told(), "call delete all\n");
    gate.approve();
    gate.target_says("= gone\n");
    assert_eq!(gate.told(), "call weather oslo\n");
    assert_eq!(gate.heard(), "= gone\n");
    gate.target_says("= rain\n");
    gate.client_says("call delete all\n");
    assert_eq!(gate.questions.len(), 2, "an approval is spent");
}

#[test]
fn an_approval_of_something_else_and_a_no_send_nothing() {
    let mut gate = Gate::signed_in();
    gate.client_says("call delete all\n");
    gate.answer(Answer::Approved {
        reviewers: vec!["dana".to_owned()],
        digest: headgate_plane::QuestionDigest([1; 32]),
    });
    gate.client_says("call delete some\n");
    gate.answer(Answer::Denied {
        reviewer: "dana".to_owned(),
        reason: "not today".to_owned(),
    });
    assert_eq!(gate.told(), "");
    assert!(
        gate.heard()
            .contains("! denied HG-7 was denied by dana: not today\n")
    );
    let outcomes: Vec<Outcome> = gate
        .records()
        .iter()
        .filter_map(|body| match body {
            Body::Answered { outcome, .. } => Some(*outcome),
            _ => None,
        })
        .collect();
    assert_eq!(
        outcomes,
        [Outcome::Approved, Outcome::Denied],
        "what people said is recorded as they said it"
    );
}

#[test]
fn rules_that_change_while_it_is_held_are_asked() {
    let mut gate = Gate::signed_in();
    gate.client_says("call delete all\n");
    let before = gate.questions[0].digest;
    gate.rules(
        2,
        vec![rule("nothing is deleted", Ruling::Deny, &["delete"])],
        Vec::new(),
    );
    gate.answer(Answer::Approved {
        reviewers: vec!["dana".to_owned()],
        digest: before,
    });
    assert_eq!(gate.told(), "");
    assert!(
        gate.heard()
            .ends_with("! denied denied by rule \"nothing is deleted\"\n")
    );
}

#[test]
fn with_a_full_spool_nothing_is_forwarded_until_there_is_room() {
    let mut gate = Gate::signed_in();
    let mut sent = 0;
    while sent < 100_000 && !gate.session.waits_for_room() {
        gate.client_says("call weather oslo\n");
        if gate.told().is_empty() {
            break;
        }
        gate.target_says("= rain\n");
        sent += 1;
    }
    assert!(gate.session.waits_for_room(), "{sent} calls and still room");
    assert_eq!(gate.told(), "");
    gate.records();
    gate.consumer.release(gate.consumer.read_position());
    gate.session.tick(&mut gate.core);
    gate.settle();
    let went_on = gate.told() == "call weather oslo\n" || gate.heard().ends_with("= rain\n");
    assert!(went_on, "it goes on at the release");
}

#[test]
fn who_is_bound_by_masks_gets_no_reply_that_nobody_can_cover() {
    let mask = MaskRule {
        name: "contact".to_owned(),
        who: Default::default(),
        target: RuleTarget::default(),
        columns: Vec::new(),
        detect: vec!["email".to_owned()],
        method: Default::default(),
        unless: None,
    };
    let mut gate = Gate::new(rules(), vec![mask]);
    gate.client_says("hello alice tools token\n");
    gate.target_says("+ t-1\n");
    gate.client_says("call weather oslo\n");
    assert_eq!(gate.told(), "hello app secret\n");
    assert!(gate.heard().ends_with("! masked its reply cannot be covered\n"));
}

#[test]
fn a_reply_that_nobody_waits_for_ends_the_session_before_the_client_sees_it() {
    let mut gate = Gate::signed_in();
    gate.target_says("= secret\n");
    let heard = gate.heard();
    assert!(
        !heard.contains("secret") && heard.starts_with("! malformed"),
        "{heard}"
    );
    assert!(gate.session.is_ended());
}

#[test]
fn revoked_amid_a_call_its_end_is_heard_and_recorded_and_the_client_gets_nothing_more() {
    let mut gate = Gate::signed_in();
    gate.client_says("call weather oslo\n");
    gate.session.revoked(&mut gate.core, "left the company");
    gate.settle();
    assert_eq!(gate.heard(), "! revoked left the company\n");
    gate.target_says("= rain\n");
    assert_eq!(gate.heard(), "");
    assert_eq!(gate.ends(), [StatementOutcome::Done]);
    assert!(gate.session.is_ended());
}

#[test]
fn a_client_that_goes_takes_back_what_is_held() {
    let mut gate = Gate::signed_in();
    gate.client_says("call delete all\n");
    gate.session.client_ended(&mut gate.core);
    gate.settle();
    assert_eq!(gate.told(), "bye\nbye\n");
    assert!(gate.session.is_ended());
    assert_eq!(gate.ends(), [StatementOutcome::NotRun]);
}

#[test]
fn cut_anywhere_it_is_the_same() {
    let input = "hello alice tools token\ncall weather oslo\ncall shell x\nbye\n";
    let run = |cut: usize| {
        let mut gate = Gate::new(rules(), Vec::new());
        gate.client_says(&input[..cut]);
        gate.client_says(&input[cut..]);
        gate.target_says("+ t-1\n");
        gate.target_says("= rain\n");
        (gate.heard(), gate.told())
    };
    let whole = run(0);
    assert!(whole.0.contains("= rain\n! denied"), "{whole:?}");
    for cut in 1..input.len() {
        assert_eq!(run(cut), whole, "cut at {cut}");
    }
}

#[test]
fn a_line_without_end_and_a_foreign_greeting_end_the_session() {
    for bytes in ["x".repeat(5000), "GET / HTTP/1.1\r\n".to_owned()] {
        let mut gate = Gate::new(rules(), Vec::new());
        gate.client_says(&bytes);
        assert!(gate.session.is_ended());
        assert!(gate.heard().starts_with("! malformed"));
    }
}
