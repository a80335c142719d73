//! What the link owes over a break. Does no IO; time comes in.
//!
//! After each Welcome it says again: every session that is open, every question that is neither answered nor withdrawn nor
//! spent, and then what happened while it was away. Sign-ins are never repeated: they are refused when the link breaks. Nor
//! are questions of statements that do not wait: they are answered with `Unavailable` when there is no link, when it breaks,
//! or when it is silent for [`crate::ASK_WAIT_MAX`].
//! A message that was written but never read by the control plane is not noticed; repeating open state covers all but
//! `SessionClosed`, `Withdraw` and `Spent` in those last bytes: the control plane learns of the first two by their absence.
//!
//! Bounds: open sessions and questions are the shards'; `owed` is at most [`OWED_MAX`], the oldest go first.

use headgate_plane::{
    Answer, Epoch, OnHold, Question, QuestionKey, Refusal, RefusalKind, SessionId, SignIn, ToControl, ToData,
};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

pub(crate) const OWED_MAX: usize = 64 << 10;

#[derive(Default)]
pub(crate) struct Memory {
    welcomed: bool,
    epoch: Epoch,
    sessions: BTreeMap<SessionId, ToControl>,
    questions: BTreeMap<QuestionKey, Box<Question>>,
    /// Questions of statements that do not wait, on their way, and when each is given up.
    asks: BTreeMap<QuestionKey, Duration>,
    /// Sign-ins on their way, and when each is refused.
    sign_ins: BTreeMap<SessionId, Duration>,
    owed: VecDeque<ToControl>,
}

pub(crate) fn unavailable(session: SessionId, detail: &str) -> ToData {
    let refusal = Refusal {
        kind: RefusalKind::Unavailable,
        detail: detail.to_owned(),
    };
    ToData::SignedIn {
        session,
        result: Err(refusal),
    }
}

pub(crate) fn not_asked(key: QuestionKey, why: &str) -> ToData {
    ToData::Answer {
        key,
        answer: Answer::Unavailable { why: why.to_owned() },
    }
}

/// What becomes of a shard's message.
pub(crate) enum Outgoing {
    Write(ToControl),
    /// Remembered for later, or of no worth while away.
    Kept,
    Deliver(ToData),
}

impl Memory {
    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// `now` is since an arbitrary start, monotonic.
    pub(crate) fn outgoing(&mut self, message: ToControl, now: Duration) -> Outgoing {
        match &message {
            ToControl::SignIn(sign_in) => return self.sign_in(sign_in.session, message, now),
            ToControl::Ask(question) if question.on_hold == OnHold::Refuse => {
                let key = question.key;
                return self.ask(key, message, now);
            }
            ToControl::Ask(question) => {
                self.questions.insert(question.key, question.clone());
                return if self.welcomed {
                    Outgoing::Write(message)
                } else {
                    Outgoing::Kept
                };
            }
            ToControl::SessionOpened { session, .. } => {
                self.sessions.insert(*session, message.clone());
                return if self.welcomed {
                    Outgoing::Write(message)
                } else {
                    Outgoing::Kept
                };
            }
            ToControl::SessionClosed { session } => self.forget_session(*session),
            ToControl::Withdraw { key, .. } | ToControl::Spent { key } => {
                self.questions.remove(key);
                self.asks.remove(key);
            }
            ToControl::Hello { .. } | ToControl::Metrics { .. } => {
                return if self.welcomed {
                    Outgoing::Write(message)
                } else {
                    Outgoing::Kept
                };
            }
        }
        if self.welcomed {
            return Outgoing::Write(message);
        }
        if self.owed.len() >= OWED_MAX {
            self.owed.pop_front();
        }
        self.owed.push_back(message);
        Outgoing::Kept
    }

    fn sign_in(&mut self, session: SessionId, message: ToControl, now: Duration) -> Outgoing {
        if !self.welcomed {
            return Outgoing::Deliver(unavailable(session, "the control plane is away"));
        }
        self.sign_ins.insert(session, now + crate::SIGN_IN_WAIT_MAX);
        Outgoing::Write(message)
    }

