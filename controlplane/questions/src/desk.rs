//! The desk itself: one lock over the live questions, every change written before it is told.
//!
//! Invariant: `live` holds exactly the records whose state is live; `held_bytes` is the sum over them; `by_key` knows
//! every live record and every ended one that is kept; `standing` finds those that no client waits for by what they ask.
//! Blocking: each change waits for the store. Callers on an async runtime use a blocking thread.

use crate::eligible::{Reviewer, may_review, same_person};
use crate::error::DeskError;
use crate::event::{DeskEvent, DeskEventKind};
use crate::record::{Approval, Claim, Record};
use crate::shelf::Shelf;
use crate::standing::Standing;
use crate::state::{Event, NotNow, State, next};
use crate::{
    HELD_BYTES_MAX, QUESTION_BYTES_MAX, QUESTIONS_KEPT_MAX, QUESTIONS_LEFT_PER_PRINCIPAL_MAX,
    QUESTIONS_OPEN_MAX, QUESTIONS_OPEN_PER_SESSION_MAX, REASON_BYTES_MAX,
};
use headgate_plane::question::Asked;
use headgate_plane::{
    Answer, Epoch, OnHold, Question, QuestionKey, QuestionNumber, SessionId, Who, Withdrawal,
};
use headgate_store::Store;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::broadcast;

/// Unix milliseconds.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Events that a listener may fall behind before it has to read the list again.
const EVENTS_BEHIND_MAX: usize = 1_024;

/// What a reviewer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Approve,
    Deny { reason: String },
}

pub struct Desk {
    shelf: Shelf,
    clock: Clock,
    /// Before the number in the address that a client reads: `https://gate.example.com/questions/`.
    address_base: String,
    inner: Mutex<Inner>,
    events: broadcast::Sender<DeskEvent>,
}

struct Inner {
    next_number: u64,
    live: BTreeMap<QuestionNumber, Record>,
    ended: BTreeMap<QuestionNumber, QuestionKey>,
    by_key: HashMap<QuestionKey, QuestionNumber>,
    held_bytes: usize,
    standing: Standing,
    /// Of the rules in force; `None` until somebody says.
    epoch: Option<Epoch>,
}

impl Desk {
    /// Reads what an earlier run left: open questions are open again, and numbers go on where they were.
    pub fn new(
        store: Arc<dyn Store>,
        clock: Clock,
        address_base: impl Into<String>,
    ) -> Result<Desk, DeskError> {
        let shelf = Shelf::new(store);
        let mut inner = Inner {
            next_number: shelf.next_number()?,
            live: BTreeMap::new(),
            ended: BTreeMap::new(),
            by_key: HashMap::new(),
            held_bytes: 0,
            standing: Standing::default(),
            epoch: None,
        };
        shelf.each(|record| {
            inner.standing.follow(&record);
            inner.next_number = inner.next_number.max(record.number.0.saturating_add(1));
            inner.by_key.insert(record.question.key, record.number);
            if record.state.is_live() {
                inner.held_bytes += record.held_bytes();
                inner.live.insert(record.number, record);
            } else {
                inner.ended.insert(record.number, record.question.key);
            }
        })?;
        let (events, _) = broadcast::channel(EVENTS_BEHIND_MAX);
        Ok(Desk {
            shelf,
            clock,
            address_base: address_base.into(),
            inner: Mutex::new(inner),
            events,
        })
    }

    pub fn subscribe(&self) -> broadcast::Receiver<DeskEvent> {
        self.events.subscribe()
    }

    pub fn address(&self, number: QuestionNumber) -> String {
        format!("{}{number}", self.address_base)
    }

