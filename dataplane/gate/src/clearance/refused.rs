//! Why a statement, or a session, is refused: one arm for each thing that happened. What a client reads of it is its
//! protocol's to say ([`crate::session::Protocol::refuse`]).

use headgate_plane::{Answer, RefusalKind};
use headgate_policy::{Compiled, Verdict, Why};

/// Why something is refused.
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
    /// It has no facts. Its protocol can say more of why.
    Unreadable { reason: String },
    /// A verdict that is none of these, in its own words.
    Verdict { said: String },
    /// A reviewer said no.
    Reviewer {
        /// Its number and address.
        question: String,
        /// Who said no.
        reviewer: String,
        /// In their words.
        reason: String,
    },
    /// Nobody answered before the deadline, or the approval came too late to be spent.
    Expired { question: String },
    /// The approval was taken back before it was spent.
    TakenBack { question: String, by: String },
    /// It needs an approval, and its client does not wait for one.
    Held {
        question: String,
        /// Which rule, in the words of the verdict.
        said: String,
        /// Where it is answered.
        address: String,
        /// Until the deadline.
        left_s: u64,
    },
    /// It needs an approval, and nobody could be asked.
    NotAsked { why: String },
    /// The approval is not for what would be sent now.
    OtherApproval { question: String },
    /// The client cancelled it while it was held.
    Cancelled { question: String },
    /// It would carry masked values to where they are not covered.
    CarriesMasked,
    /// It would be held, and its data cannot be shown to a reviewer: its rule does not open them.
    DataUnseen,
    /// The rules changed after it was permitted and before it ran to its end.
    RulesChanged { said: String },
    /// What the target's catalog holds is not known, so what the statement reads is not either.
    CatalogUnknown { why: String },
    /// It runs a name of which nobody can say what the target has under it.
    NameInDoubt,
    /// Longer than the gateway reads.
    TooLong { bytes: usize, max: usize },
    /// It could never be recorded.
    NoRoomEver { bytes: usize, max: usize },
    /// The session's share of memory is used up.
    SessionFull { bytes: usize, max: usize },
    /// The core's memory for long messages is used up.
    CoreFull { max: usize },
    /// The sign-in is refused by the control plane, or by no rule opening the target.
    SignIn(RefusalKind),
    /// The name that the client signs in with is not whose credential it brings.
    NotThePrincipal { user: String, principal: String },
    /// The principal has as many sessions as it may.
    TooManySessions { sessions: usize },
    /// The client took too long to say who it is.
    SignInSlow,
    /// The control plane or the target took too long.
    SignInLate,
    /// The target cannot be reached.
    TargetUnreachable,
    /// TLS with the target failed, or a sign-in there could not even begin.
    TargetUnsafe,
    /// The target does not let Headgate in; why is for operators.
    TargetSignIn,
    /// The target sent what it must not send.
    TargetMisbehaved,
    /// What the session does could not be recorded.
    Unrecorded,
    /// Access was taken away.
    Revoked { reason: String },
    /// The credential's time is over.
    CredentialExpired,
    /// Headgate stops.
    Stopping,
}

impl Refused {
    /// A verdict that is not allow.
    pub fn by_verdict(verdict: &Verdict, policy: &Compiled) -> Refused {
        match &verdict.why {
            Why::Unreadable { reason } => Refused::Unreadable {
                reason: reason.clone(),
            },
            Why::RuleMatched => Refused::Rule {
                name: verdict.rule_name(policy).to_owned(),
                message: verdict.message(policy).map(str::to_owned),
            },
            Why::NothingAllows => Refused::NothingAllows,
            Why::NoRules => Refused::NoRules,
            Why::Pinned { .. } => Refused::Setting {
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
            // Whoever waits is never told so; who does not wait has more to read.
            Answer::NotYet => Refused::NotAsked {
                why: format!("{question} is not answered"),
            },
            Answer::Unavailable { why } => Refused::NotAsked { why: why.clone() },
            Answer::Revoked { by } => Refused::TakenBack {
                question,
                by: by.clone(),
            },
        }
    }
}
