//! A held statement as reviewers see it, and the reply.

use crate::grant::Who;
use crate::ids::{Epoch, QuestionKey, QuestionNumber};
use crate::parameter::Parameter;
use crate::snapshot::OnHold;
use crate::subject::Subject;
use serde::{Deserialize, Serialize};

/// SHA-256 over everything that an approval binds: see [`Question::digest_input`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct QuestionDigest(pub [u8; 32]);

impl std::fmt::Debug for QuestionDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for b in self.0 {
            write!(f, "{b:02x}")?;
        }
        Ok(())
    }
}

/// A text that runs, though another one names it: what EXECUTE, FETCH or a portal stand for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandsFor {
    /// As it was prepared or declared.
    pub text: Vec<u8>,
    /// Values that were bound to it earlier. Those of an SQL EXECUTE stand in the outer text.
    pub parameters: Vec<Parameter>,
}

/// A held statement with what reviewers need to decide.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Question {
    /// Session and statement.
    pub key: QuestionKey,
    /// Who asks.
    pub who: Who,
    /// The target's name.
    pub target: String,
    /// The target's environment.
    pub environment: String,
    /// Role that the target sees.
    pub role: String,
    /// The exact bytes that will be sent.
    pub statement: Vec<u8>,
    /// What `statement` runs without saying it, in order; empty where it says all.
    pub stands_for: Vec<StandsFor>,
    /// What the statement is given.
    pub parameters: Vec<Parameter>,
    /// Data follows that is not shown here and that the digest does not bind, but for the fact: COPY … FROM STDIN under a rule
    /// with `data = "open"`.
    pub open_data: bool,
    /// Of the rules that hold it.
    pub epoch: Epoch,
    /// What the session has set that says what names in the text mean (`search_path`, `role`), by name; empty where it is as
    /// the target gives it. The same text means something else under another.
    pub settings: Vec<(String, String)>,
    /// Name of the rule that holds.
    pub rule: String,
    /// Whether its client waits. Not bound by the digest: the rule says it, and the rule and its epoch are bound.
    pub on_hold: OnHold,
    /// Who may answer.
    pub reviewers: crate::snapshot::Reviewers,
    /// When it was asked.
    pub asked_unix_ms: u64,
    /// The deadline denies. Unix milliseconds.
    pub deadline_unix_ms: u64,
    /// SHA-256 of [`Question::digest_input`].
    pub digest: QuestionDigest,
}

impl Question {
    /// What an approval of this question binds.
    pub fn subject(&self) -> Subject<'_> {
        Subject {
            who: &self.who,
            target: &self.target,
            environment: &self.environment,
            role: &self.role,
            text: &self.statement,
            stands_for: &self.stands_for,
            parameters: &self.parameters,
            open_data: self.open_data,
            settings: &self.settings,
            rule: &self.rule,
            epoch: self.epoch,
        }
    }

    /// The bytes whose SHA-256 is the digest: all of [`Question::subject`], neither session nor statement number.
    pub fn digest_input(&self) -> Vec<u8> {
        self.subject().digest_input()
    }

    /// What [`Question::digest`] must be.
    pub fn digest_now(&self) -> QuestionDigest {
        self.subject().digest()
    }

    /// Bytes of client's making that this question holds.
    pub fn held_bytes(&self) -> usize {
        let values = |list: &[Parameter]| {
            list.iter()
                .map(|p| p.value.as_ref().map_or(0, Vec::len) + 16)
                .sum::<usize>()
        };
        let inner: usize = self
            .stands_for
            .iter()
            .map(|s| s.text.len() + values(&s.parameters) + 32)
            .sum();
        let settings: usize = self.settings.iter().map(|(n, v)| n.len() + v.len() + 32).sum();
        self.statement.len() + inner + values(&self.parameters) + settings
    }
}

/// How a question was answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// Spent by the first and only forward of exactly what `digest` covers.
    Approved {
        /// Who said yes.
        reviewers: Vec<String>,
        /// What they said it to.
        digest: QuestionDigest,
    },
    /// Somebody said no.
    Denied {
        /// Who.
        reviewer: String,
        /// In their words.
        reason: String,
    },
    /// Nobody answered before the deadline.
    Expired,
    /// An approval that was taken back before it was spent, or a session that was revoked.
    Revoked {
        /// Who took it back.
        by: String,
    },
    /// Nobody has said yes or no, and the statement does not wait ([`OnHold::Refuse`]): its client is told where the question
    /// stands. Follows [`Asked`].
    NotYet,
    /// Nobody could be asked: the control plane is away or does not answer. Made by the data plane's own end of the link, for
    /// statements that do not wait.
    Unavailable { why: String },
}

/// Why a question went away without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Withdrawal {
    /// The client cancelled.
    Cancelled,
    /// The client went away.
    ClientGone,
    /// The target went away.
    TargetGone,
    /// The rules changed so that the statement is judged anew.
    Rejudged,
    /// A statement before it in its batch failed: it will not run.
    Skipped,
}

/// What the client is told when its statement is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Session and statement.
    pub key: QuestionKey,
    /// What people call it by.
    pub number: QuestionNumber,
    /// Where a reviewer answers, a URL.
    pub address: String,
    /// The question's own: it may have been asked by an identical statement earlier.
    pub deadline_unix_ms: u64,
}