    fn ask(&mut self, key: QuestionKey, message: ToControl, now: Duration) -> Outgoing {
        if !self.welcomed {
            return Outgoing::Deliver(not_asked(key, "the control plane is away"));
        }
        self.asks.insert(key, now + crate::ASK_WAIT_MAX);
        Outgoing::Write(message)
    }

    fn forget_session(&mut self, session: SessionId) {
        self.sessions.remove(&session);
        self.sign_ins.remove(&session);
        let of_session = QuestionKey {
            session,
            statement: 0,
        }..=QuestionKey {
            session,
            statement: u32::MAX,
        };
        let keys: Vec<_> = self.questions.range(of_session).map(|(key, _)| *key).collect();
        for key in keys {
            self.questions.remove(&key);
        }
        self.asks.retain(|key, _| key.session != session);
    }

    /// Whether a message of the control plane is passed on. An answer to a sign-in that was already refused is not.
    pub(crate) fn incoming(&mut self, message: &ToData) -> bool {
        match message {
            ToData::SignedIn { session, .. } => self.sign_ins.remove(session).is_some(),
            ToData::Answer { key, .. } => {
                self.questions.remove(key);
                self.asks.remove(key);
                true
            }
            ToData::Snapshot(snapshot) => {
                self.epoch = snapshot.epoch;
                true
            }
            ToData::Welcome { .. } | ToData::Asked(_) | ToData::Revoke { .. } => true,
        }
    }

    /// The link is up: all that must be said again, in order.
    pub(crate) fn welcome(&mut self) -> Vec<ToControl> {
        self.welcomed = true;
        let sessions = self.sessions.values().cloned();
        let questions = self.questions.values().cloned().map(ToControl::Ask);
        sessions.chain(questions).chain(self.owed.drain(..)).collect()
    }

    /// The link is down: the refusals to deliver. `unwritten` never left and is owed where that means something.
    pub(crate) fn broke(&mut self, unwritten: impl Iterator<Item = ToControl>) -> Vec<ToData> {
        self.welcomed = false;
        for message in unwritten {
            if let ToControl::SessionClosed { .. } | ToControl::Withdraw { .. } | ToControl::Spent { .. } =
                message
                && self.owed.len() < OWED_MAX
            {
                self.owed.push_back(message);
            }
        }
        let sign_ins = std::mem::take(&mut self.sign_ins).into_keys();
        let asks = std::mem::take(&mut self.asks).into_keys();
        let why = "the link to the control plane broke";
        sign_ins
            .map(|session| unavailable(session, why))
            .chain(asks.map(|key| not_asked(key, why)))
            .collect()
    }

    pub(crate) fn overdue(&mut self, now: Duration) -> Vec<ToData> {
        let why = "the control plane did not answer in time";
        let sign_ins = self.sign_ins.extract_if(.., |_, due| *due <= now);
        let asks = self.asks.extract_if(.., |_, due| *due <= now);
        sign_ins
            .map(|(session, _)| unavailable(session, why))
            .chain(asks.map(|(key, _)| not_asked(key, why)))
            .collect()
    }

    /// A message that cannot be framed: nothing will ever answer it.
    pub(crate) fn unsendable(&mut self, message: &ToControl) -> Option<ToData> {
        match message {
            ToControl::SignIn(sign_in) => self.refuse_unsendable(sign_in),
            ToControl::Ask(question) => {
                self.questions.remove(&question.key);
                self.asks.remove(&question.key)?;
                Some(not_asked(question.key, "the question is too long for the link"))
            }
            ToControl::SessionOpened { session, .. } => {
                self.sessions.remove(session);
                None
            }
            _ => None,
        }
    }