    /// Takes a question, or finds the one that stands for it: asked with this key before, or, where its client does not wait,
    /// asking the same. The second value is what was already answered; there always is one where the client does not wait.
    ///
    /// An approval that lies ready is claimed for this key, on disk, before it is given out: no other statement gets it.
    pub fn ask(&self, origin: &str, question: Question) -> Result<(Asked, Option<Answer>), DeskError> {
        let bytes = question.held_bytes();
        if bytes > QUESTION_BYTES_MAX {
            return Err(DeskError::TooLarge {
                bytes,
                max: QUESTION_BYTES_MAX,
            });
        }
        if question.digest_now() != question.digest {
            return Err(DeskError::DigestMismatch);
        }
        let key = question.key;
        let mut inner = self.lock();
        if let Some(number) = inner.by_key.get(&key).copied() {
            let known = self.find(&inner, number)?;
            if known.question.digest != question.digest {
                return Err(DeskError::KeyReused { number });
            }
            if !known.is_left() {
                return Ok((self.asked(key, &known), known.answer()));
            }
        }
        let left = question.on_hold == OnHold::Refuse;
        if left {
            if inner.epoch.is_some_and(|epoch| epoch != question.epoch) {
                return Err(DeskError::OtherRules);
            }
            if let Some((known, answer)) = self.stands_for(&mut inner, origin, &question)? {
                return Ok((self.asked(key, &known), Some(answer)));
            }
        }
        let record = self.open(&mut inner, origin, question)?;
        Ok((self.asked(key, &record), left.then_some(Answer::NotYet)))
    }

    /// What stands for a statement whose client does not wait: a no beats a yes, and a yes what is still open.
    fn stands_for(
        &self,
        inner: &mut Inner,
        origin: &str,
        question: &Question,
    ) -> Result<Option<(Record, Answer)>, DeskError> {
        let now = (self.clock)();
        let (mut denied, mut ready, mut open) = (None, None, None);
        for number in inner.standing.identical(question.digest) {
            let record = self.find(inner, number)?;
            if now >= record.question.deadline_unix_ms || record.question.digest != question.digest {
                continue;
            }
            match record.state {
                State::Denied => denied = Some(record),
                State::Approved => ready = ready.or(Some(record)),
                State::Open => open = open.or(Some(record)),
                // The same statement again, from a data plane that had not heard the answer.
                State::Claimed if record.claim.as_ref().is_some_and(|c| c.key == question.key) => {
                    return Ok(record.answer().map(|answer| (record, answer)));
                }
                _ => {}
            }
        }
        if let Some(record) = denied {
            return Ok(record.answer().map(|answer| (record, answer)));
        }
        if let Some(record) = ready {
            let claim = Claim {
                key: question.key,
                origin: origin.to_owned(),
                at_unix_ms: now,
                in_doubt: false,
            };
            let record = self.change(inner, record.number, Event::Claim, DeskEventKind::Claimed, |r| {
                r.claim = Some(claim);
            })?;
            return Ok(record.answer().map(|answer| (record, answer)));
        }
        Ok(open.map(|record| (record, Answer::NotYet)))
    }

    fn asked(&self, key: QuestionKey, record: &Record) -> Asked {
        Asked {
            key,
            number: record.number,
            address: self.address(record.number),
            deadline_unix_ms: record.question.deadline_unix_ms,
        }
    }

    /// A new question, within all bounds.
    fn open(&self, inner: &mut Inner, origin: &str, question: Question) -> Result<Record, DeskError> {
        let (key, bytes) = (question.key, question.held_bytes());
        if inner.live.len() >= QUESTIONS_OPEN_MAX {
            return Err(DeskError::TooManyOpen {
                max: QUESTIONS_OPEN_MAX,
            });
        }
        if question.on_hold == OnHold::Refuse {
            let of_principal = inner.live.values().filter(|r| {
                r.is_left()
                    && r.question.who.principal == question.who.principal
                    && r.question.who.issuer == question.who.issuer
            });
            if of_principal.count() >= QUESTIONS_LEFT_PER_PRINCIPAL_MAX {
                return Err(DeskError::TooManyOfPrincipal {
                    max: QUESTIONS_LEFT_PER_PRINCIPAL_MAX,
                });
            }
        } else {
            let of_session = inner
                .live
                .values()
                .filter(|r| !r.is_left() && r.question.key.session == key.session);
            if of_session.count() >= QUESTIONS_OPEN_PER_SESSION_MAX {
                return Err(DeskError::TooManyOfSession {
                    max: QUESTIONS_OPEN_PER_SESSION_MAX,
                });
            }
        }
        if inner.held_bytes.saturating_add(bytes) > HELD_BYTES_MAX {
            return Err(DeskError::TooMuchHeld { max: HELD_BYTES_MAX });
        }
        let number = QuestionNumber(inner.next_number);
        let record = Record {
            number,
            origin: origin.to_owned(),
            question,
            state: State::Open,
            approvals: Vec::new(),
            denied_by: None,
            reason: None,
            revoked_by: None,
            withdrawn: None,
            claim: None,
            changed_unix_ms: (self.clock)(),
        };
        self.shelf.put_new(&record)?;
        inner.next_number = number.0.saturating_add(1);
        inner.by_key.insert(key, number);
        inner.held_bytes += bytes;
        inner.standing.follow(&record);
        self.tell(&record, DeskEventKind::Asked, None);
        inner.live.insert(number, record.clone());
        Ok(record)
    }

