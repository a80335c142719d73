//! What the desk tells: to the link (answers), to the pages (live list), to notices.

use crate::state::State;
use headgate_plane::{Answer, QuestionKey, QuestionNumber};

/// Published after the change is on disk. A slow listener that misses some reads the list again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeskEvent {
    pub number: QuestionNumber,
    /// Of the statement that waits for `answer`: the one that asked, or the one that has the approval.
    pub key: QuestionKey,
    /// Where the question stands now.
    pub state: State,
    pub kind: DeskEventKind,
    /// What the data plane has to hear, if anything.
    pub answer: Option<Answer>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeskEventKind {
    Asked,
    /// A yes that does not yet make the quorum.
    Voted,
    Answered,
    Withdrawn,
    Expired,
    /// Given to one statement of those that it stands for.
    Claimed,
    /// That statement did not go out: the approval lies ready again.
    GivenBack,
    Spent,
    Revoked,
}

impl DeskEventKind {
    pub fn name(self) -> &'static str {
        match self {
            DeskEventKind::Asked => "asked",
            DeskEventKind::Voted => "voted",
            DeskEventKind::Answered => "answered",
            DeskEventKind::Withdrawn => "withdrawn",
            DeskEventKind::Expired => "expired",
            DeskEventKind::Claimed => "claimed",
            DeskEventKind::GivenBack => "given_back",
            DeskEventKind::Spent => "spent",
            DeskEventKind::Revoked => "revoked",
        }
    }
}
