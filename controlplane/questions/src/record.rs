//! One question as it is kept: what was asked, who said what, where it stands.

use crate::state::State;
use headgate_plane::{Answer, OnHold, Question, QuestionKey, QuestionNumber, Withdrawal};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Approval {
    pub principal: String,
    pub issuer: String,
    /// Whether the operator on the appliance said it, who needs no naming.
    pub operator: bool,
    pub at_unix_ms: u64,
}

/// Which statement has an approval that lay ready: it alone may spend it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    pub key: QuestionKey,
    /// Its data plane: appliance and boot.
    pub origin: String,
    pub at_unix_ms: u64,
    /// The data plane ended before it said whether the statement went out; it is taken to have.
    pub in_doubt: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    pub number: QuestionNumber,
    /// Which data plane asked: its appliance and boot. Questions of an earlier boot have nobody who waits.
    pub origin: String,
    pub question: Question,
    pub state: State,
    pub approvals: Vec<Approval>,
    pub denied_by: Option<String>,
    pub reason: Option<String>,
    pub revoked_by: Option<String>,
    pub withdrawn: Option<Withdrawal>,
    /// Of a question whose client does not wait.
    pub claim: Option<Claim>,
    pub changed_unix_ms: u64,
}

impl Record {
    /// What the data plane has to know if it asks (again) for a question that stands here. `None`: wait.
    pub fn answer(&self) -> Option<Answer> {
        let by_headgate = |reason: String| Answer::Denied {
            reviewer: "headgate".to_owned(),
            reason,
        };
        match self.state {
            State::Open => None,
            State::Approved | State::Claimed => Some(Answer::Approved {
                reviewers: self.approvals.iter().map(|a| a.principal.clone()).collect(),
                digest: self.question.digest,
            }),
            State::Denied => Some(Answer::Denied {
                reviewer: self.denied_by.clone().unwrap_or_default(),
                reason: self.reason.clone().unwrap_or_default(),
            }),
            State::Expired | State::Lapsed => Some(Answer::Expired),
            State::Revoked | State::TakenBack => Some(Answer::Revoked {
                by: self.revoked_by.clone().unwrap_or_default(),
            }),
            State::Spent => Some(by_headgate(format!(
                "the approval of {} was already spent",
                self.number
            ))),
            State::Withdrawn => Some(by_headgate(format!("{} was withdrawn", self.number))),
        }
    }

    /// Whether no client waits for it: the identical statement is sent again.
    pub fn is_left(&self) -> bool {
        self.question.on_hold == OnHold::Refuse
    }

    /// Bytes that this question holds in memory beyond its fixed size.
    pub(crate) fn held_bytes(&self) -> usize {
        self.question.held_bytes()
    }
}