    /// A reviewer's yes or no. Gives back the record as it stands after.
    pub fn answer(
        &self,
        number: QuestionNumber,
        reviewer: &Reviewer,
        reply: Reply,
    ) -> Result<Record, DeskError> {
        let now = (self.clock)();
        let mut inner = self.lock();
        let record = self.find(&inner, number)?;
        may_review(&record.question, reviewer)?;
        if record.state != State::Open {
            return Err(DeskError::NotOpen {
                number,
                state: record.state,
            });
        }
        if now >= record.question.deadline_unix_ms {
            return Err(DeskError::DeadlinePassed { number });
        }
        let who = reviewer.who();
        match reply {
            Reply::Deny { reason } => {
                if reason.len() > REASON_BYTES_MAX {
                    return Err(DeskError::ReasonTooLong {
                        bytes: reason.len(),
                        max: REASON_BYTES_MAX,
                    });
                }
                self.change(&mut inner, number, Event::Deny, DeskEventKind::Answered, |r| {
                    r.denied_by = Some(who.principal.clone());
                    r.reason = Some(reason);
                })
            }
            Reply::Approve => {
                if record
                    .approvals
                    .iter()
                    .any(|a| same_person(&a.principal, &who.principal))
                {
                    return Err(DeskError::AlreadyVoted);
                }
                let quorum = record.question.reviewers.quorum.max(1) as usize;
                let reached = record.approvals.len() + 1 >= quorum;
                let (event, kind) = if reached {
                    (Event::Approve, DeskEventKind::Answered)
                } else {
                    (Event::Vote, DeskEventKind::Voted)
                };
                self.change(&mut inner, number, event, kind, |r| {
                    r.approvals.push(Approval {
                        principal: who.principal.clone(),
                        issuer: who.issuer.clone(),
                        operator: matches!(reviewer, Reviewer::Operator(_)),
                        at_unix_ms: now,
                    });
                })
            }
        }
    }

    /// The data plane no longer waits. A question that its client does not wait for stands; a claim that it had goes back.
    pub fn withdraw(&self, key: QuestionKey, why: Withdrawal) -> Result<Record, DeskError> {
        let mut inner = self.lock();
        if let Some(number) = inner.standing.claimed_by(key) {
            let record = self.change(
                &mut inner,
                number,
                Event::GiveBack,
                DeskEventKind::GivenBack,
                |r| r.claim = None,
            )?;
            if inner.epoch.is_some_and(|epoch| epoch != record.question.epoch) {
                return self.rejudge(&mut inner, number);
            }
            return Ok(record);
        }
        let number = inner.by_key.get(&key).copied().ok_or(DeskError::Unknown)?;
        let record = self.find(&inner, number)?;
        if record.is_left() {
            return Ok(record);
        }
        self.change(
            &mut inner,
            number,
            Event::Withdraw,
            DeskEventKind::Withdrawn,
            |r| r.withdrawn = Some(why),
        )
    }

    /// The data plane handed to the target exactly what was approved.
    pub fn spent(&self, key: QuestionKey) -> Result<Record, DeskError> {
        let mut inner = self.lock();
        let number = match inner.standing.claimed_by(key) {
            Some(number) => number,
            None => {
                let number = inner.by_key.get(&key).copied().ok_or(DeskError::Unknown)?;
                let record = self.find(&inner, number)?;
                if record.is_left() {
                    // Asked with this key, but the approval is not its own.
                    return Err(DeskError::NotOpen {
                        number,
                        state: record.state,
                    });
                }
                number
            }
        };
        self.change(&mut inner, number, Event::Spend, DeskEventKind::Spent, |_| {})
    }

