//! A held statement: the question, the notice, the answer, the spending.
//!
//! Invariant: an approval is spent by exactly what was shown: at the moment of forwarding the digest is made anew from what
//! would run now, and the answer must be for it, not taken back, and in time.

use super::clear::{Asking, Cleared, brings_data};
use super::execution::ExecutionRef;
use super::traffic::{Front, Traffic, TrafficEnd, Waiting};
use crate::clearance::doors::Doors;
use crate::clearance::permit::{Leave, Subject};
use crate::clearance::refused::Refused;
use crate::clearance::room::Room;
use crate::core::{Core, Effect};
use crate::sql::known::Known;
use headgate_plane::question::Asked;
use headgate_plane::{Answer, Question, QuestionDigest, QuestionKey, StandsFor, ToControl, Withdrawal};
use headgate_postgres::Report;
use headgate_recording::{BodyRef, Outcome};
use std::rc::Rc;

/// The message at the front while people decide. Its bytes stay where they are, untouched.
pub struct Held {
    pub(super) question: Question,
    pub(super) known: Rc<Known>,
    pub(super) execution: ExecutionRef,
    pub(super) number: u64,
    pub(super) answer: Option<Answer>,
    /// The client took it back then, or went away (0).
    pub(super) cancelled_us: Option<u64>,
}

/// A cancel that comes before the question has its number waits so long for it, to name it.
const NUMBER_US_MAX: u64 = 500_000;

/// What the recording of an answer takes beside its names and reason.
const ANSWER_BYTES_MAX: usize = 16 << 10;

impl Held {
    fn name(&self) -> String {
        if self.number == 0 {
            "a question without a number yet".to_owned()
        } else {
            format!("HG-{}", self.number)
        }
    }
}

impl Traffic {
    /// People answered, or took their answer back before it was spent.
    pub fn answered(&mut self, key: QuestionKey, answer: Answer) {
        if let Front::Held(held) = &mut self.front
            && held.question.key == key
            && (held.answer.is_none() || matches!(answer, Answer::Revoked { .. }))
        {
            held.answer = Some(answer);
            self.waiting = Waiting::No;
        }
    }

