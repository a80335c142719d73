//! What the desk tells: to the link (answers), to the pages (live list), to notices.

use crate::state::State;
use headgate_plane::{Answer, QuestionKey, QuestionNumber};

/// Published after the change is on disk. A slow listener that misses some reads the list again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeskEvent {
    pub number: QuestionNumber,
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
            DeskEventKind::Spent => "spent",
            DeskEventKind::Revoked => "revoked",
        }
    }
}