    /// These rules are in force: what was asked under others, and no client waits for, can be spent by nothing that will be
    /// judged now. What is claimed is on its way, and its data plane looks at the rules that it has.
    pub fn rules_are(&self, epoch: Epoch) -> Result<usize, DeskError> {
        let mut inner = self.lock();
        if inner.epoch == Some(epoch) {
            return Ok(0);
        }
        inner.epoch = Some(epoch);
        let numbers =
            inner.numbers(|r| r.is_left() && r.state != State::Claimed && r.question.epoch != epoch);
        for number in &numbers {
            self.rejudge(&mut inner, *number)?;
        }
        Ok(numbers.len())
    }

    fn rejudge(&self, inner: &mut Inner, number: QuestionNumber) -> Result<Record, DeskError> {
        self.change(inner, number, Event::Withdraw, DeskEventKind::Withdrawn, |r| {
            r.withdrawn = Some(Withdrawal::Rejudged);
        })
    }

    /// Takes back an approval that was not spent yet, or an open question.
    pub fn revoke(&self, number: QuestionNumber, by: &str) -> Result<Record, DeskError> {
        let mut inner = self.lock();
        self.change(&mut inner, number, Event::Revoke, DeskEventKind::Revoked, |r| {
            r.revoked_by = Some(by.to_owned())
        })
    }

    /// Every live question of a session that was revoked, and what such a session has claimed.
    pub fn revoke_session(&self, session: SessionId, by: &str) -> Result<usize, DeskError> {
        self.revoke_where(by, |r| {
            r.question.key.session == session || r.claim.as_ref().is_some_and(|c| c.key.session == session)
        })
    }

    /// What an identity asked that was revoked, and no client waits for: it outlives the sessions that end.
    pub fn revoke_left(
        &self,
        by: &str,
        until_unix_ms: u64,
        ended: impl Fn(&Who) -> bool,
    ) -> Result<usize, DeskError> {
        self.revoke_where(by, |r| {
            r.is_left() && r.question.asked_unix_ms <= until_unix_ms && ended(&r.question.who)
        })
    }

    fn revoke_where(&self, by: &str, wanted: impl Fn(&Record) -> bool) -> Result<usize, DeskError> {
        let mut inner = self.lock();
        let numbers = inner.numbers(wanted);
        for number in &numbers {
            self.change(&mut inner, *number, Event::Revoke, DeskEventKind::Revoked, |r| {
                r.revoked_by = Some(by.to_owned())
            })?;
        }
        Ok(numbers.len())
    }

    /// A data plane has started anew: nobody waits for what its earlier boots asked. What no client waits for stands; where
    /// an earlier boot had an approval and did not say whether it went out, it is taken to have.
    pub fn withdraw_earlier_boots(&self, appliance_prefix: &str, origin: &str) -> Result<usize, DeskError> {
        let earlier = |theirs: &str| theirs.starts_with(appliance_prefix) && theirs != origin;
        let mut inner = self.lock();
        let waited_for = inner.numbers(|r| !r.is_left() && earlier(&r.origin));
        for number in &waited_for {
            self.change(
                &mut inner,
                *number,
                Event::Withdraw,
                DeskEventKind::Withdrawn,
                |r| {
                    r.withdrawn = Some(Withdrawal::ClientGone);
                },
            )?;
        }
        let claimed = inner
            .numbers(|r| r.state == State::Claimed && r.claim.as_ref().is_some_and(|c| earlier(&c.origin)));
        for number in &claimed {
            self.change(&mut inner, *number, Event::Spend, DeskEventKind::Spent, |r| {
                if let Some(claim) = &mut r.claim {
                    claim.in_doubt = true;
                }
            })?;
        }
        Ok(waited_for.len() + claimed.len())
    }

