//! A held statement: the question, the answer, the spending.
//!
//! Invariant: an approval is spent by exactly what was shown: at the moment of forwarding the digest is made anew from what
//! would run now, and the answer must be for it, not taken back, and in time.
//!
//! Where the rule says `on_hold = "refuse"` the client does not wait for people, only for the control plane to say how the
//! question stands: an approval that lies ready is this statement's from then on ([`ToControl::Spent`]), and whatever ends
//! it without its bytes having gone out gives it back ([`ToControl::Withdraw`]).

use super::lane::{Lane, Waiting};
use super::permit::{Leave, Subject};
use super::refused::Refused;
use super::room::{NoRoom, Room, Unrecorded};
use super::{Clearance, Cleared, StatementEnd};
use crate::core::{Core, Effect};
use headgate_plane::question::Asked;
use headgate_plane::{
    Answer, OnHold, Question, QuestionDigest, QuestionKey, StandsFor, ToControl, Withdrawal,
};
use headgate_policy::Verdict;
use headgate_recording::{BodyRef, Outcome, StatementOutcome};

/// The message at the front while people decide. Its bytes stay where they are, untouched.
pub struct Held {
    pub(super) question: Question,
    /// When it was asked, on the core's clock.
    since_us: u64,
    /// The question's, once the control plane has given it one.
    number: u64,
    /// Where it is answered, once that is known.
    address: String,
    pub(super) answer: Option<Answer>,
    /// The client took it back then, or went away (0).
    pub(super) cancelled_us: Option<u64>,
}

/// What a client is told of a question that has its number.
#[derive(Debug)]
pub struct HeldAs {
    /// As people write it: `HG-17`.
    pub number: String,
    /// Where it is answered.
    pub address: String,
    /// From the question to its deadline.
    pub wait_s_max: u64,
}

/// A cancel that comes before the question has its number waits so long for it, to name it.
const NUMBER_US_MAX: u64 = 500_000;
/// What the recording of an answer takes beside its names and reason.
const ANSWER_BYTES_MAX: usize = 16 << 10;
/// What the recording of a withdrawal takes: the answer, and the statement's end.
pub(super) const WITHDRAWN_BYTES_MAX: usize = ANSWER_BYTES_MAX * 2;

impl Held {
    fn name(&self) -> String {
        if self.number == 0 {
            "a question without a number yet".to_owned()
        } else {
            format!("HG-{}", self.number)
        }
    }
}

impl Lane {
    /// The control plane gave the question its number. What the client is to be told of it.
    pub fn numbered(&mut self, asked: &Asked) -> Option<HeldAs> {
        let held = self.held.as_mut().filter(|held| held.question.key == asked.key)?;
        held.number = asked.number.0;
        if held.question.on_hold == OnHold::Refuse {
            // How it stands comes right behind, and goes into the error that its client gets. It may have been asked earlier.
            held.address.clone_from(&asked.address);
            held.question.deadline_unix_ms = asked.deadline_unix_ms;
        }
        if held.cancelled_us.is_some() {
            self.waiting = Waiting::No;
            return None;
        }
        if held.question.on_hold == OnHold::Refuse {
            return None;
        }
        let wait_ms = held
            .question
            .deadline_unix_ms
            .saturating_sub(held.question.asked_unix_ms);
        Some(HeldAs {
            number: asked.number.to_string(),
            address: asked.address.clone(),
            wait_s_max: wait_ms / 1000,
        })
    }
}

impl Clearance {
    /// The question that this statement would be now.
    fn question_of(&self, core: &Core, subject: &Subject<'_>, verdict: &Verdict, statement: u32) -> Question {
        let now = core.clock.unix_ms();
        let stands_for = subject.stands_for.iter().map(|s| StandsFor {
            text: s.text.to_vec(),
            parameters: s.parameters.clone(),
        });
        let mut question = Question {
            key: QuestionKey {
                session: self.recorder.session,
                statement,
            },
            who: (*self.who).clone(),
            target: self.target.name.clone(),
            environment: self.target.environment.clone(),
            role: self.target.user.clone(),
            statement: subject.text.to_vec(),
            stands_for: stands_for.collect(),
            parameters: subject.parameter_list(),
            open_data: subject.brings_data,
            settings: subject.settings.as_deref().unwrap_or_default().to_vec(),
            epoch: self.context.epoch(),
            rule: verdict.rule_name(&self.policy).to_owned(),
            on_hold: verdict.on_hold(&self.policy),
            reviewers: verdict.reviewers(&self.policy).cloned().unwrap_or_default(),
            asked_unix_ms: now,
            deadline_unix_ms: now.saturating_add(verdict.wait_ms(&self.policy)),
            digest: QuestionDigest([0; 32]),
        };
        question.digest = question.digest_now();
        question
    }

