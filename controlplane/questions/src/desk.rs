//! The desk itself: one lock over the live questions, every change written before it is told.
//!
//! Invariant: `live` holds exactly the records whose state is live; `held_bytes` is the sum over them; `by_key` knows
//! every live record and every ended one that is kept.
//! Blocking: each change waits for the store. Callers on an async runtime use a blocking thread.

use crate::eligible::{Reviewer, may_review, same_person};
use crate::error::DeskError;
use crate::event::{DeskEvent, DeskEventKind};
use crate::record::{Approval, Record};
use crate::shelf::Shelf;
use crate::state::{Event, NotNow, State, next};
use crate::{
    HELD_BYTES_MAX, QUESTION_BYTES_MAX, QUESTIONS_KEPT_MAX, QUESTIONS_OPEN_MAX,
    QUESTIONS_OPEN_PER_SESSION_MAX, REASON_BYTES_MAX,
};
use headgate_plane::question::Asked;
use headgate_plane::{Answer, Question, QuestionKey, QuestionNumber, SessionId, Withdrawal};
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
        };
        shelf.each(|record| {
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

    /// Takes a question, or finds the one that was asked with this key before. The second value is what was already
    /// answered, for a data plane that asks again after its link was down.
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
            return Ok((
                Asked {
                    key,
                    number,
                    address: self.address(number),
                },
                known.answer(),
            ));
        }
        if inner.live.len() >= QUESTIONS_OPEN_MAX {
            return Err(DeskError::TooManyOpen {
                max: QUESTIONS_OPEN_MAX,
            });
        }
        if inner
            .live
            .values()
            .filter(|r| r.question.key.session == key.session)
            .count()
            >= QUESTIONS_OPEN_PER_SESSION_MAX
        {
            return Err(DeskError::TooManyOfSession {
                max: QUESTIONS_OPEN_PER_SESSION_MAX,
            });
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
            changed_unix_ms: (self.clock)(),
        };
        self.shelf.put_new(&record)?;
        inner.next_number = number.0.saturating_add(1);
        inner.by_key.insert(key, number);
        inner.held_bytes += bytes;
        self.tell(&record, DeskEventKind::Asked, None);
        inner.live.insert(number, record);
        Ok((
            Asked {
                key,
                number,
                address: self.address(number),
            },
            None,
        ))
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

    /// The data plane no longer waits.
    pub fn withdraw(&self, key: QuestionKey, why: Withdrawal) -> Result<Record, DeskError> {
        let mut inner = self.lock();
        let number = inner.by_key.get(&key).copied().ok_or(DeskError::Unknown)?;
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
        let number = inner.by_key.get(&key).copied().ok_or(DeskError::Unknown)?;
        self.change(&mut inner, number, Event::Spend, DeskEventKind::Spent, |_| {})
    }

    /// Takes back an approval that was not spent yet, or an open question.
    pub fn revoke(&self, number: QuestionNumber, by: &str) -> Result<Record, DeskError> {
        let mut inner = self.lock();
        self.change(&mut inner, number, Event::Revoke, DeskEventKind::Revoked, |r| {
            r.revoked_by = Some(by.to_owned())
        })
    }

    /// Every live question of a session that was revoked.
    pub fn revoke_session(&self, session: SessionId, by: &str) -> Result<usize, DeskError> {
        let mut inner = self.lock();
        let numbers = inner.numbers(|r| r.question.key.session == session);
        for number in &numbers {
            self.change(&mut inner, *number, Event::Revoke, DeskEventKind::Revoked, |r| {
                r.revoked_by = Some(by.to_owned())
            })?;
        }
        Ok(numbers.len())
    }

    /// A data plane has started anew: nobody waits for what its earlier boots asked.
    pub fn withdraw_earlier_boots(&self, appliance_prefix: &str, origin: &str) -> Result<usize, DeskError> {
        let mut inner = self.lock();
        let numbers = inner.numbers(|r| r.origin.starts_with(appliance_prefix) && r.origin != origin);
        for number in &numbers {
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
        Ok(numbers.len())
    }

    /// The deadline denies. To be called a few times a second; between calls [`Desk::answer`] looks at the clock itself.
    pub fn expire(&self, now_unix_ms: u64) -> Result<usize, DeskError> {
        let mut inner = self.lock();
        let numbers = inner.numbers(|r| now_unix_ms >= r.question.deadline_unix_ms);
        for number in &numbers {
            self.change(&mut inner, *number, Event::Expire, DeskEventKind::Expired, |_| {})?;
        }
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
        if record.state.is_live() {
            inner.live.insert(number, record.clone());
        } else if was_live {
            inner.live.remove(&number);
            inner.held_bytes = inner.held_bytes.saturating_sub(record.held_bytes());
            inner.ended.insert(number, record.question.key);
        }
        let answer = match kind {
            DeskEventKind::Answered | DeskEventKind::Expired | DeskEventKind::Revoked => record.answer(),
            DeskEventKind::Asked | DeskEventKind::Voted | DeskEventKind::Withdrawn | DeskEventKind::Spent => {
                None
            }
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
            self.shelf.delete(number)?;
        }
        Ok(())
    }

    fn tell(&self, record: &Record, kind: DeskEventKind, answer: Option<Answer>) {
        let event = DeskEvent {
            number: record.number,
            key: record.question.key,
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