    /// The deadline denies. To be called a few times a second; between calls [`Desk::answer`] looks at the clock itself.
    pub fn expire(&self, now_unix_ms: u64) -> Result<usize, DeskError> {
        let mut inner = self.lock();
        let numbers = inner.numbers(|r| now_unix_ms >= r.question.deadline_unix_ms);
        for number in &numbers {
            self.change(&mut inner, *number, Event::Expire, DeskEventKind::Expired, |_| {})?;
        }
        inner.standing.pass_time(now_unix_ms);
        self.prune(&mut inner)?;
        Ok(numbers.len())
    }

    pub fn get(&self, number: QuestionNumber) -> Result<Record, DeskError> {
        self.find(&self.lock(), number)
    }

    /// Live questions, oldest first.
    pub fn live(&self) -> Vec<Record> {
        self.lock().live.values().cloned().collect()
    }

    /// How many wait, without copying them.
    pub fn live_count(&self) -> usize {
        self.lock().live.len()
    }

    /// Ended questions, newest first, at most `limit`, below number `before` where given.
    pub fn ended(&self, before: Option<QuestionNumber>, limit: usize) -> Result<Vec<Record>, DeskError> {
        let inner = self.lock();
        let end = before.unwrap_or(QuestionNumber(u64::MAX));
        inner
            .ended
            .range(..end)
            .rev()
            .take(limit)
            .map(|(number, _)| self.shelf.get(*number)?.ok_or(DeskError::Unknown))
            .collect()
    }

    /// One event on one question: table, disk, memory, then the news.
    fn change(
        &self,
        inner: &mut Inner,
        number: QuestionNumber,
        event: Event,
        kind: DeskEventKind,
        edit: impl FnOnce(&mut Record),
    ) -> Result<Record, DeskError> {
        let mut record = self.find(inner, number)?;
        let was_live = record.state.is_live();
        record.state =
            next(record.state, event).map_err(|NotNow { state, .. }| DeskError::NotOpen { number, state })?;
        edit(&mut record);
        record.changed_unix_ms = (self.clock)();
        self.shelf.put(&record)?;
        inner.standing.follow(&record);
        if record.state.is_live() {
            inner.live.insert(number, record.clone());
        } else if was_live {
            inner.live.remove(&number);
            inner.held_bytes = inner.held_bytes.saturating_sub(record.held_bytes());
            inner.ended.insert(number, record.question.key);
        }
        let answer = match kind {
            // Whoever asked has its answer and is gone; whoever claimed has to hear of the end.
            _ if record.is_left() && record.claim.is_none() => None,
            DeskEventKind::Answered | DeskEventKind::Expired | DeskEventKind::Revoked => record.answer(),
            DeskEventKind::Asked
            | DeskEventKind::Voted
            | DeskEventKind::Withdrawn
            | DeskEventKind::Claimed
            | DeskEventKind::GivenBack
            | DeskEventKind::Spent => None,
        };
        self.tell(&record, kind, answer);
        Ok(record)
    }

    fn find(&self, inner: &Inner, number: QuestionNumber) -> Result<Record, DeskError> {
        if let Some(record) = inner.live.get(&number) {
            return Ok(record.clone());
        }
        if !inner.ended.contains_key(&number) {
            return Err(DeskError::Unknown);
        }
        self.shelf.get(number)?.ok_or(DeskError::Unknown)
    }

    fn prune(&self, inner: &mut Inner) -> Result<(), DeskError> {
        while inner.ended.len() > QUESTIONS_KEPT_MAX {
            let Some((number, key)) = inner.ended.pop_first() else {
                break;
            };
            inner.by_key.remove(&key);
            inner.standing.pruned(number);
            self.shelf.delete(number)?;
        }
        Ok(())
    }

    fn tell(&self, record: &Record, kind: DeskEventKind, answer: Option<Answer>) {
        let event = DeskEvent {
            number: record.number,
            key: record
                .claim
                .as_ref()
                .map_or(record.question.key, |claim| claim.key),
            state: record.state,
            kind,
            answer,
        };
        // An error means that nobody listens, which is no failure of the desk.
        let _ = self.events.send(event);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic inside left disk and memory as of the last whole step; going on is safer than a desk that is gone.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn numbers(&self, wanted: impl Fn(&Record) -> bool) -> Vec<QuestionNumber> {
        self.live
            .values()
            .filter(|r| wanted(r))
            .map(|r| r.number)
            .collect()
    }
}
