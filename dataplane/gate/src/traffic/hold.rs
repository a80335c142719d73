//! A held statement: the question, the notice, the answer, the spending.

use super::intake::{Decision, recorded_error};
use super::run::RunRef;
use super::{Front, Traffic, Waiting};
use crate::core::{Core, Effect};
use crate::denial::Denial;
use crate::known::Known;
use crate::permit::Permitted;
use headgate_plane::question::Asked;
use headgate_plane::{Answer, Parameter, Question, QuestionDigest, QuestionKey, ToControl, Withdrawal};
use headgate_policy::Verdict;
use headgate_postgres::Report;
use headgate_recording::{BodyRef, Outcome};
use std::rc::Rc;

/// The message at the front while people decide. Its bytes stay where they are, untouched.
pub struct Held {
    pub(super) question: Question,
    pub(super) known: Rc<Known>,
    pub(super) run: RunRef,
    pub(super) number: u64,
    pub(super) answer: Option<Answer>,
    pub(super) cancelled: bool,
}

impl Held {
    fn name(&self) -> String {
        if self.number == 0 { "the question".to_owned() } else { format!("HG-{}", self.number) }
    }
}

impl Traffic {
    #[allow(clippy::too_many_arguments)]
    pub(super) fn ask(
        &mut self,
        core: &mut Core,
        client: &mut Vec<u8>,
        known: &Rc<Known>,
        verdict: &Verdict,
        text: &[u8],
        parameters: &[Parameter],
        run: RunRef,
    ) {
        let key = QuestionKey { session: self.recorder.session, statement: run.borrow().number };
        let epoch = self.context.epoch();
        let now = core.clock.unix_ms();
        let role = self.target.user.clone();
        let mut question = Question {
            key,
            who: (*self.who).clone(),
            target: self.target.name.clone(),
            environment: self.target.environment.clone(),
            role,
            statement: text.to_vec(),
            stands_for: Vec::new(),
            parameters: parameters.to_vec(),
            open_data: false,
            epoch,
            rule: verdict.rule_name(&self.policy).to_owned(),
            reviewers: verdict.reviewers(&self.policy).cloned().unwrap_or_default(),
            asked_unix_ms: now,
            deadline_unix_ms: now.saturating_add(verdict.wait_ms(&self.policy)),
            digest: QuestionDigest([0; 32]),
        };
        question.digest = sha256(&question.digest_input());
        core.effects.push(Effect::ToControl(ToControl::Ask(Box::new(question.clone()))));
        let said = format!("Headgate: {}", verdict.to_client(&self.policy));
        let mut notice = Vec::new();
        Report::notice(&said).hint("The statement waits; cancel it to take it back.").write_notice(&mut notice);
        self.say(client, &notice);
        self.front = Front::Held(Box::new(Held { question, known: Rc::clone(known), run, number: 0, answer: None, cancelled: false }));
        self.waiting = Waiting::Answer;
    }

    /// The control plane gave the question its number: the client is told where to look.
    pub fn asked(&mut self, client: &mut Vec<u8>, asked: &Asked) {
        let Front::Held(held) = &mut self.front else { return };
        if held.question.key != asked.key {
            return;
        }
        held.number = asked.number.0;
        let seconds = held.question.deadline_unix_ms.saturating_sub(held.question.asked_unix_ms) / 1000;
        let message = format!("Headgate: held as {}, waiting for approval at {} (at most {seconds} s)", asked.number, asked.address);
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

    pub(super) fn withdraw(&mut self, core: &mut Core, why: Withdrawal) {
        let Front::Held(held) = &self.front else { return };
        if held.answer.is_some() {
            return;
        }
        let (key, statement, question, digest) = (held.question.key, held.run.borrow().number, held.number, held.question.digest);
        core.effects.push(Effect::ToControl(ToControl::Withdraw { key, why }));
        let reason = format!("{why:?}");
        let body = BodyRef::Answered { statement, question, outcome: Outcome::Withdrawn, reviewers: &[], reason: &reason, digest };
        self.recorder.write(core, body);
    }

    /// The message at the front was held; an answer, a deadline or a cancel may be there now.
    pub(super) fn resume_held<'m>(&mut self, core: &mut Core, raw: &'m [u8]) -> Decision<'m> {
        let Front::Held(held) = &mut self.front else { return Decision::Stays };
        let run = Rc::clone(&held.run);
        if held.cancelled {
            let denial = Denial::new("57014", "canceling statement due to user request")
                .detail(format!("It was held as {} and has been taken back.", held.name()));
            return Decision::Refuse(denial, run);
        }
        if held.answer.is_none() && core.clock.unix_ms() >= held.question.deadline_unix_ms {
            held.answer = Some(Answer::Expired);
        }
        let Some(answer) = held.answer.take() else {
            self.waiting = Waiting::Answer;
            return Decision::Stays;
        };
        let (key, number, digest, name) = (held.question.key, held.number, held.question.digest, held.name());
        let (outcome, reviewers, reason) = match &answer {
            Answer::Approved { reviewers, .. } => (Outcome::Approved, reviewers.clone(), String::new()),
            Answer::Denied { reviewer, reason } => (Outcome::Denied, vec![reviewer.clone()], reason.clone()),
            Answer::Expired => (Outcome::Expired, Vec::new(), String::new()),
            Answer::Revoked { by } => (Outcome::Revoked, vec![by.clone()], String::new()),
        };
        let statement = run.borrow().number;
        self.recorder
            .write(core, BodyRef::Answered { statement, question: number, outcome, reviewers: &reviewers, reason: &reason, digest });
        let denial = Denial::of_answer(&answer, &name);
        match Permitted::by_approval(answer, digest, raw) {
            Some(permitted) => {
                core.effects.push(Effect::ToControl(ToControl::Spent { key }));
                core.metrics.statements_allowed += 1;
                run.borrow_mut().started_us = core.clock.now_us;
                Decision::Forward(permitted, run)
            }
            None => {
                core.metrics.statements_denied += 1;
                tracing::debug!(session = %key.session, code = denial.code, error = ?recorded_error(&denial), "held statement refused");
                Decision::Refuse(denial, run)
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
