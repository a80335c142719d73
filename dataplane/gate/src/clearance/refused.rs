//! Why a statement is refused: one arm for each thing that happened. What a client reads of it is [`crate::postgres::denial`]'s.

use headgate_plane::Answer;
use headgate_policy::{Compiled, Verdict, Why};
use headgate_sql::Unreadable;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// A rule denies it.
    Rule { name: String, message: Option<String> },
    /// No rule allows the whole of it.
    NothingAllows,
    /// No rules have come yet.
    NoRules,
    /// It touches a setting that no rule opens, or that the gateway pins.
    Setting { said: String },
    /// It has no facts.
    Unreadable(Unreadable),
    /// A verdict that is none of these, in its own words.
    Verdict { said: String },
    /// A reviewer said no.
    Reviewer {
        question: String,
        reviewer: String,
        reason: String,
    },
    /// Nobody answered before the deadline, or the approval came too late to be spent.
    Expired { question: String },
    /// The approval was taken back before it was spent.
    TakenBack { question: String, by: String },
    /// The approval is not for what would be sent now.
    OtherApproval { question: String },
    /// The client cancelled it while it was held.
    Cancelled { question: String },
    /// It would carry masked values to where they are not covered.
    Sinks,
    /// A function call of the wire protocol: its result has no description, so it cannot be covered.
    CallUncovered,
    /// A held COPY FROM STDIN whose rule does not open its data.
    DataUnseen,
    /// The rules changed between Bind and Execute.
    RulesChanged { said: String },
    /// Held as a cursor of DECLARE that is read by Execute.
    CursorHeld { said: String },
    /// What the target's catalog holds is not known, so what the statement reads is not either.
    CatalogUnknown { why: String },
    /// No such prepared statement.
    UnknownStatement { name: Vec<u8> },
    /// No such portal.
    UnknownPortal { name: Vec<u8> },
    /// Longer than the gateway reads.
    TooLong { bytes: usize, max: usize },
    /// It could never be recorded.
    NoRoomEver { bytes: usize, max: usize },
    /// The session's share of memory is used up.
    SessionFull { bytes: usize, max: usize },
    /// The core's memory for long messages is used up.
    CoreFull { max: usize },
    /// The message is none that the server takes; code and words are the server's.
    Malformed { code: &'static str, message: String },
}

impl Refused {
    /// A verdict that is not allow.
    pub fn by_verdict(verdict: &Verdict, policy: &Compiled, unreadable: Option<&Unreadable>) -> Refused {
        match (&verdict.why, unreadable) {
            (Why::Unreadable { .. }, Some(why)) => Refused::Unreadable(why.clone()),
            (Why::RuleMatched, _) => Refused::Rule {
                name: verdict.rule_name(policy).to_owned(),
                message: verdict.message(policy).map(str::to_owned),
            },
            (Why::NothingAllows, _) => Refused::NothingAllows,
            (Why::NoRules, _) => Refused::NoRules,
            (Why::PinnedSetting { .. }, _) => Refused::Setting {
                said: verdict.to_client(policy),
            },
            _ => Refused::Verdict {
                said: verdict.to_client(policy),
            },
        }
    }

    /// An answer that gives no permit. An approval here is one for something else.
    pub fn by_answer(answer: &Answer, question: String) -> Refused {
        match answer {
            Answer::Approved { .. } => Refused::OtherApproval { question },
            Answer::Denied { reviewer, reason } => Refused::Reviewer {
                question,
                reviewer: reviewer.clone(),
                reason: reason.clone(),
            },
            Answer::Expired => Refused::Expired { question },
            Answer::Revoked { by } => Refused::TakenBack {
                question,
                by: by.clone(),
            },
        }
    }
}