    fn refuse_unsendable(&mut self, sign_in: &SignIn) -> Option<ToData> {
        self.sign_ins.remove(&sign_in.session)?;
        Some(unavailable(
            sign_in.session,
            "the sign-in is too long for the link",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn welcomed() -> Memory {
        let mut memory = Memory::default();
        assert!(memory.welcome().is_empty());
        memory
    }

    #[test]
    fn an_answered_question_is_forgotten_and_its_spending_while_away_is_owed_once() {
        let mut memory = welcomed();
        let session = SessionId(3);
        let key = QuestionKey {
            session,
            statement: 1,
        };
        assert!(memory.incoming(&ToData::Answer {
            key,
            answer: headgate_plane::Answer::Expired
        }));
        assert!(memory.broke(std::iter::empty()).is_empty());
        assert!(matches!(
            memory.outgoing(ToControl::Spent { key }, Duration::ZERO),
            Outgoing::Kept
        ));
        assert!(matches!(memory.welcome()[..], [ToControl::Spent { .. }]));
        assert!(memory.broke(std::iter::empty()).is_empty());
        assert!(memory.welcome().is_empty());
    }

    fn left(statement: u32) -> (QuestionKey, ToControl) {
        let key = QuestionKey {
            session: SessionId(3),
            statement,
        };
        let question = Question {
            key,
            who: Default::default(),
            target: "orders".into(),
            environment: String::new(),
            role: "app".into(),
            statement: b"delete from t".to_vec(),
            stands_for: vec![],
            parameters: vec![],
            open_data: false,
            settings: vec![],
            epoch: Epoch(1),
            rule: "r".into(),
            on_hold: OnHold::Refuse,
            reviewers: Default::default(),
            asked_unix_ms: 1,
            deadline_unix_ms: 2,
            digest: headgate_plane::QuestionDigest([7; 32]),
        };
        (key, ToControl::Ask(Box::new(question)))
    }

    fn is_unavailable(message: &ToData, of: QuestionKey) -> bool {
        matches!(message, ToData::Answer { key, answer: Answer::Unavailable { .. } } if *key == of)
    }

    #[test]
    fn a_question_that_nobody_waits_for_is_answered_when_there_is_no_link_it_breaks_or_is_silent() {
        let mut memory = Memory::default();
        let (key, ask) = left(1);
        let away = memory.outgoing(ask, Duration::ZERO);
        assert!(matches!(away, Outgoing::Deliver(message) if is_unavailable(&message, key)));
        assert!(memory.welcome().is_empty(), "it is not asked again");

        let (key, ask) = left(2);
        assert!(matches!(memory.outgoing(ask, Duration::ZERO), Outgoing::Write(_)));
        let broke = memory.broke(std::iter::empty());
        assert!(matches!(&broke[..], [message] if is_unavailable(message, key)));
        // What it may have claimed goes back when the link is there again.
        let why = headgate_plane::Withdrawal::Cancelled;
        assert!(matches!(
            memory.outgoing(ToControl::Withdraw { key, why }, Duration::ZERO),
            Outgoing::Kept
        ));
        assert!(matches!(&memory.welcome()[..], [ToControl::Withdraw { key: k, .. }] if *k == key));

        let (key, ask) = left(3);
        assert!(matches!(memory.outgoing(ask, Duration::ZERO), Outgoing::Write(_)));
        assert!(
            memory
                .overdue(crate::ASK_WAIT_MAX - Duration::from_millis(1))
                .is_empty()
        );
        let overdue = memory.overdue(crate::ASK_WAIT_MAX);
        assert!(matches!(&overdue[..], [message] if is_unavailable(message, key)));

        let (key, ask) = left(4);
        assert!(matches!(memory.outgoing(ask, Duration::ZERO), Outgoing::Write(_)));
        assert!(memory.incoming(&ToData::Answer {
            key,
            answer: Answer::NotYet
        }));
        assert!(memory.broke(std::iter::empty()).is_empty(), "it has its answer");
    }

    #[test]
    fn what_is_owed_has_a_bound_and_the_oldest_go_first() {
        let mut memory = Memory::default();
        for n in 0..OWED_MAX as u128 + 3 {
            memory.outgoing(
                ToControl::SessionClosed {
                    session: SessionId(n),
                },
                Duration::ZERO,
            );
        }
        let owed = memory.welcome();
        assert_eq!(owed.len(), OWED_MAX);
        assert!(matches!(
            owed[0],
            ToControl::SessionClosed {
                session: SessionId(3)
            }
        ));
    }

    #[test]
    fn metrics_of_a_time_away_are_not_kept() {
        let mut memory = Memory::default();
        assert!(matches!(
            memory.outgoing(ToControl::Metrics { values: vec![] }, Duration::ZERO),
            Outgoing::Kept
        ));
        assert!(memory.welcome().is_empty());
    }
}