    /// The question that this statement would be now.
    fn question_of(&self, core: &Core, asking: &Asking<'_>, statement: u32) -> Question {
        let now = core.clock.unix_ms();
        let policy = &self.judging.policy;
        let verdict = asking.verdict;
        let stands_for = asking.stands_for.iter().map(|s| StandsFor {
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
            statement: asking.text.to_vec(),
            stands_for: stands_for.collect(),
            parameters: asking.parameters.list(),
            open_data: brings_data(asking.joined),
            epoch: self.judging.context.epoch(),
            rule: verdict.rule_name(policy).to_owned(),
            reviewers: verdict.reviewers(policy).cloned().unwrap_or_default(),
            asked_unix_ms: now,
            deadline_unix_ms: now.saturating_add(verdict.wait_ms(policy)),
            digest: QuestionDigest([0; 32]),
        };
        question.digest = sha256(&question.digest_input());
        question
    }

    /// The statement is recorded as held: people are asked.
    pub(super) fn ask(
        &mut self,
        core: &mut Core,
        doors: &mut Doors<'_>,
        asking: &Asking<'_>,
        execution: ExecutionRef,
    ) {
        let question = self.question_of(core, asking, execution.borrow().number);
        core.effects
            .push(Effect::ToControl(ToControl::Ask(Box::new(question.clone()))));
        let said = format!("Headgate: {}", asking.verdict.to_client(&self.judging.policy));
        let mut notice = Vec::new();
        Report::notice(&said)
            .hint("The statement waits; cancel it to take it back.")
            .write_notice(&mut notice);
        self.say(doors.client.own(), &notice);
        self.front = Front::Held(Box::new(Held {
            question,
            known: Rc::clone(asking.known),
            execution,
            number: 0,
            answer: None,
            cancelled_us: None,
        }));
        self.waiting = Waiting::Answer;
    }

    /// The control plane gave the question its number: the client is told where to look.
    pub fn asked(&mut self, client: &mut Vec<u8>, asked: &Asked) {
        let Front::Held(held) = &mut self.front else {
            return;
        };
        if held.question.key != asked.key {
            return;
        }
        held.number = asked.number.0;
        if held.cancelled_us.is_some() {
            self.waiting = Waiting::No;
            return;
        }
        let seconds = held
            .question
            .deadline_unix_ms
            .saturating_sub(held.question.asked_unix_ms)
            / 1000;
        let message = format!(
            "Headgate: held as {}, waiting for approval at {} (at most {seconds} s)",
            asked.number, asked.address
        );
        let mut notice = Vec::new();
        Report::notice(&message).write_notice(&mut notice);
        self.say(client, &notice);
    }

    /// A notice of ours, between two whole messages of the target.
    fn say(&mut self, client: &mut Vec<u8>, bytes: &[u8]) {
        if self.pass_target == 0 {
            client.extend_from_slice(bytes);
        } else {
            self.late.extend_from_slice(bytes);
        }
    }

    /// The question at the front falls away; its message is looked at anew. What was approved and not spent falls away, too.
    /// Recorded when there is room; that the question was withdrawn is the control plane's to know in any case.
    pub(super) fn withdraw(&mut self, core: &mut Core, why: Withdrawal) {
        let Front::Held(held) = std::mem::take(&mut self.front) else {
            return;
        };
        self.waiting = Waiting::No;
        core.effects.push(Effect::ToControl(ToControl::Withdraw {
            key: held.question.key,
            why,
        }));
        let Ok(mut room) = Room::ask(core, ANSWER_BYTES_MAX * 2, 3) else {
            self.withdrawn.push((held, why));
            return;
        };
        let _ = self.record_withdrawn(core, &mut room, &held, why);
    }

    /// Withdrawals that no room was found for, before anything else of this session is recorded.
    pub(super) fn record_withdrawals(&mut self, core: &mut Core) -> Result<bool, TrafficEnd> {
        while let Some((held, why)) = self.withdrawn.pop() {
            match Room::ask(core, ANSWER_BYTES_MAX * 2, 3) {
                Ok(mut room) => self.record_withdrawn(core, &mut room, &held, why)?,
                Err(
                    crate::clearance::room::NoRoom::Yet { bytes }
                    | crate::clearance::room::NoRoom::Ever { bytes, .. },
                ) => {
                    self.withdrawn.push((held, why));
                    self.wait_for_room(bytes);
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    fn record_withdrawn(
        &mut self,
        core: &mut Core,
        room: &mut Room,
        held: &Held,
        why: Withdrawal,
    ) -> Result<(), TrafficEnd> {
        let (statement, digest) = (held.execution.borrow().number, held.question.digest);
        let reason = format!("{why:?}");
        let body = BodyRef::Answered {
            statement,
            question: held.number,
            outcome: Outcome::Withdrawn,
            reviewers: &[],
            reason: &reason,
            digest,
        };
        let _ = self.recorder.write(core, room, body)?;
        self.end_execution(
            core,
            room,
            &Rc::clone(&held.execution),
            headgate_recording::StatementOutcome::NotRun,
            None,
        )?;
        Ok(())
    }

    /// The message at the front was held; an answer, a deadline or a cancel may be there now.
    pub(super) fn resume_held<'m>(
        &mut self,
        core: &mut Core,
        asking: &Asking<'_>,
        subject: Subject<'m>,
    ) -> Result<Cleared<'m>, TrafficEnd> {
        let Front::Held(held) = &self.front else {
            return Ok(Cleared::Stays);
        };
        let execution = Rc::clone(&held.execution);
        // As it would be asked now: an approval of anything else is none.
        let digest = self.question_of(core, asking, execution.borrow().number).digest;
        let Front::Held(held) = &mut self.front else {
            return Ok(Cleared::Stays);
        };
        if let Some(at) = held.cancelled_us
            && held.number == 0
            && core.clock.now_us < at.saturating_add(NUMBER_US_MAX)
            && at > 0
        {
            self.waiting = Waiting::Answer;
            return Ok(Cleared::Stays);
        }
        let late = core.clock.unix_ms() >= held.question.deadline_unix_ms;
        let answer = match (&held.answer, late) {
            _ if held.cancelled_us.is_some() => None,
            // An approval that found no way to be spent in time is none.
            (Some(Answer::Approved { .. }) | None, true) => Some(Answer::Expired),
            (Some(answer), _) => Some(answer.clone()),
            (None, false) => {
                self.waiting = Waiting::Answer;
                return Ok(Cleared::Stays);
            }
        };
        let (key, number, name, deadline) = (
            held.question.key,
            held.number,
            held.name(),
            held.question.deadline_unix_ms,
        );
        let (outcome, reviewers, reason) = match &answer {
            None => (Outcome::Withdrawn, Vec::new(), "Cancelled".to_owned()),
            Some(Answer::Approved { reviewers, .. }) => (Outcome::Approved, reviewers.clone(), String::new()),
            Some(Answer::Denied { reviewer, reason }) => {
                (Outcome::Denied, vec![reviewer.clone()], reason.clone())
            }
            Some(Answer::Expired) => (Outcome::Expired, Vec::new(), String::new()),
            Some(Answer::Revoked { by }) => (Outcome::Revoked, vec![by.clone()], String::new()),
        };
        let statement = execution.borrow().number;
        let body = BodyRef::Answered {
            statement,
            question: number,
            outcome,
            reviewers: &reviewers,
            reason: &reason,
            digest,
        };
        // Without room it stays held, and whatever comes meanwhile (a revocation, the deadline, a cancel) counts.
        let Some(recorded) = self.record(core, body)? else {
            return Ok(Cleared::Stays);
        };
        self.front = Front::Fresh;
        let Some(answer) = answer else {
            core.effects.push(Effect::ToControl(ToControl::Withdraw {
                key,
                why: if self.client_gone {
                    Withdrawal::ClientGone
                } else {
                    Withdrawal::Cancelled
                },
            }));
            return Ok(Cleared::Refused(Refused::Cancelled { question: name }, execution));
        };
        let refused = Refused::by_answer(&answer, name);
        match subject.permit(Leave::Approval { answer, digest }, recorded) {
            Some(permitted) => {
                core.effects.push(Effect::ToControl(ToControl::Spent { key }));
                core.metrics.statements_allowed += 1;
                execution.borrow_mut().started_us = core.clock.now_us;
                Ok(Cleared::Go {
                    permitted,
                    execution,
                    until_unix_ms: deadline,
                })
            }
            None => {
                core.metrics.statements_denied += 1;
                tracing::debug!(session = %key.session, ?refused, "held statement refused");
                Ok(Cleared::Refused(refused, execution))
            }
        }
    }
}

fn sha256(input: &[u8]) -> QuestionDigest {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, input);
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest.as_ref());
    QuestionDigest(bytes)
}
