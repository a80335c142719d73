//! The life of a question as a table of transitions. Pure.
//!
//! ```text
//!              vote            approve          spend
//!          ┌─▶ Open ────────▶ Approved ───────▶ Spent          (its client waits)
//!          └────┘ │              │ expire: Lapsed, revoke: TakenBack  (a spend that was already under way still lands: Spent)
//!                 │ deny: Denied, expire: Expired, withdraw: Withdrawn, revoke: Revoked
//!
//!              approve          claim           spend
//!         Open ───────▶ Approved ─────▶ Claimed ──────▶ Spent   (its client was refused: on_hold = "refuse")
//!                          ▲  give back    │ expire: Lapsed, revoke: TakenBack, as above
//!                          └───────────────┘
//! ```
//! `Spent` after `Lapsed` or `TakenBack` is no permission: the data plane reports what it had done before it heard of the
//! end. Refusing to note it would make the list lie.
//!
//! A claim is what makes an approval that lies ready be spent once: it is on disk before the data plane hears yes, and what
//! has it and is not heard of again is never given to anybody else.

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Waits for reviewers.
    Open,
    /// Enough reviewers said yes; the data plane has not yet said that the statement went out.
    Approved,
    /// Of a question whose client does not wait: the approval was given to one statement, which has not yet gone out.
    Claimed,
    /// What was approved was handed to the target, once.
    Spent,
    Denied,
    /// Nobody, or not enough people, answered before the deadline.
    Expired,
    /// Approved, and the deadline came before it was spent.
    Lapsed,
    /// The client cancelled or went away, the target went away, or new rules judged anew.
    Withdrawn,
    /// Taken away before it was answered: its session was revoked.
    Revoked,
    /// An approval that was taken back before it was spent.
    TakenBack,
}

impl State {
    pub const ALL: [State; 10] = [
        State::Open,
        State::Approved,
        State::Claimed,
        State::Spent,
        State::Denied,
        State::Expired,
        State::Lapsed,
        State::Withdrawn,
        State::Revoked,
        State::TakenBack,
    ];

    pub fn name(self) -> &'static str {
        match self {
            State::Open => "open",
            State::Approved => "approved",
            State::Claimed => "claimed",
            State::Spent => "spent",
            State::Denied => "denied",
            State::Expired => "expired",
            State::Lapsed => "lapsed",
            State::Withdrawn => "withdrawn",
            State::Revoked => "revoked",
            State::TakenBack => "taken_back",
        }
    }

    pub fn parse(name: &str) -> Option<State> {
        State::ALL.into_iter().find(|s| s.name() == name)
    }

    /// Whether something may still happen on its own: these are kept in memory and looked at by the deadline.
    pub fn is_live(self) -> bool {
        matches!(self, State::Open | State::Approved | State::Claimed)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// A yes that does not yet make the quorum.
    Vote,
    /// The yes that makes the quorum.
    Approve,
    Deny,
    Withdraw,
    Expire,
    /// An identical statement takes up the approval that lies ready.
    Claim,
    /// It did not go out after all: skipped, cancelled, judged anew.
    GiveBack,
    Spend,
    Revoke,
}

impl Event {
    /// As the table of the tests spells it.
    pub fn name(self) -> &'static str {
        match self {
            Event::Vote => "vote",
            Event::Approve => "approve",
            Event::Deny => "deny",
            Event::Withdraw => "withdraw",
            Event::Expire => "expire",
            Event::Claim => "claim",
            Event::GiveBack => "give_back",
            Event::Spend => "spend",
            Event::Revoke => "revoke",
        }
    }
}

impl Event {
    pub const ALL: [Event; 9] = [
        Event::Vote,
        Event::Approve,
        Event::Deny,
        Event::Withdraw,
        Event::Expire,
        Event::Claim,
        Event::GiveBack,
        Event::Spend,
        Event::Revoke,
    ];
}

/// The event is not possible in this state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotNow {
    pub state: State,
    pub event: Event,
}

/// The whole table. What is not written is refused.
pub fn next(state: State, event: Event) -> Result<State, NotNow> {
    use Event as E;
    use State as S;
    match (state, event) {
        (S::Open, E::Vote) => Ok(S::Open),
        (S::Open, E::Approve) => Ok(S::Approved),
        (S::Open, E::Deny) => Ok(S::Denied),
        (S::Open, E::Expire) => Ok(S::Expired),
        (S::Open, E::Revoke) => Ok(S::Revoked),
        (S::Approved | S::Claimed, E::Expire) => Ok(S::Lapsed),
        (S::Approved | S::Claimed, E::Revoke) => Ok(S::TakenBack),
        (S::Approved, E::Claim) => Ok(S::Claimed),
        (S::Claimed, E::GiveBack) => Ok(S::Approved),
        (S::Open | S::Approved, E::Withdraw) => Ok(S::Withdrawn),
        (S::Approved | S::Claimed | S::Lapsed | S::TakenBack, E::Spend) => Ok(S::Spent),
        (state, event) => Err(NotNow { state, event }),
    }
}