    /// The statement of this number is recorded as held: people are asked.
    pub(super) fn ask(
        &mut self,
        core: &mut Core,
        lane: &mut Lane,
        subject: &Subject<'_>,
        verdict: &Verdict,
        statement: u32,
    ) {
        let question = self.question_of(core, subject, verdict, statement);
        core.effects
            .push(Effect::ToControl(ToControl::Ask(Box::new(question.clone()))));
        lane.held = Some(Box::new(Held {
            question,
            since_us: core.clock.now_us,
            number: 0,
            address: String::new(),
            answer: None,
            cancelled_us: None,
        }));
        lane.waiting = Waiting::Answer;
    }

    /// The question at the front falls away; its message is looked at anew. What was approved and not spent falls away, too.
    /// Recorded when there is room; that the question was withdrawn is the control plane's to know in any case.
    pub fn withdraw(&mut self, core: &mut Core, lane: &mut Lane, why: Withdrawal) {
        let Some(held) = lane.held.take() else { return };
        lane.waiting = Waiting::No;
        core.effects.push(Effect::ToControl(ToControl::Withdraw {
            key: held.question.key,
            why,
        }));
        match Room::ask(core, WITHDRAWN_BYTES_MAX, 3) {
            Ok(mut room) => {
                let _ = self.record_withdrawn(core, &mut room, &held, why);
            }
            Err(_) => self.withdrawn.push((held, why)),
        }
    }

    /// Withdrawals that no room was found for, before anything else of this session is recorded. False: there is none yet.
    pub fn record_withdrawals(&mut self, core: &mut Core, lane: &mut Lane) -> Result<bool, Unrecorded> {
        while let Some((held, why)) = self.withdrawn.pop() {
            match Room::ask(core, WITHDRAWN_BYTES_MAX, 3) {
                Ok(mut room) => self.record_withdrawn(core, &mut room, &held, why)?,
                Err(NoRoom::Yet { bytes } | NoRoom::Ever { bytes, .. }) => {
                    self.withdrawn.push((held, why));
                    lane.wait_for_room(bytes);
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// The session ends: whatever is held falls away, and what fell away before is recorded now.
    pub(super) fn withdraw_all(
        &mut self,
        core: &mut Core,
        lane: &mut Lane,
        room: &mut Room,
    ) -> Result<(), Unrecorded> {
        if let Some(held) = lane.held.take() {
            lane.waiting = Waiting::No;
            let (key, why) = (held.question.key, Withdrawal::ClientGone);
            core.effects
                .push(Effect::ToControl(ToControl::Withdraw { key, why }));
            self.withdrawn.push((held, why));
        }
        for (held, why) in std::mem::take(&mut self.withdrawn) {
            self.record_withdrawn(core, room, &held, why)?;
        }
        Ok(())
    }

    fn record_withdrawn(
        &mut self,
        core: &mut Core,
        room: &mut Room,
        held: &Held,
        why: Withdrawal,
    ) -> Result<(), Unrecorded> {
        let reason = format!("{why:?}");
        let statement = held.question.key.statement;
        let body = BodyRef::Answered {
            statement,
            question: held.number,
            outcome: Outcome::Withdrawn,
            reviewers: &[],
            reason: &reason,
            digest: held.question.digest,
        };
        let _ = self.recorder.write(core, room, body)?;
        self.end_statement(
            core,
            room,
            StatementEnd {
                started_us: held.since_us,
                ..StatementEnd::of(statement, StatementOutcome::NotRun)
            },
        )
    }

    /// The message at the front was held; an answer, a deadline or a cancel may be there now.
    pub(super) fn resume<'m>(
        &mut self,
        core: &mut Core,
        lane: &mut Lane,
        subject: &Subject<'m>,
        verdict: &Verdict,
    ) -> Result<Cleared<'m>, Unrecorded> {
        let Some(held) = &lane.held else {
            return Ok(Cleared::Waits);
        };
        let statement = held.question.key.statement;
        if let Some(at) = held.cancelled_us
            && held.number == 0
            && core.clock.now_us < at.saturating_add(NUMBER_US_MAX)
            && at > 0
        {
            lane.waiting = Waiting::Answer;
            return Ok(Cleared::Waits);
        }
        let late = core.clock.unix_ms() >= held.question.deadline_unix_ms;
        let answer = match (&held.answer, late) {
            _ if held.cancelled_us.is_some() => None,
            // An approval that found no way to be spent in time is none.
            (Some(Answer::Approved { .. }) | None, true) => Some(Answer::Expired),
            (Some(answer), _) => Some(answer.clone()),
            (None, false) => {
                lane.waiting = Waiting::Answer;
                return Ok(Cleared::Waits);
            }
        };
        // As it would be asked now: an approval of anything else is none.
        let digest = self.question_of(core, subject, verdict, statement).digest;
        let (key, number, name, until_unix_ms) = (
            held.question.key,
            held.number,
            held.name(),
            held.question.deadline_unix_ms,
        );
        // What the control plane may have set aside for this statement.
        let claims = held.question.on_hold == OnHold::Refuse
            && matches!(
                held.answer,
                None | Some(Answer::Approved { .. } | Answer::Unavailable { .. })
            );
        let stands = Refused::Held {
            question: name.clone(),
            said: verdict.to_client(&self.policy),
            address: held.address.clone(),
            left_s: until_unix_ms.saturating_sub(core.clock.unix_ms()) / 1000,
        };
        let (outcome, reviewers, reason) = match &answer {
            None => (Outcome::Withdrawn, Vec::new(), "Cancelled".to_owned()),
            Some(Answer::Approved { reviewers, .. }) => (Outcome::Approved, reviewers.clone(), String::new()),
            Some(Answer::Denied { reviewer, reason }) => {
                (Outcome::Denied, vec![reviewer.clone()], reason.clone())
            }
            Some(Answer::Expired) => (Outcome::Expired, Vec::new(), String::new()),
            Some(Answer::Revoked { by }) => (Outcome::Revoked, vec![by.clone()], String::new()),
            Some(Answer::NotYet) => (Outcome::Left, Vec::new(), String::new()),
            Some(Answer::Unavailable { why }) => (Outcome::Withdrawn, Vec::new(), why.clone()),
        };
        let body = BodyRef::Answered {
            statement,
            question: number,
            outcome,
            reviewers: &reviewers,
            reason: &reason,
            digest,
        };
        // Without room it stays held, and whatever comes meanwhile (a revocation, the deadline, a cancel) counts.
        let Some(recorded) = super::record(&mut self.recorder, &mut self.strict_until, core, lane, &body)?
        else {
            return Ok(Cleared::Waits);
        };
        lane.held = None;
        let Some(answer) = answer else {
            let why = if lane.gone {
                Withdrawal::ClientGone
            } else {
                Withdrawal::Cancelled
            };
            core.effects
                .push(Effect::ToControl(ToControl::Withdraw { key, why }));
            return Ok(Cleared::Refused {
                refused: Refused::Cancelled { question: name },
                number: statement,
            });
        };
        let refused = match answer {
            Answer::NotYet => stands,
            _ => Refused::by_answer(&answer, name),
        };
        match subject.permit(Leave::Approval { answer, digest }, recorded) {
            Some(permitted) => {
                core.effects.push(Effect::ToControl(ToControl::Spent { key }));
                core.metrics.statements_allowed += 1;
                Ok(Cleared::Go {
                    permitted,
                    number: statement,
                    until_unix_ms,
                })
            }
            None => {
                if claims {
                    let why = Withdrawal::Rejudged;
                    core.effects
                        .push(Effect::ToControl(ToControl::Withdraw { key, why }));
                }
                core.metrics.statements_denied += 1;
                tracing::debug!(session = %key.session, ?refused, "held statement refused");
                Ok(Cleared::Refused {
                    refused,
                    number: statement,
                })
            }
        }
    }
}
